//! Plans of models on servers: from headers alone, in few requests, and the same as of the files.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use orinplan::gguf::{self, StringList, TensorEntry, Value};
use serde_json::{Value as Json, json};

use super::server::{Asked, Content, Repository, Served};
use super::{COMMIT, Desk, repository, served, sha256};

/// A plan without what names the model and where it came from.
fn without_names(mut plan: Json) -> Json {
    plan["model"]["name"].take();
    plan.as_object_mut().unwrap().remove("download");
    plan
}

fn sent(asked: &[Asked]) -> u64 {
    asked.iter().map(|asked| asked.sent).sum()
}

#[test]
fn a_plan_of_a_repository_is_that_of_its_folder() {
    let (desk, folder) = Desk::with_tiny();
    desk.json(&["fit", folder.to_str().unwrap()]);
    let here = desk.run_here(&folder, &["fit", "org/tiny", "--format", "json"]);
    let here = crate::schema::document(&here.out);
    assert!(desk.server.asked().is_empty(), "a path asks nobody");
    let there = desk.json(&["fit", "org/tiny"]);
    let asked = desk.server.asked();
    let size = fs::metadata(folder.join("model.safetensors"))
        .unwrap()
        .len();
    assert_eq!(there["download"]["bytes"], size);
    assert_eq!(there["download"]["transferred_bytes"], sent(&asked));
    assert_eq!(there["download"]["from"], format!("org/tiny@{COMMIT}"));
    let (here, there) = (without_names(here), without_names(there));
    for (key, value) in here.as_object().unwrap() {
        assert!(there[key] == *value, "{key}: {} for {value}", there[key]);
    }
    let weights = asked
        .iter()
        .filter(|asked| asked.path.contains(".safetensors"));
    assert!(weights.clone().count() > 0);
    assert!(weights.into_iter().all(|asked| asked.range.is_some()));
}

#[test]
fn a_second_plan_asks_only_whether_something_changed() {
    let (desk, _) = Desk::with_tiny();
    let first = desk.json(&["fit", "org/tiny"]);
    desk.server.asked();
    let second = desk.json(&["fit", "org/tiny"]);
    assert_eq!(without_names(first), without_names(second));
    let asked = desk.server.asked();
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths, ["/api/models/org/tiny/revision/main"]);

    let commit = format!("org/tiny@{COMMIT}");
    desk.json(&["fit", &commit]);
    assert!(desk.server.asked().is_empty(), "a commit does not change");
    desk.json(&["fit", "org/tiny", "--offline"]);
    assert!(desk.server.asked().is_empty());
    desk.json(&["fit", "org/tiny", "--refresh"]);
    assert!(desk.server.asked().len() > 3);

    // Another state of the branch is another model.
    let mut changed = repository(&desk.path("tiny"));
    changed.commit = COMMIT.replace('0', "f");
    desk.server.put("org/tiny", changed);
    desk.json(&["fit", "org/tiny"]);
    assert!(desk.server.asked().len() > 3);
}

#[test]
fn the_network_is_not_used_when_it_must_not_be() {
    let (desk, _) = Desk::with_tiny();
    let error = desk.error(&["fit", "org/tiny", "--offline"]);
    assert!(error.contains("there is no model `org/tiny`"), "{error}");
    let mut command = desk.command(&["fit", "org/tiny"]);
    let run = super::left(command.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(desk.server.asked().is_empty());
}

#[test]
fn what_is_in_the_local_cache_is_not_asked_for() {
    let (desk, folder) = Desk::with_tiny();
    let cached = desk.path("hub/models--org--tiny");
    let snapshot = cached.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(cached.join("refs")).unwrap();
    fs::write(cached.join("refs/main"), COMMIT).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    let at = format!("org/tiny@{COMMIT}");
    for name in ["org/tiny", "hf.co/org/tiny", at.as_str()] {
        desk.json(&["fit", name]);
        assert!(desk.server.asked().is_empty(), "{name}");
    }
}

/// A GGUF of the tiny fixture.
fn tiny_gguf(desk: &Desk, folder: &std::path::Path, scheme: &str) -> Vec<u8> {
    let path = desk.path(&format!("{scheme}.gguf"));
    crate::build::quantize(folder, scheme, &path, &[]);
    fs::read(path).unwrap()
}

#[test]
fn every_form_of_a_name_leads_to_the_same_file() {
    let (desk, folder) = Desk::with_tiny();
    let (q4, q8) = (
        tiny_gguf(&desk, &folder, "q4_0"),
        tiny_gguf(&desk, &folder, "q8_0"),
    );
    let mut files = BTreeMap::new();
    for (name, bytes) in [("tiny-Q4_K_M.gguf", &q4), ("q8/tiny-Q8_0.gguf", &q8)] {
        files.insert(name.to_owned(), served(name, bytes.clone()));
    }
    let params = br#"{"num_ctx":384,"stop":["<end>"]}"#.to_vec();
    let layers = json!({"layers": [
        {"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{}", sha256(&q8)), "size": q8.len()},
        {"mediaType": "application/vnd.ollama.image.params", "digest": format!("sha256:{}", sha256(&params)), "size": params.len()},
    ]});
    let hub = Repository {
        commit: COMMIT.to_owned(),
        files: files.clone(),
        ..Repository::default()
    };
    desk.server.put("org/tiny-GGUF", hub);
    let registry = Repository {
        manifest: Some(layers.to_string()),
        files: [
            ("blob".to_owned(), served("x.gguf", q8.clone())),
            (
                "params".to_owned(),
                Served {
                    sha256: Some(sha256(&params)),
                    content: Content::of(params.clone()),
                },
            ),
        ]
        .into(),
        ..Repository::default()
    };
    desk.server.put("library/tiny", registry);
    let url = format!(
        "{}/org/tiny-GGUF/resolve/main/q8/tiny-Q8_0.gguf",
        desk.server.url()
    );
    let tag = format!("{}/library/tiny:q8", desk.server.host());
    for (name, bytes) in [
        ("org/tiny-GGUF", &q4),
        ("org/tiny-GGUF:Q4_K_M", &q4),
        ("org/tiny-GGUF:q8_0", &q8),
        ("hf.co/org/tiny-GGUF:Q8_0", &q8),
        ("org/tiny-GGUF/q8/tiny-Q8_0.gguf", &q8),
        (url.as_str(), &q8),
        (tag.as_str(), &q8),
    ] {
        let plan = desk.json(&["fit", name]);
        assert_eq!(plan["model"]["source_bytes"], bytes.len(), "{name}");
        assert_eq!(plan["model"]["source_format"], "gguf", "{name}");
        // A tag states the context that it is served with.
        let context = if name == tag { 384 } else { 512 };
        assert_eq!(plan["workload"]["context"], context, "{name}");
    }
    let plan = desk.json(&["fit", &tag, "--context", "256"]);
    assert_eq!(plan["workload"]["context"], 256);
    let error = desk.error(&["fit", "org/tiny-GGUF:Q2_K"]);
    assert!(error.contains("tiny-Q4_K_M.gguf"), "{error}");
    let words = [
        "pull",
        "org/tiny-GGUF:q8_0",
        "--scheme",
        "q4_0",
        "--output",
        "x.gguf",
    ];
    let error = desk.error(&words);
    assert!(error.contains("is Q8_0, not Q4_0"), "{error}");
    // A repository of several files: the one of that format.
    let pulled = desk.run(&[
        "pull",
        "org/tiny-GGUF",
        "--scheme",
        "q8_0",
        "--output",
        "pulled.gguf",
    ]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert_eq!(fs::read(desk.path("pulled.gguf")).unwrap(), q8);
}

/// A tag of a model with something beside it, or of no GGUF at all.
#[test]
fn a_tag_that_is_more_or_other_than_a_model_is_refused() {
    let (desk, folder) = Desk::with_tiny();
    let model = tiny_gguf(&desk, &folder, "q8_0");
    let layer = |kind: &str| {
        let digest = format!("sha256:{}", sha256(&model));
        let kind = format!("application/vnd.ollama.image.{kind}");
        json!({"mediaType": kind, "digest": digest, "size": model.len()})
    };
    for (kinds, said) in [
        (["model", "adapter"], "applies a LoRA adapter"),
        (["tensor", "tensor"], "as single tensors instead of a GGUF"),
    ] {
        let registry = Repository {
            manifest: Some(json!({"layers": kinds.map(layer)}).to_string()),
            files: [("blob".to_owned(), served("x.gguf", model.clone()))].into(),
            ..Repository::default()
        };
        desk.server.put("library/other", registry);
        let tag = format!("{}/library/other:{}", desk.server.host(), kinds[1]);
        let error = desk.error(&["fit", &tag]);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_model_of_thirty_shards_is_planned_from_little_more_than_its_headers() {
    const SHARDS: usize = 30;
    const LAYERS: usize = 80;
    let desk = Desk::new();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192,
        "intermediate_size": 28672, "num_hidden_layers": LAYERS, "num_attention_heads": 64,
        "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size": 128256,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    });
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![128_256, 8192]),
        ("lm_head.weight".to_owned(), vec![128_256, 8192]),
        ("model.norm.weight".to_owned(), vec![8192]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![8192]),
            ("post_attention_layernorm", vec![8192]),
            ("self_attn.q_proj", vec![8192, 8192]),
            ("self_attn.k_proj", vec![1024, 8192]),
            ("self_attn.v_proj", vec![1024, 8192]),
            ("self_attn.o_proj", vec![8192, 8192]),
            ("mlp.gate_proj", vec![28672, 8192]),
            ("mlp.up_proj", vec![28672, 8192]),
            ("mlp.down_proj", vec![8192, 28672]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut repository = Repository {
        commit: COMMIT.to_owned(),
        ..Repository::default()
    };
    let mut map = serde_json::Map::new();
    let mut total = 0;
    for number in 0..SHARDS {
        let bound = |number: usize| number * tensors.len() / SHARDS;
        let part = &tensors[bound(number)..bound(number + 1)];
        let name = format!("model-{:05}-of-{SHARDS:05}.safetensors", number + 1);
        let (mut header, mut at) = (serde_json::Map::new(), 0);
        for (tensor, shape) in part {
            let bytes = 2 * shape.iter().product::<u64>();
            let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes]});
            header.insert(tensor.clone(), entry);
            map.insert(tensor.clone(), name.clone().into());
            at += bytes;
        }
        let text = Json::Object(header).to_string();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        let size = bytes.len() as u64 + at;
        total += size;
        let file = Served {
            sha256: Some(sha256(name.as_bytes())),
            content: Content::Begins(bytes.into(), size),
        };
        repository.files.insert(name, file);
    }
    assert_eq!(repository.files.len(), SHARDS);
    let index = json!({"weight_map": map}).to_string();
    for (name, text) in [
        ("config.json", config.to_string()),
        ("model.safetensors.index.json", index),
        ("tokenizer.json", " ".repeat(9 << 20)),
    ] {
        repository
            .files
            .insert(name.to_owned(), served(name, text.into_bytes()));
    }
    desk.server.put("org/large", repository);
    desk.server.delay(Duration::from_millis(50));
    let start = Instant::now();
    let plan = desk.json(&["fit", "org/large", "--device", "agx-orin-64gb"]);
    let seconds = start.elapsed().as_secs_f64();
    let asked = desk.server.asked();
    assert_eq!(plan["download"]["bytes"], total);
    assert_eq!(plan["model"]["parameters"], 70_553_706_496u64);
    let mut of_shard: BTreeMap<&str, usize> = BTreeMap::new();
    for asked in asked
        .iter()
        .filter(|asked| asked.path.contains(".safetensors?"))
    {
        *of_shard.entry(&asked.path).or_default() += 1;
    }
    assert_eq!(of_shard.len(), SHARDS);
    assert!(
        of_shard.values().all(|&requests| requests <= 2),
        "{of_shard:?}"
    );
    assert!(sent(&asked) < 8 << 20, "{} bytes", sent(&asked));
    println!(
        "{seconds:.2} s, {} bytes, {} requests",
        sent(&asked),
        asked.len()
    );
}

#[test]
fn a_long_header_is_fetched_in_ranges_and_never_the_whole_file() {
    const TOKENS: usize = 262_144;
    let desk = Desk::new();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/gemma-3-1b-it-Q4_K_M.header.gguf"
    );
    let header = gguf::read_header(fixture.as_ref()).unwrap();
    let mut words = StringList::default();
    (0..TOKENS).for_each(|n| words.push(&format!("token-number-{n:06}")));
    let mut metadata = header.metadata.0.clone();
    metadata.retain(|(key, value)| {
        key != "tokenizer.ggml.tokens" && !matches!(value, Value::Located { .. })
    });
    metadata.push(("tokenizer.ggml.tokens".to_owned(), Value::Strings(words)));
    let entries: Vec<TensorEntry<'_>> = header
        .tensors
        .iter()
        .map(|tensor| TensorEntry {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
        })
        .collect();
    let mut bytes = Vec::new();
    let start = gguf::write_header(&mut bytes, &metadata, &entries).unwrap();
    let (_, size) = gguf::data_offsets(start, header.tensors.iter().map(|tensor| tensor.bytes));
    let header_bytes = bytes.len() as u64;
    assert!(header_bytes > 6 << 20);
    let file = Served {
        sha256: Some(sha256(b"gemma")),
        content: Content::Begins(bytes.into(), size.0),
    };
    let repository = Repository {
        commit: COMMIT.to_owned(),
        files: [("gemma-Q4_K_M.gguf".to_owned(), file)].into(),
        ..Repository::default()
    };
    desk.server.put("org/gemma-GGUF", repository);
    let plan = desk.json(&["fit", "org/gemma-GGUF"]);
    assert_eq!(plan["model"]["source_bytes"], size.0);
    let asked = desk.server.asked();
    let ranges: Vec<_> = asked.iter().filter(|asked| asked.second).collect();
    assert!(ranges.len() > 1 && ranges.len() < 8, "{ranges:?}");
    assert!(
        sent(&asked) < 3 * header_bytes,
        "{} of {header_bytes}",
        sent(&asked)
    );
}
