//! The speed model against published measurements on Jetson Orin boards: each must lie between the low
//! and the high end of what the runtime's profile gives for that model, board and power mode.

use orinplan::dtype::Dtype::{self, F16, Q4_K, Q5_0, Q6_K, Q8_0};
use orinplan::plan::speed::{self, Gpu, Group, Operation, Prompt};
use orinplan::runtime;
use orinplan::units::{BytesPerSecond, Hertz};

/// A published model's matrices: format, weights and output rows of the head and of all blocks together;
/// cached bytes and attention multiply-accumulates for each token of depth.
struct Shape {
    layers: u64,
    head: (Dtype, u64, u64),
    body: &'static [(Dtype, u64, u64)],
    cache: (u64, u64),
}

/// Weights packed in 32-bit words with F16 scales for groups.
const PACKED: Dtype = Dtype::I32;

#[rustfmt::skip]
mod shapes {
    use super::*;

    pub(super) const LLAMA_1B: Shape = Shape { layers: 16, head: (Q6_K, 262_668_288, 128_256), body: &[(Q4_K, 830_472_192, 356_352), (Q6_K, 142_606_336, 20_480)], cache: (32_768, 65_536) };
    pub(super) const LLAMA_1B_Q8: Shape = Shape { head: (Q8_0, 262_668_288, 128_256), body: &[(Q8_0, 973_078_528, 376_832)], ..LLAMA_1B };
    pub(super) const LLAMA_1B_F16: Shape = Shape { head: (F16, 262_668_288, 128_256), body: &[(F16, 973_078_528, 376_832)], ..LLAMA_1B };
    pub(super) const LLAMA_8B: Shape = Shape { layers: 32, head: (Q6_K, 525_336_576, 128_256), body: &[(Q4_K, 5_972_688_896, 1_294_336), (Q6_K, 1_006_632_960, 81_920)], cache: (131_072, 262_144) };
    pub(super) const LLAMA_8B_INT4: Shape = Shape { head: (PACKED, 525_336_576, 128_256), body: &[(PACKED, 6_979_321_856, 1_376_256)], ..LLAMA_8B };
    pub(super) const GEMMA2_2B: Shape = Shape { layers: 26, head: (Q6_K, 589_824_000, 256_000), body: &[(Q4_K, 1_717_567_488, 662_272), (Q6_K, 306_708_480, 43_264)], cache: (106_496, 106_496) };
    pub(super) const GEMMA3_1B: Shape = Shape { layers: 26, head: (Q8_0, 301_989_888, 262_144), body: &[(Q4_K, 134_184_960, 44_928), (Q5_0, 456_228_864, 396_032), (Q6_K, 103_514_112, 14_976), (Q8_0, 3_833_856, 3_328)], cache: (26_624, 53_248) };
    pub(super) const GEMMA3_1B_F16: Shape = Shape { head: (F16, 301_989_888, 262_144), body: &[(F16, 697_761_792, 459_264)], ..GEMMA3_1B };
    pub(super) const QWEN25_05B: Shape = Shape { layers: 24, head: (Q8_0, 136_134_656, 151_936), body: &[(Q4_K, 52_297_728, 10_752), (Q5_0, 251_854_848, 281_088), (Q6_K, 52_297_728, 10_752), (Q8_0, 1_376_256, 1_536)], cache: (12_288, 43_008) };
    pub(super) const QWEN25_05B_F16: Shape = Shape { head: (F16, 136_134_656, 151_936), body: &[(F16, 357_826_560, 304_128)], ..QWEN25_05B };
    pub(super) const QWEN25_3B: Shape = Shape { layers: 36, head: (Q6_K, 311_164_928, 151_936), body: &[(Q4_K, 2_359_296_000, 990_720), (Q6_K, 415_236_096, 41_472)], cache: (36_864, 147_456) };
    pub(super) const QWEN25_7B: Shape = Shape { layers: 28, head: (Q6_K, 544_997_376, 152_064), body: &[(Q4_K, 5_549_064_192, 1_333_248), (Q6_K, 976_224_256, 57_344)], cache: (57_344, 200_704) };
    pub(super) const QWEN3_06B: Shape = Shape { layers: 28, head: (Q6_K, 155_582_464, 151_936), body: &[(Q4_K, 381_681_664, 315_392), (Q6_K, 58_720_256, 28_672)], cache: (114_688, 114_688) };
    pub(super) const QWEN3_06B_Q8: Shape = Shape { head: (Q8_0, 155_582_464, 151_936), body: &[(Q8_0, 440_401_920, 344_064)], ..QWEN3_06B };
    pub(super) const QWEN3_06B_INT4: Shape = Shape { head: (F16, 155_582_464, 151_936), body: &[(PACKED, 440_401_920, 344_064)], ..QWEN3_06B };
    pub(super) const QWEN3_06B_FP8: Shape = Shape { body: &[(Dtype::F8_E4M3, 440_401_920, 344_064)], ..QWEN3_06B_INT4 };
    pub(super) const QWEN3_17B: Shape = Shape { layers: 28, head: (Q6_K, 311_164_928, 151_936), body: &[(Q4_K, 1_203_765_248, 530_432), (Q6_K, 205_520_896, 43_008)], cache: (114_688, 114_688) };
    pub(super) const QWEN3_17B_INT4: Shape = Shape { head: (F16, 311_164_928, 151_936), body: &[(PACKED, 1_409_286_144, 573_440)], ..QWEN3_17B };
    pub(super) const QWEN3_4B_INT4: Shape = Shape { layers: 36, head: (F16, 388_956_160, 151_936), body: &[(PACKED, 3_633_315_840, 1_105_920)], cache: (147_456, 294_912) };
    pub(super) const SMOLLM2_135M: Shape = Shape { layers: 30, head: (Q8_0, 28_311_552, 49_152), body: &[(Q4_K, 14_155_776, 9_216), (Q5_0, 78_077_952, 135_552), (Q6_K, 12_386_304, 8_064), (Q8_0, 1_548_288, 2_688)], cache: (23_040, 34_560) };
    pub(super) const SMOLLM2_17B_INT4: Shape = Shape { layers: 24, head: (PACKED, 100_663_296, 49_152), body: &[(PACKED, 1_610_612_736, 638_976)], cache: (196_608, 98_304) };
}
use shapes::*;

impl Shape {
    /// The operations of a step at `depth`, packed weights taking `packed_bits` with their scales.
    fn operations(&self, depth: u64, packed_bits: f64) -> Vec<Operation> {
        let matrix = |group: Group, &(dtype, weights, rows): &(Dtype, u64, u64)| {
            let bytes = match dtype {
                PACKED => (weights as f64 * packed_bits / 8.0) as u64,
                _ => dtype.bytes(&[weights]).unwrap().0,
            };
            Operation::dense(dtype.name(), group, dtype, bytes, weights, rows)
        };
        let cache = Operation::state(
            "cache",
            Group::KvCache,
            F16,
            self.cache.0 * depth,
            self.cache.1 * depth,
        );
        let body = self
            .body
            .iter()
            .map(|part| matrix(Group::FeedForward, part));
        body.chain([matrix(Group::Head, &self.head), cache])
            .collect()
    }

    /// A prompt of `tokens`: the cache's figure is for one token of depth, and a prompt's tokens see half
    /// of it on average.
    fn prompt(&self, tokens: u64) -> Prompt {
        Prompt {
            tokens,
            ubatch: 512,
            attention_macs: self.cache.1 * tokens * tokens / 2,
        }
    }
}

fn gpu(sm_count: u32, megahertz: f64, gigabytes: f64) -> Gpu {
    Gpu::sm87(
        sm_count,
        Hertz(megahertz * 1e6),
        BytesPerSecond(gigabytes * 1e9),
    )
}

/// A board in a power mode: SMs, GPU clock, memory bandwidth.
fn board(name: &str) -> Gpu {
    match name {
        "nano 7W" => gpu(4, 408.0, 68.3),
        "nano 15W" => gpu(8, 612.0, 68.3),
        "nano 25W" => gpu(8, 918.0, 102.4),
        "nano MAXN" => gpu(8, 1020.0, 102.4),
        "nx 16GB" => gpu(8, 918.0, 102.4),
        "agx 32GB" => gpu(14, 930.0, 204.8),
        "agx 64GB" => gpu(16, 1300.0, 204.8),
        other => panic!("no board {other}"),
    }
}

#[test]
fn weights_by_format_add_up_to_the_published_sizes() {
    // Tensor bytes as llama-bench prints them. Norms and biases in F32, and the untied models' token
    // embedding in Q4_K (144 bytes of 256 weights), make up the rest.
    for (shape, embedding, published) in [
        (QWEN25_05B, 0, 391_859_712u64),
        (LLAMA_1B, 0, 799_862_912),
        (GEMMA2_2B, 0, 1_702_536_192),
        (QWEN25_3B, 0, 1_923_946_496),
        (QWEN25_7B, 544_997_376, 4_677_120_000),
        (LLAMA_8B, 525_336_576, 4_912_898_304),
    ] {
        let sum: u64 = shape
            .operations(0, 0.0)
            .iter()
            .map(|operation| operation.bytes)
            .sum();
        let rest = published as f64 - (sum + embedding / 256 * 144) as f64;
        assert!(
            0.0 <= rest && rest < 0.001 * published as f64,
            "{published}: {rest}"
        );
    }
}

#[rustfmt::skip]
const DECODE: &[(&str, &Shape, &str, u64, f64, &str)] = &[
    // runtime, model, board, depth in tokens, tokens/s, source
    ("llama-bench", &LLAMA_1B, "nano 15W", 64, 35.066, "jfdg01/jetson@f6e1676"),
    ("llama-bench", &GEMMA2_2B, "nano 15W", 64, 15.98, "jfdg01/jetson@f6e1676"),
    ("llama-bench", &QWEN25_3B, "nano 15W", 64, 14.908, "jfdg01/jetson@f6e1676"),
    ("llama-bench", &QWEN25_7B, "nano 15W", 64, 7.891, "jfdg01/jetson@f6e1676"),
    ("llama-bench", &LLAMA_8B, "nano 15W", 64, 7.753, "jfdg01/jetson@f6e1676"),
    ("llama-bench", &QWEN25_3B, "nano MAXN", 64, 23.85, "rhajamor/tiny_agent"),
    ("llama.cpp", &QWEN25_3B, "nano MAXN", 100, 22.98, "rhajamor/tiny_agent"),
    ("llama.cpp", &QWEN3_17B, "nano MAXN", 128, 38.3, "hokwangchoi/jetson-orin-nano-benchmarks@91f5b77"),
    ("llama.cpp", &SMOLLM2_135M, "nano 15W", 2176, 114.5, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &SMOLLM2_135M, "nano 25W", 2176, 165.1, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &LLAMA_1B, "nano 7W", 2176, 12.1, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &LLAMA_1B, "nano 15W", 2176, 32.3, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &LLAMA_1B, "nano 25W", 2176, 47.0, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &LLAMA_1B, "nano MAXN", 2176, 51.9, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &QWEN3_06B_Q8, "nano 15W", 2176, 33.9, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &QWEN3_06B_Q8, "nano MAXN", 2176, 54.2, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &QWEN25_05B, "nano MAXN", 2176, 100.5, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &GEMMA3_1B, "nano 15W", 2176, 28.1, "YuvrajSingh-mist/SmolHub-Website@05c9940"),
    ("llama.cpp", &LLAMA_8B, "agx 32GB", 2112, 22.3, "kevinhe5/IISWC2026-Artifact-Paper-177-Jetson-Orin-Thor-Profiling@1db7395"),
    ("llama.cpp", &LLAMA_1B_Q8, "agx 32GB", 576, 63.8, "kevinhe5/IISWC2026-Artifact-Paper-177-Jetson-Orin-Thor-Profiling@1db7395"),
    ("llama.cpp", &LLAMA_1B_F16, "agx 32GB", 576, 47.5, "kevinhe5/IISWC2026-Artifact-Paper-177-Jetson-Orin-Thor-Profiling@1db7395"),
    ("llama-bench", &LLAMA_8B, "agx 64GB", 64, 27.1, "jbecirovski/jetson-llm-maxperf@c19500d"),
    ("ollama", &QWEN3_06B, "nano 15W", 128, 38.84, "study of 66 decode runs on an Orin Nano 8GB"),
    ("ollama", &QWEN25_05B, "nano 15W", 128, 35.24, "study of 66 decode runs on an Orin Nano 8GB"),
    ("ollama", &GEMMA3_1B, "nano 15W", 128, 26.33, "study of 66 decode runs on an Orin Nano 8GB"),
    ("ollama", &QWEN25_7B, "nano 15W", 128, 7.1, "Agent_C4"),
    ("ollama", &QWEN25_7B, "nano 25W", 128, 9.7, "Agent_C4"),
    ("ollama", &QWEN25_05B, "nx 16GB", 128, 62.0, "schwankner/talos-jetson-orin-nx@c6ddd80"),
    ("vllm", &QWEN25_05B_F16, "nano 15W", 128, 15.18, "study of 66 decode runs on an Orin Nano 8GB"),
    ("vllm", &QWEN3_06B_FP8, "nano 15W", 128, 12.81, "study of 66 decode runs on an Orin Nano 8GB"),
    ("vllm", &QWEN3_17B_INT4, "nano MAXN", 128, 56.5, "hokwangchoi/jetson-orin-nano-benchmarks@91f5b77"),
    ("vllm", &LLAMA_1B_F16, "agx 32GB", 576, 48.9, "kevinhe5/IISWC2026-Artifact-Paper-177-Jetson-Orin-Thor-Profiling@1db7395"),
    ("mlc", &LLAMA_8B_INT4, "nano MAXN", 128, 19.14, "NVIDIA's Orin Nano Super table"),
    ("mlc", &SMOLLM2_17B_INT4, "nano 15W", 128, 41.0, "NVIDIA's Orin Nano Super table"),
    ("mlc", &SMOLLM2_17B_INT4, "nano MAXN", 128, 69.28, "jsligar/Rimrock-Runtimes@561adc7"),
    ("mlc", &GEMMA3_1B_F16, "nano MAXN", 128, 43.76, "jsligar/Rimrock-Runtimes@561adc7"),
    ("tensorrt-edge-llm", &QWEN3_06B_INT4, "nano 15W", 61, 72.8, "NVIDIA's TensorRT Edge-LLM 0.9.0 tables"),
    ("tensorrt-edge-llm", &QWEN3_17B_INT4, "nano 15W", 292, 36.9, "NVIDIA's TensorRT Edge-LLM 0.9.0 tables"),
    ("tensorrt-edge-llm", &QWEN3_4B_INT4, "nx 16GB", 57, 31.6, "NVIDIA's TensorRT Edge-LLM 0.9.0 tables"),
    ("tensorrt-edge-llm", &QWEN3_4B_INT4, "agx 64GB", 57, 53.1, "NVIDIA's TensorRT Edge-LLM 0.9.0 tables"),
];

#[test]
fn published_decode_rates_lie_within_the_range() {
    let mut outside = Vec::new();
    for &(id, shape, on, depth, measured, source) in DECODE {
        let speed = runtime::find(id).unwrap().speed;
        let bits = if id == "mlc" { 4.5 } else { 4.125 };
        let operations = shape.operations(depth, bits);
        let rate =
            speed::decode(&operations, shape.layers, 1, &board(on), &speed).tokens_per_second;
        if !(rate.low <= measured && measured <= rate.high) {
            outside.push(format!(
                "{id} on {on}: {measured} not in {rate:?} ({source})"
            ));
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

#[rustfmt::skip]
const PREFILL: &[(&str, &Shape, &str, u64, f64)] = &[
    // runtime, model, board, prompt tokens, prompt tokens/s
    ("llama-bench", &LLAMA_1B, "nano 15W", 512, 1534.72),   // jfdg01/jetson@f6e1676, to the 8B
    ("llama-bench", &GEMMA2_2B, "nano 15W", 512, 729.37),
    ("llama-bench", &QWEN25_3B, "nano 15W", 512, 555.04),
    ("llama-bench", &LLAMA_8B, "nano 15W", 512, 245.2),
    ("llama-bench", &QWEN25_3B, "nano MAXN", 512, 874.77),  // rhajamor/tiny_agent
    ("llama-bench", &LLAMA_8B, "agx 64GB", 512, 1001.7),    // jbecirovski/jetson-llm-maxperf@c19500d
    ("llama.cpp", &LLAMA_1B_F16, "agx 32GB", 2048, 3455.0), // kevinhe5/IISWC2026-Artifact-Paper-177-Jetson-Orin-Thor-Profiling@1db7395
];

#[test]
fn published_prompt_rates_lie_within_the_range() {
    for &(id, shape, on, tokens, measured) in PREFILL {
        let speed = runtime::find(id).unwrap().speed;
        let operations = shape.operations(tokens, 0.0);
        let read = speed::prefill(
            &operations,
            shape.layers,
            shape.prompt(tokens),
            &board(on),
            &speed,
        );
        let rate = read.tokens_per_second;
        assert!(
            rate.low <= measured && measured <= rate.high,
            "{id} on {on}: {measured} not in {rate:?}"
        );
    }
}

#[test]
fn times_to_the_first_token_of_long_prompts_lie_within_the_range() {
    // 2048-token prompts to llama-server, median of 20 requests (YuvrajSingh-mist/SmolHub-Website@05c9940).
    let speed = runtime::find("llama.cpp").unwrap().speed;
    for (shape, on, measured) in [
        (LLAMA_1B, "nano 15W", 1.4321),
        (LLAMA_1B, "nano MAXN", 0.8905),
        (QWEN25_05B, "nano 25W", 0.5309),
        (SMOLLM2_135M, "nano 15W", 0.4425),
        (QWEN3_06B_Q8, "nano 15W", 1.1134),
    ] {
        let operations = shape.operations(2048, 0.0);
        let read = speed::prefill(
            &operations,
            shape.layers,
            shape.prompt(2048),
            &board(on),
            &speed,
        );
        let first = read.time_to_first_token;
        assert!(
            first.low <= measured && measured <= first.high,
            "{on}: {measured} not in {first:?}"
        );
    }
}
