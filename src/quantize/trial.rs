//! Tensors encoded for trial: the error of candidate types on a sample of rows, and whole tensors in memory.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::encoder::{EncodedRows, Encoder};
use super::error::QuantizeError;
use super::planned::{PlannedTensor, Values};
use super::pool::{self, Progress};
use super::tensor_rows::{ReadBuffers, TensorRows};
use crate::dtype::Dtype;

/// The error of each of `types` on rows spread evenly over `tensor`, about `weights` of its weights: the sum of squared
/// errors over that of squared weights, both weighted with the importance of their columns, where it is known. Errors of
/// independent sign add up so in a product with activations that the importance is of. Empty for a tensor that is copied.
///
/// # Errors
/// [`QuantizeError`]: the rows cannot be read, or a type does not divide them.
pub fn sampled_errors(
    tensor: &PlannedTensor<'_>,
    types: &[Dtype],
    weights: u64,
) -> Result<Vec<f64>, QuantizeError> {
    let Values::Rows(rows) = &tensor.values else {
        return Ok(Vec::new());
    };
    let columns = rows.columns as usize;
    let count = (weights / rows.columns.max(1)).clamp(1, rows.rows.max(1));
    let mut sums = vec![(0.0, 0.0); types.len()];
    let (mut buffers, mut values) = (ReadBuffers::default(), Vec::new());
    let mut encoded = EncodedRows::default();
    for sample in 0..count {
        // The middle of each of `count` equal parts.
        let row = (2 * sample + 1) * rows.rows / (2 * count);
        rows.read(row..row + 1, &mut buffers, &mut values)?;
        let importance = importance(tensor, rows, row);
        for (dtype, (error, square)) in types.iter().zip(&mut sums) {
            let done = Encoder::Ggml(*dtype).encode(&values, columns, importance, &mut encoded);
            done.map_err(|source| QuantizeError::Block {
                tensor: tensor.name.to_owned(),
                source,
            })?;
            for (column, (x, y)) in values.iter().zip(&encoded.decoded).enumerate() {
                let weight = importance.and_then(|all| all.get(column));
                let weight = weight.map_or(1.0, |weight| f64::from(*weight));
                let (x, y) = (f64::from(*x), f64::from(*y));
                if x.is_finite() {
                    *error += weight * (x - y) * (x - y);
                    *square += weight * x * x;
                }
            }
        }
    }
    let ratio = |(error, square): (f64, f64)| if square > 0.0 { error / square } else { 0.0 };
    Ok(sums.into_iter().map(ratio).collect())
}

/// The importance of the columns of `row`.
fn importance<'a>(
    tensor: &PlannedTensor<'a>,
    rows: &TensorRows<'_>,
    row: u64,
) -> Option<&'a [f32]> {
    let columns = rows.columns as usize;
    let matrix = (row / tensor.matrix_rows(rows.rows)) as usize;
    tensor
        .importance?
        .get(matrix * columns..(matrix + 1) * columns)
}

/// The bytes of `tensor` as it is planned.
///
/// # Errors
/// [`QuantizeError`]: its weights cannot be read, or `cancel` became true.
pub fn encoded(
    tensor: &PlannedTensor<'_>,
    threads: usize,
    cancel: &AtomicBool,
) -> Result<Vec<u8>, QuantizeError> {
    let mut out = vec![0; tensor.assigned.bytes.0 as usize];
    let place = Mutex::new(out.as_mut_slice());
    pool::run(
        std::slice::from_ref(tensor),
        &place,
        threads,
        cancel,
        &mut |_: Progress| {},
    )?;
    Ok(out)
}
