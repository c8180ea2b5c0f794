//! The measurements behind a prediction: how many there are of the runtime on the board, and the most similar one.

use super::measurement::of_id;
use super::{Grade, Measurement, Shape};
use crate::device::{Clocks, L4tRelease};
use crate::runtime::RuntimeProfile;

/// The prediction to find measurements for.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceQuery<'a> {
    /// Board id.
    pub board: &'a str,
    /// Power mode.
    pub power_mode: &'a str,
    /// Whether the clocks are locked, if known.
    pub clocks: Option<Clocks>,
    /// The L4T release, if known.
    pub release: Option<L4tRelease>,
    /// Scheme id.
    pub scheme: &'a str,
    /// Bytes that a decode step moves.
    pub bytes: u64,
    /// Tokens in the cache while it decodes, or those of the prompt that it reads.
    pub tokens: u64,
    /// The model.
    pub shape: Shape,
    /// Sequences decoded together.
    pub sequences: u64,
    /// Whether attention runs as one kernel.
    pub flash_attention: bool,
    /// Whether the kernels of a step are launched together.
    pub cuda_graphs: bool,
}

/// What a prediction is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rated {
    /// Decode, at a depth.
    Decode,
    /// The reading of a prompt.
    Prompt,
    /// Whole requests.
    Requests,
}

/// The measurements behind a predicted rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Measured rates of this runtime on this board that the fit used.
    pub on_board: usize,
    /// Measured rates of this runtime on any board that the fit used.
    pub anywhere: usize,
    /// The most similar measurement, if there is any.
    pub nearest: Option<Neighbour>,
    /// The measurements of the most similar model on this board whose power was measured while it decoded, all on one
    /// rail, one for each power mode, the slowest clock first. Empty if there are none.
    pub energy: Vec<&'static Measurement>,
}

/// A measurement, and the error of its prediction when the measurements of its model were left out of the fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The measurement.
    pub row: &'static Measurement,
    /// Predicted over measured, minus one, in percent.
    pub off_percent: f64,
}

/// The evidence for a rate of `runtime`.
pub fn evidence(runtime: &RuntimeProfile, rated: Rated, asked: EvidenceQuery<'_>) -> Evidence {
    let fit = runtime.fit.as_ref();
    let residuals = fit.and_then(|fit| match rated {
        Rated::Decode => Some(&fit.decode),
        Rated::Prompt => fit.prefill.as_ref(),
        Rated::Requests => fit.requests.as_ref(),
    });
    let known = residuals
        .into_iter()
        .flat_map(|residuals| &residuals.left_out);
    let rows: Vec<Neighbour> = known
        .filter_map(|(id, off_percent)| {
            Some(Neighbour {
                row: of_id(id)?,
                off_percent: *off_percent,
            })
        })
        .collect();
    let on_board = rows
        .iter()
        .filter(|near| near.row.board == asked.board)
        .count();
    Evidence {
        on_board,
        anywhere: rows.len(),
        energy: energy(&rows, rated, asked),
        nearest: nearest(rows, |near| distance(near.row, rated, asked)),
    }
}

/// The first of `items` that are least distant.
fn nearest<T>(items: impl IntoIterator<Item = T>, distance: impl Fn(&T) -> f64) -> Option<T> {
    let rated = items.into_iter().map(|item| (distance(&item), item));
    let least = rated.min_by(|a, b| a.0.total_cmp(&b.0));
    least.map(|(_, item)| item)
}

/// The measurements of one model with power, one for each power mode.
fn energy(rows: &[Neighbour], rated: Rated, asked: EvidenceQuery<'_>) -> Vec<&'static Measurement> {
    let measured = rows.iter().map(|near| near.row).filter(|row| {
        row.board == asked.board && row.power_w.is_some() && row.decode_tps.is_some()
    });
    let Some(like) = nearest(measured.clone(), |row| distance(row, rated, asked)) else {
        return Vec::new();
    };
    let same = |row: &&Measurement| {
        (&row.model, &row.format, &row.power_of) == (&like.model, &like.format, &like.power_of)
            && row.sequences == like.sequences
    };
    let mut modes: Vec<&'static Measurement> = measured.filter(same).collect();
    modes.sort_by(|a, b| a.gpu_mhz.total_cmp(&b.gpu_mhz).then(a.id.cmp(&b.id)));
    modes.dedup_by(|a, b| a.power_mode == b.power_mode);
    modes
}

/// A length counts less than a size that differs as much: a rate follows from the size first.
const LENGTH: f64 = 0.5;

/// A length twenty times as long, or one that is not stated, is as far as any: the same model at another depth says more than
/// another model does.
const FARTHEST: f64 = 3.0;

/// Other clocks or another system change a rate by a few percent: they choose among rows that are otherwise alike.
const CONDITIONS: f64 = 0.1;

/// A batch of twice as many sequences counts nearly as much as another format: its rate is over all of them.
const SEQUENCES: f64 = 1.2;

/// Attention in one kernel or in several, and kernels launched together or one by one: a share of a step.
const BUILD: f64 = 0.5;

/// How different a measurement is from what is predicted: another board counts most, then another power mode and another
/// number of sequences, then another model and another format, then another build; sizes, lengths and batches differ by
/// the logarithm of their ratio, and a better grade breaks ties.
fn distance(row: &Measurement, rated: Rated, asked: EvidenceQuery<'_>) -> f64 {
    let unlike = |differs: bool, weight: f64| if differs { weight } else { 0.0 };
    let is_same_model = row.shape() == Some(asked.shape);
    let apart = |a: u64, b: u64| (a.max(1) as f64 / b.max(1) as f64).ln().abs();
    let size = match row.tensor_bytes {
        Some(bytes) => apart(bytes, asked.bytes),
        None if is_same_model => 0.0,
        None => 1.0,
    };
    let tokens = match rated {
        Rated::Decode => row.depth.or(row.prompt_tokens),
        Rated::Prompt => row.prompt_tokens,
        Rated::Requests => {
            let cached = row.cached_tokens.unwrap_or(0);
            row.prompt_tokens
                .map(|tokens| tokens.saturating_sub(cached))
        }
    };
    let length = tokens.map_or(FARTHEST, |tokens| apart(tokens, asked.tokens).min(FARTHEST));
    // A prompt is read for one sequence after the other.
    let sequences = match rated {
        Rated::Decode | Rated::Requests => apart(row.sequences, asked.sequences),
        Rated::Prompt => 0.0,
    };
    let series = |release: L4tRelease| (release.major, release.minor);
    let other_clocks = asked
        .clocks
        .is_some_and(|asked| row.clocks.is_some_and(|own| own != asked));
    let other_system = asked.release.is_some_and(|asked| {
        row.release()
            .is_some_and(|own| series(own) != series(asked))
    });
    unlike(row.board != asked.board, 8.0)
        + unlike(row.power_mode != asked.power_mode, 2.0)
        + unlike(row.format != asked.scheme, 1.0)
        + unlike(!is_same_model, 1.0)
        + unlike(row.flash_attention() != asked.flash_attention, BUILD)
        + unlike(row.cuda_graphs() != asked.cuda_graphs, BUILD)
        + unlike(other_clocks, CONDITIONS)
        + unlike(other_system, CONDITIONS)
        + unlike(row.grade != Grade::A, 0.2)
        + size
        + LENGTH * length
        + SEQUENCES * sequences
}
