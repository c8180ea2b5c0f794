//! Published models by the numbers of their configurations, through both doors.

use serde_json::{Value as Json, json};

use super::support::{caches, feed_forwards, gguf, planned, read};

/// What is known of a model.
struct Expected {
    /// llama.cpp's name.
    architecture: &'static str,
    /// Weights of the text model.
    parameters: u64,
    /// Tensors of its GGUF.
    tensors: usize,
    caches: &'static str,
    feed_forwards: &'static str,
}

/// Plans `config` without weights, then a GGUF with the keys that conversion writes for it: both
/// must give the blocks that are expected, and every tensor name must come back to its role.
fn check(config: Json, keys: Json, expected: Expected) {
    let model = planned(&config);
    assert_eq!(model.architecture, expected.architecture);
    assert_eq!(model.parameters, expected.parameters);
    assert_eq!(model.tensors.len(), expected.tensors);
    assert_eq!(caches(&model), expected.caches);
    assert_eq!(feed_forwards(&model), expected.feed_forwards);

    let file = read(&gguf(expected.architecture, keys, &model)).unwrap();
    assert_eq!(file.layers, model.layers);
    assert_eq!(file.dims, model.dims);
    assert_eq!(file.tied, model.tied);
    for (from_file, made) in file.tensors.iter().zip(&model.tensors) {
        let place =
            |t: &orinplan::model::Tensor| (t.name.clone(), t.role, t.layer, t.shape.clone());
        assert_eq!(place(from_file), place(made));
    }
}

#[test]
fn mixtral_8x7b() {
    check(
        json!({
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
            "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": null
        }),
        json!({
            "block_count": 32, "context_length": 32768, "embedding_length": 4096,
            "feed_forward_length": 14336, "attention.head_count": 32, "attention.head_count_kv": 8,
            "expert_count": 8, "expert_used_count": 2, "rope.dimension_count": 128
        }),
        Expected {
            architecture: "llama",
            parameters: 46_702_792_704,
            tensors: 323,
            caches: "32x 8h 128+128",
            feed_forwards: "32x 2/8 of 14336 + 0",
        },
    );
}

/// Nemo's heads are narrower than the residual width shared among them. Its count is 12,247,782,400.
#[test]
fn mistral_nemo_states_the_width_of_a_head() {
    check(
        json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 5120,
            "head_dim": 128, "intermediate_size": 14336, "num_hidden_layers": 40,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 131072,
            "max_position_embeddings": 131072, "tie_word_embeddings": false
        }),
        json!({
            "block_count": 40, "context_length": 131072, "embedding_length": 5120,
            "feed_forward_length": 14336, "attention.head_count": 32, "attention.head_count_kv": 8,
            "attention.key_length": 128, "attention.value_length": 128
        }),
        Expected {
            architecture: "llama",
            parameters: 12_247_782_400,
            tensors: 363,
            caches: "40x 8h 128+128",
            feed_forwards: "40x 14336",
        },
    );
}

/// The published Mistral-7B-v0.1 has a window of 4096, which llama.cpp does not use.
#[test]
fn mistral_7b_caches_the_whole_context() {
    check(
        json!({
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768,
            "sliding_window": 4096
        }),
        json!({
            "block_count": 32, "context_length": 32768, "embedding_length": 4096,
            "feed_forward_length": 14336, "attention.head_count": 32, "attention.head_count_kv": 8
        }),
        Expected {
            architecture: "llama",
            parameters: 7_241_732_096,
            tensors: 291,
            caches: "32x 8h 128+128",
            feed_forwards: "32x 14336",
        },
    );
}

#[test]
fn llama_3_1_405b() {
    check(
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16384,
            "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
            "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
            "rope_scaling": {"rope_type": "llama3"}
        }),
        json!({
            "block_count": 126, "context_length": 131072, "embedding_length": 16384,
            "feed_forward_length": 53248, "attention.head_count": 128, "attention.head_count_kv": 8
        }),
        Expected {
            architecture: "llama",
            parameters: 405_853_388_800,
            tensors: 1138,
            caches: "126x 8h 128+128",
            feed_forwards: "126x 53248",
        },
    );
}

/// The window that the configuration states is off in llama.cpp.
#[test]
fn phi_3_5_mini() {
    check(
        json!({
            "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 3072,
            "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 131072,
            "sliding_window": 262144,
            "rope_scaling": {"type": "longrope", "long_factor": vec![1.5; 48], "short_factor": vec![1.0; 48]}
        }),
        json!({
            "block_count": 32, "context_length": 131072, "embedding_length": 3072,
            "feed_forward_length": 8192, "attention.head_count": 32, "attention.head_count_kv": 32,
            "attention.sliding_window": 262144, "rope.dimension_count": 96
        }),
        Expected {
            architecture: "phi3",
            parameters: 3_821_079_552,
            tensors: 197,
            caches: "32x 32h 96+96",
            feed_forwards: "32x 8192",
        },
    );
}

/// A tied model that rotates three quarters of each head: 48 factors for a head of 128.
#[test]
fn phi_4_mini() {
    let config = json!({
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 3072,
        "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 24,
        "num_key_value_heads": 8, "vocab_size": 200064, "max_position_embeddings": 131072,
        "partial_rotary_factor": 0.75, "sliding_window": 262144, "tie_word_embeddings": true,
        "rope_scaling": {"type": "longrope", "long_factor": vec![1.5; 48], "short_factor": vec![1.0; 48]}
    });
    let factors = planned(&config).tensors;
    let factors = factors
        .iter()
        .find(|t| t.name == "rope_factors_long.weight");
    assert_eq!(factors.unwrap().shape, [48]);
    check(
        config,
        json!({
            "block_count": 32, "context_length": 131072, "embedding_length": 3072,
            "feed_forward_length": 8192, "attention.head_count": 24, "attention.head_count_kv": 8,
            "attention.sliding_window": 262144, "rope.dimension_count": 96
        }),
        Expected {
            architecture: "phi3",
            parameters: 3_836_021_760,
            tensors: 196,
            caches: "32x 8h 128+128",
            feed_forwards: "32x 8192",
        },
    );
}

#[test]
fn gemma_2_2b_windows_every_other_block() {
    check(
        json!({
            "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 2304,
            "head_dim": 256, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 256000,
            "max_position_embeddings": 8192, "sliding_window": 4096
        }),
        json!({
            "block_count": 26, "context_length": 8192, "embedding_length": 2304,
            "feed_forward_length": 9216, "attention.head_count": 8, "attention.head_count_kv": 4,
            "attention.key_length": 256, "attention.value_length": 256,
            "attention.sliding_window": 4096
        }),
        Expected {
            architecture: "gemma2",
            parameters: 2_614_341_888,
            tensors: 288,
            caches: "13 times (1x 4h 256+256 w4096, 1x 4h 256+256)",
            feed_forwards: "26x 9216",
        },
    );
}

/// llama.cpp gives 4 of its blocks a whole cache and 22 a windowed one.
#[test]
fn gemma_3_1b() {
    check(
        json!({
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 1152,
            "head_dim": 256, "intermediate_size": 6912, "num_hidden_layers": 26,
            "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262144,
            "max_position_embeddings": 32768, "sliding_window": 512, "sliding_window_pattern": 6
        }),
        json!({
            "block_count": 26, "context_length": 32768, "embedding_length": 1152,
            "feed_forward_length": 6912, "attention.head_count": 4, "attention.head_count_kv": 1,
            "attention.key_length": 256, "attention.value_length": 256,
            "attention.sliding_window": 512
        }),
        Expected {
            architecture: "gemma3",
            parameters: 999_885_952,
            tensors: 340,
            caches: "5x 1h 256+256 w512, 1x 1h 256+256, 5x 1h 256+256 w512, 1x 1h 256+256, \
                     5x 1h 256+256 w512, 1x 1h 256+256, 5x 1h 256+256 w512, 1x 1h 256+256, \
                     2x 1h 256+256 w512",
            feed_forwards: "26x 6912",
        },
    );
}

/// The text part as published leaves out heads, head width, vocabulary and context. The model as a
/// whole is 4,300,079,472 weights, 417 million of them in vision tower and projector.
#[test]
fn gemma_3_4b_fills_in_what_the_file_leaves_out() {
    check(
        json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                "num_hidden_layers": 34, "sliding_window": 1024,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"}
            },
            "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16}
        }),
        json!({
            "block_count": 34, "context_length": 131072, "embedding_length": 2560,
            "feed_forward_length": 10240, "attention.head_count": 8, "attention.head_count_kv": 4,
            "attention.key_length": 256, "attention.value_length": 256,
            "attention.sliding_window": 1024
        }),
        Expected {
            architecture: "gemma3",
            parameters: 3_880_263_168,
            tensors: 444,
            caches: "5x 4h 256+256 w1024, 1x 4h 256+256, 5x 4h 256+256 w1024, 1x 4h 256+256, \
                     5x 4h 256+256 w1024, 1x 4h 256+256, 5x 4h 256+256 w1024, 1x 4h 256+256, \
                     5x 4h 256+256 w1024, 1x 4h 256+256, 4x 4h 256+256 w1024",
            feed_forwards: "34x 10240",
        },
    );
}

/// The first 20 of 30 blocks have caches, 4 of them whole and 16 windowed.
#[test]
fn gemma_3n_e2b_shares_caches() {
    check(
        json!({
            "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
            "text_config": {
                "model_type": "gemma3n_text", "vocab_size": 262400, "hidden_size": 2048,
                "intermediate_size": vec![8192; 30], "num_hidden_layers": 30, "num_attention_heads": 8,
                "num_key_value_heads": 2, "head_dim": 256, "sliding_window": 512,
                "num_kv_shared_layers": 10, "max_position_embeddings": 32768,
                "layer_types": (0..30).map(|i| match i % 5 {
                    4 => "full_attention",
                    _ => "sliding_attention",
                }).collect::<Vec<_>>()
            }
        }),
        json!({
            "block_count": 30, "context_length": 32768, "embedding_length": 2048,
            "feed_forward_length": vec![8192; 30], "attention.head_count": 8,
            "attention.head_count_kv": 2, "attention.key_length": 256, "attention.value_length": 256,
            "attention.sliding_window": 512, "embedding_length_per_layer_input": 256,
            "altup.num_inputs": 4,
            "attention.sliding_window_pattern": (0..30).map(|i| i % 5 != 4).collect::<Vec<_>>()
        }),
        Expected {
            architecture: "gemma3n",
            parameters: 4_456_156_768,
            tensors: 727,
            caches: "4x 2h 256+256 w512, 1x 2h 256+256, 4x 2h 256+256 w512, 1x 2h 256+256, \
                     4x 2h 256+256 w512, 1x 2h 256+256, 4x 2h 256+256 w512, 1x 2h 256+256, \
                     4x 2h 256+256 w512 shared, 1x 2h 256+256 shared, \
                     4x 2h 256+256 w512 shared, 1x 2h 256+256 shared",
            feed_forwards: "30x 8192",
        },
    );
}

fn every_sixth(count: usize) -> Vec<&'static str> {
    let kind = |i| {
        if i % 6 == 5 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    (0..count).map(kind).collect()
}

/// Experts beside the dense feed-forward; keys are values in blocks that see the whole context.
#[test]
fn gemma_4_26b_a4b() {
    let windowed = |i: usize| i % 6 != 5;
    check(
        json!({
            "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text", "attention_k_eq_v": true, "enable_moe_block": true,
                "global_head_dim": 512, "head_dim": 256, "hidden_size": 2816,
                "hidden_size_per_layer_input": 0, "intermediate_size": 2112,
                "layer_types": every_sixth(30), "max_position_embeddings": 262144,
                "moe_intermediate_size": 704, "num_attention_heads": 16, "num_experts": 128,
                "num_global_key_value_heads": 2, "num_hidden_layers": 30, "num_key_value_heads": 8,
                "num_kv_shared_layers": 0, "sliding_window": 1024, "top_k_experts": 8,
                "vocab_size": 262144, "rope_parameters": {
                    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25},
                    "sliding_attention": {"rope_type": "default"}
                }
            }
        }),
        json!({
            "block_count": 30, "context_length": 262144, "embedding_length": 2816,
            "feed_forward_length": 2112, "attention.head_count": 16,
            "attention.head_count_kv": (0..30).map(|i| if windowed(i) { 8 } else { 2 }).collect::<Vec<_>>(),
            "attention.key_length": 512, "attention.value_length": 512,
            "attention.key_length_swa": 256, "attention.value_length_swa": 256,
            "attention.sliding_window": 1024, "attention.shared_kv_layers": 0,
            "attention.sliding_window_pattern": (0..30).map(windowed).collect::<Vec<_>>(),
            "embedding_length_per_layer_input": 0, "expert_count": 128, "expert_used_count": 8,
            "expert_feed_forward_length": 704
        }),
        Expected {
            architecture: "gemma4",
            parameters: 25_233_141_790,
            tensors: 658,
            caches: "5 times (5x 8h 256+256 w1024, 1x 2h 512+512)",
            feed_forwards: "30x 8/128 of 704 + 2112",
        },
    );
}

#[test]
fn gemma_4_31b_is_dense() {
    let windowed = |i: usize| i % 6 != 5;
    check(
        json!({
            "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text", "attention_k_eq_v": true, "enable_moe_block": false,
                "global_head_dim": 512, "head_dim": 256, "hidden_size": 5376,
                "hidden_size_per_layer_input": 0, "intermediate_size": 21504,
                "layer_types": every_sixth(60), "max_position_embeddings": 262144,
                "num_attention_heads": 32, "num_global_key_value_heads": 4,
                "num_hidden_layers": 60, "num_key_value_heads": 16, "num_kv_shared_layers": 0,
                "sliding_window": 1024, "vocab_size": 262144,
                "rope_parameters": {"full_attention": {"rope_type": "proportional"}}
            }
        }),
        json!({
            "block_count": 60, "context_length": 262144, "embedding_length": 5376,
            "feed_forward_length": 21504, "attention.head_count": 32,
            "attention.head_count_kv": (0..60).map(|i| if windowed(i) { 16 } else { 4 }).collect::<Vec<_>>(),
            "attention.key_length": 512, "attention.value_length": 512,
            "attention.key_length_swa": 256, "attention.value_length_swa": 256,
            "attention.sliding_window": 1024,
            "attention.sliding_window_pattern": (0..60).map(windowed).collect::<Vec<_>>()
        }),
        Expected {
            architecture: "gemma4",
            parameters: 30_697_345_340,
            tensors: 833,
            caches: "10 times (5x 16h 256+256 w1024, 1x 4h 512+512)",
            feed_forwards: "60x 21504",
        },
    );
}

/// The last 20 of 35 blocks reuse a cache and are twice as wide. The published GGUF has 601 tensors.
#[test]
fn gemma_4_e2b_shares_caches() {
    let windowed = |i: usize| i % 5 != 4;
    let kind = |i| {
        if windowed(i) {
            "sliding_attention"
        } else {
            "full_attention"
        }
    };
    let wide = |i| if i < 15 { 6144 } else { 12288 };
    check(
        json!({
            "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text", "enable_moe_block": false, "global_head_dim": 512,
                "head_dim": 256, "hidden_size": 1536, "hidden_size_per_layer_input": 256,
                "intermediate_size": 6144, "layer_types": (0..35).map(kind).collect::<Vec<_>>(),
                "max_position_embeddings": 131072, "num_attention_heads": 8,
                "num_hidden_layers": 35, "num_key_value_heads": 1, "num_kv_shared_layers": 20,
                "sliding_window": 512, "use_double_wide_mlp": true, "vocab_size": 262144,
                "rope_parameters": {"full_attention": {"rope_type": "proportional"}}
            }
        }),
        json!({
            "block_count": 35, "context_length": 131072, "embedding_length": 1536,
            "feed_forward_length": (0..35).map(wide).collect::<Vec<_>>(), "attention.head_count": 8,
            "attention.head_count_kv": 1, "attention.key_length": 512,
            "attention.value_length": 512, "attention.key_length_swa": 256,
            "attention.value_length_swa": 256, "attention.sliding_window": 512,
            "attention.shared_kv_layers": 20, "embedding_length_per_layer_input": 256,
            "attention.sliding_window_pattern": (0..35).map(windowed).collect::<Vec<_>>()
        }),
        Expected {
            architecture: "gemma4",
            parameters: 4_647_449_891,
            tensors: 601,
            caches: "4x 1h 256+256 w512, 1x 1h 512+512, 4x 1h 256+256 w512, 1x 1h 512+512, \
                     4x 1h 256+256 w512, 1x 1h 512+512, \
                     4x 1h 256+256 w512 shared, 1x 1h 512+512 shared, \
                     4x 1h 256+256 w512 shared, 1x 1h 512+512 shared, \
                     4x 1h 256+256 w512 shared, 1x 1h 512+512 shared, \
                     4x 1h 256+256 w512 shared, 1x 1h 512+512 shared",
            feed_forwards: "15x 6144, 20x 12288",
        },
    );
}

/// The published GGUF has 459 tensors.
#[test]
fn gpt_oss_20b_windows_every_other_block() {
    check(
        json!({
            "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": true,
            "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880,
            "layer_types": (0..24).map(|i| match i % 2 {
                0 => "sliding_attention",
                _ => "full_attention",
            }).collect::<Vec<_>>(),
            "max_position_embeddings": 131072, "num_attention_heads": 64,
            "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
            "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201088,
            "rope_scaling": {"rope_type": "yarn", "factor": 32.0}
        }),
        json!({
            "block_count": 24, "context_length": 131072, "embedding_length": 2880,
            "feed_forward_length": 2880, "attention.head_count": 64, "attention.head_count_kv": 8,
            "attention.key_length": 64, "attention.value_length": 64,
            "attention.sliding_window": 128, "expert_count": 32, "expert_used_count": 4,
            "expert_feed_forward_length": 2880
        }),
        Expected {
            architecture: "gpt-oss",
            parameters: 20_914_757_184,
            tensors: 459,
            caches: "12 times (1x 8h 64+64 w128, 1x 8h 64+64)",
            feed_forwards: "24x 4/32 of 2880 + 0",
        },
    );
}

fn deepseek_v3() -> Json {
    json!({
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "first_k_dense_replace": 3, "hidden_size": 7168, "intermediate_size": 18432,
        "kv_lora_rank": 512, "max_position_embeddings": 163840, "moe_intermediate_size": 2048,
        "n_routed_experts": 256, "n_shared_experts": 1, "num_attention_heads": 128,
        "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
        "rope_scaling": {"type": "yarn", "factor": 40}
    })
}

/// One latent of 512 and a rotary part of 64 is all that is cached of a token.
#[test]
fn deepseek_v3_caches_the_latent() {
    check(
        deepseek_v3(),
        json!({
            "block_count": 61, "context_length": 163840, "embedding_length": 7168,
            "feed_forward_length": 18432, "attention.head_count": 128, "attention.head_count_kv": 1,
            "attention.key_length": 576, "attention.value_length": 512,
            "attention.key_length_mla": 192, "attention.value_length_mla": 128,
            "attention.q_lora_rank": 1536, "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64, "leading_dense_block_count": 3, "expert_count": 256,
            "expert_used_count": 8, "expert_shared_count": 1, "expert_feed_forward_length": 2048,
            "vocab_size": 129280
        }),
        Expected {
            architecture: "deepseek2",
            parameters: 671_026_419_200,
            tensors: 1086,
            caches: "61x 1h 576+0",
            feed_forwards: "3x 18432, 58x 8/256 of 2048 + 2048",
        },
    );
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
    let model = planned(&deepseek_v3());
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
    let file = read(&gguf("deepseek2", keys, &planned(&deepseek_v3()))).unwrap();
    assert_eq!(caches(&file), "61x 128h 192+128");
}

/// No latent for queries, two shared experts.
#[test]
fn deepseek_v2_lite() {
    check(
        json!({
            "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
            "first_k_dense_replace": 1, "hidden_size": 2048, "intermediate_size": 10944,
            "kv_lora_rank": 512, "max_position_embeddings": 163840, "moe_intermediate_size": 1408,
            "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16,
            "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
            "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "vocab_size": 102400
        }),
        json!({
            "block_count": 27, "context_length": 163840, "embedding_length": 2048,
            "feed_forward_length": 10944, "attention.head_count": 16, "attention.head_count_kv": 1,
            "attention.key_length": 576, "attention.value_length": 512,
            "attention.key_length_mla": 192, "attention.value_length_mla": 128,
            "attention.kv_lora_rank": 512, "rope.dimension_count": 64,
            "leading_dense_block_count": 1, "expert_count": 64, "expert_used_count": 6,
            "expert_shared_count": 2, "expert_feed_forward_length": 1408
        }),
        Expected {
            architecture: "deepseek2",
            parameters: 15_706_484_224,
            tensors: 404,
            caches: "27x 1h 576+0",
            feed_forwards: "1x 10944, 26x 6/64 of 1408 + 2816",
        },
    );
}

/// 14,315,784,192 weights, 2.7 billion of them active.
#[test]
fn qwen_1_5_moe_a2_7b() {
    check(
        json!({
            "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_size": 2048,
            "intermediate_size": 5632, "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632, "num_experts": 60, "num_experts_per_tok": 4,
            "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
            "vocab_size": 151936, "max_position_embeddings": 8192
        }),
        json!({
            "block_count": 24, "context_length": 8192, "embedding_length": 2048,
            "feed_forward_length": 5632, "attention.head_count": 16, "attention.head_count_kv": 16,
            "expert_count": 60, "expert_used_count": 4, "expert_feed_forward_length": 1408,
            "expert_shared_feed_forward_length": 5632
        }),
        Expected {
            architecture: "qwen2moe",
            parameters: 14_315_784_192,
            tensors: 411,
            caches: "24x 16h 128+128",
            feed_forwards: "24x 4/60 of 1408 + 5632",
        },
    );
}

#[test]
fn qwen_3_235b_a22b() {
    check(
        json!({
            "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 128,
            "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536,
            "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 94,
            "num_attention_heads": 64, "num_key_value_heads": 4, "vocab_size": 151936,
            "max_position_embeddings": 40960, "mlp_only_layers": [], "decoder_sparse_step": 1
        }),
        json!({
            "block_count": 94, "context_length": 40960, "embedding_length": 4096,
            "feed_forward_length": 12288, "attention.head_count": 64, "attention.head_count_kv": 4,
            "attention.key_length": 128, "attention.value_length": 128, "expert_count": 128,
            "expert_used_count": 8, "expert_feed_forward_length": 1536
        }),
        Expected {
            architecture: "qwen3moe",
            parameters: 235_093_634_560,
            tensors: 1131,
            caches: "94x 4h 128+128",
            feed_forwards: "94x 8/128 of 1536 + 0",
        },
    );
}

/// The text part is Qwen3-1.7B's.
#[test]
fn qwen_3_vl_2b() {
    check(
        json!({
            "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
            "text_config": {
                "model_type": "qwen3_vl_text", "head_dim": 128, "hidden_size": 2048,
                "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
                "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 262144,
                "tie_word_embeddings": true
            },
            "vision_config": {"hidden_size": 1024, "num_heads": 16}
        }),
        json!({
            "block_count": 28, "context_length": 262144, "embedding_length": 2048,
            "feed_forward_length": 6144, "attention.head_count": 16, "attention.head_count_kv": 8,
            "attention.key_length": 128, "attention.value_length": 128
        }),
        Expected {
            architecture: "qwen3vl",
            parameters: 1_720_574_976,
            tensors: 310,
            caches: "28x 8h 128+128",
            feed_forwards: "28x 6144",
        },
    );
}

/// 2,533,531,648 weights.
#[test]
fn granite_3_1_2b() {
    check(
        json!({
            "architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": 2048,
            "intermediate_size": 8192, "num_hidden_layers": 40, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 49155, "max_position_embeddings": 131072,
            "tie_word_embeddings": true, "attention_bias": false
        }),
        json!({
            "block_count": 40, "context_length": 131072, "embedding_length": 2048,
            "feed_forward_length": 8192, "attention.head_count": 32, "attention.head_count_kv": 8,
            "rope.dimension_count": 64
        }),
        Expected {
            architecture: "granite",
            parameters: 2_533_531_648,
            tensors: 362,
            caches: "40x 8h 64+64",
            feed_forwards: "40x 8192",
        },
    );
}

/// 3,298,793,472 weights; the width of an expert is the configuration's only width.
#[test]
fn granite_3_1_3b_a800m() {
    check(
        json!({
            "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe",
            "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 32,
            "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40,
            "num_experts_per_tok": 8, "vocab_size": 49155, "max_position_embeddings": 131072,
            "tie_word_embeddings": true
        }),
        json!({
            "block_count": 32, "context_length": 131072, "embedding_length": 1536,
            "feed_forward_length": 512, "attention.head_count": 24, "attention.head_count_kv": 8,
            "expert_count": 40, "expert_used_count": 8, "rope.dimension_count": 64
        }),
        Expected {
            architecture: "granitemoe",
            parameters: 3_298_793_472,
            tensors: 322,
            caches: "32x 8h 64+64",
            feed_forwards: "32x 8/40 of 512 + 0",
        },
    );
}

/// 7,298,617,344 weights.
#[test]
fn olmo_2_7b() {
    check(
        json!({
            "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 100352, "max_position_embeddings": 4096
        }),
        json!({
            "block_count": 32, "context_length": 4096, "embedding_length": 4096,
            "feed_forward_length": 11008, "attention.head_count": 32, "attention.head_count_kv": 32
        }),
        Expected {
            architecture: "olmo2",
            parameters: 7_298_617_344,
            tensors: 355,
            caches: "32x 32h 128+128",
            feed_forwards: "32x 11008",
        },
    );
}

/// The same blocks as OLMo 2, three of four behind a window.
#[test]
fn olmo_3_7b() {
    check(
        json!({
            "architectures": ["Olmo3ForCausalLM"], "model_type": "olmo3", "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 100278, "max_position_embeddings": 65536,
            "sliding_window": 4096
        }),
        json!({
            "block_count": 32, "context_length": 65536, "embedding_length": 4096,
            "feed_forward_length": 11008, "attention.head_count": 32, "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "attention.sliding_window_pattern": (0..32).map(|i| i % 4 != 3).collect::<Vec<_>>()
        }),
        Expected {
            architecture: "olmo2",
            parameters: 7_298_011_136,
            tensors: 355,
            caches: "8 times (3x 32h 128+128 w4096, 1x 32h 128+128)",
            feed_forwards: "32x 11008",
        },
    );
}

/// 9,400,279,040 weights.
#[test]
fn glm_4_9b() {
    check(
        json!({
            "architectures": ["Glm4ForCausalLM"], "model_type": "glm4", "head_dim": 128,
            "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
            "num_attention_heads": 32, "num_key_value_heads": 2, "vocab_size": 151552,
            "max_position_embeddings": 32768, "attention_bias": true, "partial_rotary_factor": 0.5
        }),
        json!({
            "block_count": 40, "context_length": 32768, "embedding_length": 4096,
            "feed_forward_length": 13696, "attention.head_count": 32, "attention.head_count_kv": 2,
            "attention.key_length": 128, "attention.value_length": 128, "rope.dimension_count": 64
        }),
        Expected {
            architecture: "glm4",
            parameters: 9_400_279_040,
            tensors: 523,
            caches: "40x 2h 128+128",
            feed_forwards: "40x 13696",
        },
    );
}

/// The text part of Mistral Small 3.1 (23,572,403,200 weights, as Mistral Small 3).
#[test]
fn mistral_small_3_1_is_a_wrapper() {
    check(
        json!({
            "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
            "text_config": {
                "model_type": "mistral", "head_dim": 128, "hidden_size": 5120,
                "intermediate_size": 32768, "num_hidden_layers": 40, "num_attention_heads": 32,
                "num_key_value_heads": 8, "vocab_size": 131072, "max_position_embeddings": 131072,
                "sliding_window": null
            },
            "vision_config": {"hidden_size": 1024, "model_type": "pixtral"}
        }),
        json!({
            "block_count": 40, "context_length": 131072, "embedding_length": 5120,
            "feed_forward_length": 32768, "attention.head_count": 32, "attention.head_count_kv": 8,
            "attention.key_length": 128, "attention.value_length": 128
        }),
        Expected {
            architecture: "mistral3",
            parameters: 23_572_403_200,
            tensors: 363,
            caches: "40x 8h 128+128",
            feed_forwards: "40x 32768",
        },
    );
}
