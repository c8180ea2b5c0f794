//! `orinplan quantize` and the library behind it, from a checkpoint to a file that reads back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../schema/mod.rs"]
mod schema;

mod behaviour;
mod build;
mod conversion;
mod converter;
#[cfg(feature = "decode")]
mod decoded;
mod directories;
mod encoders;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod importance;
mod known_otherwise;
mod lines;
mod packed;
mod packed_values;
mod projectors;
mod refused;
mod safetensors;
mod types;
