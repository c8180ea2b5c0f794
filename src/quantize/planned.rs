//! The options of an output, and its planned tensors with the source of their values. Data only: the sinks fill it in
//! before a weight is read.

use std::ops::Range;
use std::sync::Arc;

use super::encoder::Encoder;
use super::importance::Importance;
use super::packed::Files;
use super::tensor_rows::TensorRows;
use crate::checkpoint::StoredTensor;
use crate::scheme::{Assigned, Groups, Overrides, Rules, Scheme};

/// The most bytes of tensors in one safetensors file; larger outputs are split. Transformers' `max_shard_size` of `5GB`.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// The options of an output.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The scheme.
    pub scheme: &'static Scheme,
    /// The version of llama.cpp's rules; for GGUF.
    pub rules: Rules,
    /// Types other than the scheme's own; for GGUF.
    pub overrides: Overrides,
    /// The importance matrix; for GGUF.
    pub importance: Option<&'a Importance>,
    /// Whether one is going to be made first, so that a type that needs it is no error yet.
    pub importance_follows: bool,
    /// Whether tensors of a GGUF that are quantized already may be quantized to another type.
    pub allow_requantize: bool,
    /// The most bytes of tensors in one file; for safetensors.
    pub shard_bytes: u64,
}

impl Options<'_> {
    /// `scheme` with default options.
    pub fn of(scheme: &'static Scheme) -> Options<'static> {
        Options {
            scheme,
            rules: Rules::default(),
            overrides: Overrides::default(),
            importance: None,
            importance_follows: false,
            allow_requantize: false,
            shard_bytes: SHARD_BYTES,
        }
    }
}

/// A tensor of the output with its scales and other parts.
#[derive(Debug)]
pub struct PlannedTensor<'a> {
    /// Its name: llama.cpp's in a GGUF, that of the unquantized checkpoint in a directory of safetensors.
    pub name: &'a str,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Its type and size in the output.
    pub assigned: Assigned,
    /// The importance of its columns, matrix after matrix.
    pub importance: Option<&'a [f32]>,
    /// The groups of its integers; for INT4.
    pub(super) groups: Option<Groups>,
    pub(super) values: Values<'a>,
}

/// The source of a tensor's values.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// Stored bytes, which are copied.
    Copied(&'a Files, &'a StoredTensor),
    /// Stored weights, which are encoded.
    Rows(Box<TensorRows<'a>>),
    /// Some of the stored rows that several weights share.
    Member(Arc<TensorRows<'a>>, Range<u64>),
    /// A table computed from the configuration, which is encoded.
    Table(Vec<f32>),
}

impl<'a> PlannedTensor<'a> {
    /// The stored tensors that its values are read from.
    pub(super) fn stored(&self) -> Vec<&'a StoredTensor> {
        match &self.values {
            Values::Copied(_, stored) => vec![*stored],
            Values::Rows(rows) => rows.stored.iter().flatten().copied().collect(),
            Values::Member(rows, _) => rows.stored.iter().flatten().copied().collect(),
            Values::Table(_) => Vec::new(),
        }
    }

    /// What makes its bytes.
    pub(super) fn encoder(&self) -> Encoder {
        Encoder::of(self.assigned.dtype, self.groups)
    }

    /// Rows of one matrix: those of one member of a stack, else all `rows`.
    pub(super) fn matrix_rows(&self, rows: u64) -> u64 {
        match self.shape.as_slice() {
            &[_, rows, _] if rows > 0 => rows,
            _ => rows.max(1),
        }
    }
}
