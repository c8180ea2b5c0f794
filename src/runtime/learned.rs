//! What real runs teach about a runtime on a device: the form in which runs are kept, and the factors
//! that follow from them.
//!
//! In: the text of the file of runs. Out: [`Runs`], and from them [`Learned`]. Pure: whoever knows where
//! the file lies reads and writes it. What no run can have measured is neither taken in nor written.

use serde::{Deserialize, Serialize};

/// The first key of the file.
const SCHEMA: &str = "orinplan.runs/1";

/// Runs that are kept; the oldest go first.
const MOST: usize = 500;

/// A measurement this many times above or below its prediction is an error of one of the two.
const FAR: f64 = 100.0;

/// Runs on record, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Runs {
    schema: String,
    /// The runs.
    pub run: Vec<Run>,
}

/// One run: what was predicted before anything was learned, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The day, `2026-11-23`.
    pub date: String,
    /// The version of orinplan that predicted.
    pub version: String,
    /// The runtime's id.
    pub runtime: String,
    /// The engine and its version, as it names itself.
    pub engine: String,
    /// The device's id.
    pub device: String,
    /// Its power mode.
    pub power_mode: String,
    /// The model.
    pub model: String,
    /// Its format.
    pub scheme: String,
    /// Codes of the reasons for which it may be off. Such a run counts while there is no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<String>,
    /// Tokens a second.
    pub decode: Option<Pair>,
    /// Prompt tokens a second.
    pub prefill: Option<Pair>,
    /// Bytes at the peak.
    pub memory: Option<Pair>,
}

/// A predicted and a measured value in one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Without anything learned.
    pub predicted: f64,
    /// The mean over the repeats.
    pub measured: f64,
}

impl Pair {
    /// The pair, if both are numbers above 0 and no more apart than a run can be from its prediction.
    pub fn new(predicted: f64, measured: f64) -> Option<Pair> {
        let pair = Pair {
            predicted,
            measured,
        };
        pair.problem().is_none().then_some(pair)
    }

    fn problem(&self) -> Option<String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        match [self.predicted, self.measured].map(positive) {
            [false, _] => Some(format!(
                "`predicted` is {}, no number above 0",
                self.predicted
            )),
            [_, false] => Some(format!(
                "`measured` is {}, no number above 0",
                self.measured
            )),
            _ if !(1.0 / FAR..=FAR).contains(&(self.measured / self.predicted)) => Some(format!(
                "`measured` {} is more than {FAR} times from `predicted` {}",
                self.measured, self.predicted
            )),
            _ => None,
        }
    }
}

/// What became of a run that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is among the runs.
    Kept,
    /// It was disturbed, and there is one of the same model that was not.
    Outweighed,
    /// Nothing in it can be learned from.
    Empty,
}

/// What runs say about one runtime on one device in one power mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Measured over predicted decode rates.
    pub decode: Option<Factor>,
    /// Measured over predicted prefill rates.
    pub prefill: Option<Factor>,
    /// Bytes that the runtime takes beyond its profile; negative if less.
    pub more_memory: Option<f64>,
    /// Where this is from, in words.
    pub source: String,
}

/// The ratio of measured to predicted over models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The median over models and formats, drawn towards 1 while they are few.
    pub value: f64,
    /// By what factor a model may be off either way after that: at least 1.
    pub spread: f64,
    /// Models and formats behind it.
    pub count: usize,
}

/// Why a file holds no runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {problem}; mend it or move it away, or forget all that was measured with `orinplan calibrate --reset`"
)]
pub struct RunsError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The file with its entries as they are, so that one that is none does not cost the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    schema: String,
    #[serde(default)]
    run: Vec<toml::Table>,
}

impl Run {
    fn read(entry: toml::Table) -> Result<Run, String> {
        let mut run: Run = entry
            .try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())?;
        let problem = run
            .pairs_mut()
            .into_iter()
            .find_map(|pair| (*pair)?.problem());
        problem.map_or(Ok(run), Err)
    }

    fn pairs_mut(&mut self) -> [&mut Option<Pair>; 3] {
        [&mut self.decode, &mut self.prefill, &mut self.memory]
    }
}

impl Default for Runs {
    fn default() -> Runs {
        Runs {
            schema: SCHEMA.to_owned(),
            run: Vec::new(),
        }
    }
}

impl Runs {
    /// Reads runs; `file` is the file's name for messages. Returns them with a line for each entry that
    /// is none and was left out.
    ///
    /// # Errors
    /// [`RunsError`] where the text is not TOML, or not a list of runs of this form.
    pub fn parse(text: &str, file: &str) -> Result<(Runs, Vec<String>), RunsError> {
        let wrong = |problem: String| RunsError {
            file: file.to_owned(),
            problem,
        };
        let listed: Listed =
            toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if listed.schema != SCHEMA {
            return Err(wrong(format!(
                "its schema is `{}`, not {SCHEMA}",
                listed.schema
            )));
        }
        let (mut runs, mut left_out) = (Runs::default(), Vec::new());
        for (entry, number) in listed.run.into_iter().zip(1..) {
            match Run::read(entry) {
                Ok(run) => runs.run.push(run),
                Err(problem) => {
                    left_out.push(format!("{file}: run {number} is left out: {problem}"))
                }
            }
        }
        Ok((runs, left_out))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let table = toml::to_string_pretty(self).unwrap_or_default();
        format!(
            "# Written by `orinplan validate --save-calibration`; `orinplan calibrate --reset` removes it.\n{table}"
        )
    }

    /// Adds a run, without what it cannot have measured. An earlier one of the same model, format,
    /// runtime, device and mode gives way to it, unless only the new one was disturbed.
    pub fn add(&mut self, mut run: Run) -> Added {
        for pair in run.pairs_mut() {
            *pair = pair.filter(|pair| pair.problem().is_none());
        }
        if run.pairs_mut().iter().all(|pair| pair.is_none()) {
            return Added::Empty;
        }
        let quiet = |old: &Run| old.disturbed.is_empty() && key(old) == key(&run);
        if !run.disturbed.is_empty() && self.run.iter().any(quiet) {
            return Added::Outweighed;
        }
        self.run.retain(|old| key(old) != key(&run));
        self.run.push(run);
        let surplus = self.run.len().saturating_sub(MOST);
        self.run.drain(..surplus);
        Added::Kept
    }

    /// What the runs say about every runtime and power mode of `device`, in the order of their first
    /// runs.
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
            let learned = self.learned(runtime, device, mode);
            found.extend(learned.map(|learned| (runtime, mode, learned)));
        }
        found
    }

    /// What the runs say about `runtime` on `device` in `power_mode`; `None` if there are none.
    pub fn learned(&self, runtime: &str, device: &str, power_mode: &str) -> Option<Learned> {
        let here = |run: &&Run| {
            run.runtime == runtime && run.device == device && run.power_mode == power_mode
        };
        let mut runs: Vec<&Run> = self.run.iter().filter(here).collect();
        if runs.iter().any(|run| run.disturbed.is_empty()) {
            runs.retain(|run| run.disturbed.is_empty());
        }
        let (first, last) = (runs.first()?, runs.last()?);
        let ratios = |pick: fn(&Run) -> Option<Pair>| {
            let pairs = runs.iter().filter_map(|run| pick(run));
            pairs
                .map(|pair| (pair.measured / pair.predicted).ln())
                .collect()
        };
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
            decode: factor(ratios(|run| run.decode)),
            prefill: factor(ratios(|run| run.prefill)),
            more_memory: median(more),
            source: format!(
                "{} of {} {days}, the last by orinplan {}",
                match runs.len() {
                    1 => "1 run".to_owned(),
                    count => format!("{count} runs"),
                },
                last.engine,
                last.version
            ),
        })
    }
}

fn key(run: &Run) -> [&str; 5] {
    [
        &run.runtime,
        &run.device,
        &run.power_mode,
        &run.model,
        &run.scheme,
    ]
    .map(String::as_str)
}

/// The factor behind logarithms of ratios. One run moves it half of the way, `n` runs n / (n + 1):
/// each run has its own accidents. The spread is the largest distance of a run from it, and at least
/// what one run alone would leave open.
fn factor(logarithms: Vec<f64>) -> Option<Factor> {
    let count = logarithms.len();
    let middle = median(logarithms.clone())?;
    let value = middle * count as f64 / (count as f64 + 1.0);
    let farthest = logarithms
        .iter()
        .map(|one| (one - value).abs())
        .fold(0.0, f64::max);
    Some(Factor {
        value: value.exp(),
        spread: farthest.max(0.05).exp(),
        count,
    })
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

    fn run(model: &str, measured: f64) -> Run {
        Run {
            date: "2026-11-23".to_owned(),
            version: "0.1.0".to_owned(),
            runtime: "ollama".to_owned(),
            engine: "Ollama 0.30".to_owned(),
            device: "orin-nano-8gb".to_owned(),
            power_mode: "15W".to_owned(),
            model: model.to_owned(),
            scheme: "q4_k_m".to_owned(),
            disturbed: Vec::new(),
            decode: Some(Pair {
                predicted: 10.0,
                measured,
            }),
            prefill: None,
            memory: Some(Pair {
                predicted: 1e9,
                measured: 1e9 + measured,
            }),
        }
    }

    fn learned(runs: &Runs) -> Learned {
        runs.learned("ollama", "orin-nano-8gb", "15W").unwrap()
    }

    fn read(text: &str) -> (Runs, Vec<String>) {
        Runs::parse(text, "runs.toml").unwrap()
    }

    #[test]
    fn runs_draw_the_factor_from_one_to_their_median() {
        let mut runs = Runs::default();
        assert_eq!(runs.learned("ollama", "orin-nano-8gb", "15W"), None);
        runs.add(run("a", 20.0));
        // One run of twice the rate: half of the way, in logarithms.
        let one = learned(&runs).decode.unwrap();
        assert!((one.value - 2f64.sqrt()).abs() < 1e-9 && (one.spread - 2f64.sqrt()).abs() < 1e-9);
        for (model, rate) in [("b", 20.0), ("c", 20.0)] {
            runs.add(run(model, rate));
        }
        let three = learned(&runs).decode.unwrap();
        assert_eq!(three.count, 3);
        assert!((three.value - 2f64.powf(0.75)).abs() < 1e-9);
        assert_eq!(learned(&runs).more_memory, Some(20.0));
        assert_eq!(learned(&runs).prefill, None);
        assert_eq!(runs.learned("ollama", "orin-nano-8gb", "25W"), None);
    }

    #[test]
    fn a_model_counts_once_and_the_file_comes_back_as_it_was() {
        let mut runs = Runs::default();
        runs.add(run("a", 20.0));
        runs.add(run("a", 10.0));
        assert_eq!(runs.run.len(), 1);
        assert_eq!(learned(&runs).decode.unwrap().value, 1.0);
        assert_eq!(read(&runs.text()), (runs.clone(), Vec::new()));
    }

    #[test]
    fn disturbed_runs_count_while_there_is_no_other() {
        let disturbed = |model: &str, measured: f64| Run {
            disturbed: vec!["other_load".to_owned()],
            ..run(model, measured)
        };
        let mut runs = Runs::default();
        assert_eq!(runs.add(disturbed("a", 5.0)), Added::Kept);
        assert_eq!(learned(&runs).decode.unwrap().value, 0.5f64.sqrt());
        assert_eq!(read(&runs.text()), (runs.clone(), Vec::new()));
        // A quiet run of another model outweighs it, one of the same takes its place for good.
        runs.add(run("b", 10.0));
        assert_eq!(learned(&runs).decode.unwrap().value, 1.0);
        assert_eq!(runs.add(run("a", 10.0)), Added::Kept);
        assert_eq!(runs.add(disturbed("a", 5.0)), Added::Outweighed);
        assert_eq!(learned(&runs).decode.unwrap().count, 2);
    }

    #[test]
    fn an_entry_that_is_no_run_costs_itself_alone() {
        let mut both = Runs::default();
        both.add(run("a", 20.0));
        both.add(run("b", 30.0));
        let mut second = Runs::default();
        second.add(run("b", 30.0));
        for (from, to, says) in [
            ("measured = 20.0", "measured = 0.0", "`measured` is 0"),
            ("measured = 20.0", "measured = nan", "`measured` is NaN"),
            ("measured = 20.0", "measured = \"x\"", "invalid type"),
            ("measured = 20.0", "measured = 219732.0", "100 times"),
            ("predicted = 10.0", "predicted = -1.0", "`predicted` is -1"),
            ("engine", "motor", "motor"),
        ] {
            let text = both.text().replacen(from, to, 1);
            let (left, said) = read(&text);
            assert_eq!(left, second, "{to}");
            assert!(
                said.len() == 1
                    && said[0].starts_with("runs.toml: run 1 is left out: ")
                    && said[0].contains(says),
                "{said:?}"
            );
        }
    }

    #[test]
    fn what_no_run_can_have_measured_is_not_written() {
        let mut runs = Runs::default();
        let odd = Run {
            memory: Some(Pair {
                predicted: 1e9,
                measured: 0.0,
            }),
            ..run("a", 20.0)
        };
        assert_eq!(runs.add(odd.clone()), Added::Kept);
        assert_eq!((runs.run[0].memory, runs.run[0].decode), (None, odd.decode));
        assert_eq!(read(&runs.text()), (runs.clone(), Vec::new()));
        let empty = Run {
            decode: None,
            ..odd
        };
        assert_eq!(runs.add(empty), Added::Empty);
        assert_eq!(runs.run.len(), 1);
        assert_eq!(Pair::new(10.0, f64::INFINITY), None);
    }

    #[test]
    fn files_that_hold_no_list_of_runs_are_refused() {
        for text in [
            "schema = \"orinplan.runs/9\"",
            "run = 3",
            "[[[",
            "",
            "schema = \"orinplan.runs/1\"\nmore = 1",
        ] {
            let message = Runs::parse(text, "runs.toml").unwrap_err().to_string();
            assert!(
                message.starts_with("runs.toml: ") && message.contains("--reset"),
                "{message}"
            );
        }
    }
}
