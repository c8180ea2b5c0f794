//! Formats results as text, Markdown, JSON and pages; decides nothing.

pub mod boards;
pub mod calibrate;
#[cfg(feature = "decode")]
pub mod compare;
pub mod devices;
mod first_screen;
pub mod fit;
pub mod github;
#[cfg(feature = "pages")]
pub mod html;
pub mod imatrix;
pub mod inspect;
mod learned;
pub mod models;
pub mod quantize;
pub mod roofline;
mod screen;
pub mod shared;
#[cfg(feature = "pages")]
pub mod svg;
pub mod table;
#[cfg(feature = "decode")]
pub mod validate;
#[cfg(feature = "pages")]
mod words;

use std::fmt::Write;

use serde_json::Value;

use crate::device::{Choice, DeviceProfile, HOST, L4tRelease, PowerMode};
use crate::foreign;
pub use crate::units::nats;

/// A count with a unit prefix and three figures: `596 M`, `8.03 B`.
pub fn count(n: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = n as f64 / unit;
        let decimals = if value < 10.0 {
            2
        } else {
            usize::from(value < 100.0)
        };
        format!("{value:.decimals$} {name}")
    };
    // From 999.5 on, a number would round to 1000 of its unit.
    match n {
        0..1_000 => n.to_string(),
        1_000..999_500 => scaled(1e3, "k"),
        999_500..999_500_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

/// A rate with two or three figures: `4.6`, `38`, `1530`.
pub fn rate(value: f64) -> String {
    if value < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Seconds in a suitable unit: `0.38 s`, `12 s`, `3.2 ms`.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 0.1 => format!("{:.1} ms", v * 1e3),
        v if v < 9.95 => format!("{v:.2} s"),
        v => format!("{v:.0} s"),
    }
}

/// `value` as indented JSON with a final newline.
pub fn json(value: &Value) -> String {
    foreign::json(&format!("{value:#}\n"))
}

/// A document with its floats rounded to six significant digits, so that two machines give the same text.
pub(crate) fn rounded(mut document: Value) -> Value {
    round(&mut document);
    document
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = number.as_f64().map(six_digits).into(),
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(pairs) => pairs.values_mut().for_each(round),
        _ => {}
    }
}

/// Rounds through decimal text: arithmetic with powers of ten does not give the exact decimal number.
fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value) + 0.0
}

/// The device that is planned for and why, in one line: `Jetson Orin Nano 8GB Super, 25W in force: this machine`.
pub(crate) fn planned_for(
    device: &DeviceProfile,
    mode: &PowerMode,
    release: Option<L4tRelease>,
    choice: Choice,
) -> String {
    let is_default = mode.name == device.default_mode.name;
    let mode = match &device.at_hand {
        // A machine that is no board has no modes.
        _ if mode.name == HOST => String::new(),
        Some(here) if is_default && here.mode_is_read => format!(", {} in force", mode.name),
        Some(_) if is_default => format!(", {} assumed", mode.name),
        None if is_default => format!(", {} (its default)", mode.name),
        _ => format!(", {}", mode.name),
    };
    let release = release.filter(|_| choice == Choice::ThisMachine);
    let release = release.map_or_else(String::new, |release| format!(", L4T {release}"));
    let why = match choice {
        Choice::Named => "named by --device",
        Choice::Preferred => "by your settings",
        Choice::ThisMachine => "this machine",
        Choice::Default => "no --device given, no Orin here",
    };
    format!("{}{mode}{release}: {why}", device.name)
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed<T: AsRef<str>>(items: &[T]) -> String {
    let words: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match &words[..] {
        [rest @ .., before, last] => {
            let rest: String = rest.iter().map(|item| format!("{item}, ")).collect();
            format!("{rest}{before} and {last}")
        }
        words => words.concat(),
    }
}

/// Appends a line. Writing to a string cannot fail.
pub(crate) fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(args);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplied with a power of ten and divided by it, the first would be `26227699999.999996`.
    #[test]
    fn figures_have_six_digits_in_print() {
        for (value, printed) in [
            (26_227_700_000.1, "26227700000.0"),
            (0.1 + 0.2, "0.3"),
            (2.0 / 3.0, "0.666667"),
            (-1.0 / 3e-9, "-333333000.0"),
            (123_456_789.0, "123457000.0"),
            (0.000_012_345_678, "0.0000123457"),
            (f64::MAX, "1.79769e+308"),
            (0.0, "0.0"),
        ] {
            let document = serde_json::json!({ "list": [value], "whole": 1_234_567_890_u64 });
            let text = json(&rounded(document));
            assert!(text.contains(&format!(" {printed}\n")), "{text}");
            assert!(text.contains(" 1234567890\n"), "{text}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(596_049_920), "596 M");
        assert_eq!(count(8_030_261_248), "8.03 B");
        assert_eq!(count(656), "656");
        assert_eq!(count(999_885_952), "1.00 B");
        assert_eq!(rate(4.63), "4.6");
        assert_eq!(rate(1534.7), "1535");
        assert_eq!(seconds(0.0321), "32.1 ms");
        assert_eq!(nats(0.0), "0");
        assert_eq!(nats(0.00491), "0.0049");
        assert_eq!(nats(0.0312), "0.031");
        assert_eq!(nats(1.24), "1.2");
        assert_eq!(nats(0.00092), "0.0009");
        assert_eq!(nats(1e-9), "<0.0001");
    }
}
