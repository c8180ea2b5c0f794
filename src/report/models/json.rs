//! `orinplan.models/1`: the ranking for scripts. Keys are a contract: snake_case, units in names.

use serde_json::{Value, json};

use super::{RULE, Report, get};
use crate::catalog::{Entry, Larger, Ranked, Task, size_class};
use crate::report::fit::{device, quality_document, spread};
use crate::report::rounded;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.models/1";

/// The whole document: every model that was looked for.
pub fn document(report: &Report<'_>) -> Value {
    let Report {
        ranking,
        board,
        wish,
        request,
        ..
    } = report;
    let workload = &request.workload;
    let ids = |entries: &[&Entry]| {
        entries
            .iter()
            .map(|entry| entry.id.clone())
            .collect::<Vec<_>>()
    };
    rounded(json!({
        "schema": SCHEMA,
        "device": device(board.target(), workload.session),
        "runtime": { "id": board.runtime.id },
        "asked": {
            "task": wish.task.map(Task::name),
            "licenses": wish.licenses,
            "context": workload.context,
            "min_tokens_per_second": request.preference.min_speed,
        },
        "rule": RULE,
        "catalog_models": report.catalogue,
        "models": ranking.runs.iter().enumerate().map(|(at, ranked)| model(report, at + 1, ranked)).collect::<Vec<_>>(),
        "too_large": ranking.too_large.iter().map(larger).collect::<Vec<_>>(),
        "too_slow": ids(&ranking.too_slow),
        "too_short": ids(&ranking.too_short),
        "no_images": ids(&ranking.no_images),
    }))
}

fn model(report: &Report<'_>, rank: usize, ranked: &Ranked<'_>) -> Value {
    let Ranked {
        entry,
        planner,
        workload,
        plan,
    } = ranked;
    let speeds = plan.speeds.as_ref();
    json!({
        "rank": rank,
        "id": entry.id,
        "architecture": planner.model().architecture,
        "parameters": entry.parameters.count,
        "size_class": size_class(entry.parameters.count),
        "tasks": entry.tasks.iter().map(|task| task.name()).collect::<Vec<_>>(),
        "license": entry.license,
        "released": entry.released.to_string(),
        "scheme": plan.assignment.scheme,
        "file_bytes": plan.file_bytes,
        "memory_bytes": plan.memory.total(),
        "headroom_bytes": plan.headroom(),
        "context": workload.context,
        "max_context": plan.max_context,
        "decode_tokens_per_second": speeds.filter(|_| entry.writes()).map(|s| spread(&s.decode.tokens_per_second)),
        "prefill_tokens_per_second": speeds.map(|s| spread(&s.prefill.tokens_per_second)),
        "quality": plan.quality.as_ref().map(quality_document),
        "slower_than_reading": ranked.is_slow(),
        "far_from_original": ranked.is_coarse(),
        "get": get(report, ranked),
        "card": entry.card(),
        "sources": entry.sources,
        "confirmed": entry.is_confirmed,
    })
}

fn larger(larger: &Larger<'_>) -> Value {
    json!({
        "id": larger.entry.id,
        "parameters": larger.entry.parameters.count,
        "smallest_device": larger.board,
    })
}
