//! Small JSON files of a known form. In: a path and a limit on the size. Out: a value.

use std::path::Path;

use super::error::CheckpointError;
use super::python_json::without_python_numbers;
use crate::input;
use crate::units::Bytes;

/// Reads JSON from a file of at most `limit` bytes; Python's `NaN` and `Infinity` are accepted.
///
/// # Errors
/// [`CheckpointError::Open`] if it cannot be read or is larger, `Json` for any other form, and for
/// nesting beyond serde_json's limit of 128.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    limit: Bytes,
) -> Result<T, CheckpointError> {
    let text = input::read_text(path, limit)?;
    let strict = serde_json::from_str(&text);
    strict
        .or_else(|refused| match without_python_numbers(&text) {
            Some(cleaned) => serde_json::from_str(&cleaned),
            None => Err(refused),
        })
        .map_err(|source| CheckpointError::Json {
            path: path.to_owned(),
            source,
        })
}
