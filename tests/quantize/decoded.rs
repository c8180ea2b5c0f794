//! A Hugging Face directory is run as the GGUF that is made of it: the same logits to the last bit, the same tokenizer.

use std::fs;
use std::path::Path;

use orinplan::checkpoint::{self, Checkpoint};
use orinplan::decode::{DecodeError, Engine, LoadOptions, Model, Tokenizer};
use orinplan::model::{self, ModelSpec, Unknown};
use serde_json::{Value as Json, json};

use crate::build::{Bytes, Scratch, Stored, orinplan, quantize, wave};
use crate::conversion::moe;
use crate::packed::{layouts, twins};
use crate::types::llama;

const TEXT: &str = "\u{0}abc \u{1}\u{7} once upon a time";

fn open(path: &Path) -> (Checkpoint, ModelSpec) {
    let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
    let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
    (checkpoint, spec)
}

/// The logits behind each token of a prompt, as bits.
fn logits(path: &Path, engine: Engine) -> Result<Vec<u32>, DecodeError> {
    let (checkpoint, spec) = open(path);
    let options = LoadOptions {
        context: 32,
        engine,
        ..LoadOptions::default()
    };
    let mut read = Vec::new();
    let mut model = Model::load(&checkpoint, &spec, &options, &mut |bytes| {
        read.push(bytes.0)
    })?;
    assert!(read.is_sorted() && read.len() > 3, "{read:?}");
    let prompt: Vec<u32> = (0..20).map(|i| 1 + 7 * i % 30).collect();
    let logits = model.logits(&prompt)?;
    Ok(logits.into_iter().map(f32::to_bits).collect())
}

/// Ids of a text, of one with names of special tokens, the text of all ids, the chat template.
fn tokens(path: &Path) -> (Vec<u32>, Vec<u32>, String, Option<String>) {
    let (checkpoint, spec) = open(path);
    let tokenizer = Tokenizer::read(&checkpoint, &spec).unwrap();
    let all: Vec<u32> = (0..tokenizer.len() as u32).collect();
    (
        tokenizer.encode(TEXT, false).unwrap(),
        tokenizer.encode(TEXT, true).unwrap(),
        tokenizer.decode(&all),
        tokenizer.chat_template().map(str::to_owned),
    )
}

/// Holds a directory to the file that `quantize` makes with these words.
fn check(scratch: &Scratch, name: &str, directory: &Path, scheme: &str, more: &[&str]) {
    let config = json!({ "chat_template": "{{ messages }}", "bos_token": "\u{101}" });
    fs::write(directory.join("tokenizer_config.json"), config.to_string()).unwrap();
    let file = scratch.path("made.gguf");
    quantize(directory, scheme, &file, &[&["--overwrite"], more].concat());
    for engine in [Engine::Cpu, Engine::Tensors] {
        let [own, made] = [directory, &file].map(|path| {
            let logits = logits(path, engine);
            logits.unwrap_or_else(|error| panic!("{name}, {engine:?}: {error}"))
        });
        assert!(own == made, "{name}, {engine:?}: other logits");
        let some: std::collections::BTreeSet<u32> = own.into_iter().collect();
        assert!(some.len() > 100, "{name}: all the same");
    }
    assert_eq!(tokens(directory), tokens(&file), "{name}");
}

/// Tensors stored as `dtype`, one of the three floats.
fn stored(dtype: &'static str, tensors: &[Stored]) -> Vec<Bytes> {
    let bytes = |value: f32| match dtype {
        "BF16" => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        "F16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    let tensor = |(name, shape, value): &Stored| {
        let values = (0..shape.iter().product()).map(value);
        (
            name.clone(),
            dtype,
            shape.clone(),
            values.flat_map(bytes).collect(),
        )
    };
    tensors.iter().map(tensor).collect()
}

fn scaled_llama() -> (Json, Vec<Stored>) {
    let (mut config, tensors) = llama();
    config["num_attention_heads"] = json!(4);
    config["num_key_value_heads"] = json!(2);
    config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    (config, tensors)
}

fn gemma() -> (Json, Vec<Stored>) {
    let (mut config, mut tensors) = llama();
    config["architectures"] = json!(["Gemma2ForCausalLM"]);
    config["model_type"] = json!("gemma2");
    config["query_pre_attn_scalar"] = json!(4);
    config["head_dim"] = json!(4);
    config["sliding_window"] = json!(8);
    for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
        tensors.push((format!("model.layers.0.{name}.weight"), vec![32], wave));
    }
    (config, tensors)
}

fn experts() -> (Json, Vec<Stored>) {
    let (config, mut tensors) = moe();
    let by_expert: [fn(usize) -> f32; 3] = [wave, |i| wave(i + 7), |i| wave(i + 31)];
    for (expert, value) in by_expert.into_iter().enumerate() {
        for (part, shape) in [("down", [32, 2]), ("gate", [2, 32]), ("up", [2, 32])] {
            let name = format!("model.layers.0.mlp.experts.{expert}.{part}_proj.weight");
            tensors.push((name, shape.to_vec(), value));
        }
    }
    (config, tensors)
}

fn fused_experts() -> (Json, Vec<Stored>) {
    let (config, mut tensors) = moe();
    let stack = |part: &str| format!("model.layers.0.mlp.experts.{part}");
    tensors.push((stack("gate_up_proj"), vec![3, 4, 32], wave));
    tensors.push((stack("down_proj"), vec![3, 32, 2], wave));
    (config, tensors)
}

#[test]
fn directories_run_as_their_16_bit_files() {
    for (name, make) in [
        ("llama", llama as fn() -> (Json, Vec<Stored>)),
        ("llama with stretched positions", scaled_llama),
        ("gemma", gemma),
        ("experts", experts),
        ("experts in one stack", fused_experts),
    ] {
        let (config, tensors) = make();
        for (dtype, scheme, more) in [
            ("BF16", "bf16", &[][..]),
            ("F16", "f16", &[]),
            ("F32", "bf16", &["--tensor-type", ".=f32"]),
        ] {
            let scratch = Scratch::new();
            let directory = scratch.stored("model", &config, stored(dtype, &tensors));
            check(
                &scratch,
                &format!("{name}, {dtype}"),
                &directory,
                scheme,
                more,
            );
        }
    }
}

#[test]
fn packed_directories_run_as_their_16_bit_files() {
    for (name, quantization, pack) in layouts() {
        let scratch = Scratch::new();
        let [packed, _] = twins(&scratch, quantization, pack);
        // The scales of these two are F16, which is what else is stored in 16 bits.
        let scheme = match name {
            "gptq" | "awq" => "f16",
            _ => "bf16",
        };
        check(&scratch, name, &packed, scheme, &[]);
    }
}

#[test]
fn trained_fixtures_run_as_their_16_bit_files() {
    for name in ["tiny-llama", "tiny-qwen3"] {
        let scratch = Scratch::new();
        let directory = scratch.fixture(name);
        check(&scratch, name, &directory, "bf16", &[]);
    }
}

/// Formats for which candle has no products run as what holds the same values: Q8_0, or half precision.
#[test]
fn formats_that_candle_lacks_run_on_the_steps_of_a_gpu() {
    let (mut config, tensors) = llama();
    for (key, value) in [("hidden_size", 256), ("intermediate_size", 512)] {
        config[key] = json!(value);
    }
    let wide = |n: usize| if n == 40 { n } else { 8 * n };
    let tensors = tensors.into_iter().map(|(name, shape, value)| {
        let shape: Vec<usize> = shape.into_iter().map(wide).collect();
        (name, shape, value)
    });
    let tensors: Vec<Stored> = tensors.collect();
    let scratch = Scratch::new();
    let directory = scratch.stored("model", &config, stored("F16", &tensors));
    for scheme in ["iq4_nl", "iq4_xs", "iq3_s", "tq2_0", "mxfp4_moe"] {
        let file = scratch.path("made.gguf");
        let all = format!(".={}", scheme.trim_end_matches("_moe"));
        let words = ["--overwrite", "--tensor-type", &all];
        quantize(&directory, scheme, &file, &words);
        let [cpu, tensors] = [Engine::Cpu, Engine::Tensors].map(|engine| {
            let bits = logits(&file, engine).unwrap_or_else(|e| panic!("{scheme}: {e}"));
            bits.into_iter().map(f32::from_bits).collect::<Vec<f32>>()
        });
        let mean = cpu.iter().sum::<f32>() / cpu.len() as f32;
        let spread: f32 = cpu.iter().map(|x| (x - mean).powi(2)).sum();
        let apart: f32 = cpu.iter().zip(&tensors).map(|(a, b)| (a - b).powi(2)).sum();
        // Activations are rounded to eight bits by one and to half precision by the other.
        assert!(apart < 1e-3 * spread, "{scheme}: {apart} of {spread}");
    }
}

/// `validate` runs a 16-bit directory as it is, and plans it as the file.
#[test]
fn a_directory_is_validated_like_its_file() {
    let scratch = Scratch::new();
    let directory = scratch.fixture("tiny-qwen3");
    let file = scratch.path("made.gguf");
    quantize(&directory, "bf16", &file, &[]);
    let [own, made] = [&directory, &file].map(|path| {
        let path = path.to_str().unwrap();
        let words = "--tokens 6 --prompt-tokens 5 --context 64 --repeats 1 --format json";
        let words: Vec<&str> = ["validate", path]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        let (out, err, code) = orinplan(&words);
        assert!(code < 2, "{err}");
        crate::schema::document(&out)
    });
    for place in [
        "/model/scheme",
        "/predicted/peak_memory_bytes",
        "/workload/prompt_tokens",
        "/measured/token_ids",
    ] {
        let found = own.pointer(place);
        assert!(
            found.is_some_and(|found| !found.is_null()),
            "{place}: {own}"
        );
        assert_eq!(found, made.pointer(place), "{place}");
    }
}

#[test]
fn directories_that_cannot_be_run_say_why() {
    let scratch = Scratch::new();
    let directory = scratch.fixture("tiny-qwen3");
    fs::remove_file(directory.join("tokenizer.json")).unwrap();
    let error = logits(&directory, Engine::Cpu).unwrap_err().to_string();
    assert!(error.contains("tokenizer"), "{error}");
    let load = |(checkpoint, spec): &(Checkpoint, ModelSpec)| {
        let loaded = Model::load(checkpoint, spec, &LoadOptions::default(), &mut |_| {});
        loaded.err().map(|error| error.to_string()).unwrap()
    };
    // A file that was cut after it was opened.
    let directory = scratch.fixture("tiny-llama");
    let opened = open(&directory);
    let file = fs::File::options()
        .write(true)
        .open(directory.join("model.safetensors"));
    file.unwrap().set_len(20_000).unwrap();
    let error = load(&opened);
    assert!(error.contains("may be cut short"), "{error}");
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    let error = load(&open(&directory));
    assert!(error.contains("has no weights"), "{error}");
}
