//! The runs on record: their form in a file, and which of them are kept.
//!
//! In: the text of the file. Out: [`Runs`]. Pure: reads and writes no file. Implausible values
//! are neither read nor written.

use serde::{Deserialize, Serialize};

use super::posterior::Shares;

/// The first key of the file.
const SCHEMA: &str = "orinplan.runs/1";

/// The most runs that are kept; the oldest are dropped first.
const MOST: usize = 500;

/// Where a measurement is this many times above or below its prediction, one of the two is wrong.
const MOST_APART: f64 = 100.0;

/// Runs on record, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    /// The runs.
    pub run: Vec<Run>,
    /// Entries that are not read, such as those of a later version: they stay in the file.
    unread: Vec<toml::Table>,
}

/// One run of a model: what was predicted, and what was measured.
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
    /// Whether it is a model of `orinplan calibrate`, which nobody published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// What it was run with; runs of earlier versions do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// What its predicted decode time consists of. Without them the run speaks of the whole time alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Codes of the checks that found the measurement disturbed. Such a run counts only where there is no undisturbed
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<String>,
    /// Tokens a second.
    pub decode: Option<Pair>,
    /// Prompt tokens a second.
    pub prefill: Option<Pair>,
    /// Bytes at the peak.
    pub memory: Option<Pair>,
}

/// What a model was run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens that it was to generate.
    pub generated_tokens: u64,
    /// Sequences at the same time.
    pub sequences: u64,
}

/// A predicted and a measured value in one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Predicted without what was learned from earlier runs.
    pub predicted: f64,
    /// Measured: the mean over the repeats.
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
                "`predicted` is {}, which is not above 0",
                self.predicted
            )),
            [_, false] => Some(format!(
                "`measured` is {}, which is not above 0",
                self.measured
            )),
            _ if !(1.0 / MOST_APART..=MOST_APART).contains(&(self.measured / self.predicted)) => {
                Some(format!(
                    "`measured` {} is more than {MOST_APART} times from `predicted` {}",
                    self.measured, self.predicted
                ))
            }
            _ => None,
        }
    }
}

/// What [`Runs::add`] did with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    Kept,
    /// It was disturbed, and an undisturbed run of the same model is on record: it was not added.
    Outweighed,
    /// None of its values is plausible: it was not added.
    Empty,
}

/// Why a file holds no runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {problem}; fix it or move it away, or remove all measurements with `orinplan calibrate --reset`"
)]
pub struct RunsError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The file with its entries not yet read, so that a malformed one does not cost the others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsFile {
    schema: String,
    #[serde(default)]
    run: Vec<toml::Table>,
}

impl Run {
    /// The first value that cannot have been measured.
    fn problem(&mut self) -> Option<String> {
        if self.shares.is_some_and(|shares| !shares.are_shares()) {
            return Some("`shares` are not from 0 to 1, or do not sum to 1".to_owned());
        }
        let mut pairs = self.pairs_mut().into_iter();
        pairs.find_map(|pair| (*pair)?.problem())
    }

    fn pairs_mut(&mut self) -> [&mut Option<Pair>; 3] {
        [&mut self.decode, &mut self.prefill, &mut self.memory]
    }
}

impl Runs {
    /// Reads runs; `file` is the file's name for messages. Returns them with a message for each malformed entry, which
    /// is left out.
    ///
    /// # Errors
    /// [`RunsError`] where the text is not TOML, or not a list of runs of this form.
    pub fn parse(text: &str, file: &str) -> Result<(Runs, Vec<String>), RunsError> {
        let wrong = |problem: String| RunsError {
            file: file.to_owned(),
            problem,
        };
        let listed: RunsFile =
            toml::from_str(text).map_err(|error| wrong(crate::input::in_words(error.message())))?;
        if listed.schema != SCHEMA {
            return Err(wrong(format!(
                "its schema is `{}`, not {SCHEMA}",
                listed.schema
            )));
        }
        let (mut runs, mut left_out) = (Runs::default(), Vec::new());
        for (entry, number) in listed.run.into_iter().zip(1..) {
            let problem = match entry.clone().try_into::<Run>() {
                Ok(mut run) => match run.problem() {
                    Some(problem) => problem,
                    None => {
                        runs.run.push(run);
                        continue;
                    }
                },
                // What has another form may be of a later version, and stays.
                Err(error) => {
                    runs.unread.push(entry);
                    crate::input::in_words(error.message())
                }
            };
            left_out.push(format!("{file}: run {number} is left out: {problem}"));
        }
        Ok((runs, left_out))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let read = self
            .run
            .iter()
            .filter_map(|run| toml::Table::try_from(run).ok());
        let file = RunsFile {
            schema: SCHEMA.to_owned(),
            run: self.unread.iter().cloned().chain(read).collect(),
        };
        let table = toml::to_string_pretty(&file).unwrap_or_default();
        format!(
            "# Written by `orinplan calibrate` and `orinplan validate --save-calibration`; `orinplan calibrate --reset` removes it.\n{table}"
        )
    }

    /// Adds a run, without values that are implausible. It replaces an earlier one of the same model, format, runtime,
    /// device and mode with the same setup, unless the new one was disturbed and the earlier one was not.
    pub fn add(&mut self, mut run: Run) -> Added {
        for pair in run.pairs_mut() {
            *pair = pair.filter(|pair| pair.problem().is_none());
        }
        run.shares = run.shares.filter(Shares::are_shares);
        if run.pairs_mut().iter().all(|pair| pair.is_none()) {
            return Added::Empty;
        }
        let undisturbed = |old: &Run| old.disturbed.is_empty() && is_again(old, &run);
        if !run.disturbed.is_empty() && self.run.iter().any(undisturbed) {
            return Added::Outweighed;
        }
        self.run.retain(|old| !is_again(old, &run));
        self.run.push(run);
        let surplus = self.run.len().saturating_sub(MOST);
        self.run.drain(..surplus);
        Added::Kept
    }

    /// Adds the runs of a calibration as [`Runs::add`] does. Those of an earlier one stay where they were not measured again,
    /// unless their model is not among `models` any more: the names of all that a calibration runs now.
    pub fn calibrate(&mut self, runs: Vec<Run>, models: &[String]) -> Vec<Added> {
        let place = |run: &Run| [&run.runtime, &run.device, &run.power_mode].map(String::clone);
        let places: Vec<[String; 3]> = runs.iter().map(place).collect();
        let added = runs.into_iter().map(|run| self.add(run)).collect();
        let is_kept = |old: &Run| {
            !old.synthetic || models.contains(&old.model) || !places.contains(&place(old))
        };
        self.run.retain(is_kept);
        added
    }
}

/// Whether `new` is of the same thing as `old`: one that does not say its setup may be of any.
fn is_again(old: &Run, new: &Run) -> bool {
    key(old) == key(new) && (old.setup.is_none() || old.setup == new.setup)
}

/// What a run is of, its setup aside.
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

#[cfg(test)]
impl Run {
    /// A run of `model` in which 10 tokens a second were predicted and `measured` were measured.
    pub(crate) fn example(model: &str, measured: f64) -> Run {
        Run {
            date: "2026-11-23".to_owned(),
            version: "0.1.0".to_owned(),
            runtime: "ollama".to_owned(),
            engine: "Ollama 0.30".to_owned(),
            device: "orin-nano-8gb".to_owned(),
            power_mode: "15W".to_owned(),
            model: model.to_owned(),
            scheme: "q4_k_m".to_owned(),
            synthetic: false,
            setup: None,
            shares: None,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Runs, Vec<String>) {
        Runs::parse(text, "runs.toml").unwrap()
    }

    #[test]
    fn an_entry_that_is_no_run_costs_itself_alone() {
        let mut both = Runs::default();
        both.add(Run::example("a", 20.0));
        both.add(Run::example("b", 30.0));
        let mut second = Runs::default();
        second.add(Run::example("b", 30.0));
        for (from, to, says) in [
            ("measured = 20.0", "measured = 0.0", "`measured` is 0"),
            ("measured = 20.0", "measured = nan", "`measured` is NaN"),
            ("measured = 20.0", "measured = \"x\"", "expected a number"),
            ("measured = 20.0", "measured = 219732.0", "100 times"),
            ("predicted = 10.0", "predicted = -1.0", "`predicted` is -1"),
            ("engine", "motor", "motor"),
        ] {
            let text = both.text().replacen(from, to, 1);
            let (left, said) = read(&text);
            assert_eq!(left.run, second.run, "{to}");
            let is_of_another_form = ["motor", "\"x\""].iter().any(|end| to.ends_with(end));
            assert_eq!(left.text().contains(to), is_of_another_form, "{to}");
            assert!(
                said.len() == 1
                    && said[0].starts_with("runs.toml: run 1 is left out: ")
                    && said[0].contains(says),
                "{said:?}"
            );
        }
    }

    #[test]
    fn a_calibration_replaces_what_it_measured_again() {
        let synthetic = |model: &str, measured: f64, prompt_tokens: u64| Run {
            synthetic: true,
            setup: Some(Setup {
                prompt_tokens,
                generated_tokens: 64,
                sequences: 1,
            }),
            ..Run::example(model, measured)
        };
        let elsewhere = Run {
            power_mode: "25W".to_owned(),
            ..synthetic("wide", 9.0, 512)
        };
        let mut runs = Runs::default();
        runs.add(Run::example("a user's", 20.0));
        runs.add(elsewhere.clone());
        let models = ["wide", "narrow"].map(str::to_owned);
        let first = vec![
            synthetic("wide", 9.0, 512),
            synthetic("wide", 8.0, 2048),
            synthetic("retired", 8.0, 512),
        ];
        runs.calibrate(
            first.clone(),
            &[&models[..], &["retired".to_owned()]].concat(),
        );
        assert_eq!(runs.run.len(), 5);
        assert_eq!(read(&runs.text()), (runs.clone(), Vec::new()));
        // There was time for fewer, and one had no rate: what is old and was not measured again stays.
        let empty = Run {
            decode: None,
            memory: None,
            ..synthetic("wide", 7.0, 2048)
        };
        let added = runs.calibrate(vec![synthetic("wide", 7.0, 512), empty], &models);
        assert_eq!(added, [Added::Kept, Added::Empty]);
        let expected = [
            Run::example("a user's", 20.0),
            elsewhere,
            synthetic("wide", 8.0, 2048),
            synthetic("wide", 7.0, 512),
        ];
        assert_eq!(runs.run, expected);
    }

    #[test]
    fn what_no_run_can_have_measured_is_not_written() {
        let mut runs = Runs::default();
        let odd = Run {
            memory: Some(Pair {
                predicted: 1e9,
                measured: 0.0,
            }),
            ..Run::example("a", 20.0)
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
