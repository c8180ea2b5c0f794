//! A tensor of a file: name, shape, and where its values come from.

use super::role::TensorRole;
use crate::dtype::{Dtype, elements};
use crate::units::Bytes;

/// A tensor of the text model, with llama.cpp's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The GGUF name, `blk.0.attn_q.weight`.
    pub name: String,
    /// What it is for.
    pub role: TensorRole,
    /// The block that it belongs to; `None` outside of blocks.
    pub layer: Option<u32>,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Its type before a scheme is applied.
    pub dtype: Dtype,
    /// Its size in the checkpoint (packed words and their scales included).
    pub stored_bytes: Bytes,
    /// The stored tensors that it is made from, as indices into the checkpoint's tensors; empty
    /// without weights, and for a tensor that conversion adds.
    pub sources: Vec<u32>,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// Whether its name ends in `weight`: not a bias, a scale or a tensor without a suffix.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with("weight")
    }

    /// Elements of a row, which the blocks of a format must divide.
    pub fn row(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }
}
