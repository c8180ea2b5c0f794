//! The measurements behind a prediction: how many there are of the runtime on the board, and the most similar one.

use super::measurement::of_id;
use super::{Grade, Measurement};
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
    /// Tokens in the cache while it decodes, or of the prompt that it reads.
    pub tokens: u64,
}

/// What a prediction is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rated {
    /// Decode, at a depth.
    Decode,
    /// The reading of a prompt.
    Prompt,
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
        nearest: rows
            .into_iter()
            .min_by(|a, b| distance(a.row, rated, asked).total_cmp(&distance(b.row, rated, asked))),
    }
}

/// The measurements of one model with power, one for each power mode.
fn energy(rows: &[Neighbour], rated: Rated, asked: EvidenceQuery<'_>) -> Vec<&'static Measurement> {
    let measured = rows.iter().map(|near| near.row).filter(|row| {
        row.board == asked.board && row.power_w.is_some() && row.decode_tps.is_some()
    });
    let Some(like) = measured
        .clone()
        .min_by(|a, b| distance(a, rated, asked).total_cmp(&distance(b, rated, asked)))
    else {
        return Vec::new();
    };
    let same = |row: &&Measurement| {
        (&row.model, &row.format, &row.power_of) == (&like.model, &like.format, &like.power_of)
    };
    let mut modes: Vec<&'static Measurement> = measured.filter(same).collect();
    modes.sort_by(|a, b| a.gpu_mhz.total_cmp(&b.gpu_mhz).then(a.id.cmp(&b.id)));
    modes.dedup_by(|a, b| a.power_mode == b.power_mode);
    modes
}

/// A length counts less than a size that differs as much: a rate follows from the size first.
const LENGTH: f64 = 0.5;

/// Other clocks or another system change a rate by a few percent: they choose among rows that are otherwise alike.
const CONDITIONS: f64 = 0.1;

/// How different a measurement is from what is predicted: another board counts most, then another power mode, then another
/// format; sizes and lengths differ by the logarithm of their ratio, and a better grade breaks ties.
fn distance(row: &Measurement, rated: Rated, asked: EvidenceQuery<'_>) -> f64 {
    let unlike = |differs: bool, weight: f64| if differs { weight } else { 0.0 };
    let size = match row.tensor_bytes {
        Some(bytes) => (bytes as f64 / (asked.bytes as f64).max(1.0)).ln().abs(),
        None => 1.0,
    };
    let tokens = match rated {
        Rated::Decode => row.depth.or(row.prompt_tokens),
        Rated::Prompt => row.prompt_tokens,
    };
    let length = match tokens {
        Some(tokens) => (tokens as f64 / (asked.tokens as f64).max(1.0)).ln().abs(),
        None => 1.0,
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
        + unlike(other_clocks, CONDITIONS)
        + unlike(other_system, CONDITIONS)
        + unlike(row.grade != Grade::A, 0.2)
        + size
        + LENGTH * length
}
