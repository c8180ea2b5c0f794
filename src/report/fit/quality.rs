//! Quality in words: the column, why a format is recommended, and what is behind the figures.

use serde_json::{Value, json};

use super::Report;
use crate::evidence::quality::{Basis, Experiment, Quality};
use crate::plan::{Plan, Prefer};
use crate::report::{nats, rate};
use crate::scheme::MIX;
use crate::units::counted;

/// `0.013-0.067`, or one figure where both ends print alike; `-` where nothing comparable was measured.
pub(super) fn column(plan: &Plan) -> String {
    let Some(quality) = &plan.quality else {
        return "-".to_owned();
    };
    let (low, high) = (nats(quality.low), nats(quality.high));
    if low == high {
        low
    } else {
        format!("{low}-{high}")
    }
}

/// Why the recommended plan is recommended, and what the next best would change.
pub(super) fn reason(report: &Report<'_>) -> Option<String> {
    let taken = report.fit.recommended()?;
    let preference = report.fit.choice.preference;
    let scheme = taken.assignment.scheme.to_uppercase();
    let least = preference
        .min_speed
        .map(|least| format!(" of those with {} tokens/s and more", rate(least)));
    let least = least.unwrap_or_default();
    let (is_made, is_quantized) = (
        !taken.assignment.is_stored(),
        taken.assignment.is_quantized(),
    );
    if is_quantized && !is_made {
        return Some(format!(
            "{scheme} is the file's own format: every other format would lose more"
        ));
    }
    let why = match preference.prefer {
        Prefer::Balance => "balances speed and quality best",
        Prefer::Speed => "is the fastest",
        Prefer::Quality => "is the nearest to the original",
        Prefer::Size => "is the smallest",
    };
    let Some(next) = report.fit.next_best() else {
        let is_only = report.fit.plans.len() > 1;
        return is_only.then(|| format!("{scheme} is the only choice{least}"));
    };
    let changes = [speed_change(taken, next), quality_change(taken, next)];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    let next = next.assignment.scheme.to_uppercase();
    let next = match &changes[..] {
        [] => String::new(),
        changes => format!("; {next} is {}", changes.join(", ")),
    };
    Some(format!("{scheme} {why}{least}{next}"))
}

fn speed_change(taken: &Plan, next: &Plan) -> Option<String> {
    let percent = 100.0 * (next.rate()? / taken.rate()? - 1.0);
    Some(match percent.round() {
        0.0 => "as fast".to_owned(),
        faster if faster > 0.0 => format!("{faster:.0} % faster"),
        slower => format!("{:.0} % slower", -slower),
    })
}

fn quality_change(taken: &Plan, next: &Plan) -> Option<String> {
    let taken = taken.quality.as_ref()?;
    let Some(next) = &next.quality else {
        return Some("of unknown quality".to_owned());
    };
    let more = next.kld - taken.kld;
    Some(match more {
        0.0 => "as good".to_owned(),
        worse if worse > 0.0 => format!("{} nats worse", nats(worse)),
        better => format!("{} nats better", nats(-better)),
    })
}

/// What is behind the quality of a plan, in one sentence; nothing where it is the original's.
pub(super) fn evidence(plan: &Plan) -> Option<String> {
    let Some(quality) = &plan.quality else {
        if plan.assignment.scheme == MIX {
            return Some(
                "quality unknown: `orinplan compare` measures that of a mix of types, for --quality"
                    .to_owned(),
            );
        }
        let scheme = plan.assignment.scheme.to_uppercase();
        return Some(format!(
            "quality unknown: nobody has measured {scheme} on any model"
        ));
    };
    let on = |experiment: &Experiment| {
        let Experiment { file, text, tokens } = experiment;
        format!(
            "in {file} on {text} ({})",
            counted(*tokens, "token", "tokens")
        )
    };
    match &quality.basis {
        Basis::Original => None,
        Basis::Prior(prior) => {
            let near = prior.nearest;
            let count = counted(prior.measurements, "measurement", "measurements");
            let models = counted(prior.models, "model", "models");
            Some(format!(
                "quality from {count} of {} on {models}, nearest: {} with {} nats",
                near.subject(),
                near.model,
                nats(near.kld),
            ))
        }
        Basis::Measured(experiment) => Some(format!("quality as measured {}", on(experiment))),
        Basis::Sensitivity(experiment) => Some(format!(
            "quality is the sum of the separate costs of tensors, {}",
            on(experiment)
        )),
    }
}

/// The quality of a plan for `--explain`: the expected value with its range, and the source of the nearest measurement.
pub(super) fn explained(plan: &Plan) -> Vec<String> {
    let Some(quality) = &plan.quality else {
        return evidence(plan).into_iter().collect();
    };
    let value = format!(
        "{} nats a token from the original, {} in 8 of 10 cases",
        nats(quality.kld),
        column(plan)
    );
    let source = match &quality.basis {
        Basis::Prior(prior) => Some(format!("nearest from: {}", prior.nearest.source)),
        _ => None,
    };
    let all = [Some(value), evidence(plan), source];
    all.into_iter().flatten().collect()
}

/// The quality of a plan for scripts.
pub(in crate::report) fn document(quality: &Quality) -> Value {
    let experiment =
        |of: &Experiment| json!({ "file": of.file, "text": of.text, "scored_tokens": of.tokens });
    let (source, evidence) = match &quality.basis {
        Basis::Original => ("original", Value::Null),
        Basis::Prior(prior) => (
            "prior",
            json!({
                "measurements": prior.measurements,
                "models": prior.models,
                "nearest": {
                    "id": prior.nearest.id,
                    "model": prior.nearest.model,
                    "format": prior.nearest.format,
                    "kld": prior.nearest.kld,
                    "source": prior.nearest.source,
                },
            }),
        ),
        Basis::Measured(of) => ("measured", experiment(of)),
        Basis::Sensitivity(of) => ("sensitivity", experiment(of)),
    };
    json!({
        "kld": quality.kld,
        "low": quality.low,
        "high": quality.high,
        "evidence": evidence,
        "source": source,
    })
}
