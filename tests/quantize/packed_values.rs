//! Packed weights of every layout mean what their publishers say: `tests/data/packed.json` is
//! written by `tests/data/packed.py` from each layout's definition, independently of this crate.

use std::fs;
use std::path::Path;

use orinplan::checkpoint::{self, Checkpoint};
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::quantize::packed::{Files, PackedError, Weight};
use serde_json::{Value as Json, json};

struct Case {
    name: String,
    config: Json,
    tensors: Vec<Json>,
    shape: Vec<u64>,
    values: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let cases: Vec<Json> = serde_json::from_str(include_str!("../data/packed.json")).unwrap();
    let case = |case: Json| Case {
        name: case["name"].as_str().unwrap().to_owned(),
        config: case["config"].clone(),
        tensors: case["tensors"].as_array().unwrap().clone(),
        shape: serde_json::from_value(case["shape"].clone()).unwrap(),
        values: serde_json::from_value(case["values"].clone()).unwrap(),
    };
    cases.into_iter().map(case).collect()
}

/// A directory with these tensors, read as an architecture that has no table entry.
fn open(directory: &Path, config: &Json, tensors: &[Json]) -> (Checkpoint, ModelSpec) {
    let mut config = config.clone();
    config["model_type"] = json!("unheard-of");
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in tensors {
        let hex = tensor["hex"].as_str().unwrap();
        let bytes = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16));
        let start = data.len();
        data.extend(bytes.map(Result::unwrap));
        let entry = json!({
            "dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [start, data.len()]
        });
        header.insert(tensor["name"].as_str().unwrap().to_owned(), entry);
    }
    let header = Json::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    fs::write(directory.join("model.safetensors"), file).unwrap();
    let checkpoint = checkpoint::open(directory.to_str().unwrap()).unwrap();
    let model = model::read(&checkpoint, Unknown::WeightsOnly).unwrap();
    (checkpoint, model)
}

fn close(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 2e-6 * expected.abs() + 1e-9
}

#[test]
fn every_layout_unpacks_to_its_definition_in_any_range_of_rows() {
    for case in cases() {
        let directory = tempfile::tempdir().unwrap();
        let (checkpoint, model) = open(directory.path(), &case.config, &case.tensors);
        assert_eq!(model.stored.len(), 1, "{}", case.name);
        let files = Files::open(&checkpoint).unwrap();
        let weight = Weight::open(&checkpoint, &files, &model.stored[0])
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(weight.shape(), case.shape, "{}", case.name);
        let columns = weight.columns() as usize;
        let mut out = vec![f32::NAN];
        for start in 0..weight.rows() {
            for end in start..=weight.rows() {
                weight.read(start..end, &mut out).unwrap();
                let expected = &case.values[start as usize * columns..end as usize * columns];
                assert_eq!(out.len(), expected.len(), "{}", case.name);
                for (column, (&found, &expected)) in out.iter().zip(expected).enumerate() {
                    assert!(
                        close(found, expected),
                        "{} rows {start}..{end} at {column}: {found} for {expected}",
                        case.name
                    );
                }
            }
        }
        let beyond = weight.read(0..weight.rows() + 1, &mut out);
        assert!(
            matches!(beyond, Err(PackedError::Rows { .. })),
            "{}",
            case.name
        );
    }
}

/// A file that is cut behind its header's back, a part that is not there, a part of another shape: an
/// error that names the tensor, never a panic.
#[test]
fn damaged_parts_are_errors_that_name_the_tensor() {
    for case in cases() {
        for (part, tensor) in case.tensors.iter().enumerate().skip(1) {
            let name = tensor["name"].as_str().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let mut tensors = case.tensors.clone();
            // One dimension more, of the same bytes, is another shape.
            let mut shape = tensor["shape"].as_array().unwrap().clone();
            shape.extend([json!(1), json!(1), json!(1)]);
            tensors[part]["shape"] = json!(shape);
            let (checkpoint, model) = open(directory.path(), &case.config, &tensors);
            let files = Files::open(&checkpoint).unwrap();
            if let Err(error) = Weight::open(&checkpoint, &files, &model.stored[0]) {
                let message = error.to_string();
                assert!(message.contains("`a."), "{} {name}: {message}", case.name);
            }
            tensors.remove(part);
            let (checkpoint, model) = open(directory.path(), &case.config, &tensors);
            let files = Files::open(&checkpoint).unwrap();
            let mut out = Vec::new();
            for logical in &model.stored {
                if let Ok(weight) = Weight::open(&checkpoint, &files, logical) {
                    let _ = weight.read(0..weight.rows(), &mut out);
                }
            }
        }
    }
}

#[test]
fn a_file_that_lost_its_end_is_an_error() {
    let case = &cases()[0];
    let directory = tempfile::tempdir().unwrap();
    let (checkpoint, model) = open(directory.path(), &case.config, &case.tensors);
    let files = Files::open(&checkpoint).unwrap();
    let weight = Weight::open(&checkpoint, &files, &model.stored[0]).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(directory.path().join("model.safetensors"))
        .unwrap();
    file.set_len(200).unwrap();
    let error = weight.read(0..weight.rows(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn a_column_in_a_group_that_is_not_there_is_an_error() {
    let mut case = cases()
        .into_iter()
        .find(|case| case.name == "compressed-tensors with group indices")
        .unwrap();
    let indices = case
        .tensors
        .iter_mut()
        .find(|t| t["name"] == "a.weight_g_idx")
        .unwrap();
    let hex = indices["hex"].as_str().unwrap().to_owned();
    indices["hex"] = json!(format!("04000000{}", &hex[8..]));
    let directory = tempfile::tempdir().unwrap();
    let (checkpoint, model) = open(directory.path(), &case.config, &case.tensors);
    let files = Files::open(&checkpoint).unwrap();
    let error = Weight::open(&checkpoint, &files, &model.stored[0]).unwrap_err();
    assert!(
        matches!(
            error,
            PackedError::Group {
                column: 0,
                group: 4,
                groups: 4,
                ..
            }
        ),
        "{error}"
    );
}
