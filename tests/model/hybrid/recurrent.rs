//! Mamba 1, Falcon-Mamba, Jamba, Bamba, PLaMo 2, Kimi-Linear and RWKV 7 by the configurations of published models. Numbers of parameters are
//! also counted by hand from the shapes of the classes.

use orinplan::model::{FeedForward, ModelError, RecurrentKind};
use serde_json::{Value as Json, json};

use super::architectures::{Case, at, check, one, read_config};

fn mamba(class: &str, kind: &str, hidden: u64, blocks: u64, rank: u64) -> Json {
    json!({
        "architectures": [class], "model_type": kind, "hidden_size": hidden, "intermediate_size": 2 * hidden,
        "num_hidden_layers": blocks, "state_size": 16, "conv_kernel": 4, "time_step_rank": rank, "expand": 2,
        "use_bias": false, "use_conv_bias": true, "hidden_act": "silu", "layer_norm_epsilon": 1e-5,
        "residual_in_fp32": true, "vocab_size": 50280,
    })
}

fn scan_keys(hidden: u32, blocks: u32, rank: u32) -> Vec<(&'static str, orinplan::gguf::Value)> {
    vec![
        ("block_count", one(blocks)),
        ("embedding_length", one(hidden)),
        ("feed_forward_length", one(0)),
        ("attention.head_count", one(0)),
        ("ssm.conv_kernel", one(4)),
        ("ssm.inner_size", one(2 * hidden)),
        ("ssm.state_size", one(16)),
        ("ssm.time_step_rank", one(rank)),
    ]
}

/// Every block keeps three columns of its 5120 channels, and 16 numbers for each of them.
#[test]
fn mamba_of_2_8_billion() {
    check(&Case {
        name: "mamba-2.8b-hf",
        config: mamba("MambaForCausalLM", "mamba", 2560, 64, 160),
        architecture: "mamba",
        gguf: scan_keys(2560, 64, 160),
        parameters: 2_768_345_600,
        attention: 0,
        recurrent: 64,
        state: (15_360, 81_920),
        state_bytes: 64 * 4 * (15_360 + 81_920),
        token_bytes: 0,
    });
}

/// Its file states a multiple of the hidden size that is not its own beside the width.
#[test]
fn falcon_mamba_of_7_billion() {
    let mut config = mamba("FalconMambaForCausalLM", "falcon_mamba", 4096, 64, 256);
    config["expand"] = json!(16);
    config["vocab_size"] = json!(65024);
    config["tie_word_embeddings"] = json!(false);
    check(&Case {
        name: "falcon-mamba-7b",
        config,
        architecture: "mamba",
        gguf: scan_keys(4096, 64, 256),
        parameters: 7_272_665_088,
        attention: 0,
        recurrent: 64,
        state: (24_576, 131_072),
        state_bytes: 64 * 4 * (24_576 + 131_072),
        token_bytes: 0,
    });
}

fn jamba() -> Json {
    json!({
        "architectures": ["JambaForCausalLM"], "model_type": "jamba", "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2, "attn_layer_period": 8,
        "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 16,
        "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256, "mamba_conv_bias": true,
        "mamba_proj_bias": false, "max_position_embeddings": 262_144, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "vocab_size": 65536, "sliding_window": null, "hidden_act": "silu",
    })
}

#[test]
fn jamba_with_experts_in_every_second_block() {
    let model = read_config(&jamba()).unwrap();
    assert_eq!(model.parameters, 51_570_323_328);
    for (block, layer) in model.layers.iter().enumerate() {
        assert_eq!(layer.mixer.attention.is_some(), block % 8 == 4, "{block}");
        let state = layer.mixer.recurrent.as_ref();
        let scans = state.is_some_and(|state| state.kind == RecurrentKind::Scan);
        assert_eq!(scans, block % 8 != 4, "{block}");
        let routed = matches!(
            layer.feed_forward,
            FeedForward::Experts {
                count: 16,
                used: 2,
                ..
            }
        );
        assert_eq!(routed, block % 2 == 1, "{block}");
    }
    // One expert is none.
    let mut dense = jamba();
    dense["num_experts"] = json!(1);
    dense["num_experts_per_tok"] = json!(1);
    let model = read_config(&dense).unwrap();
    let is_dense =
        |layer: &orinplan::model::Layer| layer.feed_forward == FeedForward::Dense { inner: 14336 };
    assert!(model.layers.iter().all(is_dense));
}

/// Every block of Mamba 2 keeps a window of 3 x (8192 + 2 x 128) and a matrix of 8192 x 128.
#[test]
fn bamba_of_9_billion() {
    let attending = [9, 18, 27];
    check(&Case {
        name: "Bamba-9B",
        config: json!({
            "architectures": ["BambaForCausalLM"], "model_type": "bamba", "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "attn_layer_indices": attending, "attn_rotary_emb": 64,
            "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128,
            "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 256, "mamba_conv_bias": true,
            "mamba_proj_bias": false, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 128_256, "hidden_act": "silu",
        }),
        architecture: "granitehybrid",
        gguf: vec![
            ("block_count", one(32)),
            ("embedding_length", one(4096)),
            ("feed_forward_length", one(14336)),
            ("attention.head_count", one(32)),
            ("attention.head_count_kv", at(32, &attending, 8)),
            ("rope.dimension_count", one(64)),
            ("ssm.conv_kernel", one(4)),
            ("ssm.inner_size", one(8192)),
            ("ssm.state_size", one(128)),
            ("ssm.time_step_rank", one(128)),
            ("ssm.group_count", one(1)),
        ],
        parameters: 9_780_235_392,
        attention: 3,
        recurrent: 29,
        state: (25_344, 1_048_576),
        state_bytes: 29 * 4 * (25_344 + 1_048_576),
        token_bytes: 3 * 2 * 2 * 8 * 128,
    });
}

fn plamo() -> Json {
    json!({
        "architectures": ["Plamo2ForCausalLM"], "model_type": "plamo2", "hidden_size": 2048, "intermediate_size": 8192,
        "hidden_size_per_head": 128, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 1,
        "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_num_heads": 32, "mamba_step": 2, "mamba_enabled": true,
        "max_position_embeddings": 10_485_760, "attention_window_size": 2048, "full_attention_idx": null,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "vocab_size": 100_000,
    })
}

/// Every second block keeps three columns of 32 heads of 128, and a matrix of 128 x 64 for each of them.
#[test]
fn plamo_2_of_1_billion() {
    let attending: Vec<u32> = (0..8).map(|n| 2 * n + 1).collect();
    check(&Case {
        name: "plamo-2-1b",
        config: plamo(),
        architecture: "plamo2",
        gguf: vec![
            ("block_count", one(16)),
            ("embedding_length", one(2048)),
            ("feed_forward_length", one(8192)),
            ("attention.head_count", one(16)),
            ("attention.head_count_kv", at(16, &attending, 1)),
            ("attention.key_length", one(128)),
            ("attention.value_length", one(128)),
            ("ssm.conv_kernel", one(4)),
            ("ssm.inner_size", one(4096)),
            ("ssm.state_size", one(64)),
            ("ssm.time_step_rank", one(32)),
            ("ssm.group_count", one(0)),
        ],
        parameters: 1_291_441_920,
        attention: 8,
        recurrent: 8,
        state: (12_288, 262_144),
        state_bytes: 8 * 4 * (12_288 + 262_144),
        token_bytes: 8 * 2 * 2 * 128,
    });
}

/// Of every three blocks the second attends; where there are fewer than half of that, the last.
#[test]
fn a_plamo_attends_in_the_middle_of_its_step() {
    for (step, blocks, attending) in [
        (3, 7, &[1, 4][..]),
        (2, 1, &[0]),
        (16, 8, &[7]),
        (4, 3, &[2]),
    ] {
        let mut config = plamo();
        config["mamba_step"] = json!(step);
        config["num_hidden_layers"] = json!(blocks);
        let layers = read_config(&config).unwrap().layers;
        let attends = layers.iter().enumerate();
        let attends = attends.filter(|(_, layer)| layer.mixer.attention.is_some());
        let found: Vec<usize> = attends.map(|(block, _)| block).collect();
        assert_eq!(found, attending, "{step}");
    }
}

/// A GGUF knows one window and one base for all blocks.
#[test]
fn windows_and_bases_of_a_plamo_that_a_gguf_loses_are_told() {
    let mut config = plamo();
    let lost = |config: &Json| {
        let lost = orinplan::convert::lost_window(&read_config(config).unwrap());
        lost.map(|lost| lost.to_string())
    };
    let told = lost(&config).unwrap();
    assert!(told.contains("`attention_window_size` of 2048"), "{told}");
    config["rope_theta"] = json!(1_000_000);
    config["rope_local_theta"] = json!(10_000);
    let error = read_config(&config).unwrap_err();
    assert!(
        error.to_string().contains("`rope_local_theta` is 10000"),
        "{error}"
    );
    let attending: Vec<u32> = (0..8).map(|n| 2 * n + 1).collect();
    config["full_attention_idx"] = json!(attending);
    assert_eq!(lost(&config), None);
}

/// Its delta nets keep three columns of 3 x 4096 channels and 32 squares of 128; its attention one latent of 512 + 64.
fn kimi_linear() -> Json {
    let attending = [4, 8, 12, 16, 20, 24, 27];
    let nets: Vec<u32> = (1..=27).filter(|n| !attending.contains(n)).collect();
    json!({
        "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_size": 2304,
        "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_hidden_layers": 27,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 72, "kv_lora_rank": 512,
        "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "mla_use_nope": true, "num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_renormalize": true,
        "moe_router_activation_func": "sigmoid", "num_expert_group": 1, "topk_group": 1,
        "routed_scaling_factor": 2.446, "num_nextn_predict_layers": 0, "model_max_length": 1_048_576,
        "linear_attn_config": {"full_attn_layers": attending, "kda_layers": nets, "head_dim": 128,
            "num_heads": 32, "short_conv_kernel_size": 4},
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null, "tie_word_embeddings": false,
        "vocab_size": 163_840, "hidden_act": "silu",
    })
}

#[test]
fn kimi_linear_of_48_billion() {
    check(&Case {
        name: "Kimi-Linear-48B-A3B",
        config: kimi_linear(),
        architecture: "kimi-linear",
        gguf: vec![
            ("block_count", one(27)),
            ("embedding_length", one(2304)),
            ("feed_forward_length", one(9216)),
            ("attention.head_count", one(32)),
            (
                "attention.head_count_kv",
                at(27, &[3, 7, 11, 15, 19, 23, 26], 1),
            ),
            ("attention.key_length", one(576)),
            ("attention.value_length", one(72)),
            ("attention.key_length_mla", one(192)),
            ("attention.value_length_mla", one(128)),
            ("attention.kv_lora_rank", one(512)),
            ("rope.dimension_count", one(64)),
            ("ssm.conv_kernel", one(4)),
            ("kda.head_dim", one(128)),
            ("expert_count", one(256)),
            ("expert_used_count", one(8)),
            ("expert_shared_count", one(1)),
            ("expert_feed_forward_length", one(1024)),
            ("leading_dense_block_count", one(1)),
        ],
        parameters: 49_122_681_728,
        attention: 7,
        recurrent: 20,
        state: (36_864, 524_288),
        state_bytes: 20 * 4 * (36_864 + 524_288),
        token_bytes: 7 * 2 * 576,
    });
}

#[test]
fn what_no_runtime_computes_is_refused_by_name() {
    let cases: [(Json, &str, Json); 12] = [
        (plamo(), "mamba_enabled", json!(false)),
        (plamo(), "mamba_step", json!(1)),
        (plamo(), "mamba_step", json!(null)),
        (kimi_linear(), "mla_use_nope", json!(false)),
        (kimi_linear(), "q_lora_rank", json!(512)),
        (kimi_linear(), "moe_layer_freq", json!(2)),
        (kimi_linear(), "num_expert_group", json!(8)),
        (
            mamba("MambaForCausalLM", "mamba", 256, 2, 16),
            "use_bias",
            json!(true),
        ),
        (
            mamba("MambaForCausalLM", "mamba", 256, 2, 16),
            "use_conv_bias",
            json!(false),
        ),
        (jamba(), "mamba_proj_bias", json!(true)),
        (jamba(), "mamba_conv_bias", json!(false)),
        (jamba(), "attn_layer_offset", json!(8)),
    ];
    for (mut config, key, value) in cases {
        config[key] = value;
        let error = read_config(&config).unwrap_err();
        let named = matches!(
            &error,
            ModelError::Unsupported { .. }
                | ModelError::Contradiction { .. }
                | ModelError::BadValue { .. }
                | ModelError::MissingKey { .. }
        );
        assert!(named && error.to_string().contains(key), "{error}");
    }
}

/// Every block keeps two tokens, and a square of 64 for each of its heads.
#[test]
fn rwkv_7_of_3_billion() {
    let config = json!({
        "architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7", "hidden_size": 2560,
        "intermediate_size": 10240, "num_hidden_layers": 32, "head_dim": 64, "num_heads": 40,
        "a_low_rank_dim": 96, "decay_low_rank_dim": 96, "gate_low_rank_dim": 320, "v_low_rank_dim": 64,
        "value_dim": vec![2560; 32], "attn": null, "attn_mode": "chunk", "norm_first": true, "norm_bias": true,
        "norm_eps": 1e-5, "hidden_act": "sqrelu", "hidden_ratio": 4.0, "max_position_embeddings": 2048,
        "tie_word_embeddings": false, "vocab_size": 65536,
    });
    let keys = vec![
        ("block_count", one(32)),
        ("embedding_length", one(2560)),
        ("feed_forward_length", one(10240)),
        ("attention.head_count", one(0)),
        ("wkv.head_size", one(64)),
        ("attention.decay_lora_rank", one(96)),
        ("attention.iclr_lora_rank", one(96)),
        ("attention.value_residual_mix_lora_rank", one(64)),
        ("attention.gate_lora_rank", one(320)),
    ];
    // Without ranks they are as the class computes them, which are these.
    let mut unstated = config.clone();
    for key in [
        "a_low_rank_dim",
        "decay_low_rank_dim",
        "gate_low_rank_dim",
        "v_low_rank_dim",
    ] {
        unstated[key] = Json::Null;
    }
    for config in [config.clone(), unstated] {
        check(&Case {
            name: "rwkv7-2.9B",
            config,
            architecture: "rwkv7",
            gguf: keys.clone(),
            parameters: 2_947_735_040,
            attention: 0,
            recurrent: 32,
            state: (2 * 2560, 64 * 2560),
            state_bytes: 32 * 4 * (2 * 2560 + 64 * 2560),
            token_bytes: 0,
        });
    }
    for (key, value) in [
        ("attn", json!({"layers": [3], "num_heads": 8})),
        ("norm_first", json!(false)),
        ("norm_bias", json!(false)),
        ("value_dim", json!(5120)),
    ] {
        let mut other = config.clone();
        other[key] = value;
        let error = read_config(&other).unwrap_err();
        let named = matches!(&error, ModelError::Unsupported { .. });
        assert!(named && error.to_string().contains(key), "{error}");
    }
}
