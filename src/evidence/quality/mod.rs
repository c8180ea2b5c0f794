//! What a format costs in quality: the divergence of its predictions from those of the 16-bit original, in nats a token.
//!
//! In: the measurements of `profiles/quality.csv`, part of the program, or a file that measured the very model. Out: a
//! [`Quality`] for a format. Must not: read files or weigh quality against anything else.

mod cache;
mod effects;
mod measured;
mod prior;
mod table;

pub use cache::CacheCosts;
pub use measured::{MeasuredQuality, PLAIN_CACHE, PlannedFile, QualityFileError};
pub use prior::{Asked, Prior, prior};
pub use table::{QUALITY, QualityRow, parse, rows};

/// The divergence that is expected of a file: the mean Kullback-Leibler divergence in nats a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// The most likely value.
    pub kld: f64,
    /// In nine of ten cases it is at least this.
    pub low: f64,
    /// In nine of ten cases it is at most this.
    pub high: f64,
    /// Where it comes from.
    pub basis: Basis,
}

/// Where a divergence comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Basis {
    /// The original itself, or a copy of it in 16 bit.
    Original,
    /// The measurements of other models.
    Prior(PriorEvidence),
    /// A measurement of this model.
    Measured(Experiment),
    /// The sum of what this model's tensors were measured to cost one by one.
    Sensitivity(Experiment),
}

/// The measurements behind an expected divergence.
#[derive(Clone, Debug, PartialEq)]
pub struct PriorEvidence {
    /// Measurements of the format that the expectation rests on.
    pub measurements: usize,
    /// The models that they are of.
    pub models: usize,
    /// The measurement of the format on the most similar model.
    pub nearest: &'static QualityRow,
}

/// How a model's quality was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// The name of the file that holds the measurement.
    pub file: String,
    /// The name of the text.
    pub text: String,
    /// The tokens of it that were scored.
    pub tokens: u64,
}

impl Quality {
    /// The original, or a copy of it that loses nothing.
    pub fn original() -> Quality {
        Quality {
            kld: 0.0,
            low: 0.0,
            high: 0.0,
            basis: Basis::Original,
        }
    }

    /// The quality of a file that was made from one of quality `first`: divergences add.
    #[must_use]
    pub fn after(self, first: &Quality) -> Quality {
        Quality {
            kld: self.kld + first.kld,
            low: self.low + first.low,
            high: self.high + first.high,
            basis: match self.basis {
                Basis::Original => first.basis.clone(),
                basis => basis,
            },
        }
    }
}

/// The number of standard deviations within which a normal value lies in eight of ten cases.
const EIGHT_OF_TEN: f64 = 1.2816;
