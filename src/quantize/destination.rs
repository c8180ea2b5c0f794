//! The destination of an output, and the errors of writing there.

use std::io;
use std::path::{Path, PathBuf};

use crate::input::one_line;
use crate::inputs::{Changed, Inputs};
use crate::units::Bytes;

/// Where an output is written, and under which conditions.
#[derive(Clone, Debug)]
pub struct Destination<'a> {
    /// The file or directory to be written.
    pub path: &'a Path,
    /// Whether an existing one may be replaced.
    pub overwrite: bool,
    /// Files that are read: the output must not replace one of them, and they must not change during the run.
    pub inputs: Inputs,
}

/// Where writing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the beginning. What an earlier run left is replaced.
    Anew,
    /// Where an earlier run ended, if it left something.
    WhereItEnded,
}

impl Start {
    /// Where a run begins that resumes, or does not.
    pub fn of(resumes: bool) -> Start {
        if resumes {
            Start::WhereItEnded
        } else {
            Start::Anew
        }
    }
}

/// Why an output cannot or must not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum OutputError {
    #[error("{}: already exists; choose another name, or replace it with --overwrite", path.display())]
    Exists { path: PathBuf },
    #[error("{}: is {}, which is an input; give the output another name", path.display(), input.display())]
    OwnInput { path: PathBuf, input: PathBuf },
    #[error("{}: holds the input; choose another output", path.display())]
    HoldsInput { path: PathBuf },
    #[error("{}: is not replaced, because it holds {}; choose another output", path.display(), one_line(entry))]
    NotAModel { path: PathBuf, entry: String },
    #[error("{}: is not replaced, because it is not a GGUF file; choose another output", path.display())]
    NotGguf { path: PathBuf },
    #[error("{}: cannot be written: {problem}", path.display())]
    Place {
        path: PathBuf,
        problem: &'static str,
    },
    /// An input changed during the run.
    #[error(transparent)]
    Changed(#[from] Changed),
    #[error("{}: another run is writing it; wait until it ends", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {needed} are needed ({} bytes), but only {free} are free on that disk", path.display(), needed.0)]
    Space {
        path: PathBuf,
        needed: Bytes,
        free: Bytes,
    },
    #[error("{}: cannot be written: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl OutputError {
    pub(super) fn io(path: &Path, source: io::Error) -> OutputError {
        let path = path.to_owned();
        OutputError::Io { path, source }
    }

    pub(super) fn place(path: &Path, problem: &'static str) -> OutputError {
        let path = path.to_owned();
        OutputError::Place { path, problem }
    }
}
