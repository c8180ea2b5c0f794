//! What a runtime does not run is refused for it, with a runtime that does: types without kernels, architectures whose pass
//! the decoder does not know, images.

use std::path::{Path, PathBuf};

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, TensorEntry};
use serde_json::{Value as Json, json};

use crate::support::{QWEN, Run, assert_error, command, left, run, says};

/// What `fit` says of a configuration.
fn fit(config: &Json, words: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    fit_path(&path, words)
}

fn fit_path(path: &Path, words: &str) -> Run {
    let mut command = command();
    command.arg("fit").arg(path);
    left(command.args(words.split(' ')).output().unwrap())
}

/// A GGUF of Qwen3-0.6B whose Q4_K tensors are TQ1_0, without weights.
fn ternary(directory: &Path) -> PathBuf {
    let header = gguf::read_header(Path::new("fixtures/qwen3-0.6b-Q4_K_M.header.gguf")).unwrap();
    let mut metadata = header.metadata.0;
    metadata.retain(|(key, _)| key != "general.file_type");
    let tensors: Vec<TensorEntry<'_>> = header
        .tensors
        .iter()
        .map(|tensor| TensorEntry {
            name: &tensor.name,
            shape: &tensor.shape,
            dtype: match tensor.dtype {
                Dtype::Q4_K => Dtype::TQ1_0,
                other => other,
            },
        })
        .collect();
    let mut file = Vec::new();
    gguf::write_header(&mut file, &metadata, &tensors).unwrap();
    let path = directory.join("ternary.header.gguf");
    std::fs::write(&path, file).unwrap();
    path
}

/// llama.cpp's processors have kernels for ternary types, its GPUs do not; our engines run them.
#[test]
fn ternary_types_are_planned_where_there_are_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let stored = ternary(folder.path());
    for gpu in ["llama.cpp", "llama-bench", "ollama"] {
        let words = format!("--device orin-nano-8gb --runtime {gpu}");
        let named = run(&format!("fit {QWEN} --scheme tq1_0 {words}"));
        for run in [named, fit_path(&stored, &words)] {
            let told = "has no kernels for TQ1_0 on the GPU";
            assert_error(&run, &[told, "--runtime llama.cpp-cpu"]);
        }
    }
    for cpu in ["llama.cpp-cpu", "candle-cpu"] {
        let words = format!("--device orin-nano-8gb --runtime {cpu}");
        let named = says(0, &format!("fit {QWEN} --scheme all --all {words}"));
        assert!(
            named.contains("TQ1_0") && named.contains("TQ2_0"),
            "{named}"
        );
        let stored = fit_path(&stored, &words);
        assert!(
            stored.out.starts_with("FITS"),
            "{}{}",
            stored.out,
            stored.err
        );
    }
}

/// Llama 3.2 Vision 11B: no runtime of GGUFs has it, and vLLM no longer.
#[test]
fn what_one_runtime_alone_serves_is_planned_for_it() {
    let config = json!({
        "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama",
        "text_config": {"model_type": "mllama_text_model", "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
        "vision_config": {"image_size": 560, "patch_size": 14, "max_num_tiles": 4}
    });
    let board = "--device agx-orin-64gb";
    for gguf in ["llama.cpp", "ollama"] {
        let run = fit(&config, &format!("{board} --runtime {gguf}"));
        let why = ["llama.cpp has no such architecture", "--runtime vllm"];
        assert_error(&run, &why);
    }
    let run = fit(&config, &format!("{board} --runtime mlc"));
    assert_error(&run, &["`vllm` alone had its architecture, up to 0.10.2"]);
    let plan = fit(
        &config,
        &format!("{board} --runtime vllm --scheme bf16 --context 8192 --all"),
    );
    assert!(plan.out.starts_with("FITS"), "{}{}", plan.out, plan.err);
    for told in [
        "vLLM serves this architecture up to 0.10.2",
        "an image takes 6404 tokens",
    ] {
        assert!(plan.out.contains(told), "{told}: {}", plan.out);
    }
}

/// Zamba2-1.2B: no runtime of GGUFs has it, and vLLM has.
#[test]
fn what_newer_versions_of_a_runtime_serve_has_no_last_one() {
    let kinds = (0..38).map(|block| if block % 6 == 5 { "hybrid" } else { "mamba" });
    let config = json!({
        "architectures": ["Zamba2ForCausalLM"], "model_type": "zamba2", "adapter_rank": 128, "attention_head_dim": 128,
        "hidden_act": "gelu", "hidden_size": 2048, "intermediate_size": 8192, "mamba_d_conv": 4, "mamba_d_state": 128,
        "mamba_expand": 2, "mamba_headdim": 64, "mamba_ngroups": 1, "max_position_embeddings": 4096,
        "n_mamba_heads": 64, "num_attention_heads": 32, "num_hidden_layers": 38, "num_key_value_heads": 32,
        "num_mem_blocks": 1, "rms_norm_eps": 1e-5, "use_mem_rope": true, "use_shared_attention_adapter": true,
        "vocab_size": 32000, "layers_block_type": kinds.collect::<Vec<&str>>(),
    });
    let board = "--device orin-nano-8gb";
    for gguf in ["llama.cpp", "ollama", "candle"] {
        let run = fit(&config, &format!("{board} --runtime {gguf}"));
        assert_eq!(run.code, 2, "{}", run.out);
    }
    let run = fit(&config, &format!("{board} --runtime mlc"));
    assert_error(&run, &["`vllm` alone has its architecture"]);
    let words = format!("{board} --runtime vllm --scheme bf16 --context 4096");
    let plan = fit(&config, &words);
    assert!(plan.out.starts_with("FITS"), "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("1.22 B parameters"), "{}", plan.out);
    assert!(!plan.out.contains("up to"), "{}", plan.out);
    let document = crate::schema::document(&fit(&config, &format!("{words} --format json")).out);
    let memory = &document["plans"][0]["memory"];
    // Six blocks with 32 heads of keys and of values, 128 wide, in 16 bits.
    assert_eq!(memory["kv_cache_bytes"], 6 * 2 * 32 * 128 * 2 * 4096);
}

/// Qwen3-Next-80B-A3B and Qwen3.5-35B-A3B.
fn delta_nets(of: &str) -> Json {
    let mut config = json!({
        "vocab_size": 151_936, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "num_experts": 512, "num_experts_per_tok": 10,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "intermediate_size": 5120,
        "max_position_embeddings": 262_144, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
        "partial_rotary_factor": 0.25, "rope_theta": 1e7, "hidden_act": "silu",
    });
    let more = match of {
        "next" => json!({"architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next"}),
        _ => json!({
            "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text", "vocab_size": 248_320,
            "num_hidden_layers": 40, "num_experts": 256, "num_experts_per_tok": 8,
        }),
    };
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

#[test]
fn the_decoder_is_planned_for_what_it_decodes() {
    let words = |runtime: &str| format!("--device agx-orin-64gb --runtime {runtime}");
    let ternary = json!({
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "hidden_size": 2560,
        "intermediate_size": 6912, "max_position_embeddings": 4096, "num_attention_heads": 20,
        "num_hidden_layers": 30, "num_key_value_heads": 5, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
        "tie_word_embeddings": true, "vocab_size": 128_256,
    });
    for runtime in ["candle", "candle-cpu"] {
        let refused = fit(&ternary, &words(runtime));
        assert_error(
            &refused,
            &[
                "no GGUF is made of",
                "(BitNetForCausalLM)",
                "bitnet.cpp run it",
            ],
        );
        for (net, parameters) in [("3.5", "34.7 B parameters"), ("next", "79.7 B parameters")] {
            let decoded = fit(&delta_nets(net), &words(runtime));
            assert!(decoded.out.starts_with("FITS"), "{}", decoded.err);
            assert!(decoded.out.contains(parameters), "{}", decoded.out);
        }
    }
    let embeds = json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536,
        "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30522, "type_vocab_size": 2,
        "max_position_embeddings": 512, "layer_norm_eps": 1e-12,
    });
    let embedding = fit(&embeds, &words("candle"));
    assert!(embedding.out.contains("texts/s"), "{}", embedding.err);
}

/// Gemma 3 4B: text is decoded, images are not, and neither their tokens nor their encoder's memory are counted.
#[test]
fn the_decoder_says_that_it_reads_no_images() {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 256,
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
            "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
        },
    });
    for runtime in ["candle", "candle-cpu"] {
        let words = format!("--device orin-nano-8gb --runtime {runtime}");
        let refused = fit(&config, &format!("{words} --image 896x896"));
        assert_error(
            &refused,
            &["--image", "this runtime runs its text model alone"],
        );
        let text = fit(&config, &words).out;
        assert!(
            text.contains("note: text alone: candle") && text.contains("reads no images or sound"),
            "{text}"
        );
        let document = |words: &str| crate::schema::document(&fit(&config, words).out);
        let whole = document(&format!("{words} --format json"));
        let alone = document(&format!("{words} --format json --text-only"));
        assert_eq!(whole["plans"][0]["memory"], alone["plans"][0]["memory"]);
    }
}

/// BitNet b1.58 2B 4T: the published weights of 16 bits are rounded as the model runs, the packed ones are not read. vLLM loads
/// neither.
#[test]
fn weights_that_are_rounded_as_the_model_runs_are_described_in_16_bits() {
    let bitnet = |mode: &str| {
        json!({
            "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "hidden_size": 2560,
            "intermediate_size": 6912, "max_position_embeddings": 4096, "num_attention_heads": 20,
            "num_hidden_layers": 30, "num_key_value_heads": 5, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
            "tie_word_embeddings": true, "vocab_size": 128_256,
            "quantization_config": {
                "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": mode,
            },
        })
    };
    for (runtime, why) in [
        ("vllm", "bitnet.cpp run it"),
        ("mlc", "bitnet.cpp run it"),
        ("llama.cpp", "squares a ReLU"),
        ("ollama", "squares a ReLU"),
    ] {
        let words = format!("--device orin-nx-16gb --runtime {runtime}");
        assert_error(&fit(&bitnet("online"), &words), &[why]);
        let packed = fit(&bitnet("offline"), &words);
        assert_error(
            &packed,
            &["`bitnet` (BitNet, ternary weights)", "bitnet.cpp"],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, bitnet("online").to_string()).unwrap();
    let described = run(&format!("inspect {}", path.display()));
    assert!(described.out.contains("2.41 B"), "{}", described.err);
}

/// The published gpt-oss-20b as its configuration alone says: experts in MXFP4, whatever the format of the rest.
#[test]
fn four_bit_experts_of_a_configuration_stay_as_they_are() {
    let mut config = json!({
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": true, "head_dim": 64,
        "hidden_size": 2880, "intermediate_size": 2880, "max_position_embeddings": 131_072,
        "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
        "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201_088, "rope_theta": 150_000,
        "rms_norm_eps": 1e-5, "swiglu_limit": 7.0, "tie_word_embeddings": false,
        "rope_scaling": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": false,
        },
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
            ],
        },
    });
    let words = "--device orin-nx-16gb --scheme bf16,q4_k_m";
    let screen = fit(&config, words).out;
    assert!(screen.starts_with("FITS as "), "{screen}");
    assert!(
        screen.contains("12.83 GiB") && screen.contains("10.81 GiB"),
        "{screen}"
    );
    config["quantization_config"] = Json::Null;
    let whole = fit(&config, words).out;
    assert!(whole.contains("38.97 GiB"), "{whole}");
}

/// Mamba 2 caches nothing: whatever context is asked for, it fits.
#[test]
fn a_model_without_a_cache_has_no_largest_context() {
    let config = json!({
        "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "hidden_size": 2048, "num_hidden_layers": 48,
        "vocab_size": 50_288, "state_size": 128, "num_heads": 64, "head_dim": 64, "n_groups": 1, "conv_kernel": 4,
        "expand": 2, "tie_word_embeddings": true, "layer_norm_epsilon": 1e-5, "hidden_act": "silu",
        "use_conv_bias": true, "use_bias": false,
    });
    let screen = fit(&config, "--device orin-nano-8gb").out;
    assert!(screen.contains("no limit"), "{screen}");
}

/// What makes Qwen3-Embedding-0.6B an embedding model lies in another file.
#[test]
fn a_configuration_called_embedding_asks_for_its_modules() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("Qwen3-Embedding-0.6B");
    std::fs::create_dir(&model).unwrap();
    let config = std::fs::read(Path::new(QWEN).join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config).unwrap();
    let writes = fit_path(&model, "--device orin-nano-8gb");
    assert!(
        writes.out.contains("note: without modules.json"),
        "{}",
        writes.out
    );
    std::fs::write(model.join("modules.json"), "[]").unwrap();
    let embeds = fit_path(&model, "--device orin-nano-8gb");
    assert!(
        embeds.out.contains("texts/s"),
        "{}{}",
        embeds.out,
        embeds.err
    );
}
