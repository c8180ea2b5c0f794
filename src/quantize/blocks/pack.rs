//! Packs codes and integer scales, in the order of their weights, into the bytes of a block, laid out as
//! the structures of `ggml-common.h`.

/// Codes of one block, in the order of the weights.
pub(super) type Codes = [u8; 256];

/// Scales and minima of six bits each, packed into 12 bytes as `get_scale_min_k4` reads them.
pub(super) fn scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4 << 6);
        out[j + 4] = mins[j] | (mins[j + 4] >> 4 << 6);
        out[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] << 4);
    }
    out
}

/// The low four bits of 64 weights in 32 bytes; byte `l` holds weights `l` and `l + 32`.
fn nibbles_64(codes: &Codes, out: &mut [u8]) {
    for (codes, out) in codes
        .as_chunks::<64>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
    {
        for l in 0..32 {
            out[l] = (codes[l] & 15) | (codes[l + 32] << 4);
        }
    }
}

/// Two bits of each of 128 weights in 32 bytes; byte `l` holds weights `l`, `l + 32`, `l + 64`, `l + 96`.
pub(super) fn pairs_128(codes: &Codes, shift: u32, out: &mut [u8]) {
    for (codes, out) in codes
        .as_chunks::<128>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
    {
        for l in 0..32 {
            let pair = |n: usize| (codes[l + 32 * n] >> shift & 3) << (2 * n);
            out[l] = pair(0) | pair(1) | pair(2) | pair(3);
        }
    }
}

/// One bit of each weight in 32 bytes: weight `32 * n + l` in bit `n` of byte `l`.
fn bit_of_32(codes: &Codes, shift: u32, out: &mut [u8]) {
    for (n, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (out, code) in out.iter_mut().zip(codes) {
            *out |= (code >> shift & 1) << n;
        }
    }
}

pub(super) fn q2_k(
    d: u16,
    dmin: u16,
    scales: &[u8; 16],
    mins: &[u8; 16],
    codes: &Codes,
    out: &mut [u8; 84],
) {
    for j in 0..16 {
        out[j] = scales[j] | (mins[j] << 4);
    }
    pairs_128(codes, 0, &mut out[16..80]);
    out[80..82].copy_from_slice(&d.to_le_bytes());
    out[82..].copy_from_slice(&dmin.to_le_bytes());
}

/// 32 has been added to `scales`, and 4 to `codes`.
pub(super) fn q3_k(d: u16, scales: &[u8; 16], codes: &Codes, out: &mut [u8; 110]) {
    out[..32].fill(0);
    bit_of_32(codes, 2, &mut out[..32]);
    pairs_128(codes, 0, &mut out[32..96]);
    for j in 0..8 {
        out[96 + j] = (scales[j] & 15) | (scales[j + 8] << 4);
    }
    for j in 0..4 {
        let pair = |n: usize| (scales[j + 4 * n] >> 4) << (2 * n);
        out[104 + j] = pair(0) | pair(1) | pair(2) | pair(3);
    }
    out[108..].copy_from_slice(&d.to_le_bytes());
}

pub(super) fn q4_k(
    d: u16,
    dmin: u16,
    scales: &[u8; 8],
    mins: &[u8; 8],
    codes: &Codes,
    out: &mut [u8; 144],
) {
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&dmin.to_le_bytes());
    out[4..16].copy_from_slice(&scales_and_mins(scales, mins));
    nibbles_64(codes, &mut out[16..]);
}

pub(super) fn q5_k(
    d: u16,
    dmin: u16,
    scales: &[u8; 8],
    mins: &[u8; 8],
    codes: &Codes,
    out: &mut [u8; 176],
) {
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&dmin.to_le_bytes());
    out[4..16].copy_from_slice(&scales_and_mins(scales, mins));
    out[16..48].fill(0);
    bit_of_32(codes, 4, &mut out[16..48]);
    nibbles_64(codes, &mut out[48..]);
}

/// `scales` are in two's complement; 32 has been added to `codes`.
pub(super) fn q6_k(d: u16, scales: &[u8; 16], codes: &Codes, out: &mut [u8; 210]) {
    for (codes, out) in codes
        .as_chunks::<128>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<64>().0)
    {
        for l in 0..64 {
            out[l] = (codes[l] & 15) | (codes[l + 64] << 4);
        }
    }
    pairs_128(codes, 4, &mut out[128..192]);
    out[192..208].copy_from_slice(scales);
    out[208..].copy_from_slice(&d.to_le_bytes());
}

/// 32 has been added to `scales`.
pub(super) fn iq4_xs(d: u16, scales: &[u8; 8], codes: &Codes, out: &mut [u8; 136]) {
    out[..2].copy_from_slice(&d.to_le_bytes());
    let high = (0..8).fold(0u16, |bits, j| bits | u16::from(scales[j] >> 4) << (2 * j));
    out[2..4].copy_from_slice(&high.to_le_bytes());
    for j in 0..4 {
        out[4 + j] = (scales[2 * j] & 15) | (scales[2 * j + 1] << 4);
    }
    for (codes, out) in codes
        .as_chunks::<32>()
        .0
        .iter()
        .zip(out[8..].as_chunks_mut::<16>().0)
    {
        *out = super::legacy::nibbles(codes);
    }
}
