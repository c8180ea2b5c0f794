//! Models: described from configurations, weights and GGUF metadata, converted to a GGUF's metadata, and
//! the type of each of their tensors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod architectures;
mod catalog;
mod convert;
mod hybrid;
mod types;
