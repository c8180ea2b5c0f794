//! A number of a profile (of a board or a runtime) together with its source and how far it can be trusted.

use serde::{Deserialize, Serialize};

/// How a number became known, in the order of rising reliability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Not known: a range of what is possible.
    None,
    /// Computed from other numbers, or estimated from measurements of similar cases.
    Derived,
    /// Fitted to published measurements.
    Fitted,
    /// Stated by a maker or an author.
    #[default]
    Published,
    /// Measured directly, or read from a real device.
    Measured,
}

impl Trust {
    /// The word used in profiles and reports.
    pub fn word(self) -> &'static str {
        match self {
            Trust::None => "none",
            Trust::Derived => "derived",
            Trust::Fitted => "fitted",
            Trust::Published => "published",
            Trust::Measured => "measured",
        }
    }
}

/// A value with its source.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The value, in the unit that its field names or its type has.
    pub value: T,
    /// Where it was found. In a board's profile the text itself; in a runtime's profile a key of its table of sources.
    pub source: String,
    /// How it came to be known.
    #[serde(default)]
    pub trust: Trust,
    /// The reasoning behind it, or a source that contradicts it.
    #[serde(default)]
    pub note: Option<String>,
}

impl<T> Sourced<T> {
    /// A value read from the running machine.
    pub(crate) fn measured(value: T, source: impl Into<String>) -> Sourced<T> {
        Sourced {
            value,
            source: source.into(),
            trust: Trust::Measured,
            note: None,
        }
    }

    /// A value computed from others.
    pub(crate) fn derived(value: T, source: impl Into<String>) -> Sourced<T> {
        Sourced {
            value,
            source: source.into(),
            trust: Trust::Derived,
            note: None,
        }
    }
}
