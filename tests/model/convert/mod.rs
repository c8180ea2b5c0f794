//! GGUF metadata of Hugging Face checkpoints, against what llama.cpp's converter (0.5.0) wrote for
//! published models, and hostile files.

mod build;
mod defaults;
mod hostile;
mod hyperparameters;
mod tokenizers;
