//! The kernels with NEON and its products of bytes (`dotprod`: every Jetson Orin, Raspberry Pi 5, Apple
//! silicon); with `load` the only unsafe code of the decoder there. The other functions are compiled
//! from plain loops: NEON and fused products belong to every arm64 processor.
//!
//! Safety: every function that is compiled for these instructions is called from `products` and
//! [`widen`] alone, which ask the processor first ([`available`]).
#![allow(unsafe_code)]

mod load;
mod rows;
mod tiles;

use std::arch::is_aarch64_feature_detected;

use half::f16;

use super::dispatch::{self, OutputBlock};
use super::tile::{Tile, TileFormat};
use super::{Input, Stored};
use crate::dtype::Dtype;
use rows::*;

/// Whether the processor has what the kernels need.
pub(super) fn available() -> bool {
    is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")
}

dispatch::products!("neon,dotprod");

/// See [`super::instructions`].
pub(super) fn instructions() -> Option<&'static str> {
    available().then_some("NEON dot product")
}

/// See [`super::widen`].
pub(super) fn widen(halves: &[f16], out: &mut [f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { load::widen_all(halves, out) };
        return true;
    }
    false
}

/// See [`super::fill`].
pub(super) fn fill(tile: &mut Tile, rows: Stored<'_>, columns: usize) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { tiles::fill(tile, rows, columns, 0) };
        return true;
    }
    false
}

/// See [`super::multiply`].
pub(super) fn multiply(
    panel: &[Tile],
    format: TileFormat,
    input: &Input<'_>,
    place: &mut OutputBlock<'_>,
) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { tiles::tiles(panel, format, input, place) };
        return true;
    }
    false
}
