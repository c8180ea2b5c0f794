//! The rows of single experts in stored stacks, whatever the orientation of these.
//!
//! In: a stack and one of its members. Out: the source of its values. Must not: read weights.

use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::convert::{self, Change};
use crate::model::{self, FoldedWeight, Member, ModelSpec};
use crate::quantize::error::QuantizeError;
use crate::quantize::planned::Values;
use crate::quantize::source::Sources;
use crate::quantize::tensor_rows::TensorRows;

/// Finds the rows of members; those of one stack share the description of where they are stored.
pub(super) struct Stacks<'a, 's> {
    checkpoint: &'a Checkpoint,
    model: &'a ModelSpec,
    sources: &'s Sources<'a>,
    /// The last stack that was asked for, by its first stored tensor.
    last: Option<(u32, Arc<TensorRows<'a>>)>,
}

impl<'a, 's> Stacks<'a, 's> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        model: &'a ModelSpec,
        sources: &'s Sources<'a>,
    ) -> Stacks<'a, 's> {
        Stacks {
            checkpoint,
            model,
            sources,
            last: None,
        }
    }

    /// The values of `member` of the stack `stored`.
    ///
    /// # Errors
    /// [`QuantizeError`]: conversion to a GGUF would change more than their order, or cannot tell the orientation.
    pub(super) fn values(
        &mut self,
        stored: &FoldedWeight,
        member: &Member,
    ) -> Result<Values<'a>, QuantizeError> {
        let stack = stored.sources.first().copied().unwrap_or(u32::MAX);
        let rows = match &self.last {
            Some((last, rows)) if *last == stack => Arc::clone(rows),
            _ => {
                let rows = Arc::new(self.rows(stored, member)?);
                self.last = Some((stack, Arc::clone(&rows)));
                rows
            }
        };
        let range = member.first..member.first.saturating_add(member.shape[0]);
        Ok(Values::Member(rows, range))
    }

    fn rows(
        &self,
        stored: &FoldedWeight,
        member: &Member,
    ) -> Result<TensorRows<'a>, QuantizeError> {
        let unclear = || QuantizeError::UnclearStack {
            tensor: stored.name.clone(),
        };
        let tensor = self.model.tensors.get(member.tensor as usize);
        let tensor = tensor.ok_or_else(unclear)?;
        let [_, columns] = member.shape;
        let transposed = if model::conversion_of(self.model).is_some() {
            let change = convert::change(self.checkpoint, self.model, tensor)?;
            let ordered = Change {
                slices: change.slices.clone(),
                transposed: change.transposed,
                part: change.part,
                ..Change::default()
            };
            if change != ordered {
                return Err(unclear());
            }
            change.transposed.is_some()
        } else {
            // Without a conversion, the shape tells the orientation.
            match stored.shape.as_slice() {
                &[_, one, other] if one != other => other != columns,
                _ => return Err(unclear()),
            }
        };
        // Rows of another length are those of another orientation.
        let stored_columns = stored.shape.get(if transposed { 1 } else { 2 });
        if stored_columns != Some(&columns) {
            return Err(unclear());
        }
        self.sources.stack(stored, transposed)
    }
}
