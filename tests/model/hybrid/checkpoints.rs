//! Checkpoints of hybrid architectures: the names and shapes that the models' code in Transformers
//! gives its weights, written out here for small models, must be found, counted and converted.

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat, StoredTensor};
use orinplan::dtype::Dtype;
use orinplan::model::{self, ModelError, ModelSpec, TensorRole, Unknown};
use orinplan::plan::Workload;
use orinplan::plan::compute::{ComputeBackend, compute};
use orinplan::plan::kv::KvSettings;
use orinplan::plan::operations::{decode_operations, prompt_attention};
use orinplan::scheme;
use orinplan::units::Bytes;
use serde_json::{Value as Json, json};

type Weights = Vec<(String, Vec<u64>)>;

fn read(config: &Json, weights: &Weights) -> Result<ModelSpec, ModelError> {
    let stored = weights.iter().map(|(name, shape)| StoredTensor {
        name: name.clone(),
        dtype: Dtype::BF16,
        shape: shape.clone(),
        file: 0,
        offset: 0,
        bytes: Bytes(2 * shape.iter().product::<u64>()),
    });
    let format = if weights.is_empty() {
        SourceFormat::Config
    } else {
        SourceFormat::Safetensors
    };
    model::read(
        &Checkpoint {
            tensors: stored.collect(),
            ..Checkpoint::of("test", format, RawConfig::HuggingFace(config.clone()))
        },
        Unknown::Refuse,
    )
}

/// Weights as a checkpoint names them, all under one prefix.
struct Names {
    prefix: &'static str,
    weights: Weights,
}

impl Names {
    fn new(prefix: &'static str) -> Names {
        Names {
            prefix,
            weights: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, shape: &[u64]) {
        self.weights
            .push((format!("{}{name}", self.prefix), shape.to_vec()));
    }

    fn block(&mut self, block: u64, names: &[(&str, &[u64])]) {
        for (name, shape) in names {
            self.add(&format!("layers.{block}.{name}"), shape);
        }
    }

    fn experts(&mut self, block: u64, count: u64, names: &[(&str, &[u64])]) {
        for expert in 0..count {
            for (name, shape) in names {
                self.add(
                    &format!("layers.{block}.{}", name.replace("{}", &expert.to_string())),
                    shape,
                );
            }
        }
    }

    fn outside(mut self, name: &str, shape: &[u64]) -> Weights {
        self.weights.push((name.to_owned(), shape.to_vec()));
        self.weights
    }
}

/// Reads `weights` and the configuration alone: both must give the same tensors, all with a role,
/// and count what is stored, of which `beside` elements are left out.
fn check(name: &str, config: &Json, weights: &Weights, beside: u64) -> ModelSpec {
    let stored = read(config, weights).unwrap_or_else(|e| panic!("{name}: {e}"));
    let implied =
        read(config, &Weights::new()).unwrap_or_else(|e| panic!("{name}, configuration: {e}"));
    let list = |model: &ModelSpec| {
        let mut list: Vec<_> = model
            .tensors
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone(), t.role))
            .collect();
        list.sort();
        list
    };
    assert_eq!(list(&stored), list(&implied), "{name}");
    assert!(
        stored.tensors.iter().all(|t| t.role != TensorRole::Other),
        "{name}"
    );
    assert_eq!(stored.tied, implied.tied, "{name}");
    let elements: u64 = weights
        .iter()
        .map(|(_, shape)| shape.iter().product::<u64>())
        .sum();
    assert_eq!(stored.parameters, elements - beside, "{name}");
    assert_eq!(
        implied.parameters,
        elements - beside,
        "{name}, configuration"
    );
    let bytes: u64 = stored.tensors.iter().map(|t| t.stored_bytes.0).sum();
    assert_eq!(
        bytes,
        2 * (elements - beside),
        "{name}: shared matrices are split by weight"
    );
    let towers = stored.towers.iter().map(|t| t.bytes.0);
    let left_out = stored.left_out.iter().map(|kind| kind.bytes.0);
    assert_eq!(towers.chain(left_out).sum::<u64>(), 2 * beside, "{name}");
    stored
}

fn names_of(model: &ModelSpec, block: u32) -> Vec<&str> {
    let prefix = format!("blk.{block}.");
    let mut names: Vec<&str> = model
        .tensors
        .iter()
        .filter_map(|t| t.name.strip_prefix(prefix.as_str()))
        .collect();
    names.sort_unstable();
    names
}

// Residual width 32, vocabulary 40; attention of 4 and 2 heads of 16; delta net of 2 key heads and 4
// value heads of 8 (keys 16, values 32).

fn qwen_config(class: &str, more: Json) -> Json {
    let mut text = json!({
        "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
    });
    if let (Json::Object(text), Json::Object(more)) = (&mut text, more) {
        text.extend(more);
    }
    match class {
        "Qwen3NextForCausalLM" => {
            text["architectures"] = json!([class]);
            text
        }
        _ => json!({"architectures": [class], "text_config": text, "tie_word_embeddings": false}),
    }
}

const GATED_ATTENTION: &[(&str, &[u64])] = &[
    ("self_attn.q_proj.weight", &[128, 32]),
    ("self_attn.k_proj.weight", &[32, 32]),
    ("self_attn.v_proj.weight", &[32, 32]),
    ("self_attn.o_proj.weight", &[32, 64]),
    ("self_attn.q_norm.weight", &[16]),
    ("self_attn.k_norm.weight", &[16]),
];

const DELTA_NET: &[(&str, &[u64])] = &[
    ("linear_attn.conv1d.weight", &[64, 1, 4]),
    ("linear_attn.dt_bias", &[4]),
    ("linear_attn.A_log", &[4]),
    ("linear_attn.norm.weight", &[8]),
    ("linear_attn.out_proj.weight", &[32, 32]),
];

fn qwen_frame(weights: &mut Names) {
    weights.add("embed_tokens.weight", &[40, 32]);
    weights.add("norm.weight", &[32]);
    for block in 0..2 {
        let norms: &[(&str, &[u64])] = &[
            ("input_layernorm.weight", &[32]),
            ("post_attention_layernorm.weight", &[32]),
        ];
        weights.block(block, norms);
    }
    weights.block(0, DELTA_NET);
    weights.block(1, GATED_ATTENTION);
}

#[test]
fn qwen3_next() {
    let mut weights = Names::new("model.");
    qwen_frame(&mut weights);
    weights.block(
        0,
        &[
            ("linear_attn.in_proj_qkvz.weight", &[96, 32]),
            ("linear_attn.in_proj_ba.weight", &[8, 32]),
        ],
    );
    for block in 0..2 {
        weights.block(
            block,
            &[
                ("mlp.gate.weight", &[3, 32]),
                ("mlp.shared_expert_gate.weight", &[1, 32]),
                ("mlp.shared_expert.gate_proj.weight", &[20, 32]),
                ("mlp.shared_expert.up_proj.weight", &[20, 32]),
                ("mlp.shared_expert.down_proj.weight", &[32, 20]),
            ],
        );
        weights.experts(
            block,
            3,
            &[
                ("mlp.experts.{}.gate_proj.weight", &[12, 32]),
                ("mlp.experts.{}.up_proj.weight", &[12, 32]),
                ("mlp.experts.{}.down_proj.weight", &[32, 12]),
            ],
        );
    }
    weights
        .weights
        .push(("mtp.fc.weight".to_owned(), vec![32, 64]));
    let weights = weights.outside("lm_head.weight", &[40, 32]);
    let config = qwen_config(
        "Qwen3NextForCausalLM",
        json!({"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 20, "intermediate_size": 64}),
    );
    let model = check("qwen3next", &config, &weights, 32 * 64);
    let delta_net = [
        "attn_gate.weight",
        "attn_norm.weight",
        "attn_qkv.weight",
        "ffn_down_exps.weight",
        "ffn_down_shexp.weight",
        "ffn_gate_exps.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",
        "ffn_gate_shexp.weight",
        "ffn_up_exps.weight",
        "ffn_up_shexp.weight",
        "post_attention_norm.weight",
        "ssm_a",
        "ssm_ba.weight",
        "ssm_conv1d.weight",
        "ssm_dt.bias",
        "ssm_norm.weight",
        "ssm_out.weight",
    ];
    assert_eq!(names_of(&model, 0), delta_net);
    // The matrix of query, key, value and gate falls into 64 and 32 rows.
    let bytes = |name: &str| {
        model
            .tensors
            .iter()
            .find(|t| t.name == name)
            .map(|t| t.stored_bytes)
    };
    assert_eq!(bytes("blk.0.attn_qkv.weight"), Some(Bytes(2 * 64 * 32)));
    assert_eq!(bytes("blk.0.attn_gate.weight"), Some(Bytes(2 * 32 * 32)));
}

const SEPARATE: &[(&str, &[u64])] = &[
    ("linear_attn.in_proj_qkv.weight", &[64, 32]),
    ("linear_attn.in_proj_z.weight", &[32, 32]),
    ("linear_attn.in_proj_b.weight", &[4, 32]),
    ("linear_attn.in_proj_a.weight", &[4, 32]),
];

#[test]
fn qwen3_5_with_vision_tower_and_prediction_head() {
    // The published prefix, and that of MLX.
    for (prefix, tower, head) in [
        ("model.language_model.", "model.visual.", "lm_head.weight"),
        (
            "language_model.model.",
            "vision_tower.",
            "language_model.lm_head.weight",
        ),
    ] {
        let mut weights = Names::new(prefix);
        qwen_frame(&mut weights);
        weights.block(0, SEPARATE);
        for block in 0..2 {
            weights.block(
                block,
                &[
                    ("mlp.gate_proj.weight", &[48, 32]),
                    ("mlp.up_proj.weight", &[48, 32]),
                    ("mlp.down_proj.weight", &[32, 48]),
                ],
            );
        }
        weights
            .weights
            .push((format!("{tower}blocks.0.attn.qkv.weight"), vec![24, 8]));
        weights
            .weights
            .push((format!("{tower}merger.norm.bias"), vec![8]));
        weights.weights.push((
            "mtp.layers.0.self_attn.q_proj.weight".to_owned(),
            vec![128, 32],
        ));
        let weights = weights.outside(head, &[40, 32]);
        let config = qwen_config(
            "Qwen3_5ForConditionalGeneration",
            json!({"intermediate_size": 48}),
        );
        let model = check("qwen35", &config, &weights, 24 * 8 + 8 + 128 * 32);
        let towers: Vec<&str> = model.towers.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(towers, ["vision tower"]);
        assert_eq!(model.left_out[0].name, "multi-token prediction head");
    }
}

#[test]
fn qwen3_5_with_stacked_experts() {
    let mut weights = Names::new("model.language_model.");
    qwen_frame(&mut weights);
    weights.block(0, SEPARATE);
    for block in 0..2 {
        weights.block(
            block,
            &[
                ("mlp.gate.weight", &[3, 32]),
                ("mlp.experts.gate_up_proj", &[3, 24, 32]),
                ("mlp.experts.down_proj", &[3, 32, 12]),
                ("mlp.shared_expert_gate.weight", &[1, 32]),
                ("mlp.shared_expert.gate_proj.weight", &[20, 32]),
                ("mlp.shared_expert.up_proj.weight", &[20, 32]),
                ("mlp.shared_expert.down_proj.weight", &[32, 20]),
            ],
        );
    }
    let weights = weights.outside("lm_head.weight", &[40, 32]);
    let config = qwen_config(
        "Qwen3_5MoeForConditionalGeneration",
        json!({"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 20}),
    );
    check("qwen35moe", &config, &weights, 0);
}

fn lfm2_frame(weights: &mut Names) {
    weights.add("embed_tokens.weight", &[40, 32]);
    weights.add("embedding_norm.weight", &[32]);
    for block in 0..2 {
        weights.block(
            block,
            &[("operator_norm.weight", &[32]), ("ffn_norm.weight", &[32])],
        );
    }
    weights.block(
        0,
        &[
            ("conv.conv.weight", &[32, 1, 3]),
            ("conv.in_proj.weight", &[96, 32]),
            ("conv.out_proj.weight", &[32, 32]),
        ],
    );
    weights.block(
        1,
        &[
            ("self_attn.q_proj.weight", &[32, 32]),
            ("self_attn.k_proj.weight", &[16, 32]),
            ("self_attn.v_proj.weight", &[16, 32]),
            ("self_attn.out_proj.weight", &[32, 32]),
            ("self_attn.q_layernorm.weight", &[8]),
            ("self_attn.k_layernorm.weight", &[8]),
        ],
    );
}

const LFM2_DENSE: &[(&str, &[u64])] = &[
    ("feed_forward.w1.weight", &[64, 32]),
    ("feed_forward.w3.weight", &[64, 32]),
    ("feed_forward.w2.weight", &[32, 64]),
];

#[test]
fn lfm2() {
    let mut weights = Names::new("model.");
    lfm2_frame(&mut weights);
    weights.block(0, LFM2_DENSE);
    weights.block(1, LFM2_DENSE);
    let config = json!({
        "architectures": ["Lfm2ForCausalLM"], "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "block_ff_dim": 64,
        "block_auto_adjust_ff_dim": false, "conv_L_cache": 3, "layer_types": ["conv", "full_attention"],
    });
    let model = check("lfm2", &config, &weights.weights, 0);
    assert!(model.tied);
    let convolution = [
        "attn_norm.weight",
        "ffn_down.weight",
        "ffn_gate.weight",
        "ffn_norm.weight",
        "ffn_up.weight",
        "shortconv.conv.weight",
        "shortconv.in_proj.weight",
        "shortconv.out_proj.weight",
    ];
    assert_eq!(names_of(&model, 0), convolution);
    assert!(
        model
            .tensors
            .iter()
            .any(|t| t.name == "token_embd_norm.weight")
    );
}

#[test]
fn lfm2_with_experts() {
    let mut weights = Names::new("model.");
    lfm2_frame(&mut weights);
    weights.block(0, LFM2_DENSE);
    weights.block(
        1,
        &[
            ("feed_forward.gate.weight", &[3, 32]),
            ("feed_forward.expert_bias", &[3]),
        ],
    );
    weights.experts(
        1,
        3,
        &[
            ("feed_forward.experts.{}.w1.weight", &[12, 32]),
            ("feed_forward.experts.{}.w3.weight", &[12, 32]),
            ("feed_forward.experts.{}.w2.weight", &[32, 12]),
        ],
    );
    let config = json!({
        "architectures": ["Lfm2MoeForCausalLM"], "vocab_size": 40, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "moe_intermediate_size": 12, "num_dense_layers": 1, "num_experts": 3,
        "num_experts_per_tok": 2, "conv_L_cache": 3, "layer_types": ["conv", "full_attention"],
    });
    check("lfm2moe", &config, &weights.weights, 0);
}

// Mamba 2 of 4 heads of 16, two groups of states of 8: 64 + 2 x 16 channels, 64 more for the gate.

fn mamba2(block: u64, mixer: &str, weights: &mut Names) {
    for (name, shape) in [
        ("in_proj.weight", &[64 + 96 + 4, 32][..]),
        ("conv1d.weight", &[96, 1, 4]),
        ("conv1d.bias", &[96]),
        ("dt_bias", &[4]),
        ("A_log", &[4]),
        ("D", &[4]),
        ("out_proj.weight", &[32, 64]),
    ] {
        weights.add(&format!("layers.{block}.{mixer}.{name}"), shape);
    }
}

fn attention(block: u64, module: &str, weights: &mut Names) {
    for (name, rows, columns) in [("q", 32, 32), ("k", 16, 32), ("v", 16, 32), ("o", 32, 32)] {
        weights.add(
            &format!("layers.{block}.{module}.{name}_proj.weight"),
            &[rows, columns],
        );
    }
}

#[test]
fn granite_hybrid_dense_and_with_experts() {
    for experts in [0, 3] {
        let mut weights = Names::new("model.");
        weights.add("embed_tokens.weight", &[40, 32]);
        weights.add("norm.weight", &[32]);
        mamba2(0, "mamba", &mut weights);
        weights.add("layers.0.mamba.norm.weight", &[64]);
        attention(1, "self_attn", &mut weights);
        for block in 0..2 {
            weights.block(
                block,
                &[
                    ("input_layernorm.weight", &[32]),
                    ("post_attention_layernorm.weight", &[32]),
                    ("shared_mlp.input_linear.weight", &[40, 32]),
                    ("shared_mlp.output_linear.weight", &[32, 20]),
                ],
            );
            if experts > 0 {
                weights.block(
                    block,
                    &[
                        ("block_sparse_moe.router.layer.weight", &[3, 32]),
                        ("block_sparse_moe.input_linear.weight", &[3, 24, 32]),
                        ("block_sparse_moe.output_linear.weight", &[3, 32, 12]),
                    ],
                );
            }
        }
        let config = json!({
            "architectures": ["GraniteMoeHybridForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 12, "shared_intermediate_size": 20, "num_local_experts": experts,
            "num_experts_per_tok": if experts > 0 { 2 } else { 0 }, "mamba_d_head": "auto",
            "mamba_d_state": 8, "mamba_n_groups": 2, "mamba_n_heads": 4, "mamba_expand": 2,
            "layer_types": ["mamba", "attention"], "tie_word_embeddings": true,
        });
        let model = check("granitehybrid", &config, &weights.weights, 0);
        let has = |name| names_of(&model, 0).contains(&name);
        assert_eq!(has("ffn_gate_shexp.weight"), experts > 0);
        assert_eq!(has("ffn_gate.weight"), experts == 0);
    }
}

#[test]
fn nemotron_h() {
    for (prefix, latent) in [("backbone.", 0), ("model.", 8)] {
        let mut weights = Names::new(prefix);
        weights.add("embeddings.weight", &[40, 32]);
        weights.add("norm_f.weight", &[32]);
        for block in 0..4 {
            weights.block(block, &[("norm.weight", &[32])]);
        }
        mamba2(0, "mixer", &mut weights);
        weights.add("layers.0.mixer.norm.weight", &[64]);
        attention(1, "mixer", &mut weights);
        weights.block(
            2,
            &[
                ("mixer.up_proj.weight", &[48, 32]),
                ("mixer.down_proj.weight", &[32, 48]),
            ],
        );
        let width = if latent > 0 { latent } else { 32 };
        weights.block(
            3,
            &[
                ("mixer.gate.weight", &[3, 32]),
                ("mixer.gate.e_score_correction_bias", &[3]),
                ("mixer.shared_experts.up_proj.weight", &[20, 32]),
                ("mixer.shared_experts.down_proj.weight", &[32, 20]),
            ],
        );
        weights.experts(
            3,
            3,
            &[
                ("mixer.experts.{}.up_proj.weight", &[12, width]),
                ("mixer.experts.{}.down_proj.weight", &[width, 12]),
            ],
        );
        if latent > 0 {
            weights.block(
                3,
                &[
                    ("mixer.fc1_latent_proj.weight", &[latent, 32]),
                    ("mixer.fc2_latent_proj.weight", &[32, latent]),
                ],
            );
        }
        weights
            .weights
            .push(("mtp.layers.0.eh_proj.weight".to_owned(), vec![32, 64]));
        let weights = weights.outside("lm_head.weight", &[40, 32]);
        let config = json!({
            "architectures": ["NemotronHForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "hybrid_override_pattern": "M*-E", "intermediate_size": 48, "mamba_num_heads": 4,
            "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 8, "conv_kernel": 4, "expand": 2,
            "n_routed_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
            "moe_shared_expert_intermediate_size": 20,
            "moe_latent_size": if latent > 0 { json!(latent) } else { Json::Null },
            "tie_word_embeddings": false,
        });
        let model = check("nemotron_h_moe", &config, &weights, 32 * 64);
        assert!(!model.tied);
        assert_eq!(
            names_of(&model, 2),
            ["attn_norm.weight", "ffn_down.weight", "ffn_up.weight"]
        );
        let experts = names_of(&model, 3);
        assert!(
            experts.contains(&"exp_probs_b.bias") && !experts.contains(&"ffn_gate_exps.weight")
        );
    }
}

#[test]
fn falcon_h1() {
    for norm in [false, true] {
        let mut weights = Names::new("model.");
        weights.add("embed_tokens.weight", &[40, 32]);
        weights.add("final_layernorm.weight", &[32]);
        for block in 0..2 {
            mamba2(block, "mamba", &mut weights);
            if norm {
                weights.block(block, &[("mamba.norm.weight", &[64])]);
            }
            attention(block, "self_attn", &mut weights);
            weights.block(
                block,
                &[
                    ("input_layernorm.weight", &[32]),
                    ("pre_ff_layernorm.weight", &[32]),
                    ("feed_forward.gate_proj.weight", &[48, 32]),
                    ("feed_forward.up_proj.weight", &[48, 32]),
                    ("feed_forward.down_proj.weight", &[32, 48]),
                ],
            );
        }
        let weights = weights.outside("lm_head.weight", &[40, 32]);
        let config = json!({
            "architectures": ["FalconH1ForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "intermediate_size": 48, "mamba_d_ssm": 64, "mamba_d_head": 16, "mamba_d_state": 8,
            "mamba_n_groups": 2, "mamba_n_heads": 4, "mamba_rms_norm": norm, "tie_word_embeddings": false,
        });
        check("falcon-h1", &config, &weights, 0);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let nemotron = |pattern: Json| {
        json!({"architectures": ["NemotronHForCausalLM"], "hidden_size": 32, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 64, "num_hidden_layers": 3, "vocab_size": 100,
            "mamba_num_heads": 4,
            "hybrid_override_pattern": pattern})
    };
    let none = Weights::new();
    let error = read(&nemotron(json!("M*?")), &none).expect_err("an unknown letter");
    assert_eq!(
        error,
        ModelError::UnknownBlock {
            block: 2,
            kind: "?".to_owned()
        }
    );
    for pattern in [json!(""), json!(null), json!(7)] {
        let error = read(&nemotron(pattern), &none).expect_err("no pattern");
        assert_eq!(
            error,
            ModelError::MissingKey {
                key: "hybrid_override_pattern".to_owned()
            }
        );
    }
    let error = read(&nemotron(json!("M".repeat(3000))), &none).expect_err("too many blocks");
    assert!(matches!(error, ModelError::BadValue { .. }));

    // A delta net that lost a tensor, and one whose gate has the wrong rows.
    let config = qwen_config(
        "Qwen3_5ForConditionalGeneration",
        json!({"intermediate_size": 48}),
    );
    let mut weights = Names::new("model.language_model.");
    qwen_frame(&mut weights);
    weights.block(0, SEPARATE);
    let mut weights = weights.outside("lm_head.weight", &[40, 32]);
    let lost = weights
        .iter()
        .position(|(name, _)| name.ends_with("A_log"))
        .expect("listed");
    let kept = weights.remove(lost);
    let error = read(&config, &weights).expect_err("A_log is missing");
    assert!(
        error
            .to_string()
            .contains("layers.0.linear_attn.A_log` is missing"),
        "{error}"
    );
    weights.push(kept);
    for (name, shape) in &mut weights {
        if name.ends_with("in_proj_z.weight") {
            *shape = vec![31, 32];
        }
    }
    let error = read(&config, &weights).expect_err("31 rows");
    assert!(matches!(error, ModelError::ShapeMismatch { .. }), "{error}");
}

#[test]
fn absurd_values_are_errors_or_numbers_but_never_a_panic() {
    let configs = [
        qwen_config(
            "Qwen3NextForCausalLM",
            json!({"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
                "shared_expert_intermediate_size": 20, "intermediate_size": 64}),
        ),
        qwen_config(
            "Qwen3_5ForConditionalGeneration",
            json!({"intermediate_size": 48}),
        ),
        json!({"architectures": ["Lfm2ForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "block_ff_dim": 64,
            "block_ffn_dim_multiplier": 1.5, "block_multiple_of": 256, "conv_L_cache": 3,
            "full_attn_idxs": [1]}),
        json!({"architectures": ["GraniteMoeHybridForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 12, "shared_intermediate_size": 20, "num_local_experts": 3,
            "num_experts_per_tok": 2, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 2,
            "mamba_n_heads": 4, "mamba_expand": 2, "mamba_d_conv": 4, "layer_types": ["mamba", "attention"]}),
        json!({"architectures": ["NemotronHForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48,
            "hybrid_override_pattern": "M*-E", "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2,
            "ssm_state_size": 8, "conv_kernel": 4, "n_routed_experts": 3, "num_experts_per_tok": 2,
            "moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 20, "moe_latent_size": 8}),
        json!({"architectures": ["FalconH1ForCausalLM"], "vocab_size": 40, "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
            "intermediate_size": 48, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_n_groups": 2,
            "mamba_n_heads": 4}),
    ];
    let huge = (1u64 << 31) - 1;
    let values = [
        json!(0),
        json!(1),
        json!(huge),
        json!(1u64 << 31),
        json!((1u64 << 40) - 1),
        json!(-1),
        json!(1e300),
        json!(0.5),
        json!(null),
        json!("auto"),
        json!("x"),
        json!([]),
        json!([0, 0]),
        json!([huge, 0, huge]),
        json!({}),
        json!(true),
    ];
    for config in &configs {
        let Json::Object(object) = config.get("text_config").unwrap_or(config) else {
            continue;
        };
        for key in object.keys().filter(|key| *key != "architectures") {
            for value in &values {
                let mut changed = config.clone();
                match changed.get_mut("text_config") {
                    Some(text) => text[key] = value.clone(),
                    None => changed[key] = value.clone(),
                }
                if let Ok(model) = read(&changed, &Weights::new()) {
                    step(&model);
                    assert!(
                        model
                            .tensors
                            .iter()
                            .map(|t| u128::from(t.elements()))
                            .sum::<u128>()
                            > 0
                    );
                }
            }
        }
        // Everything as large as it may be, the number of blocks aside.
        let mut all = config.clone();
        let text = if all.get("text_config").is_some() {
            &mut all["text_config"]
        } else {
            &mut all
        };
        for key in object
            .keys()
            .filter(|key| !["num_hidden_layers", "architectures"].contains(&key.as_str()))
        {
            if text[key].is_number() {
                // Heads of two elements at least, which turn in pairs.
                let heads = ["num_attention_heads", "num_key_value_heads"].contains(&key.as_str());
                text[key] = json!((huge - 1) / if heads { 2 } else { 1 });
            }
        }
        let model = read(&all, &Weights::new());
        let parameters = model.map(|model| {
            step(&model);
            model.parameters
        });
        assert_eq!(parameters, Ok(u64::MAX), "{all}");
    }
}

/// What a decoded token does and what it needs, for the largest context that can be asked for.
fn step(model: &ModelSpec) {
    let scheme = scheme::SCHEMES.iter().find(|s| s.id == "q4_k_m").unwrap();
    let assignment = scheme::assign(model, scheme, scheme::Rules::default());
    let workload = Workload {
        context: u64::MAX,
        prompt_tokens: u64::MAX,
        ..Workload::default()
    };
    assert!(!decode_operations(model, &assignment, &workload).is_empty());
    prompt_attention(model, u64::MAX);
    let settings = KvSettings {
        context: u64::MAX,
        ..KvSettings::default()
    };
    compute(model, &settings, u64::MAX, ComputeBackend::Cuda);
}
