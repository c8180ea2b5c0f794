//! The files in the settings folder: the calibration of this machine, and the runs on record.

use std::path::Path;

use crate::device::{CalibrationError, Cpu};
use crate::input;
use crate::runtime::Runs;
use crate::runtime::learned::RunsError;
use crate::units::Bytes;

/// The file that `orinplan calibrate` writes.
pub const CALIBRATION: &str = "calibration.toml";

/// The file that `orinplan validate --save-calibration` writes, and `orinplan calibrate` with a GPU.
pub const RUNS: &str = "runs.toml";

/// The largest file that is read; either has some hundred bytes an entry.
const LIMIT: Bytes = Bytes(4 << 20);

/// Why a settings file is ignored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It cannot be read.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    /// It holds nothing, or zeros.
    #[error(
        "{file}: the file is blank, as after a power loss; remove it, or remove all measurements with `orinplan calibrate --reset`"
    )]
    Blank {
        /// The file.
        file: String,
    },
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
    let file = path.display().to_string();
    match input::read_text(&path, LIMIT) {
        Ok(text) => Ok(Some((text, file))),
        // What a loss of power leaves of a file that was being written.
        Err(input::OpenError::Empty { .. }) => Err(SettingsError::Blank { file }),
        Err(input::OpenError::NotText { at: 0, .. })
            if std::fs::read(&path).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)) =>
        {
            Err(SettingsError::Blank { file })
        }
        Err(error) => Err(error.into()),
    }
}

fn calibration(folder: &Path) -> Result<Option<Cpu>, SettingsError> {
    let file = read(folder, CALIBRATION)?;
    let cpu = file.map(|(text, origin)| Cpu::parse(&text, &origin));
    Ok(cpu.transpose()?)
}

/// The runs on record in `folder`, with a message for each malformed entry, which is left out. None where there is no
/// file.
///
/// # Errors
/// [`SettingsError::Open`] where the file cannot be read, [`SettingsError::Runs`] where it is no list of runs.
pub fn runs(folder: &Path) -> Result<(Runs, Vec<String>), SettingsError> {
    let file = read(folder, RUNS)?;
    let runs = file.map(|(text, origin)| Runs::parse(&text, &origin));
    Ok(runs.transpose()?.unwrap_or_default())
}

/// The calibration of this machine, if there is one. One that cannot be read is ignored, with a warning.
pub(super) fn calibration_or_none(folder: &Path, warnings: &mut Vec<String>) -> Option<Cpu> {
    or_without(calibration(folder), warnings)
}

/// The runs on record. Files and entries that cannot be read are ignored, with a warning each.
pub fn runs_or_none(folder: &Path, warnings: &mut Vec<String>) -> Runs {
    let (runs, left_out) = or_without(runs(folder), warnings);
    warnings.extend(left_out);
    runs
}

/// What was read, or nothing and a warning.
fn or_without<T: Default>(read: Result<T, SettingsError>, warnings: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        warnings.push(format!("planning without it: {error}"));
        T::default()
    })
}
