//! `orinplan quantize`: open, describe, assign, write, report.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::{PlainFormat, QuantizeArgs};
use super::evaluated::Evaluated;
use super::mix;
use super::progress::{self, Bar};
use super::{Outcome, output, show};
use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::dtype::Dtype;
use crate::inputs::Inputs;
use crate::model::{Tensor, Unknown};
use crate::planner::Planner;
use crate::quantize::packed::Files;
use crate::quantize::{self, Destination, Importance, Job, Options, Tally};
use crate::report;
use crate::report::quantize::{Report, WriteStats};
use crate::scheme::{Container, Overrides, Rules, SCHEMES, Scheme};

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let Some(id) = &args.scheme else {
        return to_size(args);
    };
    let scheme = scheme(id)?;
    if scheme.container == Container::Safetensors {
        refuse_gguf_options(args, scheme)?;
        refuse_file_name(args, scheme)?;
    }
    let planner = Planner::open_by(&args.model, unknown)?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    let importance = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let options = Options {
        rules: args.rules,
        overrides: overrides(args),
        importance: importance.as_ref(),
        allow_requantize: args.allow_requantize,
        ..Options::of(scheme)
    };
    let files = quantize::weight_files(checkpoint, scheme)?;
    let job = Job::new(checkpoint, &files, model, &options)?;
    let inputs = output::inputs(checkpoint, args.imatrix.clone());
    let (tallies, made) = write(args, &job, inputs)?.unzip();
    let report = Report {
        model,
        scheme,
        output: args.output.as_deref(),
        source_bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
        tensors: report::quantize::rows(&job, tallies.as_deref()),
        file_bytes: job.file_bytes(),
        notes: job.notes_with(tallies.as_deref().unwrap_or_default()),
        made,
    };
    show(&match args.format {
        PlainFormat::Text => report::quantize::text(&report),
        PlainFormat::Json => report::json(&report::quantize::document(&report)),
    })?;
    Ok(Outcome::Yes)
}

/// Quantizes to a mix of types that is chosen by measurement.
fn to_size(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let evaluated = Evaluated::open(&args.model)?;
    let (checkpoint, model) = (evaluated.checkpoint(), evaluated.planner.model());
    let files = Files::open(checkpoint)?;
    let given = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let cancel = progress::cancelled_by_signals()?;
    let chosen = mix::choose(args, &evaluated, &files, given, &cancel)?;
    let sizes = model.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let sizes: BTreeMap<&str, &Tensor> = sizes.collect();
    let bytes = |name: &str, dtype: Dtype| {
        let tensor = sizes.get(name);
        tensor.and_then(|tensor| dtype.bytes(&tensor.shape)).map_or(0, |bytes| bytes.0)
    };
    let scheme = mix::named(&chosen.mix.types, bytes).context("no scheme names these types")?;
    let options = Options {
        rules: args.rules,
        overrides: Overrides {
            exact: chosen.mix.types.clone(),
            ..overrides(args)
        },
        importance: Some(&chosen.importance),
        allow_requantize: args.allow_requantize,
        ..Options::of(scheme)
    };
    let job = Job::new(checkpoint, &files, model, &options)?;
    let inputs = output::inputs(checkpoint, args.imatrix.clone());
    eprintln!("expected divergence {}", chosen.mix.divergence);
    let (tallies, made) = write(args, &job, inputs)?.unzip();
    let report = Report {
        model,
        scheme,
        output: args.output.as_deref(),
        source_bytes: checkpoint.files.iter().map(|file| file.bytes).sum(),
        tensors: report::quantize::rows(&job, tallies.as_deref()),
        file_bytes: job.file_bytes(),
        notes: job.notes_with(tallies.as_deref().unwrap_or_default()),
        made,
    };
    show(&match args.format {
        PlainFormat::Text => report::quantize::text(&report),
        PlainFormat::Json => report::json(&report::quantize::document(&report)),
    })?;
    Ok(Outcome::Yes)
}

/// Writes the output, unless this is a dry run. Returns the tally of each tensor, with time and memory.
fn write(
    args: &QuantizeArgs,
    job: &Job<'_>,
    inputs: Inputs,
) -> anyhow::Result<Option<(Vec<Tally>, WriteStats)>> {
    let Some(path) = args.output.as_deref().filter(|_| !args.dry_run) else {
        return Ok(None);
    };
    let started = Instant::now();
    let destination = Destination {
        path,
        overwrite: args.overwrite,
        inputs,
    };
    let cancel = progress::cancelled_by_signals()?;
    let bar = Bar::new(job.tensor_bytes(), job.tensors.len());
    let set = &mut |now| bar.set(now);
    let tallies = quantize::write(job, &destination, threads(args), &cancel, set);
    bar.clear();
    let tallies = tallies?;
    let made = WriteStats {
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: progress::peak_memory(),
    };
    Ok(Some((tallies, made)))
}

/// Refuses the flags that only GGUF files have, for a safetensors scheme.
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
    if given.is_empty() {
        return Ok(());
    }
    bail!(
        "{} is for GGUF files, and scheme {} makes a directory of safetensors; leave it out, or choose a scheme such as q4_k_m",
        given.join(", "),
        scheme.id
    )
}

/// Refuses a directory whose name ends like a file's: it would be taken for one.
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

/// A GGUF is quantized tensor by tensor, whether or not its architecture is known.
fn unknown(checkpoint: &Checkpoint) -> Unknown {
    match checkpoint.format {
        SourceFormat::Gguf => Unknown::WeightsOnly,
        _ => Unknown::Refuse,
    }
}

fn overrides(args: &QuantizeArgs) -> Overrides {
    Overrides {
        exact: BTreeMap::new(),
        tensors: args.tensor_type.clone(),
        token_embedding: args.token_embedding_type,
        output: args.output_tensor_type,
        pure: args.pure,
        importance: args.imatrix.is_some(),
    }
}
