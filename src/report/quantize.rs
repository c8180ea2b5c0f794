//! `orinplan quantize`: the file that was written, or would be (`orinplan.quantize/1`).

#[cfg(feature = "decode")]
mod mix;

use std::path::Path;

use serde_json::{Value, json};

#[cfg(feature = "decode")]
pub use self::mix::{Measured, MixReport, Plain, sensitivity};

use super::{count, rounded, seconds};
use crate::dtype::{Dtype, elements};
use crate::model::ModelSpec;
use crate::note::Note;
use crate::quantize::blocks::Deviation;
use crate::quantize::{Job, PlannedTensor, Tally};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::scheme::{Container, Reason, Scheme};
use crate::units::Bytes;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.quantize/1";

/// What a report shows.
pub struct Report<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The scheme that was asked for.
    pub scheme: &'a Scheme,
    /// Where the file or directory is or would be.
    pub output: Option<&'a Path>,
    /// Bytes of the source files.
    pub source_bytes: Bytes,
    /// Every tensor.
    pub tensors: Vec<TensorRow<'a>>,
    /// The size of the file, or of all weight files of a directory.
    pub file_bytes: Bytes,
    /// Caveats.
    pub notes: Vec<Note>,
    /// Whether its types are not those of the scheme, whose number the file has for a name.
    pub is_mix: bool,
    /// Time and memory of writing it; `None` for a dry run.
    pub made: Option<WriteStats>,
    /// How the types were chosen, where they were by measurement.
    #[cfg(feature = "decode")]
    pub mix: Option<MixReport>,
}

/// A tensor in the report.
pub struct TensorRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Outermost first.
    pub shape: &'a [u64],
    /// Its type.
    pub dtype: Dtype,
    /// Its bytes, scales included.
    pub bytes: Bytes,
    /// Why it has that type.
    pub reason: Reason,
    /// Whether an importance matrix weights its errors.
    pub weighted: bool,
    /// What was counted while it was written.
    pub tally: Option<Tally>,
}

/// Time and memory of writing a file.
pub struct WriteStats {
    /// Seconds from start to end.
    pub seconds: f64,
    /// The peak of resident memory, where the system reports it.
    pub peak_memory: Option<Bytes>,
}

/// The tensors of a job; `tallies` once they are written.
pub fn rows<'a>(job: &'a Job<'_>, tallies: Option<&[Tally]>) -> Vec<TensorRow<'a>> {
    let row = |(index, planned): (usize, &'a PlannedTensor<'_>)| TensorRow {
        name: planned.name,
        shape: &planned.shape,
        dtype: planned.assigned.dtype,
        bytes: planned.assigned.bytes,
        reason: planned.assigned.reason,
        weighted: planned.importance.is_some(),
        tally: tallies.and_then(|all| all.get(index).copied()),
    };
    job.tensors.iter().enumerate().map(row).collect()
}

impl Report<'_> {
    fn weights(&self) -> u64 {
        let weights = self.tensors.iter().map(|row| elements(row.shape));
        weights.fold(0, u64::saturating_add)
    }

    fn tensor_bytes(&self) -> Bytes {
        self.tensors.iter().map(|row| row.bytes).sum()
    }

    fn bits_per_weight(&self) -> f64 {
        self.tensor_bytes().as_f64() * 8.0 / self.weights().max(1) as f64
    }
}

/// The totals of the tensors of one type.
struct TypeTotals {
    dtype: Dtype,
    tensors: usize,
    weights: u64,
    bytes: Bytes,
    deviation: Deviation,
}

impl TypeTotals {
    /// The weighted error of the tensors whose importance is known, if there are any.
    fn weighted(&self) -> Option<f64> {
        (self.deviation.weighted_value > 0.0).then(|| self.deviation.weighted())
    }
}

/// The totals of each type, the one with most bytes first.
fn groups(report: &Report<'_>) -> Vec<TypeTotals> {
    let mut groups: Vec<TypeTotals> = Vec::new();
    for row in &report.tensors {
        let at = groups.iter().position(|group| group.dtype == row.dtype);
        let at = at.unwrap_or_else(|| {
            groups.push(TypeTotals {
                dtype: row.dtype,
                tensors: 0,
                weights: 0,
                bytes: Bytes(0),
                deviation: Deviation::default(),
            });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.tensors += 1;
            group.weights = group.weights.saturating_add(elements(row.shape));
            group.bytes += row.bytes;
            if let Some(tally) = row.tally {
                group.deviation += tally.deviation;
            }
        }
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.bytes), group.dtype));
    groups
}

fn reason(reason: Reason) -> Value {
    match reason {
        Reason::Default => json!("default"),
        Reason::Mix => json!("mix"),
        Reason::ShapeFallback { .. } => json!("shape_fallback"),
        Reason::Kept => json!("kept"),
        Reason::Stored => json!("stored"),
        Reason::Override => json!("override"),
    }
}

/// The whole document.
pub fn document(report: &Report<'_>) -> Value {
    let tensors = report.tensors.iter().map(|row| {
        let mut tensor = json!({
            "name": row.name,
            "shape": row.shape,
            "type": row.dtype.name(),
            "bytes": row.bytes,
            "reason": reason(row.reason),
        });
        if let (Some(Value::Object(choice)), Some(tensor)) =
            (chosen(report, row), tensor.as_object_mut())
        {
            tensor.extend(choice);
        }
        if let (Some(tally), Some(tensor)) = (row.tally, tensor.as_object_mut()) {
            let of = &tally.deviation;
            tensor.insert("relative_rms_error".into(), json!(of.relative()));
            if row.weighted {
                tensor.insert("weighted_error".into(), json!(of.weighted()));
            }
        }
        tensor
    });
    let types = groups(report).into_iter().map(|group| {
        let error = report.made.as_ref().map(|_| group.deviation.relative());
        json!({
            "type": group.dtype.name(),
            "tensors": group.tensors,
            "weights": group.weights,
            "bytes": group.bytes,
            "relative_rms_error": error,
            "weighted_error": group.weighted(),
        })
    });
    rounded(json!({
        "schema": SCHEMA,
        "output": report.output.map(|path| path.to_string_lossy()),
        "scheme": if report.is_mix { "mix" } else { report.scheme.id },
        "tensors": tensors.collect::<Vec<_>>(),
        "tensor_bytes": report.tensor_bytes(),
        "file_bytes": report.file_bytes,
        "source_bytes": report.source_bytes,
        "bits_per_weight": report.bits_per_weight(),
        "types": types.collect::<Vec<_>>(),
        "relative_rms_error": report.made.as_ref().map(|_| overall(report).relative()),
        "seconds": report.made.as_ref().map(|made| made.seconds),
        "peak_memory_bytes": report.made.as_ref().and_then(|made| made.peak_memory),
        "mix": mixed(report),
        "notes": report.notes.iter().map(|note| json!({
            "code": note.code(), "text": note.text(),
        })).collect::<Vec<_>>(),
    }))
}

/// How the types were chosen; null where that was a recipe.
#[cfg(feature = "decode")]
fn mixed(report: &Report<'_>) -> Option<Value> {
    report.mix.as_ref().map(mix::document)
}

#[cfg(not(feature = "decode"))]
fn mixed(_: &Report<'_>) -> Option<Value> {
    None
}

/// Why a search gave a tensor its type.
#[cfg(feature = "decode")]
fn chosen(report: &Report<'_>, row: &TensorRow<'_>) -> Option<Value> {
    let mix = report.mix.as_ref();
    let mix = mix.filter(|_| row.reason == Reason::Override);
    mix.and_then(|mix| mix::choice(mix, row.name))
}

#[cfg(not(feature = "decode"))]
fn chosen(_: &Report<'_>, _: &TensorRow<'_>) -> Option<Value> {
    None
}

/// The error over all tensors; those that were copied have none.
fn overall(report: &Report<'_>) -> Deviation {
    let mut sum = Deviation::default();
    for group in groups(report) {
        sum += group.deviation;
    }
    sum
}

/// The report for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    let thing = match report.scheme.container {
        Container::Gguf => "a file",
        Container::Safetensors => "a directory",
    };
    let file = report
        .output
        .map_or(thing.to_owned(), |path| path.display().to_string());
    let done = match report.made {
        Some(_) => "Wrote",
        None => "Dry run: would write",
    };
    let scheme = if report.is_mix {
        "a mix of types"
    } else {
        report.scheme.name
    };
    out.prose(&format!(
        "{done} {file}: {} ({}, {} parameters) as {scheme}, {} ({} bytes) from {}, {:.2} bits per weight",
        report.model.name,
        report.model.architecture,
        count(report.weights()),
        report.file_bytes,
        report.file_bytes.0,
        report.source_bytes,
        report.bits_per_weight(),
    ));
    out.blank();
    let groups = groups(report);
    out.table(&table(report, &groups), " ");
    #[cfg(feature = "decode")]
    if let Some(mix) = &report.mix {
        out.blank();
        out.push_str(&mix::text(mix, columns));
    }
    if let Some(made) = &report.made {
        out.blank();
        let weighted = if groups.iter().any(|group| group.weighted().is_some()) {
            "; weighted: the same, with the importance matrix"
        } else {
            ""
        };
        out.prose(&format!(
            "column `error`: root mean square of the changes over that of the weights{weighted}"
        ));
        let rate = report.weights() as f64 / 1e6 / made.seconds.max(1e-9);
        let memory = match made.peak_memory {
            Some(bytes) => format!(", {bytes} of memory at most"),
            None => String::new(),
        };
        let time = seconds(made.seconds);
        out.line(format_args!("{time}, {rate:.0} M weights/s{memory}"));
    }
    for note in &report.notes {
        out.prose(&format!("note: {}", note.text()));
    }
    out.finish()
}

fn table(report: &Report<'_>, groups: &[TypeTotals]) -> Table {
    let mut table = Table::new([
        ("type", Align::Left),
        ("tensors", Align::Right),
        ("weights", Align::Right),
        ("bytes", Align::Right),
        ("error", Align::Right),
        ("weighted", Align::Right),
    ]);
    let shown = |value: Option<f64>| match value {
        Some(value) if report.made.is_some() => format!("{value:.5}"),
        _ => String::new(),
    };
    for group in groups {
        table.row([
            group.dtype.name().to_owned(),
            group.tensors.to_string(),
            count(group.weights),
            group.bytes.to_string(),
            shown(Some(group.deviation.relative())),
            shown(group.weighted()),
        ]);
    }
    let all = overall(report);
    table.row([
        "all".to_owned(),
        report.tensors.len().to_string(),
        count(report.weights()),
        report.tensor_bytes().to_string(),
        shown(Some(all.relative())),
        String::new(),
    ]);
    table.without_empty_columns()
}
