//! Checks for what may have disturbed a measurement, each by what was observed on the machine.
//!
//! In: what was observed during the measurement, and what the plan assumed. Out: one [`Check`] for each possible reason,
//! those that cost most speed first. One of them compares the measured rates with those that the model would have in
//! other states of the machine.

use super::compare::{Comparison, ComparisonLine};
use super::measured::{Measured, Metric};
use super::watch::Watched;
use crate::device::{Clock, DeviceProfile, PowerMode, Quantity as _};
use crate::runtime::profile::ComputeBackend;
use crate::units::Bytes;

/// A check for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A stable name for scripts.
    pub code: &'static str,
    /// The result.
    pub finding: Finding,
}

impl Check {
    /// Whether the measurement may be disturbed for this reason.
    pub fn holds(&self) -> bool {
        matches!(self.finding, Finding::Holds(_))
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The reason holds: what was observed, and what to do.
    Holds(String),
    /// The reason does not hold: what was observed.
    Clear(String),
    /// The machine does not report it.
    Unread,
}

/// What the checks use.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// The device that was planned for.
    pub device: &'a DeviceProfile,
    /// The power mode that was planned for.
    pub mode: &'a PowerMode,
    /// The processor that was planned for.
    pub backend: ComputeBackend,
    /// The power mode in force, as nvpmodel calls it.
    pub mode_in_force: Option<&'a str>,
    /// What was observed on the machine.
    pub watched: &'a Watched,
    /// What was measured.
    pub measured: &'a Measured,
    /// The table.
    pub comparison: &'a Comparison,
    /// States in which the machine may have been, with their rates.
    pub suspects: &'a [Suspect],
    /// The machine that it ran on.
    pub ran_on: RanOn<'a>,
}

/// The machine that ran a model, compared with the one that was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RanOn<'a> {
    /// The same, as far as is known.
    Planned,
    /// This machine, which is another one; with its name.
    Another(&'a str),
    /// Not known: a server elsewhere, or a device from a user's file.
    Unknown,
}

/// A state in which the machine may have been instead of the planned one.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// The state, and what to do about it.
    pub what: String,
    /// Decoded tokens a second.
    pub decode: f64,
    /// Prompt tokens a second, where known.
    pub prefill: Option<f64>,
}

/// How far a decode rate may be from that of a suspect, as a logarithm of their ratio: about the error of predictions.
const NEAR: f64 = 0.15;

/// The same for prefill rates, whose predictions have larger errors.
const NEAR_PREFILL: f64 = 0.5;

/// A clock below this share of its limit counts as lowered.
const CLOCK_SHARE: f64 = 0.95;

/// The share of processor time that other programs may take without disturbing a measurement.
const OTHERS: f64 = 0.05;

/// Pages through swap that are normal on an idle machine: 1 MiB.
const SWAPPED_PAGES: u64 = 256;

/// Makes every check.
pub fn check(context: &CheckContext<'_>) -> Vec<Check> {
    let checks = [
        ("another_machine", another_machine(context)),
        ("cpu_fallback", cpu_fallback(context)),
        ("slow_rate", slow_rate(context)),
        ("swapping", swapping(context.watched)),
        ("power_mode", power_mode(context)),
        ("throttling", throttling(context.watched)),
        (
            "gpu_clock",
            clock(
                context.watched.gpu_clock,
                "GPU",
                "`sudo jetson_clocks` holds it at its limit",
            ),
        ),
        (
            "cpu_clock",
            clock(
                context.watched.cpu_clock,
                "processors",
                "the governor `performance` holds them at their limit",
            ),
        ),
        ("other_load", other_load(context.watched)),
        ("low_memory", low_memory(context.watched)),
        ("unsteady", unsteady(context.comparison)),
    ];
    let looked = checks
        .into_iter()
        .map(|(code, finding)| Check { code, finding });
    looked.collect()
}

fn another_machine(context: &CheckContext<'_>) -> Finding {
    match context.ran_on {
        RanOn::Planned => Finding::Clear("it ran on the machine that was planned for".to_owned()),
        RanOn::Another(name) => Finding::Holds(format!(
            "it ran on this machine ({name}), which is not a {}: run it there, or plan for this machine with --device host",
            context.device.name
        )),
        RanOn::Unknown => Finding::Unread,
    }
}

fn cpu_fallback(context: &CheckContext<'_>) -> Finding {
    let for_gpu = context.device.gpu.is_some() && context.backend == ComputeBackend::Cuda;
    match (for_gpu, context.measured.on_gpu) {
        (true, Some(false)) => Finding::Holds(format!(
            "{} ran on the CPU, but the plan is for the GPU: use a build with CUDA, with every layer on the GPU",
            context.measured.engine
        )),
        (true, Some(true)) => Finding::Clear("the engine ran on the GPU".to_owned()),
        (true, None) => Finding::Unread,
        (false, _) => Finding::Clear("the plan is for the CPU".to_owned()),
    }
}

/// Which state of the machine the rates agree with, where decode is slower than the tolerance allows.
fn slow_rate(context: &CheckContext<'_>) -> Finding {
    let judged = |metric| {
        let line = context.comparison.line(metric)?;
        Some((line, line.measured.filter(|_| line.judged)?.mean))
    };
    let is_slow = |(line, _): &(&ComparisonLine, f64)| {
        line.error_percent()
            .is_some_and(|percent| percent > context.comparison.tolerance)
    };
    if context.suspects.is_empty() {
        return Finding::Clear("no slower mode of the machine is known".to_owned());
    }
    let Some((line, decode)) = judged(Metric::Decode) else {
        return Finding::Unread;
    };
    let prefill = judged(Metric::Prefill);
    if !is_slow(&(line, decode)) {
        return Finding::Clear("decode is not slow".to_owned());
    }
    let apart = |seen: f64, rate: f64| (seen / rate).ln().abs();
    let can_be = |suspect: &&Suspect| {
        let prefill = prefill.zip(suspect.prefill);
        apart(decode, suspect.decode) <= NEAR
            && prefill.is_none_or(|((_, seen), rate)| apart(seen, rate) <= NEAR_PREFILL)
    };
    let mut near: Vec<&Suspect> = context.suspects.iter().filter(can_be).collect();
    near.sort_by(|a, b| apart(decode, a.decode).total_cmp(&apart(decode, b.decode)));
    match near[..] {
        [] => Finding::Clear("the rates do not match a slower mode or the CPU".to_owned()),
        _ => {
            let near: Vec<&str> = near.iter().map(|suspect| suspect.what.as_str()).collect();
            Finding::Holds(format!(
                "{decode:.1} tokens/s are what this model decodes {}",
                near.join("; or ")
            ))
        }
    }
}

fn swapping(watched: &Watched) -> Finding {
    let (Some(before), Some(after)) = (watched.before.swapped_pages, watched.after.swapped_pages)
    else {
        return Finding::Unread;
    };
    match after.saturating_sub(before) {
        pages if pages > SWAPPED_PAGES => Finding::Holds(format!(
            "{} went to or came from swap meanwhile: free memory, or use a smaller format or context",
            Bytes(pages.saturating_mul(4096))
        )),
        _ => Finding::Clear("nothing was swapped".to_owned()),
    }
}

fn power_mode(context: &CheckContext<'_>) -> Finding {
    match context.mode_in_force {
        None => Finding::Unread,
        Some(now) if context.mode.is_called(now) => {
            Finding::Clear(format!("the power mode is {now}"))
        }
        Some(now) => Finding::Holds(format!(
            "the board runs in {now}, but the plan is for {}: `sudo nvpmodel` sets a mode, --power-mode plans for one",
            context.mode.name
        )),
    }
}

fn throttling(watched: &Watched) -> Finding {
    if let Some(name) = &watched.cooling {
        return Finding::Holds(format!(
            "the cooling device `{name}` was active: the board is too hot"
        ));
    }
    match (
        watched.before.throttle_events,
        watched.after.throttle_events,
    ) {
        (Some(before), Some(after)) if after > before => Finding::Holds(format!(
            "heat or current lowered clocks {}: cool the machine, or use a stronger power supply",
            crate::units::counted(after - before, "time", "times")
        )),
        (Some(_), Some(_)) => Finding::Clear("nothing was throttled".to_owned()),
        _ => Finding::Unread,
    }
}

fn clock(clock: Option<Clock>, of: &str, remedy: &str) -> Finding {
    let Some(Clock { now, most }) = clock else {
        return Finding::Unread;
    };
    if now.0 < most.0 * CLOCK_SHARE {
        Finding::Holds(format!(
            "the clock of the {of} was {} on average, of {}: {remedy}",
            now.show(),
            most.show()
        ))
    } else {
        Finding::Clear(format!("the clock of the {of} was at its limit"))
    }
}

/// Processor time that other programs took.
fn other_load(watched: &Watched) -> Finding {
    let (Some(before), Some(after)) = (watched.before.processors, watched.after.processors) else {
        return Finding::Unread;
    };
    let all = (after.all - before.all).max(f64::MIN_POSITIVE);
    let stolen = (after.stolen - before.stolen) / all;
    if stolen > OTHERS {
        return Finding::Holds(format!(
            "the hypervisor gave {:.0} % of the processors to other machines",
            stolen * 100.0
        ));
    }
    let Some(process) = watched.process else {
        // The time of the measured process is not known; the load before the measurement is.
        return match watched.before.load_average {
            Some(load) if load > 0.5 => Finding::Holds(format!(
                "the load average was {load:.2} before the measurement began; close other programs and repeat"
            )),
            Some(load) => Finding::Clear(format!("the load average was {load:.2} before")),
            None => Finding::Unread,
        };
    };
    // This includes some thousandths for this program's own monitoring.
    let others = ((after.busy - before.busy - process.seconds) / all).max(0.0);
    if others > OTHERS {
        Finding::Holds(format!(
            "other programs used {:.0} % of the CPU; close them and repeat",
            others * 100.0
        ))
    } else {
        Finding::Clear(format!(
            "other programs used {:.0} % of the CPU",
            others * 100.0
        ))
    }
}

fn low_memory(watched: &Watched) -> Finding {
    let (Some(least), Some(total)) = (watched.least_available, watched.before.memory.total) else {
        return Finding::Unread;
    };
    if least.as_f64() < total.as_f64() * 0.03 {
        Finding::Holds(format!(
            "only {least} of memory was left: the file may have been read again and again"
        ))
    } else {
        Finding::Clear(format!("{least} of memory was left"))
    }
}

/// Whether the repeats of any metric, judged or not, differ so much that their mean says little.
fn unsteady(comparison: &Comparison) -> Finding {
    let spreads = comparison
        .lines
        .iter()
        .filter_map(ComparisonLine::spread_percent);
    let Some(worst) = spreads.reduce(f64::max) else {
        return Finding::Unread;
    };
    if worst > comparison.tolerance / 2.0 {
        Finding::Holds(format!(
            "repeats differ by {worst:.1} % (standard deviation): measure again on a quiet machine, or with more --repeats"
        ))
    } else {
        Finding::Clear(format!("repeats differ by {worst:.1} %"))
    }
}
