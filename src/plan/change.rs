//! What a user can change so that a model fits, each change with its loss.
//!
//! In: what was asked for. Out: the dimensions in which less can be asked for, and the situation after a change. Must
//! not: decide which changes to make.

use crate::device::{L4tRelease, Session};
use crate::dtype::Dtype;
use crate::evidence::quality::{Asked, CacheCosts, Quality, prior};
use crate::model::ModelSpec;
use crate::plan::fit::{Plan, Target, available, ledger_fits};
use crate::plan::memory::{Ledger, ledger};
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// The least context of a sequence, in tokens, that is offered: a shorter one is of little use.
pub(in crate::plan) const LEAST_USEFUL_CONTEXT: u64 = 512;

/// The loss that each change beyond the first adds to its own, so that simple advice comes first.
pub(in crate::plan) const FURTHER_CHANGE: f64 = 2.0;

/// One change.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PlanChange {
    /// A system release whose driver grants larger allocations.
    Update(L4tRelease),
    /// Fused attention.
    FlashAttention,
    /// No desktop.
    Headless {
        /// The memory that the desktop holds.
        freed: Bytes,
    },
    /// No other programs on the machine at hand.
    Idle {
        /// The memory that is then left for the model.
        leaves: Bytes,
    },
    /// As many rows of logits as the runtime reserves by itself.
    Outputs,
    /// Less memory kept free for other programs.
    Reserve(Bytes),
    /// A larger budget.
    Budget(Bytes),
    /// Fewer tokens of a prompt processed at once.
    Ubatch(u64),
    /// Fewer sequences decoded at once.
    Parallel(u64),
    /// No vision and audio towers.
    TextOnly,
    /// Nothing that drafts.
    NoDraft {
        /// The memory that it takes.
        freed: Bytes,
    },
    /// Another type for the KV cache.
    KvType {
        /// The type.
        dtype: Dtype,
        /// What it costs in quality, where that is known.
        cost: Option<Quality>,
    },
    /// Another scheme, by its id.
    Scheme(String),
    /// Fewer tokens of context.
    Context(u64),
}

/// The options in one dimension, each with its loss, the least first. The unit of loss is that of a step from five bits a
/// weight to four.
pub(super) type Dimension = Vec<(f64, PlanChange)>;

/// A plan of a scheme with everything that it was made from.
#[derive(Clone)]
pub(super) struct Situation<'a> {
    pub(super) model: &'a ModelSpec,
    pub(super) plan: &'a Plan,
    pub(super) target: Target<'a>,
    pub(super) workload: Workload,
    pub(super) cache_costs: &'a CacheCosts,
}

impl<'a> Situation<'a> {
    /// The situation after a change; `plans` are those of the schemes to choose from.
    pub(super) fn with(mut self, change: &PlanChange, plans: &[&'a Plan]) -> Situation<'a> {
        let workload = &mut self.workload;
        match change {
            PlanChange::Update(release) => self.target.release = Some(*release),
            PlanChange::FlashAttention => workload.flash_attention = true,
            PlanChange::Headless { .. } => workload.session = Session::Headless,
            PlanChange::Idle { leaves } | PlanChange::Budget(leaves) => {
                workload.budget = Some(*leaves)
            }
            PlanChange::Outputs => workload.outputs = None,
            PlanChange::Reserve(bytes) => workload.reserve = *bytes,
            PlanChange::Ubatch(tokens) => workload.ubatch = *tokens,
            PlanChange::Parallel(sequences) => workload.parallel = *sequences,
            PlanChange::TextOnly => workload.text_only = true,
            PlanChange::NoDraft { .. } => workload.draft = None,
            PlanChange::KvType { dtype, .. } => {
                (workload.type_k, workload.type_v) = (*dtype, *dtype);
            }
            PlanChange::Scheme(id) => {
                let mut plans = plans.iter();
                let named = plans.find(|plan| plan.assignment.scheme == *id);
                self.plan = named.copied().unwrap_or(self.plan);
            }
            PlanChange::Context(tokens) => workload.context = *tokens,
        }
        self
    }

    pub(super) fn ledger(&self) -> Ledger {
        let types = &self.plan.assignment;
        ledger(self.model, types, self.target.runtime, &self.workload)
    }

    pub(super) fn available(&self) -> Bytes {
        available(self.target.device, &self.workload)
    }

    /// Whether it fits.
    pub(super) fn fits(&self) -> bool {
        ledger_fits(&self.ledger(), self.available(), self.target)
    }
}

/// Everything that can be changed about `asked`, apart from its context. `plans` are those of the schemes to choose from.
pub(super) fn dimensions(asked: &Situation<'_>, plans: &[&Plan]) -> Vec<Dimension> {
    let Situation {
        model,
        plan,
        target,
        workload,
        ..
    } = asked;
    let device = target.device;
    let left = device.available(workload.session);
    let when = |holds: bool, loss: f64, change: PlanChange| {
        if holds {
            vec![(loss, change)]
        } else {
            Vec::new()
        }
    };
    let refused = target.release.and_then(|_| {
        let limit = target.allocation_limit()?;
        let is_at_stake = plan.memory.largest_allocation > limit.largest.value;
        limit.until.filter(|_| is_at_stake)
    });
    let idle = device.at_hand.as_ref().and_then(|here| here.idle);
    let idle = idle.filter(|idle| *idle > left && workload.budget.is_none());
    let headless = device.available(Session::Headless);
    let sequences = workload.parallel.max(1);
    let halves = (1..=sequences.ilog2()).map(|halvings| {
        (
            0.5 * f64::from(halvings),
            PlanChange::Parallel(sequences >> halvings),
        )
    });
    let ubatch = [(0.4, 512), (0.6, 256), (0.8, 128)].into_iter();
    let ubatch = ubatch.filter(|(_, tokens)| *tokens < workload.ubatch);
    let dimensions = vec![
        refused.map_or(Vec::new(), |release| {
            vec![(0.0, PlanChange::Update(release))]
        }),
        when(!workload.flash_attention, 0.0, PlanChange::FlashAttention),
        when(
            workload.session == Session::Desktop && workload.budget.is_none() && headless > left,
            0.1,
            PlanChange::Headless {
                freed: headless.saturating_sub(left),
            },
        ),
        idle.map_or(Vec::new(), |leaves| {
            vec![(0.1, PlanChange::Idle { leaves })]
        }),
        when(workload.outputs.is_some(), 0.05, PlanChange::Outputs),
        // The size that is enough follows from the other changes.
        when(
            workload.reserve > Bytes(0),
            0.3,
            PlanChange::Reserve(Bytes(0)),
        ),
        when(
            workload.budget.is_some_and(|budget| budget < left),
            0.3,
            PlanChange::Budget(left),
        ),
        ubatch
            .map(|(loss, tokens)| (loss, PlanChange::Ubatch(tokens)))
            .collect(),
        halves.collect(),
        when(
            (!model.towers.is_empty() || model.projector.is_some()) && !workload.text_only,
            1.0,
            PlanChange::TextOnly,
        ),
        when(
            workload.draft.is_some(),
            0.7,
            PlanChange::NoDraft {
                freed: plan.memory.draft,
            },
        ),
        kv_types(asked),
        schemes(asked, plans),
    ];
    dimensions
        .into_iter()
        .filter(|options| !options.is_empty())
        .collect()
}

/// Smaller types of the KV cache that the runtime has and the model's head widths allow; F16 too where the type asked for
/// is impossible.
fn kv_types(asked: &Situation<'_>) -> Dimension {
    let workload = &asked.workload;
    let loads = &asked.target.runtime.loads.kv_types;
    let bits = |dtype: Dtype| {
        let format = dtype.format();
        format.block_bytes as f64 / format.block_elements as f64
    };
    let now = bits(workload.type_k) + bits(workload.type_v);
    let is_impossible = asked.plan.memory.kv_problem.is_some();
    let helps = |dtype: Dtype| {
        let name = dtype.name();
        let is_known = loads.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_known && (is_impossible || 2.0 * bits(dtype) < now)
    };
    // Fused attention, which some types need, is a change of its own.
    let fused = asked.clone().with(&PlanChange::FlashAttention, &[]);
    // The loss without a measurement, for types that nobody measured.
    let options = [(0.2, Dtype::F16), (0.4, Dtype::Q8_0), (2.0, Dtype::Q4_0)].into_iter();
    options
        .filter(|(_, dtype)| helps(*dtype))
        .map(|(unmeasured, dtype)| {
            let cost = asked.cache_costs.of_types(asked.model, [dtype; 2]);
            // That it is another cache than was asked for counts too.
            let of_cost = |cost: &Quality| 0.25 + of_divergence(asked.model, cost.kld);
            let loss = cost.as_ref().map_or(unmeasured, of_cost);
            (loss, PlanChange::KvType { dtype, cost })
        })
        .filter(|(_, change)| {
            fused
                .clone()
                .with(change, &[])
                .ledger()
                .kv_problem
                .is_none()
        })
        .collect()
}

/// The loss of a cache that costs `kld` nats: that of weights with as much divergence, which grows with the square of their
/// error, while the loss of weights grows with the error itself.
fn of_divergence(model: &ModelSpec, kld: f64) -> f64 {
    /// The loss of Q4_K_M's 4.9 bits a weight, and its divergence on Llama-3-8B.
    const LOSS: f64 = 1.07;
    const USUAL: f64 = 0.03;
    let of_weights = prior().expect(Asked::of(model), "q4_k_m", &[]);
    let of_weights = of_weights.map_or(USUAL, |quality| quality.kld);
    LOSS * (kld / of_weights).sqrt()
}

/// Smaller schemes. The loss of a weight doubles with each bit less; that a new file is needed adds 0.5.
fn schemes(asked: &Situation<'_>, plans: &[&Plan]) -> Dimension {
    let loss = |plan: &Plan| 32.0 * (-plan.bits_per_weight).exp2();
    let now = asked.plan;
    let smaller = plans
        .iter()
        .filter(|plan| plan.tensor_bytes < now.tensor_bytes);
    let mut smaller: Dimension = smaller
        .map(|plan| {
            let more = (loss(plan) - loss(now)).max(0.0);
            (
                0.5 + more,
                PlanChange::Scheme(plan.assignment.scheme.clone()),
            )
        })
        .collect();
    smaller.sort_by(|a, b| a.0.total_cmp(&b.0));
    smaller
}
