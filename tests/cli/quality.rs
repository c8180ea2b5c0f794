//! Quality: the column of `fit`, a file that measured it, and which format is recommended.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json as document};

use crate::support::{QWEN, assert_error, json, refused, run_with, says};

fn plan<'a>(document: &'a Json, scheme: &str) -> &'a Json {
    let plans = document["plans"].as_array().unwrap();
    plans.iter().find(|plan| plan["scheme"] == scheme).unwrap()
}

fn kld(document: &Json, scheme: &str) -> f64 {
    plan(document, scheme)["quality"]["kld"].as_f64().unwrap()
}

/// A report without its line breaks.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rate(plan: &Json) -> f64 {
    let rates = &plan["decode"]["tokens_per_second"];
    rates["expected"].as_f64().unwrap()
}

fn written(directory: &Path, document: &Json) -> PathBuf {
    let path = directory.join("quality.json");
    fs::write(&path, document.to_string()).unwrap();
    path
}

/// The document of a run on the fixture with a file of its quality.
fn fit_with(path: &Path) -> Json {
    let run = run_with(&format!("fit {QWEN} --format json --quality"), &[path]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    crate::schema::document(&run.out)
}

fn compared(candidates: Json) -> Json {
    let model =
        document!({"name": "Qwen3 0.6B", "architecture": "qwen3", "parameters": 596_049_920});
    let text = document!({"name": "built-in", "sha256": "00", "chunks": 8, "chunk_tokens": 512, "scored_tokens": 2048});
    document!({
        "schema": "orinplan.compare/1", "model": model, "text": text, "candidates": candidates,
    })
}

fn candidate(format: &str, bytes: u64, mean: f64) -> Json {
    document!({
        "file": "x.gguf", "format": format, "bytes": bytes, "bits_per_weight": 4.9, "kv_type": "f16",
        "kld": {"mean": mean, "standard_error": 0.001, "p99": 0.5, "p99_standard_error": 0.03},
    })
}

#[test]
fn every_format_has_an_expected_quality_with_its_evidence() {
    let fit = json(0, &format!("fit {QWEN}"));
    assert_eq!(kld(&fit, "bf16"), 0.0);
    assert_eq!(plan(&fit, "bf16")["quality"]["source"], "original");
    assert!(kld(&fit, "q8_0") < kld(&fit, "q6_k"));
    assert!(kld(&fit, "q6_k") < kld(&fit, "q4_k_m"));
    assert!(kld(&fit, "q4_k_m") < kld(&fit, "q2_k"));
    let evidence = &plan(&fit, "q4_k_m")["quality"]["evidence"];
    assert!(evidence["measurements"].as_u64() > evidence["models"].as_u64());
    assert!(evidence["nearest"]["source"].is_string());
    let text = says(0, &format!("fit {QWEN} --scheme q4_k_m --explain"));
    let (_, quality) = text.split_once("\n Quality:\n").unwrap();
    assert!(quality.contains("quality from "), "{text}");
    // Once in a report.
    assert_eq!(text.matches("quality from ").count(), 1, "{text}");
    let all = says(0, &format!("fit {QWEN} --all"));
    assert!(all.contains("\nnote: quality from "), "{all}");
}

/// As far from the original as others of its format are; in a format that never was measured, nobody knows.
#[test]
fn what_is_quantized_already_is_rated_by_what_it_is() {
    let stored = json(0, "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf");
    let made = json(0, &format!("fit {QWEN} --scheme q4_k_m"));
    assert!(kld(&stored, "q4_k_m") > 0.5 * kld(&made, "q4_k_m"));
    let again = "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf --scheme q4_k_m,q3_k_m";
    let again = json(0, again);
    assert!(kld(&again, "q3_k_m") > kld(&again, "q4_k_m"));
    assert_eq!(again["recommended"], "q4_k_m");
    // The same file, which does not say what it is.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("unnamed.header.gguf");
    let mut bytes = std::fs::read("fixtures/qwen3-0.6b-Q4_K_M.header.gguf").unwrap();
    let key = b"general.file_type";
    let at = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap();
    bytes[at..at + 2].copy_from_slice(b"xx");
    std::fs::write(&path, bytes).unwrap();
    let fit = crate::schema::document(&run_with("fit --format json", &[&path]).out);
    assert!(
        fit["plans"][0]["quality"].is_null(),
        "{}",
        fit["plans"][0]["quality"]
    );
}

#[test]
fn preferences_choose_by_what_they_say() {
    let chosen = |words: &str| {
        let fit = json(0, &format!("fit {QWEN} {words}"));
        let scheme = fit["recommended"].as_str().unwrap().to_owned();
        (scheme, fit)
    };
    let (quality, fit) = chosen("--prefer quality");
    assert_eq!(kld(&fit, &quality), 0.0);
    let (speed, fit) = chosen("--prefer speed");
    let rates = fit["plans"].as_array().unwrap().iter().map(rate);
    assert_eq!(rate(plan(&fit, &speed)), rates.fold(0.0, f64::max));
    assert_eq!(fit["preference"]["prefer"], "speed");
    assert_eq!(chosen("--prefer size").0, "q2_k");
    let (balance, fit) = chosen("");
    let words = fit["preference"]["reason"].as_str().unwrap().to_owned();
    let begin = format!(
        "{} balances speed and quality best; ",
        balance.to_uppercase()
    );
    assert!(words.starts_with(&begin), "{words}");
    assert!(says(0, &format!("fit {QWEN}")).contains(&begin[..30]));
}

/// What 135 M weights lose in 4 bits is much, and 8 bits cost them little speed; with 8 B weights it is the other way
/// round, and no more than 5 bits leave room for the cache on a board of 8 GB.
#[test]
fn a_small_model_is_recommended_more_bits_than_a_large_one() {
    let directory = tempfile::tempdir().unwrap();
    let recommended = |name: &str, config: Json| {
        let folder = directory.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let fit = json(
            0,
            &format!("fit {} --device orin-nano-8gb", folder.display()),
        );
        fit["recommended"].as_str().unwrap().to_owned()
    };
    let small = document!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 1e5, "tie_word_embeddings": true, "hidden_act": "silu",
    });
    assert_eq!(recommended("small", small), "q8_0");
    let large = document!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": false, "hidden_act": "silu",
    });
    let large = recommended("large", large);
    assert!(
        large.starts_with("q4_k") || large.starts_with("q5_k"),
        "{large}"
    );
}

#[test]
fn a_least_speed_is_kept_or_the_verdict_says_what_would() {
    let usual = json(0, &format!("fit {QWEN}"));
    let least = rate(plan(&usual, "q4_k_m"));
    let fit = json(
        0,
        &format!("fit {QWEN} --prefer quality --min-speed {least}"),
    );
    let scheme = fit["recommended"].as_str().unwrap();
    assert!(rate(plan(&fit, scheme)) >= least);
    assert!(kld(&fit, scheme) > 0.0, "16 bit is slower");

    let words = format!("fit {QWEN} --power-mode 7W --min-speed 40");
    let text = says(1, &words);
    assert!(
        text.starts_with("TOO SLOW with 4096 tokens of context: "),
        "{text}"
    );
    let fit = json(1, &words);
    assert_eq!(fit["recommended"], Json::Null);
    let advice = fit["advice"][0].as_str().unwrap();
    assert!(
        advice.contains("fast enough with --power-mode 15W"),
        "{advice}"
    );
    let (_, kept) = advice.rsplit_once("--min-speed ").unwrap();
    json(0, &format!("fit {QWEN} --power-mode 7W --min-speed {kept}"));
    json(0, &format!("fit {QWEN} --power-mode 15W --min-speed 40"));
    let fit = json(1, &format!("fit {QWEN} --min-speed 1000"));
    assert_eq!(
        fit["advice"].as_array().unwrap().len(),
        1,
        "{}",
        fit["advice"]
    );

    for wrong in ["0", "-3", "fast", "nan", "inf"] {
        refused(
            &format!("fit {QWEN} --min-speed {wrong}"),
            &["tokens a second"],
        );
    }
    refused(
        &format!("fit {QWEN} --device host --min-speed 10"),
        &["--min-speed needs speeds", "orinplan calibrate"],
    );
}

#[test]
fn a_comparison_of_this_model_stands_for_what_it_measured_and_moves_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let before = json(0, &format!("fit {QWEN}"));
    let measured = kld(&before, "q4_k_m") / 4.0;
    let file = compared(document!([
        candidate("Q4_K_M", 1, measured),
        candidate(
            "mix",
            plan(&before, "q6_k")["file_bytes"].as_u64().unwrap(),
            0.0011
        ),
    ]));
    let path = written(directory.path(), &file);
    let fit = fit_with(&path);
    assert!((kld(&fit, "q4_k_m") / measured - 1.0).abs() < 1e-5);
    let quality = &plan(&fit, "q4_k_m")["quality"];
    assert_eq!(quality["source"], "measured");
    assert_eq!(quality["evidence"]["scored_tokens"], 2048);
    assert_eq!(kld(&fit, "q6_k"), 0.0011, "a mix is known by its size");
    let moved = kld(&fit, "q5_k_m") / kld(&before, "q5_k_m");
    assert!((0.25..0.5).contains(&moved), "{moved}");
    assert_ne!(fit["recommended"], before["recommended"]);
}

/// Keys and values may have types of their own; what a cache costs that was not measured is added to what was.
#[test]
fn a_comparison_stands_for_the_cache_that_it_was_measured_with() {
    let directory = tempfile::tempdir().unwrap();
    let cached = |mean: f64, types: Json| {
        let mut candidate = candidate("Q4_K_M", 1, mean);
        let fields = candidate.as_object_mut().unwrap();
        fields.extend(types.as_object().unwrap().clone());
        candidate
    };
    let file = compared(document!([
        candidate("Q4_K_M", 1, 0.02),
        cached(0.05, document!({"kv_type": "q4_0"})),
        cached(
            0.03,
            document!({"kv_type": null, "kv_type_k": "q8_0", "kv_type_v": "q4_0"})
        ),
    ]));
    let path = written(directory.path(), &file);
    let with = |cache: &str| {
        let words = format!("fit {QWEN} {cache} --format json --quality");
        let run = run_with(&words, &[&path]);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        kld(&crate::schema::document(&run.out), "q4_k_m")
    };
    assert_eq!(with(""), 0.02);
    assert_eq!(with("--kv-type q4_0"), 0.05);
    assert_eq!(with("--kv-type q4_0 --kv-type-k q8_0"), 0.03);
    let expected = with("--kv-type-k q5_0");
    assert!(0.02 < expected && expected < 0.05, "{expected}");
}

/// The price of a cache counts in every format, expected or measured.
#[test]
fn a_quantized_cache_costs_every_format_something() {
    let plain = json(0, &format!("fit {QWEN}"));
    let cached = json(0, &format!("fit {QWEN} --kv-type q4_0"));
    let cost = |scheme: &str| kld(&cached, scheme) - kld(&plain, scheme);
    assert!((0.02..0.3).contains(&cost("bf16")), "{}", cost("bf16"));
    assert!((cost("q4_k_m") / cost("bf16") - 1.0).abs() < 1e-3);
    let notes = plan(&cached, "bf16")["notes"].to_string();
    assert!(notes.contains("nats for the q4_0 cache"), "{notes}");
    let text = says(
        0,
        &format!("fit {QWEN} --kv-type q4_0 --scheme bf16 --explain"),
    );
    assert!(
        unwrapped(&text).contains("measurements of a Q4_0 cache"),
        "{text}"
    );
    let eight = json(0, &format!("fit {QWEN} --kv-type q8_0"));
    assert!(kld(&eight, "bf16") < 0.1 * kld(&cached, "bf16"));
    let unknown = json(0, &format!("fit {QWEN} --kv-type iq4_nl"));
    let notes = plan(&unknown, "bf16")["notes"].to_string();
    assert!(notes.contains("nobody measured"), "{notes}");
    assert!(
        !plan(&plain, "bf16")["notes"]
            .to_string()
            .contains("cache_loss")
    );

    // Measured with one format, it counts in the others, and moves the advice.
    let directory = tempfile::tempdir().unwrap();
    let mut original = candidate("BF16", 1, 0.0123);
    original["kv_type"] = "q4_0".into();
    let path = written(directory.path(), &compared(document!([original])));
    let with = |words: &str| {
        let words = format!("fit {QWEN} {words} --format json --quality");
        crate::schema::document(&run_with(&words, &[&path]).out)
    };
    let fit = with("--kv-type q4_0");
    assert_eq!(kld(&fit, "bf16"), 0.0123);
    assert!((kld(&fit, "q8_0") - 0.0123 - kld(&plain, "q8_0")).abs() < 1e-5);
    let advised = with("--budget 1500MiB --context 16384 --scheme q4_k_m");
    let advice = advised["advice"].to_string();
    assert!(
        advice.contains("a smaller KV cache (0.012 nats further)"),
        "{advice}"
    );
    let notes = advised["plans"][0]["notes"].to_string();
    assert!(!notes.contains("quality_unused"), "{notes}");
}

/// Its blocks have other types than the format that it states: what was measured of that says nothing of it.
#[test]
fn a_stored_mix_goes_by_no_format_s_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mixed.header.gguf");
    let mut bytes = fs::read("fixtures/qwen3-0.6b-Q4_K_M.header.gguf").unwrap();
    let key = b"general.file_type";
    let at = bytes.windows(key.len()).position(|part| part == key);
    // Behind the key are the type of its value and the value: 18 is Q6_K, which only some tensors have.
    let value = at.unwrap() + key.len() + 4;
    bytes[value..value + 4].copy_from_slice(&18_u32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let fit = crate::schema::document(&run_with("fit --format json", &[&path]).out);
    assert_eq!(fit["recommended"], "mix");
    assert_eq!(fit["plans"][0]["quality"], Json::Null);
    let text = run_with("fit --explain", &[&path]).out;
    assert!(
        unwrapped(&text).contains("measures that of a mix of types"),
        "{text}"
    );
}

/// Not set aside in silence: the user asked for it to count.
#[test]
fn a_comparison_of_another_cache_or_format_alone_is_said_to_be_unused() {
    let directory = tempfile::tempdir().unwrap();
    let mut only = candidate("Q4_K_M", 1, 0.05);
    only["kv_type"] = "q8_0".into();
    let path = written(directory.path(), &compared(document!([only])));
    let notes = |words: &str| {
        let run = run_with(
            &format!("fit {QWEN} {words} --format json --quality"),
            &[&path],
        );
        let fit = crate::schema::document(&run.out);
        plan(&fit, "q4_k_m")["notes"].to_string()
    };
    let unused = notes("");
    assert!(unused.contains("quality_unused"), "{unused}");
    assert!(unused.contains("Q4_K_M with a q8_0 cache"), "{unused}");
    assert!(!notes("--kv-type q8_0").contains("quality_unused"));
}

/// Sums over the tensors; a type that was not measured leaves the format to the measurements of other models.
#[test]
fn sensitivities_add_up_over_the_tensors_of_a_format() {
    let directory = tempfile::tempdir().unwrap();
    let tensors = |name: &str| document!({"name": name, "kld": {"Q8_0": 0.001}});
    let mut names: Vec<String> = vec!["token_embd.weight".to_owned()];
    let parts = [
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ];
    for block in 0..28 {
        names.extend(parts.map(|part| format!("blk.{block}.{part}.weight")));
    }
    let mut file = compared(document!([]));
    file["schema"] = "orinplan.sensitivity/1".into();
    file["tensors"] = names.iter().map(|name| tensors(name)).collect();
    file["relative_uncertainty"] = 0.25.into();
    let fit = fit_with(&written(directory.path(), &file));
    let quality = &plan(&fit, "q8_0")["quality"];
    assert_eq!(quality["source"], "sensitivity");
    assert!((quality["kld"].as_f64().unwrap() - 0.197).abs() < 1e-9);
    assert!((quality["high"].as_f64().unwrap() - 0.197 * 1.25).abs() < 1e-6);
    assert_eq!(plan(&fit, "q4_k_m")["quality"]["source"], "prior");
}

#[test]
fn a_file_that_is_none_of_this_model_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |file: &Json, fragments: &[&str]| {
        let path = written(directory.path(), file);
        assert_error(
            &run_with(&format!("fit {QWEN} --quality"), &[&path]),
            fragments,
        );
    };
    let mut other = compared(document!([]));
    other["model"]["parameters"] = 7.into();
    refused(
        &other,
        &[
            "7 weights",
            "596049920 weights",
            "orinplan compare",
            "--save-sensitivity",
        ],
    );
    refused(
        &document!({"schema": "orinplan.fit/1"}),
        &["its schema is orinplan.fit/1"],
    );
    refused(&document!([1]), &["its schema is missing"]);
    refused(
        &document!({"schema": "orinplan.compare/1"}),
        &["missing key `model`"],
    );
    let negative = compared(document!([candidate("Q4_K_M", 1, -0.5)]));
    refused(&negative, &["kld of Q4_K_M is -0.5"]);
    let path = directory.path().join("quality.json");
    fs::write(&path, "{").unwrap();
    assert_error(
        &run_with(&format!("fit {QWEN} --quality"), &[&path]),
        &["quality.json", "ends too early"],
    );
    let missing = directory.path().join("missing.json");
    assert_error(
        &run_with(&format!("fit {QWEN} --quality"), &[&missing]),
        &["no such file"],
    );
    // The report does not take the place of what it was made from.
    let file = written(directory.path(), &compared(document!([])));
    let words = format!("fit {QWEN} --quality {} --output", file.display());
    assert_error(&run_with(&words, &[&file]), &["which is an input"]);
}
