//! `orinplan.board/1`: several models on one board for scripts. Keys are a contract: snake_case, units in names.

use serde_json::{Value, json};

use super::{MemberRow, Report};
use crate::report::fit::{device, quality_document, spread};
use crate::report::rounded;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.board/1";

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let together = &report.plan.together;
    let first = report.plan.models.first();
    let storage = &report.request.storage;
    rounded(json!({
        "schema": SCHEMA,
        "device": first.map(|member| device(member.board.target(), member.workload.session)),
        "verdict": if together.fits() { "fits" } else { "does_not_fit" },
        "available_bytes": together.available,
        "needed_bytes": together.needed,
        "headroom_bytes": together.available.0 as i64 - together.needed.0 as i64,
        "storage": {
            "name": storage.name,
            "bytes_per_second": storage.rate.0,
            "assumed": storage.assumed,
        },
        "models": report.rows().map(|row| model(report, row)).collect::<Vec<_>>(),
        "programs": report.request.programs.iter().map(|program| json!({
            "name": program.name,
            "memory_bytes": program.memory,
        })).collect::<Vec<_>>(),
        "decode_at_once": report.at_once(),
    }))
}

fn model(report: &Report<'_>, row: MemberRow<'_>) -> Value {
    let MemberRow {
        asked,
        planner,
        member,
        place,
    } = row;
    let plan = &member.plan;
    let memory = &plan.memory;
    let at_once = report.at_once().max(1) as f64;
    let speeds = plan.speeds.as_ref();
    let mut document = json!({
        "name": asked.name,
        "model": planner.model().name,
        "architecture": planner.model().architecture,
        "runtime": member.board.runtime.id,
        "priority": asked.priority,
        "load": if asked.on_demand { "on-demand" } else { "resident" },
        "has_room": place.has_room,
        "too_slow": row.member.too_slow.is_some(),
        "unload_first": place.unload.as_ref().map(|places| report.names(places)),
        "scheme": plan.assignment.scheme,
        "file_bytes": plan.file_bytes,
        "load_seconds": report.load_time(row).0,
        "context": member.workload.context,
        "max_context": place.max_context,
        "parallel": member.workload.parallel,
        "memory": {
            "weights_bytes": memory.weights + memory.duplicated_embedding,
            "kv_cache_bytes": memory.kv_cache + memory.recurrent_state,
            "compute_bytes": memory.compute + memory.output,
            "runtime_bytes": memory.runtime.total(),
            "total_bytes": memory.total(),
        },
        "decode_tokens_per_second": speeds.map(|s| spread(&s.decode.tokens_per_second)),
        "decode_tokens_per_second_at_most_with_all": speeds.map(|s| s.decode.tokens_per_second.high / at_once),
        "quality": plan.quality.as_ref().map(quality_document),
    });
    let adapters = &asked.request.workload.adapters;
    if !adapters.is_empty() {
        document["memory"]["adapters_bytes"] = json!(memory.adapters);
        document["adapters"] = adapters
            .iter()
            .map(|adapter| {
                json!({
                    "name": adapter.name,
                    "rank": adapter.rank,
                })
            })
            .collect();
    }
    document
}
