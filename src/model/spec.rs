//! The description of a model that the plan, the quantizer and the decoder share.
//!
//! Shapes are written outermost dimension first: a projection is `[rows out, columns in]`.

use std::fmt;

use crate::checkpoint::SourceFormat;
use crate::dtype::{Dtype, elements};
use crate::model::forward_spec::ForwardSpec;
use crate::model::packed::FoldedWeight;
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole;
use crate::units::Bytes;

/// A model: what it computes, layer by layer, and the tensors it computes with.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The checkpoint's name.
    pub name: String,
    /// llama.cpp's name of the architecture (`llama`, `qwen3`, ...).
    pub architecture: String,
    /// What runtimes do for that architecture beyond what blocks and tensors say.
    pub quirks: Quirks,
    /// Logical weights of the text model as published: packed words unpacked, nothing that
    /// conversion adds or pads.
    pub parameters: u64,
    /// Dimensions that hold for the whole model.
    pub dims: Dims,
    /// Every block in order. Empty where the architecture is unknown.
    pub layers: Vec<Layer>,
    /// How tensors are put together when the model runs; or why it is not run here: not a GGUF, an
    /// architecture that the decoder does not know, a value that only a forward pass needs and that
    /// is missing or has no meaning.
    pub forward: Result<ForwardSpec, String>,
    /// Every tensor of the text model, in llama.cpp's names and shapes.
    pub tensors: Vec<Tensor>,
    /// The stored tensors of a Hugging Face checkpoint with packing folded away, in file order,
    /// towers and spare copies included; empty for a GGUF and without weights.
    pub stored: Vec<FoldedWeight>,
    /// Vision and audio towers and projectors, counted apart.
    pub towers: Vec<Tower>,
    /// Stored tensors that decoding text does without, kind by kind.
    pub left_out: Vec<LeftOut>,
    /// The output projection shares the token embedding.
    pub tied: bool,
    /// What kind of checkpoint it was read from.
    pub source: SourceFormat,
    /// The architecture whose blocks these were taken for, where its own is not known.
    pub assumed: Option<&'static str>,
    /// How the checkpoint was already quantized, if it was (`fp8`, `gptq`, ...).
    pub prequantized: Option<String>,
    /// `config.json` with what it leaves out filled in; null for a GGUF.
    pub config: serde_json::Value,
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
    /// The longest context the model was made for, in tokens.
    pub context: u64,
    /// Width of one layer's slice of the per-layer embedding (gemma3n, gemma4), else 0.
    pub per_layer_embedding: u64,
    /// Parallel residual streams (gemma3n's AltUp), else 1.
    pub streams: u64,
    /// Experts in a routed block; llama.cpp's type rules treat eight of them apart.
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
    /// Sliding window in tokens; `None` sees the whole context.
    pub window: Option<u64>,
    /// Where this block's keys and values live.
    pub cache: Cache,
}

/// Where a block's keys and values live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In a cache of its own.
    Own,
    /// In the cache of an earlier block.
    Shared,
}

/// Recurrent state of one block, in F32 elements per sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// The rolling window of a short convolution.
    pub conv_elements: u64,
    /// The state matrix.
    pub state_elements: u64,
    /// Width of the widest activation inside the mixer (compute buffers).
    pub inner: u64,
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
        /// Experts stored.
        count: u64,
        /// Experts a token uses.
        used: u64,
        /// Inner width of one expert.
        inner: u64,
        /// Inner width of the expert every token uses; 0 if there is none.
        shared_inner: u64,
    },
}

/// A tensor of the text model in llama.cpp's naming.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The GGUF name, `blk.0.attn_q.weight`.
    pub name: String,
    /// What it is for.
    pub role: TensorRole,
    /// The block it belongs to.
    pub layer: Option<u32>,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// The type it has before any scheme is applied.
    pub dtype: Dtype,
    /// The bytes it has in the checkpoint now (packed words and their scales included).
    pub stored_bytes: Bytes,
    /// The stored tensors it is made from, as indices into the checkpoint's tensors; empty when
    /// the tensor list follows from a `config.json` alone, or for a tensor that conversion adds.
    pub sources: Vec<u32>,
}

/// A vision or audio tower or projector.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    /// The name prefix its tensors share.
    pub name: String,
    /// Logical weights.
    pub parameters: u64,
    /// Bytes in the checkpoint.
    pub bytes: Bytes,
}

/// Stored tensors of one kind that no file made here holds and no plan counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeftOut {
    /// What they are.
    pub name: &'static str,
    /// Why decoding does without them.
    pub reason: &'static str,
    /// How many.
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

impl Tensor {
    /// Logical weights.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }

    /// Whether it is a weight, by the end of its name: no bias, no scale, no table without a suffix.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with("weight")
    }

    /// Elements of a row: what block formats divide.
    pub fn row(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }
}
