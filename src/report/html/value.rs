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
    /// A rate from its low to its high end.
    Rates,
    /// A time.
    Seconds,
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
            Unit::Rates => "rates",
            Unit::Seconds => "seconds",
            Unit::NatsRange => "nats-range",
            Unit::Text => "text",
            Unit::Scheme => "scheme",
        }
    }

    /// `value` in print; `None` where it is no such value.
    pub(super) fn print(self, value: &Value) -> Option<String> {
        let range = |print: fn(f64) -> String| {
            let [low, high] = [value.get("low")?, value.get("high")?];
            let (low, high) = (print(low.as_f64()?), print(high.as_f64()?));
            Some(match low == high {
                true => low,
                false => format!("{low}\u{2013}{high}"),
            })
        };
        Some(match self {
            Unit::Bytes => match value.as_i64() {
                Some(bytes) => signed(bytes),
                None => Bytes(value.as_u64()?).to_string(),
            },
            Unit::Integer => value.as_u64()?.to_string(),
            Unit::Count => count(value.as_u64()?),
            Unit::Rates => range(rate)?,
            Unit::Seconds => seconds(value.as_f64()?),
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
