//! `orinplan quantize` and the library behind it, from a checkpoint to a file that reads back.

mod behaviour;
mod build;
mod conversion;
mod directories;
mod converter;
mod files;
mod importance;
mod types;
