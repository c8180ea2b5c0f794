//! `orinplan validate`: open, plan, measure, compare, report, learn.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::{BackendId, BoardArgs, PlainFormat, ValidateArgs};
use super::fit::{Board, header, open, open_device, wanted};
use super::{Outcome, date, print, progress, settings};
use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::decode::Engine;
use crate::device;
use crate::model::ModelSpec;
use crate::plan::candidates::{Wanted, candidates};
use crate::plan::fit::{Candidate, Target};
use crate::plan::{Plan, Workload, fit};
use crate::report;
use crate::report::validate::{Report, Result as Shown, Saved};
use crate::runtime::learned::{Pair, Run};
use crate::runtime::{self, RuntimeProfile};
use crate::scheme::Rules;
use crate::validate::{
    self, Backend, Comparison, Measured, PeakMemory, Predicted, Prompt, Quantity, Request, Scene,
    Watched,
};

/// Where a server is if no address is given.
const LLAMA_SERVER: &str = "http://127.0.0.1:8080";
const OLLAMA: &str = "http://127.0.0.1:11434";

pub(super) fn run(args: &ValidateArgs) -> anyhow::Result<Outcome> {
    let (checkpoint, model) = open(&args.model)?;
    let board = Board::open(&board_args(args)?)?;
    let target = board.target(None);
    let candidate = candidate(args, &checkpoint, &model, &board.runtime)?;
    let workload = workload(args, &model);
    let place = place(args, &checkpoint)?;
    let backend = place.backend(&checkpoint, &model, &board.runtime);
    let asked = plan(&model, &candidate, target, &workload)?;
    let mut report = Report {
        model: &model,
        target,
        workload: &workload,
        backend: args.backend.name(),
        plan: &asked,
        result: Shown::DoesNotFit,
        saved: None,
    };
    if backend.starts_the_model() && !asked.fits() {
        print(&shown(args, &report))?;
        return Ok(Outcome::No);
    }

    let (measured, watched) = measure(args, backend, &workload)?;
    let memory = PeakMemory::of(&measured, &watched, backend.starts_the_model());
    let compared = |runtime: &RuntimeProfile| {
        let target = Target { runtime, ..target };
        compare(
            args, &model, &candidate, target, &workload, &measured, memory,
        )
    };
    let comparison = compared(&board.runtime)?;
    let in_force = device::detect(Path::new("/"))
        .ok()
        .and_then(|found| found.power_mode);
    let checks = validate::check(&Scene {
        device: &board.device,
        mode: &board.mode,
        backend: board.runtime.backend,
        mode_in_force: in_force.as_deref(),
        watched: &watched,
        measured: &measured,
        comparison: &comparison,
    });
    if args.save_calibration {
        // Against the bare profile: what was learned before must not be learned twice.
        let bare = compared(&runtime::find(&board.runtime.id)?)?;
        let disturbed = checks.iter().filter(|check| check.holds());
        let disturbed = disturbed.map(|check| check.code).collect();
        report.saved = Some(learn(&board, &model, &asked, &measured, &bare, disturbed)?);
    }
    report.result = Shown::Measured {
        measured: &measured,
        memory,
        comparison: &comparison,
        checks: &checks,
    };
    print(&shown(args, &report))?;
    Ok(match comparison.within() {
        true => Outcome::Yes,
        false => Outcome::No,
    })
}

fn shown(args: &ValidateArgs, report: &Report<'_>) -> String {
    match args.format {
        PlainFormat::Text => report::validate::text(report),
        PlainFormat::Json => report::json(&report::validate::document(report)),
    }
}

/// The device and the runtime that the backend stands for, unless another is named.
fn board_args(args: &ValidateArgs) -> anyhow::Result<BoardArgs> {
    let has_gpu = open_device(&args.device)?.gpu.is_some();
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
    Ok(BoardArgs {
        runtime_version: None,
        device: args.device.clone(),
        power_mode: args.power_mode.clone(),
        what_if: Vec::new(),
        runtime,
    })
}

fn workload(args: &ValidateArgs, model: &ModelSpec) -> Workload {
    let limit = match model.dims.context {
        0 => u64::MAX,
        limit => limit,
    };
    Workload {
        context: args.context.unwrap_or(4096.min(limit)),
        type_k: args.kv_type,
        type_v: args.kv_type,
        ubatch: args.ubatch,
        prompt_tokens: args.prompt_tokens,
        text_only: true,
        ..Workload::default()
    }
}

/// The types that the engine runs: those of the file, or of the scheme that a server made of it.
fn candidate(
    args: &ValidateArgs,
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
) -> anyhow::Result<Candidate> {
    let schemes: Vec<String> = args.scheme.iter().cloned().collect();
    let wanted: Wanted = wanted(&schemes);
    let rules = Rules::ALL[0].1;
    let found = candidates(
        checkpoint,
        model,
        runtime,
        &wanted,
        rules,
        &header(checkpoint, model),
    )?;
    let named = |candidate: &Candidate| match &args.scheme {
        Some(id) => candidate.assignment.scheme.eq_ignore_ascii_case(id),
        None => candidate.assignment.is_stored(),
    };
    found.into_iter().find(named).with_context(|| {
        format!(
            "{} does not load {} as it is stored; name the format that it was given with --scheme",
            runtime.name, model.name
        )
    })
}

fn plan(
    model: &ModelSpec,
    candidate: &Candidate,
    target: Target<'_>,
    workload: &Workload,
) -> anyhow::Result<Plan> {
    let planned = fit(model, vec![candidate.clone()], target, workload);
    planned
        .plans
        .into_iter()
        .next()
        .context("there is no plan to try")
}

/// Where the model runs, with all that was looked up for that.
enum Place {
    Here {
        gguf: PathBuf,
        program: Option<PathBuf>,
    },
    OpenAi {
        url: String,
        served: Option<String>,
    },
    Ollama {
        url: String,
        served: String,
    },
}

impl Place {
    fn backend<'a>(
        &'a self,
        checkpoint: &'a Checkpoint,
        spec: &'a ModelSpec,
        runtime: &RuntimeProfile,
    ) -> Backend<'a> {
        match self {
            Place::Here { program: None, .. } => Backend::Candle {
                checkpoint,
                spec,
                engine: match runtime.backend {
                    runtime::profile::Backend::Cpu => Engine::Cpu,
                    runtime::profile::Backend::Cuda => Engine::Cuda,
                },
            },
            Place::Here {
                program: Some(program),
                gguf,
            } => Backend::LlamaBench {
                program,
                model: gguf,
            },
            Place::OpenAi { url, served } => Backend::OpenAi {
                url,
                served: served.as_deref(),
            },
            Place::Ollama { url, served } => Backend::Ollama { url, served },
        }
    }
}

fn place(args: &ValidateArgs, checkpoint: &Checkpoint) -> anyhow::Result<Place> {
    let url = |usual: &str| -> anyhow::Result<String> {
        let url = args.url.clone().unwrap_or_else(|| usual.to_owned());
        if validate::local_port(&url).is_none() && args.device.eq_ignore_ascii_case(device::HOST) {
            bail!(
                "{url} is another machine: name its board with --device, such as --device orin-nano-8gb"
            );
        }
        Ok(url)
    };
    let is_server = matches!(args.backend, BackendId::Openai | BackendId::Ollama);
    if args.url.is_some() && !is_server {
        bail!(
            "--url is for --backend openai and ollama; {} runs here",
            args.backend.name()
        );
    }
    if args.threads.is_some() && args.backend != BackendId::LlamaBench {
        bail!(
            "--threads is for --backend llama-bench; a server was started with its own, and candle takes those of CANDLE_NUM_THREADS"
        );
    }
    if args.program.is_some() && args.backend != BackendId::LlamaBench {
        bail!("--program is for --backend llama-bench");
    }
    Ok(match args.backend {
        BackendId::Candle => Place::Here {
            gguf: gguf(checkpoint)?,
            program: None,
        },
        BackendId::LlamaBench => Place::Here {
            gguf: gguf(checkpoint)?,
            program: Some(program(args)?),
        },
        BackendId::Openai => Place::OpenAi {
            url: url(LLAMA_SERVER)?,
            served: args.served_model.clone(),
        },
        BackendId::Ollama => Place::Ollama {
            url: url(OLLAMA)?,
            served: match (&args.served_model, Path::new(&args.model.model).exists()) {
                (Some(name), _) => name.clone(),
                (None, false) => args.model.model.clone(),
                (None, true) => bail!(
                    "{} is a file: say under which tag Ollama has it with --served-model",
                    args.model.model
                ),
            },
        },
    })
}

fn program(args: &ValidateArgs) -> anyhow::Result<PathBuf> {
    if let Some(program) = &args.program {
        return Ok(program.clone());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places: Vec<PathBuf> = home
        .into_iter()
        .chain(std::env::current_dir().ok())
        .collect();
    Ok(validate::find_llama_bench(
        std::env::var_os("PATH").as_deref(),
        &places,
    )?)
}

/// The GGUF that a program is given; the first part of a split one leads to the others.
fn gguf(checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
    if checkpoint.format != SourceFormat::Gguf {
        bail!("this backend loads a GGUF file; make one with `orinplan quantize`");
    }
    let file = checkpoint
        .files
        .first()
        .context("the checkpoint has no file")?;
    if crate::input::is_header_only(&file.path) {
        bail!(
            "{} is a header without weights: there is nothing to run",
            file.path.display()
        );
    }
    Ok(file.path.clone())
}

fn measure(
    args: &ValidateArgs,
    backend: Backend<'_>,
    workload: &Workload,
) -> anyhow::Result<(Measured, Watched)> {
    let request = Request {
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
    };
    let cancel = progress::cancelled_by_signals()?;
    let spinner = progress::Spinner::new();
    let outcome = validate::measure(backend, &request, Path::new("/"), &cancel, &mut |now| {
        spinner.say(match now.of {
            0 => now.stage.clone(),
            of => format!("{}, token {} of {of}", now.stage, now.tokens),
        });
    });
    spinner.clear();
    Ok(outcome?)
}

/// Plans what was measured, the prompt as long as the engine counted it and decode at its mean depth,
/// and compares.
fn compare(
    args: &ValidateArgs,
    model: &ModelSpec,
    candidate: &Candidate,
    target: Target<'_>,
    workload: &Workload,
    measured: &Measured,
    memory: PeakMemory,
) -> anyhow::Result<Comparison> {
    let asked = measured.prompt_tokens.unwrap_or(workload.prompt_tokens);
    // The decoder of this program makes room for what it is given; others reserve a whole ubatch.
    let ubatch = match args.backend {
        BackendId::Candle => workload.ubatch.min(asked),
        _ => workload.ubatch,
    };
    let at = |prompt_tokens| {
        let workload = Workload {
            prompt_tokens,
            ubatch,
            ..workload.clone()
        };
        plan(model, candidate, target, &workload)
    };
    let own = &target.runtime.memory.runtime_bytes;
    let bytes = |bytes: f64| crate::units::Bytes(bytes.max(0.0) as u64);
    let predicted = Predicted {
        prompt: &at(asked)?,
        depth: &at(measured.decode_depth + measured.generated_tokens / 2)?,
        memory_slack: (
            bytes(own.expected - own.low),
            bytes(own.high - own.expected),
        ),
    };
    let peak = memory.compared(target.device);
    Ok(validate::compare(predicted, measured, peak, args.tolerance))
}

/// Adds the run to those on record, with the reasons for which it may be off.
fn learn(
    board: &Board,
    model: &ModelSpec,
    plan: &Plan,
    measured: &Measured,
    bare: &Comparison,
    disturbed: Vec<&'static str>,
) -> anyhow::Result<Saved> {
    let pair = |quantity| {
        let line = bare.line(quantity).filter(|line| line.judged)?;
        Some(Pair {
            predicted: line.predicted?.expected,
            measured: line.measured.mean,
        })
    };
    let mut runs = settings::runs()?;
    let kept = runs.add(Run {
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
    });
    Ok(Saved {
        path: settings::keep_runs(&runs)?,
        kept,
        disturbed,
    })
}
