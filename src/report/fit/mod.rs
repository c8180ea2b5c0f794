//! The report of `orinplan fit`, as text, Markdown and JSON.

mod advice;
mod check;
mod commands;
mod explain;
mod json;
mod markdown;
mod quality;
pub mod several;
mod text;

use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::device::Choice;
use crate::evidence::Evidence;
use crate::model::ModelSpec;
use crate::plan::advise::Advice;
use crate::plan::fit::Target;
use crate::plan::{Fit, Workload};
use crate::planner::{LaunchContext, Planned, Planner};
use crate::report::planned_for;
use crate::units::{Bytes, counted};

pub use check::differences;
pub use explain::explain;
pub use json::{SCHEMA, bound, document};
pub(super) use json::{device, spread};
pub use markdown::page as markdown;
pub(super) use quality::document as quality_document;
pub(super) use text::range;
pub use text::{is_report, painted, text};

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Where the model came from.
    pub checkpoint: &'a Checkpoint,
    /// The model.
    pub model: &'a ModelSpec,
    /// The board, its mode and the runtime.
    pub target: Target<'a>,
    /// How that board was chosen.
    pub choice: Choice,
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// The plans.
    pub fit: &'a Fit,
    /// What to change if no scheme fits.
    pub advice: &'a [Advice],
    /// What the commands to paste depend on.
    pub launch: &'a LaunchContext,
}

impl<'a> Report<'a> {
    /// The report of what `planner` has planned.
    pub fn new(planner: &'a Planner, planned: &'a Planned) -> Report<'a> {
        Report {
            checkpoint: planner.checkpoint(),
            model: planner.model(),
            target: planned.board.target(),
            choice: planned.board.choice,
            workload: &planned.workload,
            fit: &planned.fit,
            advice: &planned.advice,
            launch: &planned.launch,
        }
    }

    /// The format of the source in one word.
    fn source_format(&self) -> &'static str {
        match self.checkpoint.format {
            SourceFormat::Safetensors => "safetensors",
            SourceFormat::Gguf => "gguf",
            SourceFormat::Config => "config",
        }
    }

    /// The device that is planned for and why.
    fn planned_for(&self) -> String {
        let target = self.target;
        planned_for(target.device, target.mode, target.release, self.choice)
    }

    /// Bytes of the source's weight files.
    fn source_bytes(&self) -> Bytes {
        self.checkpoint.files.iter().map(|file| file.bytes).sum()
    }
}

/// The measurements behind a decode rate, in one sentence.
fn evidence_text(evidence: &Evidence, target: Target<'_>) -> String {
    let (runtime, board) = (&target.runtime.name, &target.device.name);
    let Some(near) = &evidence.nearest else {
        return format!(
            "speed rests on no measurement of {runtime} on any Orin board: the range is a guess"
        );
    };
    let count = |n: usize| counted(n, "measurement", "measurements");
    let from = match evidence.on_board {
        0 => format!(
            "speed rests on no measurement of {runtime} on the {board}, and on {} elsewhere",
            count(evidence.anywhere)
        ),
        n => format!("speed from {} of {runtime} on the {board}", count(n)),
    };
    let row = near.row;
    let elsewhere = match evidence.on_board {
        0 => format!(" on {}", row.board),
        _ => String::new(),
    };
    format!(
        "{from}, nearest: {} {} in {}{elsewhere}, {:.0} % off when left out of the fit",
        row.model,
        row.format.to_uppercase(),
        row.power_mode,
        near.off_percent.abs(),
    )
}

/// Tokens a joule (tokens a second over watts) of the most similar model that was measured, by power mode.
fn energy_text(evidence: &Evidence) -> Option<String> {
    let first = evidence.energy.first()?;
    let each = evidence.energy.iter().filter_map(|row| {
        let (tokens, watts) = (row.tokens_per_joule()?, row.power_w?);
        Some(format!("{} {tokens:.1} ({watts:.1} W)", row.power_mode))
    });
    Some(format!(
        "tokens a joule, measured for {} {} over {}: {}",
        first.model,
        first.format.to_uppercase(),
        first.power_of,
        each.collect::<Vec<_>>().join(", ")
    ))
}
