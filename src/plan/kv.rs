//! The exact bytes of llama.cpp's KV cache and recurrent state for a model and its settings.
//! Arithmetic only: what does not work in llama.cpp comes back as a [`KvProblem`] beside the bytes.
//!
//! Rules: `llama-context.cpp` (context and batch), `llama-kv-cache.cpp` and `llama-kv-cache-iswa.cpp`
//! (cells, rows), `llama-memory-recurrent.cpp` (state) of llama.cpp.

use crate::dtype::Dtype;
use crate::model::{Attention, Cache, ModelSpec};
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
    /// Keys of one layer, or its values, whichever are most.
    pub largest_tensor_bytes: Bytes,
    /// Why llama.cpp refuses these settings, if it does. The bytes then count part blocks as whole.
    pub problem: Option<KvProblem>,
}

impl KvCache {
    /// Everything that stays between tokens.
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
mod tests {
    use super::*;
    use crate::dtype::Dtype::{F16, Q4_0, Q4_K, Q8_0};
    use crate::model::{FeedForward, Layer, Mixer, Recurrent};
    use crate::plan::golden::{GOLDEN, model, settings};

    fn mib(bytes: Bytes) -> f64 {
        bytes.as_f64() / Bytes::MIB.as_f64()
    }

    /// A model of one attention layer each.
    fn attentions(layers: &[Attention]) -> ModelSpec {
        let layer = |attention: &Attention| Layer {
            mixer: Mixer {
                attention: Some(attention.clone()),
                recurrent: None,
            },
            feed_forward: FeedForward::None,
        };
        model(1024, 32000, layers.iter().map(layer).collect())
    }

    fn attention(kv_heads: u64, key_dim: u64, value_dim: u64) -> Attention {
        Attention {
            heads: 16,
            kv_heads,
            key_dim,
            value_dim,
            window: None,
            cache: Cache::Own,
        }
    }

    #[test]
    fn every_cache_equals_what_llama_cpp_allocated() {
        for golden in GOLDEN {
            let model = golden.shape.model();
            for (index, settings) in settings().iter().enumerate() {
                let cache = kv_cache(&model, settings);
                for (found, printed) in [
                    (cache.full_bytes, golden.full),
                    (cache.window_bytes, golden.window),
                ] {
                    let (found, printed) = (mib(found), printed[index]);
                    // llama.cpp prints two decimals; every figure here is a multiple of 1/32 MiB.
                    let equal = printed < 0.0 || (found - printed).abs() < 0.0051;
                    assert!(equal, "{} {settings:?}: {found} for {printed}", golden.name);
                }
                assert_eq!(cache.problem, None);
            }
        }
    }

    #[test]
    fn qwen3_1_7b_at_4096_takes_469_762_048_bytes() {
        let golden = GOLDEN.iter().find(|g| g.name == "Qwen3-1.7B").unwrap();
        let cache = kv_cache(&golden.shape.model(), &KvSettings::default());
        assert_eq!(cache.full_bytes, Bytes(469_762_048));
        assert_eq!((cache.cells_full, cache.cells_window), (4096, 0));
        assert_eq!((cache.layers_full, cache.layers_window), (28, 0));
        assert_eq!(cache.largest_layer_bytes, Bytes(469_762_048 / 28));
        assert_eq!(cache.largest_tensor_bytes, Bytes(469_762_048 / 56));
    }

    #[test]
    fn gemma3n_layers_that_share_a_cache_take_none() {
        let golden = GOLDEN
            .iter()
            .find(|g| g.name.starts_with("gemma-3n"))
            .unwrap();
        let cache = kv_cache(&golden.shape.model(), &KvSettings::default());
        assert_eq!((cache.layers_full, cache.layers_window), (4, 16));
        assert_eq!((cache.cells_full, cache.cells_window), (4096, 1024));
    }

    #[test]
    fn contexts_are_rounded_up_to_whole_cells() {
        let model = attentions(&[attention(1, 64, 64)]);
        let cells = |context, parallel, unified| {
            let settings = KvSettings {
                context,
                parallel,
                unified,
                ..KvSettings::default()
            };
            kv_cache(&model, &settings).cells_full
        };
        assert_eq!(cells(4096, 1, false), 4096);
        assert_eq!(cells(4097, 1, false), 4352);
        assert_eq!(cells(1, 1, false), 256);
        assert_eq!(cells(0, 0, false), 256);
        // 8192 / 3 = 2730 a sequence, rounded up to 2816.
        assert_eq!(cells(8192, 3, false), 2816);
        assert_eq!(cells(8192, 3, true), 8192);
    }

    #[test]
    fn windows_hold_the_window_and_a_pass() {
        let mut settings = KvSettings {
            context: 8192,
            ..KvSettings::default()
        };
        assert_eq!(settings.window_cells(512), 1024);
        assert_eq!(settings.window_cells(4096), 4608);
        assert_eq!(settings.window_cells(100_000), 8192);
        settings = KvSettings {
            parallel: 4,
            unified: true,
            ..settings
        };
        assert_eq!(settings.window_cells(512), 2560);
        settings = KvSettings {
            swa_full: true,
            ..settings
        };
        assert_eq!(settings.window_cells(512), 8192);
        // Each of four sequences has 1024 / 4 cells, fewer than window and pass.
        settings = KvSettings {
            context: 1024,
            parallel: 4,
            ..KvSettings::default()
        };
        assert_eq!(settings.window_cells(512), 256);
    }

    #[test]
    fn a_latent_cache_has_keys_only() {
        // DeepSeek-V2-Lite: 512 latent and 64 rope elements a token and layer, 27 layers, 2 bytes.
        let model = attentions(&vec![attention(1, 576, 0); 27]);
        let cache = kv_cache(&model, &KvSettings::default());
        assert_eq!(cache.full_bytes, Bytes(27 * 576 * 2 * 4096));
        let transposed = KvSettings {
            flash_attention: false,
            ..KvSettings::default()
        };
        assert_eq!(kv_cache(&model, &transposed).full_bytes, cache.full_bytes);
        let mixed = KvSettings {
            type_k: Q8_0,
            ..KvSettings::default()
        };
        let problem = kv_cache(&model, &mixed).problem;
        assert_eq!(
            problem,
            Some(KvProblem::LatentTypes {
                type_k: Q8_0,
                type_v: F16
            })
        );
    }

    #[test]
    fn transposed_values_get_the_widest_layers_width() {
        let model = attentions(&[attention(8, 64, 64), attention(2, 64, 64)]);
        let settings = KvSettings {
            context: 256,
            ..KvSettings::default()
        };
        let transposed = KvSettings {
            flash_attention: false,
            ..settings
        };
        assert_eq!(
            kv_cache(&model, &settings).full_bytes,
            Bytes(256 * 2 * (512 + 512 + 128 + 128))
        );
        assert_eq!(
            kv_cache(&model, &transposed).full_bytes,
            Bytes(256 * 2 * (512 + 512 + 128 + 512))
        );
    }

    #[test]
    fn recurrent_state_is_f32_and_one_a_sequence() {
        // LFM2-1.2B: two columns of 2048 for each of ten convolutions; Qwen3-Next adds a state matrix.
        let short = Recurrent {
            conv_elements: 2 * 2048,
            state_elements: 0,
            inner: 3 * 2048,
        };
        let delta = Recurrent {
            conv_elements: 3 * 8192,
            state_elements: 128 * 4096,
            inner: 8192,
        };
        let layer = |recurrent: &Recurrent| Layer {
            mixer: Mixer {
                attention: None,
                recurrent: Some(recurrent.clone()),
            },
            feed_forward: FeedForward::None,
        };
        let model = model(2048, 65536, vec![layer(&short), layer(&delta)]);
        let settings = KvSettings {
            parallel: 3,
            ..KvSettings::default()
        };
        let cache = kv_cache(&model, &settings);
        assert_eq!(
            cache.recurrent_bytes,
            Bytes(3 * 4 * (4096 + 24576 + 524_288))
        );
        assert_eq!(cache.total(), cache.recurrent_bytes);
    }

    #[test]
    fn what_llama_cpp_refuses_is_said_with_the_way_out() {
        let model = attentions(&[attention(8, 128, 128), attention(8, 80, 80)]);
        let with = |type_k, type_v, flash_attention| {
            let settings = KvSettings {
                type_k,
                type_v,
                flash_attention,
                ..KvSettings::default()
            };
            kv_cache(&model, &settings).problem.map(|p| p.to_string())
        };
        assert_eq!(with(F16, F16, false), None);
        assert_eq!(
            with(F16, Q8_0, true).as_deref(),
            Some(
                "a Q8_0 cache needs head widths that are multiples of 32, and layer 1 has 80: use f16"
            )
        );
        assert!(with(Q4_K, F16, true).is_some_and(|text| text.contains("layer 0 has 128")));
        assert_eq!(
            with(F16, Q4_0, false).as_deref(),
            Some("a Q4_0 value cache needs flash attention: turn it on or use f16 for values")
        );
    }

    #[test]
    fn absurd_settings_saturate() {
        let model = attentions(&[attention(u64::MAX, u64::MAX, u64::MAX)]);
        let settings = KvSettings {
            context: u64::MAX,
            parallel: u64::MAX,
            ..KvSettings::default()
        };
        assert_eq!(kv_cache(&model, &settings).full_bytes, Bytes(u64::MAX));
        let settings = KvSettings {
            context_multiple: 0,
            ubatch: 0,
            ..KvSettings::default()
        };
        assert_eq!(kv_cache(&model, &settings).cells_full, 4096);
    }
}
