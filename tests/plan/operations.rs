//! What one token reads and multiplies, against sums over the published shapes that are written out here.

use std::process::Command;

use orinplan::plan::speed::{Operation, OperationGroup};
use serde_json::json;

use crate::support::open;

/// Sums over some operations of what one token does.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    bytes: u64,
    stored: u64,
    weights: u64,
    rows: u64,
}

fn sum<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Sum {
    let mut sum = Sum::default();
    for operation in operations {
        sum.bytes += operation.bytes;
        sum.stored = sum.stored.saturating_add(operation.stored);
        sum.weights += operation.weights;
        sum.rows += operation.rows;
    }
    sum
}

/// Bytes and multiply-accumulates of attention for one token behind `depth` others.
fn cache(fixture: &str, depth: u64) -> (u64, u64) {
    let operations = open(fixture).operations("f16", depth);
    let cache = operations
        .iter()
        .filter(|o| o.group == OperationGroup::KvCache);
    let Sum { bytes, weights, .. } = sum(cache);
    (bytes, weights)
}

/// Behind 4096 tokens a block with a window of 512 reads 512 cells; behind 300 each reads 300.
#[test]
fn a_token_reads_the_window_and_no_more() {
    // 26 blocks, of which 4 have no window; 4 heads on 1, 256 wide; keys and values in F16.
    let cells = 4 * 4096 + 22 * 512;
    let expected = (cells * 256 * 4, cells * 4 * 512);
    assert_eq!(cache("gemma-3-1b-it", 4096), expected);
    let cells = 26 * 300;
    assert_eq!(cache("gemma-3-1b-it", 300).0, cells * 256 * 4);
    // 30 blocks, of which 6 have no window; 8 heads on 2. The 10 that have no cache read another's.
    let cells = 6 * 4096 + 24 * 512;
    let expected = (cells * 2 * 256 * 4, cells * 8 * 512);
    assert_eq!(cache("gemma-3n-e2b-it", 4096), expected);
    // 28 blocks without a window; 16 heads on 8, 128 wide.
    let cells = 28 * 4096;
    let expected = (cells * 8 * 128 * 4, cells * 16 * 256);
    assert_eq!(cache("qwen3-0.6b", 4096), expected);
}

/// A process took 459 bytes an entry of Qwen3's vocabulary, with as many merges; 233 to 239 where there are none.
#[test]
fn a_tokenizer_takes_memory_by_its_entries_and_merges() {
    let model = open("qwen3-0.6b");
    let each = |merges| model.tokenizer_bytes(merges) as f64 / 151_936.0;
    let near = |bytes: f64, reading: f64| assert!((bytes / reading - 1.0).abs() < 0.02, "{bytes}");
    near(each(Some(151_387)), 459.0);
    near(each(Some(0)), 236.0);
    // Llama 3's has 2.18 merges an entry.
    near(each(Some(151_936 * 218 / 100)), 702.0);
    near(each(None), 450.0);
}

/// Token `t` of a prompt sees `t` cells, or the window.
#[test]
fn a_prompt_sees_the_window_and_no_more() {
    let pairs = |window: u64| (1..=4096).map(|token: u64| token.min(window)).sum::<u64>();
    assert_eq!((pairs(4096), pairs(512)), (8_390_656, 1_966_336));
    let pairs = 4 * 8_390_656 + 22 * 1_966_336;
    let found = open("gemma-3-1b-it").prompt_attention(4096);
    assert_eq!(found, pairs * 4 * 512);
    let found = open("qwen3-0.6b").prompt_attention(4096);
    assert_eq!(found, 28 * 8_390_656 * 16 * 256);
}

/// 8 of 32 experts, each of three matrices of 512 x 1024, in 24 blocks: 302 M of the 400 M weights for which
/// the model is named.
#[test]
fn a_token_reads_the_experts_that_it_uses() {
    let used = 24 * 8 * 3 * 512 * 1024;
    assert_eq!(used, 301_989_888);
    for fixture in [
        "granite-3.1-1b-a400m-instruct",
        "granite-3.1-1b-a400m-instruct-Q4_K_M.header.gguf",
    ] {
        let operations = open(fixture).operations("f16", 256);
        let (experts, others): (Vec<_>, Vec<_>) =
            operations.iter().partition(|o| o.name == "experts");
        let expected = Sum {
            bytes: used * 2,
            stored: 4 * used * 2,
            weights: used,
            rows: 24 * 8 * (512 + 512 + 1024),
        };
        assert_eq!(sum(experts), expected, "{fixture}");
        // Attention, the router, and the tied head.
        let dense = 24 * (2 * 1024 * 1024 + 2 * 512 * 1024 + 32 * 1024) + 49_155 * 1024;
        let matrices = others.into_iter().filter(|o| o.rows > 0);
        assert_eq!(sum(matrices).weights, dense, "{fixture}");
    }
}

/// Sizes whose products pass 64 bits, for blocks of every kind: a model that does not fit, or an error.
#[test]
fn sizes_beyond_all_reason_do_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    for (class, kind) in [
        ("Qwen3ForCausalLM", "qwen3"),
        ("Gemma3nForConditionalGeneration", "gemma3n"),
        ("Gemma4ForConditionalGeneration", "gemma4"),
        ("GraniteMoeForCausalLM", "granitemoe"),
        ("GptOssForCausalLM", "gpt_oss"),
        ("Lfm2ForCausalLM", "lfm2"),
        ("NemotronHForCausalLM", "nemotron_h"),
    ] {
        for size in [1_u64 << 31, u64::from(u32::MAX)] {
            let mut config = json!({
                "architectures": [class], "model_type": kind, "num_hidden_layers": 3,
                "max_position_embeddings": 4096, "sliding_window": 512, "altup_num_inputs": 4,
                "hybrid_override_pattern": "M*-",
                "layer_types": ["full_attention", "full_attention", "full_attention"]
            });
            for key in [
                "hidden_size",
                "intermediate_size",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
                "global_head_dim",
                "vocab_size",
                "num_local_experts",
                "num_experts",
                "num_experts_per_tok",
                "hidden_size_per_layer_input",
                "conv_L_cache",
                "mamba_num_heads",
                "mamba_head_dim",
                "ssm_state_size",
                "conv_kernel",
                "n_groups",
            ] {
                config[key] = json!(size);
            }
            let path = directory.path().join("config.json");
            std::fs::write(&path, config.to_string()).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_orinplan"));
            let output = command.arg("fit").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(
                matches!(code, Some(1 | 2)),
                "{kind} of {size}: {code:?} {said}"
            );
        }
    }
}
