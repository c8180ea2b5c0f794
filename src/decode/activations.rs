//! The operations of a forward pass, as a trait over its activations: one row for each token.
//!
//! The pass is written once, over [`Activations`]. There are two implementations: `host` with slices
//! and kernels of the processor, `tensors` with candle's operations on a GPU.

use std::ops::Range;

use super::DecodeError;
use super::buffer::Buffer;
use super::rope::Frequencies;
use crate::dtype::Dtype;
use crate::model::{Activation, Sparse};
use crate::units::Bytes;

/// Activations `[tokens, width]` in F32. An operation that cannot be carried out is an error.
pub(super) trait Activations: Clone + Send + Sized {
    /// The device that computes.
    type Backend: Send + Sync;
    /// A weight matrix in its stored format: `[rows, columns]`.
    type Matrix: Send + Sync;
    /// A weight of one dimension.
    type Vector: Send + Sync;
    /// Keys and values of one block, for a whole context.
    type Cells: Send;
    /// Positions, mask and rotations of one pass for one [`AttentionLayout`].
    type View;

    /// Takes the bytes of tensor `name`, whose size belongs to its shape and type.
    ///
    /// Errors if nothing multiplies its format.
    fn matrix(
        backend: &Self::Backend,
        name: &str,
        dtype: Dtype,
        shape: [usize; 2],
        bytes: Buffer,
    ) -> Result<Self::Matrix, DecodeError>;

    fn vector(backend: &Self::Backend, values: Vec<f32>) -> Result<Self::Vector, DecodeError>;

    /// Allocates keys and values of `widths` elements in these formats, for so many heads and cells.
    ///
    /// Errors if there is not so much memory. A format that is not cached, or whose blocks do not divide the
    /// width, is the caller's to refuse.
    fn cells(
        backend: &Self::Backend,
        dtypes: [Dtype; 2],
        heads_and_cells: [usize; 2],
        widths: [usize; 2],
    ) -> Result<Self::Cells, DecodeError>;

    /// The size of `cells`.
    fn cell_bytes(cells: &Self::Cells) -> Bytes;

    /// The view of blocks with `layout` in a pass of `tokens` tokens behind `position` others.
    fn view(
        backend: &Self::Backend,
        layout: &AttentionLayout,
        position: usize,
        tokens: usize,
    ) -> Result<Self::View, DecodeError>;

    /// Rows of `width` elements, end to end.
    fn from_host(
        backend: &Self::Backend,
        rows: Vec<f32>,
        width: usize,
    ) -> Result<Self, DecodeError>;

    /// All rows, end to end.
    fn into_host(self) -> Result<Vec<f32>, DecodeError>;

    /// The rows of `matrix` with the numbers `ids`.
    fn lookup(matrix: &Self::Matrix, ids: &[u32]) -> Result<Self, DecodeError>;

    fn tokens(&self) -> usize;

    fn width(&self) -> usize;

    /// The last `rows` rows; all if there are fewer.
    fn tail(self, rows: usize) -> Result<Self, DecodeError>;

    /// Some columns of every row.
    fn columns(&self, columns: Range<usize>) -> Result<Self, DecodeError>;

    /// Of every `2 x width` elements the first half, and the second.
    fn halves(&self, width: usize) -> Result<[Self; 2], DecodeError>;

    /// The rows of some tokens.
    fn pick(&self, tokens: &[u32]) -> Result<Self, DecodeError>;

    /// `out[t][r] = sum over c of self[t][c] x matrix[r][c]`, for each of the matrices.
    fn products<const N: usize>(
        &self,
        matrices: [&Self::Matrix; N],
    ) -> Result<[Self; N], DecodeError>;

    /// `self + other`.
    fn add(self, other: &Self) -> Result<Self, DecodeError>;

    /// `self x other`, element by element.
    fn times(self, other: &Self) -> Result<Self, DecodeError>;

    /// Adds row `i` of `rows`, times `factors[i]`, to the row of `tokens[i]`. No token comes twice.
    fn add_at(self, tokens: &[u32], factors: Vec<f32>, rows: Self) -> Result<Self, DecodeError>;

    /// Adds each row of `rows` times the only element of the same row of `factors`.
    fn add_scaled(self, factors: &Self, rows: &Self) -> Result<Self, DecodeError>;

    /// Adds a bias to every run of elements as long as it.
    fn add_vector(&mut self, vector: &Self::Vector) -> Result<(), DecodeError>;

    /// Multiplies every row with a vector, element by element.
    fn times_vector(self, vector: &Self::Vector) -> Result<Self, DecodeError>;

    /// `factor x self`.
    fn scale(self, factor: f32) -> Result<Self, DecodeError>;

    /// `x / rms(x) x weight`, for every run of elements as long as `weight`.
    fn rms_norm(self, weight: &Self::Vector, epsilon: f32) -> Result<Self, DecodeError>;

    /// Subtracts its mean from every run of `width` elements.
    fn centre(self, width: usize) -> Result<Self, DecodeError>;

    /// `x / rms(x)`, for every run of `width` elements.
    fn plain_norm(self, width: usize, epsilon: f32) -> Result<Self, DecodeError>;

    /// Scales each row to the Euclidean norm of the same row of `like`.
    fn match_norm(self, like: &Self) -> Result<Self, DecodeError>;

    /// `activation(self)`.
    fn activate(self, activation: Activation) -> Result<Self, DecodeError>;

    /// `activation(self) x up`, with `up` as the activation wants it.
    fn gate(self, up: &Self, activation: Activation) -> Result<Self, DecodeError>;

    /// `self x sigmoid(gates)`.
    fn sigmoid_gate(self, gates: &Self) -> Result<Self, DecodeError>;

    /// Elements beyond `limit` or its negative become that.
    fn clamp(self, limit: f32) -> Result<Self, DecodeError>;

    /// `cap x tanh(self / cap)`.
    fn softcap(self, cap: f32) -> Result<Self, DecodeError>;

    /// Activation sparsity: `max(0, x - mean - factor x deviation)`, with the mean and the standard
    /// deviation of each row. Source: `gaussian_topk` of llama.cpp's `gemma3n.cpp`.
    fn sparsify(self, sparse: &Sparse) -> Result<Self, DecodeError>;

    /// Applies rotary positions to heads of `head` elements, if the layout has any.
    fn rope(self, view: &Self::View, head: usize) -> Result<Self, DecodeError>;

    /// The Walsh-Hadamard transform of every run of `run` elements, a power of two: `x H`, with
    /// `H[i][j] = (-1)^(bits that i and j share) / sqrt(run)`. It is its own inverse.
    fn hadamard(self, run: usize) -> Result<Self, DecodeError>;

    /// Writes keys and values, `[tokens, heads x width]` each, behind those before.
    fn append_kv(
        cells: &mut Self::Cells,
        keys: &Self,
        values: &Self,
        view: &Self::View,
    ) -> Result<(), DecodeError>;

    /// Softmax attention of queries, rotated, whose keys and values are in `cells`:
    /// `[tokens, heads x value width]`.
    fn attention(
        &self,
        cells: &Self::Cells,
        view: &Self::View,
        scores: ScoreTransform<'_>,
    ) -> Result<Self, DecodeError>;
}

/// How blocks attend: those with equal layouts share the views of a pass.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttentionLayout {
    /// Absent where heads are not rotated by position.
    pub(super) frequencies: Option<Frequencies>,
    /// The tokens that a token attends to; `None` is all before it.
    pub(super) window: Option<Window>,
    /// Whether a token attends to those behind it too, of which a pass then has all. A window lies around the token, half of
    /// it on each side.
    pub(super) ahead: bool,
    /// Cells of the cache: a position lives in cell `position mod cells`.
    pub(super) cells: usize,
}

/// A window on the tokens before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Tokens of it, the one that attends included.
    pub(super) tokens: usize,
    /// Whether it is a chunk of the text, so that a token sees those before it in its own.
    pub(super) is_chunk: bool,
}

impl Window {
    /// The first position that the token at `position` attends to.
    pub(super) fn start(self, position: usize) -> usize {
        if self.is_chunk {
            position - position % self.tokens.max(1)
        } else {
            (position + 1).saturating_sub(self.tokens)
        }
    }
}

/// How `query . key` becomes a weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScoreTransform<'a> {
    /// The factor on `query . key`.
    pub(super) scale: f32,
    /// Scores become `cap x tanh(score / cap)`.
    pub(super) cap: Option<f32>,
    /// For each head a score that takes a share of the weights, and has no value.
    pub(super) sinks: Option<&'a [f32]>,
    /// For each head what a score loses with each token between it and the query.
    pub(super) slopes: Option<&'a [f32]>,
}
