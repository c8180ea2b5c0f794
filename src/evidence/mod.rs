//! Published measurements of language models on Jetson Orin boards, and which of them support a prediction.
//!
//! In: `profiles/measurements.csv`, part of the program, and the record of a runtime's fit. Out: the measurements, and the
//! [`Evidence`] for a prediction. Must not: read files or plan a model.

mod csv;
mod hash;
mod nearest;

use std::sync::LazyLock;

pub use csv::{CsvError, parse};
pub use hash::fingerprint;
pub use nearest::{Evidence, EvidenceQuery, Neighbour, evidence};

/// The text of `profiles/measurements.csv`.
pub const MEASUREMENTS: &str = include_str!("../../profiles/measurements.csv");

/// The text of `profiles/models.json`: the configuration of every model that the measurements name.
pub const MODELS: &str = include_str!("../../profiles/models.json");

/// How reliable a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Power mode, build and lengths are stated, or follow from what is; fitted with full weight.
    A,
    /// Something is missing that can be inferred; fitted with less weight.
    B,
    /// Contradicted by others, or too little is known; listed, never fitted.
    C,
}

/// One measurement. Numbers that the source does not give are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// A stable name, `jfdg-01`.
    pub id: String,
    /// Board id.
    pub board: String,
    /// Power mode of that board's profile.
    pub power_mode: String,
    /// GPU clock of the mode in MHz, as the board's profile has it.
    pub gpu_mhz: f64,
    /// Memory clock of the mode in MHz.
    pub emc_mhz: f64,
    /// Runtime id.
    pub runtime: String,
    /// Version or commit; empty where none is stated.
    pub version: String,
    /// A key of `profiles/models.json`.
    pub model: String,
    /// A scheme's id, or the format that every matrix has.
    pub format: String,
    /// Bytes of the tensors as the source states them.
    pub tensor_bytes: Option<u64>,
    /// Sequences decoded together; rates are over all of them.
    pub sequences: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub generated_tokens: Option<u64>,
    /// Tokens in the cache halfway through the decode.
    pub depth: Option<u64>,
    /// Prompt tokens a second.
    pub prefill_tps: Option<f64>,
    /// Decoded tokens a second.
    pub decode_tps: Option<f64>,
    /// Seconds to the first token.
    pub ttft_s: Option<f64>,
    /// Tokens of context reserved.
    pub context: Option<u64>,
    /// Memory in MiB.
    pub memory_mib: Option<f64>,
    /// What that memory is: `system`, `buffers` or `gpu peak`; empty without one.
    pub memory_of: String,
    /// Watts while decoding.
    pub power_w: Option<f64>,
    /// The rail they were read on; rails do not compare.
    pub power_of: String,
    /// How reliable it is.
    pub grade: Grade,
    /// Why that grade.
    pub reason: String,
    /// Where it is published.
    pub source: String,
}

impl Measurement {
    /// Decoded tokens a joule, over the rail that was read.
    pub fn tokens_per_joule(&self) -> Option<f64> {
        Some(self.decode_tps? / self.power_w.filter(|watts| *watts > 0.0)?)
    }
}

/// The built-in measurements. A test holds that they parse; if they did not, the list would be empty.
pub fn measurements() -> &'static [Measurement] {
    static ROWS: LazyLock<Vec<Measurement>> =
        LazyLock::new(|| parse(MEASUREMENTS).unwrap_or_default());
    &ROWS
}
