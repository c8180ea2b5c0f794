//! Types other than the scheme's own, and notes about weights that formats cannot hold.

use orinplan::dtype::Dtype;
use serde_json::{Value as Json, json};

use crate::build::{Scratch, Stored, Written, quantize, wave};

#[test]
fn the_first_pattern_that_is_found_decides() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let output = scratch.path("x.gguf");
    let wishes = [
        ["--tensor-type", r"blk\.1\.ffn_down=q6_k"],
        ["--tensor-type", "ffn_(down|up)=q8_0"],
        ["--tensor-type", "norm=q8_0"],
        ["--tensor-type", "nothing_like_it=q8_0"],
        ["--token-embedding-type", "q5_1"],
        ["--output-tensor-type", "f16"],
    ];
    let report = quantize(&model, "q4_k_m", &output, &wishes.concat());
    let written = Written::read(&output);
    for (name, dtype) in [
        ("blk.0.ffn_down.weight", Dtype::Q8_0),
        ("blk.1.ffn_down.weight", Dtype::Q6_K),
        ("blk.0.ffn_up.weight", Dtype::Q8_0),
        ("blk.0.ffn_gate.weight", Dtype::Q4_K),
        ("blk.0.ffn_norm.weight", Dtype::F32),
        ("token_embd.weight", Dtype::Q5_1),
        ("output.weight", Dtype::F16),
    ] {
        assert_eq!(written.dtype(name), dtype, "{name}");
    }
    let unused: Vec<&str> = report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|note| note["code"] == "unused_pattern")
        .filter_map(|note| note["text"].as_str())
        .collect();
    assert_eq!(unused.len(), 2, "{unused:?}");
}

#[test]
fn pure_has_one_type_and_rows_that_do_not_divide_fall_back() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let output = scratch.path("x.gguf");
    quantize(&model, "q4_k_m", &output, &["--pure"]);
    let written = Written::read(&output);
    for tensor in &written.header.tensors {
        let expected = if tensor.shape.len() == 2 {
            Dtype::Q4_K
        } else {
            Dtype::F32
        };
        assert_eq!(tensor.dtype, expected, "{}", tensor.name);
    }
    // Rows of 96 and 160 hold no block of 256.
    let model = scratch.fixture("tiny-qwen3");
    let wish = ["--overwrite", "--tensor-type", "ffn_down=q6_k"];
    let report = quantize(&model, "q4_k_s", &output, &wish);
    let written = Written::read(&output);
    assert_eq!(written.dtype("blk.0.ffn_down.weight"), Dtype::Q8_0);
    assert_eq!(written.dtype("blk.0.attn_q.weight"), Dtype::Q5_0);
    let codes: Vec<&Json> = report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["code"])
        .collect();
    assert_eq!(codes[0], "shape_fallback");
}

/// A Llama of one block, one head of four elements.
pub(crate) fn llama() -> (Json, Vec<Stored>) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 4,
        "intermediate_size": 64, "vocab_size": 40, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "tie_word_embeddings": true,
    });
    let tensor =
        |name: &str, shape: &[usize]| -> Stored { (name.to_owned(), shape.to_vec(), wave) };
    let tensors = vec![
        tensor("model.embed_tokens.weight", &[40, 32]),
        tensor("model.norm.weight", &[32]),
        tensor("model.layers.0.input_layernorm.weight", &[32]),
        tensor("model.layers.0.post_attention_layernorm.weight", &[32]),
        tensor("model.layers.0.self_attn.q_proj.weight", &[32, 32]),
        tensor("model.layers.0.self_attn.k_proj.weight", &[16, 32]),
        tensor("model.layers.0.self_attn.v_proj.weight", &[16, 32]),
        tensor("model.layers.0.self_attn.o_proj.weight", &[32, 32]),
        tensor("model.layers.0.mlp.gate_proj.weight", &[64, 32]),
        tensor("model.layers.0.mlp.up_proj.weight", &[64, 32]),
        tensor("model.layers.0.mlp.down_proj.weight", &[32, 64]),
    ];
    (config, tensors)
}

fn note(report: &Json, code: &str) -> String {
    let notes = report["notes"].as_array().unwrap();
    let found = notes.iter().find(|note| note["code"] == code);
    found.map_or(String::new(), |note| {
        note["text"].as_str().unwrap().to_owned()
    })
}

#[test]
fn weights_that_a_format_cannot_hold_are_named() {
    let scratch = Scratch::new();
    let (config, mut tensors) = llama();
    // The gate has a NaN and an infinity, the second row of up is zero, down is huge in one place.
    tensors[8].2 = |i| match i {
        3 => f32::NAN,
        100 => f32::INFINITY,
        i => wave(i),
    };
    tensors[9].2 = |i| if (32..64).contains(&i) { 0.0 } else { wave(i) };
    tensors[10].2 = |i| if i == 5 { -1e6 } else { wave(i) };
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    let report = quantize(&model, "q8_0", &output, &[]);
    assert!(note(&report, "not_finite").contains("blk.0.ffn_gate.weight (2)"));
    assert!(note(&report, "zero_rows").contains("blk.0.ffn_up.weight (1)"));
    assert_eq!(note(&report, "f16_overflow"), "");
    let written = Written::read(&output);
    // The block with the NaN: its value is 0, its neighbours are what they would be.
    assert_eq!(written.data("blk.0.ffn_gate.weight")[2 + 3], 0);
    assert_eq!(written.data("blk.0.ffn_up.weight")[34..68], [0; 34]);
    assert!(report["relative_rms_error"].as_f64().unwrap().is_finite());

    let report = quantize(&model, "f16", &output, &["--overwrite"]);
    assert!(note(&report, "f16_overflow").contains("blk.0.ffn_down.weight (1)"));
    let written = Written::read(&output);
    assert_eq!(
        written.data("blk.0.ffn_down.weight")[10..12],
        0xfc00u16.to_le_bytes()
    );
}
