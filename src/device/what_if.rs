//! `--what-if`: a board with one number changed, to see the effect on a plan.
//!
//! In: `bandwidth=204GB/s`. Out: the profile and its mode with that number. Must not: change a file.

use std::str::FromStr;

use super::profile::{DeviceProfile, PowerMode};
use super::quantity::Quantity;
use crate::sourced::Sourced;
use crate::units::{Bytes, BytesPerSecond, Hertz};

/// A changed number of a board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WhatIf {
    /// Memory bandwidth.
    Bandwidth(BytesPerSecond),
    /// The GPU's clock.
    GpuClock(Hertz),
    /// SMs that are switched on.
    SmCount(u64),
    /// The memory that CPU and GPU share.
    Memory(Bytes),
}

/// Why a text is no change of a board.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("`{text}` {problem}; known: {}", KNOWN.map(|(key, value)| format!("{key}={value}")).join(", "))]
pub struct ParseWhatIfError {
    text: String,
    problem: String,
}

/// What can be changed, each with a value as it is written.
const KNOWN: [(&str, &str); 4] = [
    ("bandwidth", "204GB/s"),
    ("gpu-clock", "1300MHz"),
    ("sm-count", "16"),
    ("memory", "16GiB"),
];

impl FromStr for WhatIf {
    type Err = ParseWhatIfError;

    /// Reads `KEY=VALUE`. Values have a unit, and must be plausible as in a profile file.
    fn from_str(text: &str) -> Result<WhatIf, ParseWhatIfError> {
        let refuse = |problem: String| ParseWhatIfError {
            text: text.to_owned(),
            problem,
        };
        let split = text.split_once('=');
        let (key, value) = split.ok_or_else(|| refuse("is not KEY=VALUE".to_owned()))?;
        let Some((_, example)) = KNOWN.iter().find(|(known, _)| *known == key) else {
            let hint = crate::nearest::hint(key, KNOWN.map(|(known, _)| known));
            return Err(refuse(format!("is not a number of a board{hint}")));
        };
        let read = match key {
            "bandwidth" => Quantity::read(&spaced(value)).map(WhatIf::Bandwidth),
            "gpu-clock" => Quantity::read(&spaced(value)).map(WhatIf::GpuClock),
            "sm-count" => {
                let count = value.parse().ok().filter(|count| (1..=256).contains(count));
                count.map(WhatIf::SmCount)
            }
            _ => Quantity::read(value).map(WhatIf::Memory),
        };
        let unit = example.trim_start_matches(|c: char| c.is_ascii_digit());
        read.ok_or_else(|| match value.parse::<f64>() {
            Ok(_) if !unit.is_empty() => refuse(format!("lacks its unit: {key}={value}{unit}")),
            _ => refuse(format!(
                "is not a plausible value; write it like {key}={example}"
            )),
        })
    }
}

/// A number and its unit with one space between them, as profiles have it.
fn spaced(value: &str) -> String {
    let digits = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    format!("{number} {}", unit.trim_start())
}

impl WhatIf {
    /// Changes the number in `device` and `mode`.
    pub fn apply(self, device: &mut DeviceProfile, mode: &mut PowerMode) {
        let source = "--what-if";
        match self {
            WhatIf::Bandwidth(rate) => mode.bandwidth = Some(Sourced::derived(rate, source)),
            WhatIf::GpuClock(clock) => mode.gpu = Some(Sourced::derived(clock, source)),
            WhatIf::SmCount(count) => mode.sm_count = Some(Sourced::derived(count, source)),
            WhatIf::Memory(bytes) => device.total_memory = Sourced::derived(bytes, source),
        }
        // Published peaks hold for the published clock and SMs only.
        if matches!(self, WhatIf::GpuClock(_) | WhatIf::SmCount(_)) {
            (mode.fp16, mode.int8_sparse, mode.fp32) = (None, None, None);
            mode.fill_peaks(device.gpu.as_ref());
        }
    }

    /// For people: `bandwidth 204 GB/s`.
    pub fn text(self) -> String {
        match self {
            WhatIf::Bandwidth(rate) => format!("bandwidth {}", rate.show()),
            WhatIf::GpuClock(clock) => format!("GPU clock {}", clock.show()),
            WhatIf::SmCount(count) => format!("{count} SMs"),
            WhatIf::Memory(bytes) => format!("memory {}", bytes.show()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_their_units_and_keys_are_known() {
        assert_eq!(
            "bandwidth=204GB/s".parse(),
            Ok(WhatIf::Bandwidth(BytesPerSecond(204e9)))
        );
        assert_eq!(
            "gpu-clock=1.3GHz".parse(),
            Ok(WhatIf::GpuClock(Hertz(1.3e9)))
        );
        assert_eq!("memory=16GiB".parse(), Ok(WhatIf::Memory(Bytes(16 << 30))));
        assert_eq!("sm-count=16".parse(), Ok(WhatIf::SmCount(16)));
        for bad in [
            "",
            "bandwidth",
            "bandwidth=204",
            "bandwidth=-1GB/s",
            "bandwidth=nanGB/s",
            "bandwidth=0GB/s",
            "Bandwidth=204GB/s",
            "gpu-clock=1300",
            "memory=16G",
            "sm-count=0",
            "sm-count=1.5",
            "x=1",
            "memory=99999999999999999999GiB",
            "bandwidth=\u{e9}GB/s",
        ] {
            let error = bad.parse::<WhatIf>().unwrap_err().to_string();
            assert!(error.contains("bandwidth=204GB/s"), "{bad}: {error}");
        }
    }
}
