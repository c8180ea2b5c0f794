//! Figures that llama.cpp itself printed.

use super::*;
use crate::dtype::Dtype::{F16, Q8_0};
use crate::model::TensorRole;
use crate::model::{
    Attention, Cache, FeedForward, Layer, Mixer, ModelSpec, Recurrent, RecurrentKind, Tensor,
    quirks_of,
};
use crate::plan::golden::{GOLDEN, Shape, model, settings};

const ALL_ROWS: u64 = u64::MAX;

fn mib(bytes: Bytes) -> f64 {
    bytes.as_f64() / Bytes::MIB.as_f64()
}

fn shape(
    layers: usize,
    [hidden, vocab]: [u64; 2],
    [heads, kv_heads, head_dim]: [u64; 3],
    inner: u64,
) -> Shape {
    Shape {
        layers,
        own_cache: layers,
        hidden,
        vocab,
        heads,
        kv_heads,
        head_dim,
        inner,
        window: None,
        streams: 1,
        per_layer: 0,
    }
}

fn experts(
    mut model: ModelSpec,
    count: u64,
    used: u64,
    inner: u64,
    shared_inner: u64,
) -> ModelSpec {
    for layer in &mut model.layers {
        layer.feed_forward = FeedForward::Experts {
            count,
            used,
            inner,
            shared_inner,
        };
    }
    model
}

/// Puts `recurrent` in place of every attention but those of `kept`.
fn hybrid(mut model: ModelSpec, kept: &[usize], recurrent: &Recurrent) -> ModelSpec {
    for (index, layer) in model.layers.iter_mut().enumerate() {
        if !kept.contains(&index) {
            layer.mixer = Mixer {
                attention: None,
                recurrent: Some(recurrent.clone()),
            };
        }
    }
    model
}

fn with_tensor(mut model: ModelSpec, layer: u32, name: &str, rows: u64) -> ModelSpec {
    model.tensors.push(Tensor {
        role: TensorRole::of_gguf_name(&format!("blk.{layer}.{name}")).0,
        name: format!("blk.{layer}.{name}.weight"),
        layer: Some(layer),
        shape: vec![rows, model.dims.hidden],
        dtype: F16,
        stored_bytes: Bytes(0),
        sources: Vec::new(),
    });
    model
}

#[test]
fn cpu_buffers_of_eleven_models_are_llama_cpps() {
    let mut misses = Vec::new();
    for golden in GOLDEN {
        // The streams of gemma3n pack a little differently; everything else is exact.
        let tolerance = if golden.shape.streams > 1 {
            0.04
        } else {
            0.0001
        };
        let model = golden.shape.model();
        for (settings, expected) in settings().iter().zip(golden.compute) {
            let found = mib(compute(&model, settings, ALL_ROWS, ComputeBackend::Cpu).device_bytes);
            if expected > 0.0 && (found - expected).abs() > expected * tolerance + 0.006 {
                misses.push(format!(
                    "{} {settings:?}: {found:.2} for {expected}",
                    golden.name
                ));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

/// Seventeen settings and the rows of logits they reserve.
fn variations() -> Vec<(KvSettings, u64)> {
    let base = KvSettings {
        context: 8192,
        ..KvSettings::default()
    };
    let eight = [
        base,
        KvSettings {
            context: 4096,
            ubatch: 64,
            ..base
        },
        KvSettings {
            ubatch: 1024,
            ..base
        },
        KvSettings {
            context: 16384,
            parallel: 4,
            ..base
        },
        KvSettings {
            flash_attention: false,
            ..base
        },
        KvSettings {
            context: 2048,
            flash_attention: false,
            ..base
        },
        KvSettings {
            type_k: Q8_0,
            type_v: Q8_0,
            ..base
        },
        KvSettings {
            context: 65536,
            ..base
        },
    ];
    let unified = KvSettings {
        context: 16384,
        parallel: 4,
        unified: true,
        ..base
    };
    let one_row = eight.iter().map(|s| (*s, s.parallel));
    let all_rows = eight.iter().map(|s| (*s, ALL_ROWS));
    one_row.chain(all_rows).chain([(unified, 4)]).collect()
}

/// llama.cpp 0.5.0-dev, CPU backend, on models of these shapes cut to a few layers: compute buffers
/// in MiB in the order of [`variations`]. The tolerance is what the replay is known to reach.
#[test]
fn cpu_buffers_of_other_architectures_are_close() {
    let check = |name: &str, model: &ModelSpec, tolerance: f64, expected: [f64; 17]| {
        for ((settings, rows), expected) in variations().iter().zip(expected) {
            let found = mib(compute(model, settings, *rows, ComputeBackend::Cpu).device_bytes);
            assert!(
                (found - expected).abs() <= expected * tolerance + 0.006,
                "{name} {settings:?} with {rows} rows: {found:.2} for {expected}"
            );
        }
    };

    let tinyllama = shape(22, [2048, 32000], [32, 4, 64], 5632).model();
    check(
        "TinyLlama",
        &tinyllama,
        0.0001,
        [
            57.01, 6.63, 114.02, 53.01, 549.01, 153.01, 53.04, 113.01, 70.50, 8.81, 141.00, 70.50,
            549.01, 153.01, 74.50, 113.01, 65.01,
        ],
    );

    let qwen2 = shape(2, [3584, 152_064], [28, 4, 128], 18944).model();
    check(
        "Qwen2.5-7B",
        &qwen2,
        0.0001,
        [
            147.01, 17.88, 294.02, 143.01, 501.01, 153.01, 140.09, 203.01, 311.00, 38.88, 622.00,
            311.00, 501.01, 311.00, 318.00, 311.00, 155.01,
        ],
    );

    let qwen2 = shape(2, [2048, 151_936], [16, 2, 128], 11008).model();
    check(
        "Qwen2.5-3B",
        &qwen2,
        0.0001,
        [
            88.51, 10.56, 177.02, 84.51, 293.01, 89.01, 84.59, 144.51, 304.75, 38.09, 609.50,
            304.75, 308.75, 304.75, 308.75, 304.75, 96.51,
        ],
    );

    let llama = shape(2, [8192, 128_256], [64, 8, 128], 28672).model();
    check(
        "Llama-3.1-70B",
        &llama,
        0.0001,
        [
            240.01, 29.50, 480.02, 236.01, 1124.01, 344.01, 224.09, 296.01, 282.50, 35.31, 565.00,
            282.50, 1124.01, 344.01, 282.50, 296.01, 248.01,
        ],
    );

    let moe = experts(
        shape(2, [2048, 151_936], [32, 4, 128], 0).model(),
        128,
        8,
        768,
        0,
    );
    check(
        "Qwen3-30B-A3B",
        &moe,
        0.0001,
        [
            96.01, 11.50, 192.02, 92.01, 558.01, 162.01, 96.09, 152.01, 304.75, 38.09, 609.50,
            304.75, 558.01, 304.75, 308.75, 304.75, 104.01,
        ],
    );

    let gemma2 = Shape {
        window: Some((4096, 2)),
        ..shape(4, [2304, 256_000], [8, 4, 256], 9216)
    };
    check(
        "Gemma-2-2B",
        &gemma2.model(),
        0.0001,
        [
            84.02, 9.94, 169.04, 79.52, 182.51, 91.51, 88.55, 140.02, 509.00, 64.19, 1018.00,
            513.50, 509.00, 509.00, 509.00, 509.00, 103.52,
        ],
    );

    let oss = Shape {
        window: Some((128, 2)),
        ..shape(4, [2880, 201_088], [64, 8, 64], 0)
    };
    let mut oss = experts(oss.model(), 32, 4, 2880, 0);
    oss.quirks = quirks_of("gpt-oss");
    check(
        "gpt-oss-20b",
        &oss,
        0.0001,
        [
            101.14, 12.08, 203.29, 97.14, 1078.39, 298.39, 101.21, 157.14, 435.27, 51.74, 871.54,
            414.40, 1078.39, 436.01, 412.83, 409.63, 109.39,
        ],
    );

    let mut phi3 = shape(2, [3072, 32064], [32, 32, 96], 8192).model();
    phi3.quirks = quirks_of("phi3");
    for layer in 0..2 {
        phi3 = with_tensor(phi3, layer, "attn_qkv", 3 * 3072);
        phi3 = with_tensor(phi3, layer, "ffn_up", 2 * 8192);
    }
    check(
        "Phi-3.5-mini",
        &phi3,
        0.0001,
        [
            74.01, 8.75, 148.02, 70.01, 558.01, 162.01, 74.01, 130.01, 74.63, 11.33, 149.25, 90.64,
            558.01, 162.01, 74.63, 130.01, 82.01,
        ],
    );

    let short = Recurrent {
        kind: RecurrentKind::Convolution,
        conv_elements: 2 * 2048,
        state_elements: 0,
        inner: 3 * 2048,
    };
    let mut lfm2 = hybrid(
        shape(4, [2048, 65536], [32, 8, 64], 8192).model(),
        &[1, 3],
        &short,
    );
    lfm2.quirks = quirks_of("lfm2");
    check(
        "LFM2-1.2B",
        &lfm2,
        0.03,
        [
            68.03, 8.02, 136.04, 64.07, 550.01, 154.01, 68.06, 124.03, 136.00, 17.00, 272.00,
            136.00, 550.01, 154.01, 136.04, 136.00, 76.07,
        ],
    );

    let mamba = Recurrent {
        kind: RecurrentKind::StateSpace,
        conv_elements: 3 * 3328,
        state_elements: 128 * 3072,
        inner: 6448,
    };
    let granite = hybrid(
        shape(4, [1536, 100_352], [12, 4, 128], 4096).model(),
        &[2],
        &mamba,
    );
    check(
        "Granite-4-H",
        &granite,
        0.043,
        [
            50.18, 7.15, 98.78, 50.91, 228.01, 72.01, 50.26, 106.18, 213.01, 25.25, 426.02, 202.00,
            228.01, 202.00, 213.09, 205.00, 62.91,
        ],
    );

    let delta = Recurrent {
        kind: RecurrentKind::DeltaNet,
        conv_elements: 3 * 8192,
        state_elements: 128 * 4096,
        inner: 8192,
    };
    let next = experts(
        shape(4, [2048, 151_936], [16, 2, 256], 0).model(),
        64,
        10,
        512,
        512,
    );
    let mut next = with_tensor(hybrid(next, &[3], &delta), 3, "attn_q", 8192);
    next.quirks = quirks_of("qwen3next");
    check(
        "Qwen3-Next",
        &next,
        0.045,
        [
            94.01, 12.19, 188.02, 90.01, 314.01, 110.01, 94.28, 150.01, 308.75, 39.10, 617.50,
            312.76, 316.75, 314.76, 308.75, 308.75, 102.01,
        ],
    );

    let mut latent = experts(
        shape(3, [2048, 102_400], [16, 1, 576], 0).model(),
        64,
        6,
        1408,
        2816,
    );
    latent.layers[0].feed_forward = FeedForward::Dense { inner: 10944 };
    for layer in &mut latent.layers {
        layer.mixer.attention.as_mut().unwrap().value_dim = 0;
    }
    check(
        "DeepSeek-V2",
        &latent,
        0.046,
        [
            88.13, 10.52, 176.27, 84.13, 330.27, 123.01, 88.13, 144.13, 240.26, 30.03, 480.53,
            240.26, 330.27, 240.26, 240.26, 240.26, 96.13,
        ],
    );
}

fn qwen3(name: &str) -> ModelSpec {
    GOLDEN
        .iter()
        .find(|golden| golden.name == name)
        .unwrap()
        .shape
        .model()
}

#[test]
fn cuda_with_512_rows_holds_the_logits_and_their_input() {
    // A Jetson's log for Qwen3-1.7B at 4096: 4 x 512 x (151936 + 2048) bytes.
    let compute = compute(
        &qwen3("Qwen3-1.7B"),
        &KvSettings::default(),
        512,
        ComputeBackend::Cuda,
    );
    assert_eq!(compute.device_bytes, Bytes(4 * 512 * (151_936 + 2048)));
    assert_eq!(mib(compute.device_bytes), 300.75);
    // Host: embedded tokens twice (looked up, given) at 4 MiB, a mask of 4096 x 512 F16, indices.
    assert!(
        (mib(compute.host_bytes) - 12.0).abs() < 0.05,
        "{}",
        compute.host_bytes
    );
}

#[test]
fn cuda_with_one_row_holds_a_layer() {
    let compute = compute(
        &qwen3("Qwen3-1.7B"),
        &KvSettings::default(),
        1,
        ComputeBackend::Cuda,
    );
    // Gate, up and product of 6144, the residual and the normed input of 2048, the mask of 4 MiB.
    let floor = 4 * 512 * (3 * 6144 + 2 * 2048) + (4 << 20);
    assert!(compute.device_bytes.0 >= floor, "{}", compute.device_bytes);
    assert!(
        compute.device_bytes.0 <= floor + floor / 4,
        "{}",
        compute.device_bytes
    );
}

#[test]
fn cuda_expands_a_quantized_cache_layer_by_layer() {
    // Qwen3-4B at 32K: 2 bytes x (1024 + 1024) x 32768 beside mask, query, result and residual.
    let settings = KvSettings {
        context: 32768,
        type_k: Q8_0,
        type_v: Q8_0,
        ..KvSettings::default()
    };
    let compute = compute(&qwen3("Qwen3-4B"), &settings, 1, ComputeBackend::Cuda);
    let attention = mib(compute
        .stages
        .iter()
        .find(|stage| stage.0 == "attention")
        .unwrap()
        .1);
    let floor = 128.0 + 32.0 + 8.0 + 8.0 + 5.0;
    assert!((floor..floor + 1.0).contains(&attention), "{attention}");
}

#[test]
fn output_rows_are_one_a_sequence() {
    // llama.cpp's log for 151936 tokens and four sequences: 2.32 MiB.
    let settings = KvSettings {
        parallel: 4,
        ..KvSettings::default()
    };
    let compute = compute(&qwen3("Qwen3-1.7B"), &settings, 4, ComputeBackend::Cuda);
    assert_eq!(compute.output_bytes, Bytes(4 * 151_936 * 4));
    assert_eq!(format!("{:.2}", mib(compute.output_bytes)), "2.32");
}

#[test]
fn stages_come_in_order_and_none_exceeds_the_buffer() {
    let compute = compute(
        &qwen3("Qwen3-4B"),
        &KvSettings::default(),
        512,
        ComputeBackend::Cpu,
    );
    let names: Vec<_> = compute.stages.iter().map(|stage| stage.0).collect();
    assert_eq!(
        names,
        ["inputs", "attention", "feed-forward", "output head"]
    );
    assert!(
        compute
            .stages
            .iter()
            .all(|stage| stage.1 <= compute.device_bytes)
    );
    assert_eq!(compute.host_bytes, Bytes(0));
}

/// Logged by b11434 for four layers on three boards, by its RPC engine on a CPU: 1, 2 and 1 layers.
#[test]
fn buffers_of_stages_are_llama_cpps() {
    const NORMS: [&str; 4] = [
        "attn_norm",
        "ffn_norm",
        "post_attention_norm",
        "post_ffw_norm",
    ];
    let small = shape(4, [256, 512], [4, 2, 64], 256);
    let windows = Shape {
        window: Some((16, 4)),
        ..small
    };
    let cases = [
        ("llama", small, &NORMS[..2], [12.55, 8.04, 7.54]),
        ("smollm3", small, &NORMS[..2], [12.55, 8.04, 7.53]),
        ("cohere2", windows, &NORMS[..1], [11.55, 7.54, 7.53]),
        ("olmo2", windows, &NORMS[2..], [11.55, 7.04, 7.04]),
    ];
    let settings = KvSettings {
        context: 1024,
        ..KvSettings::default()
    };
    for (name, shape, norms, expected) in cases {
        let mut model = shape.model();
        model.quirks = quirks_of(name);
        for layer in 0..4 {
            for norm in norms {
                model = with_tensor(model, layer, norm, 1);
            }
        }
        for (layers, expected) in [0..1, 1..3, 3..4].into_iter().zip(expected) {
            let part = ModelPart::apart(&model, layers.clone());
            let found = compute_part(&model, &settings, 1, ComputeBackend::Cpu, &part);
            let found = mib(found.device_bytes);
            assert!(
                (found - expected).abs() < 0.011,
                "{name} {layers:?}: {found:.3} for {expected}"
            );
        }
    }
}

#[test]
fn absurd_models_and_settings_do_not_panic() {
    let huge = u64::MAX;
    let attention = |value_dim| Attention {
        heads: huge,
        kv_heads: huge,
        key_dim: huge,
        value_dim,
        window: None,
        cache: Cache::Own,
    };
    let recurrent = Recurrent {
        kind: RecurrentKind::StateSpace,
        conv_elements: huge,
        state_elements: huge,
        inner: huge,
    };
    let layer = |value_dim| Layer {
        mixer: Mixer {
            attention: Some(attention(value_dim)),
            recurrent: Some(recurrent.clone()),
        },
        feed_forward: FeedForward::Experts {
            count: huge,
            used: huge,
            inner: huge,
            shared_inner: huge,
        },
    };
    let mut spec = model(huge, huge, vec![layer(huge), layer(0), layer(1)]);
    spec.dims.per_layer_embedding = huge;
    for streams in [0, 1, huge] {
        spec.dims.streams = streams;
        for backend in [ComputeBackend::Cpu, ComputeBackend::Cuda] {
            for flash_attention in [true, false] {
                let settings = KvSettings {
                    context: huge,
                    parallel: huge,
                    ubatch: huge,
                    flash_attention,
                    ..KvSettings::default()
                };
                compute(&spec, &settings, 0, backend);
                compute(
                    &spec,
                    &KvSettings {
                        ubatch: 0,
                        context: 0,
                        parallel: 0,
                        ..settings
                    },
                    huge,
                    backend,
                );
            }
        }
    }
    compute(
        &model(0, 0, Vec::new()),
        &KvSettings::default(),
        0,
        ComputeBackend::Cuda,
    );
}
