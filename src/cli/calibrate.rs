//! `orinplan calibrate`: measure this machine, or forget what was measured.

use std::path::Path;
use std::time::Duration;

use super::args::{CalibrateArgs, PlainFormat};
use super::{Outcome, date, progress, settings, show};
use crate::device;
use crate::report;
use crate::validate;

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<Outcome> {
    if args.reset {
        return forget();
    }
    let machine = device::detect(Path::new("/"))?.profile;
    let cancel = progress::cancelled_by_signals()?;
    let spinner = progress::Spinner::new();
    let scratch = Scratch::new()?;
    let say = &mut |now: &validate::Progress| spinner.say(now.stage.clone());
    let time = Duration::from_secs(args.seconds);
    let name = &machine.name;
    let outcome = validate::calibrate(name, date::today(), &scratch.0, time, &cancel, say);
    spinner.clear();
    let cpu = outcome?;
    let path = settings::keep_calibration(&cpu)?;
    show(&match args.format {
        PlainFormat::Text => report::calibrate::text(&cpu, &path),
        PlainFormat::Json => report::json(&report::calibrate::document(&cpu)),
    })?;
    Ok(Outcome::Yes)
}

fn forget() -> anyhow::Result<Outcome> {
    let removed = settings::forget()?;
    let lines = removed
        .iter()
        .map(|path| format!("removed {}\n", path.display()));
    let said: String = lines.collect();
    show(match said.is_empty() {
        true => "nothing was measured yet\n",
        false => &said,
    })?;
    Ok(Outcome::Yes)
}

/// A folder of this process for files of some hundred MB, removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        let name = format!("orinplan-calibrate-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| {
            anyhow::anyhow!("cannot make the scratch folder {}: {error}", path.display())
        })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
