//! `orinplan quantize --projector`: the image encoder of a checkpoint as an `mmproj` of llama.cpp's.

use anyhow::bail;

use super::args::QuantizeArgs;
use super::{Outcome, output, written};
use crate::checkpoint::RawConfig;
use crate::model::{Projector, Unknown};
use crate::planner::Planner;
use crate::quantize::{self, Job};
use crate::scheme::Scheme;

/// Writes the projector in `scheme`.
pub(super) fn run(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<Outcome> {
    let stores = written::stores(args);
    // The text model need not be one that is converted.
    let planner = Planner::open_in(&args.model, &stores, |_| Unknown::Listed)?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    written::refuse_keep_source(args, checkpoint)?;
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        bail!(
            "{}: is a GGUF; a projector needs the Hugging Face checkpoint",
            checkpoint.origin.text()
        );
    };
    let projector = Projector::of_hugging_face(config, checkpoint.processor()?, &model.stored)?;
    let files = quantize::weight_files(checkpoint, scheme)?;
    let job = Job::of_projector(checkpoint, &files, model, &projector, scheme)?;
    let inputs = output::inputs(checkpoint, []);
    written::make(args, &planner, &job, scheme, inputs)
}
