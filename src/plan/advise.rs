//! What to change so that a model fits: a search over everything that a user can ask for less of, least loss first.
//! Never "offload to the CPU": it is the same memory.
//!
//! In: the plans of a model of which the wanted one does not fit. Out: a few combinations of changes, each of which was
//! planned and fits. Must not: offer a combination of which a part would be enough.

use crate::device::DeviceProfile;
use crate::evidence::quality::Basis;
use crate::model::ModelSpec;
use crate::note::{KvProblem, Note};
use crate::plan::change::{
    Dimension, FURTHER_CHANGE, LEAST_USEFUL_CONTEXT, PlanChange, Situation, dimensions,
};
use crate::plan::fit::{Fit, Plan, Target, available, max_context, speeds_by_mode};
use crate::plan::notes::allocation_note;
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// A piece of advice.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// Changes with which the scheme fits, all of them needed.
    Changes {
        /// The scheme's id.
        scheme: String,
        /// What to change.
        changes: Vec<PlanChange>,
    },
    /// The cache cannot have the type asked for, whatever the memory.
    Cache {
        /// Why, and which types it can have.
        problem: KvProblem,
    },
    /// What fits is slower than was asked for, or nothing fits and every scheme is.
    TooSlow {
        /// The fastest scheme of those that fit, or else of all.
        scheme: String,
        /// Whether it fits.
        fits: bool,
        /// Its expected decode rate in tokens a second.
        rate: f64,
        /// The first power mode of the board in which it is fast enough.
        mode: Option<String>,
    },
    /// Nothing here makes any scheme fit.
    TooLarge {
        /// The smallest scheme.
        scheme: String,
        /// The tokens of context that it was tried with: the least useful context, or what was asked for if that is less.
        context: u64,
        /// What it lacks with that.
        lack: Lack,
        /// The smallest board on which a scheme fits.
        board: Option<LargerBoard>,
    },
}

impl Advice {
    /// Whether it names a cache whose cost was measured of this model.
    pub fn is_measured(&self) -> bool {
        let Advice::Changes { changes, .. } = self else {
            return false;
        };
        let is_measured = |change: &PlanChange| match change {
            PlanChange::KvType { cost, .. } => cost
                .as_ref()
                .is_some_and(|cost| matches!(cost.basis, Basis::Measured(_))),
            _ => false,
        };
        changes.iter().any(is_measured)
    }
}

/// What keeps a scheme from fitting.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// Memory.
    Memory(Bytes),
    /// Nothing of that: there is room, but the driver refuses an allocation.
    Refused(Note),
}

/// A board on which a scheme fits as asked.
#[derive(Clone, Debug, PartialEq)]
pub struct LargerBoard {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The scheme.
    pub scheme: String,
    /// Whether it has a power mode with the name of the planned one.
    pub has_mode: bool,
}

/// The most combinations that are offered.
const MOST_COMBINATIONS: usize = 3;

/// The most changes in a combination.
const MOST_CHANGES: usize = 3;

/// What to change so that the scheme that the user most likely wants fits, least loss first; empty if it does. `others`
/// are plans of schemes that were not asked for, which advice may name; `boards` are the shipped boards, the smallest
/// first.
pub fn advise(
    model: &ModelSpec,
    result: &Fit,
    others: &Fit,
    boards: &[DeviceProfile],
    target: Target<'_>,
    workload: &Workload,
) -> Vec<Advice> {
    let preference = result.choice.preference;
    let every = || result.plans.iter().chain(&others.plans);
    let is_fast = |plan: &&Plan| preference.is_fast_enough(plan.rate());
    let one_is_fast = every().any(|plan| is_fast(&plan));
    let too_slow = too_slow(model, result, one_is_fast, target, workload);
    let wanted = result.wanted().filter(|plan| !plan.fits());
    // Where something fits and is too slow, advice on memory would be in vain but for a plan that is fast enough.
    let one_fits = result.plans.iter().any(Plan::fits);
    let is_vain = |plan: &&Plan| too_slow.is_some() && one_fits && !is_fast(plan);
    let Some(plan) = wanted.filter(|plan| !is_vain(plan)) else {
        return too_slow.into_iter().collect();
    };
    let asked = Situation {
        model,
        plan,
        target,
        workload: workload.clone(),
        cache_costs: &result.cache_costs,
    };
    let all: Vec<&Plan> = every()
        .filter(|plan| !one_is_fast || is_fast(plan))
        .collect();
    // Where another scheme fits, the verdict recommends it, so advice is about the wanted scheme alone.
    let plans = match result.recommended() {
        Some(_) => &[][..],
        None => &all[..],
    };
    let mut ways = as_asked(&asked, plans);
    ways.extend(with_less_context(&asked, plans));
    ways.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    ways.truncate(MOST_COMBINATIONS);
    let problem = plan.memory.kv_problem.clone();
    let problem = problem.map(|problem| Advice::Cache { problem });
    let mut advice: Vec<Advice> = too_slow.into_iter().chain(problem).collect();
    advice.extend(ways.into_iter().map(|way| way.advice(&asked, plans)));
    if advice.is_empty() && result.recommended().is_none() {
        let smallest = all.iter().min_by_key(|plan| plan.tensor_bytes);
        advice.extend(smallest.map(|smallest| Advice::TooLarge {
            scheme: smallest.assignment.scheme.clone(),
            context: least_context(workload),
            lack: lack(Situation {
                plan: smallest,
                ..asked.clone()
            }),
            board: larger_board(&asked, &all, boards),
        }));
    }
    advice
}

/// What to do about speed, where no plan that fits is fast enough, or none at all is.
fn too_slow(
    model: &ModelSpec,
    result: &Fit,
    one_is_fast: bool,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Advice> {
    let least = result.choice.preference.min_speed?;
    let of_all = || result.fastest_that(|_| !one_is_fast);
    let fastest = result.fastest().or_else(of_all);
    let (index, rate) = fastest.filter(|_| result.recommended().is_none())?;
    let plan = result.plans.get(index)?;
    let modes = speeds_by_mode(model, plan, target, workload);
    let mut modes = modes.into_iter();
    let fast = modes.find(|(_, speeds)| speeds.rate().expected >= least);
    Some(Advice::TooSlow {
        scheme: plan.assignment.scheme.clone(),
        fits: plan.fits(),
        rate,
        mode: fast.map(|(mode, _)| mode.to_owned()),
    })
}

/// The loss of giving up all of a reserve, or of the distance to all that the board has left: less is lost in proportion.
const ALL_GIVEN_UP: f64 = 2.0;

/// Changes that together are enough, and their loss.
#[derive(Clone)]
struct Combination {
    loss: f64,
    changes: Vec<PlanChange>,
}

impl Combination {
    fn new(loss: f64, changes: Vec<PlanChange>) -> Combination {
        Combination { loss, changes }
    }

    /// The same with a further change.
    fn and(&self, loss: f64, change: PlanChange) -> Combination {
        let further = if self.changes.is_empty() {
            0.0
        } else {
            FURTHER_CHANGE
        };
        let changes = [self.changes.as_slice(), &[change]].concat();
        Combination::new(self.loss + loss + further, changes)
    }

    /// Whether one of its changes is of the same kind as `change`.
    fn has_kind_of(&self, change: &PlanChange) -> bool {
        let kind = std::mem::discriminant(change);
        let mut kinds = self.changes.iter().map(std::mem::discriminant);
        kinds.any(|own| own == kind)
    }

    /// The changes with the sizes that are just enough, and the scheme.
    fn enough(&self, asked: &Situation<'_>, plans: &[&Plan]) -> (String, Vec<PlanChange>) {
        let then = changed(asked, &self.changes, plans);
        let (needed, pool) = (
            then.ledger().total(),
            then.available() + then.workload.reserve,
        );
        let whole = Bytes::MIB.0;
        let enough = |change: &PlanChange| match change {
            PlanChange::Reserve(_) => {
                let left = pool.saturating_sub(needed).0;
                PlanChange::Reserve(Bytes(left - left % whole))
            }
            PlanChange::Budget(_) => {
                let bytes = needed + then.workload.reserve;
                PlanChange::Budget(Bytes(bytes.0.next_multiple_of(whole)))
            }
            other => other.clone(),
        };
        let changes = self.changes.iter().map(enough).collect();
        (then.plan.assignment.scheme.clone(), changes)
    }

    /// The same with the loss of the memory that it takes from other programs.
    fn with_memory_given_up(mut self, asked: &Situation<'_>, plans: &[&Plan]) -> Combination {
        let takes =
            |change: &PlanChange| matches!(change, PlanChange::Reserve(_) | PlanChange::Budget(_));
        if !self.changes.iter().any(takes) {
            return self;
        }
        let (_, enough) = self.enough(asked, plans);
        let share = |(to, most): (&PlanChange, &PlanChange)| {
            let (from, to, most) = match (to, most) {
                (PlanChange::Reserve(to), PlanChange::Reserve(most)) => {
                    (asked.workload.reserve, *to, *most)
                }
                (PlanChange::Budget(to), PlanChange::Budget(most)) => {
                    (asked.workload.budget?, *to, *most)
                }
                _ => return None,
            };
            let whole = from.0.abs_diff(most.0).max(1) as f64;
            Some((from.0.abs_diff(to.0) as f64 / whole).min(1.0))
        };
        let shares = enough.iter().zip(&self.changes).filter_map(share);
        self.loss += ALL_GIVEN_UP * shares.sum::<f64>();
        self
    }

    /// The changes as advice, with the sizes that are just enough.
    fn advice(self, asked: &Situation<'_>, plans: &[&Plan]) -> Advice {
        let (scheme, changes) = self.enough(asked, plans);
        Advice::Changes { scheme, changes }
    }
}

fn changed<'a>(asked: &Situation<'a>, changes: &[PlanChange], plans: &[&'a Plan]) -> Situation<'a> {
    let start = asked.clone();
    changes
        .iter()
        .fold(start, |now, change| now.with(change, plans))
}

/// The combinations that keep the context, least loss first: none of their changes could be left out, and no two have
/// changes of the same kinds.
fn as_asked<'a>(asked: &Situation<'a>, plans: &[&'a Plan]) -> Vec<Combination> {
    let dimensions = dimensions(asked, plans);
    // Where all changes together are not enough, no combination is.
    let most: Vec<PlanChange> = dimensions
        .iter()
        .filter_map(|options| Some(options.last()?.1.clone()))
        .collect();
    if !changed(asked, &most, plans).fits() {
        return Vec::new();
    }
    let mut all: Vec<Combination> = combinations(&dimensions)
        .into_iter()
        .map(|way| way.with_memory_given_up(asked, plans))
        .collect();
    all.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    let mut ways: Vec<Combination> = Vec::new();
    for way in all {
        let is_more =
            |known: &Combination| known.changes.iter().all(|change| way.has_kind_of(change));
        if ways.len() == MOST_COMBINATIONS || ways.iter().any(is_more) {
            continue;
        }
        if changed(asked, &way.changes, plans).fits() {
            ways.push(way);
        }
    }
    ways
}

/// Every combination of one to a few options from different dimensions.
fn combinations(dimensions: &[Dimension]) -> Vec<Combination> {
    let mut all = vec![Combination::new(0.0, Vec::new())];
    for dimension in dimensions {
        let extensible = all.iter().filter(|way| way.changes.len() < MOST_CHANGES);
        let longer = extensible.flat_map(|way| {
            let also = |(loss, change): &(f64, PlanChange)| way.and(*loss, change.clone());
            dimension.iter().map(also)
        });
        let longer: Vec<Combination> = longer.collect();
        all.extend(longer);
    }
    all.retain(|way| !way.changes.is_empty());
    all
}

/// The first scheme that fits with a useful context: with the cache type asked for, and with the next smaller type where
/// that allows over a quarter more context. Halving the context is a loss of 2.
fn with_less_context<'a>(asked: &Situation<'a>, plans: &[&'a Plan]) -> Vec<Combination> {
    let dimensions = dimensions(asked, plans);
    let as_it_is = Combination::new(0.0, Vec::new());
    let of = |is_wanted: fn(&PlanChange) -> bool| {
        let all = dimensions.iter().flatten();
        all.filter(move |(_, change)| is_wanted(change))
    };
    let schemes = of(|change| matches!(change, PlanChange::Scheme(_)));
    let schemes = schemes.map(|(loss, change)| as_it_is.and(*loss, change.clone()));
    let smaller_cache = of(|change| matches!(change, PlanChange::KvType { .. })).next();
    let schemes = std::iter::once(as_it_is.clone()).chain(schemes);
    let ways = schemes.map(|way| {
        let smaller = smaller_cache.map(|(loss, change)| way.and(*loss, change.clone()));
        let mut ways: Vec<(u64, Combination)> = Vec::new();
        for way in std::iter::once(way).chain(smaller) {
            let then = changed(asked, &way.changes, plans);
            let types = &then.plan.assignment;
            let context = max_context(then.model, types, then.target, &then.workload);
            let least = LEAST_USEFUL_CONTEXT * asked.workload.parallel.max(1);
            let is_useful = (least..asked.workload.context).contains(&context);
            if is_useful && ways.iter().all(|(before, _)| context > before + before / 4) {
                let halvings = (asked.workload.context as f64 / context as f64).log2();
                ways.push((
                    context,
                    way.and(2.0 * halvings, PlanChange::Context(context)),
                ));
            }
        }
        ways
    });
    let mut useful = ways.filter(|ways| !ways.is_empty());
    let first = useful.next().unwrap_or_default();
    first.into_iter().map(|(_, way)| way).collect()
}

/// The least useful context in tokens, or what was asked for if that is less.
fn least_context(workload: &Workload) -> u64 {
    workload.context.min(LEAST_USEFUL_CONTEXT)
}

/// What a situation lacks with the least useful context.
fn lack(asked: Situation<'_>) -> Lack {
    let context = least_context(&asked.workload);
    let least = asked.with(&PlanChange::Context(context), &[]);
    let (ledger, available) = (least.ledger(), least.available());
    let refused = allocation_note(&ledger, least.target).filter(|_| ledger.total() <= available);
    refused.map_or(
        Lack::Memory(ledger.total().saturating_sub(available)),
        Lack::Refused,
    )
}

/// The first of `boards` with more memory on which one of `plans` fits as asked for, with the wanted one of these plans
/// or else the largest.
fn larger_board(
    asked: &Situation<'_>,
    plans: &[&Plan],
    boards: &[DeviceProfile],
) -> Option<LargerBoard> {
    // A machine without a GPU has other runtimes than the boards.
    let here = asked
        .target
        .device
        .gpu
        .as_ref()
        .map(|_| asked.available())?;
    let workload = Workload {
        budget: None,
        ..asked.workload.clone()
    };
    let mut larger = boards
        .iter()
        .filter(|board| available(board, &workload) > here);
    let on = |device: &DeviceProfile| {
        let mode = &device.default_mode;
        let target = Target {
            device,
            mode,
            release: None,
            clocks: None,
            ..asked.target
        };
        let fits = |plan: &&&Plan| {
            let there = Situation {
                plan,
                target,
                workload: workload.clone(),
                ..*asked
            };
            there.fits()
        };
        let mut fitting: Vec<&&Plan> = plans.iter().filter(fits).collect();
        fitting.sort_by_key(|plan| std::cmp::Reverse(plan.tensor_bytes));
        let is_wanted = |plan: &&&&Plan| plan.assignment.scheme == asked.plan.assignment.scheme;
        let best = fitting.iter().find(is_wanted).or(fitting.first());
        best.map(|plan| LargerBoard {
            id: device.id.clone(),
            name: device.name.clone(),
            scheme: plan.assignment.scheme.clone(),
            has_mode: device.mode(&asked.target.mode.name).is_ok(),
        })
    };
    larger.find_map(on)
}
