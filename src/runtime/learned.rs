//! What real runs teach about a runtime on a device: the form in which runs are kept, and the factors
//! that follow from them.
//!
//! In: the text of the file of runs. Out: [`Runs`], and from them [`Learned`]. Pure: whoever knows where
//! the file lies reads and writes it.

use serde::{Deserialize, Serialize};

/// The first key of the file.
const SCHEMA: &str = "orinplan.runs/1";

/// Runs that are kept; the oldest go first.
const MOST: usize = 500;

/// Runs on record, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    schema: String,
    /// The runs.
    #[serde(default)]
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
#[error("{file}: {problem}; `orinplan calibrate --reset` forgets what was learned")]
pub struct RunsError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
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
    /// Reads runs; `file` is the file's name for messages.
    ///
    /// # Errors
    /// [`RunsError`] where the text is not TOML of this form, or a value is not a positive number.
    pub fn parse(text: &str, file: &str) -> Result<Runs, RunsError> {
        let wrong = |problem: String| RunsError {
            file: file.to_owned(),
            problem,
        };
        let runs: Runs = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if runs.schema != SCHEMA {
            return Err(wrong(format!(
                "its schema is `{}`, not {SCHEMA}",
                runs.schema
            )));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        for (run, number) in runs.run.iter().zip(1..) {
            let pairs = [run.decode, run.prefill, run.memory].into_iter().flatten();
            for Pair {
                predicted,
                measured,
            } in pairs
            {
                if !positive(predicted) || !positive(measured) {
                    return Err(wrong(format!(
                        "run {number} holds a value that is no number above 0"
                    )));
                }
            }
        }
        Ok(runs)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let table = toml::to_string_pretty(self).unwrap_or_default();
        format!(
            "# Written by `orinplan validate --save-calibration`; `orinplan calibrate --reset` removes it.\n{table}"
        )
    }

    /// Adds a run. An earlier one of the same model, format, runtime, device and mode gives way to it,
    /// unless only the new one was disturbed: then that is left out, and the answer is `false`.
    pub fn add(&mut self, run: Run) -> bool {
        let quiet = |old: &Run| old.disturbed.is_empty() && key(old) == key(&run);
        if !run.disturbed.is_empty() && self.run.iter().any(quiet) {
            return false;
        }
        self.run.retain(|old| key(old) != key(&run));
        self.run.push(run);
        let surplus = self.run.len().saturating_sub(MOST);
        self.run.drain(..surplus);
        true
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
        let days = match first.date == last.date {
            true => format!("on {}", last.date),
            false => format!("from {} to {}", first.date, last.date),
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
        assert_eq!(Runs::parse(&runs.text(), "runs.toml").unwrap(), runs);
    }

    #[test]
    fn disturbed_runs_count_while_there_is_no_other() {
        let disturbed = |model: &str, measured: f64| Run {
            disturbed: vec!["other_load".to_owned()],
            ..run(model, measured)
        };
        let mut runs = Runs::default();
        assert!(runs.add(disturbed("a", 5.0)));
        assert_eq!(learned(&runs).decode.unwrap().value, 0.5f64.sqrt());
        assert_eq!(Runs::parse(&runs.text(), "runs.toml").unwrap(), runs);
        // A quiet run of another model outweighs it, one of the same takes its place for good.
        runs.add(run("b", 10.0));
        assert_eq!(learned(&runs).decode.unwrap().value, 1.0);
        assert!(runs.add(run("a", 10.0)));
        assert!(!runs.add(disturbed("a", 5.0)));
        assert_eq!(learned(&runs).decode.unwrap().count, 2);
    }

    #[test]
    fn files_that_hold_no_runs_are_refused() {
        let text = {
            let mut runs = Runs::default();
            runs.add(run("a", 20.0));
            runs.text()
        };
        for (from, to) in [
            ("orinplan.runs/1", "orinplan.runs/9"),
            ("measured = 20.0", "measured = -1.0"),
            ("measured = 20.0", "measured = nan"),
            ("engine", "motor"),
        ] {
            let error = Runs::parse(&text.replacen(from, to, 1), "runs.toml").unwrap_err();
            let message = error.to_string();
            assert!(
                message.starts_with("runs.toml: ") && message.contains("--reset"),
                "{message}"
            );
        }
    }
}
