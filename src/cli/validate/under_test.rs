//! The plans of a run under test: the prediction to compare it with, the rates that are possible at most, and the rates
//! that it would have in other states of the machine.

use anyhow::Context;

use crate::device::{PowerMode, Quantity as _, WhatIf};
use crate::model::ModelSpec;
use crate::plan::fit::{Candidate, Target};
use crate::plan::operations::decode_operations;
use crate::plan::speed::{Operation, OperationGroup};
use crate::plan::{Plan, Speeds, Workload, fit};
use crate::runtime::learned::Setup;
use crate::runtime::posterior::Shares;
use crate::runtime::profile;
use crate::units::Bytes;
use crate::validate::{
    self, Comparison, Limits, Measured, PeakMemory, Predicted, RateCeiling, Suspect,
};

/// A run that is planned as it was measured: with a prompt as long as the engine counted it, and decode at the mean
/// depth of the run.
pub(in crate::cli) struct RunUnderTest<'a> {
    pub(in crate::cli) model: &'a ModelSpec,
    pub(in crate::cli) candidate: &'a Candidate,
    pub(in crate::cli) workload: &'a Workload,
    /// Tokens to generate.
    pub(in crate::cli) tokens: u64,
    /// Whether the engine allocates for the prompt that it is given; others reserve a whole ubatch.
    pub(in crate::cli) by_prompt: bool,
    /// Percent that a prediction may be off.
    pub(in crate::cli) tolerance: f64,
    /// Whether a rate as another power mode has it means that the board is in that mode. Where the rates of the mode in
    /// force are the question, it does not.
    pub(in crate::cli) other_modes: bool,
}

/// The plans of a measured run on one target.
struct Plans {
    /// With the prompt of the run: memory, prefill, first token.
    prompt: Plan,
    /// At the mean depth of its decode.
    depth: Plan,
}

/// A state in which the machine may be instead of the planned one, with the rates that it would have in it.
pub(super) struct Alternative {
    what: String,
    /// The power mode, if it is one, and the ceilings of its decode and prefill rates.
    mode: Option<(String, f64, f64)>,
    /// Decoded tokens a second.
    decode: f64,
    /// Prompt tokens a second, where known.
    prefill: Option<f64>,
}

impl Alternative {
    /// Whether it is another power mode.
    pub(super) fn is_mode(&self) -> bool {
        self.mode.is_some()
    }

    /// The same for the check of slow rates.
    pub(super) fn suspect(&self) -> Suspect {
        Suspect {
            what: self.what.clone(),
            decode: self.decode,
            prefill: self.prefill,
        }
    }
}

/// Bytes a second that an Orin's processors read in decode: models that ran there by mistake read 15 to 17 GB/s.
const PROCESSORS: f64 = 16e9;

/// Limits beyond any machine that this program plans for: bytes a second (with a GPU, and without), operations a second,
/// and decoded and prompt tokens a second for models of any size.
const MOST_BYTES: f64 = 10e12;
const MOST_BYTES_WITHOUT_GPU: f64 = 2e12;
const MOST_OPERATIONS: f64 = 4e15;
const MOST_TOKENS: f64 = 50e3;
const MOST_PROMPT_TOKENS: f64 = 10e6;

/// Processor caches may hold a small model: they are up to this many times as fast as the measured memory.
const CACHES: f64 = 4.0;

impl RunUnderTest<'_> {
    /// The plan on `target` under `workload`.
    pub(in crate::cli) fn plan(
        &self,
        target: Target<'_>,
        workload: &Workload,
    ) -> anyhow::Result<Plan> {
        let planned = fit(self.model, vec![self.candidate.clone()], target, workload);
        let mut plans = planned.plans.into_iter();
        plans.next().context("there is no plan to try")
    }

    /// The plans of what was measured, on `target`.
    fn plans(&self, target: Target<'_>, measured: &Measured) -> anyhow::Result<Plans> {
        let asked = measured
            .prompt_tokens
            .unwrap_or(self.workload.prompt_tokens);
        let ubatch = if self.by_prompt {
            self.workload.ubatch.min(asked)
        } else {
            self.workload.ubatch
        };
        let at = |prompt_tokens| {
            let workload = Workload {
                prompt_tokens,
                ubatch,
                ..self.workload.clone()
            };
            self.plan(target, &workload)
        };
        let generated = measured.generated_tokens.unwrap_or(self.tokens);
        Ok(Plans {
            prompt: at(asked)?,
            depth: at(measured.decode_depth.saturating_add(generated / 2))?,
        })
    }

    /// The prediction for `target` against what was measured.
    pub(super) fn compare(
        &self,
        target: Target<'_>,
        measured: &Measured,
        memory: PeakMemory,
    ) -> anyhow::Result<Comparison> {
        let plans = self.plans(target, measured)?;
        let own = &target.runtime.memory.runtime_bytes;
        let bytes = |bytes: f64| Bytes(bytes.max(0.0) as u64);
        let predicted = Predicted {
            prompt: &plans.prompt,
            depth: &plans.depth,
            memory_slack: (
                bytes(own.expected - own.low),
                bytes(own.high - own.expected),
            ),
        };
        let peak = memory.compared(target.device);
        Ok(validate::compare(predicted, measured, peak, self.tolerance))
    }

    /// What the run was run with, and what its decode time is predicted to consist of on `target`.
    pub(super) fn setup(
        &self,
        target: Target<'_>,
        measured: &Measured,
    ) -> anyhow::Result<(Setup, Option<Shares>)> {
        let speeds = self.plans(target, measured)?.depth.speeds;
        let asked = self.workload.prompt_tokens;
        let setup = Setup {
            prompt_tokens: measured.prompt_tokens.unwrap_or(asked),
            generated_tokens: self.tokens,
            sequences: self.workload.parallel,
        };
        Ok((setup, speeds.and_then(|speeds| speeds.decode.shares)))
    }

    /// The states to compare a slow run with: the board's other power modes, half of its GPU, its processors.
    pub(super) fn alternatives(
        &self,
        target: Target<'_>,
        measured: &Measured,
    ) -> anyhow::Result<Vec<Alternative>> {
        let mut found = Vec::new();
        if target.device.gpu.is_none() || target.runtime.backend != profile::ComputeBackend::Cuda {
            return Ok(found);
        }
        let mut add = |what: String, mode: &PowerMode, is_named: bool| -> anyhow::Result<()> {
            let plans = self.plans(Target { mode, ..target }, measured)?;
            if let (Some(prompt), Some(depth)) = (plans.prompt.speeds, plans.depth.speeds) {
                let (decode, prefill) = (depth.decode, prompt.prefill);
                found.push(Alternative {
                    what,
                    mode: is_named.then(|| (mode.name.clone(), decode.ceiling, prefill.ceiling)),
                    decode: decode.tokens_per_second.expected,
                    prefill: Some(prefill.tokens_per_second.expected),
                });
            }
            Ok(())
        };
        let planned = target.mode;
        for mode in target
            .device
            .modes
            .iter()
            .filter(|mode| mode.name != planned.name)
        {
            let memory = mode.bandwidth.as_ref().map(|rate| rate.value.show());
            let memory = memory.unwrap_or_default();
            let what = format!(
                "in {} (memory of {memory}), but the plan is for {}: `sudo nvpmodel -q` shows the current mode, --power-mode plans for one",
                mode.name, planned.name
            );
            add(what, mode, true)?;
        }
        let sms = planned.sm_count.as_ref().map_or(0, |sms| sms.value);
        if let Ok(change) = format!("sm-count={}", sms / 2).parse::<WhatIf>() {
            let (mut device, mut half) = (target.device.clone(), planned.clone());
            change.apply(&mut device, &mut half);
            // A set bit switches one of eight TPCs off, each of two SMs.
            let mask = (0xff_u64 << (sms / 2).min(8)) & 0xff;
            let what = format!(
                "with half of the GPU's {sms} SMs, as a wrong TPC mask leaves them (TPC_PG_MASK {mask} is right in {}): set the mode again with `sudo nvpmodel -m`, and reboot if it asks for that",
                planned.name
            );
            add(what, &half, false)?;
        }
        let bytes = self.step(measured).0;
        found.push(Alternative {
            what: "on the CPU, which reads about 16 GB/s: use a build with CUDA, with every layer on the GPU (-ngl 99)".to_owned(),
            mode: None,
            decode: PROCESSORS / bytes,
            prefill: None,
        });
        Ok(found)
    }

    /// Bytes that a decoded token reads, and its floating-point operations.
    fn step(&self, measured: &Measured) -> (f64, f64) {
        let workload = Workload {
            prompt_tokens: measured.decode_depth,
            ..self.workload.clone()
        };
        let operations = decode_operations(self.model, &self.candidate.assignment, &workload);
        let sum = |pick: fn(&Operation) -> u64| operations.iter().map(|one| pick(one) as f64).sum();
        let (bytes, weights): (f64, f64) = (sum(|one| one.bytes), sum(|one| one.weights));
        (bytes.max(1.0), weights.max(1.0) * 2.0)
    }

    /// Bytes of the weights that every token reads, of experts those that one token takes.
    fn weights_read(&self) -> Bytes {
        let operations = decode_operations(self.model, &self.candidate.assignment, self.workload);
        let state = [OperationGroup::KvCache, OperationGroup::Recurrent];
        let weights = operations.iter().filter(|one| !state.contains(&one.group));
        Bytes(weights.map(|one| one.bytes).sum())
    }

    /// The most that the machine can reach: the ceilings of its plan, or else those of any machine.
    pub(super) fn limits(
        &self,
        target: Target<'_>,
        measured: &Measured,
        alternatives: &[Alternative],
    ) -> anyhow::Result<Limits> {
        let plans = self.plans(target, measured)?;
        let (bytes, operations) = self.step(measured);
        let most =
            |ceiling: Option<f64>, any: f64, other: fn(&Alternative) -> Option<(String, f64)>| {
                let of = format!("{} in {}", target.device.name, target.mode.name);
                let (rate, of) = match ceiling.filter(|ceiling| *ceiling < any) {
                    Some(ceiling) => (ceiling, of),
                    None => (any, "any machine".to_owned()),
                };
                let faster = alternatives.iter().filter_map(other);
                RateCeiling {
                    rate,
                    of,
                    elsewhere: faster.max_by(|a, b| a.1.total_cmp(&b.1)),
                }
            };
        // A server may be elsewhere; then its machine is named with --device.
        let most_bytes = if target.device.gpu.is_some() {
            MOST_BYTES
        } else {
            MOST_BYTES_WITHOUT_GPU
        };
        // The ceiling of measured processors is that of their memory; caches may exceed it.
        let ceiling = |plan: &Plan, pick: fn(&Speeds) -> f64| {
            let speeds = plan.speeds.as_ref()?;
            let factor = if speeds.published.is_some() {
                1.0
            } else {
                CACHES
            };
            Some(pick(speeds) * factor)
        };
        Ok(Limits {
            decode: most(
                ceiling(&plans.depth, |speeds| speeds.decode.ceiling),
                (most_bytes / bytes).min(MOST_TOKENS),
                |other| other.mode.clone().map(|(name, decode, _)| (name, decode)),
            ),
            prefill: most(
                ceiling(&plans.prompt, |speeds| speeds.prefill.ceiling),
                (MOST_OPERATIONS / operations).min(MOST_PROMPT_TOKENS),
                |other| other.mode.clone().map(|(name, _, prefill)| (name, prefill)),
            ),
            memory: target.device.total_memory.value,
            has_gpu: target.device.gpu.is_some(),
            weights: self.weights_read(),
        })
    }
}
