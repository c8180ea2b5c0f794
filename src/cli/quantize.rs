//! `orinplan quantize`: open, describe, assign, write, report.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::{PlainFormat, QuantizeArgs};
use super::progress::{self, Bar};
use super::{Outcome, output, show};
use crate::checkpoint::{self, Checkpoint};
use crate::model::{self, ModelSpec, Unknown, accept};
use crate::quantize::packed::Files;
use crate::quantize::{self, Destination, Importance, Job, Options, directory};
use crate::report;
use crate::report::quantize::{Made, Report};
use crate::scheme::{Container, Overrides, Rules, SCHEMES, Scheme};

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let scheme = scheme(&args.scheme)?;
    if scheme.container == Container::Safetensors {
        refuse_gguf_options(args, scheme)?;
        refuse_file_name(args, scheme)?;
    }
    let (checkpoint, model) = open(&args.model)?;
    let text = match scheme.container {
        Container::Gguf => gguf(args, scheme, &checkpoint, &model)?,
        Container::Safetensors => directory(args, scheme, &checkpoint, &model)?,
    };
    show(&text)?;
    Ok(Outcome::Yes)
}

/// One file for llama.cpp.
fn gguf(
    args: &QuantizeArgs,
    scheme: &'static Scheme,
    checkpoint: &Checkpoint,
    model: &ModelSpec,
) -> anyhow::Result<String> {
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = Options {
        scheme,
        rules: args.rules,
        overrides: overrides(args),
        importance: importance.as_ref(),
        allow_requantize: args.allow_requantize,
    };
    let files = Files::open(checkpoint)?;
    let job = Job::new(checkpoint, &files, model, &options)?;
    let inputs = output::inputs(checkpoint, args.imatrix.clone());
    let write = |output: &Path| {
        let destination = Destination {
            path: output,
            overwrite: args.overwrite,
            inputs: inputs.clone(),
        };
        let cancel = progress::cancelled_by_signals()?;
        let bar = Bar::new(job.tensor_bytes(), job.tensors.len());
        let set = &mut |now| bar.set(now);
        let tallies = quantize::write(&job, checkpoint, &destination, threads(args), &cancel, set);
        bar.clear();
        Ok(tallies?)
    };
    let (tallies, made) = timed(args, write)?.unzip();
    let notes = match &tallies {
        Some(tallies) => job.notes_with(tallies),
        None => job.notes.clone(),
    };
    Ok(shown(
        args,
        &Report {
            model,
            scheme,
            output: args.output.as_deref(),
            source_bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
            tensors: report::quantize::gguf_rows(&job, tallies.as_deref()),
            file_bytes: job.file_bytes(),
            notes,
            made,
        },
    ))
}

/// A directory for vLLM and Transformers.
fn directory(
    args: &QuantizeArgs,
    scheme: &'static Scheme,
    checkpoint: &Checkpoint,
    model: &ModelSpec,
) -> anyhow::Result<String> {
    let inputs = output::inputs(checkpoint, None);
    let job = directory::Job::new(checkpoint, model, scheme, directory::SHARD_BYTES)?;
    let write = |output: &Path| {
        let cancel = progress::cancelled_by_signals()?;
        let bar = Bar::new(job.tensor_bytes(), job.weights());
        let (threads, overwrite) = (threads(args), args.overwrite);
        let set = |now| bar.set(now);
        let summary = directory::write(&job, output, overwrite, &inputs, threads, &cancel, &set);
        bar.clear();
        Ok(summary?)
    };
    let (summary, made) = timed(args, write)?.unzip();
    let summary = summary.unwrap_or_else(|| job.planned());
    Ok(shown(
        args,
        &Report {
            model,
            scheme,
            output: args.output.as_deref(),
            source_bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
            tensors: report::quantize::directory_rows(&summary.weights),
            file_bytes: summary.file_bytes(),
            notes: summary.notes.clone(),
            made,
        },
    ))
}

/// Runs `write` unless nothing is to be written, and says what it took.
fn timed<T>(
    args: &QuantizeArgs,
    write: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<Option<(T, Made)>> {
    let Some(output) = args.output.as_deref().filter(|_| !args.dry_run) else {
        return Ok(None);
    };
    let started = Instant::now();
    let written = write(output)?;
    let made = Made {
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: progress::peak_memory(),
    };
    Ok(Some((written, made)))
}

fn shown(args: &QuantizeArgs, report: &Report<'_>) -> String {
    match args.format {
        PlainFormat::Text => report::quantize::text(report),
        PlainFormat::Json => report::json(&report::quantize::document(report)),
    }
}

/// What says how a GGUF is made has no meaning for a safetensors scheme.
fn refuse_gguf_options(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<()> {
    let given = [
        ("--imatrix", args.imatrix.is_some()),
        ("--tensor-type", !args.tensor_type.is_empty()),
        (
            "--token-embedding-type",
            args.token_embedding_type.is_some(),
        ),
        ("--output-tensor-type", args.output_tensor_type.is_some()),
        ("--pure", args.pure),
        ("--allow-requantize", args.allow_requantize),
        ("--rules", args.rules != Rules::default()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    match given.is_empty() {
        true => Ok(()),
        false => bail!(
            "{} is for GGUF files, and scheme {} makes a directory of safetensors; leave it out, or choose a scheme such as q4_k_m",
            given.join(", "),
            scheme.id
        ),
    }
}

/// A directory that is called like a file would be taken for one.
fn refuse_file_name(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<()> {
    let Some(output) = args.output.as_deref() else {
        return Ok(());
    };
    let end = output.extension().and_then(|end| end.to_str());
    let end = end.map(str::to_ascii_lowercase).unwrap_or_default();
    if !["gguf", "safetensors"].contains(&end.as_str()) {
        return Ok(());
    }
    let way_out = match end.as_str() {
        "gguf" => ", or choose a scheme such as q4_k_m, which makes a GGUF",
        _ => "",
    };
    bail!(
        "{}: is called like a file, and scheme {} makes a directory; call it {}{way_out}",
        output.display(),
        scheme.id,
        output.with_extension("").display(),
    )
}

fn threads(args: &QuantizeArgs) -> usize {
    match args.threads {
        Some(threads) => threads as usize,
        None => thread::available_parallelism().map_or(1, usize::from),
    }
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
    accept::checkpoint(&checkpoint, &spec).with_context(|| model.to_owned())?;
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
