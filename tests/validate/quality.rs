//! `imatrix`, `compare` and `quantize` to a size, on small models whose predictions are computed here in double precision.

use std::path::{Path, PathBuf};

use orinplan::checkpoint;
use orinplan::decode::{LoadOptions, Model, Tokenizer};
use orinplan::gguf::{StringList, Value, read_header};
use orinplan::model::{self, Unknown};
use orinplan::quantize::Importance;
use tempfile::TempDir;

use crate::decode::tiny;
use crate::schema::page;
use crate::support::{Run, assert_error, document, run_in};

/// A folder with a model called `model.gguf`, whose vocabulary is the printable characters of ASCII, and a text.
pub(crate) fn folder(architecture: &str) -> TempDir {
    folder_with(architecture, |_, _| {})
}

/// A folder with a model of rows that are whole super-blocks, where `change` is to widen it.
pub(crate) fn folder_with(
    architecture: &str,
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(String, Vec<u64>)>),
) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(
        architecture,
        &folder.path().join("model.gguf"),
        |metadata, tensors| {
            let mut tokens = StringList::default();
            for c in '!'..='~' {
                tokens.push(&c.to_string());
            }
            // The names of a blank and of a line's end in byte-level vocabularies.
            tokens.push("\u{120}");
            tokens.push("\u{10a}");
            for (key, value) in metadata.iter_mut() {
                if key == "tokenizer.ggml.tokens" {
                    *value = Value::Strings(tokens.clone());
                }
            }
            change(metadata, tensors);
        },
    );
    let words = [
        "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog.",
    ];
    let text: Vec<&str> = (0..400)
        .map(|i| words[(i * i + i / 7) % words.len()])
        .collect();
    std::fs::write(folder.path().join("text.txt"), text.join(" ")).unwrap();
    folder
}

pub(crate) fn orinplan(folder: &TempDir, words: &[&str]) -> Run {
    let at = |word: &&str| {
        let is_file = [".gguf", ".txt", ".keep", ".types", ".json"]
            .iter()
            .any(|end| word.ends_with(end));
        match is_file {
            true => folder.path().join(word).to_string_lossy().into_owned(),
            false => (*word).to_owned(),
        }
    };
    let words: Vec<String> = words.iter().map(at).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run_in(folder.path(), &words)
}

#[track_caller]
pub(crate) fn succeeds(folder: &TempDir, words: &[&str]) -> String {
    let run = orinplan(folder, words);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    run.out
}

struct Loaded {
    model: Model,
    tokenizer: Tokenizer,
}

fn load(path: &Path) -> Loaded {
    let checkpoint = checkpoint::open(&path.to_string_lossy()).unwrap();
    let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
    let options = LoadOptions {
        context: 128,
        ..LoadOptions::default()
    };
    Loaded {
        model: Model::load(&checkpoint, &spec, &options, &mut |_| {}).unwrap(),
        tokenizer: Tokenizer::read(&checkpoint, &spec).unwrap(),
    }
}

/// The logarithms of the probabilities of a row of logits.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - most).exp()).sum();
    logits
        .iter()
        .map(|x| f64::from(*x) - most - sum.ln())
        .collect()
}

/// The first block's attention gets the embeddings of the text, normalized and weighted.
#[test]
fn an_importance_matrix_holds_the_mean_squares_of_activations() {
    let folder = folder("qwen3");
    let said = succeeds(
        &folder,
        &[
            "imatrix",
            "model.gguf",
            "--text",
            "text.txt",
            "--chunk-tokens",
            "64",
            "--chunks",
            "3",
            "--output",
            "i.gguf",
        ],
    );
    assert!(
        said.contains("over 3\n  chunks of 64 tokens of text.txt") || said.contains("3 chunks"),
        "{said}"
    );
    let path = folder.path().join("model.gguf");
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    let ids = load(&path).tokenizer.encode(&text, false).unwrap();
    let header = read_header(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let tensor = |name: &str| -> Vec<f64> {
        let tensor = header
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .unwrap();
        let bytes = &bytes[tensor.offset as usize..][..tensor.bytes.0 as usize];
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect()
    };
    let (embedding, norm) = (
        tensor("token_embd.weight"),
        tensor("blk.0.attn_norm.weight"),
    );
    let width = norm.len();
    let mut expected = vec![0.0; width];
    for id in &ids[..192] {
        let row = &embedding[*id as usize * width..][..width];
        let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
        for (sum, (x, weight)) in expected.iter_mut().zip(row.iter().zip(&norm)) {
            *sum += (x * weight).powi(2) / (mean + 1e-5) / 192.0;
        }
    }
    let importance = Importance::open(&folder.path().join("i.gguf")).unwrap();
    assert_eq!(importance.chunks, 3);
    assert_eq!(importance.datasets, ["text.txt"]);
    for name in ["attn_q", "attn_k", "attn_v"] {
        let found = importance.of(&format!("blk.0.{name}.weight")).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            let off = (f64::from(*found) / expected - 1.0).abs();
            assert!(off < 1e-4, "{name}: {found} for {expected}");
        }
    }
    // Seven matrices in each block; the head is only collected when asked for.
    assert_eq!(importance.len() % 7, 0);
    assert!(
        importance
            .of("output.weight")
            .or(importance.of("token_embd.weight"))
            .is_none()
    );
    // It is what `quantize --imatrix` takes.
    succeeds(
        &folder,
        &[
            "quantize",
            "model.gguf",
            "--scheme",
            "q4_0",
            "--imatrix",
            "i.gguf",
            "--output",
            "q.gguf",
        ],
    );
    let run = orinplan(
        &folder,
        &[
            "imatrix",
            "model.gguf",
            "--text",
            "text.txt",
            "--output",
            "i.gguf",
        ],
    );
    assert_error(&run, &["i.gguf", "already exists", "--overwrite"]);
}

/// Every token is sent to as many experts as the model uses.
#[test]
fn each_expert_has_its_own_counts() {
    let folder = folder("qwen3moe");
    succeeds(
        &folder,
        &[
            "imatrix",
            "model.gguf",
            "--text",
            "text.txt",
            "--chunk-tokens",
            "64",
            "--chunks",
            "2",
            "--process-output",
            "--output",
            "i.gguf",
        ],
    );
    let path = folder.path().join("i.gguf");
    let header = read_header(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let counts = |name: &str| -> Vec<f32> {
        let tensor = header
            .tensors
            .iter()
            .find(|tensor| tensor.name == format!("{name}.counts"));
        let tensor = tensor.unwrap_or_else(|| panic!("no counts of {name}"));
        let bytes = &bytes[tensor.offset as usize..][..tensor.bytes.0 as usize];
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    };
    let used = header.metadata.u64("qwen3moe.expert_used_count").unwrap();
    let model = read_header(&folder.path().join("model.gguf")).unwrap();
    assert_eq!(used, None, "an importance matrix has no hyperparameters");
    let used = model
        .metadata
        .u64("qwen3moe.expert_used_count")
        .unwrap()
        .unwrap();
    for part in ["gate", "up", "down"] {
        let counts = counts(&format!("blk.0.ffn_{part}_exps.weight"));
        assert!(counts.len() > 1);
        assert_eq!(counts.iter().sum::<f32>(), 128.0 * used as f32, "{part}");
    }
    assert_eq!(counts("blk.0.ffn_gate_inp.weight"), [128.0]);
}

#[test]
fn divergence_is_that_of_the_predictions() {
    let folder = folder("qwen3");
    succeeds(
        &folder,
        &[
            "quantize",
            "model.gguf",
            "--scheme",
            "q4_0",
            "--output",
            "q.gguf",
        ],
    );
    let words = [
        "compare",
        "model.gguf",
        "q.gguf",
        "model.gguf",
        "--text",
        "text.txt",
        "--chunk-tokens",
        "64",
        "--chunks",
        "2",
        "--format",
        "json",
        "--keep",
        "r.keep",
    ];
    let first = orinplan(&folder, &words);
    let report = document(&first, 0);
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (mut reference, mut candidate) = (load(&path("model.gguf")), load(&path("q.gguf")));
    let ids = reference.tokenizer.encode(&text, false).unwrap();
    let (mut sum, mut same, mut loss, mut count) = (0.0, 0, 0.0, 0);
    for chunk in ids.chunks_exact(64).take(2) {
        let rows = |model: &mut Model| -> Vec<Vec<f64>> {
            model.reset();
            let logits = model.logits(chunk).unwrap();
            logits
                .chunks(tiny::VOCABULARY as usize)
                .map(log_softmax)
                .collect()
        };
        let (p, q) = (rows(&mut reference.model), rows(&mut candidate.model));
        for place in 32..63 {
            let (p, q) = (&p[place], &q[place]);
            sum += p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            let top = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
            same += usize::from(top(p) == top(q));
            loss -= q[chunk[place + 1] as usize];
            count += 1;
        }
    }
    let mean = sum / f64::from(count);
    assert_eq!(report["schema"], "orinplan.compare/1");
    assert_eq!(report["text"]["scored_tokens"], count);
    let found = &report["candidates"][0];
    let near = |value: &serde_json::Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!(
            (value / expected - 1.0).abs() < 2e-3,
            "{value} for {expected}"
        );
    };
    near(&found["kld"]["mean"], mean);
    near(
        &found["perplexity"]["value"],
        (loss / f64::from(count)).exp(),
    );
    near(
        &found["same_top"]["percent"],
        100.0 * same as f64 / f64::from(count),
    );
    assert_eq!(found["format"], "Q4_0");
    let itself = &report["candidates"][1];
    assert!(
        itself["kld"]["mean"].as_f64().unwrap().abs() < 1e-6,
        "{itself}"
    );
    assert_eq!(itself["same_top"]["percent"], 100.0);
    assert_eq!(itself["kv_type"], "f16");
    // The kept predictions give the same report, and are those of this text and model alone.
    assert_eq!(orinplan(&folder, &words).out, first.out);
    let mut other = words;
    let at = other.iter().position(|word| *word == "r.keep").unwrap();
    for input in ["q.gguf", "text.txt"] {
        other[at] = input;
        assert_error(&orinplan(&folder, &other), &[input, "which is an input"]);
    }
    let mut other = words;
    other[7] = "32";
    assert_error(&orinplan(&folder, &other), &["r.keep", "another text"]);
    let mut other = words;
    other[1] = "q.gguf";
    assert_error(&orinplan(&folder, &other), &["r.keep", "another reference"]);
    let run = orinplan(
        &folder,
        &[
            "compare",
            "model.gguf",
            "q.gguf",
            "--text",
            "text.txt",
            "--chunk-tokens",
            "100000",
        ],
    );
    assert_error(&run, &["text.txt", "--chunk-tokens"]);
}

/// The page of a comparison carries what scripts get, and says the same.
#[test]
fn a_comparison_is_a_page_too() {
    let folder = folder("qwen3");
    let quantize = [
        "quantize",
        "model.gguf",
        "--scheme",
        "q4_0",
        "--output",
        "q.gguf",
    ];
    succeeds(&folder, &quantize);
    let compare = [
        "compare",
        "model.gguf",
        "q.gguf",
        "--text",
        "text.txt",
        "--chunk-tokens",
        "64",
        "--chunks",
        "2",
        "--format",
    ];
    let form = |form: &str| succeeds(&folder, &[&compare[..], &[form]].concat());
    let page = form("html");
    assert_eq!(
        page::document(&page),
        serde_json::from_str::<serde_json::Value>(&form("json")).unwrap()
    );
    assert!(page.contains("id=\"quality\"") && page.contains("id=\"agreement\""));
    assert!(form("svg").starts_with("<svg "));
    let words = [&compare[..], &["svg", "--figure", "memory"]].concat();
    let wrong = orinplan(&folder, &words);
    assert_error(&wrong, &["`memory`", "quality, agreement"]);
}

#[test]
fn a_mix_has_the_size_asked_for_and_is_the_same_again() {
    let folder = folder("qwen3");
    succeeds(
        &folder,
        &[
            "quantize",
            "model.gguf",
            "--scheme",
            "q4_0",
            "--output",
            "plain.gguf",
        ],
    );
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    let target = (size("plain.gguf") + 2000).to_string() + "B";
    let mix = |output: &str| {
        let words = [
            "quantize",
            "model.gguf",
            "--target-size",
            &target,
            "--text",
            "text.txt",
            "--chunk-tokens",
            "64",
            "--save-types",
            "list.types",
            "--save-sensitivity",
            "costs.json",
            "--output",
            output,
            "--format",
            "json",
        ];
        document(&orinplan(&folder, &words), 0)
    };
    let report = mix("a.gguf");
    assert!(size("a.gguf") <= size("plain.gguf") + 2000);
    assert_eq!(report["file_bytes"], size("a.gguf"));
    let kld = |of: &serde_json::Value| of["kld"]["value"].as_f64().unwrap();
    let of = &report["mix"];
    assert_eq!(of["plain"]["scheme"], "Q4_0");
    let (mixed, plain) = (kld(&of["measured"]), kld(&of["plain"]));
    assert_eq!(of["taken"], if mixed < plain { "mix" } else { "plain" });
    // The same bytes again, and nothing of the search is left beside them.
    mix("b.gguf");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("a.gguf") == read("b.gguf"));
    let left = std::fs::read_dir(folder.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("orinplan-")),
        "{left:?}"
    );
    // The list of types makes the same file of tensors.
    succeeds(
        &folder,
        &[
            "quantize",
            "model.gguf",
            "--types",
            "list.types",
            "--output",
            "c.gguf",
        ],
    );
    let types = |name: &str| -> Vec<(String, &'static str)> {
        let header = read_header(&folder.path().join(name)).unwrap();
        header
            .tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.dtype.name()))
            .collect()
    };
    assert_eq!(types("a.gguf"), types("c.gguf"));
    // And `fit` plans that file.
    let planned = [
        "fit",
        "model.gguf",
        "--types",
        "list.types",
        "--format",
        "json",
    ];
    let planned = document(&orinplan(&folder, &planned), 0);
    assert_eq!(planned["recommended"], "mix");
    assert_eq!(planned["plans"].as_array().unwrap().len(), 1);
    assert_eq!(planned["plans"][0]["file_bytes"], size("c.gguf"));
    let costs = crate::schema::document(&String::from_utf8(read("costs.json")).unwrap());
    assert_eq!(costs["schema"], "orinplan.sensitivity/1");
    assert!(costs["tensors"][0]["kld"]["Q4_0"].as_f64().unwrap() > 0.0);
    let run = orinplan(
        &folder,
        &[
            "quantize",
            "model.gguf",
            "--target-size",
            "1000B",
            "--text",
            "text.txt",
            "--chunk-tokens",
            "64",
            "--output",
            "d.gguf",
        ],
    );
    assert_error(&run, &["1000 bytes", "less than the smallest file"]);
    assert!(!folder.path().join("d.gguf").exists());
    // Before anything is measured: the text, too short for that, is not reached.
    std::fs::write(folder.path().join("short.txt"), "a word").unwrap();
    let with = |goal: [&str; 2]| {
        let rest = [["--text", "short.txt"], ["--output", "d.gguf"]];
        let words = [[["quantize", "model.gguf"], goal], rest];
        orinplan(&folder, words.as_flattened().as_flattened())
    };
    for goal in [["--target-size", "1000B"], ["--target-bpw", "1.5"]] {
        assert_error(&with(goal), &["less than the smallest file"]);
    }
    assert_error(&with(["--target-size", "1GiB"]), &["short.txt"]);
}

/// Most rows have 256 weights, which every format divides.
pub(crate) fn wide_folder() -> TempDir {
    folder_with("qwen3", |metadata, tensors| {
        for (key, value) in metadata {
            if key.ends_with(".embedding_length") {
                *value = Value::U32(256);
            } else if key.ends_with(".feed_forward_length") {
                *value = Value::U32(32);
            }
        }
        for (name, shape) in tensors {
            let heads = if name.contains("attn_q.") {
                0
            } else {
                usize::MAX
            };
            let heads = if name.contains("attn_output") {
                1
            } else {
                heads
            };
            for (dimension, size) in shape.iter_mut().enumerate() {
                if *size == 64 && dimension != heads {
                    *size = 256;
                } else if *size == 96 && name.contains("ffn") {
                    *size = 32;
                }
            }
        }
    })
}

/// They have less error than others of their size, and slow kernels.
#[test]
fn types_with_codebooks_are_chosen_for_small_files_alone() {
    let folder = wide_folder();
    let types = |bits: &str| {
        let words = [
            "quantize",
            "model.gguf",
            "--target-bpw",
            bits,
            "--text",
            "text.txt",
            "--chunk-tokens",
            "64",
            "--output",
            "mix.gguf",
            "--overwrite",
        ];
        succeeds(&folder, &words);
        let header = read_header(&folder.path().join("mix.gguf")).unwrap();
        let types = header.tensors.iter().map(|tensor| tensor.dtype.name());
        types.map(str::to_owned).collect::<Vec<_>>()
    };
    let is_codebook = |name: &String| name.starts_with("IQ2") || name.starts_with("IQ3");
    let has_codebook = |types: &[String]| types.iter().any(is_codebook);
    let small = types("3.9");
    assert!(has_codebook(&small), "{small:?}");
    let usual = types("4.5");
    assert!(!has_codebook(&usual), "{usual:?}");
}

#[test]
fn a_list_of_types_of_another_model_is_refused() {
    let folder = folder("qwen3");
    for (list, said) in [
        (
            "blk.0.attn_q.weight=q4_k",
            "which blocks of Q4_K do not divide",
        ),
        ("blk.77.attn_q.weight=q4_0", "is of another model"),
        ("blk.0.attn_q.weight", "must be NAME=TYPE"),
    ] {
        std::fs::write(folder.path().join("list.types"), list).unwrap();
        let planned = orinplan(&folder, &["fit", "model.gguf", "--types", "list.types"]);
        assert_error(&planned, &["list.types", said]);
        let run = orinplan(
            &folder,
            &[
                "quantize",
                "model.gguf",
                "--types",
                "list.types",
                "--output",
                "c.gguf",
            ],
        );
        assert_error(&run, &["list.types", said]);
    }
}
