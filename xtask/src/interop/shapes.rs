//! Small models of the architectures that the program plans and does not convert, as GGUF in memory: tensors as the
//! program has them from a `config.json`, and the keys that llama.cpp's converter writes.

use anyhow::Context;
use orinplan::checkpoint;
use orinplan::dtype::Dtype;
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown};
use serde_json::{Value as Json, json};

use super::bench::Bench;
use super::gguf_file::{GgufFile, Tensor};

/// An architecture: llama.cpp's name, a class of Hugging Face's, what its `config.json` has beyond the common keys, and
/// what its metadata has.
pub(super) type Shape = (&'static str, &'static str, fn() -> Json, fn() -> Json);

pub(super) const SHAPES: &[Shape] = &[
    (
        "mistral3",
        "Ministral3ForCausalLM",
        || json!({}),
        || json!({}),
    ),
    (
        "qwen2vl",
        "Qwen2VLForConditionalGeneration",
        || json!({}),
        sections,
    ),
    ("qwen2moe", "Qwen2MoeForCausalLM", routed_and_shared, || {
        json!({"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32,
               "expert_shared_feed_forward_length": 48})
    }),
    (
        "qwen3vl",
        "Qwen3VLForConditionalGeneration",
        || json!({}),
        sections,
    ),
    (
        "qwen3vlmoe",
        "Qwen3VLMoeForConditionalGeneration",
        routed,
        || {
            json!({"rope.dimension_sections": [3, 3, 2, 0], "expert_count": 4, "expert_used_count": 2,
               "expert_feed_forward_length": 32})
        },
    ),
    (
        "gemma4",
        "Gemma4ForCausalLM",
        || {
            json!({"global_head_dim": 16, "sliding_window": 32, "hidden_size_per_layer_input": 0,
               "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": true,
               "rope_parameters": {"full_attention": {"rope_type": "proportional"}}})
        },
        || {
            json!({"attention.sliding_window": 32, "attention.sliding_window_pattern": [true, false],
               "embedding_length_per_layer_input": 0, "attention.key_length_swa": 16,
               "attention.value_length_swa": 16, "rope.dimension_count": 16})
        },
    ),
    (
        "granite",
        "GraniteForCausalLM",
        || json!({}),
        || json!({"logit_scale": 2.0}),
    ),
    (
        "granitemoe",
        "GraniteMoeForCausalLM",
        || json!({"num_local_experts": 4, "num_experts_per_tok": 2}),
        || json!({"logit_scale": 2.0, "expert_count": 4, "expert_used_count": 2}),
    ),
    (
        "gpt-oss",
        "GptOssForCausalLM",
        || json!({"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32}),
        || {
            json!({"attention.sliding_window": 32, "expert_count": 4, "expert_used_count": 2,
               "expert_feed_forward_length": 96})
        },
    ),
    (
        "gemma-embedding",
        "Gemma3TextModel",
        || {
            json!({"sliding_window": 32, "num_hidden_layers": 6, "tie_word_embeddings": true,
               "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention",
                               "sliding_attention", "full_attention"]})
        },
        || json!({"attention.sliding_window": 32, "block_count": 6}),
    ),
    (
        "rwkv7",
        "RWKV7ForCausalLM",
        || json!({}),
        || {
            json!({"wkv.head_size": 16, "attention.decay_lora_rank": 32, "attention.iclr_lora_rank": 32,
               "attention.value_residual_mix_lora_rank": 32, "attention.gate_lora_rank": 32,
               "attention.layer_norm_epsilon": 1e-5, "attention.head_count": 0,
               "attention.key_length": null, "attention.value_length": null, "rope.dimension_count": null})
        },
    ),
    ("kimi-linear", "KimiLinearForCausalLM", kimi, kimi_keys),
    ("bert", "BertModel", token_types, encoder_keys),
    ("nomic-bert", "NomicBertModel", token_types, encoder_keys),
    (
        "nomic-bert-moe",
        "NomicBertModel",
        || json!({"type_vocab_size": 2, "moe_every_n_layers": 2, "moe_top_k": 2, "num_experts": 4}),
        || {
            merged(
                encoder_keys(),
                json!({"expert_count": 4, "expert_used_count": 2, "moe_every_n_layers": 2}),
            )
        },
    ),
    (
        "llama4",
        "Llama4ForCausalLM",
        || {
            json!({"num_local_experts": 4, "num_experts_per_tok": 2, "interleave_moe_layer_step": 2,
               "intermediate_size": 32, "intermediate_size_mlp": 96, "num_hidden_layers": 4})
        },
        || {
            json!({"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32,
               "interleave_moe_layer_step": 2, "block_count": 4})
        },
    ),
    (
        "bitnet",
        "BitnetForCausalLM",
        || json!({"tie_word_embeddings": true}),
        || json!({}),
    ),
    ("olmo2", "Olmo2ForCausalLM", || json!({}), || json!({})),
    ("glm4", "Glm4ForCausalLM", || json!({}), || json!({})),
    (
        "qwen3next",
        "Qwen3NextForCausalLM",
        || merged(delta_net(), routed_and_shared()),
        || {
            merged(
                delta_net_keys(),
                json!({"expert_count": 4, "expert_used_count": 2,
            "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 48}),
            )
        },
    ),
    (
        "qwen35moe",
        "Qwen3_5MoeForCausalLM",
        || merged(delta_net(), routed_and_shared()),
        || {
            merged(
                delta_net_keys(),
                json!({"rope.dimension_sections": [1, 1, 0, 0], "expert_count": 4,
            "expert_used_count": 2, "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 48}),
            )
        },
    ),
];

fn kimi() -> Json {
    json!({"linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1], "head_dim": 16, "num_heads": 4,
           "short_conv_kernel_size": 4}, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
           "v_head_dim": 16, "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32,
           "num_shared_experts": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4})
}

fn kimi_keys() -> Json {
    json!({"attention.head_count_kv": [0, 1], "attention.key_length": 40, "attention.value_length": 16,
           "attention.key_length_mla": 24, "attention.value_length_mla": 16, "attention.kv_lora_rank": 32,
           "rope.dimension_count": 8, "ssm.conv_kernel": 4, "kda.head_dim": 16, "expert_count": 4,
           "expert_used_count": 2, "expert_feed_forward_length": 32, "expert_shared_count": 1,
           "expert_gating_func": 2, "expert_weights_scale": 2.5, "leading_dense_block_count": 1})
}

fn token_types() -> Json {
    json!({"type_vocab_size": 2})
}

fn encoder_keys() -> Json {
    json!({"attention.layer_norm_epsilon": 1e-6, "attention.causal": false})
}

fn sections() -> Json {
    json!({"rope.dimension_sections": [3, 3, 2, 0]})
}

fn routed() -> Json {
    json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32})
}

fn routed_and_shared() -> Json {
    merged(routed(), json!({"shared_expert_intermediate_size": 48}))
}

fn delta_net() -> Json {
    json!({"layer_types": ["linear_attention", "full_attention"], "linear_conv_kernel_dim": 4,
           "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
           "linear_num_value_heads": 4})
}

fn delta_net_keys() -> Json {
    json!({"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.time_step_rank": 4,
           "ssm.inner_size": 64, "full_attention_interval": 2, "rope.dimension_count": 4})
}

fn merged(mut one: Json, other: Json) -> Json {
    if let (Json::Object(one), Json::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// The file of a shape: weights of zeros, and a vocabulary that is only counted.
pub(super) fn file(bench: &Bench, shape: &Shape) -> anyhow::Result<GgufFile> {
    let (name, class, config, keys) = shape;
    let common = json!({
        "architectures": [class], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 64,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": false
    });
    let path = bench.file("shape.json");
    let config = merged(common, config());
    std::fs::write(&path, config.to_string())?;
    let checkpoint = checkpoint::open(&path.to_string_lossy())?;
    let model = model::read(&checkpoint, Unknown::Refuse).with_context(|| (*name).to_owned())?;
    let tensors = model.tensors.iter().map(|tensor| Tensor {
        name: tensor.name.clone(),
        dtype: Dtype::F32,
        shape: tensor.shape.clone(),
        bytes: vec![0; 4 * tensor.elements() as usize],
    });
    let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
    let mut metadata = vec![
        text("general.architecture", name),
        text("tokenizer.ggml.model", "no_vocab"),
    ];
    if let Some(types) = config["type_vocab_size"].as_u64() {
        let key = "tokenizer.ggml.token_type_count".to_owned();
        metadata.push((key, Value::U32(types as u32)));
    }
    let common = json!({
        "context_length": 256, "block_count": 2, "embedding_length": 64, "feed_forward_length": 96,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16,
        "attention.value_length": 16, "attention.layer_norm_rms_epsilon": 1e-6, "rope.dimension_count": 16,
        "vocab_size": 64
    });
    let all = merged(common, keys());
    let stated = all.as_object().context("no keys")?;
    for (key, value) in stated.iter().filter(|(_, value)| !value.is_null()) {
        metadata.push((format!("{name}.{key}"), self::value(value)?));
    }
    Ok(GgufFile {
        metadata,
        tensors: tensors.collect(),
    })
}

fn value(value: &Json) -> anyhow::Result<Value> {
    Ok(match value {
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Array(items) => {
            let one = |item: &Json| match item {
                Json::Bool(flag) => Some(Value::Bool(*flag)),
                item => Some(Value::I32(i32::try_from(item.as_i64()?).ok()?)),
            };
            Value::Array(
                items
                    .iter()
                    .map(one)
                    .collect::<Option<_>>()
                    .context("a list")?,
            )
        }
        Json::Number(number) if number.is_f64() => {
            Value::F32(number.as_f64().context("a number")? as f32)
        }
        number => Value::U32(u32::try_from(number.as_u64().context("a count")?)?),
    })
}
