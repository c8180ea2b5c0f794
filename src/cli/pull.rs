//! `orinplan pull`: the GGUF that a model's publisher offers, if it fits the board, and whether making one is better.

use std::path::Path;

use anyhow::bail;

use super::args::PullArgs;
use super::progress::{self, Bar};
use super::{Outcome, output, print, quantize as quantize_command, remote, request};
use crate::checkpoint::{CheckpointError, Origin, RemoteError, SourceFormat};
use crate::foreign::shell_path;
use crate::hub::{HubError, Purpose};
use crate::model::Unknown;
use crate::note::Note;
use crate::plan::Plan;
use crate::planner::{OpenError, Planned, Planner, Request, Schemes, WorkloadRequest};
use crate::quantize::{self, Destination, Fetched, Start};
use crate::units::Bytes;

/// A file of fewer bits for a weight than this part of ours is farther from the original.
const FEWER_BITS: f64 = 0.98;

pub(super) fn run(args: &PullArgs) -> anyhow::Result<Outcome> {
    quantize_command::scheme(&args.scheme)?;
    let plans = remote::stores(Purpose::Plan);
    let own = Planner::open_in(&args.model, &plans, |_| Unknown::Refuse)?;
    let is_gguf = own.checkpoint().format == SourceFormat::Gguf;
    let is_of_hub = matches!(own.checkpoint().origin, Origin::Hub(_));
    if !is_gguf && !is_of_hub {
        bail!(
            "{}: is not a repository of the hub; make the file instead: {}",
            args.model,
            quantize_line(args)
        );
    }
    let name = match is_gguf {
        // A repository, of which another file was opened.
        true if is_of_hub && !args.model.contains(':') && !args.model.ends_with(".gguf") => {
            format!("{}:{}", args.model, args.scheme.to_uppercase())
        }
        true => args.model.clone(),
        false => offered(args),
    };
    let begun = Some(args.output.as_path()).filter(|_| args.resume);
    let stores = remote::stores_of(begun, false);
    let theirs = match Planner::open_in(&name, &stores, |_| Unknown::Refuse) {
        Err(OpenError::Checkpoint(CheckpointError::Remote(error)))
            if !is_gguf && is_not_there(&error) =>
        {
            print(&format!(
                "the publisher offers no {} GGUF of {} ({error}); make one:\n  {}\n",
                args.scheme.to_uppercase(),
                args.model,
                quantize_line(args)
            ))?;
            return Ok(Outcome::No);
        }
        opened => opened?,
    };
    let checkpoint = theirs.checkpoint();
    if checkpoint.source.is_none() {
        bail!(
            "{name}: is already on this machine: {}",
            first(&theirs).display()
        );
    }
    let offered = plan(&theirs, args, Schemes::Common)?;
    let Some(plan_of_theirs) = offered.fit.plans.first() else {
        bail!("{name}: has no format that the runtime loads");
    };
    let has = plan_of_theirs.assignment.scheme.as_str();
    if is_gguf && !has.eq_ignore_ascii_case(&args.scheme) {
        bail!(
            "{name}: is {}, not {}: give --scheme {has}, or the name of another file",
            has.to_uppercase(),
            args.scheme.to_uppercase()
        );
    }
    if !plan_of_theirs.fits() {
        let (needed, available) = (plan_of_theirs.memory.total(), plan_of_theirs.available);
        let why = plan_of_theirs
            .refusal()
            .map_or(format!("it needs {needed} of {available}"), Note::text);
        print(&format!("{name} does not fit: {why}\n"))?;
        return Ok(Outcome::No);
    }
    if !is_gguf {
        let made = plan(&own, args, Schemes::Named(vec![args.scheme.clone()]))?;
        let ours = made.fit.plans.first();
        if let Some(better) = ours.filter(|ours| ours.fits() && is_better(ours, plan_of_theirs)) {
            remote::say(&format!(
                "making it yourself is better: {:.2} bits a weight by current rules, {:.2} in this file: {}",
                better.bits_per_weight,
                plan_of_theirs.bits_per_weight,
                quantize_line(args)
            ));
        }
    }
    let destination = Destination {
        path: &args.output,
        overwrite: args.overwrite,
        inputs: output::inputs(checkpoint, None),
    };
    let cancel = progress::cancelled_by_signals()?;
    let bytes = checkpoint.files.iter().map(|file| file.bytes).sum();
    let bar = Bar::new(bytes, checkpoint.tensors.len());
    let start = Start::of(args.resume);
    let set = &mut |now| bar.set(now);
    let fetched = quantize::fetch(checkpoint, &destination, start, &cancel, set);
    bar.clear();
    let Fetched { kept, checked } = fetched?;
    if kept > Bytes(0) {
        remote::say(&format!("{kept} of an earlier run were kept"));
    }
    let checked = if checked {
        "its SHA-256 is verified"
    } else {
        "it has no SHA-256 to verify"
    };
    let shown = args.output.display();
    print(&format!(
        "{shown}: {bytes} of {}, {checked}\n",
        checkpoint.name
    ))?;
    Ok(Outcome::Yes)
}

/// Whether a server answered that it has no such model, or none for this user.
fn is_not_there(error: &RemoteError) -> bool {
    matches!(
        error.downcast_ref(),
        Some(HubError::Denied { .. } | HubError::Model { .. })
    )
}

/// Where a publisher has the GGUF files of a model: in a repository beside it.
fn offered(args: &PullArgs) -> String {
    let repository = args.model.split('@').next().unwrap_or_default();
    format!("{repository}-GGUF:{}", args.scheme.to_uppercase())
}

fn plan(planner: &Planner, args: &PullArgs, schemes: Schemes) -> anyhow::Result<Planned> {
    Ok(planner.plan(&Request {
        board: request::board(&args.board, None),
        schemes,
        workload: WorkloadRequest {
            context: args.context,
            ..WorkloadRequest::default()
        },
        ..Request::default()
    })?)
}

fn is_better(ours: &Plan, theirs: &Plan) -> bool {
    theirs.bits_per_weight < FEWER_BITS * ours.bits_per_weight
}

fn quantize_line(args: &PullArgs) -> String {
    format!(
        "orinplan quantize {} --scheme {} --output {}",
        shell_path(&args.model),
        args.scheme.to_lowercase(),
        shell_path(&args.output.to_string_lossy())
    )
}

fn first(planner: &Planner) -> &Path {
    let mut files = planner.checkpoint().files.iter();
    files.next().map_or(Path::new(""), |file| &file.path)
}
