//! What runs of synthetic models tell of a simulated board, and what that does to the predictions of published models.

use orinplan::planner::{Board, BoardRequest, Planner, Request, WorkloadRequest};
use orinplan::runtime::learned::{Learned, Pair, Parameter, Run as Kept, Runs, Setup};
use orinplan::runtime::profile::Range;
use orinplan::runtime::{self, RuntimeProfile};
use orinplan::units::Bytes;
use orinplan::validate::{SyntheticModel, SyntheticRun};

/// Makes of the profile of a runtime that of a board.
type Truth = fn(&mut RuntimeProfile);

/// A simulated Orin Nano: its power mode, and what the profile of each runtime would be for it.
#[derive(Clone, Copy)]
struct Simulated {
    mode: &'static str,
    truth: Truth,
}

/// The power modes that are simulated.
const MODES: [&str; 3] = ["15W", "25W", "MAXN_SUPER"];

impl Simulated {
    /// The profile of a runtime as it would be for this board.
    fn profile(self, id: &str) -> RuntimeProfile {
        let mut profile = runtime::find(id).unwrap();
        (self.truth)(&mut profile);
        profile
    }

    /// The board with the profile of a runtime.
    fn with(self, profile: RuntimeProfile) -> Board {
        let request = BoardRequest {
            device: Some("orin-nano-8gb".to_owned()),
            power_mode: Some(self.mode.to_owned()),
            runtime: Some(profile.id.clone()),
            ..BoardRequest::default()
        };
        Board {
            runtime: profile,
            ..Board::open(&request).unwrap()
        }
    }

    fn learned(self, runs: &Runs, profile: &RuntimeProfile) -> Option<Learned> {
        runs.learned(profile, "orin-nano-8gb", self.mode)
    }
}

/// As the profile says.
fn alike(_: &mut RuntimeProfile) {}

/// The memory gives 12 % less and launches take half as long again.
fn other(profile: &mut RuntimeProfile) {
    let speed = &mut profile.speed;
    scale(&mut speed.bandwidth_efficiency, 0.88);
    scale(&mut speed.launch_seconds, 1.5);
}

/// Nothing but the host of llama-bench takes this many times as long.
fn slow_host<const TIMES: u8>(profile: &mut RuntimeProfile) {
    if profile.id == "llama-bench" {
        scale(&mut profile.speed.host_seconds, f64::from(TIMES));
    }
}

/// Both at once.
fn other_with_slow_host(profile: &mut RuntimeProfile) {
    other(profile);
    slow_host::<2>(profile);
}

fn scale(range: &mut Range, factor: f64) {
    range.low *= factor;
    range.expected *= factor;
    range.high *= factor;
}

/// The plan of a GGUF as it is stored, with this many tokens in the cache.
fn plan(planner: &Planner, board: &Board, depth: u64) -> orinplan::plan::Speeds {
    let request = Request {
        workload: WorkloadRequest {
            context: Some(8192),
            prompt_tokens: Some(depth),
            budget: Some(Bytes::GIB * 64),
            ..WorkloadRequest::default()
        },
        ..Request::default()
    };
    let (_, fit) = planner.fit_on(board, &request).unwrap();
    let mut plans = fit
        .plans
        .into_iter()
        .filter(|plan| plan.assignment.is_stored());
    plans.next().unwrap().speeds.unwrap()
}

fn decode(speeds: &orinplan::plan::Speeds) -> f64 {
    speeds.decode.tokens_per_second.expected
}

/// What the models show on a board, as runs.
fn simulated(on: Simulated) -> Runs {
    let profile = on.with(runtime::find("llama-bench").unwrap());
    let truth = on.with(on.profile("llama-bench"));
    let mut runs = Vec::new();
    for model in SyntheticModel::all() {
        let file = model.open().unwrap();
        let planner = Planner::of(file.checkpoint().clone(), file.spec().clone());
        for SyntheticRun { prompt, depth } in model.runs().iter().copied() {
            let [predicted, measured] =
                [&profile, &truth].map(|board| plan(&planner, board, depth + 32));
            runs.push(Kept {
                date: "2026-11-30".to_owned(),
                version: "0.1.0".to_owned(),
                runtime: "llama-bench".to_owned(),
                engine: "llama.cpp".to_owned(),
                device: "orin-nano-8gb".to_owned(),
                power_mode: on.mode.to_owned(),
                model: model.name(),
                scheme: model.dtype().name().to_lowercase(),
                synthetic: true,
                setup: Some(Setup {
                    prompt_tokens: prompt.max(depth),
                    generated_tokens: 64,
                    sequences: 1,
                }),
                shares: predicted.decode.shares,
                disturbed: Vec::new(),
                decode: Pair::new(decode(&predicted), decode(&measured)),
                prefill: None,
                memory: None,
            });
        }
    }
    let mut all = Runs::default();
    all.calibrate(runs, &SyntheticModel::all().map(|model| model.name()));
    all
}

/// `docs/speed.md` has the numbers (`cargo test --test validate -- --nocapture simulated`).
#[test]
fn simulated_runs_of_synthetic_models_find_slow_memory_and_slow_launches() {
    let on = Simulated {
        mode: "25W",
        truth: other,
    };
    let runs = simulated(on);
    // The runs are told apart by what their steps consist of.
    let most = |pick: fn(&orinplan::runtime::posterior::Shares) -> f64| {
        let shares = runs.run.iter().filter_map(|run| run.shares.as_ref());
        shares.map(pick).fold(0.0, f64::max)
    };
    for run in &runs.run {
        println!(
            "{} {:?} {:?} {:?}",
            run.model, run.setup, run.shares, run.decode
        );
    }
    assert!(most(|shares| shares.bandwidth) > 0.6);
    assert!(most(|shares| shares.arithmetic) > 0.5);
    assert!(most(|shares| shares.cache) > 0.25);
    assert!(most(|shares| shares.launch) > 0.25);
    let profile = runtime::find("llama.cpp").unwrap();
    let learned = on.learned(&runs, &profile).unwrap();
    println!("{}", learned.phrases(None).join(", "));
    let parameters = learned.decode.as_ref().unwrap().parameters();
    let factor = |wanted| {
        let mut found = parameters.iter().filter(|one| one.parameter == wanted);
        found.next().unwrap().factor
    };
    let (memory, launch) = (factor(Parameter::Bandwidth), factor(Parameter::Launch));
    assert!(memory > 1.03 && launch > 1.03, "{memory} {launch}");
    assert!(
        memory.min(launch) > factor(Parameter::Arithmetic),
        "{memory} {launch}"
    );
    assert!(launch > factor(Parameter::Cache), "{launch}");

    let truth = on.with(on.profile("llama.cpp"));
    let before = on.with(profile.clone());
    let after = on.with(profile.refined(Some(learned)));
    for (name, planner, depth) in published() {
        let rate = |board: &Board| decode(&plan(&planner, board, depth));
        let off = |rate: f64, truth: f64| 100.0 * (rate / truth - 1.0);
        let [truth, before, after] = [&truth, &before, &after].map(rate);
        println!(
            "| {name} | {depth} | {truth:.1} | {before:.1} ({:+.1} %) | {after:.1} ({:+.1} %) |",
            off(before, truth),
            off(after, truth)
        );
        assert!(
            off(after, truth).abs() < 0.6 * off(before, truth).abs(),
            "{name} at {depth}: {truth} {before} {after}"
        );
    }
}

/// Published models, each with a depth.
fn published() -> Vec<(&'static str, Planner, u64)> {
    let models = ["qwen3-0.6b", "gemma-3-1b-it", "gemma-3n-e2b-it"];
    let each = models.into_iter().flat_map(|name| {
        [128, 4096].map(|depth| {
            let file = format!("fixtures/{name}-Q4_K_M.header.gguf");
            (name, Planner::open(&file).unwrap(), depth)
        })
    });
    each.collect()
}

/// Normally distributed numbers, the same every time: sums of twelve uniform ones.
fn normal() -> impl FnMut() -> f64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// How far predictions for the published models are off, in percent: without runs, and after those of synthetic models.
struct Errors {
    before: f64,
    after: f64,
}

/// The mean errors over boards like this one whose synthetic models and runs are off as much as published ones are.
fn mean_errors(on: Simulated, runtime: &str, boards: usize) -> Errors {
    let profile = runtime::find(runtime).unwrap();
    let exact = simulated(on);
    let models = published();
    let rates = |board: &Board| -> Vec<f64> {
        let each = models.iter();
        each.map(|(_, planner, depth)| decode(&plan(planner, board, *depth)))
            .collect()
    };
    let true_rates = rates(&on.with(on.profile(runtime)));
    let off = |found: &[f64]| -> f64 {
        let each = found.iter().zip(&true_rates);
        let sum: f64 = each.map(|(found, truth)| (found / truth - 1.0).abs()).sum();
        100.0 * sum / true_rates.len() as f64
    };
    let (mut normal, mut after) = (normal(), 0.0);
    let (of_model, of_run) = (profile.speed.learning.model, profile.speed.learning.run);
    for _ in 0..boards {
        let mut runs = Runs::default();
        let (mut model, mut own) = (String::new(), 0.0);
        for run in &exact.run {
            if run.model != model {
                (model, own) = (run.model.clone(), of_model * normal());
            }
            let pair = run.decode.unwrap();
            let slower = (own + of_run * normal()).exp();
            runs.add(Kept {
                decode: Pair::new(pair.predicted, pair.measured / slower),
                ..run.clone()
            });
        }
        let learned = on.learned(&runs, &profile);
        after += off(&rates(&on.with(profile.clone().refined(learned))));
    }
    Errors {
        before: off(&rates(&on.with(profile.clone()))),
        after: after / boards as f64,
    }
}

/// A host that is slow where the models are measured is not that of the server, so it changes nothing that is planned for
/// the server: the parameters of the kernels stay as they are.
#[test]
fn a_slow_host_of_llama_bench_is_not_taken_for_slow_kernels() {
    let profile = runtime::find("llama.cpp").unwrap();
    for mode in MODES {
        for truth in [slow_host::<2>, slow_host::<3>] {
            let on = Simulated { mode, truth };
            let runs = simulated(on);
            let on_host = runs.run.iter().filter_map(|run| Some(run.shares?.host));
            assert!(on_host.fold(0.0, f64::max) > 0.85);
            let learned = on.learned(&runs, &profile).unwrap();
            println!("{mode}: {}", learned.phrases(None).join(", "));
            for one in learned.decode.as_ref().unwrap().parameters() {
                assert!((one.factor - 1.0).abs() < 0.01, "{mode}: {one:?}");
            }
            let after = on.with(profile.clone().refined(Some(learned)));
            let before = on.with(profile.clone());
            for (name, planner, depth) in published() {
                let [before, after] =
                    [&before, &after].map(|board| decode(&plan(&planner, board, depth)));
                let off = after / before - 1.0;
                assert!(off.abs() < 0.01, "{mode}: {name} at {depth}: {off}");
            }
            // The program that was measured learns of its own host.
            let bench = runtime::find("llama-bench").unwrap();
            let learned = on.learned(&runs, &bench).unwrap();
            let parameters = learned.decode.unwrap().parameters();
            let mut host = parameters
                .iter()
                .filter(|one| one.parameter == Parameter::Host);
            assert!(host.next().unwrap().factor > 1.8, "{parameters:?}");
        }
    }
}

/// What runs in one power mode find of a board holds in the others: bandwidth is a share of that of the mode, arithmetic and
/// launches are of its clock.
#[test]
fn runs_in_one_mode_improve_predictions_in_the_others() {
    let truth = other;
    let profile = runtime::find("llama.cpp").unwrap();
    let ran = Simulated { mode: "25W", truth };
    let runs = simulated(ran);
    for mode in MODES {
        let on = Simulated { mode, truth };
        let learned = on.learned(&runs, &profile).unwrap();
        let boards = [
            on.with(on.profile("llama.cpp")),
            on.with(profile.clone()),
            on.with(profile.clone().refined(Some(learned))),
        ];
        let (mut before, mut after, mut count) = (0.0, 0.0, 0.0);
        for (_, planner, depth) in published() {
            let [truth, plain, refined] =
                [0, 1, 2].map(|index: usize| decode(&plan(&planner, &boards[index], depth)));
            before += (plain / truth - 1.0).abs();
            after += (refined / truth - 1.0).abs();
            count += 1.0;
        }
        let percent = |sum: f64| 100.0 * sum / count;
        println!(
            "{mode}: {:.2} % before, {:.2} % after",
            percent(before),
            percent(after)
        );
        assert!(after < 0.6 * before, "{mode}: {before} {after}");
    }
}

/// Models and runs scatter: on average over boards predictions come closer where the board is unlike the profile, and move
/// little where it is not. `docs/speed.md` has the numbers.
#[test]
fn scatter_of_synthetic_models_costs_less_than_they_bring() {
    const BOARDS: usize = 160;
    const LITTLE: f64 = 1.0;
    let boards: [(&str, Truth); 4] = [
        ("as the profile", alike),
        ("slow memory and launches", other),
        ("host of llama-bench x 2", slow_host::<2>),
        ("slow memory, launches and host x 2", other_with_slow_host),
    ];
    for (name, truth) in boards {
        let on = Simulated { mode: "25W", truth };
        let Errors { before, after } = mean_errors(on, "llama.cpp", BOARDS);
        println!("{name}: {before:.2} % before, {after:.2} % after");
        assert!(
            after < f64::max(LITTLE, 0.8 * before),
            "{name}: {before} {after}"
        );
    }
}
