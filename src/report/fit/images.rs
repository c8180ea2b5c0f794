//! What images take: for people and for scripts.

use serde_json::{Value, json};

use super::{Report, spread};
use crate::model::projector::ImageSize;
use crate::plan::projector;
use crate::units::{counted, tokens};

fn side(size: ImageSize) -> String {
    format!("{} x {}", size.width, size.height)
}

/// Seconds with two significant digits.
fn short(seconds: f64) -> String {
    let places = if seconds < 0.95 { 2 } else { 1 };
    format!("{seconds:.places$}")
}

/// Tokens, their share of the context, and memory where it is known for the runtime; `None` for a model that sees none.
pub(super) fn line(report: &Report<'_>) -> Option<String> {
    let (runtime, workload) = (report.target.runtime, report.workload);
    let projector = report.model.projector.as_ref();
    let known = projector.filter(|_| !workload.text_only)?;
    let encoded = projector::image(known, workload);
    let size = projector::size(known, workload);
    let pictures: u64 = encoded.pictures.iter().map(|(_, count)| count).sum();
    let cut = match pictures {
        1 => String::new(),
        n => format!(" in {n} pictures"),
    };
    let share = match workload.images {
        0 => String::new(),
        count => {
            let all = encoded.context().saturating_mul(count);
            let share = all as f64 * 100.0 / workload.context.max(1) as f64;
            format!(
                "; {} with their markers: {}, {share:.0} % of the context",
                counted(count, "image", "images"),
                tokens(all)
            )
        }
    };
    let place = if workload.projector_on_cpu {
        "CPU"
    } else {
        "GPU"
    };
    let memory = match projector::loaded(report.model, runtime, workload) {
        Some(_) => format!(
            "; {} of weights and {} to compute in, on the {place}",
            projector::weights(report.model, runtime, workload),
            projector::compute(report.model, runtime, workload).total(),
        ),
        None => String::new(),
    };
    let time = match projector::seconds(report.model, report.target, workload) {
        Some(all) => format!(
            "; {} to {} s to encode, in the time to the first token",
            short(all.low),
            short(all.high)
        ),
        None => String::new(),
    };
    Some(format!(
        "Images: one of {} is {}{cut}{share}{memory}{time}",
        side(size),
        tokens(encoded.tokens),
    ))
}

/// The same for scripts.
pub(super) fn document(report: &Report<'_>) -> Option<Value> {
    let (runtime, workload) = (report.target.runtime, report.workload);
    let projector = report.model.projector.as_ref();
    let known = projector.filter(|_| !workload.text_only)?;
    let encoded = projector::image(known, workload);
    let size = projector::size(known, workload);
    let loaded = projector::loaded(report.model, runtime, workload);
    let compute = loaded.map(|_| projector::compute(report.model, runtime, workload));
    Some(json!({
        "projector": known.family.name,
        "projector_on": if workload.projector_on_cpu { "cpu" } else { "gpu" },
        "projector_bytes": projector::weights(report.model, runtime, workload),
        "encoder_compute_bytes": compute.map(|compute| compute.device_bytes),
        "encoder_host_bytes": compute.map(|compute| compute.host_bytes),
        "count": workload.images,
        "width": size.width,
        "height": size.height,
        "pictures": encoded.pictures.iter().map(|(size, count)| json!({
            "width": size.width, "height": size.height, "count": count,
        })).collect::<Vec<_>>(),
        "tokens_per_image": encoded.tokens,
        "marker_tokens_per_image": encoded.markers,
        "encoder_seconds": projector::seconds(report.model, report.target, workload)
            .map(|seconds| spread(&seconds)),
        "context_tokens": encoded.context().saturating_mul(workload.images),
    }))
}
