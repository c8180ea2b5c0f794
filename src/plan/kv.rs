//! The exact bytes of llama.cpp's KV cache and recurrent state for a model and its settings.
//! Arithmetic only: what does not work in llama.cpp comes back as a [`KvProblem`] beside the bytes.
//!
//! Rules: `llama-context.cpp` (context and batch), `llama-kv-cache.cpp` and `llama-kv-cache-iswa.cpp`
//! (cells, rows), `llama-memory-recurrent.cpp` (state) of llama.cpp.

use crate::dtype::Dtype;
use crate::model::spec::{Attention, Cache, ModelSpec};
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
    /// Fused attention: values are stored as they come, not transposed.
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

    /// Cells of a layer that sees the whole context, in each stream: the context, rounded up, shared
    /// out among the streams, each share rounded up.
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
    /// Why llama.cpp refuses these settings, if it does. The bytes then count part blocks as whole.
    pub problem: Option<KvProblem>,
}

impl KvCache {
    /// Everything that stays between tokens.
    pub fn total(&self) -> Bytes {
        self.full_bytes + self.window_bytes + self.recurrent_bytes
    }
}

/// Settings that llama.cpp refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// Transposed values cannot be stored in blocks.
    #[error("a {} value cache needs flash attention: turn it on or use f16 for values", dtype.name())]
    QuantizedValues {
        /// The format asked for.
        dtype: Dtype,
    },
}

/// The cache of `model` under `settings`.
///
/// A layer's keys take `row(type_k, kv_heads x key_dim) x cells x streams` bytes, its values likewise;
/// a latent (MLA) layer has no values. Without flash attention values are stored transposed and every
/// layer gets the width of the widest.
pub fn kv_cache(model: &ModelSpec, settings: &KvSettings) -> KvCache {
    let attentions = || {
        model
            .layers
            .iter()
            .filter_map(|layer| layer.mixer.attention.as_ref())
    };
    let widest_value = attentions().map(value_width).max().unwrap_or(0);
    let mut cache = KvCache {
        cells_full: settings.cells(),
        ..KvCache::default()
    };

    for attention in attentions().filter(|a| a.cache == Cache::Own && a.kv_heads > 0) {
        let cells = attention
            .window
            .map_or(cache.cells_full, |w| settings.window_cells(w));
        let values = match value_width(attention) {
            0 => 0,
            own if settings.flash_attention => own,
            _ => widest_value,
        };
        let row =
            row_bytes(settings.type_k, key_width(attention)) + row_bytes(settings.type_v, values);
        let bytes = row * cells * settings.streams();
        cache.largest_layer_bytes = cache.largest_layer_bytes.max(bytes);
        if attention.window.is_some() {
            cache.cells_window = cache.cells_window.max(cells);
            cache.window_bytes += bytes;
            cache.layers_window += 1;
        } else {
            cache.full_bytes += bytes;
            cache.layers_full += 1;
        }
    }
    let states = model
        .layers
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

/// Bytes of a row; a part block counts as a whole one.
fn row_bytes(dtype: Dtype, elements: u64) -> Bytes {
    let format = dtype.format();
    Bytes(elements.div_ceil(format.block_elements)) * format.block_bytes
}

fn problem(model: &ModelSpec, settings: &KvSettings) -> Option<KvProblem> {
    let own = model
        .layers
        .iter()
        .enumerate()
        .filter_map(|(index, layer)| {
            let attention = layer.mixer.attention.as_ref()?;
            (attention.cache == Cache::Own).then_some((index, attention))
        });
    for (layer, attention) in own {
        if settings.type_v.is_quantized() && !settings.flash_attention && attention.value_dim > 0 {
            return Some(KvProblem::QuantizedValues {
                dtype: settings.type_v,
            });
        }
        let heads = [
            (settings.type_k, attention.key_dim),
            (settings.type_v, attention.value_dim),
        ];
        for (dtype, width) in heads {
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
