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

/// A file of `folder`, if it is there, with its name for errors.
fn read(folder: &Path, name: &str) -> Result<Option<(String, String)>, SettingsError> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = input::read_text(&path, LIMIT)?;
    Ok(Some((text, path.display().to_string())))
}

fn calibration(folder: &Path) -> Result<Option<Cpu>, SettingsError> {
    let file = read(folder, CALIBRATION)?;
    let cpu = file.map(|(text, origin)| Cpu::parse(&text, &origin));
    Ok(cpu.transpose()?)
}

/// The runs on record in `folder`, with a sentence for each entry that is none and was left out.
///
/// # Errors
/// [`SettingsError`] where they are there and cannot be read, or are no list of runs.
pub fn runs(folder: &Path) -> Result<(Runs, Vec<String>), SettingsError> {
    let file = read(folder, RUNS)?;
    let runs = file.map(|(text, origin)| Runs::parse(&text, &origin));
    Ok(runs.transpose()?.unwrap_or_default())
}

/// The calibration of this machine, if there is one. One that is bad stops no plan: `warnings` says so.
pub(super) fn calibration_or_none(folder: &Path, warnings: &mut Vec<String>) -> Option<Cpu> {
    or_without(calibration(folder), warnings)
}

/// The runs on record. What does not count is added to `warnings`.
pub fn runs_or_none(folder: &Path, warnings: &mut Vec<String>) -> Runs {
    let (runs, left_out) = or_without(runs(folder), warnings);
    warnings.extend(left_out);
    runs
}

fn or_without<T: Default>(read: Result<T, SettingsError>, warnings: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        warnings.push(format!("planning without it: {error}"));
        T::default()
    })
}
