//! How the types of a mix were chosen, and what was measured.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::foreign::Foreign;
use crate::model::ModelSpec;
use crate::quality::mix::{MixKind, Session, TensorChoice};
use crate::quality::{Divergence, Text};
use crate::report::compare::estimate;
use crate::report::rounded;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::units::{Bytes, counted};

/// How the types of a mix were chosen.
pub struct MixReport {
    /// The most bytes that the file may have.
    pub size: Bytes,
    /// The divergence that was expected of the mix, in nats.
    pub expected: f64,
    /// The mix.
    pub measured: Measured,
    /// A fixed recipe of no more bytes.
    pub plain: Option<Plain>,
    /// Plain Q4_K_M at its own size, where that is not the fixed recipe.
    pub usual: Option<Plain>,
    /// Whether the fixed recipe is what was written, since the mix is not measurably better.
    pub is_plain: bool,
    /// The name of the text.
    pub text: String,
    /// Chunks of it that all were evaluated on.
    pub chunks: usize,
    /// Those of them that the types were chosen by too.
    pub reused: usize,
    /// Tokens in each.
    pub chunk_tokens: u64,
    /// What each kind of tensor got.
    pub kinds: Vec<MixKind>,
    /// Why each tensor has its type, by name.
    pub choices: BTreeMap<String, TensorChoice>,
}

/// A file that was evaluated.
pub struct Measured {
    /// Its size.
    pub bytes: Bytes,
    /// How far it is from the original.
    pub divergence: Divergence,
}

/// A fixed recipe that was evaluated.
pub struct Plain {
    /// Its name.
    pub scheme: &'static str,
    /// What was measured.
    pub measured: Measured,
}

/// The part of a report for a terminal.
pub(super) fn text(mix: &MixReport, columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("tensors", Align::Left),
        ("of their kind, by type", Align::Left),
        ("bytes", Align::Right),
        ("KLD expected", Align::Right),
        ("in Q4_0", Align::Right),
    ]);
    for kind in &mix.kinds {
        let types = kind.types.iter().rev();
        let types: Vec<String> = types
            .map(|(dtype, count)| format!("{count} {}", dtype.name()))
            .collect();
        table.row([
            kind.name.clone(),
            types.join(", "),
            kind.bytes.to_string(),
            format!("{:.5}", kind.cost),
            format!("{:.5}", kind.probed),
        ]);
    }
    let mut out = Screen::new(columns);
    out.table(&table, " ");
    out.blank();
    let shown = |measured: &Measured| {
        let (mean, same) = (measured.divergence.mean(), measured.divergence.same_top());
        format!(
            "KLD {:.4} +-{:.4}, same top token {:.1} %, {} bytes",
            mean.value,
            mean.standard_error,
            100.0 * same.value,
            measured.bytes.0
        )
    };
    let chunks = counted(mix.chunks as u64, "chunk", "chunks");
    let held_out = match mix.reused {
        0 => "held out from the choice of types".to_owned(),
        all if all == mix.chunks => {
            "by which the types were chosen too, since the text has no others".to_owned()
        }
        some => format!("{some} of which the types were chosen by too, since the text has too few"),
    };
    out.prose(&format!(
        "measured on {chunks} of {} tokens of {}, {held_out}, against the unquantized model:",
        mix.chunk_tokens,
        Foreign(&mix.text)
    ));
    out.line(format_args!("  this mix: {}", shown(&mix.measured)));
    for plain in mix.plain.iter().chain(&mix.usual) {
        out.line(format_args!(
            "  {}: {}",
            plain.scheme,
            shown(&plain.measured)
        ));
    }
    if let Some(plain) = mix.plain.as_ref().filter(|_| mix.is_plain) {
        out.prose(&format!(
            "the mix is not better than {} by two standard errors of the difference, so {} was used instead",
            plain.scheme, plain.scheme
        ));
    }
    out.finish()
}

fn measured(measured: &Measured) -> Value {
    let of = &measured.divergence;
    json!({
        "bytes": measured.bytes,
        "kld": estimate(of.mean()),
        "p99": estimate(of.p99()),
        "same_top": estimate(of.same_top()),
        "perplexity": estimate(of.perplexity()),
    })
}

fn recipe(plain: &Plain) -> Value {
    let mut document = measured(&plain.measured);
    if let Some(pairs) = document.as_object_mut() {
        pairs.insert("scheme".to_owned(), json!(plain.scheme));
    }
    document
}

/// Why the search gave a tensor its type; `None` where it did not.
pub(super) fn choice(mix: &MixReport, name: &str) -> Option<Value> {
    let choice = mix.choices.get(name).filter(|_| !mix.is_plain)?;
    Some(json!({
        "reason": "search",
        "expected_kld": choice.cost,
        "larger": choice.larger.map(|larger| json!({
            "type": larger.dtype.name(),
            "more_bytes": larger.bytes,
            "less_kld": larger.saves,
        })),
    }))
}

/// The part of a document.
pub(super) fn document(mix: &MixReport) -> Value {
    json!({
        "target_bytes": mix.size,
        "text": {
            "name": mix.text,
            "chunks": mix.chunks,
            "held_out_chunks": mix.chunks - mix.reused,
            "chunk_tokens": mix.chunk_tokens,
        },
        "expected_kld": mix.expected,
        "measured": measured(&mix.measured),
        "plain": mix.plain.as_ref().map(recipe),
        "usual": mix.usual.as_ref().map(recipe),
        "taken": if mix.is_plain { "plain" } else { "mix" },
        "kinds": mix.kinds.iter().map(|kind| json!({
            "name": kind.name,
            "types": kind.types.iter().map(|(dtype, count)| (dtype.name(), *count)).collect::<BTreeMap<_, _>>(),
            "bytes": kind.bytes,
            "expected_kld": kind.cost,
            "expected_kld_q4_0": kind.probed,
        })).collect::<Vec<_>>(),
    })
}

/// What each type of each tensor is expected to cost (`orinplan.sensitivity/1`). Costs are scaled so that those of the mix
/// add up to what was measured of it; the uncertainty is by how much they had to be scaled.
pub fn sensitivity(
    model: &ModelSpec,
    text: &Text,
    session: &Session<'_>,
    mix: &MixReport,
) -> Value {
    let measured = mix.measured.divergence.mean();
    let scale = if mix.expected > 0.0 && measured.value > 0.0 {
        measured.value / mix.expected
    } else {
        1.0
    };
    let noise = measured.standard_error / measured.value.max(f64::MIN_POSITIVE);
    let uncertainty = (scale - 1.0).abs().hypot(noise).min(0.9);
    let tensors = session.sensitivities.tensors.iter().map(|tensor| {
        let costs = tensor.options.iter();
        let costs =
            costs.map(|option| (option.dtype.name().to_owned(), json!(scale * option.cost)));
        json!({
            "name": tensor.name,
            "kld": costs.collect::<serde_json::Map<_, _>>(),
        })
    });
    rounded(json!({
        "schema": "orinplan.sensitivity/1",
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
        },
        "text": {
            "name": text.name,
            "fingerprint": format!("{:016x}", text.fingerprint()),
            "chunks": mix.chunks,
            "chunk_tokens": mix.chunk_tokens,
            "scored_tokens": mix.measured.divergence.tokens(),
        },
        "relative_uncertainty": uncertainty,
        "tensors": tensors.collect::<Vec<_>>(),
    }))
}
