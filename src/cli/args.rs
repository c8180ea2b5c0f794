//! Every flag, declared once: the parser, `--help`, the man page and the completions come from here.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::error::ContextKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::device::{HOST, L4tRelease, WhatIf};
use crate::dtype::Dtype;
use crate::nearest;
use crate::plan::roofline::Nominal;
use crate::plan::workload::KV_TYPES;
use crate::quantize::blocks::FORMATS;
use crate::runtime::Version;
use crate::scheme::{Rules, TypeOverride};
use crate::units::Bytes;
use crate::validate::{CALIBRATION_SECONDS, LEAST_TOKENS};

/// Says whether a language model fits a Jetson Orin, in which format, with how much context and how
/// fast.
///
/// Exit status: 0 it fits, 1 it does not (or a check differs, or a measurement is off), 2 an error, 130
/// after Ctrl-C (128 and the number of any signal).
#[derive(Debug, Parser)]
#[command(name = "orinplan", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Plan a model on a board: verdict, formats, memory, context, speed
    Fit(FitArgs),
    /// Make the file that a plan is about
    Quantize(QuantizeArgs),
    /// Run a model and set what it does against what `fit` says
    Validate(ValidateArgs),
    /// Measure this machine, for plans with --device host
    Calibrate(CalibrateArgs),
    /// Operational intensity and ceilings against a board's roofline
    Roofline(RooflineArgs),
    /// List what is in a checkpoint
    Inspect(InspectArgs),
    /// Boards and their power modes, and the machine at hand
    Devices(DevicesArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the man page
    Man(ManArgs),
}

/// Where and with what a model runs.
#[derive(Debug, Args)]
pub(super) struct BoardArgs {
    /// Board id, a profile file, or `host` for this machine, whose root ORINPLAN_ROOT names in a container
    /// (`orinplan devices list`) [default: this machine if it is a Jetson Orin, else orin-nano-8gb]
    #[arg(long, value_name = "ID|FILE|host")]
    pub device: Option<String>,
    /// Power mode by name, in any case [default: on this machine the one in force, else the board's]
    #[arg(long, value_name = "NAME")]
    pub power_mode: Option<String>,
    /// The board with a number changed: bandwidth=204GB/s, gpu-clock=1300MHz, sm-count=16 or
    /// memory=16GiB (repeatable)
    #[arg(long, value_name = "KEY=VALUE,..", value_delimiter = ',')]
    pub what_if: Vec<WhatIf>,
    /// Runtime that loads the model [default: llama.cpp; on a machine without a GPU llama.cpp-cpu]
    #[arg(long, value_name = "ID")]
    pub runtime: Option<String>,
    /// Version of llama.cpp that the printed lines are for: a build such as b9000, or a release such as
    /// 0.6.0 [default: today's]
    #[arg(long, value_name = "VERSION")]
    pub runtime_version: Option<Version>,
}

/// The model and how to read it.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// A Hugging Face directory, a .safetensors or .gguf file, a config.json, or a hub id or Ollama
    /// tag that is in the local cache
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Plan the blocks of an unknown architecture as if they were those of this one
    #[arg(long, value_name = "ARCH")]
    pub assume_kv: Option<String>,
}

/// What the model is asked to do.
#[derive(Debug, Args)]
pub(super) struct WorkloadArgs {
    /// Formats to plan, by id, or `all` [default: the common ones]
    #[arg(long, value_name = "ID,..", value_delimiter = ',')]
    pub scheme: Vec<String>,
    /// Version of llama.cpp's rules for the type of each tensor
    #[arg(long, value_name = "VERSION", value_parser = parse_rules, default_value = Rules::ALL[0].0)]
    pub rules: Rules,
    /// Tokens of context over all sequences, such as 4096 or 4k [default: 4096, or the model's limit if smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", value_parser = parse_kv_type, default_value = "f16")]
    pub kv_type: Dtype,
    /// Type of cached keys, if not that of --kv-type
    #[arg(long, value_name = "TYPE", value_parser = parse_kv_type)]
    pub kv_type_k: Option<Dtype>,
    /// Type of cached values, if not that of --kv-type
    #[arg(long, value_name = "TYPE", value_parser = parse_kv_type)]
    pub kv_type_v: Option<Dtype>,
    /// Sequences decoded at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub parallel: u64,
    /// Prompt tokens processed at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 512, value_parser = tokens(1..=1 << 20))]
    pub ubatch: u64,
    /// Length of the prompt; decode is rated after it [default: 512, or the context if that is smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub prompt_tokens: Option<u64>,
    /// Rows of logits reserved in a pass [default: what the runtime does]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub outputs: Option<u64>,
    /// Without fused attention: the score matrix is held in memory
    #[arg(long)]
    pub no_flash_attention: bool,
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
    /// L4T release of the board, such as 36.4.7: it limits single allocations [default: this machine's,
    /// if it is what is planned for]
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    pub l4t: Option<L4tRelease>,
}

#[derive(Debug, Args)]
pub(super) struct FitArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub board: BoardArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Show the ledger and the roofline of the recommended plan, term by term
    #[arg(long)]
    pub explain: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write the report to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Save the prediction as JSON, for --check
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Compare with a saved prediction; exit 1 and list the differences if it changed
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    pub check: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// A Hugging Face directory, a .safetensors or .gguf file, or a hub id or Ollama tag that is in
    /// the local cache
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Format, by id: q4_k_m and the like make a GGUF, int4 and fp8 a directory for vLLM and Transformers
    #[arg(long, value_name = "ID")]
    pub scheme: String,
    /// The file (or directory) to be made
    #[arg(long, value_name = "PATH", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Importance matrix of llama.cpp's `imatrix`, in either form
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Type of tensors in whose names the pattern is found, such as attn_v=q8_0 (repeatable; the
    /// first that is found decides)
    #[arg(long, value_name = "REGEX=TYPE", value_parser = parse_type_override)]
    pub tensor_type: Vec<TypeOverride>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = parse_encoded_type)]
    pub token_embedding_type: Option<Dtype>,
    /// Type of the output matrix, and of a tied embedding
    #[arg(long, value_name = "TYPE", value_parser = parse_encoded_type)]
    pub output_tensor_type: Option<Dtype>,
    /// One type for all tensors that are quantized, without the format's mix
    #[arg(long)]
    pub pure: bool,
    /// Quantize what is quantized already, at a further loss
    #[arg(long)]
    pub allow_requantize: bool,
    /// Version of llama.cpp's rules for the type of each tensor
    #[arg(long, value_name = "VERSION", value_parser = parse_rules, default_value = Rules::ALL[0].0)]
    pub rules: Rules,
    /// Threads that encode [default: the processor's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the output if it is there
    #[arg(long)]
    pub overwrite: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

/// What runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendId {
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
    pub(super) fn name(self) -> &'static str {
        match self {
            BackendId::Candle => "candle",
            BackendId::LlamaBench => "llama-bench",
            BackendId::Openai => "openai",
            BackendId::Ollama => "ollama",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What runs the model: candle and llama-bench a GGUF, the others what they serve
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendId,
    /// Address of the server [default: http://127.0.0.1:8080, Ollama's http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Name under which the server has the model [default: the only one it lists; with Ollama MODEL]
    #[arg(long, value_name = "NAME")]
    pub served_model: Option<String>,
    /// File that is llama-bench [default: searched in PATH, in folders named by their full path]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Device whose prediction is tried: `host` for this machine, else an id or a profile file
    #[arg(long, value_name = "ID|FILE|host", default_value = HOST)]
    pub device: String,
    /// Power mode to predict for [default: the one in force]
    #[arg(long, value_name = "NAME")]
    pub power_mode: Option<String>,
    /// Runtime whose prediction is tried [default: that of the backend]
    #[arg(long, value_name = "ID")]
    pub runtime: Option<String>,
    /// Format that a server has made of MODEL [default: as MODEL is stored]; what runs here is a GGUF as
    /// it is
    #[arg(long, value_name = "ID")]
    pub scheme: Option<String>,
    /// Text to go on from, instead of plain words
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Ask through the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Tokens to generate in each repeat
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 64, value_parser = tokens(LEAST_TOKENS..=1 << 20))]
    pub tokens: u64,
    /// Length of the prompt of plain words, in about so many tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 128, value_parser = tokens(1..=1 << 20))]
    pub prompt_tokens: u64,
    /// Tokens of context; of a server, what it was started with [default: 4096, or the model's limit
    /// if smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", value_parser = parse_kv_type, default_value = "f16")]
    pub kv_type: Dtype,
    /// Prompt tokens processed at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 512, value_parser = tokens(1..=1 << 20))]
    pub ubatch: u64,
    /// Threads of llama-bench [default: its own choice]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,
    /// Measured repeats, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub repeats: u64,
    /// Percent that an expected value may be off
    #[arg(long, value_name = "PERCENT", default_value_t = 15.0, value_parser = parse_percent)]
    pub tolerance: f64,
    /// Longest silence of a server, in seconds; a request may take twice that, and a second a token
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Keep what was measured: plans for this runtime and device are corrected by it
    #[arg(long)]
    pub save_calibration: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// How long to measure; at most three times as long, where other programs disturb it or the machine is slow
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SECONDS, value_parser = clap::value_parser!(u64).range(1..=3600), conflicts_with = "reset")]
    pub seconds: u64,
    /// Forget the calibration, and what runs have taught
    #[arg(long)]
    pub reset: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct RooflineArgs {
    /// Models whose real bytes are rated
    #[arg(value_name = "MODEL", required_unless_present = "nominal")]
    pub models: Vec<String>,
    /// A model by nominal size, such as gemma3:1b:1e9:4.5 (repeatable)
    #[arg(long, value_name = "NAME:PARAMETERS:BITS")]
    pub nominal: Vec<Nominal>,
    #[command(flatten)]
    pub board: BoardArgs,
    /// Formats to rate, by id, or `all` [default: the common ones]
    #[arg(long, value_name = "ID,..", value_delimiter = ',')]
    pub scheme: Vec<String>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: PlainFormat,
}

#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    pub command: Option<DevicesCommand>,
    /// Form of the report
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
        #[arg(value_name = "ID|FILE")]
        device: String,
    },
    /// What this machine is
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

/// Form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a terminal
    #[default]
    Text,
    /// For scripts; the keys are a contract
    Json,
    /// For issues and pull requests
    Markdown,
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

/// Words that people type for what has another name here, behind that name.
const SYNONYMS: &[(&str, &str)] = &[
    ("fit", "plan check estimate predict size memory can-run"),
    ("quantize", "convert quantise quant make export"),
    ("validate", "run bench benchmark test measure serve chat"),
    ("inspect", "show info list ls dump tensors"),
    ("devices", "device boards board detect modes"),
];

/// What to say of a subcommand that there is not: with the one that was most likely meant.
pub(super) fn unknown_command(error: &clap::Error) -> String {
    let context = |kind| {
        error
            .get(kind)
            .map_or_else(String::new, |value| value.to_string())
    };
    let word = context(ContextKind::InvalidSubcommand);
    let usage = context(ContextKind::Usage);
    let meant = SYNONYMS.iter().find(|(_, words)| {
        words
            .split(' ')
            .any(|known| known.eq_ignore_ascii_case(&word))
    });
    let root = Cli::command();
    // Of a command that has commands itself, its own are meant.
    let is_in = |inner: &&clap::Command| usage.contains(&format!("orinplan {} ", inner.get_name()));
    let inner = root.get_subcommands().find(is_in);
    let meant = meant.filter(|_| inner.is_none());
    let command = inner.unwrap_or(&root);
    let known: Vec<&str> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let hint = match meant {
        Some((name, _)) => format!(" (did you mean `{name}`?)"),
        None => nearest::hint(&word, known.iter().copied()),
    };
    format!(
        "there is no command `{word}`{hint}; known are {}",
        known.join(", ")
    )
}

/// A parser of tokens: a number, or `4k` and `1m` as models are advertised, which count in 1024.
fn tokens(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let lower = text.to_ascii_lowercase();
        let units = [("k", 1024), ("m", 1 << 20), ("", 1)].into_iter();
        let mut split = units.filter_map(|(unit, of)| Some((lower.strip_suffix(unit)?, of)));
        let (digits, unit) = split.next().unwrap_or((&lower, 1));
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (least, most) = (range.start(), range.end());
        let bounds = format!("from {least} to {most}");
        // What other programs take for the model's own limit.
        let is_any = matches!(text, "0" | "-1");
        if is_any {
            return Err(format!(
                "write the number, {bounds}; without the flag its default holds"
            ));
        }
        if !is_number {
            return Err("write a number of tokens, such as 4096 or 4k".to_owned());
        }
        let count = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        let count = count.filter(|count| range.contains(count));
        count.ok_or_else(|| format!("a number of tokens is {bounds} here"))
    }
}

fn parse_release(text: &str) -> Result<L4tRelease, String> {
    text.parse()
        .map_err(|()| "an L4T release reads 36.4.7; see /etc/nv_tegra_release".to_owned())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    let percent = percent.filter(|percent| (0.1..=1000.0).contains(percent));
    percent.ok_or_else(|| "a tolerance is from 0.1 to 1000 percent".to_owned())
}

fn parse_rules(text: &str) -> Result<Rules, String> {
    let found = Rules::ALL
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, rules)| *rules).ok_or_else(|| {
        let known: Vec<&str> = Rules::ALL.iter().map(|(name, _)| *name).collect();
        format!("known versions are {}", known.join(", "))
    })
}

fn parse_encoded_type(text: &str) -> Result<Dtype, String> {
    let found = Dtype::from_name(text).filter(|dtype| FORMATS.contains(dtype));
    found.ok_or_else(encoded_types)
}

fn parse_type_override(text: &str) -> Result<TypeOverride, String> {
    let wish: TypeOverride = text.parse().map_err(|error| format!("{error}"))?;
    match FORMATS.contains(&wish.dtype) {
        true => Ok(wish),
        false => Err(encoded_types()),
    }
}

fn encoded_types() -> String {
    let known: Vec<String> = FORMATS.iter().map(|d| d.name().to_lowercase()).collect();
    format!("types that can be written are {}", known.join(", "))
}

fn parse_kv_type(text: &str) -> Result<Dtype, String> {
    let found = Dtype::from_name(text).filter(|dtype| KV_TYPES.contains(dtype));
    found.ok_or_else(|| {
        let known: Vec<String> = KV_TYPES
            .iter()
            .map(|dtype| dtype.name().to_lowercase())
            .collect();
        format!("known types are {}", known.join(", "))
    })
}
