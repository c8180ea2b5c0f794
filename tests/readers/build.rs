//! Writers of tiny files, byte by byte after the formats' own descriptions. They know nothing of
//! the readers and write wrong files as readily as right ones.

use std::fs;
use std::path::{Path, PathBuf};

/// GGUF's ids of value types.
pub(crate) const U8: u32 = 0;
pub(crate) const I8: u32 = 1;
pub(crate) const U16: u32 = 2;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;

/// A metadata pair: key, type id, and the value's bytes.
pub(crate) type Pair = (String, u32, Vec<u8>);

/// A tensor description as it stands in the file: `ne` has rows first.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) ne: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) offset: u64,
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn pair(key: &str, type_id: u32, value: &[u8]) -> Pair {
    (key.to_owned(), type_id, value.to_vec())
}

pub(crate) fn u32_pair(key: &str, value: u32) -> Pair {
    pair(key, U32, &value.to_le_bytes())
}

pub(crate) fn string_pair(key: &str, value: &str) -> Pair {
    pair(key, STRING, &string(value))
}

/// An array's value: element type, length as claimed, elements as they are.
pub(crate) fn array(element: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}

pub(crate) fn strings(texts: &[&str]) -> Vec<u8> {
    let elements: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
    array(STRING, texts.len() as u64, &elements)
}

pub(crate) fn tensor(name: &str, ne: &[u64], type_id: u32, offset: u64) -> Tensor {
    Tensor {
        name: name.to_owned(),
        ne: ne.to_vec(),
        type_id,
        offset,
    }
}

/// A GGUF file with counts as claimed; header padded to `alignment`, then `data` zeros.
pub(crate) fn gguf_claiming(
    version: u32,
    counts: (u64, u64),
    pairs: &[Pair],
    tensors: &[Tensor],
    alignment: usize,
    data: usize,
) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(counts.0.to_le_bytes());
    out.extend(counts.1.to_le_bytes());
    for (key, type_id, value) in pairs {
        out.extend(string(key));
        out.extend(type_id.to_le_bytes());
        out.extend(value);
    }
    for tensor in tensors {
        out.extend(string(&tensor.name));
        out.extend((tensor.ne.len() as u32).to_le_bytes());
        for dimension in &tensor.ne {
            out.extend(dimension.to_le_bytes());
        }
        out.extend(tensor.type_id.to_le_bytes());
        out.extend(tensor.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(alignment) + data, 0);
    out
}

/// A GGUF file, version 3, alignment 32.
pub(crate) fn gguf(pairs: &[Pair], tensors: &[Tensor], data: usize) -> Vec<u8> {
    let counts = (tensors.len() as u64, pairs.len() as u64);
    gguf_claiming(3, counts, pairs, tensors, 32, data)
}

/// A small valid GGUF with a value of most types and three tensors; its data ends with its last
/// byte.
pub(crate) fn small_gguf() -> Vec<u8> {
    let per_layer: Vec<u8> = [4u32, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    let many: Vec<String> = (0..70).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    gguf(
        &[
            string_pair("general.architecture", "llama"),
            u32_pair("general.alignment", 32),
            pair("llama.heads", ARRAY, &array(U32, 2, &per_layer)),
            pair("flag", BOOL, &[1]),
            pair("tags", ARRAY, &strings(&["a", "bc"])),
            pair("tokens", ARRAY, &strings(&many)),
        ],
        &[
            tensor("token_embd.weight", &[32, 2], 8, 0),
            tensor("output_norm.weight", &[4], 0, 96),
            tensor("blk.0.attn_q.weight", &[256, 1], 12, 128),
        ],
        128 + 144,
    )
}

/// A safetensors file of this header and `data` zeros.
pub(crate) fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut out = string(header);
    out.resize(out.len() + data, 0);
    out
}

/// A safetensors file of F32 vectors with these names and lengths.
pub(crate) fn vectors(tensors: &[(&str, usize)]) -> Vec<u8> {
    let (mut entries, mut at) = (Vec::new(), 0);
    for (name, len) in tensors {
        let end = at + 4 * len;
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":[{len}],"data_offsets":[{at},{end}]}}"#
        ));
        at = end;
    }
    safetensors(&format!("{{{}}}", entries.join(",")), at)
}

/// Writes files into `directory`, with the folders they need.
pub(crate) fn write(directory: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A fresh directory with these files. It lives as long as the returned guard.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let path = guard.path().join("tiny-model");
    fs::create_dir(&path).unwrap();
    write(&path, files);
    (guard, path)
}
