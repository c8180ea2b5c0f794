//! Conversion of 16-bit floats to and from `f32`, rounding to nearest with ties to even (IEEE 754).

/// The smallest `f32` that rounds to an infinite half-precision float.
pub const F16_OVERFLOW: f32 = 65520.0;

/// The half-precision bits of `value`. From 65520 up in magnitude the result is infinite; NaN stays
/// NaN (quiet, payload cut).
#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00 | ((magnitude >> 13) & 0x3ff)
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Below 2^-14 halves are multiples of 2^-24, which is also the step of f32 at one half.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        let odd = (magnitude >> 13) & 1;
        // Subtract the difference of the exponents' biases, 112, and round what is cut off.
        (magnitude - (112 << 23) + 0xfff + odd) >> 13
    };
    (sign | half) as u16
}

/// The value of half-precision `bits`, exactly.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let value = if magnitude >= 0x7c00 {
        0x7f80_0000 | (magnitude << 13)
    } else if magnitude < 0x400 {
        (magnitude as f32 / 16_777_216.0).to_bits()
    } else {
        (magnitude << 13) + (112 << 23)
    };
    f32::from_bits(sign | value)
}

/// The bfloat16 bits of `value`. Values that round beyond the largest finite number become infinite; NaN stays NaN.
#[inline(always)]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        ((bits >> 16) | 0x40) as u16
    } else {
        ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
    }
}

/// The value of bfloat16 `bits`, exactly.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_survive_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            let back = f32_to_f16(value);
            if value.is_nan() {
                assert!(f16_to_f32(back).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(back, bits);
            }
            let value = bf16_to_f32(bits);
            if value.is_nan() {
                assert!(bf16_to_f32(f32_to_bf16(value)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(f32_to_bf16(value), bits);
            }
        }
    }

    #[test]
    fn halves_round_to_nearest_even() {
        // IEEE 754 binary16: 1 + 2^-11 lies halfway between 0x3c00 and 0x3c01.
        for (value, bits) in [
            (1.0, 0x3c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (1.0 + 1.1 / 2048.0, 0x3c01),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.996, 0x7bff),
            (65520.0, 0x7c00),
            (1e30, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (8.940_697e-8, 0x0002),
            (6.097_555e-5, 0x03ff),
            (1e-40, 0x0000),
        ] {
            assert_eq!(f32_to_f16(value), bits, "{value}");
        }
        for (value, bits) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
        ] {
            assert_eq!(f32_to_bf16(value), bits, "{value}");
        }
    }
}
