//! The comparison for scripts. Keys are a contract: snake_case, units in names.

use serde_json::{Value, json};

use super::{Report, RunResult, SaveResult, verdict_word};
use crate::plan::speed::Spread;
use crate::report::{self, rounded};
use crate::validate::{Check, ComparisonLine, Finding, Metric, RejectedFigure, Statistics};

/// The document's first key.
pub const SCHEMA: &str = "orinplan.validate/1";

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let Report {
        model,
        target,
        workload,
        plan,
        ..
    } = report;
    let mut document = json!({
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "scheme": plan.assignment.scheme,
        },
        "backend": report.backend,
        "device": {
            "id": target.device.id,
            "name": target.device.name,
            "power_mode": target.mode.name,
        },
        "runtime": { "id": target.runtime.id },
        "verdict": "does_not_fit",
        "predicted": {
            "peak_memory_bytes": plan.memory.total(),
            "memory_available_bytes": plan.available,
        },
        "measured": null,
        "error": null,
        "within_tolerance": false,
    });
    let RunResult::Measured {
        measured,
        memory,
        comparison,
        checks,
    } = &report.result
    else {
        return document;
    };
    let values = |metric| comparison.line(metric);
    let spread = |metric| Some(spread_json(&values(metric)?.predicted?));
    let mean = |values: &[f64]| Statistics::of(values).map(|found| found.mean);
    let statistics = |values: &[f64]| Statistics::of(values).map(|found| statistics_json(&found));
    // A run on another machine says nothing about the prediction.
    let apart = |line: &ComparisonLine| line.error_percent().filter(|_| !comparison.elsewhere);
    let percent = |metric| apart(values(metric)?);
    document["verdict"] = verdict_word(comparison).into();
    document["workload"] = json!({
        "prompt_tokens": measured.prompt_tokens,
        "generated_tokens": measured.generated_tokens,
        "context": workload.context,
        "kv_type_k": workload.type_k.name().to_lowercase(),
        "kv_type_v": workload.type_v.name().to_lowercase(),
        "ubatch": workload.ubatch,
        "repeats": measured.repeats,
    });
    let peak = values(Metric::Memory).and_then(|line| line.predicted);
    let peak = peak.map_or(plan.memory.total().0, |spread| spread.expected as u64);
    document["predicted"] = json!({
        "decode_tokens_per_second": spread(Metric::Decode),
        "prefill_tokens_per_second": spread(Metric::Prefill),
        "time_to_first_token_seconds": spread(Metric::FirstToken),
        "peak_memory_bytes": peak,
        "peak_memory_range_bytes": values(Metric::Memory).and_then(|line| line.predicted).map(|spread| json!({
            "low": spread.low as u64,
            "expected": spread.expected as u64,
            "high": spread.high as u64,
        })),
        "memory_available_bytes": plan.available,
    });
    document["measured"] = json!({
        "engine": measured.engine,
        "prefill_tokens_per_second": mean(&measured.prefill),
        "decode_tokens_per_second": mean(&measured.decode),
        "time_to_first_token_seconds": mean(&measured.first_token),
        "peak_memory_bytes": values(Metric::Memory)
            .and_then(|line| Some(line.measured?.mean as u64)),
        "spread": {
            "prefill_tokens_per_second": statistics(&measured.prefill),
            "decode_tokens_per_second": statistics(&measured.decode),
            "time_to_first_token_seconds": statistics(&measured.first_token),
        },
        "longest_gap_seconds": measured.longest_gap,
        "memory": {
            "resident_bytes": memory.resident,
            "available_drop_bytes": memory.available_drop,
            "tegrastats_rise_bytes": memory.tegrastats_rise,
            "engine_bytes": memory.engine,
        },
        "token_ids": measured.token_ids,
        "text": measured.text,
        "remarks": measured.remarks,
    });
    if let Some(draft) = &measured.draft {
        document["measured"]["speculation"] = json!({
            "drafted_tokens": draft.drafted,
            "accepted_tokens": draft.accepted,
            "acceptance": draft.acceptance(),
        });
    }
    document["not_measured"] = measured.rejected.iter().map(rejected_json).collect();
    document["compared"] = comparison.judged().map(|line| key(line.metric)).collect();
    document["error"] = json!({
        "decode_percent": percent(Metric::Decode),
        "prefill_percent": percent(Metric::Prefill),
        "time_to_first_token_percent": percent(Metric::FirstToken),
        "memory_percent": percent(Metric::Memory),
    });
    document["tolerance_percent"] = comparison.tolerance.into();
    document["within_tolerance"] = comparison.within().into();
    document["checks"] = checks.iter().map(check_json).collect();
    document["saved"] = matches!(report.saved, Some(SaveResult::Kept { .. })).into();
    match &report.saved {
        Some(SaveResult::Kept { learned, .. }) => {
            document["learned"] = learned.as_deref().map(report::learned::json).into();
        }
        Some(SaveResult::Not { why }) => document["not_saved"] = why.as_str().into(),
        None => {}
    }
    rounded(document)
}

fn rejected_json(figure: &RejectedFigure) -> Value {
    json!({ "quantity": key(figure.metric), "reason": figure.reason })
}

/// The name of a metric in documents.
pub(in crate::report) fn key(metric: Metric) -> &'static str {
    match metric {
        Metric::Decode => "decode_tokens_per_second",
        Metric::Prefill => "prefill_tokens_per_second",
        Metric::FirstToken => "time_to_first_token_seconds",
        Metric::Memory => "peak_memory_bytes",
    }
}

fn spread_json(spread: &Spread) -> Value {
    json!({
        "low": spread.low,
        "expected": spread.expected,
        "high": spread.high,
    })
}

fn statistics_json(found: &Statistics) -> Value {
    json!({
        "mean": found.mean,
        "standard_deviation": found.deviation,
        "least": found.least,
        "most": found.most,
    })
}

fn check_json(check: &Check) -> Value {
    let (state, text) = match &check.finding {
        Finding::Holds(text) => ("holds", Some(text)),
        Finding::Clear(text) => ("clear", Some(text)),
        Finding::Unread => ("unread", None),
    };
    json!({ "code": check.code, "state": state, "text": text })
}
