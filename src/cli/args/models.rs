//! Flags of `orinplan models`.

use clap::{Args, ValueEnum};

use super::{BoardArgs, FigureArgs, PreferenceArgs, ReportFormat, WorkloadArgs};

/// Ranks the models of a catalogue that is part of the program: published ones of 0.1 to 16 B parameters, each planned
/// as `fit` plans its configuration. What decodes faster than people read, in a format near the original, comes first;
/// among these the larger size class (each twice the one before), then the newer model, then the larger one. Models of
/// the same class are not told apart by what they can do. Exit status: 0 if a model runs as asked, else 1.
#[derive(Debug, Args)]
pub(in crate::cli) struct ModelsArgs {
    #[command(flatten)]
    pub board: BoardArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    pub preference: PreferenceArgs,
    /// Only models for this
    #[arg(long, value_enum, value_name = "TASK")]
    pub task: Option<TaskArg>,
    /// Only models under one of these licences, such as apache-2.0,mit
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub license: Vec<String>,
    /// List all that run, and what has no room with the smallest board that would do [default: the first 20; JSON
    /// always has all that run]
    #[arg(long)]
    pub all: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
    #[command(flatten)]
    pub figure: FigureArgs,
}

/// What a model is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TaskArg {
    /// Answers in a conversation
    Chat,
    /// Reads images
    Vision,
    /// Turns texts into vectors
    Embedding,
    /// Writes programs
    Code,
}
