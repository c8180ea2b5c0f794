//! Reading blocks of weights, on any processor.

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
