//! `orinplan.fit/1`: the plan for scripts. Keys are a contract: snake_case, units in names.

use serde::Serialize;
use serde_json::{Value, json};

use super::advice::advice_text;
use super::{Report, images, quality, requests, speculation, spread};
use crate::checkpoint::Pooling;
use crate::device::{Clocks, PowerMode, Session};
use crate::evidence::Evidence;
use crate::plan::energy::{ModeEnergy, RailEnergy, fastest_within};
use crate::plan::fit::{Published, Target};
use crate::plan::speed::Bound;
use crate::plan::{Plan, Prefer, Speeds, Verdict, Workload};
use crate::report::rounded;
use crate::units::Bytes;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.fit/1";

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let Report {
        model,
        target,
        workload,
        fit,
        ..
    } = report;
    let mut asked = workload_document(workload);
    asked["cuda_graphs"] = json!(workload.cuda_graphs);
    asked["reserve_bytes"] = json!(workload.reserve);
    asked["budget_bytes"] = json!(workload.budget);
    asked["energy_budget_watts"] = json!(workload.energy_budget);
    if let Some(generated) = workload.generated_tokens {
        asked["generated_tokens"] = json!(generated);
    }
    let mut document = json!({
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "source_format": report.source_format(),
            "source_bytes": report.source_bytes(),
            "context_length": model.dims.context,
            "block_count": model.layers.len(),
            "towers": model.towers.iter().map(|tower| json!({
                "name": tower.name, "parameters": tower.parameters, "bytes": tower.bytes,
            })).collect::<Vec<_>>(),
        },
        "device": device(*target, workload.session),
        "runtime": { "id": target.runtime.id },
        "workload": asked,
        "plans": fit.plans.iter().map(|plan| plan_json(plan, workload)).collect::<Vec<_>>(),
        "recommended": fit.recommended().map(|plan| &plan.assignment.scheme),
        "preference": {
            "prefer": prefer(fit.choice.preference.prefer),
            "min_tokens_per_second": fit.choice.preference.min_speed,
            "reason": quality::reason(report),
        },
        "advice": report.advice.iter().map(|advice| advice_text(advice, report)).collect::<Vec<_>>(),
    });
    document["device"]["clocks"] = json!(target.clocks.map(Clocks::name));
    document["device"]["l4t_release"] = json!(target.release.map(|release| release.to_string()));
    if let Some(retrieval) = &model.retrieval {
        document["model"]["retrieval"] = json!({
            "pooling": retrieval.pooling.map(Pooling::name),
            "caches": !model.is_encoder(),
        });
    }
    if let Some(images) = images::document(report) {
        document["images"] = images;
    }
    // A model on a server: what pins its state, and what a download would take.
    if let Some(source) = &report.checkpoint.source {
        document["download"] = json!({
            "from": source.pinned,
            "bytes": report.source_bytes(),
        });
    }
    rounded(document)
}

/// The board and its mode.
pub(in crate::report) fn device(target: Target<'_>, session: Session) -> Value {
    json!({
        "id": target.device.id,
        "name": target.device.name,
        "power_mode": target.mode.name,
        "memory_available_bytes": target.device.available(session),
        "memory_bandwidth_bytes_per_second": bandwidth(target.mode),
    })
}

fn prefer(prefer: Prefer) -> &'static str {
    match prefer {
        Prefer::Balance => "balance",
        Prefer::Speed => "speed",
        Prefer::Quality => "quality",
        Prefer::Size => "size",
    }
}

fn bandwidth(mode: &PowerMode) -> Option<f64> {
    mode.bandwidth.as_ref().map(|rate| rate.value.0)
}

/// One plan. Bytes and operations of a token are those of a step, divided by the sequences that it decodes.
fn plan_json(plan: &Plan, workload: &Workload) -> Value {
    let (parallel, energy_budget) = (workload.parallel, workload.energy_budget);
    let memory = &plan.memory;
    let mut document = json!({
        "scheme": plan.assignment.scheme,
        "verdict": match plan.verdict {
            Verdict::Fits => "fits",
            Verdict::DoesNotFit => "does_not_fit",
        },
        "tensor_bytes": plan.tensor_bytes,
        "file_bytes": plan.file_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "max_context": plan.max_context,
        "memory": {
            "weights_bytes": memory.weights,
            "duplicated_embedding_bytes": memory.duplicated_embedding,
            "kv_cache_bytes": memory.kv_cache,
            "recurrent_state_bytes": memory.recurrent_state,
            "compute_bytes": memory.compute,
            "output_bytes": memory.output,
            "runtime_bytes": memory.runtime.total(),
            "runtime_parts": {
                "process_bytes": memory.runtime.process,
                "tokenizer_bytes": memory.runtime.tokenizer,
                "rest_bytes": memory.runtime.rest,
            },
            "total_bytes": memory.total(),
            "available_bytes": plan.available,
            "headroom_bytes": plan.headroom(),
            "largest_allocation_bytes": memory.largest_allocation,
        },
        "decode": plan.speeds.as_ref().filter(|speeds| speeds.texts.is_none()).map(|speeds| {
            let decode = &speeds.decode;
            json!({
                "bytes_per_token": decode.bytes_per_step / parallel.max(1),
                "flops_per_token": decode.flops_per_step / parallel.max(1),
                "operational_intensity": decode.flops_per_step as f64 / (decode.bytes_per_step as f64).max(1.0),
                "ceiling_tokens_per_second": decode.ceiling,
                "tokens_per_second": spread(&decode.tokens_per_second),
                "bound": bound(decode.bound),
                "with_twice_the_bandwidth_tokens_per_second": better(speeds, |p| p.twice_the_bandwidth),
                "with_twice_the_gpu_clock_tokens_per_second": better(speeds, |p| p.twice_the_clock),
                "evidence": speeds.published.as_ref().map(|published| evidence_json(&published.evidence)),
                "energy": speeds.published.as_ref().map(|published| published.energy.iter().map(energy_json).collect::<Vec<_>>()),
                "power_mode_within_energy_budget": energy_budget.and_then(|watts| {
                    let mode = fastest_within(&speeds.published.as_ref()?.energy, watts)?;
                    Some(&mode.power_mode)
                }),
            })
        }),
        "prefill": plan.speeds.as_ref().map(|speeds| {
            json!({
                "tokens_per_second": spread(&speeds.prefill.tokens_per_second),
                "time_to_first_token_seconds": spread(&speeds.prefill.time_to_first_token),
                "evidence": speeds.published.as_ref().map(|published| prompt_evidence_json(&published.prompt_evidence)),
            })
        }),
        "quality": plan.quality.as_ref().map(quality::document),
        "notes": plan.notes.iter().map(|note| NoteRow { code: note.code(), text: note.text() }).collect::<Vec<_>>(),
    });
    if let Some(texts) = plan
        .speeds
        .as_ref()
        .and_then(|speeds| speeds.texts.as_ref())
    {
        document["retrieval"] = json!({
            "tokens_per_text": workload.prompt_tokens,
            "texts_per_second": spread(texts),
        });
    }
    let published = plan
        .speeds
        .as_ref()
        .and_then(|speeds| speeds.published.as_ref());
    if let Some(older) = published.and_then(|published| published.older_build.as_ref()) {
        document["decode"]["older_build_tokens_per_second"] = spread(older);
    }
    if let Some(requests) = requests::document(plan.speeds.as_ref()) {
        document["requests"] = requests;
    }
    if memory.image_encoder > Bytes(0) {
        document["memory"]["image_encoder_bytes"] = json!(memory.image_encoder);
    }
    if let Some(speculation) = speculation::document(plan) {
        document["memory"]["draft_bytes"] = json!(memory.draft);
        document["speculation"] = speculation;
    }
    document
}

#[derive(Serialize)]
struct NoteRow {
    code: &'static str,
    text: String,
}

/// The expected rate times the factor that a better GPU brings.
fn better(speeds: &Speeds, factor: fn(&Published) -> f64) -> Option<f64> {
    let expected = speeds.decode.tokens_per_second.expected;
    let published = speeds.published.as_ref()?;
    Some(expected * factor(published))
}

/// What a power mode is predicted to draw.
fn energy_json(mode: &ModeEnergy) -> Value {
    let rail = |energy: &RailEnergy| {
        json!({
            "rail": energy.rail.name,
            "whole_board": energy.rail.whole_board,
            "watts": spread(&energy.watts),
            "tokens_per_joule": spread(&energy.tokens_per_joule),
            "measurements": energy.rail.measurements,
            "median_off_percent": energy.rail.median_percent,
        })
    };
    json!({
        "power_mode": mode.power_mode,
        "tokens_per_second": spread(&mode.tokens_per_second),
        "rails": mode.rails.iter().map(rail).collect::<Vec<_>>(),
    })
}

/// The measurements behind the rate of the prompt.
fn prompt_evidence_json(evidence: &Evidence) -> Value {
    json!({
        "measurements_on_board": evidence.on_board,
        "measurements_anywhere": evidence.anywhere,
        "nearest": evidence.nearest.as_ref().map(|near| json!({
            "id": near.row.id,
            "board": near.row.board,
            "power_mode": near.row.power_mode,
            "clocks": near.row.clocks.map(Clocks::name),
            "l4t_release": stated(&near.row.l4t),
            "model": near.row.model,
            "format": near.row.format,
            "prompt_tokens": near.row.prompt_tokens,
            "flash_attention": near.row.flash_attention(),
            "cuda_graphs": near.row.cuda_graphs(),
            "tokens_per_second": near.row.prefill_tps,
            "off_percent": near.off_percent,
            "source": near.row.source,
        })),
    })
}

/// The measurements behind the decode rate.
fn evidence_json(evidence: &Evidence) -> Value {
    json!({
        "measurements_on_board": evidence.on_board,
        "measurements_anywhere": evidence.anywhere,
        "nearest": evidence.nearest.as_ref().map(|near| json!({
            "id": near.row.id,
            "board": near.row.board,
            "power_mode": near.row.power_mode,
            "clocks": near.row.clocks.map(Clocks::name),
            "l4t_release": stated(&near.row.l4t),
            "model": near.row.model,
            "format": near.row.format,
            "depth": near.row.depth.or(near.row.prompt_tokens),
            "sequences": near.row.sequences,
            "flash_attention": near.row.flash_attention(),
            "cuda_graphs": near.row.cuda_graphs(),
            "tokens_per_second": near.row.decode_tps,
            "off_percent": near.off_percent,
            "source": near.row.source,
        })),
        "energy": evidence.energy.iter().map(|row| json!({
            "id": row.id,
            "power_mode": row.power_mode,
            "model": row.model,
            "format": row.format,
            "tokens_per_joule": row.tokens_per_joule(),
            "watts": row.power_w,
            "rail": row.power_of,
        })).collect::<Vec<_>>(),
    })
}

/// A field of a measurement, if its source fills it.
fn stated(field: &str) -> Option<&str> {
    Some(field).filter(|field| !field.is_empty())
}

/// The word for what limits the speed.
pub fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Memory => "memory",
        Bound::Compute => "compute",
        Bound::Overhead => "overhead",
    }
}

/// What a workload asks of one board and of several.
pub(in crate::report) fn workload_document(workload: &Workload) -> Value {
    json!({
        "context": workload.context,
        "kv_type_k": workload.type_k.name().to_lowercase(),
        "kv_type_v": workload.type_v.name().to_lowercase(),
        "parallel": workload.parallel,
        "ubatch": workload.ubatch,
        "prompt_tokens": workload.prompt_tokens,
        "cached_tokens": workload.cached_tokens,
        "flash_attention": workload.flash_attention,
    })
}
