//! The files in the user's settings folder: the calibration of this machine, and the runs on record (`config` has the
//! defaults of flags there). A process that
//! changes a file holds the folder's lock from reading to writing; a reader sees the old file or the new one, since a
//! file is replaced whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::output::write_file;
use super::warn;
use crate::device::Cpu;
use crate::planner::{self, CALIBRATION, RUNS};
use crate::quantize;
use crate::runtime::learned::Run;
use crate::runtime::{Added, Runs};
use crate::validate::SyntheticModel;

/// The longest wait for the lock. A change takes milliseconds, so a lock that is held longer is held by a process that
/// hangs.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The folder of this program's settings: `orinplan` below `XDG_CONFIG_HOME`, else below `~/.config`.
/// A relative `XDG_CONFIG_HOME` is ignored, as its specification requires.
pub(super) fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("orinplan"))
}

/// The folder, created if needed, and locked as long as the returned file is open. Where the file system has no locks
/// (some network disks), it is not locked.
pub(super) fn locked() -> anyhow::Result<(PathBuf, File)> {
    let Some(directory) = directory() else {
        bail!("neither XDG_CONFIG_HOME nor HOME names a folder for settings; set one of them");
    };
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let folder = File::open(&directory).with_context(|| shown(&directory))?;
    let since = Instant::now();
    while !quantize::lock(&folder) {
        if since.elapsed() > LONGEST_WAIT {
            bail!("{}: another run has locked it", directory.display());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok((directory, folder))
}

/// Checks that settings can be written, before a long measurement is made for them.
///
/// # Errors
/// Where the folder cannot be created, locked or written to.
pub(super) fn check_writable() -> anyhow::Result<()> {
    let (directory, _lock) = locked()?;
    let probe = directory.join(format!("writable.{}.partial", std::process::id()));
    let written = File::create(&probe);
    let _ = std::fs::remove_file(&probe);
    written.with_context(|| format!("cannot write in {}", directory.display()))?;
    Ok(())
}

/// Checks that a run can be added to those on record, before it is measured.
///
/// # Errors
/// As [`check_writable`], and where the file of runs cannot be read.
pub(super) fn check_runs() -> anyhow::Result<()> {
    check_writable()?;
    directory()
        .map(|folder| planner::runs(&folder))
        .transpose()?;
    Ok(())
}

/// Writes a calibration; returns its path.
pub(super) fn keep_calibration(cpu: &Cpu) -> anyhow::Result<PathBuf> {
    let (directory, _lock) = locked()?;
    let path = directory.join(CALIBRATION);
    write_file(&path, &cpu.text())?;
    Ok(path)
}

/// The runs on record, with a warning for each entry that is ignored.
pub(super) fn runs() -> Runs {
    let mut warnings = Vec::new();
    let read = |folder: PathBuf| planner::runs_or_none(&folder, &mut warnings);
    let runs = directory().map(read).unwrap_or_default();
    warnings.iter().for_each(|line| warn(line));
    runs
}

/// Adds a run to those on record. Returns the path of their file, whether the run was added, and all runs.
pub(super) fn keep_run(run: Run) -> anyhow::Result<(PathBuf, Added, Runs)> {
    on_record(|runs| runs.add(run), |added| *added == Added::Kept)
}

/// Adds the runs of a calibration to those on record. Returns the path of their file, what was done with each, and all runs.
/// The file stays as it is where none was added.
pub(super) fn keep_calibrated_runs(run: Vec<Run>) -> anyhow::Result<(PathBuf, Vec<Added>, Runs)> {
    let models = SyntheticModel::all().map(|model| model.name());
    on_record(
        |runs| runs.calibrate(run, &models),
        |added| added.contains(&Added::Kept),
    )
}

/// Does something with the runs on record. Returns the path of their file, which is written where something was added, what
/// `add` returned, and all runs.
fn on_record<T>(
    add: impl FnOnce(&mut Runs) -> T,
    is_kept: impl FnOnce(&T) -> bool,
) -> anyhow::Result<(PathBuf, T, Runs)> {
    let (directory, _lock) = locked()?;
    let path = directory.join(RUNS);
    let (mut runs, left_out) = planner::runs(&directory)?;
    left_out.iter().for_each(|line| warn(line));
    let added = add(&mut runs);
    if is_kept(&added) {
        write_file(&path, &runs.text())?;
    }
    Ok((path, added, runs))
}

/// Removes the calibration and the runs; returns the paths of the removed files.
pub(super) fn forget() -> anyhow::Result<Vec<PathBuf>> {
    if directory().is_none_or(|directory| !directory.is_dir()) {
        return Ok(Vec::new());
    }
    let (directory, _lock) = locked()?;
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
