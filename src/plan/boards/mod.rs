//! A model on several boards: llama.cpp's RPC engine, where each board computes a run of blocks after the one before it.
//!
//! In: a model in a format, the boards in the order of their blocks, the link between them. Out: a [`Split`]: blocks,
//! memory and time of each board, bytes on the wire, rates with their ranges. Boards take turns: while one computes a
//! step, the others wait.

mod advise;
mod split;
mod stage;
mod wire;

use crate::evidence::boards::{Link, handling};
use crate::model::ModelSpec;
use crate::plan::fit::Target;
use crate::plan::memory::{Ledger, RuntimeBytes};
use crate::plan::rates::inverse;
use crate::plan::speed::{Spread, rate};
use crate::plan::workload::Workload;
use crate::runtime::profile::Range;
use crate::scheme::Assignment;
use crate::units::{Bytes, Seconds};

pub use advise::{Asked, BoardsAdvice, advise};
use split::{Costs, Times};
pub use stage::{Buffers, RemoteTraffic, Stage, Whole};
pub use wire::Traffic;

/// Where the server runs, which coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerPlace {
    /// On the board with the last blocks, so that logits stay there.
    #[default]
    Last,
    /// On the board with the first blocks.
    First,
    /// On a machine beside the boards.
    Apart,
}

/// The boards, and what connects them.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The boards in the order of their blocks.
    pub targets: &'a [Target<'a>],
    /// The link between any two.
    pub link: &'a Link,
    /// Where the server runs.
    pub server: ServerPlace,
    /// Blocks of each board, if they are given.
    pub layers: Option<&'a [usize]>,
}

/// A model in one format on several boards.
#[derive(Clone, Debug)]
pub struct Split {
    /// One for each board.
    pub stages: Vec<Stage>,
    /// What the server takes where it runs beside the boards.
    pub apart: Option<Ledger>,
    /// The server's buffers in the memory of its processor.
    pub server_buffers: Buffers,
    /// The largest total context with which this division fits, or any where this one does not; 0 if none does.
    pub max_context: u64,
    /// Rates, where they are known.
    pub rates: Option<SplitRates>,
    /// Until all weights are on their boards for the first time.
    pub first_load: Seconds,
}

/// How fast a model on several boards is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitRates {
    /// Seconds of a decode step of all sequences: `low` is the fast end.
    pub step: Spread,
    /// Tokens a second over all sequences.
    pub decode: Spread,
    /// Seconds of a step beyond the boards' own work: link and handling.
    pub overhead: Spread,
    /// Tokens a second if no board ever waited for another: what a pipeline with enough sequences in flight may reach,
    /// and llama.cpp, which decodes all of them as one batch, does not.
    pub all_busy: f64,
    /// Seconds from the request to the first token.
    pub first_token: Spread,
    /// Prompt tokens a second.
    pub prefill: Spread,
}

impl Cluster<'_> {
    /// The place of the server among the boards.
    pub fn server_at(&self) -> Option<usize> {
        match self.server {
            ServerPlace::Last => self.targets.len().checked_sub(1),
            ServerPlace::First => Some(0),
            ServerPlace::Apart => None,
        }
    }

    /// Plans a model in a format on the boards.
    pub fn split(&self, model: &ModelSpec, assignment: &Assignment, workload: &Workload) -> Split {
        let whole = Whole {
            model,
            assignment,
            workload,
        };
        let block_times = Times::of(&whole, self.targets);
        let stages = self.stages(&whole, &block_times);
        let runtime = self.targets.first().map(|target| target.runtime);
        let apart = runtime.filter(|_| self.server == ServerPlace::Apart);
        let load: Bytes = stages
            .iter()
            .filter_map(|stage| stage.remote.map(|remote| remote.load))
            .sum();
        Split {
            server_buffers: runtime.map_or(Buffers::default(), |runtime| whole.server(runtime).1),
            apart: apart.map(|runtime| {
                let server = whole.server(runtime).0;
                Ledger {
                    runtime: RuntimeBytes::of(runtime, model, workload),
                    ..server
                }
            }),
            max_context: self.max_context(&whole, &block_times, &stages),
            rates: self.rates(&whole, &stages),
            first_load: Seconds(self.link.seconds(load)),
            stages,
        }
    }

    /// What each board has.
    fn stages(&self, whole: &Whole<'_>, block_times: &Times) -> Vec<Stage> {
        let server = self.server_at();
        let counts = match self.layers {
            Some(counts) => counts.to_vec(),
            None => Costs::of(whole, self.targets, server, block_times).divide(),
        };
        let mut first = 0;
        let each = self.targets.iter().zip(counts).enumerate();
        let stages = each.map(|(index, (&target, count))| {
            let layers = first..first + count;
            first = layers.end;
            whole.stage(target, layers, server == Some(index))
        });
        stages.collect()
    }

    /// The largest total context with which all boards have room, by bisection.
    fn max_context(&self, whole: &Whole<'_>, block_times: &Times, stages: &[Stage]) -> u64 {
        let parallel = whole.workload.parallel.max(1);
        let step = self.targets.first().map_or(1, |target| {
            target.runtime.memory.context_multiple.value.max(1)
        }) * parallel;
        let limit = match whole.model.dims.context {
            0 => whole.workload.context,
            limit => limit.saturating_mul(parallel),
        };
        // What is printed divides so, whatever the context.
        let is_kept = !stages.is_empty() && stages.iter().all(|stage| stage.fits);
        let counts: Vec<usize> = stages.iter().map(|stage| stage.layers.len()).collect();
        let kept = Cluster {
            layers: if is_kept { Some(&counts) } else { self.layers },
            ..*self
        };
        let fits = |context: u64| {
            let workload = whole.workload.with_context(context);
            let grown = Whole {
                workload: &workload,
                ..*whole
            };
            let stages = kept.stages(&grown, block_times);
            !stages.is_empty() && stages.iter().all(|stage| stage.fits)
        };
        if stages.is_empty() || !fits(step) {
            return 0;
        }
        if fits(limit) {
            return limit;
        }
        let (mut fitting, mut failing) = (1, limit.div_ceil(step));
        while failing - fitting > 1 {
            let middle = fitting + (failing - fitting) / 2;
            if fits(middle * step) {
                fitting = middle;
            } else {
                failing = middle;
            }
        }
        fitting * step
    }

    fn rates(&self, whole: &Whole<'_>, stages: &[Stage]) -> Option<SplitRates> {
        if stages.is_empty() {
            return None;
        }
        let workload = whole.workload;
        let seconds: Option<Vec<_>> = stages.iter().map(|stage| stage.seconds).collect();
        let seconds = seconds?;
        let remote = || stages.iter().filter_map(|stage| stage.remote);
        let passes = workload
            .prompt_tokens
            .saturating_sub(workload.cached_tokens)
            .max(1)
            .div_ceil(workload.ubatch.max(1)) as f64;
        let overhead = self.overhead(remote().map(|remote| remote.step), 1.0);
        let wired = self.overhead(remote().map(|remote| remote.prompt), passes);
        let speed = &self.targets.first()?.runtime.speed;
        // Where the server runs on a board, the work of the host is in that board's step.
        let host = match self.server {
            ServerPlace::Apart => seconds_of(&speed.host_seconds),
            ServerPlace::Last | ServerPlace::First => NO_TIME,
        };
        let steps = seconds.iter().map(|seconds| seconds.step);
        let step = steps.fold(added(overhead, host), added);
        let prompts = seconds.iter().map(|seconds| seconds.prompt);
        let prompt = prompts.fold(wired, added);
        let tokens = workload.prompt_tokens.max(1) as f64;
        let request = seconds_of(&speed.prefill.request_seconds);
        Some(SplitRates {
            decode: inverse(workload.parallel.max(1) as f64, step),
            prefill: inverse(tokens, prompt),
            first_token: added(prompt, request),
            all_busy: self.all_busy(whole, stages)?,
            step,
            overhead,
        })
    }

    /// Seconds on the link and of handling it, for so many exchanges with each board.
    fn overhead(&self, traffic: impl Iterator<Item = Traffic>, exchanges: f64) -> Spread {
        let handled = handling().map_or(NO_TIME, seconds_of);
        traffic.fold(NO_TIME, |sum, traffic| {
            let link = self.link.seconds(traffic.total()) + self.link.round_trip.0 * exchanges;
            let wire = Spread {
                low: link,
                expected: link,
                high: link,
            };
            added(sum, added(wire, times(handled, exchanges)))
        })
    }

    /// Tokens a second if the sequences went round in as many groups as there are boards, so that none waits.
    fn all_busy(&self, whole: &Whole<'_>, stages: &[Stage]) -> Option<f64> {
        let sequences = whole.workload.parallel.max(1);
        let groups = (stages.len() as u64).min(sequences);
        let workload = Workload {
            parallel: sequences.div_ceil(groups),
            ..whole.workload.clone()
        };
        let group = Whole {
            workload: &workload,
            ..*whole
        };
        let each = self.targets.iter().zip(stages);
        let stages: Vec<Stage> = each
            .map(|(&target, stage)| group.stage(target, stage.layers.clone(), stage.is_server))
            .collect();
        let slow = |stage: &Stage| {
            let wire = self.overhead(stage.remote.iter().map(|remote| remote.step), 1.0);
            Some(stage.seconds?.step.expected + wire.expected)
        };
        let each: Option<Vec<f64>> = stages.iter().map(slow).collect();
        let each = each?;
        let slowest = each.iter().copied().fold(0.0, f64::max);
        // A group comes round no sooner than it has passed all boards.
        let round = (groups as f64 * slowest).max(each.iter().sum());
        Some(rate(sequences as f64, round))
    }
}

impl Split {
    /// Whether every board has room for its part.
    pub fn fits(&self) -> bool {
        !self.stages.is_empty() && self.stages.iter().all(|stage| stage.fits)
    }

    /// What `--tensor-split` gets: blocks of each board, those behind the last that draft tokens and the head with them.
    /// llama.cpp then divides exactly so (`llama_model_base::load_tensors`).
    pub fn tensor_split(&self, model: &ModelSpec) -> Vec<u64> {
        let mut counts: Vec<u64> = self
            .stages
            .iter()
            .map(|stage| stage.layers.len() as u64)
            .collect();
        if let Some(last) = counts.last_mut() {
            *last += model.ahead + 1;
        }
        counts
    }

    /// Bytes on the wire in a decode step, to and from all boards together.
    pub fn step_traffic(&self) -> Bytes {
        let remote = self.stages.iter().filter_map(|stage| stage.remote);
        remote.map(|remote| remote.step.total()).sum()
    }

    /// Bytes that the boards get until all weights are there.
    pub fn load_bytes(&self) -> Bytes {
        let remote = self.stages.iter().filter_map(|stage| stage.remote);
        remote.map(|remote| remote.load).sum()
    }
}

/// No time at all.
const NO_TIME: Spread = Spread {
    low: 0.0,
    expected: 0.0,
    high: 0.0,
};

/// A range of seconds: `low` is the fast end.
fn seconds_of(range: &Range) -> Spread {
    Spread {
        low: range.low,
        expected: range.expected,
        high: range.high,
    }
}

fn added(one: Spread, other: Spread) -> Spread {
    Spread {
        low: one.low + other.low,
        expected: one.expected + other.expected,
        high: one.high + other.high,
    }
}

fn times(spread: Spread, count: f64) -> Spread {
    Spread {
        low: spread.low * count,
        expected: spread.expected * count,
        high: spread.high * count,
    }
}
