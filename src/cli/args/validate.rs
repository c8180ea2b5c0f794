//! Flags of `orinplan validate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::parse::{parse_percent, tokens};
use super::{FigureArgs, KvCacheArgs, ModelArgs, REPORT, ReportFormat, known};
use crate::device::HOST;
use crate::validate::LEAST_TOKENS;

/// Percent that a prediction may be off by default; `calibrate` has no other.
pub(in crate::cli) const TOLERANCE: f64 = 15.0;

/// What runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum BackendId {
    /// This program's own decoder
    #[default]
    Candle,
    /// llama.cpp's llama-bench, which is found and started
    LlamaBench,
    /// A running server with OpenAI's completions: llama-server, vLLM, TensorRT Edge-LLM
    Openai,
    /// A running Ollama
    Ollama,
}

impl BackendId {
    /// Its name on the command line.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            BackendId::Candle => "candle",
            BackendId::LlamaBench => "llama-bench",
            BackendId::Openai => "openai",
            BackendId::Ollama => "ollama",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ValidateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What runs the model: candle a GGUF or 16-bit weights, llama-bench a GGUF, the others what they serve
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendId,
    /// Address of the server [default: http://127.0.0.1:8080, Ollama's http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Name of the model on the server [default: the only one it lists; with Ollama MODEL]
    #[arg(long, value_name = "NAME")]
    pub served_model: Option<String>,
    /// Path of llama-bench [default: searched in the absolute folders of PATH]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Device whose prediction is compared: `host` for this machine, else an id or a profile file
    #[arg(long, value_name = "ID|FILE|host", default_value = HOST, value_parser = known::DEVICES, hide_possible_values = true)]
    pub device: String,
    /// Power mode to predict for [default: the current one]
    #[arg(long, value_name = "NAME", value_parser = known::POWER_MODES, hide_possible_values = true)]
    pub power_mode: Option<String>,
    /// Runtime whose prediction is compared [default: that of the backend]
    #[arg(long, value_name = "ID", value_parser = known::RUNTIMES, hide_possible_values = true)]
    pub runtime: Option<String>,
    /// Format that a server has quantized MODEL to [default: as MODEL is stored]; candle and llama-bench run a GGUF as
    /// it is, and candle a Hugging Face directory in the 16-bit format that it is stored in
    #[arg(long, value_name = "ID", value_parser = known::FORMAT, hide_possible_values = true)]
    pub scheme: Option<String>,
    /// Prompt text, instead of plain words
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Wrap the prompt in the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Tokens to generate in each repeat
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 64, value_parser = tokens(LEAST_TOKENS..=1 << 20))]
    pub tokens: u64,
    /// Approximate length of the default prompt, in tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 128, value_parser = tokens(1..=1 << 20))]
    pub prompt_tokens: u64,
    /// Tokens of context; for a server, its own setting [default: 4096, or the model's limit if smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    #[command(flatten)]
    pub kv_cache: KvCacheArgs,
    /// Prompt tokens processed at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 512, value_parser = tokens(1..=1 << 20))]
    pub ubatch: u64,
    /// Threads of llama-bench [default: its own choice]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Measured repeats, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub repeats: u64,
    /// Percent that a predicted value may be off
    #[arg(long, value_name = "PERCENT", default_value_t = TOLERANCE, value_parser = parse_percent)]
    pub tolerance: f64,
    /// Longest silence of a server, in seconds; a request may take twice that, plus a second a token
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Keep the measurement, to correct plans for this runtime and device
    #[arg(long)]
    pub save_calibration: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = REPORT)]
    pub format: ReportFormat,
    #[command(flatten)]
    pub figure: FigureArgs,
}
