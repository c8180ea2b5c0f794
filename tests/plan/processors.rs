//! Rates on processors against the sum in `plan::cpu`'s documentation, done by hand with round numbers.

use orinplan::device::Cpu;
use orinplan::dtype::Dtype;
use orinplan::plan::cpu::{self, CpuContext};
use orinplan::plan::speed::{Operation, OperationGroup, PromptWork};

const CALIBRATION: &str = r#"
schema = "orinplan.calibration/1"
date = "2026-01-01"
version = "0.1.0"
processor = "made up"
threads = 2
seconds = 1.0
runtime = "candle-cpu"
bandwidth_bytes_per_second = 1e10
layer_seconds = 1e-4
row_seconds = 1e-8
token_seconds = 1e-3
prompt_row_seconds = 1e-9
cache_bytes_per_second = 1e9
attention_macs_per_second = 1e9
[formats.Q8_0]
decode_bytes_per_second = 1e9
prefill_macs_per_second = 2e9
[formats.Q6_K]
decode_bytes_per_second = 5e8
prefill_macs_per_second = 1e9
"#;

/// A matrix, a head, and everything else that a token meets.
fn operations() -> Vec<Operation> {
    let dense = Operation::dense;
    vec![
        dense(
            "body",
            OperationGroup::FeedForward,
            Dtype::Q8_0,
            10_000_000,
            8_000_000,
            1000,
        ),
        dense(
            "head",
            OperationGroup::Head,
            Dtype::Q6_K,
            5_000_000,
            6_000_000,
            2000,
        ),
        dense("norms", OperationGroup::Other, Dtype::F32, 100_000, 0, 0),
        Operation::state("cache", OperationGroup::KvCache, Dtype::F16, 2_000_000, 1),
        Operation::state("state", OperationGroup::Recurrent, Dtype::F32, 1_000_000, 1),
    ]
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < 1e-9,
        "{found} is not {expected}"
    );
}

#[test]
fn a_token_takes_its_matrices_rows_cache_layers_and_a_constant() {
    let cpu = Cpu::parse(CALIBRATION, "calibration").unwrap();
    let machine = CpuContext {
        cpu: &cpu,
        own: true,
        layers: 10,
    };
    let estimate = cpu::decode(&operations(), 1, machine);
    let body = 10e6 / 1e9 + 1000.0 * 1e-8;
    let head = 5e6 / 5e8 + 2000.0 * 1e-8;
    let (norms, cache, state) = (1e5 / 1e10, 2e6 / 1e9, 1e6 / 1e9);
    let seconds = body + head + norms + cache + state + 10.0 * 1e-4 + 1e-3;
    close(seconds, 0.02504);
    close(estimate.tokens_per_second.expected, 1.0 / seconds);
    close(estimate.ceiling, 1e10 / 18.1e6);
}

/// `body` is `[1000, 8000]`, `head` `[2000, 3000]`; of four experts `[500, 100]` a token uses two.
#[test]
fn a_token_takes_what_its_matrices_are_given_where_that_was_measured() {
    let apart = CALIBRATION.replace("[formats.Q8_0]", "column_seconds = 1e-7\n[formats.Q8_0]");
    let (old, new) = (CALIBRATION, apart.as_str());
    let [old, new] = [old, new].map(|text| Cpu::parse(text, "calibration").unwrap());
    let experts = Operation::experts(
        "experts",
        Dtype::Q8_0,
        1_000_000,
        2_000_000,
        100_000,
        [1000, 200],
    );
    let operations: Vec<Operation> = operations().into_iter().chain([experts]).collect();
    let seconds = |cpu: &Cpu| {
        let machine = CpuContext {
            cpu,
            own: true,
            layers: 10,
        };
        1.0 / cpu::decode(&operations, 1, machine)
            .tokens_per_second
            .expected
    };
    close(seconds(&old), 0.02504 + 1e6 / 1e9 + 1000.0 * 1e-8);
    close(
        seconds(&new) - seconds(&old),
        (8000.0 + 3000.0 + 200.0) * 1e-7,
    );
}

/// 600 tokens in passes of 256 are three; the head is multiplied with the last token alone.
#[test]
fn a_prompt_takes_its_matrices_by_token_the_head_once_and_layers_by_pass() {
    let cpu = Cpu::parse(CALIBRATION, "calibration").unwrap();
    let machine = CpuContext {
        cpu: &cpu,
        own: true,
        layers: 10,
    };
    let prompt = PromptWork {
        tokens: 600,
        ubatch: 256,
        attention_macs: 500_000_000,
        ..PromptWork::default()
    };
    let estimate = cpu::prefill(&operations(), prompt, machine);
    let body = 600.0 * (8e6 / 2e9 + 1000.0 * 1e-9);
    let head = 5e6 / 5e8 + 2000.0 * 1e-8;
    let (state, attention) = (600.0 * 1e6 / 1e9, 5e8 / 1e9);
    let passes = 3.0 * (10.0 * 1e-4 + 1e-3);
    let seconds = body + head + state + attention + passes;
    close(seconds, 3.51662);
    close(estimate.tokens_per_second.expected, 600.0 / seconds);
    close(estimate.time_to_first_token.expected, seconds);
    // Weights once a pass.
    close(estimate.ceiling, 600.0 / (3.0 * 10.1e6 / 1e10));
}
