//! Files and checkpoints that are valid and wrong: `fit`, `validate` and `quantize` give one answer,
//! which names the cause. What is right beside them is kept.

use std::fs;
use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, StringList, TensorEntry, Value};
use serde_json::{Value as Json, json};

use crate::build::{Scratch, Stored, Written, error, orinplan, quantize, wave};

type Tensors = Vec<(String, Dtype, Vec<u64>)>;
type Change = fn(&mut Vec<(String, Value)>, &mut Tensors);

/// A GGUF of two blocks that loads, after `change`; its weights are zeros.
fn write(path: &Path, change: Change) {
    let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
    let number = |key: &str, value| (format!("llama.{key}"), Value::U32(value));
    let mut tokens = StringList::default();
    (0..96).for_each(|n| tokens.push(&format!("t{n}")));
    let mut metadata = vec![
        text("general.architecture", "llama"),
        number("block_count", 2),
        number("context_length", 512),
        number("embedding_length", 64),
        number("feed_forward_length", 96),
        number("attention.head_count", 4),
        number("attention.head_count_kv", 2),
        (
            "llama.attention.layer_norm_rms_epsilon".to_owned(),
            Value::F32(1e-5),
        ),
        text("tokenizer.ggml.model", "llama"),
        ("tokenizer.ggml.tokens".to_owned(), Value::Strings(tokens)),
        (
            "tokenizer.ggml.scores".to_owned(),
            Value::F32s(vec![0.0; 96]),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::I32s(vec![1; 96]),
        ),
    ];
    let mut tensors: Tensors = Vec::new();
    let mut push = |name: &str, shape: &[u64]| {
        tensors.push((format!("{name}.weight"), Dtype::F32, shape.to_vec()));
    };
    push("token_embd", &[96, 64]);
    push("output_norm", &[64]);
    for block in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[64][..]),
            ("ffn_norm", &[64]),
            ("attn_q", &[64, 64]),
            ("attn_k", &[32, 64]),
            ("attn_v", &[32, 64]),
            ("attn_output", &[64, 64]),
            ("ffn_gate", &[96, 64]),
            ("ffn_up", &[96, 64]),
            ("ffn_down", &[64, 96]),
        ] {
            push(&format!("blk.{block}.{name}"), shape);
        }
    }
    change(&mut metadata, &mut tensors);
    let entries: Vec<TensorEntry<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape)| TensorEntry {
            name,
            dtype: *dtype,
            shape,
        })
        .collect();
    let mut out = Vec::new();
    gguf::write_header(&mut out, &metadata, &entries).unwrap();
    for (_, dtype, shape) in &tensors {
        let bytes = dtype.bytes(shape).unwrap().0 as usize;
        out.resize((out.len() + bytes).next_multiple_of(32), 0);
    }
    fs::write(path, out).unwrap();
}

fn set(metadata: &mut Vec<(String, Value)>, key: &str, value: Value) {
    metadata.retain(|(name, _)| name != key);
    metadata.push((key.to_owned(), value));
}

fn remove(metadata: &mut Vec<(String, Value)>, key: &str) {
    metadata.retain(|(name, _)| name != key);
}

/// Asserts that every door says the same of the file, with all of `fragments`, and leaves nothing.
#[track_caller]
fn refused(scratch: &Scratch, change: Change, fragments: &[&str]) {
    let (path, output) = (scratch.path("model.gguf"), scratch.path("out.gguf"));
    write(&path, change);
    let (path, to) = (path.to_str().unwrap(), output.to_str().unwrap());
    let told = error(&["fit", path]);
    for fragment in fragments {
        assert!(told.contains(fragment), "`{fragment}` is not in: {told}");
    }
    let run = ["quantize", path, "--scheme", "q8_0", "--output", to];
    assert_eq!(error(&run), told);
    assert_eq!(error(&["validate", path]), told);
    assert!(!output.exists());
}

#[test]
fn a_gguf_is_held_to_the_tensors_of_its_architecture() {
    let scratch = Scratch::new();
    let path = scratch.path("model.gguf");
    write(&path, |_, _| {});
    let (said, wrong, status) = orinplan(&["fit", path.to_str().unwrap()]);
    assert_eq!((status, wrong.as_str()), (0, ""), "{said}");

    let one: Change = |_, tensors| tensors.truncate(1);
    refused(&scratch, one, &["output_norm.weight` is missing"]);
    let block: Change = |_, tensors| tensors.retain(|(name, ..)| !name.starts_with("blk.1."));
    refused(&scratch, block, &["blk.1.attn_norm.weight` is missing"]);
    let heads: Change = |metadata, _| set(metadata, "llama.attention.head_count_kv", Value::U32(1));
    refused(
        &scratch,
        heads,
        &["blk.0.attn_k.weight", "[32, 64]", "[16, 64]"],
    );
    let rows: Change = |_, tensors| tensors[2 + 7].2 = vec![95, 64];
    refused(&scratch, rows, &["blk.0.ffn_up.weight", "[95, 64]"]);
    let blocks: Change = |metadata, _| set(metadata, "llama.block_count", Value::U32(1));
    refused(&scratch, blocks, &["blk.1.attn_k.weight", "1 blocks"]);
    let stranger: Change =
        |_, tensors| tensors.push(("blk.0.stranger.weight".into(), Dtype::F32, vec![64]));
    refused(&scratch, stranger, &["blk.0.stranger.weight"]);
    let factors: Change =
        |_, tensors| tensors.push(("rope_freqs.weight".into(), Dtype::F32, vec![7]));
    refused(&scratch, factors, &["rope_freqs.weight", "[7]", "[8]"]);
}

#[test]
fn a_gguf_that_llama_cpp_does_not_load_is_neither_planned_nor_made() {
    let scratch = Scratch::new();
    for key in [
        "llama.attention.layer_norm_rms_epsilon",
        "llama.context_length",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
    ] {
        let change: Change = match key {
            "llama.context_length" => |m, _| remove(m, "llama.context_length"),
            "tokenizer.ggml.model" => |m, _| remove(m, "tokenizer.ggml.model"),
            "tokenizer.ggml.tokens" => |m, _| remove(m, "tokenizer.ggml.tokens"),
            _ => |m, _| remove(m, "llama.attention.layer_norm_rms_epsilon"),
        };
        refused(&scratch, change, &[key, "is missing"]);
    }
    let wide: Change = |m, _| set(m, "llama.block_count", Value::U64(2));
    refused(&scratch, wide, &["llama.block_count` is u64", "u32"]);
    let double: Change = |m, _| {
        let key = "llama.attention.layer_norm_rms_epsilon";
        set(m, key, Value::F64(1e-5));
    };
    refused(&scratch, double, &["is f64", "only loads f32"]);
    let more: Change = |m, _| {
        let mut tokens = StringList::default();
        (0..95).for_each(|n| tokens.push(&format!("t{n}")));
        set(m, "tokenizer.ggml.tokens", Value::Strings(tokens));
    };
    refused(&scratch, more, &["95 tokens", "96 rows"]);
    let scores: Change = |m, _| {
        let short = Value::F32s(vec![0.0; 90]);
        set(m, "tokenizer.ggml.scores", short);
    };
    refused(&scratch, scores, &["tokenizer.ggml.scores", "90", "96"]);
    let types: Change = |m, _| {
        let floats = Value::F32s(vec![1.0; 96]);
        set(m, "tokenizer.ggml.token_type", floats);
    };
    refused(&scratch, types, &["tokenizer.ggml.token_type", "i32"]);
    let merges: Change = |m, _| {
        let model = Value::String("gpt2".to_owned());
        set(m, "tokenizer.ggml.model", model);
    };
    refused(&scratch, merges, &["tokenizer.ggml.merges", "is missing"]);
    let alone: Change = |_, tensors| tensors.clear();
    refused(&scratch, alone, &["only a vocabulary"]);
    let rotated: Change = |m, _| set(m, "llama.rope.dimension_count", Value::U32(8));
    refused(&scratch, rotated, &["llama.rope.dimension_count", "16"]);
    // A projector's tensors are none of a model.
    let projector: Change = |_, tensors| {
        tensors.clear();
        tensors.push(("mm.0.weight".into(), Dtype::F32, vec![64, 64]));
    };
    refused(&scratch, projector, &["no tensor of a model"]);
}

/// A text for each of 96 tokens.
fn tokens(text: fn(usize) -> String) -> Value {
    let mut list = StringList::default();
    (0..96).for_each(|n| list.push(&text(n)));
    Value::Strings(list)
}

/// A byte-level tokenizer that splits as `pre` says.
fn byte_level(metadata: &mut Vec<(String, Value)>, pre: &str) {
    let text = |text: &str| Value::String(text.to_owned());
    let mut merges = StringList::default();
    merges.push("t 0");
    set(metadata, "tokenizer.ggml.model", text("gpt2"));
    set(metadata, "tokenizer.ggml.merges", Value::Strings(merges));
    set(metadata, "tokenizer.ggml.pre", text(pre));
}

/// The answers are llama.cpp's own (`cargo xtask interop accept`).
#[test]
fn what_llama_cpp_ends_at_with_its_first_token_is_refused_too() {
    let scratch = Scratch::new();
    let cases: [(Change, &[&str]); 15] = [
        (
            |m, _| byte_level(m, "of-tomorrow"),
            &["`tokenizer.ggml.pre` is `of-tomorrow`", "build 11434"],
        ),
        (
            |m, _| {
                set(
                    m,
                    "tokenizer.ggml.tokens",
                    tokens(|n| format!("t{}", n.min(94))),
                )
            },
            &["two tokens are `t94`"],
        ),
        (
            |m, _| set(m, "tokenizer.ggml.add_bos_token", Value::U32(1)),
            &["tokenizer.ggml.add_bos_token", "u32", "bool"],
        ),
        (
            |m, _| set(m, "general.file_type", Value::U64(1)),
            &["general.file_type", "u64"],
        ),
        (
            |m, _| set(m, "llama.attention.key_length", Value::U32(0)),
            &["llama.attention.key_length", "is 0"],
        ),
        (
            |m, _| set(m, "llama.expert_used_count", Value::U32(2)),
            &["2 experts of 0"],
        ),
        (
            |m, _| {
                set(
                    m,
                    "llama.attention.layer_norm_rms_epsilon",
                    Value::F32(-1e-5),
                )
            },
            &["not negative"],
        ),
        (
            |m, _| set(m, "llama.nextn_predict_layers", Value::U32(1)),
            &["blk.1.", "1 blocks"],
        ),
        (
            |_, t| t.push(("v.patch_embd.weight".into(), Dtype::F32, vec![4, 4])),
            &["`v.patch_embd.weight`", "vision tower", "mmproj"],
        ),
        (
            |_, t| t.push(("mm.0.weight".into(), Dtype::F32, vec![4, 4])),
            &["`mm.0.weight`", "projector"],
        ),
        (
            |_, t| t.push(("blk.0.attn_q.scale".into(), Dtype::F32, vec![2])),
            &["`blk.0.attn_q.scale`"],
        ),
        (
            |_, t| t.push(("blk.0.attn_norm.scale".into(), Dtype::F32, vec![1])),
            &["`blk.0.attn_norm.scale`"],
        ),
        (
            |_, t| t.push(("output.bias".into(), Dtype::F32, vec![96])),
            &["`output.bias`"],
        ),
        (
            |_, t| t[1].1 = Dtype::F16,
            &[
                "`output_norm.weight` is F16",
                "only computes with it in F32",
            ],
        ),
        (
            |_, t| t[2].1 = Dtype::I8,
            &["`blk.0.attn_norm.weight` is I8"],
        ),
    ];
    for (change, fragments) in cases {
        refused(&scratch, change, fragments);
    }
    let integers: Change = |_, tensors| tensors[4].1 = Dtype::I8;
    refused(&scratch, integers, &["`blk.0.attn_q.weight` is I8"]);
}

#[test]
fn what_llama_cpp_loads_is_not_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("model.gguf");
    let changes: [Change; 8] = [
        |m, _| byte_level(m, "llama-bpe"),
        |m, _| byte_level(m, ""),
        // Only byte-level tokenizers are asked how they split.
        |m, _| set(m, "tokenizer.ggml.pre", Value::String("of-tomorrow".into())),
        // Tokens without text are given names of their own.
        |m, _| {
            let text = |n| {
                if n % 7 == 6 {
                    String::new()
                } else {
                    format!("t{n}")
                }
            };
            set(m, "tokenizer.ggml.tokens", tokens(text));
        },
        |m, _| set(m, "tokenizer.ggml.scores", Value::I32s(vec![0; 96])),
        // Keys that its loader does not read may be of any type.
        |m, _| set(m, "llama.attention.sliding_window", Value::U64(64)),
        |_, t| t.push(("blk.0.attn_q.scale".into(), Dtype::F32, vec![1])),
        |_, t| t.push(("blk.0.ffn_down.bias".into(), Dtype::F32, vec![64])),
    ];
    for change in changes {
        write(&path, change);
        let (said, wrong, status) = orinplan(&["fit", path.to_str().unwrap()]);
        assert_eq!((status, wrong.as_str()), (0, ""), "{said}");
    }
}

/// Its keys are its own: an epsilon of another name, say.
#[test]
fn a_gguf_of_an_architecture_that_is_not_listed_is_quantized_all_the_same() {
    let scratch = Scratch::new();
    let (path, output) = (scratch.path("model.gguf"), scratch.path("out.gguf"));
    write(&path, |m, _| {
        set(m, "general.architecture", Value::String("gptj".into()));
        for (key, _) in m.iter_mut() {
            *key = key.replace("llama.", "gptj.").replace("_rms_", "_");
        }
    });
    quantize(&path, "q8_0", &output, &[]);
    assert!(output.exists());
}

/// What `fit` and `quantize` say of a checkpoint that neither takes.
#[track_caller]
fn both_refuse(config: &Json, tensors: &[Stored], fragments: &[&str]) {
    let scratch = Scratch::new();
    let model = scratch.checkpoint(config, tensors);
    both_refuse_directory(&scratch, &model, fragments);
}

#[track_caller]
fn both_refuse_directory(scratch: &Scratch, model: &Path, fragments: &[&str]) {
    let path = model.to_str().unwrap();
    let told = error(&["fit", path]);
    for fragment in fragments {
        assert!(told.contains(fragment), "`{fragment}` is not in: {told}");
    }
    // The same where no plan fits, so that no file is to be made.
    assert_eq!(error(&["fit", path, "--budget", "1MiB"]), told);
    let output = scratch.path("out.gguf");
    let to = output.to_str().unwrap();
    let run = ["quantize", path, "--scheme", "q8_0", "--output", to];
    assert_eq!(error(&run), told);
    assert!(!output.exists());
}

#[test]
fn fit_refuses_what_quantize_refuses() {
    let mut config = qwen3(true);
    config["rms_norm_eps"] = json!(-1e-6);
    both_refuse(&config, &qwen3_tensors(), &["`rms_norm_eps`"]);
    // The configuration alone says so as well.
    let scratch = Scratch::new();
    let alone = scratch.path("config.json");
    fs::write(&alone, config.to_string()).unwrap();
    let told = error(&["fit", alone.to_str().unwrap()]);
    assert!(told.contains("`rms_norm_eps`"), "{told}");

    // Gemma 2 has no head of its own in llama.cpp.
    let mut config = qwen3(true);
    config["architectures"] = json!(["Gemma2ForCausalLM"]);
    config["model_type"] = json!("gemma2");
    config["sliding_window"] = json!(64);
    config["hidden_activation"] = json!("gelu_pytorch_tanh");
    config["query_pre_attn_scalar"] = json!(32);
    let mut tensors = qwen3_tensors();
    tensors.retain(|(name, ..)| !name.contains("q_norm") && !name.contains("k_norm"));
    for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
        tensors.push((format!("model.layers.0.{name}.weight"), vec![128], wave));
    }
    let own = |index| wave(index) + 1.0;
    tensors.push(("lm_head.weight".into(), vec![96, 128], own));
    both_refuse(&config, &tensors, &["`output.weight`", "gemma2"]);

    // Factors for 20 pairs of a head that has 16.
    let mut config = qwen3(true);
    config["architectures"] = json!(["Phi3ForCausalLM"]);
    config["model_type"] = json!("phi3");
    config["num_key_value_heads"] = json!(4);
    config["original_max_position_embeddings"] = json!(256);
    config["rope_scaling"] =
        json!({"type": "longrope", "long_factor": vec![1.0; 20], "short_factor": vec![1.0; 20]});
    let fused = [
        ("input_layernorm", vec![128]),
        ("post_attention_layernorm", vec![128]),
        ("self_attn.qkv_proj", vec![384, 128]),
        ("self_attn.o_proj", vec![128, 128]),
        ("mlp.gate_up_proj", vec![512, 128]),
        ("mlp.down_proj", vec![128, 256]),
    ];
    let mut tensors = qwen3_tensors();
    tensors.retain(|(name, ..)| !name.contains("layers"));
    let named = |(name, shape)| (format!("model.layers.0.{name}.weight"), shape, wave as _);
    tensors.extend(fused.into_iter().map(named));
    both_refuse(&config, &tensors, &["`long_factor` has 20 numbers", "16"]);
}

/// What a written file would be refused for is refused of the checkpoint that it would be made from.
#[test]
fn numbers_that_no_model_computes_with_are_refused() {
    for (key, value, said) in [
        ("rope_theta", json!(1e39), "`qwen3.rope.freq_base` is inf"),
        (
            "rms_norm_eps",
            json!(1.5),
            "`qwen3.attention.layer_norm_rms_epsilon` is 1.5",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
                "original_max_position_embeddings": 64}),
            "below `high_freq_factor`",
        ),
    ] {
        let mut config = qwen3(true);
        if key == "rope_scaling" {
            config["architectures"] = json!(["LlamaForCausalLM"]);
            config["model_type"] = json!("llama");
        }
        config[key] = value;
        let mut tensors = qwen3_tensors();
        if key == "rope_scaling" {
            tensors.retain(|(name, ..)| !name.contains("q_norm") && !name.contains("k_norm"));
        }
        both_refuse(&config, &tensors, &[said]);
    }
}

#[test]
fn weights_that_are_not_quantized_as_declared_are_told() {
    for method in ["fp8", "gptq", "awq"] {
        let mut config = qwen3(true);
        config["quantization_config"] = json!({"quant_method": method, "bits": 4});
        let told = [method, "none of them is", "remove `quantization_config`"];
        both_refuse(&config, &qwen3_tensors(), &told);
    }
}

#[test]
fn an_output_is_not_named_as_a_part_or_a_header() {
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&qwen3(true), &qwen3_tensors());
    for (name, says) in [
        ("m-00001-of-00002.gguf", "a part of a model"),
        ("m.header.gguf", "without weights"),
    ] {
        let output = scratch.path(name);
        let run = [
            "quantize",
            model.to_str().unwrap(),
            "--scheme",
            "q8_0",
            "--output",
        ];
        let said = error(&[&run[..], &[output.to_str().unwrap()]].concat());
        assert!(said.contains(says), "{said}");
        assert!(!output.exists());
    }
}

#[test]
fn integers_without_a_scale_are_no_weights() {
    for (dtype, width) in [("I8", 1), ("I64", 8)] {
        let scratch = Scratch::new();
        let bytes = |(name, shape, value): Stored| {
            let elements = shape.iter().product::<usize>();
            if name.ends_with("up_proj.weight") {
                (name, dtype, shape, vec![1; elements * width])
            } else {
                let values = (0..elements).map(value).flat_map(f32::to_le_bytes);
                (name, "F32", shape, values.collect())
            }
        };
        let tensors = qwen3_tensors().into_iter().map(bytes).collect();
        let model = scratch.stored("model", &qwen3(true), tensors);
        let said = ["up_proj.weight", dtype, "without a scale"];
        both_refuse_directory(&scratch, &model, &said);
    }
}

#[test]
fn a_scale_beside_whole_numbers_is_told() {
    let with_scale = |tensors: &[Stored]| {
        let mut tensors = tensors.to_vec();
        let name = "model.layers.0.self_attn.q_proj.weight_scale";
        tensors.push((name.into(), vec![1], wave));
        tensors
    };
    let said = ["q_proj.weight", "F32 with a scale beside it"];
    both_refuse(&qwen3(true), &with_scale(&qwen3_tensors()), &said);
    // compressed-tensors keeps weights as they were, with the scales to round them by.
    let mut config = qwen3(true);
    config["quantization_config"] =
        json!({"quant_method": "compressed-tensors", "quantization_status": "frozen"});
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&config, &with_scale(&qwen3_tensors()));
    let (_, told, status) = orinplan(&["fit", model.to_str().unwrap()]);
    assert_eq!((status, told.as_str()), (0, ""));
}

#[test]
fn tensors_lie_where_llama_cpp_looks_for_them() {
    let scratch = Scratch::new();
    let path = scratch.path("model.gguf");
    write(&path, |_, _| {});
    // The second tensor's place, behind its name, dimensions and type, is changed with the third's.
    let mut bytes = fs::read(&path).unwrap();
    let place = |bytes: &[u8], name: &str| {
        let found = bytes.windows(name.len()).position(|w| w == name.as_bytes());
        let after = found.unwrap() + name.len();
        let dims = u32::from_le_bytes(bytes[after..after + 4].try_into().unwrap());
        after + 4 + 8 * dims as usize + 4
    };
    let one = place(&bytes, "blk.0.attn_norm.weight");
    let other = place(&bytes, "output_norm.weight");
    for byte in 0..8 {
        bytes.swap(one + byte, other + byte);
    }
    fs::write(&path, bytes).unwrap();
    let told = error(&["fit", path.to_str().unwrap()]);
    assert!(told.contains("`output_norm.weight` is at byte"), "{told}");
    assert_eq!(error(&["validate", path.to_str().unwrap()]), told);

    let split: Change = |metadata, _| set(metadata, "split.count", Value::U32(1));
    refused(&scratch, split, &["`split.count`", "u16"]);
}

#[test]
fn a_tokenizer_that_is_a_pointer_stops_every_door() {
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&qwen3(true), &qwen3_tensors());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    fs::write(model.join("tokenizer.json"), pointer).unwrap();
    both_refuse_directory(&scratch, &model, &["tokenizer.json", "git-LFS pointer"]);
}

#[test]
fn what_is_left_out_has_the_shape_of_its_kind_and_is_declared() {
    let with = |name: &str, shape: Vec<usize>| {
        let mut tensors = qwen3_tensors();
        tensors.push((name.to_owned(), shape, wave));
        tensors
    };
    for (name, shape) in [
        ("model.layers.0.self_attn.k_scale", vec![256, 256]),
        ("model.layers.0.attention.bias", vec![128]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", vec![16, 16]),
        ("mtp.layers.0.weight", vec![128, 128]),
        ("model.visual.blocks.0.attn.weight", vec![64, 64]),
        ("audio_tower.conv.weight", vec![64, 64]),
    ] {
        let named = format!("`{name}` is stored, but qwen3 has no place for it");
        both_refuse(&qwen3(true), &with(name, shape), &[&named]);
    }
    let scratch = Scratch::new();
    let mut tensors = with("model.layers.0.self_attn.k_scale", vec![1]);
    tensors.push((
        "model.layers.0.attention.bias".into(),
        vec![1, 1, 8, 8],
        wave,
    ));
    tensors.push(("mtp.layers.0.weight".into(), vec![128, 128], wave));
    let mut config = qwen3(true);
    config["num_nextn_predict_layers"] = json!(1);
    let model = scratch.checkpoint(&config, &tensors);
    let report = quantize(&model, "q8_0", &scratch.path("out.gguf"), &[]);
    assert_eq!(report["notes"].as_array().unwrap().len(), 3, "{report}");
}

#[test]
fn biases_of_zeros_are_left_out_and_others_are_strangers() {
    let biased = |value: fn(usize) -> f32| {
        let mut tensors = qwen3_tensors();
        for name in ["self_attn.o_proj", "mlp.up_proj"] {
            let rows = if name.starts_with("mlp") { 256 } else { 128 };
            tensors.push((format!("model.layers.0.{name}.bias"), vec![rows], value));
        }
        tensors
    };
    both_refuse(&qwen3(true), &biased(wave), &["up_proj.bias` are stored"]);
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&qwen3(true), &biased(|_| 0.0));
    let report = quantize(&model, "q8_0", &scratch.path("out.gguf"), &[]);
    let notes = report["notes"].to_string();
    assert!(notes.contains("biases of zeros (2 tensors"), "{notes}");
}

#[test]
fn stretched_rotary_positions_that_a_file_loses_are_told() {
    let told = |scaling: Json| {
        let scratch = Scratch::new();
        let mut config = qwen3(true);
        config["rope_scaling"] = scaling;
        let model = scratch.checkpoint(&config, &qwen3_tensors());
        let report = quantize(&model, "q8_0", &scratch.path("out.gguf"), &[]);
        let (fit, wrong, _) = orinplan(&["fit", model.to_str().unwrap(), "--format", "json"]);
        assert_eq!(wrong, "");
        let code = "lost_rope_scaling";
        let (quantized, planned) = (report.to_string().contains(code), fit.contains(code));
        assert_eq!(quantized, planned);
        quantized
    };
    let original = 256;
    assert!(told(
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": original})
    ));
    // It begins behind the stated context, but for a fixed `alpha`.
    assert!(!told(json!({"rope_type": "dynamic", "factor": 2.0})));
    assert!(told(
        json!({"rope_type": "dynamic", "factor": 2.0, "alpha": 100.0})
    ));
    assert!(!told(
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original})
    ));
    assert!(!told(json!({"rope_type": "default"})));
}

fn qwen3(tied: bool) -> Json {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 128,
        "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
        "vocab_size": 96, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": tied,
    })
}

fn qwen3_tensors() -> Vec<Stored> {
    let one = |_| 1.0;
    let mut all: Vec<Stored> = vec![
        ("model.embed_tokens.weight".into(), vec![96, 128], wave),
        ("model.norm.weight".into(), vec![128], one),
    ];
    for (name, shape) in [
        ("input_layernorm", vec![128]),
        ("post_attention_layernorm", vec![128]),
        ("self_attn.q_norm", vec![32]),
        ("self_attn.k_norm", vec![32]),
        ("self_attn.q_proj", vec![128, 128]),
        ("self_attn.k_proj", vec![64, 128]),
        ("self_attn.v_proj", vec![64, 128]),
        ("self_attn.o_proj", vec![128, 128]),
        ("mlp.gate_proj", vec![256, 128]),
        ("mlp.up_proj", vec![256, 128]),
        ("mlp.down_proj", vec![128, 256]),
    ] {
        let value: fn(usize) -> f32 = if shape.len() == 1 { one } else { wave };
        all.push((format!("model.layers.0.{name}.weight"), shape, value));
    }
    all
}

/// What `fit` counts and what is written, for llama.cpp and for vLLM.
fn head(tensors: &[Stored]) -> (u64, bool, Json, Vec<String>) {
    let scratch = Scratch::new();
    let model = scratch.checkpoint(&qwen3(true), tensors);
    let path = model.to_str().unwrap();
    let (fit, wrong, _) = orinplan(&["fit", path, "--scheme", "q8_0", "--format", "json"]);
    assert_eq!(wrong, "");
    let fit = crate::schema::document(&fit);
    let file = scratch.path("model.gguf");
    let report = quantize(&model, "q8_0", &file, &[]);
    assert_eq!(
        fit["plans"][0]["file_bytes"], report["file_bytes"],
        "{report}"
    );
    let has_head = Written::read(&file).names().contains(&"output.weight");
    let directory = scratch.path("int4");
    quantize(&model, "int4", &directory, &[]);
    let config = fs::read_to_string(directory.join("config.json")).unwrap();
    let config: Json = serde_json::from_str(&config).unwrap();
    let (inspected, ..) = orinplan(&["inspect", directory.to_str().unwrap(), "--format", "json"]);
    let inspected = crate::schema::document(&inspected);
    let tied = &config["tie_word_embeddings"];
    assert_eq!(&inspected["model"]["tied_embedding"], tied);
    let notes = report["notes"].as_array().unwrap().iter();
    let codes = notes.map(|note| note["code"].as_str().unwrap().to_owned());
    let parameters = fit["model"]["parameters"].as_u64().unwrap();
    (parameters, has_head, tied.clone(), codes.collect())
}

#[test]
fn a_tied_checkpoint_keeps_a_head_of_its_own_and_drops_a_copy() {
    let (alone, has_head, tied, notes) = head(&qwen3_tensors());
    assert_eq!((has_head, tied), (false, json!(true)));
    assert_eq!(notes, Vec::<String>::new());

    let mut copy = qwen3_tensors();
    copy.push(("lm_head.weight".into(), vec![96, 128], wave));
    let (parameters, has_head, tied, notes) = head(&copy);
    assert_eq!((parameters, has_head, tied), (alone, false, json!(true)));
    assert_eq!(notes, ["unused_tensors"]);

    // The last element alone tells them apart.
    let mut own = qwen3_tensors();
    let last = |index| wave(index) + if index == 96 * 128 - 1 { 1.0 } else { 0.0 };
    own.push(("lm_head.weight".into(), vec![96, 128], last));
    let (parameters, has_head, tied, notes) = head(&own);
    let with_head = alone + 96 * 128;
    assert_eq!(
        (parameters, has_head, tied),
        (with_head, true, json!(false))
    );
    assert_eq!(notes, Vec::<String>::new());
}

#[test]
fn numbers_of_the_model_are_one_and_those_of_blocks_are_enough() {
    let blocks = json!([1, 1]);
    for (key, value) in [("num_hidden_layers", &blocks), ("hidden_size", &blocks)] {
        let mut config = qwen3(true);
        config[key] = value.clone();
        both_refuse(&config, &qwen3_tensors(), &[&format!("`{key}`")]);
    }
    let scratch = Scratch::new();
    let alone = scratch.path("config.json");
    let mut config = qwen3(true);
    config["num_hidden_layers"] = json!(3);
    for (heads, is_refused) in [(json!([2, 2]), true), (json!([2, 2, 2]), false)] {
        config["num_key_value_heads"] = heads;
        fs::write(&alone, config.to_string()).unwrap();
        let fit = ["fit", alone.to_str().unwrap()];
        if is_refused {
            assert!(error(&fit).contains("`num_key_value_heads`"));
        } else {
            orinplan(&fit);
        }
    }
}

#[test]
fn a_head_with_other_rows_than_the_embedding_is_refused() {
    for rows in [95, 97] {
        let mut tensors = qwen3_tensors();
        let wave = |index: usize| (index as f32 * 0.3).sin();
        tensors.push(("lm_head.weight".into(), vec![rows, 128], wave as _));
        let found = format!("[{rows}, 128]");
        both_refuse(&qwen3(false), &tensors, &["lm_head.weight", &found]);
    }
}

#[test]
fn tensors_that_config_does_not_call_for_are_named() {
    let run = |change: &dyn Fn(&mut Json, &mut Vec<Stored>)| {
        let scratch = Scratch::new();
        let (mut config, mut tensors) = (qwen3(true), qwen3_tensors());
        change(&mut config, &mut tensors);
        let model = scratch.checkpoint(&config, &tensors);
        let path = model.to_str().unwrap();
        let told = error(&["fit", path]);
        for scheme in ["q8_0", "int4"] {
            let output = scratch.path("out");
            let to = output.to_str().unwrap();
            let run = ["quantize", path, "--scheme", scheme, "--output", to];
            assert_eq!(error(&run), told);
            assert!(!output.exists());
        }
        told
    };
    let second = |tensors: &mut Vec<Stored>| {
        let again: Vec<Stored> = tensors
            .iter()
            .filter(|(name, ..)| name.contains(".0."))
            .map(|(name, shape, value)| (name.replace(".0.", ".1."), shape.clone(), *value))
            .collect();
        tensors.extend(again);
    };
    let told = run(&|_, tensors| second(tensors));
    assert!(told.contains("config.json says 1 blocks"), "{told}");
    assert!(told.contains("2 are stored"), "{told}");
    assert!(told.contains("model.layers.1."), "{told}");
    let told = run(&|config, _| config["num_hidden_layers"] = json!(2));
    let first = "`model.layers.1.input_layernorm.weight` is missing";
    assert!(told.contains(first) && !told.contains("download"), "{told}");
    let told = run(&|_, tensors| {
        tensors.push(("model.layers.0.mlp.stranger".into(), vec![4], wave));
        tensors.push(("score.weight".into(), vec![2, 128], wave));
    });
    assert!(told.contains("`model.layers.0.mlp.stranger`"), "{told}");
    assert!(told.contains("`score.weight` are stored"), "{told}");
    let told = run(&|_, tensors| {
        tensors.push(("embed_tokens.weight".into(), vec![96, 128], wave));
    });
    assert!(told.contains("`embed_tokens.weight`"), "{told}");

    // Blocks that the configuration counts as predicting further tokens are left out by name.
    let scratch = Scratch::new();
    let (mut config, mut tensors) = (qwen3(true), qwen3_tensors());
    second(&mut tensors);
    config["num_nextn_predict_layers"] = json!(1);
    tensors.push((
        "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
        vec![16],
        wave,
    ));
    let model = scratch.checkpoint(&config, &tensors);
    let report = quantize(&model, "q8_0", &scratch.path("out.gguf"), &[]);
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("multi-token prediction head (11 tensors"),
        "{notes}"
    );
    assert!(notes.contains("rotary frequencies (1 tensor"), "{notes}");
}

#[test]
fn experts_that_are_missing_or_too_many_are_named() {
    let mut config = qwen3(true);
    config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    config["model_type"] = json!("qwen3_moe");
    config["norm_topk_prob"] = json!(true);
    config["num_experts"] = json!(3);
    config["num_experts_per_tok"] = json!(2);
    config["moe_intermediate_size"] = json!(64);
    let mut all = qwen3_tensors();
    all.retain(|(name, ..)| !name.contains(".mlp."));
    all.push(("model.layers.0.mlp.gate.weight".into(), vec![3, 128], wave));
    let expert = |all: &mut Vec<Stored>, expert: usize| {
        for (name, shape) in [
            ("gate", vec![64, 128]),
            ("up", vec![64, 128]),
            ("down", vec![128, 64]),
        ] {
            let name = format!("model.layers.0.mlp.experts.{expert}.{name}_proj.weight");
            all.push((name, shape, wave));
        }
    };
    (0..3).for_each(|n| expert(&mut all, n));
    let told = |tensors: &[Stored]| {
        let scratch = Scratch::new();
        let model = scratch.checkpoint(&config, tensors);
        let path = model.to_str().unwrap();
        let output = scratch.path("out.gguf");
        let run = [
            "quantize",
            path,
            "--scheme",
            "f16",
            "--output",
            output.to_str().unwrap(),
        ];
        let (_, told, status) = orinplan(&run);
        assert_eq!(output.exists(), status == 0);
        told
    };
    assert_eq!(told(&all), "");
    let lost = "model.layers.0.mlp.experts.1.up_proj.weight";
    let mut short = all.clone();
    short.retain(|(name, ..)| name != lost);
    let said = told(&short);
    assert!(said.contains(&format!("`{lost}` is missing")), "{said}");
    let mut long = all.clone();
    expert(&mut long, 3);
    let said = told(&long);
    assert!(
        said.contains("experts.3.gate_proj.weight") && said.contains("has 3 of its kind"),
        "{said}"
    );
}

/// A BPE with byte fallback in `tokenizer.json` alone, as fine-tunes of Llama 2 have it.
#[test]
fn a_vocabulary_with_fewer_tokens_than_rows_is_padded() {
    let scratch = Scratch::new();
    let mut config = qwen3(false);
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["model_type"] = json!("llama");
    let mut tensors = qwen3_tensors();
    tensors.retain(|(name, ..)| !name.contains("_norm.weight") || !name.contains("self_attn"));
    tensors.push(("lm_head.weight".into(), vec![96, 128], wave));
    let model = scratch.checkpoint(&config, &tensors);
    fs::remove_file(model.join("tokenizer.model")).unwrap();
    let letter = |n: u32| char::from_u32(0x100 + n).unwrap().to_string();
    let tokenizer = |size: u32| {
        let vocab = (0..size).map(|n| (letter(n), n.into()));
        json!({
            "version": "1.0", "added_tokens": [],
            "model": {"type": "BPE", "byte_fallback": true,
                "vocab": vocab.collect::<serde_json::Map<String, Json>>(), "merges": []},
        })
    };
    fs::write(model.join("tokenizer.json"), tokenizer(90).to_string()).unwrap();
    let output = scratch.path("out.gguf");
    quantize(&model, "q8_0", &output, &[]);
    let (said, wrong, status) = orinplan(&["fit", output.to_str().unwrap()]);
    assert_eq!((status, wrong.as_str()), (0, ""), "{said}");
    let header = Written::read(&output).header;
    let list = |key: &str| -> Vec<Value> {
        let value = header.metadata.get(key).unwrap();
        let elements = gguf::elements(&output, value).unwrap();
        elements.map(Result::unwrap).collect()
    };
    let tokens = list("tokenizer.ggml.tokens");
    assert_eq!(tokens.len(), 96);
    assert_eq!(tokens[89], Value::String(letter(89)));
    assert_eq!(tokens[90], Value::String("[PAD90]".to_owned()));
    assert_eq!(
        list("tokenizer.ggml.token_type")[90..],
        [const { Value::I32(5) }; 6]
    );
    assert_eq!(list("tokenizer.ggml.scores").len(), 96);

    fs::write(model.join("tokenizer.json"), tokenizer(97).to_string()).unwrap();
    let to = scratch.path("more.gguf");
    let path = model.to_str().unwrap();
    let run = [
        "quantize",
        path,
        "--scheme",
        "q8_0",
        "--output",
        to.to_str().unwrap(),
    ];
    let told = error(&run);
    assert!(
        told.contains("97 tokens") && told.contains("96 rows"),
        "{told}"
    );
    assert!(!to.exists());
}
