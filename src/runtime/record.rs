//! The record of a fit of speed parameters: the data it was made from, and its error on each measurement when the
//! measurements of that model were left out. Written by `cargo xtask fit-speed`; a test repeats the fit and compares.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The data of a fit and its errors.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitRecord {
    /// The fingerprint of the measurements and of their models' configurations.
    pub data: String,
    /// Decode rates.
    pub decode: FitErrors,
    /// Prompt rates and times to the first token.
    pub prefill: Option<FitErrors>,
    /// Rates over whole requests.
    pub requests: Option<FitErrors>,
}

/// Errors of one kind of measurement, each with its model left out of the fit, in percent of the measurement.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitErrors {
    /// The median of the absolute errors.
    pub median_percent: f64,
    /// The 90th percentile of the absolute errors.
    pub p90_percent: f64,
    /// The share of measurements between the predicted low and high, in percent.
    pub covered_percent: f64,
    /// Predicted over measured, minus one, in percent, by the id of the measurement.
    pub left_out: BTreeMap<String, f64>,
}
