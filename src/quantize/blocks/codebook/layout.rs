//! Packs blocks of `IQ2_*` and `IQ3_*` into bytes, laid out as the structures of `ggml-common.h`.

use super::CodebookBlock;

/// Four times seven signs, the eighth follows from the others, and a scale.
fn signs_and_scale(signs: &[u8], scale: u8) -> [u8; 4] {
    let mut word = u32::from(scale) << 28;
    for (octet, &signs) in signs.iter().enumerate().take(4) {
        word |= u32::from(signs & 127) << (7 * octet);
    }
    word.to_le_bytes()
}

/// Two scales in each byte.
fn nibbles(scales: &[u8], out: &mut [u8]) {
    for (out, pair) in out.iter_mut().zip(scales.as_chunks::<2>().0) {
        *out = pair[0] | pair[1] << 4;
    }
}

pub(super) fn iq2_xxs(b: &CodebookBlock, out: &mut [u8; 66]) {
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    for (j, out) in out[2..].as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (out, &vector) in out.iter_mut().zip(&b.vectors[4 * j..][..4]) {
            *out = vector as u8;
        }
        out[4..].copy_from_slice(&signs_and_scale(&b.signs[4 * j..], b.scales[j]));
    }
}

pub(super) fn iq2_xs(b: &CodebookBlock, out: &mut [u8; 74]) {
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    let words = out[2..66].as_chunks_mut::<2>().0.iter_mut();
    for (out, (&vector, &signs)) in words.zip(b.vectors.iter().zip(&b.signs)) {
        *out = (vector | u16::from(signs & 127) << 9).to_le_bytes();
    }
    nibbles(&b.scales, &mut out[66..]);
}

pub(super) fn iq2_s(b: &CodebookBlock, out: &mut [u8; 82]) {
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    for j in 0..8 {
        let mut high = 0;
        for l in 0..4 {
            let vector = b.vectors[4 * j + l];
            out[2 + 4 * j + l] = vector as u8;
            high |= (vector >> 8) << (2 * l);
        }
        out[66 + j] = high as u8;
    }
    out[34..66].copy_from_slice(&b.signs);
    nibbles(&b.scales, &mut out[74..]);
}

pub(super) fn iq3_xxs(b: &CodebookBlock, out: &mut [u8; 98]) {
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    for (out, &vector) in out[2..66].iter_mut().zip(&b.vectors) {
        *out = vector as u8;
    }
    for (j, out) in out[66..].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *out = signs_and_scale(&b.signs[4 * j..], b.scales[j]);
    }
}

pub(super) fn iq3_s(b: &CodebookBlock, out: &mut [u8; 110]) {
    out[..2].copy_from_slice(&b.d.to_le_bytes());
    for j in 0..8 {
        let mut high = 0;
        for l in 0..8 {
            let vector = b.vectors[8 * j + l];
            out[2 + 8 * j + l] = vector as u8;
            high |= (vector >> 8) << l;
        }
        out[66 + j] = high as u8;
    }
    out[74..106].copy_from_slice(&b.signs);
    nibbles(&b.scales[..8], &mut out[106..]);
}
