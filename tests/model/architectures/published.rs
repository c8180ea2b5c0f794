//! Published models by the numbers of their configurations (`published.json`), through both doors.

use std::collections::BTreeSet;

use orinplan::dtype::Dtype;
use orinplan::model::{ModelError, Projector};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::support::{caches, feed_forwards, gguf, hugging_face, planned, read};

/// A published model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    name: String,
    /// What is particular about it.
    #[serde(default, rename = "note")]
    _note: String,
    /// Its `config.json`, as far as it says what blocks there are.
    config: Json,
    /// The keys that conversion writes for it; none where llama.cpp does not have it.
    keys: Option<Json>,
    expected: Expected,
}

/// What is known of a model.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// llama.cpp's name.
    architecture: String,
    /// Weights of the text model.
    parameters: u64,
    /// Tensors of its GGUF.
    tensors: usize,
    caches: String,
    feed_forwards: String,
    /// Weights of its projector, where all of what is published is in it.
    projector: Option<u64>,
}

fn table() -> Vec<Published> {
    let mut rows: Vec<Published> = serde_json::from_str(include_str!("published.json")).unwrap();
    for row in &mut rows {
        unroll(&mut row.config);
        row.keys.iter_mut().for_each(unroll);
    }
    rows
}

/// Puts lists where the table has `{"cycle": [..], "length": n}`.
fn unroll(value: &mut Json) {
    if let (Some(cycle), Some(length)) = (value["cycle"].as_array(), value["length"].as_u64()) {
        let items = cycle.iter().cycle().take(length as usize);
        *value = items.cloned().collect();
        return;
    }
    if let Some(pairs) = value.as_object_mut() {
        pairs.values_mut().for_each(unroll);
    }
}

/// The configuration of the model called `name`.
fn config(name: &str) -> Json {
    let row = table().into_iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no {name}")).config
}

/// Plans each configuration without weights, then a GGUF with the keys that conversion writes for it: both
/// must give the blocks that are expected, and every tensor name must come back to its role.
#[test]
fn published_models_have_these_blocks_through_both_doors() {
    let rows = table();
    for row in &rows {
        let model = planned(&row.config);
        let projector = model.projector.as_ref().map(Projector::parameters);
        let found = Expected {
            architecture: model.architecture.clone(),
            parameters: model.parameters,
            tensors: model.tensors.len(),
            caches: caches(&model),
            feed_forwards: feed_forwards(&model),
            projector: row.expected.projector.and(projector),
        };
        assert_eq!(found, row.expected, "{}", row.name);

        let Some(keys) = &row.keys else {
            let unread = read(&gguf(&model.architecture, json!({}), &model)).unwrap_err();
            assert!(
                matches!(unread, ModelError::UnknownArchitecture { .. }),
                "{unread}"
            );
            continue;
        };
        let file = gguf(&model.architecture, keys.clone(), &model);
        let file = read(&file).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert_eq!(file.layers, model.layers, "{}", row.name);
        assert_eq!(file.dims, model.dims, "{}", row.name);
        assert_eq!(file.tied, model.tied, "{}", row.name);
        for (from_file, made) in file.tensors.iter().zip(&model.tensors) {
            let place =
                |t: &orinplan::model::Tensor| (t.name.clone(), t.role, t.layer, t.shape.clone());
            assert_eq!(place(from_file), place(made), "{}", row.name);
        }
    }
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len());
}

/// llama.cpp loads such a file, as its converter writes it where all blocks see the whole context, and aborts in its pass.
#[test]
fn a_llama_4_without_windows_is_planned_and_not_run() {
    let row = table().into_iter().find(|row| row.name == "Llama-4-Scout");
    let row = row.unwrap();
    let model = planned(&row.config);
    let mut keys = row.keys.unwrap();
    keys["attention.layer_norm_rms_epsilon"] = json!(1);
    let with = |keys: &Json| read(&gguf("llama4", keys.clone(), &model)).unwrap();
    assert!(with(&keys).forward.is_ok_and(|forward| forward.chunked));
    keys["attention.sliding_window"] = json!(0);
    let file = with(&keys);
    assert!(!file.has_windows());
    let reason = file.forward.unwrap_err();
    assert!(
        reason.contains("`llama4.attention.sliding_window`"),
        "{reason}"
    );
}

/// Some configurations state where windows are by a text of L (local) and G (global), with `layer_types` or without it.
#[test]
fn a_pattern_of_letters_says_which_blocks_have_windows() {
    let config = config("EXAONE-4.0-32B");
    let expected = planned(&config).layers;
    let without_kinds = |pattern: &str| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().remove("layer_types");
        config["sliding_window_pattern"] = json!(pattern);
        read(&hugging_face(config, Vec::new()))
    };
    assert_eq!(without_kinds("LLLG").unwrap().layers, expected);
    assert_ne!(without_kinds("LG").unwrap().layers, expected);
    for wrong in ["", "LLLX"] {
        let error = without_kinds(wrong).unwrap_err().to_string();
        assert!(error.contains("`sliding_window_pattern`"), "{error}");
    }
}

/// The published gpt-oss-20b takes 13,761,264,768 bytes: its configuration says that experts are four-bit floats.
#[test]
fn a_configuration_says_that_experts_are_four_bit_floats() {
    let mut config = config("gpt-oss-20b");
    config["quantization_config"] = json!({"quant_method": "mxfp4"});
    let model = planned(&config);
    assert_eq!(model.prequantized.as_deref(), Some("mxfp4"));
    assert_eq!(model.parameters, 20_914_757_184);
    let experts = model.tensors.iter().filter(|t| t.dtype == Dtype::MXFP4);
    assert_eq!(experts.count(), 3 * 24);
    let bytes: u64 = model.tensors.iter().map(|t| t.stored_bytes.0).sum();
    assert_eq!(bytes, 13_761_264_768);
}

/// MiniCPM-V 2.0 is a MiniCPM behind the class that 2.6 has as a Qwen 2.
#[test]
fn versions_of_a_class_that_are_not_known_are_refused() {
    let mut config = json!({
        "architectures": ["MiniCPMV"], "model_type": "minicpmv", "hidden_size": 2304, "intermediate_size": 5760,
        "num_hidden_layers": 40, "num_attention_heads": 36, "num_key_value_heads": 36, "vocab_size": 122_753,
        "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false
    });
    let known = "`MiniCPMV` is known in versions 2.5, 2.6, 4.0 and 4.5";
    for version in [Json::Null, json!("2.0"), json!(2.0)] {
        config["version"] = version;
        let error = read(&hugging_face(config.clone(), Vec::new())).unwrap_err();
        assert!(error.to_string().starts_with(known), "{error}");
    }
    for (version, architecture) in [
        (2.5, "llama"),
        (2.6, "qwen2"),
        (4.0, "llama"),
        (4.5, "qwen3"),
    ] {
        config["version"] = json!(version);
        assert_eq!(planned(&config).architecture, architecture);
    }
}

/// moondream3 has the class of moondream2, and experts.
#[test]
fn another_model_of_a_class_is_refused_by_its_type() {
    let mut config = config("moondream2");
    config["model_type"] = json!("moondream3");
    let error = read(&hugging_face(config, Vec::new())).unwrap_err();
    let known = "`HfMoondream` is known as moondream2 alone";
    assert!(error.to_string().starts_with(known), "{error}");
}

/// What the object `config` states is the model's; the rest is its class's.
#[test]
fn an_object_may_hold_the_whole_configuration() {
    let mut config = config("moondream2");
    config["config"] = json!({"text": {"dim": 1024, "ff_dim": 4096, "n_heads": 16}});
    let model = planned(&config);
    assert_eq!((model.dims.hidden, model.dims.blocks), (1024, 24));
    assert_eq!(caches(&model), "24x 16h 64+64");
    assert_eq!(feed_forwards(&model), "24x 4096");
    // Of other classes it is no configuration.
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["model_type"] = json!("llama");
    assert!(read(&hugging_face(config, Vec::new())).is_err());
}

/// A tied model that rotates three quarters of each head: 48 factors for a head of 128.
#[test]
fn phi_4_mini_has_a_factor_for_each_pair_that_rotates() {
    let tensors = planned(&config("Phi-4-mini")).tensors;
    let factors = tensors
        .iter()
        .find(|t| t.name == "rope_factors_long.weight");
    assert_eq!(factors.unwrap().shape, [48]);
}

/// A GGUF with its prediction block counts one block more.
#[test]
fn a_prediction_block_in_a_gguf_is_no_block_of_the_model() {
    let keys = json!({
        "block_count": 62, "nextn_predict_layers": 1, "context_length": 163840,
        "embedding_length": 7168, "feed_forward_length": 18432, "attention.head_count": 128,
        "attention.head_count_kv": 1, "attention.key_length": 576, "attention.value_length": 512,
        "attention.key_length_mla": 192, "attention.value_length_mla": 128,
        "attention.q_lora_rank": 1536, "attention.kv_lora_rank": 512, "rope.dimension_count": 64,
        "leading_dense_block_count": 3, "expert_count": 256, "expert_used_count": 8,
        "expert_shared_count": 1, "expert_feed_forward_length": 2048
    });
    let model = planned(&config("DeepSeek-V3"));
    let file = read(&gguf("deepseek2", keys, &model)).unwrap();
    assert_eq!(file.layers, model.layers);
}

/// Files from before the latent cache state no `key_length_mla`: each head is cached whole.
#[test]
fn an_old_deepseek_gguf_caches_whole_heads() {
    let keys = json!({
        "block_count": 61, "context_length": 163840, "embedding_length": 7168,
        "feed_forward_length": 18432, "attention.head_count": 128, "attention.head_count_kv": 128,
        "attention.key_length": 192, "attention.value_length": 128,
        "attention.q_lora_rank": 1536, "attention.kv_lora_rank": 512, "rope.dimension_count": 64,
        "leading_dense_block_count": 3, "expert_count": 256, "expert_used_count": 8,
        "expert_shared_count": 1, "expert_feed_forward_length": 2048
    });
    let file = read(&gguf("deepseek2", keys, &planned(&config("DeepSeek-V3")))).unwrap();
    assert_eq!(caches(&file), "61x 128h 192+128");
}

/// llama.cpp does not load layer norms without their biases.
#[test]
fn starcoder2_needs_the_biases_of_its_norms() {
    let config = json!({
        "architectures": ["Starcoder2ForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40,
        "max_position_embeddings": 512, "use_bias": true
    });
    let keys = json!({
        "block_count": 2, "context_length": 512, "embedding_length": 64, "feed_forward_length": 96,
        "attention.head_count": 4, "attention.head_count_kv": 2
    });
    for (missing, needed) in [
        ("blk.1.attn_norm.bias", true),
        ("blk.0.ffn_up.bias", true),
        ("output_norm.bias", true),
        ("blk.0.attn_q.bias", false),
    ] {
        let mut model = planned(&config);
        model.tensors.retain(|tensor| tensor.name != missing);
        let error = read(&gguf("starcoder2", keys.clone(), &model)).err();
        let told = error.map(|error| error.to_string());
        let names_it = told.is_some_and(|told| told.contains(&format!("`{missing}` is missing")));
        assert_eq!(names_it, needed, "{missing}");
    }
}

/// The hub counts 450,822,656 weights: those of LFM2-350M, 354,483,968, and the projector's.
#[test]
fn lfm2_vl_450m_has_all_weights_that_are_published() {
    let text = json!({
        "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "hidden_size": 1024, "block_ff_dim": 6656,
        "block_auto_adjust_ff_dim": true, "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 65536,
        "max_position_embeddings": 128000, "conv_L_cache": 3, "conv_bias": false, "norm_eps": 1e-5,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14], "rope_theta": 1000000.0
    });
    let vision = json!({
        "model_type": "siglip2_vision_model", "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "num_patches": 256, "patch_size": 16,
        "layer_norm_eps": 1e-6, "vision_use_head": false
    });
    let model = planned(&json!({
        "architectures": ["Lfm2VlForConditionalGeneration"], "model_type": "lfm2-vl", "downsample_factor": 2,
        "projector_hidden_size": 2560, "text_config": text, "vision_config": vision
    }));
    assert_eq!(model.parameters, 354_483_968);
    let projector = model.projector.unwrap();
    assert_eq!(projector.parameters(), 450_822_656 - 354_483_968);
}

/// A configuration of DeepSeek 2 that says it has no latents is not one whose latents are missing.
#[test]
fn deepseek_2_without_latents_is_planned_with_whole_heads() {
    let config = config("DeepSeek-OCR");
    let mut text = config["language_config"].clone();
    text["model_type"] = json!("deepseek_v2");
    let model = planned(&text);
    assert_eq!(model.architecture, "deepseek2-ocr");
    assert_eq!(model.layers, planned(&config).layers);
    text["use_mla"] = json!(true);
    let error = read(&super::support::hugging_face(text, Vec::new())).unwrap_err();
    assert!(error.to_string().contains("kv_lora_rank"), "{error}");
}
