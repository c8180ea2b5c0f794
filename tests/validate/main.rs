//! `orinplan validate`: servers as recorded, servers that misbehave, llama-bench, the verdict, and what
//! is learned. The decoder that `validate` runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../schema/mod.rs"]
mod schema;

mod bench;
mod boundless;
mod calibrated;
mod decode;
mod gpu;
mod learning;
mod misbehaving;
mod mixes;
mod pages;
mod quality;
mod reasons;
mod recorded;
mod server;
mod simulated;
mod support;
