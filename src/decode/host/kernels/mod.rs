//! Products of rows of weights in their stored format with rows of activations.
//!
//! In: weight bytes and an [`Input`]. Out: dot products. The activations are quantized to eight
//! bits first, in the way ggml does for the format at hand, so that results agree with llama.cpp's.

#[cfg(target_arch = "aarch64")]
mod arm64;
mod blocks;
mod dispatch;
mod input;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use arm64 as native;
#[cfg(target_arch = "x86_64")]
use x86 as native;

pub(super) use dispatch::OutputBlock;
pub(super) use input::Input;
pub(super) use tile::{LANES, Tile, TileFormat, tile_format};

use half::f16;

use crate::dtype::Dtype;
use crate::model::{Activation, Xielu};

/// The instructions that products use on this processor.
pub(super) fn instructions() -> &'static str {
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    if let Some(name) = native::instructions() {
        return name;
    }
    "portable"
}

/// Rows of a matrix in their stored format, `width` bytes each, end to end.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) dtype: Dtype,
    pub(super) bytes: &'a [u8],
    pub(super) width: usize,
}

impl<'a> Stored<'a> {
    /// From row `row` on.
    pub(super) fn from(self, row: usize) -> Stored<'a> {
        let bytes = self.bytes.get(row * self.width..).unwrap_or_default();
        Stored { bytes, ..self }
    }

    /// The bytes of a row.
    pub(super) fn row(self, row: usize) -> &'a [u8] {
        self.from(row).bytes.get(..self.width).unwrap_or_default()
    }

    fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.width.max(1))
    }
}

/// Where [`Activation::ClampedSwiglu`] cuts off.
pub(in super::super::super) const CLAMP: f32 = 7.0;
/// The slope of its sigmoid.
pub(in super::super::super) const SLOPE: f32 = 1.702;

/// The format that activations are converted to before they are multiplied with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActivationFormat {
    /// Blocks of 256 with one scale (ggml's `Q8_K`).
    Block256,
    /// Blocks of 32 with one scale (ggml's `Q8_0` and `Q8_1`).
    Block32,
    /// As they are.
    Floats,
}

/// The formats that are multiplied, each with the activations that ggml takes for it.
pub(super) fn activation_format(dtype: Dtype) -> Option<ActivationFormat> {
    Some(match dtype {
        Dtype::Q2_K | Dtype::Q3_K | Dtype::Q4_K | Dtype::Q5_K | Dtype::Q6_K | Dtype::IQ4_XS => {
            ActivationFormat::Block256
        }
        Dtype::IQ1_S | Dtype::IQ1_M | Dtype::TQ1_0 | Dtype::TQ2_0 => ActivationFormat::Block256,
        Dtype::IQ2_XXS | Dtype::IQ2_XS | Dtype::IQ2_S | Dtype::IQ3_XXS | Dtype::IQ3_S => {
            ActivationFormat::Block256
        }
        Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q8_0 | Dtype::IQ4_NL => {
            ActivationFormat::Block32
        }
        Dtype::MXFP4 | Dtype::Q1_0 | Dtype::Q2_0 => ActivationFormat::Block32,
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => ActivationFormat::Floats,
        _ => return None,
    })
}

/// The products of rows with one token, for as many rows as `out` has room for.
pub(super) fn products(rows: Stored<'_>, input: &Input<'_>, token: usize, out: &mut [f32]) {
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    if native::products(rows, input, token, out) {
        return;
    }
    portable::products(rows, input, token, out);
}

/// Takes the first rows of `rows` into a tile.
pub(super) fn fill(tile: &mut Tile, rows: Stored<'_>, columns: usize) {
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    if native::fill(tile, rows, columns) {
        return;
    }
    tile.fill(rows, columns, 0);
}

/// The products of tiles, one behind the other, with the tokens of `place`.
pub(super) fn multiply(
    panel: &[Tile],
    format: TileFormat,
    input: &Input<'_>,
    place: &mut OutputBlock<'_>,
) {
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    if native::multiply(panel, format, input, place) {
        return;
    }
    portable::multiply(panel, format, input, place);
}

/// `x . y`.
pub(in super::super::super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut out = 0.0;
    dots(x, y, 1.0, std::slice::from_mut(&mut out));
    out
}

/// `out[i] = factor x (x . rows[i])`, rows as wide as `x`, end to end.
pub(super) fn dots(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::dots(x, rows, factor, out) {
        return;
    }
    dots_lanes(x, rows, factor, out);
}

/// `out += factor x values`.
pub(in super::super::super) fn add_scaled(out: &mut [f32], factor: f32, values: &[f32]) {
    add_rows(out, &[factor], values);
}

/// `out += sum of factors[i] x rows[i]`, rows as wide as `out`, end to end.
pub(super) fn add_rows(out: &mut [f32], factors: &[f32], rows: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::add_rows(out, factors, rows) {
        return;
    }
    add_rows_lanes(out, factors, rows, fused);
}

/// `a x b + c`, in one instruction where every processor has it; elsewhere that would be a call.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Halves as floats.
pub(super) fn widen(halves: &[f16], out: &mut [f32]) {
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    if native::widen(halves, out) {
        return;
    }
    for (out, half) in out.iter_mut().zip(halves) {
        *out = half.to_f32();
    }
}

/// `exp(x - shift)` in place, and the sum of it.
pub(super) fn exponentials(x: &mut [f32], shift: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = x86::exponentials(x, shift) {
        return sum;
    }
    exponentials_lanes(x, shift)
}

/// `x = activation(x)`, off by at most a millionth of it or 1e-8.
pub(super) fn activate(x: &mut [f32], activation: Activation) {
    #[cfg(target_arch = "x86_64")]
    if x86::activate(x, activation) {
        return;
    }
    activate_lanes(x, activation);
}

/// The largest magnitude of values.
pub(super) fn largest_magnitude(values: &[f32]) -> f32 {
    largest_of(values, 0.0, f32::abs)
}

/// The largest of `values` and `least`.
pub(in super::super::super) fn largest(values: &[f32], least: f32) -> f32 {
    largest_of(values, least, |x| x)
}

/// The largest of `least` and what `of` makes of each value, sixteen at a time: one after the other, each would wait for the
/// comparison before.
#[inline(always)]
fn largest_of(values: &[f32], least: f32, of: impl Fn(f32) -> f32) -> f32 {
    // Unlike `f32::max` one instruction, and no less right: what is not a number is passed over.
    let larger = |largest: f32, x: f32| if x > largest { x } else { largest };
    let (lines, rest) = values.as_chunks::<16>();
    let mut lanes = [least; 16];
    for line in lines {
        for (lane, x) in lanes.iter_mut().zip(line) {
            *lane = larger(*lane, of(*x));
        }
    }
    let all = lanes.into_iter().chain(rest.iter().map(|x| of(*x)));
    all.fold(least, larger)
}

/// `out = round(values x factor)`, halves to even; the products are at most 127 large.
fn round(values: &[f32], factor: f32, out: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    if x86::round(values, factor, out) {
        return;
    }
    round_lanes(values, factor, out);
}

#[inline(always)]
fn round_lanes(values: &[f32], factor: f32, out: &mut [i8]) {
    /// See [`exponential`].
    const WHOLE: f32 = 12_582_912.0;
    for (out, value) in out.iter_mut().zip(values) {
        *out = (value * factor + WHOLE).to_bits() as i8;
    }
}

/// One row after another, in lanes that the compiler puts into registers.
fn dots_lanes(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) {
    let (x_lanes, x_rest) = x.as_chunks::<16>();
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
        let (row, rest) = row.as_chunks::<16>();
        let mut lanes = [0.0f32; 16];
        for (x, y) in x_lanes.iter().zip(row) {
            for lane in 0..16 {
                lanes[lane] = fused(x[lane], y[lane], lanes[lane]);
            }
        }
        let rest: f32 = x_rest.iter().zip(rest).map(|(x, y)| x * y).sum();
        *out = (lanes.iter().sum::<f32>() + rest) * factor;
    }
}

/// Four rows at a time, so that `out` is read and written once for them.
#[inline(always)]
fn add_rows_lanes(
    out: &mut [f32],
    factors: &[f32],
    rows: &[f32],
    fused: impl Fn(f32, f32, f32) -> f32,
) {
    let width = out.len().max(1);
    let (fours, rest) = factors.as_chunks::<4>();
    let (four_rows, rest_rows) = rows.split_at((4 * width * fours.len()).min(rows.len()));
    for (factors, rows) in fours.iter().zip(four_rows.chunks_exact(4 * width)) {
        let (first, second) = rows.split_at(2 * width);
        let ((a, b), (c, d)) = (first.split_at(width), second.split_at(width));
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let low = fused(factors[0], *a, fused(factors[1], *b, *out));
            *out = fused(factors[2], *c, fused(factors[3], *d, low));
        }
    }
    for (factor, row) in rest.iter().zip(rest_rows.chunks_exact(width)) {
        for (out, value) in out.iter_mut().zip(row) {
            *out = fused(*factor, *value, *out);
        }
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

/// SiLU is `x` times a sigmoid by definition, and GELU because `1 + tanh(y) = 2 sigmoid(2 y)`.
#[inline(always)]
fn activate_lanes(x: &mut [f32], activation: Activation) {
    /// Twice the root of 2 / pi.
    const GELU: f32 = 1.595_769;
    match activation {
        Activation::Silu => x.iter_mut().for_each(|x| *x *= sigmoid(*x)),
        Activation::GeluTanh => x
            .iter_mut()
            .for_each(|x| *x *= sigmoid(GELU * *x * (1.0 + 0.044_715 * *x * *x))),
        Activation::ReluSquared => x.iter_mut().for_each(|x| *x *= x.max(0.0)),
        Activation::ClampedSwiglu => x.iter_mut().for_each(|x| {
            let gate = x.min(CLAMP);
            *x = gate * sigmoid(SLOPE * gate);
        }),
        Activation::Xielu(Xielu {
            positive,
            negative,
            slope,
            start,
        }) => x.iter_mut().for_each(|x| {
            let above = positive * *x * *x;
            let below = negative * (exponential_less_one(x.min(start)) - *x);
            *x = slope * *x + if *x > 0.0 { above } else { below };
        }),
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exponential(-x))
}

/// `exp(x)` for `-87 <= x <= 88`, else that of the nearer end, without a branch, so that it runs in
/// lanes: `2^n x e^r` with a polynomial for `e^r`, `|r| <= ln 2 / 2`, right to two units in the last
/// place (coefficients: Cephes `expf`).
#[inline(always)]
pub(super) fn exponential(x: f32) -> f32 {
    /// 127, the exponent of 1, above a number whose last place is 1: a sum with it is rounded to a whole number, which
    /// then stands in the last bits. A conversion to an integer, which saturates, would be taken lane by lane.
    const WHOLE: f32 = 12_582_912.0 + 127.0;
    let x = x.clamp(-87.0, 88.0);
    let whole = x * std::f32::consts::LOG2_E + WHOLE;
    let n = whole - WHOLE;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(whole.to_bits() << 23)
}

/// `exp(x) - 1` of what is not far above zero: near zero by its series, which keeps the digits that a difference loses.
#[inline(always)]
fn exponential_less_one(x: f32) -> f32 {
    let p = 1.0 / 40320.0;
    let p = p * x + 1.0 / 5040.0;
    let p = p * x + 1.0 / 720.0;
    let p = p * x + 1.0 / 120.0;
    let p = p * x + 1.0 / 24.0;
    let p = p * x + 1.0 / 6.0;
    let p = p * x + 0.5;
    let near = p * x * x + x;
    if x > -0.5 { near } else { exponential(x) - 1.0 }
}

#[cfg(test)]
mod tests;
