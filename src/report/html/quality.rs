//! Quality against size: the figure of formats that are planned, and of files that were measured.

use serde_json::Value;

use super::figures::{GIB, plain};
use super::value::{list, number, text};
use crate::report::nats;
use crate::report::svg::{Axis, Figure, Mark, Plot, Rule, Scale};
use crate::units::Bytes;

const MIB: f64 = Bytes::MIB.0 as f64;

/// A format or file under the figure's axes.
struct Point {
    label: String,
    /// Its size.
    bytes: f64,
    /// Its divergence, in nats a token, with the ends of its range.
    nats: [f64; 3],
    /// What the range is.
    range: String,
    chosen: bool,
}

/// The divergence of each plan over the size of its tensors.
pub(super) fn of_plans(document: &Value, taken: Option<usize>) -> Option<Figure> {
    let plans = list(document, "/plans");
    let points = plans.iter().enumerate().filter_map(|(index, plan)| {
        let of = |path: &str| number(plan, path).filter(|value| *value > 0.0);
        let kld = of("/quality/kld")?;
        let ends = [of("/quality/low"), of("/quality/high")].map(|end| end.unwrap_or(kld));
        Some(Point {
            label: text(plan, "/scheme").to_uppercase(),
            bytes: of("/tensor_bytes")?,
            nats: [ends[0], kld, ends[1]],
            range: format!("{} to {}", nats(ends[0]), nats(ends[1])),
            chosen: taken == Some(index),
        })
    });
    let points: Vec<Point> = points.collect();
    let is_measured = plans
        .iter()
        .all(|plan| plan["quality"]["source"] == "measured");
    let how = if is_measured {
        "as measured"
    } else {
        "estimated from measurements"
    };
    let description = format!(
        "How far each format's predictions are from those of the 16-bit original, {how}; lower is better, lines are ranges."
    );
    (points.len() > 1).then(|| plot(description, "tensors", &points))
}

/// The divergence of each candidate over the size of its file.
pub(super) fn of_candidates(document: &Value) -> Option<Figure> {
    let candidates = list(document, "/candidates");
    // The format is the shorter name, where no two files have the same one.
    let format = |candidate: &Value| text(candidate, "/format").to_uppercase();
    let name = |candidate: &Value| {
        let own = format(candidate);
        let alike = candidates.iter().filter(|other| format(other) == own);
        match alike.count() {
            1 => own,
            _ => text(candidate, "/file").to_owned(),
        }
    };
    let points = candidates.iter().filter_map(|candidate| {
        let of = |path: &str| number(candidate, path);
        let (mean, error) = (of("/kld/mean")?, of("/kld/standard_error")?);
        // What is the same has no place on an axis of ratios.
        (mean > 0.0).then_some(())?;
        Some(Point {
            label: name(candidate),
            bytes: of("/bytes")?,
            nats: [
                (mean - 2.0 * error).max(mean / 10.0),
                mean,
                mean + 2.0 * error,
            ],
            range: format!("\u{b1} {} standard error", nats(error)),
            chosen: false,
        })
    });
    let points: Vec<Point> = points.collect();
    let description = "How far each file's predictions are from those of the reference; lower is better, lines are two standard errors either way.";
    (!points.is_empty()).then(|| plot(description.to_owned(), "file", &points))
}

/// `measure` says what the sizes are of.
fn plot(description: String, measure: &str, points: &[Point]) -> Figure {
    let is_large = points.iter().any(|point| point.bytes >= GIB);
    let (unit, name) = if is_large { (GIB, "GiB") } else { (MIB, "MiB") };
    let sizes = || points.iter().map(|point| point.bytes / unit);
    let widest = sizes().fold(0.0, f64::max);
    let narrowest = sizes().fold(f64::INFINITY, f64::min);
    let room = ((widest - narrowest) * 0.12).max(widest * 0.02);
    let (x, x_ticks) = Scale::between((narrowest - room).max(0.0), widest + room, 5);
    let least = points.iter().map(|point| point.nats[0]);
    let most = points.iter().map(|point| point.nats[2]);
    let (y, y_ticks) = Scale::decades(
        least.fold(f64::INFINITY, f64::min),
        most.fold(0.0, f64::max),
    );
    let mark = |point: &Point| Mark {
        at: [point.bytes / unit, point.nats[1]],
        detail: format!(
            "{}: {} nats ({}), {}",
            point.label,
            nats(point.nats[1]),
            point.range,
            Bytes(point.bytes as u64)
        ),
        label: point.label.clone(),
        class: if point.chosen { "chosen" } else { "other" },
    };
    let rule = |point: &Point| Rule {
        label: String::new(),
        from: [point.bytes / unit, point.nats[0]],
        to: [point.bytes / unit, point.nats[2]],
        class: "stroke",
    };
    Figure::Plot(Plot {
        title: "Quality against size".to_owned(),
        description,
        x: Axis {
            label: format!("{measure}, {name}"),
            scale: x,
            ticks: plain(&x_ticks),
        },
        y: Axis {
            label: "divergence, nats a token".to_owned(),
            scale: y,
            ticks: plain(&y_ticks),
        },
        series: Vec::new(),
        rules: points.iter().map(rule).collect(),
        marks: points.iter().map(mark).collect(),
        cursor: false,
    })
}
