//! GGUF files that llama.cpp loads and does not run, and files that say of themselves what is not so.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, TensorEntry, Value};
use serde_json::Value as Json;

use crate::support::{assert_error, run_with};

const FILE: &str = "fixtures/qwen3-0.6b-Q4_K_M.header.gguf";

/// A copy of the fixture in which the `from` bytes behind the `key` of its metadata are `to`.
fn changed(directory: &Path, key: &str, from: &[u8], to: &[u8]) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(FILE).unwrap();
    let of_key = bytes.windows(key.len()).position(|at| at == key.as_bytes());
    let behind = of_key.unwrap() + key.len();
    let found = bytes[behind..]
        .windows(from.len())
        .position(|at| at == from);
    let at = behind + found.unwrap();
    assert!(at - behind < 16, "{key}");
    bytes[at..at + to.len()].copy_from_slice(to);
    let path = directory.join("changed.header.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_gguf_that_loads_and_does_not_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = changed(
        directory.path(),
        "qwen3.context_length",
        &40960_u32.to_le_bytes(),
        &0_u32.to_le_bytes(),
    );
    assert_error(
        &run_with("fit", &[&path]),
        &[
            "`qwen3.context_length` is 0",
            "the tokens that the model was trained for",
        ],
    );
}

/// `general.file_type` 15 is Q4_K_M, 16 Q5_K_S, 10 Q2_K, which none of the file's tensors has.
#[test]
fn a_file_is_called_by_the_types_that_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let scheme = |file_type: u32| {
        let path = changed(
            directory.path(),
            "general.file_type",
            &15_u32.to_le_bytes(),
            &file_type.to_le_bytes(),
        );
        let run = run_with("fit --format json", &[&path]);
        let fit: Json = serde_json::from_str(&run.out).unwrap();
        fit["plans"][0]["scheme"].as_str().unwrap().to_owned()
    };
    assert_eq!(scheme(15), "q4_k_m");
    assert_ne!(scheme(10), "q2_k");
}

/// llama.cpp ends with "mismatch between text model and mmproj" where the widths differ; that of the model is 1024.
#[test]
fn a_projector_of_another_model_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(FILE, directory.path().join("model.header.gguf")).unwrap();
    let projector = |width: u64| {
        let text = |text: &str| Value::String(text.to_owned());
        let metadata = [
            ("general.architecture".to_owned(), text("clip")),
            ("general.type".to_owned(), text("mmproj")),
            ("clip.projector_type".to_owned(), text("mlp")),
        ];
        let tensor = |name, shape| TensorEntry {
            name,
            dtype: Dtype::F32,
            shape,
        };
        let shapes = [[width, 64], [width, width]];
        let tensors = [
            tensor("mm.0.weight", &shapes[0][..]),
            tensor("mm.2.weight", &shapes[1][..]),
        ];
        let mut file = Vec::new();
        gguf::write_header(&mut file, &metadata, &tensors).unwrap();
        file.resize(file.len() + 4 * (width * (width + 64)) as usize, 0);
        fs::write(directory.path().join("mmproj.gguf"), file).unwrap();
        run_with("fit", &[directory.path()])
    };
    assert_error(&projector(96), &["mmproj.gguf", "of 96", "takes 1024"]);
    assert_eq!(projector(1024).code, 0);
}
