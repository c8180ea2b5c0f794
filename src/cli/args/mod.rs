//! Every flag, declared once: the parser, `--help`, the man page and the completions come from here.

mod board;
mod boards;
mod config;
mod draft;
mod fit;
mod examples;
mod images;
mod known;
mod models;
mod parse;
mod quality;
mod servers;
mod suggest;
mod validate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::parse::{
    parse_bits, parse_nats, parse_parallel, parse_rate, parse_release, parse_rules,
    parse_type_override, tokens,
};
use crate::device::{Clocks, L4tRelease, WhatIf};
use crate::dtype::Dtype;
use crate::plan::roofline::Nominal;
use crate::runtime::Version;
use crate::scheme::{Rules, TypeOverride};
use crate::units::Bytes;
use crate::validate::CALIBRATION_SECONDS;

pub(super) use self::board::SharedArgs;
pub(super) use self::boards::{BoardsArgs, joined};
pub(super) use self::config::{ConfigArgs, ConfigCommand, Key};
pub(super) use self::draft::DraftArgs;
pub(super) use self::fit::{FitArgs, PredictionArgs};
pub(super) use self::images::{ImageArgs, ProjectorPlace};
pub(super) use self::models::{ModelsArgs, TaskArg};
pub(super) use self::parse::Parallel;
pub(super) use self::quality::{CompareArgs, ImatrixArgs, TextArgs};
pub(super) use self::servers::{NetworkArgs, PullArgs};
pub(super) use self::suggest::{negative, unknown_command};
pub(super) use self::validate::{BackendId, TOLERANCE, ValidateArgs};

/// The heading of flags that every command has.
const EVERYWHERE: &str = "Every command";

/// The heading of flags that change no number.
const REPORT: &str = "Report";

/// The heading of flags that decide which format is recommended.
const CHOICE: &str = "Choice of the format";

/// Below no heading, behind flags that have one.
const NO_HEADING: Option<&str> = None;

/// Says whether a language model fits a Jetson Orin, in which format, with how much context and how
/// fast.
///
/// Exit status: 0 it fits, 1 it does not (or a check differs, or a measurement is off), 2 an error, 130
/// after Ctrl-C (128 and the number of any signal).
#[derive(Debug, Parser)]
#[command(name = "orinplan", version, max_term_width = 100, after_long_help = examples::TOP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    /// Colours in reports
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = EVERYWHERE)]
    pub(super) color: When,
}

/// When reports have colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Plan a model on a board: verdict, formats, memory, context, speed
    #[command(after_long_help = examples::FIT)]
    Fit(Box<FitArgs>),
    /// Plan several models on one board, with other programs beside them
    ///
    /// Each model runs in a process of its own. The report gives their total memory, the models that do not fit and
    /// what to unload for them, the largest contexts side by side, and load times. MODEL is as in `fit`; or one file
    /// names models and other programs, in the form below. Exit status: 0 if all fit, 1 if not.
    #[command(after_long_help = examples::BOARD)]
    Board(SharedArgs),
    /// Choose a model: what runs on a board, best first
    ///
    /// Ranks a built-in catalogue of published models of 0.1 to 16 B parameters, each planned as `fit` plans its
    /// configuration. Models that decode faster than people read, in a format close to the original, come first. Among
    /// these, the larger size class comes first (each twice the one before), then the newer model, then the larger one.
    /// The ranking does not compare the abilities of models of one class. Exit status: 0 if a model meets the request,
    /// else 1.
    #[command(after_long_help = examples::MODELS)]
    Models(ModelsArgs),
    /// Quantize a model to GGUF, INT4 or FP8
    #[command(after_long_help = examples::QUANTIZE)]
    Quantize(QuantizeArgs),
    /// Fetch the GGUF that a model's publisher offers, if it fits the board
    #[command(after_long_help = examples::PULL)]
    Pull(PullArgs),
    /// Compute an importance matrix: how much each column of each weight matters on a text
    #[command(after_long_help = examples::IMATRIX)]
    Imatrix(ImatrixArgs),
    /// Compare the predictions of models with those of a reference: divergence, agreement, perplexity
    #[command(after_long_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Run a model and compare it with what `fit` predicts
    #[command(after_long_help = examples::VALIDATE)]
    Validate(ValidateArgs),
    /// Measure this machine, for plans with --device host
    #[command(after_long_help = examples::CALIBRATE)]
    Calibrate(CalibrateArgs),
    /// Operational intensity and ceilings against a board's roofline
    #[command(after_long_help = examples::ROOFLINE)]
    Roofline(RooflineArgs),
    /// List what is in a checkpoint
    #[command(after_long_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Boards and their power modes, and the machine at hand
    #[command(after_long_help = examples::DEVICES)]
    Devices(DevicesArgs),
    /// Defaults of flags: device, power mode, runtime, format, text
    #[command(after_long_help = examples::CONFIG)]
    Config(ConfigArgs),
    /// Print a completion script for a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the man page
    #[command(after_long_help = examples::MAN)]
    Man(ManArgs),
}

/// Where and with what a model runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Board")]
pub(super) struct BoardArgs {
    /// Board by id (`orinplan devices list`); a file with its profile (TOML), or with what `orinplan devices detect --format
    /// json` wrote on it; or `host` for this machine, whose root ORINPLAN_ROOT names in a container [default: this
    /// machine if it is a Jetson Orin, else orin-nano-8gb]
    #[arg(long, value_name = "ID|FILE|host", value_parser = known::DEVICES, hide_possible_values = true)]
    pub device: Option<String>,
    /// Power mode by name, in any case [default: the current one on this machine, else the board's]
    #[arg(long, value_name = "NAME", value_parser = known::POWER_MODES, hide_possible_values = true)]
    pub power_mode: Option<String>,
    /// The board with a number changed: bandwidth=204GB/s, gpu-clock=1300MHz, sm-count=16 or
    /// memory=16GiB (repeatable)
    #[arg(long, value_name = "KEY=VALUE,..", value_delimiter = ',')]
    pub what_if: Vec<WhatIf>,
    /// Runtime that loads the model [default: llama.cpp; on a machine without a GPU llama.cpp-cpu]
    #[arg(long, value_name = "ID", value_parser = known::RUNTIMES, hide_possible_values = true)]
    pub runtime: Option<String>,
    /// Version of llama.cpp that the printed commands are for: a build such as b9000, or a release such as
    /// 0.6.0 [default: the newest known]
    #[arg(long, value_name = "VERSION")]
    pub runtime_version: Option<Version>,
}

/// The model and how to read it.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// A Hugging Face directory, a .safetensors or .gguf file, a config.json, or a model that is in the local cache or on a
    /// server: ORG/NAME, ORG/NAME@REVISION, ORG/NAME:Q4_K_M, ORG/NAME/FILE.gguf, an Ollama tag, an https:// address
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub read: ReadArgs,
}

/// How to read a model.
#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    /// Plan the blocks of an unknown architecture as if they were those of this one
    #[arg(long, value_name = "ARCH")]
    pub assume_kv: Option<String>,
}

/// The types of cached keys and values.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct KvCacheArgs {
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", value_parser = known::kv_type(), hide_possible_values = true, default_value = "f16")]
    pub kv_type: Dtype,
    /// Type of cached keys, if not that of --kv-type
    #[arg(long, value_name = "TYPE", value_parser = known::kv_type(), hide_possible_values = true)]
    pub kv_type_k: Option<Dtype>,
    /// Type of cached values, if not that of --kv-type
    #[arg(long, value_name = "TYPE", value_parser = known::kv_type(), hide_possible_values = true)]
    pub kv_type_v: Option<Dtype>,
}

impl KvCacheArgs {
    /// The types of keys and of values.
    pub(in crate::cli) fn types(&self) -> [Dtype; 2] {
        [self.kv_type_k, self.kv_type_v].map(|own| own.unwrap_or(self.kv_type))
    }
}

/// What the model is asked to do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadArgs {
    /// Formats to plan, by id, or `all` [default: the common ones]
    #[arg(long, value_name = "ID,..", value_delimiter = ',', value_parser = known::FORMATS, hide_possible_values = true)]
    pub scheme: Vec<String>,
    /// Version of llama.cpp's rules for the type of each tensor
    #[arg(long, value_name = "VERSION", value_parser = parse_rules, default_value = Rules::ALL[0].0)]
    pub rules: Rules,
    /// Tokens of context over all sequences, such as 4096 or 4k [default: num_ctx of an Ollama tag, else 4096; at most the
    /// model's limit]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    #[command(flatten)]
    pub kv_cache: KvCacheArgs,
    /// Sequences decoded at once. With `fit`, `auto` finds the number from 1 to 32 that gives the most tokens a second, each
    /// with the tokens of --context
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true, default_value = "1", value_parser = parse_parallel)]
    pub parallel: Parallel,
    /// Prompt tokens processed at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 512, value_parser = tokens(1..=1 << 20))]
    pub ubatch: u64,
    /// Length of the prompt, to which the tokens of images are added; decode is rated after it [default: 512, or the context
    /// if that is smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub prompt_tokens: Option<u64>,
    /// Prompt tokens already in the cache, as after an earlier turn; the time to the first token counts only the others
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(0..=1 << 30))]
    pub cached_tokens: Option<u64>,
    /// Rows of logits reserved in a pass [default: as the runtime does: of llama.cpp's programs the server reserves one a
    /// sequence; llama-bench, and what has llama.cpp as a library, one for each token of --ubatch]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub outputs: Option<u64>,
    /// Without fused attention: the score matrix is held in memory
    #[arg(long)]
    pub no_flash_attention: bool,
    /// Kernels are launched one by one, as by vLLM with --enforce-eager or by a llama.cpp that was built without CUDA
    /// graphs (llama-cpp-python)
    #[arg(long)]
    pub no_cuda_graphs: bool,
    /// The board runs its desktop
    #[arg(long)]
    pub desktop: bool,
    /// Memory to keep free for other programs, such as 512MiB: taken from what the board has left, or from
    /// --budget
    #[arg(long, value_name = "SIZE")]
    pub reserve: Option<Bytes>,
    /// Memory that model, cache and runtime may take together, such as 5GiB [default: what the board has
    /// left]
    #[arg(long, value_name = "SIZE")]
    pub budget: Option<Bytes>,
    /// Leave vision and audio towers out
    #[arg(long)]
    pub text_only: bool,
    #[command(flatten)]
    pub images: ImageArgs,
    /// L4T release of the board, such as 36.4.7: it limits single allocations [default: this machine's, when planning
    /// for it]
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    pub l4t: Option<L4tRelease>,
    /// Whether jetson_clocks locks the clocks at the power mode's maximum, or the system governs them, as after every start
    /// [default: as on this machine, when planning for it]
    #[arg(long, value_name = "locked|governed", value_parser = known::clocks(), hide_possible_values = true)]
    pub clocks: Option<Clocks>,
}

/// What the recommended format is chosen by.
#[derive(Debug, Args)]
#[command(next_help_heading = CHOICE)]
pub(super) struct PreferenceArgs {
    /// How to choose the recommended format among those that fit [default: the best trade of speed and quality]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub prefer: Option<PreferArg>,
    /// Minimum tokens/s (expected, over all sequences) of the recommended format; exit 1 if none that fits reaches it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_rate)]
    pub min_speed: Option<f64>,
}

/// What a format is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PreferArg {
    /// The highest rate
    Speed,
    /// The closest to the original
    Quality,
    /// The smallest file
    Size,
}

/// The flags that choose a type for each tensor.
const MIXED: [&str; 5] = ["target_size", "target_bpw", "fit", "max_kld", "types"];

/// The flags that only a search for types has.
const OF_SEARCH: [&str; 4] = ["text", "chunk_tokens", "save_types", "save_sensitivity"];

/// The flags that only a text model has.
const OF_TEXT: [&str; 8] = [
    "context",
    "imatrix",
    "tensor_type",
    "token_embedding_type",
    "output_tensor_type",
    "pure",
    "allow_requantize",
    "rules",
];

#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// A Hugging Face directory, a .safetensors or .gguf file, or a model that is in the local cache or on a server: a hub
    /// id, an Ollama tag, an https:// address
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Format, by id: q4_k_m and the like make a GGUF, int4 and fp8 a directory for vLLM and Transformers
    #[arg(long, value_name = "ID", required_unless_present_any = MIXED, conflicts_with_all = MIXED.iter().chain(&OF_SEARCH), value_parser = known::FORMAT, hide_possible_values = true)]
    pub scheme: Option<String>,
    /// Write the image encoder instead of the text model, as llama.cpp's `mmproj` file: f16, bf16 or q8_0
    #[arg(long, requires = "scheme", conflicts_with_all = OF_TEXT.iter().chain(&MIXED).chain(&OF_SEARCH))]
    pub projector: bool,
    /// Choose the type of each tensor by measurement, so that the file has at most this size, such as 1.2GiB
    #[arg(long, value_name = "SIZE", conflicts_with = "target_bpw")]
    pub target_size: Option<Bytes>,
    /// The same, for a number of bits a weight, such as 4.5
    #[arg(long, value_name = "BITS", value_parser = parse_bits)]
    pub target_bpw: Option<f64>,
    /// The same, for the memory left on this board, at --context
    #[arg(long, value_name = "ID|FILE|host", conflicts_with_all = ["target_size", "target_bpw"], value_parser = known::DEVICES, hide_possible_values = true)]
    pub fit: Option<String>,
    /// Tokens of context on the board of --fit [default: 4096, or the model's limit if smaller]
    #[arg(long, value_name = "N", requires = "fit", conflicts_with_all = ["scheme", "target_size", "target_bpw", "max_kld", "types"], value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    /// Make the smallest file with at most this mean KL divergence from the original, such as 0.05
    #[arg(long, value_name = "NATS", value_parser = parse_nats, conflicts_with_all = ["target_size", "target_bpw", "fit"])]
    pub max_kld: Option<f64>,
    /// Take the types from a list that --save-types wrote, one `tensor=type` a line, and the importance matrix that it
    /// names (--imatrix names another): the same file again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target_size", "target_bpw", "fit", "max_kld"].iter().chain(&OF_SEARCH))]
    pub types: Option<PathBuf>,
    /// Write the chosen types to this file, for --types here and in `fit`, and the importance matrix beside it, as
    /// FILE.imatrix.gguf, unless --imatrix gives one
    #[arg(long, value_name = "FILE")]
    pub save_types: Option<PathBuf>,
    /// Write the expected cost of each type of each tensor to this file (JSON), for `fit --quality`
    #[arg(long, value_name = "FILE")]
    pub save_sensitivity: Option<PathBuf>,
    #[command(flatten)]
    pub text: TextArgs,
    /// The file (or directory) to write
    #[arg(long, value_name = "PATH", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Continue an earlier run from a server; --overwrite starts over instead. A search for types always continues
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Also keep the source in the Hugging Face cache; for a model on a server. A search for types always does
    #[arg(long, conflicts_with_all = ["dry_run", "target_size", "target_bpw", "fit", "max_kld"])]
    pub keep_source: bool,
    /// Importance matrix of llama.cpp's `imatrix`, in either form
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Type of tensors whose name matches the pattern, such as attn_v=q8_0 (repeatable; the first
    /// that matches counts)
    #[arg(long, value_name = "REGEX=TYPE", value_parser = parse_type_override, conflicts_with_all = MIXED)]
    pub tensor_type: Vec<TypeOverride>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = known::encoded_type(), hide_possible_values = true, conflicts_with_all = MIXED)]
    pub token_embedding_type: Option<Dtype>,
    /// Type of the output matrix, and of a tied embedding
    #[arg(long, value_name = "TYPE", value_parser = known::encoded_type(), hide_possible_values = true, conflicts_with_all = MIXED)]
    pub output_tensor_type: Option<Dtype>,
    /// One type for all tensors that are quantized, without the format's mix
    #[arg(long, conflicts_with_all = MIXED)]
    pub pure: bool,
    /// Allow quantizing tensors that are already quantized, at a further loss
    #[arg(long)]
    pub allow_requantize: bool,
    /// Version of llama.cpp's rules for the type of each tensor
    #[arg(long, value_name = "VERSION", value_parser = parse_rules, default_value = Rules::ALL[0].0)]
    pub rules: Rules,
    /// Threads that encode [default: the processor's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Show what would be written; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

/// A part of the machine that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MeasuredPart {
    /// The processors, with this program's own decoder
    Cpu,
    /// The GPU, with llama-bench
    Gpu,
}

#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// How long to measure the processors; up to three times as long if other programs disturb it or the machine is slow.
    /// The GPU takes at most as long again
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SECONDS, value_parser = clap::value_parser!(u64).range(1..=3600), conflicts_with = "reset")]
    pub seconds: u64,
    /// Measure this alone, such as the GPU again in another power mode
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "reset")]
    pub only: Option<MeasuredPart>,
    /// Path of llama-bench, which measures the GPU [default: searched in the absolute folders of PATH]
    #[arg(long, value_name = "FILE", conflicts_with = "reset")]
    pub program: Option<PathBuf>,
    /// Remove the calibration and all kept runs
    #[arg(long)]
    pub reset: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct RooflineArgs {
    /// Models to rate by their real bytes
    #[arg(value_name = "MODEL", required_unless_present = "nominal")]
    pub models: Vec<String>,
    /// A model by nominal size, such as gemma3:1b:1e9:4.5 (repeatable)
    #[arg(long, value_name = "NAME:PARAMETERS:BITS")]
    pub nominal: Vec<Nominal>,
    #[command(flatten)]
    pub board: BoardArgs,
    /// Formats to rate, by id, or `all` [default: the common ones]
    #[arg(long, value_name = "ID,..", help_heading = NO_HEADING, value_delimiter = ',', value_parser = known::FORMATS, hide_possible_values = true)]
    pub scheme: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = NO_HEADING)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    pub command: Option<DevicesCommand>,
    /// Output format
    #[arg(long, value_enum, default_value_t, global = true)]
    pub format: PlainFormat,
}

#[derive(Debug, Subcommand)]
pub(super) enum DevicesCommand {
    /// All boards, one line each
    List,
    /// Every number of a board with its source
    Show {
        /// Board id or profile file
        #[arg(value_name = "ID|FILE|host", value_parser = known::DEVICES, hide_possible_values = true)]
        device: String,
    },
    /// Describe this machine
    Detect,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write the page of every subcommand to this directory instead
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// What --format svg shows.
#[derive(Debug, Args)]
pub(super) struct FigureArgs {
    /// Figure for --format svg, by its name in the page's address, such as memory or context [default: the first]
    #[arg(long, value_name = "NAME", help_heading = REPORT)]
    pub figure: Option<String>,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For a terminal
    #[default]
    Text,
    /// For scripts; the keys are a contract
    Json,
    /// For issues and pull requests
    Markdown,
    /// For a browser: one self-contained file with figures and the JSON
    Html,
    /// One figure of the page, which --figure names
    Svg,
}

impl ReportFormat {
    /// Whether it is a page or a part of one.
    pub(super) fn is_page(self) -> bool {
        matches!(self, ReportFormat::Html | ReportFormat::Svg)
    }
}

/// Form of a report that has no Markdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum PlainFormat {
    /// For a terminal
    #[default]
    Text,
    /// For scripts; the keys are a contract
    Json,
}
