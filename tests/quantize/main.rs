//! `orinplan quantize` and the library behind it, from a checkpoint to a file that reads back.

mod behaviour;
mod build;
mod conversion;
mod converter;
mod directories;
mod files;
mod importance;
mod lines;
mod packed;
mod refused;
mod types;
