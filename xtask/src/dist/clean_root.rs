//! A Debian system of its own, in which packages are installed, tried and removed: nothing is left of them.
//!
//! In: a package. Out: what was seen, or why nothing was tried. Needs root and `debootstrap`; the system is made once,
//! under `target/dist/debian`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{FIXTURE, Target, output_of};
use crate::interop::environment;

/// The release that is installed; JetPack 5 and 6 are Ubuntu's of the same years.
const RELEASE: &str = "bookworm";

/// What the package manager keeps for itself.
const ITS_OWN: [&str; 4] = ["var/lib/dpkg", "var/log", "var/cache", "etc/ld.so.cache"];

pub(super) struct CleanRoot {
    folder: PathBuf,
}

impl CleanRoot {
    /// The system below `work`; `None` where it cannot be made here, with the reason printed.
    pub(super) fn new(work: &Path) -> anyhow::Result<Option<CleanRoot>> {
        let folder = work.join("debian");
        let is_root = output_of(work, Command::new("id").arg("-u"))? == b"0\n";
        if !is_root || !environment::runs("debootstrap") {
            println!("skip  installing packages: needs root and debootstrap");
            return Ok(None);
        }
        if !folder.join("made").is_file() {
            let mut make = Command::new("debootstrap");
            make.args(["--variant=minbase", RELEASE]).arg(&folder);
            println!("making {}", folder.display());
            output_of(work, &mut make)?;
            fs::write(folder.join("made"), "")?;
        }
        Ok(Some(CleanRoot { folder }))
    }

    /// Installs a package, lets its program plan the fixture, and removes it.
    ///
    /// # Errors
    /// A step that fails, another plan than `expected`, and files that are left.
    pub(super) fn try_out(
        &self,
        package: &Path,
        target: &Target,
        root: &Path,
        expected: &[u8],
    ) -> anyhow::Result<()> {
        let before = self.files()?;
        let architecture = target.debian.context("no package")?;
        let is_own = target.is_own();
        let fixture = self.folder.join("tmp").join(FIXTURE);
        fs::create_dir_all(&fixture)?;
        for entry in fs::read_dir(root.join(FIXTURE))? {
            let entry = entry?;
            fs::copy(entry.path(), fixture.join(entry.file_name()))?;
        }
        fs::copy(package, self.folder.join("tmp/orinplan.deb"))?;
        if is_own {
            self.run(&["dpkg", "--install", "/tmp/orinplan.deb"])?;
        } else {
            self.run(&["dpkg", "--add-architecture", architecture])?;
            // Its libraries are the emulator's.
            self.run(&["dpkg", "--force-depends", "--install", "/tmp/orinplan.deb"])?;
        }
        let program = self.folder.join("usr/bin/orinplan");
        let said = if is_own {
            let mut plan = Command::new("chroot");
            plan.arg(&self.folder)
                .args(["sh", "-c", "cd /tmp && exec orinplan \"$@\"", "orinplan"])
                .args(super::PLANNED);
            Some(output_of(root, &mut plan)?)
        } else {
            target
                .command(&program)
                .map(|mut plan| output_of(&self.folder.join("tmp"), plan.args(super::PLANNED)))
                .transpose()?
        };
        ensure!(
            said.as_deref().is_none_or(|said| said == expected),
            "the installed program plans another model"
        );
        self.run(&["dpkg", "--purge", &format!("orinplan:{architecture}")])?;
        if !is_own {
            self.run(&["dpkg", "--remove-architecture", architecture])?;
        }
        fs::remove_dir_all(self.folder.join("tmp/fixtures"))?;
        fs::remove_file(self.folder.join("tmp/orinplan.deb"))?;
        let after = self.files()?;
        let left: Vec<&PathBuf> = after.symmetric_difference(&before).collect();
        ensure!(left.is_empty(), "left behind or taken away: {left:?}");
        Ok(())
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("chroot");
        command
            .arg(&self.folder)
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Every file of the system but the package manager's own.
    fn files(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                let relative = path.strip_prefix(&self.folder)?.to_owned();
                if ITS_OWN.iter().any(|own| relative.starts_with(own)) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    open.push(path);
                }
                found.insert(relative);
            }
        }
        Ok(found)
    }
}
