//! What runs on a device say about a runtime: by which factor its rates are off there, and how much more memory it
//! takes.
//!
//! In: the runs on record. Out: [`Learned`], by which a plan is corrected.

pub use super::runs::{Added, Pair, Run, Runs, RunsError};

/// What was learned of one runtime on one device in one power mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Measured over predicted decode rates.
    pub decode: Option<Factor>,
    /// Measured over predicted prefill rates.
    pub prefill: Option<Factor>,
    /// Bytes that the runtime takes beyond what its profile says; negative if less.
    pub more_memory: Option<f64>,
    /// The runs behind this, in words.
    pub source: String,
}

/// The ratio of measured to predicted over models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The median over models and formats, shrunk towards 1 while they are few.
    pub value: f64,
    /// The factor, at least 1, by which a corrected rate may still be off either way.
    pub spread: f64,
    /// How many models and formats it rests on.
    pub count: usize,
}

impl Runs {
    /// Runtime, power mode and what was learned of them, for all that ran on `device`, in the order of their first runs.
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

    /// What was learned of `runtime` on `device` in `power_mode`; `None` if there is no run.
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
                // Not every server says what it is.
                Some(&last.engine)
                    .filter(|engine| !engine.is_empty())
                    .unwrap_or(&last.runtime),
                last.version
            ),
        })
    }
}

/// The factor for the logarithms of ratios. It is shrunk towards 1, because few runs say little: `n` runs move it
/// n / (n + 1) of the way to their median. The spread is the largest distance of a run from it, and at least 5 %.
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
        Run::example(model, measured)
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
        assert_eq!(
            Runs::parse(&runs.text(), "runs.toml").unwrap(),
            (runs.clone(), Vec::new())
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
        assert_eq!(learned(&runs).decode.unwrap().value, 0.5f64.sqrt());
        assert_eq!(
            Runs::parse(&runs.text(), "runs.toml").unwrap(),
            (runs.clone(), Vec::new())
        );
        // An undisturbed run of another model outweighs it, one of the same model replaces it.
        runs.add(run("b", 10.0));
        assert_eq!(learned(&runs).decode.unwrap().value, 1.0);
        assert_eq!(runs.add(run("a", 10.0)), Added::Kept);
        assert_eq!(runs.add(disturbed("a", 5.0)), Added::Outweighed);
        assert_eq!(learned(&runs).decode.unwrap().count, 2);
    }
}
