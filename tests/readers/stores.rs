//! Models that are already on the machine: the Hugging Face cache and the Ollama store.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::checkpoint::{self, Checkpoint, Stores};

use crate::build::{self, *};

const COMMIT: &str = "c1899de289a04d12100db370d81485cdf75e47ca";

fn open(stores: &Stores, model: &str) -> Result<Checkpoint, String> {
    checkpoint::open_in(model, stores).map_err(|error| error.to_string())
}

fn refused(stores: &Stores, model: &str, fragments: &[&str]) {
    let message = open(stores, model).expect_err("a wrong model was accepted");
    for fragment in fragments {
        assert!(
            message.contains(fragment),
            "`{fragment}` is not in: {message}"
        );
    }
}

/// A cache with one model, its files links into `blobs` as the hub client makes them.
#[cfg(unix)]
fn hub() -> (tempfile::TempDir, PathBuf, Stores) {
    use std::os::unix::fs::symlink;
    let weights = vectors(&[("w", 2)]);
    let (guard, hub) = build::directory(&[
        ("models--Qwen--Qwen3-0.6B/refs/main", COMMIT.as_bytes()),
        ("models--Qwen--Qwen3-0.6B/blobs/aa", &weights),
        (
            "models--Qwen--Qwen3-0.6B/blobs/bb",
            b"{\"model_type\":\"qwen3\"}",
        ),
        ("models--gpt2/snapshots/0123/config.json", b"{}"),
    ]);
    let snapshot = hub.join("models--Qwen--Qwen3-0.6B/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    symlink("../../blobs/aa", snapshot.join("model.safetensors")).unwrap();
    symlink("../../blobs/bb", snapshot.join("config.json")).unwrap();
    let stores = Stores {
        hub: Some(hub.clone()),
        ollama: Vec::new(),
        remote: None,
    };
    (guard, hub, stores)
}

#[cfg(unix)]
#[test]
fn a_hub_id_opens_the_snapshot_that_main_names() {
    let (_guard, hub, stores) = hub();
    let checkpoint = open(&stores, "Qwen/Qwen3-0.6B").unwrap();
    assert_eq!(checkpoint.name, "Qwen/Qwen3-0.6B");
    assert_eq!(checkpoint.tensors.len(), 1);
    assert!(checkpoint.directory.unwrap().ends_with(COMMIT));
    assert_eq!(open(&stores, "gpt2").unwrap().name, "gpt2");

    let model = hub.join("models--Qwen--Qwen3-0.6B");
    let other = model.join("snapshots/other");
    fs::create_dir(&other).unwrap();
    assert!(open(&stores, "Qwen/Qwen3-0.6B").is_ok());
    fs::write(model.join("refs/main"), "abcdef").unwrap();
    refused(
        &stores,
        "Qwen/Qwen3-0.6B",
        &["models--Qwen--Qwen3-0.6B", "several snapshots"],
    );
    fs::write(model.join("refs/main"), "../../..").unwrap();
    refused(&stores, "Qwen/Qwen3-0.6B", &["refs/main names no revision"]);
    fs::remove_dir_all(model.join("snapshots")).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    refused(&stores, "Qwen/Qwen3-0.6B", &["no snapshot"]);
    fs::remove_file(model.join("refs/main")).unwrap();
    fs::create_dir(model.join("refs/main")).unwrap();
    refused(&stores, "Qwen/Qwen3-0.6B", &["refs/main", "directory"]);
}

#[cfg(unix)]
#[test]
fn a_snapshot_whose_blob_is_gone_says_so() {
    let (_guard, hub, stores) = hub();
    fs::remove_file(hub.join("models--Qwen--Qwen3-0.6B/blobs/aa")).unwrap();
    refused(
        &stores,
        "Qwen/Qwen3-0.6B",
        &["model.safetensors", "is a broken link"],
    );
}

#[cfg(unix)]
#[test]
fn an_unknown_name_says_what_was_looked_at_and_what_is_near() {
    let (_guard, hub, mut stores) = hub();
    let manifest = "manifests/registry.ollama.ai/library/qwen3/0.6b";
    let (_guard, ollama) = build::directory(&[(manifest, b"{}")]);
    stores.ollama.push(ollama.clone());
    let looked = [hub.to_str().unwrap(), ollama.to_str().unwrap()];
    refused(
        &stores,
        "Qwen/Qwen3-0.6",
        &["`Qwen/Qwen3-0.6`", "nearest are Qwen/Qwen3-0.6B"],
    );
    refused(&stores, "Qwen/Qwen3-0.6", &looked);
    refused(
        &stores,
        "qwen3:06b",
        &["nearest are qwen3:0.6b", "config.json", ".gguf"],
    );
    refused(&Stores::default(), "a/b", &["no model store is known"]);
    for odd in [
        "",
        "/",
        "../..",
        "a/../b",
        "a//b",
        "x:y:z",
        "~",
        "a/b/c/d/e",
        "\u{fffd}",
        "-",
    ] {
        if !Path::new(odd).exists() {
            refused(&stores, odd, &["there is no model"]);
        }
    }
}

const MODEL: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const TOWER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn manifest(layers: &[(&str, &str, usize)]) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|(kind, digest, size)| {
            format!(r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","))
}

/// A store with one model as `tag`, with a projector.
fn ollama(tag: &str, edit: impl Fn(String) -> String) -> (tempfile::TempDir, PathBuf, Stores) {
    let model = small_gguf();
    let tower = gguf(
        &[string_pair("general.architecture", "clip")],
        &[tensor("v.x", &[8], 0, 0)],
        32,
    );
    let layers = [
        ("model", MODEL, model.len()),
        ("projector", TOWER, tower.len()),
        ("license", "x", 1),
    ];
    let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "-"));
    let (guard, store) = build::directory(&[
        (
            &format!("manifests/{tag}"),
            edit(manifest(&layers)).as_bytes(),
        ),
        (&blob(MODEL), &model),
        (&blob(TOWER), &tower),
    ]);
    let stores = Stores {
        hub: None,
        ollama: vec![PathBuf::from("/nowhere"), store.clone()],
        remote: None,
    };
    (guard, store, stores)
}

#[test]
fn an_ollama_tag_opens_its_model_and_projector() {
    for (tag, given) in [
        ("registry.ollama.ai/library/qwen3/0.6b", "qwen3:0.6b"),
        ("registry.ollama.ai/library/llama3.2/latest", "llama3.2"),
        ("registry.ollama.ai/someone/model/v1", "someone/model:v1"),
        (
            "hf.co/unsloth/Qwen3-GGUF/Q4_K_M",
            "hf.co/unsloth/Qwen3-GGUF:Q4_K_M",
        ),
    ] {
        let (_guard, _, stores) = ollama(tag, |manifest| manifest);
        let checkpoint = open(&stores, given).unwrap();
        assert_eq!(checkpoint.name, given);
        assert_eq!(checkpoint.files.len(), 2);
        assert_eq!(checkpoint.tensors.last().unwrap().name, "v.x");
        assert_eq!(checkpoint.directory, None);
    }
}

#[test]
fn a_broken_ollama_model_says_what_is_wrong() {
    let tag = "registry.ollama.ai/library/m/latest";
    let with = |from: &str, to: &str, fragments: &[&str]| {
        let (_guard, _, stores) = ollama(tag, |manifest| manifest.replace(from, to));
        refused(&stores, "m", fragments);
    };
    with(
        "image.model",
        "image.tensor",
        &["m/latest", "no GGUF model layer"],
    );
    with("image.projector", "image.model", &["several layers"]);
    with(
        MODEL,
        "sha256:../../../../etc/passwd",
        &["m/latest", "not a SHA-256"],
    );
    with(MODEL, "sha512:11", &["not a SHA-256"]);
    with(
        MODEL,
        &MODEL.replace('1', "3"),
        &["sha256-333", "no such file"],
    );
    with("\"size\":", "\"size\":9", &["blobs", "its manifest says 9"]);
    with("layers", "players", &["m/latest", "layers"]);
    with("{", "", &["m/latest", "JSON"]);
}
