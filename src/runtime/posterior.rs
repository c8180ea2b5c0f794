//! What runs say about the parameters of a speed model: a Gaussian update in natural logarithms of time.
//!
//! In: how far each run was off and what its time consists of, and how far boards, models and runs differ ([`Widths`]). Out:
//! [`Posterior`]. Pure arithmetic.
//!
//! The logarithm of the measured over the predicted time of a run is
//!
//! ```text
//! common + sum over parameters of  share x change  + error of its model + noise
//! ```
//!
//! `share` is the elasticity of the predicted time to the parameter; far from the profile, where a part takes a larger share
//! than predicted, that there (`update`). `common` and the changes belong to the board, the
//! error to all runs of one model there, the noise to one run alone; each is normal around 0 with a width of its own. So
//! several runs of one model are not as many models. Three sets of widths are weighed against each other by the runs: see
//! `BELIEFS`.

mod update;

use serde::{Deserialize, Serialize};

use update::{Case, Groups, mean};

/// The elasticities of a predicted decode time to the parameters of the speed model; they sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Reading weights and state from memory.
    pub bandwidth: f64,
    /// Unpacking and multiplying them.
    pub arithmetic: f64,
    /// Attention over cached keys and values.
    pub cache: f64,
    /// Kernel launches.
    pub launch: f64,
    /// Work on the host.
    pub host: f64,
}

impl Shares {
    /// Whether each is a share.
    pub(super) fn are_shares(&self) -> bool {
        let values = self.values();
        let sum: f64 = values.iter().sum();
        values.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() < 1e-3
    }

    fn values(&self) -> [f64; 5] {
        [
            self.bandwidth,
            self.arithmetic,
            self.cache,
            self.launch,
            self.host,
        ]
    }
}

/// What a time depends on: the factor common to all of it, the parameters in the order of [`Shares`], and two that no
/// predicted time has.
///
/// The host of another runtime with the same kernels: its runs speak of that one where the runtime's own speak of its own, so
/// that a slow host of the one is not taken for slow kernels of the other. And by how much other power modes are off as a
/// whole: the model of operations is one of clocks, so their runs speak of the same parameters, but not as surely.
pub const TERMS: usize = 8;

const HOST: usize = 5;
pub(super) const OTHER_HOST: usize = 6;
pub(super) const OTHER_MODE: usize = 7;

/// The terms that are parts of a time, rather than factors on all of it.
const PARTS: std::ops::Range<usize> = 1..OTHER_MODE;

type Vector = [f64; TERMS];

/// The weight of each term in a time of the runtime itself with these shares; without shares only that of the common factor.
pub fn weights(shares: Option<Shares>) -> [f64; TERMS] {
    let shares = shares.unwrap_or_default().values();
    let mut weights = [0.0; TERMS];
    weights[0] = 1.0;
    for (weight, share) in weights.iter_mut().skip(1).zip(shares) {
        *weight = share;
    }
    weights
}

/// Standard deviations of what boards, models and runs differ by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Widths {
    /// Of the terms of a board.
    pub(super) terms: [f64; TERMS],
    /// Of the error of a model.
    pub(super) model: f64,
    /// Of a run alone; above 0.
    pub(super) run: f64,
}

/// Ranges reach this many standard deviations: 92 % of a normal distribution lie between.
pub(super) const REACH: f64 = 1.75;

impl Widths {
    /// The variance of a time with these weights before any run.
    fn variance(&self, weights: &Vector) -> f64 {
        let terms = weights.iter().zip(&self.terms);
        let terms: f64 = terms.map(|(weight, width)| (weight * width).powi(2)).sum();
        terms + self.model.powi(2) + self.run.powi(2)
    }
}

/// One run: the logarithm of the measured over the predicted time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    pub(super) model: &'a str,
    pub(super) shares: Option<Shares>,
    /// Whether another runtime with the same kernels ran it.
    pub(super) of_another: bool,
    /// Whether it ran in another power mode.
    pub(super) in_another: bool,
    pub(super) off: f64,
}

impl Sample<'_> {
    fn weights(&self) -> Vector {
        let mut weights = weights(self.shares);
        if self.of_another {
            weights.swap(HOST, OTHER_HOST);
        }
        weights[OTHER_MODE] = f64::from(self.in_another);
        weights
    }
}

/// A belief about boards, models and runs before any run.
struct Belief {
    /// How likely it is.
    odds: f64,
    /// By how much all of a board's time differs at least, where runs do not say what it consists of (prompts).
    whole: f64,
    /// By how much each parameter of a board differs at least.
    parts: f64,
    /// How many times their widths models and runs scatter.
    scatter: f64,
}

/// Most boards, models and runs differ as the published ones do; that is the first. But a board may be unlike them all
/// (another memory clock, another build), and a model may be one that the speed model does not fit. Runs that are far off
/// are then one or the other: those of one model say little about which, while models that are off alike speak of the
/// board, and runs that contradict each other of scatter. A board is unlike others in its parts, not in all of its time at
/// once: a common factor as wide as they are would be taken for slow memory together with slow launches. How often either is
/// so is a belief: no place of the published rows is unlike the others, and with these odds three of their runs seldom make
/// the predictions of other models worse (docs/speed.md).
const BELIEFS: [Belief; 3] = [
    Belief {
        odds: 0.7,
        whole: 0.0,
        parts: 0.0,
        scatter: 1.0,
    },
    Belief {
        odds: 0.1,
        whole: 0.15,
        parts: 0.25,
        scatter: 1.0,
    },
    Belief {
        odds: 0.2,
        whole: 0.0,
        parts: 0.0,
        scatter: 3.0,
    },
];

/// What is believed of a board after its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    widths: Widths,
    /// Each of [`BELIEFS`] with its probability.
    cases: Vec<(f64, Case)>,
    /// How many runs it rests on.
    pub runs: usize,
    /// How many models.
    pub models: usize,
    /// The weights of the runs, on average.
    typical: Vector,
}

impl Posterior {
    /// The belief after `samples`; `None` if there is none.
    pub(super) fn new(widths: Widths, samples: &[Sample<'_>]) -> Option<Posterior> {
        if samples.is_empty() {
            return None;
        }
        let mut groups: Groups<'_> = Groups::new();
        for sample in samples {
            let group = groups.entry(sample.model).or_default();
            group.push((sample.weights(), sample.off));
        }
        let by_parts = samples.iter().all(|sample| sample.shares.is_some());
        let cases = BELIEFS.iter().map(|belief| {
            let mut terms = widths.terms;
            if !by_parts {
                terms[0] = terms[0].max(belief.whole);
            }
            for width in terms[PARTS].iter_mut().filter(|width| **width > 0.0) {
                *width = width.max(belief.parts);
            }
            let widths = Widths {
                terms,
                model: widths.model * belief.scatter,
                run: widths.run * belief.scatter,
            };
            let case = Case::new(widths, &groups);
            (belief.odds.ln() + case.evidence, case)
        });
        let mut cases: Vec<(f64, Case)> = cases.collect();
        let most = cases.iter().map(|(odds, _)| *odds).fold(f64::MIN, f64::max);
        let total: f64 = cases.iter().map(|(odds, _)| (odds - most).exp()).sum();
        for (odds, _) in &mut cases {
            *odds = (*odds - most).exp() / total;
        }
        let all = groups.values().flatten();
        let mut typical = mean(all.map(|(weights, _)| weights));
        // No time that is predicted depends on these.
        typical[OTHER_HOST] = 0.0;
        typical[OTHER_MODE] = 0.0;
        Some(Posterior {
            cases,
            runs: samples.len(),
            models: groups.len(),
            typical,
            widths,
        })
    }

    /// What is believed of a term: its mean and its standard deviation, in logarithms; `None` where it cannot change.
    pub(super) fn term(&self, term: usize) -> Option<(f64, f64)> {
        let known = self.widths.terms[term] > 0.0 && self.typical[term] > 0.0;
        known.then(|| self.together(|case| (case.mean[term], case.covariance[term][term].max(0.0))))
    }

    /// The mean of each term.
    pub(super) fn means(&self) -> Vector {
        std::array::from_fn(|term| {
            let cases = self.cases.iter();
            cases.map(|(odds, case)| odds * case.mean[term]).sum()
        })
    }

    /// The error of a model's time that its own runs show; 0 without any.
    pub(super) fn of_model(&self, model: &str) -> f64 {
        let cases = self.cases.iter();
        cases.map(|(odds, case)| odds * case.of_model(model)).sum()
    }

    /// The mean and the standard deviation of another model's time whose shares are those of the runs.
    pub(super) fn typical(&self) -> (f64, f64) {
        self.together(|case| case.outlook(&self.typical, None))
    }

    /// A side of a range, in logarithms, after the runs. It narrows as the standard deviation of the time does, and no
    /// further than that deviation itself reaches; runs never widen it.
    pub fn side(&self, model: &str, shares: Option<Shares>, side: f64) -> f64 {
        let weights = weights(shares);
        let (_, after) = self.together(|case| case.outlook(&weights, Some(model)));
        let before = self.widths.variance(&weights).sqrt();
        let narrowed = side * (after / before).min(1.0);
        narrowed.max(side.min(REACH * after))
    }

    /// The mean and the standard deviation over all cases, from those of each: the mean and the variance.
    fn together(&self, of: impl Fn(&Case) -> (f64, f64)) -> (f64, f64) {
        let each: Vec<(f64, (f64, f64))> = self
            .cases
            .iter()
            .map(|(odds, case)| (*odds, of(case)))
            .collect();
        let middle: f64 = each.iter().map(|(odds, (mean, _))| odds * mean).sum();
        let variance: f64 = each
            .iter()
            .map(|(odds, (mean, variance))| odds * (variance + (mean - middle).powi(2)))
            .sum();
        (middle, variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const WIDTHS: Widths = Widths {
        terms: [0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0],
        model: 0.1,
        run: 0.1,
    };
    pub(super) const MEMORY: Shares = Shares {
        bandwidth: 1.0,
        arithmetic: 0.0,
        cache: 0.0,
        launch: 0.0,
        host: 0.0,
    };

    /// A step that is so much host, and memory else.
    pub(super) fn on_host(host: f64) -> Shares {
        Shares {
            bandwidth: 1.0 - host,
            host,
            ..Shares::default()
        }
    }

    /// Runs of another runtime tell of its host, and so neither of this one's nor of what both share.
    #[test]
    fn the_host_of_another_runtime_is_its_own() {
        let widths = Widths {
            terms: [0.01, 0.1, 0.1, 0.1, 0.1, 0.3, 0.5, 0.0],
            model: 0.01,
            run: 0.01,
        };
        let samples = [("a", 0.9), ("b", 0.1)].map(|(model, host)| Sample {
            model,
            shares: Some(on_host(host)),
            of_another: true,
            in_another: false,
            off: (1.0 + host).ln(),
        });
        let found = Posterior::new(widths, &samples).unwrap();
        let means = found.means();
        assert!((means[OTHER_HOST].exp() - 2.0).abs() < 0.1, "{means:?}");
        assert_eq!(means[HOST], 0.0);
        assert!(
            means[1].abs() < 0.02 && found.typical().0.abs() < 0.02,
            "{means:?}"
        );
        assert_eq!(found.term(HOST), None);
    }

    fn posterior(samples: &[(&'static str, f64)]) -> Posterior {
        let samples = samples.iter().map(|(model, off)| Sample {
            model,
            shares: Some(MEMORY),
            of_another: false,
            in_another: false,
            off: *off,
        });
        Posterior::new(WIDTHS, &samples.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn ranges_never_become_narrower_than_the_scatter() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let many: Vec<(&str, f64)> = names.iter().cycle().take(400).map(|n| (*n, 0.1)).collect();
        let many = posterior(&many);
        let scatter = REACH * (0.1f64.powi(2) + 0.1f64.powi(2)).sqrt();
        let another = many.side("z", Some(MEMORY), 0.6);
        assert!((scatter..0.6).contains(&another), "{another} {scatter}");
        let own = many.side("a", Some(MEMORY), 0.6);
        assert!((REACH * 0.1..another).contains(&own), "{own}");
        // Three runs of one model hardly narrow the range of another, and none widens one.
        let three = posterior(&[("a", 0.1), ("a", 0.1), ("a", 0.1)]).side("z", Some(MEMORY), 0.6);
        assert!((another..0.6).contains(&three), "{three}");
        for side in [0.0, 0.01, 0.2, f64::INFINITY] {
            assert!(many.side("z", Some(MEMORY), side) <= side);
        }
    }

    #[test]
    fn models_that_are_off_alike_speak_of_the_board() {
        let narrow = Widths {
            terms: [0.01, 0.03, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0],
            model: 0.05,
            run: 0.05,
        };
        let learned = |runs: &[(&'static str, f64)]| {
            let samples = runs.iter().map(|(model, off)| Sample {
                model,
                shares: Some(MEMORY),
                of_another: false,
                in_another: false,
                off: *off,
            });
            let found = Posterior::new(narrow, &samples.collect::<Vec<_>>()).unwrap();
            found.typical().0
        };
        let alike = learned(&[("a", 0.25), ("b", 0.25), ("c", 0.25)]);
        let of_one = learned(&[("a", 0.25), ("a", 0.25), ("a", 0.25)]);
        let apart = learned(&[("a", 0.5), ("b", -0.1), ("c", 0.35)]);
        assert!(alike > 0.2 && of_one < alike, "{alike} {of_one}");
        assert!(apart < 0.1, "{apart}");
    }
}
