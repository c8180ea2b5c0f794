//! What looking at images takes beside the text model: the projector's weights, the memory that its encoder computes in,
//! and places in the cache.

use crate::dtype::Dtype;
use crate::model::projector::{EncodedImage, ImageSize, Patches, without_file};
use crate::model::{ModelSpec, Projector, Tensor};
use crate::plan::compute::{ComputeBackend, EncoderCompute, encoder};
use crate::plan::speed::{Spread, finite};
use crate::plan::target::{Target, gpu};
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::runtime::profile::ComputeRule;
use crate::scheme::Container;
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

/// Whether `runtime` runs the text of `model` alone: it has no encoders, or would load them from a file that is not made.
pub fn text_alone(model: &ModelSpec, runtime: &RuntimeProfile) -> bool {
    let apart = runtime.loads.reads(Container::Gguf) && without_file(&model.config).is_some();
    runtime.loads.text_only || apart
}

/// Bytes of the projector and of other towers.
pub fn weights(model: &ModelSpec, runtime: &RuntimeProfile, workload: &Workload) -> Bytes {
    weights_in(BASE, model, runtime, workload)
}

/// The same with the projector's matrices in `base`, where it is a file of llama.cpp's.
pub(super) fn weights_in(
    base: Dtype,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    workload: &Workload,
) -> Bytes {
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
            projector.bytes(base)
        }
        (Some(projector), _) => projector.bytes(base) + stored(|name| name.starts_with("audio")),
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

/// Weights that images go through: those of an encoder of sounds beside theirs see none.
fn seeing(projector: &Projector) -> u64 {
    let hears = |name: &str| name.starts_with("a.") || name.starts_with("mm.a.");
    let tensors = projector.tensors.iter().map(|t| &t.tensor);
    let seeing = tensors.filter(|tensor| !hears(&tensor.name));
    let weights = seeing.map(Tensor::elements);
    weights.fold(0, u64::saturating_add)
}

/// Multiply-accumulates of the encoder and its projection over the pictures of one image. Blocks that see windows count as
/// if they saw the whole picture.
pub fn macs(projector: &Projector, size: ImageSize) -> u64 {
    let (vision, encoder) = (&projector.vision, &projector.family.encoder);
    let patch = match encoder.patches {
        Patches::Normed => vision.token_side(),
        Patches::One | Patches::TwoFrames | Patches::Unfolded => vision.patch,
    };
    let product = |factors: &[u64]| factors.iter().fold(1, |all: u64, f| all.saturating_mul(*f));
    let square = product(&[vision.width, vision.width]);
    let matrices = if encoder.gated { 3 } else { 2 };
    let forward = product(&[matrices, vision.width, vision.inner]);
    let block = square.saturating_mul(4).saturating_add(forward);
    let blocks = block.saturating_mul(vision.blocks);
    // What is neither in a block nor a table of positions multiplies tokens.
    let tables = vision.positions.saturating_mul(vision.width);
    let rest = seeing(projector).saturating_sub(blocks.saturating_add(tables));
    let encoded = projector.image(size);
    let pictures = encoded.pictures.iter().map(|(picture, count)| {
        let patches = (picture.width / patch.max(1)).saturating_mul(picture.height / patch.max(1));
        let seen = product(&[2, patches, patches, vision.width, vision.blocks]);
        seen.saturating_add(blocks.saturating_mul(patches))
            .saturating_mul(*count)
    });
    let blocks = pictures.fold(0, u64::saturating_add);
    blocks.saturating_add(rest.saturating_mul(encoded.tokens))
}

/// Seconds that the encoder takes for the images of `workload`: `low` is the fast end. `None` without images, and where its
/// speed is not known for the runtime.
pub fn seconds(model: &ModelSpec, target: Target<'_>, workload: &Workload) -> Option<Spread> {
    let projector = model.projector.as_ref()?;
    let sees = workload.images > 0 && !workload.text_only && !workload.projector_on_cpu;
    let on_gpu = target.runtime.backend != ComputeBackend::Cpu;
    let share = target.runtime.speed.encoder.as_ref();
    let share = share.filter(|_| sees && on_gpu)?;
    let gpu = gpu(target.mode)?;
    let each = macs(projector, size(projector, workload)) as f64;
    let peak = f64::from(gpu.sm_count) * gpu.clock.0 * gpu.fp16_macs;
    let seconds = |share: f64| finite(each * workload.images as f64 / (peak * share));
    Some(Spread {
        low: seconds(share.high),
        expected: seconds(share.expected),
        high: seconds(share.low),
    })
}

/// The size of the images of `workload`: that asked for, or the encoder's own.
pub fn size(projector: &Projector, workload: &Workload) -> ImageSize {
    workload.image.unwrap_or_else(|| projector.reserved())
}

/// What becomes of one image of `workload`.
pub fn image(projector: &Projector, workload: &Workload) -> EncodedImage {
    projector.image(size(projector, workload))
}
