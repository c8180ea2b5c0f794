//! Models that turn texts into numbers: planned as what they are, and refused where tokens are measured.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::{json, refused, says};

/// Qwen3-Embedding-0.6B as its config.json describes it.
fn qwen3() -> Json {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024,
        "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_669,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
        "tie_word_embeddings": true,
    })
}

/// BGE-small-en-v1.5 as its config.json describes it.
fn bge() -> Json {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384,
        "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 12,
        "vocab_size": 30522, "type_vocab_size": 2, "max_position_embeddings": 512,
        "layer_norm_eps": 1e-12,
    })
}

/// A directory with the configuration and, where there is a pooling, what Sentence Transformers writes beside it.
fn directory(root: &Path, name: &str, config: &Json, pooling: Option<&str>) -> String {
    let path = root.join(name);
    fs::create_dir_all(path.join("1_Pooling")).unwrap();
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    if let Some(mode) = pooling {
        let modules =
            json!([{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]);
        fs::write(path.join("modules.json"), modules.to_string()).unwrap();
        let pooling = json!({ mode: true }).to_string();
        fs::write(path.join("1_Pooling/config.json"), pooling).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_text_is_rated_and_no_token() {
    let root = tempfile::tempdir().unwrap();
    let decoder = directory(root.path(), "a", &qwen3(), Some("pooling_mode_lasttoken"));
    let encoder = directory(root.path(), "b", &bge(), Some("pooling_mode_cls_token"));
    for (model, pooling, caches) in [(&decoder, "last", true), (&encoder, "cls", false)] {
        let document = json(
            0,
            &format!("fit {model} --scheme f16 --device orin-nano-8gb"),
        );
        let retrieval = &document["model"]["retrieval"];
        assert_eq!(*retrieval, json!({"pooling": pooling, "caches": caches}));
        let plan = &document["plans"][0];
        assert_eq!(plan["decode"], Json::Null);
        let cache = plan["memory"]["kv_cache_bytes"].as_u64().unwrap();
        assert_eq!(cache > 0, caches, "{pooling}");
        let tokens = plan["retrieval"]["tokens_per_text"].as_f64().unwrap();
        let rate = |plan: &Json| plan["expected"].as_f64().unwrap();
        let texts = rate(&plan["retrieval"]["texts_per_second"]);
        let read = rate(&plan["prefill"]["tokens_per_second"]);
        assert!((texts * tokens / read - 1.0).abs() < 1e-4, "{texts} {read}");
        let text = says(
            0,
            &format!("fit {model} --scheme f16 --device orin-nano-8gb --explain"),
        );
        refused(
            &format!("fit {model} --device orin-nano-8gb --draft lookup"),
            &["generates no tokens"],
        );
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.join(" ").contains(" texts/s of 512 tokens, "),
            "{text}"
        );
        assert!(!text.contains("decode "), "{text}");
        let modes = text
            .lines()
            .find(|line| line.starts_with("by power mode: "));
        assert!(!modes.unwrap().contains("tokens/s"), "{text}");
    }
}

#[test]
fn a_text_longer_than_a_pass_makes_the_pass_longer() {
    let root = tempfile::tempdir().unwrap();
    let model = directory(root.path(), "a", &qwen3(), Some("pooling_mode_lasttoken"));
    let plan = json(
        0,
        &format!("fit {model} --prompt-tokens 2048 --device orin-nano-8gb"),
    );
    assert_eq!(plan["workload"]["ubatch"], 2048);
}

#[test]
fn a_reranker_is_told_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    let model = directory(root.path(), "Qwen3-Reranker-0.6B", &qwen3(), None);
    let document = json(
        0,
        &format!("fit {model} --scheme f16 --device orin-nano-8gb"),
    );
    assert_eq!(document["model"]["retrieval"]["pooling"], "rank");
    let decoded = says(
        0,
        &format!("fit {model} --device orin-nano-8gb --runtime candle"),
    );
    assert!(decoded.contains(" texts/s"), "{decoded}");
}

#[test]
fn tokens_are_neither_measured_nor_compared() {
    let root = tempfile::tempdir().unwrap();
    let model = directory(root.path(), "b", &bge(), Some("pooling_mode_mean_tokens"));
    let said = [
        "an embedding or reranking model",
        "it has no tokens to measure",
    ];
    refused(&format!("validate {model} --backend llama-bench"), &said);
    refused(&format!("compare {model} {model}"), &said);
    refused(&format!("imatrix {model} --output x"), &said);
}
