//! The sizes of caches against what llama.cpp allocated.

use super::*;
use crate::dtype::Dtype::{F16, Q4_0, Q4_K, Q8_0};
use crate::model::{FeedForward, Layer, Mixer, Recurrent, RecurrentKind};
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
        kind: RecurrentKind::Convolution,
        conv_elements: 2 * 2048,
        state_elements: 0,
        inner: 3 * 2048,
    };
    let delta = Recurrent {
        kind: RecurrentKind::DeltaNet,
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
