//! Reading blocks of weights, on any processor.

use crate::quantize::blocks::IQ4_LEVELS;

/// The array of `N` bytes at `at`; its bounds are constants, so the check goes away.
#[inline(always)]
pub(super) fn at<const N: usize, T>(bytes: &[T], at: usize) -> &[T; N] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(array) => array,
        None => unreachable!("a block is as long as its format says"),
    }
}

/// Eight scales and eight minima of six bits (`Q4_K`, `Q5_K`), a byte each.
#[inline(always)]
pub(super) fn scales_and_minima(packed: &[u8; 12]) -> (u64, u64) {
    let [a, b, c] = [0, 4, 8].map(|i| u32::from_le_bytes(*at(packed, i)));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let top = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    (
        join(a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | top(a)),
        join(b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | top(b)),
    )
}

/// Sixteen scales of six bits (`Q3_K`), 32 too large, a byte each.
#[inline(always)]
pub(super) fn sixteen_scales(packed: &[u8; 12]) -> [u64; 2] {
    let low = u64::from_le_bytes(*at(packed, 0));
    let high = u32::from_le_bytes(*at(packed, 8));
    let top = |n: u32| u64::from(high >> n & 0x0303_0303) << 4;
    let four_bits = 0x0f0f_0f0f_0f0f_0f0f;
    [
        low & four_bits | top(0) | top(2) << 32,
        low >> 4 & four_bits | top(4) | top(6) << 32,
    ]
}

/// The levels of `IQ4_NL` and `IQ4_XS`, as bytes of a register.
pub(super) const fn iq4_levels() -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut code = 0;
    while code < 16 {
        bytes[code] = IQ4_LEVELS[code] as u8;
        code += 1;
    }
    bytes
}
