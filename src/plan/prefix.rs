//! What a runtime's prefix cache keeps of a prompt that it has read before.
//!
//! In: the model, the runtime's memory and the tokens of the prompt that are the same. Out: the tokens that need not be read
//! again. Pure arithmetic.

use crate::model::{ModelSpec, Recurrent};
use crate::plan::kv::{key_width, value_width};
use crate::runtime::profile::Memory;

/// Bytes of an element of keys, values and convolutions: the cache has the model's 16 bits.
const HALF: u64 = 2;

/// Tokens of a block of the prefix cache of a runtime with these `memory` rules, which it keeps or reads again together; `None`
/// where any number of tokens can be kept.
///
/// In a model with recurrent states the layers share one pool of blocks of equal bytes, so a block of a layer with attention has
/// the tokens, rounded up to whole blocks of the usual size, whose keys and values take as much as one layer's state: vLLM's
/// `_align_hybrid_block_size` (784 tokens of Qwen3.5-27B, 528 of Qwen3.5-4B by its log).
pub fn block(model: &ModelSpec, memory: &Memory) -> Option<u64> {
    let usual = memory.prefix_block.as_ref()?.value.max(1);
    let mixers = || model.layers.iter().map(|layer| &layer.mixer);
    let attentions = mixers().filter_map(|mixer| mixer.attention.as_ref());
    let token = attentions
        .map(|attention| key_width(attention).saturating_add(value_width(attention)))
        .max()
        .unwrap_or(0)
        .saturating_mul(HALF);
    let full = if model.states_in_f32() { 4 } else { HALF };
    let bytes = |recurrent: &Recurrent| {
        let convolution = recurrent.conv_elements.saturating_mul(HALF);
        convolution.saturating_add(recurrent.state_elements.saturating_mul(full))
    };
    let states = mixers().filter_map(|mixer| mixer.recurrent.as_ref());
    let state = states.map(bytes).max().unwrap_or(0);
    Some(match token.saturating_mul(usual) {
        0 => usual,
        block => usual.saturating_mul(state.div_ceil(block).max(1)),
    })
}

/// Tokens that need not be read again of a prompt of `prompt` tokens whose first `cached` were read before: whole blocks, and at
/// least one token is read.
pub fn kept(model: &ModelSpec, memory: &Memory, prompt: u64, cached: u64) -> u64 {
    let most = cached.min(prompt.saturating_sub(1));
    match block(model, memory) {
        Some(block) => most - most % block.max(1),
        None => most,
    }
}
