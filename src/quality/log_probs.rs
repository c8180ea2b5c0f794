//! The predictions of a reference in a file: for each scored token the logarithm of the probability of every entry of
//! the vocabulary, in 16 bits.
//!
//! The form is that of llama.cpp's `llama-perplexity --kl-divergence-base` (`log_softmax` and `process_logits` of
//! `tools/perplexity/perplexity.cpp`), which reads these files and whose files are read here: `_logits_`, three `i32`
//! (tokens in a chunk, vocabulary, chunks), the tokens, then a row for each scored token: scale and smallest logarithm
//! as `f32`, then `u16` steps of the scale, one more where the vocabulary is odd. What is less likely
//! than `e^-16` of the likeliest is not told apart. Behind the rows a record of this program names the model.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::input;

const MAGIC: &[u8; 8] = b"_logits_";
/// Bytes before the tokens.
const PREAMBLE: u64 = 8 + 3 * 4;
/// Bytes of the two floats before the steps of a row.
const ROW_PREAMBLE: usize = 8;
/// The widest difference from the likeliest entry that is stored.
const RANGE: f32 = 16.0;
/// The record behind the rows: this mark, then the fingerprint of the reference.
const MARK: &[u8; 8] = b"orinplan";

/// Stored predictions, open for reading.
#[derive(Debug)]
pub struct LogProbs {
    file: File,
    path: PathBuf,
    /// The tokens of each chunk.
    pub chunks: Vec<Vec<u32>>,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// The fingerprint of the reference, where this program wrote the file.
    pub fingerprint: Option<u64>,
}

/// Predictions that are being stored.
#[derive(Debug)]
pub struct LogProbsWriter {
    out: BufWriter<File>,
    path: PathBuf,
    vocabulary: usize,
    row: Vec<u8>,
}

/// Why stored predictions cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum LogProbsError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    #[error("{}: holds no stored predictions: {problem}; name another file", path.display())]
    Form {
        path: PathBuf,
        problem: &'static str,
    },
    #[error(
        "{}: was made with another {what}; remove it, or name another file", path.display()
    )]
    Other { path: PathBuf, what: &'static str },
}

/// The places of a chunk whose predictions are scored: those of its second half, as in llama.cpp. The logits at a place
/// predict the token at the next one.
pub(super) fn scored(chunk_tokens: usize) -> std::ops::Range<usize> {
    chunk_tokens / 2..chunk_tokens.saturating_sub(1)
}

/// Bytes of a row.
fn row_bytes(vocabulary: usize) -> usize {
    ROW_PREAMBLE + 2 * vocabulary.next_multiple_of(2)
}

impl LogProbsWriter {
    /// Begins a file, which `path` names in messages, for `chunks` of equal length.
    ///
    /// # Errors
    /// [`LogProbsError::Io`].
    pub fn create(
        file: File,
        path: &Path,
        chunks: &[Vec<u32>],
        vocabulary: usize,
    ) -> Result<LogProbsWriter, LogProbsError> {
        let mut writer = LogProbsWriter {
            out: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            vocabulary,
            row: Vec::new(),
        };
        let counts = [chunks.first().map_or(0, Vec::len), vocabulary, chunks.len()];
        let mut head = MAGIC.to_vec();
        head.extend(
            counts
                .iter()
                .flat_map(|count| (*count as i32).to_le_bytes()),
        );
        let tokens = chunks.iter().flatten();
        head.extend(tokens.flat_map(|token| (*token as i32).to_le_bytes()));
        writer.write(&head)?;
        Ok(writer)
    }

    /// Adds rows of logits, in the order of the scored places.
    ///
    /// # Errors
    /// [`LogProbsError::Io`].
    pub fn push(&mut self, logits: &[f32]) -> Result<(), LogProbsError> {
        for row in logits.chunks_exact(self.vocabulary.max(1)) {
            let mut bytes = std::mem::take(&mut self.row);
            bytes.clear();
            encode(row, &mut bytes);
            self.write(&bytes)?;
            self.row = bytes;
        }
        Ok(())
    }

    /// Ends the file with the fingerprint of its reference.
    ///
    /// # Errors
    /// [`LogProbsError::Io`].
    pub fn finish(mut self, fingerprint: u64) -> Result<(), LogProbsError> {
        self.write(MARK)?;
        self.write(&fingerprint.to_le_bytes())?;
        let flushed = self.out.flush();
        flushed.map_err(|source| self.failed(source))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LogProbsError> {
        let written = self.out.write_all(bytes);
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LogProbsError {
        let path = self.path.clone();
        LogProbsError::Io { path, source }
    }
}

/// `ln(sum of e^(x - most))`, `most` being the largest logit: what it lacks to the normalizer of their probabilities.
pub(super) fn log_sum(logits: &[f32], most: f32) -> f32 {
    let sum: f64 = logits.iter().map(|x| f64::from((x - most).exp())).sum();
    sum.ln() as f32
}

/// A row of logits as logarithms of probabilities.
fn encode(logits: &[f32], out: &mut Vec<u8>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = logits.iter().copied().fold(f32::INFINITY, f32::min);
    let least = least.max(most - RANGE);
    let scale = (most - least) / 65535.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    out.extend(scale.to_le_bytes());
    out.extend((least - most - log_sum(logits, most)).to_le_bytes());
    let step = |x: &f32| ((x - least).max(0.0) * inverse).round() as u16;
    out.extend(logits.iter().flat_map(|x| step(x).to_le_bytes()));
    out.resize(row_bytes(logits.len()), 0);
}

/// A row, read from a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedLogits<'a> {
    scale: f32,
    least: f32,
    steps: &'a [[u8; 2]],
}

impl<'a> PackedLogits<'a> {
    fn of(bytes: &'a [u8], vocabulary: usize) -> Option<PackedLogits<'a>> {
        let float = |at: usize| Some(f32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let steps = bytes.get(ROW_PREAMBLE..)?.as_chunks::<2>().0;
        Some(PackedLogits {
            scale: float(0)?,
            least: float(4)?,
            steps: steps.get(..vocabulary)?,
        })
    }

    /// The logarithm of the probability of entry `id`.
    pub(super) fn log_prob(&self, id: usize) -> f32 {
        let step = self.steps.get(id).copied().unwrap_or_default();
        self.scale * f32::from(u16::from_le_bytes(step)) + self.least
    }

    /// That of every entry; `None` for those that are less likely than can be told.
    pub(super) fn log_probs(&self) -> impl Iterator<Item = Option<f32>> {
        let known = |step: &[u8; 2]| Some(u16::from_le_bytes(*step)).filter(|step| *step > 0);
        let steps = self.steps.iter();
        steps.map(move |step| Some(self.scale * f32::from(known(step)?) + self.least))
    }
}

impl LogProbs {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`LogProbsError`]: it cannot be opened, or is not of this form.
    pub fn open(path: &Path) -> Result<LogProbs, LogProbsError> {
        let (file, _) = input::open(path)?;
        LogProbs::of(file, path)
    }

    /// Reads the head of `file`, which `path` names in messages.
    ///
    /// # Errors
    /// [`LogProbsError`]: it cannot be read, or is not of this form.
    pub fn of(mut file: File, path: &Path) -> Result<LogProbs, LogProbsError> {
        let failed = |source| LogProbsError::Io {
            path: path.to_owned(),
            source,
        };
        let wrong = |problem| LogProbsError::Form {
            path: path.to_owned(),
            problem,
        };
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut head = [0; PREAMBLE as usize];
        let read = file.read_exact(&mut head);
        let (magic, counts) = head.split_at(MAGIC.len());
        if read.is_err() || magic != MAGIC {
            return Err(wrong("it does not begin with `_logits_`"));
        }
        let counts: Vec<usize> = counts
            .as_chunks::<4>()
            .0
            .iter()
            .map(|count| usize::try_from(i32::from_le_bytes(*count)).unwrap_or(0))
            .collect();
        let &[tokens, vocabulary, chunks] = counts.as_slice() else {
            return Err(wrong("it is cut short"));
        };
        let rows = (scored(tokens).len() as u64).saturating_mul(chunks as u64);
        let row = row_bytes(vocabulary) as u64;
        let ids = (tokens as u64).saturating_mul(chunks as u64);
        let end = PREAMBLE
            .saturating_add(ids.saturating_mul(4))
            .saturating_add(rows.saturating_mul(row));
        if rows == 0 || vocabulary == 0 || bytes < end {
            return Err(wrong("it is shorter than its counts say"));
        }
        let mut ids = vec![0; 4 * ids as usize];
        file.read_exact(&mut ids).map_err(failed)?;
        let ids: Vec<u32> = ids
            .as_chunks::<4>()
            .0
            .iter()
            .map(|id| u32::from_le_bytes(*id))
            .collect();
        let mut record = [0; 16];
        let marked = bytes == end + 16 && input::read_exact_at(&file, &mut record, end).is_ok();
        let fingerprint = record.strip_prefix(MARK).filter(|_| marked);
        Ok(LogProbs {
            fingerprint: fingerprint
                .and_then(|bytes| bytes.first_chunk())
                .map(|bytes| u64::from_le_bytes(*bytes)),
            file,
            path: path.to_owned(),
            chunks: ids.chunks(tokens).map(<[u32]>::to_vec).collect(),
            vocabulary,
        })
    }

    /// Checks that these are the predictions of a reference with `fingerprint` for `chunks`, whose first places
    /// hold the begin-of-text token `leading` where the model wants one.
    ///
    /// # Errors
    /// [`LogProbsError::Other`].
    pub fn check(
        &self,
        chunks: &[Vec<u32>],
        leading: Option<u32>,
        vocabulary: usize,
        fingerprint: u64,
    ) -> Result<(), LogProbsError> {
        // llama.cpp stores the text's own token in the first place.
        let skip = usize::from(leading.is_some());
        let same =
            |(stored, chunk): (&Vec<u32>, &Vec<u32>)| stored.get(skip..) == chunk.get(skip..);
        let pairs = || self.chunks.iter().zip(chunks);
        let what = if self.vocabulary != vocabulary {
            "vocabulary"
        } else if self.chunks.len() != chunks.len() || !pairs().all(same) {
            "text, or other chunks of it"
        } else if self.fingerprint.is_some_and(|stored| stored != fingerprint) {
            "reference"
        } else {
            return Ok(());
        };
        Err(LogProbsError::Other {
            path: self.path.clone(),
            what,
        })
    }

    /// The tokens of a chunk.
    pub fn chunk_tokens(&self) -> usize {
        self.chunks.first().map_or(0, Vec::len)
    }

    /// Reads `count` rows from row `first` of chunk `chunk` on into `buffer`, and gives them.
    pub(super) fn rows<'b>(
        &self,
        chunk: usize,
        first: usize,
        count: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Vec<PackedLogits<'b>>, LogProbsError> {
        let row = row_bytes(self.vocabulary);
        let before = (chunk * scored(self.chunk_tokens()).len() + first) as u64 * row as u64;
        let tokens = 4 * (self.chunks.len() * self.chunk_tokens()) as u64;
        buffer.resize(count * row, 0);
        let read = input::read_exact_at(&self.file, buffer, PREAMBLE + tokens + before);
        read.map_err(|source| LogProbsError::Io {
            path: self.path.clone(),
            source,
        })?;
        let rows = buffer.chunks_exact(row);
        Ok(rows
            .filter_map(|bytes| PackedLogits::of(bytes, self.vocabulary))
            .collect())
    }
}
