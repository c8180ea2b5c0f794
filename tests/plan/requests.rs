//! Whole requests, and what a prefix cache keeps of their prompts.

use orinplan::note::Prefixes;
use orinplan::plan::prefix;
use orinplan::plan::speed::{Requests, Spread};
use orinplan::runtime;

use crate::support::described;

/// The blocks that vLLM's log names ("Setting attention block size to 784 tokens"): Qwen3.5-27B and 35B-A3B in published logs of
/// 2026, 4B in its issue 40696. Nemotron Nano 9B v2 has states of 32 bits (128 heads of 80 x 128) and 4096 bytes a token. Of other
/// models a block has 16 tokens.
#[test]
fn a_block_of_the_prefix_cache_has_the_tokens_that_vllm_logs() {
    let vllm = runtime::find("vllm").unwrap().memory;
    for (model, tokens, hybrid) in [
        ("qwen3.5-27b", 784, true),
        ("qwen3.5-35b-a3b", 1056, true),
        ("qwen3.5-4b", 528, true),
        ("qwen3.5-9b", 528, true),
        ("nemotron-nano-9b-v2", 1312, true),
        ("qwen3-8b", 16, false),
        ("gemma-3-1b", 16, false),
    ] {
        let found = prefix::prefixes(&described(model).1, &vllm);
        assert_eq!(found, Prefixes::Blocks { tokens, hybrid }, "{model}");
    }
    let llama = runtime::find("llama.cpp").unwrap().memory;
    let found = prefix::prefixes(&described("qwen3.5-4b").1, &llama);
    assert_eq!(found, Prefixes::Tokens);
    let mut states = described("qwen3.5-4b").1;
    for layer in &mut states.layers {
        layer.mixer.attention = None;
    }
    assert_eq!(prefix::prefixes(&states, &vllm), Prefixes::Nothing);
    assert_eq!(prefix::kept(&states, &vllm, 2048, 2000), 0);
}

/// Of Qwen3.5-4B, prompts of 552 and 979 tokens that were read before cost 24 and 451 again, one of 480 all of it (vLLM's issue
/// 40696).
#[test]
fn whole_blocks_are_kept_and_one_token_is_read() {
    let vllm = runtime::find("vllm").unwrap().memory;
    let read = |model: &str, prompt: u64, cached: u64| {
        prompt - prefix::kept(&described(model).1, &vllm, prompt, cached)
    };
    assert_eq!(read("qwen3.5-4b", 552, 552), 24);
    assert_eq!(read("qwen3.5-4b", 979, 979), 451);
    assert_eq!(read("qwen3.5-4b", 480, 480), 480);
    assert_eq!(read("qwen3-8b", 2048, 2048), 16);
    assert_eq!(read("qwen3-8b", 2048, 100), 2048 - 96);
    let llama = runtime::find("llama.cpp").unwrap().memory;
    assert_eq!(
        prefix::kept(&described("qwen3-8b").1, &llama, 2048, 2048),
        2047
    );
}

#[test]
fn requests_take_their_prompts_and_the_steps_that_no_prompt_saved() {
    let requests = |sequences, generated| Requests {
        sequences,
        generated,
    };
    // A second to read a prompt, a hundredth for a step.
    let seconds = |sequences, generated| requests(sequences, generated).seconds(1.0, 0.01);
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    close(seconds(1, 1), 1.0);
    close(seconds(1, 101), 2.0);
    close(seconds(8, 108), 9.0);
    close(seconds(8, 2), 8.0);
    close(requests(0, 1).seconds(1.0, 0.01), 1.0);
    let spread = |low, expected, high| Spread {
        low,
        expected,
        high,
    };
    let (first, decode) = (spread(0.5, 1.0, 2.0), spread(400.0, 800.0, 1600.0));
    let rate = requests(8, 108).output_rate(&first, &decode);
    close(rate.expected, 8.0 * 108.0 / 9.0);
    close(rate.low, 8.0 * 108.0 / 18.0);
    close(rate.high, 8.0 * 108.0 / 4.5);
    assert!(
        requests(u64::MAX, u64::MAX)
            .seconds(f64::MAX, f64::MAX)
            .is_finite()
    );
    let nothing = spread(0.0, 0.0, 0.0);
    assert!(requests(1, 5).output_rate(&nothing, &nothing).high < 1e-9);
}
