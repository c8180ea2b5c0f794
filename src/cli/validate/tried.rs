//! A measured run against its plan: what of it is plausible, how far predictions are off, what may have disturbed it, and
//! what is kept of it for later plans.

use super::under_test::{Alternative, RunUnderTest};
use crate::cli::date;
use crate::plan::fit::Target;
use crate::planner::Board;
use crate::runtime;
use crate::runtime::learned::{Pair, Run};
use crate::validate::{
    self, Check, CheckContext, Comparison, MeasureRequest, Measured, Metric, PeakMemory, RanOn,
    Watched,
};

/// The machine of a run.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Machine<'a> {
    /// The board that was planned for.
    pub(in crate::cli) board: &'a Board,
    /// Where it ran.
    pub(in crate::cli) ran_on: RanOn<'a>,
    /// The power mode in force, as nvpmodel calls it.
    pub(in crate::cli) mode_in_force: Option<&'a str>,
}

/// A measured run.
pub(in crate::cli) struct Tried {
    pub(in crate::cli) measured: Measured,
    pub(in crate::cli) memory: PeakMemory,
    pub(in crate::cli) comparison: Comparison,
    pub(in crate::cli) checks: Vec<Check>,
}

impl RunUnderTest<'_> {
    /// Rejects what cannot have been measured, and compares the rest. `from_start` says that the model was loaded
    /// meanwhile.
    pub(in crate::cli) fn tried(
        &self,
        machine: Machine<'_>,
        request: &MeasureRequest,
        (mut measured, watched): (Measured, Watched),
        from_start: bool,
    ) -> anyhow::Result<Tried> {
        let (board, target) = (machine.board, machine.board.target());
        let mut memory = PeakMemory::of(&measured, &watched, from_start);
        validate::reject_counts(&mut measured, request);
        let alternatives = self.alternatives(target, &measured)?;
        let limits = self.limits(target, &measured, &alternatives)?;
        validate::reject_figures(&mut measured, &mut memory, &limits);
        let mut comparison = self.compare(target, &measured, memory)?;
        if let RanOn::Another(_) = machine.ran_on {
            comparison = comparison.elsewhere();
        }
        let suspects = alternatives.iter();
        let suspects = suspects.filter(|other| self.other_modes || !other.is_mode());
        let suspects: Vec<_> = suspects.map(Alternative::suspect).collect();
        let checks = validate::check(&CheckContext {
            device: &board.device,
            mode: &board.mode,
            backend: board.runtime.backend,
            mode_in_force: machine.mode_in_force,
            watched: &watched,
            measured: &measured,
            comparison: &comparison,
            suspects: &suspects,
            ran_on: machine.ran_on,
        });
        Ok(Tried {
            measured,
            memory,
            comparison,
            checks,
        })
    }

    /// The run as it is kept: against the profile without corrections, so that none is learned twice.
    pub(in crate::cli) fn kept(&self, machine: Machine<'_>, tried: &Tried) -> anyhow::Result<Run> {
        let board = machine.board;
        let runtime = &runtime::find(&board.runtime.id)?;
        let target = Target {
            runtime,
            ..board.target()
        };
        let uncorrected = self.compare(target, &tried.measured, tried.memory)?;
        let (setup, shares) = self.setup(target, &tried.measured)?;
        let pair = |metric| {
            let line = uncorrected.line(metric).filter(|line| line.judged)?;
            Pair::new(line.predicted?.expected, line.measured?.mean)
        };
        let disturbed = tried.checks.iter().filter(|check| check.holds());
        Ok(Run {
            date: date::today(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime: board.runtime.id.clone(),
            engine: tried.measured.engine.clone(),
            device: board.device.id.clone(),
            power_mode: board.mode.name.clone(),
            model: self.model.name.clone(),
            scheme: self.candidate.assignment.scheme.clone(),
            synthetic: false,
            setup: Some(setup),
            shares,
            disturbed: disturbed.map(|check| check.code.to_owned()).collect(),
            decode: pair(Metric::Decode),
            prefill: pair(Metric::Prefill),
            memory: pair(Metric::Memory),
        })
    }
}
