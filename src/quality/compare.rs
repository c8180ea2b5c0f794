//! Evaluates a text with a reference and with candidates, and compares what they predict.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::divergence::{Divergence, Perplexity, Scored};
use super::log_probs::{LogProbs, LogProbsWriter, scored};
use super::{Chunks, QualityError};
use crate::decode::{self, Model};
use crate::parallel;

/// Bytes of logits that are computed at once: a vocabulary of 262,144 entries has 64 rows in it.
const LOGITS: usize = 64 << 20;

/// Stores the predictions of `model` for the scored tokens of `chunks` in `file`, which `path` names in messages.
/// `progress` is told how many chunks were evaluated.
///
/// # Errors
/// [`QualityError`]: the model cannot evaluate them or predicts what is no number, the file cannot be written, or
/// `cancel` became true.
pub fn record(
    model: &mut Model,
    name: &str,
    chunks: &Chunks,
    (file, path): (File, &Path),
    fingerprint: u64,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<(), QualityError> {
    let vocabulary = model.vocabulary();
    let mut out = LogProbsWriter::create(file, path, &chunks.chunks, vocabulary)?;
    for (index, tokens) in chunks.chunks.iter().enumerate() {
        evaluate(model, tokens, cancel, &mut |first, logits| match logits
            .iter()
            .position(|logit| !logit.is_finite())
        {
            Some(at) => Err(QualityError::NotFinite {
                model: name.to_owned(),
                token: index * tokens.len() + first + at / vocabulary.max(1),
            }),
            None => Ok(out.push(logits)?),
        })?;
        progress(index + 1);
    }
    Ok(out.finish(fingerprint)?)
}

/// The divergence of `model`, called `name`, from stored predictions. A begin-of-text token that the model wants
/// (`leading`) stands in each chunk's first place. `progress` is told how many chunks were evaluated.
///
/// # Errors
/// [`QualityError`]: another vocabulary; the model cannot evaluate the text or predicts what is no number, the
/// predictions cannot be read, or `cancel` became true.
pub fn divergence(
    model: &mut Model,
    name: &str,
    reference: &LogProbs,
    leading: Option<u32>,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Divergence, QualityError> {
    let vocabulary = model.vocabulary();
    if vocabulary != reference.vocabulary {
        return Err(QualityError::Vocabulary {
            candidate: name.to_owned(),
            found: vocabulary,
            expected: reference.vocabulary,
        });
    }
    let mut divergence = Divergence::default();
    let mut buffer = Vec::new();
    for (index, stored) in reference.chunks.iter().enumerate() {
        let mut tokens = stored.clone();
        if let (Some(first), Some(leading)) = (tokens.first_mut(), leading) {
            *first = leading;
        }
        evaluate(model, &tokens, cancel, &mut |first, logits| {
            let count = logits.len() / vocabulary;
            let before = first - scored(tokens.len()).start;
            let rows = reference.rows(index, before, count, &mut buffer)?;
            let next = tokens.get(first + 1..).unwrap_or_default();
            let found = parallel::map(decode::threads(), 0..count, |row| {
                let logits = logits.get(row * vocabulary..(row + 1) * vocabulary)?;
                Scored::of(logits, rows.get(row)?, *next.get(row)? as usize)
            });
            for (at, scored) in found.into_iter().enumerate() {
                divergence.add(scored.ok_or_else(|| QualityError::NotFinite {
                    model: name.to_owned(),
                    token: index * tokens.len() + first + at,
                })?);
            }
            Ok(())
        })?;
        progress(index + 1);
    }
    Ok(divergence)
}

/// The perplexity of the reference, from its stored predictions.
///
/// # Errors
/// [`QualityError`]: they cannot be read.
pub fn perplexity(reference: &LogProbs) -> Result<Perplexity, QualityError> {
    let mut perplexity = Perplexity::default();
    let mut buffer = Vec::new();
    for (index, tokens) in reference.chunks.iter().enumerate() {
        let places = scored(tokens.len());
        for (row, place) in places.enumerate() {
            let rows = reference.rows(index, row, 1, &mut buffer)?;
            let next = tokens.get(place + 1).copied().unwrap_or_default();
            for row in rows {
                perplexity.add(row.log_prob(next as usize));
            }
        }
    }
    Ok(perplexity)
}

/// What is done with the logits of some places: the first of them, and rows end to end.
type Each<'a> = dyn FnMut(usize, &[f32]) -> Result<(), QualityError> + 'a;

/// Evaluates one chunk, and gives `each` the logits of its scored places, some at a time: the first place, and their
/// rows end to end.
fn evaluate(
    model: &mut Model,
    tokens: &[u32],
    cancel: &AtomicBool,
    each: &mut Each<'_>,
) -> Result<(), QualityError> {
    let places = scored(tokens.len());
    let some = (LOGITS / 4 / model.vocabulary().max(1)).max(16);
    let (before, rest) = tokens.split_at(places.start.min(tokens.len()));
    model.reset();
    model.prefill(before)?;
    let mut first = places.start;
    for part in rest.get(..places.len()).unwrap_or_default().chunks(some) {
        if cancel.load(Ordering::Relaxed) {
            return Err(QualityError::Interrupted);
        }
        let logits = model.logits(part)?;
        each(first, &logits)?;
        first += part.len();
    }
    Ok(())
}
