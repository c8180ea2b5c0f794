//! Models as they lie on disk: directories, lone files, links, and what is in their place.

use std::fs;
use std::path::Path;
use std::process::Command;

use orinplan::checkpoint::{self, Checkpoint, RawConfig, SourceFormat};

use crate::build::{self, *};

const CONFIG: &[u8] = br#"{"model_type":"llama"}"#;

fn open(path: &Path) -> Result<Checkpoint, String> {
    checkpoint::open(path.to_str().unwrap()).map_err(|error| error.to_string())
}

fn refused(path: &Path, fragments: &[&str]) {
    let message = open(path).expect_err("a wrong model was accepted");
    for fragment in fragments {
        assert!(
            message.contains(fragment),
            "`{fragment}` is not in: {message}"
        );
    }
    assert!(
        !message.contains('\n') && !message.ends_with('.'),
        "{message}"
    );
}

fn names(checkpoint: &Checkpoint) -> Vec<(&str, usize)> {
    checkpoint
        .tensors
        .iter()
        .map(|t| (&*t.name, t.file))
        .collect()
}

fn model_type(checkpoint: &Checkpoint) -> Option<&str> {
    match &checkpoint.config {
        RawConfig::HuggingFace(config) => config.get("model_type")?.as_str(),
        RawConfig::Gguf(_) => None,
    }
}

/// Two shards with an index; the second holds a tensor that the index does not mention.
fn sharded(index: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    build::directory(&[
        ("config.json", CONFIG),
        ("model.safetensors.index.json", index.as_bytes()),
        (
            "model-00001-of-00002.safetensors",
            &vectors(&[("a", 1), ("b", 2)]),
        ),
        (
            "model-00002-of-00002.safetensors",
            &vectors(&[("c", 3), ("extra", 1)]),
        ),
        ("consolidated.safetensors", b"not read"),
    ])
}

const INDEX: &str = r#"{"metadata":{"total_size":28},"weight_map":{
    "a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
    "c":"model-00002-of-00002.safetensors"}}"#;

#[test]
fn a_directory_with_one_file() {
    let (_guard, directory) = build::directory(&[
        ("config.json", CONFIG),
        ("model.safetensors", &vectors(&[("w", 2)])),
    ]);
    let checkpoint = open(&directory).unwrap();
    assert_eq!(checkpoint.name, "tiny-model");
    assert_eq!(checkpoint.format, SourceFormat::Safetensors);
    assert_eq!(model_type(&checkpoint), Some("llama"));
    assert_eq!(checkpoint.directory.as_deref(), Some(&*directory));
    let tensor = &checkpoint.tensors[0];
    assert_eq!(tensor.offset + tensor.bytes.0, checkpoint.files[0].bytes.0);

    // A lone file of it, its configuration, and the directory by another of its names.
    let file = open(&directory.join("model.safetensors")).unwrap();
    assert_eq!((&*file.name, model_type(&file)), ("model", Some("llama")));
    let config = open(&directory.join("config.json")).unwrap();
    assert_eq!(
        (&*config.name, config.format),
        ("tiny-model", SourceFormat::Config)
    );
    assert!(config.tensors.is_empty() && config.files.is_empty());
    assert_eq!(open(&directory.join(".")).unwrap().name, "tiny-model");
    fs::create_dir(directory.join("sub")).unwrap();
    assert_eq!(open(&directory.join("sub/..")).unwrap().name, "tiny-model");
}

#[test]
fn shards_follow_their_index() {
    let (_guard, directory) = sharded(INDEX);
    let expected = [("a", 0), ("b", 0), ("c", 1), ("extra", 1)];
    for given in [
        "",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ] {
        let checkpoint = open(&directory.join(given)).unwrap();
        assert_eq!(names(&checkpoint), expected, "{given}");
        assert_eq!(checkpoint.files.len(), 2);
        assert_eq!(model_type(&checkpoint), Some("llama"));
    }
    // A set beside the index, and not of it.
    let (first, second) = (vectors(&[("x", 1)]), vectors(&[("y", 1)]));
    build::write(
        &directory,
        &[
            ("o-00001-of-00002.safetensors", &first),
            ("o-00002-of-00002.safetensors", &second),
        ],
    );
    let other = open(&directory.join("o-00001-of-00002.safetensors")).unwrap();
    assert_eq!(names(&other), [("x", 0), ("y", 1)]);
    for name in [
        "o-00001-of-00002.safetensors",
        "o-00002-of-00002.safetensors",
    ] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    fs::remove_file(directory.join("model.safetensors.index.json")).unwrap();
    fs::remove_file(directory.join("consolidated.safetensors")).unwrap();
    assert_eq!(names(&open(&directory).unwrap()), expected);
}

#[test]
fn an_index_is_held_to_its_word() {
    let with = |from: &str, to: &str, fragments: &[&str]| {
        let (_guard, directory) = sharded(&INDEX.replace(from, to));
        refused(&directory, fragments);
    };
    let index = "model.safetensors.index.json";
    with(
        r#""c":"model-00002"#,
        r#""c":"model-00001"#,
        &[index, "`c`", "model-00001", "is not"],
    );
    with(r#""c":"#, r#""d":"#, &[index, "`d`", "is not"]);
    with(
        "model-00002-of-00002.s",
        "model-00002-of-00002.S",
        &["is missing", index],
    );
    for outside in [
        "../x.safetensors",
        "/etc/passwd",
        "a/../../x",
        "",
        ".",
        "..\\\\x",
        "C:x",
    ] {
        with(
            "model-00002-of-00002.safetensors",
            outside,
            &[index, "`c`", "plain file name"],
        );
    }
    with("weight_map", "weights", &[index, "weight_map"]);
    with(r#""c":""#, r#""c":1,"d":""#, &[index]);
    let (_guard, directory) = sharded(r#"{"weight_map":{}}"#);
    refused(&directory, &[index, "no tensor"]);
    let (_guard, directory) = sharded(INDEX);
    build::write(
        &directory,
        &[(
            "model-00002-of-00002.safetensors",
            &vectors(&[("c", 3), ("a", 1)]),
        )],
    );
    refused(&directory, &["`a` is both in", "00001-of", "00002-of"]);
}

#[test]
fn small_files_without_weights_are_a_config() {
    let files: [(&str, &[u8]); 2] = [
        ("config.json", CONFIG),
        ("model.safetensors.index.json", INDEX.as_bytes()),
    ];
    for count in 1..=2 {
        let (_guard, directory) = build::directory(&files[..count]);
        assert_eq!(open(&directory).unwrap().format, SourceFormat::Config);
    }
    let (_guard, directory) = build::directory(&files);
    build::write(
        &directory,
        &[(
            "model-00001-of-00002.safetensors",
            &vectors(&[("a", 1), ("b", 2)]),
        )],
    );
    refused(
        &directory,
        &["model-00002-of-00002.safetensors", "is missing"],
    );
    let (_guard, directory) = build::directory(&[("README.md", b"hello")]);
    refused(&directory, &["no *.safetensors", "no config.json"]);
    refused(&directory.join("README.md"), &["neither"]);
}

#[test]
fn a_directory_of_gguf_has_one_model() {
    let model = small_gguf();
    let (_guard, directory) = build::directory(&[("m.Q8_0.gguf", &model)]);
    let checkpoint = open(&directory).unwrap();
    assert_eq!(
        (&*checkpoint.name, checkpoint.format),
        ("tiny-model", SourceFormat::Gguf)
    );
    assert_eq!(open(&directory.join("m.Q8_0.gguf")).unwrap().name, "m.Q8_0");
    build::write(&directory, &[("m.Q4_0.gguf", &model)]);
    refused(&directory, &["several models", "m.Q4_0.gguf, m.Q8_0.gguf"]);
    fs::rename(directory.join("m.Q8_0.gguf"), directory.join("m.Q4_0.GGUF")).unwrap();
    refused(&directory, &["several models", "m.Q4_0.GGUF, m.Q4_0.gguf"]);
    fs::rename(directory.join("m.Q4_0.gguf"), directory.join("blob")).unwrap();
    assert_eq!(open(&directory.join("blob")).unwrap().tensors.len(), 3);
}

#[test]
fn a_projector_beside_the_model_adds_its_tensors() {
    let model = gguf(
        &[string_pair("general.architecture", "gemma3")],
        &[tensor("w", &[8], 0, 0)],
        32,
    );
    let tower = |kind: [&str; 2], data| {
        gguf(
            &[string_pair(kind[0], kind[1])],
            &[tensor("v.patch", &[8], 0, 0)],
            data,
        )
    };
    let clip = tower(["general.architecture", "clip"], 64);
    let typed = tower(["general.type", "mmproj"], 32);
    let (_guard, directory) = build::directory(&[("a-mmproj.gguf", &clip), ("model.gguf", &model)]);
    assert_eq!(
        names(&open(&directory).unwrap()),
        [("w", 0), ("v.patch", 1)]
    );
    // Of two projectors the smaller counts.
    build::write(&directory, &[("b-mmproj.gguf", &typed)]);
    let checkpoint = open(&directory).unwrap();
    assert_eq!(names(&checkpoint), [("w", 0), ("v.patch", 1)]);
    assert!(checkpoint.files[1].path.ends_with("b-mmproj.gguf"));
    let RawConfig::Gguf(metadata) = &checkpoint.config else {
        panic!("no GGUF metadata")
    };
    assert_eq!(metadata.str("general.architecture"), Ok(Some("gemma3")));
    // The model's file alone is the model alone.
    assert_eq!(
        names(&open(&directory.join("model.gguf")).unwrap()),
        [("w", 0)]
    );
}

#[test]
fn a_config_is_an_object_of_sane_size_and_depth() {
    let (_guard, directory) = build::directory(&[]);
    let with = |config: &[u8], fragments: &[&str]| {
        build::write(&directory, &[("config.json", config)]);
        refused(&directory, fragments);
    };
    with(b"[1]", &["config.json", "not the expected JSON"]);
    with(b"{\"a\":", &["config.json", "ends too early"]);
    with(b"{\"a\":\xff}", &["config.json", "UTF-8"]);
    with(b"", &["config.json", "empty"]);
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
    with(deep.as_bytes(), &["config.json", "nested too deeply"]);
    with(
        &vec![b' '; (16 << 20) + 1],
        &["config.json", "16777217", "16777216"],
    );
}

#[test]
fn foreign_text_in_a_message_stays_on_its_line() {
    let name = format!("a\n\u{1b}[2J{}", "x".repeat(60_000));
    let (_guard, directory) =
        build::directory(&[("m.gguf", &gguf(&[], &[tensor(&name, &[8], 99, 0)], 32))]);
    let message = open(&directory).unwrap_err();
    assert!(
        message.contains("m.gguf: tensor `a\\n\\u{1b}") && message.contains("newest"),
        "{message}"
    );
    assert!(
        !message.contains(['\n', '\u{1b}']) && message.len() < 1000,
        "{message}"
    );
}

#[test]
fn what_is_no_regular_file_is_refused_without_blocking() {
    for name in ["model.safetensors", "model.gguf", "config.json"] {
        let (_guard, directory) = build::directory(&[]);
        let path = directory.join(name);
        fs::create_dir(&path).unwrap();
        refused(&directory, &[name, "directory"]);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, b"").unwrap();
        refused(&directory, &[name, "empty"]);
        refused(&path, &[name, "empty"]);
    }
    refused(Path::new("/dev/zero"), &["device"]);
}

#[cfg(unix)]
#[test]
fn fifos_sockets_and_links_to_nothing_are_refused() {
    use std::os::unix::fs::symlink;
    for name in ["model.safetensors", "model.gguf", "config.json"] {
        let (_guard, directory) = build::directory(&[]);
        let path = directory.join(name);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        refused(&directory, &[name, "FIFO"]);
        refused(&path, &[name, "FIFO"]);
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        refused(&path, &[name, "socket"]);
        drop(socket);
        fs::remove_file(&path).unwrap();
        symlink(directory.join("gone"), &path).unwrap();
        refused(&directory, &[name, "is a broken link"]);
        fs::remove_file(&path).unwrap();
        symlink(&path, &path).unwrap();
        refused(&directory, &[name, "symbolic link"]);
        refused(&path, &[name, "symbolic link"]);
    }
    // A directory that is a link to itself holds nothing.
    let (_guard, directory) = build::directory(&[]);
    symlink(&directory, directory.join("again")).unwrap();
    refused(&directory, &["no *.safetensors"]);
}
