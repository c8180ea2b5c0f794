//! Configurations that are valid JSON and wrong: each is refused in one line that names the key, and the configuration
//! that it was made from is planned.

use serde_json::{Value as Json, json};

use crate::support::{assert_error, run_with};

/// A model of each kind that is looked at, with the numbers that llama.cpp has built in.
fn base(kind: &str) -> Json {
    let mut config = json!({
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "vocab_size": 96,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
    });
    let more = match kind {
        "llama" => json!({"architectures": ["LlamaForCausalLM"]}),
        "qwen3" => json!({"architectures": ["Qwen3ForCausalLM"]}),
        "qwen3_moe" => json!({
            "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 64, "norm_topk_prob": true, "mlp_only_layers": [],
        }),
        "gemma2" => json!({
            "architectures": ["Gemma2ForCausalLM"], "sliding_window": 64, "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        }),
        "hunyuan_v1_moe" => json!({
            "architectures": ["HunYuanMoEV1ForCausalLM"], "num_experts": 4, "moe_topk": [2, 2, 2, 2],
            "moe_intermediate_size": [256, 256, 256, 256], "num_shared_expert": [1, 1, 1, 1],
        }),
        "baichuan" => json!({
            "architectures": ["BaichuanForCausalLM"], "num_key_value_heads": 4, "num_hidden_layers": 32,
            "tie_word_embeddings": false,
        }),
        "smollm3" => json!({
            "architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 1, 1, 0],
        }),
        "gemma3n_text" => json!({
            "architectures": ["Gemma3nForCausalLM"], "sliding_window": 64, "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 96, "laurel_rank": 64,
            "altup_num_inputs": 4, "activation_sparsity_pattern": [0.95, 0.95, 0.95, 0.95],
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention"],
        }),
        other => panic!("{other}"),
    };
    config["model_type"] = json!(kind);
    changed(&config, &more)
}

/// `config` with the keys of `more`; a key without a value is taken away.
fn changed(config: &Json, more: &Json) -> Json {
    let mut config = config.clone();
    for (key, value) in more.as_object().unwrap() {
        match value.as_str() {
            Some("ABSENT") => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    config
}

#[track_caller]
fn refused(config: &str, fragments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    let run = run_with("fit --device orin-nano-8gb", &[&path]);
    assert_error(&run, &[]);
    for fragment in fragments {
        assert!(
            run.err.contains(fragment),
            "`{fragment}` is not in: {}",
            run.err
        );
    }
}

/// What `fit` ends with, by the runtime.
fn code(config: &Json, runtime: &str) -> i32 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let words = format!("fit --device orin-nano-8gb --runtime {runtime}");
    run_with(&words, &[&path]).code
}

#[test]
fn what_llama_cpp_has_built_in_is_not_lost_in_silence() {
    for (kind, more, fragment) in [
        (
            "qwen3_moe",
            json!({"norm_topk_prob": false}),
            "`norm_topk_prob`",
        ),
        // Its class's default.
        (
            "qwen3_moe",
            json!({"norm_topk_prob": "ABSENT"}),
            "`norm_topk_prob`",
        ),
        ("qwen3_moe", json!({"mlp_only_layers": [1]}), "block 1"),
        (
            "qwen3_moe",
            json!({"decoder_sparse_step": 2}),
            "`decoder_sparse_step`",
        ),
        (
            "gemma2",
            json!({"query_pre_attn_scalar": 64}),
            "`query_pre_attn_scalar` is 64",
        ),
        (
            "gemma2",
            json!({"attn_logit_softcapping": null}),
            "`attn_logit_softcapping` is null",
        ),
        (
            "gemma2",
            json!({"final_logit_softcapping": null}),
            "`final_logit_softcapping` is null",
        ),
        (
            "gemma2",
            json!({"layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]}),
            "block 0 differs from the one that llama.cpp builds in its window",
        ),
        (
            "hunyuan_v1_moe",
            json!({"moe_topk": [2, 2, 1, 2]}),
            "block 2 differs from the one that llama.cpp builds in its feed-forward",
        ),
        (
            "hunyuan_v1_moe",
            json!({"moe_intermediate_size": [128, 128, 128, 128]}),
            "block 0",
        ),
        (
            "hunyuan_v1_moe",
            json!({"num_shared_expert": [1, 1, 1, 2]}),
            "block 3",
        ),
        (
            "hunyuan_v1_moe",
            json!({"routed_scaling_factor": 2.5}),
            "`routed_scaling_factor` is 2.5",
        ),
        (
            "baichuan",
            json!({"num_hidden_layers": 36}),
            "`num_hidden_layers` is 36",
        ),
        (
            "smollm3",
            json!({"no_rope_layers": [1, 1, 1, 1]}),
            "block 3",
        ),
        (
            "gemma3n_text",
            json!({"num_kv_shared_layers": 1}),
            "`num_kv_shared_layers`",
        ),
        (
            "gemma3n_text",
            json!({"activation_sparsity_pattern": [0.95, 0.9, 0.95, 0.95]}),
            "`activation_sparsity_pattern`",
        ),
    ] {
        assert_eq!(code(&base(kind), "llama.cpp"), 0, "{kind}");
        let config = changed(&base(kind), &more);
        refused(
            &config.to_string(),
            &[fragment, &format!("GGUF of {}", gguf(kind)), "vllm"],
        );
        // What reads the checkpoint itself computes what it says.
        assert_eq!(code(&config, "vllm"), 0, "{config}");
    }
}

fn gguf(kind: &str) -> &str {
    match kind {
        "qwen3_moe" => "qwen3moe",
        "gemma3n_text" => "gemma3n",
        "hunyuan_v1_moe" => "hunyuan-moe",
        other => other,
    }
}

#[test]
fn rotary_parameters_that_contradict_each_other_are_refused() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    });
    let other = changed(&llama3, &json!({"factor": 32.0}));
    let whole = base("llama");
    for (more, fragment) in [
        (
            json!({"rope_scaling": llama3, "rope_parameters": other}),
            "different values of `factor`",
        ),
        (
            json!({"rope_scaling": llama3, "rope_parameters": {"rope_theta": 1e4}}),
            "different values of `rope_type`",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
            "`rope_theta`",
        ),
        (
            json!({"rope_scaling": changed(&llama3, &json!({"factor": "ABSENT"}))}),
            "`rope_scaling.factor`",
        ),
        (
            json!({"rope_scaling": changed(&llama3, &json!({"high_freq_factor": "ABSENT"}))}),
            "`rope_scaling.high_freq_factor`",
        ),
        (
            json!({"rope_scaling": {"rope_type": "linear"}}),
            "`rope_scaling.factor`",
        ),
        (
            json!({"rope_scaling": {"rope_type": "linear", "factor": "4"}}),
            "`factor`",
        ),
        (json!({"rope_scaling": "linear"}), "`rope_scaling`"),
        (json!({"rope_parameters": [4.0]}), "`rope_parameters`"),
        (json!({"rope_theta": "10000"}), "`rope_theta`"),
    ] {
        refused(&changed(&whole, &more).to_string(), &[fragment]);
    }
    // Stated twice and the same, or with the base in one of them.
    for more in [
        json!({"rope_scaling": llama3, "rope_parameters": llama3}),
        json!({"rope_scaling": llama3, "rope_parameters": changed(&llama3, &json!({"rope_theta": 10000}))}),
        json!({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "default"}}),
        json!({"rope_scaling": null, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
        json!({"rope_scaling": {"type": "linear", "factor": 2}}),
    ] {
        assert_eq!(code(&changed(&whole, &more), "llama.cpp"), 0, "{more}");
    }
}

#[test]
fn values_of_another_type_and_sizes_that_no_model_has_are_refused() {
    let whole = base("qwen3");
    for (more, fragment) in [
        (
            json!({"tie_word_embeddings": "true"}),
            "`tie_word_embeddings`",
        ),
        (json!({"attention_bias": "false"}), "`attention_bias`"),
        (json!({"mlp_bias": []}), "`mlp_bias`"),
        (json!({"rms_norm_eps": "1e-6"}), "`rms_norm_eps`"),
        (json!({"hidden_size": 0}), "`hidden_size`"),
        (json!({"vocab_size": 0}), "`vocab_size`"),
        (json!({"head_dim": 0}), "`head_dim`"),
        (json!({"head_dim": 33}), "`head_dim` is 33"),
        (json!({"intermediate_size": 0}), "`intermediate_size`"),
        (
            json!({"max_position_embeddings": 0}),
            "`max_position_embeddings`",
        ),
        (json!({"num_key_value_heads": 0}), "`num_key_value_heads`"),
        (
            json!({"layer_types": vec!["full_attention"; 3]}),
            "`layer_types` lists 3 kinds for 4 blocks",
        ),
        (
            json!({"layer_types": ["full_attention", "full_attention", "full_attention", "wide"]}),
            "\"wide\"",
        ),
        (
            json!({"layer_types": ["full_attention", "linear_attention", "full_attention", "full_attention"]}),
            "block 1",
        ),
        (
            json!({"architectures": ["LlamaForCausalLM"]}),
            "`LlamaForCausalLM`",
        ),
        (json!({"model_type": "gemma2"}), "`gemma2`"),
        (
            json!({"quantization_config": "awq"}),
            "quantized with `awq`",
        ),
        (
            json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}}),
            "`NVFP4_AWQ`",
        ),
    ] {
        refused(&changed(&whole, &more).to_string(), &[fragment]);
    }
    let routed = base("qwen3_moe");
    for key in ["num_experts_per_tok", "moe_intermediate_size"] {
        let mut config = routed.clone();
        config[key] = json!(0);
        refused(&config.to_string(), &[&format!("`{key}`")]);
    }
    // Without the width of a head, it is what each has of the hidden size.
    let llama = changed(
        &base("llama"),
        &json!({"head_dim": "ABSENT", "hidden_size": 130}),
    );
    refused(
        &llama.to_string(),
        &["`hidden_size` (130)", "`num_attention_heads` (4)"],
    );
    for more in [
        json!({"tie_word_embeddings": 1}),
        json!({"attention_bias": null}),
    ] {
        assert_eq!(code(&changed(&whole, &more), "llama.cpp"), 0, "{more}");
    }
}

#[test]
fn a_key_that_is_stated_twice_has_one_value() {
    let text = base("qwen3").to_string();
    let twice = |more: &str| format!("{}, {more}}}", text.strip_suffix('}').unwrap());
    refused(
        &twice("\"hidden_size\": 256"),
        &["`hidden_size` is stated twice"],
    );
    refused(
        &twice("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"factor\": 4}"),
        &["`factor` is stated twice"],
    );
    let config: Json = serde_json::from_str(&twice("\"hidden_size\": 128")).unwrap();
    assert_eq!(code(&config, "llama.cpp"), 0);
}

/// A window of attention that llama.cpp's architecture does not have changes the answers beyond it.
#[test]
fn a_window_that_a_gguf_cannot_hold_is_named_where_it_is_reached() {
    let notes = |more: Json, context: u64| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, changed(&base("qwen3"), &more).to_string()).unwrap();
        let words =
            format!("fit --context {context} --prompt-tokens 16 --scheme q8_0 --format json");
        let run = run_with(&words, &[&path]);
        let fit: Json = serde_json::from_str(&run.out).unwrap();
        fit["plans"][0]["notes"].to_string()
    };
    let in_force =
        json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 2});
    assert!(notes(in_force.clone(), 512).contains("lost_window"));
    assert!(!notes(in_force, 64).contains("lost_window"));
    for without in [
        json!({"use_sliding_window": false, "sliding_window": 64, "max_window_layers": 2}),
        json!({"sliding_window": 64, "max_window_layers": 2}),
        json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 4}),
        json!({"sliding_window": null}),
    ] {
        assert!(
            !notes(without.clone(), 512).contains("lost_window"),
            "{without}"
        );
    }
    // Mistral 7B 0.1 has it in every block.
    assert!(notes(json!({"sliding_window": 64}), 512).contains("lost_window"));
}
