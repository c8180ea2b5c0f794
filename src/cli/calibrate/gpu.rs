//! The GPU's part of `orinplan calibrate`: llama-bench runs synthetic models, each within the time that is left, and every
//! run becomes one as `validate --save-calibration` keeps it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::ready;
use crate::cli::args::{CalibrateArgs, TOLERANCE};
use crate::cli::validate::{Machine, RunUnderTest, Tried, measure};
use crate::cli::{machine_root, message, progress, request, settings};
use crate::device::{self, HOST};
use crate::plan::Workload;
use crate::plan::fit::Candidate;
use crate::planner::{Board, BoardRequest, WorkloadRequest};
use crate::report::calibrate::{GpuRun, GpuRuns, decode_words, prompt_words};
use crate::runtime::learned::{CALIBRATED, Run};
use crate::runtime::{self, Added};
use crate::scheme::{self, Container};
use crate::units::Bytes;
use crate::validate::{
    self, Backend, Measured, Metric, RanOn, SyntheticFile, SyntheticModel, SyntheticRun,
    ValidateError,
};

/// After this many failed runs in a row no other is tried.
const FAILURES: usize = 2;

/// What measures the GPU of this machine.
pub(super) struct GpuBench {
    program: PathBuf,
    launcher: PathBuf,
    board: Board,
    mode_in_force: Option<String>,
    time: Duration,
}

/// Why a run was not measured.
enum Stop {
    /// The user asked for it.
    Cancelled,
    /// No other run can be measured either: what is missing, and what to do.
    Short(String),
    /// This one failed; others may not.
    Failed(String),
}

impl From<validate::CalibrateError> for Stop {
    fn from(error: validate::CalibrateError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Failed(message(&error))
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
    let root = machine_root();
    let machine = device::detect(&root)?;
    if let Some(why) = ready::obstacle(&root, &machine) {
        return Ok(Err(why));
    }
    let wanted = BoardRequest {
        runtime: Some(CALIBRATED.to_owned()),
        ..wanted
    };
    Ok(Ok(GpuBench {
        program,
        launcher: std::env::current_exe().context("the path of this program is not known")?,
        board: request::warned(Board::of(found, &wanted)?),
        mode_in_force: machine.power_mode,
        time: Duration::from_secs(args.seconds),
    }))
}

impl GpuBench {
    /// Runs the models. What was measured counts where there is no time, memory or program for the rest, and where the user
    /// ends it.
    ///
    /// # Errors
    /// [`ValidateError::Cancelled`] where `cancel` is set before anything was measured.
    pub(super) fn measure(
        &self,
        cancel: &AtomicBool,
        spinner: &progress::Spinner,
    ) -> Result<Result<GpuRuns, String>, ValidateError> {
        let mut series = Series {
            bench: self,
            until: Instant::now() + self.time,
            cancel,
            spinner,
            runs: Vec::new(),
            failures: Vec::new(),
            in_a_row: 0,
        };
        let mut models = SyntheticModel::all().into_iter();
        match models.try_for_each(|model| series.run_model(&model)) {
            Ok(()) => {}
            Err(Stop::Cancelled) if series.runs.is_empty() => return Err(ValidateError::Cancelled),
            Err(Stop::Cancelled) => series.note("interrupted".to_owned()),
            Err(Stop::Short(why) | Stop::Failed(why)) => series.note(why),
        }
        let missing = series.failures.join("; ");
        Ok(if series.runs.is_empty() {
            Err(missing)
        } else {
            Ok(GpuRuns {
                device: self.board.device.name.clone(),
                runs: series.runs,
                missing: Some(missing).filter(|missing| !missing.is_empty()),
                ..GpuRuns::default()
            })
        })
    }

    /// Writes the file of a model, if there is memory for it.
    fn prepare(&self, model: &SyntheticModel) -> Result<(SyntheticFile, Candidate), Stop> {
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
        Ok((file, candidate))
    }

    /// Refuses runs that were not on the GPU.
    fn check_gpu(&self, measured: &Measured) -> Result<(), Stop> {
        let program = format!("{} ({})", self.program.display(), measured.engine);
        if !measured.backends.contains("CUDA") {
            Err(Stop::Short(format!(
                "{program} was built without CUDA: build llama.cpp with -DGGML_CUDA=ON, and name its llama-bench with --program"
            )))
        } else if measured.on_gpu == Some(false) {
            Err(Stop::Short(format!(
                "{program} finds no GPU: add this user to the groups video and render, or start the container with `--runtime nvidia`"
            )))
        } else {
            Ok(())
        }
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
            Some(available) => Err(Stop::Failed(format!(
                "{} needs {needed} of memory, and {available} are available: end other programs",
                file.spec().name
            ))),
            None => Ok(()),
        }
    }
}

/// The runs of a calibration, one after the other.
struct Series<'a> {
    bench: &'a GpuBench,
    until: Instant,
    cancel: &'a AtomicBool,
    spinner: &'a progress::Spinner,
    runs: Vec<GpuRun>,
    /// Why runs are missing, each reason once.
    failures: Vec<String>,
    /// How many failed since the last one that did not.
    in_a_row: usize,
}

impl Series<'_> {
    fn note(&mut self, why: String) {
        if !self.failures.contains(&why) {
            self.failures.push(why);
        }
    }

    /// Goes on after a run that failed, unless those before it did too.
    fn tolerate(&mut self, done: Result<(), Stop>) -> Result<(), Stop> {
        match done {
            Ok(()) => self.in_a_row = 0,
            Err(Stop::Failed(why)) if self.in_a_row + 1 < FAILURES => {
                self.in_a_row += 1;
                self.note(why);
            }
            Err(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Runs a model in all of its ways.
    fn run_model(&mut self, model: &SyntheticModel) -> Result<(), Stop> {
        let (file, candidate) = match self.bench.prepare(model) {
            Ok(prepared) => prepared,
            Err(stop) => return self.tolerate(Err(stop)),
        };
        for (asked, number) in model.runs().iter().zip(1..) {
            let what = format!("{}, run {number} of {}", model.name(), model.runs().len());
            let done = self.run(&file, &candidate, asked, &what);
            self.tolerate(done)?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        file: &SyntheticFile,
        candidate: &Candidate,
        asked: &SyntheticRun,
        what: &str,
    ) -> Result<(), Stop> {
        let (bench, spinner) = (self.bench, self.spinner);
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(bench.too_slow());
        }
        let request = asked.request(left);
        let backend = Backend::LlamaBench {
            program: &bench.program,
            launcher: &bench.launcher,
            model: file.path(),
        };
        let measured = measure(backend, &request, self.cancel, &mut |now| {
            spinner.say(format!("{what}: {now}"));
        });
        let measured = match measured {
            Ok(measured) => measured,
            Err(ValidateError::Cancelled) => return Err(Stop::Cancelled),
            Err(_) if Instant::now() >= self.until => return Err(bench.too_slow()),
            Err(error) => return Err(Stop::Failed(error.to_string())),
        };
        bench.check_gpu(&measured.0)?;
        let workload = bench.workload(file, asked)?;
        let run = under_test(file, candidate, &workload, request.tokens);
        let machine = Machine {
            board: &bench.board,
            ran_on: RanOn::Planned,
            mode_in_force: bench.mode_in_force.as_deref(),
        };
        let tried = run.tried(machine, &request, measured, true)?;
        let kept = run.kept(machine, &tried)?;
        self.runs.push(GpuRun {
            prompt: asked.prompt,
            depth: asked.depth,
            rejected: rejected(asked, &tried, &kept),
            run: Run {
                synthetic: true,
                // Without a tokenizer it takes less than any model that generates text.
                memory: None,
                ..kept
            },
            added: None,
        });
        Ok(())
    }
}

/// Why each rate that was asked for and is not kept is not.
fn rejected(asked: &SyntheticRun, tried: &Tried, kept: &Run) -> Vec<String> {
    let prompt = (asked.prompt > 0 && kept.prefill.is_none())
        .then(|| (Metric::Prefill, prompt_words(asked.prompt)));
    let decode = kept
        .decode
        .is_none()
        .then(|| (Metric::Decode, decode_words(asked.depth)));
    let each = prompt.into_iter().chain(decode);
    each.map(|(metric, what)| {
        let mut impossible = tried.measured.rejected.iter();
        let impossible = impossible.find(|figure| figure.metric == metric);
        let line = tried.comparison.line(metric);
        let why = match impossible {
            Some(figure) => figure.reason.as_str(),
            None if line.is_none_or(|line| line.predicted.is_none()) => "no rate is predicted",
            None => "its rate is more than 100 times off the prediction",
        };
        format!("{what}: {why}")
    })
    .collect()
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
        // What rates the mode in force has is the question.
        other_modes: false,
    }
}

/// Keeps the runs, each in place of its like of an earlier calibration, and notes what all runs on record tell of the
/// board. Where that fails, the report says so: what was measured is not lost.
pub(super) fn keep(measured: &mut GpuRuns) {
    let runs = measured.runs.iter().map(|one| one.run.clone());
    let kept = settings::keep_calibrated_runs(runs.collect());
    let noted = kept.and_then(|(path, added, all)| {
        for (one, added) in measured.runs.iter_mut().zip(&added) {
            one.added = Some(*added);
        }
        measured.path = path;
        let Some(place) = measured.runs.first().map(|one| &one.run) else {
            return Ok(());
        };
        let runtime = runtime::find(&place.runtime)?;
        let is_here = |run: &Run| {
            run.synthetic
                && [&run.runtime, &run.device, &run.power_mode]
                    == [&place.runtime, &place.device, &place.power_mode]
        };
        if added.contains(&Added::Kept) {
            measured.learned = all.learned(&runtime, &place.device, &place.power_mode);
        } else {
            measured.has_older = all.run.iter().any(is_here);
        }
        measured.refined = [&[runtime.id][..], &runtime.same_kernels].concat();
        Ok(())
    });
    measured.not_kept = noted.err().map(|error| message(&error));
}
