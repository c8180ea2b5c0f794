//! Numbers of profiles, boards' and runtimes' alike: never parted from their source, and from how far that
//! source goes.

use serde::{Deserialize, Serialize};

/// How a number came to be known; the later, the further it can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Nobody measured it: a bracket around what is possible.
    None,
    /// Worked out from other numbers, or reasoned from neighbouring measurements.
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

/// A value that knows where it came from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The value, in the unit that its field names or its type has.
    pub value: T,
    /// Where it was found: of a board in full, of a runtime the key of its profile's sources.
    pub source: String,
    /// How it came to be known.
    #[serde(default)]
    pub trust: Trust,
    /// Reasoning, or a source that says otherwise.
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

    /// A value worked out from others.
    pub(crate) fn derived(value: T, source: impl Into<String>) -> Sourced<T> {
        Sourced {
            value,
            source: source.into(),
            trust: Trust::Derived,
            note: None,
        }
    }
}
