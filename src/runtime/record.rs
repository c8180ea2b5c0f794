//! The record of a fit: what data it saw, and what it left of each row when that row's model was left
//! out. Written by `cargo xtask fit-speed`; a test refits and compares.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a fit was made from and what it left.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitRecord {
    /// The fingerprint of the measurements and of their models' configurations.
    pub data: String,
    /// Decode rates.
    pub decode: Errors,
    /// Prompt rates and times to the first token.
    pub prefill: Option<Errors>,
}

/// Errors of one kind of row, each with its model left out of the fit, in per cent of the measurement.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// The median of their sizes.
    pub median_percent: f64,
    /// Nine in ten are smaller.
    pub p90_percent: f64,
    /// The share of rows that lie between the low and the high end, in per cent.
    pub covered_percent: f64,
    /// Predicted over measured, less one, by the row's id.
    pub left_out: BTreeMap<String, f64>,
}
