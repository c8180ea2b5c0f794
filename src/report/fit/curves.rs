//! What figures show of the plans, for scripts: the key `curves` of the document.

use serde_json::{Map, Value, json};

use super::Report;
use crate::plan::curves::{Curves, PlanCurve, curves};
use crate::plan::speed::Spread;
use crate::report::rounded;

/// The key that `--format json` and pages have, and saved predictions have not.
pub(super) const CURVES: &str = "curves";

/// The document with the memory of every plan over context, its decode rate over depth in every power mode, and the
/// operations of a token under the roof of the board.
pub fn document(report: &Report<'_>) -> Value {
    with_curves(super::document(report), report)
}

/// The same for a document that has more keys already.
pub fn with_curves(mut document: Value, report: &Report<'_>) -> Value {
    let found = curves(report.model, report.fit, report.target, report.workload);
    document[CURVES] = rounded(curves_json(report, &found));
    document
}

fn curves_json(report: &Report<'_>, curves: &Curves<'_>) -> Value {
    let plans = report.fit.plans.iter().zip(&curves.plans);
    let plans = plans.map(|(plan, curve)| {
        json!({
            "scheme": plan.assignment.scheme,
            "total_bytes": curve.memory,
            "fits": curve.fits,
            "decode_tokens_per_second": by_mode(&curves.modes, curve),
        })
    });
    json!({
        "context_tokens": curves.contexts,
        "power_modes": curves.modes,
        "plans": plans.collect::<Vec<_>>(),
        "roofline": curves.roof.map(|roof| json!({
            "memory_bandwidth_bytes_per_second": roof.bandwidth,
            "fp16_flops_per_second": roof.fp16,
            "int8_ops_per_second": roof.int8,
            "ridge_fp16_flops_per_byte": roof.ridge_fp16(),
            "ridge_int8_ops_per_byte": roof.ridge_int8(),
            "operations": curves.operations.iter().map(|operation| json!({
                "name": operation.name,
                "dtype": operation.dtype.to_lowercase(),
                "bytes": operation.bytes,
                "flops": operation.flops,
                "seconds": operation.seconds,
                "operational_intensity": operation.flops as f64 / (operation.bytes as f64).max(1.0),
                "flops_per_second": operation.flops as f64 / operation.seconds.max(f64::MIN_POSITIVE),
            })).collect::<Vec<_>>(),
        })),
    })
}

/// The rates by the name of the mode; `null` where they are not known.
fn by_mode(modes: &[&str], curve: &PlanCurve) -> Value {
    if curve.decode.is_empty() {
        return Value::Null;
    }
    let ends = |rates: &[Spread]| {
        let each = |end: fn(&Spread) -> f64| rates.iter().map(end).collect::<Vec<_>>();
        json!({
            "low": each(|rate| rate.low),
            "expected": each(|rate| rate.expected),
            "high": each(|rate| rate.high),
        })
    };
    let modes = modes.iter().zip(&curve.decode);
    let modes = modes.map(|(mode, rates)| ((*mode).to_owned(), ends(rates)));
    Value::Object(modes.collect::<Map<String, Value>>())
}
