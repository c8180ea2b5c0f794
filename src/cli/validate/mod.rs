//! `orinplan validate`: open, plan, measure, compare, report, and keep the run for later plans.

mod backend;
mod tried;
mod under_test;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};

use self::backend::{ResolvedBackend, resolve, run_as};
pub(super) use self::tried::{Machine, Tried};
pub(super) use self::under_test::RunUnderTest;
use super::args::{BackendId, ReportFormat, ValidateArgs};
use super::{Outcome, pages, progress, request, settings, show};
use crate::checkpoint::SourceFormat;
use crate::decode::{Engine, Renderer};
use crate::device::{self, Choice, DetectedDevice};
use crate::hub::Purpose;
use crate::plan::Workload;
use crate::plan::fit::Candidate;
use crate::planner::{Board, BoardRequest, GgufHeader, Planner, Schemes, WorkloadRequest};
use crate::report;
use crate::report::validate::{Report, RunResult, SaveResult};
use crate::runtime::learned::Run;
use crate::runtime::{self, Added, RuntimeProfile};
use crate::scheme::Rules;
use crate::validate::{
    self, Backend, MeasureRequest, Measured, Prompt, RanOn, ValidateError, Watched,
};

pub(super) fn run(args: &ValidateArgs) -> anyhow::Result<Outcome> {
    pages::check_named(&args.figure, args.format, &report::html::VALIDATE_FIGURES)?;
    // Only this program's own decoder reads weights itself.
    let purpose = match args.backend {
        BackendId::Candle => Purpose::Make,
        BackendId::LlamaBench | BackendId::Openai | BackendId::Ollama => Purpose::Plan,
    };
    let asked = &args.model;
    let planner = request::open_for(purpose, &asked.model, &asked.read)?;
    // The others are measured by the text that they generate.
    let planner = match args.backend {
        BackendId::Candle => planner,
        BackendId::LlamaBench | BackendId::Openai | BackendId::Ollama => planner.writing()?,
    };
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    let resolved = resolve(args, checkpoint, model)?;
    let board = board(args)?;
    let target = board.target();
    let candidate = candidate(args, &planner, &board.runtime)?;
    let workload = workload(args).of(model, &board.runtime)?;
    let renderer = Renderer {
        program: std::env::current_exe().context("the path of this program is not known")?,
    };
    let backend = resolved.backend(checkpoint, model, &board.runtime, &renderer);
    let run = RunUnderTest {
        model,
        candidate: &candidate,
        workload: &workload,
        tokens: args.tokens,
        // This program's decoder.
        by_prompt: args.backend == BackendId::Candle,
        tolerance: args.tolerance,
        other_modes: true,
    };
    let plan = run.plan(target, &workload)?;
    let mut report = Report {
        model,
        target,
        workload: &workload,
        backend: args.backend.name(),
        plan: &plan,
        result: RunResult::DoesNotFit,
        saved: None,
    };
    if backend.starts_the_model() && !plan.has_room() {
        show(&shown(args, &report)?)?;
        return Ok(Outcome::No);
    }
    let here = device::detect(&super::machine_root()).ok();
    let machine = Machine {
        board: &board,
        ran_on: ran_on(&board, &resolved, here.as_ref()),
        mode_in_force: here.as_ref().and_then(|here| here.power_mode.as_deref()),
    };
    // That the run cannot be kept is said before minutes are spent on it; it is measured all the same.
    if args.save_calibration
        && let Some(why) = not_kept(&machine)
    {
        super::warn(&format!("the run will not be kept: {why}"));
        report.saved = Some(SaveResult::Not { why });
    }

    let request = request(args, &workload);
    let (cancel, spinner) = (progress::cancelled_by_signals()?, progress::Spinner::new());
    let measured = measure(backend, &request, &cancel, &mut |now| spinner.say(now));
    spinner.clear();
    let measured = measured?;
    let tried = run.tried(machine, &request, measured, backend.starts_the_model())?;
    if args.save_calibration && report.saved.is_none() {
        report.saved = Some(learn(&board, run.kept(machine, &tried)?));
    }
    let comparison = &tried.comparison;
    report.result = RunResult::Measured {
        measured: &tried.measured,
        memory: tried.memory,
        comparison,
        checks: &tried.checks,
    };
    show(&shown(args, &report)?)?;
    Ok(if comparison.within() {
        Outcome::Yes
    } else {
        Outcome::No
    })
}

/// Whether the machine that runs the model is the one planned for. The model runs on this machine where this program
/// starts it, and where the server is a process of this user that is not an SSH tunnel.
fn ran_on<'a>(
    board: &Board,
    backend: &ResolvedBackend,
    here: Option<&'a DetectedDevice>,
) -> RanOn<'a> {
    let root = Path::new("/");
    let serves = |url: &String| {
        let port = validate::local_port(url);
        let name = port
            .and_then(|port| device::listener(root, port))
            .and_then(|pid| device::program_name(root, pid));
        name.is_some_and(|name| !name.starts_with("ssh"))
    };
    let is_here = match backend {
        ResolvedBackend::Decoder | ResolvedBackend::LlamaBench { .. } => true,
        ResolvedBackend::OpenAi { url, .. } | ResolvedBackend::Ollama { url, .. } => serves(url),
    };
    let is_shipped = device::ids().any(|id| id == board.device.id);
    match here {
        _ if board.choice == Choice::ThisMachine => RanOn::Planned,
        Some(here) if is_here && is_shipped => {
            if here.profile.id == board.device.id {
                RanOn::Planned
            } else {
                RanOn::Another(&here.profile.name)
            }
        }
        _ => RanOn::Unknown,
    }
}

/// Why a run cannot be kept.
fn not_kept(machine: &Machine<'_>) -> Option<String> {
    match machine.ran_on {
        RanOn::Another(name) => Some(format!(
            "it runs on this machine ({name}), which is not a {}",
            machine.board.device.name
        )),
        _ => settings::check_runs()
            .err()
            .map(|error| super::message(&error)),
    }
}

fn shown(args: &ValidateArgs, report: &Report<'_>) -> anyhow::Result<String> {
    Ok(match args.format {
        ReportFormat::Text => report::validate::text(report, crate::cli::columns()),
        ReportFormat::Json => report::json(&report::validate::document(report)),
        ReportFormat::Markdown => report::validate::markdown(report),
        form @ (ReportFormat::Html | ReportFormat::Svg) => {
            pages::rendered(&report::html::validate(report), form, &args.figure)?
        }
    })
}

/// The device, with the runtime that is named or else that of the backend.
fn board(args: &ValidateArgs) -> anyhow::Result<Board> {
    let named = request::device(Some(&args.device));
    let found = Board::device(&named)?;
    let has_gpu = found.device.gpu.is_some();
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
    let request = BoardRequest {
        power_mode: args.power_mode.clone(),
        runtime,
        ..named
    };
    Ok(request::warned(Board::of(found, &request)?))
}

fn workload(args: &ValidateArgs) -> WorkloadRequest {
    WorkloadRequest {
        context: args.context,
        kv_type: args.kv_cache.kv_type,
        type_k: args.kv_cache.kv_type_k,
        type_v: args.kv_cache.kv_type_v,
        ubatch: args.ubatch,
        prompt_tokens: Some(args.prompt_tokens),
        text_only: true,
        ..WorkloadRequest::default()
    }
}

/// The tensor types that the engine runs: those of the file, or of the scheme that the server quantized it to.
fn candidate(
    args: &ValidateArgs,
    planner: &Planner,
    runtime: &RuntimeProfile,
) -> anyhow::Result<Candidate> {
    let run_as = run_as(args, planner.checkpoint(), planner.model());
    let scheme = args.scheme.as_deref().or(run_as);
    let schemes: Vec<String> = scheme.iter().map(|&id| id.to_owned()).collect();
    let header = GgufHeader::of(planner.checkpoint(), planner.model(), runtime)?;
    header.check(planner.checkpoint(), planner.model())?;
    let found = planner.candidates(runtime, &Schemes::of(&schemes), Rules::default(), &header)?;
    let named = |candidate: &Candidate| match scheme {
        Some(id) => candidate.assignment.scheme.eq_ignore_ascii_case(id),
        None => candidate.assignment.is_stored(),
    };
    let candidate = found.into_iter().find(named).with_context(|| {
        format!(
            "{} does not load {} as stored; name the format that it was quantized to with --scheme",
            runtime.name,
            planner.model().name
        )
    })?;
    let runs_the_file = matches!(args.backend, BackendId::Candle | BackendId::LlamaBench)
        && planner.checkpoint().format == SourceFormat::Gguf;
    if runs_the_file && !candidate.assignment.is_stored() {
        bail!(
            "{} runs as stored; --scheme is for models that a server has quantized: leave it out",
            args.model.model
        );
    }
    Ok(candidate)
}

fn request(args: &ValidateArgs, workload: &Workload) -> MeasureRequest {
    MeasureRequest {
        prompt: match &args.prompt {
            Some(text) => Prompt::Text(text.clone()),
            None => Prompt::Words(args.prompt_tokens),
        },
        chat: args.chat,
        tokens: args.tokens,
        depth: 0,
        context: workload.context,
        ubatch: workload.ubatch,
        kv_types: [workload.type_k, workload.type_v],
        threads: args.threads,
        repeats: usize::try_from(args.repeats).unwrap_or(1),
        timeout: Duration::from_secs(args.timeout),
        at_most: None,
    }
}

/// Measures on this machine; `say` gets the stage.
pub(super) fn measure(
    backend: Backend<'_>,
    request: &MeasureRequest,
    cancel: &AtomicBool,
    say: &mut dyn FnMut(String),
) -> Result<(Measured, Watched), ValidateError> {
    let path = std::env::var_os("PATH");
    let machine = (Path::new("/"), path.as_deref());
    validate::measure(backend, request, machine, cancel, &mut |now| {
        say(match now.of {
            0 => now.stage.clone(),
            of => format!("{}, token {} of {of}", now.stage, now.tokens),
        });
    })
}

/// Adds the run to those on record. Where that fails, the report says so: what was measured is not lost.
fn learn(board: &Board, run: Run) -> SaveResult {
    let disturbed = run.disturbed.clone();
    let why = match settings::keep_run(run) {
        Ok((path, Added::Kept, runs)) => {
            let runtime = runtime::find(&board.runtime.id).ok();
            let learned = runtime
                .and_then(|runtime| runs.learned(&runtime, &board.device.id, &board.mode.name));
            return SaveResult::Kept {
                path,
                disturbed,
                learned: learned.map(Box::new),
            };
        }
        Ok((path, Added::Outweighed, _)) => format!(
            "{} has a run of this model that was not disturbed ({})",
            path.display(),
            disturbed.join(", ")
        ),
        Ok((_, Added::Empty, _)) => "nothing was both predicted and measured".to_owned(),
        Err(error) => super::message(&error),
    };
    SaveResult::Not { why }
}
