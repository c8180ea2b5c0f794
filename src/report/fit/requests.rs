//! Whole requests in the report of `orinplan fit`: what a benchmark of a server would count.

use serde_json::{Value, json};

use super::{measured, range, spread};
use crate::plan::speed::Requests;
use crate::plan::{RequestEstimate, Speeds, Workload};
use crate::report::{rate, seconds};
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
    Some(format!(
        "{} answer tokens/s from {} of {} + {} tokens; prompts are in the time, and {few} to {many} requests are served a minute",
        range(&estimate.output_rate),
        counted_at_a_time(estimate.work.sequences),
        workload.prompt_tokens,
        estimate.work.generated,
    ))
}

fn counted_at_a_time(sequences: u64) -> String {
    format!(
        "{} at a time",
        counted(sequences as usize, "request", "requests")
    )
}

/// What the prediction rests on.
pub(super) fn evidence(speeds: Option<&Speeds>) -> Option<String> {
    let evidence = estimate(speeds)?.evidence.as_ref()?;
    let Some(near) = &evidence.nearest else {
        return Some(
            "requests: their prompts and decode steps added up, with no measurement of whole requests"
                .to_owned(),
        );
    };
    let row = near.row;
    let cached = match row.cached_tokens {
        Some(cached) => format!(", {cached} tokens of each prompt cached"),
        None => String::new(),
    };
    Some(format!(
        "requests from {} over whole requests; closest: {} on {}, {}{cached}, predicted within {:.0} % without having seen it",
        counted(evidence.anywhere, "measurement", "measurements"),
        measured(row),
        row.board,
        counted_at_a_time(row.sequences),
        near.off_percent.abs(),
    ))
}

/// The terms of the prediction, for `--explain`.
pub(super) fn terms(speeds: &Speeds, workload: &Workload) -> Option<String> {
    let estimate = speeds.requests.as_ref()?;
    let Requests {
        sequences,
        generated,
    } = estimate.work;
    let first = seconds(speeds.prefill.time_to_first_token.expected);
    let depth = workload.prompt_tokens.saturating_add(generated / 2);
    Some(format!(
        "requests: {sequences} x {first} to the first token + {} steps at a depth of {depth} = {} ({} to {}), {} answer tokens/s expected",
        generated.saturating_sub(sequences),
        seconds(estimate.seconds.expected),
        seconds(estimate.seconds.low),
        seconds(estimate.seconds.high),
        rate(estimate.output_rate.expected),
    ))
}

/// The same as JSON; `None` unless requests were asked for.
pub(super) fn document(speeds: Option<&Speeds>) -> Option<Value> {
    let estimate = estimate(speeds)?;
    let time = &estimate.seconds;
    Some(json!({
        "at_a_time": estimate.work.sequences,
        "generated_tokens": estimate.work.generated,
        "seconds": spread(time),
        "output_tokens_per_second": spread(&estimate.output_rate),
        "requests_per_minute": {
            "low": a_minute(estimate, time.high),
            "expected": a_minute(estimate, time.expected),
            "high": a_minute(estimate, time.low),
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
