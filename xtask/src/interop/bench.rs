//! Shared by all checks: the program, the Python process, the folder for files, and the tally.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};

use super::environment;
use super::probe::Probe;

/// The suite's tools.
pub(super) struct Bench {
    pub(super) probe: Probe,
    /// `target/interop`.
    pub(super) work: PathBuf,
    /// `xtask/interop`.
    pub(super) scripts: PathBuf,
    /// Whether parts that were named run, which leave nothing out; the whole suite takes samples where there are thousands
    /// of files.
    pub(super) is_thorough: bool,
    orinplan: PathBuf,
    passed: usize,
    failed: usize,
}

impl Bench {
    /// Builds the program as this task was built, and makes the Python environment.
    ///
    /// # Errors
    /// A build that fails, or no Python.
    pub(super) fn new(is_thorough: bool) -> anyhow::Result<Bench> {
        let own = std::env::current_exe()?;
        let profile = own.parent().context("the task has no directory")?;
        let target = profile
            .parent()
            .context("the task has no target directory")?;
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "orinplan",
            "--bin",
            "orinplan",
        ]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "orinplan does not build");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let work = target.join("interop");
        let requirements = scripts.join("requirements.txt");
        let python = environment::python(&work, "python", &[&requirements])?;
        Ok(Bench {
            probe: Probe::new(python, scripts.join("probe.py")),
            orinplan: profile.join("orinplan"),
            work,
            scripts,
            is_thorough,
            passed: 0,
            failed: 0,
        })
    }

    /// Where a file called `name` is made.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// The program.
    pub(super) fn program(&self) -> &Path {
        &self.orinplan
    }

    /// Runs the program without the settings of the user.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn orinplan(&self, words: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.orinplan);
        command.args(words).env("XDG_CONFIG_HOME", &self.work);
        Ok(command.output()?)
    }

    /// What the program writes to standard output when it is run with `words` and succeeds.
    ///
    /// # Errors
    /// What it says.
    pub(super) fn succeeds(&self, words: &[&str]) -> anyhow::Result<Vec<u8>> {
        let run = self.orinplan(words)?;
        ensure!(
            run.status.success(),
            "orinplan {} ({}): {}",
            words.join(" "),
            run.status,
            String::from_utf8_lossy(&run.stderr).trim()
        );
        Ok(run.stdout)
    }

    /// Quantizes `model` to the file (or directory) `name`.
    ///
    /// # Errors
    /// What the program says.
    pub(super) fn quantize(
        &self,
        model: &Path,
        scheme: &str,
        name: &str,
        more: &[&str],
    ) -> anyhow::Result<PathBuf> {
        let output = self.file(name);
        let (from, to) = (model.display().to_string(), output.display().to_string());
        let words = [
            "quantize",
            &from,
            "--scheme",
            scheme,
            "--overwrite",
            "--output",
            &to,
        ];
        self.succeeds(&[&words, more].concat())?;
        Ok(output)
    }

    /// Reports a check: what it was about, and what was compared or went wrong.
    pub(super) fn report(&mut self, what: &str, outcome: anyhow::Result<String>) {
        match outcome {
            Ok(compared) => {
                self.passed += 1;
                println!("ok    {what}: {compared}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {what}: {error:#}");
            }
        }
    }

    /// Reports what cannot be checked on this machine, and why.
    pub(super) fn skip(&self, what: &str, why: &str) {
        println!("skip  {what}: {why}");
    }

    /// The end of the suite.
    ///
    /// # Errors
    /// How many checks failed.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        ensure!(
            self.failed == 0,
            "{} of {} checks failed",
            self.failed,
            self.passed + self.failed
        );
        println!("{} checks passed", self.passed);
        Ok(())
    }
}
