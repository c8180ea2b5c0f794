//! What `orinplan calibrate` measured on a machine that computes with its processors, and the form of
//! the file that keeps it.
//!
//! In: the file's text. Out: [`Cpu`], valid by existence. Must not read or write files: whoever knows
//! where the user's configuration lies hands over the text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;

/// The first key of the file.
const SCHEMA: &str = "orinplan.calibration/1";

/// The measured speed of a machine's processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// `orinplan.calibration/1`.
    pub schema: String,
    /// The day it was measured, `2026-11-23`.
    pub date: String,
    /// The version of orinplan that measured.
    pub version: String,
    /// The processor, as the kernel names it.
    pub processor: String,
    /// Threads that measured.
    pub threads: u64,
    /// How long measuring took.
    pub seconds: f64,
    /// The runtime whose kernels were measured, by its id.
    pub runtime: String,
    /// Bytes a second that all threads together read from memory.
    pub bandwidth_bytes_per_second: f64,
    /// Seconds a layer of one decoded token takes beside its matrices and its cache.
    pub layer_seconds: f64,
    /// Seconds an output row of a matrix takes for one decoded token, whatever its format.
    pub row_seconds: f64,
    /// Seconds an activation that a matrix takes costs for one decoded token (it is scaled, rounded and handed over),
    /// whatever its format. Files of earlier versions have it in their other costs.
    #[serde(default)]
    pub column_seconds: f64,
    /// Seconds a decoded token takes beside all that.
    pub token_seconds: f64,
    /// Seconds an output row of a matrix takes for one token of a prompt.
    pub prompt_row_seconds: f64,
    /// Bytes of cached keys and values that one decoded token reads a second.
    pub cache_bytes_per_second: f64,
    /// Multiply-accumulates of attention a second while a prompt is read.
    pub attention_macs_per_second: f64,
    /// Multiplications by matrices, by format.
    pub formats: BTreeMap<String, FormatRate>,
    /// How far the numbers may be off; files of earlier versions do not say.
    #[serde(default)]
    pub uncertainty: Uncertainty,
}

/// How far the numbers of a machine may be off: standard deviations of their logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncertainty {
    /// A short decode from the mean of many: what else the machine does.
    pub decode_unrest: f64,
    /// A prompt from the mean of many.
    pub prefill_unrest: f64,
    /// `layer_seconds`.
    pub layer: f64,
    /// `row_seconds`.
    pub row: f64,
    /// `column_seconds`.
    #[serde(default)]
    pub column: f64,
    /// `token_seconds`.
    pub token: f64,
    /// `prompt_row_seconds`.
    pub prompt_row: f64,
    /// `cache_bytes_per_second`.
    pub cache: f64,
    /// `attention_macs_per_second`.
    pub attention: f64,
}

/// How fast matrices of one format are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRate {
    /// Bytes of weights a second for one token.
    pub decode_bytes_per_second: f64,
    /// Multiply-accumulates a second for the tokens of a prompt.
    pub prefill_macs_per_second: f64,
    /// Standard deviation of the logarithm of the former.
    #[serde(default)]
    pub decode_uncertainty: f64,
    /// Of the latter.
    #[serde(default)]
    pub prefill_uncertainty: f64,
}

/// Why a file is no calibration.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {problem}; `orinplan calibrate` measures anew, `orinplan calibrate --reset` forgets"
)]
pub struct CalibrationError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Cpu {
    /// The schema that this version writes and reads.
    pub fn schema() -> String {
        SCHEMA.to_owned()
    }

    /// Reads a calibration; `file` is its name for messages.
    ///
    /// # Errors
    /// [`CalibrationError`] where the text is not TOML of this form, or a number is not a positive one.
    pub fn parse(text: &str, file: &str) -> Result<Cpu, CalibrationError> {
        let wrong = |problem: String| CalibrationError {
            file: file.to_owned(),
            problem,
        };
        let cpu: Cpu = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if cpu.schema != SCHEMA {
            return Err(wrong(format!(
                "its schema is `{}`, not {SCHEMA}",
                cpu.schema
            )));
        }
        let rates = cpu.formats.iter().flat_map(|(name, rate)| {
            [
                (
                    format!("formats.{name}.decode_bytes_per_second"),
                    rate.decode_bytes_per_second,
                ),
                (
                    format!("formats.{name}.prefill_macs_per_second"),
                    rate.prefill_macs_per_second,
                ),
            ]
        });
        let own = [
            ("bandwidth_bytes_per_second", cpu.bandwidth_bytes_per_second),
            ("cache_bytes_per_second", cpu.cache_bytes_per_second),
            ("attention_macs_per_second", cpu.attention_macs_per_second),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        if let Some((name, value)) = own
            .into_iter()
            .chain(rates)
            .find(|(_, value)| !is_rate(*value))
        {
            return Err(wrong(format!(
                "`{name}` is {value}, and must be a rate above 0"
            )));
        }
        let times = [
            ("layer_seconds", cpu.layer_seconds),
            ("row_seconds", cpu.row_seconds),
            ("column_seconds", cpu.column_seconds),
            ("token_seconds", cpu.token_seconds),
            ("prompt_row_seconds", cpu.prompt_row_seconds),
        ];
        if let Some((name, value)) = times.into_iter().find(|(_, value)| !is_time(*value)) {
            return Err(wrong(format!(
                "`{name}` is {value}, and must be from 0 to 1 s"
            )));
        }
        let formats = cpu
            .formats
            .values()
            .flat_map(|rate| [rate.decode_uncertainty, rate.prefill_uncertainty]);
        let all = cpu.uncertainty;
        if let Some(value) = [
            all.decode_unrest,
            all.prefill_unrest,
            all.layer,
            all.row,
            all.column,
            all.token,
            all.prompt_row,
            all.cache,
            all.attention,
        ]
        .into_iter()
        .chain(formats)
        .find(|value| !is_uncertainty(*value))
        {
            return Err(wrong(format!(
                "an uncertainty is {value}, and must be from 0 to 10"
            )));
        }
        if cpu.formats.is_empty() {
            return Err(wrong("it has no format".to_owned()));
        }
        Ok(cpu)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let table = toml::to_string_pretty(self).unwrap_or_default();
        format!(
            "# Written by `orinplan calibrate`; `orinplan calibrate --reset` removes it.\n{table}"
        )
    }

    /// The rate of a format, if it was measured. Formats of the same size are multiplied up to seven times
    /// as fast as one another: none stands for another.
    pub fn rate(&self, dtype: Dtype) -> Option<FormatRate> {
        self.formats.get(dtype.name()).copied()
    }
}

fn is_rate(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn is_time(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// A factor of e^10 is no measurement.
fn is_uncertainty(value: f64) -> bool {
    (0.0..=10.0).contains(&value)
}
