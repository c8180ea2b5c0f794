//! The real command, from its words to its exit status. No network; what the machine has in its
//! model stores is hidden.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../schema/mod.rs"]
mod schema;

mod advice;
mod board;
mod boards;
mod ci;
mod documents;
mod errors;
mod evidence;
mod failures;
mod gguf_values;
mod foreign;
mod help;
mod images;
mod models;
mod outputs;
mod pages;
mod settings;
mod several_boards;
mod quality;
mod retrieval;
mod runtimes;
mod side_by_side;
mod sources;
mod speculation;
mod support;
mod templates;
mod throughput;
mod verdicts;
mod watch;
mod wrong_configs;
