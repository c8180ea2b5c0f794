//! Does it fit, how much context, how fast: one plan per scheme, and the scheme to take.

use crate::device::{Cpu, DeviceProfile, L4tRelease, PowerMode};
use crate::dtype::Dtype;
use crate::evidence::{Asked, Evidence, evidence};
use crate::model::ModelSpec;
use crate::note::Note;
use crate::plan::cpu;
use crate::plan::memory::{Ledger, ledger};
use crate::plan::operations::{decode_operations, prompt_attention};
use crate::plan::speed::{self, Estimate, Gpu, Prompt, PromptEstimate, Spread};
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::runtime::learned::{Factor, Learned};
use crate::scheme::{Assignment, Scheme};
use crate::sourced::Trust;
use crate::units::{Bytes, BytesPerSecond, Hertz};

/// What a model is planned against.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The board.
    pub device: &'a DeviceProfile,
    /// Its power mode.
    pub mode: &'a PowerMode,
    /// Its L4T release, if known: it decides how large one allocation may be.
    pub release: Option<L4tRelease>,
    /// The runtime.
    pub runtime: &'a RuntimeProfile,
}

/// The plans of one model.
#[derive(Clone, Debug, Default)]
pub struct Fit {
    /// One per scheme, in the order they were asked for.
    pub plans: Vec<Plan>,
    /// Index of the scheme to take, if one fits.
    pub recommended: Option<usize>,
}

/// Tokens that an answer has at least, if it is to be one.
const LEAST_ANSWER: u64 = 64;

/// The scheme that most people take.
const USUAL: &str = "q4_k_m";

/// Whether a plan fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Fits,
    /// It does not.
    DoesNotFit,
}

/// One scheme's plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The types.
    pub assignment: Assignment,
    /// Whether it fits with the context asked for.
    pub verdict: Verdict,
    /// Sum of the text model's tensors.
    pub tensor_bytes: Bytes,
    /// The whole file, header and padding included.
    pub file_bytes: Bytes,
    /// Tensor bits over published weights.
    pub bits_per_weight: f64,
    /// The largest total context that fits, capped by the model's own limit; 0 if none does.
    pub max_context: u64,
    /// What holds memory.
    pub memory: Ledger,
    /// What there is.
    pub available: Bytes,
    /// How fast, where the device's bandwidth is known.
    pub speeds: Option<Speeds>,
    /// Caveats.
    pub notes: Vec<Note>,
}

/// How fast a plan runs.
#[derive(Clone, Debug)]
pub struct Speeds {
    /// Decoding at a depth of the workload's prompt.
    pub decode: Estimate,
    /// Reading that prompt.
    pub prefill: PromptEstimate,
    /// What rests on published measurements; `None` where this machine was measured itself.
    pub published: Option<Published>,
}

/// What stands behind a decode rate of a GPU, and what a better one would bring.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The expected rate with twice the memory bandwidth, over the one expected.
    pub twice_the_bandwidth: f64,
    /// The expected rate at twice the GPU clock, over the one expected.
    pub twice_the_clock: f64,
    /// The measurements behind the rate.
    pub evidence: Evidence,
}

impl Fit {
    /// The plan to take, if one fits.
    pub fn recommended(&self) -> Option<&Plan> {
        self.recommended.and_then(|index| self.plans.get(index))
    }

    /// The plan that the user most likely wants, whether it fits or not: the usual choice among
    /// several, else the first.
    pub fn wanted(&self) -> Option<&Plan> {
        let mut plans = self.plans.iter();
        plans
            .find(|plan| plan.assignment.scheme == USUAL)
            .or_else(|| self.plans.first())
    }
}

impl Plan {
    /// Free memory that remains; negative by what is missing.
    pub fn headroom(&self) -> i64 {
        self.available.0 as i64 - self.memory.total().0 as i64
    }

    /// Whether it fits.
    pub fn fits(&self) -> bool {
        self.verdict == Verdict::Fits
    }

    /// Why it does not fit although there is room for it: a cache that the runtime does not have, or an
    /// allocation that the driver refuses.
    pub fn refusal(&self) -> Option<&Note> {
        let has_room = self.memory.total() <= self.available;
        let refuses = |note: &&Note| matches!(note, Note::Kv(_) | Note::Allocation { .. });
        let mut notes = self.notes.iter().filter(|_| has_room && !self.fits());
        notes.find(refuses)
    }
}

/// A type for every tensor, with the size of the file that holds them.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The types.
    pub assignment: Assignment,
    /// The size of the file, and whether the tokenizer's part of it is known.
    pub file_bytes: Bytes,
    /// Notes that belong to the candidate whatever the board.
    pub notes: Vec<Note>,
}

/// Plans every candidate of `model` on `target` under `workload`.
pub fn fit(
    model: &ModelSpec,
    candidates: Vec<Candidate>,
    target: Target<'_>,
    workload: &Workload,
) -> Fit {
    let plans: Vec<Plan> = candidates
        .into_iter()
        .map(|candidate| plan(model, candidate, target, workload))
        .collect();
    let recommended = recommend(&plans);
    Fit { plans, recommended }
}

/// Memory the model may use: the budget or what the board has left, minus the reserve.
pub fn available(device: &DeviceProfile, workload: &Workload) -> Bytes {
    let pool = workload
        .budget
        .unwrap_or_else(|| device.available(workload.session));
    pool.saturating_sub(workload.reserve)
}

fn plan(model: &ModelSpec, candidate: Candidate, target: Target<'_>, workload: &Workload) -> Plan {
    let Candidate {
        assignment,
        file_bytes,
        mut notes,
    } = candidate;
    let memory = ledger(model, &assignment, target.runtime, workload);
    let available = available(target.device, workload);
    let speeds = speeds(model, &assignment, target, workload);
    notes.extend(self_evident(model, &assignment, &memory, target, workload));
    // What is too large altogether needs no word on its allocations.
    if memory.total() <= available {
        notes.extend(allocation_note(&memory, target));
        notes.extend(tight_note(&memory, available, target));
    }
    let fits = holds(&memory, available, target);
    let tensor_bytes = assignment.tensor_bytes();
    let max_context = max_context(model, &assignment, target, workload);
    Plan {
        verdict: if fits {
            Verdict::Fits
        } else {
            Verdict::DoesNotFit
        },
        tensor_bytes,
        file_bytes,
        bits_per_weight: tensor_bytes.as_f64() * 8.0 / (model.parameters.max(1) as f64),
        max_context,
        memory,
        available,
        speeds,
        notes,
        assignment,
    }
}

/// Whether a ledger fits: all of it, with a cache that the runtime has, and no allocation that the
/// driver refuses on the release at hand or, where that is not known, on current ones.
pub(super) fn holds(memory: &Ledger, available: Bytes, target: Target<'_>) -> bool {
    let granted = match allocation_note(memory, target) {
        Some(Note::Allocation { lifted, .. }) => lifted.is_some() && target.release.is_none(),
        _ => true,
    };
    memory.total() <= available && memory.kv_problem.is_none() && granted
}

/// The largest total context whose ledger fits, by bisection: the ledger never shrinks as context
/// grows. Capped by the model's own limit for each sequence; 0 if not even one multiple fits.
pub fn max_context(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> u64 {
    let available = available(target.device, workload);
    let step = target.runtime.memory.context_multiple.value.max(1) * workload.parallel.max(1);
    let limit = match model.dims.context {
        0 => workload.context,
        limit => limit.saturating_mul(workload.parallel.max(1)),
    };
    let fits = |context: u64| {
        let memory = ledger(
            model,
            assignment,
            target.runtime,
            &workload.with_context(context),
        );
        holds(&memory, available, target)
    };
    // A limit that is no multiple is padded by the runtime all the same, so it may be the answer.
    if fits(limit) {
        return limit;
    }
    // Nor need a search begin where the weights alone are too much.
    if !fits(step) {
        return 0;
    }
    let (mut fitting, mut failing) = (1, limit.div_ceil(step));
    while failing - fitting > 1 {
        let middle = fitting + (failing - fitting) / 2;
        if fits(middle * step) {
            fitting = middle
        } else {
            failing = middle
        }
    }
    fitting * step
}

fn speeds(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Speeds> {
    let layers = model.layers.len() as u64;
    let operations = decode_operations(model, assignment, workload);
    let speed = &target.runtime.speed;
    let prompt = Prompt {
        tokens: workload.prompt_tokens,
        ubatch: workload.ubatch,
        attention_macs: prompt_attention(model, workload.prompt_tokens),
    };
    let speeds = match (gpu(target.mode), measured_cpu(target)) {
        (_, Some(cpu)) if !cpu::unmeasured(&operations, cpu).is_empty() => return None,
        (_, Some(cpu)) => {
            let own = cpu.runtime == target.runtime.id;
            let machine = cpu::Machine { cpu, own, layers };
            Speeds {
                decode: cpu::decode(&operations, workload.parallel, machine),
                prefill: cpu::prefill(&operations, prompt, machine),
                published: None,
            }
        }
        (Some(now), None) => {
            let decode =
                |gpu: Gpu| speed::decode(&operations, layers, workload.parallel, &gpu, speed);
            let asked = Asked {
                board: &target.device.id,
                power_mode: &target.mode.name,
                scheme: &assignment.scheme,
                bytes: assignment.tensor_bytes().0,
            };
            let here = decode(now);
            let expected = here.tokens_per_second.expected.max(f64::MIN_POSITIVE);
            let gain = |gpu: Gpu| decode(gpu).tokens_per_second.expected / expected;
            Speeds {
                prefill: speed::prefill(&operations, layers, prompt, &now, speed),
                published: Some(Published {
                    twice_the_bandwidth: gain(Gpu {
                        bandwidth: BytesPerSecond(now.bandwidth.0 * 2.0),
                        ..now
                    }),
                    twice_the_clock: gain(Gpu {
                        clock: Hertz(now.clock.0 * 2.0),
                        ..now
                    }),
                    evidence: evidence(target.runtime, asked),
                }),
                decode: here,
            }
        }
        (None, None) => return None,
    };
    Some(match &target.runtime.learned {
        Some(learned) => taught(speeds, learned),
        None => speeds,
    })
}

/// Decode rates of a plan by power mode of its board, slowest mode first. What runs have taught holds
/// for their own mode. Empty where the mode planned for is none of the board's, or no rate is known.
pub fn decode_by_mode<'a>(
    model: &ModelSpec,
    plan: &Plan,
    target: Target<'a>,
    workload: &Workload,
) -> Vec<(&'a str, Spread)> {
    let modes = &target.device.modes;
    if !modes.iter().any(|mode| mode.name == target.mode.name) {
        return Vec::new();
    }
    let untaught = RuntimeProfile {
        learned: None,
        ..target.runtime.clone()
    };
    let rate = |mode: &'a PowerMode| {
        let speeds = if mode.name == target.mode.name {
            plan.speeds.clone()
        } else {
            let runtime = &untaught;
            let other = Target {
                mode,
                runtime,
                ..target
            };
            speeds_at(model, plan, other, workload)
        };
        Some((mode.name.as_str(), speeds?.decode.tokens_per_second))
    };
    modes.iter().filter_map(rate).collect()
}

/// How fast the same plan is at another depth, with another number of sequences or another prompt:
/// `workload` says which. `None` where the device's speed is not known.
pub fn speeds_at(
    model: &ModelSpec,
    plan: &Plan,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Speeds> {
    speeds(model, &plan.assignment, target, workload)
}

/// Speeds as runs on the device have shown them to be: moved by their factors, and as uncertain as
/// those runs were apart. Never above the ceiling.
fn taught(mut speeds: Speeds, learned: &Learned) -> Speeds {
    let rates = |spread: Spread, factor: &Option<Factor>, ceiling: f64| {
        let Some(factor) = factor else {
            return spread;
        };
        let expected = (spread.expected * factor.value).min(ceiling);
        Spread {
            low: expected / factor.spread,
            expected,
            high: (expected * factor.spread).clamp(expected, ceiling.max(expected)),
        }
    };
    let decode = &mut speeds.decode;
    decode.tokens_per_second = rates(decode.tokens_per_second, &learned.decode, decode.ceiling);
    let prefill = &mut speeds.prefill;
    let before = prefill.tokens_per_second;
    prefill.tokens_per_second = rates(before, &learned.prefill, prefill.ceiling);
    // The first token waits for the prompt: its time moves with the rate.
    let scale = before.expected / prefill.tokens_per_second.expected.max(f64::MIN_POSITIVE);
    if let Some(factor) = &learned.prefill {
        let expected = prefill.time_to_first_token.expected * scale;
        prefill.time_to_first_token = Spread {
            low: expected / factor.spread,
            expected,
            high: expected * factor.spread,
        };
    }
    speeds
}

/// The measured processors, where the runtime uses them: on a machine without a GPU, or if they were
/// measured with this very runtime.
fn measured_cpu(target: Target<'_>) -> Option<&Cpu> {
    let cpu = target.device.cpu.as_ref()?;
    (gpu(target.mode).is_none() || cpu.runtime == target.runtime.id).then_some(cpu)
}

/// The GPU as a power mode runs it, if its clock, its SMs and its bandwidth are known.
pub fn gpu(mode: &PowerMode) -> Option<Gpu> {
    let sms = u32::try_from(mode.sm_count.as_ref()?.value).ok()?;
    Some(Gpu::sm87(
        sms,
        mode.gpu.as_ref()?.value,
        mode.bandwidth.as_ref()?.value,
    ))
}

/// Notes that follow from the numbers.
fn self_evident(
    model: &ModelSpec,
    assignment: &Assignment,
    memory: &Ledger,
    target: Target<'_>,
    workload: &Workload,
) -> Vec<Note> {
    let runtime = target.runtime;
    let mut notes = Vec::new();
    notes.extend(model.assumed.map(|as_if| Note::AssumedCache {
        as_if: as_if.to_owned(),
    }));
    if assignment.fallbacks() > 0 {
        notes.push(Note::ShapeFallback {
            tensors: assignment.fallbacks(),
            names: Vec::new(),
        });
    }
    if memory.duplicated_embedding > Bytes(0) {
        let bytes = memory.duplicated_embedding;
        notes.push(Note::DuplicatedEmbedding {
            bytes,
            runtime: runtime.name.clone(),
        });
    }
    let is_fp8 = |dtype| matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2);
    if runtime.loads.fp8_storage_only && assignment.tensors.iter().any(|t| is_fp8(t.dtype)) {
        notes.push(Note::Fp8StorageOnly);
    }
    notes.extend(memory.kv_problem.clone().map(Note::Kv));
    if workload.type_k.is_quantized() || workload.type_v.is_quantized() {
        let dtype = if workload.type_k.is_quantized() {
            workload.type_k
        } else {
            workload.type_v
        };
        notes.push(Note::QuantizedCache { dtype });
    }
    let sequence = workload.context / workload.parallel.max(1);
    let room = sequence.saturating_sub(workload.prompt_tokens);
    if workload.parallel > 1 && room < LEAST_ANSWER {
        notes.push(Note::ShortSequences {
            context: sequence,
            parallel: workload.parallel,
            prompt: workload.prompt_tokens,
        });
    }
    let limit = model.dims.context.saturating_mul(workload.parallel.max(1));
    if limit > 0 && workload.context > limit {
        notes.push(Note::BeyondModelContext {
            limit: model.dims.context,
        });
    }
    let all = target.device.total_memory.value;
    if let Some(budget) = workload.budget.filter(|budget| *budget > all) {
        notes.push(Note::BudgetBeyondMemory {
            budget,
            memory: all,
            device: target.device.name.clone(),
        });
    }
    let towers: Bytes = model.towers.iter().map(|tower| tower.bytes).sum();
    if towers > Bytes(0) && !workload.text_only {
        notes.push(Note::Towers { bytes: towers });
    }
    notes.extend(model.left_out.iter().copied().map(Note::LeftOut));
    match (gpu(target.mode), measured_cpu(target)) {
        (None, None) => notes.push(Note::SpeedUnknown {
            device: target.device.name.clone(),
        }),
        (_, Some(cpu)) if !unmeasured(model, assignment, cpu, workload).is_empty() => {
            notes.push(Note::FormatUnmeasured {
                formats: unmeasured(model, assignment, cpu, workload),
                date: cpu.date.clone(),
            });
        }
        (_, Some(cpu)) if cpu.runtime != runtime.id && runtime.learned.is_none() => {
            notes.push(Note::OtherKernels {
                runtime: runtime.name.clone(),
                measured: cpu.runtime.clone(),
            });
        }
        (Some(_), None) if runtime.trust == Trust::None && runtime.learned.is_none() => {
            notes.push(Note::SpeedUnmeasured {
                runtime: runtime.name.clone(),
            });
        }
        _ => {}
    }
    notes.extend(runtime.learned.as_ref().map(|learned| Note::Learned {
        source: learned.source.clone(),
    }));
    if let Some(share) = &runtime.memory.pool_fraction {
        let total = target.device.total_memory.value.as_f64().max(1.0);
        let needed = (memory.total().as_f64() / total * 100.0).ceil() / 100.0;
        notes.push(Note::Pool {
            share: share.value,
            needed,
        });
    }
    notes
}

/// The formats of the model's matrices whose speed on these processors nobody measured.
fn unmeasured(
    model: &ModelSpec,
    assignment: &Assignment,
    cpu: &Cpu,
    workload: &Workload,
) -> Vec<Dtype> {
    cpu::unmeasured(&decode_operations(model, assignment, workload), cpu)
}

/// Whether what is left is less than what the runtime may take beyond the expected.
fn tight_note(memory: &Ledger, available: Bytes, target: Target<'_>) -> Option<Note> {
    let runtime = &target.runtime.memory.runtime_bytes;
    let left = available.saturating_sub(memory.total());
    let more = Bytes((runtime.high - runtime.expected).max(0.0) as u64);
    (left < more).then(|| Note::Tight {
        left,
        more,
        runtime: target.runtime.name.clone(),
    })
}

/// Whether one allocation is larger than the driver grants: on the release at hand, or on current
/// releases, or on the one release that is known for it.
fn allocation_note(memory: &Ledger, target: Target<'_>) -> Option<Note> {
    let device = target.device;
    let largest = memory.largest_allocation;
    let note = |limit: &crate::device::AllocationLimit| Note::Allocation {
        largest,
        limit: limit.largest.value,
        release: target.release.unwrap_or(limit.from),
        lifted: limit.until,
    };
    let now = device
        .largest_allocation(target.release)
        .filter(|limit| largest > limit.largest.value);
    match (now, target.release) {
        (Some(limit), _) => Some(note(limit)),
        (None, Some(_)) => None,
        (None, None) => device
            .allocation_limits
            .iter()
            .find(|limit| limit.until.is_some() && largest > limit.largest.value)
            .map(note),
    }
}

/// The scheme to take: what the file already is if it is quantized, else Q4_K_M, the usual choice;
/// where that does not fit, the best one below it that does, and where nothing below it is planned,
/// the best that fits.
fn recommend(plans: &[Plan]) -> Option<usize> {
    let rank = |plan: &Plan| {
        let quality = |id: &str| {
            crate::scheme::SCHEMES
                .iter()
                .position(|s: &Scheme| s.id == id)
        };
        let usual = quality(USUAL).unwrap_or(0);
        let stored = plan.assignment.is_stored();
        let quantized = plan.assignment.is_quantized();
        match quality(&plan.assignment.scheme) {
            _ if stored && quantized => 0,
            // A full-precision file of a type that is no scheme, F32.
            None => 2000,
            Some(own) if own >= usual => own - usual,
            // Better than the usual choice: only where that was not asked for.
            Some(own) => 1000 + own,
        }
    };
    let fitting = plans.iter().enumerate().filter(|(_, plan)| plan.fits());
    fitting
        .min_by_key(|(_, plan)| rank(plan))
        .map(|(index, _)| index)
}
