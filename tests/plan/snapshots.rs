//! One snapshot for each fixture and power mode of the Orin Nano 8GB: a line for each plan with all
//! its figures. A change here is a changed prediction: read it before accepting it.

use serde_json::Value as Json;

use crate::invariants;
use crate::support::{fixtures, hugging_face_fixtures, printed};

const COLUMNS: [&str; 24] = [
    "scheme", "verdict", "tensors", "file", "bits", "max ctx", "weights", "2nd embd", "kv",
    "state", "compute", "output", "runtime", "total", "headroom", "largest", "B/token", "ceiling",
    "low", "expected", "high", "prefill", "ttft", "notes",
];

fn number(value: &Json, decimals: usize) -> String {
    value
        .as_f64()
        .map_or("-".to_owned(), |number| format!("{number:.decimals$}"))
}

fn row(plan: &Json) -> [String; 24] {
    let memory = |key: &str| plan["memory"][key].to_string();
    let decode = &plan["decode"];
    let rate = |key: &str| number(&decode["tokens_per_second"][key], 2);
    let notes = plan["notes"].as_array().unwrap();
    let codes: Vec<&str> = notes
        .iter()
        .map(|note| note["code"].as_str().unwrap())
        .collect();
    [
        plan["scheme"].as_str().unwrap().to_owned(),
        plan["verdict"].as_str().unwrap().to_owned(),
        plan["tensor_bytes"].to_string(),
        plan["file_bytes"].to_string(),
        number(&plan["bits_per_weight"], 3),
        plan["max_context"].to_string(),
        memory("weights_bytes"),
        memory("duplicated_embedding_bytes"),
        memory("kv_cache_bytes"),
        memory("recurrent_state_bytes"),
        memory("compute_bytes"),
        memory("output_bytes"),
        memory("runtime_bytes"),
        memory("total_bytes"),
        memory("headroom_bytes"),
        memory("largest_allocation_bytes"),
        decode["bytes_per_token"].to_string(),
        number(&decode["ceiling_tokens_per_second"], 1),
        rate("low"),
        rate("expected"),
        rate("high"),
        number(&plan["prefill"]["tokens_per_second"]["expected"], 0),
        number(
            &plan["prefill"]["time_to_first_token_seconds"]["expected"],
            3,
        ),
        codes.join(","),
    ]
}

/// A header and one aligned line for each plan.
fn table(document: &Json) -> String {
    let (model, device) = (&document["model"], &document["device"]);
    let word = |value: &Json| value.as_str().unwrap_or("none").to_owned();
    let mut text = format!(
        "{} ({}, {} parameters, {} of {} bytes) on {}, {}, {}: context {}, {} bytes available, take {}\n",
        word(&model["name"]),
        word(&model["architecture"]),
        model["parameters"],
        word(&model["source_format"]),
        model["source_bytes"],
        word(&device["id"]),
        word(&device["power_mode"]),
        word(&document["runtime"]["id"]),
        document["workload"]["context"],
        device["memory_available_bytes"],
        word(&document["recommended"]),
    );
    let plans = document["plans"].as_array().unwrap();
    let rows: Vec<[String; 24]> = std::iter::once(COLUMNS.map(str::to_owned))
        .chain(plans.iter().map(row))
        .collect();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells =
            row.iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    // Words stand left, figures right.
                    0 | 1 | 23 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn check(fixture: &str, mode: &str, runtime: &str) {
    let name = format!("{fixture}-{mode}-{runtime}");
    let words = format!("--power-mode {mode} --runtime {runtime}");
    compare(&name, fixture, &words);
}

/// The table of `orinplan fit` with these words against the snapshot `name`.
fn compare(name: &str, fixture: &str, words: &str) {
    let words = format!("--device orin-nano-8gb --scheme all {words}");
    let document = printed(fixture, &words);
    invariants::check(&document);
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, table(&document));
    });
}

#[test]
fn every_fixture_at_15_w() {
    for fixture in fixtures() {
        check(&fixture, "15W", "llama.cpp");
    }
}

#[test]
fn every_fixture_at_maxn_super() {
    for fixture in fixtures() {
        check(&fixture, "MAXN_SUPER", "llama.cpp");
    }
}

#[test]
fn every_hugging_face_fixture_on_vllm() {
    for fixture in hugging_face_fixtures() {
        check(&fixture, "15W", "vllm");
    }
}

/// Eight windows of 512: what windows save in memory and time is in these, in the others it is not.
#[test]
fn every_fixture_behind_a_prompt_of_4096_tokens() {
    for fixture in fixtures().iter().filter(|name| !name.starts_with("tiny-")) {
        let name = format!("{fixture}-prompt-4096");
        let words = "--power-mode 15W --context 8192 --prompt-tokens 4096";
        compare(&name, fixture, words);
    }
}
