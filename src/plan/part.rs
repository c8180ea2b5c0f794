//! A part of a model: a run of blocks, with what comes before the first or behind the last. One of several devices
//! computes it, or one device the whole.

use std::ops::Range;

use crate::model::{DecodeAccess, Layer, ModelSpec, Tensor, TensorRole};

/// A part of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPart {
    /// Its blocks.
    pub layers: Range<usize>,
    /// Whether tokens are embedded in it.
    pub input: bool,
    /// Whether the output head is in it.
    pub output: bool,
    /// Blocks of the model.
    of: usize,
}

impl ModelPart {
    /// All of `model`.
    pub fn whole(model: &ModelSpec) -> ModelPart {
        ModelPart {
            layers: 0..model.layers.len(),
            input: true,
            output: true,
            of: model.layers.len(),
        }
    }

    /// What a device computes that is one of several: these blocks, and the head behind the last of them. Tokens are
    /// embedded where the pass is coordinated.
    pub fn apart(model: &ModelSpec, layers: Range<usize>) -> ModelPart {
        let whole = ModelPart::whole(model);
        ModelPart {
            input: false,
            output: layers.end == whole.of,
            layers,
            ..whole
        }
    }

    /// Blocks alone.
    pub(super) fn blocks(model: &ModelSpec, layers: Range<usize>) -> ModelPart {
        ModelPart {
            output: false,
            ..ModelPart::apart(model, layers)
        }
    }

    /// The embedding of tokens alone.
    pub(super) fn embedding(model: &ModelSpec) -> ModelPart {
        ModelPart {
            input: true,
            ..ModelPart::blocks(model, 0..0)
        }
    }

    /// The head alone.
    pub(super) fn head(model: &ModelSpec) -> ModelPart {
        ModelPart {
            output: true,
            ..ModelPart::blocks(model, 0..0)
        }
    }

    /// Whether it is all of its model.
    pub(super) fn is_whole(&self) -> bool {
        self.input && self.output && self.layers == (0..self.of)
    }

    /// Whether the last block of its model is in it.
    pub(super) fn has_last(&self) -> bool {
        self.layers.end == self.of
    }

    /// Its blocks.
    pub(super) fn layers_of<'m>(&self, model: &'m ModelSpec) -> &'m [Layer] {
        model.layers.get(self.layers.clone()).unwrap_or_default()
    }

    /// Its blocks with their places in the model.
    pub(super) fn numbered<'m>(
        &self,
        model: &'m ModelSpec,
    ) -> impl Iterator<Item = (usize, &'m Layer)> + use<'m> {
        self.layers.clone().zip(self.layers_of(model))
    }

    /// Whether a block of it rotates heads by position, so that positions are sent to its device.
    pub(super) fn reads_positions(&self, model: &ModelSpec) -> bool {
        let rotated = model.rotated();
        self.numbered(model).any(|(index, layer)| {
            layer.mixer.attention.is_some() && rotated.has(index, &model.layers)
        })
    }

    /// Whether `tensor` is in it. Factors of rotations are on every device that rotates; blocks behind the last, which
    /// draft tokens, are where the last is.
    pub fn has(&self, tensor: &Tensor) -> bool {
        let role = tensor.role.info();
        match (tensor.layer, tensor.role) {
            (Some(layer), _) => {
                let layer = layer as usize;
                self.layers.contains(&layer) || (self.output && layer >= self.of)
            }
            (
                None,
                TensorRole::RopeFreqs | TensorRole::RopeFactorsLong | TensorRole::RopeFactorsShort,
            ) => !self.layers.is_empty(),
            (None, TensorRole::TokenEmbeddingNorm) => self.input,
            (None, _) if role.access == DecodeAccess::Row => self.input,
            (None, _) => self.output,
        }
    }
}
