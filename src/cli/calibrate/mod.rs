//! `orinplan calibrate`: measures this machine, its GPU and then its processors, or removes what was measured.

mod gpu;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::bail;

use super::args::{CalibrateArgs, MeasuredPart, PlainFormat};
use super::{Outcome, date, progress, settings, show};
use crate::device::{self, Cpu};
use crate::report;
use crate::validate::{self, Calibration};

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<Outcome> {
    if args.reset {
        return forget();
    }
    settings::check_writable()?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let bench = wanted(MeasuredPart::Gpu)
        .then(|| gpu::find(args))
        .transpose()?;
    let cancel = progress::cancelled_by_signals()?;
    // Before the processors: a thread that measures those may outlive its time.
    let mut gpu = match bench {
        Some(Ok(bench)) => {
            let spinner = progress::Spinner::new();
            let measured = bench.measure(&cancel, &spinner);
            spinner.clear();
            Some(measured?)
        }
        Some(Err(why)) => Some(Err(why)),
        None => None,
    };
    if let (Some(Err(why)), Some(MeasuredPart::Gpu)) = (&gpu, args.only) {
        bail!("the GPU was not measured: {why}");
    }
    let cpu = wanted(MeasuredPart::Cpu)
        .then(|| processors(args, &cancel))
        .transpose()?;
    let path = cpu.as_ref().map(settings::keep_calibration).transpose()?;
    if let Some(Ok(runs)) = &mut gpu {
        gpu::keep(runs)?;
    }
    let (cpu, gpu) = (cpu.as_ref(), gpu.as_ref());
    show(&match args.format {
        PlainFormat::Text => {
            report::calibrate::text(cpu.zip(path.as_deref()), gpu, super::columns())
        }
        PlainFormat::Json => report::json(&report::calibrate::document(cpu, gpu)),
    })?;
    Ok(Outcome::Yes)
}

/// Measures the processors.
fn processors(args: &CalibrateArgs, cancel: &Arc<AtomicBool>) -> anyhow::Result<Cpu> {
    let machine = device::detect(&super::machine_root())?.profile;
    let spinner = progress::Spinner::new();
    let say = &mut |now: &validate::MeasureProgress| spinner.say(now.stage.clone());
    let calibration = Arc::new(Calibration::new(Duration::from_secs(args.seconds)));
    let (within, measuring) = (Arc::clone(cancel), Arc::clone(&calibration));
    let outcome = validate::supervised_for(calibration.limit(), cancel, say, move |tell| {
        // The receiver is gone once this was cancelled.
        let say = &mut |now: &validate::MeasureProgress| drop(tell.send(now.clone()));
        measuring.measure(&within, say)
    });
    spinner.clear();
    // At the time limit, what was timed so far counts.
    let _: Option<()> = outcome?;
    Ok(calibration.cpu(&machine.name, date::today())?)
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
