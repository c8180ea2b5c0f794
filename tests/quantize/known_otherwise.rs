//! Models that llama.cpp's converter writes as others, or that llama.cpp computes otherwise: what is written is the model, or
//! nothing is, and the message says why.

use orinplan::gguf::Value;
use serde_json::{Value as Json, json};

use crate::build::{Scratch, Stored, Written, error, orinplan, quantize, wave};

fn tensor(name: &str, shape: &[usize]) -> Stored {
    (name.to_owned(), shape.to_vec(), wave)
}

/// A model of 64 tokens, 32 wide, with an attention of whole heads in its one block, and these further weights there.
fn one_block(further: &[(&str, &[usize])]) -> Vec<Stored> {
    let outside = [("embed_tokens", &[64, 32][..]), ("norm", &[32])];
    let outside = outside.map(|(name, shape)| tensor(&format!("model.{name}.weight"), shape));
    let attention = [
        ("input_layernorm", &[32][..]),
        ("post_attention_layernorm", &[32]),
        ("self_attn.q_proj", &[32, 32]),
        ("self_attn.k_proj", &[32, 32]),
        ("self_attn.v_proj", &[32, 32]),
        ("self_attn.o_proj", &[32, 32]),
    ];
    let block = attention.iter().chain(further);
    let block = block.map(|(name, shape)| tensor(&format!("model.layers.0.{name}.weight"), shape));
    outside.into_iter().chain(block).collect()
}

/// What `quantize` says where no GGUF is made.
#[track_caller]
fn refused(scratch: &Scratch, model: &str) -> String {
    let output = scratch.path("x.gguf");
    let output = output.to_str().unwrap();
    error(&["quantize", model, "--scheme", "f16", "--output", output])
}

/// Asserts that no directory of INT4 or FP8 is made of a checkpoint that no runtime loads, and that the message says `why`.
#[track_caller]
fn no_directory(scratch: &Scratch, model: &str, why: &str) {
    let output = scratch.path("directory");
    for scheme in ["fp8", "int4"] {
        let to = output.to_str().unwrap();
        let said = error(&["quantize", model, "--scheme", scheme, "--output", to]);
        assert!(said.contains(why), "{said}");
        assert!(!output.exists());
    }
}

/// A Baichuan of 32 narrow blocks, and its configuration.
fn baichuan(vocab: usize) -> (Json, Vec<Stored>) {
    let config = json!({
        "architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", "hidden_act": "silu", "hidden_size": 16,
        "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 32, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "vocab_size": vocab,
    });
    let mut tensors = vec![
        tensor("model.embed_tokens.weight", &[vocab, 16]),
        tensor("model.norm.weight", &[16]),
        tensor("lm_head.weight", &[vocab, 16]),
    ];
    for block in 0..32 {
        for (name, shape) in [
            ("input_layernorm", &[16][..]),
            ("post_attention_layernorm", &[16]),
            ("self_attn.W_pack", &[48, 16]),
            ("self_attn.o_proj", &[16, 16]),
            ("mlp.gate_proj", &[32, 16]),
            ("mlp.up_proj", &[32, 16]),
            ("mlp.down_proj", &[16, 32]),
        ] {
            let name = format!("model.layers.{block}.{name}.weight");
            tensors.push(tensor(&name, shape));
        }
    }
    (config, tensors)
}

/// Baichuan 2 multiplies with rows of unit length, Baichuan 1 with those that it stores.
#[test]
fn the_head_of_the_second_baichuan_has_rows_of_unit_length() {
    for (vocab, is_second) in [(64, false), (125_696, true)] {
        let scratch = Scratch::new();
        let (config, tensors) = baichuan(vocab);
        let model = scratch.checkpoint(&config, &tensors);
        let output = scratch.path("x.gguf");
        quantize(&model, "f16", &output, &[]);
        let written = Written::read(&output);
        let halves = written.data("output.weight").chunks(2);
        let halves = halves.map(|half| half::f16::from_le_bytes([half[0], half[1]]).to_f32());
        let rows: Vec<f32> = halves.collect();
        for (row, number) in rows.chunks(16).zip(0..).step_by(63) {
            let stored: Vec<f32> = (0..16).map(|column| wave(number * 16 + column)).collect();
            let length = stored.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let length = if is_second { length.sqrt() } else { 1.0 };
            for (found, stored) in row.iter().zip(stored) {
                let expected = f64::from(stored) / length;
                assert!(
                    (f64::from(*found) - expected).abs() <= expected.abs() / 1024.0 + 1e-7,
                    "{found} {expected}"
                );
            }
        }
    }
}

/// llama.cpp knows by the number of blocks whether heads turn.
#[test]
fn a_baichuan_of_another_depth_is_refused() {
    let scratch = Scratch::new();
    let (mut config, tensors) = baichuan(64);
    config["num_hidden_layers"] = json!(31);
    let tensors: Vec<Stored> = tensors
        .into_iter()
        .filter(|(name, ..)| !name.contains(".31."))
        .collect();
    let model = scratch.checkpoint(&config, &tensors);
    let said = refused(&scratch, model.to_str().unwrap());
    assert!(said.contains("`num_hidden_layers` is 31"), "{said}");
}

/// The parameters of Apertus' activations are keys of a GGUF: without one there is no model.
#[test]
fn an_activation_without_a_parameter_is_refused() {
    let config = json!({
        "architectures": ["ApertusForCausalLM"], "model_type": "apertus", "hidden_act": "xielu", "hidden_size": 32,
        "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "vocab_size": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    });
    let all = [
        ("model.embed_tokens.weight", &[64, 32][..]),
        ("model.norm.weight", &[32]),
        ("lm_head.weight", &[64, 32]),
        ("model.layers.0.attention_layernorm.weight", &[32]),
        ("model.layers.0.feedforward_layernorm.weight", &[32]),
        ("model.layers.0.self_attn.q_proj.weight", &[32, 32]),
        ("model.layers.0.self_attn.k_proj.weight", &[32, 32]),
        ("model.layers.0.self_attn.v_proj.weight", &[32, 32]),
        ("model.layers.0.self_attn.o_proj.weight", &[32, 32]),
        ("model.layers.0.self_attn.q_norm.weight", &[16]),
        ("model.layers.0.self_attn.k_norm.weight", &[16]),
        ("model.layers.0.mlp.up_proj.weight", &[64, 32]),
        ("model.layers.0.mlp.down_proj.weight", &[32, 64]),
        ("model.layers.0.mlp.act_fn.alpha_n", &[1]),
        ("model.layers.0.mlp.act_fn.alpha_p", &[1]),
        ("model.layers.0.mlp.act_fn.beta", &[1]),
        ("model.layers.0.mlp.act_fn.eps", &[1]),
    ];
    let tensors: Vec<Stored> = all.map(|(name, shape)| tensor(name, shape)).to_vec();
    for lacking in ["alpha_n", "eps"] {
        let scratch = Scratch::new();
        let others = tensors.iter().filter(|(name, ..)| !name.ends_with(lacking));
        let others: Vec<Stored> = others.cloned().collect();
        let model = scratch.checkpoint(&config, &others);
        let said = refused(&scratch, model.to_str().unwrap());
        let name = format!("`layers.0.mlp.act_fn.{lacking}` is missing");
        assert!(said.contains(&name), "{said}");
    }
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &tensors);
    quantize(&model, "f16", &scratch.path("x.gguf"), &[]);
}

/// A soft cap for which an architecture has no key would be lost without a word.
#[test]
fn a_soft_cap_without_a_key_is_refused() {
    let (mut config, tensors) = crate::types::llama();
    for (name, is_lost) in [
        ("attn_logit_softcapping", true),
        ("final_logit_softcapping", true),
        ("another_number", false),
    ] {
        let scratch = Scratch::new();
        config[name] = json!(30.0);
        let model = scratch.checkpoint(&config, &tensors);
        if is_lost {
            let said = refused(&scratch, model.to_str().unwrap());
            assert!(said.contains(&format!("`{name}` is 30")), "{said}");
            config[name] = Json::Null;
        } else {
            quantize(&model, "f16", &scratch.path("x.gguf"), &[]);
        }
    }
}

/// The blocks of a plain transformer under the names of Llama 4.
fn without_experts() -> (Json, Vec<Stored>) {
    let config = json!({
        "architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "hidden_act": "silu", "hidden_size": 32,
        "head_dim": 16, "intermediate_size": 64, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 0,
        "layer_types": ["full_attention"], "moe_layers": [], "num_attention_heads": 2, "num_hidden_layers": 1,
        "num_key_value_heads": 2, "num_local_experts": 0, "num_experts_per_tok": 0, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "vocab_size": 64,
    });
    let tensors = one_block(&[
        ("feed_forward.gate_proj", &[64, 32]),
        ("feed_forward.up_proj", &[64, 32]),
        ("feed_forward.down_proj", &[32, 64]),
    ]);
    (config, tensors)
}

/// No file, and no plan for llama.cpp: the message says what it does. What reads the checkpoint itself is planned.
#[track_caller]
fn planned_without_llama_cpp((config, tensors): (Json, Vec<Stored>), reason: &str) {
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &tensors);
    let model = model.to_str().unwrap();
    let said = refused(&scratch, model);
    assert!(said.contains(reason), "{said}");
    let words = ["fit", model, "--device", "orin-nano-8gb", "--runtime"];
    let said = error(&[&words[..], &["llama.cpp"]].concat());
    assert!(said.contains(reason), "{said}");
    let (plan, stderr, status) = orinplan(&[&words[..], &["vllm"]].concat());
    assert!(status == 0 && plan.starts_with("FITS"), "{plan} {stderr}");
}

/// llama.cpp runs it as Qwen 3, in which heads are normed with weights and turn by halves.
#[test]
fn a_llama_4_without_experts_becomes_a_qwen_3() {
    let (config, tensors) = without_experts();
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    for name in ["blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"] {
        assert_eq!(written.data(name), 1f32.to_le_bytes().repeat(16), "{name}");
    }
    // Pairs of a head's 16 rows become halves.
    let queries = written.data("blk.0.attn_q.weight");
    let rows = queries.chunks(64).map(|row| [row[0], row[1]]);
    let rows: Vec<[u8; 2]> = rows.collect();
    let first = |row: usize| half::bf16::from_f32(wave(row * 32)).to_le_bytes();
    for (place, source) in [
        (0, 0),
        (1, 2),
        (7, 14),
        (8, 1),
        (15, 15),
        (16, 16),
        (24, 17),
    ] {
        assert_eq!(rows[place], first(source), "{place}");
    }
    let name = Value::String("qwen3".to_owned());
    assert_eq!(written.header.metadata.0[0].1, name);
}

#[test]
fn one_without_norms_is_planned_without_llama_cpp() {
    let (mut config, tensors) = without_experts();
    config["use_qk_norm"] = json!(false);
    planned_without_llama_cpp((config, tensors), "without experts");
}

/// Each is built into llama.cpp, and its file has no place for another.
#[test]
fn values_of_llama_4_that_its_file_loses_are_refused() {
    let text = include_str!("../data/converter/llama4.json");
    let described: Json = serde_json::from_str(text).unwrap();
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(described["tensors"].clone()).unwrap();
    for (key, value, said) in [
        ("use_qk_norm", json!(false), "`use_qk_norm` is false"),
        (
            "attn_temperature_tuning",
            json!(0),
            "`attn_temperature_tuning` is off",
        ),
        ("floor_scale", json!(4096), "`floor_scale` is 4096"),
        ("attn_scale", json!(0.2), "`attn_scale` is 0.2"),
        (
            "attention_chunk_size",
            json!(1024),
            "its window of attention",
        ),
        ("no_rope_layers", json!([1, 1, 0, 1]), "`no_rope_layers`"),
    ] {
        let scratch = Scratch::new();
        let mut config = described["config"].clone();
        config["text_config"][key] = value;
        let zeros = listed.iter().map(|(name, shape)| {
            let bytes = vec![0; shape.iter().product::<usize>() * 2];
            (name.clone(), "BF16", shape.clone(), bytes)
        });
        let model = scratch.stored("model", &config, zeros.collect());
        let found = refused(&scratch, model.to_str().unwrap());
        assert!(found.contains(said), "{key}: {found}");
    }
}

/// BitNet b1.58: one block of the class `class`, whose norms have the names of that class.
fn bitnet(
    [class, kind, activation]: [&str; 3],
    [attention, ffn]: [&str; 2],
) -> (Json, Vec<Stored>) {
    let config = json!({
        "architectures": [class], "model_type": kind, "hidden_act": activation, "hidden_size": 32,
        "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "vocab_size": 64,
    });
    let tensors = one_block(&[
        (attention, &[32]),
        ("mlp.gate_proj", &[64, 32]),
        ("mlp.up_proj", &[64, 32]),
        ("mlp.down_proj", &[32, 64]),
        (ffn, &[64]),
    ]);
    (config, tensors)
}

#[test]
fn a_bitnet_that_squares_a_relu_is_for_no_runtime_here() {
    let names = ["self_attn.attn_sub_norm", "mlp.ffn_sub_norm"];
    let (config, tensors) = bitnet(["BitNetForCausalLM", "bitnet", "relu2"], names);
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &tensors);
    let model = model.to_str().unwrap();
    let said = refused(&scratch, model);
    assert!(
        said.contains("squares a ReLU") && said.contains("bitnet.cpp run it"),
        "{said}"
    );
    assert!(said.contains("(BitNetForCausalLM)"), "{said}");
    for (runtime, why) in [("llama.cpp", "squares a ReLU"), ("vllm", "bitnet.cpp")] {
        let said = error(&["fit", model, "--runtime", runtime]);
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("another --runtime"), "{said}");
    }
    no_directory(&scratch, model, "bitnet.cpp run it");
}

/// Weights are the mean magnitude of their matrix times -1, 0 or 1, whatever the format: TQ2_0 of them loses nothing but what
/// the scale of a block does in 16 bits.
#[test]
fn the_weights_of_the_first_bitnets_have_three_values() {
    let names = ["self_attn.inner_attn_ln", "mlp.ffn_layernorm"];
    let (config, tensors) = bitnet(["BitnetForCausalLM", "llama", "silu"], names);
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    let values = |name: &str| -> Vec<f32> {
        let halves = written.data(name).chunks(2);
        let halves = halves.map(|half| half::bf16::from_le_bytes([half[0], half[1]]).to_f32());
        halves.collect()
    };
    for (name, count) in [("attn_q", 1024), ("attn_output", 1024), ("ffn_down", 2048)] {
        let stored: Vec<f32> = (0..count).map(wave).collect();
        let sum: f64 = stored.iter().map(|x| f64::from(x.abs())).sum();
        let mean = sum / count as f64;
        let found = values(&format!("blk.0.{name}.weight"));
        let nearest = half::bf16::from_f64(mean).to_f32();
        for (found, stored) in found.iter().zip(&stored) {
            let factor = (f64::from(*stored) / mean).round().clamp(-1.0, 1.0) as f32;
            assert_eq!(*found, factor * nearest, "{name} {stored}");
        }
        assert!(found.contains(&0.0) && found.contains(&nearest), "{name}");
    }
    // Others stay as they are.
    let stored = half::bf16::from_f32(wave(5)).to_f32();
    assert_eq!(values("token_embd.weight")[5], stored);
    let plan = ["fit", model.to_str().unwrap(), "--runtime"];
    let (text, stderr, status) = orinplan(&[&plan[..], &["llama.cpp"]].concat());
    assert!(status == 0 && text.starts_with("FITS"), "{text} {stderr}");
    let said = error(&[&plan[..], &["vllm"]].concat());
    assert!(said.contains("only a GGUF of it"), "{said}");
    no_directory(&scratch, model.to_str().unwrap(), "only a GGUF of it");
}

/// The head of BERT's class begins with its pooler, which llama.cpp's converter leaves out: llama.cpp runs both behind the names
/// of RoBERTa's head.
#[test]
fn the_pooler_of_a_bert_that_ranks_is_a_part_of_its_head() {
    let text = include_str!("../data/converter/bert.json");
    let described: Json = serde_json::from_str(text).unwrap();
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(described["tensors"].clone()).unwrap();
    let tensors = listed
        .iter()
        .map(|(name, shape)| tensor(&format!("bert.{name}"), shape));
    let head = [
        tensor("classifier.weight", &[1, 64]),
        tensor("classifier.bias", &[1]),
    ];
    let tensors: Vec<Stored> = tensors.chain(head).collect();
    let mut config = described["config"].clone();
    config["architectures"] = json!(["BertForSequenceClassification"]);
    for (labels, is_reranker) in [
        (json!({"0": "LABEL_0"}), true),
        (json!({"0": "a", "1": "b"}), false),
    ] {
        config["id2label"] = labels;
        let scratch = Scratch::new();
        let model = scratch.checkpoint(&config, &tensors);
        let words = described["files"]["tokenizer.json"].to_string();
        std::fs::write(model.join("tokenizer.json"), words).unwrap();
        let output = scratch.path("x.gguf");
        if !is_reranker {
            assert!(refused(&scratch, model.to_str().unwrap()).contains("a classifier"));
            continue;
        }
        quantize(&model, "bf16", &output, &[]);
        let written = Written::read(&output);
        for (name, shape) in [
            ("cls.weight", &[64, 64][..]),
            ("cls.bias", &[64]),
            ("cls.output.weight", &[1, 64]),
            ("cls.output.bias", &[1]),
        ] {
            assert_eq!(written.shape(name), shape, "{name}");
        }
        let stored = half::bf16::from_f32(wave(9)).to_le_bytes();
        assert_eq!(written.data("cls.weight")[18..20], stored);
        // What is written is read as the same.
        let (plan, stderr, _) = orinplan(&["fit", output.to_str().unwrap(), "--all"]);
        assert!(plan.contains("--reranking"), "{plan} {stderr}");
        assert!(plan.contains("Serve scores with"), "{plan}");
    }
}
