//! `orinplan.boards/1`: a model on several boards for scripts. Keys are a contract: snake_case, units in names.

use serde_json::{Value, json};

use super::{Report, advice, lines};
use crate::evidence::boards::PipelineRow;
use crate::plan::Plan;
use crate::plan::boards::{Buffers, ServerPlace, Split, Stage, Traffic};
use crate::plan::memory::Ledger;
use crate::planner::OneBoard;
use crate::report::fit::{device, quality_document, spread, workload_document};
use crate::report::rounded;
use crate::sourced::Trust;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.boards/1";

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let model = report.planner.model();
    let cluster = report.cluster;
    let workload = &cluster.alone.workload;
    let link = &report.asked.link;
    let taken = cluster.choice.taken;
    let plans = &cluster.alone.fit.plans;
    rounded(json!({
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "context_length": model.dims.context,
            "block_count": model.layers.len(),
        },
        "runtime": { "id": cluster.alone.board.runtime.id },
        "boards": cluster.boards.iter().map(|board| device(board.target(), workload.session)).collect::<Vec<_>>(),
        "server_on": match report.asked.server {
            ServerPlace::Last => "last",
            ServerPlace::First => "first",
            ServerPlace::Apart => "apart",
        },
        "link": {
            "name": link.name,
            "bytes_per_second": link.rate.0,
            "round_trip_seconds": link.round_trip.0,
            "assumed": link.trust < Trust::Measured,
        },
        "workload": workload_document(workload),
        "plans": report.rows().map(|row| plan_json(report, row)).collect::<Vec<_>>(),
        "recommended": taken.and_then(|taken| plans.get(taken)).map(|plan| &plan.assignment.scheme),
        "advice": advice::texts(report),
        "nearest_pipeline": report.nearest().map(row),
        "commands": lines::blocks(report).iter().map(|block| json!({
            "title": block.title,
            "lines": block.lines,
        })).collect::<Vec<_>>(),
    }))
}

fn plan_json(report: &Report<'_>, (plan, split, best): (&Plan, &Split, &OneBoard)) -> Value {
    let one = &best.plan;
    json!({
        "scheme": plan.assignment.scheme,
        "verdict": if split.fits() { "fits" } else { "does_not_fit" },
        "file_bytes": plan.file_bytes,
        "tensor_bytes": plan.tensor_bytes,
        "max_context": split.max_context,
        "tensor_split": split.tensor_split(report.planner.model()),
        "boards": split.stages.iter().map(stage).collect::<Vec<_>>(),
        "server_buffers": buffers(split.server_buffers),
        "server_apart": split.apart.as_ref().map(memory),
        "step_bytes_on_wire": split.step_traffic(),
        "first_load_bytes": split.load_bytes(),
        "first_load_seconds": split.first_load.0,
        "decode": split.rates.map(|rates| json!({
            "tokens_per_second": spread(&rates.decode),
            "seconds_per_step": spread(&rates.step),
            "overhead_seconds_per_step": spread(&rates.overhead),
            "all_boards_busy_tokens_per_second": rates.all_busy,
        })),
        "prefill": split.rates.map(|rates| json!({
            "tokens_per_second": spread(&rates.prefill),
            "time_to_first_token_seconds": spread(&rates.first_token),
        })),
        "one_board": {
            "board": best.board,
            "fits": one.fits(),
            "total_bytes": one.memory.total(),
            "tokens_per_second": one.speeds.as_ref().map(|speeds| spread(&speeds.rate())),
        },
        "quality": plan.quality.as_ref().map(quality_document),
    })
}

fn stage(stage: &Stage) -> Value {
    json!({
        "first_block": stage.layers.start,
        "blocks": stage.layers.len(),
        "runs_server": stage.is_server,
        "fits": stage.fits,
        "memory": memory(&stage.memory),
        "available_bytes": stage.available,
        "buffers": buffers(stage.buffers),
        "refusal": stage.refusal.as_ref().map(|note| note.text()),
        "step_seconds": stage.seconds.map(|seconds| spread(&seconds.step)),
        "prompt_seconds": stage.seconds.map(|seconds| spread(&seconds.prompt)),
        "wire": stage.remote.map(|remote| json!({
            "step": traffic(remote.step),
            "prompt": traffic(remote.prompt),
            "load_bytes": remote.load,
        })),
    })
}

/// As llama.cpp logs them.
fn buffers(buffers: Buffers) -> Value {
    json!({
        "model_bytes": buffers.model,
        "kv_cache_bytes": buffers.cache,
        "compute_bytes": buffers.compute,
    })
}

fn traffic(traffic: Traffic) -> Value {
    json!({ "to_bytes": traffic.to, "from_bytes": traffic.from })
}

fn memory(memory: &Ledger) -> Value {
    json!({
        "weights_bytes": memory.weights + memory.duplicated_embedding,
        "kv_cache_bytes": memory.kv_cache,
        "recurrent_state_bytes": memory.recurrent_state,
        "compute_bytes": memory.compute,
        "image_encoder_bytes": memory.image_encoder,
        "output_bytes": memory.output,
        "runtime_bytes": memory.runtime.total(),
        "total_bytes": memory.total(),
        "largest_allocation_bytes": memory.largest_allocation,
    })
}

fn row(row: &PipelineRow) -> Value {
    json!({
        "id": row.id,
        "board": row.board,
        "boards": row.boards,
        "power_mode": row.power_mode,
        "engine": row.engine,
        "model": row.model,
        "format": row.format,
        "layers": row.layers,
        "sequences": row.sequences,
        "tokens_per_second": row.tokens_per_second,
        "inter_token_ms": row.inter_token_ms,
        "source": row.source,
    })
}
