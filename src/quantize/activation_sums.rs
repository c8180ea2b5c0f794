//! Sums of squared activations by column of each weight: what an importance matrix file holds, and its writer.
//!
//! In: rows that a weight is multiplied with. Out: a GGUF that llama.cpp's tools read, or an [`Importance`].
//! Source of the form: `save_imatrix` of llama.cpp's `tools/imatrix/imatrix.cpp`.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use super::QuantizeError;
use super::destination::{Destination, OutputError};
use super::importance::{COUNTS, Importance, SUMS, mean};
use super::partial::{Leftover, OutputForm, Partial};
use crate::dtype::Dtype;
use crate::gguf::{self, TensorEntry, Value};
use crate::units::Bytes;

/// Sums over the tokens of a text.
#[derive(Clone, Debug, Default)]
pub struct ActivationSums {
    /// The name of the text.
    pub dataset: String,
    /// Chunks of it that were evaluated whole.
    pub chunks: u32,
    /// Tokens in a chunk.
    pub chunk_tokens: u32,
    tensors: BTreeMap<String, Sums>,
}

/// Those of a tensor, matrix after matrix.
#[derive(Clone, Debug)]
struct Sums {
    squares: Vec<f64>,
    /// Rows that were added for each matrix.
    counts: Vec<u64>,
    /// Whether tokens are sent to some of the matrices. The others have one count in the file, as all see the same rows.
    is_routed: bool,
}

impl Sums {
    fn clear(&mut self) {
        self.squares.fill(0.0);
        self.counts.fill(0);
    }
}

impl ActivationSums {
    /// Adds the squares of `rows`, `columns` elements each, for matrix `member` of the `members` of `tensor`,
    /// to some of which a router sends each token if it `is_routed`.
    pub fn add(
        &mut self,
        tensor: &str,
        [member, members]: [usize; 2],
        is_routed: bool,
        rows: &[f32],
        columns: usize,
    ) {
        if !self.tensors.contains_key(tensor) {
            let sums = Sums {
                squares: vec![0.0; columns * members],
                counts: vec![0; members],
                is_routed,
            };
            self.tensors.insert(tensor.to_owned(), sums);
        }
        let Some(sums) = self.tensors.get_mut(tensor) else {
            return;
        };
        let mut matrices = sums.squares.chunks_exact_mut(columns.max(1));
        let (Some(squares), Some(count)) = (matrices.nth(member), sums.counts.get_mut(member))
        else {
            return;
        };
        let rows = rows.chunks_exact(columns.max(1));
        *count += rows.len() as u64;
        for row in rows {
            for (sum, x) in squares.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
    }

    /// Adds these sums to `whole`, and begins anew.
    pub fn move_into(&mut self, whole: &mut ActivationSums) {
        for (name, sums) in &mut self.tensors {
            let Some(into) = whole.tensors.get_mut(name) else {
                whole.tensors.insert(name.clone(), sums.clone());
                sums.clear();
                continue;
            };
            for (into, square) in into.squares.iter_mut().zip(&sums.squares) {
                *into += square;
            }
            for (into, count) in into.counts.iter_mut().zip(&sums.counts) {
                *into += count;
            }
            sums.clear();
        }
    }

    /// The number of tensors in it.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Experts' matrices that no token reached, and all matrices of experts.
    pub fn unreached(&self) -> (usize, usize) {
        let stacks = self.tensors.values().filter(|sums| sums.is_routed);
        let counts = || stacks.clone().flat_map(|sums| &sums.counts);
        (
            counts().filter(|count| **count == 0).count(),
            counts().count(),
        )
    }

    /// The importance matrix of these sums, called `file` in the metadata of what is quantized with it.
    pub fn importance(&self, file: &str) -> Importance {
        let of = |sums: &Sums| {
            let columns = (sums.squares.len() / sums.counts.len().max(1)).max(1);
            let matrices = sums.squares.chunks(columns).zip(&sums.counts);
            let means = matrices.flat_map(|(squares, count)| {
                squares.iter().map(|sum| mean(*sum as f32, *count as f32))
            });
            means.collect()
        };
        let entries = self
            .tensors
            .iter()
            .map(|(name, sums)| (name.clone(), of(sums)));
        Importance::new(file, &self.dataset, self.chunks, entries.collect())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`QuantizeError`]: the destination cannot or must not be written.
    pub fn write(&self, destination: &Destination<'_>) -> Result<(), QuantizeError> {
        let io = |source| OutputError::io(destination.path, source);
        let metadata = [
            ("general.type", Value::String("imatrix".to_owned())),
            (
                "imatrix.datasets",
                Value::Array(vec![Value::String(self.dataset.clone())]),
            ),
            ("imatrix.chunk_count", Value::U32(self.chunks)),
            ("imatrix.chunk_size", Value::U32(self.chunk_tokens)),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        let parts: Vec<(String, [u64; 2], Vec<f32>)> = self
            .tensors
            .iter()
            .flat_map(|(name, sums)| parts(name, sums))
            .collect();
        let entries: Vec<TensorEntry<'_>> = parts
            .iter()
            .map(|(name, shape, _)| TensorEntry {
                name,
                dtype: Dtype::F32,
                shape,
            })
            .collect();
        let dims = entries.iter().map(|entry| (entry.name, entry.shape.len()));
        let header = gguf::header_bytes(&metadata, dims);
        let sizes = parts
            .iter()
            .map(|(_, _, values)| Bytes(4 * values.len() as u64));
        let bytes = gguf::file_bytes(header, sizes);
        let partial = Partial::create(destination, OutputForm::File, bytes, Leftover::Replace)?;
        let mut out = BufWriter::new(partial.file()?);
        gguf::write_header(&mut out, &metadata, &entries)?;
        for (_, _, values) in &parts {
            let mut content: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            content.resize(content.len().next_multiple_of(gguf::ALIGNMENT as usize), 0);
            out.write_all(&content).map_err(io)?;
        }
        out.flush().map_err(io)?;
        drop(out);
        Ok(partial.commit()?)
    }
}

/// The two stored tensors of a weight.
fn parts(name: &str, sums: &Sums) -> [(String, [u64; 2], Vec<f32>); 2] {
    let counts = sums.counts.iter().map(|count| *count as f32);
    let kept = if sums.is_routed { usize::MAX } else { 1 };
    let counts: Vec<f32> = counts.take(kept).collect();
    let members = counts.len() as u64;
    let columns = sums.squares.len() as u64 / members.max(1);
    let squares = sums.squares.iter().map(|sum| *sum as f32).collect();
    [
        (format!("{name}{SUMS}"), [members, columns], squares),
        (format!("{name}{COUNTS}"), [members, 1], counts),
    ]
}
