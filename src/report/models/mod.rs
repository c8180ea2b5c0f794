//! The report of `orinplan models`, as text, Markdown and JSON.

mod json;
mod text;

use crate::catalog::{Ranked, Ranking, Wish};
use crate::foreign::shell;
use crate::model;
use crate::planner::{Board, Request};
use crate::report::planned_for;
use crate::scheme::Container;

pub use json::{SCHEMA, document};
#[cfg(feature = "pages")]
pub(super) use text::words;
pub use text::{markdown, text};

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What runs, and what does not.
    pub ranking: &'a Ranking<'a>,
    /// Where it would run.
    pub board: &'a Board,
    /// What was looked for.
    pub wish: &'a Wish,
    /// What each was planned for.
    pub request: &'a Request,
    /// How many models the catalogue has.
    pub catalogue: usize,
    /// Whether all is listed, with what has no room.
    pub all: bool,
}

/// Models that a table shows unless all are asked for.
const SHOWN: usize = 10;

impl<'a> Report<'a> {
    /// The models that are listed, the best first.
    pub(super) fn listed(&self) -> &'a [Ranked<'a>] {
        let runs = &self.ranking.runs[..];
        if self.all {
            runs
        } else {
            runs.get(..SHOWN).unwrap_or(runs)
        }
    }

    /// The device that is planned for and why.
    fn planned_for(&self) -> String {
        let Board {
            device,
            mode,
            release,
            choice,
            ..
        } = self.board;
        planned_for(device, mode, *release, *choice)
    }
}

/// The rule that models are ranked by, in one sentence.
pub const RULE: &str = "models that decode faster than people read (5.3 tokens/s) in a format near the original (0.1 nats) come first; among these the larger size class (up to 0.75, 1.5, 3, 6, 12, 24 B parameters), then the newer, then the larger";

/// The line for a shell that gets a model and makes the file of its plan, or says how that is made.
fn get(report: &Report<'_>, ranked: &Ranked<'_>) -> String {
    let id = &ranked.entry.id;
    let assignment = &ranked.plan.assignment;
    if assignment.is_stored() {
        return format!("hf download {}", shell(id));
    }
    let ending = match assignment.container {
        Container::Gguf => ".gguf",
        Container::Safetensors => "",
    };
    let is_converted = model::conversion_of(ranked.planner.model()).is_some();
    let is_made = is_converted || assignment.container == Container::Safetensors;
    if !is_made || report.board.runtime.loads.own_converter {
        // It prints the lines of the runtime's own tools.
        return format!("orinplan fit {}", shell(id));
    }
    let name = id.rsplit('/').next().unwrap_or(id);
    let scheme = &assignment.scheme;
    let file = format!("{name}-{}{ending}", scheme.to_uppercase());
    format!(
        "orinplan quantize {} --scheme {scheme} --output {}",
        shell(id),
        shell(&file)
    )
}
