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
        "`{key}` is missing, and llama.cpp does not load a file without it; make the file anew from the original \
         checkpoint with a current converter"
    )]
    Missing { key: String },
    #[error(
        "`{key}` is {found}, and llama.cpp loads {expected} only; make the file anew from the original checkpoint \
         with a current converter"
    )]
    Type {
        key: String,
        found: String,
        expected: &'static str,
    },
    #[error(
        "`{key}` has {found} entries, and llama.cpp loads files with {expected} of them, {of}; make the file anew \
         from the original checkpoint"
    )]
    Length {
        key: String,
        found: u64,
        expected: u64,
        of: &'static str,
    },
    #[error(
        "`{key}` is {found}, and llama.cpp takes {expected} there; make the file anew from the original checkpoint"
    )]
    Number {
        key: String,
        found: u64,
        expected: String,
    },
    #[error(
        "`{key}` is `{found}`, which llama.cpp does not know as of build 11434{nearest}; run it with a newer build \
         that does, or make the file anew from the original checkpoint with a current converter"
    )]
    Word {
        key: String,
        found: String,
        nearest: String,
    },
    #[error(
        "a token is sent to {found} experts of {experts}, and llama.cpp does not load that; take the metadata that \
         belongs to these weights"
    )]
    Experts { found: u64, experts: u64 },
    #[error(
        "the vocabulary has {tokens} tokens and the embedding {rows} rows, and llama.cpp loads files where the two \
         are equal; take the tokenizer that belongs to these weights"
    )]
    Vocabulary { tokens: u64, rows: u64 },
    #[error(
        "two tokens are `{text}`, and llama.cpp loads files where each is another; take the tokenizer that belongs \
         to these weights"
    )]
    SameToken { text: String },
    #[error(
        "tensor `{tensor}` is {}, and llama.cpp computes with it in {expected} only; make the file anew from the \
         original checkpoint with a current converter",
        found.name()
    )]
    TensorType {
        tensor: String,
        found: Dtype,
        expected: &'static str,
    },
    #[error(
        "tensor `{tensor}` is part of a {tower}, and llama.cpp loads that from a file of its own, beside the text \
         model's; get the model as two files (its own and an `mmproj`)"
    )]
    Tower { tensor: String, tower: &'static str },
    #[error(
        "{}: the projector gives image embeddings of {found}, and this model takes {expected}, so llama.cpp does not \
         load the pair; put the projector that belongs to the model in its place",
        path.display()
    )]
    Projector {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
    #[error(
        "tensor `{tensor}` lies at byte {found} and not at {expected}, right behind the one before it, and llama.cpp \
         loads files without holes whose tensors lie in the order of their list; make the file anew from the original \
         checkpoint with a current converter"
    )]
    Place {
        tensor: String,
        found: u64,
        expected: u64,
    },
    #[error("{0}")]
    Unreadable(String),
}
