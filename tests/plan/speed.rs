//! The speed model against arithmetic done by hand and against what physics forbids.

use orinplan::dtype::Dtype;
use orinplan::plan::Workload;
use orinplan::plan::speed::{
    self, Bound, ClockedGpu, Operation, OperationGroup, PromptWork, Spread,
};
use orinplan::runtime::profile::Speed;
use orinplan::runtime::{self, RuntimeProfile};
use orinplan::units::{BytesPerSecond, Hertz};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support;

const ARTIFICIAL: &str = r#"
id = "artificial"
name = "no overheads"
trust = "none"
[sources]
made-up = "for arithmetic by hand"
[loads]
files = []
schemes = []
kv_types = []
fp8_storage_only = true
source = "made-up"
[memory]
runtime_bytes = { low = 0.0, expected = 0.0, high = 0.0, source = "made-up", trust = "none" }
duplicates_tied_embedding = { value = false, source = "made-up" }
context_multiple = { value = 1, source = "made-up" }
kv_allocation = { value = "cache", source = "made-up" }
outputs = { value = "parallel", source = "made-up" }
compute = { rule = "ggml", source = "made-up" }
[speed]
overlap_norm = { value = 1.0, source = "made-up" }
bandwidth_efficiency = { low = 1.0, expected = 1.0, high = 1.0, source = "made-up", trust = "none" }
cost_scale = { low = 1.0, expected = 1.0, high = 1.0, source = "made-up", trust = "none" }
row_cycles = { value = 0.0, source = "made-up" }
state_cycles = { value = 0.0, source = "made-up" }
batch_share = { value = 1.0, source = "made-up" }
spread = { low = 1.0, expected = 1.0, high = 1.0, source = "made-up", trust = "none" }
learning = { common = 0.05, model = 0.05, run = 0.05, source = "made-up" }
launch_seconds = { low = 0.0, expected = 0.0, high = 0.0, source = "made-up", trust = "none" }
reference_clock_hz = { value = 1e9, source = "made-up" }
host_seconds = { low = 0.0, expected = 0.0, high = 0.0, source = "made-up", trust = "none" }
[speed.cost]
Q8_0 = { cycles = 0.0, source = "made-up", trust = "measured" }
[speed.attention]
byte_cycles = { value = 0.0, source = "made-up" }
spill_tokens = { value = 1000.0, source = "made-up" }
mac_cycles = { value = 0.0, source = "made-up" }
score_cycles = { value = 0.0, source = "made-up" }
[speed.prefill]
quantized_cycles = { value = 0.01, source = "made-up" }
float_cycles = { value = 0.02, source = "made-up" }
tile_cycles = { value = 0.0, source = "made-up" }
scan_cycles = { value = 0.0, source = "made-up" }
activation_bytes = { value = 0.0, source = "made-up" }
ubatch_layer_seconds = { value = 0.0, source = "made-up" }
scale = { low = 1.0, expected = 1.0, high = 1.0, source = "made-up", trust = "none" }
learning = { common = 0.05, model = 0.05, run = 0.05, source = "made-up" }
request_seconds = { low = 0.0, expected = 0.5, high = 1.0, source = "made-up", trust = "none" }
"#;

/// The artificial runtime with `from` replaced by `to`, each time it occurs.
fn artificial(changes: &[(&str, &str)]) -> RuntimeProfile {
    let text = changes
        .iter()
        .fold(ARTIFICIAL.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
    runtime::parse(&text, "artificial").unwrap()
}

fn gpu(sm_count: u32, megahertz: f64, gigabytes: f64) -> ClockedGpu {
    ClockedGpu::sm87(
        sm_count,
        Hertz(megahertz * 1e6),
        BytesPerSecond(gigabytes * 1e9),
    )
}

#[track_caller]
fn close(left: f64, right: f64) {
    assert!(
        (left - right).abs() <= 1e-9 * right.abs(),
        "{left} is not {right}"
    );
}

#[track_caller]
fn all(spread: Spread, value: f64) {
    close(spread.low, value);
    close(spread.expected, value);
    close(spread.high, value);
}

#[test]
fn without_overheads_the_rate_is_bandwidth_over_bytes() {
    let head = Operation::dense(
        "head",
        OperationGroup::Head,
        Dtype::Q8_0,
        68_000_000,
        64_000_000,
        1000,
    );
    let estimate = speed::decode(
        &[head],
        10,
        1,
        &gpu(8, 1000.0, 68.0),
        &artificial(&[]).speed,
    );
    all(estimate.tokens_per_second, 1000.0);
    close(estimate.ceiling, 1000.0);
    assert_eq!(
        (estimate.bound, estimate.ceiling_bound),
        (Bound::Memory, Bound::Memory)
    );
    assert_eq!(
        (estimate.bytes_per_step, estimate.flops_per_step),
        (68_000_000, 128_000_000)
    );
    let parts: Vec<_> = estimate
        .parts
        .iter()
        .map(|part| (part.name.as_str(), part.seconds))
        .collect();
    assert_eq!(parts, [("head", 0.001), ("launches", 0.0), ("host", 0.0)]);
}

#[test]
fn every_term_adds_what_the_formula_says() {
    // memory 10 MB / (10 GB/s x 0.5) = 2 ms; arithmetic (64e6 x 0.1 + 16e3 x 100) / (8 x 1 GHz) = 1 ms;
    // launches 10 x 0.1 ms x (1 GHz / 1 GHz) = 1 ms; host 1 ms: 5 ms in all.
    let runtime = artificial(&[
        (
            "bandwidth_efficiency = { low = 1.0, expected = 1.0",
            "bandwidth_efficiency = { low = 0.5, expected = 0.5",
        ),
        ("cycles = 0.0, source", "cycles = 0.1, source"),
        ("row_cycles = { value = 0.0", "row_cycles = { value = 100.0"),
        (
            "launch_seconds = { low = 0.0, expected = 0.0, high = 0.0",
            "launch_seconds = { low = 0.0, expected = 0.0001, high = 0.0001",
        ),
        (
            "host_seconds = { low = 0.0, expected = 0.0, high = 0.0",
            "host_seconds = { low = 0.0, expected = 0.001, high = 0.002",
        ),
    ]);
    let matrix = Operation::dense(
        "body",
        OperationGroup::FeedForward,
        Dtype::Q8_0,
        10_000_000,
        64_000_000,
        16_000,
    );
    let estimate = speed::decode(
        std::slice::from_ref(&matrix),
        10,
        1,
        &gpu(8, 1000.0, 10.0),
        &runtime.speed,
    );
    close(estimate.tokens_per_second.expected, 200.0);
    close(estimate.tokens_per_second.low, 1.0 / 0.006);
    // The fast end has the whole bandwidth and no overheads: 1 ms + 1 ms.
    close(estimate.tokens_per_second.high, 500.0);
    // At half the clock arithmetic and launches take twice as long: 2 + 2 + 2 + 1 ms.
    let slower = speed::decode(&[matrix], 10, 1, &gpu(8, 500.0, 10.0), &runtime.speed);
    close(slower.tokens_per_second.expected, 1.0 / 0.007);
}

#[test]
fn a_row_costs_whole_passes_and_short_rows_share_a_block() {
    // One cycle a weight, 100 a row, passes of 1000 weights, 1 SM at 1 GHz. 10 rows of 1500 take two
    // passes each: 20 000 + 1000 cycles. 40 rows of 500 take one each and share ten blocks: 40 000 + 1000.
    let runtime = artificial(&[
        (
            "cycles = 0.0, source",
            "cycles = 1.0, row_quantum = 1000, source",
        ),
        ("row_cycles = { value = 0.0", "row_cycles = { value = 100.0"),
    ]);
    let seconds = |weights, rows| {
        let matrix = Operation::dense(
            "m",
            OperationGroup::Attention,
            Dtype::Q8_0,
            1,
            weights,
            rows,
        );
        speed::step_seconds(&[matrix], 1, 1, &gpu(1, 1000.0, 1e9), &runtime.speed)
    };
    close(seconds(15_000, 10), 21e-6 + 1e-18);
    close(seconds(20_000, 40), 41e-6 + 1e-18);
    // A whole pass is one pass, not two.
    close(seconds(10_000, 10), 11e-6 + 1e-18);
}

#[test]
fn the_spread_widens_the_range_and_a_further_sequence_costs_its_share() {
    let runtime = artificial(&[
        ("cycles = 0.0, source", "cycles = 1.0, source"),
        ("batch_share = { value = 1.0", "batch_share = { value = 0.5"),
        (
            "spread = { low = 1.0, expected = 1.0, high = 1.0",
            "spread = { low = 0.8, expected = 1.0, high = 1.25",
        ),
    ]);
    let matrix = Operation::dense("m", OperationGroup::Attention, Dtype::Q8_0, 1, 1000, 10);
    let rate = |count| {
        let matrix = std::slice::from_ref(&matrix);
        speed::decode(matrix, 1, count, &gpu(1, 1000.0, 1e9), &runtime.speed).tokens_per_second
    };
    close(rate(1).expected, 1e6);
    close(rate(1).low, 0.8e6);
    close(rate(1).high, 1.25e6);
    // 1000 cycles for the first, 500 for each of three more.
    close(rate(4).expected, 4e6 / 2.5);
}

#[test]
fn a_format_with_its_own_vector_batch_takes_tiles_from_there() {
    // A row of one tile: 128 x 256 weights. One product takes a cycle a weight; a tile 0.5 and each token 0.25 more.
    let runtime = artificial(&[
        (
            "cycles = 0.0, source",
            "cycles = 1.0, vector_batch = 1, source",
        ),
        ("batch_share = { value = 1.0", "batch_share = { value = 0.5"),
        ("tile_cycles = { value = 0.0", "tile_cycles = { value = 0.5"),
        (
            "quantized_cycles = { value = 0.01",
            "quantized_cycles = { value = 0.25",
        ),
    ]);
    let weights = 128 * 256;
    let matrix = Operation::dense("m", OperationGroup::Attention, Dtype::Q8_0, 1, weights, 128);
    let cycles = |speed: &Speed, count| {
        let matrix = std::slice::from_ref(&matrix);
        let seconds = speed::step_seconds(matrix, 1, count, &gpu(1, 1000.0, 1e12), speed);
        seconds * 1e9 / weights as f64
    };
    close(cycles(&runtime.speed, 1), 1.0);
    // Two: no less than one product; four: the tile and four times a quarter.
    close(cycles(&runtime.speed, 2), 1.0);
    close(cycles(&runtime.speed, 4), 1.5);
    // An older build: half a product more for each of three.
    close(cycles(&runtime.speed.tiling(false), 4), 2.5);
}

#[test]
fn a_softer_norm_joins_memory_and_arithmetic() {
    // 3 ms of memory and 4 ms of arithmetic join to 5 ms under the 2-norm.
    let runtime = artificial(&[
        (
            "overlap_norm = { value = 1.0",
            "overlap_norm = { value = 2.0",
        ),
        ("cycles = 0.0, source", "cycles = 0.25, source"),
    ]);
    let matrix = Operation::dense(
        "body",
        OperationGroup::Attention,
        Dtype::Q8_0,
        30_000_000,
        16_000_000,
        1,
    );
    let estimate = speed::decode(&[matrix], 1, 1, &gpu(1, 1000.0, 10.0), &runtime.speed);
    close(estimate.tokens_per_second.expected, 200.0);
    assert_eq!(estimate.bound, Bound::Compute);
}

#[test]
fn a_batch_reads_weights_once_and_state_for_each_sequence() {
    let weights = Operation::dense(
        "body",
        OperationGroup::Attention,
        Dtype::Q8_0,
        6_000_000,
        1,
        1,
    );
    let cache = Operation::state("cache", OperationGroup::KvCache, Dtype::F16, 1_000_000, 1);
    let experts = Operation::experts("experts", Dtype::Q8_0, 1_000_000, 3_000_000, 1, [1, 1]);
    let rate = |operations: &[Operation]| {
        speed::decode(
            operations,
            1,
            4,
            &gpu(8, 1000.0, 10.0),
            &artificial(&[]).speed,
        )
        .tokens_per_second
        .expected
    };
    // Four tokens in (6 MB + 4 x 1 MB) / 10 GB/s = 1 ms.
    close(rate(&[weights.clone(), cache]), 4000.0);
    // Four sequences would pick four experts' bytes, but only three exist: (6 + 3) MB.
    close(rate(&[weights, experts]), 4.0 / 0.0009);
}

#[test]
fn a_prompt_streams_weights_once_a_ubatch_and_the_head_once() {
    // 3 passes of 10 MB at 10 GB/s: 3 ms; 1200 tokens x 1000 x 8000 weights in tiles of 128 x 256, which are 1024 x 8192,
    // x 0.01 cycles / (8 x 1 GHz): 12.582912 ms; head 1 MB once: 0.1 ms. The request adds 0.5 s.
    let body = Operation::dense(
        "body",
        OperationGroup::FeedForward,
        Dtype::Q8_0,
        10_000_000,
        8_000_000,
        1000,
    );
    let head = Operation::dense(
        "head",
        OperationGroup::Head,
        Dtype::Q8_0,
        1_000_000,
        900_000,
        1000,
    );
    let cache = Operation::state(
        "cache",
        OperationGroup::KvCache,
        Dtype::F16,
        1 << 30,
        1 << 30,
    );
    let prompt = PromptWork {
        tokens: 1200,
        ubatch: 512,
        ..PromptWork::default()
    };
    let estimate = speed::prefill(
        &[body, head, cache],
        1,
        prompt,
        &gpu(8, 1000.0, 10.0),
        &artificial(&[]).speed,
    );
    let seconds = 0.003 + 0.012582912 + 0.0001;
    all(estimate.tokens_per_second, 1200.0 / seconds);
    close(estimate.time_to_first_token.low, seconds);
    close(estimate.time_to_first_token.expected, seconds + 0.5);
    close(estimate.time_to_first_token.high, seconds + 1.0);
    // The ceiling: 3.1 ms of memory against 1200 x 8e6 / 2048 / 8e9 + head = 0.59 ms of arithmetic.
    close(estimate.ceiling, 1200.0 / 0.0031);
}

#[test]
fn attention_counts_each_token_with_itself_and_those_before_it() {
    // 1 + 2 + 3 + 4 pairs; with a window of two 1 + 2 + 2 + 2; 3 heads of 5 + 7.
    assert_eq!(speed::attention_macs(4, 3, 5, 7, None), 10 * 36);
    assert_eq!(speed::attention_macs(4, 3, 5, 7, Some(2)), 7 * 36);
    assert_eq!(speed::attention_macs(4, 3, 5, 7, Some(100)), 10 * 36);
    assert_eq!(speed::attention_macs(0, 3, 5, 7, None), 0);
    assert_eq!(
        speed::attention_macs(u64::MAX, u64::MAX, u64::MAX, 1, None),
        u64::MAX
    );
}

#[test]
fn a_ubatch_computes_scores_with_all_cells_up_to_its_end() {
    // Ubatches of 4 over 10 tokens: 4 x 4 + 4 x 8 + 2 x 10; behind 6 cached ones 4 x 10 + 4 x 14 + 2 x 16.
    assert_eq!(speed::attention_pairs(10, 0, 4, None), 68);
    assert_eq!(speed::attention_pairs(10, 6, 4, None), 128);
    // A window of 3 keeps 3 + 4 cells.
    assert_eq!(speed::attention_pairs(10, 0, 4, Some(3)), 16 + 28 + 14);
    assert_eq!(speed::attention_pairs(10, 6, 4, Some(3)), 70);
    // A ubatch longer than the prompt is the prompt.
    assert_eq!(speed::attention_pairs(3, 0, 512, None), 9);
    assert_eq!(speed::attention_pairs(0, 5, 512, None), 0);
    assert_eq!(
        speed::attention_pairs(u64::MAX, u64::MAX, 1, None),
        u64::MAX
    );
}

/// By hand at 8 SMs of 1 GHz and 10 GB/s: 10 MB once are 1 ms. Four heads that each read them for themselves read 30 MB
/// again, 0.2 cycles each: 0.75 ms; at the depth where half of that misses, 15 MB more come from memory: 1.5 ms.
#[test]
fn heads_that_read_for_themselves_pay_for_the_l2_cache_and_its_misses() {
    let runtime = artificial(&[("byte_cycles = { value = 0.0", "byte_cycles = { value = 0.2")]);
    let cache = Operation::state("cache", OperationGroup::KvCache, Dtype::F16, 10_000_000, 1);
    let seconds = |read| {
        let cache = cache.clone().over_cache(1000, read);
        speed::step_seconds(&[cache], 1, 1, &gpu(8, 1000.0, 10.0), &runtime.speed)
    };
    close(seconds(10_000_000), 0.001);
    close(seconds(40_000_000), 0.001 + 0.00075 + 0.0015);
}

#[test]
fn kernels_launched_one_by_one_take_their_own_time() {
    let speed = runtime::find("vllm").unwrap().speed;
    let eager = speed.eager_launch_seconds.as_ref().unwrap().expected;
    assert_eq!(*speed.launching(true), speed);
    assert_eq!(speed.launching(false).launch_seconds.expected, eager);
    // 20 layers on an otherwise idle GPU, at the clock that launches refer to.
    let gpu = gpu(8, speed.reference_clock_hz.value / 1e6, 68.3);
    let seconds = |graphs| speed::step_seconds(&[], 20, 1, &gpu, &speed.launching(graphs));
    let difference = 20.0 * (eager - speed.launch_seconds.expected);
    assert!((seconds(false) - seconds(true) - difference).abs() < 1e-9);
}

/// 1024 x 8192 weights in whole tiles, 0.01 cycles a weight and token, 1 a weight and tile of 128 tokens, on 8 SMs of
/// 1 GHz: 256 tokens are (2.56 + 2) x 1024 x 8192 cycles, 129 are as many tiles. Rows short of a tile cost a whole one.
#[test]
fn a_prompt_unpacks_weights_for_each_tile_of_tokens() {
    let runtime = artificial(&[("tile_cycles = { value = 0.0", "tile_cycles = { value = 1.0")]);
    let seconds = |rows: u64, tokens| {
        let weights = rows * 8192;
        let body = Operation::dense(
            "m",
            OperationGroup::FeedForward,
            Dtype::Q8_0,
            weights,
            weights,
            rows,
        );
        let prompt = PromptWork {
            tokens,
            ubatch: 512,
            ..PromptWork::default()
        };
        let read = speed::prefill(&[body], 1, prompt, &gpu(8, 1000.0, 1e9), &runtime.speed);
        tokens as f64 / read.tokens_per_second.expected
    };
    let tile = 1024.0 * 8192.0 / 8e9;
    let near = |left: f64, right: f64| assert!((left / right - 1.0).abs() < 1e-6, "{left} {right}");
    near(seconds(1024, 256), tile * (2.56 + 2.0));
    near(seconds(1024, 129), tile * (1.29 + 2.0));
    near(seconds(1000, 256), seconds(1024, 256));
}

/// Of 8 experts a token takes 2. Each of them sees 64 of 256 tokens and computes a tile of 128, or 128 of 512 and computes
/// one and a half.
#[test]
fn experts_compute_whole_tiles() {
    let tiles =
        "tile_cycles = { value = 1.0, source = \"made-up\" }\nexpert_tile_tokens = { value = 128";
    let runtime = artificial(&[("tile_cycles = { value = 0.0", tiles)]);
    let one = 1024 * 1024;
    let experts = Operation::experts("m", Dtype::Q8_0, 2 * one, 8 * one, 2 * one, [2048, 1024]);
    let seconds = |tokens| {
        let prompt = PromptWork {
            tokens,
            ubatch: 512,
            ..PromptWork::default()
        };
        let gpu = gpu(8, 1000.0, 1e9);
        let read = speed::prefill(
            std::slice::from_ref(&experts),
            1,
            prompt,
            &gpu,
            &runtime.speed,
        );
        tokens as f64 / read.tokens_per_second.expected
    };
    let tile = 8.0 * one as f64 * (1.0 + 128.0 * 0.01) / 8e9;
    let near = |left: f64, right: f64| assert!((left / right - 1.0).abs() < 1e-6, "{left} {right}");
    near(seconds(256), tile);
    near(seconds(512), 1.5 * tile);
}

/// 300 tokens through 4 layers of 1000 cycles each at 1 GHz: 1.2 ms on any number of SMs.
#[test]
fn a_recurrent_layer_takes_one_token_after_the_other() {
    let runtime = artificial(&[(
        "scan_cycles = { value = 0.0",
        "scan_cycles = { value = 1000.0",
    )]);
    let norms = [Operation::dense(
        "norms",
        OperationGroup::Other,
        Dtype::F32,
        1000,
        0,
        0,
    )];
    for sms in [4, 16] {
        let prompt = PromptWork {
            tokens: 300,
            ubatch: 512,
            recurrent_layers: 4,
            ..PromptWork::default()
        };
        let read = speed::prefill(&norms, 4, prompt, &gpu(sms, 1000.0, 1e9), &runtime.speed);
        close(300.0 / read.tokens_per_second.expected, 0.0012);
    }
}

/// A cache in F16 is read as it is; of another type, each ubatch copies the cells up to its end, of keys and of values.
#[test]
fn a_cache_in_another_type_is_copied_for_each_ubatch() {
    let model = support::open("qwen3-0.6b");
    let widened = |type_k, type_v, flash_attention| {
        let workload = Workload {
            prompt_tokens: 1200,
            cached_tokens: 100,
            type_k,
            type_v,
            flash_attention,
            ..Workload::default()
        };
        model.prompt_work_of(&workload).widened_bytes
    };
    // Ubatches that end at 612, 1124 and 1200; 28 blocks, keys and values of 1024 elements: 34 bytes for 32 of them in Q8_0.
    let cells = 612 + 1124 + 1200;
    assert_eq!(speed::attention_cells(1100, 100, 512, None), cells);
    let row = 1024 / 32 * 34 + 1024 * 2;
    assert_eq!(widened(Dtype::F16, Dtype::F16, true), 0);
    assert_eq!(
        widened(Dtype::Q8_0, Dtype::Q8_0, true),
        28 * cells * 2 * row
    );
    assert_eq!(widened(Dtype::F16, Dtype::Q8_0, true), 28 * cells * row);
    assert_eq!(widened(Dtype::Q8_0, Dtype::F16, false), 0);
    // They move at the rate of memory.
    let runtime = artificial(&[]);
    let prompt = |widened_bytes| PromptWork {
        tokens: 1,
        ubatch: 1,
        fused: true,
        widened_bytes,
        ..PromptWork::default()
    };
    let group = OperationGroup::FeedForward;
    let body = Operation::dense("m", group, Dtype::F16, 2_000_000, 1_000_000, 1000);
    let seconds = |bytes| {
        let (prompt, gpu) = (prompt(bytes), gpu(8, 1000.0, 10.0));
        let read = speed::prefill(std::slice::from_ref(&body), 1, prompt, &gpu, &runtime.speed);
        1.0 / read.tokens_per_second.expected
    };
    close(seconds(1_000_000_000) - seconds(0), 0.1);
}

/// What the cache holds is not read again, and what is left attends to all of it.
#[test]
fn a_cached_prefix_leaves_less_to_read() {
    let model = support::open("qwen3-0.6b");
    let (whole, rest) = (model.prompt_work(2048, 0), model.prompt_work(2048, 1536));
    assert_eq!((whole.tokens, rest.tokens), (2048, 512));
    let (first, last) = (model.prompt_work(1536, 0), rest);
    assert_eq!(
        whole.attention_macs,
        first.attention_macs + last.attention_macs
    );
    assert_eq!(
        whole.attention_pairs,
        first.attention_pairs + last.attention_pairs
    );
}

#[test]
fn a_format_without_its_own_cost_takes_the_nearest_in_bits_and_a_wider_range() {
    let runtime = artificial(&[(
        "Q8_0 = {",
        "packed = { bits = 4.125, cycles = 1.0, source = \"made-up\", trust = \"measured\" }\nQ8_0 = {",
    )]);
    assert_eq!(runtime.speed.cost(Dtype::I32, 4.2).cycles, 1.0);
    assert_eq!(runtime.speed.cost(Dtype::Q6_K, 6.5625).cycles, 0.0);
    let packed = Operation::dense(
        "w4",
        OperationGroup::Attention,
        Dtype::I32,
        500_000,
        1_000_000,
        1,
    );
    let estimate = speed::decode(&[packed], 1, 1, &gpu(1, 1000.0, 1e6), &runtime.speed);
    assert!(estimate.tokens_per_second.low < 0.8 * estimate.tokens_per_second.expected);
    assert!(estimate.tokens_per_second.high > 1.25 * estimate.tokens_per_second.expected);
}

#[test]
fn fp8_gains_bytes_but_no_arithmetic_before_compute_capability_8_9() {
    // 1e9 multiply-accumulates at 1024 (F16), not 2048 (INT8), an SM and cycle.
    let fp8 = Operation::dense(
        "w8",
        OperationGroup::Head,
        Dtype::F8_E4M3,
        1,
        1_000_000_000,
        1,
    );
    let q8 = Operation {
        dtype: Dtype::Q8_0,
        ..fp8.clone()
    };
    let ceiling = |operation| {
        speed::decode(
            &[operation],
            1,
            1,
            &gpu(8, 1000.0, 68.0),
            &artificial(&[]).speed,
        )
        .ceiling
    };
    close(ceiling(fp8), 8e9 * 1024.0 / 1e9);
    close(ceiling(q8), 8e9 * 2048.0 / 1e9);
}

#[test]
fn absurd_input_gives_zero_not_a_panic() {
    let runtime = runtime::find("llama.cpp").unwrap();
    let huge = Operation::dense(
        "huge",
        OperationGroup::FeedForward,
        Dtype::Q4_K,
        u64::MAX,
        u64::MAX,
        u64::MAX,
    );
    let state = Operation::state(
        "state",
        OperationGroup::Recurrent,
        Dtype::F32,
        u64::MAX,
        u64::MAX,
    );
    let gpus = [
        gpu(0, 0.0, 0.0),
        gpu(8, f64::NAN, f64::NAN),
        gpu(8, f64::INFINITY, f64::INFINITY),
        gpu(8, -1.0, -1.0),
        gpu(8, 612.0, 68.0),
    ];
    for gpu in gpus {
        for operations in [
            vec![],
            vec![huge.clone()],
            vec![huge.clone(), state.clone()],
        ] {
            for n in [0, 1, u64::MAX] {
                let estimate = speed::decode(&operations, n, n, &gpu, &runtime.speed);
                let prompt = PromptWork {
                    tokens: n,
                    ubatch: n,
                    attention_macs: n,
                    attention_pairs: n,
                    fused: n == 1,
                    widened_bytes: n,
                    recurrent_layers: 1,
                };
                let read = speed::prefill(&operations, n, prompt, &gpu, &runtime.speed);
                for spread in [
                    estimate.tokens_per_second,
                    read.tokens_per_second,
                    read.time_to_first_token,
                ] {
                    assert!(
                        spread.low.is_finite() && spread.high.is_finite(),
                        "{spread:?}"
                    );
                    assert!(
                        0.0 <= spread.low
                            && spread.low <= spread.expected
                            && spread.expected <= spread.high,
                        "{spread:?}"
                    );
                }
                assert!(estimate.ceiling.is_finite() && read.ceiling.is_finite());
                assert!(estimate.parts.iter().all(|part| part.seconds.is_finite()));
            }
        }
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let formats = prop::sample::select(vec![
        Dtype::Q4_K,
        Dtype::Q6_K,
        Dtype::Q8_0,
        Dtype::F16,
        Dtype::F8_E4M3,
        Dtype::Q3_K,
        Dtype::F32,
    ]);
    let one = (formats, 1u64..4_000_000, 1u64..200_000, 0u8..4).prop_map(
        |(dtype, blocks, rows, kind)| {
            let weights = blocks * 256;
            let bytes = dtype.bytes(&[weights]).unwrap().0;
            match kind {
                0 => Operation::dense("head", OperationGroup::Head, dtype, bytes, weights, rows),
                1 => Operation::experts("experts", dtype, bytes, bytes * 8, weights, [rows, rows]),
                2 => Operation::state(
                    "cache",
                    OperationGroup::KvCache,
                    Dtype::F16,
                    weights * 2,
                    weights * 2,
                ),
                _ => Operation::dense(
                    "body",
                    OperationGroup::FeedForward,
                    dtype,
                    bytes,
                    weights,
                    rows,
                ),
            }
        },
    );
    prop::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn ranges_are_ordered_and_stay_below_the_ceiling(
        operations in operations(), id in prop::sample::select(runtime::builtin_ids().collect::<Vec<_>>()),
        layers in 1u64..100, parallel in 1u64..16, tokens in 1u64..10_000, ubatch in 1u64..2048,
    ) {
        let (speed, gpu) = (runtime::find(id).unwrap().speed, gpu(8, 612.0, 68.3));
        let decode = speed::decode(&operations, layers, parallel, &gpu, &speed);
        let read = speed::prefill(&operations, layers, PromptWork { tokens, ubatch, attention_macs: tokens * tokens, attention_pairs: tokens * tokens, fused: true, widened_bytes: 0, recurrent_layers: 1 }, &gpu, &speed);
        for (spread, ceiling) in [(decode.tokens_per_second, decode.ceiling), (read.tokens_per_second, read.ceiling)] {
            prop_assert!(0.0 < spread.low && spread.low <= spread.expected, "{spread:?}");
            prop_assert!(spread.expected <= spread.high && spread.high <= ceiling * (1.0 + 1e-12), "{spread:?} {ceiling}");
        }
        let first = read.time_to_first_token;
        prop_assert!(first.low <= first.expected && first.expected <= first.high);
        let total: f64 = decode.parts.iter().map(|part| part.seconds).sum();
        prop_assert!(decode.tokens_per_second.expected <= parallel as f64 / total * (1.0 + 1e-12));
    }

    #[test]
    fn more_to_do_is_never_faster_and_more_hardware_never_slower(
        operations in operations(), extra in 1u64..1_000_000_000, factor in 1.0f64..4.0, at in any::<prop::sample::Index>(),
    ) {
        let speed = runtime::find("llama.cpp").unwrap().speed;
        let prompt = PromptWork { tokens: 700, ubatch: 512, ..PromptWork::default() };
        let rates = |operations: &[Operation], gpu: &ClockedGpu| {
            let decode = speed::decode(operations, 20, 2, gpu, &speed);
            let read = speed::prefill(operations, 20, prompt, gpu, &speed);
            let [d, r] = [decode.tokens_per_second, read.tokens_per_second];
            [d.low, d.expected, d.high, r.low, r.expected, r.high, decode.ceiling, read.ceiling]
        };
        let never_above = |less: [f64; 8], more: [f64; 8]| less.iter().zip(more).all(|(a, b)| *a <= b * (1.0 + 1e-9));
        let base = gpu(8, 612.0, 68.3);
        let rate = rates(&operations, &base);
        for better in [gpu(8, 612.0, 68.3 * factor), gpu(8, 612.0 * factor, 68.3), gpu(16, 612.0, 68.3)] {
            prop_assert!(never_above(rate, rates(&operations, &better)));
        }
        let mut longer = operations.clone();
        let operation = at.get(&longer).clone();
        longer.push(Operation { bytes: operation.bytes.saturating_add(extra), stored: operation.stored.saturating_add(extra), ..operation });
        prop_assert!(never_above(rates(&longer, &base), rate));
    }
}
