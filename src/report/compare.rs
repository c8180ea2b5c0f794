//! `orinplan compare`: how far candidates are from a reference (`orinplan.compare/1`).

use serde_json::{Value, json};

use crate::dtype::Dtype;
use crate::foreign::Foreign;
use crate::model::ModelSpec;
use crate::planner::Planner;
use crate::quality::{Divergence, Estimate, Text};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{count, nats, rounded};
use crate::scheme::{MIX, Scheme};
use crate::units::{Bytes, counted};

/// The document's first key.
pub const SCHEMA: &str = "orinplan.compare/1";

/// What a report shows.
pub struct Report<'a> {
    /// The model that is compared with.
    pub model: &'a ModelSpec,
    /// The text that was evaluated.
    pub text: &'a Text,
    /// Chunks of it.
    pub chunks: usize,
    /// Tokens in each.
    pub chunk_tokens: usize,
    /// The types of the keys and values that the candidates cache.
    pub kv_types: [Dtype; 2],
    /// The model that is compared with, as a file.
    pub reference: Subject,
    /// Its perplexity.
    pub perplexity: Estimate,
    /// The models that are compared.
    pub candidates: Vec<Candidate>,
}

/// A candidate.
pub struct Candidate {
    /// Its file.
    pub subject: Subject,
    /// Its predictions against the reference's.
    pub divergence: Divergence,
}

/// A model's file or directory.
pub struct Subject {
    /// Its name, without the directory it lies in.
    pub file: String,
    /// The name of its scheme; of other files the type that all matrices have, or `mix`.
    pub format: String,
    /// Bytes of the weight files.
    pub bytes: Bytes,
    /// Bits of its tensors for each of its weights.
    pub bits_per_weight: f64,
}

/// The type of all matrices, if it is one: `F32`, or `pure Q4_0` where the scheme of that name has other types too.
fn common_type(model: &ModelSpec) -> Option<String> {
    let mut types = model.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
    let first = types.next()?.dtype;
    let name = first.name();
    let scheme = Scheme::get(&name.to_lowercase());
    types
        .all(|tensor| tensor.dtype == first)
        .then(|| match scheme {
            Some(_) => format!("pure {name}"),
            None => name.to_owned(),
        })
}

impl Subject {
    /// The open model as a file called `file`.
    pub fn of(file: String, planner: &Planner) -> Subject {
        let (checkpoint, model) = (planner.checkpoint(), planner.model());
        let stored: Bytes = model.tensors.iter().map(|tensor| tensor.stored_bytes).sum();
        let weights: u64 = model.tensors.iter().map(|tensor| tensor.elements()).sum();
        Subject {
            file,
            format: planner.stored_scheme().map_or_else(
                || common_type(model).unwrap_or_else(|| MIX.to_owned()),
                |scheme| scheme.name.to_owned(),
            ),
            bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
            bits_per_weight: stored.as_f64() * 8.0 / weights.max(1) as f64,
        }
    }

    fn document(&self) -> Value {
        json!({
            "file": self.file,
            "format": self.format,
            "bytes": self.bytes,
            "bits_per_weight": self.bits_per_weight,
        })
    }
}

pub(super) fn estimate(estimate: Estimate) -> Value {
    json!({"value": estimate.value, "standard_error": estimate.standard_error})
}

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let with = |mut subject: Value, pairs: Value| {
        if let (Some(subject), Value::Object(pairs)) = (subject.as_object_mut(), pairs) {
            subject.extend(pairs);
        }
        subject
    };
    let [type_k, type_v] = report.kv_types.map(|dtype| dtype.name().to_lowercase());
    let candidates = report.candidates.iter().map(|candidate| {
        let of = &candidate.divergence;
        let (mean, p99, same) = (of.mean(), of.p99(), of.same_top());
        with(
            candidate.subject.document(),
            json!({
                "kv_type": (type_k == type_v).then_some(&type_k),
                "kv_type_k": type_k,
                "kv_type_v": type_v,
                "kld": {
                    "mean": mean.value,
                    "standard_error": mean.standard_error,
                    "p99": p99.value,
                    "p99_standard_error": p99.standard_error,
                },
                "same_top": {
                    "percent": 100.0 * same.value,
                    "standard_error": 100.0 * same.standard_error,
                },
                "perplexity": estimate(of.perplexity()),
            }),
        )
    });
    let reference = report.reference.document();
    rounded(json!({
        "schema": SCHEMA,
        "model": {
            "name": report.model.name,
            "architecture": report.model.architecture,
            "parameters": report.model.parameters,
        },
        "text": {
            "name": report.text.name,
            "fingerprint": format!("{:016x}", report.text.fingerprint()),
            "chunks": report.chunks,
            "chunk_tokens": report.chunk_tokens,
            "scored_tokens": scored(report),
        },
        "reference": with(reference, json!({"perplexity": estimate(report.perplexity)})),
        "candidates": candidates.collect::<Vec<_>>(),
    }))
}

fn scored(report: &Report<'_>) -> usize {
    report
        .candidates
        .first()
        .map_or(0, |candidate| candidate.divergence.tokens())
}

/// The report for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.prose(&verdict(report));
    out.prose(&headline(report));
    out.blank();
    out.table(&table(report), " ");
    out.blank();
    for sentence in LEGEND {
        out.prose(sentence);
    }
    out.finish()
}

/// The report as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let [verdict, headline] = [verdict(report), headline(report)]
        .map(|sentence| crate::foreign::markdown_cell(&sentence));
    let legend = LEGEND.map(|sentence| format!("- {sentence}\n")).concat();
    format!(
        "{verdict}\n\n{headline}\n\n{}\n{legend}",
        table(report).markdown()
    )
}

/// The report in sentences, for the forms that are not text.
#[cfg(feature = "pages")]
pub(super) fn words(report: &Report<'_>) -> super::words::Words {
    super::words::Words {
        verdict: verdict(report),
        facts: vec![headline(report)],
        ..Default::default()
    }
}

/// What the columns are.
const LEGEND: [&str; 5] = [
    "bits: of the tensors, for each weight; header and tokenizer, which count in bytes, are left out",
    "KLD: mean Kullback-Leibler divergence from the reference's predictions, in nats a token",
    "p99: 99 % of the tokens diverge by less",
    "same top: share of tokens after which both predict the same token",
    "after +-: one standard error",
];

/// The candidate that is nearest to the reference.
fn verdict(report: &Report<'_>) -> String {
    let distance = |candidate: &&Candidate| candidate.divergence.mean().value;
    let nearest = report
        .candidates
        .iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let Some(nearest) = nearest else {
        return String::new();
    };
    let (file, reference) = (&nearest.subject.file, &report.reference.file);
    let (distant, subject) = match report.candidates.len() {
        1 => (format!(" from {}", Foreign(reference)), String::new()),
        _ => (
            String::new(),
            format!("closest to {}: ", Foreign(reference)),
        ),
    };
    format!(
        "{subject}{}, {} nats a token away{distant}, with the same top token {:.1} % of the time",
        Foreign(file),
        nats(distance(&nearest)),
        100.0 * nearest.divergence.same_top().value,
    )
}

fn headline(report: &Report<'_>) -> String {
    let chunks = counted(report.chunks as u64, "chunk", "chunks");
    let [type_k, type_v] = report.kv_types.map(|dtype| dtype.name());
    let cache = match (type_k, type_v) {
        ("F16", "F16") => String::new(),
        _ if type_k == type_v => format!(" with a cache of {type_k}"),
        _ => format!(" with keys cached in {type_k} and values in {type_v}"),
    };
    format!(
        "{} ({}, {} parameters){cache} on {chunks} of {} tokens of {}: {} tokens scored",
        Foreign(&report.model.name),
        Foreign(&report.model.architecture),
        count(report.model.parameters),
        report.chunk_tokens,
        Foreign(&report.text.name),
        scored(report),
    )
}

fn table(report: &Report<'_>) -> Table {
    let mut table = Table::new([
        ("file", Align::Left),
        ("format", Align::Left),
        ("bytes", Align::Right),
        ("bits", Align::Right),
        ("KLD", Align::Right),
        ("p99", Align::Right),
        ("same top", Align::Right),
        ("perplexity", Align::Right),
    ])
    .giving_up(&["bytes", "p99", "perplexity", "bits"]);
    let row = |subject: &Subject, of: Option<&Divergence>, perplexity: Estimate| {
        let shown = |estimate: Option<Estimate>, digits: usize| {
            estimate.map_or(String::new(), |estimate| {
                format!(
                    "{:.digits$} +-{:.digits$}",
                    estimate.value, estimate.standard_error
                )
            })
        };
        let percent = of.map(|of| {
            let same = of.same_top();
            format!(
                "{:.1} +-{:.1} %",
                100.0 * same.value,
                100.0 * same.standard_error
            )
        });
        [
            subject.file.clone(),
            subject.format.clone(),
            subject.bytes.0.to_string(),
            format!("{:.2}", subject.bits_per_weight),
            shown(of.map(Divergence::mean), 4),
            shown(of.map(Divergence::p99), 3),
            percent.unwrap_or_default(),
            shown(Some(perplexity), 3),
        ]
    };
    table.row(row(&report.reference, None, report.perplexity));
    for candidate in &report.candidates {
        let of = &candidate.divergence;
        table.row(row(&candidate.subject, Some(of), of.perplexity()));
    }
    table
}
