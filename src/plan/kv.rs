//! The exact bytes of llama.cpp's KV cache and recurrent state for a model and its settings.
//! Arithmetic only: what does not work in llama.cpp comes back as a [`KvProblem`] beside the bytes.
//!
//! Rules: `llama-context.cpp` (context and batch), `llama-kv-cache.cpp` and `llama-kv-cache-iswa.cpp`
//! (cells, rows), `llama-memory-recurrent.cpp` (state) of llama.cpp.

use crate::dtype::Dtype;
use crate::model::{Attention, Cache, Layer, ModelSpec};
use crate::note::KvProblem;
use crate::units::Bytes;

/// What decides the size of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSettings {
    /// Tokens over all parallel sequences together, as llama.cpp's `-c`.
    pub context: u64,
    /// Sequences decoded side by side.
    pub parallel: u64,
    /// Tokens evaluated in one pass (`-ub`).
    pub ubatch: u64,
    /// The format of cached keys.
    pub type_k: Dtype,
    /// The format of cached values.
    pub type_v: Dtype,
    /// One pool of cells for all sequences (`--kv-unified`) instead of one each.
    pub unified: bool,
    /// Fused attention: values are not stored transposed.
    pub flash_attention: bool,
    /// Windowed layers keep the whole context (`--swa-full`).
    pub swa_full: bool,
    /// The number of cells is a multiple of this: 256 in llama.cpp.
    pub context_multiple: u64,
}

impl Default for KvSettings {
    /// llama.cpp's defaults at 4096 tokens.
    fn default() -> KvSettings {
        KvSettings {
            context: 4096,
            parallel: 1,
            ubatch: 512,
            type_k: Dtype::F16,
            type_v: Dtype::F16,
            unified: false,
            flash_attention: true,
            swa_full: false,
            context_multiple: 256,
        }
    }
}

impl KvSettings {
    /// Sequences, at least one.
    pub fn sequences(&self) -> u64 {
        self.parallel.max(1)
    }

    /// Pools of cells: one if unified, else one a sequence.
    pub fn streams(&self) -> u64 {
        if self.unified { 1 } else { self.sequences() }
    }

    /// Cells of a layer that sees the whole context, in each stream: the context, rounded up, divided by the streams,
    /// rounded up again.
    pub fn cells(&self) -> u64 {
        self.round_up(self.round_up(self.context.max(1)) / self.streams())
    }

    /// Cells of a layer that sees `window` tokens, in each stream:
    /// `min(cells, window x (unified ? sequences : 1) + ubatch)`, rounded up.
    pub fn window_cells(&self, window: u64) -> u64 {
        if self.swa_full {
            return self.cells();
        }
        let sharing = if self.unified { self.sequences() } else { 1 };
        let wanted = window.saturating_mul(sharing).saturating_add(self.tokens());
        self.round_up(wanted.min(self.cells()))
    }

    /// Tokens of one pass: the smaller of the context and the micro-batch.
    pub fn tokens(&self) -> u64 {
        self.ubatch.min(self.context).max(1)
    }

    fn round_up(&self, cells: u64) -> u64 {
        let multiple = self.context_multiple.max(1);
        cells.div_ceil(multiple).max(1).saturating_mul(multiple)
    }
}

/// The cache of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvCache {
    /// Cells in each stream of a layer that sees the whole context.
    pub cells_full: u64,
    /// Cells in each stream of a windowed layer; 0 if the model has none.
    pub cells_window: u64,
    /// Keys and values of all layers that see the whole context.
    pub full_bytes: Bytes,
    /// Keys and values of all windowed layers.
    pub window_bytes: Bytes,
    /// Convolution windows and state matrices of all recurrent layers, always F32.
    pub recurrent_bytes: Bytes,
    /// Layers with a full cache of their own.
    pub layers_full: u64,
    /// Layers with a windowed cache of their own.
    pub layers_window: u64,
    /// Keys and values of the layer that holds most. (llama.cpp allocates each of the three sums
    /// above as one buffer.)
    pub largest_layer_bytes: Bytes,
    /// Keys of one layer, or its values, whichever are most.
    pub largest_tensor_bytes: Bytes,
    /// Why llama.cpp refuses these settings, if it does. Incomplete blocks then count as whole ones in the bytes.
    pub problem: Option<KvProblem>,
}

impl KvCache {
    /// Cache and recurrent state together.
    pub fn total(&self) -> Bytes {
        self.full_bytes + self.window_bytes + self.recurrent_bytes
    }
}

/// The cache of `model` under `settings`.
///
/// A layer's keys take `row(type_k, kv_heads x key_dim) x cells x streams` bytes, its values likewise;
/// a latent (MLA) layer has no values. Without flash attention values are stored transposed and every
/// layer gets the width of the widest.
pub fn kv_cache(model: &ModelSpec, settings: &KvSettings) -> KvCache {
    kv_cache_of(model, &model.layers, settings)
}

/// The cache of some `layers` of `model`, as one of several devices holds it.
pub fn kv_cache_of(model: &ModelSpec, layers: &[Layer], settings: &KvSettings) -> KvCache {
    fn attentions(layers: &[Layer]) -> impl Iterator<Item = &Attention> {
        let mixers = layers.iter().map(|layer| &layer.mixer);
        mixers.filter_map(|mixer| mixer.attention.as_ref())
    }
    let widest_value = attentions(&model.layers)
        .map(value_width)
        .max()
        .unwrap_or(0);
    let mut cache = KvCache {
        cells_full: settings.cells(),
        ..KvCache::default()
    };

    // The runtime with blocks that see images alone has the same cells for all blocks.
    let has_cells = |a: &&Attention| matches!(a.cache, Cache::Own | Cache::Images);
    for attention in attentions(layers).filter(|a| has_cells(a) && a.kv_heads > 0) {
        let cells = attention
            .window
            .map_or(cache.cells_full, |w| settings.window_cells(w));
        let values = match value_width(attention) {
            0 => 0,
            own if settings.flash_attention => own,
            _ => widest_value,
        };
        let [keys, values] = [
            settings.type_k.row_bytes(key_width(attention)),
            settings.type_v.row_bytes(values),
        ]
        .map(|row| row * cells * settings.streams());
        let bytes = keys + values;
        cache.largest_layer_bytes = cache.largest_layer_bytes.max(bytes);
        cache.largest_tensor_bytes = cache.largest_tensor_bytes.max(keys).max(values);
        if attention.window.is_some() {
            cache.cells_window = cache.cells_window.max(cells);
            cache.window_bytes += bytes;
            cache.layers_window += 1;
        } else {
            cache.full_bytes += bytes;
            cache.layers_full += 1;
        }
    }
    let states = layers
        .iter()
        .filter_map(|layer| layer.mixer.recurrent.as_ref());
    cache.recurrent_bytes = states
        .map(|r| Bytes(4) * r.conv_elements.saturating_add(r.state_elements) * settings.sequences())
        .sum();
    cache.problem = problem(model, settings);
    cache
}

/// Elements of one token's cached keys.
pub(super) fn key_width(attention: &Attention) -> u64 {
    attention.kv_heads.saturating_mul(attention.key_dim)
}

/// Elements of one token's cached values.
pub(super) fn value_width(attention: &Attention) -> u64 {
    attention.kv_heads.saturating_mul(attention.value_dim)
}

/// The first rule of `llama_init_from_model` that the settings break.
fn problem(model: &ModelSpec, settings: &KvSettings) -> Option<KvProblem> {
    let KvSettings { type_k, type_v, .. } = *settings;
    let attentions = model.layers.iter().enumerate();
    for (layer, attention) in attentions.filter_map(|(i, l)| Some((i, l.mixer.attention.as_ref()?)))
    {
        let latent = attention.value_dim == 0;
        if latent && type_k != type_v {
            return Some(KvProblem::LatentTypes { type_k, type_v });
        }
        if type_v.is_quantized() && !settings.flash_attention {
            return Some(KvProblem::QuantizedValues { dtype: type_v });
        }
        for (dtype, width) in [(type_k, attention.key_dim), (type_v, attention.value_dim)] {
            if !dtype.divides(width) {
                return Some(KvProblem::HeadWidth {
                    dtype,
                    layer,
                    width,
                });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
