//! What is asked for, and what each tensor of the output is made from. Data only: the sinks fill it in
//! before a weight is read.

use super::importance::Importance;
use super::packed::Files;
use super::source::TensorRows;
use crate::checkpoint::StoredTensor;
use crate::scheme::{Assigned, Overrides, Rules, Scheme};

/// Above this many bytes of tensors, safetensors files are split: Transformers' `max_shard_size` of
/// `5GB`.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The scheme.
    pub scheme: &'static Scheme,
    /// The version of llama.cpp's rules; for GGUF.
    pub rules: Rules,
    /// Types other than the scheme's own; for GGUF.
    pub overrides: Overrides,
    /// What errors cost, by column; for GGUF.
    pub importance: Option<&'a Importance>,
    /// Whether tensors of a GGUF that are quantized may be quantized to another type.
    pub allow_requantize: bool,
    /// Bytes of tensors in a file; for safetensors.
    pub shard_bytes: u64,
}

impl Options<'_> {
    /// `scheme` as it is.
    pub fn of(scheme: &'static Scheme) -> Options<'static> {
        Options {
            scheme,
            rules: Rules::default(),
            overrides: Overrides::default(),
            importance: None,
            allow_requantize: false,
            shard_bytes: SHARD_BYTES,
        }
    }
}

/// A tensor of the output, scales and the like included.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Its name: in a GGUF llama.cpp's, in a directory that of the unquantized checkpoint.
    pub name: &'a str,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// What it is to be.
    pub assigned: Assigned,
    /// The cost of errors by column, for one matrix after the other.
    pub importance: Option<&'a [f32]>,
    pub(super) values: Values<'a>,
}

/// Where a tensor's values come from.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// Stored bytes that the output takes over.
    Copied(&'a Files, &'a StoredTensor),
    /// Stored weights, to be encoded.
    Rows(TensorRows<'a>),
    /// A table that the configuration gives, to be encoded.
    Table(Vec<f32>),
}

impl Planned<'_> {
    /// Rows of one matrix: of a stack those of a member, else all.
    pub(super) fn matrix_rows(&self, rows: u64) -> u64 {
        match self.shape.as_slice() {
            &[_, rows, _] if rows > 0 => rows,
            _ => rows.max(1),
        }
    }
}
