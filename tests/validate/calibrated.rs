//! Plans for this machine from its calibration, and the decoder as a backend.

use std::fs;
use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::gguf::Value as Meta;
use orinplan::validate::{SyntheticTensor, write_repeated};
use serde_json::Value;

use crate::server::{counted, ollama};
use crate::support::{MODEL, Run, assert_error, document, run_in, run_on_board};

/// A folder of settings with a calibration of this machine: every byte at `rate`, every layer so long.
fn calibrated(rate: f64, layer_seconds: f64) -> tempfile::TempDir {
    let settings = tempfile::tempdir().unwrap();
    let shown = run_in(
        settings.path(),
        &["devices", "show", "host", "--format", "json"],
    );
    let name = document(&shown, 0)["device"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    write(settings.path(), &name, rate, layer_seconds);
    settings
}

fn write(settings: &Path, name: &str, rate: f64, layer_seconds: f64) {
    let formats: String = ["Q4_K", "Q6_K", "Q8_0", "F16"]
        .iter()
        .map(|format| format!("[formats.{format}]\ndecode_bytes_per_second = {rate:.1}\nprefill_macs_per_second = 1e11\n"))
        .collect();
    let text = format!(
        "schema = \"orinplan.calibration/1\"\ndate = \"2026-11-23\"\nversion = \"0.1.0\"\nprocessor = \"{name}\"\nthreads = 2\nseconds = 40.0\nruntime = \"candle-cpu\"\nbandwidth_bytes_per_second = {rate:.1}\nlayer_seconds = {layer_seconds}\nrow_seconds = 0.0\ntoken_seconds = 0.0\nprompt_row_seconds = 0.0\ncache_bytes_per_second = {rate:.1}\nattention_macs_per_second = 1e12\n{formats}"
    );
    fs::create_dir_all(settings.join("orinplan")).unwrap();
    fs::write(settings.join("orinplan/calibration.toml"), text).unwrap();
}

fn plan(settings: &Path, runtime: &str) -> Value {
    let words = [
        "fit",
        MODEL,
        "--device",
        "host",
        "--runtime",
        runtime,
        "--format",
        "json",
    ];
    let run = run_in(settings, &words);
    document(&run, run.code)["plans"][0].clone()
}

fn expected(plan: &Value) -> f64 {
    plan["decode"]["tokens_per_second"]["expected"]
        .as_f64()
        .unwrap()
}

#[test]
fn a_token_takes_its_bytes_over_their_rate_and_its_layers() {
    let plain = calibrated(1e10, 0.0);
    let plan_of = plan(plain.path(), "candle-cpu");
    let bytes = plan_of["decode"]["bytes_per_token"].as_f64().unwrap();
    assert!(
        (expected(&plan_of) / (1e10 / bytes) - 1.0).abs() < 1e-4,
        "{}",
        plan_of["decode"]
    );
    // Qwen3-0.6B has 28 layers.
    let slow = calibrated(1e10, 0.001);
    let with_layers = 1.0 / expected(&plan(slow.path(), "candle-cpu"));
    assert!(
        (with_layers - bytes / 1e10 - 0.028).abs() < 1e-6,
        "{with_layers}"
    );
    assert!(
        !plan_of["notes"].to_string().contains("bandwidth"),
        "{}",
        plan_of["notes"]
    );
}

#[test]
fn another_runtimes_kernels_are_bracketed_and_said_to_be() {
    let settings = calibrated(1e10, 0.001);
    let (own, other) = (
        plan(settings.path(), "candle-cpu"),
        plan(settings.path(), "llama.cpp-cpu"),
    );
    let width = |plan: &Value| {
        expected(plan) / plan["decode"]["tokens_per_second"]["low"].as_f64().unwrap()
    };
    assert!(width(&own) < 1.3 && width(&other) > 1.9);
    assert!(
        other["notes"].to_string().contains("other_kernels"),
        "{}",
        other["notes"]
    );
}

#[test]
fn a_calibration_of_another_machine_is_left_aside() {
    let settings = tempfile::tempdir().unwrap();
    write(settings.path(), "Another CPU, 64 logical CPUs", 1e10, 0.0);
    let plan = plan(settings.path(), "candle-cpu");
    assert_eq!(plan["decode"], Value::Null);
    let shown = run_in(settings.path(), &["devices", "show", "host"]);
    let words = shown.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("calibration_of_another_machine") && words.contains("Another CPU"),
        "{words}"
    );
}

#[test]
fn every_measured_number_is_shown_with_its_day() {
    let settings = calibrated(1e10, 0.001);
    let shown = run_in(settings.path(), &["devices", "show", "host"]);
    for part in [
        "Measured on 2026-11-23 by orinplan 0.1.0 (candle-cpu) with 2 threads",
        "Q4_K",
        "10 GB/s",
        "1000.0 us",
    ] {
        let words = shown.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let shown = run_in(
        settings.path(),
        &["devices", "show", "host", "--format", "json"],
    );
    let device = &document(&shown, 0)["device"];
    assert_eq!(
        device["processors"]["formats"]["Q4_K"]["decode_bytes_per_second"],
        1e10
    );
}

/// A GGUF of two small blocks, without a tokenizer.
fn tiny(folder: &Path) -> String {
    tiny_of(folder, Dtype::Q8_0)
}

/// The same with matrices of a format.
fn tiny_of(folder: &Path, format: Dtype) -> String {
    let path = folder.join(format!("tiny-{}.gguf", format.name()));
    let number = |key: &str, value: u32| (format!("llama.{key}"), Meta::U32(value));
    let metadata = vec![
        (
            "general.architecture".to_owned(),
            Meta::String("llama".to_owned()),
        ),
        number("block_count", 2),
        number("context_length", 256),
        number("embedding_length", 64),
        number("feed_forward_length", 128),
        number("attention.head_count", 4),
        number("attention.head_count_kv", 2),
        number("vocab_size", 96),
        (
            "llama.attention.layer_norm_rms_epsilon".to_owned(),
            Meta::F32(1e-5),
        ),
        (
            "tokenizer.ggml.model".to_owned(),
            Meta::String("none".to_owned()),
        ),
    ];
    let mut tensors: Vec<SyntheticTensor> = vec![
        ("token_embd.weight".to_owned(), format, vec![96, 64]),
        ("output_norm.weight".to_owned(), Dtype::F32, vec![64]),
    ];
    for block in 0..2 {
        for (name, dtype, shape) in [
            ("attn_norm", Dtype::F32, vec![64]),
            ("attn_q", format, vec![64, 64]),
            ("attn_k", format, vec![32, 64]),
            ("attn_v", format, vec![32, 64]),
            ("attn_output", format, vec![64, 64]),
            ("ffn_norm", Dtype::F32, vec![64]),
            ("ffn_gate", format, vec![128, 64]),
            ("ffn_up", format, vec![128, 64]),
            ("ffn_down", format, vec![64, 128]),
        ] {
            tensors.push((format!("blk.{block}.{name}.weight"), dtype, shape));
        }
    }
    write_repeated(&path, &metadata, &tensors).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_of_a_format_that_was_not_measured_has_no_rate_and_the_reason() {
    let settings = calibrated(1e10, 0.001);
    let model = tiny_of(settings.path(), Dtype::Q4_1);
    for runtime in ["candle-cpu", "llama.cpp-cpu"] {
        let words = [
            "fit",
            &model,
            "--device",
            "host",
            "--runtime",
            runtime,
            "--format",
            "json",
        ];
        let run = run_in(settings.path(), &words);
        let plan = document(&run, run.code)["plans"][0].clone();
        assert_eq!(plan["decode"], Value::Null);
        assert_eq!(plan["prefill"], Value::Null);
        let notes = plan["notes"].to_string();
        assert!(
            notes.contains("format_unmeasured")
                && notes.contains("no rate for Q4_1")
                && notes.contains("orinplan calibrate"),
            "{notes}"
        );
    }
    // It runs all the same, and is measured without a prediction of its rate.
    let run = candle(
        settings.path(),
        &model,
        &["--repeats", "1", "--format", "json"],
    );
    let found = document(&run, run.code);
    assert!(found["measured"]["decode_tokens_per_second"].is_number());
    assert_eq!(found["error"]["decode_percent"], Value::Null, "{found}");
}

fn candle(settings: &Path, model: &str, words: &[&str]) -> Run {
    run_in(
        settings,
        &[
            &["validate", model, "--tokens", "6", "--prompt-tokens", "40"],
            words,
        ]
        .concat(),
    )
}

#[test]
fn the_decoder_is_measured_against_the_calibrated_plan() {
    let settings = calibrated(1e10, 0.001);
    let model = tiny(settings.path());
    let run = candle(
        settings.path(),
        &model,
        &["--repeats", "2", "--format", "json"],
    );
    assert!(run.code < 2, "{}", run.err);
    let found = document(&run, run.code);
    assert_eq!(
        (&found["backend"], &found["runtime"]["id"]),
        (&"candle".into(), &"candle-cpu".into())
    );
    assert_eq!(found["measured"]["token_ids"].as_array().unwrap().len(), 6);
    assert_eq!(found["workload"]["prompt_tokens"], 40);
    for line in [
        "decode_percent",
        "prefill_percent",
        "time_to_first_token_percent",
    ] {
        assert!(
            found["error"][line].is_number(),
            "{line}: {}",
            found["error"]
        );
    }
    // The same greedy tokens every time.
    let again = candle(
        settings.path(),
        &model,
        &["--repeats", "1", "--format", "json"],
    );
    assert_eq!(
        document(&again, again.code)["measured"]["token_ids"],
        found["measured"]["token_ids"]
    );
}

#[test]
fn what_the_decoder_cannot_do_is_told_before_or_when_it_is_tried() {
    let settings = tempfile::tempdir().unwrap();
    let model = tiny(settings.path());
    assert_error(
        &candle(settings.path(), &model, &["--prompt", "Hi"]),
        &["leave --prompt out"],
    );
    assert_error(
        &candle(settings.path(), &model, &["--context", "40"]),
        &["context of 40", "--context"],
    );
    assert_error(
        &candle(settings.path(), &model, &["--threads", "2"]),
        &["CANDLE_NUM_THREADS"],
    );
    assert_error(
        &candle(settings.path(), MODEL, &[]),
        &["header without weights"],
    );
    assert_error(
        &candle(settings.path(), "fixtures/tiny-llama", &[]),
        &["neither tokenizer.json nor tokenizer.model"],
    );
}

/// Hardly anything of a tiny model's time and memory is the model's: what its range holds is not off.
#[test]
fn a_tiny_model_is_held_to_its_range() {
    let settings = tempfile::tempdir().unwrap();
    let model = tiny(settings.path());
    let board = ["--device", "orin-nano-8gb"];
    let fit = [
        "fit",
        &model,
        "--runtime",
        "ollama",
        "--prompt-tokens",
        "70",
        "--format",
        "json",
    ];
    let plan = document(&run_in(settings.path(), &[&fit[..], &board].concat()), 0);
    let plan = &plan["plans"][0];
    assert_eq!(plan["decode"]["bound"], "overhead");
    let rate = |end: &str| plan["decode"]["tokens_per_second"][end].as_f64().unwrap();
    let total = plan["memory"]["total_bytes"].as_u64().unwrap();
    let measured = |rate: f64, bytes: u64| {
        let server = ollama(counted(20, 100, rate), &bytes.to_string());
        let asked = server.ollama(&["--tokens", "100", "--repeats", "1"]);
        run_on_board(
            settings.path(),
            &[&["validate", &model][..], &board, &asked].concat(),
        )
    };
    // A fifth below the high end of the rate, and a quarter more memory than expected.
    let fast = rate("expected") + 0.8 * (rate("high") - rate("expected"));
    assert!(fast > 1.2 * rate("expected"), "{plan}");
    let run = measured(fast, total / 4 * 5);
    let words = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(run.code, 0, "{words}");
    assert!(
        words.contains("PARTLY COMPARED: decode and peak memory are within 15 % or in the predicted range; not compared: prefill, first token"),
        "{words}"
    );
    // Beyond the range it is off.
    let run = measured(fast, total * 3);
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(
        run.out
            .contains("OFF by more than 15 %: the prediction of peak memory by -66"),
        "{}",
        run.out
    );
}
