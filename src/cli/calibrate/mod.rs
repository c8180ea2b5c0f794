//! `orinplan calibrate`: measures this machine, its GPU and then its processors, or removes what was measured.

mod gpu;
mod ready;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};

use super::args::{CalibrateArgs, MeasuredPart, PlainFormat};
use super::{Outcome, date, progress, settings, show};
use crate::device::{self, Cpu};
use crate::report;
use crate::validate::{self, Calibration};

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<Outcome> {
    if args.reset {
        return forget();
    }
    let wanted = |part| args.only.is_none_or(|only| only == part);
    ensure!(
        args.program.is_none() || wanted(MeasuredPart::Gpu),
        "--program names what measures the GPU, which `--only cpu` leaves out: leave one of them out"
    );
    settings::check_writable()?;
    let bench = wanted(MeasuredPart::Gpu)
        .then(|| gpu::find(args))
        .transpose()?;
    let cancel = progress::cancelled_by_signals()?;
    // Before the processors: a thread that measures those may outlive its time.
    let gpu = match bench {
        Some(Ok(bench)) => {
            let spinner = progress::Spinner::new();
            let measured = bench.measure(&cancel, &spinner);
            spinner.clear();
            let mut measured = measured?;
            // At once: what follows may fail or be cancelled.
            if let Ok(runs) = &mut measured {
                gpu::keep(runs);
            }
            Some(measured)
        }
        Some(Err(why)) => Some(Err(why)),
        None => None,
    };
    if let (Some(Err(why)), Some(MeasuredPart::Gpu)) = (&gpu, args.only) {
        bail!("the GPU was not measured: {why}");
    }
    let report = |cpu: Option<(&Cpu, &Path)>, gpu| {
        show(&match args.format {
            PlainFormat::Text => report::calibrate::text(cpu, gpu, super::columns()),
            PlainFormat::Json => {
                report::json(&report::calibrate::document(cpu.map(|cpu| cpu.0), gpu))
            }
        })
    };
    if !wanted(MeasuredPart::Cpu) {
        report(None, gpu.as_ref())?;
        let lost = gpu
            .and_then(Result::ok)
            .and_then(|runs| runs.nothing_kept());
        let outcome = lost.map_or(Outcome::Yes, |_| Outcome::No);
        return Ok(progress::signalled().map_or(outcome, Outcome::Signalled));
    }
    let measured = processors(args, &cancel)
        .and_then(|cpu| settings::keep_calibration(&cpu).map(|path| (cpu, path)));
    match (measured, gpu) {
        (Ok((cpu, path)), gpu) => report(Some((&cpu, &path)), gpu.as_ref())?,
        (Err(error), gpu @ Some(Ok(_))) => {
            report(None, gpu.as_ref())?;
            // The error's own words are that nothing was kept.
            let why = if cancel.load(Ordering::Relaxed) {
                "interrupted".to_owned()
            } else {
                super::message(&error)
            };
            bail!("the processors were not measured: {why}");
        }
        (Err(error), _) => return Err(error),
    }
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
