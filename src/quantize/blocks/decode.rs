//! Decodes blocks and floats into numbers, with the products and sums of `dequantize_row_*` in `ggml-quants.c`.

use super::half::{bf16_to_f32, f16_to_f32};
use super::unpack::unpack;
use crate::dtype::Dtype;

/// Decodes checked rows. Inlined into functions that are compiled for different instructions; the operations used here
/// round the same with all of them.
#[inline(always)]
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => floats(bytes, out, |bits: [u8; 4]| f32::from_le_bytes(bits)),
        Dtype::F16 => floats(bytes, out, |bits| f16_to_f32(u16::from_le_bytes(bits))),
        Dtype::BF16 => floats(bytes, out, |bits| bf16_to_f32(u16::from_le_bytes(bits))),
        _ => {
            let mut rest = out;
            unpack(dtype, bytes, |codes, scales, minima| {
                let (block, next) = std::mem::take(&mut rest).split_at_mut(codes.len());
                rest = next;
                let run = codes.len() / scales.len();
                let runs = block.chunks_exact_mut(run).zip(codes.chunks_exact(run));
                for ((out, codes), (scale, minimum)) in runs.zip(scales.iter().zip(minima)) {
                    for (out, code) in out.iter_mut().zip(codes) {
                        *out = f32::from(*code) * scale - minimum;
                    }
                }
            });
        }
    }
}

#[inline(always)]
fn floats<const B: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; B]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = decode(*bytes);
    }
}
