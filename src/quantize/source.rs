//! Where the values of each tensor of a model are stored, and which of the stored rows are the tensor's.
//!
//! In: a checkpoint, its model, and what conversion does to a tensor's weights. Out: [`TensorRows`]. Must not: read
//! weights.

use std::collections::HashMap;
use std::ops::Range;

use super::error::QuantizeError;
use super::packed::{Files, Weight};
use super::tensor_rows::{Magnitude, RowRun, RowSource, TensorRows, decodable};
use crate::checkpoint::{Checkpoint, SourceFormat, StoredTensor};
use crate::convert::{self, Change, Permutation};
use crate::dtype::{self, Dtype};
use crate::model::{FoldedWeight, ModelSpec, Tensor, TensorRole};

/// Stored weights, and the stored tensors that each consists of.
type Stored<'a> = (Vec<RowSource<'a>>, Vec<Vec<&'a StoredTensor>>);

/// Finds the stored rows of a model's tensors.
pub(super) struct Sources<'a> {
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    /// Stored weights by the index of their first stored tensor; empty for a GGUF.
    weights: HashMap<u32, &'a FoldedWeight>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
    ) -> Sources<'a> {
        let first = |weight: &'a FoldedWeight| Some((*weight.sources.first()?, weight));
        Sources {
            checkpoint,
            files,
            model,
            weights: model.stored.iter().filter_map(first).collect(),
        }
    }

    /// The rows of a whole stored weight, which must have this `shape`.
    ///
    /// # Errors
    /// [`QuantizeError::Shape`] for another shape, or the error of opening a packed weight.
    pub(super) fn weight(
        &self,
        weight: &FoldedWeight,
        shape: &[u64],
    ) -> Result<TensorRows<'a>, QuantizeError> {
        let opened = Weight::open(self.checkpoint, self.files, weight)?;
        if opened.shape() != shape {
            return Err(QuantizeError::Shape {
                tensor: weight.name.clone(),
                found: opened.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        let (rows, columns) = (opened.rows(), opened.columns());
        let stored = self.stored(weight).filter(|tensor| decodable(tensor.dtype));
        let source = stored.map_or(RowSource::Packed(Box::new(opened)), RowSource::Stored);
        Ok(TensorRows {
            files: self.files,
            sources: vec![source],
            stored: vec![self.parts(weight)],
            runs: vec![RowRun {
                source: 0,
                first: 0,
                rows,
                every: 1,
            }],
            rows,
            columns,
            change: Change::default(),
            transposed: None,
            magnitude: Magnitude::default(),
        })
    }

    /// The rows of all matrices of a stack, which are stored as columns if they are `transposed`.
    ///
    /// # Errors
    /// As [`Sources::weight`].
    pub(super) fn stack(
        &self,
        weight: &FoldedWeight,
        transposed: bool,
    ) -> Result<TensorRows<'a>, QuantizeError> {
        let stored = self.weight(weight, &weight.shape)?;
        let height = match weight.shape.as_slice() {
            &[_, height, _] if transposed && height > 0 => height,
            _ => return Ok(stored),
        };
        Ok(TensorRows {
            files: self.files,
            sources: Vec::new(),
            stored: stored.stored.clone(),
            runs: Vec::new(),
            rows: dtype::elements(&weight.shape) / height,
            columns: height,
            change: Change {
                transposed: Some(height),
                ..Change::default()
            },
            transposed: Some(Box::new(stored)),
            magnitude: Magnitude::default(),
        })
    }

    /// The stored tensors that a weight consists of.
    fn parts(&self, weight: &FoldedWeight) -> Vec<&'a StoredTensor> {
        let parts = weight.sources.iter();
        let stored = parts.filter_map(|&index| self.checkpoint.tensors.get(index as usize));
        stored.collect()
    }

    /// The stored tensor of a weight that consists of one.
    pub(super) fn stored(&self, weight: &FoldedWeight) -> Option<&'a StoredTensor> {
        match weight.sources.as_slice() {
            &[index] => self.checkpoint.tensors.get(index as usize),
            _ => None,
        }
    }

    /// The stored weights that `tensor` is made from, in their order.
    fn of(&self, tensor: &Tensor) -> Result<Stored<'a>, QuantizeError> {
        let from_gguf = self.checkpoint.format == SourceFormat::Gguf;
        let (mut sources, mut parts) = (Vec::new(), Vec::new());
        for index in &tensor.sources {
            let weight = self.weights.get(index);
            // Scales and other companions have no weight of their own: they are read with theirs.
            let Some(stored) = self.checkpoint.tensors.get(*index as usize) else {
                continue;
            };
            let alone = weight.is_some_and(|weight| weight.sources.len() == 1);
            match weight {
                _ if (from_gguf || alone) && readable(stored.dtype) => {
                    sources.push(RowSource::Stored(stored));
                    parts.push(vec![stored]);
                }
                Some(weight) => {
                    parts.push(self.parts(weight));
                    let weight = Weight::open(self.checkpoint, self.files, weight)?;
                    sources.push(RowSource::Packed(Box::new(weight)));
                }
                None if from_gguf => {
                    return Err(QuantizeError::StoredAs {
                        tensor: stored.name.clone(),
                        found: stored.dtype.name(),
                    });
                }
                None => {}
            }
        }
        Ok((sources, parts))
    }

    /// The rows of `tensor`, after conversion.
    ///
    /// # Errors
    /// [`QuantizeError::Sizes`] if the stored weights do not make up the tensor, or the error of opening a packed weight
    /// or of conversion.
    pub(super) fn rows(&self, tensor: &Tensor) -> Result<TensorRows<'a>, QuantizeError> {
        let change = match self.checkpoint.format {
            SourceFormat::Gguf => Change::default(),
            _ => convert::change(self.checkpoint, self.model, tensor)?,
        };
        self.changed(tensor, change)
    }

    /// The rows of `tensor` with this `change`.
    ///
    /// # Errors
    /// As [`Sources::rows`], but for conversion.
    pub(super) fn changed(
        &self,
        tensor: &Tensor,
        change: Change,
    ) -> Result<TensorRows<'a>, QuantizeError> {
        // A vector is one row, unless its elements are reordered: then each is a row.
        let columns = match (change.rows, tensor.shape.as_slice()) {
            (Some(_), [_]) => 1,
            _ if change.turn.is_some() && !tensor.is_weight() => 1,
            // Columns may be reordered across several of the tensor's rows.
            _ => change
                .columns
                .map_or(0, Permutation::places)
                .max(tensor.row()),
        };
        match (change.transposed, tensor.shape.as_slice()) {
            (Some(height), &[_, width, _] | &[width, _]) if height == columns && height > 0 => {
                // A part of a row is a row by itself, one of so many.
                let of_stored = Change {
                    transposed: None,
                    turn: change.part,
                    part: None,
                    ..change.clone()
                };
                let every = change.turn.map_or(1, |turn| turn.every);
                let width = width.saturating_mul(every);
                let elements = tensor.elements().saturating_mul(every);
                let stored = self.in_rows(tensor, of_stored, width, elements)?;
                Ok(TensorRows {
                    files: self.files,
                    sources: Vec::new(),
                    stored: stored.stored.clone(),
                    runs: Vec::new(),
                    rows: tensor.elements() / height,
                    columns: height,
                    change,
                    transposed: Some(Box::new(stored)),
                    magnitude: Magnitude::default(),
                })
            }
            _ => self.in_rows(tensor, change, columns, tensor.elements()),
        }
    }

    /// The same in rows of `columns` elements, of so many `elements`.
    fn in_rows(
        &self,
        tensor: &Tensor,
        change: Change,
        columns: u64,
        elements: u64,
    ) -> Result<TensorRows<'a>, QuantizeError> {
        let sizes = |found| QuantizeError::Sizes {
            tensor: tensor.name.clone(),
            found,
            expected: elements,
            shape: tensor.shape.clone(),
        };
        if columns == 0 || elements == 0 {
            return Err(sizes(0));
        }
        let rows = elements / columns;
        let (sources, stored) = self.of(tensor)?;
        let mut runs = Vec::new();
        let mut found = 0u64;
        for (source, found_in) in sources.iter().enumerate() {
            let (weights, whole) = match found_in {
                RowSource::Stored(stored) => {
                    let weights = dtype::elements(&stored.shape);
                    let whole = weights.is_multiple_of(columns) && stored.dtype.divides(columns);
                    (weights, whole)
                }
                RowSource::Packed(weight) => {
                    let weights = dtype::elements(weight.shape());
                    (weights, weight.columns() == columns)
                }
            };
            if !whole {
                return Err(sizes(weights));
            }
            found = found.saturating_add(weights);
            runs.push(RowRun {
                source,
                first: 0,
                rows: weights / columns,
                every: 1,
            });
        }
        let held = found / columns;
        let padded = matches!(
            tensor.role,
            TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
        );
        if let (&[whole], Some(turn)) = (runs.as_slice(), change.turn)
            && Some(held) == rows.checked_mul(turn.every)
        {
            runs = vec![RowRun {
                first: turn.first,
                rows,
                every: turn.every,
                ..whole
            }];
        }
        let taken = runs.iter().map(|run| run.rows).sum::<u64>() == rows;
        match (runs.as_slice(), &change.slices) {
            _ if taken => {}
            _ if held == rows || held < rows && padded && held > 0 => {}
            // A stored matrix that this tensor shares with others.
            (&[whole], Some(slices)) if slices.divides(held) => {
                let periods = 0..held / slices.period;
                let run = |range: &Range<u64>, period| RowRun {
                    first: period * slices.period + range.start,
                    rows: range.end - range.start,
                    ..whole
                };
                let ranges = slices.ranges.iter();
                let cut = ranges.flat_map(|range| periods.clone().map(move |n| run(range, n)));
                runs = cut.collect();
                if runs.iter().map(|run| run.rows).sum::<u64>() != rows {
                    return Err(sizes(found));
                }
            }
            _ => return Err(sizes(found)),
        }
        let whole =
            |order: Option<Permutation>, count| order.is_none_or(|order| order.divides(count));
        if !whole(change.rows, rows) || !whole(change.columns, columns) {
            return Err(sizes(found));
        }
        Ok(TensorRows {
            files: self.files,
            sources,
            stored,
            runs,
            rows,
            columns,
            change,
            transposed: None,
            magnitude: Magnitude::default(),
        })
    }
}

/// Whether values of `dtype` can be read as numbers, or copied.
fn readable(dtype: Dtype) -> bool {
    dtype == Dtype::F64 || dtype.format().ggml_id.is_some()
}
