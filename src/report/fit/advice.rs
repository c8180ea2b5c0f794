//! Advice in words: what to change, and the flags that say so.

use super::Report;
use crate::plan::Workload;
use crate::plan::advise::Advice;
use crate::plan::change::Change;
use crate::planner::Given;
use crate::report::listed;
use crate::units::{Bytes, tokens};

/// A piece of advice, in a sentence.
pub(super) fn advice_text(advice: &Advice, report: &Report<'_>) -> String {
    let (workload, given) = (report.workload, report.start.given);
    match advice {
        Advice::Changes { scheme, changes } => {
            let what: Vec<String> = changes
                .iter()
                .map(|change| name(change, workload))
                .collect();
            // What a cache holds is told with its type.
            let is_cache = |change: &Change| matches!(change, Change::KvType(_));
            let is_context = |change: &Change| matches!(change, Change::Context(_));
            let tells_context = changes.iter().any(is_cache) && !changes.iter().any(is_context);
            let context = Change::Context(workload.context);
            let told = tells_context.then_some(&context).into_iter().chain(changes);
            let with: Vec<String> = told
                .filter_map(|change| flag(change, workload, given))
                .collect();
            let without = changes.iter().filter_map(unwanted_flag);
            let without: Vec<&str> = without.collect();
            let how = match (&with[..], &without[..]) {
                ([], []) => "as asked".to_owned(),
                (with, []) => format!("with {}", with.join(" ")),
                ([], without) => format!("without {}", without.join(" ")),
                (with, without) => {
                    format!("with {}, without {}", with.join(" "), without.join(" "))
                }
            };
            let scheme = scheme.to_uppercase();
            format!("{}: {scheme} fits {how}", listed(&what))
        }
        Advice::Cache { problem } => format!("another KV cache: {problem}"),
        Advice::TooLarge {
            scheme,
            context,
            missing,
            board,
        } => {
            let scheme = scheme.to_uppercase();
            let way_out = board.as_ref().map_or_else(
                || "take a smaller model".to_owned(),
                |board| {
                    let (name, id) = (&board.name, &board.id);
                    let scheme = board.scheme.to_uppercase();
                    let budget = workload.budget.map(|_| "--budget");
                    let lacks_mode = given.power_mode && !board.has_mode;
                    let mode = lacks_mode.then_some("--power-mode");
                    let gone: Vec<&str> = budget.into_iter().chain(mode).collect();
                    let without = match gone.is_empty() {
                        true => String::new(),
                        false => format!(", without {}", gone.join(" ")),
                    };
                    format!(
                        "take a smaller model, or a {name}, the smallest board that would do: {scheme} fits with --device {id}{without}"
                    )
                },
            );
            let with = match *context < workload.context {
                true => format!(" with {} of context", tokens(*context)),
                false => String::new(),
            };
            format!("no format fits: even {scheme}{with} lacks {missing}; {way_out}")
        }
    }
}

/// What is changed.
fn name(change: &Change, workload: &Workload) -> String {
    match change {
        Change::Update(release) => format!("update to {} or later", release.of_jetpack()),
        Change::FlashAttention => "fused attention".to_owned(),
        Change::Headless { freed } => {
            format!("no desktop (`sudo systemctl isolate multi-user.target` frees about {freed})")
        }
        Change::Idle { leaves } => {
            format!("end other programs (about {leaves} are available on an idle board)")
        }
        Change::Outputs => "fewer rows of logits".to_owned(),
        Change::Reserve(_) => format!("reserve less than {}", workload.reserve),
        Change::Budget(_) => "a larger budget".to_owned(),
        Change::Ubatch(_) => "fewer prompt tokens at once".to_owned(),
        Change::Parallel(_) => "fewer sequences".to_owned(),
        Change::TextOnly => "text alone".to_owned(),
        Change::KvType(dtype) if dtype.is_quantized() => "a smaller KV cache".to_owned(),
        Change::KvType(_) => "another KV cache".to_owned(),
        Change::Scheme(_) => "a smaller format".to_owned(),
        Change::Context(_) => "less context".to_owned(),
    }
}

/// The flag that says so, in the place of what was given.
fn flag(change: &Change, workload: &Workload, given: Given) -> Option<String> {
    Some(match change {
        Change::Reserve(bytes) => format!("--reserve {}", mebibytes(*bytes)),
        Change::Budget(bytes) => format!("--budget {}", mebibytes(*bytes)),
        Change::Ubatch(tokens) => format!("--ubatch {tokens}"),
        Change::Parallel(sequences) => format!("--parallel {sequences}"),
        Change::TextOnly => "--text-only".to_owned(),
        Change::KvType(dtype) => {
            let dtype = dtype.name().to_lowercase();
            match workload.type_k == workload.type_v && !given.kv_type_of_each {
                true => format!("--kv-type {dtype}"),
                false => format!("--kv-type-k {dtype} --kv-type-v {dtype}"),
            }
        }
        Change::Context(tokens) => format!("--context {tokens}"),
        Change::Update(_)
        | Change::FlashAttention
        | Change::Headless { .. }
        | Change::Idle { .. }
        | Change::Outputs
        | Change::Scheme(_) => return None,
    })
}

/// The flag that goes.
fn unwanted_flag(change: &Change) -> Option<&'static str> {
    match change {
        Change::FlashAttention => Some("--no-flash-attention"),
        Change::Headless { .. } => Some("--desktop"),
        Change::Outputs => Some("--outputs"),
        _ => None,
    }
}

fn mebibytes(bytes: Bytes) -> String {
    format!("{}MiB", bytes.0 / Bytes::MIB.0)
}
