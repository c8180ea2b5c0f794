//! Flags of `orinplan board`.

use clap::Args;

use super::{BoardArgs, PredictionArgs, PreferenceArgs, ReadArgs, WorkloadArgs};
use crate::planner::Storage;

/// What to plan together.
#[derive(Debug, Args)]
pub(in crate::cli) struct SharedArgs {
    /// Models, or a file that ends with .toml
    #[arg(value_name = "MODEL|FILE.toml", required = true)]
    pub models: Vec<String>,
    #[command(flatten)]
    pub read: ReadArgs,
    #[command(flatten)]
    pub board: BoardArgs,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    #[command(flatten)]
    pub preference: PreferenceArgs,
    /// Storage that files load from: nvme, sd, or a rate such as 1.2GB/s [default: nvme, or what the file says]
    #[arg(long, value_name = "KIND|RATE", help_heading = "Board", value_parser = Storage::named)]
    pub storage: Option<Storage>,
    #[command(flatten)]
    pub report: PredictionArgs,
}
