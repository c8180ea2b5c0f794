//! `orinplan quantize` to a size: measures what types cost, chooses them, compares the result with a fixed recipe, and
//! writes the better of the two.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::QuantizeArgs;
use super::evaluated::{Evaluated, warn_of_long_chunks};
use super::mix_state::{self, State};
use super::progress::{self, Spinner};
use super::written::{report, write};
use super::{Outcome, output, remote, request};
use crate::inputs::{Inputs, same_file};
use crate::planner::{MixPlanner, Request, WorkloadRequest};
use crate::quality::mix::{
    self, Goal, Mix, Reached, Recipe, Resumed, Session, Setup, SmallestFile, Stage,
};
use crate::quality::{QualityError, Text};
use crate::quantize::packed::Files;
use crate::quantize::{Destination, Importance, Job};
use crate::report::quantize::{Measured, MixReport, Plain};
use crate::scheme::{ListedTypes, Reason, Scheme, type_list};
use crate::units::{Bytes, counted};

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let evaluated = Evaluated::open(&args.model)?;
    let (checkpoint, model) = (evaluated.checkpoint(), evaluated.planner.model());
    let text = Text::open(args.text.text.as_deref())?;
    let others = [&args.imatrix, &args.text.text].into_iter().flatten();
    let inputs = output::inputs(checkpoint, others.cloned());
    let reports = [&args.save_types, &args.save_sensitivity];
    let reports: Vec<_> = reports.into_iter().filter_map(Option::as_deref).collect();
    output::check_all(&reports, &inputs)?;
    let saved_imatrix = mix_state::saved_imatrix(args);
    if let Some(path) = &saved_imatrix {
        check_imatrix(path, args, &inputs)?;
    }
    let destination = args
        .output
        .as_deref()
        .filter(|_| !args.dry_run)
        .map(|path| Destination {
            path,
            overwrite: args.overwrite,
            inputs: inputs.clone(),
        });
    destination
        .as_ref()
        .map_or(Ok(()), Destination::check_file)?;
    let on_board = mix_planner(args, &evaluated)?;
    let files = Files::open(checkpoint)?;
    let given = args.imatrix.as_deref().map(Importance::open).transpose()?;
    let setup = Setup {
        checkpoint,
        files: &files,
        model,
        text: &text,
        chunk_tokens: args.text.chunk_tokens,
        allow_requantize: args.allow_requantize,
        rules: args.rules,
        imatrix_name: mix_state::imatrix_name(args),
        cancel: progress::cancelled_by_signals()?,
    };
    warn_of_long_chunks(model, args.text.chunk_tokens);
    let smallest = SmallestFile::of(&setup, given.as_ref())?;
    refuse_too_small(args, &smallest, on_board.as_ref())?;
    let started = Instant::now();
    let state = State::open(args, &setup, given.as_ref())?;
    let mut resumed = state.resumed(&setup)?;
    resumed.is_given = given.is_some();
    resumed.importance = given.or(resumed.importance);
    say_kept(args, &resumed);
    let spinner = Spinner::new();
    let unsaved = Mutex::new(None);
    let mut tell = |stage: Stage<'_>| {
        if let Err(error) = state.keep(&stage)
            && let Ok(mut unsaved) = unsaved.lock()
        {
            unsaved.get_or_insert(error);
        }
        say(&spinner, &stage);
    };
    let (store, path) = output::unnamed()?;
    let ended = |error: anyhow::Error| state.ended_by(error, &setup.cancel);
    let session = Session::measure(&setup, (store, &path), resumed, &mut tell);
    let mut session = session.map_err(|error| ended(error.into()))?;
    let found = choose(args, &mut session, on_board.as_ref(), &mut tell).map_err(ended)?;
    spinner.clear();
    if let Ok(Some(error)) = unsaved.into_inner() {
        super::warn(&format!(
            "an interruption would have lost what was measured: {error:#}"
        ));
    }
    if let Some(path) = &args.save_sensitivity {
        let document = crate::report::quantize::sensitivity(model, &text, &session, &found.report);
        output::write_file(path, &crate::report::json(&document))?;
    }
    let options = match found.fixed {
        Some(scheme) => session.plain(scheme),
        None => session.options(&found.mix.types),
    };
    let job = Job::new(checkpoint, &files, model, &options)?;
    let made =
        destination.map(|destination| write(args, &job, &destination, &setup.cancel, started));
    let (tallies, made) = made.transpose().map_err(ended)?.unzip();
    state.finish()?;
    // Behind the matrix that it names.
    if let Some(path) = &args.save_types {
        let chosen = job.tensors.iter();
        let chosen = chosen.filter(|tensor| tensor.assigned.reason != Reason::Kept);
        let types = chosen.map(|tensor| (tensor.name.to_owned(), tensor.assigned.dtype));
        let imatrix = args.imatrix.as_deref().or(saved_imatrix.as_deref());
        let listed = ListedTypes {
            types: types.collect(),
            imatrix: imatrix.map(|imatrix| from_list(path, imatrix)),
            scheme: found.fixed.map(|scheme| scheme.id),
        };
        let comment = format!("{} in {}", model.name, found.report.size);
        output::write_file(path, &type_list(&listed, &comment))?;
    }
    let (planner, scheme) = (&evaluated.planner, options.scheme);
    report(
        args,
        planner,
        &job,
        scheme,
        (tallies, made),
        Some(found.report),
    )
}

/// Checks that the importance matrix of a list may be written beside it.
fn check_imatrix(path: &Path, args: &QuantizeArgs, inputs: &Inputs) -> anyhow::Result<()> {
    output::check_no_input(path, inputs)?;
    let is_output = |output: &PathBuf| same_file(output, path);
    if args.output.as_ref().is_some_and(is_output) {
        bail!(
            "{}: the importance matrix is written there, for the list of --save-types; give the output another name",
            path.display()
        );
    }
    // An earlier one is replaced, as the list is.
    if path.exists() && Importance::open(path).is_err() {
        bail!(
            "{}: already exists, and is no importance matrix; it is where that of --save-types is written",
            path.display()
        );
    }
    Ok(())
}

/// The path of an importance matrix as the list at `list` names it: from its own folder, where it is there.
fn from_list(list: &Path, imatrix: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (list, imatrix) = (absolute(list), absolute(imatrix));
    let folder = list.parent().unwrap_or(Path::new(""));
    let named = imatrix.strip_prefix(folder).unwrap_or(&imatrix);
    named.to_string_lossy().into_owned()
}

/// Says what of an earlier run is used again.
fn say_kept(args: &QuantizeArgs, resumed: &Resumed) {
    let probes = counted(resumed.probes.len() as u64, "probe", "probes");
    if resumed.importance.is_some() && !resumed.is_given {
        remote::say(&format!(
            "the importance matrix and {probes} of an earlier run were kept"
        ));
    } else if !resumed.probes.is_empty() {
        remote::say(&format!("{probes} of an earlier run were kept"));
    } else if args.resume {
        remote::say("nothing of an earlier run was kept: there is none with these flags");
    }
}

/// What is written.
struct Found {
    mix: Mix,
    /// The fixed recipe, where the mix is not measurably better.
    fixed: Option<&'static Scheme>,
    report: MixReport,
}

fn choose(
    args: &QuantizeArgs,
    session: &mut Session<'_>,
    on_board: Option<&MixPlanner<'_>>,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<Found> {
    let goal = match (args.target_size, args.target_bpw, args.max_kld) {
        (Some(size), ..) => Goal::Size(size),
        (None, Some(bits), _) => Goal::Size(session.size_of_bits(bits)),
        (None, None, Some(most)) => Goal::Divergence(most),
        (None, None, None) => Goal::Size(board_size(session, on_board, tell)?),
    };
    let Reached {
        mix,
        divergence,
        size,
    } = session.reach(goal, tell)?;
    let own = session.size(&session.options(&mix.types))?;
    let most = size.max(own);
    let recipe = session.recipe(most, tell)?;
    let is_usual = recipe
        .as_ref()
        .is_some_and(|recipe| recipe.scheme.id == mix::USUAL);
    let usual = if is_usual { None } else { session.usual(tell)? };
    // A mix was chosen by a measurement with errors of its own, so it has to be better by more than these.
    let no_worse = |recipe: &&Recipe| {
        let gain = recipe.divergence.above(&divergence);
        let is_enough = args
            .max_kld
            .is_none_or(|most| recipe.divergence.mean().value <= most);
        recipe.bytes <= most && is_enough && gain.value < 2.0 * gain.standard_error
    };
    let fixed = recipe.as_ref().filter(no_worse);
    let fixed = fixed.map(|recipe| recipe.scheme);
    let kinds = session.kinds(&mix);
    let choices = session.choices(&mix, size);
    let plain = |recipe: Recipe| Plain {
        scheme: recipe.scheme.name,
        measured: Measured {
            bytes: recipe.bytes,
            divergence: recipe.divergence,
        },
    };
    let expected = mix.divergence;
    Ok(Found {
        mix,
        fixed,
        report: MixReport {
            size,
            expected,
            measured: Measured {
                bytes: own,
                divergence,
            },
            plain: recipe.map(plain),
            usual: usual.map(plain),
            is_plain: fixed.is_some(),
            text: session.text_name().to_owned(),
            chunks: session.compared,
            reused: session.reused,
            chunk_tokens: args.text.chunk_tokens,
            kinds,
            choices,
        },
    })
}

/// What plans mixes for the board of `--fit`, if there is one, before anything is measured.
fn mix_planner<'a>(
    args: &QuantizeArgs,
    evaluated: &'a Evaluated,
) -> anyhow::Result<Option<MixPlanner<'a>>> {
    let Some(device) = args.fit.as_deref() else {
        return Ok(None);
    };
    let request = Request {
        board: request::device(Some(device)),
        workload: WorkloadRequest {
            context: args.context,
            ..WorkloadRequest::default()
        },
        rules: args.rules,
        ..Request::default()
    };
    Ok(Some(MixPlanner::of(&evaluated.planner, &request)?))
}

/// Refuses a size that no mix has before the minutes that measuring takes.
fn refuse_too_small(
    args: &QuantizeArgs,
    smallest: &SmallestFile,
    on_board: Option<&MixPlanner<'_>>,
) -> anyhow::Result<()> {
    let of_bits = || args.target_bpw.map(|bits| smallest.size_of_bits(bits));
    let least = smallest.bytes;
    if let Some(size) = args
        .target_size
        .or_else(of_bits)
        .filter(|&size| size < least)
    {
        return Err(QualityError::TooSmall { size, least }.into());
    }
    match on_board {
        Some(planner)
            if planner
                .plan(&smallest.types)
                .is_some_and(|plan| !plan.fits()) =>
        {
            Err(fits_none(planner, least))
        }
        _ => Ok(()),
    }
}

fn fits_none(planner: &MixPlanner<'_>, least: Bytes) -> anyhow::Error {
    anyhow::anyhow!(
        "{} cannot hold the smallest file of this model, {least}, with a context of {}; `orinplan fit` says what to change",
        planner.board().device.name,
        crate::units::tokens(planner.context())
    )
}

/// The size of the largest mix that the board of `--fit` runs.
fn board_size(
    session: &mut Session<'_>,
    on_board: Option<&MixPlanner<'_>>,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<Bytes> {
    let planner =
        on_board.context("a size is given by --target-size, --target-bpw, --max-kld or --fit")?;
    let largest = |session: &Session<'_>| {
        session.largest(|size| {
            let plan = session.mix(size).and_then(|mix| planner.plan(&mix.types));
            plan.is_some_and(|plan| plan.fits())
        })
    };
    let without_codebooks = largest(session);
    session.consider_codebooks(without_codebooks.unwrap_or(Bytes(0)), tell)?;
    largest(session).ok_or_else(|| fits_none(planner, session.sizes().0))
}

fn say(spinner: &Spinner, stage: &Stage<'_>) {
    spinner.say(match stage {
        Stage::Loading(read) => format!("loading, {read}"),
        Stage::Activations(done, of) => format!("activations: chunk {done} of {of}"),
        Stage::Importance(..) => "activations".to_owned(),
        Stage::Errors(done, of) => format!("errors of types: tensor {done} of {of}"),
        Stage::Probes(probes, of) => format!("divergence: probe {} of {of}", probes.len()),
        Stage::Predictions(of, done, all) => format!("predictions of {of}: chunk {done} of {all}"),
    });
}
