//! Mixes of types on one board: which of them fits is asked many times, what they need beside types once.

use std::collections::BTreeMap;

use super::candidates::file_bytes;
use super::error::PlanError;
use super::{Board, GgufHeader, Planner, Request};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::plan::fit::Candidate;
use crate::plan::{Plan, Workload, fit};
use crate::scheme::{self, Rules};

/// Plans mixes of types of one model on one board.
pub struct MixPlanner<'a> {
    model: &'a ModelSpec,
    board: Board,
    workload: Workload,
    header: GgufHeader,
    rules: Rules,
}

impl<'a> MixPlanner<'a> {
    /// For the board and workload of `request`.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub fn of(planner: &'a Planner, request: &Request) -> Result<MixPlanner<'a>, PlanError> {
        let board = Board::open(&request.board)?;
        let (workload, header) = planner.prepare(&board, request)?;
        Ok(MixPlanner {
            workload,
            header,
            rules: request.rules,
            model: planner.model(),
            board,
        })
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Tokens of context.
    pub fn context(&self) -> u64 {
        self.workload.context
    }

    /// The plan of a GGUF with these types; tensors that are not named have those of a 16-bit file.
    pub fn plan(&self, types: &BTreeMap<String, Dtype>) -> Option<Plan> {
        let assignment = scheme::assign_types(self.model, types, self.rules);
        let candidate = Candidate {
            file_bytes: file_bytes(self.model, &assignment, &self.header, &self.board.runtime),
            assignment,
            quality: None,
            notes: Vec::new(),
        };
        let fit = fit::fit(
            self.model,
            vec![candidate],
            self.board.target(),
            &self.workload,
        );
        fit.plans.into_iter().next()
    }
}
