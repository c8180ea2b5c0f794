//! `orinplan validate`: what was predicted beside what was measured, as text, Markdown and JSON
//! (`orinplan.validate/1`).

mod json;
mod text;
mod words;

use std::path::PathBuf;

use crate::model::ModelSpec;
use crate::plan::fit::Target;
use crate::plan::{Plan, Workload};
use crate::runtime::Learned;
use crate::validate::{Check, Comparison, Measured, Metric, PeakMemory};

#[cfg(feature = "pages")]
pub(super) use json::key;
pub use json::{SCHEMA, document};
pub use text::{markdown, text};
#[cfg(feature = "pages")]
pub(super) use words::{word, words};

/// What a report shows.
#[derive(Debug)]
pub struct Report<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The device, its mode and the runtime whose prediction was tried.
    pub target: Target<'a>,
    /// What the model was asked to do.
    pub workload: &'a Workload,
    /// The backend's name.
    pub backend: &'static str,
    /// The plan for what was asked.
    pub plan: &'a Plan,
    /// The result.
    pub result: RunResult<'a>,
    /// Whether the run was kept, if that was asked for.
    pub saved: Option<SaveResult>,
}

/// Whether a run was kept for later plans.
#[derive(Debug)]
pub enum SaveResult {
    /// It was.
    Kept {
        /// The file of runs.
        path: PathBuf,
        /// Codes of the checks that found it disturbed.
        disturbed: Vec<String>,
        /// What it and the earlier ones say of this runtime on this board.
        learned: Option<Box<Learned>>,
    },
    /// It was not.
    Not {
        /// Why.
        why: String,
    },
}

/// The result of a validation.
#[derive(Debug)]
pub enum RunResult<'a> {
    /// The model does not fit into this machine by its plan: it was not run.
    DoesNotFit,
    /// It was run.
    Measured {
        /// What was measured.
        measured: &'a Measured,
        /// The peak of memory.
        memory: PeakMemory,
        /// What was predicted against what was measured.
        comparison: &'a Comparison,
        /// Checks for what may have disturbed the measurement.
        checks: &'a [Check],
    },
}

/// The verdict as scripts read it.
fn verdict_word(comparison: &Comparison) -> &'static str {
    match (comparison.within(), comparison.judged().count()) {
        (_, 0) => "nothing_to_compare",
        (false, _) => "off",
        (true, compared) if compared < Metric::ALL.len() => "partly_within_tolerance",
        (true, _) => "within_tolerance",
    }
}
