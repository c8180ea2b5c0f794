//! Predicted against measured, line by line.
//!
//! In: the plan's numbers and a measurement. Out: [`Comparison`]. Pure: the error of a line is
//! predicted / measured - 1 in percent, so that a positive one means "predicted too much".

use super::measured::{Measured, Quantity, Statistics};
use super::watch::Watched;
use crate::device::DeviceProfile;
use crate::plan::Plan;
use crate::plan::speed::{Bound, Spread};
use crate::units::Bytes;

/// A prompt shorter than this says little about the rate of reading one: it is shown, not judged.
pub const LEAST_PROMPT: u64 = 32;

/// One quantity, predicted and measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Which.
    pub quantity: Quantity,
    /// Low, expected and high; `None` where the plan has no number.
    pub predicted: Option<Spread>,
    /// Over the repeats; `None` where nothing was measured, or nothing that can be.
    pub measured: Option<Statistics>,
    /// Whether the verdict depends on it.
    pub judged: bool,
    /// What it is held to, if it does.
    pub held_to: Standard,
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standard {
    /// The expected value, within the tolerance.
    #[default]
    Tolerance,
    /// The predicted range too: most of the figure is the runtime's own and little the model's, and how much that
    /// is the range says.
    Range,
}

/// All that could be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// One line a quantity.
    pub lines: Vec<Line>,
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

/// The peak of memory by the ways there are to see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeakMemory {
    /// What the process held at once, mapped files included.
    pub resident: Option<Bytes>,
    /// How far `MemAvailable` fell: on a Jetson the GPU's share is in no process.
    pub available_drop: Option<Bytes>,
    /// How far tegrastats' figure rose.
    pub tegrastats_rise: Option<Bytes>,
    /// What the engine says.
    pub engine: Option<Bytes>,
    /// How often the program was looked at, if it ended before much could be seen.
    pub short: Option<u32>,
}

/// A way to see the peak of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// [`PeakMemory::resident`].
    Resident,
    /// [`PeakMemory::available_drop`].
    AvailableDrop,
    /// [`PeakMemory::tegrastats_rise`].
    TegrastatsRise,
    /// [`PeakMemory::engine`].
    Engine,
}

impl Figure {
    /// In words that follow a number of bytes.
    pub fn words(self) -> &'static str {
        match self {
            Figure::Resident => "resident in the process",
            Figure::AvailableDrop => "fall of MemAvailable",
            Figure::TegrastatsRise => "rise of tegrastats' RAM",
            Figure::Engine => "by the engine's account",
        }
    }

    /// Whether the weights of a model are in it: a GPU's are in no process, a processor's may be mapped
    /// files, which are free memory still.
    pub(super) fn has_weights(self, on_gpu: bool) -> bool {
        match self {
            Figure::Resident => !on_gpu,
            Figure::AvailableDrop | Figure::TegrastatsRise => on_gpu,
            Figure::Engine => true,
        }
    }
}

impl PeakMemory {
    /// What `watched` and `measured` tell. `from_start` says that the model was loaded in that time:
    /// otherwise a fall of free memory does not show it.
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
    pub fn figures(&self) -> [(Figure, Option<Bytes>); 4] {
        let mut copy = *self;
        copy.figures_mut().map(|(figure, bytes)| (figure, *bytes))
    }

    pub(super) fn figures_mut(&mut self) -> [(Figure, &mut Option<Bytes>); 4] {
        [
            (Figure::Resident, &mut self.resident),
            (Figure::AvailableDrop, &mut self.available_drop),
            (Figure::TegrastatsRise, &mut self.tegrastats_rise),
            (Figure::Engine, &mut self.engine),
        ]
    }

    /// The figure that the plan's total is held against: on a board whose GPU shares the memory the
    /// fall of what is available, elsewhere what the process held.
    pub fn compared(&self, device: &DeviceProfile) -> Option<Bytes> {
        if device.gpu.is_some() {
            self.available_drop.or(self.engine)
        } else {
            self.resident.or(self.engine)
        }
    }
}

impl Line {
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

    /// How far repeats were apart: the standard deviation in percent of the mean. `None` of fewer than
    /// two.
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
    pub fn judged(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.judged)
    }

    /// The judged lines beyond the tolerance.
    pub fn off(&self) -> impl Iterator<Item = &Line> {
        let beyond = |percent: f64| percent.abs() > self.tolerance;
        let allowed = |line: &Line| line.held_to == Standard::Range && line.in_range();
        self.judged()
            .filter(move |line| line.error_percent().is_some_and(beyond) && !allowed(line))
    }

    /// The same of a run on another machine.
    #[must_use]
    pub fn elsewhere(mut self) -> Comparison {
        self.elsewhere = true;
        for line in &mut self.lines {
            line.judged = false;
        }
        self
    }

    /// The line of a quantity.
    pub fn line(&self, quantity: Quantity) -> Option<&Line> {
        self.lines.iter().find(|line| line.quantity == quantity)
    }
}

/// Sets what was predicted against what was measured; `memory` is the peak to compare with.
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
    // Little but what the runtime does by itself takes time, or memory.
    let hurries = decode.is_some_and(|decode| decode.bound == Bound::Overhead);
    let ledger = &predicted.prompt.memory;
    let is_small = ledger.runtime > ledger.total().saturating_sub(ledger.runtime);
    let standard = |quantity| match quantity {
        Quantity::Memory if is_small => Standard::Range,
        Quantity::Decode | Quantity::Prefill | Quantity::FirstToken if hurries => Standard::Range,
        _ => Standard::Tolerance,
    };
    let is_prompt = measured
        .prompt_tokens
        .is_some_and(|tokens| tokens >= LEAST_PROMPT);
    let memory = memory.map(|bytes| vec![bytes.as_f64()]).unwrap_or_default();
    let rows = [
        (
            Quantity::Decode,
            decode.map(|d| d.tokens_per_second),
            measured.decode.as_slice(),
            true,
        ),
        (
            Quantity::Prefill,
            prompt.map(|p| p.tokens_per_second),
            measured.prefill.as_slice(),
            is_prompt,
        ),
        (
            Quantity::FirstToken,
            prompt.map(|p| p.time_to_first_token),
            measured.first_token.as_slice(),
            is_prompt,
        ),
        (
            Quantity::Memory,
            Some(memory_spread(predicted)),
            memory.as_slice(),
            true,
        ),
    ];
    let lines = rows
        .into_iter()
        .map(|(quantity, predicted, values, judged)| {
            let measured = Statistics::of(values);
            Line {
                quantity,
                predicted,
                measured,
                judged: judged && predicted.is_some() && measured.is_some(),
                held_to: standard(quantity),
            }
        });
    Comparison {
        lines: lines.collect(),
        tolerance,
        elsewhere: false,
    }
}

/// The ledger's total, with the runtime's own memory as uncertain as its profile says.
fn memory_spread(predicted: Predicted<'_>) -> Spread {
    let total = predicted.prompt.memory.total();
    let (below, above) = predicted.memory_slack;
    Spread {
        low: total.saturating_sub(below).as_f64(),
        expected: total.as_f64(),
        high: (total + above).as_f64(),
    }
}
