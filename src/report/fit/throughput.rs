//! What several sequences at once bring (`--parallel auto`), for people and for scripts.

use std::ops::Range;

use serde_json::{Value, json};

use super::advice::floor;
use super::formats::{REFUSED, short_refusal};
use super::{TOO_SLOW, bound, range, spread};
use crate::foreign::markdown_sentence;
use crate::note::Note;
use crate::plan::throughput::{Batch, PUBLISHED, Throughput};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{line, rate, rounded, seconds};
use crate::units::counted;

/// How runtimes schedule sequences, with the source: `docs/throughput.md` says more.
const RULES: &[(&str, &str)] = &[
    (
        "llama.cpp",
        "llama-server has --parallel slots, each with its share of -c; requests beyond them wait, and slots join and leave the batch at every token (tools/server/README.md)",
    ),
    (
        "ollama",
        "Ollama takes the number from OLLAMA_NUM_PARALLEL (1 unless set) and multiplies the context by it; up to OLLAMA_MAX_QUEUE requests (512) wait (docs/faq)",
    ),
    (
        "vllm",
        "vLLM takes requests while its pool has blocks for their tokens, at most --max-num-seqs, and recomputes the last ones where the pool runs out (docs/configuration/optimization)",
    ),
];

/// The text below a plan.
pub fn text(found: &Throughput, runtime: &str, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.blank();
    out.prose(&head(found));
    out.table(&table(found, 0..found.batches.len()), " ");
    for sentence in notes(found, runtime) {
        out.prose(&sentence);
    }
    out.finish()
}

/// The same as Markdown.
pub fn markdown(found: &Throughput, runtime: &str) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!("\n{}\n", markdown_sentence(&head(found))),
    );
    out.push_str(&table(found, 0..found.batches.len()).markdown());
    for sentence in notes(found, runtime) {
        line(
            &mut out,
            format_args!("\n{}.", markdown_sentence(&sentence)),
        );
    }
    out
}

/// What scripts get.
pub fn document(found: &Throughput) -> Value {
    rounded(json!({
        "context_each": found.context_each,
        "max_latency_seconds": found.max_latency.map(|limit| limit.0),
        "best_parallel": found.taken().map(|batch| batch.sequences),
        "memory_bound_below": found.leaves_memory(),
        "ridge_flops_per_byte": found.ridge,
        "batches": found.batches.iter().map(|batch| json!({
            "parallel": batch.sequences,
            "scheme": batch.scheme,
            "fits": batch.fits,
            "refusal": batch.refusal.as_ref().map(Note::text),
            "too_slow": batch.too_slow.is_some(),
            "total_bytes": batch.memory,
            "tokens_per_second": batch.rate.as_ref().map(spread),
            "answer_tokens_per_second": batch.answers.as_ref().map(spread),
            "seconds_between_tokens": batch.between().map(|time| time.0),
            "bound": batch.bound.map(bound),
            "operational_intensity": batch.intensity,
        })).collect::<Vec<_>>(),
    }))
}

/// The number of sequences to take.
pub(super) fn head(found: &Throughput) -> String {
    let within = found.max_latency.map_or(String::new(), |limit| {
        format!(" with at most {} between tokens", seconds(limit.0))
    });
    let each = found.context_each;
    match found.taken() {
        Some(batch) => {
            let sequences = counted(batch.sequences, "sequence", "sequences");
            let (total, what) = match batch.answers {
                Some(answers) => (Some(answers), "answer tokens/s"),
                None => (batch.rate, "tokens/s"),
            };
            let total = total.map_or(String::new(), |total| {
                format!(": {} {what} together", rate(total.expected))
            });
            format!(
                "--parallel {}{total}; {sequences} of {each} tokens of context each{within}",
                batch.sequences
            )
        }
        None if found.too_slow().is_some() => format!(
            "{TOO_SLOW}: no number of sequences of {each} tokens of context each decodes {} tokens/s{within}",
            rate(found.too_slow().unwrap_or_default())
        ),
        None => format!("NO NUMBER of sequences of {each} tokens of context each fits{within}"),
    }
}

/// What to change where memory is not what keeps the smallest number of sequences out.
pub(super) fn way_out(found: &Throughput) -> Option<String> {
    if found.too_slow().is_some() {
        let fastest = found.batches.get(found.fastest()?)?;
        let are = if fastest.sequences == 1 {
            "is the fastest that fits"
        } else {
            "are the fastest that fit"
        };
        return Some(format!(
            "What to change: fewer tokens/s: {} of {} {are}, with --min-speed {}",
            counted(fastest.sequences, "sequence", "sequences"),
            fastest.scheme.to_uppercase(),
            floor(fastest.rate?.expected),
        ));
    }
    let first = found.batches.first().filter(|batch| batch.fits)?;
    let between = first.between()?;
    let milliseconds = (between.0 * 1e3).ceil();
    Some(format!(
        "What to change: {} of {} would take {}, with --max-latency {milliseconds}ms; a smaller format or a faster power mode may be quicker (`--all` has the plan)",
        counted(first.sequences, "sequence", "sequences"),
        first.scheme.to_uppercase(),
        seconds(between.0),
    ))
}

/// A line for each of these numbers of sequences.
pub(super) fn table(found: &Throughput, shown: Range<usize>) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("parallel", Align::Right),
        ("format", Align::Left),
        ("memory", Align::Right),
        ("tokens/s", Align::Right),
        ("answers", Align::Right),
        ("each", Align::Right),
        ("between tokens", Align::Right),
        ("limit", Align::Left),
        ("FLOP/byte", Align::Right),
    ])
    .giving_up(&["FLOP/byte", "format", "each", "limit", "between tokens"]);
    let batches = found.batches.iter().enumerate();
    for (index, batch) in batches.skip(shown.start).take(shown.len()) {
        let mark = if found.best == Some(index) {
            "best"
        } else if batch.too_slow.is_some() {
            "too slow"
        } else if batch.fits {
            ""
        } else if batch.refusal.is_some() {
            REFUSED
        } else {
            "no room"
        };
        let dash = || "-".to_owned();
        table.row([
            mark.to_owned(),
            batch.sequences.to_string(),
            batch.scheme.to_uppercase(),
            batch.memory.to_string(),
            batch.rate.as_ref().map_or_else(dash, range),
            batch.answers.as_ref().map_or_else(String::new, range),
            each(batch).map_or_else(dash, rate),
            batch.between().map_or_else(dash, |time| seconds(time.0)),
            batch
                .bound
                .map_or_else(dash, |limit| bound(limit).to_owned()),
            batch.intensity.map_or_else(dash, rate),
        ]);
    }
    table.without_empty_columns()
}

/// Tokens a second of one sequence.
fn each(batch: &Batch) -> Option<f64> {
    Some(1.0 / batch.between()?.0)
}

/// What the numbers of these batches mean: what limits them, and why the first of those that are refused is.
pub(super) fn legend(found: &Throughput, shown: Range<usize>) -> String {
    let batches = found.batches.iter().skip(shown.start).take(shown.len());
    let refusal = batches.filter_map(|batch| batch.refusal.as_ref()).next();
    let refusal = refusal.map_or(String::new(), |note| {
        format!("{REFUSED}: {}; ", short_refusal(note))
    });
    format!("{refusal}{}", limit(found))
}

/// From which number of sequences on memory is not the limit.
fn limit(found: &Throughput) -> String {
    let ridge = found.ridge.map_or(String::new(), |ridge| {
        format!(
            "; by the roofline alone, arithmetic limits from {} FLOP a byte on",
            rate(ridge)
        )
    });
    match found.leaves_memory() {
        Some(1) => format!("memory bandwidth does not limit even one sequence{ridge}"),
        Some(sequences) => {
            format!("memory bandwidth limits fewer than {sequences} sequences{ridge}")
        }
        None => format!("memory bandwidth limits all of them{ridge}"),
    }
}

fn notes(found: &Throughput, runtime: &str) -> Vec<String> {
    let mut lines = vec![legend(found, 0..found.batches.len())];
    lines.push(format!(
        "no batch above {PUBLISHED} is published for any Orin: where a format has separate products for small batches, its range spans these and the prompt kernel"
    ));
    let rule = RULES.iter().find(|(id, _)| *id == runtime);
    lines.extend(rule.map(|(_, rule)| (*rule).to_owned()));
    lines
}
