//! File names of checkpoints in several files: `NAME-00002-of-00003.EXTENSION`.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::remote::there;
use crate::input::display_name;

/// The parts of a shard's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardName<'a> {
    pub(crate) stem: &'a str,
    /// Counts from 1.
    pub(crate) number: u32,
    pub(crate) count: u32,
}

impl<'a> ShardName<'a> {
    /// Parses a file name without its extension; `None` if it is not that of a shard.
    pub(crate) fn parse(stem: &'a str) -> Option<ShardName<'a>> {
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| {
            let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        Some(ShardName {
            stem,
            number: five_digits(number)?,
            count: five_digits(count)?,
        })
    }

    /// The name of part `number` of the set, without its extension.
    pub(crate) fn part(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}", self.stem, self.count)
    }
}

/// The file name of `path` without its extension, if it is UTF-8; that of a header as that of its file.
pub(super) fn file_stem(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?.to_str()?;
    Some(stem.strip_suffix(".header").unwrap_or(stem))
}

/// Whether a file is, by its name, one of several that a model is split into.
pub fn is_part(path: &Path) -> bool {
    file_stem(path).is_some_and(|stem| ShardName::parse(stem).is_some())
}

/// Whether two paths are shards of the same set, by their names.
pub(crate) fn same_set(a: &Path, b: &Path) -> bool {
    let set_of = |path| {
        file_stem(path)
            .and_then(ShardName::parse)
            .map(|shard| (shard.stem, shard.count))
    };
    set_of(a).is_some_and(|set| set_of(b) == Some(set))
}

/// Every file of the set that `path` belongs to, in order; `path` alone if its name is not that of a shard.
///
/// # Errors
/// [`CheckpointError::ShardNumber`] if its number is 0 or above its count, `MissingShard` for the
/// first file that does not exist.
pub(super) fn all(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let Some(name) = file_stem(path).and_then(ShardName::parse) else {
        return Ok(vec![path.to_owned()]);
    };
    let ShardName { number, count, .. } = name;
    if number == 0 || number > count {
        return Err(CheckpointError::ShardNumber {
            path: path.to_owned(),
            number,
            count,
        });
    }
    let extension = path
        .extension()
        .and_then(|text| text.to_str())
        .unwrap_or_default();
    let mut paths = Vec::new();
    // Stops at the first missing file, so that a name that claims 99999 parts costs a single lookup.
    for part in 1..=count {
        let shard = path.with_file_name(format!("{}.{extension}", name.part(part)));
        match there(&shard) {
            Some(shard) => paths.push(shard),
            None => {
                return Err(CheckpointError::MissingShard {
                    path: shard,
                    by: display_name(path),
                });
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_have_two_numbers_of_five_digits() {
        let name = ShardName {
            stem: "Qwen3-of-8B",
            number: 2,
            count: 3,
        };
        assert_eq!(ShardName::parse("Qwen3-of-8B-00002-of-00003"), Some(name));
        for plain in [
            "model",
            "model-2-of-3",
            "model-00002-of-3",
            "-of-",
            "a-0000x-of-00003",
            "00001-of-00002",
        ] {
            assert_eq!(ShardName::parse(plain), None, "{plain}");
        }
    }
}
