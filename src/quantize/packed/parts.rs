//! The stored parts of one packed weight (codes, scales, zero points) with what the configuration says of its
//! quantization.

use serde_json::Value as Json;

use super::error::PackedError;
use super::files::{Files, TensorReader, is_float};
use super::grid::{Grid, MatrixStack};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::FoldedWeight;
use crate::model::packing::{Companion, Packing, quantization_config, weight_settings};

/// The stored parts of one weight.
pub(super) struct PackedParts<'a> {
    /// The tensor with the codes.
    pub(super) weight: TensorReader<'a>,
    pub(super) packing: Packing,
    companions: Vec<(Companion, TensorReader<'a>)>,
    /// The quantization's part of `config.json`.
    pub(super) config: Option<&'a Json>,
    /// The shape that the model derived from the packing.
    pub(super) shape: Vec<u64>,
}

impl<'a> PackedParts<'a> {
    /// The parts of `folded`, read from the open `files` of `checkpoint`.
    ///
    /// # Errors
    /// [`PackedError::Missing`] for a weight without a stored tensor.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        folded: &FoldedWeight,
    ) -> Result<PackedParts<'a>, PackedError> {
        let part = |&index: &u32| {
            let tensor = checkpoint.tensors.get(index as usize)?;
            Some(TensorReader { files, tensor })
        };
        let sources = folded.sources.split_first();
        let Some((weight, rest)) = sources.and_then(|(first, rest)| Some((part(first)?, rest)))
        else {
            return Err(PackedError::Missing {
                tensor: folded.name.clone(),
                part: "weight",
            });
        };
        let companions = folded.companions.iter().copied().zip(rest);
        Ok(PackedParts {
            weight,
            packing: folded.packing,
            companions: companions
                .filter_map(|(kind, index)| Some((kind, part(index)?)))
                .collect(),
            config: match &checkpoint.config {
                RawConfig::HuggingFace(config) => quantization_config(config),
                RawConfig::Gguf(_) => None,
            },
            shape: folded.shape.clone(),
        })
    }

    /// The part that is `kind` to the weight, if it is stored.
    pub(super) fn find(&self, kind: Companion) -> Option<TensorReader<'a>> {
        let found = self.companions.iter().find(|(of, _)| *of == kind);
        found.map(|(_, part)| *part)
    }

    /// The part that is `kind` to the weight.
    ///
    /// # Errors
    /// [`PackedError::Missing`] if it is not stored.
    pub(super) fn need(&self, kind: Companion) -> Result<TensorReader<'a>, PackedError> {
        self.find(kind).ok_or_else(|| PackedError::Missing {
            tensor: self.weight.tensor.name.clone(),
            part: kind.usual_end(),
        })
    }

    /// A setting of the quantization in `config.json`.
    pub(super) fn setting(&self, key: &str) -> Option<&'a Json> {
        self.config?.get(key)
    }

    /// A setting that is a non-negative integer.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.setting(key)?.as_u64()
    }

    /// Block sizes that the configuration states; each format states them under another key.
    fn hints(&self) -> Vec<u64> {
        let block = self.setting("weight_block_size");
        let weights = self.config.into_iter().flat_map(weight_settings);
        let sizes = weights.flat_map(|w| [w.get("block_structure"), w.get("group_size")]);
        let all = std::iter::once(block).chain(sizes).flatten();
        all.flat_map(|value| match value.as_array() {
            Some(sizes) => sizes.iter().filter_map(Json::as_u64).collect(),
            None => value.as_u64().into_iter().collect::<Vec<_>>(),
        })
        .collect()
    }

    /// `part` as one value for each block of a weight of `shape`.
    pub(super) fn grid(
        &self,
        part: TensorReader<'a>,
        shape: &[u64],
    ) -> Result<Grid<'a>, PackedError> {
        if !is_float(part.dtype()) && !matches!(part.dtype(), Dtype::I8 | Dtype::U8) {
            return Err(part.unexpected("a float type"));
        }
        Grid::new(part, shape, &self.hints())
    }

    /// Zero points or biases, one for each scale of `scale`.
    pub(super) fn zeros_like(
        &self,
        part: TensorReader<'a>,
        scale: &Grid<'a>,
        shape: &[u64],
    ) -> Result<Grid<'a>, PackedError> {
        let grid = self.grid(part, shape)?;
        if grid.columns == scale.columns {
            Ok(grid)
        } else {
            Err(part.wrong_shape(shape))
        }
    }

    /// The group of each of `columns` columns, below `groups`; `None` where columns are grouped in their order.
    pub(super) fn groups(
        &self,
        columns: u64,
        groups: u64,
    ) -> Result<Option<Vec<u32>>, PackedError> {
        let Some(part) = self.find(Companion::GroupIndex) else {
            return Ok(None);
        };
        let indices = part.integers()?;
        // compressed-tensors writes -1 for every column where columns were not reordered.
        if indices.iter().all(|&index| index == -1) {
            return Ok(None);
        }
        if indices.len() as u64 != columns {
            return Err(part.wrong_shape(&self.shape));
        }
        let check = |(column, group): (usize, i64)| match u32::try_from(group) {
            Ok(index) if u64::from(index) < groups => Ok(index),
            _ => Err(PackedError::Group {
                tensor: part.tensor.name.clone(),
                column,
                group,
                groups,
            }),
        };
        indices
            .into_iter()
            .enumerate()
            .map(check)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The values of `part`: one, or one for each matrix of a weight of `shape`.
    pub(super) fn one_per_matrix(
        &self,
        part: TensorReader<'a>,
        shape: &[u64],
    ) -> Result<Vec<f32>, PackedError> {
        let matrices = MatrixStack::of(shape).matrices;
        match part.elements() {
            n if n == 1 || n == matrices => part.floats(0, n),
            _ => Err(part.wrong_shape(shape)),
        }
    }
}
