//! Takes blocks of a few levels apart, as `super::unpack` does those of other formats: `MXFP4`, `NVFP4`, `TQ1_0`,
//! `TQ2_0`, `Q1_0` and `Q2_0`.

use super::float4::LEVELS;
use super::unpacked::{Unpacked, half, nibbles, pairs};

#[inline(always)]
fn level(code: u8) -> i8 {
    LEVELS[usize::from(code & 15)]
}

/// Half of the power of two that a byte stands for, whose levels are doubled.
#[inline(always)]
fn half_power(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => u32::from(exponent - 1) << 23,
    })
}

#[inline(always)]
pub(super) fn mxfp4(b: &[u8; 17], out: &mut Unpacked<32, 1>) {
    out.scales[0] = half_power(b[0]);
    nibbles(&b[1..], &mut out.codes, |_, code| level(code));
}

/// Half of a float without sign, of four bits of exponent and three of mantissa; 0 for what is not a number.
#[inline(always)]
fn half_ue4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    match (exponent, bits) {
        (_, 127) => 0.0,
        (0, _) => mantissa / 1024.0,
        _ => (1.0 + mantissa / 8.0) * f32::from_bits(((exponent - 8 + 127) as u32) << 23),
    }
}

#[inline(always)]
pub(super) fn nvfp4(b: &[u8; 36], out: &mut Unpacked<64, 4>) {
    for (j, codes) in out.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        out.scales[j] = half_ue4m3(b[j]);
        let (low, high) = codes.split_at_mut(8);
        let bytes = &b[4 + 8 * j..];
        for ((low, high), &byte) in low.iter_mut().zip(high).zip(bytes) {
            (*low, *high) = (level(byte), level(byte >> 4));
        }
    }
}

#[inline(always)]
pub(super) fn tq2_0(b: &[u8; 66], out: &mut Unpacked<256, 8>) {
    out.scales = [half(b, 64); 8];
    for (j, codes) in out.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        *codes = pairs(&b[..64], j).map(|code| code as i8 - 1);
    }
}

/// Digit `number` of a byte that is a fraction of 256.
#[inline(always)]
fn digit(byte: u8, number: u32) -> i8 {
    let rest = byte.wrapping_mul(3u8.pow(number));
    ((u16::from(rest) * 3) >> 8) as i8 - 1
}

#[inline(always)]
pub(super) fn tq1_0(b: &[u8; 54], out: &mut Unpacked<256, 8>) {
    out.scales = [half(b, 52); 8];
    for (codes, bytes) in [(0..160, 0..32), (160..240, 32..48), (240..256, 48..52)] {
        let (codes, bytes) = (&mut out.codes[codes], &b[bytes]);
        for (number, codes) in (0..).zip(codes.chunks_mut(bytes.len())) {
            for (code, &byte) in codes.iter_mut().zip(bytes) {
                *code = digit(byte, number);
            }
        }
    }
}

#[inline(always)]
pub(super) fn q1_0(b: &[u8; 18], out: &mut Unpacked<128, 4>) {
    out.scales = [half(b, 0); 4];
    for (j, code) in out.codes.iter_mut().enumerate() {
        *code = if b[2 + j / 8] >> (j % 8) & 1 == 1 {
            1
        } else {
            -1
        };
    }
}

#[inline(always)]
pub(super) fn q2_0(b: &[u8; 18], out: &mut Unpacked<64, 2>) {
    out.scales = [half(b, 0); 2];
    for (j, code) in out.codes.iter_mut().enumerate() {
        *code = (b[2 + j / 4] >> (2 * (j % 4)) & 3) as i8 - 1;
    }
}
