//! Makes files to run from checkpoints: weights in, blocks of the assigned formats out.

pub mod blocks;
