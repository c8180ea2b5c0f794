//! Whether two stored tensors hold the same numbers, and whether one holds nothing but zeros: the questions
//! that are answered by weights before a plan.
//!
//! In: tensors of a checkpoint. Out: yes, no, or that there is nothing to read. Reads two in step and ends
//! at the first difference, so that a yes costs two matrices and a no next to nothing.

use std::fs::File;

use half::{bf16, f16};

use super::{Checkpoint, StoredTensor};
use crate::dtype::{Dtype, elements};
use crate::input::read_exact_at;

/// Elements that are compared at a time.
const CHUNK: u64 = 1 << 18;

impl Checkpoint {
    /// Whether `a` and `b` hold the same numbers: of one format the same bytes, of two floating-point
    /// formats the same values. `None` where the files cannot tell, as bare headers cannot.
    pub fn same_numbers(&self, a: &StoredTensor, b: &StoredTensor) -> Option<bool> {
        let alike = a.dtype == b.dtype;
        let width = |tensor: &StoredTensor| match tensor.dtype {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            // Blocks and packed words are compared as the bytes that they are.
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
        let open = |tensor: &StoredTensor| File::open(&self.files.get(tensor.file)?.path).ok();
        let files = (open(a)?, open(b)?);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut first = 0;
        while first < count {
            let run = CHUNK.min(count - first);
            left.resize((run * wide) as usize, 0);
            right.resize((run * narrow) as usize, 0);
            read_exact_at(&files.0, &mut left, a.offset + first * wide).ok()?;
            read_exact_at(&files.1, &mut right, b.offset + first * narrow).ok()?;
            let same = match alike {
                true => left == right,
                false => values(a.dtype, &left).eq(values(b.dtype, &right)),
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
    /// Whether `tensor` holds zeros alone. `None` where the file cannot tell, as bare headers cannot.
    pub fn all_zero(&self, tensor: &StoredTensor) -> Option<bool> {
        let file = File::open(&self.files.get(tensor.file)?.path).ok()?;
        let float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let mut bytes = Vec::new();
        let mut first = 0;
        while first < tensor.bytes.0 {
            let run = CHUNK.min(tensor.bytes.0 - first);
            bytes.resize(run as usize, 0);
            read_exact_at(&file, &mut bytes, tensor.offset + first).ok()?;
            let zeros = match float {
                true => values(tensor.dtype, &bytes).all(|x| x == 0.0),
                false => bytes.iter().all(|&byte| byte == 0),
            };
            if !zeros {
                return Some(false);
            }
            first += run;
        }
        Some(true)
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
