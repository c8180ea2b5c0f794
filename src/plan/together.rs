//! Several models on one board: what they take together, which of them stay in memory, and how much context each can
//! have beside the others.
//!
//! Each runs in a process of its own, with the runtime's share in it. Models that are loaded on demand take turns: the
//! largest of them has to have room. Models are served in the order of their priority.

use crate::model::ModelSpec;
use crate::plan::fit::{Plan, Target, max_context};
use crate::plan::memory::ledger;
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// One of several models on a board.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// Its plan, alone on the board.
    pub plan: &'a Plan,
    /// The board and its runtime.
    pub target: Target<'a>,
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// 1 is served first; equals in the order of the list.
    pub priority: u32,
    /// Whether it is loaded when it is asked for, in turn with others of its kind.
    pub on_demand: bool,
}

/// What becomes of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whether there is room for it beside those that are served before it.
    pub has_room: bool,
    /// Without room: the members to unload so that it has some, the least important first. `None` where it has none
    /// even alone.
    pub unload: Option<Vec<usize>>,
    /// The largest context that it can have beside the others, with what those before it took; 0 where not all have room.
    pub max_context: u64,
}

/// What several models take together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Together {
    /// Memory for models and other programs.
    pub available: Bytes,
    /// The most that is in use at once: programs, models that stay, the largest of those on demand.
    pub needed: Bytes,
    /// One for each member.
    pub places: Vec<Admission>,
}

impl Together {
    /// Whether all have room.
    pub fn fits(&self) -> bool {
        self.places.iter().all(|place| place.has_room)
    }
}

/// The indices of members in the order in which they are served, for their priorities.
pub fn served_order(priorities: impl Iterator<Item = u32>) -> Vec<usize> {
    let priorities: Vec<u32> = priorities.collect();
    let mut order: Vec<usize> = (0..priorities.len()).collect();
    order.sort_by_key(|&index| priorities.get(index));
    order
}

/// What `members` take together, where other programs take `programs` of `available`.
pub fn together(members: &[Member<'_>], available: Bytes, programs: Bytes) -> Together {
    let order = served_order(members.iter().map(|member| member.priority));
    let mut places: Vec<Admission> = members
        .iter()
        .map(|_| Admission {
            has_room: false,
            unload: None,
            max_context: 0,
        })
        .collect();
    let mut used = Used::of(programs);
    for &index in &order {
        let (Some(member), Some(place)) = (members.get(index), places.get_mut(index)) else {
            continue;
        };
        let next = used.with(member, member.plan.memory.total());
        // Whether it fits at all was found for the whole board: types of cache and single allocations count there.
        let is_possible = member.plan.refusal().is_none();
        place.has_room = next.sum() <= available && is_possible;
        if place.has_room {
            used = next;
        } else if is_possible {
            place.unload = unload(members, &order, index, available, programs);
        }
    }
    let all = members.iter().fold(Used::of(programs), |used, member| {
        used.with(member, member.plan.memory.total())
    });
    let mut found = Together {
        available,
        needed: all.sum(),
        places,
    };
    if found.fits() {
        contexts(members, &order, all, &mut found);
    }
    found
}

/// Memory in use.
#[derive(Clone, Copy, Debug)]
struct Used {
    programs: Bytes,
    resident: Bytes,
    /// The largest model on demand.
    turn: Bytes,
}

impl Used {
    fn of(programs: Bytes) -> Used {
        Used {
            programs,
            resident: Bytes(0),
            turn: Bytes(0),
        }
    }

    fn sum(&self) -> Bytes {
        self.programs + self.resident + self.turn
    }

    /// The same with `member` in it, which takes `bytes`.
    fn with(mut self, member: &Member<'_>, bytes: Bytes) -> Used {
        if member.on_demand {
            self.turn = self.turn.max(bytes);
        } else {
            self.resident += bytes;
        }
        self
    }
}

/// The members to unload so that the one at `wanted` has room: those that are served last go first.
fn unload(
    members: &[Member<'_>],
    order: &[usize],
    wanted: usize,
    available: Bytes,
    programs: Bytes,
) -> Option<Vec<usize>> {
    let need = members.get(wanted)?.plan.memory.total();
    let before = order.iter().copied().take_while(|&at| at != wanted);
    // Those on demand are unloaded anyway.
    let mut kept: Vec<usize> = before
        .filter(|&at| members.get(at).is_some_and(|member| !member.on_demand))
        .collect();
    let sum = |kept: &[usize]| -> Bytes {
        let members = kept.iter().filter_map(|&at| members.get(at));
        members.map(|member| member.plan.memory.total()).sum()
    };
    let mut gone = Vec::new();
    while programs + sum(&kept) + need > available {
        gone.push(kept.pop()?);
    }
    Some(gone)
}

/// The largest contexts, in the order of priority: what one takes more, those after it do not have.
fn contexts(members: &[Member<'_>], order: &[usize], all: Used, found: &mut Together) {
    let mut used = all;
    for &index in order {
        let (Some(member), Some(place)) = (members.get(index), found.places.get_mut(index)) else {
            continue;
        };
        let now = member.plan.memory.total();
        let left = found.available.saturating_sub(used.sum());
        let room = if member.on_demand {
            used.turn.max(now) + left
        } else {
            now + left
        };
        let with_room = Workload {
            budget: Some(room),
            reserve: Bytes(0),
            ..member.workload.clone()
        };
        let Member {
            model,
            plan,
            target,
            ..
        } = member;
        place.max_context = max_context(model, &plan.assignment, *target, &with_room);
        let grown = ledger(
            model,
            &plan.assignment,
            target.runtime,
            &member.workload.with_context(place.max_context),
        );
        let grown = grown.total().max(now);
        if member.on_demand {
            used.turn = used.turn.max(grown);
        } else {
            used.resident += grown.saturating_sub(now);
        }
    }
}
