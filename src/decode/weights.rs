//! The tensors of a model, taken one by one by name, shape-checked, read whole.
//!
//! In: a checkpoint as a GGUF. Out: matrices in the format that the GGUF has and vectors in F32,
//! where the pass computes.
//! Must not: know what a tensor is for. A tensor that is not taken is an error at the end: a pass
//! without it would compute another model.

use std::collections::HashMap;
use std::sync::Arc;

use super::DecodeError;
use super::activations::Activations;
use super::buffer::{Allocation, Buffer};
use super::host::threads;
use super::observe::{Hooks, Matrix};
use crate::model::{DecodeAccess, Tensor, TensorRole};
use crate::quantize::{GgufView, blocks};
use crate::units::Bytes;

/// The tensors that have not been taken yet.
pub(super) struct Weights<'a, X: Activations> {
    backend: &'a X::Backend,
    source: &'a GgufView<'a>,
    tensors: HashMap<&'a str, &'a Tensor>,
    /// Memory for tensors that are not read yet.
    allocations: HashMap<&'a str, Allocation>,
    hooks: Arc<Hooks<X>>,
    read: Bytes,
    held: Bytes,
    progress: &'a mut dyn FnMut(Bytes),
}

impl<'a, X: Activations> Weights<'a, X> {
    /// Allocates the memory for the tensors of `source`.
    pub(super) fn open(
        backend: &'a X::Backend,
        source: &'a GgufView<'a>,
        hooks: Arc<Hooks<X>>,
        progress: &'a mut dyn FnMut(Bytes),
    ) -> Result<Weights<'a, X>, DecodeError> {
        let tensors = || source.model.tensors.iter().map(|t| (t.name.as_str(), t));
        // All before one is read: see `buffer`.
        let touched = tensors().filter(|(_, t)| t.role.info().access != DecodeAccess::Never);
        let allocations = touched
            .map(|(name, t)| Ok((name, Allocation::new(t.stored_bytes.0 as usize)?)))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Weights {
            backend,
            source,
            allocations,
            hooks,
            tensors: tensors().collect(),
            read: Bytes(0),
            held: Bytes(0),
            progress,
        })
    }

    /// Whether `role` has a weight in `layer` that has not been taken.
    pub(super) fn has(&self, role: TensorRole, layer: Option<u32>) -> bool {
        self.tensors
            .contains_key(self.weight_name(role, layer).as_str())
    }

    /// The name of the weight of `role`; a norm's may lack the suffix.
    fn weight_name(&self, role: TensorRole, layer: Option<u32>) -> String {
        let bare = role.gguf_name(layer, "");
        if self.tensors.contains_key(bare.as_str()) {
            bare
        } else {
            role.gguf_name(layer, "weight")
        }
    }

    /// The weight matrix of `role`, `[rows, columns]`.
    pub(super) fn matrix(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        shape: [usize; 2],
    ) -> Result<Matrix<X>, DecodeError> {
        let name = role.gguf_name(layer, "weight");
        let (tensor, bytes) = self.take(&name, &shape)?;
        self.held += Bytes(bytes.len() as u64);
        let weight = X::matrix(self.backend, &name, tensor.dtype, shape, bytes)?;
        Ok(Matrix::of(&name, weight, &self.hooks))
    }

    /// A stack of matrices, one for each expert or stream.
    pub(super) fn stack(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        [count, rows, columns]: [usize; 3],
    ) -> Result<Vec<Matrix<X>>, DecodeError> {
        let name = role.gguf_name(layer, "weight");
        let (tensor, bytes) = self.take(&name, &[count, rows, columns])?;
        self.held += Bytes(bytes.len() as u64);
        let shape = [rows, columns];
        let matrix = |part| X::matrix(self.backend, &name, tensor.dtype, shape, part);
        let weights = bytes.split(count).map(matrix).collect::<Result<_, _>>()?;
        let is_routed = role.info().access == DecodeAccess::Experts;
        Ok(Matrix::stack(&name, weights, is_routed, &self.hooks))
    }

    /// A weight of any shape as F32, outermost dimension first.
    pub(super) fn floats(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        shape: &[usize],
    ) -> Result<Vec<f32>, DecodeError> {
        self.named_floats(&self.weight_name(role, layer), shape)
    }

    /// Divisors of the rotary frequencies: one table for all contexts, or one for those within the original context and one for
    /// longer ones.
    pub(super) fn rope_factors(
        &mut self,
        is_longer: bool,
    ) -> Result<Option<Vec<f32>>, DecodeError> {
        let role = match is_longer {
            _ if self.has(TensorRole::RopeFreqs, None) => TensorRole::RopeFreqs,
            true => TensorRole::RopeFactorsLong,
            false => TensorRole::RopeFactorsShort,
        };
        let mut tensors = self.source.model.tensors.iter();
        let tensor = tensors.find(|tensor| tensor.role == role);
        let elements = tensor.map(|tensor| tensor.elements() as usize);
        elements
            .map(|elements| self.floats(role, None, &[elements]))
            .transpose()
    }

    /// A weight of one dimension.
    pub(super) fn vector(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        len: usize,
    ) -> Result<X::Vector, DecodeError> {
        let values = self.floats(role, layer, &[len])?;
        X::vector(self.backend, values)
    }

    /// `values` where the pass computes.
    pub(super) fn own_vector(&self, values: Vec<f32>) -> Result<X::Vector, DecodeError> {
        X::vector(self.backend, values)
    }

    /// The bias of `role`, `len` elements, if there is one.
    pub(super) fn bias(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        len: usize,
    ) -> Result<Option<X::Vector>, DecodeError> {
        let values = self.bias_floats(role, layer, len)?;
        let vector = values.map(|values| X::vector(self.backend, values));
        vector.transpose()
    }

    /// The same as F32.
    pub(super) fn bias_floats(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        len: usize,
    ) -> Result<Option<Vec<f32>>, DecodeError> {
        let name = role.gguf_name(layer, "bias");
        // Some are stored as one row.
        match self
            .tensors
            .get(name.as_str())
            .map(|tensor| tensor.shape.len())
        {
            Some(2) => self.named_floats(&name, &[1, len]).map(Some),
            Some(_) => self.named_floats(&name, &[len]).map(Some),
            None => Ok(None),
        }
    }

    /// The biases of the members of a stack; none if there are none.
    pub(super) fn stack_biases(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        [count, rows]: [usize; 2],
    ) -> Result<Vec<X::Vector>, DecodeError> {
        if self.shape(role, layer, "bias").is_none() {
            return Ok(Vec::new());
        }
        let all = self.named_floats(&role.gguf_name(layer, "bias"), &[count, rows])?;
        let each = all.chunks_exact(rows.max(1));
        each.map(|bias| X::vector(self.backend, bias.to_vec()))
            .collect()
    }

    /// The scale of `role`, `len` elements, if there is one.
    pub(super) fn scale(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        len: usize,
    ) -> Result<Option<Vec<f32>>, DecodeError> {
        match self.shape(role, layer, "scale") {
            Some(_) => self
                .named_floats(&role.gguf_name(layer, "scale"), &[len])
                .map(Some),
            None => Ok(None),
        }
    }

    /// [`Weights::floats`] of a tensor whose name does not end in `.weight`.
    pub(super) fn named_floats(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<f32>, DecodeError> {
        let (tensor, bytes) = self.take(name, shape)?;
        let row = tensor.row() as usize;
        let mut out = vec![0.0; tensor.elements() as usize];
        let decoded = blocks::decode_rows(tensor.dtype, &bytes, row, &mut out);
        decoded.map_err(|_| DecodeError::Format {
            tensor: name.to_owned(),
            dtype: tensor.dtype,
        })?;
        Ok(out)
    }

    /// The shape of a tensor that has not been taken, outermost dimension first.
    pub(super) fn shape(
        &self,
        role: TensorRole,
        layer: Option<u32>,
        part: &str,
    ) -> Option<&'a [u64]> {
        let name = role.gguf_name(layer, part);
        self.tensors
            .get(name.as_str())
            .map(|tensor| tensor.shape.as_slice())
    }

    /// The bytes of all matrices. Errors if a tensor that decoding reads has not been taken.
    pub(super) fn finish(&self) -> Result<Bytes, DecodeError> {
        let left = self.tensors.values().filter(|tensor| {
            tensor.role.info().access != DecodeAccess::Never && !tensor.role.is_rope_table()
        });
        match left.map(|tensor| &tensor.name).min() {
            Some(tensor) => Err(DecodeError::UnusedTensor {
                tensor: tensor.clone(),
                architecture: self.source.model.architecture.clone(),
            }),
            None => Ok(self.held),
        }
    }

    /// Leaves a tensor out on purpose.
    pub(super) fn drop_spare(&mut self, role: TensorRole, layer: Option<u32>) {
        self.tensors
            .remove(role.gguf_name(layer, "weight").as_str());
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<(&'a Tensor, Buffer), DecodeError> {
        let tensor = self
            .tensors
            .remove(name)
            .ok_or_else(|| DecodeError::MissingTensor {
                tensor: name.to_owned(),
            })?;
        // Files often leave out an outermost dimension of one.
        let expected: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        let significant =
            |shape: &[u64]| -> Vec<u64> { shape.iter().copied().skip_while(|&n| n == 1).collect() };
        if significant(&tensor.shape) != significant(&expected) {
            return Err(DecodeError::Shape {
                tensor: name.to_owned(),
                found: tensor.shape.clone(),
                expected,
            });
        }
        let mut allocation = match self.allocations.remove(name) {
            Some(allocation) => allocation,
            None => Allocation::new(tensor.stored_bytes.0 as usize)?,
        };
        self.source.read(tensor, threads(), &mut allocation)?;
        self.read += tensor.stored_bytes;
        (self.progress)(self.read);
        Ok((tensor, Buffer::from(allocation)))
    }
}
