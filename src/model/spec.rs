//! The description of a model that planner, quantizer and decoder share.
//!
//! Shapes are written outermost dimension first: a projection is `[outputs, inputs]`.

use std::fmt;

use crate::checkpoint::{Retrieval, SourceFormat};
use crate::model::forward_spec::ForwardSpec;
use crate::model::packed::FoldedWeight;
use crate::model::projector::{Projector, ProjectorError};
use crate::model::quirks::Quirks;
use crate::model::tensor::Tensor;
use crate::units::Bytes;

/// A model: what it computes, layer by layer, and the tensors it computes with.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The checkpoint's name.
    pub name: String,
    /// llama.cpp's name of the architecture (`llama`, `qwen3`, ...).
    pub architecture: String,
    /// Special cases of runtimes for that architecture.
    pub quirks: Quirks,
    /// The number of parameters of the text model as published: unpacked, without what conversion adds or pads.
    pub parameters: u64,
    /// Dimensions that hold for the whole model.
    pub dims: Dims,
    /// Every block in order. Empty where the architecture is unknown.
    pub layers: Vec<Layer>,
    /// The arithmetic of its forward pass, which the description of a GGUF has; or why the decoder does not run it: the
    /// decoder does not support the architecture, or a value that only a forward pass needs is missing or impossible.
    pub forward: Result<ForwardSpec, String>,
    /// Blocks behind the last that draft further tokens (multi-token prediction).
    pub ahead: u64,
    /// Every tensor of the text model, with llama.cpp's names and shapes.
    pub tensors: Vec<Tensor>,
    /// All stored weights of a Hugging Face checkpoint with their companions folded in, in file order, including
    /// towers and weights that are left out; empty for a GGUF and without weights.
    pub stored: Vec<FoldedWeight>,
    /// Vision and audio towers and projectors, which are not in `tensors`.
    pub towers: Vec<Tower>,
    /// The image encoder and its projection, where they are of a known kind; also among `towers` where they are stored.
    pub projector: Option<Projector>,
    /// Why there is none, where the configuration describes an encoder.
    pub projector_problem: Option<ProjectorError>,
    /// Stored tensors that decoding text does not need, by kind.
    pub left_out: Vec<LeftOut>,
    /// Whether the output head is the token embedding.
    pub tied: bool,
    /// The format of the checkpoint.
    pub source: SourceFormat,
    /// The architecture that was assumed, if the model's own is not known.
    pub assumed: Option<&'static str>,
    /// How the checkpoint is quantized, if it is (`fp8`, `gptq`, ...).
    pub prequantized: Option<String>,
    /// `config.json` with defaults filled in; null for a GGUF.
    pub config: serde_json::Value,
    /// What it is for, if it turns texts into numbers and writes none.
    pub retrieval: Option<Retrieval>,
    /// The tokens of context that it is served with, unless another number is asked for.
    pub served_context: Option<u64>,
}

impl ModelSpec {
    /// Why the image encoder is not described, if it is of a known kind.
    pub fn unread_projector(&self) -> Option<ProjectorError> {
        let problem = self.projector_problem.clone();
        problem.filter(ProjectorError::is_of_known_kind)
    }

    /// Whether a token attends to all of its text, so that nothing is cached.
    pub fn is_encoder(&self) -> bool {
        let mut attentions = self
            .layers
            .iter()
            .filter_map(|l| l.mixer.attention.as_ref());
        attentions.any(|attention| attention.cache == Cache::None)
    }

    /// Whether anything bounds its context but memory: what it was trained for, or a cache that grows with it.
    pub fn bounds_context(&self) -> bool {
        let attentions = self.layers.iter().map(|l| &l.mixer.attention);
        self.dims.context > 0 || self.layers.is_empty() || attentions.flatten().next().is_some()
    }

    /// Whether runtimes that keep other states in 16 bits keep this model's in 32, as its configuration may ask.
    pub fn states_in_f32(&self) -> bool {
        let text = self.config.get("text_config").unwrap_or(&self.config);
        let named = ["mamba_ssm_dtype", "mamba_ssm_cache_dtype"];
        named
            .iter()
            .any(|key| text.get(key).is_some_and(|dtype| dtype == "float32"))
    }

    /// Whether any block has a window.
    pub fn has_windows(&self) -> bool {
        self.layers.iter().any(Layer::is_windowed)
    }

    /// Whether queries and keys of block `index` are rotated by position.
    pub fn rotates(&self, index: usize) -> bool {
        let blocks = match &self.forward {
            Ok(forward) => forward.rope.blocks,
            Err(_) => self.quirks.graph.rotated,
        };
        let is_windowed = self.layers.get(index).is_some_and(Layer::is_windowed);
        blocks.has(index, is_windowed, self.has_windows())
    }
}

/// Dimensions that hold for the whole model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dims {
    /// Width of the residual stream.
    pub hidden: u64,
    /// Rows of the token embedding.
    pub vocab: u64,
    /// Blocks that decode a token.
    pub blocks: u64,
    /// The longest context that the model was trained for, in tokens.
    pub context: u64,
    /// Width of one block's slice of the per-layer embedding (gemma3n, gemma4), else 0.
    pub per_layer_embedding: u64,
    /// Parallel residual streams (gemma3n's AltUp), else 1.
    pub streams: u64,
    /// Experts in a routed block; llama.cpp's type rules have a special case for 8.
    pub experts: u64,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What mixes channels.
    pub feed_forward: FeedForward,
}

impl Layer {
    /// Whether its attention has a window.
    pub fn is_windowed(&self) -> bool {
        let attention = self.mixer.attention.as_ref();
        attention.is_some_and(|attention| attention.window.is_some())
    }
}

/// What mixes tokens in a block. A block can hold both (falcon-h1 runs them side by side).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mixer {
    /// Softmax attention, if the block has it.
    pub attention: Option<Attention>,
    /// A recurrent or convolutional mixer, if the block has it.
    pub recurrent: Option<Recurrent>,
}

/// Softmax attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Elements of a key head (of the cached latent for MLA).
    pub key_dim: u64,
    /// Elements of a value head; 0 where no V is cached (MLA).
    pub value_dim: u64,
    /// Sliding window in tokens; `None` is full attention.
    pub window: Option<u64>,
    /// Where this block's keys and values are cached.
    pub cache: Cache,
}

/// Where a block's keys and values are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In a cache of its own.
    Own,
    /// In the cache of an earlier block.
    Shared,
    /// Nowhere: a token attends to all of its text, which is evaluated in one pass.
    None,
    /// In a cache of its own, of what it sees in images and not of the text.
    Images,
}

/// Recurrent state of one block, in F32 elements per sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// How it goes from one token to the next.
    pub kind: RecurrentKind,
    /// Elements of the rolling window of a short convolution.
    pub conv_elements: u64,
    /// Elements of the state matrix.
    pub state_elements: u64,
    /// Width of the widest activation inside the mixer, for compute buffers.
    pub inner: u64,
}

/// How a recurrent mixer goes from one token to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentKind {
    /// A short convolution alone.
    Convolution,
    /// Mamba 2: heads, each with a matrix that decays.
    StateSpace,
    /// The same, of which time steps and what is added and read are projected from what was convolved, as those of Mamba 1.
    ProjectedSpace,
    /// Mamba 1: channels, each with a row of numbers that decay on their own.
    Scan,
    /// A gated delta net: matrices that a token corrects.
    DeltaNet,
    /// RWKV 7: the same, with what a token takes from the one before.
    TimeMix,
}

/// What mixes channels in a block.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// No feed-forward.
    None,
    /// One feed-forward of this inner width.
    Dense {
        /// Inner width.
        inner: u64,
    },
    /// Routed experts.
    Experts {
        /// Number of experts.
        count: u64,
        /// Experts that are selected for a token.
        used: u64,
        /// Inner width of one expert.
        inner: u64,
        /// Inner width of the shared expert, which every token uses; 0 if there is none.
        shared_inner: u64,
    },
}

/// A vision or audio tower or projector.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    /// The name of its kind, such as `vision tower`.
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes in the checkpoint.
    pub bytes: Bytes,
}

/// Stored tensors of one kind that are not counted in plans and not written to files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeftOut {
    /// The name of the kind.
    pub name: &'static str,
    /// Why decoding does not need them.
    pub reason: &'static str,
    /// Number of tensors.
    pub tensors: u64,
    /// Bytes in the checkpoint.
    pub bytes: Bytes,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = match self.tensors {
            1 => "1 tensor".to_owned(),
            n => format!("{n} tensors"),
        };
        let LeftOut {
            name,
            reason,
            bytes,
            ..
        } = self;
        write!(
            f,
            "stored and left out: {name} ({tensors}, {bytes}), because {reason}"
        )
    }
}
