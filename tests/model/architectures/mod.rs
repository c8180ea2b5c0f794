//! Models of every known architecture through both doors: Hugging Face configurations, with and
//! without weights, and GGUF metadata.
//!
//! Parameter counts are the published ones, or sums over the tensors of the modeling code. Which
//! blocks are windowed, share a cache or cache no values is what llama.cpp allocates for them.

mod loaded;
mod packed;
mod published;
mod stored;
mod support;
