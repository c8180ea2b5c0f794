//! Small checkpoints and tokenizers made in a temporary directory.

use std::fs;
use std::path::Path;

use orinplan::convert::{self, ConvertError};
use orinplan::gguf::Value;
use orinplan::{checkpoint, model};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// A directory called `cg` with these files.
pub(crate) struct Fixture(TempDir);

impl Fixture {
    pub(crate) fn new(config: &Json) -> Fixture {
        let fixture = Fixture(tempfile::tempdir().unwrap());
        fs::create_dir(fixture.path()).unwrap();
        fixture.with("config.json", config.to_string())
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Fixture {
        fs::write(self.path().join(name), content).unwrap();
        self
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        Path::new(self.0.path()).join("cg")
    }

    pub(crate) fn metadata(&self) -> Result<Vec<(String, Value)>, ConvertError> {
        let path = self.path();
        let checkpoint = checkpoint::open(path.to_str().unwrap()).unwrap();
        let model = model::read(&checkpoint, model::Unknown::WeightsOnly).unwrap();
        convert::metadata(&checkpoint, &model, 32)
    }

    /// The metadata as lines: `key type value`, arrays as their length and elements.
    pub(crate) fn lines(&self) -> Vec<String> {
        let metadata = self.metadata().unwrap();
        metadata
            .iter()
            .map(|(k, v)| format!("{k} {}", show(v)))
            .collect()
    }

    pub(crate) fn error(&self) -> String {
        self.metadata().unwrap_err().to_string()
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::U32(n) => format!("u32 {n}"),
        Value::I32(n) => format!("i32 {n}"),
        Value::F32(x) => format!("f32 {x}"),
        Value::Bool(b) => format!("bool {b}"),
        Value::String(text) => format!("string {text}"),
        Value::Strings(list) => format!("strings {:?}", list.iter().collect::<Vec<_>>()),
        Value::I32s(list) => format!("i32s {list:?}"),
        Value::F32s(list) => format!("f32s {list:?}"),
        Value::Array(list) => {
            format!(
                "array {}",
                list.iter().map(show).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.type_name(),
    }
}

/// The configuration of a tiny Llama.
pub(crate) fn llama(vocab: u32) -> Json {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": vocab, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "tie_word_embeddings": true,
    })
}

/// Llama 3's split.
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's split.
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A byte-level tokenizer of 300 tokens: 256 of one letter (`U+0100` on), 40 merges of the first
/// with each of the next, and four added ones.
pub(crate) fn byte_level(pattern: &str) -> Json {
    let letter = |n: u32| char::from_u32(0x100 + n).unwrap().to_string();
    let mut vocab = serde_json::Map::new();
    for n in 0..256 {
        vocab.insert(letter(n), n.into());
    }
    let mut merges = Vec::new();
    for n in 0..40 {
        vocab.insert(letter(0) + &letter(n), (256 + n).into());
        merges.push(json!([letter(0), letter(n)]));
    }
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "normalized": false,
               "single_word": false, "lstrip": false, "rstrip": false})
    };
    json!({
        "version": "1.0",
        "added_tokens": [
            added(296, "<|start|>", true), added(297, "<|end|>", true),
            added(298, "<think>", false), added(299, "<|tool|>", false),
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    })
}

/// A template that puts `<|start|>` before every text.
pub(crate) fn starts_with(token: &str) -> Json {
    json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {},
    })
}

/// A SentencePiece model: `(text, score, type)` in order, and a trainer's field that is passed over.
pub(crate) fn sentencepiece(pieces: &[(&str, f32, u8)]) -> Vec<u8> {
    let mut model = Vec::new();
    for (text, score, kind) in pieces {
        let mut piece = vec![0x0a, u8::try_from(text.len()).unwrap()];
        piece.extend(text.as_bytes());
        piece.push(0x15);
        piece.extend(score.to_le_bytes());
        if *kind != 1 {
            piece.extend([0x18, *kind]);
        }
        model.extend([0x0a, u8::try_from(piece.len()).unwrap()]);
        model.extend(piece);
    }
    model.extend([0x12, 3, 0x20, 0x90, 0x4e]);
    model
}
