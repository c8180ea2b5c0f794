//! The report of `orinplan fit`: one set of facts, in text, Markdown and JSON.

mod check;
mod commands;
mod explain;
mod json;
mod markdown;
mod text;

use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::evidence::Evidence;
use crate::model::ModelSpec;
use crate::plan::advise::Advice;
use crate::plan::fit::Target;
use crate::plan::{Fit, Workload};
use crate::units::Bytes;

pub use check::differences;
pub use commands::Start;
pub use explain::explain;
pub use json::{SCHEMA, bound, document};
pub use markdown::markdown;
pub use text::text;

/// Everything a report may say.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Where the model came from.
    pub checkpoint: &'a Checkpoint,
    /// The model.
    pub model: &'a ModelSpec,
    /// The board, its mode and the runtime.
    pub target: Target<'a>,
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// The plans.
    pub fit: &'a Fit,
    /// What to change if it does not fit.
    pub advice: &'a [Advice],
    /// What lines to paste need to know.
    pub start: &'a Start,
}

impl Report<'_> {
    /// The format of the source in one word.
    fn source_format(&self) -> &'static str {
        match self.checkpoint.format {
            SourceFormat::Safetensors => "safetensors",
            SourceFormat::Gguf => "gguf",
            SourceFormat::Config => "config",
        }
    }

    /// Bytes of the source's weight files.
    fn source_bytes(&self) -> Bytes {
        self.checkpoint.files.iter().map(|file| file.bytes).sum()
    }
}

/// What stands behind a decode rate, in one sentence.
fn evidence_text(evidence: &Evidence, runtime: &str) -> String {
    let Some(near) = &evidence.nearest else {
        return format!(
            "speed rests on no measurement of {runtime} on any Orin board: the range is a guess"
        );
    };
    let count = |n: usize| match n {
        1 => "1 measurement".to_owned(),
        n => format!("{n} measurements"),
    };
    let from = match evidence.on_board {
        0 => format!(
            "speed rests on no measurement of {runtime} on this board, and on {} elsewhere",
            count(evidence.anywhere)
        ),
        n => format!("speed from {} of {runtime} on this board", count(n)),
    };
    let row = near.row;
    let board = match evidence.on_board {
        0 => format!(" on {}", row.board),
        _ => String::new(),
    };
    format!(
        "{from}, nearest: {} {} in {}{board}, {:.0} % off when left out of the fit",
        row.model,
        row.format.to_uppercase(),
        row.power_mode,
        near.off_percent.abs(),
    )
}

/// Tokens a joule of the most similar model that was measured, by power mode. A rate over watts is the same
/// number.
fn energy_text(evidence: &Evidence) -> Option<String> {
    let first = evidence.energy.first()?;
    let each = evidence.energy.iter().filter_map(|row| {
        let (tokens, watts) = (row.tokens_per_joule()?, row.power_w?);
        Some(format!("{} {tokens:.1} ({watts:.1} W)", row.power_mode))
    });
    Some(format!(
        "tokens a joule, measured for {} {} over {}: {}",
        first.model,
        first.format.to_uppercase(),
        first.power_of,
        each.collect::<Vec<_>>().join(", ")
    ))
}

/// A change in words.
fn advice_text(advice: &Advice, workload: &Workload) -> String {
    match advice {
        Advice::FlashAttention { scheme } => format!(
            "fused attention: {} fits without --no-flash-attention",
            scheme.to_uppercase()
        ),
        Advice::Headless { scheme, freed } => format!(
            "no desktop: `sudo systemctl isolate multi-user.target` frees about {freed}, and {} fits as asked",
            scheme.to_uppercase()
        ),
        Advice::TextOnly { scheme } => format!(
            "text alone: {} fits with --text-only, without its vision or audio towers",
            scheme.to_uppercase()
        ),
        Advice::Context { scheme, context } => {
            format!(
                "less context: {} fits with --context {context}",
                scheme.to_uppercase()
            )
        }
        Advice::KvType { scheme, dtype } => format!(
            "{} KV cache: {} fits with --context {} --kv-type {}",
            if dtype.is_quantized() {
                "a smaller"
            } else {
                "another"
            },
            scheme.to_uppercase(),
            workload.context,
            dtype.name().to_lowercase()
        ),
        Advice::Cache { problem } => format!("another KV cache: {problem}"),
        Advice::Scheme { scheme } => {
            format!("a smaller format: {} fits as asked", scheme.to_uppercase())
        }
        Advice::TooLarge { scheme, missing } => format!(
            "no format fits: even {} lacks {missing}; take a smaller model or a board with more memory",
            scheme.to_uppercase()
        ),
    }
}
