//! Values of a document in print: each says where it comes from, so that a page can be held to its document.

use serde::Serialize;
use serde_json::Value;

use crate::report::{count, nats, rate, seconds};
use crate::units::Bytes;

/// What a page prints in one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cell {
    /// The text.
    pub(super) text: String,
    /// Where in the document its value is, as a JSON pointer; empty for what is no value.
    pub(super) pointer: String,
    /// How the value is printed.
    pub(super) unit: &'static str,
}

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes with a binary prefix.
    Bytes,
    /// A whole number.
    Integer,
    /// A large number with two or three figures.
    Count,
    /// A rate.
    Rate,
    /// A rate from its low to its high end.
    Rates,
    /// The lowest and the highest of several rates.
    RatesSeen,
    /// A time.
    Seconds,
    /// The shortest and the longest of several times.
    SecondsSeen,
    /// A deviation, with its sign.
    Error,
    /// Bits for each weight.
    Bits,
    /// A mean divergence with its standard error.
    Divergence,
    /// The divergence that 99 % of the tokens stay below, with its standard error.
    Divergence99,
    /// A share in percent with its standard error.
    Share,
    /// A perplexity with its standard error.
    Perplexity,
    /// A divergence from its low to its high end.
    NatsRange,
    /// A text.
    Text,
    /// The name of a scheme, as it is printed everywhere.
    Scheme,
}

impl Unit {
    /// Its name in a page.
    fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Integer => "integer",
            Unit::Count => "count",
            Unit::Rate => "rate",
            Unit::Rates => "rates",
            Unit::RatesSeen => "rates-seen",
            Unit::Seconds => "seconds",
            Unit::SecondsSeen => "seconds-seen",
            Unit::Error => "error",
            Unit::Bits => "bits",
            Unit::Divergence => "divergence",
            Unit::Divergence99 => "divergence-99",
            Unit::Share => "share",
            Unit::Perplexity => "perplexity",
            Unit::NatsRange => "nats-range",
            Unit::Text => "text",
            Unit::Scheme => "scheme",
        }
    }

    /// `value` in print; `None` where it is no such value.
    pub(super) fn print(self, value: &Value) -> Option<String> {
        let of = |key: &str| value.get(key)?.as_f64();
        let between = |ends: [&str; 2], print: fn(f64) -> String| {
            let [low, high] = [print(of(ends[0])?), print(of(ends[1])?)];
            Some(if low == high {
                low
            } else {
                format!("{low}\u{2013}{high}")
            })
        };
        let range = |print| between(["low", "high"], print);
        let seen = |print| between(["least", "most"], print);
        let give_or_take = |keys: [&str; 2], digits: usize| {
            let [mean, error] = [of(keys[0])?, of(keys[1])?];
            Some(format!("{mean:.digits$} \u{b1} {error:.digits$}"))
        };
        Some(match self {
            Unit::Bytes => match value.as_i64() {
                Some(bytes) => signed(bytes),
                None => Bytes(value.as_u64()?).to_string(),
            },
            Unit::Integer => value.as_u64()?.to_string(),
            Unit::Count => count(value.as_u64()?),
            Unit::Rate => rate(value.as_f64()?),
            Unit::Rates => range(rate)?,
            Unit::RatesSeen => seen(rate)?,
            Unit::Seconds => seconds(value.as_f64()?),
            Unit::SecondsSeen => seen(seconds)?,
            Unit::Error => format!("{:+.1} %", value.as_f64()?).replace('-', "\u{2212}"),
            Unit::Bits => format!("{:.2}", value.as_f64()?),
            Unit::Divergence => give_or_take(["mean", "standard_error"], 4)?,
            Unit::Divergence99 => give_or_take(["p99", "p99_standard_error"], 3)?,
            Unit::Share => format!("{} %", give_or_take(["percent", "standard_error"], 1)?),
            Unit::Perplexity => give_or_take(["value", "standard_error"], 3)?,
            Unit::NatsRange => range(nats)?,
            Unit::Text => value.as_str()?.to_owned(),
            Unit::Scheme => value.as_str()?.to_uppercase(),
        })
    }
}

/// Bytes, or what is lacking, with a minus.
pub(super) fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", Bytes(bytes.unsigned_abs()))
}

/// The value at `pointer` of `document`; a dash where there is none.
pub(super) fn cell(document: &Value, pointer: &str, unit: Unit) -> Cell {
    let printed = document
        .pointer(pointer)
        .and_then(|value| unit.print(value));
    match printed {
        Some(text) => Cell {
            text,
            pointer: pointer.to_owned(),
            unit: unit.name(),
        },
        None => words("\u{2013}"),
    }
}

/// Text that is no value of the document.
pub(super) fn words(text: &str) -> Cell {
    Cell {
        text: text.to_owned(),
        ..Cell::default()
    }
}

/// The number at `pointer` of `document`.
pub(super) fn number(document: &Value, pointer: &str) -> Option<f64> {
    document.pointer(pointer)?.as_f64()
}

/// The text at `pointer` of `document`; empty where there is none.
pub(super) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    let found = document.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The list at `pointer` of `document`; empty where there is none.
pub(super) fn list<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    let found = document.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// The numbers of the list at `pointer`.
pub(super) fn numbers(document: &Value, pointer: &str) -> Vec<f64> {
    list(document, pointer)
        .iter()
        .filter_map(Value::as_f64)
        .collect()
}

/// A key as a part of a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
