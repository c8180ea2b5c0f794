//! Whole files: sizes as predicted, the same bytes from every run, what goes in comes out.

use std::fs;

use orinplan::dtype::Dtype;

use crate::build::{Scratch, Written, orinplan, quantize, wave};
use crate::types::llama;

/// Every scheme that is written to GGUF.
const SCHEMES: &[&str] = &[
    "bf16",
    "f16",
    "q8_0",
    "q6_k",
    "q5_1",
    "q5_k_m",
    "q5_k_s",
    "q5_0",
    "q4_1",
    "q4_k_m",
    "q4_k_s",
    "iq4_nl",
    "iq4_xs",
    "q4_0",
    "mxfp4_moe",
    "q3_k_l",
    "q3_k_m",
    "iq3_s",
    "q3_k_s",
    "q2_k",
    "q2_k_s",
    "tq2_0",
    "tq1_0",
];

/// What the 16-bit values of a file of `Q4_0` or `Q4_1` were before, they become again.
#[test]
fn a_grid_of_4_bits_is_found_again() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    for scheme in ["q4_0", "q4_1"] {
        let [first, half, again] =
            ["first", "half", "again"].map(|name| scratch.path(&format!("{scheme}-{name}.gguf")));
        let codes = |report: &serde_json::Value| {
            let notes = report["notes"].as_array().unwrap().iter();
            notes
                .map(|note| note["code"].to_string())
                .collect::<String>()
        };
        let report = quantize(&model, scheme, &first, &["--pure"]);
        assert!(!codes(&report).contains("lossless"), "{report}");
        quantize(&first, "f16", &half, &["--allow-requantize"]);
        let report = quantize(&half, scheme, &again, &["--pure"]);
        assert!(codes(&report).contains("lossless"), "{report}");
        let (first, again) = (Written::read(&first), Written::read(&again));
        for name in first.names() {
            assert!(first.data(name) == again.data(name), "{scheme}: {name}");
        }
    }
}

#[test]
fn every_scheme_makes_the_file_that_was_predicted() {
    let mut planned = 0;
    for fixture in ["tiny-llama", "tiny-qwen3"] {
        let scratch = Scratch::new();
        let model = scratch.fixture(fixture);
        for scheme in SCHEMES {
            let output = scratch.path(&format!("{scheme}.gguf"));
            let name = model.to_str().unwrap();
            let (fit, ..) = orinplan(&["fit", name, "--scheme", scheme, "--format", "json"]);
            let dry = [
                "quantize",
                name,
                "--scheme",
                scheme,
                "--dry-run",
                "--format",
                "json",
            ];
            let (dry, _, _) = orinplan(&dry);
            let dry = crate::schema::document(&dry);
            assert!(!output.exists());
            let report = quantize(&model, scheme, &output, &[]);

            let bytes = fs::metadata(&output).unwrap().len();
            assert_eq!(report["schema"], "orinplan.quantize/1");
            assert_eq!(report["file_bytes"], bytes, "{fixture} {scheme}");
            assert_eq!(dry["file_bytes"], bytes, "{fixture} {scheme}");
            // Of formats that the runtime does not load there is no plan.
            if let Ok(fit) = serde_json::from_str::<serde_json::Value>(&fit) {
                let plan = &fit["plans"][0];
                assert_eq!(plan["file_bytes"], bytes, "{fixture} {scheme}");
                assert_eq!(plan["tensor_bytes"], report["tensor_bytes"]);
                planned += 1;
            }
            let written = Written::read(&output);
            for (tensor, said) in written
                .header
                .tensors
                .iter()
                .zip(dry["tensors"].as_array().unwrap())
            {
                assert_eq!(said["name"], tensor.name);
                assert_eq!(said["type"], tensor.dtype.name());
                assert_eq!(said["bytes"], tensor.bytes.0);
            }
        }
    }
    assert!(planned >= 30, "{planned}");
}

#[test]
fn more_bits_have_a_smaller_error() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let error = |scheme: &str| {
        let output = scratch.path(scheme);
        let report = quantize(&model, scheme, &output, &[]);
        report["relative_rms_error"].as_f64().unwrap()
    };
    let errors = ["q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"].map(error);
    assert!(errors.is_sorted(), "{errors:?}");
    assert!(errors[0] > 0.001 && errors[0] < 0.01, "{errors:?}");
    assert!(errors[3] > 0.03 && errors[3] < 0.1, "{errors:?}");
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let output = scratch.path("x.gguf");
    let run = |threads: &str| {
        quantize(
            &model,
            "q4_k_m",
            &output,
            &["--overwrite", "--threads", threads],
        );
        fs::read(&output).unwrap()
    };
    let first = run("1");
    for threads in ["1", "2", "3", "8"] {
        assert!(run(threads) == first, "{threads} threads");
    }
}

#[test]
fn a_quantized_file_has_its_tensors_by_block_and_name() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let output = scratch.path("x.gguf");
    quantize(&model, "q8_0", &output, &[]);
    let written = Written::read(&output);
    let names = written.names();
    assert_eq!(
        names[..6],
        [
            "output_norm.weight",
            "token_embd.weight",
            "blk.0.attn_k.weight",
            "blk.0.attn_k_norm.weight",
            "blk.0.attn_norm.weight",
            "blk.0.attn_output.weight",
        ]
    );
    assert_eq!(names.last(), Some(&"blk.1.ffn_up.weight"));
}

#[test]
fn a_gguf_of_16_bit_becomes_what_its_checkpoint_does() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let (half, direct, through) = (
        scratch.path("bf16.gguf"),
        scratch.path("a.gguf"),
        scratch.path("b.gguf"),
    );
    quantize(&model, "f16", &half, &[]);
    quantize(&model, "q4_0", &direct, &[]);
    let report = quantize(&half, "q4_0", &through, &[]);
    assert_eq!(report["file_bytes"], fs::metadata(&through).unwrap().len());
    let (a, b) = (Written::read(&direct), Written::read(&through));
    assert_eq!(a.names(), b.names());
    for tensor in &a.header.tensors {
        assert_eq!(tensor.dtype, b.dtype(&tensor.name));
    }
    let mut pairs = a.header.metadata.0.clone();
    pairs.sort_by(|x, y| x.0.cmp(&y.0));
    let keys = |pairs: &[(String, orinplan::gguf::Value)]| {
        pairs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let mut others = b.header.metadata.0.clone();
    others.sort_by(|x, y| x.0.cmp(&y.0));
    assert_eq!(keys(&pairs), keys(&others));
    assert_eq!(b.header.metadata.u64("general.file_type").unwrap(), Some(2));
    // A second pass to the same scheme changes nothing but takes bytes over.
    let again = scratch.path("c.gguf");
    quantize(&through, "q4_0", &again, &[]);
    assert!(fs::read(&through).unwrap() == fs::read(&again).unwrap());
}

#[test]
fn f32_weights_survive_where_nothing_is_quantized() {
    let scratch = Scratch::new();
    let (config, tensors) = llama();
    let model = scratch.checkpoint(&config, &tensors);
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let written = Written::read(&output);
    let norm: Vec<f32> = (0..32).map(wave).collect();
    assert_eq!(written.numbers("blk.0.ffn_norm.weight"), norm);
    // The upper half of each F32, rounded to nearest, ties to even.
    let expected: Vec<u8> = (0..32 * 64)
        .flat_map(|index| {
            let bits = u64::from(wave(index).to_bits());
            let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            (rounded as u16).to_le_bytes()
        })
        .collect();
    assert_eq!(written.dtype("blk.0.ffn_down.weight"), Dtype::BF16);
    assert_eq!(written.shape("blk.0.ffn_down.weight"), [32, 64]);
    assert!(written.data("blk.0.ffn_down.weight") == expected);
}
