//! Flags about models on servers: those of `orinplan pull`, and those of every command.

use std::path::PathBuf;

use clap::Args;

use super::known;
use super::parse::tokens;
use super::{BoardArgs, EVERYWHERE};

/// Whether servers are asked for models that are not on this machine.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(in crate::cli) struct NetworkArgs {
    /// Use no network: open only models on this machine or opened before (like HF_HUB_OFFLINE=1)
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub offline: bool,
    /// Fetch headers of models on servers again, instead of using cached ones
    #[arg(long, global = true, conflicts_with = "offline", help_heading = EVERYWHERE)]
    pub refresh: bool,
}

/// What to fetch.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// ORG/NAME, whose publisher may offer ORG/NAME-GGUF, or a GGUF on a server by its name
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Format, by id
    #[arg(long, value_name = "ID", value_parser = known::FORMAT, hide_possible_values = true)]
    pub scheme: String,
    /// The file to write
    #[arg(long, value_name = "PATH")]
    pub output: PathBuf,
    /// Replace an existing file, or an incomplete one from an earlier run
    #[arg(long)]
    pub overwrite: bool,
    /// Continue an earlier run
    #[arg(long)]
    pub resume: bool,
    /// Tokens of context on the board [default: 4096, or the model's limit if smaller]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = tokens(1..=1 << 30))]
    pub context: Option<u64>,
    #[command(flatten)]
    pub board: BoardArgs,
}
