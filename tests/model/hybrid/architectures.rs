//! Hybrid architectures, each through both doors: a configuration in Hugging Face's form and the
//! GGUF metadata that conversion makes of it must describe the same blocks.
//!
//! Where a number is called published it is the hub's count for the model; where it is called
//! derived it was summed by hand from the shapes in the model's code in Transformers.

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::dtype::Dtype;
use orinplan::gguf::{Metadata, Value};
use orinplan::model::{self, FeedForward, ModelError, ModelSpec, Tensor, Unknown};
use orinplan::scheme::{Rules, Scheme, assign};
use serde_json::{Value as Json, json};

// --- doors ----------------------------------------------------------------------------------------

fn checkpoint(config: RawConfig, format: SourceFormat) -> Checkpoint {
    Checkpoint::of("test", format, config)
}

pub(super) fn read_config(config: &Json) -> Result<ModelSpec, ModelError> {
    let config = RawConfig::HuggingFace(config.clone());
    model::read(&checkpoint(config, SourceFormat::Config), Unknown::Refuse)
}

fn read_gguf(architecture: &str, pairs: &[(&str, Value)]) -> Result<ModelSpec, ModelError> {
    let mut metadata = vec![(
        "general.architecture".to_owned(),
        Value::String(architecture.to_owned()),
    )];
    metadata.extend(
        pairs
            .iter()
            .map(|(key, value)| (format!("{architecture}.{key}"), value.clone())),
    );
    let config = RawConfig::Gguf(Metadata(metadata));
    model::read(&checkpoint(config, SourceFormat::Gguf), Unknown::Refuse)
}

pub(super) fn one(number: u32) -> Value {
    Value::U32(number)
}

fn each(numbers: impl IntoIterator<Item = u32>) -> Value {
    Value::Array(numbers.into_iter().map(Value::U32).collect())
}

/// `n` where `blocks` holds the block, else 0: how conversion writes heads and widths of hybrids.
pub(super) fn at(count: u32, blocks: &[u32], n: u32) -> Value {
    each((0..count).map(|block| if blocks.contains(&block) { n } else { 0 }))
}

/// `n` where `pattern` has `letter`, else 0.
fn letters(pattern: &str, letter: char, n: u32) -> Value {
    each(pattern.chars().map(|c| if c == letter { n } else { 0 }))
}

/// A configuration's kinds: `a` where `blocks` holds the block, else `b`.
fn kinds(count: u32, blocks: &[u32], a: &str, b: &str) -> Json {
    (0..count)
        .map(|block| if blocks.contains(&block) { a } else { b })
        .collect()
}

// --- real models ----------------------------------------------------------------------------------

/// A model with what is known of it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) config: Json,
    pub(super) architecture: &'static str,
    pub(super) gguf: Vec<(&'static str, Value)>,
    pub(super) parameters: u64,
    pub(super) attention: usize,
    pub(super) recurrent: usize,
    /// F32 elements of one block's convolution window and state matrix.
    pub(super) state: (u64, u64),
    /// Recurrent state of a sequence, in bytes.
    pub(super) state_bytes: u64,
    /// Keys and values of a token in F16, in bytes.
    pub(super) token_bytes: u64,
}

pub(super) fn check(case: &Case) {
    let name = case.name;
    let model = read_config(&case.config).unwrap_or_else(|e| panic!("{name}: {e}"));
    let converted =
        read_gguf(case.architecture, &case.gguf).unwrap_or_else(|e| panic!("{name}, GGUF: {e}"));
    assert_eq!(model.architecture, case.architecture, "{name}");
    assert_eq!(
        model.layers, converted.layers,
        "{name}: blocks of both doors"
    );
    assert_eq!(model.dims.hidden, converted.dims.hidden, "{name}");
    assert_eq!(model.dims.experts, converted.dims.experts, "{name}");
    assert_eq!(model.parameters, case.parameters, "{name}: parameters");

    let attention: Vec<_> = model
        .layers
        .iter()
        .filter_map(|l| l.mixer.attention.as_ref())
        .collect();
    let recurrent: Vec<_> = model
        .layers
        .iter()
        .filter_map(|l| l.mixer.recurrent.as_ref())
        .collect();
    assert_eq!(
        (attention.len(), recurrent.len()),
        (case.attention, case.recurrent),
        "{name}: kinds"
    );
    assert!(
        recurrent
            .iter()
            .all(|r| (r.conv_elements, r.state_elements) == case.state),
        "{name}: state"
    );
    let elements: u64 = recurrent
        .iter()
        .map(|r| r.conv_elements + r.state_elements)
        .sum();
    assert_eq!(4 * elements, case.state_bytes, "{name}: state bytes");
    let cached: u64 = attention
        .iter()
        .map(|a| a.kv_heads * (a.key_dim + a.value_dim))
        .sum();
    assert_eq!(2 * cached, case.token_bytes, "{name}: bytes of a token");

    assert_small_tensors_stay_f32(name, &model);
}

/// Matrices that conversion keeps in F32 and quantization leaves alone; vectors are F32 anyway.
fn assert_small_tensors_stay_f32(name: &str, model: &ModelSpec) {
    const KEPT: &[&str] = &[
        ".attn_q_norm.weight",
        ".attn_k_norm.weight",
        ".ssm_conv1d.weight",
        ".ssm_conv1d_q.weight",
        ".time_mix_w1.weight",
        ".time_mix_w2.weight",
        ".time_mix_lerp_fused.weight",
        ".ssm_conv1d_k.weight",
        ".ssm_conv1d_v.weight",
        ".ssm_a",
        ".ssm_d",
        ".ssm_norm.weight",
        ".shortconv.conv.weight",
        ".ffn_gate_inp.weight",
        ".ffn_gate_inp_shexp.weight",
    ];
    let scheme = Scheme::get("q4_k_m").expect("a known scheme");
    let assignment = assign(model, scheme, Rules::default());
    for (tensor, assigned) in model.tensors.iter().zip(&assignment.tensors) {
        let kept = KEPT.iter().any(|end| tensor.name.ends_with(end)) || tensor.shape.len() < 2;
        let is_full = assigned.dtype == Dtype::F32;
        assert_eq!(
            is_full, kept,
            "{name}: {} is {:?}",
            tensor.name, assigned.dtype
        );
    }
}

fn lfm2(hidden: u32, heads: u32, stated: u32, inner: u32, parameters: u64) -> Case {
    let attending = [2, 5, 8, 10, 12, 14];
    Case {
        name: "LFM2",
        config: json!({
            "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "vocab_size": 65536,
            "hidden_size": hidden, "num_hidden_layers": 16, "num_attention_heads": heads,
            "num_key_value_heads": 8, "block_ff_dim": stated, "block_auto_adjust_ff_dim": true,
            "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256, "conv_L_cache": 3,
            "conv_bias": false, "full_attn_idxs": attending, "tie_embedding": true,
        }),
        architecture: "lfm2",
        gguf: vec![
            ("block_count", one(16)),
            ("embedding_length", one(hidden)),
            ("feed_forward_length", one(inner)),
            ("attention.head_count", one(heads)),
            ("attention.head_count_kv", at(16, &attending, 8)),
            ("shortconv.l_cache", one(3)),
        ],
        parameters,
        attention: 6,
        recurrent: 10,
        state: (2 * u64::from(hidden), 0),
        state_bytes: 10 * 4 * 2 * u64::from(hidden),
        token_bytes: 6 * 2 * 2 * 8 * 64,
    }
}

#[test]
fn lfm2_dense() {
    // Published counts; widths as `Lfm2MLP` computes them: 12288 -> 8192, 10240 -> 6826 -> 6912,
    // 6656 -> 4437 -> 4608.
    check(&lfm2(2048, 32, 12_288, 8192, 1_170_340_608));
    check(&lfm2(1536, 24, 10_240, 6912, 742_489_344));
    check(&lfm2(1024, 16, 6656, 4608, 354_483_968));
}

/// Published count. Every block keeps a window of 3 x (8192 + 2 x 8 x 128) and a matrix of 8192 x 128.
#[test]
fn mamba_2_alone() {
    check(&Case {
        name: "Mamba-Codestral-7B",
        config: json!({
            "architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "vocab_size": 32768,
            "hidden_size": 4096, "num_hidden_layers": 64, "num_heads": 128, "head_dim": 64, "expand": 2,
            "n_groups": 8, "state_size": 128, "conv_kernel": 4, "use_conv_bias": true, "use_bias": false,
            "rms_norm": true, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": false,
        }),
        architecture: "mamba2",
        gguf: vec![
            ("block_count", one(64)),
            ("embedding_length", one(4096)),
            ("feed_forward_length", one(0)),
            ("attention.head_count", one(0)),
            ("ssm.conv_kernel", one(4)),
            ("ssm.inner_size", one(8192)),
            ("ssm.state_size", one(128)),
            ("ssm.time_step_rank", one(128)),
            ("ssm.group_count", one(8)),
        ],
        parameters: 7_285_403_648,
        attention: 0,
        recurrent: 64,
        state: (30_720, 1_048_576),
        state_bytes: 64 * 4 * (30_720 + 1_048_576),
        token_bytes: 0,
    });
}

#[test]
fn lfm2_with_experts() {
    let attending = [2, 6, 10, 14, 18, 21];
    check(&Case {
        name: "LFM2-8B-A1B",
        config: json!({
            "architectures": ["Lfm2MoeForCausalLM"], "model_type": "lfm2_moe", "vocab_size": 65536,
            "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 7168, "moe_intermediate_size": 1792,
            "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4, "conv_L_cache": 3,
            "layer_types": kinds(24, &attending, "full_attention", "conv"),
        }),
        architecture: "lfm2moe",
        gguf: vec![
            ("block_count", one(24)),
            ("embedding_length", one(2048)),
            ("feed_forward_length", one(7168)),
            ("expert_feed_forward_length", one(1792)),
            ("expert_count", one(32)),
            ("expert_used_count", one(4)),
            ("leading_dense_block_count", one(2)),
            ("attention.head_count", one(32)),
            ("attention.head_count_kv", at(24, &attending, 8)),
            ("shortconv.l_cache", one(3)),
        ],
        // Derived, with a routing bias of 32 in each of 22 blocks.
        parameters: 8_339_930_560,
        attention: 6,
        recurrent: 18,
        state: (4096, 0),
        state_bytes: 18 * 4096 * 4,
        token_bytes: 6 * 2 * 2 * 8 * 64,
    });
}

#[test]
fn qwen3_next() {
    check(&Case {
        name: "Qwen3-Next-80B-A3B",
        config: json!({
            "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "vocab_size": 151_936,
            "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16,
            "num_key_value_heads": 2, "head_dim": 256, "intermediate_size": 5120,
            "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
            "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512, "mlp_only_layers": [], "decoder_sparse_step": 1,
            "tie_word_embeddings": false,
        }),
        architecture: "qwen3next",
        gguf: vec![
            ("block_count", one(48)),
            ("embedding_length", one(2048)),
            ("feed_forward_length", one(5120)),
            ("expert_feed_forward_length", one(512)),
            ("expert_shared_feed_forward_length", one(512)),
            ("expert_count", one(512)),
            ("expert_used_count", one(10)),
            ("attention.head_count", one(16)),
            ("attention.head_count_kv", one(2)),
            ("attention.key_length", one(256)),
            ("attention.value_length", one(256)),
            ("ssm.conv_kernel", one(4)),
            ("ssm.state_size", one(128)),
            ("ssm.group_count", one(16)),
            ("ssm.time_step_rank", one(32)),
            ("ssm.inner_size", one(4096)),
        ],
        // Published, without the multi-token-prediction head.
        parameters: 79_674_391_296,
        attention: 12,
        recurrent: 36,
        state: (3 * (4096 + 2 * 16 * 128), 128 * 4096),
        // llama.cpp logs 75.38 MiB.
        state_bytes: 79_036_416,
        token_bytes: 12 * 2 * 2 * 2 * 256,
    });
}

/// Qwen3.5: residual width, blocks, heads, key-value heads, value heads of the delta net, and the
/// dense width or experts, used and their width.
fn qwen35(
    size: [u32; 5],
    dense: Option<u32>,
    routed: [u32; 3],
) -> (Json, Vec<(&'static str, Value)>) {
    let [hidden, blocks, heads, kv_heads, value_heads] = size;
    let moe = if dense.is_none() { "_moe" } else { "" };
    let class = if dense.is_none() {
        "Qwen3_5Moe"
    } else {
        "Qwen3_5"
    };
    let mut text = json!({
        "model_type": format!("qwen3_5{moe}_text"), "vocab_size": 248_320, "hidden_size": hidden,
        "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": value_heads, "linear_value_head_dim": 128,
        "mtp_num_hidden_layers": 1, "attn_output_gate": true, "full_attention_interval": 4,
        "layer_types": (0..blocks)
            .map(|i| if i % 4 == 3 { "full_attention" } else { "linear_attention" })
            .collect::<Vec<_>>(),
    });
    // The block behind the last one is the multi-token-prediction head.
    let flags = (0..=blocks).map(|i| Value::Bool(i % 4 != 3 && i < blocks));
    let mut gguf = vec![
        ("block_count", one(blocks + 1)),
        ("nextn_predict_layers", one(1)),
        ("embedding_length", one(hidden)),
        ("attention.head_count", one(heads)),
        ("attention.head_count_kv", one(kv_heads)),
        ("attention.key_length", one(256)),
        ("attention.value_length", one(256)),
        ("attention.recurrent_layers", Value::Array(flags.collect())),
        ("full_attention_interval", one(4)),
        ("ssm.conv_kernel", one(4)),
        ("ssm.state_size", one(128)),
        ("ssm.group_count", one(16)),
        ("ssm.time_step_rank", one(value_heads)),
        ("ssm.inner_size", one(128 * value_heads)),
    ];
    match dense {
        Some(inner) => {
            text["intermediate_size"] = json!(inner);
            gguf.push(("feed_forward_length", one(inner)));
        }
        None => {
            let [experts, used, inner] = routed;
            text["num_experts"] = json!(experts);
            text["num_experts_per_tok"] = json!(used);
            text["moe_intermediate_size"] = json!(inner);
            text["shared_expert_intermediate_size"] = json!(inner);
            gguf.push(("expert_count", one(experts)));
            gguf.push(("expert_used_count", one(used)));
            gguf.push(("expert_feed_forward_length", one(inner)));
            gguf.push(("expert_shared_feed_forward_length", one(inner)));
        }
    }
    let config = json!({
        "architectures": [format!("{class}ForConditionalGeneration")],
        "model_type": format!("qwen3_5{moe}"), "tie_word_embeddings": false, "text_config": text,
        "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16},
    });
    (config, gguf)
}

#[test]
fn qwen3_5_dense() {
    let (config, gguf) = qwen35([5120, 64, 24, 4, 48], Some(17_408), [0; 3]);
    check(&Case {
        name: "Qwen3.5-27B",
        config,
        architecture: "qwen35",
        gguf,
        // A published file of the whole model counts 27,356,723,952 without the two vectors of 48 in
        // each of 48 delta nets; its vision tower has 460,730,096.
        parameters: 27_356_723_952 + 48 * 96 - 460_730_096,
        attention: 16,
        recurrent: 48,
        state: (3 * (6144 + 2 * 16 * 128), 128 * 6144),
        state_bytes: 48 * 4 * (30_720 + 786_432),
        token_bytes: 16 * 2 * 2 * 4 * 256,
    });
}

#[test]
fn qwen3_5_with_experts() {
    // Name, size, experts with their width, and the derived count.
    let models: [(&str, [u32; 5], [u32; 3], u64); 3] = [
        (
            "Qwen3.5-35B-A3B",
            [2048, 40, 16, 2, 32],
            [256, 8, 512],
            34_660_610_688,
        ),
        (
            "Qwen3.5-122B-A10B",
            [3072, 48, 32, 2, 64],
            [256, 8, 1024],
            122_111_526_912,
        ),
        (
            "Qwen3.5-397B-A17B",
            [4096, 60, 32, 2, 64],
            [512, 10, 1024],
            396_346_350_336,
        ),
    ];
    for (name, size, routed, parameters) in models {
        let (config, gguf) = qwen35(size, None, routed);
        let [_, blocks, _, kv_heads, value_heads] = size.map(u64::from);
        let (attention, recurrent) = (blocks / 4, blocks / 4 * 3);
        let state = (3 * (128 * value_heads + 4096), 128 * 128 * value_heads);
        check(&Case {
            name,
            config,
            architecture: "qwen35moe",
            gguf,
            parameters,
            attention: attention as usize,
            recurrent: recurrent as usize,
            state,
            state_bytes: recurrent * 4 * (state.0 + state.1),
            token_bytes: attention * 2 * 2 * kv_heads * 256,
        });
    }
}

/// Granite 4 with 40 blocks, four of which attend: residual width, heads, key-value heads, Mamba
/// heads, experts with used and width, width of the shared feed-forward.
fn granite(size: [u32; 8]) -> (Json, Vec<(&'static str, Value)>) {
    let [
        hidden,
        heads,
        kv_heads,
        ssm_heads,
        experts,
        used,
        inner,
        shared,
    ] = size;
    let attending = [5, 15, 25, 35];
    let config = json!({
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
        "vocab_size": 100_352, "hidden_size": hidden, "num_hidden_layers": 40,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": inner,
        "shared_intermediate_size": shared, "num_local_experts": experts,
        "num_experts_per_tok": used, "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128,
        "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": ssm_heads, "mamba_conv_bias": true,
        "mamba_proj_bias": false, "attention_bias": false, "tie_word_embeddings": true,
        "layer_types": kinds(40, &attending, "attention", "mamba"),
    });
    let gguf = vec![
        ("block_count", one(40)),
        ("embedding_length", one(hidden)),
        ("feed_forward_length", one(inner)),
        ("expert_shared_feed_forward_length", one(shared)),
        ("expert_count", one(experts)),
        ("expert_used_count", one(used)),
        ("attention.head_count", one(heads)),
        ("attention.head_count_kv", at(40, &attending, kv_heads)),
        ("ssm.conv_kernel", one(4)),
        ("ssm.state_size", one(128)),
        ("ssm.group_count", one(1)),
        ("ssm.inner_size", one(2 * hidden)),
        ("ssm.time_step_rank", one(ssm_heads)),
    ];
    (config, gguf)
}

#[test]
fn granite_hybrid() {
    // Tiny and small: published; micro, dense: derived.
    let models: [(&str, [u32; 8], u64); 3] = [
        (
            "granite-4.0-h-tiny",
            [1536, 12, 4, 48, 64, 6, 512, 1024],
            6_939_037_248,
        ),
        (
            "granite-4.0-h-small",
            [4096, 32, 8, 128, 72, 10, 768, 1536],
            32_207_337_984,
        ),
        (
            "granite-4.0-h-micro",
            [2048, 32, 8, 64, 0, 0, 8192, 8192],
            3_191_396_096,
        ),
    ];
    for (name, size, parameters) in models {
        let (config, gguf) = granite(size);
        let [hidden, heads, kv_heads, ..] = size.map(u64::from);
        let state = (3 * (2 * hidden + 2 * 128), 128 * 2 * hidden);
        check(&Case {
            name,
            config,
            architecture: "granitehybrid",
            gguf,
            parameters,
            attention: 4,
            recurrent: 36,
            state,
            state_bytes: 36 * 4 * (state.0 + state.1),
            token_bytes: 4 * 2 * 2 * kv_heads * (hidden / heads),
        });
    }
}

#[test]
fn granite_without_mamba_is_plain_granite() {
    let (mut config, _) = granite([2560, 40, 8, 64, 0, 0, 8192, 8192]);
    config["layer_types"] = kinds(40, &[], "", "attention");
    config["mamba_d_head"] = json!("auto");
    let model = read_config(&config).expect("granite-4.0-micro");
    assert_eq!(model.architecture, "granite");
    assert!(
        model
            .layers
            .iter()
            .all(|l| l.mixer.recurrent.is_none() && l.mixer.attention.is_some())
    );
    // Embedding and final norm; per block two norms, attention of 40 and 8 heads of 64, three matrices.
    let block = 2 * 2560 + 2 * 2560 * 2560 + 2 * 2560 * 512 + 3 * 2560 * 8192;
    assert_eq!(model.parameters, 100_352 * 2560 + 2560 + 40 * block);
}

#[test]
fn granite_without_mamba_but_with_experts_is_granitemoe() {
    let (mut config, _) = granite([1536, 12, 4, 48, 64, 6, 512, 1024]);
    config["layer_types"] = kinds(40, &[], "", "attention");
    let model = read_config(&config).expect("attention and experts");
    assert_eq!(model.architecture, "granitemoe");
    assert!(
        model
            .tensors
            .iter()
            .any(|t| t.name == "blk.39.ffn_gate_shexp.weight")
    );
}

const NANO: &str = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME";
const SUPER: &str =
    "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME";
const NANO_9B: &str = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-";

/// Nemotron-H: residual width, heads, key-value heads, Mamba heads and their width.
fn nemotron(size: [u32; 5], pattern: &str) -> (Json, Vec<(&'static str, Value)>) {
    let [hidden, heads, kv_heads, ssm_heads, ssm_width] = size;
    let config = json!({
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "vocab_size": 131_072,
        "hidden_size": hidden, "num_hidden_layers": pattern.len(), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": 128, "hybrid_override_pattern": pattern,
        "mamba_num_heads": ssm_heads, "mamba_head_dim": ssm_width, "n_groups": 8, "ssm_state_size": 128,
        "conv_kernel": 4, "expand": 2, "use_conv_bias": true, "use_bias": false, "mlp_bias": false,
        "tie_word_embeddings": false,
    });
    let gguf = vec![
        ("block_count", one(pattern.len() as u32)),
        ("embedding_length", one(hidden)),
        ("attention.head_count", one(heads)),
        ("attention.head_count_kv", letters(pattern, '*', kv_heads)),
        ("attention.key_length", one(128)),
        ("attention.value_length", one(128)),
        ("ssm.conv_kernel", one(4)),
        ("ssm.state_size", one(128)),
        ("ssm.group_count", one(8)),
        ("ssm.inner_size", one(ssm_heads * ssm_width)),
        ("ssm.time_step_rank", one(ssm_heads)),
    ];
    (config, gguf)
}

fn add(config: &mut Json, more: Json) {
    if let (Json::Object(config), Json::Object(more)) = (config, more) {
        config.extend(more);
    }
}

#[test]
fn nemotron_h_dense() {
    let (mut config, mut gguf) = nemotron([4480, 40, 8, 128, 80], NANO_9B);
    add(&mut config, json!({"intermediate_size": 15_680}));
    gguf.push(("feed_forward_length", letters(NANO_9B, '-', 15_680)));
    check(&Case {
        name: "Nemotron-Nano-9B-v2",
        config,
        architecture: "nemotron_h",
        gguf,
        parameters: 8_888_227_328, // published
        attention: 4,
        recurrent: 27,
        state: (3 * (10_240 + 2 * 8 * 128), 128 * 10_240),
        state_bytes: 27 * 4 * (36_864 + 1_310_720),
        token_bytes: 4 * 2 * 2 * 8 * 128,
    });
}

const NANO_12B: &str = "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-";

/// Nemotron Nano 12B v2 VL, whose class says nothing: that of its text part does. Where neither is known, the error names
/// the class and not the known type inside.
#[test]
fn nemotron_h_inside_another_class() {
    let (mut text, _) = nemotron([5120, 40, 8, 128, 80], NANO_12B);
    add(
        &mut text,
        json!({"intermediate_size": 20_480, "mlp_hidden_act": "relu2", "layer_norm_epsilon": 1e-5,
               "max_position_embeddings": 131_072}),
    );
    let wrapped = |text: &Json| {
        json!({
            "architectures": ["NemotronH_Nano_VL_V2"], "model_type": "NemotronH_Nano_VL_V2", "downsample_ratio": 0.5,
            "force_image_size": 512, "patch_size": 16, "projector_hidden_size": 20_480, "vit_hidden_size": 1280,
            "llm_config": text, "vision_config": {"architectures": ["RADIOModel"], "model_type": ""},
        })
    };
    let model = read_config(&wrapped(&text)).expect("12B");
    assert_eq!(model.architecture, "nemotron_h");
    assert_eq!(model.parameters, 12_310_001_152); // published
    let recurrent = model.layers.iter().filter(|l| l.mixer.recurrent.is_some());
    assert_eq!((model.layers.len(), recurrent.count()), (62, 28));

    add(
        &mut text,
        json!({"architectures": ["UnheardOfForCausalLM"]}),
    );
    let error = read_config(&wrapped(&text)).unwrap_err().to_string();
    assert!(
        error.contains("unknown architecture `NemotronH_Nano_VL_V2`"),
        "{error}"
    );
}

#[test]
fn nemotron_h_with_experts() {
    let (mut config, mut gguf) = nemotron([2688, 32, 2, 64, 64], NANO);
    add(
        &mut config,
        json!({
            "intermediate_size": 1856, "moe_intermediate_size": 1856, "n_routed_experts": 128,
            "n_shared_experts": 1, "num_experts_per_tok": 6, "n_group": 1,
            "moe_shared_expert_intermediate_size": 3712,
        }),
    );
    gguf.extend([
        ("feed_forward_length", letters(NANO, 'E', 1856)),
        ("expert_feed_forward_length", one(1856)),
        ("expert_shared_feed_forward_length", one(3712)),
        ("expert_shared_count", one(1)),
        ("expert_count", one(128)),
        ("expert_used_count", one(6)),
    ]);
    check(&Case {
        name: "Nemotron-3-Nano-30B-A3B",
        config,
        architecture: "nemotron_h_moe",
        gguf,
        // Published, and the routing bias of 128 in each of 23 blocks, which is stored but no weight.
        parameters: 31_577_937_344 + 23 * 128,
        attention: 6,
        recurrent: 23,
        state: (3 * (4096 + 2 * 8 * 128), 128 * 4096),
        state_bytes: 23 * 4 * (18_432 + 524_288),
        token_bytes: 6 * 2 * 2 * 2 * 128,
    });
}

#[test]
fn nemotron_h_with_latent_experts_and_a_prediction_head() {
    let (mut config, mut gguf) = nemotron([4096, 32, 2, 128, 64], SUPER);
    add(
        &mut config,
        json!({
            "intermediate_size": 2688, "moe_intermediate_size": 2688, "moe_latent_size": 1024,
            "n_routed_experts": 512, "num_experts_per_tok": 22, "n_shared_experts": 1,
            "moe_shared_expert_intermediate_size": 5376, "num_nextn_predict_layers": 1,
            "mtp_hybrid_override_pattern": "*E",
        }),
    );
    // Conversion folds the head into one more block that both attends and routes.
    gguf.retain(|(key, _)| !["block_count", "attention.head_count_kv"].contains(key));
    let folded = |letter, n| match letters(SUPER, letter, n) {
        Value::Array(mut list) => {
            list.push(one(n));
            Value::Array(list)
        }
        scalar => scalar,
    };
    gguf.extend([
        ("block_count", one(SUPER.len() as u32 + 1)),
        ("nextn_predict_layers", one(1)),
        ("attention.head_count_kv", folded('*', 2)),
        ("feed_forward_length", folded('E', 2688)),
        ("expert_feed_forward_length", one(2688)),
        ("expert_shared_feed_forward_length", one(5376)),
        ("moe_latent_size", one(1024)),
        ("expert_count", one(512)),
        ("expert_used_count", one(22)),
    ]);
    check(&Case {
        name: "Nemotron-3-Super-120B-A12B",
        config,
        architecture: "nemotron_h_moe",
        gguf,
        parameters: 120_668_707_840, // derived
        attention: 8,
        recurrent: 40,
        state: (3 * (8192 + 2 * 8 * 128), 128 * 8192),
        state_bytes: 40 * 4 * (30_720 + 1_048_576),
        token_bytes: 8 * 2 * 2 * 2 * 128,
    });
}

#[test]
fn nemotron_h_names_blocks_by_word_too() {
    let (mut config, _) = nemotron([64, 4, 2, 4, 8], "M*-E");
    add(
        &mut config,
        json!({"intermediate_size": 32, "moe_intermediate_size": 16,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_shared_expert_intermediate_size": 24}),
    );
    let by_letter = read_config(&config).expect("letters");
    add(
        &mut config,
        json!({"hybrid_override_pattern": null, "num_hidden_layers": null}),
    );
    for words in [
        ["mamba", "attention", "mlp", "moe"],
        ["linear_attention", "full_attention", "mlp", "moe"],
    ] {
        add(&mut config, json!({"layers_block_type": words}));
        assert_eq!(
            read_config(&config).expect("words").layers,
            by_letter.layers
        );
    }
    let kinds: Vec<_> = by_letter
        .layers
        .iter()
        .map(|l| l.feed_forward.clone())
        .collect();
    let experts = FeedForward::Experts {
        count: 4,
        used: 2,
        inner: 16,
        shared_inner: 24,
    };
    assert_eq!(
        kinds,
        [
            FeedForward::None,
            FeedForward::None,
            FeedForward::Dense { inner: 32 },
            experts
        ]
    );
}

#[test]
fn falcon_h1() {
    check(&Case {
        name: "Falcon-H1-0.5B",
        config: json!({
            "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "vocab_size": 32_784,
            "hidden_size": 1024, "num_hidden_layers": 36, "num_attention_heads": 8,
            "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 2048, "mamba_d_ssm": 1536,
            "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2,
            "mamba_n_groups": 1, "mamba_n_heads": 24, "mamba_conv_bias": true, "mamba_rms_norm": false,
            "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
        }),
        architecture: "falcon-h1",
        gguf: vec![
            ("block_count", one(36)),
            ("embedding_length", one(1024)),
            ("feed_forward_length", one(2048)),
            ("attention.head_count", one(8)),
            ("attention.head_count_kv", one(2)),
            ("attention.key_length", one(64)),
            ("attention.value_length", one(64)),
            ("ssm.conv_kernel", one(4)),
            ("ssm.state_size", one(128)),
            ("ssm.group_count", one(1)),
            ("ssm.inner_size", one(1536)),
            ("ssm.time_step_rank", one(24)),
        ],
        parameters: 521_411_104, // published
        attention: 36,
        recurrent: 36,
        state: (3 * (1536 + 2 * 128), 128 * 1536),
        state_bytes: 36 * 4 * (5376 + 196_608),
        token_bytes: 36 * 2 * 2 * 2 * 64,
    });
}

#[test]
fn gguf_defaults_are_those_of_llama_cpp() {
    // Widths of experts left out: the dense width over the experts used, and the dense width.
    let (_, mut gguf) = qwen35([64, 4, 4, 2, 4], None, [8, 2, 0]);
    gguf.retain(|(key, _)| !key.starts_with("expert_") || key.ends_with("_count"));
    gguf.retain(|(key, _)| {
        !["attention.recurrent_layers", "full_attention_interval"].contains(key)
    });
    gguf.push(("feed_forward_length", one(48)));
    let model = read_gguf("qwen35moe", &gguf).expect("defaults");
    let experts = FeedForward::Experts {
        count: 8,
        used: 2,
        inner: 24,
        shared_inner: 48,
    };
    assert!(model.layers.iter().all(|l| l.feed_forward == experts));
    // Every fourth block attends.
    let attends: Vec<bool> = model
        .layers
        .iter()
        .map(|l| l.mixer.attention.is_some())
        .collect();
    assert_eq!(attends, [false, false, false, true]);

    // A window in an LFM2 file holds for the blocks that attend.
    let mut gguf = lfm2(64, 4, 48, 64, 0).gguf;
    gguf.push(("attention.sliding_window", one(32)));
    let model = read_gguf("lfm2", &gguf).expect("windowed");
    let windows: Vec<_> = model
        .layers
        .iter()
        .filter_map(|l| Some(l.mixer.attention.as_ref()?.window))
        .collect();
    assert_eq!(windows, [Some(32); 6]);
}

#[test]
fn grouped_heads_decide_the_type_of_values_in_q2_k() {
    // llama.cpp asks block 0 for its queries per key-value head. Conversion writes one count for all
    // blocks of Qwen3.5 (24 / 4), and none for the convolutions of LFM2 (32 / 8 where it attends).
    let values = |config: &Json| {
        let model = read_config(config).expect("a known model");
        let assignment = assign(
            &model,
            Scheme::get("q2_k").expect("a scheme"),
            Rules::default(),
        );
        let attn_v = |(t, _): &(&Tensor, _)| t.name.ends_with("attn_v.weight");
        let found = model.tensors.iter().zip(&assignment.tensors).find(attn_v);
        found.map(|(_, assigned)| assigned.dtype)
    };
    assert_eq!(
        values(&qwen35([5120, 64, 24, 4, 48], Some(17_408), [0; 3]).0),
        Some(Dtype::Q4_K)
    );
    assert_eq!(
        values(&lfm2(2048, 32, 12_288, 8192, 0).config),
        Some(Dtype::Q3_K)
    );
}
