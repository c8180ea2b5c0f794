//! Makes files to run from checkpoints: weights in, blocks of the assigned formats out.

pub mod blocks;
pub mod directory;
pub mod fp8;
pub mod int4;
pub mod packed;
