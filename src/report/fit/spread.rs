//! A value with its range: for people and for scripts.

use serde_json::{Value, json};

use crate::plan::speed::Spread;
use crate::report::rate;

/// `38-52`, or one number where both ends print alike.
pub(in crate::report) fn range(spread: &Spread) -> String {
    let (low, high) = (rate(spread.low), rate(spread.high));
    if low == high {
        low
    } else {
        format!("{low}-{high}")
    }
}

/// A rate or time with its range.
pub(in crate::report) fn spread(spread: &Spread) -> Value {
    json!({
        "low": spread.low,
        "expected": spread.expected,
        "high": spread.high,
    })
}
