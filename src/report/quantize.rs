//! `orinplan quantize`: the file that was made or would be (`orinplan.quantize/1`).

use std::path::Path;

use serde_json::{Value, json};

use super::{count, line, rounded, seconds};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::quantize::blocks::Deviation;
use crate::quantize::{Job, Note, Tally};
use crate::report::table::{Align, Table};
use crate::scheme::{Reason, Scheme};
use crate::units::Bytes;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.quantize/1";

/// What a report is made of.
pub struct Report<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// What was asked for.
    pub scheme: &'a Scheme,
    /// Where the file is or would be.
    pub output: Option<&'a Path>,
    /// Bytes of the files that it is made from.
    pub source_bytes: Bytes,
    /// The file.
    pub job: &'a Job<'a>,
    /// How making it went; `None` if it was only described.
    pub made: Option<&'a Made>,
}

/// How making a file went.
pub struct Made {
    /// Per tensor, in the order of the file.
    pub tallies: Vec<Tally>,
    /// Time from start to end.
    pub seconds: f64,
    /// The most memory held, where the system says.
    pub peak_memory: Option<Bytes>,
}

impl Report<'_> {
    fn tally(&self, index: usize) -> Option<&Tally> {
        self.made?.tallies.get(index)
    }

    fn notes(&self) -> Vec<Note> {
        match self.made {
            Some(made) => self.job.notes_with(&made.tallies),
            None => self.job.notes.clone(),
        }
    }

    fn bits_per_weight(&self) -> f64 {
        self.job.tensor_bytes().as_f64() * 8.0 / self.job.weights().max(1) as f64
    }

    /// The weighted error of the tensors whose importance is known, if there are any.
    fn weighted(&self, group: &Group) -> Option<f64> {
        (group.deviation.weighted_value > 0.0).then(|| group.deviation.weighted())
    }
}

/// The tensors of one type together.
struct Group {
    dtype: Dtype,
    tensors: usize,
    weights: u64,
    bytes: Bytes,
    deviation: Deviation,
}

/// The types in the order of their bytes, the most first.
fn groups(report: &Report<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, planned) in report.job.tensors.iter().enumerate() {
        let dtype = planned.assigned.dtype;
        let at = groups.iter().position(|group| group.dtype == dtype);
        let at = at.unwrap_or_else(|| {
            groups.push(Group {
                dtype,
                tensors: 0,
                weights: 0,
                bytes: Bytes(0),
                deviation: Deviation::default(),
            });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.tensors += 1;
            group.weights = group.weights.saturating_add(planned.tensor.elements());
            group.bytes += planned.assigned.bytes;
            if let Some(tally) = report.tally(index) {
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

/// For scripts.
pub fn document(report: &Report<'_>) -> Value {
    let job = report.job;
    let tensors = job.tensors.iter().enumerate().map(|(index, planned)| {
        let mut tensor = json!({
            "name": planned.tensor.name,
            "shape": planned.tensor.shape,
            "type": planned.assigned.dtype.name(),
            "bytes": planned.assigned.bytes,
            "reason": reason(planned.assigned.reason),
        });
        if let (Some(tally), Some(tensor)) = (report.tally(index), tensor.as_object_mut()) {
            let of = &tally.deviation;
            tensor.insert("relative_rms_error".into(), json!(rounded(of.relative())));
            if planned.importance.is_some() {
                tensor.insert("weighted_error".into(), json!(rounded(of.weighted())));
            }
        }
        tensor
    });
    let types = groups(report).into_iter().map(|group| {
        let error = report.made.map(|_| rounded(group.deviation.relative()));
        json!({
            "type": group.dtype.name(),
            "tensors": group.tensors,
            "weights": group.weights,
            "bytes": group.bytes,
            "relative_rms_error": error,
            "weighted_error": report.weighted(&group).map(rounded),
        })
    });
    json!({
        "schema": SCHEMA,
        "output": report.output.map(|path| path.to_string_lossy()),
        "scheme": report.scheme.id,
        "tensors": tensors.collect::<Vec<_>>(),
        "tensor_bytes": job.tensor_bytes(),
        "file_bytes": job.file_bytes(),
        "source_bytes": report.source_bytes,
        "bits_per_weight": rounded(report.bits_per_weight()),
        "types": types.collect::<Vec<_>>(),
        "relative_rms_error": report.made.map(|_| rounded(overall(report).relative())),
        "seconds": report.made.map(|made| rounded(made.seconds)),
        "peak_memory_bytes": report.made.and_then(|made| made.peak_memory),
        "notes": report.notes().iter().map(|note| json!({
            "code": note.code(), "text": note.text(),
        })).collect::<Vec<_>>(),
    })
}

/// The error over all tensors that were quantized.
fn overall(report: &Report<'_>) -> Deviation {
    let mut sum = Deviation::default();
    for group in groups(report).iter().filter(|g| g.dtype.is_quantized()) {
        sum += group.deviation;
    }
    sum
}

/// For people.
pub fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    let job = report.job;
    let file = report
        .output
        .map_or("a file".to_owned(), |path| path.display().to_string());
    let verb = if report.made.is_some() {
        "is"
    } else {
        "would be"
    };
    line(
        &mut out,
        format_args!(
            "{file} {verb} {} ({}, {} parameters) as {}: {} ({} bytes) from {}, {:.2} bits per weight",
            report.model.name,
            report.model.architecture,
            count(job.weights()),
            report.scheme.name,
            job.file_bytes(),
            job.file_bytes().0,
            report.source_bytes,
            report.bits_per_weight(),
        ),
    );
    out.push('\n');
    out.push_str(&table(report).text(" "));
    if let Some(made) = report.made {
        let rate = job.weights() as f64 / 1e6 / made.seconds.max(1e-9);
        let memory = match made.peak_memory {
            Some(bytes) => format!(", {bytes} of memory at most"),
            None => String::new(),
        };
        let time = seconds(made.seconds);
        line(
            &mut out,
            format_args!("\n{time}, {rate:.0} M weights/s{memory}"),
        );
    }
    for note in report.notes() {
        line(&mut out, format_args!("note: {}", note.text()));
    }
    out
}

fn table(report: &Report<'_>) -> Table {
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
    for group in groups(report) {
        table.row([
            group.dtype.name().to_owned(),
            group.tensors.to_string(),
            count(group.weights),
            group.bytes.to_string(),
            shown(Some(group.deviation.relative())),
            shown(report.weighted(&group)),
        ]);
    }
    let all = overall(report);
    table.row([
        "all".to_owned(),
        report.job.tensors.len().to_string(),
        count(report.job.weights()),
        report.job.tensor_bytes().to_string(),
        shown(Some(all.relative())),
        String::new(),
    ]);
    table
}
