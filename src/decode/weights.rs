//! The tensors of a GGUF, taken one by one by name, shape-checked, read whole.
//!
//! In: a checkpoint and its description. Out: matrices in their stored format and vectors in F32,
//! where the pass computes.
//! Must not: know what a tensor is for. A tensor that is not taken is an error at the end: a pass
//! without it would compute another model.

use std::collections::HashMap;
use std::fs::File;

use super::DecodeError;
use super::activations::Activations;
use super::buffer::{Allocation, Buffer};
use super::observe::{Matrix, Observing};
use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::model::{DecodeAccess, ModelSpec, Tensor, TensorRole};
use crate::quantize::blocks;
use crate::units::Bytes;

/// The tensors that have not been taken yet.
pub(super) struct Weights<'a, X: Activations> {
    backend: &'a X::Backend,
    checkpoint: &'a Checkpoint,
    files: Vec<File>,
    tensors: HashMap<&'a str, &'a Tensor>,
    /// Memory for tensors that are not read yet, by their index in the checkpoint.
    allocations: HashMap<u32, Allocation>,
    observer: Option<&'a Observing>,
    architecture: &'a str,
    read: Bytes,
    held: Bytes,
    progress: &'a mut dyn FnMut(Bytes),
}

impl<'a, X: Activations> Weights<'a, X> {
    /// Opens the files of `checkpoint`.
    pub(super) fn open(
        backend: &'a X::Backend,
        checkpoint: &'a Checkpoint,
        spec: &'a ModelSpec,
        observer: Option<&'a Observing>,
        progress: &'a mut dyn FnMut(Bytes),
    ) -> Result<Weights<'a, X>, DecodeError> {
        let open = |file: &crate::checkpoint::CheckpointFile| {
            File::open(&file.path).map_err(|source| DecodeError::Read {
                path: file.path.clone(),
                what: "the file".to_owned(),
                source,
            })
        };
        let files = checkpoint
            .files
            .iter()
            .map(open)
            .collect::<Result<_, _>>()?;
        // All before one is read: see `buffer`.
        let mut allocations = HashMap::new();
        let touched = spec
            .tensors
            .iter()
            .filter(|t| t.role.info().access != DecodeAccess::Never);
        for index in touched.filter_map(|tensor| tensor.sources.first()) {
            if let Some(stored) = checkpoint.tensors.get(*index as usize) {
                allocations.insert(*index, Allocation::new(stored.bytes.0 as usize)?);
            }
        }
        Ok(Weights {
            backend,
            checkpoint,
            files,
            allocations,
            observer,
            tensors: spec.tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            architecture: &spec.architecture,
            read: Bytes(0),
            held: Bytes(0),
            progress,
        })
    }

    /// Whether `role` has a weight in `layer` that has not been taken.
    pub(super) fn has(&self, role: TensorRole, layer: Option<u32>) -> bool {
        let name = role.gguf_name(layer, "weight");
        self.tensors.contains_key(name.as_str())
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
        Ok(Matrix::of(&name, weight, self.observer))
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
        Ok(Matrix::stack(&name, weights, self.observer))
    }

    /// A weight of any shape as F32, outermost dimension first.
    pub(super) fn floats(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        shape: &[usize],
    ) -> Result<Vec<f32>, DecodeError> {
        self.named_floats(&role.gguf_name(layer, "weight"), shape)
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

    /// The bias of `role`, `len` elements, if there is one.
    pub(super) fn bias(
        &mut self,
        role: TensorRole,
        layer: Option<u32>,
        len: usize,
    ) -> Result<Option<X::Vector>, DecodeError> {
        let name = role.gguf_name(layer, "bias");
        if self.tensors.contains_key(name.as_str()) {
            let values = self.named_floats(&name, &[len])?;
            X::vector(self.backend, values).map(Some)
        } else {
            Ok(None)
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
                architecture: self.architecture.to_owned(),
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
        let missing = || DecodeError::MissingTensor {
            tensor: name.to_owned(),
        };
        let index = tensor.sources.first().copied().ok_or_else(missing)?;
        let stored = self
            .checkpoint
            .tensors
            .get(index as usize)
            .ok_or_else(missing)?;
        // Two tensors may have one source, whose allocation the first has taken.
        let allocation = match self.allocations.remove(&index) {
            Some(allocation) => allocation,
            None => Allocation::new(stored.bytes.0 as usize)?,
        };
        let bytes = self.filled(stored, allocation)?;
        self.read += stored.bytes;
        (self.progress)(self.read);
        Ok((tensor, bytes))
    }

    /// The bytes of `stored`, read into `allocation`, which is of their size.
    fn filled(
        &self,
        stored: &StoredTensor,
        mut allocation: Allocation,
    ) -> Result<Buffer, DecodeError> {
        let file = self
            .files
            .get(stored.file)
            .ok_or_else(|| DecodeError::MissingTensor {
                tensor: stored.name.clone(),
            })?;
        crate::input::read_exact_at(file, &mut allocation, stored.offset).map_err(|source| {
            DecodeError::Read {
                path: self
                    .checkpoint
                    .files
                    .get(stored.file)
                    .map(|f| f.path.clone())
                    .unwrap_or_default(),
                what: format!("tensor `{}`", stored.name),
                source,
            }
        })?;
        Ok(Buffer::from(allocation))
    }
}
