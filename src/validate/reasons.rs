//! Why a measurement may be off: each reason is looked up on the machine, none is guessed.
//!
//! In: what was seen during the measurement, and what the plan assumed. Out: one [`Check`] a reason,
//! with what was found, in the order of how much they cost. One is not read from the machine but from the
//! rates: they are set against those that the same model has where something is amiss.

use super::compare::{Comparison, Line};
use super::measured::{Measured, Quantity};
use super::watch::Watched;
use crate::device::{Clock, DeviceProfile, PowerMode, Quantity as _};
use crate::runtime::profile::Backend;
use crate::units::Bytes;

/// A reason that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A stable name for scripts.
    pub code: &'static str,
    /// What was found.
    pub finding: Finding,
}

impl Check {
    /// Whether the measurement may be off for this reason.
    pub fn holds(&self) -> bool {
        matches!(self.finding, Finding::Holds(_))
    }
}

/// What a look at the machine gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// It holds: what was seen, and the way out.
    Holds(String),
    /// It does not hold: what was seen.
    Clear(String),
    /// The machine does not tell.
    Unread,
}

/// What the reasons are looked up in.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// The device that was planned for.
    pub device: &'a DeviceProfile,
    /// The power mode that was planned for.
    pub mode: &'a PowerMode,
    /// What was planned to compute.
    pub backend: Backend,
    /// The power mode in force, as nvpmodel calls it.
    pub mode_in_force: Option<&'a str>,
    /// What was seen.
    pub watched: &'a Watched,
    /// What was measured.
    pub measured: &'a Measured,
    /// The table.
    pub comparison: &'a Comparison,
    /// What may be amiss, and the rates that it would give.
    pub suspects: &'a [Suspect],
    /// Where it ran.
    pub ran_on: RanOn<'a>,
}

/// The machine that ran a model, beside the one that was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RanOn<'a> {
    /// That one, as far as can be told.
    Planned,
    /// This machine, which is another; with its name.
    Another(&'a str),
    /// A server somewhere, or a device that no machine is known to be.
    Unknown,
}

/// A way in which the machine may run otherwise than planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// What is amiss, and the way out.
    pub what: String,
    /// Decoded tokens a second.
    pub decode: f64,
    /// Prompt tokens a second, where known.
    pub prefill: Option<f64>,
}

/// How far a rate may be from a suspect's: what predictions of other boards and modes are off by.
const NEAR: f64 = 0.15;

/// The same of prompts, whose rates are predicted far worse.
const NEAR_PREFILL: f64 = 0.5;

/// A clock this far below its limit is not at its limit.
const CLOCK_SHARE: f64 = 0.95;

/// A share of the processors that other programs take without being felt.
const OTHERS: f64 = 0.05;

/// 1 MiB of pages: less passes through swap on an idle machine.
const SWAPPED_PAGES: u64 = 256;

/// Looks every reason up.
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
            "it ran on this machine ({name}), which is no {}: run it there, or plan for this machine with --device host",
            context.device.name
        )),
        RanOn::Unknown => Finding::Unread,
    }
}

fn cpu_fallback(context: &CheckContext<'_>) -> Finding {
    let for_gpu = context.device.gpu.is_some() && context.backend == Backend::Cuda;
    match (for_gpu, context.measured.on_gpu) {
        (true, Some(false)) => Finding::Holds(format!(
            "{} ran on the CPU, and the plan is for the GPU: use a build with CUDA, with every layer on the GPU",
            context.measured.engine
        )),
        (true, Some(true)) => Finding::Clear("the engine ran on the GPU".to_owned()),
        (true, None) => Finding::Unread,
        (false, _) => Finding::Clear("the plan is for the processors".to_owned()),
    }
}

/// What the rates are those of, where they are beyond the tolerance too slow.
fn slow_rate(context: &CheckContext<'_>) -> Finding {
    let judged = |quantity| {
        let line = context.comparison.line(quantity)?;
        Some((line, line.measured.filter(|_| line.judged)?.mean))
    };
    let is_slow = |(line, _): &(&Line, f64)| {
        line.error_percent()
            .is_some_and(|percent| percent > context.comparison.tolerance)
    };
    if context.suspects.is_empty() {
        return Finding::Clear("no slower mode of the machine is known".to_owned());
    }
    let Some((line, decode)) = judged(Quantity::Decode) else {
        return Finding::Unread;
    };
    let prefill = judged(Quantity::Prefill);
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
        [] => Finding::Clear(
            "the rates are not those of a slower mode or of the processors".to_owned(),
        ),
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
            "{} went to or came from swap meanwhile: free memory, or take a smaller format or context",
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
            "the board runs in {now}, and the plan is for {}: `sudo nvpmodel` sets a mode, --power-mode plans for one",
            context.mode.name
        )),
    }
}

fn throttling(watched: &Watched) -> Finding {
    if let Some(name) = &watched.cooling {
        return Finding::Holds(format!(
            "the cooling measure `{name}` was in force: the board is too hot"
        ));
    }
    match (
        watched.before.throttle_events,
        watched.after.throttle_events,
    ) {
        (Some(before), Some(after)) if after > before => Finding::Holds(format!(
            "heat or current made clocks drop {}: cool the machine, or feed it from a stronger supply",
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

/// Processor time that neither the measured process nor idling took.
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
        // Whose time it was is not known; how busy it was before the measurement is.
        return match watched.before.load_average {
            Some(load) if load > 0.5 => Finding::Holds(format!(
                "the load average was {load:.2} before the measurement began: end other programs"
            )),
            Some(load) => Finding::Clear(format!("the load average was {load:.2} before")),
            None => Finding::Unread,
        };
    };
    // This program's own looking and reading is some thousandths.
    let others = ((after.busy - before.busy - process.seconds) / all).max(0.0);
    if others > OTHERS {
        Finding::Holds(format!(
            "other programs took {:.0} % of the processors: end them",
            others * 100.0
        ))
    } else {
        Finding::Clear(format!(
            "other programs took {:.0} % of the processors",
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

/// Whether the repeats differ so much that their mean says little: of all that was measured, judged or
/// not.
fn unsteady(comparison: &Comparison) -> Finding {
    let spreads = comparison.lines.iter().filter_map(Line::spread_percent);
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
