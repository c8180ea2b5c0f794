//! What speculation brings: tokens that a verification yields, over what draft and verification cost in plain decode
//! steps. Below 1 it is slower than without.

use crate::evidence::speculation::{Cost, Method, SpeculationRow, nearest_rows};
use crate::model::ModelSpec;
use crate::plan::draft::{Acceptance, Draft, Drafter, Head};
use crate::plan::operations::decode_operations;
use crate::plan::speed::{ClockedGpu, Operation, OperationGroup, Spread, step_seconds};
use crate::plan::target::{Target, gpu};
use crate::plan::workload::Workload;
use crate::runtime::profile::Speed;
use crate::scheme::Assignment;

/// What speculation brings to one plan.
#[derive(Clone, Debug)]
pub struct Speculation {
    /// How the runtime speculates.
    pub method: &'static Method,
    /// Draft and verification, in plain decode steps; as many tokens have to be accepted to be as fast as without.
    pub cost: Spread,
    /// Tokens that a verification yields, the model's own with them; `None` where nothing is known of them.
    pub accepted: Option<Spread>,
    /// Tokens a second over those without speculation.
    pub speed_up: Option<Spread>,
    /// Published runs with such a drafter, those of the nearest model first.
    pub evidence: Vec<&'static SpeculationRow>,
}

/// What `workload.draft` brings; `None` without one, where the runtime has no such thing, and where the speed of the GPU
/// is not known.
pub(super) fn speculation(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Speculation> {
    let draft = workload.draft.as_ref()?;
    let method = draft.method(target.runtime)?;
    let cost = cost(model, assignment, target, workload)?;
    let evidence = nearest_rows(method.drafter, model.parameters);
    let accepted = accepted(draft, method, &evidence);
    let speed_up = accepted.map(|accepted| Spread {
        low: accepted.low / cost.high,
        expected: accepted.expected / cost.expected,
        high: accepted.high / cost.low,
    });
    Some(Speculation {
        method,
        cost,
        accepted,
        speed_up,
        evidence,
    })
}

/// Tokens that a verification yields: as given, or those of the nearest published model, in the range of all of them.
fn accepted(draft: &Draft, method: &Method, evidence: &[&SpeculationRow]) -> Option<Spread> {
    let given = draft.acceptance.map(|acceptance| match acceptance {
        Acceptance::Share(share) => 1.0 + share * method.drafted,
        Acceptance::Tokens(tokens) => tokens,
    });
    if let Some(tokens) = given {
        return Some(Spread {
            low: tokens,
            expected: tokens,
            high: tokens,
        });
    }
    let nearest = &evidence.first()?.model;
    let tokens = |row: &&SpeculationRow| row.accepted_by(method);
    let of_nearest: Vec<f64> = evidence
        .iter()
        .filter(|row| row.model == *nearest)
        .filter_map(tokens)
        .collect();
    let all = evidence.iter().filter_map(tokens);
    let (low, high) = all.fold((f64::INFINITY, 0f64), |(low, high), n| {
        (low.min(n), high.max(n))
    });
    Some(Spread {
        low,
        expected: of_nearest.iter().sum::<f64>() / of_nearest.len().max(1) as f64,
        high,
    })
}

/// Draft and verification in plain decode steps.
fn cost(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Spread> {
    let draft = workload.draft.as_ref()?;
    let method = draft.method(target.runtime)?;
    let expected = match method.cost {
        Cost::Steps { steps } => steps,
        cost => {
            let gpu = gpu(target.mode)?;
            let speed = target.speed(workload);
            let work = Work {
                operations: decode_operations(model, assignment, workload),
                layers: model.layers.len() as u64,
                sequences: workload.parallel.max(1),
                gpu,
                speed: &speed,
            };
            let pass = |sequences| work.draft_pass(model, assignment, draft, workload, sequences);
            let plain = work.step(work.sequences);
            let (verified, drafted) = match cost {
                Cost::Positions {
                    quantized_cycles,
                    float_cycles,
                    pass_share,
                } => (
                    plain + work.further(method.positions, quantized_cycles, float_cycles),
                    pass(1) * pass_share,
                ),
                _ => (work.as_batch(method.positions), pass(work.sequences)),
            };
            (verified + method.passes as f64 * drafted) / plain
        }
    };
    let off = 1.0 + method.off_percent / 100.0;
    Some(Spread {
        low: expected / off,
        expected,
        high: expected * off,
    })
}

/// What a decode step does, and on what.
struct Work<'a> {
    operations: Vec<Operation>,
    layers: u64,
    sequences: u64,
    gpu: ClockedGpu,
    speed: &'a Speed,
}

impl Work<'_> {
    fn seconds(&self, operations: &[Operation], sequences: u64) -> f64 {
        step_seconds(operations, self.layers, sequences, &self.gpu, self.speed)
    }

    /// Seconds of a step of `sequences`.
    fn step(&self, sequences: u64) -> f64 {
        self.seconds(&self.operations, sequences)
    }

    /// Seconds that the matrices take for the further positions of a verification.
    fn further(&self, positions: u64, quantized_cycles: f64, float_cycles: f64) -> f64 {
        let further = (self.sequences * positions.saturating_sub(1)) as f64;
        let cycles = |operation: &Operation| {
            let each = if operation.dtype.is_quantized() {
                quantized_cycles
            } else {
                float_cycles
            };
            operation.weights as f64 * each * further
        };
        let matrices = self.operations.iter().filter(|o| is_matrix(o));
        let cycles: f64 = matrices.map(cycles).sum();
        cycles / (f64::from(self.gpu.sm_count) * self.gpu.clock.0)
    }

    /// Seconds of a step whose matrices see each position as a sequence of its own, and whose states are read once a
    /// sequence.
    fn as_batch(&self, positions: u64) -> f64 {
        let matrices: Vec<Operation> = self
            .operations
            .iter()
            .filter(|operation| is_matrix(operation))
            .cloned()
            .collect();
        let states = self.step(self.sequences) - self.seconds(&matrices, self.sequences);
        self.seconds(&matrices, self.sequences * positions) + states
    }

    /// Seconds of one pass of the draft over `sequences`.
    fn draft_pass(
        &self,
        model: &ModelSpec,
        assignment: &Assignment,
        draft: &Draft,
        workload: &Workload,
        sequences: u64,
    ) -> f64 {
        let seconds = |model: &ModelSpec, assignment: &Assignment| {
            let operations = decode_operations(model, assignment, workload);
            let layers = model.layers.len() as u64;
            step_seconds(&operations, layers, sequences, &self.gpu, self.speed)
        };
        match &draft.by {
            Drafter::Lookup => 0.0,
            Drafter::Model(draft) => seconds(&draft.model, &draft.assignment),
            Drafter::Mtp | Drafter::Eagle3 => {
                let head = Head::of(model, assignment, draft.kind());
                seconds(&head.model, &head.assignment)
            }
        }
    }
}

fn is_matrix(operation: &Operation) -> bool {
    !matches!(
        operation.group,
        OperationGroup::KvCache | OperationGroup::Recurrent
    )
}
