//! Which tensors of an unfinished output are complete, so that a run that was ended can be gone on with.
//!
//! Beside `NAME.orinplan-partial` stands `NAME.orinplan-journal`: a line that says what is made of what, then a line for
//! each complete tensor. A tensor is noted when its bytes are on the disk. Must not: be trusted for an output of other
//! options, or of another state of the source.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::blocks::Deviation;
use super::destination::{Destination, OutputError, Start};
use super::disk::beside;
use super::error::QuantizeError;
use super::planned::PlannedTensor;
use super::tally::Tally;
use crate::input;
use crate::units::Bytes;

/// The suffix of the journal, after the name of the target.
const SUFFIX: &str = ".orinplan-journal";
const SCHEMA: &str = "orinplan.journal/1";
const LIMIT: Bytes = Bytes(64 << 20);
/// How long complete tensors may wait to be noted: writing to the disk before each note costs time.
const OFTEN: Duration = Duration::from_secs(2);

/// What an output is made of, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    schema: String,
    /// The state of the source.
    pub(super) source: String,
    /// A number for the tensors of the output with their types and sizes, and for what weighs their errors.
    output: u64,
}

impl Identity {
    pub(super) fn of(source: &str, bytes: Bytes, tensors: &[PlannedTensor<'_>]) -> Identity {
        let mut hasher = DefaultHasher::new();
        (env!("CARGO_PKG_VERSION"), bytes.0).hash(&mut hasher);
        for tensor in tensors {
            let assigned = &tensor.assigned;
            (
                tensor.name,
                &tensor.shape,
                assigned.dtype.name(),
                assigned.bytes.0,
            )
                .hash(&mut hasher);
            for weight in tensor.importance.unwrap_or_default() {
                weight.to_bits().hash(&mut hasher);
            }
        }
        Identity {
            schema: SCHEMA.to_owned(),
            source: source.to_owned(),
            output: hasher.finish(),
        }
    }
}

/// A complete tensor.
#[derive(Serialize, Deserialize)]
struct CompleteTensor {
    tensor: usize,
    not_finite: u64,
    overflow: u64,
    zero_rows: u64,
    altered: u64,
    /// The bits of its sums of squares, which keep their value.
    deviation: [u64; 4],
}

/// The journal of a target.
pub(super) fn path(target: &Path) -> PathBuf {
    beside(target, SUFFIX)
}

/// The state of the source that the unfinished output of `target` is made of, if there is one to go on with.
pub fn resumable(target: &Path) -> Option<String> {
    read(target).map(|(identity, _)| identity.source)
}

/// What the journal of `target` says, if there is one. A last line that is not whole was being written when the run ended.
pub(super) fn read(target: &Path) -> Option<(Identity, Vec<(usize, Tally)>)> {
    let text = input::read_text(&path(target), LIMIT).ok()?;
    let mut lines = text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'));
    let identity: Identity = serde_json::from_str(lines.next()?).ok()?;
    let notes = lines.map_while(|line| serde_json::from_str::<CompleteTensor>(line).ok());
    let complete = notes.map(|note| (note.tensor, note.tally()));
    (identity.schema == SCHEMA).then(|| (identity, complete.collect()))
}

/// What is complete of the unfinished output of `destination`, where a run that starts so goes on with it; `None` where it
/// begins anew.
///
/// # Errors
/// [`QuantizeError::OtherBegun`] where that is of another `identity`, [`QuantizeError::Begun`] where a run that starts anew
/// would lose it and is not to overwrite anything.
pub(super) fn begun(
    destination: &Destination<'_>,
    start: Start,
    identity: &Identity,
) -> Result<Option<Vec<(usize, Tally)>>, QuantizeError> {
    let target = destination.path;
    let Some((begun, complete)) = read(target) else {
        return Ok(None);
    };
    let path = target.to_owned();
    match start {
        Start::Anew if destination.overwrite => Ok(None),
        Start::Anew => Err(QuantizeError::Begun { path }),
        Start::WhereItEnded if begun == *identity => Ok(Some(complete)),
        Start::WhereItEnded => Err(QuantizeError::OtherBegun {
            path,
            begun: begun.source,
            now: identity.source.clone(),
        }),
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    pending: Vec<(usize, Tally)>,
    since: Instant,
    /// Tensors that are noted.
    pub(super) noted: usize,
}

impl Journal {
    /// Begins a journal with the tensors that are complete already.
    pub(super) fn begin(
        target: &Path,
        identity: &Identity,
        complete: &[(usize, Tally)],
    ) -> Result<Journal, OutputError> {
        let path = path(target);
        let failed = |error| OutputError::io(&path, error);
        // A link of that name was not made by this program, and is replaced, not followed.
        let _ = fs::remove_file(&path);
        let file = File::options().write(true).create_new(true).open(&path);
        let mut journal = Journal {
            file: file.map_err(failed)?,
            path: path.clone(),
            pending: complete.to_vec(),
            since: Instant::now(),
            noted: 0,
        };
        let line = serde_json::to_string(identity).unwrap_or_default();
        writeln!(journal.file, "{line}").map_err(failed)?;
        journal.note()?;
        Ok(journal)
    }

    /// Takes a complete tensor; returns whether it is time to put the output on the disk and to note what is complete.
    pub(super) fn add(&mut self, tensor: usize, tally: Tally) -> bool {
        self.pending.push((tensor, tally));
        self.since.elapsed() >= OFTEN
    }

    /// Notes what is pending, which is on the disk.
    pub(super) fn note(&mut self) -> Result<(), OutputError> {
        let mut lines = String::new();
        for (tensor, tally) in &self.pending {
            let note = CompleteTensor::of(*tensor, tally);
            lines += &serde_json::to_string(&note).unwrap_or_default();
            lines.push('\n');
        }
        let written = self.file.write_all(lines.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| OutputError::io(&self.path, error))?;
        self.noted += self.pending.len();
        self.pending.clear();
        self.since = Instant::now();
        Ok(())
    }
}

/// Removes the journal of a target.
pub(super) fn remove(target: &Path) {
    let _ = fs::remove_file(path(target));
}

impl CompleteTensor {
    fn of(tensor: usize, tally: &Tally) -> CompleteTensor {
        CompleteTensor {
            tensor,
            not_finite: tally.not_finite,
            overflow: tally.overflow,
            zero_rows: tally.zero_rows,
            altered: tally.altered,
            deviation: tally.deviation.to_bits(),
        }
    }

    fn tally(&self) -> Tally {
        Tally {
            deviation: Deviation::from_bits(self.deviation),
            not_finite: self.not_finite,
            overflow: self.overflow,
            zero_rows: self.zero_rows,
            altered: self.altered,
        }
    }
}
