//! Figures that llama.cpp itself printed.

use super::*;
use crate::plan::golden::{GOLDEN, settings};

#[test]
fn cpu_compute_buffers_are_within_a_tenth_of_llama_cpps() {
    let mut misses = Vec::new();
    for golden in GOLDEN {
        let model = golden.shape.model();
        for (settings, expected) in settings().iter().zip(golden.compute) {
            let found = compute(&model, settings, u64::MAX, Backend::Cpu)
                .device_bytes
                .as_f64()
                / (1 << 20) as f64;
            let error = found / expected - 1.0;
            if std::env::var("SHOW").is_ok() {
                println!(
                    "{} {} {} {:?} {} {} {expected} {found:.2} {:+.1}%",
                    golden.name,
                    settings.context,
                    settings.ubatch,
                    settings.type_k,
                    settings.parallel,
                    settings.flash_attention,
                    error * 100.0
                );
            }
            if expected > 0.0 && error.abs() > 0.10 {
                misses.push(format!(
                    "{} {settings:?}: {found:.2} for {expected}",
                    golden.name
                ));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

fn dense(
    layers: usize,
    hidden: u64,
    vocab: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    inner: u64,
) -> crate::plan::golden::Shape {
    crate::plan::golden::Shape {
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

#[test]
fn probe() {
    use crate::dtype::Dtype::{F16, Q8_0};
    use crate::model::spec::FeedForward;
    let mut moe = dense(2, 2048, 151936, 32, 4, 128, 0).model();
    for l in &mut moe.layers {
        l.feed_forward = FeedForward::Experts {
            count: 128,
            used: 8,
            inner: 768,
            shared_inner: 0,
        };
    }
    let mut gemma2 = dense(4, 2304, 256000, 8, 4, 256, 9216);
    gemma2.window = Some((4096, 2));
    let models = [
        ("qwen3moe", moe),
        ("qwen2", dense(2, 3584, 152064, 28, 4, 128, 18944).model()),
        ("llama70", dense(2, 8192, 128256, 64, 8, 128, 28672).model()),
        ("phi3", dense(2, 3072, 32064, 32, 32, 96, 8192).model()),
        ("gemma2", gemma2.model()),
        (
            "qwen25_3b",
            dense(2, 2048, 151936, 16, 2, 128, 11008).model(),
        ),
    ];
    for (name, model) in models {
        for emb in [false, true] {
            for (context, ubatch, parallel, flash_attention, t) in [
                (8192, 512, 1, true, F16),
                (4096, 64, 1, true, F16),
                (8192, 1024, 1, true, F16),
                (16384, 512, 4, true, F16),
                (8192, 512, 1, false, F16),
                (2048, 512, 1, false, F16),
                (8192, 512, 1, true, Q8_0),
                (65536, 512, 1, true, F16),
            ] {
                let s = KvSettings {
                    context,
                    ubatch,
                    parallel,
                    flash_attention,
                    type_k: t,
                    type_v: t,
                    ..KvSettings::default()
                };
                let c = compute(&model, &s, if emb { 9999 } else { parallel }, Backend::Cpu);
                println!(
                    "@ {name} emb={} {context} {ubatch} {} {parallel} {t:?} {:.2}",
                    emb as u8,
                    if flash_attention { "on" } else { "off" },
                    c.device_bytes.as_f64() / 1048576.0
                );
            }
        }
    }
}
