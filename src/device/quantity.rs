//! Numbers of a device profile: written with their unit, and refused where they are physically implausible.
//!
//! In: `612 MHz`, `68 GB/s`, `7607 MiB`, `10 TFLOPS`, `15 W`, `8`. Out: unit types.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, BytesPerSecond, Hertz};

/// Electrical power in watts.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watts(pub f64);

/// Arithmetic operations per second; a multiply-add counts as two.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpsPerSecond(pub f64);

/// A kind of number in profiles.
pub trait Quantity: Sized + Copy + PartialOrd {
    /// The rule for values of this kind, for error messages.
    const RULE: &'static str;
    /// The suffix of this kind's JSON keys.
    const KEY_UNIT: &'static str;
    /// Reads a value with its unit; `None` if it is malformed or implausible.
    fn read(text: &str) -> Option<Self>;
    /// The value for people, with its unit.
    fn show(self) -> String;
    /// The value for JSON, in the unit that [`Quantity::KEY_UNIT`] names.
    fn json(self) -> serde_json::Value;
}

/// Reads a number with a unit, such as `612 MHz`; `None` if it is malformed or not in `range`.
fn scaled(text: &str, units: &[(&str, f64)], range: std::ops::RangeInclusive<f64>) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let scale = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    let digits = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = number.parse::<f64>().ok().filter(|_| digits)? * scale;
    range.contains(&value).then_some(value)
}

/// At most two decimals, without trailing zeros.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Shows a value in the largest unit of `units` (ascending) that keeps it at 1 or more.
fn show_scaled(value: f64, units: &[(&str, f64)]) -> String {
    let fits = units
        .iter()
        .rev()
        .find(|(_, scale)| value >= *scale)
        .or(units.first());
    fits.map_or_else(String::new, |(name, scale)| {
        format!("{} {name}", short(value / scale))
    })
}

const HERTZ: &[(&str, f64)] = &[("MHz", 1e6), ("GHz", 1e9)];
const RATE: &[(&str, f64)] = &[("GB/s", 1e9)];
const FLOPS: &[(&str, f64)] = &[
    ("GFLOPS", 1e9),
    ("TFLOPS", 1e12),
    ("GOPS", 1e9),
    ("TOPS", 1e12),
];
const OPS: &[(&str, f64)] = &[("Gop/s", 1e9), ("Top/s", 1e12)];

impl Quantity for Hertz {
    const RULE: &'static str = "is not a clock between 1 MHz and 10 GHz; write it like \"612 MHz\"";
    const KEY_UNIT: &'static str = "hertz";
    fn read(text: &str) -> Option<Hertz> {
        scaled(text, HERTZ, 1e6..=1e10).map(Hertz)
    }
    fn show(self) -> String {
        // All clocks are shown in the same unit, so that they can be compared.
        format!("{} MHz", short(self.0 / 1e6))
    }
    fn json(self) -> serde_json::Value {
        self.0.into()
    }
}

impl Quantity for BytesPerSecond {
    const RULE: &'static str =
        "is not a memory bandwidth between 1 and 10000 GB/s; write it like \"68 GB/s\"";
    const KEY_UNIT: &'static str = "bytes_per_second";
    fn read(text: &str) -> Option<BytesPerSecond> {
        scaled(text, RATE, 1e9..=1e13).map(BytesPerSecond)
    }
    fn show(self) -> String {
        show_scaled(self.0, RATE)
    }
    fn json(self) -> serde_json::Value {
        self.0.into()
    }
}

impl Quantity for OpsPerSecond {
    const RULE: &'static str = "is not a throughput between 1 GFLOPS and 100000 TFLOPS; write it like \"10 TFLOPS\" or \"40 TOPS\"";
    const KEY_UNIT: &'static str = "ops_per_second";
    fn read(text: &str) -> Option<OpsPerSecond> {
        scaled(text, FLOPS, 1e9..=1e17).map(OpsPerSecond)
    }
    fn show(self) -> String {
        show_scaled(self.0, OPS)
    }
    fn json(self) -> serde_json::Value {
        self.0.into()
    }
}

impl Quantity for Watts {
    const RULE: &'static str = "is not a power between 1 and 2000 W; write it like \"15 W\"";
    const KEY_UNIT: &'static str = "watts";
    fn read(text: &str) -> Option<Watts> {
        scaled(text, &[("W", 1.0)], 1.0..=2000.0).map(Watts)
    }
    fn show(self) -> String {
        format!("{} W", short(self.0))
    }
    fn json(self) -> serde_json::Value {
        self.0.into()
    }
}

impl Quantity for Bytes {
    const RULE: &'static str =
        "is not a size between 1 MiB and 16 TiB; write it with its unit, like \"7607 MiB\"";
    const KEY_UNIT: &'static str = "bytes";
    fn read(text: &str) -> Option<Bytes> {
        let value: Bytes = text.parse().ok()?;
        (Bytes::MIB..=Bytes::GIB * 16384)
            .contains(&value)
            .then_some(value)
    }
    fn show(self) -> String {
        self.to_string()
    }
    fn json(self) -> serde_json::Value {
        self.0.into()
    }
}

impl Quantity for u64 {
    const RULE: &'static str = "is not a count between 1 and 1000000; write it as a plain number";
    const KEY_UNIT: &'static str = "count";
    fn read(text: &str) -> Option<u64> {
        text.parse().ok().filter(|n| (1..=1_000_000).contains(n))
    }
    fn show(self) -> String {
        self.to_string()
    }
    fn json(self) -> serde_json::Value {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_unit_only() {
        assert_eq!(Hertz::read("624.75 MHz"), Some(Hertz(624.75e6)));
        assert_eq!(
            BytesPerSecond::read("204.8 GB/s"),
            Some(BytesPerSecond(204.8e9))
        );
        assert_eq!(OpsPerSecond::read("40 TOPS"), Some(OpsPerSecond(40e12)));
        assert_eq!(Bytes::read("1 GiB"), Some(Bytes(1 << 30)));
        for bad in [
            "", "612", "612MHz", "612 mhz", "-612 MHz", "0 MHz", "1e3 MHz", "inf MHz", "NaN MHz",
        ] {
            assert_eq!(Hertz::read(bad), None, "{bad}");
        }
        assert_eq!(Hertz::read("11 GHz"), None);
        assert_eq!(BytesPerSecond::read("68 MB/s"), None);
        assert_eq!(Bytes::read("8G"), None);
        assert_eq!(u64::read("0"), None);
        assert_eq!(Watts::read("15 kW"), None);
    }

    #[test]
    fn people_see_short_numbers() {
        assert_eq!(Hertz(1.4976e9).show(), "1497.6 MHz");
        assert_eq!(BytesPerSecond(68e9).show(), "68 GB/s");
        assert_eq!(OpsPerSecond(10e12).show(), "10 Top/s");
        assert_eq!(Watts(15.0).show(), "15 W");
    }
}
