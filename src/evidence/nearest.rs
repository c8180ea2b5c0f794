//! Which measurements stand behind a prediction: how many of the runtime on the board, and the one
//! most like it.

use super::{Grade, Measurement, measurements};
use crate::runtime::RuntimeProfile;

/// What is predicted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Board id.
    pub board: &'a str,
    /// Power mode.
    pub power_mode: &'a str,
    /// Scheme id.
    pub scheme: &'a str,
    /// Bytes that a decode step moves.
    pub bytes: u64,
}

/// What stands behind a predicted decode rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Decode rates of this runtime on this board that the fit knows.
    pub on_board: usize,
    /// Decode rates of this runtime on any board that the fit knows.
    pub anywhere: usize,
    /// The row most like what is asked, if there is any.
    pub nearest: Option<Neighbour>,
    /// The model most like what is asked whose power was read while it decoded on this board: its rows,
    /// all over one rail, the slowest clock first. Empty if there is none.
    pub energy: Vec<&'static Measurement>,
}

/// A measurement and how far the model was off when its own model was left out of the fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The row.
    pub row: &'static Measurement,
    /// Predicted over measured, less one, in per cent.
    pub off_percent: f64,
}

/// The evidence for a decode rate of `runtime`.
pub fn evidence(runtime: &RuntimeProfile, asked: Asked<'_>) -> Evidence {
    let residuals = runtime.fit.as_ref().map(|fit| &fit.decode.left_out);
    let known = residuals.into_iter().flatten();
    let rows: Vec<Neighbour> = known
        .filter_map(|(id, off_percent)| {
            let row = measurements().iter().find(|row| row.id == *id)?;
            Some(Neighbour {
                row,
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
        energy: energy(&rows, asked),
        nearest: rows
            .into_iter()
            .min_by(|a, b| distance(a.row, asked).total_cmp(&distance(b.row, asked))),
    }
}

/// The rows of one model with power, in each power mode that was measured.
fn energy(rows: &[Neighbour], asked: Asked<'_>) -> Vec<&'static Measurement> {
    let measured = rows.iter().map(|near| near.row).filter(|row| {
        row.board == asked.board && row.power_w.is_some() && row.decode_tps.is_some()
    });
    let Some(like) = measured
        .clone()
        .min_by(|a, b| distance(a, asked).total_cmp(&distance(b, asked)))
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

/// How unlike a row is: another board weighs most, then another mode, then another format; size counts
/// by its ratio, and a better grade breaks ties.
fn distance(row: &Measurement, asked: Asked<'_>) -> f64 {
    let unlike = |differs: bool, weight: f64| if differs { weight } else { 0.0 };
    let size = match row.tensor_bytes {
        Some(bytes) => (bytes as f64 / (asked.bytes as f64).max(1.0)).ln().abs(),
        None => 1.0,
    };
    unlike(row.board != asked.board, 8.0)
        + unlike(row.power_mode != asked.power_mode, 2.0)
        + unlike(row.format != asked.scheme, 1.0)
        + unlike(row.grade != Grade::A, 0.2)
        + size
}
