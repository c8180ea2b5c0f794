//! Flags of `orinplan board`.

use clap::Args;

use super::{BoardArgs, PredictionArgs, PreferenceArgs, ReadArgs, WorkloadArgs};
use crate::planner::Storage;

/// An example of the file.
const FORM: &str = r#"FILE.toml:
  device = "orin-nano-8gb"        # optional, as are power_mode and storage
  [[model]]
  model = "Qwen/Qwen3-1.7B"       # or a path, from this file's folder
  name = "chat"                   # optional, as are runtime, scheme, context, parallel, kv_type, text_only, adapters
  priority = 1                    # 1 is served first
  load = "resident"               # or "on-demand": loaded when asked for, in turn with others
  [[program]]
  name = "camera"
  memory = "450MiB""#;

/// Plans several models on one board, each in a process of its own, with other programs beside them: what they take
/// together, what has no room and what to unload for it, the largest contexts beside each other, how long a file takes
/// to load. Exit status: 0 if all have room, 1 if not.
/// MODEL is what `fit` takes; or one file names models and other programs, whose form is below.
#[derive(Debug, Args)]
#[command(after_long_help = FORM)]
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
    /// Where files are loaded from: nvme, sd, or a rate such as 1.2GB/s [default: nvme, or what the file says]
    #[arg(long, value_name = "KIND|RATE", value_parser = Storage::named)]
    pub storage: Option<Storage>,
    #[command(flatten)]
    pub report: PredictionArgs,
}
