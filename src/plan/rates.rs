//! How fast a plan runs: on the GPU by the runtime's speed model, on measured processors by their calibration, either
//! corrected by what runs on the device showed.

use crate::device::{Cpu, PowerMode};
use crate::dtype::Dtype;
use crate::evidence::{Evidence, EvidenceQuery, Rated, Shape, evidence};
use crate::model::ModelSpec;
use crate::plan::cpu;
use crate::plan::energy::{self, ModeEnergy};
use crate::plan::operations::{
    cache_operations, decode_operations, operations_of, prompt_work, prompt_work_of,
};
use crate::plan::part::ModelPart;
use crate::plan::projector;
use crate::plan::speed::{
    self, ClockedGpu, DecodeEstimate, Operation, OperationGroup, PromptEstimate, Spread, finite,
};
use crate::plan::target::{Target, gpu, measured_cpu};
use crate::plan::workload::Workload;
use crate::runtime::learned::{Factor, Learned};
use crate::runtime::profile::ComputeRule;
use crate::scheme::Assignment;
use crate::units::{BytesPerSecond, Hertz};

/// How fast a plan runs.
#[derive(Clone, Debug)]
pub struct Speeds {
    /// Decode, at a depth of the workload's prompt.
    pub decode: DecodeEstimate,
    /// Prefill of that prompt.
    pub prefill: PromptEstimate,
    /// Seconds of the image encoder for all images of the prompt, which the time to the first token includes; `None` without
    /// images, and where its speed is not known.
    pub encoder: Option<Spread>,
    /// Texts of the prompt's length a second, of a model that turns texts into numbers.
    pub texts: Option<Spread>,
    /// `None` where this machine was measured itself.
    pub published: Option<Published>,
}

impl Speeds {
    /// The rate that counts, in tokens a second: that of reading for a model that writes none, else of decoding.
    pub fn rate(&self) -> Spread {
        match self.texts {
            Some(_) => self.prefill.tokens_per_second,
            None => self.decode.tokens_per_second,
        }
    }

    /// What reports show: texts a second of a model that writes none, else tokens a second of decoding.
    pub fn shown(&self) -> &Spread {
        self.texts
            .as_ref()
            .unwrap_or(&self.decode.tokens_per_second)
    }
}

/// The measurements behind the decode rate of a GPU, and the effect of a better GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The expected rate with twice the memory bandwidth, over the one expected.
    pub twice_the_bandwidth: f64,
    /// The expected rate at twice the GPU clock, over the one expected.
    pub twice_the_clock: f64,
    /// The measurements behind the rate.
    pub evidence: Evidence,
    /// The measurements behind the rate of the prompt.
    pub prompt_evidence: Evidence,
    /// What each power mode draws while it decodes; empty where no power was measured on this board.
    pub energy: Vec<ModeEnergy>,
}

/// How fast `model` runs with the types of `assignment`. `None` where the speed of the device, or of a format on it,
/// is not known.
pub(super) fn speeds(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Speeds> {
    let layers = model.layers.len() as u64;
    let speed = target.speed(workload);
    let speed = speed.as_ref();
    let mut operations = decode_operations(model, assignment, workload);
    // llama.cpp computes the logits of every token of a text that becomes a vector.
    if model.retrieval.is_some()
        && matches!(target.runtime.memory.compute, ComputeRule::Ggml { .. })
    {
        let head = operations.iter_mut();
        head.filter(|operation| operation.group == OperationGroup::Head)
            .for_each(|operation| operation.group = OperationGroup::FeedForward);
    }
    let prompt = prompt_work(model, workload);
    let speeds = match (gpu(target.mode), measured_cpu(target)) {
        (_, Some(cpu)) if !cpu::unmeasured(&operations, cpu).is_empty() => return None,
        (_, Some(cpu)) => {
            let own = cpu.runtime == target.runtime.id;
            let machine = cpu::CpuContext { cpu, own, layers };
            Speeds {
                decode: cpu::decode(&operations, workload.parallel, machine),
                prefill: cpu::prefill(&operations, prompt, machine),
                encoder: None,
                texts: None,
                published: None,
            }
        }
        (Some(now), None) => {
            let decode = |gpu: ClockedGpu| {
                speed::decode(&operations, layers, workload.parallel, &gpu, speed)
            };
            let asked = EvidenceQuery {
                board: &target.device.id,
                power_mode: &target.mode.name,
                clocks: target.clocks,
                release: target.release,
                scheme: &assignment.scheme,
                bytes: assignment.tensor_bytes().0,
                tokens: workload.prompt_tokens,
                shape: Shape {
                    hidden: model.dims.hidden,
                    layers,
                    vocabulary: model.dims.vocab,
                },
                sequences: workload.parallel,
                flash_attention: workload.flash_attention,
                cuda_graphs: workload.cuda_graphs,
            };
            let here = decode(now);
            let expected = here.tokens_per_second.expected.max(f64::MIN_POSITIVE);
            let gain = |gpu: ClockedGpu| decode(gpu).tokens_per_second.expected / expected;
            Speeds {
                prefill: speed::prefill(&operations, layers, prompt, &now, speed),
                encoder: None,
                texts: None,
                published: Some(Published {
                    twice_the_bandwidth: gain(ClockedGpu {
                        bandwidth: BytesPerSecond(now.bandwidth.0 * 2.0),
                        ..now
                    }),
                    twice_the_clock: gain(ClockedGpu {
                        clock: Hertz(now.clock.0 * 2.0),
                        ..now
                    }),
                    evidence: evidence(target.runtime, Rated::Decode, asked),
                    prompt_evidence: evidence(target.runtime, Rated::Prompt, asked),
                    energy: Vec::new(),
                }),
                decode: here,
            }
        }
        (None, None) => return None,
    };
    let mut speeds = match &target.runtime.learned {
        Some(learned) => apply_learned(speeds, learned),
        None => speeds,
    };
    if let Some(published) = &mut speeds.published {
        // What was learned from runs holds for the mode that they ran in.
        let decode = |mode: &PowerMode, gpu: ClockedGpu| match mode.name == target.mode.name {
            true => speeds.decode.clone(),
            false => speed::decode(&operations, layers, workload.parallel, &gpu, speed),
        };
        published.energy = energy::by_mode(target, workload.parallel, decode);
    }
    speeds.encoder = match speeds.published {
        Some(_) => projector::seconds(model, target, workload),
        None => None,
    };
    if let Some(encoder) = &speeds.encoder {
        let first = &mut speeds.prefill.time_to_first_token;
        first.low = finite(first.low + encoder.low);
        first.expected = finite(first.expected + encoder.expected);
        first.high = finite(first.high + encoder.high);
    }
    speeds.texts = model.retrieval.as_ref().map(|_| {
        let tokens = workload.prompt_tokens.max(1) as f64;
        let rate = speeds.prefill.tokens_per_second;
        Spread {
            low: rate.low / tokens,
            expected: rate.expected / tokens,
            high: rate.high / tokens,
        }
    });
    Some(speeds)
}

/// The decode rates of `model` on each of `targets` at each of `depths`. `None` as for [`speeds`].
pub(super) fn decode_by_depth(
    model: &ModelSpec,
    assignment: &Assignment,
    targets: &[Target<'_>],
    workload: &Workload,
    depths: &[u64],
) -> Option<Vec<Vec<Spread>>> {
    let at = |depth: u64| Workload {
        prompt_tokens: depth,
        cached_tokens: 0,
        ..workload.clone()
    };
    // Only reading the cache differs by depth.
    let operations = decode_operations(model, assignment, workload).into_iter();
    let always: Vec<Operation> = operations
        .filter(|operation| operation.group != OperationGroup::KvCache)
        .collect();
    let at_depths: Vec<Vec<Operation>> = depths
        .iter()
        .map(|depth| cache_operations(model, &at(*depth)))
        .collect();
    let rates = |target: &Target<'_>| match (gpu(target.mode), measured_cpu(*target)) {
        (Some(gpu), None) if target.runtime.learned.is_none() => {
            let (layers, speed) = (model.layers.len() as u64, target.speed(workload));
            Some(speed::decode_rates(
                &always,
                &at_depths,
                layers,
                workload.parallel,
                &gpu,
                &speed,
            ))
        }
        _ => {
            let each = depths.iter().map(|depth| {
                let speeds = speeds(model, assignment, *target, &at(*depth))?;
                Some(speeds.decode.tokens_per_second)
            });
            each.collect()
        }
    };
    targets.iter().map(rates).collect()
}

/// How long a part of a model takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartSeconds {
    /// A decode step of all sequences: `low` is the fast end.
    pub step: Spread,
    /// Reading the prompt.
    pub prompt: Spread,
}

/// How long `part` of `model` takes on `target`, with the host's work of a step where the runtime's server runs. `None`
/// as for [`speeds`].
pub(super) fn part_seconds(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
    part: &ModelPart,
    is_server: bool,
) -> Option<PartSeconds> {
    let layers = part.layers.len() as u64;
    let operations = operations_of(model, assignment, workload, part);
    let prompt = prompt_work_of(part.layers_of(model), workload);
    let (decode, prefill) = match (gpu(target.mode), measured_cpu(target)) {
        (_, Some(cpu)) if !cpu::unmeasured(&operations, cpu).is_empty() => return None,
        (_, Some(cpu)) => {
            let own = cpu.runtime == target.runtime.id;
            let machine = cpu::CpuContext { cpu, own, layers };
            (
                cpu::decode(&operations, workload.parallel, machine),
                cpu::prefill(&operations, prompt, machine),
            )
        }
        (Some(gpu), None) => {
            let mut speed = target.speed(workload).into_owned();
            if !is_server {
                let host = &mut speed.host_seconds;
                (host.low, host.expected, host.high) = (0.0, 0.0, 0.0);
            }
            (
                speed::decode(&operations, layers, workload.parallel, &gpu, &speed),
                speed::prefill(&operations, layers, prompt, &gpu, &speed),
            )
        }
        (None, None) => return None,
    };
    let sequences = workload.parallel.max(1) as f64;
    Some(PartSeconds {
        step: inverse(sequences, decode.tokens_per_second),
        prompt: inverse(prompt.tokens.max(1) as f64, prefill.tokens_per_second),
    })
}

/// The time of `tokens` at a rate, or their rate in a time.
pub(super) fn inverse(tokens: f64, rate: Spread) -> Spread {
    let at = |rate: f64| tokens / rate.max(f64::MIN_POSITIVE);
    Spread {
        low: at(rate.high),
        expected: at(rate.expected),
        high: at(rate.low),
    }
}

/// Corrects `speeds` by the ratio of measured to predicted rates that runs on the device showed. The range is then as
/// wide as those runs differed. Never above the ceiling.
fn apply_learned(mut speeds: Speeds, learned: &Learned) -> Speeds {
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
    // The time to the first token is mostly that of the prompt, so it changes with the rate.
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

/// The formats of the model's matrices whose speed on these processors was not measured.
pub(super) fn unmeasured(
    model: &ModelSpec,
    assignment: &Assignment,
    cpu: &Cpu,
    workload: &Workload,
) -> Vec<Dtype> {
    cpu::unmeasured(&decode_operations(model, assignment, workload), cpu)
}
