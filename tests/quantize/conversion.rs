//! What conversion does to weights, architecture by architecture, against the rule written out anew.

use orinplan::Planner;
use serde_json::{Value as Json, json};

use crate::build::{Scratch, Stored, Written, quantize, wave};
use crate::types::llama;

/// The values of a BF16 or F32 tensor.
fn values(written: &Written, name: &str) -> Vec<f32> {
    match written.dtype(name) {
        orinplan::dtype::Dtype::F32 => written.numbers(name),
        _ => {
            let words = written.data(name).chunks(2);
            words
                .map(|w| f32::from_bits(u32::from(u16::from_le_bytes([w[0], w[1]])) << 16))
                .collect()
        }
    }
}

/// Each row of 32 elements holds its own number, a whole one that BF16 holds.
fn row_number(index: usize) -> f32 {
    (index / 32) as f32
}

fn first_of_rows(values: &[f32]) -> Vec<f32> {
    values.chunks(32).map(|row| row[0]).collect()
}

#[test]
fn llama_turns_neighbours() {
    let scratch = Scratch::new();
    let (config, mut tensors) = llama();
    tensors[4].2 = row_number;
    tensors[5].2 = row_number;
    tensors[6].2 = row_number;
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    let pairs = |rows: usize| -> Vec<f32> {
        let heads = (0..rows / 4).map(|head| head as f32 * 4.0);
        heads.flat_map(|h| [h, h + 2.0, h + 1.0, h + 3.0]).collect()
    };
    assert_eq!(
        first_of_rows(&values(&written, "blk.0.attn_q.weight")),
        pairs(32)
    );
    assert_eq!(
        first_of_rows(&values(&written, "blk.0.attn_k.weight")),
        pairs(16)
    );
    let value: Vec<f32> = (0..16).map(|row| row as f32).collect();
    assert_eq!(
        first_of_rows(&values(&written, "blk.0.attn_v.weight")),
        value
    );
}

#[test]
fn biases_of_llama_turn_with_their_rows() {
    let scratch = Scratch::new();
    let (mut config, mut tensors) = llama();
    config["attention_bias"] = json!(true);
    for (part, rows) in [("q", 32), ("k", 16), ("v", 16), ("o", 32)] {
        let name = format!("model.layers.0.self_attn.{part}_proj.bias");
        tensors.push((name, vec![rows], |index| index as f32));
    }
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "q8_0", &output, &[]);
    let written = Written::read(&output);
    assert_eq!(
        written.numbers("blk.0.attn_k.bias")[..8],
        [0., 2., 1., 3., 4., 6., 5., 7.]
    );
    assert_eq!(written.numbers("blk.0.attn_v.bias")[..4], [0., 1., 2., 3.]);
    assert_eq!(written.shape("blk.0.attn_q.bias"), [32]);
}

/// Transformers does not load them, and llama.cpp adds what a file has.
#[test]
fn a_bias_that_the_configuration_denies_is_refused_unless_it_is_zero() {
    let with = |value: fn(usize) -> f32| {
        let scratch = Scratch::new();
        let (mut config, mut tensors) = llama();
        config["attention_bias"] = json!(false);
        let name = "model.layers.0.self_attn.q_proj.bias".to_owned();
        tensors.push((name, vec![32], value));
        let model = scratch.checkpoint(&config, &tensors);
        let planned =
            Planner::open(model.to_str().unwrap()).map(|planner| planner.model().tensors.len());
        planned.map_err(|error| error.to_string())
    };
    let refused = with(|index| index as f32).unwrap_err();
    for said in [
        "q_proj.bias` is stored",
        "`attention_bias` false",
        "set `attention_bias` to true",
    ] {
        assert!(refused.contains(said), "{refused}");
    }
    let without = llama().1.len();
    assert_eq!(with(|_| 0.0), Ok(without));
}

#[test]
fn llama_3_gets_its_stretched_frequencies() {
    let scratch = Scratch::new();
    let (mut config, tensors) = llama();
    // Eight elements a head: wave lengths 2 pi theta^(0, 1/4, 1/2, 3/4).
    config["num_attention_heads"] = json!(4);
    config["num_key_value_heads"] = json!(2);
    config["rope_theta"] = json!(500000.0);
    config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    assert_eq!(written.names()[0], "rope_freqs.weight");
    let factors = written.numbers("rope_freqs.weight");
    // 6.3, 167 and 4443 against 2048 and 8192; 118141 is beyond. For 4443: smooth is
    // (8192 / 4442.88 - 1) / 3 = 0.281283, the factor 1 / ((1 - smooth) / 8 + smooth) = 2.694529.
    assert_eq!(factors.len(), 4);
    assert_eq!(factors[..2], [1.0, 1.0]);
    assert!((factors[2] - 2.694529).abs() < 1e-4, "{factors:?}");
    assert_eq!(factors[3], 8.0);
}

#[test]
fn gemma_multiplies_by_one_more() {
    let scratch = Scratch::new();
    let (mut config, mut tensors) = llama();
    config["architectures"] = json!(["Gemma2ForCausalLM"]);
    config["model_type"] = json!("gemma2");
    config["head_dim"] = json!(4);
    config["sliding_window"] = json!(64);
    config["query_pre_attn_scalar"] = json!(4);
    for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
        tensors.push(
            (format!("model.layers.0.{name}.weight"), vec![32], |index| {
                index as f32
            }),
        );
    }
    tensors[4].2 = row_number;
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    let plus_one: Vec<f32> = (0..32).map(|index| index as f32 + 1.0).collect();
    assert_eq!(written.numbers("blk.0.ffn_norm.weight"), plus_one);
    assert_eq!(written.numbers("blk.0.post_ffw_norm.weight"), plus_one);
    let norm: Vec<f32> = (0..32).map(|index| wave(index) + 1.0).collect();
    assert_eq!(written.numbers("output_norm.weight"), norm);
    let in_place: Vec<f32> = (0..32).map(|row| row as f32).collect();
    assert_eq!(
        first_of_rows(&values(&written, "blk.0.attn_q.weight")),
        in_place
    );
}

pub(crate) fn moe() -> (Json, Vec<Stored>) {
    let (mut config, mut tensors) = llama();
    config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    config["model_type"] = json!("qwen3_moe");
    config["head_dim"] = json!(4);
    config["num_experts"] = json!(3);
    config["num_experts_per_tok"] = json!(2);
    config["moe_intermediate_size"] = json!(2);
    config["decoder_sparse_step"] = json!(1);
    config["norm_topk_prob"] = json!(true);
    tensors.retain(|(name, ..)| !name.contains(".mlp."));
    tensors.push(("model.layers.0.mlp.gate.weight".into(), vec![3, 32], wave));
    for norm in ["q_norm", "k_norm"] {
        tensors.push((
            format!("model.layers.0.self_attn.{norm}.weight"),
            vec![4],
            wave,
        ));
    }
    (config, tensors)
}

#[test]
fn experts_are_stacked_in_order_of_their_numbers() {
    let scratch = Scratch::new();
    let (config, mut tensors) = moe();
    let by_expert: [fn(usize) -> f32; 3] = [|_| 0.0, |_| 1.0, |_| 2.0];
    for expert in [2, 0, 1] {
        for (part, shape) in [("down", [32, 2]), ("gate", [2, 32]), ("up", [2, 32])] {
            let name = format!("model.layers.0.mlp.experts.{expert}.{part}_proj.weight");
            tensors.push((name, shape.to_vec(), by_expert[expert]));
        }
    }
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    assert_eq!(written.shape("blk.0.ffn_gate_exps.weight"), [3, 2, 32]);
    let rows = first_of_rows(&values(&written, "blk.0.ffn_gate_exps.weight"));
    assert_eq!(rows, [0., 0., 1., 1., 2., 2.]);
    assert_eq!(written.shape("blk.0.ffn_down_exps.weight"), [3, 32, 2]);
}

#[test]
fn a_stack_of_gate_and_up_is_taken_apart() {
    let scratch = Scratch::new();
    let (config, mut tensors) = moe();
    let fused = "model.layers.0.mlp.experts.gate_up_proj";
    tensors.push((fused.into(), vec![3, 4, 32], row_number));
    let down = "model.layers.0.mlp.experts.down_proj";
    tensors.push((down.into(), vec![3, 32, 2], wave));
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    let rows = |name| first_of_rows(&values(&written, name));
    assert_eq!(rows("blk.0.ffn_gate_exps.weight"), [0., 1., 4., 5., 8., 9.]);
    assert_eq!(rows("blk.0.ffn_up_exps.weight"), [2., 3., 6., 7., 10., 11.]);
}
