//! orinplan: does a language model fit a Jetson Orin, in which format, with how much context, how fast.
//!
//! The modules are listed in the order of the data flow: a checkpoint is located and described as a model, a scheme
//! assigns a type to each tensor, and the result is planned for a board and a runtime and reported. [`Planner`] does
//! all of it:
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
//! Features, all on by default: `hub` opens models on servers, `decode` runs models and measures them, `pages` makes
//! reports as pages and figures, `cli` is the command line. Without them the library plans and quantizes what is on this machine.

pub mod units;
pub mod sourced;
pub mod dtype;
pub mod nearest;
mod parallel;
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
pub mod catalog;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "decode")]
pub mod decode;
#[cfg(feature = "decode")]
pub mod quality;
#[cfg(feature = "decode")]
pub mod validate;
pub mod report;
#[cfg(feature = "cli")]
mod cli;

pub use planner::{Planned, Planner, Request};

/// Runs the command line with the arguments of this process.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn main() -> std::process::ExitCode {
    cli::main()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
