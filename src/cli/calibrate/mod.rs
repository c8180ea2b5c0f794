//! `orinplan calibrate`: measures this machine, its GPU and then its processors, or removes what was measured.

mod gpu;

use std::sync::Arc;
use std::time::Duration;

use super::args::{CalibrateArgs, PlainFormat};
use super::{Outcome, date, progress, settings, show};
use crate::device;
use crate::report;
use crate::validate::{self, Calibration};

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<Outcome> {
    if args.reset {
        return forget();
    }
    let machine = device::detect(&super::machine_root())?.profile;
    settings::check_writable()?;
    let bench = gpu::find(args)?;
    let cancel = progress::cancelled_by_signals()?;
    // Before the processors: a thread that measures those may outlive its time.
    let mut gpu = match bench {
        Ok(bench) => {
            let spinner = progress::Spinner::new();
            let measured = bench.measure(&cancel, &spinner);
            spinner.clear();
            measured?
        }
        Err(why) => Err(why),
    };
    let spinner = progress::Spinner::new();
    let say = &mut |now: &validate::MeasureProgress| spinner.say(now.stage.clone());
    let calibration = Arc::new(Calibration::new(Duration::from_secs(args.seconds)));
    let (within, measuring) = (Arc::clone(&cancel), Arc::clone(&calibration));
    let outcome = validate::supervised_for(calibration.limit(), &cancel, say, move |tell| {
        // The receiver is gone once this was cancelled.
        let say = &mut |now: &validate::MeasureProgress| drop(tell.send(now.clone()));
        measuring.measure(&within, say)
    });
    spinner.clear();
    // At the time limit, what was timed so far counts.
    let _: Option<()> = outcome?;
    let cpu = calibration.cpu(&machine.name, date::today())?;
    let path = settings::keep_calibration(&cpu)?;
    if let Ok(runs) = &mut gpu {
        gpu::keep(runs)?;
    }
    show(&match args.format {
        PlainFormat::Text => report::calibrate::text(&cpu, &path, &gpu, super::columns()),
        PlainFormat::Json => report::json(&report::calibrate::document(&cpu, &gpu)),
    })?;
    Ok(Outcome::Yes)
}

fn forget() -> anyhow::Result<Outcome> {
    let removed = settings::forget()?;
    let lines = removed
        .iter()
        .map(|path| format!("removed {}\n", path.display()));
    let removed: String = lines.collect();
    show(if removed.is_empty() {
        "nothing was measured yet\n"
    } else {
        &removed
    })?;
    Ok(Outcome::Yes)
}
