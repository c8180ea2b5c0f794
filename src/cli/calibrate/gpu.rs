//! The GPU's part of `orinplan calibrate`: llama-bench runs synthetic models, each within the time that is left, and every
//! run becomes one as `validate --save-calibration` keeps it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cli::args::CalibrateArgs;
use crate::cli::validate::{Machine, RunUnderTest, measure};
use crate::cli::{machine_root, message, progress, request, settings};
use crate::device::{self, HOST};
use crate::plan::Workload;
use crate::plan::fit::Candidate;
use crate::planner::{Board, BoardRequest, WorkloadRequest};
use crate::report::calibrate::{GpuRun, GpuRuns};
use crate::runtime;
use crate::runtime::learned::Run;
use crate::scheme::{self, Container};
use crate::units::Bytes;
use crate::validate::{
    self, Backend, Metric, RanOn, SyntheticFile, SyntheticModel, SyntheticRun, ValidateError,
};

/// The runtime that is measured, by the id of its profile.
const RUNTIME: &str = "llama-bench";

/// Percent that a prediction may be off before reasons are looked for, as `validate` has it.
const TOLERANCE: f64 = 15.0;

/// What measures the GPU of this machine.
pub(super) struct GpuBench {
    program: PathBuf,
    launcher: PathBuf,
    board: Board,
    mode_in_force: Option<String>,
    time: Duration,
}

/// Why measuring ended early.
enum Stop {
    /// The user asked for it.
    Cancelled,
    /// What is missing, and what to do.
    Short(String),
}

impl From<validate::CalibrateError> for Stop {
    fn from(error: validate::CalibrateError) -> Stop {
        Stop::Short(error.to_string())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Short(message(&error))
    }
}

/// Finds what is needed, before anything is measured; or says why the GPU cannot be.
///
/// # Errors
/// A program that was named and is none.
pub(super) fn find(args: &CalibrateArgs) -> anyhow::Result<Result<GpuBench, String>> {
    let named = args.program.as_ref().map(|program| {
        ensure!(program.is_file(), "{}: no such file", program.display());
        anyhow::Ok(std::path::absolute(program)?)
    });
    let named = named.transpose()?;
    let wanted = request::device(Some(HOST));
    let found = Board::device(&wanted)?;
    if found.device.gpu.is_none() {
        return Ok(Err("orinplan knows no GPU of this machine".to_owned()));
    }
    let program = match named {
        Some(program) => program,
        None => match validate::find_llama_bench(std::env::var_os("PATH").as_deref()) {
            Ok(program) => program,
            Err(error) => return Ok(Err(error.to_string())),
        },
    };
    if let Err(error) = settings::check_runs() {
        return Ok(Err(message(&error)));
    }
    let wanted = BoardRequest {
        runtime: Some(RUNTIME.to_owned()),
        ..wanted
    };
    Ok(Ok(GpuBench {
        program,
        launcher: std::env::current_exe().context("the path of this program is not known")?,
        board: request::warned(Board::of(found, &wanted)?),
        mode_in_force: device::detect(&machine_root())?.power_mode,
        time: Duration::from_secs(args.seconds),
    }))
}

impl GpuBench {
    /// Runs the models. What was measured counts where there is no time, memory or program for the rest.
    ///
    /// # Errors
    /// [`ValidateError::Cancelled`] once `cancel` is set.
    pub(super) fn measure(
        &self,
        cancel: &AtomicBool,
        spinner: &progress::Spinner,
    ) -> Result<Result<GpuRuns, String>, ValidateError> {
        let until = Instant::now() + self.time;
        let mut runs = Vec::new();
        let mut missing = None;
        for model in SyntheticModel::all() {
            match self.run_model(&model, until, cancel, spinner, &mut runs) {
                Ok(()) => {}
                Err(Stop::Cancelled) => return Err(ValidateError::Cancelled),
                Err(Stop::Short(why)) => {
                    missing = Some(why);
                    break;
                }
            }
        }
        Ok(match missing {
            Some(why) if runs.is_empty() => Err(why),
            missing => Ok(GpuRuns {
                device: self.board.device.name.clone(),
                runs,
                missing,
                ..GpuRuns::default()
            }),
        })
    }

    /// Runs a model in all of its ways, and adds what was measured to `runs`.
    fn run_model(
        &self,
        model: &SyntheticModel,
        until: Instant,
        cancel: &AtomicBool,
        spinner: &progress::Spinner,
        runs: &mut Vec<GpuRun>,
    ) -> Result<(), Stop> {
        let file = model.open()?;
        let scheme = model.dtype().name().to_lowercase();
        let candidate = Candidate {
            assignment: scheme::stored(file.spec(), &scheme, Container::Gguf),
            file_bytes: file.bytes(),
            quality: None,
            notes: Vec::new(),
        };
        self.check_memory(&file, &candidate, model.runs())?;
        file.fill()?;
        for (asked, number) in model.runs().iter().zip(1..) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.too_slow());
            }
            let request = asked.request(left);
            let backend = Backend::LlamaBench {
                program: &self.program,
                launcher: &self.launcher,
                model: file.path(),
            };
            let what = format!("{}, run {number} of {}", model.name(), model.runs().len());
            let measured = measure(backend, &request, cancel, &mut |now| {
                spinner.say(format!("{what}: {now}"));
            });
            let measured = match measured {
                Ok(measured) => measured,
                Err(ValidateError::Cancelled) => return Err(Stop::Cancelled),
                Err(_) if Instant::now() >= until => return Err(self.too_slow()),
                Err(error) => return Err(Stop::Short(error.to_string())),
            };
            let engine = &measured.0.engine;
            if !measured.0.backends.contains("CUDA") {
                return Err(Stop::Short(format!(
                    "{} ({engine}) was built without CUDA: build llama.cpp with -DGGML_CUDA=ON, and name its llama-bench with --program",
                    self.program.display()
                )));
            }
            let workload = self.workload(&file, asked)?;
            let run = under_test(&file, &candidate, &workload, request.tokens);
            let machine = Machine {
                board: &self.board,
                ran_on: RanOn::Planned,
                mode_in_force: self.mode_in_force.as_deref(),
            };
            let tried = run.tried(machine, &request, measured, true)?;
            let mut kept = run.kept(machine, &tried)?;
            // What rates this machine has is the question: by itself one that another mode would have is no disturbance.
            kept.disturbed.retain(|code| code != "slow_rate");
            let rejected = tried.measured.rejected.into_iter();
            let rejected = rejected.filter(|figure| figure.metric != Metric::Memory);
            let mut rejected: Vec<String> = rejected.map(|figure| figure.reason).collect();
            if kept.decode.is_none() && kept.prefill.is_none() && rejected.is_empty() {
                rejected.push("its rate is more than 100 times off the prediction".to_owned());
            }
            runs.push(GpuRun {
                run: Run {
                    synthetic: true,
                    // Without a tokenizer it takes less than any model that generates text.
                    memory: None,
                    ..kept
                },
                prompt: asked.prompt,
                depth: asked.depth,
                rejected,
            });
        }
        Ok(())
    }

    fn too_slow(&self) -> Stop {
        let seconds = self.time.as_secs();
        Stop::Short(format!(
            "llama-bench took longer than {seconds} s: allow more time, such as --seconds {}",
            seconds * 3
        ))
    }

    /// The workload of a run. A decode after a full cache is that after a prompt of its length, and one without a prompt is
    /// that after a single token.
    fn workload(&self, file: &SyntheticFile, asked: &SyntheticRun) -> anyhow::Result<Workload> {
        let wanted = WorkloadRequest {
            context: Some(asked.context()),
            prompt_tokens: Some(asked.prompt.max(asked.depth).max(1)),
            text_only: true,
            ..WorkloadRequest::default()
        };
        Ok(wanted.of(file.spec(), &self.board.runtime)?)
    }

    /// Refuses to fill a file that there is no memory for: it lies in memory beside what llama-bench loads.
    fn check_memory(
        &self,
        file: &SyntheticFile,
        candidate: &Candidate,
        runs: &[SyntheticRun],
    ) -> Result<(), Stop> {
        let mut most = Bytes(0);
        for asked in runs {
            let workload = self.workload(file, asked)?;
            let run = under_test(file, candidate, &workload, 0);
            let plan = run.plan(self.board.target(), &workload)?;
            most = most.max(plan.memory.total());
        }
        let needed = Bytes(most.0 + file.bytes().0);
        let available = device::activity(&machine_root()).memory.available;
        match available.filter(|available| *available < needed) {
            Some(available) => Err(Stop::Short(format!(
                "{} needs {needed} of memory, and {available} are available: end other programs",
                file.spec().name
            ))),
            None => Ok(()),
        }
    }
}

fn under_test<'a>(
    file: &'a SyntheticFile,
    candidate: &'a Candidate,
    workload: &'a Workload,
    tokens: u64,
) -> RunUnderTest<'a> {
    RunUnderTest {
        model: file.spec(),
        candidate,
        workload,
        tokens,
        by_prompt: false,
        tolerance: TOLERANCE,
    }
}

/// Keeps the runs, in place of those of an earlier calibration, and says what all runs on record tell of the board.
pub(super) fn keep(measured: &mut GpuRuns) -> anyhow::Result<()> {
    let Some(place) = measured.runs.first().map(|one| one.run.clone()) else {
        return Ok(());
    };
    let runs = measured.runs.iter().map(|one| one.run.clone());
    let (path, all) = settings::keep_calibrated_runs(runs.collect())?;
    let runtime = runtime::find(&place.runtime)?;
    measured.path = path;
    measured.learned = all.learned(&runtime, &place.device, &place.power_mode);
    measured.refined = [&[runtime.id][..], &runtime.same_kernels].concat();
    Ok(())
}
