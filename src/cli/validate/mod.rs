//! `orinplan validate`: open, plan, measure, compare, report, learn.

mod place;
mod tried;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use self::place::{Place, place};
use self::tried::{Otherwise, Tried};
use super::args::{BackendId, PlainFormat, ValidateArgs};
use super::{Outcome, date, progress, request, settings, show};
use crate::decode::{Engine, Renderer};
use crate::device::{self, Choice, DetectedDevice};
use crate::model::ModelSpec;
use crate::plan::fit::{Candidate, Target};
use crate::plan::{Plan, Workload};
use crate::planner::{Board, BoardRequest, GgufHeader, Planner, Schemes, WorkloadRequest};
use crate::report;
use crate::report::validate::{Report, Saved, Shown};
use crate::runtime::learned::{Pair, Run};
use crate::runtime::{self, Added, RuntimeProfile};
use crate::scheme::Rules;
use crate::validate::{
    self, Backend, CheckContext, Comparison, Measured, PeakMemory, Prompt, Quantity, RanOn,
    Request, Watched,
};

pub(super) fn run(args: &ValidateArgs) -> anyhow::Result<Outcome> {
    let planner = request::open(&args.model)?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    let place = place(args, checkpoint)?;
    let board = request::open_board(&board(args)?)?;
    let target = board.target();
    let candidate = candidate(args, &planner, &board.runtime)?;
    let workload = workload(args).of(model, &board.runtime)?;
    let renderer = Renderer {
        program: std::env::current_exe().context("this program does not know its own place")?,
    };
    let backend = place.backend(checkpoint, model, &board.runtime, &renderer);
    let tried = Tried {
        args,
        model,
        candidate: &candidate,
        workload: &workload,
    };
    let asked = tried.plan(target, &workload)?;
    let mut report = Report {
        model,
        target,
        workload: &workload,
        backend: args.backend.name(),
        plan: &asked,
        result: Shown::DoesNotFit,
        saved: None,
    };
    if backend.starts_the_model() && !asked.fits() {
        show(&shown(args, &report))?;
        return Ok(Outcome::No);
    }
    let here = device::detect(&super::machine_root()).ok();
    let ran_on = ran_on(&board, &place, here.as_ref());
    // What cannot be kept is said before minutes are spent on it, and measured all the same.
    if args.save_calibration
        && let Some(why) = not_kept(&board, ran_on)
    {
        super::warn(&format!("the run will not be kept: {why}"));
        report.saved = Some(Saved::Not { why });
    }

    let request = request(args, &workload);
    let (mut measured, watched) = measure(backend, &request)?;
    let mut memory = PeakMemory::of(&measured, &watched, backend.starts_the_model());
    validate::believe_counts(&mut measured, &request);
    let otherwise = tried.otherwise(target, &measured)?;
    let limits = tried.limits(target, &measured, &otherwise)?;
    validate::believe_figures(&mut measured, &mut memory, &limits);
    let mut comparison = tried.compare(target, &measured, memory)?;
    if let RanOn::Another(_) = ran_on {
        comparison = comparison.elsewhere();
    }
    let in_force = here.as_ref().and_then(|here| here.power_mode.as_deref());
    let checks = validate::check(&CheckContext {
        device: &board.device,
        mode: &board.mode,
        backend: board.runtime.backend,
        mode_in_force: in_force,
        watched: &watched,
        measured: &measured,
        comparison: &comparison,
        suspects: &otherwise.iter().map(Otherwise::suspect).collect::<Vec<_>>(),
        ran_on,
    });
    if args.save_calibration && report.saved.is_none() {
        // Against the bare profile: what was learned before must not be learned twice.
        let runtime = &runtime::find(&board.runtime.id)?;
        let bare = tried.compare(Target { runtime, ..target }, &measured, memory)?;
        let disturbed = checks.iter().filter(|check| check.holds());
        let disturbed = disturbed.map(|check| check.code).collect();
        report.saved = Some(learn(&board, model, &asked, &measured, &bare, disturbed));
    }
    report.result = Shown::Measured {
        measured: &measured,
        memory,
        comparison: &comparison,
        checks: &checks,
    };
    show(&shown(args, &report))?;
    Ok(match comparison.within() {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

/// The machine that runs the model: this one, where it is loaded or a server of this user's has it that is no way
/// to another machine; and whether that is what was planned for.
fn ran_on<'a>(board: &Board, place: &Place, here: Option<&'a DetectedDevice>) -> RanOn<'a> {
    let root = Path::new("/");
    let serves = |url: &String| {
        let port = validate::local_port(url);
        let name = port
            .and_then(|port| device::listener(root, port))
            .and_then(|pid| device::program_name(root, pid));
        name.is_some_and(|name| !name.starts_with("ssh"))
    };
    let is_here = match place {
        Place::Here { .. } => true,
        Place::OpenAi { url, .. } | Place::Ollama { url, .. } => serves(url),
    };
    let is_ours = device::ids().any(|id| id == board.device.id);
    match here {
        _ if board.choice == Choice::ThisMachine => RanOn::Planned,
        Some(here) if is_here && is_ours => match here.profile.id == board.device.id {
            true => RanOn::Planned,
            false => RanOn::Another(&here.profile.name),
        },
        _ => RanOn::Unknown,
    }
}

/// Why a run cannot be kept.
fn not_kept(board: &Board, ran_on: RanOn<'_>) -> Option<String> {
    match ran_on {
        RanOn::Another(name) => Some(format!(
            "it runs on this machine ({name}), which is no {}",
            board.device.name
        )),
        _ => settings::check_runs()
            .err()
            .map(|error| super::told(&error)),
    }
}

fn shown(args: &ValidateArgs, report: &Report<'_>) -> String {
    match args.format {
        PlainFormat::Text => report::validate::text(report),
        PlainFormat::Json => report::json(&report::validate::document(report)),
    }
}

/// The device and the runtime that the backend stands for, unless another is named.
fn board(args: &ValidateArgs) -> anyhow::Result<BoardRequest> {
    let named = request::device(Some(&args.device));
    let has_gpu = Board::device(&named)?.device.gpu.is_some();
    let runtime = match (&args.runtime, args.backend) {
        (Some(id), _) => Some(id.clone()),
        (None, BackendId::Candle) if has_gpu && Engine::Cuda.is_there() => {
            Some("candle".to_owned())
        }
        (None, BackendId::Candle) => Some("candle-cpu".to_owned()),
        (None, BackendId::LlamaBench) if has_gpu => Some("llama-bench".to_owned()),
        (None, BackendId::Ollama) if has_gpu => Some("ollama".to_owned()),
        // llama.cpp's server, which is the default of every plan.
        (None, _) => None,
    };
    Ok(BoardRequest {
        power_mode: args.power_mode.clone(),
        runtime,
        ..named
    })
}

fn workload(args: &ValidateArgs) -> WorkloadRequest {
    WorkloadRequest {
        context: args.context,
        kv_type: args.kv_type,
        ubatch: args.ubatch,
        prompt_tokens: Some(args.prompt_tokens),
        text_only: true,
        ..WorkloadRequest::default()
    }
}

/// The types that the engine runs: those of the file, or of the scheme that a server made of it.
fn candidate(
    args: &ValidateArgs,
    planner: &Planner,
    runtime: &RuntimeProfile,
) -> anyhow::Result<Candidate> {
    let schemes: Vec<String> = args.scheme.iter().cloned().collect();
    let header = GgufHeader::of(planner.checkpoint(), planner.model(), runtime)?;
    let found = planner.candidates(runtime, &Schemes::of(&schemes), Rules::default(), &header)?;
    let named = |candidate: &Candidate| match &args.scheme {
        Some(id) => candidate.assignment.scheme.eq_ignore_ascii_case(id),
        None => candidate.assignment.is_stored(),
    };
    found.into_iter().find(named).with_context(|| {
        format!(
            "{} does not load {} as it is stored; name the format that it was given with --scheme",
            runtime.name,
            planner.model().name
        )
    })
}

fn request(args: &ValidateArgs, workload: &Workload) -> Request {
    Request {
        prompt: match &args.prompt {
            Some(text) => Prompt::Text(text.clone()),
            None => Prompt::Words(args.prompt_tokens),
        },
        chat: args.chat,
        tokens: args.tokens,
        context: workload.context,
        ubatch: workload.ubatch,
        kv_type: workload.type_k,
        threads: args.threads,
        repeats: usize::try_from(args.repeats).unwrap_or(1),
        timeout: Duration::from_secs(args.timeout),
    }
}

fn measure(backend: Backend<'_>, request: &Request) -> anyhow::Result<(Measured, Watched)> {
    let cancel = progress::cancelled_by_signals()?;
    let spinner = progress::Spinner::new();
    let path = std::env::var_os("PATH");
    let machine = (Path::new("/"), path.as_deref());
    let outcome = validate::measure(backend, request, machine, &cancel, &mut |now| {
        spinner.say(match now.of {
            0 => now.stage.clone(),
            of => format!("{}, token {} of {of}", now.stage, now.tokens),
        });
    });
    spinner.clear();
    Ok(outcome?)
}

/// Adds the run to those on record, with the reasons for which it may be off. That it cannot be is no
/// reason to lose what was measured: the report says so.
fn learn(
    board: &Board,
    model: &ModelSpec,
    plan: &Plan,
    measured: &Measured,
    bare: &Comparison,
    disturbed: Vec<&'static str>,
) -> Saved {
    let pair = |quantity| {
        let line = bare.line(quantity).filter(|line| line.judged)?;
        Pair::new(line.predicted?.expected, line.measured?.mean)
    };
    let run = Run {
        date: date::today(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime: board.runtime.id.clone(),
        engine: measured.engine.clone(),
        device: board.device.id.clone(),
        power_mode: board.mode.name.clone(),
        model: model.name.clone(),
        scheme: plan.assignment.scheme.clone(),
        disturbed: disturbed.iter().map(|&code| code.to_owned()).collect(),
        decode: pair(Quantity::Decode),
        prefill: pair(Quantity::Prefill),
        memory: pair(Quantity::Memory),
    };
    let why = match settings::keep_run(run) {
        Ok((path, Added::Kept)) => return Saved::Kept { path, disturbed },
        Ok((path, Added::Outweighed)) => format!(
            "{} has a run of this model that was not disturbed ({})",
            path.display(),
            disturbed.join(", ")
        ),
        Ok((_, Added::Empty)) => "nothing was both predicted and measured".to_owned(),
        Err(error) => super::told(&error),
    };
    Saved::Not { why }
}
