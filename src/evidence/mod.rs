//! Published measurements as data, and which of them support a prediction: speeds of language models on Jetson Orin
//! boards, and what quantization costs in quality.
//!
//! In: the tables of `profiles/`, part of the program, the record of a runtime's fit, the text of a file that measured a
//! model's quality. Out: the measurements, the [`Evidence`] for a speed, the expected [`quality::Quality`] of a format.
//! Must not: read files or plan a model.

pub mod boards;
mod csv;
mod hash;
mod measurement;
mod nearest;
mod power;
pub mod quality;
pub mod speculation;

pub use csv::{CsvError, Grade};
pub use hash::fingerprint;
pub use measurement::{MEASUREMENTS, MODELS, Measurement, Shape, measurements, parse};
pub use nearest::{Evidence, EvidenceQuery, Neighbour, Rated, evidence};
pub use power::{Activity, POWER, POWER_COLUMNS, Rail, parse_power, rails};
