//! Small checkpoints of every kind under the tensor names of the published ones: nothing is missing,
//! nothing is a stranger, towers are counted apart, and the configuration alone gives the same
//! tensors.

use orinplan::checkpoint::StoredTensor;
use orinplan::model::{self, Cache, ModelError, ModelSpec, ServedAlone, TensorRole};
use orinplan::plan::Workload;
use orinplan::plan::operations::decode_operations;
use orinplan::plan::speed::OperationGroup;
use orinplan::scheme::{Rules, Scheme, assign};
use serde_json::{Value as Json, json};

use super::support::{elements, hugging_face, planned, read, tensors};

/// Reads `text` and `beside` as one checkpoint: the text model's weights are all of `text` except
/// `dropped`, each under a role, at the names and shapes that the configuration alone gives.
fn check(config: Json, text: &[(&str, &[u64])], beside: &[(&str, &[u64])]) -> ModelSpec {
    let text = tensors(text);
    let parameters = elements(&text);
    let others: Vec<StoredTensor> = tensors(beside);
    let apart: u64 = others.iter().map(|t| t.bytes.0).sum();
    let bytes: u64 = text.iter().map(|t| t.bytes.0).sum();
    let all = text.into_iter().chain(others).collect();
    let model = read(&hugging_face(config.clone(), all)).unwrap();
    assert_eq!(model.parameters, parameters);
    let towers = model.towers.iter().map(|t| t.bytes.0);
    let left_out = model.left_out.iter().map(|kind| kind.bytes.0);
    assert_eq!(towers.chain(left_out).sum::<u64>(), apart);
    for tensor in &model.tensors {
        assert_ne!(tensor.role, TensorRole::Other, "{}", tensor.name);
    }
    let read_bytes = model.tensors.iter().filter(|t| !t.sources.is_empty());
    assert_eq!(read_bytes.map(|t| t.stored_bytes.0).sum::<u64>(), bytes);

    let alone = planned(&config);
    assert_eq!(alone.parameters, parameters);
    assert_eq!(alone.layers, model.layers);
    assert_eq!(alone.tied, model.tied);
    let mut names = [&alone, &model].map(|m| {
        let tensors = m.tensors.iter().map(|t| (t.name.clone(), t.shape.clone()));
        tensors.collect::<Vec<_>>()
    });
    names.iter_mut().for_each(|names| names.sort());
    assert_eq!(names[0], names[1]);
    model
}

/// The shape of the tensor called `name`.
fn shape<'a>(model: &'a ModelSpec, name: &str) -> &'a [u64] {
    let tensor = model.tensors.iter().find(|t| t.name == name);
    &tensor
        .unwrap_or_else(|| panic!("{name} is not there"))
        .shape
}

const ATTENTION: [(&str, &[u64]); 6] = [
    ("model.layers.{2}.input_layernorm.weight", &[64]),
    ("model.layers.{2}.post_attention_layernorm.weight", &[64]),
    ("model.layers.{2}.self_attn.q_proj.weight", &[64, 64]),
    ("model.layers.{2}.self_attn.k_proj.weight", &[32, 64]),
    ("model.layers.{2}.self_attn.v_proj.weight", &[32, 64]),
    ("model.layers.{2}.self_attn.o_proj.weight", &[64, 64]),
];

const ENDS: [(&str, &[u64]); 2] = [
    ("model.embed_tokens.weight", &[100, 64]),
    ("model.norm.weight", &[64]),
];

const HEAD: (&str, &[u64]) = ("lm_head.weight", &[100, 64]);

/// A configuration with residual width 64, 4 heads of 16, 2 key-value heads and 2 blocks.
fn small(class: &str, model_type: &str, more: Json) -> Json {
    let mut config = json!({
        "architectures": [class], "model_type": model_type, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
        "max_position_embeddings": 512
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn mixtral_numbers_its_experts() {
    let config = small(
        "MixtralForCausalLM",
        "mixtral",
        json!({"num_local_experts": 4, "num_experts_per_tok": 2}),
    );
    let experts: [(&str, &[u64]); 4] = [
        ("model.layers.{2}.block_sparse_moe.gate.weight", &[4, 64]),
        (
            "model.layers.{2}.block_sparse_moe.experts.{4}.w1.weight",
            &[96, 64],
        ),
        (
            "model.layers.{2}.block_sparse_moe.experts.{4}.w2.weight",
            &[64, 96],
        ),
        (
            "model.layers.{2}.block_sparse_moe.experts.{4}.w3.weight",
            &[96, 64],
        ),
    ];
    let all = [&ENDS[..], &[HEAD], &ATTENTION, &experts].concat();
    let model = check(config.clone(), &all, &[]);
    assert_eq!(shape(&model, "blk.1.ffn_down_exps.weight"), [4, 64, 96]);

    let mut short = tensors(&all);
    short.retain(|t| t.name != "model.layers.1.block_sparse_moe.experts.3.w2.weight");
    let error = read(&hugging_face(config, short)).unwrap_err();
    let tensor = "model.layers.1.block_sparse_moe.experts.3.w2.weight".to_owned();
    assert_eq!(error, ModelError::MissingTensor { tensor });
}

#[test]
fn blocks_that_see_images_have_norms_and_gates_of_their_own() {
    let mut text = small(
        "",
        "mllama_text_model",
        json!({"cross_attention_layers": [1]}),
    );
    text.as_object_mut().unwrap().remove("architectures");
    let config = json!({
        "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "text_config": text,
        "vision_config": {"image_size": 28, "patch_size": 14, "max_num_tiles": 4}
    });
    let weights: [(&str, &[u64]); 20] = [
        ("language_model.model.embed_tokens.weight", &[108, 64]),
        ("language_model.model.norm.weight", &[64]),
        ("language_model.lm_head.weight", &[100, 64]),
        (
            "language_model.model.layers.{2}.input_layernorm.weight",
            &[64],
        ),
        (
            "language_model.model.layers.{2}.post_attention_layernorm.weight",
            &[64],
        ),
        (
            "language_model.model.layers.{2}.mlp.gate_proj.weight",
            &[96, 64],
        ),
        (
            "language_model.model.layers.{2}.mlp.up_proj.weight",
            &[96, 64],
        ),
        (
            "language_model.model.layers.{2}.mlp.down_proj.weight",
            &[64, 96],
        ),
        (
            "language_model.model.layers.0.self_attn.q_proj.weight",
            &[64, 64],
        ),
        (
            "language_model.model.layers.0.self_attn.k_proj.weight",
            &[32, 64],
        ),
        (
            "language_model.model.layers.0.self_attn.v_proj.weight",
            &[32, 64],
        ),
        (
            "language_model.model.layers.0.self_attn.o_proj.weight",
            &[64, 64],
        ),
        (
            "language_model.model.layers.1.cross_attn.q_proj.weight",
            &[64, 64],
        ),
        (
            "language_model.model.layers.1.cross_attn.k_proj.weight",
            &[32, 64],
        ),
        (
            "language_model.model.layers.1.cross_attn.v_proj.weight",
            &[32, 64],
        ),
        (
            "language_model.model.layers.1.cross_attn.o_proj.weight",
            &[64, 64],
        ),
        (
            "language_model.model.layers.1.cross_attn.q_norm.weight",
            &[16],
        ),
        (
            "language_model.model.layers.1.cross_attn.k_norm.weight",
            &[16],
        ),
        ("language_model.model.layers.1.cross_attn_attn_gate", &[1]),
        ("language_model.model.layers.1.cross_attn_mlp_gate", &[1]),
    ];
    let beside: [(&str, &[u64]); 3] = [
        ("vision_model.class_embedding", &[8]),
        ("vision_model.global_transformer.layers.0.gate_attn", &[1]),
        ("multi_modal_projector.weight", &[64, 48]),
    ];
    let model = check(config.clone(), &weights, &beside);
    assert_eq!(model.dims.vocab, 100);
    let caches = model
        .layers
        .iter()
        .map(|l| l.mixer.attention.as_ref().unwrap().cache);
    assert_eq!(caches.collect::<Vec<_>>(), [Cache::Own, Cache::Images]);
    let Some(ServedAlone::By(only)) = model::served_alone(&model) else {
        panic!("{model:?}");
    };
    assert_eq!(
        (only.id, only.until, only.image_tokens),
        ("vllm", Some("0.10.2"), Some(20))
    );
    // A block that the model does not have.
    let mut beyond = config;
    beyond["text_config"]["cross_attention_layers"] = json!([2]);
    let error = read(&hugging_face(beyond, Vec::new())).unwrap_err();
    assert!(
        error.to_string().contains("`cross_attention_layers`"),
        "{error}"
    );
}

/// Zamba 2 with five blocks. Transformers come before the second to the fifth, and two take turns: the second and the third block
/// store them, each with the adapters of the two blocks that use it.
#[test]
fn zamba2_shares_its_transformers() {
    let mut config = small(
        "Zamba2ForCausalLM",
        "zamba2",
        json!({
            "head_dim": null, "num_hidden_layers": 5, "num_key_value_heads": 4, "attention_head_dim": 32,
            "layers_block_type": ["mamba", "hybrid", "hybrid", "hybrid", "hybrid"], "num_mem_blocks": 2,
            "adapter_rank": 8, "use_shared_attention_adapter": true, "add_bias_linear": false, "use_conv_bias": true,
            "mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2, "mamba_headdim": 16, "mamba_ngroups": 2,
            "n_mamba_heads": 8, "hidden_act": "gelu", "tie_word_embeddings": true,
        }),
    );
    let mut weights: Vec<(String, Vec<u64>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![100, 64]),
        ("model.final_layernorm.weight".to_owned(), vec![64]),
    ];
    for block in 0..5 {
        let at = match block {
            0 => "model.layers.0.".to_owned(),
            _ => format!("model.layers.{block}.mamba_decoder."),
        };
        for (name, shape) in [
            ("input_layernorm.weight", vec![64]),
            // A gate and what is convolved, which is 128 wide with two groups of `B` and `C`, and a step for each head.
            ("mamba.in_proj.weight", vec![128 + 192 + 8, 64]),
            ("mamba.conv1d.weight", vec![192, 1, 4]),
            ("mamba.conv1d.bias", vec![192]),
            ("mamba.dt_bias", vec![8]),
            ("mamba.A_log", vec![8]),
            ("mamba.D", vec![8]),
            ("mamba.norm.weight", vec![128]),
            ("mamba.out_proj.weight", vec![64, 128]),
        ] {
            weights.push((format!("{at}{name}"), shape));
        }
        if block > 0 {
            let name = format!("model.layers.{block}.linear.weight");
            weights.push((name, vec![64, 64]));
        }
    }
    for (block, adapters) in [(1, [0, 2]), (2, [1, 3])] {
        let at = format!("model.layers.{block}.shared_transformer.");
        for (name, shape) in [
            ("input_layernorm", vec![128]),
            ("self_attn.q_proj", vec![128, 128]),
            ("self_attn.k_proj", vec![128, 128]),
            ("self_attn.v_proj", vec![128, 128]),
            ("self_attn.o_proj", vec![64, 128]),
            ("pre_ff_layernorm", vec![64]),
            ("feed_forward.gate_up_proj", vec![192, 64]),
            ("feed_forward.down_proj", vec![64, 96]),
        ] {
            weights.push((format!("{at}{name}.weight"), shape));
        }
        for adapter in adapters {
            for (list, inputs, outputs) in [
                ("feed_forward.gate_up_proj", 64, 192),
                ("self_attn.linear_q", 128, 128),
                ("self_attn.linear_k", 128, 128),
                ("self_attn.linear_v", 128, 128),
            ] {
                let list = format!("{at}{list}_adapter_list.{adapter}");
                weights.push((format!("{list}.0.weight"), vec![8, inputs]));
                weights.push((format!("{list}.1.weight"), vec![outputs, 8]));
            }
        }
    }
    let listed: Vec<(&str, &[u64])> = weights
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_slice()))
        .collect();
    let model = check(config.clone(), &listed, &[]);
    assert_eq!(shape(&model, "blk.2.attn_q_adapter_b.weight"), [2, 128, 8]);
    assert_eq!(shape(&model, "blk.1.ffn_adapter_a.weight"), [2, 8, 64]);

    // Of an adapter that is not there nothing is made.
    let mut short = tensors(&listed);
    short.retain(|t| !t.name.contains("gate_up_proj_adapter_list.3.1."));
    assert!(read(&hugging_face(config.clone(), short)).is_err());

    // A transformer is read each time that it is used; in F16 a weight has two bytes, and its norms have four.
    let assignment = assign(&model, Scheme::get("f16").unwrap(), Rules::default());
    let workload = Workload::default();
    let operations = decode_operations(&model, &assignment, &workload);
    let of = |group| operations.iter().filter(move |o| o.group == group);
    let macs = |group| of(group).map(|o| o.weights).sum::<u64>();
    let feed = 4 * (192 * 64 + 64 * 96) + 4 * (8 * 64 + 192 * 8);
    assert_eq!(macs(OperationGroup::FeedForward), feed);
    let attends = 4 * (3 * 128 * 128 + 64 * 128) + 4 * 3 * (2 * 8 * 128) + 4 * 64 * 64;
    let mixes = 5 * (328 * 64 + 192 * 4 + 128 * 64);
    let found = macs(OperationGroup::Attention);
    // Tables of numbers for each head count as matrices of one column.
    assert!(
        (attends + mixes..attends + mixes + 1000).contains(&found),
        "{found}"
    );

    for (key, value) in [
        ("num_mem_blocks", json!(5)),
        ("num_mem_blocks", json!(0)),
        ("num_mem_blocks", json!(-1)),
        ("num_mem_blocks", json!([2, 2])),
        ("adapter_rank", json!(0)),
        ("adapter_rank", json!(-8)),
        ("adapter_rank", json!("8")),
        ("adapter_rank", json!(1_u64 << 40)),
        ("use_shared_attention_adapter", json!("true")),
        ("layers_block_type", json!(["m", "g", "g", "g", "g"])),
        ("layers_block_type", json!(["mamba", "hybrid"])),
        ("add_bias_linear", json!(true)),
        ("add_bias_linear", json!("false")),
    ] {
        let stated = std::mem::replace(&mut config[key], value);
        let error = read(&hugging_face(config.clone(), Vec::new())).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
        config[key] = stated;
    }
    let kinds = std::mem::replace(&mut config["layers_block_type"], json!(["mamba"]));
    let error = read(&hugging_face(config.clone(), Vec::new())).unwrap_err();
    assert!(error.to_string().contains("1 kind for 5 blocks"), "{error}");
    config["layers_block_type"] = kinds;

    // Stacks of adapters are not experts, which vLLM loads without zero points only.
    let zeros = Scheme::get("int4_asym").unwrap();
    assert!(orinplan::scheme::symmetric_only(&model, zeros).is_none());

    // The class has one transformer and adapters of rank 128, where a file does not state them.
    for key in ["num_mem_blocks", "adapter_rank"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let model = read(&hugging_face(config, Vec::new())).unwrap();
    assert_eq!(shape(&model, "blk.1.ffn_adapter_a.weight"), [4, 128, 64]);
    assert!(
        model
            .tensors
            .iter()
            .all(|t| t.name != "blk.2.ffn_adapter_a.weight")
    );
}

#[test]
fn deepseek_splits_its_latent_and_leaves_its_prediction_block_apart() {
    let config = small(
        "DeepseekV3ForCausalLM",
        "deepseek_v3",
        json!({
            "head_dim": null, "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 32,
            "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
            "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
            "moe_intermediate_size": 40, "num_experts_per_tok": 2, "num_nextn_predict_layers": 1
        }),
    );
    let blocks: [(&str, &[u64]); 9] = [
        ("model.layers.{2}.input_layernorm.weight", &[64]),
        ("model.layers.{2}.post_attention_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.q_a_proj.weight", &[24, 64]),
        ("model.layers.{2}.self_attn.q_a_layernorm.weight", &[24]),
        ("model.layers.{2}.self_attn.q_b_proj.weight", &[4 * 24, 24]),
        (
            "model.layers.{2}.self_attn.kv_a_proj_with_mqa.weight",
            &[40, 64],
        ),
        ("model.layers.{2}.self_attn.kv_a_layernorm.weight", &[32]),
        ("model.layers.{2}.self_attn.kv_b_proj.weight", &[4 * 28, 32]),
        ("model.layers.{2}.self_attn.o_proj.weight", &[64, 48]),
    ];
    let feed_forwards: [(&str, &[u64]); 11] = [
        ("model.layers.0.mlp.gate_proj.weight", &[96, 64]),
        ("model.layers.0.mlp.up_proj.weight", &[96, 64]),
        ("model.layers.0.mlp.down_proj.weight", &[64, 96]),
        ("model.layers.1.mlp.gate.weight", &[4, 64]),
        ("model.layers.1.mlp.gate.e_score_correction_bias", &[4]),
        ("model.layers.1.mlp.experts.{4}.gate_proj.weight", &[40, 64]),
        ("model.layers.1.mlp.experts.{4}.up_proj.weight", &[40, 64]),
        ("model.layers.1.mlp.experts.{4}.down_proj.weight", &[64, 40]),
        (
            "model.layers.1.mlp.shared_experts.gate_proj.weight",
            &[40, 64],
        ),
        (
            "model.layers.1.mlp.shared_experts.up_proj.weight",
            &[40, 64],
        ),
        (
            "model.layers.1.mlp.shared_experts.down_proj.weight",
            &[64, 40],
        ),
    ];
    let prediction: [(&str, &[u64]); 4] = [
        ("model.layers.2.eh_proj.weight", &[64, 128]),
        ("model.layers.2.embed_tokens.weight", &[100, 64]),
        ("model.layers.2.mlp.experts.{4}.gate_proj.weight", &[40, 64]),
        ("model.layers.2.shared_head.head.weight", &[100, 64]),
    ];
    let all = [&ENDS[..], &[HEAD], &blocks, &feed_forwards].concat();
    let model = check(config, &all, &prediction);
    assert_eq!(model.left_out[0].name, "multi-token prediction head");
    assert_eq!(shape(&model, "blk.0.attn_k_b.weight"), [4, 32, 16]);
    assert_eq!(shape(&model, "blk.0.attn_v_b.weight"), [4, 12, 32]);
    assert_eq!(shape(&model, "blk.1.exp_probs_b.bias"), [4]);
}

#[test]
fn granite_experts_are_fused_stacks() {
    let config = small(
        "GraniteMoeSharedForCausalLM",
        "granitemoeshared",
        json!({
            "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 48,
            "tie_word_embeddings": true
        }),
    );
    let experts: [(&str, &[u64]); 5] = [
        (
            "model.layers.{2}.block_sparse_moe.router.layer.weight",
            &[4, 64],
        ),
        (
            "model.layers.{2}.block_sparse_moe.input_linear.weight",
            &[4, 192, 64],
        ),
        (
            "model.layers.{2}.block_sparse_moe.output_linear.weight",
            &[4, 64, 96],
        ),
        ("model.layers.{2}.shared_mlp.input_linear.weight", &[96, 64]),
        (
            "model.layers.{2}.shared_mlp.output_linear.weight",
            &[64, 48],
        ),
    ];
    let model = check(config, &[&ENDS[..], &ATTENTION, &experts].concat(), &[]);
    assert_eq!(shape(&model, "blk.0.ffn_gate_exps.weight"), [4, 96, 64]);
    assert_eq!(shape(&model, "blk.0.ffn_up_shexp.weight"), [48, 64]);
}

#[test]
fn qwen2_moe_has_a_gate_on_its_shared_expert() {
    let config = small(
        "Qwen2MoeForCausalLM",
        "qwen2_moe",
        json!({
            "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 48
        }),
    );
    let rest: [(&str, &[u64]); 11] = [
        ("model.layers.{2}.self_attn.q_proj.bias", &[64]),
        ("model.layers.{2}.self_attn.k_proj.bias", &[32]),
        ("model.layers.{2}.self_attn.v_proj.bias", &[32]),
        ("model.layers.{2}.mlp.gate.weight", &[4, 64]),
        (
            "model.layers.{2}.mlp.experts.{4}.gate_proj.weight",
            &[24, 64],
        ),
        ("model.layers.{2}.mlp.experts.{4}.up_proj.weight", &[24, 64]),
        (
            "model.layers.{2}.mlp.experts.{4}.down_proj.weight",
            &[64, 24],
        ),
        (
            "model.layers.{2}.mlp.shared_expert.gate_proj.weight",
            &[48, 64],
        ),
        (
            "model.layers.{2}.mlp.shared_expert.up_proj.weight",
            &[48, 64],
        ),
        (
            "model.layers.{2}.mlp.shared_expert.down_proj.weight",
            &[64, 48],
        ),
        ("model.layers.{2}.mlp.shared_expert_gate.weight", &[1, 64]),
    ];
    let model = check(
        config,
        &[&ENDS[..], &[HEAD], &ATTENTION, &rest].concat(),
        &[],
    );
    assert_eq!(shape(&model, "blk.1.ffn_gate_inp_shexp.weight"), [1, 64]);
}

#[test]
fn phi_3_is_fused() {
    let config = small("Phi3ForCausalLM", "phi3", json!({"num_key_value_heads": 4}));
    let blocks: [(&str, &[u64]); 6] = [
        ("model.layers.{2}.input_layernorm.weight", &[64]),
        ("model.layers.{2}.post_attention_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.qkv_proj.weight", &[192, 64]),
        ("model.layers.{2}.self_attn.o_proj.weight", &[64, 64]),
        ("model.layers.{2}.mlp.gate_up_proj.weight", &[192, 64]),
        ("model.layers.{2}.mlp.down_proj.weight", &[64, 96]),
    ];
    check(config, &[&ENDS[..], &[HEAD], &blocks].concat(), &[]);
}

#[test]
fn glm_4_has_four_norms_and_a_fused_gate() {
    let config = small("Glm4ForCausalLM", "glm4", json!({"attention_bias": true}));
    let rest: [(&str, &[u64]); 7] = [
        ("model.layers.{2}.self_attn.q_proj.bias", &[64]),
        ("model.layers.{2}.self_attn.k_proj.bias", &[32]),
        ("model.layers.{2}.self_attn.v_proj.bias", &[32]),
        ("model.layers.{2}.post_self_attn_layernorm.weight", &[64]),
        ("model.layers.{2}.post_mlp_layernorm.weight", &[64]),
        ("model.layers.{2}.mlp.gate_up_proj.weight", &[192, 64]),
        ("model.layers.{2}.mlp.down_proj.weight", &[64, 96]),
    ];
    check(
        config,
        &[&ENDS[..], &[HEAD], &ATTENTION, &rest].concat(),
        &[],
    );
}

#[test]
fn olmo_2_normalizes_the_whole_query() {
    let config = small("Olmo2ForCausalLM", "olmo2", json!({}));
    let rest: [(&str, &[u64]); 6] = [
        ("model.layers.{2}.post_feedforward_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.q_norm.weight", &[64]),
        ("model.layers.{2}.self_attn.k_norm.weight", &[32]),
        ("model.layers.{2}.mlp.gate_proj.weight", &[96, 64]),
        ("model.layers.{2}.mlp.up_proj.weight", &[96, 64]),
        ("model.layers.{2}.mlp.down_proj.weight", &[64, 96]),
    ];
    // No norm before attention.
    check(
        config,
        &[&ENDS[..], &[HEAD], &ATTENTION[1..], &rest].concat(),
        &[],
    );
}

const GATED: [(&str, &[u64]); 3] = [
    ("model.layers.{2}.mlp.gate_proj.weight", &[96, 64]),
    ("model.layers.{2}.mlp.up_proj.weight", &[96, 64]),
    ("model.layers.{2}.mlp.down_proj.weight", &[64, 96]),
];

/// `rows` with `from` in front of their names replaced by `to`.
fn prefixed<'a>(
    rows: &[(&str, &'a [u64])],
    from: &str,
    to: &str,
) -> Vec<(&'static str, &'a [u64])> {
    let renamed = |name: &str| match name.strip_prefix(from) {
        Some(rest) => format!("{to}{rest}"),
        None => name.to_owned(),
    };
    let leaked = rows
        .iter()
        .map(|(name, shape)| (&*renamed(name).leak(), *shape));
    leaked.collect()
}

/// A multimodal configuration around the text configuration `text`.
fn wrapped(class: &str, model_type: &str, text: Json) -> Json {
    let mut text = text;
    text.as_object_mut().unwrap().remove("architectures");
    json!({"architectures": [class], "model_type": model_type, "text_config": text,
           "vision_config": {"hidden_size": 32, "num_hidden_layers": 1}})
}

#[test]
fn mistral_3_and_llava_keep_their_towers_apart() {
    let towers: [(&str, &[u64]); 3] = [
        (
            "vision_tower.transformer.layers.{2}.attention.q_proj.weight",
            &[32, 32],
        ),
        ("vision_tower.patch_conv.weight", &[32, 3, 14, 14]),
        ("multi_modal_projector.linear_1.weight", &[64, 32]),
    ];
    let text = [&ENDS[..], &[HEAD], &ATTENTION, &GATED].concat();
    let before = prefixed(&text, "model.", "language_model.model.");
    let before = prefixed(&before, "lm_head", "language_model.lm_head");
    for (class, name, architecture) in [
        ("Mistral3ForConditionalGeneration", "mistral3", "mistral3"),
        ("LlavaForConditionalGeneration", "llava", "llama"),
    ] {
        let config = wrapped(class, name, small("", "mistral", json!({})));
        let model = check(config.clone(), &before, &towers);
        assert_eq!(model.architecture, architecture);
        let names: Vec<&str> = model.towers.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["vision tower", "projector"]);
        // Newer checkpoints have the parts the other way round.
        let after = prefixed(&text, "model.", "model.language_model.");
        let towers = prefixed(&towers, "", "model.");
        check(config, &after, &towers);
    }
}

#[test]
fn gemma_3_with_its_tower() {
    let text = small("", "gemma3_text", json!({"sliding_window": 32}));
    let config = wrapped("Gemma3ForConditionalGeneration", "gemma3", text);
    let rest: [(&str, &[u64]); 4] = [
        ("model.layers.{2}.pre_feedforward_layernorm.weight", &[64]),
        ("model.layers.{2}.post_feedforward_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.q_norm.weight", &[16]),
        ("model.layers.{2}.self_attn.k_norm.weight", &[16]),
    ];
    let all = [&ENDS[..], &ATTENTION, &GATED, &rest].concat();
    let towers: [(&str, &[u64]); 2] = [
        (
            "vision_tower.vision_model.embeddings.patch_embedding.weight",
            &[32, 3, 14, 14],
        ),
        (
            "multi_modal_projector.mm_input_projection_weight",
            &[32, 64],
        ),
    ];
    check(
        config,
        &prefixed(&all, "model.", "language_model.model."),
        &towers,
    );
}

#[test]
fn qwen_vl_with_its_tower() {
    let towers: [(&str, &[u64]); 2] = [
        ("model.visual.blocks.{2}.attn.qkv.weight", &[96, 32]),
        ("model.visual.merger.linear_fc1.weight", &[64, 32]),
    ];
    let norms: [(&str, &[u64]); 2] = [
        ("model.layers.{2}.self_attn.q_norm.weight", &[16]),
        ("model.layers.{2}.self_attn.k_norm.weight", &[16]),
    ];
    let dense = [&ENDS[..], &[HEAD], &ATTENTION, &GATED, &norms].concat();
    let config = wrapped(
        "Qwen3VLForConditionalGeneration",
        "qwen3_vl",
        small("", "qwen3_vl_text", json!({})),
    );
    let model = check(
        config,
        &prefixed(&dense, "model.", "model.language_model."),
        &towers,
    );
    assert_eq!(model.architecture, "qwen3vl");

    // Its experts are fused stacks, each matrix transposed.
    let experts: [(&str, &[u64]); 3] = [
        ("model.layers.{2}.mlp.gate.weight", &[4, 64]),
        ("model.layers.{2}.mlp.experts.gate_up_proj", &[4, 64, 48]),
        ("model.layers.{2}.mlp.experts.down_proj", &[4, 24, 64]),
    ];
    let routed = [&ENDS[..], &[HEAD], &ATTENTION, &norms, &experts].concat();
    let text = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24});
    let config = wrapped(
        "Qwen3VLMoeForConditionalGeneration",
        "qwen3_vl_moe",
        small("", "qwen3_vl_moe_text", text),
    );
    let model = check(
        config,
        &prefixed(&routed, "model.", "model.language_model."),
        &towers,
    );
    assert_eq!(shape(&model, "blk.0.ffn_up_exps.weight"), [4, 24, 64]);

    // Qwen2.5-VL states its text part at the top level and has no part in its names.
    let biases: [(&str, &[u64]); 3] = [
        ("model.layers.{2}.self_attn.q_proj.bias", &[64]),
        ("model.layers.{2}.self_attn.k_proj.bias", &[32]),
        ("model.layers.{2}.self_attn.v_proj.bias", &[32]),
    ];
    let old = [&ENDS[..], &[HEAD], &ATTENTION, &GATED, &biases].concat();
    let config = small(
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2_5_vl",
        json!({}),
    );
    check(
        config,
        &old,
        &[("visual.blocks.{2}.attn.qkv.weight", &[96, 32])],
    );

    // Qwen2.5-Omni's text model is a part of what thinks; what speaks is left out.
    let text = prefixed(&old, "model.", "thinker.model.");
    let text = prefixed(&text, "lm_head.", "thinker.lm_head.");
    let mut part = small("", "qwen2_5_omni_text", json!({}));
    part.as_object_mut().unwrap().remove("architectures");
    let beside: [(&str, &[u64]); 5] = [
        ("thinker.visual.blocks.{2}.attn.q.weight", &[32, 32]),
        ("thinker.audio_tower.layers.{2}.fc1.weight", &[64, 32]),
        ("talker.model.embed_tokens.weight", &[48, 64]),
        ("talker.model.layers.{2}.self_attn.q_proj.weight", &[64, 64]),
        ("token2wav.code2wav_dit_model.proj_out.weight", &[80, 32]),
    ];
    for class in ["Qwen2_5OmniModel", "Qwen2_5OmniForConditionalGeneration"] {
        let config = json!({
            "architectures": [class], "model_type": "qwen2_5_omni",
            "thinker_config": {
                "text_config": part, "vision_config": {"hidden_size": 32}, "audio_config": {"d_model": 32}
            },
            "talker_config": {"hidden_size": 64, "vocab_size": 48}
        });
        let model = check(config, &text, &beside);
        assert_eq!(model.architecture, "qwen2vl");
        let towers: Vec<&str> = model.towers.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(towers, ["vision tower", "audio tower"]);
        let left_out = &model.left_out[0];
        assert_eq!((left_out.name, left_out.tensors), ("speech output", 4));
    }
}

const GEMMA4_BLOCK: [(&str, &[u64]); 9] = [
    (
        "model.language_model.layers.{3}.input_layernorm.weight",
        &[64],
    ),
    (
        "model.language_model.layers.{3}.post_attention_layernorm.weight",
        &[64],
    ),
    (
        "model.language_model.layers.{3}.pre_feedforward_layernorm.weight",
        &[64],
    ),
    (
        "model.language_model.layers.{3}.post_feedforward_layernorm.weight",
        &[64],
    ),
    ("model.language_model.layers.{3}.layer_scalar", &[1]),
    // Two windowed blocks; the third sees the whole context with wider heads.
    (
        "model.language_model.layers.{2}.self_attn.q_proj.weight",
        &[64, 64],
    ),
    (
        "model.language_model.layers.{2}.self_attn.k_proj.weight",
        &[32, 64],
    ),
    (
        "model.language_model.layers.{2}.self_attn.v_proj.weight",
        &[32, 64],
    ),
    (
        "model.language_model.layers.{2}.self_attn.o_proj.weight",
        &[64, 64],
    ),
];

const GEMMA4_NORMS: [(&str, &[u64]); 6] = [
    (
        "model.language_model.layers.{2}.self_attn.q_norm.weight",
        &[16],
    ),
    (
        "model.language_model.layers.{2}.self_attn.k_norm.weight",
        &[16],
    ),
    (
        "model.language_model.layers.2.self_attn.q_norm.weight",
        &[32],
    ),
    (
        "model.language_model.layers.2.self_attn.k_norm.weight",
        &[32],
    ),
    ("model.language_model.embed_tokens.weight", &[100, 64]),
    ("model.language_model.norm.weight", &[64]),
];

fn gemma4(more: Json) -> Json {
    let mut text = json!({
        "model_type": "gemma4_text", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "global_head_dim": 32, "vocab_size": 100, "sliding_window": 32,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 0
    });
    for (key, value) in more.as_object().unwrap() {
        text[key] = value.clone();
    }
    json!({"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
           "text_config": text})
}

#[test]
fn gemma_4_routes_beside_its_dense_feed_forward() {
    let config = gemma4(json!({
        "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24,
        "attention_k_eq_v": true, "num_global_key_value_heads": 1
    }));
    let rest: [(&str, &[u64]); 14] = [
        (
            "model.language_model.layers.2.self_attn.q_proj.weight",
            &[128, 64],
        ),
        (
            "model.language_model.layers.2.self_attn.k_proj.weight",
            &[32, 64],
        ),
        (
            "model.language_model.layers.2.self_attn.o_proj.weight",
            &[64, 128],
        ),
        (
            "model.language_model.layers.{3}.mlp.gate_proj.weight",
            &[96, 64],
        ),
        (
            "model.language_model.layers.{3}.mlp.up_proj.weight",
            &[96, 64],
        ),
        (
            "model.language_model.layers.{3}.mlp.down_proj.weight",
            &[64, 96],
        ),
        (
            "model.language_model.layers.{3}.router.proj.weight",
            &[4, 64],
        ),
        ("model.language_model.layers.{3}.router.scale", &[64]),
        (
            "model.language_model.layers.{3}.router.per_expert_scale",
            &[4],
        ),
        (
            "model.language_model.layers.{3}.experts.gate_up_proj",
            &[4, 48, 64],
        ),
        (
            "model.language_model.layers.{3}.experts.down_proj",
            &[4, 64, 24],
        ),
        (
            "model.language_model.layers.{3}.post_feedforward_layernorm_1.weight",
            &[64],
        ),
        (
            "model.language_model.layers.{3}.pre_feedforward_layernorm_2.weight",
            &[64],
        ),
        (
            "model.language_model.layers.{3}.post_feedforward_layernorm_2.weight",
            &[64],
        ),
    ];
    let towers: [(&str, &[u64]); 2] = [
        (
            "model.vision_tower.encoder.layers.{2}.self_attn.q_proj.linear.weight",
            &[32, 32],
        ),
        ("model.embed_vision.embedding_projection.weight", &[64, 32]),
    ];
    let all = [&GEMMA4_BLOCK[..], &GEMMA4_NORMS, &rest].concat();
    let model = check(config, &all, &towers);
    assert_eq!(shape(&model, "blk.2.ffn_gate_up_exps.weight"), [4, 48, 64]);
    assert_eq!(shape(&model, "blk.2.ffn_down_exps.scale"), [4]);
    assert_eq!(shape(&model, "blk.2.ffn_gate_inp.scale"), [64]);
    assert!(
        model
            .tensors
            .iter()
            .all(|t| t.name != "blk.2.attn_v.weight")
    );
    assert_eq!(model.towers.len(), 2);
}

#[test]
fn gemma_4_embeds_per_layer_and_widens_what_shares_a_cache() {
    let config = gemma4(json!({
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        "num_kv_shared_layers": 1, "use_double_wide_mlp": true, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 100
    }));
    let p = |name: &str| -> &'static str { format!("model.language_model.{name}").leak() };
    let rows: Vec<(&str, &[u64])> = vec![
        (p("layers.0.self_attn.q_proj.weight"), &[64, 64]),
        (p("layers.0.self_attn.k_proj.weight"), &[32, 64]),
        (p("layers.0.self_attn.v_proj.weight"), &[32, 64]),
        (p("layers.0.self_attn.o_proj.weight"), &[64, 64]),
        (p("layers.0.self_attn.q_norm.weight"), &[16]),
        (p("layers.0.self_attn.k_norm.weight"), &[16]),
        (p("layers.1.self_attn.q_proj.weight"), &[128, 64]),
        (p("layers.1.self_attn.k_proj.weight"), &[64, 64]),
        (p("layers.1.self_attn.v_proj.weight"), &[64, 64]),
        (p("layers.1.self_attn.o_proj.weight"), &[64, 128]),
        (p("layers.1.self_attn.q_norm.weight"), &[32]),
        (p("layers.1.self_attn.k_norm.weight"), &[32]),
        (p("layers.2.self_attn.q_proj.weight"), &[128, 64]),
        (p("layers.2.self_attn.k_proj.weight"), &[64, 64]),
        (p("layers.2.self_attn.v_proj.weight"), &[64, 64]),
        (p("layers.2.self_attn.o_proj.weight"), &[64, 128]),
        (p("layers.2.self_attn.q_norm.weight"), &[32]),
        (p("layers.2.self_attn.k_norm.weight"), &[32]),
        (p("layers.{2}.mlp.gate_proj.weight"), &[96, 64]),
        (p("layers.{2}.mlp.up_proj.weight"), &[96, 64]),
        (p("layers.{2}.mlp.down_proj.weight"), &[64, 96]),
        (p("layers.2.mlp.gate_proj.weight"), &[192, 64]),
        (p("layers.2.mlp.up_proj.weight"), &[192, 64]),
        (p("layers.2.mlp.down_proj.weight"), &[64, 192]),
        (p("layers.{3}.per_layer_input_gate.weight"), &[8, 64]),
        (p("layers.{3}.per_layer_projection.weight"), &[64, 8]),
        (p("layers.{3}.post_per_layer_input_norm.weight"), &[64]),
        (p("embed_tokens_per_layer.weight"), &[100, 24]),
        (p("per_layer_model_projection.weight"), &[24, 64]),
        (p("per_layer_projection_norm.weight"), &[8]),
    ];
    let all = [&GEMMA4_BLOCK[..5], &GEMMA4_NORMS[4..], &rows].concat();
    check(config.clone(), &all, &[]);

    // Transformers saves no keys and values for a block that reuses another's: they may be missing.
    let mut saved = tensors(&all);
    saved.retain(|t| {
        !["k_proj.weight", "v_proj.weight", "k_norm.weight"]
            .iter()
            .any(|end| t.name.ends_with(&format!("layers.2.self_attn.{end}")))
    });
    let count = elements(&saved);
    assert_eq!(
        read(&hugging_face(config, saved)).unwrap().parameters,
        count
    );
}

#[test]
fn a_wrapper_is_known_by_its_text_part() {
    // Mistral Small 4 comes in the wrapper of Mistral Small 3.1, with latent attention inside.
    let text = small("", "mistral4", json!({}));
    let config = wrapped("Mistral3ForConditionalGeneration", "mistral3", text);
    let error = read(&hugging_face(config, Vec::new())).unwrap_err();
    assert!(
        matches!(&error, ModelError::UnknownArchitecture { name, .. } if name == "mistral4"),
        "{error}"
    );
}

#[test]
fn unknown_architectures_name_the_nearest() {
    for (class, nearest) in [
        ("DeepseekV32ForCausalLM", Some("deepseek2")),
        ("MiMoForCausalLM", None),
        ("RwkvForCausalLM", Some("rwkv7")),
    ] {
        let error = read(&hugging_face(small(class, "other", json!({})), Vec::new()));
        let expected = ModelError::UnknownArchitecture {
            weights: orinplan::units::Bytes(0),
            name: class.to_owned(),
            nearest,
        };
        assert_eq!(error.unwrap_err(), expected);
    }
}

#[test]
fn a_tied_model_may_store_either_name() {
    let config = |tied: bool| {
        small(
            "LlamaForCausalLM",
            "llama",
            json!({"tie_word_embeddings": tied}),
        )
    };
    let body = [&ENDS[1..], &ATTENTION, &GATED].concat();
    let embedding: (&str, &[u64]) = ("model.embed_tokens.weight", &[100, 64]);
    check(config(true), &[&body[..], &[embedding]].concat(), &[]);
    let only_head = check(config(true), &[&body[..], &[HEAD]].concat(), &[]);
    assert_eq!(shape(&only_head, "token_embd.weight"), [100, 64]);
    assert!(only_head.tied);
    let untied = check(
        config(false),
        &[&body[..], &[embedding, HEAD]].concat(),
        &[],
    );
    assert!(!untied.tied);
    // A shared matrix that is stored twice counts once.
    let both = tensors(&[&body[..], &[embedding, HEAD]].concat());
    let model = read(&hugging_face(config(true), both)).unwrap();
    assert_eq!(model.parameters, only_head.parameters);
}

#[test]
fn weights_of_another_model_are_an_error() {
    let config = small("LlamaForCausalLM", "llama", json!({}));
    let all = [&ENDS[..], &[HEAD], &ATTENTION, &GATED].concat();
    let stored = |name: &str, shape: &[u64]| {
        let mut all = tensors(&all);
        let wrong = all.iter_mut().find(|t| t.name == name).unwrap();
        wrong.shape = shape.to_vec();
        read(&hugging_face(config.clone(), all))
    };
    for shape in [[96, 65], [95, 64], [64, 96], [u64::MAX, 1], [0, 0]] {
        let error = stored("model.layers.1.mlp.up_proj.weight", &shape).unwrap_err();
        let named = "model.layers.1.mlp.up_proj.weight";
        assert!(
            matches!(&error, ModelError::ShapeMismatch { tensor, .. } if tensor == named),
            "{error}"
        );
    }
    let mut missing = tensors(&all);
    missing.retain(|t| t.name != "model.layers.1.self_attn.o_proj.weight");
    let error = read(&hugging_face(config, missing)).unwrap_err();
    let tensor = "model.layers.1.self_attn.o_proj.weight".to_owned();
    assert_eq!(error, ModelError::MissingTensor { tensor });
}

#[test]
fn hostile_configurations_are_errors() {
    let base = |more: Json| {
        let mut config = small(
            "Gemma4ForCausalLM",
            "gemma4_text",
            json!({"sliding_window": 32}),
        );
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config
    };
    for more in [
        json!({"num_hidden_layers": 0}),
        json!({"num_hidden_layers": 1e12}),
        json!({"num_attention_heads": -1}),
        json!({"num_attention_heads": 0}),
        json!({"intermediate_size": "wide"}),
        json!({"hidden_size": null}),
        json!({"num_experts": 1.5}),
        json!({"layer_types": []}),
        json!({"layer_types": [1, 2]}),
        json!({"rope_parameters": 7}),
    ] {
        assert!(
            read(&hugging_face(base(more.clone()), Vec::new())).is_err(),
            "{more}"
        );
    }
    // Strange, but nothing to stumble over.
    for more in [
        json!({"num_kv_shared_layers": 1000}),
        json!({"per_layer_config": [null, {"head_dim": -3}]}),
        json!({"intermediate_size": [96]}),
        json!({"sliding_window": 0}),
    ] {
        assert!(
            read(&hugging_face(base(more.clone()), Vec::new())).is_ok(),
            "{more}"
        );
    }
}

#[test]
fn shapes_tell_what_the_configuration_leaves_out() {
    // A head of 32 where the class's default is 128 and the share of the residual width is 16.
    let config = small(
        "Qwen3ForCausalLM",
        "qwen3",
        json!({"head_dim": 32, "tie_word_embeddings": true}),
    );
    let weights = tensors(&[
        ("model.embed_tokens.weight", &[100, 64][..]),
        ("model.norm.weight", &[64]),
        ("model.layers.{2}.input_layernorm.weight", &[64]),
        ("model.layers.{2}.post_attention_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.q_proj.weight", &[128, 64]),
        ("model.layers.{2}.self_attn.k_proj.weight", &[64, 64]),
        ("model.layers.{2}.self_attn.v_proj.weight", &[64, 64]),
        ("model.layers.{2}.self_attn.o_proj.weight", &[64, 128]),
        ("model.layers.{2}.self_attn.q_norm.weight", &[32]),
        ("model.layers.{2}.self_attn.k_norm.weight", &[32]),
        ("model.layers.{2}.mlp.gate_proj.weight", &[96, 64]),
        ("model.layers.{2}.mlp.up_proj.weight", &[96, 64]),
        ("model.layers.{2}.mlp.down_proj.weight", &[64, 96]),
    ]);
    let full = read(&hugging_face(config.clone(), weights.clone())).unwrap();
    for key in [
        "head_dim",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
    ] {
        let mut left = config.clone();
        left.as_object_mut().unwrap().remove(key);
        let found = read(&hugging_face(left.clone(), weights.clone())).unwrap();
        assert_eq!(
            (&found.layers, &found.dims),
            (&full.layers, &full.dims),
            "{key}"
        );
        // Stated and stored otherwise is an error, whichever is wrong.
        left[key] = json!(config[key].as_u64().unwrap() * 2);
        if key != "vocab_size" {
            assert!(read(&hugging_face(left, weights.clone())).is_err(), "{key}");
        }
    }
}

#[test]
fn another_models_arithmetic_is_refused_by_name() {
    for (class, model_type, more, says) in [
        (
            "Qwen3ForCausalLM",
            "qwen3",
            json!({"hidden_act": "gelu"}),
            "`hidden_act` is `gelu`",
        ),
        (
            "LlamaForCausalLM",
            "llama",
            json!({"hidden_act": "relu2"}),
            "computes silu",
        ),
        (
            "Gemma2ForCausalLM",
            "gemma2",
            json!({"hidden_activation": "relu", "sliding_window": 64}),
            "gelu_pytorch_tanh",
        ),
        (
            "LlamaForCausalLM",
            "llama",
            json!({"rope_scaling": {"rope_type": "spiral", "factor": 2.0}}),
            "type `spiral`",
        ),
        (
            "LlamaForCausalLM",
            "llama",
            json!({"rope_scaling": {"factor": 2.0}}),
            "rope_scaling.rope_type",
        ),
        (
            "Phi3ForCausalLM",
            "phi3",
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}),
            "rope_scaling.long_factor",
        ),
    ] {
        let said = read(&hugging_face(small(class, model_type, more), Vec::new())).unwrap_err();
        assert!(said.to_string().contains(says), "{said}");
    }
    let usual = [
        (
            "GemmaForCausalLM",
            "gemma",
            json!({"hidden_act": "gelu", "hidden_activation": null}),
        ),
        (
            "LlamaForCausalLM",
            "llama",
            json!({"hidden_act": "silu", "rope_scaling": null}),
        ),
        (
            "LlamaForCausalLM",
            "llama",
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ),
    ];
    for (class, model_type, more) in usual {
        planned(&small(class, model_type, more));
    }
}
