//! `orinplan quantize`: open, describe, assign, write, report.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::{PlainFormat, QuantizeArgs};
use super::{Outcome, print, progress};
use crate::checkpoint::{self, Checkpoint};
use crate::model::{self, ModelSpec, Unknown};
use crate::quantize::{self, Destination, Importance, Job, Options};
use crate::report;
use crate::report::quantize::{Made, Report};
use crate::scheme::{Overrides, SCHEMES, Scheme};

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let scheme = scheme(&args.scheme)?;
    let (checkpoint, model) = open(&args.model)?;
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = Options {
        scheme,
        rules: args.rules,
        overrides: overrides(args),
        importance: importance.as_ref(),
        allow_requantize: args.allow_requantize,
    };
    let job = Job::new(&checkpoint, &model, &options)?;
    let made = match &args.output {
        Some(output) if !args.dry_run => Some(write(args, &checkpoint, &job, output)?),
        _ => None,
    };
    let report = Report {
        model: &model,
        scheme,
        output: args.output.as_deref(),
        source_bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
        job: &job,
        made: made.as_ref(),
    };
    print(&match args.format {
        PlainFormat::Text => report::quantize::text(&report),
        PlainFormat::Json => report::json(&report::quantize::document(&report)),
    })?;
    Ok(Outcome::Yes)
}

fn scheme(id: &str) -> anyhow::Result<&'static Scheme> {
    let Some(scheme) = Scheme::get(id) else {
        let ids = || SCHEMES.iter().map(|scheme| scheme.id);
        bail!(
            "there is no scheme `{id}`{}; known are {}",
            crate::nearest::hint(id, ids()),
            ids().collect::<Vec<_>>().join(", ")
        );
    };
    Ok(scheme)
}

/// Opens a checkpoint and describes its model. A GGUF is taken tensor by tensor, so that its
/// architecture need not be known.
fn open(model: &str) -> anyhow::Result<(Checkpoint, ModelSpec)> {
    let checkpoint = checkpoint::open(model)?;
    let unknown = match checkpoint.format {
        checkpoint::SourceFormat::Gguf => Unknown::WeightsOnly,
        _ => Unknown::Refuse,
    };
    let spec = model::read(&checkpoint, unknown).with_context(|| model.to_owned())?;
    Ok((checkpoint, spec))
}

fn overrides(args: &QuantizeArgs) -> Overrides {
    Overrides {
        tensors: args.tensor_type.clone(),
        token_embedding: args.token_embedding_type,
        output: args.output_tensor_type,
        pure: args.pure,
        importance: args.imatrix.is_some(),
    }
}

fn write(
    args: &QuantizeArgs,
    checkpoint: &Checkpoint,
    job: &Job<'_>,
    output: &Path,
) -> anyhow::Result<Made> {
    let started = Instant::now();
    let threads = match args.threads {
        Some(threads) => threads as usize,
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    let destination = Destination {
        path: output,
        overwrite: args.overwrite,
        inputs: inputs(args, checkpoint),
    };
    let cancel = progress::cancelled_by_signals()?;
    let mut bar = progress::Bar::new(job);
    let tallies = quantize::write(
        job,
        checkpoint,
        &destination,
        threads,
        &cancel,
        &mut |now| bar.set(now),
    );
    bar.clear();
    Ok(Made {
        tallies: tallies?,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: progress::peak_memory(),
    })
}

/// Every file that is read: weights, the small files beside them, the importance matrix.
fn inputs(args: &QuantizeArgs, checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let weights = checkpoint.files.iter().map(|file| file.path.clone());
    let directory = checkpoint.directory.as_deref().map(std::fs::read_dir);
    let beside = directory.into_iter().flatten().flatten().flatten();
    // Earlier outputs may lie beside the weights that they were made from.
    let beside = beside
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "gguf"));
    weights.chain(beside).chain(args.imatrix.clone()).collect()
}
