//! Every truncation and every flipped bit of small files: a result, never a panic, and never a
//! tensor outside the file.

use std::fs;
use std::io::Cursor;

use orinplan::{checkpoint, gguf, safetensors};

use crate::build;

fn small_safetensors() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
        r#""b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}"#
    );
    build::safetensors(header, 22)
}

/// Whether the bytes are accepted; what is accepted lies within them.
fn accepts_gguf(bytes: &[u8]) -> bool {
    let Ok(header) = gguf::read_header_from(Cursor::new(bytes)) else {
        return false;
    };
    let inside = |t: &gguf::TensorInfo| t.offset + t.bytes.0 <= bytes.len() as u64;
    assert!(header.tensors.iter().all(inside));
    true
}

fn accepts_safetensors(bytes: &[u8]) -> bool {
    let Ok(header) = safetensors::read_header_from(Cursor::new(bytes)) else {
        return false;
    };
    let end = header
        .tensors
        .last()
        .map_or(header.data_offset, |t| t.offset + t.bytes.0);
    assert_eq!(end, bytes.len() as u64);
    true
}

fn flip_every_bit(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        accepts(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let gguf = build::small_gguf();
    assert!(accepts_gguf(&gguf));
    for cut in 0..gguf.len() {
        assert!(!accepts_gguf(&gguf[..cut]), "GGUF cut at {cut}");
    }
    let safetensors = small_safetensors();
    assert!(accepts_safetensors(&safetensors));
    for cut in 0..safetensors.len() {
        assert!(
            !accepts_safetensors(&safetensors[..cut]),
            "safetensors cut at {cut}"
        );
    }
}

#[test]
fn any_flipped_bit_gives_a_result() {
    flip_every_bit(&build::small_gguf(), accepts_gguf);
    flip_every_bit(&small_safetensors(), accepts_safetensors);
}

#[test]
fn any_byte_set_to_an_extreme_gives_a_result() {
    for (bytes, accepts) in [
        (build::small_gguf(), accepts_gguf as fn(&[u8]) -> bool),
        (small_safetensors(), accepts_safetensors),
    ] {
        for at in 0..bytes.len() {
            for width in [1, 4, 8] {
                let mut changed = bytes.clone();
                changed
                    .iter_mut()
                    .skip(at)
                    .take(width)
                    .for_each(|byte| *byte = 0xff);
                accepts(&changed);
            }
        }
    }
}

#[test]
fn a_config_and_an_index_cut_at_any_byte_are_refused_or_read() {
    let weights = build::vectors(&[("w", 2)]);
    let index =
        br#"{"metadata":{"total_size":8},"weight_map":{"w":"model-00001-of-00001.safetensors"}}"#;
    let config = br#"{"model_type":"llama","rope_scaling":{"factor":8.0}}"#;
    let (_guard, directory) = build::directory(&[
        ("model-00001-of-00001.safetensors", &weights),
        ("model.safetensors.index.json", index),
        ("config.json", config),
    ]);
    let opens = || checkpoint::open(directory.to_str().unwrap());
    assert!(opens().is_ok());
    for (name, bytes) in [
        ("model.safetensors.index.json", &index[..]),
        ("config.json", &config[..]),
    ] {
        for cut in 0..bytes.len() {
            fs::write(directory.join(name), &bytes[..cut]).unwrap();
            let message = opens().expect_err("a cut file was accepted").to_string();
            assert!(message.contains(name), "{message}");
        }
        fs::write(directory.join(name), bytes).unwrap();
    }
}
