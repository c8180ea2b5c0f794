//! What to change so that a model fits several boards, least loss first.
//!
//! In: the boards, and a format that does not fit them. Out: a few changes, each of which was planned and fits. Must not:
//! offer a combination of which a part would be enough.

use super::{Cluster, Split, Stage, Times, Whole};
use crate::device::DeviceProfile;
use crate::evidence::quality::CacheCosts;
use crate::model::ModelSpec;
use crate::plan::advise::Lack;
use crate::plan::change::{
    FURTHER_CHANGE, LEAST_USEFUL_CONTEXT, PlanChange, Situation, dimensions,
};
use crate::plan::fit::{Plan, Target};
use crate::plan::workload::Workload;
use crate::scheme::Assignment;
use crate::units::Bytes;

/// A piece of advice.
#[derive(Clone, Debug, PartialEq)]
pub enum BoardsAdvice {
    /// Changes with which the scheme fits, all of them needed.
    Changes {
        /// The scheme's id.
        scheme: String,
        /// What to change.
        changes: Vec<PlanChange>,
    },
    /// Further boards like the last one.
    MoreBoards {
        /// How many more.
        more: usize,
        /// The scheme that fits then.
        scheme: String,
    },
    /// As many boards of a larger kind.
    LargerBoards {
        /// Its id.
        id: String,
        /// Its name for people.
        name: String,
        /// The scheme that fits then.
        scheme: String,
    },
    /// Nothing here makes any scheme fit.
    TooLarge {
        /// The smallest scheme.
        scheme: String,
        /// What the board that lacks most lacks.
        lack: Lack,
    },
}

/// What does not fit, with all that it was planned from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The format that is wanted.
    pub wanted: &'a Plan,
    /// Every format that may be offered, the wanted one too.
    pub plans: &'a [&'a Plan],
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// What a cache in other types costs.
    pub cache_costs: &'a CacheCosts,
}

/// The most changes that are offered.
const MOST_CHANGES: usize = 2;

/// The most further boards that are offered.
const MOST_FURTHER: usize = 3;

/// The loss of a larger budget.
const BUDGET: f64 = 0.3;

/// What to change so that one of the formats fits; `kinds` are the shipped boards, the smallest first.
pub fn advise(
    cluster: &Cluster<'_>,
    asked: Asked<'_>,
    kinds: &[DeviceProfile],
) -> Vec<BoardsAdvice> {
    let mut advice = changes(cluster, asked);
    advice.extend(more_boards(cluster, asked));
    advice.extend(larger_boards(cluster, asked, kinds));
    if advice.is_empty() {
        let smallest = asked.plans.iter().min_by_key(|plan| plan.tensor_bytes);
        advice.extend(smallest.map(|plan| {
            let split = cluster.split(asked.model, &plan.assignment, asked.workload);
            BoardsAdvice::TooLarge {
                scheme: plan.assignment.scheme.clone(),
                lack: largest_lack(&split),
            }
        }));
    }
    advice
}

/// What the board that lacks most lacks.
fn largest_lack(split: &Split) -> Lack {
    let most = split.stages.iter().map(Stage::missing).max();
    let most = most.unwrap_or_default();
    let mut refusals = split
        .stages
        .iter()
        .filter_map(|stage| stage.refusal.clone());
    match refusals.next().filter(|_| most == Bytes(0)) {
        Some(refusal) => Lack::Refused(refusal),
        None => Lack::Memory(most),
    }
}

/// One change, or two, of what is asked for.
fn changes(cluster: &Cluster<'_>, asked: Asked<'_>) -> Vec<BoardsAdvice> {
    let Some(target) = cluster
        .server_at()
        .or(Some(0))
        .and_then(|at| cluster.targets.get(at))
    else {
        return Vec::new();
    };
    let start = Situation {
        model: asked.model,
        plan: asked.wanted,
        target: *target,
        workload: asked.workload.clone(),
        cache_costs: asked.cache_costs,
    };
    // The others are about one board, or about programs on it.
    let is_of_all = |change: &PlanChange| {
        !matches!(
            change,
            PlanChange::Update(_) | PlanChange::Idle { .. } | PlanChange::Budget(_)
        )
    };
    let of_all = dimensions(&start, asked.plans).into_iter().flatten();
    let of_all = of_all.filter(|(_, change)| is_of_all(change));
    let options: Vec<(f64, PlanChange)> = update(cluster).into_iter().chain(of_all).collect();
    let then = |changes: &[PlanChange]| {
        let start = start.clone();
        changes
            .iter()
            .fold(start, |now, change| now.with(change, asked.plans))
    };
    let fits = |changes: &[PlanChange]| {
        let now = then(changes);
        let targets = updated(cluster.targets, changes);
        let targets = &targets;
        let cluster = Cluster {
            targets,
            ..*cluster
        };
        cluster.has_room(asked.model, &now.plan.assignment, &now.workload)
    };
    let mut ways: Vec<(f64, Vec<PlanChange>)> = Vec::new();
    let is_more = |ways: &[(f64, Vec<PlanChange>)], changes: &[PlanChange]| {
        let has = |known: &PlanChange| {
            let kind = std::mem::discriminant(known);
            changes
                .iter()
                .any(|own| std::mem::discriminant(own) == kind)
        };
        ways.iter().any(|(_, known)| known.iter().all(has))
    };
    for (loss, change) in &options {
        let one = vec![change.clone()];
        if !is_more(&ways, &one) && fits(&one) {
            ways.push((*loss, one));
        }
    }
    for (loss, scheme) in options
        .iter()
        .filter(|(_, c)| matches!(c, PlanChange::Scheme(_)))
    {
        for (further, change) in &options {
            let both = vec![change.clone(), scheme.clone()];
            let is_pair = !matches!(change, PlanChange::Scheme(_));
            if is_pair && !is_more(&ways, &both) && fits(&both) {
                ways.push((loss + further + FURTHER_CHANGE, both));
            }
        }
    }
    ways.extend(less_context(cluster, asked));
    ways.extend(larger_budget(cluster, asked));
    ways.sort_by(|a, b| a.0.total_cmp(&b.0));
    ways.truncate(MOST_CHANGES);
    let advice = ways.into_iter().map(|(_, changes)| BoardsAdvice::Changes {
        scheme: then(&changes).plan.assignment.scheme.clone(),
        changes,
    });
    advice.collect()
}

/// The release that lifts the limits for one allocation of all boards whose release is known.
fn update(cluster: &Cluster<'_>) -> Option<(f64, PlanChange)> {
    let lifted = |target: &Target<'_>| {
        target.release?;
        target.allocation_limit()?.until
    };
    let release = cluster.targets.iter().filter_map(lifted).max()?;
    Some((0.0, PlanChange::Update(release)))
}

/// The boards after an update among `changes`, which those with a newer release do not need.
fn updated<'a>(targets: &[Target<'a>], changes: &[PlanChange]) -> Vec<Target<'a>> {
    let to = changes.iter().find_map(|change| match change {
        PlanChange::Update(release) => Some(*release),
        _ => None,
    });
    let update = |target: &Target<'a>| Target {
        release: target.release.map(|own| own.max(to.unwrap_or(own))),
        ..*target
    };
    targets.iter().map(update).collect()
}

/// Less context with the wanted format, or else with the largest that then fits. Halving the context is a loss of 2.
fn less_context(cluster: &Cluster<'_>, asked: Asked<'_>) -> Option<(f64, Vec<PlanChange>)> {
    let least = LEAST_USEFUL_CONTEXT * asked.workload.parallel.max(1);
    let now = asked.workload.context;
    let context = |plan: &Plan| {
        let split = cluster.split(asked.model, &plan.assignment, asked.workload);
        let is_useful = (least..now).contains(&split.max_context);
        is_useful.then_some(split.max_context)
    };
    let (plan, context) = by_size(asked).find_map(|plan| Some((plan, context(plan)?)))?;
    let halvings = (now as f64 / context as f64).log2();
    let mut changes = vec![PlanChange::Context(context)];
    let mut loss = 2.0 * halvings;
    if plan.assignment.scheme != asked.wanted.assignment.scheme {
        changes.push(PlanChange::Scheme(plan.assignment.scheme.clone()));
        loss += FURTHER_CHANGE;
    }
    Some((loss, changes))
}

/// A budget that is just enough for the wanted format, or else for the largest that the boards have room for.
fn larger_budget(cluster: &Cluster<'_>, asked: Asked<'_>) -> Option<(f64, Vec<PlanChange>)> {
    asked.workload.budget?;
    let with = |budget| Workload {
        budget,
        ..asked.workload.clone()
    };
    let free = with(None);
    let enough = |plan: &Plan| {
        let split = cluster.split(asked.model, &plan.assignment, &free);
        let most = split
            .stages
            .iter()
            .map(|stage| stage.memory.total())
            .max()?;
        let most = most + asked.workload.reserve;
        let budget = Bytes(most.0.next_multiple_of(Bytes::MIB.0));
        let is_enough =
            split.fits() && cluster.has_room(asked.model, &plan.assignment, &with(Some(budget)));
        is_enough.then_some(budget)
    };
    let (plan, budget) = by_size(asked).find_map(|plan| Some((plan, enough(plan)?)))?;
    let mut changes = vec![PlanChange::Budget(budget)];
    if plan.assignment.scheme != asked.wanted.assignment.scheme {
        changes.push(PlanChange::Scheme(plan.assignment.scheme.clone()));
    }
    Some((BUDGET, changes))
}

/// The wanted format, then the smaller ones, the largest first.
fn by_size<'a>(asked: Asked<'a>) -> impl Iterator<Item = &'a Plan> {
    let wanted = asked.wanted;
    let mut smaller: Vec<&Plan> = asked.plans.to_vec();
    smaller.retain(|plan| plan.tensor_bytes < wanted.tensor_bytes);
    smaller.sort_by_key(|plan| std::cmp::Reverse(plan.tensor_bytes));
    std::iter::once(wanted).chain(smaller)
}

/// The first format that fits `targets`.
fn fitting(cluster: &Cluster<'_>, asked: Asked<'_>, targets: &[Target<'_>]) -> Option<String> {
    let cluster = Cluster {
        targets,
        layers: None,
        ..*cluster
    };
    let fits = |plan: &&Plan| cluster.has_room(asked.model, &plan.assignment, asked.workload);
    let plan = by_size(asked).find(fits)?;
    Some(plan.assignment.scheme.clone())
}

fn more_boards(cluster: &Cluster<'_>, asked: Asked<'_>) -> Option<BoardsAdvice> {
    let mut targets = cluster.targets.to_vec();
    let last = *targets.last()?;
    (1..=MOST_FURTHER).find_map(|more| {
        targets.push(last);
        // A board has at least a block.
        let scheme = (targets.len() <= asked.model.layers.len())
            .then(|| fitting(cluster, asked, &targets))??;
        Some(BoardsAdvice::MoreBoards { more, scheme })
    })
}

fn larger_boards(
    cluster: &Cluster<'_>,
    asked: Asked<'_>,
    kinds: &[DeviceProfile],
) -> Option<BoardsAdvice> {
    let memory = |device: &DeviceProfile| device.total_memory.value;
    let least = cluster
        .targets
        .iter()
        .map(|target| memory(target.device))
        .min()?;
    let larger = kinds.iter().filter(|device| memory(device) > least);
    let of_kind = |device: &DeviceProfile| {
        let mut targets: Vec<Target<'_>> = Vec::new();
        for target in cluster.targets {
            targets.push(Target {
                device,
                mode: &device.default_mode,
                release: None,
                ..*target
            });
        }
        Some(BoardsAdvice::LargerBoards {
            id: device.id.clone(),
            name: device.name.clone(),
            scheme: fitting(cluster, asked, &targets)?,
        })
    };
    larger.into_iter().find_map(of_kind)
}

impl Cluster<'_> {
    /// Whether every board has room for its part.
    fn has_room(&self, model: &ModelSpec, assignment: &Assignment, workload: &Workload) -> bool {
        let whole = Whole {
            model,
            assignment,
            workload,
        };
        let stages = self.stages(&whole, &Times::of(&whole, self.targets));
        !stages.is_empty() && stages.iter().all(|stage| stage.fits)
    }
}
