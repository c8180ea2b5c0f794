//! `orinplan quantize --projector`: the image encoder of a checkpoint as an `mmproj` of llama.cpp's.

use std::time::Instant;

use anyhow::bail;

use super::args::QuantizeArgs;
use super::written::{report, write};
use super::{Outcome, output, progress, remote};
use crate::checkpoint::RawConfig;
use crate::hub::Purpose;
use crate::model::{Projector, Unknown};
use crate::planner::Planner;
use crate::quantize::{self, Destination, Job};
use crate::scheme::Scheme;

/// Writes the projector in `scheme`.
pub(super) fn run(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<Outcome> {
    let mut settings = remote::settings();
    settings.purpose = Purpose::Make;
    settings.keep_source = args.keep_source;
    let begun = args.output.as_deref().filter(|_| args.resume);
    settings.pinned = begun.and_then(quantize::resumable);
    let stores = remote::stores_with(settings);
    // The text model need not be one that is converted.
    let planner = Planner::open_in(&args.model, &stores, |_| Unknown::Listed)?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        bail!(
            "{}: is a GGUF, and a projector is made of the Hugging Face checkpoint",
            checkpoint.origin.text()
        );
    };
    let projector = Projector::of_hugging_face(config, checkpoint.processor()?, &model.stored)?;
    let files = quantize::weight_files(checkpoint, scheme)?;
    let job = Job::of_projector(checkpoint, &files, model, &projector, scheme)?;
    let destination = args.output.as_deref().filter(|_| !args.dry_run);
    let made = destination.map(|path| {
        let destination = Destination {
            path,
            overwrite: args.overwrite,
            inputs: output::inputs(checkpoint, None),
        };
        let cancel = progress::cancelled_by_signals()?;
        write(args, &job, &destination, &cancel, Instant::now())
    });
    let (tallies, made) = made.transpose()?.unzip();
    report(args, &planner, &job, scheme, (tallies, made), None)
}
