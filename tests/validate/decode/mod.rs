//! The decoder against llama.cpp (0.5.0-dev, CPU, cache in F16) on the same files, and what it does
//! with files and inputs that cannot be right. A GPU runs the steps of [`Engine::Tensors`].

pub(crate) mod tiny;

use std::path::Path;

use orinplan::checkpoint::{self, Pooling};
use orinplan::decode::{DecodeError, Engine, LoadOptions, Model, Tokenizer, greedy};
use orinplan::dtype::Dtype;
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown};
use orinplan::plan::Workload;
use orinplan::plan::kv::kv_cache;
use orinplan::runtime;
use orinplan::units::Bytes;

use crate::support::{assert_error, run_in};

/// llama.cpp's first six logits behind the first and behind the last of [`PROMPT`], and the likeliest
/// token behind each.
struct Expected {
    architecture: &'static str,
    first: [f32; 6],
    last: [f32; 6],
    likeliest: [u32; 24],
}

// One of the numbers is near pi.
#[allow(clippy::approx_constant)]
#[rustfmt::skip]
const EXPECTED: &[Expected] = &[
    Expected { architecture: "llama", first: [-0.263, 1.078, -1.549, 0.703, 0.342, -0.872], last: [1.903, -0.447, -0.927, 1.807, -1.31, -1.276],
        likeliest: [13, 65, 92, 33, 13, 10, 33, 52, 36, 46, 70, 85, 86, 79, 52, 70, 70, 86, 42, 13, 86, 78, 17, 60] },
    Expected { architecture: "qwen2", first: [0.291, -0.806, 3.175, 1.076, -0.03, -1.904], last: [-0.519, 2.466, 2.317, -0.715, 5.61, 1.566],
        likeliest: [41, 56, 57, 77, 11, 57, 57, 90, 56, 4, 72, 38, 10, 72, 0, 77, 77, 10, 43, 77, 51, 11, 4, 24] },
    Expected { architecture: "qwen3", first: [-2.308, -3.727, -0.514, 0.273, -2.46, 1.019], last: [0.513, -5.094, 0.12, -1.996, 1.978, -1.433],
        likeliest: [18, 56, 18, 18, 87, 87, 56, 11, 11, 32, 18, 17, 21, 22, 9, 22, 14, 94, 35, 26, 19, 31, 52, 55] },
    Expected { architecture: "smollm3", first: [1.393, -0.664, 2.695, -2.383, -1.469, 3.446], last: [-1.057, 2.04, 2.567, 1.106, -1.177, -0.665],
        likeliest: [20, 23, 92, 92, 43, 57, 43, 2, 23, 92, 92, 43, 2, 2, 9, 20, 53, 84, 39, 85, 1, 66, 53, 20] },
    Expected { architecture: "phi3", first: [-1.381, 1.628, -0.228, 1.399, -0.949, 0.739], last: [-0.384, -0.709, 0.445, -0.358, -0.981, 0.494],
        likeliest: [31, 86, 86, 57, 74, 25, 51, 5, 21, 90, 67, 18, 55, 70, 18, 84, 18, 87, 38, 87, 10, 70, 25, 88] },
    Expected { architecture: "gemma2", first: [1.356, 14.642, -0.512, -0.449, -3.346, 0.523], last: [1.667, 5.434, -0.874, -0.461, -4.312, 0.191],
        likeliest: [1, 8, 15, 22, 29, 36, 43, 50, 57, 64, 71, 78, 85, 2, 9, 16, 23, 30, 37, 44, 51, 58, 65, 72] },
    Expected { architecture: "gemma3", first: [-2.905, 11.311, 0.158, -2.533, -1.138, 2.278], last: [2.695, 3.494, 2.52, -1.315, -4.267, 1.96],
        likeliest: [1, 8, 15, 22, 29, 36, 43, 50, 57, 64, 71, 78, 85, 2, 9, 16, 23, 21, 37, 44, 51, 58, 65, 72] },
    Expected { architecture: "gemma3n", first: [1.369, 2.684, 3.154, -1.747, 0.907, 0.783], last: [7.088, -3.982, 3.164, -0.48, 2.091, 0.522],
        likeliest: [55, 5, 72, 58, 68, 54, 68, 5, 61, 10, 59, 59, 62, 88, 19, 52, 55, 75, 94, 47, 1, 5, 10, 0] },
    Expected { architecture: "starcoder2", first: [-4.042, -2.256, 2.498, -2.625, 1.246, 2.055], last: [-2.002, -0.404, 5.248, -0.007, -3.356, 2.611],
        likeliest: [93, 8, 2, 93, 93, 83, 93, 50, 2, 93, 81, 2, 59, 59, 59, 59, 59, 81, 83, 59, 59, 93, 59, 59] },
    Expected { architecture: "qwen3moe", first: [-2.351, 2.009, 1.263, -2.637, -1.717, -2.153], last: [2.429, 0.313, 0.713, -0.292, 2.821, -5.375],
        likeliest: [41, 10, 41, 18, 56, 70, 43, 59, 57, 59, 59, 78, 65, 92, 31, 95, 31, 31, 92, 39, 92, 63, 65, 92] },
    Expected { architecture: "lfm2", first: [-0.826, 1.287, -1.487, -3.141, -1.351, -1.947], last: [0.5, 0.012, 0.385, -1.198, -0.483, 1.215],
        likeliest: [23, 68, 29, 38, 43, 25, 93, 17, 71, 10, 92, 92, 39, 71, 31, 89, 80, 58, 69, 56, 38, 80, 26, 39] },
    Expected { architecture: "qwen35", first: [-2.498, 7.896, 1.278, 1.228, -2.109, 1.978], last: [-1.432, 0.852, -0.06, -2.513, 2.424, -2.158],
        likeliest: [1, 43, 28, 57, 7, 1, 15, 40, 37, 33, 12, 78, 61, 23, 65, 26, 62, 7, 27, 44, 51, 28, 8, 44] },
    Expected { architecture: "qwen3next", first: [0.309, 7.353, 0.462, 1.732, -0.857, -3.146], last: [5.038, -1.104, 0.878, -1.096, 4.388, -3.927],
        likeliest: [1, 78, 43, 34, 0, 7, 5, 49, 57, 20, 17, 14, 85, 85, 9, 21, 57, 72, 39, 9, 72, 57, 37, 29] },
    Expected { architecture: "kimi-linear", first: [-0.258, 1.626, 0.532, -0.433, -0.334, 2.378], last: [-0.467, -1.154, -0.182, 1.028, -0.44, 0.092],
        likeliest: [64, 36, 9, 37, 76, 89, 67, 1, 62, 56, 57, 59, 76, 95, 63, 37, 6, 63, 77, 14, 76, 64, 30, 77] },
    Expected { architecture: "rwkv7", first: [-1.203, -1.161, 0.016, -1.213, 0.216, 1.435], last: [0.533, 0.353, 0.837, -0.74, -3.017, -0.431],
        likeliest: [12, 82, 11, 52, 64, 93, 71, 71, 29, 75, 91, 5, 12, 29, 93, 22, 93, 93, 22, 9, 10, 11, 95, 10] },
];

/// llama.cpp's first six numbers of the vector of [`PROMPT`].
const VECTORS: [(Pooling, [f32; 6]); 3] = [
    (
        Pooling::Mean,
        [0.999, 0.3935, -0.3212, -0.6567, 1.8919, 0.2281],
    ),
    (
        Pooling::Cls,
        [0.5888, 0.5678, -0.4437, -0.2301, 1.8603, 0.6024],
    ),
    (
        Pooling::Last,
        [0.0303, 0.2986, -0.4568, -1.0982, 2.0889, -0.5474],
    ),
];

/// 24 tokens: three times the windows of the windowed models.
fn prompt() -> Vec<u32> {
    (0..24).map(|i| 1 + 7 * i % 90).collect()
}

fn load(path: &Path, options: &LoadOptions) -> Result<Model, DecodeError> {
    let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
    let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
    Model::load(&checkpoint, &spec, options, &mut |_| {})
}

/// Those of this machine: a GPU among them in a build with `--features cuda` where there is one.
fn engines() -> impl Iterator<Item = Engine> {
    let all = [Engine::Cpu, Engine::Tensors, Engine::Cuda];
    all.into_iter().filter(|engine| engine.is_there())
}

fn small() -> LoadOptions {
    LoadOptions {
        context: 64,
        ..LoadOptions::default()
    }
}

#[track_caller]
fn near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what}: {found} for {expected}"
        );
    }
}

/// How far logits may be from llama.cpp's, and how close the two likeliest tokens for their order to say nothing.
/// Behind the 25 blocks of gemma3n llama.cpp's own two ways through attention are 0.1 apart.
fn tolerances(architecture: &str) -> (f32, f32) {
    match architecture {
        "gemma3n" => (0.15, 0.15),
        _ => (0.02, 0.01),
    }
}

#[test]
fn every_architecture_gives_the_logits_of_llama_cpp() {
    let directory = tempfile::tempdir().unwrap();
    for expected in EXPECTED {
        let name = expected.architecture;
        let path = directory.path().join(format!("{name}.gguf"));
        tiny::write(name, &path, |_, _| {});
        for engine in engines() {
            let what = format!("{name}, {engine:?}");
            let options = LoadOptions { engine, ..small() };
            let mut model = load(&path, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
            let logits = model.logits(&prompt()).unwrap();
            let rows: Vec<&[f32]> = logits.chunks(tiny::VOCABULARY as usize).collect();
            let (apart, tie) = tolerances(name);
            near(rows[0], &expected.first, apart, &what);
            near(rows[23], &expected.last, apart, &what);
            for (row, likeliest) in rows.iter().zip(expected.likeliest) {
                let lead = row[greedy(row) as usize] - row[likeliest as usize];
                assert!(
                    lead < tie,
                    "{what}: {} for {likeliest}, ahead by {lead}",
                    greedy(row)
                );
            }
        }
    }
}

/// BERT: a token attends to all of its text, in one pass however short passes are; nothing is generated. The numbers are
/// llama.cpp's.
#[test]
fn a_text_becomes_one_vector() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bert.gguf");
    tiny::write("bert", &path, |_, _| {});
    for engine in engines() {
        let options = LoadOptions {
            engine,
            ubatch: 5,
            ..small()
        };
        let mut model = load(&path, &options).unwrap();
        for (pooling, expected) in VECTORS {
            let vector = model.embed(&prompt(), pooling).unwrap();
            assert_eq!(vector.len(), 64);
            near(
                &vector,
                &expected,
                0.005,
                &format!("{pooling:?}, {engine:?}"),
            );
        }
        let refused = model.embed(&prompt(), Pooling::Rank);
        assert!(matches!(refused, Err(DecodeError::NoRanker)));
        assert!(matches!(
            model.prefill(&prompt()),
            Err(DecodeError::OnlyEmbeds)
        ));
    }
}

/// Scores of a head of BERT behind the first token, and of one of Qwen3-Reranker behind the last as shares of one. The numbers
/// are llama.cpp's.
#[test]
fn a_text_gets_the_scores_of_a_head() {
    let directory = tempfile::tempdir().unwrap();
    let expected: [(&str, &[f32]); 2] = [("bert", &[-0.1225]), ("qwen3", &[0.5929, 0.4071])];
    for (name, expected) in expected {
        let path = directory.path().join(format!("{name}.gguf"));
        tiny::write(name, &path, |metadata, tensors| {
            metadata.retain(|(key, _)| !key.ends_with("pooling_type"));
            metadata.push((format!("{name}.pooling_type"), Value::U32(4)));
            let labels = ["yes", "no"].map(|label| Value::String(label.into()));
            let labels = Value::Array(labels[..expected.len()].to_vec());
            metadata.push((format!("{name}.classifier.output_labels"), labels));
            if name == "bert" {
                tensors.push(("cls.weight".into(), vec![64, 64]));
                tensors.push(("cls.bias".into(), vec![64]));
                tensors.push(("cls.output.bias".into(), vec![1]));
            }
            tensors.push(("cls.output.weight".into(), vec![expected.len() as u64, 64]));
        });
        for engine in engines() {
            let options = LoadOptions { engine, ..small() };
            let mut model = load(&path, &options).unwrap();
            let scores = model.embed(&prompt(), Pooling::Rank).unwrap();
            assert_eq!(scores.len(), expected.len());
            near(&scores, expected, 0.005, &format!("{name}, {engine:?}"));
        }
    }
}

/// What `validate` measures of it is the rate of texts, and memory; generating is not spoken of.
#[test]
fn an_embedding_model_is_measured_by_its_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bert.gguf");
    tiny::write("bert", &path, |metadata, _| {
        metadata.retain(|(key, _)| {
            !key.starts_with("tokenizer.ggml.") || key.ends_with("token_type_count")
        });
        let none = Value::String("no_vocab".into());
        metadata.push(("tokenizer.ggml.model".into(), none));
        metadata.push(("bert.vocab_size".into(), Value::U32(96)));
    });
    let model = path.to_string_lossy();
    let words = "--prompt-tokens 40 --repeats 2 --device orin-nano-8gb --runtime candle-cpu";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.splice(0..0, ["validate", &model]);
    let said = run_in(folder.path(), &words);
    assert!(said.out.contains("a text of 40 tokens"), "{}", said.err);
    assert!(!said.out.contains("decode,"), "{}", said.out);
    words.extend(["--format", "json"]);
    let run = run_in(folder.path(), &words);
    let document = crate::schema::document(&run.out);
    let number = |pointer: &str| document.pointer(pointer).unwrap().as_f64();
    assert_eq!(number("/workload/generated_tokens"), Some(0.0));
    assert!(number("/measured/prefill_tokens_per_second") > Some(0.0));
    for nothing in [
        "/measured/decode_tokens_per_second",
        "/measured/time_to_first_token_seconds",
        "/predicted/decode_tokens_per_second",
        "/error/decode_percent",
    ] {
        assert_eq!(number(nothing), None, "{nothing}");
    }
    words.extend(["--backend", "llama-bench"]);
    let refused = run_in(folder.path(), &words);
    assert_error(
        &refused,
        &["it has no tokens to measure", "without --backend"],
    );
}

/// In one pass, a few tokens a pass, token by token and after a reset: the same logits.
#[test]
fn how_a_prompt_is_cut_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "qwen3",
        "gemma3",
        "lfm2",
        "qwen35",
        "qwen3next",
        "kimi-linear",
        "rwkv7",
    ] {
        let path = directory.path().join(format!("{name}.gguf"));
        tiny::write(name, &path, |_, _| {});
        for engine in engines() {
            let what = format!("{name}, {engine:?}");
            let options = LoadOptions { engine, ..small() };
            let mut model = load(&path, &options).unwrap();
            let whole = model.prefill(&prompt()).unwrap().to_vec();
            model.reset();
            for token in &prompt()[..23] {
                model.step(*token).unwrap();
            }
            near(model.step(prompt()[23]).unwrap(), &whole, 1e-3, &what);
            assert_eq!(model.position(), 24);
            let few = LoadOptions {
                ubatch: 5,
                ..options
            };
            let mut in_parts = load(&path, &few).unwrap();
            near(in_parts.prefill(&prompt()).unwrap(), &whole, 1e-3, &what);
        }
    }
}

/// Both engines agree where a windowed block has written over the cells of its first tokens: 256
/// cells, twice.
#[test]
fn a_ring_that_went_round_is_read_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gemma3.gguf");
    tiny::write("gemma3", &path, |_, _| {});
    let logits = engines().map(|engine| {
        let options = LoadOptions {
            context: 1024,
            ubatch: 30,
            engine,
            ..LoadOptions::default()
        };
        let mut model = load(&path, &options).unwrap();
        for token in 0..19 {
            let some: Vec<u32> = (0..31).map(|i| (token * 31 + i * i) % 90).collect();
            model.prefill(&some).unwrap();
        }
        model.step(1).unwrap().to_vec()
    });
    let logits: Vec<Vec<f32>> = logits.collect();
    assert!(logits.len() > 1);
    for others in &logits[1..] {
        near(others, &logits[0], 0.01, "gemma3");
    }
}

/// A model whose heads are as wide as a block of a quantized cache.
fn write_wide(path: &Path) {
    tiny::write("qwen2", path, |metadata, _| {
        for (key, value) in metadata {
            match key.as_str() {
                "qwen2.attention.head_count" => *value = Value::U32(2),
                "qwen2.attention.head_count_kv" => *value = Value::U32(1),
                "qwen2.attention.key_length" | "qwen2.attention.value_length" => {
                    *value = Value::U32(32)
                }
                _ => {}
            }
        }
    });
}

/// A quantized cache costs precision, not sense, and the bytes of its formats.
#[test]
fn quantized_caches_are_smaller_and_near() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wide.gguf");
    // Heads of 16 cannot be cached in blocks of 32.
    tiny::write("qwen2", &path, |_, _| {});
    let cached = |engine, [type_k, type_v]: [Dtype; 2]| LoadOptions {
        type_k,
        type_v,
        engine,
        ..small()
    };
    assert!(matches!(
        load(&path, &cached(Engine::Cpu, [Dtype::F16, Dtype::Q8_0])),
        Err(DecodeError::KvWidth { width: 16, .. })
    ));
    assert!(matches!(
        load(&path, &cached(Engine::Cpu, [Dtype::F16, Dtype::IQ4_NL])),
        Err(DecodeError::KvType {
            dtype: Dtype::IQ4_NL
        })
    ));
    write_wide(&path);
    let full = load(&path, &small())
        .unwrap()
        .prefill(&prompt())
        .unwrap()
        .to_vec();
    for engine in engines() {
        for (types, apart) in [
            ([Dtype::F32, Dtype::F32], 0.02),
            ([Dtype::BF16, Dtype::BF16], 0.3),
            ([Dtype::Q8_0, Dtype::Q8_0], 0.3),
            ([Dtype::Q8_0, Dtype::Q4_0], 2.0),
            ([Dtype::Q5_0, Dtype::Q5_1], 2.0),
            ([Dtype::Q4_1, Dtype::Q4_0], 4.0),
        ] {
            let mut model = load(&path, &cached(engine, types)).unwrap();
            let what = format!("{types:?}, {engine:?}");
            let logits = model.prefill(&prompt()).unwrap();
            near(logits, &full, apart, &what);
        }
    }
}

/// What the cache takes is what the plan of this runtime counts, windowed and recurrent blocks included.
#[test]
fn the_cache_is_as_large_as_planned() {
    let directory = tempfile::tempdir().unwrap();
    let mut quantized = 0;
    let names = EXPECTED.iter().map(|expected| expected.architecture);
    for name in names.chain(["wide"]) {
        let path = directory.path().join(format!("{name}.gguf"));
        match name {
            "wide" => write_wide(&path),
            name => tiny::write(name, &path, |_, _| {}),
        }
        let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
        let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
        for id in ["candle-cpu", "candle"] {
            let profile = runtime::find(id).unwrap();
            for [type_k, type_v] in [
                [Dtype::F16, Dtype::F16],
                [Dtype::F32, Dtype::BF16],
                [Dtype::Q8_0, Dtype::Q4_0],
                [Dtype::Q5_1, Dtype::Q4_1],
            ] {
                let workload = Workload {
                    context: 77,
                    ubatch: 5,
                    type_k,
                    type_v,
                    ..Workload::default()
                };
                let settings = workload.kv_settings(profile.memory.context_multiple.value);
                let options = LoadOptions {
                    context: 77,
                    ubatch: 5,
                    type_k,
                    type_v,
                    engine: match id {
                        "candle" => Engine::Tensors,
                        _ => Engine::Cpu,
                    },
                    ..LoadOptions::default()
                };
                let what = format!("{name}, {type_k:?} and {type_v:?} with {id}");
                match load(&path, &options) {
                    Ok(model) => {
                        let planned = kv_cache(&spec, &settings).total();
                        // Latents are held a second time, as values.
                        let copies = match name {
                            "kimi-linear" => type_v.row_bytes(32) * 77,
                            _ => Bytes(0),
                        };
                        assert_eq!(model.memory_use().cache, planned + copies, "{what}");
                        quantized += usize::from(type_v.is_quantized());
                    }
                    Err(DecodeError::KvWidth { .. }) => assert!(type_k.is_quantized(), "{what}"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
    // Of the wide model, and of the one that caches nothing.
    assert_eq!(quantized, 8);
}

#[test]
fn inputs_that_cannot_be_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qwen3.gguf");
    tiny::write("qwen3", &path, |_, _| {});
    let mut model = load(&path, &small()).unwrap();
    assert!(matches!(model.prefill(&[]), Err(DecodeError::NoTokens)));
    assert!(matches!(
        model.step(96),
        Err(DecodeError::UnknownToken { token: 96, .. })
    ));
    assert!(matches!(
        model.prefill(&[1; 65]),
        Err(DecodeError::ContextFull { tokens: 65, .. })
    ));
    assert!(model.prefill(&[1; 64]).is_ok());
    assert!(matches!(
        model.step(1),
        Err(DecodeError::ContextFull { .. })
    ));
}

type Metadata = Vec<(String, Value)>;
type Shapes = Vec<(String, Vec<u64>)>;

#[test]
fn files_that_cannot_be_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hostile.gguf");
    let fails = |architecture: &str, change: &dyn Fn(&mut Metadata, &mut Shapes)| {
        tiny::write(architecture, &path, |metadata, tensors| {
            change(metadata, tensors)
        });
        let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
        let message = match model::read(&checkpoint, Unknown::Refuse) {
            Ok(_) => load(&path, &small()).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        message.unwrap_or_else(|| panic!("{architecture} was loaded"))
    };
    let set = |metadata: &mut Vec<(String, Value)>, end: &str, value: u32| {
        let pair = metadata
            .iter_mut()
            .find(|(key, _)| key.ends_with(end))
            .unwrap();
        pair.1 = Value::U32(value);
    };
    let message = fails("qwen3", &|_, tensors| drop(tensors.remove(3)));
    assert!(
        message.contains("blk.0.attn_q.weight` is missing"),
        "{message}"
    );
    let message = fails("qwen3", &|_, tensors| tensors[3].1 = vec![32, 64]);
    assert!(message.contains("shape [32, 64]"), "{message}");
    let message = fails("qwen3", &|_, tensors| {
        tensors.push(("blk.0.attn_sinks.weight".into(), vec![4]))
    });
    assert!(message.contains("attn_sinks"), "{message}");
    let message = fails("qwen3", &|metadata, _| {
        set(metadata, "attention.head_count_kv", 3)
    });
    assert!(
        message.contains("3 key heads") || message.contains("shape"),
        "{message}"
    );
    let message = fails("qwen35", &|metadata, _| set(metadata, "ssm.state_size", 7));
    assert!(
        message.contains("cannot be right") || message.contains("shape"),
        "{message}"
    );
}

#[test]
fn the_tokenizer_of_a_file_gives_back_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qwen3.gguf");
    tiny::write("qwen3", &path, |_, _| {});
    let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
    let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
    let tokenizer = Tokenizer::read(&checkpoint, &spec).unwrap();
    assert_eq!(tokenizer.decode(&[7, 95]), "t7t95");
    assert_eq!(tokenizer.len(), 96);
}
