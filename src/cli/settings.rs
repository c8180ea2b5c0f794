//! What the user's configuration folder holds: the calibration of this machine, and what runs taught.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::fit::write_file;
use crate::device::Cpu;
use crate::input;
use crate::runtime::Runs;
use crate::units::Bytes;

/// What `orinplan calibrate` writes.
const CALIBRATION: &str = "calibration.toml";

/// What `orinplan validate --save-calibration` writes.
const RUNS: &str = "runs.toml";

/// Either has some hundred bytes an entry.
const LIMIT: Bytes = Bytes(4 << 20);

/// The folder of this program's settings: `orinplan` below `XDG_CONFIG_HOME`, else below `~/.config`.
/// A relative `XDG_CONFIG_HOME` does not count, as its specification has it.
fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("orinplan"))
}

/// The text of a settings file, if there is one.
fn read(name: &str) -> anyhow::Result<Option<(PathBuf, String)>> {
    let Some(path) = directory().map(|directory| directory.join(name)) else {
        return Ok(None);
    };
    match path.exists() {
        true => Ok(Some((path.clone(), input::read_text(&path, LIMIT)?))),
        false => Ok(None),
    }
}

fn write(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let Some(directory) = directory() else {
        bail!("neither XDG_CONFIG_HOME nor HOME names a folder: there is no place for settings");
    };
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(name);
    write_file(&path, text)?;
    Ok(path)
}

/// The calibration of this machine.
pub(super) fn calibration() -> anyhow::Result<Option<Cpu>> {
    let file = read(CALIBRATION)?;
    file.map(|(path, text)| Ok(Cpu::parse(&text, &shown(&path))?))
        .transpose()
}

/// Keeps a calibration; returns where.
pub(super) fn keep_calibration(cpu: &Cpu) -> anyhow::Result<PathBuf> {
    write(CALIBRATION, &cpu.text())
}

/// The runs on record.
pub(super) fn runs() -> anyhow::Result<Runs> {
    match read(RUNS)? {
        Some((path, text)) => Ok(Runs::parse(&text, &shown(&path))?),
        None => Ok(Runs::default()),
    }
}

/// Keeps the runs; returns where.
pub(super) fn keep_runs(runs: &Runs) -> anyhow::Result<PathBuf> {
    write(RUNS, &runs.text())
}

/// Removes both; returns the files that were there.
pub(super) fn forget() -> anyhow::Result<Vec<PathBuf>> {
    let Some(directory) = directory() else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    for name in [CALIBRATION, RUNS] {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
        }
    }
    Ok(removed)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
