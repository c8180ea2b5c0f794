//! Flags of `orinplan fit`, and what becomes of a prediction.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::{
    BoardArgs, BoardsArgs, CHOICE, DraftArgs, FigureArgs, PreferenceArgs, REPORT, ReadArgs,
    ReportFormat, WorkloadArgs,
};

use super::parse::{parse_latency, parse_watts, tokens};
use crate::units::Seconds;

#[derive(Debug, Args)]
pub(in crate::cli) struct FitArgs {
    /// A Hugging Face directory, a .safetensors or .gguf file, a config.json, or a model that is in the local cache or on a
    /// server: a hub id, an Ollama tag, an https:// address. Several are shown side by side: exit 1 if one does not fit,
    /// 2 if one cannot be planned
    #[arg(value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    #[command(flatten)]
    pub read: ReadArgs,
    #[command(flatten)]
    pub board: BoardArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Plan a GGUF whose tensors have the types of a list from `quantize --save-types`: one `tensor=type` a line. The
    /// importance matrix that the list names must be where it was
    #[arg(long, value_name = "FILE", conflicts_with = "scheme", help_heading = CHOICE)]
    pub types: Option<PathBuf>,
    /// Measured quality of this model: what `orinplan compare --format json` printed, or `orinplan quantize
    /// --save-sensitivity` wrote [default: estimated from measurements of other models]
    #[arg(long, value_name = "FILE", help_heading = CHOICE)]
    pub quality: Option<PathBuf>,
    /// With --parallel auto: the longest time between two tokens of a sequence, such as 80ms
    #[arg(long, value_name = "TIME", value_parser = parse_latency)]
    pub max_latency: Option<Seconds>,
    /// Tokens of each answer: also predict whole requests, each a prompt and such an answer, with as many at a time as
    /// --parallel says, as benchmarks of servers count them
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "draft", value_parser = tokens(1..=1 << 20))]
    pub generate: Option<u64>,
    /// Power limit in watts while decoding, such as 10W; the report names the fastest power mode within it
    #[arg(long, value_name = "WATTS", value_parser = parse_watts)]
    pub energy_budget: Option<f64>,
    #[command(flatten)]
    pub draft: DraftArgs,
    #[command(flatten)]
    pub boards: BoardsArgs,
    #[command(flatten)]
    pub preference: PreferenceArgs,
    /// Show every format, every way to run it and every note [default: what fits a screen of 24 lines; with --scheme,
    /// every format that it names]
    #[arg(long, help_heading = REPORT)]
    pub all: bool,
    /// Show the ledger and the roofline of the recommended plan, term by term
    #[arg(long, help_heading = REPORT)]
    pub explain: bool,
    /// After the report, show the memory in use on this machine beside the plan until Ctrl-C; start the server
    /// meanwhile (exit 1 if it used more than planned)
    #[arg(long, conflicts_with_all = ["check", "save"], help_heading = REPORT)]
    pub watch: bool,
    /// Stop --watch after this many seconds
    #[arg(long, value_name = "N", requires = "watch", conflicts_with_all = ["check", "save"], value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = REPORT)]
    pub watch_seconds: Option<u64>,
    #[command(flatten)]
    pub report: PredictionArgs,
}

/// What becomes of a prediction: a report, and a file to be held to.
#[derive(Debug, Args)]
#[command(next_help_heading = REPORT)]
pub(in crate::cli) struct PredictionArgs {
    /// Output format
    #[arg(
        id = "format",
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        requires_if("github", "check")
    )]
    form: PredictionFormat,
    #[command(flatten)]
    pub figure: FigureArgs,
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

/// Form of what is said of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PredictionFormat {
    Report(ReportFormat),
    Github,
}

impl Default for PredictionFormat {
    fn default() -> PredictionFormat {
        PredictionFormat::Report(ReportFormat::default())
    }
}

impl ValueEnum for PredictionFormat {
    fn value_variants<'a>() -> &'a [PredictionFormat] {
        &[
            PredictionFormat::Report(ReportFormat::Text),
            PredictionFormat::Report(ReportFormat::Json),
            PredictionFormat::Report(ReportFormat::Markdown),
            PredictionFormat::Report(ReportFormat::Html),
            PredictionFormat::Report(ReportFormat::Svg),
            PredictionFormat::Github,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            PredictionFormat::Report(format) => format.to_possible_value(),
            PredictionFormat::Github => {
                Some(PossibleValue::new("github").help(
                    "For GitHub Actions: each difference that --check finds as an annotation",
                ))
            }
        }
    }
}

impl PredictionArgs {
    /// Output format.
    pub(in crate::cli) fn format(&self) -> ReportFormat {
        match self.form {
            PredictionFormat::Report(format) => format,
            PredictionFormat::Github => ReportFormat::Text,
        }
    }

    /// Whether differences are annotations of GitHub Actions.
    pub(in crate::cli) fn is_for_github(&self) -> bool {
        self.form == PredictionFormat::Github
    }

    /// The files to be written.
    pub(in crate::cli) fn outputs(&self) -> Vec<&Path> {
        let files = [&self.save, &self.output].into_iter();
        files.filter_map(Option::as_deref).collect()
    }
}
