//! The output of `orinplan quantize`: written with its progress, and reported.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use anyhow::bail;

use super::args::{PlainFormat, QuantizeArgs};
use super::progress::{self, Bar};
use super::{Outcome, remote, show, template};
use crate::checkpoint::{Checkpoint, Origin, Stores};
use crate::foreign::Foreign;
use crate::inputs::Inputs;
use crate::planner::Planner;
use crate::quantize::{self, Destination, Job, Start, Tally, Written};
use crate::report;
use crate::report::quantize::{MixReport, Report, WriteStats};
use crate::scheme::{Container, Scheme};
use crate::units::counted;

/// The stores that the source of an output is read from; an output that was begun keeps its source's commit.
pub(super) fn stores(args: &QuantizeArgs) -> Stores {
    let begun = args.output.as_deref().filter(|_| args.resume);
    remote::stores_of(begun, args.keep_source)
}

/// Refuses to keep what is here already.
pub(super) fn refuse_keep_source(
    args: &QuantizeArgs,
    checkpoint: &Checkpoint,
) -> anyhow::Result<()> {
    match &checkpoint.origin {
        Origin::Path(path) if args.keep_source && checkpoint.source.is_none() => bail!(
            "--keep-source is for a model on a server, and {} is here; leave it out",
            Foreign(path)
        ),
        _ => Ok(()),
    }
}

/// Writes the output of `job`, unless nothing is to be written, and prints what was or would be.
pub(super) fn make(
    args: &QuantizeArgs,
    planner: &Planner,
    job: &Job<'_>,
    scheme: &Scheme,
    inputs: Inputs,
) -> anyhow::Result<Outcome> {
    let destination = args.output.as_deref().filter(|_| !args.dry_run);
    let made = destination.map(|path| {
        let destination = Destination {
            path,
            overwrite: args.overwrite,
            inputs,
        };
        let cancel = progress::cancelled_by_signals()?;
        write(args, job, &destination, &cancel, Instant::now())
    });
    let (tallies, made) = made.transpose()?.unzip();
    report(args, planner, job, scheme, (tallies, made), None)
}

/// Writes the output. Returns the tally of each tensor, with time since `started` and memory.
pub(super) fn write(
    args: &QuantizeArgs,
    job: &Job<'_>,
    destination: &Destination<'_>,
    cancel: &AtomicBool,
    started: Instant,
) -> anyhow::Result<(Vec<Tally>, WriteStats)> {
    let bar = Bar::new(job.tensor_bytes(), job.tensors.len());
    let set = &mut |now| bar.set(now);
    let written = quantize::write_from(
        job,
        destination,
        Start::of(args.resume),
        threads(args),
        cancel,
        set,
    );
    bar.clear();
    let Written {
        tallies,
        kept,
        unchecked,
    } = written?;
    if kept > 0 {
        let tensors = counted(kept as u64, "tensor", "tensors");
        remote::say(&format!("{tensors} of an earlier run were kept"));
    } else if args.resume && !is_search(args) {
        remote::say(
            "nothing of an earlier run was kept: only a GGUF made from a model on a server is continued, tensor by tensor",
        );
    }
    if !unchecked.is_empty() {
        let files = unchecked.join(", ");
        remote::say(&format!("not verified by SHA-256: {files}"));
    }
    let made = WriteStats {
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: progress::peak_memory(),
    };
    Ok((tallies, made))
}

/// Prints what was written, or would be.
pub(super) fn report(
    args: &QuantizeArgs,
    planner: &Planner,
    job: &Job<'_>,
    scheme: &Scheme,
    (tallies, made): (Option<Vec<Tally>>, Option<WriteStats>),
    mix: Option<MixReport>,
) -> anyhow::Result<Outcome> {
    let files = planner.checkpoint().files.iter();
    let mut notes = job.notes_with(tallies.as_deref().unwrap_or_default());
    if scheme.container == Container::Gguf {
        notes.extend(template::note(planner.checkpoint()));
    }
    let report = Report {
        model: planner.model(),
        scheme,
        is_mix: args.scheme.is_none() && mix.as_ref().is_none_or(|mix| !mix.is_plain),
        output: args.output.as_deref(),
        source_bytes: files.map(|file| file.bytes).sum(),
        tensors: report::quantize::rows(job, tallies.as_deref()),
        file_bytes: job.file_bytes(),
        notes,
        made,
        mix,
    };
    show(&match args.format {
        PlainFormat::Text => report::quantize::text(&report, super::columns()),
        PlainFormat::Json => report::json(&report::quantize::document(&report)),
    })?;
    Ok(Outcome::Yes)
}

/// Whether types were searched for: the search says what of it was kept.
fn is_search(args: &QuantizeArgs) -> bool {
    args.scheme.is_none() && args.types.is_none()
}

fn threads(args: &QuantizeArgs) -> usize {
    match args.threads {
        Some(threads) => threads as usize,
        None => thread::available_parallelism().map_or(1, usize::from),
    }
}
