//! Settings of the KV cache that llama.cpp refuses, each with what to do instead; and how a cache keeps prompts.

use crate::dtype::Dtype;

/// A setting of the KV cache that llama.cpp refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvProblem {
    /// A head's width is not a whole number of blocks of the cache's format.
    #[error("a {} cache needs head widths that are multiples of {}, and layer {layer} has {width}: use f16",
        dtype.name(), dtype.format().block_elements)]
    HeadWidth {
        /// The format asked for.
        dtype: Dtype,
        /// The first layer it does not suit.
        layer: usize,
        /// Elements of that layer's key or value head.
        width: u64,
    },
    /// A latent (MLA) cache stores keys and values as one, so their types cannot differ.
    #[error("this model caches keys and values as one, so {} and {} cannot differ: use {} for both",
        type_k.name(), type_v.name(), type_k.name())]
    LatentTypes {
        /// The format asked for keys.
        type_k: Dtype,
        /// The format asked for values.
        type_v: Dtype,
    },
    /// Without flash attention values are stored transposed, which block formats do not allow.
    #[error("a {} value cache needs flash attention: turn it on or use f16 for values", dtype.name())]
    QuantizedValues {
        /// The format asked for.
        dtype: Dtype,
    },
}

/// How a runtime keeps prompts of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefixes {
    /// Any number of tokens: the runtime's profile names no blocks.
    Tokens,
    /// Whole blocks of so many tokens.
    Blocks {
        /// Tokens of each.
        tokens: u64,
        /// Whether the model has recurrent states, which set that number.
        hybrid: bool,
    },
    /// None, because the model has no layer with keys and values.
    Nothing,
}
