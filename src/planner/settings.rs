//! What was measured on this machine and stands in the settings folder: its calibration, and what runs taught.

use std::path::Path;

use crate::device::{CalibrationError, Cpu};
use crate::input;
use crate::runtime::Runs;
use crate::runtime::learned::RunsError;
use crate::units::Bytes;

/// What `orinplan calibrate` writes.
pub const CALIBRATION: &str = "calibration.toml";

/// What `orinplan validate --save-calibration` writes.
pub const RUNS: &str = "runs.toml";

/// Either has some hundred bytes an entry.
const LIMIT: Bytes = Bytes(4 << 20);

/// Why a settings file does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It cannot be read.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    /// It is no calibration.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// It is no list of runs.
    #[error(transparent)]
    Runs(#[from] RunsError),
}

/// The calibration of this machine in `folder`, if there is one.
///
/// # Errors
/// [`SettingsError`] where it is there and cannot be read, or is none.
pub fn calibration(folder: &Path) -> Result<Option<Cpu>, SettingsError> {
    let path = folder.join(CALIBRATION);
    if !path.exists() {
        return Ok(None);
    }
    let text = input::read_text(&path, LIMIT)?;
    Ok(Some(Cpu::parse(&text, &path.display().to_string())?))
}

/// The runs on record in `folder`, with a sentence for each entry that is none and was left out.
///
/// # Errors
/// [`SettingsError`] where they are there and cannot be read, or are no list of runs.
pub fn runs(folder: &Path) -> Result<(Runs, Vec<String>), SettingsError> {
    let path = folder.join(RUNS);
    if !path.exists() {
        return Ok((Runs::default(), Vec::new()));
    }
    let text = input::read_text(&path, LIMIT)?;
    Ok(Runs::parse(&text, &path.display().to_string())?)
}

/// The runs on record; what did not count is added to `warnings`.
pub fn runs_or_none(folder: &Path, warnings: &mut Vec<String>) -> Runs {
    match runs(folder) {
        Ok((runs, left_out)) => {
            warnings.extend(left_out);
            runs
        }
        Err(error) => {
            warnings.push(without(&error));
            Runs::default()
        }
    }
}

/// That a file of settings does not count: one that is bad stops no plan.
pub(super) fn without(error: &SettingsError) -> String {
    format!("planning without it: {error}")
}
