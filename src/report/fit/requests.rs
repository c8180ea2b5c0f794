//! Whole requests in the report of `orinplan fit`: what a benchmark of a server would count.

use serde_json::{Value, json};

use super::{measured, range, spread};
use crate::plan::{RequestEstimate, Speeds, Workload};
use crate::report::rate;
use crate::units::counted;

fn estimate(speeds: Option<&Speeds>) -> Option<&RequestEstimate> {
    speeds?.requests.as_ref()
}

/// Requests a minute at the end of a range that takes so many seconds.
fn a_minute(estimate: &RequestEstimate, seconds: f64) -> f64 {
    60.0 * estimate.work.sequences as f64 / seconds.max(f64::MIN_POSITIVE)
}

/// What is predicted.
pub(super) fn text(speeds: Option<&Speeds>, workload: &Workload) -> Option<String> {
    let estimate = estimate(speeds)?;
    let [few, many] =
        [estimate.seconds.high, estimate.seconds.low].map(|time| rate(a_minute(estimate, time)));
    let who = match estimate.work.sequences {
        1 => "one request".to_owned(),
        several => format!("{several} requests"),
    };
    let verb = if estimate.work.sequences == 1 {
        "gives"
    } else {
        "give"
    };
    Some(format!(
        "{who} at a time ({} + {} tokens) {verb} {} answer tokens/s; prompts are in the time, and {few} to {many} requests are served a minute",
        workload.prompt_tokens,
        estimate.work.generated,
        range(&estimate.output_rate),
    ))
}

fn at_a_time(sequences: u64) -> String {
    match sequences {
        1 => "one at a time".to_owned(),
        several => format!("{several} at a time"),
    }
}

/// What the prediction rests on.
pub(super) fn evidence(speeds: Option<&Speeds>) -> Option<String> {
    let evidence = estimate(speeds)?.evidence.as_ref()?;
    let Some(near) = &evidence.nearest else {
        return Some(
            "requests: their prompts and decode steps added up; no rate over whole requests is published for this runtime"
                .to_owned(),
        );
    };
    let row = near.row;
    let counts = counted(evidence.anywhere, "measurement", "measurements");
    Some(format!(
        "requests from {counts} over whole requests; closest: {} on {}, {}, predicted within {:.0} % without having seen it",
        measured(row),
        row.board,
        at_a_time(row.sequences),
        near.off_percent.abs(),
    ))
}

/// The same as JSON; `None` unless requests were asked for.
pub(super) fn document(speeds: Option<&Speeds>) -> Option<Value> {
    let estimate = estimate(speeds)?;
    let seconds = &estimate.seconds;
    Some(json!({
        "at_a_time": estimate.work.sequences,
        "generated_tokens": estimate.work.generated,
        "seconds": spread(seconds),
        "output_tokens_per_second": spread(&estimate.output_rate),
        "requests_per_minute": {
            "low": a_minute(estimate, seconds.high),
            "expected": a_minute(estimate, seconds.expected),
            "high": a_minute(estimate, seconds.low),
        },
        "evidence": estimate.evidence.as_ref().map(|evidence| json!({
            "measurements_on_board": evidence.on_board,
            "measurements_anywhere": evidence.anywhere,
            "nearest": evidence.nearest.as_ref().map(|near| json!({
                "id": near.row.id,
                "board": near.row.board,
                "power_mode": near.row.power_mode,
                "model": near.row.model,
                "format": near.row.format,
                "at_a_time": near.row.sequences,
                "prompt_tokens": near.row.prompt_tokens,
                "cached_tokens": near.row.cached_tokens.unwrap_or(0),
                "generated_tokens": near.row.generated_tokens,
                "output_tokens_per_second": near.row.output_tps,
                "off_percent": near.off_percent,
                "source": near.row.source,
            })),
        })),
    }))
}
