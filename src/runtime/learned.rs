//! What runs on a device say about a runtime: which parameters of its speed model differ there and by how much, and how
//! much more memory it takes.
//!
//! In: the runs on record, the runtime's profile. Out: [`Learned`], by which a plan is corrected.

use super::posterior::{Posterior, Sample, Shares, Widths};
use super::profile::{Range, RuntimeProfile, Speed};
pub use super::runs::{Added, Pair, Run, Runs, RunsError, Setup};

/// What was learned of one runtime on one device in one power mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Of decode steps.
    pub decode: Option<Correction>,
    /// Of prompts.
    pub prefill: Option<Correction>,
    /// Bytes that the runtime takes beyond what its profile says; negative if less.
    pub more_memory: Option<f64>,
    /// The runs behind this, in words.
    pub source: String,
}

/// How a board differs from the profile of a runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// What its runs say.
    posterior: Posterior,
    /// The bandwidth efficiency of the profile, where runs can tell it.
    efficiency: f64,
}

/// A parameter of the speed model as runs on a board see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refined {
    /// Which.
    pub parameter: Parameter,
    /// The factor on the time that depends on it.
    pub factor: f64,
    /// The standard deviation of that factor, as a share of it.
    pub deviation: f64,
    /// The profile's value and the refined one, of a parameter that has a unit of its own.
    pub value: Option<[f64; 2]>,
}

/// What a time depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// All of it alike.
    Common,
    /// The share of the memory bandwidth that reads of weights reach.
    Bandwidth,
    /// The cycles of arithmetic.
    Arithmetic,
    /// Attention over the cache.
    Cache,
    /// Kernel launches.
    Launch,
    /// The host.
    Host,
}

impl Parameter {
    /// In the order of the terms of a [`Posterior`].
    const ALL: [Parameter; 6] = [
        Parameter::Common,
        Parameter::Bandwidth,
        Parameter::Arithmetic,
        Parameter::Cache,
        Parameter::Launch,
        Parameter::Host,
    ];

    /// Its name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Parameter::Common => "common",
            Parameter::Bandwidth => "bandwidth_efficiency",
            Parameter::Arithmetic => "arithmetic",
            Parameter::Cache => "cache",
            Parameter::Launch => "launch",
            Parameter::Host => "host",
        }
    }

    /// Its name in a sentence, as that of a time.
    fn words(self) -> &'static str {
        match self {
            Parameter::Common => "all times",
            Parameter::Bandwidth => "bandwidth efficiency",
            Parameter::Arithmetic => "arithmetic",
            Parameter::Cache => "attention over the cache",
            Parameter::Launch => "launches",
            Parameter::Host => "host",
        }
    }
}

impl Refined {
    /// `arithmetic x 1.06 (+-9 %)`: the factor on its time with the standard deviation.
    pub fn text(&self) -> String {
        let name = self.parameter.words();
        let percent = self.deviation * 100.0;
        match self.value {
            Some([before, after]) => format!("{name} {before:.2} -> {after:.2} (+-{percent:.0} %)"),
            None => format!("{name} x {:.2} (+-{percent:.0} %)", self.factor),
        }
    }
}

impl Correction {
    /// How many runs and how many models it rests on.
    pub fn counts(&self) -> [usize; 2] {
        [self.posterior.runs, self.posterior.models]
    }

    /// The factor on the rates of another model whose time consists of the same as that of the runs.
    pub fn factor(&self) -> f64 {
        (-self.posterior.typical().0).exp()
    }

    /// The factor, at least 1, by which its corrected rate may still be off either way.
    pub fn spread(&self) -> f64 {
        (super::posterior::REACH * self.posterior.typical().1).exp()
    }

    /// The parameters that the runs can tell.
    pub fn parameters(&self) -> Vec<Refined> {
        let terms = Parameter::ALL.into_iter().zip(0..);
        let known = terms.filter_map(|(parameter, term)| {
            let (mean, deviation) = self.posterior.term(term)?;
            let is_efficiency = parameter == Parameter::Bandwidth;
            let refined = reached(self.efficiency, mean);
            Some(Refined {
                parameter,
                factor: mean.exp(),
                deviation: deviation.exp() - 1.0,
                value: is_efficiency.then_some([self.efficiency, refined]),
            })
        });
        known.collect()
    }

    /// The factor on the time of `model` that its parameters do not explain: that of the whole board, and what its own runs
    /// show.
    pub fn whole(&self, model: &str) -> f64 {
        let [common, ..] = self.posterior.means();
        (common + self.posterior.of_model(model)).exp()
    }

    /// `speed` with the refined parameters, for decode steps of `model`.
    pub fn decoding(&self, speed: &Speed, model: &str) -> Speed {
        let [_, bandwidth, arithmetic, cache, launch, host] = self.posterior.means();
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
            (&mut speed.spread, self.whole(model)),
        ] {
            scale(range, factor);
        }
        speed.attention.decode_scale *= cache.exp();
        speed
    }

    /// A side of a range of `model`'s times, in logarithms, after the runs.
    pub fn side(&self, model: &str, shares: Option<Shares>, side: f64) -> f64 {
        self.posterior.side(model, shares, side)
    }
}

/// The bandwidth efficiency where reads take `longer`, in logarithms: at most all of the bandwidth.
fn reached(efficiency: f64, longer: f64) -> f64 {
    (efficiency * (-longer).exp()).min(1.0)
}

fn scale(range: &mut Range, factor: f64) {
    for end in [&mut range.low, &mut range.expected, &mut range.high] {
        *end *= factor;
    }
}

impl Learned {
    /// What was learned, a phrase each: the parameters of decode steps, then prompts, then memory.
    pub fn phrases(&self) -> Vec<String> {
        let decode = self.decode.iter().flat_map(Correction::parameters);
        let prefill = self.prefill.iter().flat_map(Correction::parameters);
        let prompts = prefill.map(|one| {
            let percent = one.deviation * 100.0;
            format!("prompts x {:.2} (+-{percent:.0} %)", one.factor)
        });
        let memory = self
            .more_memory
            .map(|more| format!("{:+.1} MiB of memory", more / 1_048_576.0));
        let decode = decode.map(|one| one.text());
        decode.chain(prompts).chain(memory).collect()
    }
}

impl Runs {
    /// Runtime, power mode and what was learned of them, for all that ran on `device`, in the order of their first runs.
    /// Runs of a runtime that is not known say nothing.
    pub fn of_device(&self, device: &str) -> Vec<(&str, &str, Learned)> {
        let mut found: Vec<(&str, &str, Learned)> = Vec::new();
        for run in self.run.iter().filter(|run| run.device == device) {
            let (runtime, mode) = (run.runtime.as_str(), run.power_mode.as_str());
            if found
                .iter()
                .any(|known| (known.0, known.1) == (runtime, mode))
            {
                continue;
            }
            let Ok(profile) = super::find(runtime) else {
                continue;
            };
            let learned = self.learned(&profile, device, mode);
            found.extend(learned.map(|learned| (runtime, mode, learned)));
        }
        found
    }

    /// What was learned of `runtime` on `device` in `power_mode`; `None` if there is no run.
    pub fn learned(
        &self,
        runtime: &RuntimeProfile,
        device: &str,
        power_mode: &str,
    ) -> Option<Learned> {
        let here = |run: &&Run| {
            run.runtime == runtime.id && run.device == device && run.power_mode == power_mode
        };
        let mut runs: Vec<&Run> = self.run.iter().filter(here).collect();
        if runs.iter().any(|run| run.disturbed.is_empty()) {
            runs.retain(|run| run.disturbed.is_empty());
        }
        let (first, last) = (runs.first()?, runs.last()?);
        let correction = |widths: Widths, samples: Vec<Sample<'_>>| {
            Some(Correction {
                posterior: Posterior::new(widths, &samples)?,
                efficiency: runtime.speed.bandwidth_efficiency.expected,
            })
        };
        let decodes = runs.iter();
        let decodes = decodes.filter_map(|run| Some(sample(run, run.decode?, run.shares)));
        let prompts = runs.iter();
        let prompts = prompts.filter_map(|run| Some(sample(run, run.prefill?, None)));
        let more: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.memory)
            .map(|pair| pair.measured - pair.predicted)
            .collect();
        let days = if first.date == last.date {
            format!("on {}", last.date)
        } else {
            format!("from {} to {}", first.date, last.date)
        };
        Some(Learned {
            decode: correction(Widths::of_decode(&runtime.speed), decodes.collect()),
            prefill: correction(Widths::of_prefill(&runtime.speed), prompts.collect()),
            more_memory: median(more),
            source: format!(
                "{} of {} {days}, the last by orinplan {}",
                match runs.len() {
                    1 => "1 run".to_owned(),
                    count => format!("{count} runs"),
                },
                // Not every server says what it is.
                Some(&last.engine)
                    .filter(|engine| !engine.is_empty())
                    .unwrap_or(&last.runtime),
                last.version
            ),
        })
    }
}

fn sample(run: &Run, rates: Pair, shares: Option<Shares>) -> Sample<'_> {
    Sample {
        model: &run.model,
        shares,
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
        assert_eq!(runs.learned(&runtime, "orin-nano-8gb", "25W"), None);
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
}
