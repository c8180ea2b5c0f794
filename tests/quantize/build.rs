//! Checkpoints small enough to quantize in a test, with a tokenizer; and what a file says of itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use orinplan::dtype::Dtype;
use orinplan::gguf;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Name, type, shape and bytes of a tensor as a safetensors file has it.
pub(crate) type Bytes = (String, &'static str, Vec<usize>, Vec<u8>);

/// A scratch directory.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A fixture's files in a directory of that name, with a tokenizer for its vocabulary.
    pub(crate) fn fixture(&self, name: &str) -> PathBuf {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        let to = self.path(name);
        fs::create_dir(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        fs::write(to.join("tokenizer.json"), tokenizer(96).to_string()).unwrap();
        to
    }

    /// A checkpoint of `config` with `tensors`, all F32: name, shape, and the value of each element
    /// by its index.
    pub(crate) fn checkpoint(&self, config: &Json, tensors: &[Stored]) -> PathBuf {
        let bytes = |(name, shape, value): &Stored| {
            let values = (0..shape.iter().product()).map(value);
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name.clone(), "F32", shape.clone(), bytes)
        };
        self.stored("model", config, tensors.iter().map(bytes).collect())
    }

    /// A checkpoint of `config` with `tensors`, all BF16: the value of an element by the number of
    /// its tensor and its index.
    pub(crate) fn bf16(
        &self,
        config: &Json,
        tensors: &[(String, Vec<usize>)],
        value: fn(usize, usize) -> f32,
    ) -> PathBuf {
        let bytes = |(tensor, (name, shape)): (usize, &(String, Vec<usize>))| {
            let values = (0..shape.iter().product()).map(|index| value(tensor, index));
            let upper = values.map(|value| (value.to_bits() >> 16) as u16);
            let bytes = upper.flat_map(u16::to_le_bytes).collect();
            (name.clone(), "BF16", shape.clone(), bytes)
        };
        let tensors = tensors.iter().enumerate().map(bytes);
        self.stored("model", config, tensors.collect())
    }

    /// A checkpoint with the bytes of each tensor, in a directory of this name.
    pub(crate) fn stored(&self, directory: &str, config: &Json, tensors: Vec<Bytes>) -> PathBuf {
        let directory = self.path(directory);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let parts = ["", "/text_config", "/thinker_config/text_config"];
        let stated = |part: &&str| config.pointer(part)?.get("vocab_size")?.as_u64();
        let vocab = parts.iter().find_map(stated).unwrap() as usize;
        fs::write(
            directory.join("tokenizer.json"),
            tokenizer(vocab).to_string(),
        )
        .unwrap();
        fs::write(directory.join("tokenizer.model"), sentencepiece(vocab)).unwrap();
        let mut header = serde_json::Map::new();
        let mut all = Vec::new();
        for (name, dtype, shape, bytes) in tensors {
            let (start, end) = (all.len(), all.len() + bytes.len());
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
            header.insert(name, entry);
            all.extend(bytes);
        }
        let header = Json::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(all);
        fs::write(directory.join("model.safetensors"), file).unwrap();
        directory
    }
}

/// Name, shape and values of a tensor.
pub(crate) type Stored = (String, Vec<usize>, fn(usize) -> f32);

/// Numbers that look like weights and differ from one index to the next.
pub(crate) fn wave(index: usize) -> f32 {
    ((index as f32 * 0.7).sin() + (index as f32 * 0.013).cos()) * 0.04
}

/// The `n`-th letter: from 256 on, without the numbers that are no characters.
fn letter(n: usize) -> char {
    let number = 0x100 + n as u32;
    let behind = if number >= 0xd800 { 0x800 } else { 0 };
    char::from_u32(number + behind).unwrap()
}

/// A byte-level tokenizer of `size` tokens of one letter each, and a merge, without which llama.cpp
/// loads none.
fn tokenizer(size: usize) -> Json {
    let vocab = (0..size).map(|n| (letter(n).to_string(), n.into()));
    let vocab: serde_json::Map<String, Json> = vocab.collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["Ā ā"]},
    })
}

/// A SentencePiece model of `size` pieces of one letter each.
fn sentencepiece(size: usize) -> Vec<u8> {
    let mut model = Vec::new();
    for n in 0..size {
        let text = letter(n).to_string();
        let mut piece = vec![0x0a, text.len() as u8];
        piece.extend(text.as_bytes());
        piece.push(0x15);
        piece.extend((-(n as f32)).to_le_bytes());
        model.extend([0x0a, piece.len() as u8]);
        model.extend(piece);
    }
    model
}

/// Runs the program; standard output and error as text, and the exit status.
pub(crate) fn orinplan(args: &[&str]) -> (String, String, i32) {
    let Output {
        stdout,
        stderr,
        status,
    } = Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .args(args)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().unwrap())
}

/// Quantizes, and gives the report as JSON.
pub(crate) fn quantize(model: &Path, scheme: &str, output: &Path, more: &[&str]) -> Json {
    let args = ["quantize", model.to_str().unwrap(), "--scheme", scheme];
    let output = ["--output", output.to_str().unwrap(), "--format", "json"];
    let (stdout, stderr, status) = orinplan(&[&args[..], &output, more].concat());
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stderr, "", "nothing but a terminal gets progress");
    crate::schema::document(&stdout)
}

/// The error of a run that must fail, as one line.
pub(crate) fn error(args: &[&str]) -> String {
    let (stdout, stderr, status) = orinplan(args);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// A written file, read back.
pub(crate) struct Written {
    pub(crate) header: gguf::Header,
    bytes: Vec<u8>,
}

impl Written {
    pub(crate) fn read(path: &Path) -> Written {
        Written {
            header: gguf::read_header(path).unwrap(),
            bytes: fs::read(path).unwrap(),
        }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.header
            .tensors
            .iter()
            .map(|t| t.name.as_str())
            .collect()
    }

    pub(crate) fn dtype(&self, name: &str) -> Dtype {
        self.tensor(name).dtype
    }

    pub(crate) fn shape(&self, name: &str) -> &[u64] {
        &self.tensor(name).shape
    }

    pub(crate) fn data(&self, name: &str) -> &[u8] {
        let tensor = self.tensor(name);
        let start = tensor.offset as usize;
        &self.bytes[start..start + tensor.bytes.0 as usize]
    }

    /// The numbers of an F32 tensor.
    pub(crate) fn numbers(&self, name: &str) -> Vec<f32> {
        assert_eq!(self.dtype(name), Dtype::F32, "{name}");
        let words = self.data(name).chunks(4);
        words
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    fn tensor(&self, name: &str) -> &gguf::TensorInfo {
        let found = self.header.tensors.iter().find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }
}
