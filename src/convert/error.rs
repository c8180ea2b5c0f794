//! The errors of converting a checkpoint to GGUF metadata, each with what the user can do about it.

use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;
use crate::input::{OpenError, in_words, one_line};
use crate::model::projector::ProjectorError;
use crate::units::counted;

/// Why the GGUF metadata of a checkpoint cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum ConvertError {
    /// A file beside the weights cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("conversion of {architecture} is not supported yet; supported: {supported}")]
    Unsupported {
        architecture: String,
        supported: String,
    },
    #[error(
        "no GGUF is made of `{}` ({}): {why}; {instead}",
        one_line(name),
        one_line(class)
    )]
    Refused {
        name: String,
        class: String,
        why: &'static str,
        instead: &'static str,
    },
    #[error(
        "the `precompiled_charsmap` in {} is not base 64; download the file again",
        path.display()
    )]
    /// A map of characters that cannot be read.
    Charsmap {
        /// `tokenizer.json`.
        path: PathBuf,
    },
    #[error(
        "a reranker needs a head made from the rows for `yes` and `no`, which orinplan does not make of this architecture; use llama.cpp's convert_hf_to_gguf.py"
    )]
    Reranker,
    #[error(
        "the model is already GGUF, and its metadata is fixed; convert the Hugging Face checkpoint"
    )]
    NotHuggingFace,
    /// The projector cannot be described.
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    /// The files that describe how images are prepared cannot be read.
    #[error(transparent)]
    Processor(#[from] CheckpointError),
    #[error(
        "neither preprocessor_config.json nor processor_config.json states `{key}`, which llama.cpp needs; put the model's \
         own beside its config.json"
    )]
    NoProcessor { key: &'static str },
    #[error(
        "config.json has no usable `{key}`, which conversion needs; use the config.json that belongs to these weights"
    )]
    MissingKey { key: String },
    #[error("config.json: `{key}` is {found}; it must be {expected}")]
    BadValue {
        key: String,
        found: String,
        expected: &'static str,
    },
    #[error(
        "tensor `{tensor}`, one number that a GGUF states among its keys, cannot be read: the weights are not here, or not whole; use a checkpoint that has it"
    )]
    Number { tensor: String },
    /// The configuration has values that the architecture's GGUF has no place for.
    #[error(
        "config.json: {what}, which a GGUF of {architecture} cannot hold: llama.cpp would compute another model; plan and quantize it for a runtime that reads the checkpoint itself (`--runtime vllm`, `--scheme fp8`)"
    )]
    Lost { what: String, architecture: String },
    #[error(
        "config.json: `vocab_size` is {size}, above the limit of {limit}; no published model has so many tokens"
    )]
    VocabSize { size: u64, limit: u64 },

    #[error(
        "{}no tokenizer found (neither tokenizer.json nor tokenizer.model); put the model's tokenizer beside its config.json",
        at(place)
    )]
    NoTokenizer { place: PathBuf },
    /// The model's code takes its tokenizer from another repository, and the one beside it is another model's.
    #[error(
        "{} takes the tokenizer of `{repository}`, and the tokenizer.json here is an earlier model's; put that repository's \
         beside the weights",
        path.display()
    )]
    TokenizerElsewhere {
        /// The code.
        path: PathBuf,
        repository: &'static str,
    },
    #[error(
        "{}no {code} found, which says whose tokenizer the model was trained with: an earlier model's may lie here; put \
         the model's own {code} beside its weights",
        at(place)
    )]
    TokenizerUnsaid { place: PathBuf, code: &'static str },
    #[error(
        "{}no vocabulary found ({file}); put the model's vocabulary beside its config.json",
        at(place)
    )]
    NoVocabulary { place: PathBuf, file: &'static str },
    #[error("{}: line {line} is not {expected}, or it is beyond the vocabulary", path.display())]
    VocabularyLine {
        path: PathBuf,
        line: usize,
        expected: &'static str,
    },
    #[error("{}: tokenizer_config.json names the token `{token}`, which is not in the vocabulary", path.display())]
    NamedToken { path: PathBuf, token: String },
    #[error("{}: is not the expected JSON: {}", path.display(), in_words(&source.to_string()))]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: is not a SentencePiece model: {problem} at byte {at}", path.display())]
    SentencePiece {
        path: PathBuf,
        problem: &'static str,
        at: usize,
    },
    #[error("{}: has a tokenizer of kind {kind}; known: byte-level BPE, BPE with byte fallback, and Unigram", path.display())]
    TokenizerKind { path: PathBuf, kind: String },
    #[error("{}: token `{token}` has id {id}, but the vocabulary has {}", path.display(), counted(*size, "token", "tokens"))]
    TokenId {
        path: PathBuf,
        token: String,
        id: u64,
        size: usize,
    },
    #[error("{}: has no token `{token}`, whose row a reranker's head is made of", path.display())]
    NoToken { path: PathBuf, token: &'static str },
    #[error("{}: tokens `{first}` and `{second}` both have id {id}", path.display())]
    DuplicateId {
        path: PathBuf,
        first: String,
        second: String,
        id: u32,
    },
    #[error("{}: no token has id {id}, but the vocabulary goes on to {}", path.display(), counted(*size, "token", "tokens"))]
    MissingId { path: PathBuf, id: u32, size: usize },
}

impl ConvertError {
    /// Whether the checkpoint itself is wrong; false if this program just has no conversion for it.
    pub fn blames_checkpoint(&self) -> bool {
        !matches!(
            self,
            ConvertError::Unsupported { .. }
                | ConvertError::Refused { .. }
                | ConvertError::Reranker
                | ConvertError::NotHuggingFace
                | ConvertError::Number { .. }
                | ConvertError::NoTokenizer { .. }
                | ConvertError::NoVocabulary { .. }
                | ConvertError::TokenizerElsewhere { .. }
                | ConvertError::TokenizerUnsaid { .. }
                | ConvertError::TokenizerKind { .. }
        )
    }

    /// The error with paths relative to `directory`, so that a checkpoint gives the same message in any place.
    pub fn within(mut self, directory: &Path) -> ConvertError {
        let path = match &mut self {
            ConvertError::Open(error) => error.path_mut(),
            ConvertError::NoTokenizer { place: path }
            | ConvertError::NoVocabulary { place: path, .. }
            | ConvertError::TokenizerUnsaid { place: path, .. }
            | ConvertError::TokenizerElsewhere { path, .. }
            | ConvertError::VocabularyLine { path, .. }
            | ConvertError::NamedToken { path, .. }
            | ConvertError::Json { path, .. }
            | ConvertError::SentencePiece { path, .. }
            | ConvertError::TokenizerKind { path, .. }
            | ConvertError::Charsmap { path }
            | ConvertError::TokenId { path, .. }
            | ConvertError::NoToken { path, .. }
            | ConvertError::DuplicateId { path, .. }
            | ConvertError::MissingId { path, .. } => path,
            ConvertError::Unsupported { .. }
            | ConvertError::Refused { .. }
            | ConvertError::Reranker
            | ConvertError::Projector(_)
            | ConvertError::Processor(_)
            | ConvertError::NoProcessor { .. }
            | ConvertError::NotHuggingFace
            | ConvertError::Number { .. }
            | ConvertError::MissingKey { .. }
            | ConvertError::BadValue { .. }
            | ConvertError::Lost { .. }
            | ConvertError::VocabSize { .. } => return self,
        };
        if let Ok(inside) = path.strip_prefix(directory) {
            *path = inside.to_owned();
        }
        self
    }
}

/// A path as the start of a message; empty for the checkpoint's own directory.
fn at(place: &Path) -> String {
    if place.as_os_str().is_empty() {
        String::new()
    } else {
        format!("{}: ", place.display())
    }
}
