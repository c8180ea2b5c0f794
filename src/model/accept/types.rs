//! Checks the types of a file's tensors against those that ggml computes with.
//!
//! Tensors that are added, multiplied element by element or convolved must be F32; matrices may be F32, F16, BF16 or
//! quantized. Source: the asserts of `ggml.c` and `ggml-cpu/ops.cpp`. llama.cpp loads files with other types and aborts
//! at the first token.

use super::AcceptError;
use crate::dtype::Dtype;
use crate::model::role::{DecodeAccess, QuantPolicy, TensorRole};
use crate::model::tensor::Tensor;

pub(super) fn check(tensors: &[Tensor]) -> Result<(), AcceptError> {
    for tensor in tensors.iter().filter(|tensor| !is_unread(tensor)) {
        let (fits, expected) = if is_matrix(tensor) {
            let float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
            // Blocks of activations, which ggml multiplies weights with.
            let of_activations = matches!(tensor.dtype, Dtype::Q8_1 | Dtype::Q8_K);
            let fits = float || tensor.dtype.is_quantized() && !of_activations;
            (fits, "floating-point numbers or blocks of weights")
        } else if is_looked_up_scale(tensor) {
            let fits = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
            (fits, "floating-point numbers")
        } else {
            (tensor.dtype == Dtype::F32, "F32")
        };
        if !fits {
            return Err(AcceptError::TensorType {
                tensor: tensor.name.clone(),
                found: tensor.dtype,
                expected,
            });
        }
    }
    Ok(())
}

/// Whether llama.cpp needs a tensor in the file and computes nothing with it: what values take from those of the first block,
/// in the first block.
fn is_unread(tensor: &Tensor) -> bool {
    use TensorRole::{TimeMixV0, TimeMixV1, TimeMixV2};
    tensor.layer == Some(0) && matches!(tensor.role, TimeMixV0 | TimeMixV1 | TimeMixV2)
}

/// Whether a tensor has a scale for each expert, of which those of the chosen ones are looked up.
fn is_looked_up_scale(tensor: &Tensor) -> bool {
    tensor.name.ends_with(".scale") && tensor.role.info().access == DecodeAccess::Experts
}

/// Whether a tensor is multiplied as a matrix or used as a lookup table.
fn is_matrix(tensor: &Tensor) -> bool {
    let looked_up = matches!(
        tensor.role,
        TensorRole::FfnRouter
            | TensorRole::FfnSharedRouter
            | TensorRole::Positions
            | TensorRole::TimeMixW1
            | TensorRole::TimeMixW2
    );
    let weight = ![".bias", ".scale"]
        .iter()
        .any(|end| tensor.name.ends_with(end));
    weight && (looked_up || tensor.role.info().policy != QuantPolicy::Full)
}
