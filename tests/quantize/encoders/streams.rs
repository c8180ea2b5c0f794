//! Numbers that any language makes alike: a congruential generator and a few exact operations.

/// Uniform in [-1, 1): `state = state * 1664525 + 1013904223`, the upper 24 bits.
pub(crate) fn uniform(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Many small values and few large ones.
pub(crate) fn heavy(seed: u32, n: usize) -> Vec<f32> {
    uniform(seed, n).iter().map(|v| v * v * v * 0.25).collect()
}

/// Nearly normal, like most weights.
pub(crate) fn bell(seed: u32, n: usize) -> Vec<f32> {
    let sum = |v: &[f32]| (((v[0] + v[1]) + v[2]) + v[3]) * 0.0625;
    uniform(seed, 4 * n).chunks(4).map(sum).collect()
}

/// The magnitudes of `bell`.
pub(crate) fn positive(seed: u32, n: usize) -> Vec<f32> {
    bell(seed, n).iter().map(|v| v.abs()).collect()
}

/// `bell` with one value in 300 forty times as large.
pub(crate) fn outlier(seed: u32, n: usize) -> Vec<f32> {
    let mut values = bell(seed, n);
    values
        .iter_mut()
        .skip(7)
        .step_by(300)
        .for_each(|v| *v *= 40.0);
    values
}

/// Importance of columns, from 0.001 to 50.
pub(crate) fn importance(seed: u32, n: usize) -> Vec<f32> {
    uniform(seed, n)
        .iter()
        .map(|v| (v * v) * (v * v) * 50.0 + 0.001)
        .collect()
}

/// The FNV-1a hash, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
