//! Importance matrices in both forms: read, applied, and refused where they are another model's.

use std::fs;
use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, TensorEntry, Value};
use orinplan::quantize::Importance;

use crate::build::{Scratch, Written, error, quantize};

fn legacy(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut file = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, calls, values) in entries {
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(calls.to_le_bytes());
        file.extend((values.len() as i32).to_le_bytes());
        values
            .iter()
            .for_each(|value| file.extend(value.to_le_bytes()));
    }
    file.extend(7i32.to_le_bytes());
    file.extend(5i32.to_le_bytes());
    file.extend(b"a.txt");
    file
}

/// The GGUF form: sums and counts of one entry.
fn modern(path: &Path, name: &str, sums: &[f32], counts: &[f32]) {
    let (sum_name, count_name) = (format!("{name}.in_sum2"), format!("{name}.counts"));
    let rows = counts.len() as u64;
    let (sum_shape, count_shape) = ([rows, sums.len() as u64 / rows], [rows, 1]);
    let entry = |name, shape| TensorEntry {
        name,
        dtype: Dtype::F32,
        shape,
    };
    let metadata = [
        ("general.type".to_owned(), Value::String("imatrix".into())),
        (
            "imatrix.datasets".to_owned(),
            Value::Array(vec![Value::String("a.txt".into())]),
        ),
        ("imatrix.chunk_count".to_owned(), Value::U32(7)),
        ("imatrix.chunk_size".to_owned(), Value::U32(512)),
    ];
    let mut file = Vec::new();
    let tensors = [
        entry(&sum_name, &sum_shape[..]),
        entry(&count_name, &count_shape[..]),
    ];
    gguf::write_header(&mut file, &metadata, &tensors).unwrap();
    for values in [sums, counts] {
        values
            .iter()
            .for_each(|value| file.extend(value.to_le_bytes()));
        file.resize(file.len().next_multiple_of(32), 0);
    }
    fs::write(path, file).unwrap();
}

#[test]
fn both_forms_say_the_same() {
    let scratch = Scratch::new();
    let (old, new) = (scratch.path("old.dat"), scratch.path("new.gguf"));
    fs::write(
        &old,
        legacy(&[("blk.0.attn_v.weight", 4, &[4.0, 8.0, 2.0])]),
    )
    .unwrap();
    modern(&new, "blk.0.attn_v.weight", &[10.0, 20.0, 5.0], &[10.0]);
    let (old, new) = (
        Importance::open(&old).unwrap(),
        Importance::open(&new).unwrap(),
    );
    for matrix in [&old, &new] {
        assert_eq!(matrix.of("blk.0.attn_v.weight"), Some(&[1.0, 2.0, 0.5][..]));
        assert_eq!(
            (matrix.chunks, matrix.datasets.as_slice()),
            (7, &["a.txt".to_owned()][..])
        );
        assert_eq!(matrix.of("blk.0.attn_k.weight"), None);
    }
}

#[test]
fn an_expert_that_no_token_met_weighs_all_columns_alike() {
    let scratch = Scratch::new();
    let path = scratch.path("x.gguf");
    modern(
        &path,
        "blk.0.ffn_up_exps.weight",
        &[6.0, 4.0, 0.0, 0.0],
        &[2.0, 0.0],
    );
    let matrix = Importance::open(&path).unwrap();
    assert_eq!(
        matrix.of("blk.0.ffn_up_exps.weight"),
        Some(&[3.0, 2.0, 1.0, 1.0][..])
    );
}

#[test]
fn importance_lowers_the_error_that_it_weighs() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let columns: Vec<f32> = (0..256)
        .map(|c| if c % 16 == 0 { 400.0 } else { 0.01 })
        .collect();
    let path = scratch.path("a.dat");
    fs::write(&path, legacy(&[("blk.0.attn_q.weight", 1, &columns)])).unwrap();
    let (plain, guided) = (scratch.path("a.gguf"), scratch.path("b.gguf"));
    quantize(&model, "q4_k_s", &plain, &[]);
    let report = quantize(
        &model,
        "q4_k_s",
        &guided,
        &["--imatrix", path.to_str().unwrap()],
    );
    assert_eq!(report["file_bytes"], fs::metadata(&guided).unwrap().len());
    let notes = report["notes"].as_array().unwrap();
    let missing = notes
        .iter()
        .find(|n| n["code"] == "missing_importance")
        .unwrap();
    assert!(
        missing["text"]
            .as_str()
            .unwrap()
            .contains("blk.0.attn_k.weight")
    );
    let (a, b) = (Written::read(&plain), Written::read(&guided));
    assert_ne!(a.data("blk.0.attn_q.weight"), b.data("blk.0.attn_q.weight"));
    assert_eq!(a.data("blk.1.attn_q.weight"), b.data("blk.1.attn_q.weight"));
    let metadata = &b.header.metadata;
    assert_eq!(
        metadata.str("quantize.imatrix.file").unwrap(),
        Some("a.dat")
    );
    assert_eq!(
        metadata.str("quantize.imatrix.dataset").unwrap(),
        Some("a.txt")
    );
    assert_eq!(
        metadata.u64("quantize.imatrix.entries_count").unwrap(),
        Some(1)
    );
    assert_eq!(
        metadata.u64("quantize.imatrix.chunks_count").unwrap(),
        Some(7)
    );

    // What the important columns lose, with and without.
    let source = fs::read(model.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&source).unwrap();
    let weights = tensors
        .tensor("model.layers.0.self_attn.q_proj.weight")
        .unwrap();
    let source: Vec<f32> = weights
        .data()
        .chunks(2)
        .map(|half| f32::from_bits(u32::from(u16::from_le_bytes([half[0], half[1]])) << 16))
        .collect();
    let loss = |written: &Written| {
        let mut decoded = vec![0.0; source.len()];
        let data = written.data("blk.0.attn_q.weight");
        orinplan::quantize::blocks::decode_rows(Dtype::Q4_K, data, 256, &mut decoded).unwrap();
        // Rows of a head of 64 are dealt from two halves.
        let from = |row: usize| row / 64 * 64 + row % 64 / 2 + row % 2 * 32;
        let rows = decoded.chunks(256).enumerate();
        rows.flat_map(|(row, values)| {
            let original = &source[from(row) * 256..][..256];
            (0..256)
                .step_by(16)
                .map(move |c| (values[c] - original[c]).powi(2))
        })
        .sum::<f32>()
    };
    assert!(loss(&b) < 0.7 * loss(&a), "{} {}", loss(&b), loss(&a));
}

/// Without importance, and for tensors that the matrix leaves out, llama-quantize refuses these types.
#[test]
fn codebooks_of_2_and_3_bits_need_importance() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let plain = scratch.path("plain.gguf");
    quantize(&model, "q8_0", &plain, &[]);
    let columns: Vec<f32> = (0..1024).map(|c| 0.5 + (c % 7) as f32).collect();
    let plain = Written::read(&plain);
    let tensors = plain.header.tensors.iter();
    let matrices =
        tensors.filter(|tensor| tensor.name.starts_with("blk.") && tensor.shape.len() == 2);
    let entries: Vec<(&str, i32, &[f32])> = matrices
        .map(|tensor| {
            (
                tensor.name.as_str(),
                1,
                &columns[..tensor.shape[1] as usize],
            )
        })
        .collect();
    let (whole, short) = (scratch.path("whole.dat"), scratch.path("short.dat"));
    fs::write(&whole, legacy(&entries)).unwrap();
    fs::write(&short, legacy(&entries[1..])).unwrap();
    for scheme in ["iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs"] {
        let output = scratch.path(scheme);
        let words = ["quantize", model.to_str().unwrap(), "--scheme", scheme];
        let to = ["--output", output.to_str().unwrap()];
        let said = error(&[&words[..], &to].concat());
        assert!(said.contains("needs an importance matrix"), "{said}");
        assert!(said.contains("`orinplan imatrix`"), "{said}");
        assert!(!output.exists());
    }
    for scheme in ["iq2_xxs", "iq3_xxs"] {
        let output = scratch.path(scheme);
        let report = quantize(
            &model,
            scheme,
            &output,
            &["--imatrix", whole.to_str().unwrap()],
        );
        assert_eq!(report["file_bytes"], fs::metadata(&output).unwrap().len());
        assert!(
            report["relative_rms_error"].as_f64().unwrap() < 0.5,
            "{report}"
        );
    }
    let words = [
        "quantize",
        model.to_str().unwrap(),
        "--scheme",
        "iq2_xxs",
        "--output",
    ];
    let output = scratch.path("none.gguf");
    let more = [
        output.to_str().unwrap(),
        "--imatrix",
        short.to_str().unwrap(),
    ];
    let said = error(&[&words[..], &more].concat());
    assert!(said.contains(entries[0].0), "{said}");
}

#[test]
fn another_models_matrix_and_broken_files_are_refused() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let path = scratch.path("a.dat");
    let whole = legacy(&[("blk.0.attn_q.weight", 1, &[1.0; 64])]);
    let output = scratch.path("x.gguf");
    let run = [
        "quantize",
        model.to_str().unwrap(),
        "--scheme",
        "q4_0",
        "--output",
        output.to_str().unwrap(),
        "--imatrix",
        path.to_str().unwrap(),
    ];
    fs::write(&path, &whole).unwrap();
    let said = error(&run);
    assert!(
        said.contains("blk.0.attn_q.weight") && said.contains("another model"),
        "{said}"
    );
    fs::write(
        &path,
        legacy(&[("blk.0.attn_q.weight", 1, &[f32::NAN; 96])]),
    )
    .unwrap();
    assert!(error(&run).contains("finite"));
    let (zeros, ones) = (&[0.0; 96][..], &[1.0; 96][..]);
    let (first, third) = ("blk.0.attn_q.weight", "blk.2.attn_q.weight");
    for (entries, says) in [
        (vec![(first, 1, zeros)], "zero for every column"),
        (
            vec![("blk.0.other.weight", 1, ones)],
            "1 tensor, but the model has none",
        ),
        (
            vec![(first, 1, ones), (third, 1, ones)],
            "block 2, but the model has 2 blocks",
        ),
    ] {
        fs::write(&path, legacy(&entries)).unwrap();
        let said = error(&run);
        assert!(said.contains(says), "{said}");
        assert!(!output.exists());
    }
    for cut in [0, 1, 3, 4, 7, 12, 30, 40, 100] {
        fs::write(&path, &whole[..cut]).unwrap();
        error(&run);
    }
    for bytes in [
        &b"GGUF"[..],
        b"\xff\xff\xff\x7fxxxx",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
    ] {
        fs::write(&path, bytes).unwrap();
        error(&run);
    }
}
