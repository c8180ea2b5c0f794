//! The report of `orinplan fit --boards`: a model on several boards, as text, Markdown, JSON and a page.

mod advice;
mod json;
mod lines;
mod text;

use crate::evidence::boards::{PipelineRow, nearest_pipelines};
use crate::plan::Plan;
use crate::plan::boards::Split;
use crate::planner::{Board, Cluster, ClusterRequest, OneBoard, Planner};
use crate::report::fit;

pub use json::{SCHEMA, document};
#[cfg(feature = "pages")]
pub(in crate::report) use text::words;
pub use text::{markdown, text};

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The model.
    pub planner: &'a Planner,
    /// What was asked for.
    pub asked: &'a ClusterRequest,
    /// What came out.
    pub cluster: &'a Cluster,
}

/// A format: its plan on the server's board, its division, and its plan on the best board alone.
type Row<'a> = (&'a Plan, &'a Split, &'a OneBoard);

impl<'a> Report<'a> {
    /// The row of the format to take, or of the one that misses least.
    fn shown(&self) -> Option<Row<'a>> {
        self.rows().nth(self.shown_index())
    }

    pub(in crate::report) fn shown_index(&self) -> usize {
        let choice = self.cluster.choice;
        let smallest = || {
            let splits = self.cluster.splits.iter().enumerate();
            let missing = |split: &Split| {
                let excess = split.stages.iter().map(|stage| stage.excess().0);
                excess.max().unwrap_or(u64::MAX)
            };
            let least = splits.min_by_key(|(_, split)| missing(split));
            least.map_or(0, |(index, _)| index)
        };
        choice.taken.unwrap_or_else(smallest)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let plans = self.cluster.alone.fit.plans.iter();
        let divided = plans.zip(&self.cluster.splits);
        let each = divided.zip(&self.cluster.best_alone);
        each.map(|((plan, split), best)| (plan, split, best))
    }

    /// The report of the model on the server's board alone, with what the commands for several depend on.
    fn alone(&self) -> fit::Report<'a> {
        fit::Report {
            launch: &self.cluster.launch,
            ..fit::Report::new(self.planner, &self.cluster.alone)
        }
    }

    /// The boards in words: `2 x Jetson Orin Nano 8GB Super, 15W`.
    fn boards(&self) -> String {
        let mut groups: Vec<(String, usize)> = Vec::new();
        for board in &self.cluster.boards {
            let name = board_name(board);
            match groups.last_mut().filter(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => groups.push((name, 1)),
            }
        }
        let words = groups.iter().map(|(name, count)| match count {
            1 => name.clone(),
            count => format!("{count} x {name}"),
        });
        words.collect::<Vec<_>>().join(", then ")
    }

    /// The published run of a layer pipeline that is nearest to the model.
    fn nearest(&self) -> Option<&'static PipelineRow> {
        let rows = nearest_pipelines(self.planner.model().parameters);
        rows.first().copied()
    }
}

fn board_name(board: &Board) -> String {
    format!("{}, {}", board.device.name, board.mode.name)
}
