//! Products of rows of weights in their stored format with rows of activations, for the formats and
//! processors where candle's are slow or keep a second copy of the weights.
//!
//! In: weight bytes and an [`Input`]. Out: dot products. The activations are quantized to eight
//! bits first, in the way ggml does for the format at hand, so that results agree with llama.cpp's.

mod input;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use input::{Block32, Block256, Input};

use crate::dtype::Dtype;

/// Tokens whose products with one row are taken at once, so that it is unpacked once for them.
pub(super) const GROUP: usize = 4;

/// What the activations become for a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// Blocks of 256 with one scale (ggml's `Q8_K`).
    Block256,
    /// Blocks of 32 with one scale (ggml's `Q8_0`).
    Block32,
    /// As they are.
    Floats,
}

/// The formats with kernels of our own. Their reasons are measurements: `cargo xtask bench decode`.
pub(super) fn against(dtype: Dtype) -> Option<Against> {
    Some(match dtype {
        Dtype::Q4_K | Dtype::Q5_K | Dtype::Q6_K => Against::Block256,
        Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => Against::Block32,
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Against::Floats,
        _ => return None,
    })
}

/// Whether rows of `dtype` are multiplied here on this processor.
pub(super) fn available(dtype: Dtype) -> bool {
    against(dtype).is_some() && fast()
}

#[cfg(target_arch = "x86_64")]
fn fast() -> bool {
    x86::available()
}

#[cfg(not(target_arch = "x86_64"))]
fn fast() -> bool {
    false
}

/// The products of one row with the tokens from `first` on, as many as `out` has: `GROUP` or one.
pub(super) fn products(dtype: Dtype, row: &[u8], input: &Input<'_>, first: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::products(dtype, row, input, first, out) {
        return;
    }
    portable(dtype, row, input, first, out);
}

/// The same without instructions that not every processor has: the row as floats, with the
/// activations as floats. What the kernels are held against.
fn portable(dtype: Dtype, row: &[u8], input: &Input<'_>, first: usize, out: &mut [f32]) {
    let mut weights = vec![0.0; input.columns];
    let decoded = crate::quantize::blocks::decode_rows(dtype, row, input.columns, &mut weights);
    debug_assert!(decoded.is_ok(), "formats with kernels have decoders");
    for (index, out) in out.iter_mut().enumerate() {
        *out = dot(&weights, input.token(first + index));
    }
}

/// `x . y`.
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(dot) = x86::dot(x, y) {
        return dot;
    }
    dot_lanes(x, y, |a, b, c| a * b + c)
}

/// `out += factor x values`.
pub(super) fn add_scaled(out: &mut [f32], factor: f32, values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::add_scaled(out, factor, values) {
        return;
    }
    add_scaled_lanes(out, factor, values);
}

/// `exp(x - shift)` in place, and the sum of it.
pub(super) fn exponentials(x: &mut [f32], shift: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = x86::exponentials(x, shift) {
        return sum;
    }
    exponentials_lanes(x, shift)
}

/// `out = round(values x factor)`, halves to even.
fn round(values: &[f32], factor: f32, out: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    if x86::round(values, factor, out) {
        return;
    }
    round_lanes(values, factor, out);
}

#[inline(always)]
fn round_lanes(values: &[f32], factor: f32, out: &mut [i8]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = (value * factor).round_ties_even() as i8;
    }
}

/// A dot product in lanes that the compiler puts into registers.
#[inline(always)]
fn dot_lanes(x: &[f32], y: &[f32], fused: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (x, x_rest) = x.as_chunks::<32>();
    let (y, y_rest) = y.as_chunks::<32>();
    let mut lanes = [0.0f32; 32];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..32 {
            lanes[lane] = fused(x[lane], y[lane], lanes[lane]);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn add_scaled_lanes(out: &mut [f32], factor: f32, values: &[f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += factor * value;
    }
}

#[inline(always)]
fn exponentials_lanes(x: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks_mut::<8>();
    for chunk in chunks {
        for lane in 0..8 {
            chunk[lane] = exponential(chunk[lane] - shift);
            lanes[lane] += chunk[lane];
        }
    }
    for x in rest.iter_mut() {
        *x = exponential(*x - shift);
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `exp(x)` for `x <= 0` without a branch, so that it runs in lanes: `2^n x e^r` with a polynomial
/// for `e^r`, `|r| <= ln 2 / 2`, right to two units in the last place (coefficients: Cephes `expf`).
#[inline(always)]
pub(super) fn exponential(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests;
