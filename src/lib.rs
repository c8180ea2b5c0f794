//! orinplan: does a language model fit a Jetson Orin, in which format, with how much context, how fast.
//!
//! The modules follow the data: a checkpoint is located, described as a model, given a type per
//! tensor by a scheme, planned against a board and a runtime, and reported. [`Planner`] is the front door:
//!
//! ```
//! use orinplan::{Planner, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let planned = Planner::open("fixtures/qwen3-0.6b")?.plan(&Request::default())?;
//! for plan in &planned.fit.plans {
//!     println!("{}: {}, fits: {}", plan.assignment.scheme, plan.file_bytes, plan.fits());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Features, both on by default: `decode` runs models and measures, `cli` is the command. Without them the
//! library plans and quantizes.

pub mod units;
pub mod sourced;
pub mod dtype;
pub mod nearest;
pub mod foreign;
pub mod input;
pub mod inputs;
pub mod gguf;
pub mod safetensors;
pub mod checkpoint;
pub mod model;
pub mod device;
pub mod scheme;
pub mod convert;
pub mod note;
pub mod quantize;
pub mod runtime;
pub mod evidence;
pub mod plan;
pub mod planner;
#[cfg(feature = "decode")]
pub mod decode;
#[cfg(feature = "decode")]
pub mod validate;
pub mod report;
#[cfg(feature = "cli")]
mod cli;

pub use planner::{Planned, Planner, Request};

/// The command: runs what the arguments of this process say.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn main() -> std::process::ExitCode {
    cli::main()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
