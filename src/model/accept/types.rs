//! The types of a file's tensors, held to those that ggml computes with.
//!
//! What is added, multiplied element by element or convolved is F32; matrices are floating-point numbers or blocks.
//! Source: the asserts of `ggml.c` and `ggml-cpu/ops.cpp`. Others load, and end the program with the first token.

use super::AcceptError;
use crate::dtype::Dtype;
use crate::model::role::{QuantPolicy, TensorRole};
use crate::model::spec::Tensor;

pub(super) fn check(tensors: &[Tensor]) -> Result<(), AcceptError> {
    for tensor in tensors {
        let (fits, expected) = match is_matrix(tensor) {
            true => (
                tensor.dtype.is_quantized()
                    || matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16),
                "floating-point numbers or blocks",
            ),
            false => (tensor.dtype == Dtype::F32, "F32"),
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

/// Whether a tensor is multiplied as a matrix, or a row of it is looked up.
fn is_matrix(tensor: &Tensor) -> bool {
    let router = matches!(
        tensor.role,
        TensorRole::FfnRouter | TensorRole::FfnSharedRouter
    );
    let weight = ![".bias", ".scale"]
        .iter()
        .any(|end| tensor.name.ends_with(end));
    weight && (router || tensor.role.info().policy != QuantPolicy::Full)
}
