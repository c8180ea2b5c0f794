//! How many sequences a model decodes at once for the most tokens a second: a plan for each number of them.

use super::{Board, PlanError, Planner, Request};
use crate::plan::roofline::Roof;
use crate::plan::throughput::{Batch, SEQUENCES, Throughput};
use crate::units::Seconds;

impl Planner {
    /// Plans 1 to 32 sequences, each with the context of `request`.
    ///
    /// # Errors
    /// As [`Planner::plan`]; where no rate is known there is nothing to choose by.
    pub fn throughput(
        &self,
        board: &Board,
        request: &Request,
        max_latency: Option<Seconds>,
    ) -> Result<Throughput, PlanError> {
        let (one, header) = self.prepare(board, request)?;
        let mut batches = Vec::new();
        for sequences in SEQUENCES {
            let request = together(request, one.context, sequences);
            let mut workload = request.workload.of(self.model(), &board.runtime)?;
            workload.merges = one.merges;
            let fit = self.fit_with(board, &request, &workload, &header)?;
            batches.extend(Batch::of(&fit, sequences));
        }
        if batches.iter().all(|batch| batch.rate.is_none()) {
            return Err(super::no_rates(board, "--parallel auto"));
        }
        let ridge = Roof::of(&board.mode).map(|roof| roof.ridge_fp16());
        Ok(Throughput::of(one.context, max_latency, batches, ridge))
    }
}

/// The same request for so many sequences, each with so much context.
pub fn together(request: &Request, context_each: u64, sequences: u64) -> Request {
    let mut request = request.clone();
    request.workload.parallel = sequences;
    request.workload.context = Some(context_each.saturating_mul(sequences));
    request
}
