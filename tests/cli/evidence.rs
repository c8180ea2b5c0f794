//! What a plan says of the measurements behind its speed, of the board's conditions and of watts.

use std::fs;

use serde_json::{Value as Json, json as document};

use crate::support::{QWEN, json, refused, says};

fn llama(hidden: u64, layers: u64, inner: u64, tied: bool) -> Json {
    document!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": inner, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": tied, "hidden_act": "silu",
    })
}

/// The one plan of a model with this configuration.
fn plan(config: &Json, words: &str) -> Json {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    json(0, &format!("fit {} {words}", file.display()))["plans"][0].clone()
}

fn llama_1b(words: &str) -> Json {
    plan(&llama(2048, 16, 8192, true), words)
}

fn nearest(plan: &Json) -> &Json {
    &plan["decode"]["evidence"]["nearest"]
}

fn has(plan: &Json, code: &str) -> bool {
    let mut notes = plan["notes"].as_array().unwrap().iter();
    notes.any(|note| note["code"] == code)
}

#[test]
fn evidence_comes_from_runs_of_as_many_sequences() {
    let words = "--runtime tensorrt-edge-llm --scheme int4 --device agx-orin-64gb --power-mode MAXN --prompt-tokens 437";
    let sequences = |parallel: u64| {
        let words = format!("fit {QWEN} {words} --parallel {parallel}");
        json(0, &words)["plans"][0]["decode"]["evidence"]["nearest"]["sequences"].clone()
    };
    assert_eq!(sequences(1), 1);
    assert_eq!(sequences(8), 8);
}

#[test]
fn a_run_of_the_same_model_in_another_format_is_nearer_than_another_model() {
    let words = "--device orin-nano-8gb --power-mode 15W --scheme q8_0 --prompt-tokens 2048";
    assert_eq!(nearest(&llama_1b(words))["model"], "llama-3.2-1b");
    let words = format!("fit {QWEN} --device orin-nano-8gb --power-mode 15W --scheme f16");
    let found = json(0, &words);
    let measured = &found["plans"][0]["decode"]["evidence"]["energy"];
    assert_eq!(measured[0]["model"], "qwen3-0.6b");
}

#[test]
fn a_run_of_another_build_is_said_to_be_one() {
    let config = llama(4096, 32, 14336, false);
    let words = "--device agx-orin-64gb --power-mode MAXN --scheme q4_k_m --prompt-tokens 576";
    let planned = plan(&config, words);
    let near = nearest(&planned);
    let is_same = near["flash_attention"] == true && near["cuda_graphs"] == true;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let text = says(0, &format!("fit {} {words} --explain", file.display()));
    assert_eq!(text.contains("without fused attention"), !is_same, "{near}");
    // The plan of such a build is near to its own runs.
    let planned = plan(
        &config,
        &format!("{words} --no-flash-attention --no-cuda-graphs"),
    );
    let near = nearest(&planned);
    assert_eq!(
        (&near["flash_attention"], &near["cuda_graphs"]),
        (&false.into(), &false.into())
    );
}

#[test]
fn power_is_predicted_for_the_gpu_alone_and_its_absence_is_said() {
    let on =
        |words: &str| json(0, &format!("fit {QWEN} --scheme q4_k_m {words}"))["plans"][0].clone();
    let known = on("--device orin-nano-8gb --energy-budget 10W");
    assert!(!known["decode"]["energy"].as_array().unwrap().is_empty());
    assert!(!has(&known, "energy_unknown"));
    for unknown in [
        "--device orin-nano-8gb --runtime llama.cpp-cpu",
        "--device orin-nx-16gb",
        "--device orin-nano-4gb",
        "--device agx-orin-32gb",
        // No source measured several sequences at once.
        "--device orin-nano-8gb --parallel 2",
    ] {
        let silent = on(unknown);
        assert_eq!(silent["decode"]["energy"], document!([]), "{unknown}");
        assert!(!has(&silent, "energy_unknown"), "{unknown}");
        assert!(
            has(
                &on(&format!("{unknown} --energy-budget 10W")),
                "energy_unknown"
            ),
            "{unknown}"
        );
    }
}

/// The same model twenty times as deep says more than another one whose depth is not stated.
#[test]
fn the_model_counts_before_the_depth() {
    for depth in [64, 2048, 65536] {
        let words = format!(
            "--device orin-nano-8gb --power-mode MAXN_SUPER --scheme q4_k_m --context 131072 --prompt-tokens {depth}"
        );
        assert_eq!(
            nearest(&llama_1b(&words))["model"],
            "llama-3.2-1b",
            "{depth}"
        );
    }
}

/// Without fused attention an AGX Orin drew 48.5 W at a depth of 16.5 k and 54.3 W at 65 k, for the keys and values that
/// each query head reads again.
#[test]
fn power_rises_with_the_depth() {
    let watts = |depth: u64| {
        let words = format!(
            "--device agx-orin-64gb --power-mode MAXN --scheme f16 --no-flash-attention --no-cuda-graphs --context 70000 --prompt-tokens {depth}"
        );
        let planned = llama_1b(&words);
        let modes = planned["decode"]["energy"].as_array().unwrap().clone();
        let mode = modes
            .into_iter()
            .find(|mode| mode["power_mode"] == "MAXN")
            .unwrap();
        mode["rails"][0]["watts"]["expected"].as_f64().unwrap()
    };
    let (short, long, longest) = (watts(576), watts(16512), watts(65664));
    assert!(short < long && long < longest, "{short} {long} {longest}");
    assert!((long / 48.5 - 1.0).abs() < 0.1, "{long}");
    assert!((longest / 54.25 - 1.0).abs() < 0.15, "{longest}");
}

#[test]
fn a_power_mode_that_the_system_does_not_have_is_said() {
    let on = |device: &str, mode: &str, release: &str| {
        let words = format!(
            "fit {QWEN} --scheme q4_k_m --device {device} --power-mode {mode} --l4t {release}"
        );
        has(&json(0, &words)["plans"][0], "power_mode_unavailable")
    };
    assert!(on("orin-nano-8gb", "MAXN_SUPER", "35.4.1"));
    assert!(on("orin-nano-8gb", "25W", "36.3.0"));
    assert!(on("orin-nx-16gb", "40W", "36.4.0"));
    assert!(!on("orin-nano-8gb", "15W", "36.3.0"));
    assert!(!on("orin-nano-8gb", "25W", "36.4.3"));
    assert!(!on("agx-orin-64gb", "MAXN", "36.3.0"));
}

#[test]
fn conditions_that_were_measured_on_the_gpu_change_the_gpu_alone() {
    let rate = |words: &str| {
        let words = format!("fit {QWEN} --scheme q4_k_m --device orin-nano-8gb {words}");
        json(0, &words)["plans"][0]["decode"]["tokens_per_second"]["expected"]
            .as_f64()
            .unwrap()
    };
    for (runtime, changes) in [("llama.cpp", true), ("llama.cpp-cpu", false)] {
        let usual = rate(&format!("--runtime {runtime}"));
        for condition in ["--l4t 36.3.0", "--clocks governed"] {
            let other = rate(&format!("--runtime {runtime} {condition}"));
            assert_eq!(other < usual, changes, "{runtime} {condition}");
        }
    }
    let text = says(
        0,
        &format!("fit {QWEN} --device orin-nano-8gb --no-flash-attention --all"),
    );
    assert!(!text.contains("assumes flash attention"), "{text}");
}

/// Each ubatch copies all cells of a cache in another type to F16 for the fused kernel.
#[test]
fn a_quantized_cache_makes_long_prompts_slower() {
    let rate = |kv: &str, tokens: u64| {
        let words = format!(
            "--device orin-nano-8gb --power-mode 25W --scheme q4_k_m --context 70000 --kv-type {kv} --prompt-tokens {tokens}"
        );
        llama_1b(&words)["prefill"]["tokens_per_second"]["expected"]
            .as_f64()
            .unwrap()
    };
    let slower = |tokens: u64| rate("f16", tokens) / rate("q8_0", tokens) - 1.0;
    let (short, long) = (slower(512), slower(65536));
    assert!(short > 0.0 && short < 0.01, "{short}");
    assert!(long > 2.0 * short && long < 0.2, "{long}");
    // Fewer bits to read, as many to write.
    assert!(rate("q4_0", 65536) > rate("q8_0", 65536));
}

/// The curve of a mode has at each depth what a plan for that depth has.
#[test]
fn curves_have_the_rates_of_plans() {
    for words in ["", "--runtime vllm", "--kv-type q8_0 --parallel 2"] {
        let words = format!("fit {QWEN} --device orin-nano-8gb --context 3072 {words}");
        let document = json(0, &format!("{words} --prompt-tokens 1024"));
        let curves = &document["curves"];
        let parallel = document["workload"]["parallel"].as_u64().unwrap();
        let contexts = curves["context_tokens"].as_array().unwrap();
        let at = contexts.iter().position(|c| *c == 1024 * parallel).unwrap();
        for (plan, curve) in document["plans"]
            .as_array()
            .unwrap()
            .iter()
            .zip(curves["plans"].as_array().unwrap())
        {
            for end in ["low", "expected", "high"] {
                let of_curve = &curve["decode_tokens_per_second"]["25W"][end][at];
                let of_plan = &plan["decode"]["tokens_per_second"][end];
                let (of_curve, of_plan) = (of_curve.as_f64().unwrap(), of_plan.as_f64().unwrap());
                assert!(
                    (of_curve / of_plan - 1.0).abs() < 1e-5,
                    "{words} {end} {of_curve} {of_plan}"
                );
            }
        }
    }
}

#[test]
fn sixteen_bits_that_a_runtime_holds_as_well_are_named() {
    for runtime in ["vllm", "mlc", "tensorrt-edge-llm"] {
        let words = format!("fit {QWEN} --runtime {runtime} --scheme f16 --device agx-orin-64gb");
        refused(
            &words,
            &["--scheme bf16 is the checkpoint as it is", "in f16 as well"],
        );
    }
}

#[test]
fn no_cached_tokens_are_no_cached_prefix() {
    let words = format!("fit {QWEN} --device orin-nano-8gb --scheme q4_k_m");
    let plain = json(0, &words);
    assert_eq!(json(0, &format!("{words} --cached-tokens 0")), plain);
    refused(&format!("{words} --cached-tokens -1"), &["from 0"]);
    refused(&format!("{words} --prompt-tokens 0"), &["from 1"]);
}
