//! The operations of a step: bytes, multiply-accumulates, output rows.
//!
//! In: counts that `operations` gathers from a model. Out: [`Operation`]. Must not: know a runtime.

use super::finite::ratio;
use crate::dtype::Dtype;

/// The part of the model that an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationGroup {
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
    /// Everything else that is read from memory: embedding rows, norms.
    Other,
}

/// An operation of a decode step: a product with a matrix, or with several of one format and group.
///
/// Matrices of one format and row length may share an operation, because the speed model is linear in their bytes,
/// weights and rows. Counts are for one token of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its name in an explanation.
    pub name: String,
    /// The part of the model that it belongs to.
    pub group: OperationGroup,
    /// Element format of what it reads.
    pub dtype: Dtype,
    /// Bytes that one token moves.
    pub bytes: u64,
    /// Bytes that a batch reads at most: equal to `bytes` for a dense matrix, those of all experts for routed ones,
    /// [`u64::MAX`] where each sequence has its own.
    pub stored: u64,
    /// Multiply-accumulates for one token, which is the number of weights it uses.
    pub weights: u64,
    /// Output rows for one token: the sum over matrices of their outermost dimension.
    pub rows: u64,
    /// Input activations for one token: the sum over matrices of their innermost dimension.
    pub columns: u64,
    /// `weights` with each matrix rounded up to whole tiles of the kernel that multiplies a prompt.
    pub tiled: u64,
    /// Bytes that pass through the SMs for one token: more than `bytes` where query heads that share keys and values
    /// each read them for itself.
    pub read: u64,
    /// Tokens whose keys and values are read; 0 where there are none.
    pub depth: u64,
}

/// Rows and columns of a matrix that llama.cpp's kernel for quantized matrices works on at once: `mmq_y` and
/// `MMQ_ITER_K` in ggml-cuda/mmq.cuh.
const TILE: [u64; 2] = [128, 256];

impl Operation {
    /// A dense matrix of shape `[rows, weights / rows]`, which a batch reads once.
    pub fn dense(
        name: impl Into<String>,
        group: OperationGroup,
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
            tiled: tiled(weights, rows),
            read: bytes,
            depth: 0,
        }
    }

    /// Routed experts: `bytes`, `weights`, `rows` and `columns` of those that one token uses, `stored` bytes of all.
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
            group: OperationGroup::FeedForward,
            dtype,
            bytes,
            stored: stored.max(bytes),
            weights,
            rows,
            columns,
            tiled: weights,
            read: bytes,
            depth: 0,
        }
    }

    /// State that each sequence has of its own: cached keys and values at some depth, or recurrent state (read and
    /// written, so its bytes count twice). `macs` of attention at depth `n` are query heads x (key + value dimension) x
    /// `n`, with the window for `n` in sliding layers.
    pub fn state(
        name: impl Into<String>,
        group: OperationGroup,
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
            tiled: macs,
            read: bytes,
            depth: 0,
        }
    }

    /// The same over keys and values of `depth` tokens, of which `read` bytes pass through the SMs.
    pub fn over_cache(self, depth: u64, read: u64) -> Operation {
        Operation {
            depth,
            read,
            ..self
        }
    }

    /// Makes `other` a part of this operation: the sums of their counts.
    pub fn add(&mut self, other: &Operation) {
        let counts = [
            (&mut self.bytes, other.bytes),
            (&mut self.stored, other.stored),
            (&mut self.weights, other.weights),
            (&mut self.rows, other.rows),
            (&mut self.columns, other.columns),
            (&mut self.tiled, other.tiled),
            (&mut self.read, other.read),
        ];
        for (sum, more) in counts {
            *sum = sum.saturating_add(more);
        }
    }

    /// Whether it has experts of which a token uses some.
    pub(super) fn is_routed(&self) -> bool {
        self.stored > self.bytes && self.stored < u64::MAX
    }

    pub(super) fn is_state(&self) -> bool {
        matches!(
            self.group,
            OperationGroup::KvCache | OperationGroup::Recurrent
        )
    }

    /// Bits a weight as stored, scales included.
    pub(super) fn bits(&self) -> f64 {
        ratio(self.bytes as f64 * 8.0, self.weights as f64)
    }

    /// Whether integer units can multiply its weights: they are small integers with scales.
    pub(super) fn is_integer(&self) -> bool {
        !self.is_state() && !is_fp8(self.dtype) && self.bits() < 12.0
    }
}

/// `weights` in rows of one length, both sides rounded up to whole tiles.
fn tiled(weights: u64, rows: u64) -> u64 {
    let up = |count: u64, tile: u64| count.checked_next_multiple_of(tile).unwrap_or(u64::MAX);
    let columns = weights.checked_div(rows).unwrap_or(0);
    up(rows, TILE[0])
        .saturating_mul(up(columns, TILE[1]))
        .max(weights)
}

/// FP8 has no arithmetic units before compute capability 8.9: it is converted to F16.
fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}
