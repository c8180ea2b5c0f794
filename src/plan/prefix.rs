//! What a runtime's prefix cache keeps of a prompt that it has read before.
//!
//! In: the model, the runtime's memory and the tokens of the prompt that are the same. Out: the tokens that need not be read
//! again. Pure arithmetic.

use crate::model::{Attention, Cache, ModelSpec, Recurrent};
use crate::note::Prefixes;
use crate::plan::kv::{key_width, value_width};
use crate::runtime::profile::Memory;

/// Bytes of an element of keys, values and convolutions: the cache has the model's 16 bits.
const HALF: u64 = 2;

/// How a runtime with these `memory` rules keeps prompts of `model`.
///
/// In a model with recurrent states all layers share one pool of blocks of equal bytes. So a block has as many whole blocks of the
/// usual tokens as it takes for keys and values of one layer to be at least as large as the state of another: vLLM's
/// `_align_hybrid_block_size`, whose log says "Setting attention block size to 784 tokens" for Qwen3.5-27B. A latent that is key and
/// value counts twice there.
pub fn prefixes(model: &ModelSpec, memory: &Memory) -> Prefixes {
    let Some(usual) = memory.prefix_block.as_ref() else {
        return Prefixes::Tokens;
    };
    let usual = usual.value.max(1);
    let mixers = || model.layers.iter().map(|layer| &layer.mixer);
    let width = |attention: &Attention| match value_width(attention) {
        0 => key_width(attention).saturating_mul(2),
        values => key_width(attention).saturating_add(values),
    };
    let cached = mixers().filter_map(|mixer| mixer.attention.as_ref());
    let cached = cached.filter(|attention| attention.cache != Cache::None);
    let Some(token) = cached.map(width).max().filter(|width| *width > 0) else {
        return Prefixes::Nothing;
    };
    let full = if has_full_states(model) { 4 } else { HALF };
    let bytes = |recurrent: &Recurrent| {
        let convolution = recurrent.conv_elements.saturating_mul(HALF);
        convolution.saturating_add(recurrent.state_elements.saturating_mul(full))
    };
    let states = mixers().filter_map(|mixer| mixer.recurrent.as_ref());
    let state = states.map(bytes).max().unwrap_or(0);
    let block = token.saturating_mul(HALF).saturating_mul(usual);
    Prefixes::Blocks {
        tokens: usual.saturating_mul(state.div_ceil(block).max(1)),
        hybrid: state > 0,
    }
}

/// Whether vLLM keeps the states in 32 bits: always for some architectures, else where the configuration asks for it.
fn has_full_states(model: &ModelSpec) -> bool {
    let text = model.config.get("text_config").unwrap_or(&model.config);
    let asked = ["mamba_ssm_dtype", "mamba_ssm_cache_dtype"];
    let mut asked = asked.iter().filter_map(|key| text.get(key));
    model.quirks.vllm_full_states || asked.any(|dtype| dtype == "float32")
}

/// Tokens that need not be read again of a prompt of `prompt` tokens whose first `cached` were read before: at least one token
/// is read.
pub fn kept(model: &ModelSpec, memory: &Memory, prompt: u64, cached: u64) -> u64 {
    let most = cached.min(prompt.saturating_sub(1));
    if most == 0 {
        return 0;
    }
    match prefixes(model, memory) {
        Prefixes::Tokens => most,
        Prefixes::Blocks { tokens, .. } => most - most % tokens.max(1),
        Prefixes::Nothing => 0,
    }
}
