//! `orinplan validate`: servers as recorded, servers that misbehave, llama-bench, the verdict, and what
//! is learned.

mod bench;
mod boundless;
mod calibrated;
mod learning;
mod misbehaving;
mod reasons;
mod recorded;
mod server;
mod support;
