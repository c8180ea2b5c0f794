//! What llama.cpp's loaders ask for beyond rows: keys, biases and tables of single architectures. The answers are its
//! own (`cargo xtask interop accept`).

use orinplan::checkpoint::{Checkpoint, RawConfig};
use orinplan::dtype::Dtype;
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown, accept};
use serde_json::{Value as Json, json};

use super::support::{gguf, planned, tensor};

const EPSILON: &str = "attention.layer_norm_rms_epsilon";

/// A GGUF of `name` with the tensors of a configuration of `class`, residual width 64, 4 heads of 16, 2 blocks.
fn file(name: &str, class: &str, config: Json, keys: Json) -> Checkpoint {
    let mut all = json!({
        "architectures": [class], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 64,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": false
    });
    all.as_object_mut()
        .unwrap()
        .extend(config.as_object().unwrap().clone());
    let mut stated = json!({
        "context_length": 256, "block_count": 2, "embedding_length": 64, "feed_forward_length": 96,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16,
        "attention.value_length": 16, "rope.dimension_count": 16, "vocab_size": 64
    });
    stated
        .as_object_mut()
        .unwrap()
        .extend(keys.as_object().unwrap().clone());
    let mut file = gguf(name, stated, &planned(&all));
    set(&mut file, &format!("{name}.{EPSILON}"), Value::F32(1e-6));
    set(
        &mut file,
        "tokenizer.ggml.model",
        Value::String("no_vocab".to_owned()),
    );
    file
}

fn pairs(file: &mut Checkpoint) -> &mut Vec<(String, Value)> {
    match &mut file.config {
        RawConfig::Gguf(metadata) => &mut metadata.0,
        RawConfig::HuggingFace(_) => panic!("a GGUF"),
    }
}

fn set(file: &mut Checkpoint, key: &str, value: Value) {
    remove(file, key);
    pairs(file).push((key.to_owned(), value));
}

fn remove(file: &mut Checkpoint, key: &str) {
    pairs(file).retain(|(name, _)| name != key);
}

/// What is wrong with a file; nothing if llama.cpp loads it.
fn told(file: &Checkpoint) -> Option<String> {
    let model = match model::read(file, Unknown::Refuse) {
        Ok(model) => model,
        Err(error) => return Some(error.to_string()),
    };
    accept::checkpoint(file, &model)
        .err()
        .map(|error| error.to_string())
}

/// That the file is loaded, and is not without each of `keys` and each of `tensors`.
#[track_caller]
fn needs(file: &Checkpoint, keys: &[&str], tensors: &[&str]) {
    assert_eq!(told(file), None);
    for key in keys {
        let mut short = file.clone();
        remove(&mut short, key);
        assert!(told(&short).is_some(), "{key}");
    }
    for name in tensors {
        let mut short = file.clone();
        short.tensors.retain(|tensor| tensor.name != *name);
        assert!(short.tensors.len() < file.tensors.len(), "{name}");
        let told = told(&short).unwrap_or_default();
        assert!(
            told.contains(&format!("`{name}` is missing")),
            "{name}: {told}"
        );
    }
}

/// That `change` makes the file one that is not loaded, for a reason that has `fragment`.
#[track_caller]
fn refuses(file: &Checkpoint, change: impl Fn(&mut Checkpoint), fragment: &str) {
    let mut changed = file.clone();
    change(&mut changed);
    let told = told(&changed).unwrap_or_default();
    assert!(told.contains(fragment), "`{fragment}` is not in: {told}");
}

#[test]
fn gpt_oss_needs_its_biases_its_head_and_whole_heads_that_turn() {
    let config = json!({"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32});
    let keys = json!({"attention.sliding_window": 32, "expert_count": 4, "expert_used_count": 2,
        "expert_feed_forward_length": 96});
    let file = file("gpt-oss", "GptOssForCausalLM", config, keys);
    needs(
        &file,
        &[
            "gpt-oss.attention.sliding_window",
            "gpt-oss.expert_feed_forward_length",
        ],
        &[
            "output.weight",
            "blk.0.attn_output.bias",
            "blk.1.ffn_gate_inp.bias",
            "blk.0.ffn_up_exps.bias",
        ],
    );
    let dims =
        |n| move |file: &mut Checkpoint| set(file, "gpt-oss.rope.dimension_count", Value::U32(n));
    refuses(&file, dims(8), "all of a head");
    let none = Value::Array(vec![Value::Bool(false); 2]);
    let pattern = "gpt-oss.attention.sliding_window_pattern";
    refuses(
        &file,
        |file| set(file, pattern, none.clone()),
        "a window for one block",
    );
    // Biases on queries are loaded, and not asked for.
    let mut short = file.clone();
    short
        .tensors
        .retain(|tensor| tensor.name != "blk.0.attn_q.bias");
    assert_eq!(told(&short), None);
}

#[test]
fn positions_in_three_dimensions_have_four_sections() {
    let sections = |n: usize| Value::I32s(vec![2; n]);
    let key = "qwen3vl.rope.dimension_sections";
    let mut file = file(
        "qwen3vl",
        "Qwen3VLForConditionalGeneration",
        json!({}),
        json!({}),
    );
    set(&mut file, key, sections(4));
    needs(&file, &[key], &["blk.0.attn_q_norm.weight"]);
    refuses(&file, |file| set(file, key, sections(3)), "3 entries");
    refuses(
        &file,
        |file| set(file, key, Value::I32s(vec![0; 4])),
        "rotary pairs",
    );
    refuses(
        &file,
        |file| set(file, key, Value::F32s(vec![1.0; 4])),
        "an array of i32",
    );
}

#[test]
fn gemma_4_states_what_its_blocks_differ_in_and_brings_its_rotary_table() {
    let config = json!({"global_head_dim": 16, "sliding_window": 32, "hidden_size_per_layer_input": 0,
        "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": true,
        "rope_parameters": {"full_attention": {"rope_type": "proportional"}}});
    let keys = json!({"attention.sliding_window": 32, "attention.sliding_window_pattern": [true, false],
        "embedding_length_per_layer_input": 0, "attention.key_length_swa": 16, "attention.value_length_swa": 16});
    let file = file("gemma4", "Gemma4ForCausalLM", config, keys);
    needs(
        &file,
        &[
            "gemma4.attention.sliding_window",
            "gemma4.attention.sliding_window_pattern",
            "gemma4.embedding_length_per_layer_input",
            "gemma4.attention.key_length_swa",
            "gemma4.attention.value_length_swa",
        ],
        &["rope_freqs.weight", "blk.0.attn_k.weight"],
    );
    // Any block may use its keys as values.
    let mut short = file.clone();
    short
        .tensors
        .retain(|tensor| tensor.name != "blk.0.attn_v.weight");
    assert_eq!(told(&short), None);
    // Its projections have no biases.
    let bias = |file: &mut Checkpoint| {
        file.tensors
            .push(tensor("blk.0.attn_q.bias", &[64], Dtype::F32))
    };
    refuses(&file, bias, "`blk.0.attn_q.bias`");
}

#[test]
fn hybrids_state_their_state_and_their_recurrent_blocks() {
    let mamba = json!({"hybrid_override_pattern": "M*-", "num_hidden_layers": 3, "mamba_num_heads": 8,
        "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "conv_kernel": 4, "expand": 2});
    let ssm = json!({"block_count": 3, "ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16,
        "ssm.time_step_rank": 8, "ssm.group_count": 1, "attention.head_count_kv": [0, 2, 0],
        "feed_forward_length": [0, 0, 96]});
    let mut nemotron = file("nemotron_h", "NemotronHForCausalLM", mamba, ssm);
    let epsilon = "nemotron_h.attention.layer_norm_epsilon";
    set(&mut nemotron, epsilon, Value::F32(1e-6));
    let tensors = ["blk.0.ssm_dt.bias", "blk.0.ssm_conv1d.bias"];
    needs(
        &nemotron,
        &[epsilon, "nemotron_h.ssm.conv_kernel"],
        &tensors,
    );
    // The other epsilon is that one where it is not stated.
    remove(&mut nemotron, &format!("nemotron_h.{EPSILON}"));
    assert_eq!(told(&nemotron), None);

    let nets = json!({"layer_types": ["linear_attention", "full_attention"], "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48});
    let keys = json!({"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16, "ssm.time_step_rank": 4,
        "ssm.group_count": 2, "full_attention_interval": 2, "expert_count": 4, "expert_used_count": 2,
        "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 48});
    let (mut odd_nets, mut odd_keys) = (nets.clone(), keys.clone());
    odd_nets["linear_num_value_heads"] = json!(3);
    odd_keys["ssm.time_step_rank"] = json!(3);
    odd_keys["ssm.inner_size"] = json!(48);
    let odd = file("qwen3next", "Qwen3NextForCausalLM", odd_nets, odd_keys);
    refuses(&odd, |_| {}, "a multiple of 2, the heads of keys");
    let next = file("qwen3next", "Qwen3NextForCausalLM", nets, keys);
    needs(
        &next,
        &[
            "qwen3next.ssm.time_step_rank",
            "qwen3next.expert_used_count",
        ],
        &["blk.0.ssm_dt.bias"],
    );
    let key = "qwen3next.attention.recurrent_layers";
    let flags = |n: usize| Value::Array((0..n).map(|block| Value::Bool(block == 0)).collect());
    refuses(&next, |file| set(file, key, flags(3)), "3 entries");
    let mut flagged = next.clone();
    set(&mut flagged, key, flags(2));
    assert_eq!(told(&flagged), None);
}

/// llama.cpp takes from the first block how much of a head turns, and its pass does not end if that is nothing.
#[test]
fn plamo_2_states_heads_for_its_first_block() {
    let config = json!({"hidden_size_per_head": 16, "head_dim": null, "mamba_d_state": 16, "mamba_d_conv": 4,
        "mamba_num_heads": 8, "mamba_step": 2, "tie_word_embeddings": true});
    let keys = json!({"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.time_step_rank": 8,
        "ssm.group_count": 0, "attention.head_count_kv": [0, 2]});
    let file = file("plamo2", "Plamo2ForCausalLM", config, keys);
    needs(
        &file,
        &["plamo2.ssm.group_count", "plamo2.ssm.time_step_rank"],
        &[
            "blk.0.ssm_dt.bias",
            "blk.0.ssm_b_norm",
            "blk.0.post_ffw_norm",
            "blk.1.attn_q_norm.weight",
            "blk.1.attn_qkv.weight",
        ],
    );
    let heads = |counts: [u32; 2]| Value::Array(counts.map(Value::U32).to_vec());
    let key = "plamo2.attention.head_count";
    let mut both = file.clone();
    set(&mut both, key, heads([4, 4]));
    assert_eq!(told(&both), None);
    let none = |file: &mut Checkpoint| set(file, key, heads([0, 4]));
    refuses(&file, none, "the heads of the first block");
    let groups = |file: &mut Checkpoint| set(file, "plamo2.ssm.group_count", Value::U32(1));
    refuses(&file, groups, "ssm.group_count");
    // Its tokenizer spells what begins no token.
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = std::iter::once("a".to_owned()).chain(bytes).collect();
    let rows = tokens.len() as u64;
    let mut spelling = file.clone();
    for tensor in spelling.tensors.iter_mut() {
        if tensor.name == "token_embd.weight" {
            *tensor = self::tensor(&tensor.name, &[rows, 64], Dtype::F32);
        }
    }
    let kinds =
        |kind: i32| Value::I32s((0..rows).map(|id| if id == 0 { 1 } else { kind }).collect());
    let words = [("model", "plamo2"), ("pre", "default")];
    for (key, word) in words {
        let word = Value::String(word.to_owned());
        set(&mut spelling, &format!("tokenizer.ggml.{key}"), word);
    }
    let tokens = Value::Strings(tokens.into_iter().collect());
    set(&mut spelling, "tokenizer.ggml.tokens", tokens);
    set(&mut spelling, "tokenizer.ggml.token_type", kinds(6));
    assert_eq!(told(&spelling), None);
    let plain = |file: &mut Checkpoint| set(file, "tokenizer.ggml.token_type", kinds(1));
    refuses(&spelling, plain, "`<0x00>`");
    refuses(
        &spelling,
        |file| remove(file, "tokenizer.ggml.token_type"),
        "`<0x00>`",
    );
}

#[test]
fn latent_attention_states_its_latents() {
    let config = json!({"head_dim": null, "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 32,
        "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "first_k_dense_replace": 1,
        "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 32, "num_experts_per_tok": 2});
    let keys = json!({"attention.head_count_kv": 1, "attention.key_length": 40, "attention.value_length": 32,
        "attention.key_length_mla": 24, "attention.value_length_mla": 12, "attention.q_lora_rank": 24,
        "attention.kv_lora_rank": 32, "rope.dimension_count": 8, "leading_dense_block_count": 1, "expert_count": 4,
        "expert_used_count": 2, "expert_shared_count": 1, "expert_feed_forward_length": 32});
    let file = file("deepseek2", "DeepseekV2ForCausalLM", config, keys);
    needs(
        &file,
        &[
            "deepseek2.expert_shared_count",
            "deepseek2.expert_feed_forward_length",
        ],
        &["blk.0.attn_q_a.weight", "blk.1.ffn_gate_inp.weight"],
    );
    let heads =
        |file: &mut Checkpoint| set(file, "deepseek2.attention.head_count_kv", Value::U32(2));
    refuses(&file, heads, "deepseek2.attention.head_count_kv");
    let width = |file: &mut Checkpoint| set(file, "deepseek2.attention.key_length", Value::U32(48));
    refuses(&file, width, "deepseek2.attention.key_length");
}
