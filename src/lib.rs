//! orinplan: does a language model fit a Jetson Orin, in which format, with how much context, how fast.
//!
//! The modules follow the data: a checkpoint is located, described as a model, given a type per
//! tensor by a scheme, planned against a board and a runtime, and reported.

pub mod units;
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
pub mod decode;
pub mod validate;
pub mod report;
pub mod cli;
