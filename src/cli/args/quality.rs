//! Flags of `orinplan imatrix` and `orinplan compare`, and of the text that models are evaluated on.

use std::path::PathBuf;

use clap::Args;

use super::parse::tokens;
use super::{FigureArgs, KvCacheArgs, REPORT, ReportFormat};

/// The text that models are evaluated on.
#[derive(Debug, Args)]
pub(in crate::cli) struct TextArgs {
    /// A text like your own use of the model [default: a built-in one of prose, code and dialogue in several languages]
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens in a chunk; chunks are evaluated separately
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = tokens(16..=1 << 20))]
    pub chunk_tokens: u64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImatrixArgs {
    /// A GGUF of any type, or a Hugging Face directory; the less it is quantized, the better
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// The file to write
    #[arg(long, value_name = "FILE.gguf")]
    pub output: PathBuf,
    #[command(flatten)]
    pub text: TextArgs,
    /// Chunks to evaluate [default: all of the text]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub chunks: Option<u64>,
    /// Also collect for the output matrix (or a tied embedding in its place)
    #[arg(long)]
    pub process_output: bool,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArgs {
    /// The model to compare with, usually in 16 bits: a GGUF or a Hugging Face directory
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// Models of the same vocabulary
    #[arg(value_name = "CANDIDATE", required = true)]
    pub candidates: Vec<String>,
    #[command(flatten)]
    pub text: TextArgs,
    /// Chunks to evaluate; predictions in the second half of each are scored
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub chunks: u64,
    /// Keep the reference's predictions in this file; if it exists, use them instead of running the reference. The form
    /// is that of llama-perplexity's --kl-divergence-base
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
    #[command(flatten)]
    pub kv_cache: KvCacheArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = REPORT)]
    pub format: ReportFormat,
    #[command(flatten)]
    pub figure: FigureArgs,
}
