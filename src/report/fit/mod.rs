//! The report of `orinplan fit`, as text, Markdown and JSON.

mod advice;
mod check;
pub(super) mod commands;
mod curves;
mod explain;
mod formats;
mod images;
mod json;
mod markdown;
mod quality;
mod requests;
pub mod several;
mod speculation;
mod spread;
mod text;
pub mod throughput;
pub mod watch;
#[cfg(feature = "pages")]
mod words;

use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::device::{Choice, Clocks};
use crate::evidence::{Evidence, Measurement, Rail};
use crate::model::ModelSpec;
use crate::plan::advise::Advice;
use crate::plan::energy::{ModeEnergy, fastest_within};
use crate::plan::fit::Target;
use crate::plan::{Fit, Workload};
use crate::planner::{LaunchContext, Planned, Planner};
use crate::report::first_screen::Room;
use crate::report::planned_for;
use crate::runtime::profile::Slower;
use crate::units::{Bytes, counted};

pub(super) use advice::{advice_text, lack_text};
pub use check::{check_document, differences};
pub use curves::{document as document_with_curves, with_curves};
pub use explain::explain;
#[cfg(feature = "pages")]
pub(super) use formats::{QUALITY, REFUSED, short_refusal_of};
pub use json::{SCHEMA, bound, document};
pub(super) use json::{device, workload_document};
pub use markdown::page as markdown;
pub(super) use quality::document as quality_document;
pub(super) use spread::{range, spread};
pub(super) use text::{around, refusal_text};
pub use text::{is_report, painted, text};
#[cfg(feature = "pages")]
pub(super) use words::words;

/// The verdicts, with which reports begin.
const FITS: &str = "FITS";
const DOES_NOT_FIT: &str = "DOES NOT FIT";
const TOO_SLOW: &str = "TOO SLOW";

/// What a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Where the model came from.
    pub checkpoint: &'a Checkpoint,
    /// The model.
    pub model: &'a ModelSpec,
    /// The board, its mode and the runtime.
    pub target: Target<'a>,
    /// How that board was chosen.
    pub choice: Choice,
    /// What it is asked to do.
    pub workload: &'a Workload,
    /// The plans.
    pub fit: &'a Fit,
    /// What to change if no scheme fits.
    pub advice: &'a [Advice],
    /// What the commands to paste depend on.
    pub launch: &'a LaunchContext,
}

/// How much a report for a terminal shows.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Characters in a line of the terminal; `None` for a file or a pipe.
    pub columns: Option<usize>,
    /// Every format, since the user named them.
    pub formats: bool,
    /// Every format, every command and every note; otherwise what fits a screen of 24 lines.
    pub all: bool,
    /// Every note, because [`explain()`] follows.
    pub explain: bool,
}

impl View {
    /// How much of each part it shows, with so many alternatives where the screen has the rows.
    pub(super) fn room(self, alternatives: usize) -> Room {
        if self.all || self.explain {
            return Room::ALL;
        }
        Room {
            rows: alternatives,
            ..Room::FIRST
        }
    }
}

impl<'a> Report<'a> {
    /// The report of what `planner` has planned.
    pub fn new(planner: &'a Planner, planned: &'a Planned) -> Report<'a> {
        Report {
            checkpoint: planner.checkpoint(),
            model: planner.model(),
            target: planned.board.target(),
            choice: planned.board.choice,
            workload: &planned.workload,
            fit: &planned.fit,
            advice: &planned.advice,
            launch: &planned.launch,
        }
    }

    /// The format of the source in one word.
    pub(super) fn source_format(&self) -> &'static str {
        match self.checkpoint.format {
            SourceFormat::Safetensors => "safetensors",
            SourceFormat::Gguf => "gguf",
            SourceFormat::Config => "config",
        }
    }

    /// The device that is planned for and why.
    fn planned_for(&self) -> String {
        let target = self.target;
        planned_for(target.device, target.mode, target.release, self.choice)
    }

    /// Bytes of the source's weight files.
    pub(super) fn source_bytes(&self) -> Bytes {
        self.checkpoint.files.iter().map(|file| file.bytes).sum()
    }
}

/// The measurements behind a decode rate, in one sentence.
fn evidence_text(evidence: &Evidence, target: Target<'_>, workload: &Workload) -> String {
    let (runtime, board) = (&target.runtime.name, &target.device.name);
    let Some(near) = &evidence.nearest else {
        return format!(
            "the speed is a guess: there is no measurement of {runtime} on any Orin board"
        );
    };
    let count = |n: usize| counted(n, "measurement", "measurements");
    let from = match evidence.on_board {
        0 => format!(
            "speed from {} of {runtime} on other boards, none on the {board}",
            count(evidence.anywhere)
        ),
        n => format!("speed from {} of {runtime} on the {board}", count(n)),
    };
    let row = near.row;
    let elsewhere = match evidence.on_board {
        0 => format!(" on {}", row.board),
        _ => String::new(),
    };
    format!(
        "{from}; closest measurement: {}{elsewhere}{}{}{}, predicted within {:.0} % without having seen it",
        measured(row),
        at_depth(row),
        together(row, workload),
        otherwise_built(row, workload),
        near.off_percent.abs(),
    )
}

/// The model, format and mode of a measurement.
fn measured(row: &Measurement) -> String {
    let format = row.format.to_uppercase();
    let clocks = match row.clocks {
        Some(clocks) => format!(", clocks {clocks}"),
        None => String::new(),
    };
    let release = match row.l4t.as_str() {
        "" => String::new(),
        release => format!(", L4T R{release}"),
    };
    format!(
        "{} {format} in {}{clocks}{release}",
        row.model, row.power_mode
    )
}

/// Where in the context a measurement decoded, if it says so.
fn at_depth(row: &Measurement) -> String {
    let depth = row.depth.or(row.prompt_tokens);
    depth.map_or(String::new(), |depth| format!(" at a depth of {depth}"))
}

/// The number of sequences that a measurement decoded at once, if it is not that of the plan or several.
fn together(row: &Measurement, workload: &Workload) -> String {
    match row.sequences {
        1 if workload.parallel <= 1 => String::new(),
        1 => ", one sequence".to_owned(),
        many => format!(", {many} sequences at once"),
    }
}

/// How the build or the options of a measurement differ from those of the plan.
fn otherwise_built(row: &Measurement, workload: &Workload) -> String {
    let parts = [
        (
            "fused attention",
            row.flash_attention(),
            workload.flash_attention,
        ),
        ("CUDA graphs", row.cuda_graphs(), workload.cuda_graphs),
    ];
    let which = |had: bool| -> Vec<&str> {
        let unlike = parts.iter().filter(|(_, own, asked)| own != asked);
        let unlike = unlike.filter(|(_, own, _)| *own == had);
        unlike.map(|(name, ..)| *name).collect()
    };
    let phrase = |word: &str, names: Vec<&str>| match names.is_empty() {
        true => String::new(),
        false => format!(", {word} {}", names.join(" and ")),
    };
    phrase("without", which(false)) + &phrase("with", which(true))
}

/// What the board's clocks and system change, if they are known and change anything.
fn conditions_text(target: Target<'_>) -> Option<String> {
    let conditions = target.conditions()?;
    let governed = target.clocks == Some(Clocks::Governed);
    let old = target
        .release
        .filter(|release| *release < conditions.before);
    let more = |name: String, slower: &Slower| {
        let percent = |factor: f64| (factor - 1.0) * 100.0;
        format!(
            "{name}: {:.1} % more time a token, {:.1} % for the prompt ({})",
            percent(slower.decode),
            percent(slower.prefill),
            target
                .runtime
                .sources
                .get(&slower.source)
                .map_or("", String::as_str),
        )
    };
    let parts = [
        governed.then(|| {
            more(
                "clocks that the system governs".to_owned(),
                &conditions.governed,
            )
        }),
        old.map(|release| more(release.of_jetpack(), &conditions.old_system)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The measurements behind the rate of the prompt, if there are any.
fn prompt_evidence_text(evidence: &Evidence, workload: &Workload) -> Option<String> {
    let near = evidence.nearest.as_ref()?;
    let tokens = near.row.prompt_tokens?;
    Some(format!(
        "prompts from {} on this board and {} elsewhere; closest measurement: {} with a prompt of {tokens}{}, predicted within {:.0} % without having seen it",
        counted(evidence.on_board, "measurement", "measurements"),
        evidence.anywhere - evidence.on_board,
        measured(near.row),
        otherwise_built(near.row, workload),
        near.off_percent.abs(),
    ))
}

/// A rail in a sentence: one source reports the sum of all rails during decode.
fn rail_name(rail: &Rail) -> &str {
    match rail.name.as_str() {
        "decode total" => "all rails together",
        name => name,
    }
}

/// What each rail is predicted to draw in each power mode, a line a rail.
fn power_text(modes: &[ModeEnergy]) -> Vec<String> {
    let rails = modes.first().map_or(0, |mode| mode.rails.len());
    let line = |index: usize| {
        let each = modes.iter().filter_map(|mode| {
            let energy = mode.rails.get(index)?;
            Some(format!(
                "{} {:.1} W ({:.1} to {:.1}), {:.1} tokens a joule",
                mode.power_mode,
                energy.watts.expected,
                energy.watts.low,
                energy.watts.high,
                energy.tokens_per_joule.expected,
            ))
        });
        let each: Vec<String> = each.collect();
        let rail = modes.first()?.rails.get(index)?.rail;
        Some(format!(
            "{} while decoding, predicted from {} of {} ({:.0} % off without having seen their model): {}",
            rail_name(rail),
            counted(rail.measurements as usize, "measurement", "measurements"),
            counted(rail.models as usize, "model", "models"),
            rail.median_percent,
            each.join("; "),
        ))
    };
    (0..rails).filter_map(line).collect()
}

/// The power mode to take within a budget of watts.
fn energy_budget_text(modes: &[ModeEnergy], watts: f64) -> Option<String> {
    let rail = modes.first()?.rails.first()?.rail;
    Some(match fastest_within(modes, watts) {
        Some(mode) => format!(
            "within {watts} W on {}, {} decodes fastest: {:.1} tokens/s at {:.1} W expected",
            rail_name(rail),
            mode.power_mode,
            mode.tokens_per_second.expected,
            mode.rails.first()?.watts.expected,
        ),
        None => format!(
            "no power mode is expected to stay within {watts} W on {} while it decodes",
            rail_name(rail)
        ),
    })
}

/// Tokens a joule (tokens a second over watts) of the most similar model that was measured, by power mode.
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
