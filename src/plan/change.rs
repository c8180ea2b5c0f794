//! What a user can change about a plan, each change with what it costs them.
//!
//! In: what was asked for. Out: the dimensions in which less can be asked for, and a situation with some
//! of that changed. Must not: decide which changes to make.

use crate::device::{L4tRelease, Session};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::plan::fit::{Plan, Target, available, holds};
use crate::plan::memory::{Ledger, ledger};
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// One change.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A system release whose driver grants larger allocations.
    Update(L4tRelease),
    /// Fused attention.
    FlashAttention,
    /// No desktop.
    Headless {
        /// What the desktop holds.
        freed: Bytes,
    },
    /// Nothing else runs on the machine at hand.
    Idle {
        /// What it then has for the model.
        leaves: Bytes,
    },
    /// As many rows of logits as the runtime reserves by itself.
    Outputs,
    /// Less kept free for others.
    Reserve(Bytes),
    /// More than was allowed.
    Budget(Bytes),
    /// Tokens of a prompt that are processed at once.
    Ubatch(u64),
    /// Sequences decoded at once.
    Parallel(u64),
    /// No vision and audio towers.
    TextOnly,
    /// The type of the cache.
    KvType(Dtype),
    /// Another scheme, by its id.
    Scheme(String),
    /// Tokens of context.
    Context(u64),
}

/// What can be changed in one respect, the least loss first, each with that loss: 1 is what the step
/// from five bits a weight to four costs.
pub(super) type Dimension = Vec<(f64, Change)>;

/// A scheme asked to do something somewhere.
#[derive(Clone)]
pub(super) struct Situation<'a> {
    pub(super) model: &'a ModelSpec,
    pub(super) plan: &'a Plan,
    pub(super) target: Target<'a>,
    pub(super) workload: Workload,
}

impl<'a> Situation<'a> {
    /// The same with a change; `plans` are the schemes that there are.
    pub(super) fn with(mut self, change: &Change, plans: &[&'a Plan]) -> Situation<'a> {
        let workload = &mut self.workload;
        match change {
            Change::Update(release) => self.target.release = Some(*release),
            Change::FlashAttention => workload.flash_attention = true,
            Change::Headless { .. } => workload.session = Session::Headless,
            Change::Idle { leaves } | Change::Budget(leaves) => workload.budget = Some(*leaves),
            Change::Outputs => workload.outputs = None,
            Change::Reserve(bytes) => workload.reserve = *bytes,
            Change::Ubatch(tokens) => workload.ubatch = *tokens,
            Change::Parallel(sequences) => workload.parallel = *sequences,
            Change::TextOnly => workload.text_only = true,
            Change::KvType(dtype) => (workload.type_k, workload.type_v) = (*dtype, *dtype),
            Change::Scheme(id) => {
                let mut plans = plans.iter();
                let named = plans.find(|plan| plan.assignment.scheme == *id);
                self.plan = named.copied().unwrap_or(self.plan);
            }
            Change::Context(tokens) => workload.context = *tokens,
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
        holds(&self.ledger(), self.available(), self.target)
    }
}

/// Everything that can be changed about `asked`, apart from its context. `plans` are the schemes that
/// there are, the one to take first before all.
pub(super) fn dimensions(asked: &Situation<'_>, plans: &[&Plan]) -> Vec<Dimension> {
    let Situation {
        model,
        plan,
        target,
        workload,
    } = asked;
    let device = target.device;
    let left = device.available(workload.session);
    let when = |holds: bool, loss: f64, change: Change| {
        if holds {
            vec![(loss, change)]
        } else {
            Vec::new()
        }
    };
    let refused = target.release.and_then(|_| {
        let limit = device.largest_allocation(target.release)?;
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
            Change::Parallel(sequences >> halvings),
        )
    });
    let ubatch = [(0.4, 512), (0.6, 256), (0.8, 128)].into_iter();
    let ubatch = ubatch.filter(|(_, tokens)| *tokens < workload.ubatch);
    let dimensions = vec![
        refused.map_or(Vec::new(), |release| vec![(0.0, Change::Update(release))]),
        when(!workload.flash_attention, 0.0, Change::FlashAttention),
        when(
            workload.session == Session::Desktop && workload.budget.is_none() && headless > left,
            0.1,
            Change::Headless {
                freed: headless.saturating_sub(left),
            },
        ),
        idle.map_or(Vec::new(), |leaves| vec![(0.1, Change::Idle { leaves })]),
        when(workload.outputs.is_some(), 0.05, Change::Outputs),
        // How much is enough is known when the rest is.
        when(workload.reserve > Bytes(0), 0.3, Change::Reserve(Bytes(0))),
        when(
            workload.budget.is_some_and(|budget| budget < left),
            0.3,
            Change::Budget(left),
        ),
        ubatch
            .map(|(loss, tokens)| (loss, Change::Ubatch(tokens)))
            .collect(),
        halves.collect(),
        when(
            !model.towers.is_empty() && !workload.text_only,
            1.0,
            Change::TextOnly,
        ),
        kv_types(asked),
        schemes(asked, plans),
    ];
    dimensions
        .into_iter()
        .filter(|options| !options.is_empty())
        .collect()
}

/// Smaller types of cache that the runtime and the model's heads can have; F16 too where the type asked for
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
    // Fused attention is a change of its own.
    let fused = asked.clone().with(&Change::FlashAttention, &[]);
    let options = [(0.2, Dtype::F16), (0.4, Dtype::Q8_0), (2.0, Dtype::Q4_0)].into_iter();
    options
        .filter(|(_, dtype)| helps(*dtype))
        .map(|(loss, dtype)| (loss, Change::KvType(dtype)))
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

/// Smaller schemes. What a weight loses doubles with each bit that it is short of; a new file is a loss
/// too.
fn schemes(asked: &Situation<'_>, plans: &[&Plan]) -> Dimension {
    let loss = |plan: &Plan| 32.0 * (-plan.bits_per_weight).exp2();
    let now = asked.plan;
    let smaller = plans
        .iter()
        .filter(|plan| plan.tensor_bytes < now.tensor_bytes);
    let mut smaller: Dimension = smaller
        .map(|plan| {
            let more = (loss(plan) - loss(now)).max(0.0);
            (0.5 + more, Change::Scheme(plan.assignment.scheme.clone()))
        })
        .collect();
    smaller.sort_by(|a, b| a.0.total_cmp(&b.0));
    smaller
}
