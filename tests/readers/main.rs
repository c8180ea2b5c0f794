//! The readers at their door: real layouts on disk, round trips, and hostile bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod build;
mod checkpoints;
mod gguf_bytes;
mod gguf_write;
mod hostile;
mod kinds;
mod memory;
mod round_trip;
mod safetensors_bytes;
mod splits;
mod stores;
