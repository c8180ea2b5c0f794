//! Whether two stored tensors hold the same numbers, whether a tensor holds only zeros, and the number of a tensor of one
//! element: the questions that need weights before a plan.
//!
//! In: tensors of a checkpoint. Out: an answer, or `None` where there are no weights to read. Reading stops at the first
//! difference.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};

use super::remote::RemoteWeights;
use super::{Checkpoint, StoredTensor};
use crate::dtype::{Dtype, elements};
use crate::input::read_exact_at;

/// Elements (or bytes, for packed tensors) that are compared at a time.
const CHUNK: u64 = 1 << 18;

impl Checkpoint {
    /// Whether `a` and `b` hold the same numbers: the same bytes if they have one format, the same values if they are of
    /// two floating-point formats. `None` where the weights cannot be read, as for a bare header.
    pub fn same_numbers(&self, a: &StoredTensor, b: &StoredTensor) -> Option<bool> {
        let alike = a.dtype == b.dtype;
        let width = |tensor: &StoredTensor| match tensor.dtype {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            // Blocks and packed words are compared byte by byte.
            _ if alike && a.bytes == b.bytes => Some(1),
            _ => None,
        };
        let (Some(wide), Some(narrow)) = (width(a), width(b)) else {
            return Some(false);
        };
        if a.shape != b.shape {
            return Some(false);
        }
        let count = match wide {
            1 => a.bytes.0,
            _ => elements(&a.shape),
        };
        let files = (self.weights(a)?, self.weights(b)?);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut first = 0;
        while first < count {
            let run = CHUNK.min(count - first);
            left.resize((run * wide) as usize, 0);
            right.resize((run * narrow) as usize, 0);
            files.0.read(&mut left, a.offset + first * wide).ok()?;
            files.1.read(&mut right, b.offset + first * narrow).ok()?;
            let same = if alike {
                left == right
            } else {
                values(a.dtype, &left).eq(values(b.dtype, &right))
            };
            if !same {
                return Some(false);
            }
            first += run;
        }
        Some(true)
    }
}

impl Checkpoint {
    /// Whether `tensor` holds only zeros. `None` where the weights cannot be read, as for a bare header.
    pub fn all_zero(&self, tensor: &StoredTensor) -> Option<bool> {
        let file = self.weights(tensor)?;
        let float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let mut bytes = Vec::new();
        let mut first = 0;
        while first < tensor.bytes.0 {
            let run = CHUNK.min(tensor.bytes.0 - first);
            bytes.resize(run as usize, 0);
            file.read(&mut bytes, tensor.offset + first).ok()?;
            let zeros = if float {
                values(tensor.dtype, &bytes).all(|x| x == 0.0)
            } else {
                bytes.iter().all(|&byte| byte == 0)
            };
            if !zeros {
                return Some(false);
            }
            first += run;
        }
        Some(true)
    }
}

impl Checkpoint {
    /// The number of a `tensor` of one element. `None` where it has others, or the weights cannot be read.
    pub fn number(&self, tensor: &StoredTensor) -> Option<f32> {
        let float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        if !float || elements(&tensor.shape) != 1 {
            return None;
        }
        let mut bytes = vec![0; if tensor.dtype == Dtype::F32 { 4 } else { 2 }];
        self.weights(tensor)?.read(&mut bytes, tensor.offset).ok()?;
        values(tensor.dtype, &bytes).next()
    }
}

/// The file of a tensor, here or on a server.
enum Weights<'a> {
    Here(File),
    OnServer(&'a Arc<dyn RemoteWeights>, &'a Path),
}

impl Checkpoint {
    fn weights(&self, tensor: &StoredTensor) -> Option<Weights<'_>> {
        let path = &self.files.get(tensor.file)?.path;
        match &self.source {
            Some(source) => Some(Weights::OnServer(&source.weights, path)),
            None => File::open(path).ok().map(Weights::Here),
        }
    }
}

impl Weights<'_> {
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Weights::Here(file) => read_exact_at(file, bytes, offset),
            Weights::OnServer(weights, path) => weights.read(path, offset, bytes),
        }
    }
}

/// Floating-point numbers of `dtype` as F32, which holds each of them.
fn values(dtype: Dtype, bytes: &[u8]) -> impl Iterator<Item = f32> {
    let width = if dtype == Dtype::F32 { 4 } else { 2 };
    bytes
        .chunks_exact(width)
        .map(move |bytes| match (dtype, bytes) {
            (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (_, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            _ => f32::NAN,
        })
}
