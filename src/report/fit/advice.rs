//! Advice in words: what to change, and the flags for it.

use super::Report;
use crate::note::Note;
use crate::plan::Workload;
use crate::plan::advise::{Advice, Lack};
use crate::plan::change::PlanChange;
use crate::planner::GivenFlags;
use crate::report::{listed, nats};
use crate::units::{Bytes, tokens};

/// A piece of advice, in a sentence.
pub(in crate::report) fn advice_text(advice: &Advice, report: &Report<'_>) -> String {
    let (workload, given) = (report.workload, report.launch.given);
    match advice {
        Advice::Changes { scheme, changes } => {
            let what: Vec<String> = changes
                .iter()
                .map(|change| name(change, workload))
                .collect();
            // A cache type is shown with the context that it holds.
            let is_cache = |change: &PlanChange| matches!(change, PlanChange::KvType { .. });
            let is_context = |change: &PlanChange| matches!(change, PlanChange::Context(_));
            let tells_context = changes.iter().any(is_cache) && !changes.iter().any(is_context);
            let context = PlanChange::Context(workload.context);
            let told = tells_context.then_some(&context).into_iter().chain(changes);
            let with: Vec<String> = told
                .filter_map(|change| flag(change, workload, given))
                .collect();
            let without = changes
                .iter()
                .filter_map(|change| unwanted_flag(change, workload));
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
        Advice::TooSlow {
            scheme,
            fits,
            rate,
            mode,
        } => {
            let scheme = scheme.to_uppercase();
            let of = if *fits {
                "fastest that fits"
            } else {
                "fastest of all"
            };
            let slower = format!(
                "fewer tokens/s: {scheme} is the {of}, with --min-speed {}",
                floor(*rate)
            );
            mode.as_ref().map_or_else(
                || slower.clone(),
                |mode| format!("another power mode: {scheme} is fast enough with --power-mode {mode}; or {slower}"),
            )
        }
        Advice::Cache { problem } => format!("another KV cache: {problem}"),
        Advice::TooLarge {
            scheme,
            context,
            lack,
            board,
        } => {
            let scheme = scheme.to_uppercase();
            let way_out = board.as_ref().map_or_else(
                || "use a smaller model".to_owned(),
                |board| {
                    let (name, id) = (&board.name, &board.id);
                    let scheme = board.scheme.to_uppercase();
                    let budget = workload.budget.map(|_| "--budget");
                    let lacks_mode = given.power_mode && !board.has_mode;
                    let mode = lacks_mode.then_some("--power-mode");
                    let gone: Vec<&str> = budget.into_iter().chain(mode).collect();
                    let without = if gone.is_empty() { String::new() } else { format!(", without {}", gone.join(" ")) };
                    format!(
                        "use a smaller model, or a {name}, the smallest board that would do: {scheme} fits with --device {id}{without}"
                    )
                },
            );
            let with = if *context < workload.context {
                format!(" with {} of context", tokens(*context))
            } else {
                String::new()
            };
            format!(
                "nothing fits: even {scheme}{with} {}; {way_out}",
                lack_text(lack)
            )
        }
    }
}

/// What keeps something from fitting, of which it is the predicate: `is 2.00 GiB too big`.
pub(in crate::report) fn lack_text(lack: &Lack) -> String {
    match lack {
        Lack::Memory(missing) => format!("is {missing} too big"),
        Lack::Refused(Note::Allocation {
            largest,
            limit,
            release,
            ..
        }) => format!("needs one allocation of {largest}; L4T {release} grants {limit}"),
        Lack::Refused(note) => format!("is refused ({})", note.text()),
    }
}

/// A rate rounded down to a figure that it keeps.
pub(super) fn floor(rate: f64) -> String {
    if rate < 10.0 {
        format!("{:.1}", (rate * 10.0).floor() / 10.0)
    } else {
        format!("{:.0}", rate.floor())
    }
}

/// A change in words.
fn name(change: &PlanChange, workload: &Workload) -> String {
    match change {
        PlanChange::Update(release) => format!("update to {} or later", release.of_jetpack()),
        PlanChange::FlashAttention => "fused attention".to_owned(),
        PlanChange::Headless { freed } => {
            format!("no desktop (`sudo systemctl isolate multi-user.target` frees about {freed})")
        }
        PlanChange::Idle { leaves } => {
            format!("close other programs (about {leaves} are available on an idle board)")
        }
        PlanChange::Outputs => "fewer rows of logits".to_owned(),
        PlanChange::Reserve(_) => format!("reserve less than {}", workload.reserve),
        PlanChange::Budget(_) => "a larger budget".to_owned(),
        PlanChange::Ubatch(_) => "fewer prompt tokens at once".to_owned(),
        PlanChange::Parallel(_) => "fewer sequences".to_owned(),
        PlanChange::TextOnly => "text only".to_owned(),
        PlanChange::NoDraft { freed } => format!("no draft (it takes {freed})"),
        PlanChange::KvType { dtype, cost } if dtype.is_quantized() => match cost {
            Some(cost) => format!("a smaller KV cache ({} nats further)", nats(cost.kld)),
            None => "a smaller KV cache".to_owned(),
        },
        PlanChange::KvType { .. } => "another KV cache".to_owned(),
        PlanChange::Scheme(_) => "a smaller format".to_owned(),
        PlanChange::Context(_) => "less context".to_owned(),
    }
}

/// The flag to add for a change, or to use instead of the one that was given.
fn flag(change: &PlanChange, workload: &Workload, given: GivenFlags) -> Option<String> {
    Some(match change {
        PlanChange::Reserve(bytes) => format!("--reserve {}", mebibytes(*bytes)),
        PlanChange::Budget(bytes) => format!("--budget {}", mebibytes(*bytes)),
        PlanChange::Ubatch(tokens) => format!("--ubatch {tokens}"),
        PlanChange::Parallel(sequences) => format!("--parallel {sequences}"),
        PlanChange::TextOnly => "--text-only".to_owned(),
        PlanChange::KvType { dtype, .. } => {
            let dtype = dtype.name().to_lowercase();
            if workload.type_k == workload.type_v && !given.kv_type_of_each {
                format!("--kv-type {dtype}")
            } else {
                format!("--kv-type-k {dtype} --kv-type-v {dtype}")
            }
        }
        PlanChange::Context(tokens) => format!("--context {tokens}"),
        PlanChange::Update(_)
        | PlanChange::FlashAttention
        | PlanChange::Headless { .. }
        | PlanChange::Idle { .. }
        | PlanChange::Outputs
        | PlanChange::NoDraft { .. }
        | PlanChange::Scheme(_) => return None,
    })
}

/// The flag to remove for a change.
fn unwanted_flag(change: &PlanChange, workload: &Workload) -> Option<&'static str> {
    match change {
        PlanChange::FlashAttention => Some("--no-flash-attention"),
        PlanChange::Headless { .. } => Some("--desktop"),
        PlanChange::Outputs => Some("--outputs"),
        PlanChange::NoDraft { .. } => Some("--draft"),
        PlanChange::TextOnly if workload.images > 0 => Some("--image and --images"),
        _ => None,
    }
}

fn mebibytes(bytes: Bytes) -> String {
    format!("{}MiB", bytes.0 / Bytes::MIB.0)
}
