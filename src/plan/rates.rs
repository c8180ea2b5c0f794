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
use crate::plan::prefix;
use crate::plan::projector;
use crate::plan::speed::{
    self, ClockedGpu, DecodeEstimate, Operation, OperationGroup, PromptEstimate, Requests, Spread,
    finite,
};
use crate::plan::target::{Target, gpu, measured_cpu};
use crate::plan::workload::Workload;
use crate::runtime::learned::Correction;
use crate::runtime::posterior::Shares;
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
    /// Whole requests, where the tokens of their answers are known.
    pub requests: Option<RequestEstimate>,
    /// Texts of the prompt's length a second, of a model that turns texts into numbers.
    pub texts: Option<Spread>,
    /// `None` where this machine was measured itself.
    pub published: Option<Published>,
}

/// Whole requests, as many at a time as sequences are decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestEstimate {
    /// What they are.
    pub work: Requests,
    /// Seconds from a request to the end of its answer, in which the others are served too.
    pub seconds: Spread,
    /// Generated tokens a second over all of them, the time to read prompts included.
    pub output_rate: Spread,
    /// The measurements behind that rate; `None` where this machine was measured itself.
    pub evidence: Option<Evidence>,
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
    /// The rate of an older build, which multiplies a few sequences one by one, where that is slower by more than noise.
    pub older_build: Option<Spread>,
    /// The measurements behind the rate.
    pub evidence: Evidence,
    /// The measurements behind the rate of the prompt.
    pub prompt_evidence: Evidence,
    /// What each power mode draws while it decodes; empty where no power was measured on this board.
    pub energy: Vec<ModeEnergy>,
}

/// A build is told apart from another where it has less than this share of its rate.
const SLOWER: f64 = 0.95;

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
    let learned = target.runtime.learned.as_ref();
    let [on_decode, on_prompt] = [
        learned.and_then(|learned| learned.decode.as_ref()),
        learned.and_then(|learned| learned.prefill.as_ref()),
    ];
    let mut operations = decode_operations(model, assignment, workload);
    // llama.cpp computes the logits of every token of a text that becomes a vector.
    if model.retrieval.is_some()
        && matches!(target.runtime.memory.compute, ComputeRule::Ggml { .. })
    {
        let head = operations.iter_mut();
        head.filter(|operation| operation.group == OperationGroup::Head)
            .for_each(|operation| operation.group = OperationGroup::FeedForward);
    }
    let reading = Workload {
        cached_tokens: prefix::kept(
            model,
            &target.runtime.memory,
            workload.prompt_tokens,
            workload.cached_tokens,
        ),
        ..workload.clone()
    };
    let prompt = prompt_work(model, &reading);
    let mut speeds = match (gpu(target.mode), measured_cpu(target)) {
        (_, Some(cpu)) if !cpu::unmeasured(&operations, cpu).is_empty() => return None,
        (_, Some(cpu)) => {
            let own = cpu.runtime == target.runtime.id;
            let machine = cpu::CpuContext { cpu, own, layers };
            let mut decode = cpu::decode(&operations, workload.parallel, machine);
            if let Some(correction) = on_decode {
                let scale = correction.whole(&model.name);
                decode.tokens_per_second = slower(decode.tokens_per_second, scale, decode.ceiling);
            }
            Speeds {
                decode,
                prefill: cpu::prefill(&operations, prompt, machine),
                encoder: None,
                requests: None,
                texts: None,
                published: None,
            }
        }
        (Some(now), None) => {
            let refined = on_decode.map(|correction| correction.decoding(speed, &model.name));
            let refined = refined.as_ref().unwrap_or(speed);
            let decode = |gpu: ClockedGpu| {
                speed::decode(&operations, layers, workload.parallel, &gpu, refined)
            };
            let asked = asked(model, assignment, target, workload);
            let here = decode(now);
            let expected = here.tokens_per_second.expected.max(f64::MIN_POSITIVE);
            let gain = |gpu: ClockedGpu| decode(gpu).tokens_per_second.expected / expected;
            Speeds {
                prefill: speed::prefill(&operations, layers, prompt, &now, speed),
                encoder: None,
                requests: None,
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
                    older_build: match workload.parallel {
                        0 | 1 => None,
                        several => {
                            let older = refined.tiling(false);
                            let rate = speed::decode(&operations, layers, several, &now, &older);
                            let rate = rate.tokens_per_second;
                            (rate.expected < expected * SLOWER).then_some(rate)
                        }
                    },
                    evidence: evidence(target.runtime, Rated::Decode, asked),
                    prompt_evidence: evidence(target.runtime, Rated::Prompt, asked),
                    energy: Vec::new(),
                }),
                decode: here,
            }
        }
        (None, None) => return None,
    };
    if let Some(correction) = on_decode {
        let decode = &mut speeds.decode;
        decode.tokens_per_second = narrowed(
            decode.tokens_per_second,
            correction,
            &model.name,
            decode.shares,
        );
    }
    if let Some(correction) = on_prompt {
        correct_prompt(&mut speeds.prefill, correction, &model.name);
    }
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
    speeds.requests = workload.generated_tokens.and_then(|generated| {
        let tokens = (prompt.tokens, generated);
        requests(model, assignment, target, workload, &speeds, tokens)
    });
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

/// Whole requests with answers of `generated` tokens, of whose prompt `speeds` rates the `read` tokens that are not cached: they
/// decode at the depth that an answer has halfway.
fn requests(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
    speeds: &Speeds,
    (read, generated): (u64, u64),
) -> Option<RequestEstimate> {
    let depth = workload.prompt_tokens.saturating_add(generated / 2);
    let rates = decode_by_depth(model, assignment, &[target], workload, &[depth])?;
    let decode = rates.first()?.first()?;
    let work = Requests {
        sequences: workload.parallel.max(1),
        generated,
    };
    let first = &speeds.prefill.time_to_first_token;
    Some(RequestEstimate {
        work,
        seconds: work.time(first, decode),
        output_rate: work.output_rate(first, decode),
        evidence: speeds.published.as_ref().map(|_| {
            let asked = EvidenceQuery {
                tokens: read,
                ..asked(model, assignment, target, workload)
            };
            evidence(target.runtime, Rated::Requests, asked)
        }),
    })
}

/// What measurements are looked for.
fn asked<'a>(
    model: &ModelSpec,
    assignment: &'a Assignment,
    target: Target<'a>,
    workload: &Workload,
) -> EvidenceQuery<'a> {
    EvidenceQuery {
        board: &target.device.id,
        power_mode: &target.mode.name,
        clocks: target.clocks,
        release: target.release,
        scheme: &assignment.scheme,
        bytes: assignment.tensor_bytes().0,
        tokens: workload.prompt_tokens,
        shape: Shape {
            hidden: model.dims.hidden,
            layers: model.layers.len() as u64,
            vocabulary: model.dims.vocab,
        },
        sequences: workload.parallel,
        flash_attention: workload.flash_attention,
        cuda_graphs: workload.cuda_graphs,
    }
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
        generated_tokens: None,
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
    let (layers, parallel) = (model.layers.len() as u64, workload.parallel);
    let rates = |target: &Target<'_>| match (gpu(target.mode), measured_cpu(*target)) {
        (Some(gpu), None) => {
            let speed = target.speed(workload);
            let correction = target.runtime.learned.as_ref();
            let Some(correction) = correction.and_then(|learned| learned.decode.as_ref()) else {
                let rates =
                    speed::decode_rates(&always, &at_depths, layers, parallel, &gpu, &speed);
                return Some(rates);
            };
            let speed = correction.decoding(&speed, &model.name);
            let rates = speed::decode_rates(&always, &at_depths, layers, parallel, &gpu, &speed);
            let narrowed = rates.into_iter().zip(&at_depths).map(|(rate, cache)| {
                let all = [always.as_slice(), cache].concat();
                let shares = speed::step_shares(&all, layers, parallel, &gpu, &speed);
                narrowed(rate, correction, &model.name, shares)
            });
            Some(narrowed.collect())
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
            // The rows behind the range of a format ran on one board.
            speed.format_spread.clear();
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

/// Rates where everything takes `longer` times as long; none above the ceiling.
fn slower(rates: Spread, longer: f64, ceiling: f64) -> Spread {
    let at = |rate: f64| finite(rate / longer.max(f64::MIN_POSITIVE)).min(ceiling);
    Spread {
        low: at(rates.low),
        expected: at(rates.expected),
        high: at(rates.high),
    }
}

/// The range of `model`'s rates as far as what was learned leaves it open.
fn narrowed(rates: Spread, correction: &Correction, model: &str, shares: Option<Shares>) -> Spread {
    let Spread {
        low,
        expected,
        high,
    } = rates;
    if expected <= 0.0 {
        return rates;
    }
    let side = |ratio: f64| correction.side(model, shares, ratio.ln().max(0.0)).exp();
    Spread {
        low: expected / side(expected / low),
        expected,
        high: finite(expected * side(high / expected)),
    }
}

/// Corrects the rate of a prompt by what runs showed, and with it the time to the first token, which is mostly that of the
/// prompt.
fn correct_prompt(prompt: &mut PromptEstimate, correction: &Correction, model: &str) {
    let before = prompt.tokens_per_second;
    let scaled = slower(before, correction.whole(model), prompt.ceiling);
    prompt.tokens_per_second = narrowed(scaled, correction, model, None);
    let scale = before.expected / scaled.expected.max(f64::MIN_POSITIVE);
    let Spread {
        low,
        expected,
        high,
    } = prompt.time_to_first_token;
    let first = Spread {
        low: finite(low * scale),
        expected: finite(expected * scale),
        high: finite(high * scale),
    };
    prompt.time_to_first_token = narrowed(first, correction, model, None);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::learned::{Pair, Parameter, Run, Runs, Setup};
    use crate::units::Hertz;

    /// A step of a model with this many million weights: large ones have long rows of wide weights, which wait for the
    /// memory, small ones short rows of narrow weights, which wait for arithmetic.
    fn operations(millions: u64) -> Vec<speed::Operation> {
        let (weights, group) = (millions * 1_000_000, OperationGroup::FeedForward);
        let (dtype, bytes, columns) = if millions > 1000 {
            (Dtype::Q8_0, weights * 17 / 16, 4096)
        } else {
            (Dtype::Q4_K, weights * 9 / 16, 896)
        };
        vec![speed::Operation::dense(
            "ffn",
            group,
            dtype,
            bytes,
            weights,
            weights / columns,
        )]
    }

    /// On a board whose memory is slower than the profile says, and nothing else, runs of a large and of a small model tell
    /// that it is the memory: what another model gets is what it takes there.
    #[test]
    fn a_board_with_slow_memory_is_learned_as_slow_memory() {
        let profile = crate::runtime::find("llama.cpp").unwrap();
        let gpu = ClockedGpu::sm87(16, Hertz(1.3e9), BytesPerSecond(204.8e9));
        let mut slow = profile.speed.clone();
        let range = &mut slow.bandwidth_efficiency;
        (range.low, range.expected, range.high) =
            (range.low * 0.8, range.expected * 0.8, range.high * 0.8);
        fn seconds(millions: u64, gpu: &ClockedGpu, speed: &crate::runtime::profile::Speed) -> f64 {
            speed::step_seconds(&operations(millions), 32, 1, gpu, speed)
        }
        let mut runs = Runs::default();
        for (model, millions) in [("7B", 7000), ("8B", 8000), ("0.5B", 500), ("0.6B", 600)] {
            let [predicted, measured] =
                [&profile.speed, &slow].map(|s| 1.0 / seconds(millions, &gpu, s));
            runs.add(Run {
                shares: speed::step_shares(&operations(millions), 32, 1, &gpu, &profile.speed),
                setup: Some(Setup {
                    prompt_tokens: 128,
                    generated_tokens: 64,
                    sequences: 1,
                }),
                decode: Pair::new(predicted, measured),
                runtime: profile.id.clone(),
                ..Run::example(model, 10.0)
            });
        }
        let learned = runs.learned(&profile, "orin-nano-8gb", "15W").unwrap();
        let correction = learned.decode.unwrap();
        let of = |wanted| {
            let parameters = correction.parameters().into_iter();
            let found = parameters.filter(|one| one.parameter == wanted);
            found.map(|one| one.factor).sum::<f64>()
        };
        let [bandwidth, arithmetic, whole] = [
            Parameter::Bandwidth,
            Parameter::Arithmetic,
            Parameter::Common,
        ]
        .map(of);
        assert!(
            bandwidth > 1.08 && bandwidth - 1.0 > 3.0 * (arithmetic - 1.0) && whole < 1.06,
            "{bandwidth} {arithmetic} {whole}"
        );
        let (before, truth) = (
            seconds(3000, &gpu, &profile.speed),
            seconds(3000, &gpu, &slow),
        );
        let after = seconds(3000, &gpu, &correction.decoding(&profile.speed, "3B"));
        let off = |seconds: f64| (seconds / truth).ln().abs();
        assert!(off(after) < off(before) / 2.0, "{before} {after} {truth}");
        // The shares are the elasticities of the time.
        let shares = speed::step_shares(&operations(3000), 32, 1, &gpu, &profile.speed).unwrap();
        let mut faster = profile.speed.clone();
        faster.bandwidth_efficiency.expected *= (-1e-4f64).exp();
        let slope = (seconds(3000, &gpu, &faster) / before).ln() / 1e-4;
        assert!(
            (slope - shares.bandwidth).abs() < 1e-3,
            "{slope} {shares:?}"
        );
        let sum = shares.bandwidth + shares.arithmetic + shares.cache + shares.launch + shares.host;
        assert!((sum - 1.0).abs() < 1e-9);
    }

    /// A model that ran itself moves by all that its runs are off, in formats with a range of their own as in others.
    #[test]
    fn a_run_moves_its_model_in_a_format_with_a_range_of_its_own() {
        let profile = crate::runtime::find("llama.cpp").unwrap();
        let gpu = ClockedGpu::sm87(8, Hertz(1.02e9), BytesPerSecond(102.4e9));
        let small = operations(600);
        assert_eq!(speed::main_format(&small, &profile.speed), Some("Q4_K"));
        assert!(profile.speed.format_spread.contains_key("Q4_K"));
        let predicted = 1.0 / speed::step_seconds(&small, 28, 1, &gpu, &profile.speed);
        let mut runs = Runs::default();
        runs.add(Run {
            shares: speed::step_shares(&small, 28, 1, &gpu, &profile.speed),
            decode: Pair::new(predicted, predicted / 1.4),
            runtime: profile.id.clone(),
            ..Run::example("0.6B", 10.0)
        });
        let learned = runs.learned(&profile, "orin-nano-8gb", "15W").unwrap();
        let refined = learned.decode.unwrap().decoding(&profile.speed, "0.6B");
        let after = 1.0 / speed::step_seconds(&small, 28, 1, &gpu, &refined);
        assert!(after < predicted / 1.15, "{predicted} {after}");
    }
}
