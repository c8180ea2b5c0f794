//! `orinplan fit --parallel auto`: how many sequences at once.

use crate::support::{QWEN, json, refused, run};

const AUTO: &str = "--device orin-nano-8gb --power-mode MAXN_SUPER --context 1024 --parallel auto";

#[test]
fn the_best_number_is_planned_with_the_context_of_each() {
    let document = json(0, &format!("fit {QWEN} {AUTO} --scheme q4_k_m"));
    let found = &document["throughput"];
    let best = found["best_parallel"].as_u64().unwrap();
    assert_eq!(document["workload"]["parallel"], best);
    assert_eq!(document["workload"]["context"], 1024 * best);
    let plain =
        format!("fit {QWEN} --device orin-nano-8gb --power-mode MAXN_SUPER --scheme q4_k_m");
    let batches = found["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 10);
    for batch in batches {
        // Each is what `fit` plans for so many.
        let sequences = batch["parallel"].as_u64().unwrap();
        let own = json(
            0,
            &format!(
                "{plain} --parallel {sequences} --context {}",
                1024 * sequences
            ),
        );
        let plan = &own["plans"][0];
        assert_eq!(batch["total_bytes"], plan["memory"]["total_bytes"]);
        assert_eq!(
            batch["tokens_per_second"],
            plan["decode"]["tokens_per_second"]
        );
        // Nothing is faster than the best by more than what makes a difference.
        let rate =
            |batch: &serde_json::Value| batch["tokens_per_second"]["expected"].as_f64().unwrap();
        let taken = batches
            .iter()
            .find(|batch| batch["parallel"] == best)
            .unwrap();
        assert!(rate(batch) * 0.98 <= rate(taken), "{batch}");
    }
}

#[test]
fn latency_and_memory_bound_the_number() {
    let best = |more: &str| {
        let document = json(0, &format!("fit {QWEN} {AUTO} --scheme q4_k_m {more}"));
        document["throughput"]["best_parallel"].as_u64().unwrap()
    };
    let free = best("");
    assert!(best("--max-latency 25ms") < free);
    assert!(best("--budget 1300MiB") < free);
    let none = run(&format!("fit {QWEN} {AUTO} --max-latency 1ms"));
    assert_eq!(none.code, 1);
    assert!(none.out.contains("NO NUMBER"), "{}", none.out);
}

#[test]
fn the_text_says_what_limits_and_how_the_runtime_schedules() {
    for (runtime, rule) in [
        ("llama.cpp", "slots"),
        ("ollama", "OLLAMA_NUM_PARALLEL"),
        ("vllm", "--max-num-seqs"),
    ] {
        let shown = run(&format!("fit {QWEN} {AUTO} --runtime {runtime} --all"));
        let flat = shown.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains(rule) && flat.contains("no batch above 8"),
            "{}",
            shown.out
        );
    }
}

#[test]
fn words_that_do_not_belong_together_are_refused() {
    refused(
        &format!("fit {QWEN} --max-latency 80ms"),
        &["--parallel auto"],
    );
    refused(&format!("fit {QWEN} --parallel many"), &["auto"]);
    refused(&format!("fit {QWEN} {AUTO} --max-latency soon"), &["80ms"]);
    refused("models --parallel auto", &["`fit`"]);
    refused(&format!("board {QWEN} --parallel auto"), &["`fit`"]);
    refused(
        &format!("fit {QWEN} {QWEN} --parallel auto"),
        &["one model"],
    );
}

#[test]
fn whole_requests_are_a_prompt_and_the_steps_of_an_answer() {
    let board = "--device orin-nano-8gb --power-mode MAXN_SUPER --scheme q4_k_m --context 4096";
    let at = |words: &str| json(0, &format!("fit {QWEN} {board} {words}"))["plans"][0].clone();
    let value =
        |plan: &serde_json::Value, pointer: &str| plan.pointer(pointer).unwrap().as_f64().unwrap();
    let whole = at("--prompt-tokens 512 --generate 256 --parallel 4");
    assert!(
        at("--prompt-tokens 512 --parallel 4")
            .get("requests")
            .is_none()
    );
    // Four prompts of 512, then the steps behind them at the depth of half an answer.
    let first = value(&whole, "/prefill/time_to_first_token_seconds/expected");
    let halfway = at("--prompt-tokens 640 --parallel 4");
    let step = 4.0 / value(&halfway, "/decode/tokens_per_second/expected");
    let seconds = 4.0 * first + 252.0 * step;
    let off = |found: f64, expected: f64| {
        assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}")
    };
    off(value(&whole, "/requests/seconds/expected"), seconds);
    off(
        value(&whole, "/requests/output_tokens_per_second/expected"),
        1024.0 / seconds,
    );
    off(
        value(&whole, "/requests/requests_per_minute/expected"),
        240.0 / seconds,
    );
    let text = run(&format!(
        "fit {QWEN} {board} --prompt-tokens 512 --generate 256 --parallel 4"
    ))
    .out;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains(" answer tokens/s from 4 requests at a time of 512 + 256 tokens"),
        "{text}"
    );

    refused(
        &format!("fit {QWEN} {QWEN} {board} --generate 64"),
        &["--generate applies to one model"],
    );
    for (words, said) in [
        (
            "--generate 4000",
            "a prompt of 512 tokens and --generate 4000 exceed the 4096 tokens of context that a sequence has",
        ),
        ("--parallel 8 --generate 1", "exceed the 512 tokens"),
        ("--generate 64 --draft lookup", "--draft"),
        ("--generate 0", "from 1 to"),
    ] {
        refused(&format!("fit {QWEN} {board} {words}"), &[said]);
    }
}

/// vLLM keeps whole blocks of 16 tokens of a prompt; llama.cpp any number.
#[test]
fn a_cached_prefix_counts_in_blocks() {
    let at = |runtime: &str, cached: u64| {
        let words = format!(
            "fit {QWEN} --device orin-nano-8gb --runtime {runtime} --prompt-tokens 512 --cached-tokens {cached}"
        );
        json(0, &words)["plans"][0].clone()
    };
    let first = |runtime: &str, cached| {
        at(runtime, cached)["prefill"]["time_to_first_token_seconds"]["expected"].clone()
    };
    assert_eq!(first("vllm", 304), first("vllm", 319));
    assert_ne!(first("vllm", 304), first("vllm", 320));
    assert_ne!(first("llama.cpp", 304), first("llama.cpp", 319));
    let notes = |cached| at("vllm", cached)["notes"].to_string();
    assert!(
        notes(319).contains("304 of the 319 cached tokens count"),
        "{}",
        notes(319)
    );
    assert!(!notes(320).contains("prefix_kept"));
}

/// Since September 2026 builds give K-quants of two to eight sequences to the kernel of prompts: Qwen3.5-4B in Q2_K decodes 62.7
/// tokens/s with four on an Orin Nano instead of 37.3 (llama.cpp pull request 28285).
#[test]
fn an_older_build_is_told_where_it_decodes_batches_slower() {
    let at = |words: &str| {
        let words = format!("fit {QWEN} --device orin-nano-8gb --power-mode MAXN_SUPER {words}");
        json(0, &words)["plans"][0].clone()
    };
    let several = at("--scheme q4_k_m --parallel 4");
    let rate = |pointer: &str| several.pointer(pointer).unwrap().as_f64().unwrap();
    let older = rate("/decode/older_build_tokens_per_second/expected");
    let share = older / rate("/decode/tokens_per_second/expected");
    assert!((0.4..0.95).contains(&share), "{share}");
    for words in ["--scheme q4_k_m", "--scheme q8_0 --parallel 4"] {
        let plan = at(words);
        assert!(
            plan["decode"]
                .get("older_build_tokens_per_second")
                .is_none(),
            "{words}"
        );
    }
}
