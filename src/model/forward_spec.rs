//! The arithmetic of a forward pass that does not follow from a model's tensors and blocks.
//!
//! In: the architecture's traits and GGUF metadata. Out: a [`ForwardSpec`]. Must not: name an
//! architecture; differences are in their [`ArchTraits`].
//!
//! Source of keys, defaults and formulas: `load_arch_hparams` in `src/models/*.cpp`,
//! `llama-model.cpp` (`llama_model_rope_type`) and `llama-context.cpp` (YaRN) of llama.cpp.

mod read;

pub(super) use read::read;

/// The arithmetic of a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardSpec {
    /// How blocks, heads and the output are normalized.
    pub norm: NormKind,
    /// What is added to a norm's mean square or variance.
    pub norm_epsilon: f32,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// Factor on what a mixer or a feed-forward adds to the residual stream.
    pub residual_scale: f32,
    /// Factor on logits, before they are capped.
    pub output_scale: f32,
    /// Factor on `query . key`; `None` is `1 / sqrt(key_dim)`.
    pub attention_scale: Option<f32>,
    /// Scores become `cap x tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Logits become `cap x tanh(logit / cap)`.
    pub output_softcap: Option<f32>,
    /// A dense feed-forward is `down(activation(gate(x)) x up(x))`; without a gate it is
    /// `down(activation(up(x)))`.
    pub gated_feed_forward: bool,
    /// The non-linearity in a feed-forward.
    pub activation: Activation,
    /// That of each block, where they differ; else none.
    pub activations: Vec<Activation>,
    /// Rotary positions.
    pub rope: Rope,
    /// Whether the query projection holds, after each query head, a gate for the attention's output.
    pub gated_query: bool,
    /// Whether values are normed, without a weight, before they are cached.
    pub value_norm: bool,
    /// Queries, keys and values lie between this number and its negative.
    pub clamp: Option<f32>,
    /// Whether heads of queries and keys are normed after they are rotated.
    pub norm_after_rope: bool,
    /// Whether norms have weights.
    pub norm_weights: bool,
    /// Whether heads of queries and keys that are rotated are normed without weights.
    pub plain_head_norms: bool,
    /// Whether windows are chunks of a text: a token attends to those before it in its own.
    pub chunked: bool,
    /// How a router's scores become the shares of the experts that it selects.
    pub routing: Routing,
    /// The sparsity of feed-forward gates in the first blocks.
    pub sparse: Sparse,
    /// Whether attention and feed-forward run side by side, each behind a norm of its own.
    pub parallel: bool,
    /// How queries grow with their position.
    pub temperature: Option<Temperature>,
    /// How scores fall with distance: the exponent of the last of a power of two of heads, whose slopes are `2^(-slope i /
    /// heads)` (ALiBi).
    pub slope: Option<f32>,
    /// Whether the time steps and the gates of a selective scan are normed, without weights where it has none.
    pub normed_steps: bool,
    /// Whether the scores of a reranker are shares of one.
    pub ranks_by_shares: bool,
}

/// Queries are multiplied by `1 + scale x ln(1 + floor((position + ahead) / step))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// The factor on the logarithm.
    pub scale: f32,
    /// Tokens over which the factor stays the same.
    pub step: u64,
    /// What is added to positions.
    pub ahead: u64,
    /// Whether only blocks without rotary positions have it.
    pub unrotated: bool,
}

/// How a norm brings a row to unit scale. A weight multiplies the result and, where the file has
/// one, a bias is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm: `x / sqrt(mean(x^2) + epsilon)`.
    Rms,
    /// LayerNorm: `(x - mean(x)) / sqrt(variance(x) + epsilon)`.
    Layer,
}

/// A non-linearity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// GELU, approximated with `tanh`.
    GeluTanh,
    /// `max(0, x)^2`.
    ReluSquared,
    /// `g / (1 + exp(-1.702 g))` with `g = min(x, 7)`; what it multiplies is kept within 7 and its negative, and one is
    /// added to that.
    ClampedSwiglu,
    /// A parabola above zero, an exponential below.
    Xielu(Xielu),
}

/// `positive x^2 + slope x` above zero, else `negative (exp(min(x, start)) - 1 - x) + slope x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xielu {
    /// The factor on the square.
    pub positive: f32,
    /// The factor on the exponential.
    pub negative: f32,
    /// The slope at zero.
    pub slope: f32,
    /// The largest argument of the exponential.
    pub start: f32,
}

impl Xielu {
    /// No curve.
    pub(super) const NONE: Xielu = Xielu {
        positive: 0.0,
        negative: 0.0,
        slope: 0.0,
        start: 0.0,
    };
}

impl ForwardSpec {
    /// The non-linearity in the feed-forward of `block`.
    pub fn activation_in(&self, block: u32) -> Activation {
        let own = self.activations.get(block as usize);
        own.copied().unwrap_or(self.activation)
    }
}

/// How a router's scores become the shares of the experts that it selects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// The scores of all experts.
    pub scores: Scores,
    /// Whether the shares of the selected experts sum to one.
    pub normalized: bool,
    /// Factor on the shares.
    pub scale: f32,
    /// Whether shares multiply what experts get, in place of what they give.
    pub before: bool,
}

/// The scores that a router gives to experts, by its logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// Their softmax.
    Softmax,
    /// Each one's `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// The blocks whose queries and keys are rotated by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotatedBlocks {
    /// All.
    All,
    /// All but each so-many-th.
    NotEach(u64),
    /// Those with a window, if there are any, else all.
    Windowed,
    /// None.
    None,
}

impl RotatedBlocks {
    /// Whether block `index` is among them, of a model that has windows or none.
    pub(super) fn has(self, index: usize, is_windowed: bool, has_windows: bool) -> bool {
        match self {
            RotatedBlocks::All => true,
            RotatedBlocks::None => false,
            RotatedBlocks::NotEach(nth) => !(index as u64 + 1).is_multiple_of(nth),
            RotatedBlocks::Windowed => is_windowed || !has_windows,
        }
    }
}

/// Which elements of a head are rotated as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours: 0 with 1, 2 with 3 (llama.cpp's `NORM`, for which its converter permutes Llama's weights).
    Norm,
    /// Halves: 0 with `dims / 2` (`NEOX`).
    Neox,
}

/// Rotary positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which elements are rotated as a pair.
    pub style: RopeStyle,
    /// The number of rotated elements of a head; `None` is all.
    pub dims: Option<u64>,
    /// The base of the frequencies.
    pub base: f32,
    /// The base in windowed blocks, where positions are not scaled.
    pub window_base: f32,
    /// The number of rotated elements of a head in windowed blocks, where it is another.
    pub window_dims: Option<u64>,
    /// Factor on positions in blocks with full attention.
    pub scale: f32,
    /// Whether windowed blocks are rotated as if nothing was stated but their base and width.
    pub unscaled_windows: bool,
    /// Factor on cosine and sine.
    pub magnitude: f32,
    /// YaRN's parameters for blending scaled and unscaled frequencies.
    pub yarn: Option<Yarn>,
    /// Up to this context, in tokens, the short frequency factors apply, beyond it the long ones.
    pub original_context: u64,
    /// The blocks that have rotary positions.
    pub blocks: RotatedBlocks,
}

/// YaRN's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// A frequency with more rotations over the original context than this is not scaled.
    pub beta_fast: f32,
    /// A frequency with fewer rotations than this is scaled fully.
    pub beta_slow: f32,
}

/// Activation sparsity: gates below `mean + factor x standard deviation` of their token become 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sparse {
    /// The number of blocks with sparsity, from the first.
    pub blocks: u64,
    /// The threshold in standard deviations above the mean.
    pub factor: f32,
}

/// Properties of an architecture's forward pass that its metadata does not state.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArchTraits {
    pub norm: NormKind,
    pub rope: RopeStyle,
    /// Whether halves turn in files whose positions have sections.
    pub halves_with_sections: bool,
    /// Whether whole heads turn, whatever number is stated.
    pub whole_heads: bool,
    pub gated_feed_forward: bool,
    pub activation: Activation,
    /// Whether token embeddings are multiplied by the square root of their width.
    pub scale_embedding: bool,
    pub attention_scale: AttentionScale,
    /// The rotary base in windowed blocks if metadata does not state it; `None` is that of the other blocks.
    pub window_base: Option<f32>,
    pub unscaled_windows: bool,
    pub rotated: RotatedBlocks,
    /// The kinds of positions, where llama.cpp knows them by the number of blocks.
    pub positions: Option<PositionsByDepth>,
    /// Whether metadata says if any block is rotated.
    pub states_rotation: bool,
    pub output_scale: OutputScale,
    /// The scales that a model has without a word in its metadata.
    pub built_in: Option<BuiltInScales>,
    /// Whether metadata must state the scales of embeddings, blocks and logits.
    pub needs_scales: bool,
    pub gated_query: bool,
    pub value_norm: bool,
    pub norm_after_rope: bool,
    pub norm_weights: bool,
    pub plain_head_norms: Option<PlainHeadNorms>,
    pub chunked: bool,
    /// How queries grow with their position if metadata does not state it.
    pub temperature: Option<Temperature>,
    pub routing: Routing,
    /// Whether metadata states scores and whether shares sum to one.
    pub states_routing: bool,
    /// Numbers of blocks and a vocabulary by which llama.cpp knows a model whose scores are a sigmoid.
    pub sigmoid_of: Option<([u64; 2], u64)>,
    pub sparse: Sparse,
    /// Soft caps of attention scores and of logits if metadata does not state them.
    pub softcaps: (Option<f32>, Option<f32>),
    pub ranks_by_shares: bool,
}

/// Norms without weights of heads that are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PlainHeadNorms {
    /// The number of experts of models without.
    pub but_for: u64,
}

impl PlainHeadNorms {
    /// Whether a model of so many experts has them.
    pub(super) fn are_in(self, experts: u64) -> bool {
        self.but_for != experts
    }
}

/// Kinds of positions by the number of blocks; a model of any other number has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PositionsByDepth {
    /// Blocks of a model whose heads turn.
    pub rotary: u64,
    /// Blocks of a model whose scores fall with distance.
    pub sloped: u64,
    /// The exponent of the slopes.
    pub slope: f32,
}

/// The factor on `query . key`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AttentionScale {
    /// `1 / sqrt(key_dim)`.
    KeyWidth,
    /// `1 / sqrt(width)` of whole heads of latent attention, times the square of what YaRN multiplies positions with.
    Latent,
    /// `1 / sqrt(hidden / heads)` in a model of this many blocks, else [`AttentionScale::KeyWidth`].
    HiddenShare {
        blocks: u64,
    },
    One,
}

/// Scales that llama.cpp has built in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BuiltInScales {
    /// The factor on token embeddings.
    pub embedding: f32,
    /// The factor on what blocks add is this by the root of their number.
    pub depth: f32,
    /// The factor on logits is this by the hidden size.
    pub base: f32,
}

/// What the logit scale in metadata is.
#[derive(Clone, Copy, Debug)]
pub(super) enum OutputScale {
    /// A factor on logits.
    Factor,
    /// What logits are divided by.
    Divisor,
}

/// The forward pass of a plain transformer: RMSNorm, rotary style [`RopeStyle::Neox`], a feed-forward gated with
/// SiLU.
pub(super) const PLAIN: ArchTraits = ArchTraits {
    norm: NormKind::Rms,
    rope: RopeStyle::Neox,
    halves_with_sections: false,
    whole_heads: false,
    gated_feed_forward: true,
    activation: Activation::Silu,
    scale_embedding: false,
    attention_scale: AttentionScale::KeyWidth,
    window_base: None,
    unscaled_windows: false,
    rotated: RotatedBlocks::All,
    positions: None,
    states_rotation: false,
    output_scale: OutputScale::Factor,
    built_in: None,
    needs_scales: false,
    gated_query: false,
    value_norm: false,
    norm_after_rope: false,
    norm_weights: true,
    plain_head_norms: None,
    chunked: false,
    temperature: None,
    routing: Routing {
        scores: Scores::Softmax,
        normalized: true,
        scale: 1.0,
        before: false,
    },
    states_routing: false,
    sigmoid_of: None,
    sparse: Sparse {
        blocks: 0,
        factor: 0.0,
    },
    softcaps: (None, None),
    ranks_by_shares: false,
};
