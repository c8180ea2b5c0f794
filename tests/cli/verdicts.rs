//! Exit statuses 0 and 1, and what flags do to a verdict.

use serde_json::{Value as Json, json};

use crate::support::{QWEN, json, refused, says};

fn plan<'a>(document: &'a Json, scheme: &str) -> &'a Json {
    let plans = document["plans"].as_array().unwrap();
    plans.iter().find(|plan| plan["scheme"] == scheme).unwrap()
}

fn codes(plan: &Json) -> Vec<&str> {
    let notes = plan["notes"].as_array().unwrap();
    notes
        .iter()
        .map(|note| note["code"].as_str().unwrap())
        .collect()
}

#[test]
fn a_model_that_fits_ends_with_0_and_one_that_does_not_with_1() {
    assert!(says(0, &format!("fit {QWEN}")).starts_with("FITS as Q"));
    let too_large = says(1, &format!("fit {QWEN} --budget 300MB"));
    assert!(
        too_large.starts_with("DOES NOT FIT with 4096 tokens of context: "),
        "{too_large}"
    );
    assert!(
        too_large.contains("What to change, least loss first:"),
        "{too_large}"
    );
}

/// As Mistral's repositories have them: the same weights once more, in a file that Transformers does not read.
#[test]
fn weight_files_that_are_not_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        let to = directory.path().join(name);
        std::fs::copy(format!("fixtures/tiny-qwen3/{name}"), to).unwrap();
    }
    let fit = |model: &std::path::Path| {
        let run = crate::support::run_with("fit --all", &[model]);
        assert_eq!(run.code, 0, "{}", run.err);
        run.out
    };
    assert!(!fit(directory.path()).contains("not read"));
    let more = directory.path().join("consolidated.safetensors");
    std::fs::copy("fixtures/tiny-qwen3/model.safetensors", more).unwrap();
    let all = fit(directory.path());
    assert!(all.contains("not read, because"), "{all}");
    assert!(all.contains("consolidated.safetensors"), "{all}");
    let alone = fit(&directory.path().join("model.safetensors"));
    assert!(!alone.contains("consolidated"), "{alone}");
}

#[test]
fn each_sequence_has_a_token_at_least() {
    refused(
        &format!("fit {QWEN} --parallel 100 --context 50"),
        &["--parallel 100", "50 tokens", "lower --parallel"],
    );
}

#[test]
fn one_format_that_fits_is_enough() {
    let document = json(
        0,
        &format!("fit {QWEN} --budget 1400MB --scheme bf16,q4_k_m"),
    );
    assert_eq!(plan(&document, "bf16")["verdict"], "does_not_fit");
    assert_eq!(plan(&document, "q4_k_m")["verdict"], "fits");
    assert_eq!(document["recommended"], "q4_k_m");
    let document = json(1, &format!("fit {QWEN} --budget 1400MB --scheme bf16"));
    assert_eq!(document["recommended"], Json::Null);
    assert_eq!(
        document["advice"],
        json!([
            "a larger budget: BF16 fits with --budget 2271MiB",
            "a smaller format: Q4_K_M fits as asked",
            "a smaller format and less context: Q8_0 fits with --context 1536",
        ])
    );
}

/// 28 layers of 1024 + 1024 elements: 469,762,048 bytes at 4096 tokens in F16.
#[test]
fn the_cache_has_the_size_that_its_types_give() {
    let per_token: u64 = 28 * 1024;
    for (types, k, v, bytes_of_32_pairs) in [
        ("--kv-type f16", "f16", "f16", 64 + 64),
        ("--kv-type q8_0", "q8_0", "q8_0", 34 + 34),
        ("--kv-type q4_0", "q4_0", "q4_0", 18 + 18),
        ("--kv-type-k q8_0", "q8_0", "f16", 34 + 64),
        ("--kv-type-v q4_1", "f16", "q4_1", 64 + 20),
        ("--kv-type q5_1 --kv-type-k bf16", "bf16", "q5_1", 64 + 24),
        (
            "--kv-type F32 --kv-type-v IQ4_NL",
            "f32",
            "iq4_nl",
            128 + 18,
        ),
    ] {
        let document = json(0, &format!("fit {QWEN} --scheme q4_k_m {types}"));
        let workload = &document["workload"];
        assert_eq!(
            (&workload["kv_type_k"], &workload["kv_type_v"]),
            (&json!(k), &json!(v))
        );
        let expected = per_token / 32 * bytes_of_32_pairs * 4096;
        let plan = plan(&document, "q4_k_m");
        assert_eq!(plan["memory"]["kv_cache_bytes"], expected, "{types}");
        let quantized = k.contains('q') || v.contains('q');
        assert_eq!(
            codes(plan).contains(&"quantized_cache"),
            quantized,
            "{types}"
        );
    }
    refused(
        &format!("fit {QWEN} --kv-type q6_k"),
        &["--kv-type", "q6_k", "iq4_nl"],
    );
    refused(
        &format!("fit {QWEN} --runtime ollama --kv-type f32"),
        &["Ollama", "f32", "q8_0"],
    );
}

#[test]
fn a_quantized_value_cache_without_flash_attention_does_not_fit_and_says_why() {
    let words = format!("fit {QWEN} --scheme q4_k_m --kv-type q8_0 --no-flash-attention");
    let document = json(1, &words);
    assert!(codes(plan(&document, "q4_k_m")).contains(&"kv_type_impossible"));
    assert!(
        document["advice"][0]
            .as_str()
            .unwrap()
            .contains("needs flash attention")
    );
    assert!(says(1, &words).contains("needs flash attention"));
}

#[test]
fn the_largest_context_is_the_largest_that_fits() {
    let words = format!("fit {QWEN} --scheme q4_k_m --budget 2GB");
    let largest = json(0, &words)["plans"][0]["max_context"].as_u64().unwrap();
    assert!(
        largest.is_multiple_of(256) && 4096 < largest && largest < 40_960,
        "{largest}"
    );
    json(0, &format!("{words} --context {largest}"));
    json(1, &format!("{words} --context {}", largest + 256));
    let advice = says(1, &format!("{words} --context 16384"));
    assert!(
        advice.contains(&format!("Q4_K_M fits with --context {largest}\n")),
        "{advice}"
    );
    let on_one_line = advice.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        on_one_line.contains("nats further): Q4_K_M fits with --context 16384 --kv-type q4_0 "),
        "{advice}"
    );
}

/// The memory decides; that the model was not made for it is a caveat.
#[test]
fn a_context_beyond_the_models_own_is_planned_with_a_note() {
    let words = format!("fit {QWEN} --scheme q4_k_m --context 45056 --budget 20GB");
    let document = json(0, &words);
    let plan = plan(&document, "q4_k_m");
    assert!(codes(plan).contains(&"beyond_model_context"));
    assert_eq!(plan["max_context"], 40_960);
    assert_eq!(plan["memory"]["kv_cache_bytes"], 11 * 469_762_048u64);
    assert!(says(0, &words).contains("the model was trained for 40960 tokens"));
}

#[test]
fn a_reserve_and_a_desktop_leave_less() {
    let available = |words: &str| {
        let document = json(0, &format!("fit {QWEN} --scheme q4_k_m {words}"));
        document["plans"][0]["memory"]["available_bytes"]
            .as_u64()
            .unwrap()
    };
    let idle = available("");
    assert_eq!(available("--reserve 1GiB"), idle - (1 << 30));
    assert!(available("--desktop") < idle);
    assert_eq!(
        available("--budget 2GB --reserve 512MiB"),
        2_000_000_000 - (512 << 20)
    );
    says(1, &format!("fit {QWEN} --reserve 1000TB"));
}

/// The driver of L4T 36.4.7 refuses single allocations that 36.5 grants.
#[test]
fn the_release_of_the_system_decides_about_one_large_allocation() {
    let words = "fit fixtures/gemma-3n-e2b-it --scheme q4_k_m";
    let document = json(0, words);
    assert!(codes(plan(&document, "q4_k_m")).contains(&"large_allocation"));
    json(0, &format!("{words} --l4t 36.5.0"));
    let refused = json(1, &format!("{words} --l4t 36.4.7"));
    assert_eq!(plan(&refused, "q4_k_m")["max_context"], 0);
}

#[test]
fn sizes_are_taken_as_they_are_advertised_and_as_free_prints_them() {
    let words = format!("fit {QWEN} --scheme q4_k_m");
    for (given, same) in [
        ("--context 4k", "--context 4096"),
        ("--context 32K", "--context 32768"),
        (
            "--prompt-tokens 1k --ubatch 1k",
            "--prompt-tokens 1024 --ubatch 1024",
        ),
        ("--budget 6.5Gi", "--budget 6.5GiB"),
        ("--reserve 788Mi", "--reserve 788MiB"),
        ("--what-if memory=16Gi", "--what-if memory=16GiB"),
    ] {
        let (given, same) = (format!("{words} {given}"), format!("{words} {same}"));
        assert_eq!(json(0, &given), json(0, &same), "{given}");
    }
}

/// 4096 tokens over eight sequences are 512 for each, which the default prompt fills.
#[test]
fn sequences_that_a_prompt_fills_are_told() {
    let note = |words: &str| {
        let document = json(0, &format!("fit {QWEN} --scheme q4_k_m {words}"));
        let notes = document["plans"][0]["notes"].as_array().unwrap().clone();
        let mut texts = notes
            .iter()
            .filter(|note| note["code"] == "short_sequences");
        texts
            .next()
            .map(|note| note["text"].as_str().unwrap().to_owned())
    };
    let told = note("--parallel 8").unwrap();
    assert!(
        told.starts_with("each of 8 sequences has 512 tokens of context, and a prompt of 512 leaves nothing for an answer: raise --context"),
        "{told}"
    );
    let told = note("--parallel 2 --context 1026").unwrap();
    assert!(told.contains("leaves 1 token for an answer"), "{told}");
    assert_eq!(note("--parallel 8 --context 8192"), None);
    assert_eq!(note("--parallel 8 --prompt-tokens 256"), None);
    assert_eq!(note("--context 512"), None);
}

#[test]
fn limits_of_numbers_are_named() {
    for (flag, limit) in [
        ("--context", "1073741824"),
        ("--parallel", "1024"),
        ("--ubatch", "1048576"),
        ("--prompt-tokens", "1073741824"),
        ("--outputs", "1048576"),
    ] {
        for value in [
            "0",
            "18446744073709551615",
            "99999999999999999999",
            "1e3",
            "-1",
            "x",
        ] {
            refused(&format!("fit {QWEN} {flag}={value}"), &[flag, value]);
        }
        let over = limit.parse::<u64>().unwrap() + 1;
        refused(&format!("fit {QWEN} {flag} {over}"), &[flag, limit]);
    }
    for size in [
        "5G",
        "5",
        "-1GB",
        "1e99GB",
        "nanGB",
        "99999999999999999999999GiB",
        "GB",
    ] {
        refused(
            &format!("fit {QWEN} --budget={size}"),
            &["--budget", size, "GiB"],
        );
    }
}

#[test]
fn the_largest_legal_numbers_are_planned_like_any_other() {
    let most = "--context 1073741824 --parallel 1024 --ubatch 1048576 --prompt-tokens 1073741824 \
                --outputs 1048576";
    for model in [QWEN, "fixtures/gemma-3n-e2b-it", "fixtures/tiny-llama"] {
        for extra in ["", "--kv-type f32 --no-flash-attention", "--runtime vllm"] {
            let words = format!("fit {model} {most} {extra}");
            let document = json(1, &words);
            for plan in document["plans"].as_array().unwrap() {
                let memory = &plan["memory"];
                let kv = memory["kv_cache_bytes"].as_u64().unwrap();
                assert!(memory["total_bytes"].as_u64().unwrap() > kv, "{words}");
                assert!(memory["headroom_bytes"].as_i64().unwrap() < 0, "{words}");
            }
            says(1, &words);
        }
    }
    json(0, &format!("fit {QWEN} --budget 1000000TB"));
}

#[test]
fn parallel_sequences_share_the_context() {
    let cache = |words: &str| {
        let document = json(0, &format!("fit {QWEN} --scheme q4_k_m {words}"));
        document["plans"][0]["memory"]["kv_cache_bytes"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(
        cache("--context 8192 --parallel 4"),
        cache("--context 8192")
    );
    // Each of three sequences gets 2731 cells, padded to 2816.
    assert_eq!(
        cache("--context 8192 --parallel 3"),
        3 * 2816 * 28 * 2048 * 2
    );
}

#[test]
fn an_unknown_architecture_is_planned_only_as_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"{"architectures": ["LlamoForCausalLM"], "model_type": "llamo",
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256,
        "max_position_embeddings": 512, "tie_word_embeddings": true}"#;
    let path = directory.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    let path = path.to_str().unwrap();
    refused(
        &format!("fit {path}"),
        &["LlamoForCausalLM", "`llama`", "--assume-kv llama"],
    );
    refused(
        &format!("fit {path} --assume-kv lama"),
        &[
            "`lama`",
            "known: apertus, arcee, baichuan, bert, bitnet, chatglm,",
        ],
    );
    let document = json(0, &format!("fit {path} --assume-kv llama"));
    let notes = document["plans"].as_array().unwrap().iter().map(codes);
    assert!(
        notes
            .into_iter()
            .all(|codes| codes.contains(&"assumed_cache"))
    );
    assert!(says(0, &format!("fit {path} --assume-kv llama")).contains("planned as that of llama"));
    assert!(says(0, &format!("inspect {path}")).contains("llamo"));
}

#[test]
fn every_runtime_plans_what_it_loads_and_names_what_it_does_not() {
    for (runtime, scheme) in [
        ("llama.cpp", "q4_k_m"),
        ("llama-bench", "q8_0"),
        ("llama.cpp-cpu", "q4_0"),
        ("ollama", "q4_k_m"),
        ("vllm", "fp8"),
        ("mlc", "int4"),
        ("tensorrt-edge-llm", "int4"),
        ("candle", "q6_k"),
    ] {
        let document = json(
            0,
            &format!("fit {QWEN} --runtime {runtime} --scheme {scheme}"),
        );
        assert_eq!(document["runtime"]["id"], runtime);
        assert_eq!(document["plans"][0]["scheme"], scheme);
    }
    refused(
        &format!("fit {QWEN} --scheme int4"),
        &["llama.cpp", "does not load int4", "q4_k_m"],
    );
    refused(
        "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf --runtime vllm",
        &["vLLM", "--runtime"],
    );
}

/// More than the board has may be asked for, such as for one with more memory; nobody takes it for the board's.
#[test]
fn a_budget_beyond_the_boards_memory_is_told() {
    let words = format!("fit {QWEN} --scheme q4_k_m");
    let note = |budget: &str| {
        let document = json(0, &format!("{words} --budget {budget}"));
        codes(plan(&document, "q4_k_m")).contains(&"budget_beyond_memory")
    };
    assert!(note("8GiB") && !note("7GiB"));
    // What the board has follows from what it is said to have.
    let larger = format!("{words} --budget 8GiB --what-if memory=16GiB");
    assert!(!codes(plan(&json(0, &larger), "q4_k_m")).contains(&"budget_beyond_memory"));
}

#[test]
fn a_prompt_beyond_the_context_is_refused_and_the_default_keeps_within_it() {
    let words = format!("fit {QWEN} --scheme q4_k_m");
    refused(
        &format!("{words} --prompt-tokens 4097"),
        &[
            "--prompt-tokens 4097",
            "the context of 4096 tokens",
            "raise --context",
        ],
    );
    json(0, &format!("{words} --prompt-tokens 4096"));
    let prompt =
        |more: &str| json(0, &format!("{words} {more}"))["workload"]["prompt_tokens"].clone();
    assert_eq!(prompt("--context 256"), 256);
    assert_eq!(prompt("--context 8192"), 512);
}

#[test]
fn the_headline_says_what_each_of_several_sequences_has() {
    let words = format!("fit {QWEN} --scheme q4_k_m --context 8192");
    let said = |more: &str| {
        let text = says(0, &format!("{words} {more}"));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let each = "with 8192 tokens of context (2048 for each of 4 sequences), ";
    assert!(said("--parallel 4").contains(each));
    assert!(said("").contains("with 8192 tokens of context, "));
}

/// vLLM and MLC allocate their caches block by block, this program's decoder tensor by tensor, the others whole.
#[test]
fn the_largest_allocation_of_a_cache_is_the_runtimes() {
    // More than the board has, so that a block's cache is larger than the embedding.
    let cache = 40 * 469_762_048u64;
    let largest = |runtime: &str, scheme: &str| {
        let words = format!("fit {QWEN} --context 160k --parallel 4 --runtime {runtime}");
        let document = json(1, &format!("{words} --scheme {scheme}"));
        let memory = &plan(&document, scheme)["memory"];
        assert_eq!(memory["kv_cache_bytes"], cache, "{runtime}");
        memory["largest_allocation_bytes"].as_u64().unwrap()
    };
    assert_eq!(largest("llama.cpp", "q4_k_m"), cache);
    assert_eq!(largest("ollama", "q4_k_m"), cache);
    assert_eq!(largest("tensorrt-edge-llm", "int4"), cache);
    assert_eq!(largest("vllm", "int4"), cache / 28);
    assert_eq!(largest("mlc", "int4"), cache / 28);
    assert_eq!(largest("candle", "q4_k_m"), cache / 56);
}
