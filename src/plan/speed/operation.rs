//! What a step does, operation by operation: bytes, multiply-accumulates, output rows.
//!
//! In: counts that `operations` gathers from a model. Out: [`Operation`]. Must not: know a runtime.

use super::finite::ratio;
use crate::dtype::Dtype;

/// What part of the model an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Projections around attention.
    Attention,
    /// Feed-forward, dense or routed.
    FeedForward,
    /// The output projection to the vocabulary: once a decode step, once a prompt.
    Head,
    /// Reading cached keys and values, and multiplying with them.
    KvCache,
    /// Reading, updating and writing recurrent or convolutional state.
    Recurrent,
    /// Whatever else is read from memory: embedding rows, norms.
    Other,
}

/// Something a decode step does: a matrix, or several of one format and group taken together.
///
/// Two matrices may share an operation if their format is the same: the model is linear in them up to
/// their shape, which only `rows` carries. Counts are for one token of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What an explanation calls it.
    pub name: String,
    /// What part of the model it belongs to.
    pub group: Group,
    /// Element format of what it reads.
    pub dtype: Dtype,
    /// Bytes one token moves.
    pub bytes: u64,
    /// Bytes that exist of it: what a batch reads at most. Equal to `bytes` for a dense matrix, all
    /// experts' bytes for routed ones, [`u64::MAX`] where each sequence has its own.
    pub stored: u64,
    /// Multiply-accumulates for one token: the weights it uses.
    pub weights: u64,
    /// Output rows for one token: the sum over matrices of their outermost dimension.
    pub rows: u64,
    /// Activations that its products take for one token: the sum over matrices of their innermost dimension.
    pub columns: u64,
}

impl Operation {
    /// A dense matrix `[rows, weights / rows]`: a batch reads it once.
    pub fn dense(
        name: impl Into<String>,
        group: Group,
        dtype: Dtype,
        bytes: u64,
        weights: u64,
        rows: u64,
    ) -> Operation {
        Operation {
            name: name.into(),
            group,
            dtype,
            bytes,
            stored: bytes,
            weights,
            rows,
            columns: weights.checked_div(rows).unwrap_or(0),
        }
    }

    /// Routed experts: `bytes`, `weights`, `rows` and `columns` of those one token uses, `stored` bytes of all.
    pub fn experts(
        name: impl Into<String>,
        dtype: Dtype,
        bytes: u64,
        stored: u64,
        weights: u64,
        [rows, columns]: [u64; 2],
    ) -> Operation {
        Operation {
            name: name.into(),
            group: Group::FeedForward,
            dtype,
            bytes,
            stored: stored.max(bytes),
            weights,
            rows,
            columns,
        }
    }

    /// What each sequence has for itself: cached keys and values at the depth in question, or
    /// recurrent state (read and written: count it twice). `macs` for attention at depth `n`: query
    /// heads x (key + value dimension) x `n`, with the window for `n` in sliding layers.
    pub fn state(
        name: impl Into<String>,
        group: Group,
        dtype: Dtype,
        bytes: u64,
        macs: u64,
    ) -> Operation {
        Operation {
            name: name.into(),
            group,
            dtype,
            bytes,
            stored: u64::MAX,
            weights: macs,
            rows: 0,
            columns: 0,
        }
    }

    pub(super) fn is_state(&self) -> bool {
        matches!(self.group, Group::KvCache | Group::Recurrent)
    }

    /// Bits a weight as stored, scales included.
    pub(super) fn bits(&self) -> f64 {
        ratio(self.bytes as f64 * 8.0, self.weights as f64)
    }

    /// Whether integer units can do the multiplication: the weights are small integers with scales.
    pub(super) fn is_integer(&self) -> bool {
        !self.is_state() && !is_fp8(self.dtype) && self.bits() < 12.0
    }
}

/// FP8 has no units before compute capability 8.9: it is widened, and computes as F16.
fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}
