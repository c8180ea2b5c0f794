//! Whether a GGUF that llama.cpp loads also runs: values that abort the program or make every logit NaN afterwards.

use super::header::{TypedHeader, wrong};
use super::{AcceptError, number};
use crate::gguf::Value;

/// Checks that llama.cpp's programs compute with a GGUF of `architecture` with this `metadata`.
///
/// # Errors
/// Errors of values, for a context of no tokens and a rotary base that is no number above 0.
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
    for key in [own("rope.freq_base"), own("rope.freq_base_swa")] {
        match header.get(&key) {
            Some(Value::F32(base)) if base.is_finite() && *base > 0.0 => {}
            None => {}
            Some(Value::F32(base)) => {
                return Err(AcceptError::Type {
                    key,
                    found: base.to_string(),
                    expected: "a number above 0",
                });
            }
            Some(other) => return Err(wrong(&key, other, "f32")),
        }
    }
    Ok(())
}
