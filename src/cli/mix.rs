//! `orinplan quantize` to a size: measures what types cost, chooses them, compares the result with a fixed recipe, and
//! writes the better of the two.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::QuantizeArgs;
use super::evaluated::Evaluated;
use super::mix_state::State;
use super::progress::{self, Spinner};
use super::written::{report, write};
use super::{Outcome, output, request};
use crate::planner::{MixPlanner, Request, WorkloadRequest};
use crate::quality::mix::{Mix, Session, Setup, Stage};
use crate::quality::{Divergence, Text};
use crate::quantize::packed::Files;
use crate::quantize::{Destination, Importance, Job};
use crate::report::quantize::{Measured, MixReport, Plain};
use crate::scheme::{Reason, SCHEMES, Scheme, type_list};
use crate::units::Bytes;

/// Mixes that are evaluated at most until one is within the divergence asked for.
const TRIALS: usize = 5;

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let evaluated = Evaluated::open(&args.model)?;
    let (checkpoint, model) = (evaluated.checkpoint(), evaluated.planner.model());
    let text = Text::open(args.text.text.as_deref())?;
    let others = [&args.imatrix, &args.text.text].into_iter().flatten();
    let inputs = output::inputs(checkpoint, others.cloned());
    let reports = [&args.save_types, &args.save_sensitivity];
    let reports: Vec<_> = reports.into_iter().filter_map(Option::as_deref).collect();
    output::check_all(&reports, &inputs)?;
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
        cancel: progress::cancelled_by_signals()?,
    };
    let started = Instant::now();
    let state = State::open(args, &setup, given.as_ref())?;
    let mut resumed = state.resumed()?;
    resumed.importance = given.or(resumed.importance);
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
    let session = Session::measure(&setup, (store, &path), resumed, &mut tell)?;
    let found = choose(args, &session, &evaluated, &mut tell)?;
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
    if let Some(path) = &args.save_types {
        let chosen = job.tensors.iter();
        let chosen = chosen.filter(|tensor| tensor.assigned.reason != Reason::Kept);
        let types = chosen.map(|tensor| (tensor.name.to_owned(), tensor.assigned.dtype));
        let comment = format!("{} in {}", model.name, found.report.size);
        output::write_file(path, &type_list(&types.collect(), &comment))?;
    }
    let made =
        destination.map(|destination| write(args, &job, &destination, &setup.cancel, started));
    let (tallies, made) = made.transpose()?.unzip();
    state.remove();
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

/// What is written.
struct Found {
    mix: Mix,
    /// The fixed recipe, where it is no worse than the mix.
    fixed: Option<&'static Scheme>,
    report: MixReport,
}

fn choose(
    args: &QuantizeArgs,
    session: &Session<'_>,
    evaluated: &Evaluated,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<Found> {
    let (mix, divergence, size) = match (args.target_size, args.target_bpw, args.max_kld) {
        (Some(size), ..) => of_size(session, size, tell)?,
        (None, Some(bits), _) => of_size(session, session.size_of_bits(bits), tell)?,
        (None, None, Some(most)) => of_divergence(session, most, tell)?,
        (None, None, None) => of_size(session, board_size(args, session, evaluated)?, tell)?,
    };
    let own = session.size(&session.options(&mix.types))?;
    let most = size.max(own);
    let plain = plain(session, most, tell)?;
    let fixed = plain.as_ref().filter(|(_, plain)| {
        let plain = &plain.measured;
        plain.bytes <= most && plain.divergence.mean().value <= divergence.mean().value
    });
    let fixed = fixed.map(|(scheme, _)| *scheme);
    let kinds = session.kinds(&mix);
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
            plain: plain.map(|(_, plain)| plain),
            is_plain: fixed.is_some(),
            text: session.text_name().to_owned(),
            chunks: session.compared,
            chunk_tokens: args.text.chunk_tokens,
            kinds,
        },
    })
}

/// The mix for `size`, and its divergence.
fn of_size(
    session: &Session<'_>,
    size: Bytes,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<(Mix, Divergence, Bytes)> {
    let Some(mix) = session.mix(size) else {
        let (least, _) = session.sizes();
        bail!(
            "{size} ({} bytes) is less than the smallest file of this model, {least} ({} bytes)",
            size.0,
            least.0
        );
    };
    let divergence = session.evaluate("the mix", &session.options(&mix.types), tell)?;
    Ok((mix, divergence, size))
}

/// The smallest mix whose measured divergence is at most `most`. The measured divergence of one mix says by how much
/// the expected ones of others are off.
fn of_divergence(
    session: &Session<'_>,
    most: f64,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<(Mix, Divergence, Bytes)> {
    let (least, largest) = session.sizes();
    let smallest = |wanted: f64| {
        let (mut low, mut high) = (least.0, largest.0);
        while low < high {
            let middle = low.midpoint(high);
            match session.mix(Bytes(middle)) {
                Some(mix) if mix.divergence <= wanted => high = middle,
                _ => low = middle + 1,
            }
        }
        session.mix(Bytes(low)).map(|mix| (mix, Bytes(low)))
    };
    let mut factor = 1.0;
    let mut best: Option<(Mix, Divergence, Bytes)> = None;
    for _ in 0..TRIALS {
        let (mix, size) = smallest(most / factor).context("the model has no tensor to quantize")?;
        if best.as_ref().is_some_and(|(_, _, found)| *found <= size) {
            break;
        }
        let divergence = session.evaluate("a mix", &session.options(&mix.types), tell)?;
        let mean = divergence.mean().value;
        factor = mean / mix.divergence.max(f64::MIN_POSITIVE) * 1.02;
        if mean <= most {
            best = Some((mix, divergence, size));
        } else if size >= largest {
            break;
        }
    }
    best.with_context(|| {
        format!("no file of this model was found that diverges by {most} at most; the largest has {largest}")
    })
}

/// The size of the largest mix that the board of `--fit` runs. Larger ones fit no better, so halves are taken.
fn board_size(
    args: &QuantizeArgs,
    session: &Session<'_>,
    evaluated: &Evaluated,
) -> anyhow::Result<Bytes> {
    let request = Request {
        board: request::device(args.fit.as_deref()),
        workload: WorkloadRequest {
            context: args.context,
            ..WorkloadRequest::default()
        },
        rules: args.rules,
        ..Request::default()
    };
    let planner = MixPlanner::of(&evaluated.planner, &request)?;
    let fits = |size: u64| {
        let mix = session.mix(Bytes(size));
        let plan = mix.and_then(|mix| planner.plan(&mix.types));
        plan.is_some_and(|plan| plan.fits())
    };
    let (least, largest) = session.sizes();
    if !fits(least.0) {
        bail!(
            "{} has no room for the smallest file of this model, {least}, at a context of {}; `orinplan fit` says what to change",
            planner.board().device.name,
            crate::units::tokens(planner.context())
        );
    }
    let (mut low, mut high) = (least.0, largest.0);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(Bytes(low))
}

/// The largest fixed recipe of at most `size`, and its divergence.
fn plain(
    session: &Session<'_>,
    size: Bytes,
    tell: &mut (dyn FnMut(Stage<'_>) + Send),
) -> anyhow::Result<Option<(&'static Scheme, Plain)>> {
    /// Bytes of the keys of an importance matrix, which published files of these recipes may be without.
    const KEYS: Bytes = Bytes(1024);
    let mut found: Option<(&'static Scheme, Bytes)> = None;
    for scheme in SCHEMES.iter().filter(|scheme| scheme.is_recipe()) {
        let bytes = session.size(&session.plain(scheme))?;
        if bytes <= size + KEYS && found.is_none_or(|(_, most)| bytes > most) {
            found = Some((scheme, bytes));
        }
    }
    let Some((scheme, bytes)) = found else {
        return Ok(None);
    };
    let divergence = session.evaluate(scheme.name, &session.plain(scheme), tell)?;
    let plain = Plain {
        scheme: scheme.name,
        measured: Measured { bytes, divergence },
    };
    Ok(Some((scheme, plain)))
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
