//! What looking at images takes beside the text model: the projector's weights, the memory that its encoder computes in,
//! and places in the cache.

use crate::dtype::Dtype;
use crate::model::projector::{EncodedImage, ImageSize};
use crate::model::{ModelSpec, Projector};
use crate::plan::compute::{ComputeBackend, EncoderCompute, encoder};
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::runtime::profile::ComputeRule;
use crate::units::Bytes;

/// The type of a projector that is made: the usual one, and the smallest that loses nothing to speak of.
const BASE: Dtype = Dtype::F16;

/// The projector that `runtime` would load beside the model, if its kind is known and images are not left out.
pub fn loaded<'m>(
    model: &'m ModelSpec,
    runtime: &RuntimeProfile,
    workload: &Workload,
) -> Option<&'m Projector> {
    let reads = matches!(runtime.memory.compute, ComputeRule::Ggml { .. });
    model
        .projector
        .as_ref()
        .filter(|_| reads && !workload.text_only)
}

/// Bytes of the projector and of other towers.
pub fn weights(model: &ModelSpec, runtime: &RuntimeProfile, workload: &Workload) -> Bytes {
    let stored = |keep: fn(&str) -> bool| -> Bytes {
        let towers = model.towers.iter().filter(|tower| keep(&tower.name));
        towers.map(|tower| tower.bytes).sum()
    };
    if workload.text_only {
        return Bytes(0);
    }
    match (loaded(model, runtime, workload), &model.projector) {
        // The file holds audio encoders too.
        (Some(projector), _) if projector.is_stored || projector.audio.is_some() => {
            projector.bytes(BASE)
        }
        (Some(projector), _) => projector.bytes(BASE) + stored(|name| name.starts_with("audio")),
        (None, Some(projector)) if model.towers.is_empty() => projector.bytes(Dtype::BF16),
        (None, _) => stored(|_| true),
    }
}

/// The buffers of its encoder.
pub fn compute(model: &ModelSpec, runtime: &RuntimeProfile, workload: &Workload) -> EncoderCompute {
    let Some(projector) = loaded(model, runtime, workload) else {
        return EncoderCompute::default();
    };
    let backend = if workload.projector_on_cpu {
        ComputeBackend::Cpu
    } else {
        runtime.backend
    };
    let image = (workload.images > 0).then(|| size(projector, workload));
    encoder(projector, image, workload.flash_attention, backend)
}

/// The size of the images of `workload`: that asked for, or the encoder's own.
pub fn size(projector: &Projector, workload: &Workload) -> ImageSize {
    workload.image.unwrap_or_else(|| projector.reserved())
}

/// What becomes of one image of `workload`.
pub fn image(projector: &Projector, workload: &Workload) -> EncodedImage {
    projector.image(size(projector, workload))
}
