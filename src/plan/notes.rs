//! The caveats of a plan, derived from its numbers.

use crate::device::{AllocationLimit, PowerMode, Session};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::model::projector::without_file;
use crate::note::Note;
use crate::plan::energy::predicted_rails;
use crate::plan::memory::Ledger;
use crate::plan::prefix;
use crate::plan::projector;
use crate::plan::rates::unmeasured;
use crate::plan::target::{Target, gpu, measured_cpu};
use crate::plan::workload::Workload;
use crate::runtime::profile::ComputeBackend;
use crate::scheme::{Assignment, Container};
use crate::sourced::Trust;
use crate::units::Bytes;

/// Fewer tokens than this leave no room for an answer.
const LEAST_ANSWER: u64 = 64;

/// The caveats that follow from the numbers of a plan.
pub(super) fn derive_notes(
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
    let (prompt, cached) = (workload.prompt_tokens, workload.cached_tokens);
    let kept = prefix::kept(model, &runtime.memory, prompt, cached);
    if kept < cached {
        notes.push(Note::PrefixKept {
            cached,
            kept,
            prefixes: prefix::prefixes(model, &runtime.memory),
            runtime: runtime.name.clone(),
        });
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
    let towers = projector::weights(model, runtime, workload);
    if towers > Bytes(0) {
        let is_made = projector::loaded(model, runtime, workload).is_some();
        let in_q8_0 = || projector::weights_in(Dtype::Q8_0, model, runtime, workload);
        notes.push(Note::Towers {
            bytes: towers,
            in_q8_0: is_made.then(in_q8_0),
        });
    }
    let encoder = projector::loaded(model, runtime, workload);
    let has_encoder = encoder.is_some();
    let looks = !model.towers.is_empty() || model.projector.is_some();
    let why = without_file(&model.config);
    if (looks || why.is_some()) && projector::text_alone(model, runtime) {
        notes.push(Note::TextAlone {
            runtime: runtime.name.clone(),
            why: why.filter(|_| !runtime.loads.text_only),
        });
    }
    let sees = looks && !workload.text_only;
    if sees && workload.images > 0 && projector::seconds(model, target, workload).is_none() {
        notes.push(Note::EncoderTime);
    }
    if sees && !has_encoder {
        // Of a runtime that computes it elsewhere the memory is not known in any case.
        let reads = runtime.loads.reads(Container::Gguf);
        let why = model.unread_projector().filter(|_| reads);
        notes.push(Note::EncoderUnseen { why });
    }
    let mut towers = model.towers.iter();
    let has_sound = towers.any(|tower| tower.name.starts_with("audio"));
    if has_sound && encoder.is_some_and(|encoder| encoder.audio.is_none()) {
        notes.push(Note::AudioUncounted);
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
    let rails = predicted_rails(target, workload.parallel);
    if let (Some(_), Err(why)) = (workload.energy_budget, rails) {
        notes.push(Note::EnergyUnknown {
            device: target.device.name.clone(),
            why,
        });
    }
    notes.extend(mode_note(target));
    notes.extend(runtime.learned.as_ref().map(|learned| Note::Learned {
        source: learned.source.clone(),
        found: learned.phrases(Some(&model.name)),
    }));
    if !runtime.learned_in.modes.is_empty() {
        notes.push(Note::LearnedElsewhere {
            mode: target.mode.name.clone(),
            modes: runtime.learned_in.modes.clone(),
            by_calibrate: runtime.learned_in.by_calibrate,
        });
    }
    if let Some(share) = &runtime.memory.pool_fraction {
        let total = target.device.total_memory.value.as_f64().max(1.0);
        let needed = (memory.total().as_f64() / total * 100.0).ceil() / 100.0;
        notes.push(Note::Pool {
            runtime: runtime.name.clone(),
            share: share.value,
            needed,
        });
    }
    notes
}

/// The caveat that the board's release does not have the power mode yet.
fn mode_note(target: Target<'_>) -> Option<Note> {
    // A board at hand says itself which modes it has.
    let release = target.release.filter(|_| target.device.at_hand.is_none())?;
    let is_there = |mode: &PowerMode| mode.since.is_none_or(|since| since <= release);
    let since = target.mode.since.filter(|since| release < *since)?;
    let modes = target.device.modes.iter();
    Some(Note::ModeUnavailable {
        mode: target.mode.name.clone(),
        release,
        since,
        modes: modes
            .filter(|mode| is_there(mode))
            .map(|mode| mode.name.clone())
            .collect(),
    })
}

/// The caveat that less memory is left than the runtime may need beyond the expected amount.
pub(super) fn tight_note(memory: &Ledger, available: Bytes, target: Target<'_>) -> Option<Note> {
    let runtime = &target.runtime.memory.runtime_bytes;
    let left = available.saturating_sub(memory.total());
    let more = Bytes((runtime.high - runtime.expected).max(0.0) as u64);
    // What loading takes for a moment comes before caches and buffers, which leave room for it.
    let later = memory.kv_cache + memory.recurrent_state + memory.compute + memory.image_encoder;
    let more = more.max(memory.loading.saturating_sub(later));
    (left < more).then(|| Note::Tight {
        left,
        more,
        runtime: target.runtime.name.clone(),
    })
}

/// The caveat that the largest allocation may find too little memory in one piece: more than this machine has free now, or
/// as much as was seen to fail beside a desktop.
pub(super) fn contiguity_note(
    memory: &Ledger,
    target: Target<'_>,
    session: Session,
) -> Option<Note> {
    let device = target.device;
    gpu(target.mode).filter(|_| target.runtime.backend == ComputeBackend::Cuda)?;
    let largest = memory.largest_allocation;
    let free = device.at_hand.as_ref().and_then(|here| here.free);
    let (limit, now) = match (free, session, &device.fragmented) {
        (Some(free), ..) => (free, true),
        (None, Session::Desktop, Some(failed)) => (failed.value, false),
        _ => return None,
    };
    (largest >= limit).then_some(Note::Contiguity {
        largest,
        limit,
        now,
    })
}

/// The caveat that the driver of the board's release refused allocations of this size on some boards.
pub(super) fn risk_note(memory: &Ledger, target: Target<'_>) -> Option<Note> {
    let release = target.release?;
    let largest = memory.largest_allocation;
    let limit = target.allocation_limit()?;
    let refused = limit.refused.as_ref()?.value;
    (refused <= largest).then_some(Note::AllocationRisk {
        largest,
        refused,
        release,
        lifted: limit.until,
    })
}

/// The largest allocation that a plan counts on under the board's release or, where that is not known, under current ones;
/// `None` where no limit is known.
pub(super) fn granted(target: Target<'_>) -> Option<Bytes> {
    let limit = target.allocation_limit()?;
    let is_lifted = limit.until.is_some() && target.release.is_none();
    (!is_lifted).then_some(limit.largest.value)
}

/// The caveat that one allocation is larger than a plan counts on: on the board's release or, where that is not known,
/// on current releases, else on the older ones that are known to have a limit.
pub(super) fn allocation_note(memory: &Ledger, target: Target<'_>) -> Option<Note> {
    let largest = memory.largest_allocation;
    let note = |limit: &AllocationLimit| Note::Allocation {
        largest,
        limit: limit.largest.value,
        granted: limit.granted.as_ref().map(|granted| granted.value),
        release: target.release.unwrap_or(limit.from),
        lifted: limit.until,
    };
    let now = target
        .allocation_limit()
        .filter(|limit| largest > limit.largest.value);
    match (now, target.release) {
        (Some(limit), _) => Some(note(limit)),
        (None, Some(_)) => None,
        (None, None) => target
            .allocation_limits()
            .iter()
            .find(|limit| limit.until.is_some() && largest > limit.largest.value)
            .map(note),
    }
}
