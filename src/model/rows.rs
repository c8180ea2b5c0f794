//! Instantiates the rows of an architecture: the blocks where each row applies, and the tensor there.

use super::arch::{Arch, RowParts, RowSite, ShapeParams, TensorRow};
use super::packed::FoldedWeight;
use super::role::{DecodeAccess, QuantPolicy, TensorRole};
use super::spec::{Dims, Layer};
use super::tensor::Tensor;
use crate::dtype::{Dtype, elements};
use crate::units::Bytes;

/// The tensors of a checkpoint without weights, from the rows, with experts in the type `experts`, and the number of the
/// model's parameters.
pub(super) fn from_rows(
    arch: &Arch,
    dims: &Dims,
    params: &ShapeParams,
    layers: &[Layer],
    experts: Dtype,
) -> (Vec<Tensor>, u64) {
    let mut tensors = Vec::new();
    let mut parameters = 0u64;
    for row in arch.rows() {
        for (layer, site) in sites(row, dims, params, layers) {
            if (row.when)(&site) {
                let shape = (row.shape)(&site);
                let elements = elements(&shape);
                parameters = parameters.saturating_add(match row.role {
                    // Conversion makes it.
                    _ if row.names.is_empty() => 0,
                    _ if row.parts == RowParts::Copied => 0,
                    // Conversion pads this table to the size of the vocabulary; the model has fewer rows.
                    TensorRole::PerLayerEmbedding if params.per_layer_vocab > 0 => {
                        elements / dims.vocab.max(1) * params.per_layer_vocab
                    }
                    _ => elements,
                });
                // The biases of experts are matrices, one row for each.
                let of_experts = row.role.info().access == DecodeAccess::Experts;
                let is_packed = of_experts && shape.len() > 2;
                let row_length = shape.last().copied().unwrap_or(0);
                let dtype = if is_packed && experts.divides(row_length) {
                    experts
                } else {
                    Dtype::BF16
                };
                let stored_bytes = dtype.bytes(&shape).unwrap_or(Bytes(0));
                tensors.push(instantiate(
                    row,
                    layer,
                    shape,
                    dtype,
                    stored_bytes,
                    Vec::new(),
                ));
            }
        }
    }
    (tensors, parameters)
}

/// The sites of a row: one outside the blocks, or one in each block.
pub(super) fn sites<'a>(
    row: &TensorRow,
    dims: &'a Dims,
    params: &'a ShapeParams,
    layers: &'a [Layer],
) -> impl Iterator<Item = (Option<u32>, RowSite<'a>)> + use<'a> {
    let in_block = row.role.info().block;
    let count = if in_block { layers.len() } else { 1 };
    layers
        .iter()
        .enumerate()
        .take(count)
        .map(move |(index, layer)| {
            (
                in_block.then_some(index as u32),
                RowSite {
                    dims,
                    params,
                    layer,
                    block: index as u64,
                },
            )
        })
}

pub(super) fn instantiate(
    row: &TensorRow,
    layer: Option<u32>,
    shape: Vec<u64>,
    dtype: Dtype,
    stored_bytes: Bytes,
    sources: Vec<u32>,
) -> Tensor {
    // Vectors, norms and routers are F32 in every GGUF.
    let full =
        shape.len() < 2 || row.role.info().policy == QuantPolicy::Full || row.part != "weight";
    Tensor {
        name: row.role.gguf_name(layer, row.part),
        role: row.role,
        layer,
        shape,
        dtype: if full { Dtype::F32 } else { dtype },
        stored_bytes,
        sources,
    }
}

/// A tensor without a row, under its own name.
pub(super) fn other(logical: FoldedWeight) -> Tensor {
    Tensor {
        name: logical.name,
        role: TensorRole::Other,
        layer: None,
        shape: logical.shape,
        dtype: logical.dtype,
        stored_bytes: logical.bytes,
        sources: logical.sources,
    }
}
