//! The operations between matrix products, over rows of `f32`.

use super::super::rope::Angles;
use super::kernels::{self, CLAMP, exponentials, largest};
use super::parallel::{chunk_size, parallel_chunks};
use crate::model::{Activation, RopeStyle, Sparse};

/// Rows above which a step is worth sharing out among threads.
const FEW_ROWS: usize = 4;
/// Elements above which a step is worth sharing out among threads.
const FEW_ELEMENTS: usize = 1 << 13;

/// Calls `step` with every row of `width` elements.
pub(in super::super) fn each_row(
    rows: &mut [f32],
    width: usize,
    step: impl Fn(usize, &mut [f32]) + Sync,
) {
    let width = width.max(1);
    let count = rows.len() / width;
    let batch = if count <= FEW_ROWS {
        count.max(1)
    } else {
        chunk_size(count, 4, 1)
    };
    parallel_chunks(rows, batch * width, |chunk, rows| {
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            step(chunk * batch + index, row);
        }
    });
}

/// The mean of `value(x)` over a row, summed in double precision: in lanes, because a sum in order
/// waits for each addition.
fn mean(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let (eights, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0f64; 8];
    for eight in eights {
        for (lane, &x) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value(x));
        }
    }
    let rest = rest.iter().map(|&x| f64::from(value(x)));
    let sum = lanes.iter().sum::<f64>() + rest.sum::<f64>();
    (sum / row.len() as f64) as f32
}

/// The factor that brings a row to a root mean square of one.
fn inverse_rms(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (mean(row, |x| x * x) + epsilon).sqrt()
}

/// `x / rms(x) x weight`, for every row as wide as `weight`.
pub(super) fn rms_norm(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    each_row(rows, weight.len(), |_, row| {
        let factor = inverse_rms(row, epsilon);
        for (x, w) in row.iter_mut().zip(weight) {
            *x = *x * factor * w;
        }
    });
}

/// Subtracts its mean from every row of `width` elements.
pub(super) fn centre(rows: &mut [f32], width: usize) {
    each_row(rows, width, |_, row| {
        let mean = mean(row, |x| x);
        row.iter_mut().for_each(|x| *x -= mean);
    });
}

/// `x / rms(x)`, for every row of `width` elements.
pub(super) fn plain_norm(rows: &mut [f32], width: usize, epsilon: f32) {
    each_row(rows, width, |_, row| {
        let factor = inverse_rms(row, epsilon);
        row.iter_mut().for_each(|x| *x *= factor);
    });
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `x *= y`.
pub(super) fn times(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// `x *= factor`.
pub(in super::super) fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

/// The size of chunks for a step that computes each element alone.
fn element_chunk(len: usize) -> usize {
    if len < FEW_ELEMENTS {
        len
    } else {
        chunk_size(len, 1, 16)
    }
}

/// `x = activation(x)`.
pub(in super::super) fn activate(x: &mut [f32], activation: Activation) {
    let size = element_chunk(x.len());
    parallel_chunks(x, size, |_, x| kernels::activate(x, activation));
}

/// `gate = activation(gate) x up`, with `up` as the activation wants it.
pub(super) fn gate(gate: &mut [f32], up: &[f32], activation: Activation) {
    let size = element_chunk(gate.len());
    parallel_chunks(gate, size, |chunk, gate| {
        kernels::activate(gate, activation);
        let up = up.get(chunk * size..).unwrap_or_default();
        match activation {
            Activation::ClampedSwiglu => {
                let pairs = gate.iter_mut().zip(up);
                pairs.for_each(|(gate, up)| *gate *= up.clamp(-CLAMP, CLAMP) + 1.0);
            }
            _ => times(gate, up),
        }
    });
}

/// `1 / (1 + exp(-x))`.
pub(in super::super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + exp(x))`.
pub(in super::super) fn softplus(x: f32) -> f32 {
    // Above 20 the difference to x is below the precision.
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// `cap x tanh(x / cap)`.
pub(super) fn softcap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * (*x / cap).tanh();
    }
}

/// `exp(x)` over its sum.
pub(in super::super) fn softmax(x: &mut [f32]) {
    let largest = largest(x, f32::NEG_INFINITY);
    let sum = exponentials(x, largest);
    scale(x, 1.0 / sum);
}

/// See [`super::Activations::sparsify`].
pub(super) fn sparsify(rows: &mut [f32], width: usize, sparse: &Sparse) {
    each_row(rows, width, |_, row| {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let squares: f32 = row.iter().map(|x| (x - mean) * (x - mean)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        let threshold = mean + deviation * sparse.factor;
        for x in row {
            *x = (*x - threshold).max(0.0);
        }
    });
}

/// Turns `rows`, `[tokens, width]`, head by head.
pub(super) fn rope(rows: &mut [f32], width: usize, head: usize, angles: &Angles) {
    let pairs = angles.pairs;
    each_row(rows, width, |token, row| {
        let range = token * pairs..(token + 1) * pairs;
        let cosines = angles.cosines.get(range.clone()).unwrap_or_default();
        let sines = angles.sines.get(range).unwrap_or_default();
        let turns = || cosines.iter().zip(sines);
        for head in row.chunks_exact_mut(head.max(1)) {
            match angles.style {
                RopeStyle::Neox => {
                    let (first, second) = head.split_at_mut(pairs);
                    for ((x, y), (c, s)) in first.iter_mut().zip(second).zip(turns()) {
                        (*x, *y) = (*x * c - *y * s, *x * s + *y * c);
                    }
                }
                RopeStyle::Norm => {
                    for ([x, y], (c, s)) in head.as_chunks_mut().0.iter_mut().zip(turns()) {
                        (*x, *y) = (*x * c - *y * s, *x * s + *y * c);
                    }
                }
            }
        }
    });
}
/// The Walsh-Hadamard transform of every run of `run` elements, a power of two.
pub(in super::super) fn hadamard(x: &mut [f32], run: usize) {
    let factor = 1.0 / (run.max(1) as f32).sqrt();
    each_row(x, run, |_, x| {
        let mut half = 1;
        while half < run {
            for pair in x.chunks_exact_mut(2 * half) {
                let (left, right) = pair.split_at_mut(half);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        scale(x, factor);
    });
}
