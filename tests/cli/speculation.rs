//! `fit --draft`: what speculation brings and takes, and the lines that start it.

use crate::support::{QWEN, json, refused, says};

const BOARD: &str = "--device orin-nano-8gb --scheme q4_k_m";
/// A model with its weights, which lines can start.
const TINY: &str = "fixtures/tiny-qwen3";
const GEMMA: &str = "fixtures/gemma-3-1b-it";

#[test]
fn a_draft_takes_what_the_model_takes_alone_without_a_second_process() {
    let memory = |words: &str| {
        let found = json(0, &format!("fit {words} --device orin-nano-8gb"));
        found["plans"][0]["memory"].clone()
    };
    let bytes = |memory: &serde_json::Value, key: &str| memory[key].as_u64().unwrap();
    // The draft is the model itself, as it is stored: the same weights, cache and buffers once more.
    let header = "fixtures/qwen3-0.6b-Q4_K_M.header.gguf";
    let alone = memory(header);
    let with = memory(&format!("{header} --draft {header}"));
    let own = bytes(&alone, "total_bytes") - bytes(&alone, "runtime_bytes");
    assert_eq!(bytes(&with, "draft_bytes"), own);
    // Four rows of logits are verified where one was decoded, which may or may not be the peak of the pass.
    let rest = bytes(&with, "total_bytes") - bytes(&with, "draft_bytes");
    assert!(rest >= bytes(&alone, "total_bytes"));
    assert!(alone.get("draft_bytes").is_none());
}

#[test]
fn acceptance_is_a_share_or_tokens_and_decides_whether_it_is_faster() {
    let speed_up = |acceptance: &str| {
        let found = json(
            0,
            &format!("fit {QWEN} {BOARD} --draft lookup --acceptance {acceptance}"),
        );
        found["plans"][0]["speculation"]["speed_up"]["expected"]
            .as_f64()
            .unwrap()
    };
    // The two published runs: 69 % accepted, a tenth faster; 9.5 %, a quarter slower.
    assert!((speed_up("69%") - 1.10).abs() < 0.005);
    assert!((speed_up("0.095") - 0.76).abs() < 0.005);
    assert!((speed_up("1.5589") - speed_up("0.69")).abs() < 0.001);
    let said = says(
        0,
        &format!("fit {QWEN} {BOARD} --draft lookup --acceptance 9.5%"),
    );
    assert!(
        said.contains("Speculation (lookup): slower, 0.76 times"),
        "{said}"
    );
    let line = says(
        0,
        &format!("fit {TINY} --device orin-nano-8gb --scheme q8_0 --draft lookup"),
    );
    assert!(line.contains("--spec-type ngram-simple"), "{line}");
}

#[test]
fn without_evidence_the_acceptance_to_reach_is_named() {
    let found = json(0, &format!("fit {QWEN} {BOARD} --draft {QWEN}"));
    let speculation = &found["plans"][0]["speculation"];
    assert!(speculation["speed_up"].is_null());
    assert!(
        speculation["cost_plain_steps"]["expected"]
            .as_f64()
            .unwrap()
            > 1.0
    );
    let said = says(0, &format!("fit {QWEN} {BOARD} --draft {QWEN}"));
    assert!(
        said.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains("no published run says"),
        "{said}"
    );
    let line = says(
        0,
        &format!("fit {TINY} --device orin-nano-8gb --scheme q8_0 --draft {TINY} --all"),
    );
    assert!(
        line.contains("-ngld 99 --spec-type draft-simple --spec-draft-n-max 3"),
        "{line}"
    );
    let made = format!("orinplan quantize {TINY} --scheme bf16 --output tiny-qwen3-BF16.gguf");
    assert!(line.contains("Make the draft's file"), "{line}");
    let unwrapped = line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains(&made), "{line}");
    assert!(unwrapped.contains("-md tiny-qwen3-BF16.gguf"), "{line}");
}

#[test]
fn drafts_that_do_not_belong_are_refused_with_the_way_out() {
    for (words, parts) in [
        (
            format!("--draft {GEMMA}"),
            ["vocabulary of 262144", "same family"],
        ),
        (
            "--draft mtp".to_owned(),
            ["mtp_num_hidden_layers", "lookup"],
        ),
        (
            "--draft lookup --runtime ollama".to_owned(),
            ["does not speculate", "--runtime"],
        ),
        (
            "--draft lookup --acceptance 50".to_owned(),
            ["--acceptance 50", "at most 4"],
        ),
        (
            "--draft lookup --acceptance 70".to_owned(),
            ["0.6 or 60%", "from 1 to 64"],
        ),
        ("--acceptance 0.5".to_owned(), ["--draft", "required"]),
    ] {
        refused(&format!("fit {QWEN} {BOARD} {words}"), &parts);
    }
}

/// A container sees only the directories that it is given.
#[test]
fn a_container_is_given_the_directory_of_the_draft() {
    let model = "fixtures/tiny-qwen3";
    let words =
        format!("fit {model} --runtime vllm --scheme bf16 --context 512 --draft {model} --all");
    let text = says(0, &words);
    assert!(
        text.contains(&format!("-v \"$(realpath {model})\":/draft:ro")),
        "{text}"
    );
    assert!(text.contains("\"model\":\"/draft\""), "{text}");
}
