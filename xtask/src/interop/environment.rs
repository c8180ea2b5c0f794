//! The Python environment: made under `target/interop` from pinned versions, made anew when those
//! change. In: a list of requirements. Out: its interpreter. Must not: touch the system's Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// Whether there is such a program.
pub(crate) fn runs(program: &str) -> bool {
    let run = Command::new(program).arg("--version").output();
    run.is_ok_and(|output| output.status.success())
}

/// The interpreter of the environment `name` under `work`, with `requirements` installed.
///
/// # Errors
/// No Python 3.11 or later with `venv`, or a package that cannot be had.
pub(crate) fn python(work: &Path, name: &str, requirements: &[&Path]) -> anyhow::Result<PathBuf> {
    let home = work.join(name);
    let python = home.join("bin/python");
    let wanted = requirements
        .iter()
        .map(|path| fs::read_to_string(path).with_context(|| path.display().to_string()))
        .collect::<anyhow::Result<String>>()?;
    let stamp = home.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    let version = Command::new("python3").arg("--version").output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "`python3` does not run; `cargo xtask interop` needs Python 3.11 or later with the venv module"
    );
    eprintln!("making {}", home.display());
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home)
        .status()?;
    ensure!(
        made.success(),
        "`python3 -m venv` failed; Debian and Ubuntu have it in the package python3-venv"
    );
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    for path in requirements {
        install.arg("--requirement").arg(path);
    }
    if !install.status()?.success() {
        bail!("pip could not install {}", requirements[0].display());
    }
    fs::write(stamp, wanted)?;
    Ok(python)
}
