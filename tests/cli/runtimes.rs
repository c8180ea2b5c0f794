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
    for runtime in ["candle", "candle-cpu"] {
        let refused = fit(&delta_nets("next"), &words(runtime));
        assert_error(&refused, &["its forward pass is not known", "--runtime"]);
        let decoded = fit(&delta_nets("3.5"), &words(runtime));
        assert!(decoded.out.starts_with("FITS"), "{}", decoded.err);
        assert!(decoded.out.contains("34.7 B parameters"), "{}", decoded.out);
    }
    let other = fit(&delta_nets("next"), &words("llama.cpp"));
    assert_ne!(other.code, 2, "{}", other.err);
    let embeds = json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536,
        "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30522, "type_vocab_size": 2,
        "max_position_embeddings": 512, "layer_norm_eps": 1e-12,
    });
    let refused = fit(&embeds, &words("candle-cpu"));
    assert_error(
        &refused,
        &["does not run", "without a head that generates text"],
    );
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
