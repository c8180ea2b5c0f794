//! Several models planned on one board: a format for each, and what they take together.
//!
//! In: a [`SharedRequest`], from flags or from a file ([`SharedFile`](super::SharedFile)). Out: a [`SharedPlan`].

use super::error::PlanError;
use super::request::Request;
use super::{Board, FoundDevice, Planner};
use crate::plan::fit::{Plan, available};
use crate::plan::together::{Member, Together, served_order, together};
use crate::plan::{Fit, Workload};
use crate::units::{Bytes, BytesPerSecond};

/// One of several models, as it is asked for.
#[derive(Clone, Debug)]
pub struct SharedModel {
    /// What it is called in the report.
    pub name: String,
    /// MODEL, as `orinplan fit` takes it.
    pub model: String,
    /// Its runtime, formats and workload. Its board counts for nothing but the runtime and the power mode.
    pub request: Request,
    /// 1 is served first.
    pub priority: u32,
    /// Whether it is loaded when it is asked for.
    pub on_demand: bool,
}

/// Another program on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is called in the report.
    pub name: String,
    /// The memory that it takes.
    pub memory: Bytes,
}

/// Several models on one board, as they are asked for.
#[derive(Clone, Debug)]
pub struct SharedRequest {
    /// The models.
    pub models: Vec<SharedModel>,
    /// Other programs.
    pub programs: Vec<Program>,
    /// What files are loaded from.
    pub storage: Storage,
}

/// What files are loaded from.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// `nvme`, `sd`, or the rate as it was given.
    pub name: String,
    /// Bytes read a second.
    pub rate: BytesPerSecond,
    /// Whether the rate is a usual one of its kind and not the user's own.
    pub assumed: bool,
}

/// Several models on one board.
#[derive(Debug)]
pub struct SharedPlan {
    /// One for each model, in the order asked for.
    pub models: Vec<SharedMember>,
    /// What they take together.
    pub together: Together,
}

/// The plan of one of several models.
#[derive(Debug)]
pub struct SharedMember {
    /// The board with its runtime.
    pub board: Board,
    /// What it is asked to do.
    pub workload: Workload,
    /// Its plan beside the others.
    pub plan: Plan,
    /// The rate that was asked for and that none of its formats with room reaches, in tokens a second.
    pub too_slow: Option<f64>,
}

impl Storage {
    /// Usual rates of reading a file from end to end: an NVMe drive on the four PCIe lanes of a carrier board, and a
    /// card at the limit of UHS-I (104 MB/s), a little below it.
    const USUAL: [(&str, f64); 2] = [("nvme", 1.5e9), ("sd", 90e6)];

    /// The kind of storage or the rate (`1.2GB/s`, `300MB/s`) that a text names.
    ///
    /// # Errors
    /// A sentence that says what is known.
    pub fn named(text: &str) -> Result<Storage, String> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some((name, rate)) = Storage::USUAL.iter().find(|(name, _)| *name == lower) {
            return Ok(Storage {
                name: (*name).to_owned(),
                rate: BytesPerSecond(*rate),
                assumed: true,
            });
        }
        let units = [("gb/s", 1e9), ("mb/s", 1e6)];
        let read = units.iter().find_map(|(unit, scale)| {
            let number: f64 = lower.strip_suffix(unit)?.trim_end().parse().ok()?;
            Some(number * scale)
        });
        let rate = read.filter(|rate| (1e6..=1e11).contains(rate));
        let rate = rate.ok_or_else(|| {
            format!(
                "`{text}` is not a storage: write nvme, sd, or a rate such as 1.2GB/s or 300MB/s"
            )
        })?;
        Ok(Storage {
            name: text.trim().to_owned(),
            rate: BytesPerSecond(rate),
            assumed: false,
        })
    }
}

impl Default for Storage {
    fn default() -> Storage {
        let (name, rate) = Storage::USUAL[0];
        Storage {
            name: name.to_owned(),
            rate: BytesPerSecond(rate),
            assumed: true,
        }
    }
}

impl SharedRequest {
    /// Plans `planners`, which are opened from the models asked for in their order, on `device`.
    ///
    /// A model whose format is not given gets the best that has room beside those that are served before it and the
    /// smallest formats of the others.
    ///
    /// # Errors
    /// As [`Board::of`] and [`Planner::plan`].
    pub fn plan(
        &self,
        planners: &[Planner],
        device: &FoundDevice,
    ) -> Result<SharedPlan, PlanError> {
        let mut drafts = Vec::with_capacity(self.models.len());
        for (asked, planner) in self.models.iter().zip(planners) {
            drafts.push(Draft::of(asked, planner, device)?);
        }
        let programs: Bytes = self.programs.iter().map(|program| program.memory).sum();
        let pool = drafts.first().map_or(Bytes(0), |first| {
            available(&first.board.device, &first.workload)
        });
        for index in served_order(self.models.iter().map(|model| model.priority)) {
            self.choose(index, &mut drafts, pool.saturating_sub(programs))?;
        }
        let models: Vec<SharedMember> = drafts.into_iter().filter_map(Draft::taken).collect();
        let members: Vec<Member<'_>> = self
            .models
            .iter()
            .zip(planners)
            .zip(&models)
            .map(|((asked, planner), member)| Member {
                model: planner.model(),
                plan: &member.plan,
                target: member.board.target(),
                workload: &member.workload,
                priority: asked.priority,
                on_demand: asked.on_demand,
            })
            .collect();
        let together = together(&members, pool, programs);
        Ok(SharedPlan { models, together })
    }

    /// Takes the plan of the model at `index` that is best in what the others leave it of `room`.
    fn choose(&self, index: usize, drafts: &mut [Draft<'_>], room: Bytes) -> Result<(), PlanError> {
        let on_demand = |at: usize| self.models.get(at).is_some_and(|model| model.on_demand);
        let others = drafts.iter().enumerate().filter(|(at, _)| *at != index);
        let (mut resident, mut turn) = (Bytes(0), Bytes(0));
        for (at, draft) in others {
            let bytes = draft.plan().map_or(Bytes(0), |plan| plan.memory.total());
            if on_demand(at) {
                turn = turn.max(bytes);
            } else {
                resident += bytes;
            }
        }
        // Those on demand take turns, so one of them shares its room with the others.
        let left = room.saturating_sub(if on_demand(index) {
            resident
        } else {
            resident + turn
        });
        if let Some(draft) = drafts.get_mut(index) {
            draft.choose(left)?;
        }
        Ok(())
    }
}

/// A model on its way to a plan.
struct Draft<'a> {
    planner: &'a Planner,
    request: Request,
    board: Board,
    workload: Workload,
    fit: Fit,
    /// The plan that is taken: at first the smallest.
    taken: usize,
    too_slow: Option<f64>,
}

impl<'a> Draft<'a> {
    fn of(
        asked: &SharedModel,
        planner: &'a Planner,
        device: &FoundDevice,
    ) -> Result<Draft<'a>, PlanError> {
        let board = Board::of(device.clone(), &asked.request.board)?;
        let (workload, fit) = planner.fit_on(&board, &asked.request)?;
        let taken = smallest(&fit);
        Ok(Draft {
            planner,
            request: asked.request.clone(),
            board,
            workload,
            fit,
            taken,
            too_slow: None,
        })
    }

    fn plan(&self) -> Option<&Plan> {
        self.fit.plans.get(self.taken)
    }

    /// Takes the recommended plan for `room`, or else the fastest with room where all of these are too slow, or else the
    /// smallest.
    fn choose(&mut self, room: Bytes) -> Result<(), PlanError> {
        self.request.workload.budget = Some(room);
        self.request.workload.reserve = Bytes(0);
        let (workload, fit) = self.planner.fit_on(&self.board, &self.request)?;
        let fastest = fit.fastest().filter(|_| fit.choice.taken.is_none());
        let fastest = fastest.map(|(index, _)| index);
        self.too_slow = self
            .request
            .preference
            .min_speed
            .filter(|_| fastest.is_some());
        let taken = fit.choice.taken.or(fastest);
        self.taken = taken.unwrap_or_else(|| smallest(&fit));
        (self.workload, self.fit) = (workload, fit);
        Ok(())
    }

    fn taken(mut self) -> Option<SharedMember> {
        if self.taken >= self.fit.plans.len() {
            return None;
        }
        Some(SharedMember {
            plan: self.fit.plans.swap_remove(self.taken),
            board: self.board,
            workload: self.workload,
            too_slow: self.too_slow,
        })
    }
}

impl SharedPlan {
    /// Whether all have room, in formats that are fast enough.
    pub fn is_as_asked(&self) -> bool {
        self.together.fits() && self.models.iter().all(|member| member.too_slow.is_none())
    }
}

/// The plan that takes the least memory.
fn smallest(fit: &Fit) -> usize {
    let plans = fit.plans.iter().enumerate();
    let smallest = plans.min_by_key(|(_, plan)| plan.memory.total());
    smallest.map_or(0, |(index, _)| index)
}
