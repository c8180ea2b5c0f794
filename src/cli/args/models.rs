//! Flags of `orinplan models`.

use clap::{Args, ValueEnum};

use super::{
    BoardArgs, FigureArgs, NO_HEADING, PreferenceArgs, REPORT, ReportFormat, WorkloadArgs,
};

/// What to look for.
#[derive(Debug, Args)]
pub(in crate::cli) struct ModelsArgs {
    #[command(flatten)]
    pub board: BoardArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    pub preference: PreferenceArgs,
    /// Only models for this
    #[arg(long, value_enum, value_name = "TASK", help_heading = NO_HEADING)]
    pub task: Option<TaskArg>,
    /// Only models under one of these licences, such as apache-2.0,mit
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', help_heading = NO_HEADING)]
    pub license: Vec<String>,
    /// List all that run, and the smallest board for each that does not fit [default: the first 10; JSON always has all
    /// that run]
    #[arg(long, help_heading = REPORT)]
    pub all: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = REPORT)]
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
