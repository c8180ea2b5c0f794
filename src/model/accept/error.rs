//! Why llama.cpp does not load a file.

use std::path::PathBuf;

use crate::dtype::Dtype;

/// Why llama.cpp does not load a file.
#[derive(Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum AcceptError {
    #[error(
        "the file holds no tensor of a model, so there is nothing to run (a vocabulary or a projector alone); \
         give the model's own file"
    )]
    NoTensors,
    #[error(
        "`{key}` is missing, and llama.cpp loads no file without it; convert the original checkpoint again with a current converter"
    )]
    Missing { key: String },
    #[error(
        "`{key}` is {found}, but llama.cpp only loads {expected}; convert the original checkpoint again with a current converter"
    )]
    Type {
        key: String,
        found: String,
        expected: &'static str,
    },
    #[error(
        "`{key}` has {found} entries, but llama.cpp requires {expected}, {of}; convert the original checkpoint again"
    )]
    Length {
        key: String,
        found: u64,
        expected: u64,
        of: &'static str,
    },
    #[error(
        "`{key}` is {found}, but llama.cpp requires {expected}; convert the original checkpoint again"
    )]
    Number {
        key: String,
        found: u64,
        expected: String,
    },
    #[error(
        "`{key}` is `{found}`, which llama.cpp does not know as of build 11434{nearest}; run it with a newer build \
         that does, or convert the original checkpoint again with a current converter"
    )]
    Word {
        key: String,
        found: String,
        nearest: String,
    },
    #[error(
        "a token is sent to {found} experts of {experts}, which llama.cpp does not load; use the metadata that \
         belongs to these weights"
    )]
    Experts { found: u64, experts: u64 },
    #[error(
        "the vocabulary has {tokens} tokens and the embedding {rows} rows, but llama.cpp requires equal numbers; use the tokenizer that belongs to these weights"
    )]
    Vocabulary { tokens: u64, rows: u64 },
    #[error(
        "two tokens are `{text}`, but llama.cpp requires distinct ones; use the tokenizer that belongs \
         to these weights"
    )]
    SameToken { text: String },
    #[error(
        "no token of kind 6 (a byte) is `<0x{byte:02X}>`, but llama.cpp requires one for each byte; convert the original checkpoint again with a current converter"
    )]
    NoByte { byte: u8 },
    #[error(
        "tensor `{tensor}` is {}, but llama.cpp only computes with it in {expected}; convert the original checkpoint again with a current converter",
        found.name()
    )]
    TensorType {
        tensor: String,
        found: Dtype,
        expected: &'static str,
    },
    #[error(
        "tensor `{tensor}` is part of a {tower}, which llama.cpp loads from a separate file; get the model as two files (the text model and an `mmproj`)"
    )]
    Tower { tensor: String, tower: &'static str },
    #[error(
        "{}: the projector gives image embeddings of {found}, but this model takes {expected}, so llama.cpp does not load the pair; use the projector that belongs to the model",
        path.display()
    )]
    Projector {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(
        "tensor `{tensor}` is at byte {found}, not at {expected} right after the one before it; llama.cpp requires tensors in the order of their list, without gaps; convert the original checkpoint again with a current converter"
    )]
    Place {
        tensor: String,
        found: u64,
        expected: u64,
    },
    #[error("{0}")]
    Unreadable(String),
}
