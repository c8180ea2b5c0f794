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
