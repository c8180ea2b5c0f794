//! `orinplan calibrate`: measure this machine, or forget what was measured.

use std::path::Path;
use std::sync::Arc;
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
    let say = &mut |now: &validate::Progress| spinner.say(now.stage.clone());
    let time = Duration::from_secs(args.seconds);
    // Within: models are built and read for seconds without a look at the flag.
    let within = Arc::clone(&cancel);
    let outcome = validate::supervised(&cancel, say, move |tell| {
        // Nobody listens any more once this was cancelled.
        let say = &mut |now: &validate::Progress| drop(tell.send(now.clone()));
        validate::calibrate(&machine.name, date::today(), time, &within, say)
    });
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
