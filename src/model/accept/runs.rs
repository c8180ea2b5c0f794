//! Whether a GGUF that llama.cpp loads also runs: values that abort the program or make every logit NaN afterwards.

use super::header::{TypedHeader, wrong};
use super::{AcceptError, number};
use crate::gguf::Value;
use crate::model::loader::{EPSILON, LAYER_EPSILON};

/// Numbers with which no model computes: the key, what holds for it, and that in words.
type PlausibleNumber = (&'static str, fn(f32) -> bool, &'static str);

const NUMBERS: &[PlausibleNumber] = &[
    ("rope.freq_base", |n| n > 0.0, "a number above 0"),
    ("rope.freq_base_swa", |n| n > 0.0, "a number above 0"),
    // 0 stands for none.
    (
        "rope.scaling.factor",
        |n| n >= 0.0,
        "a number that is not negative",
    ),
    (EPSILON, |n| n <= 1.0, "a number up to 1"),
    (LAYER_EPSILON, |n| n <= 1.0, "a number up to 1"),
];

/// Checks that llama.cpp's programs compute with a GGUF of `architecture` with this `metadata`.
///
/// # Errors
/// Errors of values: a context of no tokens, a rotary base that is no number above 0, a scaling of rotary positions that
/// is negative or not finite, an epsilon above 1.
pub fn runs(metadata: &[(String, Value)], architecture: &str) -> Result<(), AcceptError> {
    let header = TypedHeader {
        metadata,
        file: None,
    };
    let own = |key: &str| format!("{architecture}.{key}");
    let key = own("context_length");
    if header.count(&key)? == Some(0) {
        return Err(number(key, 0, "the tokens that the model was trained for"));
    }
    for &(key, holds, expected) in NUMBERS {
        let key = own(key);
        match header.get(&key) {
            None => {}
            Some(Value::F32(number)) if number.is_finite() && holds(*number) => {}
            Some(Value::F32(number)) => {
                return Err(AcceptError::Type {
                    key,
                    found: number.to_string(),
                    expected,
                });
            }
            Some(other) => return Err(wrong(&key, other, "f32")),
        }
    }
    Ok(())
}
