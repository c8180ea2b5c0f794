//! The kinds of models: directories, files, caches, bare configurations; and no place in any output.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::support::{QWEN, command, json, left, run_with, says};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies what lies in a fixture's directory.
fn copy(fixture: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(root().join(fixture)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn parsed(text: &str) -> Json {
    crate::schema::document(text)
}

#[test]
fn the_same_model_gives_the_same_report_from_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("qwen3-0.6b");
    copy(QWEN, &elsewhere);
    let forms = [
        "--format text",
        "--format json",
        "--format markdown",
        "--explain",
    ];
    for form in forms {
        let here = says(0, &format!("fit {QWEN} {form}"));
        let absolute = root().join(QWEN);
        assert_eq!(run_with(&format!("fit {form}"), &[&absolute]).out, here);
        let mut inside = command();
        inside
            .current_dir(directory.path())
            .args(["fit", "./qwen3-0.6b/"]);
        assert_eq!(
            left(inside.args(form.split(' ')).output().unwrap()).out,
            here
        );
        let mut within = command();
        within.current_dir(&elsewhere).args(["fit", "."]);
        assert_eq!(
            left(within.args(form.split(' ')).output().unwrap()).out,
            here
        );
        for place in [root(), directory.path()] {
            assert!(!here.contains(place.to_str().unwrap()), "{here}");
        }
        assert_eq!(says(0, &format!("fit {QWEN} {form}")), here);
    }
    let inspected = says(0, &format!("inspect {QWEN} --format json"));
    assert_eq!(
        run_with("inspect --format json", &[&elsewhere]).out,
        inspected
    );
}

#[test]
fn a_bare_configuration_plans_like_its_checkpoint() {
    let whole = json(0, &format!("fit {QWEN} --scheme q4_k_m,q8_0"));
    let bare = json(0, &format!("fit {QWEN}/config.json --scheme q4_k_m,q8_0"));
    assert_eq!(bare["model"]["source_format"], "config");
    assert_eq!(bare["model"]["source_bytes"], 0);
    assert_eq!(bare["model"]["parameters"], whole["model"]["parameters"]);
    for key in ["tensor_bytes", "memory", "decode", "prefill", "max_context"] {
        assert_eq!(bare["plans"][0][key], whole["plans"][0][key], "{key}");
    }
}

#[test]
fn headers_alone_are_planned_as_if_the_weights_followed() {
    let safetensors = json(0, &format!("fit {QWEN}/model.header.safetensors"));
    assert_eq!(safetensors["model"]["parameters"], 596_049_920);
    assert_eq!(safetensors["model"]["source_format"], "safetensors");
    let gguf = json(0, "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf");
    assert_eq!(gguf["model"]["source_format"], "gguf");
    let plan = &gguf["plans"][0];
    assert_eq!(
        (&plan["scheme"], &plan["tensor_bytes"]),
        (&"q4_k_m".into(), &390_753_280.into())
    );
    // A cut file that is not called a header is a broken download.
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("model.gguf");
    fs::copy(root().join("fixtures/qwen3-0.6b-Q4_K_M.header.gguf"), &cut).unwrap();
    let run = run_with("fit", &[&cut]);
    crate::support::assert_error(&run, &["model.gguf"]);
}

#[test]
fn a_file_of_weights_finds_its_configuration_beside_it() {
    let directory = json(0, "fit fixtures/tiny-llama");
    let mut file = json(0, "fit fixtures/tiny-llama/model.safetensors");
    assert_eq!(directory["model"]["name"], "tiny-llama");
    file["model"]["name"] = directory["model"]["name"].clone();
    assert_eq!(file, directory);
}

#[test]
fn a_hub_id_in_the_cache_is_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("models--Qwen--Qwen3-0.6B");
    copy(QWEN, &model.join("snapshots/0123abcd"));
    fs::create_dir(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "0123abcd").unwrap();
    let fit = |id: &str| {
        let mut command = command();
        command
            .env("HF_HUB_CACHE", directory.path())
            .args(["fit", id, "--format", "json"]);
        left(command.output().unwrap())
    };
    let found = fit("Qwen/Qwen3-0.6B");
    assert_eq!((found.code, found.err.as_str()), (0, ""));
    let mut found = parsed(&found.out);
    assert_eq!(found["model"]["name"], "Qwen/Qwen3-0.6B");
    found["model"]["name"] = "qwen3-0.6b".into();
    assert_eq!(found, json(0, &format!("fit {QWEN}")));
    crate::support::assert_error(&fit("Qwen/Qwen3-0.6b-x"), &["nearest", "Qwen/Qwen3-0.6B"]);
}

#[test]
fn an_ollama_tag_in_the_store_is_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let digest = "sha256-".to_owned() + &"ab".repeat(32);
    let manifests = directory
        .path()
        .join("manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&manifests).unwrap();
    fs::create_dir(directory.path().join("blobs")).unwrap();
    let manifest = serde_json::json!({ "schemaVersion": 2, "layers": [{
        "mediaType": "application/vnd.ollama.image.model",
        "digest": digest.replace('-', ":"), "size": tiny_gguf().len()
    }]});
    fs::write(manifests.join("1b"), manifest.to_string()).unwrap();
    fs::write(directory.path().join("blobs").join(&digest), tiny_gguf()).unwrap();
    let mut command = command();
    command.env("OLLAMA_MODELS", directory.path());
    let run = left(
        command
            .args("fit tiny:1b --runtime ollama --format json".split(' '))
            .output()
            .unwrap(),
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let document = parsed(&run.out);
    assert_eq!(document["model"]["name"], "tiny:1b");
    assert_eq!(document["model"]["block_count"], 1);
    assert_eq!(document["plans"][0]["scheme"], "f32");
    let notes = document["plans"][0]["notes"].to_string();
    assert!(notes.contains("no_vocabulary"), "{notes}");
}

/// A GGUF of one block of a Llama with 32 channels, all F32, byte by byte.
fn tiny_gguf() -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut pairs = string("general.architecture");
    pairs.extend(8u32.to_le_bytes());
    pairs.extend(string("llama"));
    let numbers = [
        ("block_count", 1u32),
        ("context_length", 512),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("vocab_size", 64),
    ];
    for (key, value) in numbers {
        pairs.extend(string(&format!("llama.{key}")));
        pairs.extend(4u32.to_le_bytes());
        pairs.extend(value.to_le_bytes());
    }
    pairs.extend(string("llama.attention.layer_norm_rms_epsilon"));
    pairs.extend(6u32.to_le_bytes());
    pairs.extend(1e-5f32.to_le_bytes());
    pairs.extend(string("tokenizer.ggml.model"));
    pairs.extend(8u32.to_le_bytes());
    pairs.extend(string("none"));
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[32, 64]),
        ("output_norm.weight", &[32]),
        ("blk.0.attn_norm.weight", &[32]),
        ("blk.0.attn_q.weight", &[32, 32]),
        ("blk.0.attn_k.weight", &[32, 16]),
        ("blk.0.attn_v.weight", &[32, 16]),
        ("blk.0.attn_output.weight", &[32, 32]),
        ("blk.0.ffn_norm.weight", &[32]),
        ("blk.0.ffn_gate.weight", &[32, 64]),
        ("blk.0.ffn_up.weight", &[32, 64]),
        ("blk.0.ffn_down.weight", &[64, 32]),
    ];
    let (mut infos, mut offset) = (Vec::new(), 0u64);
    for (name, ne) in tensors {
        infos.extend(string(name));
        infos.extend((ne.len() as u32).to_le_bytes());
        infos.extend(ne.iter().flat_map(|n| n.to_le_bytes()));
        infos.extend(0u32.to_le_bytes());
        infos.extend(offset.to_le_bytes());
        offset += 4 * ne.iter().product::<u64>();
    }
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((numbers.len() as u64 + 3).to_le_bytes());
    file.extend(pairs);
    file.extend(infos);
    file.resize(file.len().next_multiple_of(32) + offset as usize, 0);
    file
}
