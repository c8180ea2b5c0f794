//! The report of `orinplan board`: several models on one board, as text, Markdown and JSON.

mod json;
mod text;

use crate::plan::together::Admission;
use crate::planner::{Planner, SharedMember, SharedModel, SharedPlan, SharedRequest};
use crate::report::planned_for;
use crate::units::Seconds;

pub use json::{SCHEMA, document};
#[cfg(feature = "pages")]
pub(super) use text::words;
pub use text::{markdown, text};

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was asked for.
    pub request: &'a SharedRequest,
    /// The models, opened, in the order asked for.
    pub planners: &'a [Planner],
    /// What came out.
    pub plan: &'a SharedPlan,
}

/// A model with what was found for it.
#[derive(Clone, Copy)]
struct MemberRow<'a> {
    asked: &'a SharedModel,
    planner: &'a Planner,
    member: &'a SharedMember,
    place: &'a Admission,
}

impl<'a> Report<'a> {
    fn rows(&self) -> impl Iterator<Item = MemberRow<'a>> + use<'a> {
        let asked = self.request.models.iter();
        let found = self.plan.models.iter().zip(&self.plan.together.places);
        let each = asked.zip(self.planners).zip(found);
        each.map(|((asked, planner), (member, place))| MemberRow {
            asked,
            planner,
            member,
            place,
        })
    }

    /// The device that is planned for and why; empty without a model.
    fn planned_for(&self) -> String {
        let board = self.plan.models.first().map(|member| &member.board);
        board.map_or_else(String::new, |board| {
            planned_for(&board.device, &board.mode, board.release, board.choice)
        })
    }

    /// How long the file of a model takes from storage.
    fn load_time(&self, row: MemberRow<'_>) -> Seconds {
        row.member.plan.file_bytes / self.request.storage.rate
    }

    /// How many models may decode at the same time: those that stay, and one of those on demand.
    fn at_once(&self) -> usize {
        let resident = self.rows().filter(|row| !row.asked.on_demand).count();
        resident + usize::from(self.rows().any(|row| row.asked.on_demand))
    }

    /// The names of the members at these places.
    fn names(&self, places: &[usize]) -> Vec<&'a str> {
        let models = places.iter().filter_map(|&at| self.request.models.get(at));
        models.map(|model| model.name.as_str()).collect()
    }
}
