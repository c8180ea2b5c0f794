//! Eight-bit floats: conversion of codes to values and back, and encoding of rows as E4M3 with one scale each.
//!
//! The codes are those of the OCP 8-bit floating point specification (revision 1.0, table 1): E4M3
//! has no infinity and one NaN per sign, E5M2 is the upper half of a half-precision float. E8M0 is
//! the power-of-two scale of the OCP microscaling specification. Does no IO.

use super::blocks::Encoded;
use super::blocks::half::{bf16_to_f32, f16_to_f32, f32_to_bf16};

/// The largest E4M3 value.
pub const E4M3_MAX: f32 = 448.0;

/// The value of an E4M3 code; 0x7f and 0xff are NaN.
pub fn e4m3_to_f32(code: u8) -> f32 {
    let sign = u32::from(code & 0x80) << 24;
    let magnitude = u32::from(code & 0x7f);
    let value = match magnitude {
        0x7f => f32::NAN.to_bits(),
        // Below 2^-6 values are multiples of 2^-9.
        0..=7 => (magnitude as f32 / 512.0).to_bits(),
        // The exponents' biases differ by 120.
        _ => (magnitude << 20) + (120 << 23),
    };
    f32::from_bits(sign | value)
}

/// The nearest E4M3 code, ties to even; beyond 448 it is 448 (infinities too), NaN stays NaN.
#[inline(always)]
pub fn f32_to_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = (bits >> 24) & 0x80;
    let magnitude = bits & 0x7fff_ffff;
    let code = if magnitude > 0x7f80_0000 {
        0x7f
    } else if magnitude >= E4M3_MAX.to_bits() {
        0x7e
    } else if magnitude < 0x3c80_0000 {
        // Below 2^-6 codes are multiples of 2^-9, which is also the step of f32 at 2^14.
        (f32::from_bits(magnitude) + 16_384.0).to_bits() - 16_384f32.to_bits()
    } else {
        let odd = (magnitude >> 20) & 1;
        (magnitude - (120 << 23) + 0x7_ffff + odd) >> 20
    };
    (sign | code) as u8
}

/// The value of an E5M2 code.
pub fn e5m2_to_f32(code: u8) -> f32 {
    f16_to_f32(u16::from(code) << 8)
}

/// The value of an E8M0 code: 2^(code - 127); 255 is NaN.
pub fn e8m0_to_f32(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// Encodes a row of values as E4M3 with one scale: writes one code per value to `codes` and returns the BF16 bits of the
/// scale. The scale is the row's largest magnitude divided by 448 (as in llm-compressor's FP8_DYNAMIC), rounded to BF16
/// before the values are divided by it; a row of zeros has the scale 1. NaN and infinities are counted and encoded as 0.
///
/// `codes` and `values` must have the same length; elements beyond the shorter are ignored.
pub fn encode_row(values: &[f32], codes: &mut [u8]) -> (u16, Encoded) {
    let mut largest = 0f32;
    let mut not_finite = 0;
    for value in values {
        if value.is_finite() {
            largest = largest.max(value.abs());
        } else {
            not_finite += 1;
        }
    }
    let scale = scale_bits(largest / E4M3_MAX);
    let step = bf16_to_f32(scale);
    for (code, &value) in codes.iter_mut().zip(values) {
        let finite = if value.is_finite() { value } else { 0.0 };
        // Divided, not multiplied with the inverse: compressed-tensors has the same codes to the last tie.
        *code = f32_to_e4m3(finite / step);
    }
    (scale, Encoded { not_finite })
}

/// A positive scale as BF16 bits. Zero becomes 1, and a subnormal number becomes the smallest normal one, so that the
/// inverse is finite.
pub(super) fn scale_bits(scale: f32) -> u16 {
    if scale == 0.0 {
        0x3f80
    } else {
        f32_to_bf16(scale).clamp(0x0080, 0x7f7f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E4M3 by its definition: (-1)^S x 2^(E-7) x (1 + M/8), and (-1)^S x 2^-6 x M/8 for E = 0.
    fn by_definition(code: u8) -> f64 {
        let (sign, exponent, mantissa) = (code >> 7, (code >> 3) & 15, f64::from(code & 7));
        let magnitude = match exponent {
            0 => 2f64.powi(-6) * mantissa / 8.0,
            e => 2f64.powi(i32::from(e) - 7) * (1.0 + mantissa / 8.0),
        };
        if sign == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_e4m3_code_has_the_value_of_its_definition() {
        for code in 0..=255u8 {
            let value = e4m3_to_f32(code);
            if code & 0x7f == 0x7f {
                assert!(value.is_nan(), "{code:#04x}");
            } else {
                assert_eq!(f64::from(value), by_definition(code), "{code:#04x}");
                assert_eq!(f32_to_e4m3(value), code, "{code:#04x}");
            }
        }
    }

    /// Table 2 of the OCP specification.
    #[test]
    fn landmarks_of_the_specification() {
        for (code, value) in [
            (0x00, 0.0),
            (0x7e, 448.0),
            (0x08, 0.015625),
            (0x07, 0.875 * 0.015625),
            (0x01, 0.001953125),
            (0xfe, -448.0),
            (0x38, 1.0),
        ] {
            assert_eq!(e4m3_to_f32(code), value);
        }
        for (code, value) in [
            (0x7b, 57344.0),
            (0x04, 2f32.powi(-14)),
            (0x03, 0.75 * 2f32.powi(-14)),
            (0x01, 2f32.powi(-16)),
            (0x3c, 1.0),
        ] {
            assert_eq!(e5m2_to_f32(code), value);
        }
        assert!(e5m2_to_f32(0x7c).is_infinite() && e5m2_to_f32(0x7d).is_nan());
        for (code, value) in [(127, 1.0), (0, 2f32.powi(-127)), (254, 2f32.powi(127))] {
            assert_eq!(e8m0_to_f32(code), value);
        }
        assert!(e8m0_to_f32(255).is_nan());
    }

    /// Between two neighbours the nearer wins, halfway the even code.
    #[test]
    fn rounding_is_to_nearest_even_between_all_neighbours() {
        for code in 0..0x7e_u8 {
            let (low, high) = (e4m3_to_f32(code), e4m3_to_f32(code + 1));
            let middle = (low + high) / 2.0; // exact
            let even = if code % 2 == 0 { code } else { code + 1 };
            assert_eq!(f32_to_e4m3(middle), even, "{code:#04x}");
            assert_eq!(f32_to_e4m3(middle.next_down()), code);
            assert_eq!(f32_to_e4m3(middle.next_up()), code + 1);
            assert_eq!(f32_to_e4m3(-middle), 0x80 | even);
        }
        for (value, code) in [
            (448.1, 0x7e),
            (1e30, 0x7e),
            (f32::INFINITY, 0x7e),
            (f32::NEG_INFINITY, 0xfe),
            (-0.0, 0x80),
            (1e-40, 0x00),
        ] {
            assert_eq!(f32_to_e4m3(value), code, "{value}");
        }
        assert!(e4m3_to_f32(f32_to_e4m3(f32::NAN)).is_nan());
    }

    #[test]
    fn rows_of_zeros_and_of_nothing_finite_are_defined() {
        let mut codes = [0xaa; 3];
        assert_eq!(encode_row(&[0.0; 3], &mut codes).0, 0x3f80);
        assert_eq!(codes, [0; 3]);
        let (scale, encoded) = encode_row(&[f32::NAN, f32::INFINITY, 448.0], &mut codes);
        assert_eq!((scale, encoded.not_finite), (0x3f80, 2));
        assert_eq!(codes, [0, 0, 0x7e]);
        // The smallest normal scale holds what is far below it.
        assert_eq!(encode_row(&[1e-39, 0.0, 0.0], &mut codes).0, 0x0080);
    }
}
