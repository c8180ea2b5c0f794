//! Figures that llama.cpp itself printed.

use super::*;
use crate::dtype::Dtype::{F16, Q8_0};
use crate::model::spec::{FeedForward, ModelSpec, Recurrent, Tensor};
use crate::model::role::TensorRole;
use crate::plan::golden::{GOLDEN, Shape, settings};

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

fn dense(layers: usize, hidden: u64, vocab: u64, heads: u64, kv_heads: u64, head_dim: u64, inner: u64) -> Shape {
    Shape { layers, own_cache: layers, hidden, vocab, heads, kv_heads, head_dim, inner, window: None, streams: 1, per_layer: 0 }
}
fn experts(mut m: ModelSpec, count: u64, used: u64, inner: u64, shared_inner: u64) -> ModelSpec {
    for l in &mut m.layers { l.feed_forward = FeedForward::Experts { count, used, inner, shared_inner }; }
    m
}
fn hybrid(mut m: ModelSpec, attention: &[usize], r: Recurrent) -> ModelSpec {
    for (i, l) in m.layers.iter_mut().enumerate() {
        if !attention.contains(&i) { l.mixer = crate::model::spec::Mixer { attention: None, recurrent: Some(r.clone()) }; }
    }
    m
}
fn fused(mut m: ModelSpec, qkv: u64, up: u64) -> ModelSpec {
    for layer in 0..m.layers.len() as u32 {
        for (name, rows) in [("attn_qkv", qkv), ("ffn_up", up)] {
            m.tensors.push(Tensor { name: format!("blk.{layer}.{name}.weight"), role: TensorRole::Other, layer: Some(layer), shape: vec![rows, m.dims.hidden], dtype: F16, stored_bytes: Bytes(0), sources: Vec::new() });
        }
    }
    m
}
#[test]
fn probe() {
    let moe = experts(dense(2, 2048, 151936, 32, 4, 128, 0).model(), 128, 8, 768, 0);
    let mut gemma2 = dense(4, 2304, 256000, 8, 4, 256, 9216);
    gemma2.window = Some((4096, 2));
    let mut oss = dense(4, 2880, 201088, 64, 8, 64, 0);
    oss.window = Some((128, 2));
    let lfm2 = hybrid(dense(4, 2048, 65536, 32, 8, 64, 8192).model(), &[1, 3], Recurrent { conv_elements: 4096, state_elements: 0, inner: 6144 });
    let granite = hybrid(dense(4, 1536, 100352, 12, 4, 128, 4096).model(), &[2], Recurrent { conv_elements: 3 * 3328, state_elements: 128 * 3072, inner: 6448 });
    let q3n = hybrid(experts(dense(4, 2048, 151936, 16, 2, 256, 0).model(), 64, 10, 512, 512), &[3], Recurrent { conv_elements: 3 * 8192, state_elements: 128 * 4096, inner: 8192 });
    let mut ds2 = experts(dense(3, 2048, 102400, 16, 1, 576, 0).model(), 64, 6, 1408, 2816);
    for l in &mut ds2.layers { l.mixer.attention.as_mut().unwrap().value_dim = 0; }
    ds2.layers[0].feed_forward = FeedForward::Dense { inner: 10944 };
    let models = [("qwen3moe", moe), ("qwen2", dense(2, 3584, 152064, 28, 4, 128, 18944).model()), ("llama70", dense(2, 8192, 128256, 64, 8, 128, 28672).model()),
        ("phi3", fused(dense(2, 3072, 32064, 32, 32, 96, 8192).model(), 3 * 3072, 16384)), ("gemma2", gemma2.model()), ("qwen25_3b", dense(2, 2048, 151936, 16, 2, 128, 11008).model()),
        ("lfm2", lfm2), ("granite", granite), ("gptoss", ModelSpec { architecture: "gpt-oss".into(), ..experts(oss.model(), 32, 4, 2880, 0) }), ("ds2", ds2), ("q3n", ModelSpec { architecture: "qwen3next".into(), ..q3n }), ("tl22", dense(22, 2048, 32000, 32, 4, 64, 5632).model())];
    let truth = std::fs::read_to_string("/tmp/cmp/truth_all.txt").unwrap();
    let sets = std::fs::read_to_string("/tmp/cmp/set.txt").unwrap();
    for (name, model) in models {
        let line = truth.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
        let values: Vec<f64> = line.split_once(": ").unwrap().1.split(", ").filter_map(|v| v.parse().ok()).collect();
        for (set, v) in sets.lines().zip(values) {
            let f: Vec<&str> = set.split_whitespace().collect();
            let n = |i: usize| f[i].parse::<u64>().unwrap();
            let t = if f[5] == "q8_0" { Q8_0 } else { F16 };
            let s = KvSettings { context: n(0), ubatch: n(1), parallel: n(3), flash_attention: n(2) == 1, type_k: t, type_v: t, unified: n(7) == 1, ..KvSettings::default() };
            let rows = if n(4) == 0 { 99999 } else { n(4) };
            let c = compute(&model, &s, rows, Backend::Cpu).device_bytes.as_f64() / 1048576.0;
            if (c - v).abs() > 0.02 { println!("@ {name} {set}: truth {v} found {c:.2} {:+.1}%", (c / v - 1.0) * 100.0); }
        }
    }
}
