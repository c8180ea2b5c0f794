//! What to change so that a model fits: searched for over everything a user can do without, least loss
//! first. Never "offload to the CPU": it is the same memory.
//!
//! In: the plans of a model of which the wanted one does not fit. Out: a few ways, each of which was planned and
//! fits. Must not: offer a way of which a part would do.

use crate::device::DeviceProfile;
use crate::model::ModelSpec;
use crate::note::KvProblem;
use crate::plan::change::{Change, Dimension, Situation, dimensions};
use crate::plan::fit::{Fit, Plan, Target, available, max_context};
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// What a user can do.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// Changes with which the scheme fits, all of them needed.
    Changes {
        /// The scheme.
        scheme: String,
        /// What to change.
        changes: Vec<Change>,
    },
    /// The cache cannot have the type asked for, whatever the memory.
    Cache {
        /// Why, and what it can have.
        problem: KvProblem,
    },
    /// Nothing here makes any scheme fit.
    TooLarge {
        /// The smallest scheme.
        scheme: String,
        /// The context with which it lacks least: that of some use, or what was asked for if it is less.
        context: u64,
        /// What it lacks with that.
        missing: Bytes,
        /// The smallest board that would do.
        board: Option<LargerBoard>,
    },
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
    /// Whether it has a power mode of the name that is planned for.
    pub has_mode: bool,
}

/// Contexts of a sequence below this are of little use, so they are not offered.
const LEAST_USEFUL_CONTEXT: u64 = 512;

/// Ways that are told.
const MOST_WAYS: usize = 3;

/// Changes that are made together.
const MOST_CHANGES: usize = 3;

/// What each change beyond the first costs beside its own loss: simple advice goes first.
const FURTHER_CHANGE: f64 = 2.0;

/// What to change so that the scheme the user most likely wants fits. Empty if it does. `others` are
/// plans of schemes that were not asked for, which advice may name; `boards` are those there are, the
/// smallest first.
pub fn advise(
    model: &ModelSpec,
    result: &Fit,
    others: &Fit,
    boards: &[DeviceProfile],
    target: Target<'_>,
    workload: &Workload,
) -> Vec<Advice> {
    let Some(plan) = result.wanted().filter(|plan| !plan.fits()) else {
        return Vec::new();
    };
    let asked = Situation {
        model,
        plan,
        target,
        workload: workload.clone(),
    };
    let all: Vec<&Plan> = result.plans.iter().chain(&others.plans).collect();
    // Where a scheme fits already, the way to it is told by the verdict.
    let plans = match result.recommended() {
        Some(_) => &[][..],
        None => &all[..],
    };
    let mut ways = as_asked(&asked, plans);
    ways.extend(with_less_context(&asked, plans));
    ways.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    ways.truncate(MOST_WAYS);
    let problem = plan.memory.kv_problem.clone();
    let mut advice: Vec<Advice> = problem
        .map(|problem| Advice::Cache { problem })
        .into_iter()
        .collect();
    advice.extend(ways.into_iter().map(|way| way.advice(&asked, plans)));
    if advice.is_empty() && result.recommended().is_none() {
        let smallest = all.iter().min_by_key(|plan| plan.tensor_bytes);
        advice.extend(smallest.map(|smallest| Advice::TooLarge {
            scheme: smallest.assignment.scheme.clone(),
            context: least_context(workload),
            missing: missing(Situation {
                plan: smallest,
                ..asked.clone()
            }),
            board: larger_board(&asked, &all, boards),
        }));
    }
    advice
}

/// Changes that together are enough, and what they cost.
#[derive(Clone)]
struct Way {
    loss: f64,
    changes: Vec<Change>,
}

impl Way {
    fn new(loss: f64, changes: Vec<Change>) -> Way {
        Way { loss, changes }
    }

    /// With a further change.
    fn and(&self, loss: f64, change: Change) -> Way {
        let further = if self.changes.is_empty() {
            0.0
        } else {
            FURTHER_CHANGE
        };
        let changes = [self.changes.as_slice(), &[change]].concat();
        Way::new(self.loss + loss + further, changes)
    }

    /// Whether it changes something in the same respect as `change` does.
    fn is_about(&self, change: &Change) -> bool {
        let respect = std::mem::discriminant(change);
        let mut respects = self.changes.iter().map(std::mem::discriminant);
        respects.any(|own| own == respect)
    }

    /// The changes with the sizes that are enough, and the scheme that they are for.
    fn advice(self, asked: &Situation<'_>, plans: &[&Plan]) -> Advice {
        let then = changed(asked, &self.changes, plans);
        let (needed, pool) = (
            then.ledger().total(),
            then.available() + then.workload.reserve,
        );
        let whole = Bytes::MIB.0;
        let enough = |change| match change {
            Change::Reserve(_) => {
                let left = pool.saturating_sub(needed).0;
                Change::Reserve(Bytes(left - left % whole))
            }
            Change::Budget(_) => {
                let bytes = needed + then.workload.reserve;
                Change::Budget(Bytes(bytes.0.next_multiple_of(whole)))
            }
            other => other,
        };
        Advice::Changes {
            scheme: then.plan.assignment.scheme.clone(),
            changes: self.changes.into_iter().map(enough).collect(),
        }
    }
}

fn changed<'a>(asked: &Situation<'a>, changes: &[Change], plans: &[&'a Plan]) -> Situation<'a> {
    let start = asked.clone();
    changes
        .iter()
        .fold(start, |now, change| now.with(change, plans))
}

/// The ways that keep the context, the least loss first: up to a few changes, none of which could be left
/// out, and no two ways in the same respects.
fn as_asked<'a>(asked: &Situation<'a>, plans: &[&'a Plan]) -> Vec<Way> {
    let dimensions = dimensions(asked, plans);
    // Nothing less will do where everything that can be changed is not enough.
    let most: Vec<Change> = dimensions
        .iter()
        .filter_map(|options| Some(options.last()?.1.clone()))
        .collect();
    if !changed(asked, &most, plans).fits() {
        return Vec::new();
    }
    let mut ways: Vec<Way> = Vec::new();
    for way in combinations(&dimensions) {
        let is_more = |known: &Way| known.changes.iter().all(|change| way.is_about(change));
        if ways.len() == MOST_WAYS || ways.iter().any(is_more) {
            continue;
        }
        if changed(asked, &way.changes, plans).fits() {
            ways.push(way);
        }
    }
    ways
}

/// Every combination of one to a few options from different dimensions, the least loss first.
fn combinations(dimensions: &[Dimension]) -> Vec<Way> {
    let mut all = vec![Way::new(0.0, Vec::new())];
    for dimension in dimensions {
        let extensible = all.iter().filter(|way| way.changes.len() < MOST_CHANGES);
        let longer = extensible.flat_map(|way| {
            let also = |(loss, change): &(f64, Change)| way.and(*loss, change.clone());
            dimension.iter().map(also)
        });
        let longer: Vec<Way> = longer.collect();
        all.extend(longer);
    }
    all.retain(|way| !way.changes.is_empty());
    all.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    all
}

/// The first scheme that fits with a context of some use, with the cache as asked and with the next
/// smaller one where that brings a good deal more. Halving the context costs 2.
fn with_less_context<'a>(asked: &Situation<'a>, plans: &[&'a Plan]) -> Vec<Way> {
    let dimensions = dimensions(asked, plans);
    let as_it_is = Way::new(0.0, Vec::new());
    let of = |respect: fn(&Change) -> bool| {
        let all = dimensions.iter().flatten();
        all.filter(move |(_, change)| respect(change))
    };
    let schemes = of(|change| matches!(change, Change::Scheme(_)));
    let schemes = schemes.map(|(loss, change)| as_it_is.and(*loss, change.clone()));
    let smaller_cache = of(|change| matches!(change, Change::KvType(_))).next();
    let schemes = std::iter::once(as_it_is.clone()).chain(schemes);
    let ways = schemes.map(|way| {
        let smaller = smaller_cache.map(|(loss, change)| way.and(*loss, change.clone()));
        let mut ways: Vec<(u64, Way)> = Vec::new();
        for way in std::iter::once(way).chain(smaller) {
            let then = changed(asked, &way.changes, plans);
            let types = &then.plan.assignment;
            let context = max_context(then.model, types, then.target, &then.workload);
            let least = LEAST_USEFUL_CONTEXT * asked.workload.parallel.max(1);
            let is_useful = (least..asked.workload.context).contains(&context);
            if is_useful && ways.iter().all(|(before, _)| context > before + before / 4) {
                let halvings = (asked.workload.context as f64 / context as f64).log2();
                ways.push((context, way.and(2.0 * halvings, Change::Context(context))));
            }
        }
        ways
    });
    let mut useful = ways.filter(|ways| !ways.is_empty());
    let first = useful.next().unwrap_or_default();
    first.into_iter().map(|(_, way)| way).collect()
}

/// The least context of some use, or what was asked for if it is less.
fn least_context(workload: &Workload) -> u64 {
    workload.context.min(LEAST_USEFUL_CONTEXT)
}

/// What a situation lacks with the least context of some use.
fn missing(asked: Situation<'_>) -> Bytes {
    let context = least_context(&asked.workload);
    let least = asked.with(&Change::Context(context), &[]);
    least.ledger().total().saturating_sub(least.available())
}

/// The first of `boards` with more memory on which one of `plans` fits as asked, and the best that does.
fn larger_board(
    asked: &Situation<'_>,
    plans: &[&Plan],
    boards: &[DeviceProfile],
) -> Option<LargerBoard> {
    // A machine without a GPU is planned with runtimes of its own.
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
