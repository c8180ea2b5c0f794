//! The layout of one weight, by what the model says of its packing.

use super::error::PackedError;
use super::files::{Files, TensorReader};
use super::parts::PackedParts;
use super::{Weight, bitsandbytes, columns, row_layouts};
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::model::FoldedWeight;
use crate::model::packing::Packing;

pub(super) fn open<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    folded: &FoldedWeight,
) -> Result<Weight<'a>, PackedError> {
    let parts = PackedParts::new(checkpoint, files, folded)?;
    let weight = parts.weight;
    match (parts.packing, weight.dtype()) {
        (Packing::ByInputs, _) => columns::open(&parts),
        (Packing::Words, Dtype::I32) => row_layouts::packed_integers(&parts),
        (Packing::Words, other) => Err(weight.unknown(format!("packed in {}", other.name()))),
        (Packing::FourBitFloats | Packing::FourBitFloatBlocks, _) => {
            row_layouts::four_bit_floats(&parts)
        }
        (Packing::Mlx, _) => row_layouts::mlx(&parts),
        (Packing::BitsAndBytes, _) => bitsandbytes::open(&parts),
        (Packing::Elements, Dtype::I8) => row_layouts::eight_bit_integers(&parts),
        (Packing::Elements, Dtype::F8_E4M3 | Dtype::F8_E5M2) => {
            row_layouts::eight_bit_floats(&parts)
        }
        (Packing::Elements, _) => row_layouts::floats(weight),
    }
}

pub(super) fn plain<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    index: usize,
) -> Result<Weight<'a>, PackedError> {
    let tensor = checkpoint.tensors.get(index);
    let tensor = tensor.ok_or_else(|| PackedError::Missing {
        tensor: format!("number {index}"),
        part: "weight",
    })?;
    row_layouts::floats(TensorReader { files, tensor })
}
