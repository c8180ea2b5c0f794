//! Whether a GGUF that llama.cpp loads also runs: values that abort the program or make every logit NaN afterwards.

use super::header::{TypedHeader, wrong};
use super::{AcceptError, number};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::Value;
use crate::model::ModelSpec;

/// Checks that llama.cpp's programs compute with the GGUF of `checkpoint`; one that is not a GGUF is accepted.
///
/// # Errors
/// Errors of values, for a context of no tokens and a rotary base that is no number above 0.
pub fn runs(checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), AcceptError> {
    let RawConfig::Gguf(metadata) = &checkpoint.config else {
        return Ok(());
    };
    let header = TypedHeader {
        metadata: &metadata.0,
        file: None,
    };
    let own = |key: &str| format!("{}.{key}", model.architecture);
    let key = own("context_length");
    if header.count(&key)? == Some(0) {
        return Err(number(key, 0, "the tokens that the model was trained for"));
    }
    for key in [own("rope.freq_base"), own("rope.freq_base_swa")] {
        match header.get(&key) {
            Some(Value::F32(base)) if base.is_finite() && *base > 0.0 => {}
            None => {}
            Some(other) => return Err(wrong(&key, other, "a finite f32 above 0")),
        }
    }
    Ok(())
}
