//! Predicted against measured, line by line.
//!
//! In: the plan's numbers and a measurement. Out: [`Comparison`]. Pure: the error of a line is
//! predicted / measured - 1 in percent, so that a positive one means "predicted too much".

use super::measured::{Measured, Metric, Statistics};
use super::watch::Watched;
use crate::device::DeviceProfile;
use crate::plan::Plan;
use crate::plan::speed::{Bound, Spread};
use crate::units::Bytes;

/// Tokens that a prompt needs for its prefill rate to be judged: the rate of a shorter one is shown only.
pub const LEAST_PROMPT: u64 = 32;

/// One metric, predicted and measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComparisonLine {
    /// The metric.
    pub metric: Metric,
    /// Low, expected and high; `None` where the plan has no number.
    pub predicted: Option<Spread>,
    /// Over the repeats; `None` where nothing was measured, or nothing plausible.
    pub measured: Option<Statistics>,
    /// Whether the verdict depends on it.
    pub judged: bool,
    /// How it is judged, if it is.
    pub held_to: Criterion,
}

/// How a measured figure is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Criterion {
    /// It has to be within the tolerance of the expected value.
    #[default]
    Tolerance,
    /// It may also lie anywhere in the predicted range: most of it is the runtime's own time or memory and little the
    /// model's, and the range says how uncertain that is.
    Range,
}

/// Everything that could be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// One line a metric.
    pub lines: Vec<ComparisonLine>,
    /// Percent that a judged line may be off, either way.
    pub tolerance: f64,
    /// Whether it ran on another machine than was planned for: then no line is judged.
    pub elsewhere: bool,
}

/// Plans of the same model: for its prompt, and at the depth where decode was measured.
#[derive(Clone, Copy, Debug)]
pub struct Predicted<'a> {
    /// Memory, prefill and first token.
    pub prompt: &'a Plan,
    /// Decode.
    pub depth: &'a Plan,
    /// How far the runtime's own memory may be below and above what is expected.
    pub memory_slack: (Bytes, Bytes),
}

/// The peak of memory, by the sources there are for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeakMemory {
    /// The peak resident memory of the process, mapped files included.
    pub resident: Option<Bytes>,
    /// How far `MemAvailable` fell: on a Jetson memory of the GPU belongs to no process.
    pub available_drop: Option<Bytes>,
    /// How far the memory in use rose, by tegrastats.
    pub tegrastats_rise: Option<Bytes>,
    /// What the engine reports.
    pub engine: Option<Bytes>,
    /// How often the process was sampled, if it ended before its peak was certain to be seen.
    pub short: Option<u32>,
}

/// A source for the peak of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFigure {
    /// [`PeakMemory::resident`].
    Resident,
    /// [`PeakMemory::available_drop`].
    AvailableDrop,
    /// [`PeakMemory::tegrastats_rise`].
    TegrastatsRise,
    /// [`PeakMemory::engine`].
    Engine,
}

impl MemoryFigure {
    /// The words that follow its number of bytes.
    pub fn words(self) -> &'static str {
        match self {
            MemoryFigure::Resident => "resident in the process",
            MemoryFigure::AvailableDrop => "fall of MemAvailable",
            MemoryFigure::TegrastatsRise => "rise of tegrastats' RAM",
            MemoryFigure::Engine => "by the engine's account",
        }
    }

    /// Whether it includes the model's weights: those of a GPU belong to no process, and those of the processors may be
    /// mapped files, which count as available memory.
    pub(super) fn has_weights(self, on_gpu: bool) -> bool {
        match self {
            MemoryFigure::Resident => !on_gpu,
            MemoryFigure::AvailableDrop | MemoryFigure::TegrastatsRise => on_gpu,
            MemoryFigure::Engine => true,
        }
    }
}

impl PeakMemory {
    /// The figures of `watched` and `measured`. `from_start` says that the model was loaded meanwhile: otherwise a change
    /// of the memory in use does not include it.
    pub fn of(measured: &Measured, watched: &Watched, from_start: bool) -> PeakMemory {
        let loaded = |bytes: Option<Bytes>| bytes.filter(|_| from_start);
        PeakMemory {
            resident: watched.process.and_then(|process| process.peak_resident),
            available_drop: loaded(watched.available_drop()),
            tegrastats_rise: loaded(
                watched
                    .tegrastats
                    .map(|(first, most)| most.saturating_sub(first)),
            ),
            engine: measured.engine_memory,
            short: watched.short,
        }
    }

    /// Every figure.
    pub fn figures(&self) -> [(MemoryFigure, Option<Bytes>); 4] {
        let mut copy = *self;
        copy.figures_mut().map(|(figure, bytes)| (figure, *bytes))
    }

    pub(super) fn figures_mut(&mut self) -> [(MemoryFigure, &mut Option<Bytes>); 4] {
        [
            (MemoryFigure::Resident, &mut self.resident),
            (MemoryFigure::AvailableDrop, &mut self.available_drop),
            (MemoryFigure::TegrastatsRise, &mut self.tegrastats_rise),
            (MemoryFigure::Engine, &mut self.engine),
        ]
    }

    /// The figure that is compared with the plan's total: on a board whose GPU shares the memory the fall of
    /// `MemAvailable`, elsewhere the resident memory of the process; the engine's own figure where that is not known.
    pub fn compared(&self, device: &DeviceProfile) -> Option<Bytes> {
        if device.gpu.is_some() {
            self.available_drop.or(self.engine)
        } else {
            self.resident.or(self.engine)
        }
    }
}

impl ComparisonLine {
    /// Percent that the expected value is above the measured mean; negative below it.
    pub fn error_percent(&self) -> Option<f64> {
        let (expected, mean) = (self.predicted?.expected, self.measured?.mean);
        (mean > 0.0).then(|| (expected / mean - 1.0) * 100.0)
    }

    /// Whether the measured mean lies between the predicted low and high.
    pub fn in_range(&self) -> bool {
        let both = self.predicted.zip(self.measured);
        both.is_some_and(|(spread, seen)| (spread.low..=spread.high).contains(&seen.mean))
    }

    /// The standard deviation over the repeats, in percent of the mean; `None` for fewer than two.
    pub fn spread_percent(&self) -> Option<f64> {
        let seen = self.measured.filter(|seen| seen.count > 1)?;
        Some(seen.deviation / seen.mean.max(f64::MIN_POSITIVE) * 100.0)
    }
}

impl Comparison {
    /// Whether every judged line is within the tolerance, and there is one.
    pub fn within(&self) -> bool {
        self.judged().next().is_some() && self.off().next().is_none()
    }

    /// The lines that the verdict depends on.
    pub fn judged(&self) -> impl Iterator<Item = &ComparisonLine> {
        self.lines.iter().filter(|line| line.judged)
    }

    /// The judged lines beyond the tolerance.
    pub fn off(&self) -> impl Iterator<Item = &ComparisonLine> {
        let beyond = |percent: f64| percent.abs() > self.tolerance;
        let allowed = |line: &ComparisonLine| line.held_to == Criterion::Range && line.in_range();
        self.judged()
            .filter(move |line| line.error_percent().is_some_and(beyond) && !allowed(line))
    }

    /// The same for a run on another machine: no line is judged.
    #[must_use]
    pub fn elsewhere(mut self) -> Comparison {
        self.elsewhere = true;
        for line in &mut self.lines {
            line.judged = false;
        }
        self
    }

    /// The line of a metric.
    pub fn line(&self, metric: Metric) -> Option<&ComparisonLine> {
        self.lines.iter().find(|line| line.metric == metric)
    }
}

/// Compares what was predicted with what was measured; `memory` is the measured peak.
pub fn compare(
    predicted: Predicted<'_>,
    measured: &Measured,
    memory: Option<Bytes>,
    tolerance: f64,
) -> Comparison {
    let prompt = predicted
        .prompt
        .speeds
        .as_ref()
        .map(|speeds| &speeds.prefill);
    let decode = predicted.depth.speeds.as_ref().map(|speeds| &speeds.decode);
    // Whether most of the time, or of the memory, is the runtime's own.
    let is_overhead = decode.is_some_and(|decode| decode.bound == Bound::Overhead);
    let ledger = &predicted.prompt.memory;
    let own = ledger.runtime.total();
    let is_small = own > ledger.total().saturating_sub(own);
    let standard = |metric| match metric {
        Metric::Memory if is_small => Criterion::Range,
        Metric::Decode | Metric::Prefill | Metric::FirstToken if is_overhead => Criterion::Range,
        _ => Criterion::Tolerance,
    };
    let is_prompt = measured
        .prompt_tokens
        .is_some_and(|tokens| tokens >= LEAST_PROMPT);
    let memory = memory.map(|bytes| vec![bytes.as_f64()]).unwrap_or_default();
    let rows = [
        (
            Metric::Decode,
            decode.map(|d| d.tokens_per_second),
            measured.decode.as_slice(),
            true,
        ),
        (
            Metric::Prefill,
            prompt.map(|p| p.tokens_per_second),
            measured.prefill.as_slice(),
            is_prompt,
        ),
        (
            Metric::FirstToken,
            prompt.map(|p| p.time_to_first_token),
            measured.first_token.as_slice(),
            is_prompt,
        ),
        (
            Metric::Memory,
            Some(memory_spread(predicted)),
            memory.as_slice(),
            true,
        ),
    ];
    // A model that turns texts into numbers generates no token.
    let writes = measured.generated_tokens != Some(0);
    let has = |metric: Metric| writes || matches!(metric, Metric::Prefill | Metric::Memory);
    let rows = rows.into_iter().filter(|(metric, ..)| has(*metric));
    let lines = rows.map(|(metric, predicted, values, judged)| {
        let measured = Statistics::of(values);
        ComparisonLine {
            metric,
            predicted,
            measured,
            judged: judged && predicted.is_some() && measured.is_some(),
            held_to: standard(metric),
        }
    });
    Comparison {
        lines: lines.collect(),
        tolerance,
        elsewhere: false,
    }
}

/// The ledger's total, with the uncertainty of the runtime's own memory.
fn memory_spread(predicted: Predicted<'_>) -> Spread {
    let total = predicted.prompt.memory.total();
    let (below, above) = predicted.memory_slack;
    Spread {
        low: total.saturating_sub(below).as_f64(),
        expected: total.as_f64(),
        high: (total + above).as_f64(),
    }
}
