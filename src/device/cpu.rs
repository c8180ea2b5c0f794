//! What `orinplan calibrate` measured of a machine's processors, and the form of the file that keeps it.
//!
//! In: the file's text. Out: [`Cpu`], valid by existence. Must not read or write
//! files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;

/// The first key of the file.
const SCHEMA: &str = "orinplan.calibration/1";

/// The measured speed of a machine's processors: rates in bytes or multiply-accumulates a second, costs in seconds.
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
    /// Threads that decoded while it was measured.
    pub threads: u64,
    /// How long measuring took, in seconds.
    pub seconds: f64,
    /// The runtime whose kernels were measured, by its id.
    pub runtime: String,
    /// Bytes a second that all threads together read from memory.
    pub bandwidth_bytes_per_second: f64,
    /// Seconds that a layer adds to a decoded token beside its matrices and its cache.
    pub layer_seconds: f64,
    /// Seconds that an output row of a matrix adds to a decoded token, whatever its format.
    pub row_seconds: f64,
    /// Seconds that a column of a matrix adds to a decoded token, whatever its format: its activation is quantized and
    /// passed to the threads. 0 in files of earlier versions, whose other costs include it.
    #[serde(default)]
    pub column_seconds: f64,
    /// Seconds that a decoded token takes beside all that.
    pub token_seconds: f64,
    /// Seconds that an output row of a matrix adds to one token of a prompt.
    pub prompt_row_seconds: f64,
    /// Bytes of cached keys and values that decoding reads a second.
    pub cache_bytes_per_second: f64,
    /// Multiply-accumulates of attention a second in prefill.
    pub attention_macs_per_second: f64,
    /// Rates of products with matrices, by the name of their format.
    pub formats: BTreeMap<String, FormatRate>,
    /// How far the numbers may be off; all 0 in files of earlier versions.
    #[serde(default)]
    pub uncertainty: Uncertainty,
}

/// How far the numbers of a machine may be off: standard deviations of their logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncertainty {
    /// Load noise of decode: how far a short run is off the mean of many, because of what else the machine does. The
    /// key is that of files and documents of all versions.
    #[serde(rename = "decode_unrest")]
    pub decode_load_noise: f64,
    /// Load noise of prefill: how far one prompt is off the mean of many.
    #[serde(rename = "prefill_unrest")]
    pub prefill_load_noise: f64,
    /// Of `layer_seconds`.
    pub layer: f64,
    /// Of `row_seconds`.
    pub row: f64,
    /// Of `column_seconds`.
    #[serde(default)]
    pub column: f64,
    /// Of `token_seconds`.
    pub token: f64,
    /// Of `prompt_row_seconds`.
    pub prompt_row: f64,
    /// Of `cache_bytes_per_second`.
    pub cache: f64,
    /// Of `attention_macs_per_second`.
    pub attention: f64,
}

/// How fast products with matrices of one format are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRate {
    /// Bytes of weights a second in decode.
    pub decode_bytes_per_second: f64,
    /// Multiply-accumulates a second in prefill.
    pub prefill_macs_per_second: f64,
    /// Standard deviation of the logarithm of `decode_bytes_per_second`.
    #[serde(default)]
    pub decode_uncertainty: f64,
    /// Standard deviation of the logarithm of `prefill_macs_per_second`.
    #[serde(default)]
    pub prefill_uncertainty: f64,
}

/// Why a file is no calibration.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {problem}; `orinplan calibrate` measures again, `orinplan calibrate --reset` removes it"
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
    /// [`CalibrationError`] where the text is not TOML of this form or of another schema, where a rate is not above 0, a
    /// time not from 0 to 1 s, an uncertainty not from 0 to 10, and where there is no format.
    pub fn parse(text: &str, file: &str) -> Result<Cpu, CalibrationError> {
        let wrong = |problem: String| CalibrationError {
            file: file.to_owned(),
            problem,
        };
        let cpu: Cpu =
            toml::from_str(text).map_err(|error| wrong(crate::input::in_words(error.message())))?;
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
            all.decode_load_noise,
            all.prefill_load_noise,
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

    /// The rate of a format, if it was measured. Rates of formats of the same size differ up to sevenfold, so none is
    /// taken for another.
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

/// A number that may be off by a factor of e^10 is no measurement.
fn is_uncertainty(value: f64) -> bool {
    (0.0..=10.0).contains(&value)
}
