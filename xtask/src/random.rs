//! A checkpoint of a published shape, filled: weights as noise, the same in every run, with a small
//! tokenizer. In: a directory. Out: the files in it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::fixtures::safetensors_header;
use crate::shapes::{self, Shape};
use crate::tiny::{Noise, bf16};

/// Qwen3-0.6B in BF16, 1.19 GB, unless it is there.
pub(crate) fn qwen3_06b(directory: &Path) -> anyhow::Result<PathBuf> {
    checkpoint(&shapes::qwen3_06b(), directory)
}

/// A model of `shape` in its own types, unless it is there.
pub(crate) fn checkpoint(shape: &Shape, directory: &Path) -> anyhow::Result<PathBuf> {
    let weights = directory.join("model.safetensors");
    if weights.exists() {
        return Ok(directory.to_owned());
    }
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("config.json"), shape.config.to_string())?;
    std::fs::write(directory.join("tokenizer.json"), tokenizer().to_string())?;
    let unfinished = directory.join("unfinished");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    file.write_all(&safetensors_header(&shape.tensors)?)?;
    let mut noise = Noise::default();
    for (_, _, dimensions) in &shape.tensors {
        for _ in 0..dimensions.iter().product::<u64>() {
            let value = match dimensions.as_slice() {
                [_] => 1.0,
                _ => noise.weight(),
            };
            file.write_all(&bf16(value).to_le_bytes())?;
        }
    }
    file.into_inner()?.sync_all()?;
    std::fs::rename(unfinished, &weights)?;
    Ok(directory.to_owned())
}

/// Byte-level BPE of a few letters; the rest of the vocabulary is padding. llama.cpp loads none that
/// is without a merge.
fn tokenizer() -> Value {
    let tokens = ('a'..='z').map(String::from).chain(["ab".to_owned()]);
    let numbered = tokens.enumerate();
    let vocab: Map<String, Value> = numbered.map(|(id, token)| (token, id.into())).collect();
    json!({
        "version": "1.0", "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b"]},
    })
}
