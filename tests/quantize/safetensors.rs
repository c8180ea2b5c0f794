//! `int4` and `fp8` directories: files of the predicted size that the safetensors library reads,
//! values within the step of their scale, everything else of the checkpoint carried over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use orinplan::checkpoint::{self, Checkpoint};
use orinplan::dtype::Dtype;
use orinplan::inputs::Inputs;
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::note::Note;
use orinplan::quantize::packed::{Files, Weight};
use orinplan::quantize::safetensors::{predict, predict_shards};
use orinplan::quantize::{
    self, Destination, Job, Options, OutputError, Progress, QuantizeError, SHARD_BYTES, Tally,
};
use orinplan::scheme::{self, Assigned, Reason, Rules, Scheme};
use safetensors::SafeTensors;
use serde_json::{Value as Json, json};

/// The schemes that are written as directories.
const IDS: [&str; 7] = [
    "int4",
    "int4_asym",
    "int4_g64",
    "int4_asym_g64",
    "int4_g32",
    "int4_asym_g32",
    "fp8",
];

/// How to write.
struct Manner {
    overwrite: bool,
    threads: usize,
    shard_bytes: u64,
    cancel: bool,
}

const PLAIN: Manner = Manner {
    overwrite: false,
    threads: 2,
    shard_bytes: SHARD_BYTES,
    cancel: false,
};

/// What was written.
#[derive(Debug, PartialEq)]
struct Summary {
    weights: Vec<Written>,
    file_bytes: u64,
    notes: Vec<Note>,
    progress: Vec<Progress>,
}

#[derive(Debug, PartialEq)]
struct Written {
    name: String,
    assigned: Assigned,
    tally: Tally,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-llama")
}

/// A copy of the fixture that tests may change.
fn copied(directory: &Path) -> PathBuf {
    let input = directory.join("input");
    fs::create_dir(&input).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture().join(name), input.join(name)).unwrap();
    }
    input
}

fn read(path: &Path) -> (Checkpoint, ModelSpec) {
    let checkpoint = checkpoint::open(path.to_str().unwrap()).unwrap();
    let model = model::read(&checkpoint, Unknown::Refuse).unwrap();
    (checkpoint, model)
}

fn quantize(
    input: &Path,
    id: &str,
    output: &Path,
    manner: &Manner,
) -> Result<Summary, QuantizeError> {
    let mut progress = Vec::new();
    let summary = quantize_with(input, id, output, manner, &mut |now| progress.push(now))?;
    Ok(Summary {
        progress,
        ..summary
    })
}

/// The same, with something that happens while it is written.
fn quantize_with(
    input: &Path,
    id: &str,
    output: &Path,
    manner: &Manner,
    meanwhile: &mut (dyn FnMut(Progress) + Send),
) -> Result<Summary, QuantizeError> {
    let (checkpoint, model) = read(input);
    let files = Files::open(&checkpoint)?;
    let options = Options {
        shard_bytes: manner.shard_bytes,
        ..Options::of(Scheme::get(id).unwrap())
    };
    let job = Job::new(&checkpoint, &files, &model, &options)?;
    let destination = Destination {
        path: output,
        overwrite: manner.overwrite,
        inputs: Inputs::default(),
    };
    let cancel = AtomicBool::new(manner.cancel);
    let tallies = quantize::write(&job, &destination, manner.threads, &cancel, meanwhile)?;
    let weights = job.tensors.iter().zip(&tallies);
    let weights = weights.map(|(planned, tally)| Written {
        name: planned.name.to_owned(),
        assigned: planned.assigned,
        tally: *tally,
    });
    Ok(Summary {
        weights: weights.collect(),
        file_bytes: job.file_bytes().0,
        notes: job.notes_with(&tallies),
        progress: Vec::new(),
    })
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every weight of a directory by its name, as values.
fn values(path: &Path) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let (checkpoint, model) = read(path);
    let files = Files::open(&checkpoint).unwrap();
    let mut all = Vec::new();
    for logical in &model.stored {
        let weight = Weight::open(&checkpoint, &files, logical).unwrap();
        let mut out = Vec::new();
        weight.read(0..weight.rows(), &mut out).unwrap();
        all.push((logical.name.clone(), weight.shape().to_vec(), out));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// All files of a directory with their bytes.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut all: Vec<_> = entries
        .map(|e| (name(&e), fs::read(e.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// The matrices that the fixture's two blocks have.
fn is_quantized(name: &str) -> bool {
    name.contains("_proj.")
}

#[test]
fn int4_values_are_within_half_a_step_and_better_than_plain_rounding() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("int4");
    quantize(&fixture(), "int4", &output, &PLAIN).unwrap();
    let bytes = fs::read(output.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for ((name, shape, before), (same, _, after)) in values(&fixture()).iter().zip(values(&output))
    {
        assert_eq!(*name, same);
        if !is_quantized(name) {
            let step = if shape.len() > 1 { 1.0 / 256.0 } else { 0.0 };
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() * step;
            assert!(before.iter().zip(&after).all(near), "{name}");
            continue;
        }
        let base = name.strip_suffix(".weight").unwrap();
        let scale = file.tensor(&format!("{base}.weight_scale")).unwrap();
        assert_eq!(scale.dtype(), safetensors::Dtype::BF16);
        assert_eq!(scale.shape(), [shape[0] as usize, shape[1] as usize / 128]);
        let record = file.tensor(&format!("{base}.weight_shape")).unwrap();
        let record = record
            .data()
            .chunks(8)
            .map(|b| u64::from_le_bytes(b.try_into().unwrap()));
        assert_eq!(record.collect::<Vec<_>>(), *shape);
        let scales = scale.data().chunks(2);
        let scales = scales.map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]])));
        for ((before, after), scale) in before.chunks(128).zip(after.chunks(128)).zip(scales) {
            assert!(scale > 0.0);
            let plain = before.iter().fold(0f32, |m, v| m.max(v.abs())) / 7.5;
            let (mut error, mut plain_error) = (0.0, 0.0);
            for (&x, &y) in before.iter().zip(after) {
                let code = y / scale;
                assert!(
                    code == code.round() && (-8.0..=7.0).contains(&code),
                    "{name}: {code}"
                );
                // What the codes reach is rounded to the nearest; beyond, the last code is taken.
                let reached = x.clamp(-8.0 * scale, 7.0 * scale);
                assert!(
                    (reached - y).abs() <= scale * 0.50001,
                    "{name}: {x} became {y}"
                );
                error += f64::from(x - y).powi(2);
                let rounded = (x / plain).round().clamp(-8.0, 7.0) * plain;
                plain_error += f64::from(x - rounded).powi(2);
            }
            // Plain rounding here has a scale of full precision, which BF16 may miss by 1/256.
            assert!(
                error <= plain_error * 1.02,
                "{name}: {error} above {plain_error}"
            );
        }
    }
}

/// Codes from 0 to 15, scales and zero points as compressed-tensors lays them out, and what they say of the values.
#[test]
fn groups_have_their_size_and_zero_points_and_lose_less() {
    let directory = tempfile::tempdir().unwrap();
    let before = values(&fixture());
    let mut errors = Vec::new();
    for (id, group, zeros) in [
        ("int4", 128, false),
        ("int4_asym", 128, true),
        ("int4_g64", 64, false),
        ("int4_asym_g64", 64, true),
        ("int4_g32", 32, false),
        ("int4_asym_g32", 32, true),
    ] {
        let output = directory.path().join(id);
        let summary = quantize(&fixture(), id, &output, &PLAIN).unwrap();
        let config = json(&output.join("config.json"));
        let weights = &config["quantization_config"]["config_groups"]["group_0"]["weights"];
        assert_eq!(weights["group_size"], group);
        assert_eq!(weights["symmetric"], !zeros);
        let bytes = fs::read(output.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut error = 0.0;
        for ((name, shape, before), (_, _, after)) in before.iter().zip(values(&output)) {
            if !is_quantized(name) {
                continue;
            }
            let (rows, columns) = (shape[0] as usize, shape[1] as usize);
            let part = |of: &str| file.tensor(&name.replace("weight", of));
            assert_eq!(part("weight_packed").unwrap().shape(), [rows, columns / 8]);
            let scale = part("weight_scale").unwrap();
            assert_eq!(scale.shape(), [rows, columns / group]);
            let scales = scale.data().as_chunks::<2>().0.iter();
            let scales: Vec<f32> = scales
                .map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]])))
                .collect();
            let points = part("weight_zero_point");
            assert_eq!(points.is_ok(), zeros, "{name}");
            let zero = |row: usize, of: usize| match &points {
                Ok(points) => {
                    assert_eq!(points.shape(), [rows / 8, columns / group]);
                    let word = points.data().as_chunks::<4>().0[row / 8 * (columns / group) + of];
                    (u32::from_le_bytes(word) >> (4 * (row % 8)) & 15) as f32
                }
                Err(_) => 8.0,
            };
            for (i, (&x, &y)) in before.iter().zip(&after).enumerate() {
                let (row, of) = (i / columns, i % columns / group);
                let scale = scales[row * (columns / group) + of];
                let code = y / scale + zero(row, of);
                let whole = (code - code.round()).abs() < 1e-3;
                assert!(whole && (-0.1..15.1).contains(&code), "{name}: {code}");
                let (least, most) = (-zero(row, of) * scale, (15.0 - zero(row, of)) * scale);
                let reached = x.clamp(least, most);
                assert!(
                    (reached - y).abs() <= scale * 0.501,
                    "{name}: {x} became {y}"
                );
                error += f64::from(x - y).powi(2);
            }
        }
        // What the report says is what the files hold.
        let told = summary.weights.iter().filter(|w| is_quantized(&w.name));
        let told: f64 = told.map(|w| w.tally.deviation.error).sum();
        assert!((told - error).abs() <= error * 1e-6, "{id}: {told} {error}");
        errors.push(error);
    }
    // Pairs of a size, the second with zero points; then the next smaller size.
    for pair in errors.chunks(2) {
        assert!(pair[1] < pair[0], "{errors:?}");
    }
    assert!(errors[0] > errors[2] && errors[2] > errors[4], "{errors:?}");
    assert!(errors[1] > errors[3] && errors[3] > errors[5], "{errors:?}");
}

#[test]
fn fp8_values_are_within_half_a_step_of_their_binade() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("fp8");
    let summary = quantize(&fixture(), "fp8", &output, &PLAIN).unwrap();
    for ((name, shape, before), (_, _, after)) in values(&fixture()).iter().zip(values(&output)) {
        let rows = before.chunks(*shape.last().unwrap() as usize);
        let rows = rows.zip(after.chunks(*shape.last().unwrap() as usize));
        for (before, after) in rows.filter(|_| is_quantized(name)) {
            let largest = before.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (&x, &y) in before.iter().zip(after) {
                // Three mantissa bits: 1/16 of a value, or half of 2^-9 scales (rounded to BF16).
                let step = (x.abs() / 16.0).max(largest / 448.0 / 1024.0) * 1.01;
                assert!((x - y).abs() <= step, "{name}: {x} became {y}");
            }
        }
    }
    for weight in &summary.weights {
        assert_eq!(
            weight.assigned.reason == Reason::Default,
            is_quantized(&weight.name),
            "{}",
            weight.name
        );
        // Uniform in a binade, rounding to three bits leaves about 0.026; the fixture is in F16, which
        // stays as it is.
        let error = weight.tally.deviation.relative();
        let range = if is_quantized(&weight.name) {
            0.01..0.04
        } else {
            0.0..0.003
        };
        assert!(range.contains(&error), "{weight:?}");
    }
}

#[test]
fn files_are_as_large_as_predicted_and_as_the_plan_says() {
    for id in IDS {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join(id);
        let (_, model) = read(&fixture());
        let scheme = Scheme::get(id).unwrap();
        let summary = quantize(&fixture(), id, &output, &PLAIN).unwrap();
        let predicted = predict(&model, scheme);
        let size = fs::metadata(output.join("model.safetensors"))
            .unwrap()
            .len();
        assert_eq!(predicted.file_bytes().0, size);
        assert_eq!(summary.file_bytes, size);
        let sum: u64 = summary.weights.iter().map(|w| w.assigned.bytes.0).sum();
        assert_eq!(predicted.tensor_bytes().0, sum);
        let assigned = scheme::assign(&model, scheme, Rules::default());
        assert_eq!(assigned.tensor_bytes().0, sum);
        // It is told in order, and ends with all that there is.
        assert!(summary.progress.is_sorted_by_key(|p| (p.bytes, p.tensors)));
        let last = summary.progress.last().unwrap();
        assert_eq!((last.bytes.0, last.tensors), (sum, summary.weights.len()));
    }
}

/// The same tensors through the safetensors library's own writer are the same file.
#[test]
fn the_file_is_the_one_that_the_library_writes() {
    for id in IDS {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join(id);
        quantize(&fixture(), id, &output, &PLAIN).unwrap();
        let bytes = fs::read(output.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let same = safetensors::serialize(file.tensors(), Some(metadata)).unwrap();
        assert!(same == bytes, "{id}");
    }
}

#[test]
fn two_runs_on_any_number_of_threads_write_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for id in IDS {
        let outputs = [1, 2, 5].map(|threads| {
            let output = directory.path().join(format!("{id}-{threads}"));
            let manner = Manner { threads, ..PLAIN };
            let summary = quantize(&fixture(), id, &output, &manner).unwrap();
            (contents(&output), summary)
        });
        assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2], "{id}");
    }
}

#[test]
fn the_configuration_says_how_and_all_else_is_carried_over() {
    let directory = tempfile::tempdir().unwrap();
    let input = copied(directory.path());
    for name in [
        "tokenizer.json",
        "generation_config.json",
        "chat_template.jinja",
        "LICENSE",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        ".gitattributes",
        "recipe.yaml",
    ] {
        fs::write(input.join(name), name).unwrap();
    }
    fs::create_dir(input.join("original")).unwrap();
    fs::create_dir(input.join("additional_chat_templates")).unwrap();
    fs::write(input.join("additional_chat_templates/rag.jinja"), "rag").unwrap();
    let output = directory.path().join("out");
    quantize(&input, "int4", &output, &PLAIN).unwrap();
    for (name, text) in [
        ("LICENSE", "LICENSE"),
        ("chat_template.jinja", "chat_template.jinja"),
        ("generation_config.json", "generation_config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("additional_chat_templates/rag.jinja", "rag"),
    ] {
        assert_eq!(fs::read_to_string(output.join(name)).unwrap(), text);
    }
    assert_eq!(fs::read_dir(&output).unwrap().count(), 7);

    let config = json(&output.join("config.json"));
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["hidden_size"], 256);
    let quantization = &config["quantization_config"];
    assert_eq!(quantization["quant_method"], "compressed-tensors");
    assert_eq!(quantization["format"], "pack-quantized");
    assert_eq!(quantization["ignore"], json!(["lm_head"]));
    let group = &quantization["config_groups"]["group_0"];
    assert_eq!(group["targets"], json!(["Linear"]));
    assert_eq!(group["input_activations"], Json::Null);
    for (key, value) in [
        ("num_bits", json!(4)),
        ("type", json!("int")),
        ("strategy", json!("group")),
        ("group_size", json!(128)),
        ("symmetric", json!(true)),
        ("dynamic", json!(false)),
    ] {
        assert_eq!(group["weights"][key], value, "{key}");
    }

    let output = directory.path().join("fp8");
    quantize(&input, "fp8", &output, &PLAIN).unwrap();
    let config = json(&output.join("config.json"));
    let quantization = &config["quantization_config"];
    assert_eq!(quantization["format"], "float-quantized");
    let group = &quantization["config_groups"]["group_0"];
    assert_eq!(group["weights"]["strategy"], "channel");
    assert_eq!(group["weights"]["type"], "float");
    assert_eq!(group["input_activations"]["strategy"], "token");
    assert_eq!(group["input_activations"]["dynamic"], true);
}

#[test]
fn files_above_the_limit_are_split_with_an_index_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, split) = (
        directory.path().join("whole"),
        directory.path().join("split"),
    );
    quantize(&fixture(), "int4", &whole, &PLAIN).unwrap();
    let manner = Manner {
        shard_bytes: 100_000,
        ..PLAIN
    };
    let summary = quantize(&fixture(), "int4", &split, &manner).unwrap();
    let (_, model) = read(&fixture());
    let predicted = predict_shards(&model, Scheme::get("int4").unwrap(), 100_000);
    assert_eq!(summary.file_bytes, predicted.file_bytes().0);
    let count = predicted.shards.len();
    assert!(count > 2);
    assert_eq!(fs::read_dir(&split).unwrap().count(), count + 2);
    let mut total = 0;
    for (number, shard) in predicted.shards.iter().enumerate() {
        let name = &shard.name;
        assert_eq!(
            *name,
            format!("model-{:05}-of-{count:05}.safetensors", number + 1)
        );
        let file = fs::read(split.join(name)).unwrap();
        assert_eq!(file.len() as u64, shard.bytes.0);
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let sum: usize = tensors.tensors().iter().map(|(_, t)| t.data().len()).sum();
        assert!(sum <= 100_000 || tensors.len() <= 3, "{name} holds {sum}");
        total += sum;
    }
    let index = json(&split.join("model.safetensors.index.json"));
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(values(&whole), values(&split));
}

/// A model of one block, with these widths, and experts if there are any.
fn model_of(directory: &Path, config: Json, tensors: &[(&str, &[usize])]) -> PathBuf {
    let input = directory.join("made");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("config.json"), config.to_string()).unwrap();
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(name, shape)| {
            let seed = name.len() as u32;
            let count: usize = shape.iter().product();
            let value =
                |i: u32| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 20) as f32 / 4096.0 - 0.5;
            let bits = (0..count as u32).map(|i| (value(i).to_bits() >> 16) as u16);
            bits.flat_map(u16::to_le_bytes).collect()
        })
        .collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        let bf16 = safetensors::Dtype::BF16;
        let view = safetensors::tensor::TensorView::new(bf16, shape.to_vec(), data).unwrap();
        ((*name).to_owned(), view)
    });
    safetensors::serialize_to_file(views, None, &input.join("model.safetensors")).unwrap();
    input
}

fn llama(inner: usize) -> Json {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128,
        "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 16,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16"
    })
}

const ATTENTION: &[(&str, &[usize])] = &[
    ("model.embed_tokens.weight", &[16, 128]),
    ("model.norm.weight", &[128]),
    ("model.layers.0.input_layernorm.weight", &[128]),
    ("model.layers.0.post_attention_layernorm.weight", &[128]),
    ("model.layers.0.self_attn.q_proj.weight", &[128, 128]),
    ("model.layers.0.self_attn.k_proj.weight", &[128, 128]),
    ("model.layers.0.self_attn.v_proj.weight", &[128, 128]),
    ("model.layers.0.self_attn.o_proj.weight", &[128, 128]),
];

#[test]
fn a_row_that_128_does_not_divide_stays_in_16_bit_with_a_note() {
    let directory = tempfile::tempdir().unwrap();
    let tensors = [
        ATTENTION,
        &[
            ("model.layers.0.mlp.gate_proj.weight", &[96, 128]),
            ("model.layers.0.mlp.up_proj.weight", &[96, 128]),
            ("model.layers.0.mlp.down_proj.weight", &[128, 96]),
        ],
    ]
    .concat();
    let input = model_of(directory.path(), llama(96), &tensors);
    let output = directory.path().join("out");
    let summary = quantize(&input, "int4", &output, &PLAIN).unwrap();
    let down = "model.layers.0.mlp.down_proj";
    let name = format!("{down}.weight");
    let kept = summary.weights.iter().find(|w| w.name == name).unwrap();
    assert_eq!(kept.assigned.dtype, Dtype::BF16);
    let tensors = vec![name.clone()];
    let group = 128;
    let words = false;
    let kept = Note::KeptShape {
        tensors,
        group,
        words,
    };
    assert_eq!(summary.notes, [kept, Note::NoTokenizer]);
    assert!(summary.notes[0].text().contains(&name));
    let config = json(&output.join("config.json"));
    assert_eq!(
        config["quantization_config"]["ignore"],
        json!(["lm_head", down])
    );
    // Byte for byte.
    let find = |path: &Path| {
        let bytes = fs::read(path.join("model.safetensors")).unwrap();
        SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensor(&name)
            .unwrap()
            .data()
            .to_vec()
    };
    assert_eq!(find(&input), find(&output));
}

/// The config and tensors of a block with two experts of width `INNER`.
fn mixture<const INNER: usize>() -> (Json, Vec<(&'static str, &'static [usize])>) {
    let config = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 128,
        "intermediate_size": 128, "moe_intermediate_size": INNER, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64, "num_experts": 2,
        "num_experts_per_tok": 1, "max_position_embeddings": 64, "vocab_size": 16,
        "tie_word_embeddings": true, "decoder_sparse_step": 1, "mlp_only_layers": []
    });
    let tensors = [
        ATTENTION,
        &[
            ("model.layers.0.self_attn.q_norm.weight", &[64]),
            ("model.layers.0.self_attn.k_norm.weight", &[64]),
            ("model.layers.0.mlp.gate.weight", &[2, 128]),
            (
                "model.layers.0.mlp.experts.0.gate_proj.weight",
                const { &[INNER, 128] },
            ),
            (
                "model.layers.0.mlp.experts.0.up_proj.weight",
                const { &[INNER, 128] },
            ),
            (
                "model.layers.0.mlp.experts.0.down_proj.weight",
                const { &[128, INNER] },
            ),
            (
                "model.layers.0.mlp.experts.1.gate_proj.weight",
                const { &[INNER, 128] },
            ),
            (
                "model.layers.0.mlp.experts.1.up_proj.weight",
                const { &[INNER, 128] },
            ),
            (
                "model.layers.0.mlp.experts.1.down_proj.weight",
                const { &[128, INNER] },
            ),
        ],
    ]
    .concat();
    (config, tensors)
}

/// Runtimes load a block's experts as one: if one matrix cannot be quantized, none is.
#[test]
fn experts_of_a_block_are_quantized_together_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (config, tensors) = mixture::<64>();
    let input = model_of(directory.path(), config, &tensors);
    let (_, model) = read(&input);
    for (id, quantized) in [("int4", 4), ("int4_g64", 10), ("fp8", 10)] {
        let output = directory.path().join(id);
        let summary = quantize(&input, id, &output, &PLAIN).unwrap();
        let count = summary
            .weights
            .iter()
            .filter(|w| w.assigned.reason == Reason::Default);
        let count = count.count();
        assert_eq!(count, quantized, "{id}");
        let sum: u64 = summary.weights.iter().map(|w| w.assigned.bytes.0).sum();
        let assigned = scheme::assign(&model, Scheme::get(id).unwrap(), Rules::default());
        assert_eq!(assigned.tensor_bytes().0, sum, "{id}");
        let config = json(&output.join("config.json"));
        let ignore = config["quantization_config"]["ignore"].as_array().unwrap();
        assert!(
            ignore.contains(&json!("model.layers.0.mlp.gate")),
            "{id}: the router"
        );
        assert_eq!(ignore.len(), 2 + (10 - quantized), "{id}");
    }
    // vLLM's kernel for experts has no zero points.
    let output = directory.path().join("asym");
    for (id, instead) in [("int4_asym", "int4"), ("int4_asym_g32", "int4_g32")] {
        let error = quantize(&input, id, &output, &PLAIN).unwrap_err();
        let said = error.to_string();
        let way = format!("choose {instead} instead of {id}");
        assert!(said.contains("experts") && said.contains(&way), "{said}");
        assert!(!output.exists());
    }
}

/// The bytes of every tensor of a directory with its shape, by name.
fn parts(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let all = file.tensors().into_iter();
    all.map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

/// Rows of 16-bit numbers as columns.
fn turned(rows: usize, bytes: &[u8]) -> Vec<u8> {
    let columns = bytes.len() / 2 / rows;
    let at = |row: usize, column: usize| &bytes[2 * (row * columns + column)..][..2];
    (0..columns)
        .flat_map(|column| (0..rows).flat_map(move |row| at(row, column).to_vec()))
        .collect()
}

/// A copy of a checkpoint whose experts are stored one by one, with stacks of them.
fn stacked(input: &Path, to: &Path, config: &Json, prefix: &str, transposed: bool) {
    let mut parts = parts(input);
    fs::create_dir(to).unwrap();
    fs::write(to.join("config.json"), config.to_string()).unwrap();
    let experts = "model.layers.0.mlp.experts";
    let mut stack = |names: &[&str], rows: usize, columns: usize| {
        let mut all = Vec::new();
        for expert in 0..2 {
            let own = names.iter().flat_map(|name| {
                let name = format!("{experts}.{expert}.{name}.weight");
                parts.remove(&name).unwrap().1
            });
            let own: Vec<u8> = own.collect();
            all.extend(if transposed { turned(rows, &own) } else { own });
        }
        let shape = if transposed {
            [2, columns, rows]
        } else {
            [2, rows, columns]
        };
        (shape.to_vec(), all)
    };
    let (gate_up, down) = (
        stack(&["gate_proj", "up_proj"], 192, 128),
        stack(&["down_proj"], 128, 96),
    );
    parts.insert(format!("{experts}.gate_up_proj"), gate_up);
    parts.insert(format!("{experts}.down_proj"), down);
    let views = parts.iter().map(|(name, (shape, data))| {
        let bf16 = safetensors::Dtype::BF16;
        let view = safetensors::tensor::TensorView::new(bf16, shape.clone(), data).unwrap();
        (name.replacen("model.", prefix, 1), view)
    });
    safetensors::serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
}

/// A stack is the same matrices: both forms of a checkpoint become the same directory.
#[test]
fn experts_in_a_stack_are_written_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let (config, tensors) = mixture::<96>();
    let input = model_of(directory.path(), config.clone(), &tensors);
    let vision = json!({
        "architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe",
        "text_config": config.as_object().unwrap().iter().map(|(key, value)| {
            (key.clone(), match key.as_str() {
                "model_type" => json!("qwen3_vl_moe_text"),
                _ => value.clone(),
            })
        }).collect::<serde_json::Map<_, _>>()
    });
    let (plain, turned) = (
        directory.path().join("plain"),
        directory.path().join("turned"),
    );
    stacked(&input, &plain, &config, "model.", false);
    stacked(&input, &turned, &vision, "model.language_model.", true);
    for id in ["int4_g32", "fp8"] {
        let output = |name: &str| directory.path().join(format!("{name}-{id}"));
        let one = quantize(&input, id, &output("one"), &PLAIN).unwrap();
        for (from, prefix) in [(&plain, "model."), (&turned, "model.language_model.")] {
            let to = output(prefix);
            let other = quantize(from, id, &to, &PLAIN).unwrap();
            assert_eq!(one.notes, other.notes, "{id} {prefix}");
            let parts_of_other = parts(&to);
            let renamed = parts(&output("one"))
                .into_iter()
                .map(|(name, part)| (name.replacen("model.", prefix, 1), part));
            assert!(renamed.eq(parts_of_other), "{id} {prefix}");
            // The plan counts the same.
            let (_, model) = read(from);
            let scheme = Scheme::get(id).unwrap();
            let planned = scheme::assign(&model, scheme, Rules::default()).tensor_bytes();
            let written: u64 = other.weights.iter().map(|w| w.assigned.bytes.0).sum();
            assert_eq!(planned.0, written);
            assert_eq!(predict(&model, scheme).file_bytes().0, other.file_bytes);
        }
        let same = |name: &str| json(&output(name).join("config.json"));
        assert_eq!(same("one"), same("model."));
    }
    // Where a matrix cannot be quantized, the stacks stay; runtimes ask whether single layers below them are ignored.
    let output = directory.path().join("int4");
    let summary = quantize(&plain, "int4", &output, &PLAIN).unwrap();
    let stacks = ["gate_up_proj", "down_proj"].map(|of| format!("model.layers.0.mlp.experts.{of}"));
    let Note::KeptShape { tensors, .. } = &summary.notes[0] else {
        panic!("{:?}", summary.notes)
    };
    assert!(
        stacks.iter().all(|stack| tensors.contains(stack)),
        "{tensors:?}"
    );
    assert_eq!(parts(&output)[&stacks[0]], parts(&plain)[&stacks[0]]);
    let ignore = &json(&output.join("config.json"))["quantization_config"]["ignore"];
    let entries = [
        "model.layers.0.mlp.experts",
        r"re:.*layers\.0\.mlp\.experts\..*",
    ];
    let listed = ignore.as_array().unwrap();
    assert!(
        entries.iter().all(|e| listed.contains(&json!(e))),
        "{ignore}"
    );
}

/// An FP8 directory is a checkpoint like any other: INT4 can be made of it, with a word of warning.
#[test]
fn a_quantized_checkpoint_is_unpacked_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let (fp8, int4) = (directory.path().join("fp8"), directory.path().join("int4"));
    quantize(&fixture(), "fp8", &fp8, &PLAIN).unwrap();
    let summary = quantize(&fp8, "int4", &int4, &PLAIN).unwrap();
    let now = "fp8".to_owned();
    let again = Note::DoubleQuantization { now };
    assert_eq!(summary.notes, [again, Note::NoTokenizer]);
    let config = json(&int4.join("config.json"));
    assert_eq!(config["quantization_config"]["format"], "pack-quantized");
    for ((name, _, first), (_, _, second)) in values(&fp8).iter().zip(values(&int4)) {
        let (mut off, mut all) = (0.0, 0.0);
        for (a, b) in first.iter().zip(&second) {
            off += f64::from(a - b).powi(2);
            all += f64::from(*a).powi(2);
        }
        assert!(off <= all * 0.02, "{name}: {off} of {all}");
    }
}

#[test]
fn weights_that_are_no_numbers_and_rows_of_zeros_are_reported_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let input = copied(directory.path());
    let path = input.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    let header = orinplan::safetensors::read_header(&path).unwrap();
    let tensor = header.tensors.iter().find(|t| t.name == name).unwrap();
    let at = tensor.offset as usize;
    assert_eq!(tensor.dtype, Dtype::BF16);
    bytes[at..at + 512].fill(0);
    // NaN and minus infinity.
    bytes[at + 512..at + 516].copy_from_slice(&[0xc0, 0x7f, 0x80, 0xff]);
    fs::write(&path, bytes).unwrap();
    for id in ["int4", "fp8"] {
        let output = directory.path().join(id);
        let summary = quantize(&input, id, &output, &PLAIN).unwrap();
        let counted = |count| vec![(name.to_owned(), count)];
        let expected = [
            Note::NoTokenizer,
            Note::NotFinite {
                tensors: counted(2),
            },
            Note::ZeroRows {
                tensors: counted(1),
            },
        ];
        assert_eq!(summary.notes, expected, "{id}");
        let all = values(&output);
        let (_, _, written) = all.iter().find(|(n, _, _)| n == name).unwrap();
        assert!(written[..258].iter().all(|&v| v == 0.0) && written.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn a_target_is_replaced_only_on_demand_and_only_if_it_is_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let input = copied(directory.path());
    let overwrite = Manner {
        overwrite: true,
        ..PLAIN
    };
    let output = directory.path().join("out");
    quantize(&input, "int4", &output, &PLAIN).unwrap();
    let before = contents(&output);
    let again = quantize(&input, "fp8", &output, &PLAIN);
    assert!(matches!(
        again,
        Err(QuantizeError::Output(OutputError::Exists { .. }))
    ));
    assert!(contents(&output) == before);
    // What a killed run left is cleaned up.
    let left = directory.path().join("out.orinplan-partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model.safetensors"), "half").unwrap();
    quantize(&input, "fp8", &output, &overwrite).unwrap();
    assert!(contents(&output) != before);
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["input", "out"]);
    // Killed between the renames: the old one comes back, and stays on an error.
    fs::rename(&output, directory.path().join("out.orinplan-old")).unwrap();
    assert!(matches!(
        quantize(&input, "fp8", &output, &PLAIN),
        Err(QuantizeError::Output(OutputError::Exists { .. }))
    ));
    assert_eq!(names(), ["input", "out"]);

    for own in [&input, directory.path()] {
        let error = quantize(&input, "int4", own, &overwrite);
        assert!(
            matches!(
                error,
                Err(QuantizeError::Output(OutputError::HoldsInput { .. }))
            ),
            "{own:?}"
        );
    }
    #[cfg(unix)]
    {
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&input, &link).unwrap();
        let error = quantize(&input, "int4", &link, &overwrite);
        assert!(matches!(
            error,
            Err(QuantizeError::Output(OutputError::HoldsInput { .. }))
        ));
        fs::remove_file(link).unwrap();
    }
    let home = directory.path().join("home");
    fs::create_dir_all(home.join("letters")).unwrap();
    fs::write(home.join("config.json"), "{}").unwrap();
    let error = quantize(&input, "int4", &home, &overwrite);
    assert!(matches!(
        error,
        Err(QuantizeError::Output(OutputError::NotAModel { .. }))
    ));
    assert!(home.join("letters").is_dir());
    // A directory with the name of a file is none of ours.
    let kept = output.join("model.safetensors");
    fs::rename(&kept, home.join("letters/model.safetensors")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("letter"), "mine").unwrap();
    let error = quantize(&input, "int4", &output, &overwrite);
    assert!(matches!(
        error,
        Err(QuantizeError::Output(OutputError::NotAModel { .. }))
    ));
    assert!(kept.join("letter").is_file());
}

/// Whether the disk of `directory` swaps two names in one step.
#[cfg(target_os = "linux")]
fn swaps_names(directory: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let names = ["one", "other"].map(|name| directory.join(name));
    for name in &names {
        fs::create_dir(name).unwrap();
    }
    let swapped = renameat_with(CWD, &names[0], CWD, &names[1], RenameFlags::EXCHANGE);
    for name in &names {
        fs::remove_dir(name).unwrap();
    }
    swapped.is_ok()
}

/// The old directory is never moved aside, which would leave its name without any: the name that it
/// would have meanwhile is taken.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_takes_the_place_of_another_in_one_step() {
    let directory = tempfile::tempdir().unwrap();
    if !swaps_names(directory.path()) {
        return;
    }
    let output = directory.path().join("out");
    quantize(&fixture(), "int4", &output, &PLAIN).unwrap();
    let overwrite = Manner {
        overwrite: true,
        ..PLAIN
    };
    let aside = directory.path().join("out.orinplan-old");
    let take = &mut |_| fs::write(&aside, "mine").unwrap();
    quantize_with(&fixture(), "fp8", &output, &overwrite, take).unwrap();
    let config = json(&output.join("config.json"));
    assert_eq!(config["quantization_config"]["format"], "float-quantized");
    assert_eq!(fs::read_to_string(&aside).unwrap(), "mine");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_directory_that_appears_meanwhile_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let letter = output.join("letter");
    let appear = &mut |_| {
        fs::create_dir_all(&output).unwrap();
        fs::write(&letter, "mine").unwrap();
    };
    let error = quantize_with(&fixture(), "fp8", &output, &PLAIN, appear);
    assert!(matches!(
        error,
        Err(QuantizeError::Output(OutputError::Exists { .. }))
    ));
    assert_eq!(fs::read_to_string(&letter).unwrap(), "mine");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn cancelling_and_errors_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let manner = Manner {
        cancel: true,
        ..PLAIN
    };
    for id in ["int4", "fp8"] {
        let cancelled = quantize(&fixture(), id, &output, &manner);
        assert!(matches!(cancelled, Err(QuantizeError::Interrupted)), "{id}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
