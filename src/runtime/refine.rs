//! Refines the speed model of a runtime by runs on a device.
//!
//! In: the runs on record, the runtime's profile. Out: what was learned, and a speed with the refined parameters.

use super::learned::{Correction, Learned, LearnedThere, reached};
use super::posterior::{OTHER_HOST, OTHER_MODE, Posterior, REACH, Sample, Shares, TERMS, Widths};
use super::profile::{Learning, Range, RuntimeProfile, Speed};
use super::runs::{Pair, Run, Runs};
use crate::sourced::Trust;
use crate::units::counted;

/// By how much other power modes of a board are off as a whole: the widths of that in decode steps and prompts. Stated: the
/// mean errors of ten files of one source differ so between four modes of a board (docs/speed.md).
const MODES_DIFFER: [f64; 2] = [0.02, 0.04];

/// No run repeats better than this.
const LEAST_NOISE: f64 = 0.005;

impl Widths {
    /// Those of decode steps. A parameter whose range people stated differs at least as much as that range says.
    pub(super) fn of_decode(speed: &Speed) -> Widths {
        let learning = &speed.learning;
        let mut widths = Widths::new(learning, &speed.spread);
        let parameters = [
            stated(&speed.bandwidth_efficiency, learning.bandwidth),
            stated(&speed.cost_scale, learning.arithmetic),
            learning.cache,
            stated(&speed.launch_seconds, learning.launch),
            of_host(speed),
        ];
        for (width, parameter) in widths.terms.iter_mut().skip(1).zip(parameters) {
            *width = parameter;
        }
        widths.terms[OTHER_MODE] = MODES_DIFFER[0];
        widths
    }

    /// The same, with another runtime's host among what differs: that of whichever differs most.
    fn with_hosts(mut self, others: &[RuntimeProfile]) -> Widths {
        let hosts = others.iter().map(|other| of_host(&other.speed));
        self.terms[OTHER_HOST] = hosts.fold(0.0, f64::max);
        self
    }

    /// Those of prompts, which have the common factor alone.
    pub(super) fn of_prefill(speed: &Speed) -> Widths {
        let mut widths = Widths::new(&speed.prefill.learning, &speed.prefill.scale);
        widths.terms[OTHER_MODE] = MODES_DIFFER[1];
        widths
    }

    /// A range of the whole that was not fitted is one of boards too, as far as models and runs do not fill it.
    fn new(learning: &Learning, whole: &Range) -> Widths {
        let (model, run) = (learning.model, learning.run.max(LEAST_NOISE));
        let mut terms = [0.0; TERMS];
        let beyond = match whole.trust {
            Trust::Fitted | Trust::Published | Trust::Measured => 0.0,
            _ => deviation(whole).powi(2) - model * model - run * run,
        };
        if let Some(common) = terms.first_mut() {
            *common = learning.common.max(beyond.max(0.0).sqrt());
        }
        Widths { terms, model, run }
    }
}

fn of_host(speed: &Speed) -> f64 {
    stated(&speed.host_seconds, speed.learning.host)
}

/// The width of a parameter whose range people may have stated.
fn stated(range: &Range, fitted: f64) -> f64 {
    deviation(range).max(fitted)
}

/// The standard deviation, in logarithms, of what lies in a range. An end at zero says nothing.
fn deviation(range: &Range) -> f64 {
    let (low, high) = (
        (range.expected / range.low).ln(),
        (range.high / range.expected).ln(),
    );
    let sides = [low, high];
    let known = sides.iter().filter(|side| side.is_finite());
    let count = known.clone().count().max(1) as f64;
    known.sum::<f64>() / count / REACH
}

impl RuntimeProfile {
    /// Whether its kernels are those of the runtime with this id.
    pub fn runs_kernels_of(&self, id: &str) -> bool {
        self.id == id || self.same_kernels.iter().any(|same| same == id)
    }
}

impl Correction {
    /// `speed` with the refined parameters, for decode steps of `model`.
    pub fn decoding(&self, speed: &Speed, model: &str) -> Speed {
        let [_, bandwidth, arithmetic, cache, launch, host, ..] = self.posterior.means();
        let mut speed = speed.clone();
        let efficiency = &mut speed.bandwidth_efficiency;
        for end in [
            &mut efficiency.low,
            &mut efficiency.expected,
            &mut efficiency.high,
        ] {
            *end = reached(*end, bandwidth);
        }
        for (range, factor) in [
            (&mut speed.cost_scale, arithmetic.exp()),
            (&mut speed.launch_seconds, launch.exp()),
            (&mut speed.host_seconds, host.exp()),
        ] {
            range.scale(factor);
        }
        let whole = self.whole(model);
        speed.step_ranges().for_each(|range| range.scale(whole));
        speed.attention.decode_scale *= cache.exp();
        speed
    }
}

impl Runs {
    /// What was learned of every runtime in every power mode of `device`: of each that ran there, and then of those with its
    /// kernels, in the order of the first runs. Runs of a runtime that is not known say nothing.
    pub fn of_device(&self, device: &str) -> Vec<LearnedThere> {
        let mut found: Vec<LearnedThere> = Vec::new();
        for run in self.run.iter().filter(|run| run.device == device) {
            let Ok(ran) = super::registry::find(&run.runtime) else {
                continue;
            };
            let others = ran.same_kernels.iter();
            let others = others.filter_map(|id| super::registry::find(id).ok());
            let others: Vec<RuntimeProfile> = others.collect();
            for profile in std::iter::once(&ran).chain(&others) {
                let is_it = |one: &LearnedThere| {
                    (&one.runtime, &one.power_mode) == (&profile.id, &run.power_mode)
                };
                if !found.iter().any(is_it) {
                    let learned = self.learned(profile, device, &run.power_mode);
                    found.extend(learned.map(|learned| LearnedThere {
                        runtime: profile.id.clone(),
                        power_mode: run.power_mode.clone(),
                        learned,
                    }));
                }
            }
        }
        found
    }

    /// The runs on `device` that speak of `runtime`.
    fn of<'a>(
        &'a self,
        runtime: &'a RuntimeProfile,
        device: &'a str,
    ) -> impl Iterator<Item = &'a Run> {
        let speaks = move |run: &&Run| runtime.runs_kernels_of(&run.runtime);
        let here = self.run.iter().filter(move |run| run.device == device);
        here.filter(speaks)
    }

    /// What was learned of `runtime` on `device` in `power_mode`, from runs there and in its other modes; `None` if there is
    /// no run.
    pub fn learned(
        &self,
        runtime: &RuntimeProfile,
        device: &str,
        power_mode: &str,
    ) -> Option<Learned> {
        let runs: Vec<&Run> = self.of(runtime, device).collect();
        let decoded = telling(&runs, power_mode, |run| run.decode.is_some());
        let prompted = telling(&runs, power_mode, |run| run.prefill.is_some());
        // The memory of another runtime says nothing of this one's. It is the same in every mode.
        let filled = undisturbed(&runs, |run| {
            run.memory.is_some() && run.runtime == runtime.id
        });
        let counts = |run: &&Run| {
            let mut all = [&decoded, &prompted, &filled].into_iter().flatten();
            all.any(|one| std::ptr::eq(*one, *run))
        };
        let runs: Vec<&Run> = runs.into_iter().filter(counts).collect();
        let (first, last) = (runs.first()?, runs.last()?);
        let correction = |widths: Widths, samples: Vec<Sample<'_>>| {
            Some(Correction {
                posterior: Posterior::new(widths, &samples)?,
                efficiency: runtime.speed.bandwidth_efficiency.expected,
            })
        };
        let decodes = decoded.iter();
        let is_elsewhere = |run: &Run| run.power_mode != power_mode;
        let sample = |run, rates, shares| sample(runtime, run, is_elsewhere(run), rates, shares);
        let decodes = decodes.filter_map(|run| Some(sample(run, run.decode?, run.shares)));
        let prompts = prompted.iter();
        let prompts = prompts.filter_map(|run| Some(sample(run, run.prefill?, None)));
        let filled = filled.iter().filter_map(|run| run.memory);
        let more: Vec<f64> = filled.map(|pair| pair.measured - pair.predicted).collect();
        let modes = each(&runs, |run| &run.power_mode);
        let other_modes = if modes == [power_mode] {
            String::new()
        } else {
            format!(" in {}", modes.join(" and "))
        };
        let days = if first.date == last.date {
            format!("on {}", last.date)
        } else {
            format!("from {} to {}", first.date, last.date)
        };
        Some(Learned {
            decode: correction(
                Widths::of_decode(&runtime.speed).with_hosts(&others(runtime, &decoded)),
                decodes.collect(),
            ),
            prefill: correction(Widths::of_prefill(&runtime.speed), prompts.collect()),
            more_memory: median(more),
            runs_of: each(&runs, |run| &run.runtime),
            modes,
            source: format!(
                "{} {}{other_modes} {days}, the last by orinplan {}",
                counted_runs(&runs),
                // Not every server says what it is.
                Some(&last.engine)
                    .filter(|engine| !engine.is_empty())
                    .unwrap_or(&last.runtime),
                last.version
            ),
        })
    }
}

/// The runs that measured something, without the disturbed ones if there are others.
fn undisturbed<'a>(runs: &[&'a Run], measured: impl Fn(&Run) -> bool) -> Vec<&'a Run> {
    let with = || runs.iter().copied().filter(|run| measured(run));
    let calm: Vec<&Run> = with().filter(|run| run.disturbed.is_empty()).collect();
    if calm.is_empty() {
        with().collect()
    } else {
        calm
    }
}

/// The runs that tell something of a power mode: those that were made in it, and the undisturbed ones of others. Disturbed
/// ones of others count while there is no run but those.
fn telling<'a>(runs: &[&'a Run], mode: &str, measured: impl Fn(&Run) -> bool) -> Vec<&'a Run> {
    let (here, elsewhere): (Vec<&Run>, Vec<&Run>) =
        runs.iter().partition(|run| run.power_mode == mode);
    let here = undisturbed(&here, &measured);
    let mut elsewhere = undisturbed(&elsewhere, &measured);
    if !here.is_empty() {
        elsewhere.retain(|run| run.disturbed.is_empty());
    }
    here.into_iter().chain(elsewhere).collect()
}

/// How many runs there are, so that those of synthetic models are not taken for runs of a published one.
fn counted_runs(runs: &[&Run]) -> String {
    let count = counted(runs.len() as u64, "run", "runs");
    let synthetic = runs.iter().filter(|run| run.synthetic).count();
    match synthetic {
        0 => format!("{count} of"),
        all if all == runs.len() => {
            let what = if all == 1 {
                "a synthetic model"
            } else {
                "synthetic models"
            };
            format!("{count} of {what} with")
        }
        some => format!("{count} ({some} of synthetic models) with"),
    }
}

/// What `name` gives of the runs, each once.
fn each(runs: &[&Run], name: impl Fn(&Run) -> &String) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for run in runs {
        if !found.contains(name(run)) {
            found.push(name(run).clone());
        }
    }
    found
}

/// The other runtimes, with the kernels of `runtime`, that made some of the runs.
fn others(runtime: &RuntimeProfile, runs: &[&Run]) -> Vec<RuntimeProfile> {
    let others = runtime.same_kernels.iter();
    let others = others.filter(|id| runs.iter().any(|run| run.runtime == **id));
    others
        .filter_map(|id| super::registry::find(id).ok())
        .collect()
}

fn sample<'a>(
    runtime: &RuntimeProfile,
    run: &'a Run,
    in_another: bool,
    rates: Pair,
    shares: Option<Shares>,
) -> Sample<'a> {
    Sample {
        model: &run.model,
        shares,
        of_another: run.runtime != runtime.id,
        in_another,
        off: (rates.predicted / rates.measured).ln(),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::find;
    use crate::runtime::learned::Parameter;
    use crate::runtime::runs::{Added, Setup};

    fn run(model: &str, measured: f64) -> Run {
        Run::example(model, measured)
    }

    fn learned(runs: &Runs) -> Learned {
        let runtime = find("ollama").unwrap();
        runs.learned(&runtime, "orin-nano-8gb", "15W").unwrap()
    }

    /// The factor on rates.
    fn factor(runs: &Runs) -> f64 {
        learned(runs).decode.unwrap().factor()
    }

    #[test]
    fn runs_draw_the_factor_from_one_to_what_they_show() {
        let runtime = find("ollama").unwrap();
        let mut runs = Runs::default();
        assert_eq!(runs.learned(&runtime, "orin-nano-8gb", "15W"), None);
        let mut before = 1.0;
        for (model, count) in [("a", 1), ("b", 2), ("c", 3)] {
            runs.add(run(model, 11.0));
            let now = factor(&runs);
            assert!(now > before && now < 1.1, "{now} after {before}");
            assert_eq!(learned(&runs).decode.unwrap().counts(), [count, count]);
            before = now;
        }
        assert_eq!(learned(&runs).more_memory, Some(11.0));
        assert_eq!(learned(&runs).prefill, None);
        assert_eq!(runs.learned(&runtime, "agx-orin-64gb", "15W"), None);
    }

    /// Runs of another mode tell of the board and of the model, but not as surely as those of the planned one.
    #[test]
    fn runs_of_another_mode_count_less() {
        let runtime = find("ollama").unwrap();
        let mut runs = Runs::default();
        for model in ["a", "b", "c"] {
            runs.add(run(model, 11.0));
        }
        let of = |runs: &Runs, mode: &str| {
            let learned = runs.learned(&runtime, "orin-nano-8gb", mode).unwrap();
            let decode = learned.decode.clone().unwrap();
            (decode.factor(), learned)
        };
        let (here, learned) = of(&runs, "15W");
        assert_eq!(
            (learned.modes.len(), learned.source.contains("15W")),
            (1, false)
        );
        let (elsewhere, learned) = of(&runs, "25W");
        assert!((1.005..here).contains(&elsewhere), "{elsewhere} {here}");
        assert!(learned.source.contains(" in 15W on "), "{}", learned.source);
        // Memory is the same in every mode.
        assert_eq!(learned.more_memory, Some(11.0));
        // Disturbed ones of another mode count while there is no other.
        let mut disturbed = Runs::default();
        disturbed.add(Run {
            disturbed: vec!["other_load".to_owned()],
            ..run("a", 5.0)
        });
        assert!(of(&disturbed, "25W").0 < 1.0);
        disturbed.add(Run {
            power_mode: "25W".to_owned(),
            ..run("b", 10.0)
        });
        assert_eq!(of(&disturbed, "25W").0, 1.0);
        // Runs of both are told with both.
        runs.add(Run {
            power_mode: "25W".to_owned(),
            ..run("d", 10.0)
        });
        let (_, learned) = of(&runs, "25W");
        assert!(
            learned.source.contains(" in 15W and 25W on "),
            "{}",
            learned.source
        );
    }

    #[test]
    fn a_run_of_the_same_setup_counts_once_and_the_file_comes_back_as_it_was() {
        let mut runs = Runs::default();
        runs.add(run("a", 20.0));
        runs.add(run("a", 10.0));
        assert_eq!(runs.run.len(), 1);
        assert_eq!(factor(&runs), 1.0);
        let with_prompt = |prompt_tokens, measured| Run {
            setup: Some(Setup {
                prompt_tokens,
                generated_tokens: 64,
                sequences: 1,
            }),
            shares: Some(Shares {
                bandwidth: 0.75,
                arithmetic: 0.125,
                cache: 0.0625,
                launch: 0.03125,
                host: 0.03125,
            }),
            ..run("a", measured)
        };
        // One that says what it was run with replaces one that does not.
        for (prompt, count) in [(128, 1), (1024, 2), (2048, 3), (1024, 3)] {
            runs.add(with_prompt(prompt, 9.0));
            assert_eq!(runs.run.len(), count);
        }
        assert_eq!(learned(&runs).decode.unwrap().counts(), [3, 1]);
        assert_eq!(
            Runs::parse(&runs.text(), "runs.toml").unwrap(),
            (runs.clone(), Vec::new())
        );
        // Runs whose shares are known tell of every parameter, others of the whole alone.
        let parameters = learned(&runs).decode.unwrap().parameters();
        assert_eq!(parameters.len(), Parameter::ALL.len());
        assert!(
            parameters
                .iter()
                .all(|one| one.factor > 1.0 && one.deviation > 0.0)
        );
        let text = runs
            .text()
            .replacen("bandwidth = 0.75", "bandwidth = 1.75", 1);
        let (left, said) = Runs::parse(&text, "runs.toml").unwrap();
        assert_eq!((left.run.len(), said.len()), (2, 1), "{said:?}");
    }

    /// A file of version 0.1.0, before runs said what they were run with.
    #[test]
    fn runs_without_setup_and_shares_are_read() {
        let text = "schema = \"orinplan.runs/1\"\n[[run]]\ndate = \"2026-11-23\"\nversion = \"0.1.0\"\n\
            runtime = \"ollama\"\nengine = \"Ollama 0.30\"\ndevice = \"orin-nano-8gb\"\npower_mode = \"15W\"\n\
            model = \"a\"\nscheme = \"q4_k_m\"\n[run.decode]\npredicted = 10.0\nmeasured = 9.0\n";
        let (runs, said) = Runs::parse(text, "runs.toml").unwrap();
        assert_eq!((runs.run.len(), said), (1, Vec::new()));
        let parameters = learned(&runs).decode.unwrap().parameters();
        let [only] = parameters.as_slice() else {
            panic!("{parameters:?}");
        };
        assert_eq!(only.parameter, Parameter::Common);
        assert!(only.factor > 1.0 && only.text().starts_with("all times x 1.0"));
    }

    /// Runs of llama-bench speak of llama.cpp's kernels, which its server runs too, but not of the server's host; and they
    /// say what they are of.
    #[test]
    fn runs_refine_the_runtimes_with_the_same_kernels() {
        let bench = |model: &str, shares: Shares| Run {
            runtime: "llama-bench".to_owned(),
            synthetic: true,
            shares: Some(shares),
            ..run(model, 7.0)
        };
        let in_kernels = Shares {
            launch: 1.0,
            ..Shares::default()
        };
        let on_host = Shares {
            host: 1.0,
            ..Shares::default()
        };
        let of = |runs: &Runs, id: &str| {
            let learned = runs.learned(&find(id).unwrap(), "orin-nano-8gb", "15W")?;
            Some((learned.clone(), learned.decode.unwrap().parameters()))
        };
        let factor = |runs: &Runs, id: &str, wanted| {
            let (_, parameters) = of(runs, id).unwrap();
            let mut found = parameters.iter().filter(|one| one.parameter == wanted);
            found.next().map(|one| one.factor)
        };
        let mut runs = Runs::default();
        runs.add(bench("a", in_kernels));
        for id in ["llama-bench", "llama.cpp"] {
            assert!(factor(&runs, id, Parameter::Launch).unwrap() > 1.005);
        }
        runs.add(bench("b", on_host));
        assert!(factor(&runs, "llama-bench", Parameter::Host).unwrap() > 1.005);
        assert_eq!(factor(&runs, "llama.cpp", Parameter::Host), None);
        // Another's memory says nothing, nor do its runs of a runtime with kernels of its own.
        let (learned, _) = of(&runs, "llama.cpp").unwrap();
        assert_eq!(learned.more_memory, None);
        assert_eq!(of(&runs, "vllm"), None);
        assert_eq!(of(&runs, "ollama"), None);
        let source = |count: &str| format!("{count} with Ollama 0.30 on 2026-11-23, the last");
        let said = learned.source;
        assert!(
            said.starts_with(&source("2 runs of synthetic models")),
            "{said}"
        );
        let mut all = runs.clone();
        all.add(Run {
            runtime: "llama.cpp".to_owned(),
            ..run("c", 9.0)
        });
        let said = all.learned(&find("llama.cpp").unwrap(), "orin-nano-8gb", "15W");
        let said = said.unwrap().source;
        assert!(
            said.starts_with(&source("3 runs (2 of synthetic models)")),
            "{said}"
        );
    }

    #[test]
    fn disturbed_runs_count_while_there_is_no_other() {
        let disturbed = |model: &str, measured: f64| Run {
            disturbed: vec!["other_load".to_owned()],
            ..run(model, measured)
        };
        let mut runs = Runs::default();
        assert_eq!(runs.add(disturbed("a", 5.0)), Added::Kept);
        assert!(factor(&runs) < 1.0);
        assert_eq!(
            Runs::parse(&runs.text(), "runs.toml").unwrap(),
            (runs.clone(), Vec::new())
        );
        // An undisturbed run of another model outweighs it, one of the same model replaces it.
        runs.add(run("b", 10.0));
        assert_eq!(factor(&runs), 1.0);
        assert_eq!(runs.add(run("a", 10.0)), Added::Kept);
        assert_eq!(runs.add(disturbed("a", 5.0)), Added::Outweighed);
        assert_eq!(learned(&runs).decode.unwrap().counts(), [2, 2]);
    }

    /// Runs of llama-bench say nothing of the memory of llama.cpp, so undisturbed ones take none of its runs away; and each
    /// figure has undisturbed runs of its own.
    #[test]
    fn disturbed_runs_count_while_no_other_measured_the_same() {
        let of = |runtime: &str, model: &str, measured: f64| Run {
            runtime: runtime.to_owned(),
            ..run(model, measured)
        };
        let disturbed = Run {
            disturbed: vec!["other_load".to_owned()],
            prefill: Some(Pair {
                predicted: 100.0,
                measured: 50.0,
            }),
            ..of("llama.cpp", "a", 5.0)
        };
        let bench = Run {
            memory: None,
            synthetic: true,
            ..of("llama-bench", "b", 10.0)
        };
        let mut runs = Runs::default();
        runs.add(disturbed.clone());
        runs.add(bench.clone());
        let learned = |runs: &Runs, id: &str| {
            let learned = runs.learned(&find(id).unwrap(), "orin-nano-8gb", "15W");
            learned.unwrap()
        };
        let found = learned(&runs, "llama.cpp");
        assert_eq!(found.decode.unwrap().factor(), 1.0);
        assert_eq!(found.prefill.unwrap().counts(), [1, 1]);
        assert_eq!(found.more_memory, Some(5.0));
        assert!(found.source.starts_with("2 runs (1 of synthetic models)"));
        // The reverse.
        assert_eq!(learned(&runs, "llama-bench").more_memory, None);
        let mut runs = Runs::default();
        runs.add(Run {
            disturbed: disturbed.disturbed,
            ..of("llama-bench", "b", 10.0)
        });
        runs.add(of("llama.cpp", "a", 10.0));
        assert_eq!(learned(&runs, "llama-bench").more_memory, Some(10.0));
        assert_eq!(learned(&runs, "llama.cpp").more_memory, Some(10.0));
    }
}
