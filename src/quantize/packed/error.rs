//! What can be wrong with the weights of a checkpoint, and the way out.

use std::path::PathBuf;

use crate::input::{OpenError, one_line};
use crate::units::counted;

/// A weight that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum PackedError {
    /// A weight file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{}: is only the header of a weight file, but the weights are needed; download the whole file", path.display()
    )]
    HeaderOnly { path: PathBuf },
    #[error("{}: tensor `{}` cannot be read: {source}; the file may be cut short, copy or download it again", path.display(), one_line(tensor))]
    Read {
        path: PathBuf,
        tensor: String,
        source: std::io::Error,
    },
    /// The source is not what its server states, or cannot be had.
    #[error("{0}")]
    Source(std::io::Error),
    #[error("tensor `{}` cannot be fetched: {source}", one_line(tensor))]
    Fetch {
        tensor: String,
        source: std::io::Error,
    },
    #[error(
        "tensor `{}` is {what}, which cannot be unpacked here; start from the unquantized checkpoint",
        one_line(tensor)
    )]
    Layout { tensor: String, what: String },
    #[error(
        "tensor `{}` needs `{part}` to be unpacked, which is missing from the checkpoint; take a copy that has it, or the unquantized original",
        one_line(tensor)
    )]
    Missing { tensor: String, part: &'static str },
    #[error(
        "tensor `{}` has shape {found:?}, which does not match a weight of shape {weight:?}; the files may be of different models",
        one_line(tensor)
    )]
    Shape {
        tensor: String,
        found: Vec<u64>,
        weight: Vec<u64>,
    },
    #[error("tensor `{}` holds {what} instead of {expected}", one_line(tensor))]
    Content {
        tensor: String,
        what: String,
        expected: String,
    },
    #[error(
        "tensor `{}` puts column {column} into group {group} of {groups}; the file is damaged, download it again",
        one_line(tensor)
    )]
    Group {
        tensor: String,
        column: usize,
        group: i64,
        groups: u64,
    },
    #[error("row {asked} was asked for, of a weight of {}", counted(*rows, "row", "rows"))]
    Rows { asked: u64, rows: u64 },
}
