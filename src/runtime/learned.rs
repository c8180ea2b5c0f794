//! What runs on a device say about a runtime: which parameters of its speed model differ there and by how much, and how
//! much more memory it takes.
//!
//! [`Learned`] is what `refine` computes from runs and a profile, and by which a plan is corrected.

use super::posterior::{Posterior, Shares};
pub use super::runs::{Added, Pair, Run, Runs, RunsError, Setup};

/// The runtime that `orinplan calibrate` measures, by its id.
pub const CALIBRATED: &str = "llama-bench";

/// Other power modes than the planned one, where all runs are of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherModes {
    /// The modes.
    pub modes: Vec<String>,
    /// Whether `orinplan calibrate` can measure the runtime here: it has the kernels of [`CALIBRATED`], and the device is
    /// this machine.
    pub by_calibrate: bool,
}

/// What was learned of one runtime on one device in one power mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Of decode steps.
    pub decode: Option<Correction>,
    /// Of prompts.
    pub prefill: Option<Correction>,
    /// Bytes that the runtime takes beyond what its profile says; negative if less.
    pub more_memory: Option<f64>,
    /// The runtimes whose runs these are, by id: its own, those with the same kernels, or both.
    pub runs_of: Vec<String>,
    /// The power modes of the runs.
    pub modes: Vec<String>,
    /// The runs behind this, in words.
    pub source: String,
}

/// What was learned of a runtime in a power mode of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedThere {
    /// The runtime, by id.
    pub runtime: String,
    /// The mode.
    pub power_mode: String,
    /// What was learned.
    pub learned: Learned,
}

/// How a board differs from the profile of a runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// What its runs say.
    pub(super) posterior: Posterior,
    /// The bandwidth efficiency of the profile, where runs can tell it.
    pub(super) efficiency: f64,
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
    pub(super) const ALL: [Parameter; 6] = [
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

    /// The factor on the time of `model` that its own runs alone show.
    pub fn own(&self, model: &str) -> f64 {
        self.posterior.of_model(model).exp()
    }

    /// A side of a range of `model`'s times, in logarithms, after the runs.
    pub fn side(&self, model: &str, shares: Option<Shares>, side: f64) -> f64 {
        self.posterior.side(model, shares, side)
    }
}

/// The bandwidth efficiency where reads take `longer`, in logarithms: at most all of the bandwidth.
pub(super) fn reached(efficiency: f64, longer: f64) -> f64 {
    (efficiency * (-longer).exp()).min(1.0)
}

impl Learned {
    /// What was learned, a phrase each: the parameters of decode steps, what is peculiar to `model`, prompts, memory.
    pub fn phrases(&self, model: Option<&str>) -> Vec<String> {
        let own = model.and_then(|model| {
            let factor = self.decode.as_ref()?.own(model);
            ((factor - 1.0).abs() >= 0.005).then(|| format!("this model x {factor:.2}"))
        });
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
        decode.chain(own).chain(prompts).chain(memory).collect()
    }
}
