//! Arithmetic that gives finite numbers for any input.

/// `amount / per`: zero for no amount, infinite for an amount over zero.
pub(super) fn ratio(amount: f64, per: f64) -> f64 {
    if amount <= 0.0 {
        0.0
    } else if per > 0.0 {
        amount / per
    } else {
        f64::INFINITY
    }
}

/// `tokens / seconds`; zero where `seconds` is zero, negative or no number.
pub(in crate::plan) fn rate(tokens: f64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        finite(tokens / seconds)
    } else {
        0.0
    }
}

/// `value`, or the largest finite number.
pub(in crate::plan) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::MAX }
}
