//! Why a catalogue is refused, or its models cannot be planned.

use crate::planner::{OpenError, PlanError};

/// Why a catalogue is refused. Names are of entries, shapes and sources in the file.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The text is no TOML of the form of a catalogue.
    #[error("the catalogue cannot be read: {0}")]
    Form(String),
    /// A configuration that is no JSON object.
    #[error("{of}: `config` is not a JSON object: {why}")]
    Config {
        /// The shape or model.
        of: String,
        /// What the parser says.
        why: String,
    },
    /// An id that occurs twice.
    #[error("model `{0}` is listed twice")]
    Twice(String),
    /// A name that stands nowhere in the file.
    #[error("`{by}` names the {what} `{name}`, which does not exist{hint}")]
    Unknown {
        /// What names it.
        by: String,
        /// `shape` or `source`.
        what: &'static str,
        /// The name.
        name: String,
        /// ` (did you mean ...)`, or nothing.
        hint: String,
    },
    /// A shape or a source that nothing names.
    #[error("nothing names the {what} `{name}`")]
    Unused {
        /// `shape` or `source`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Why the models of a catalogue cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// An entry does not open. A test opens every one of a release.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The request cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
