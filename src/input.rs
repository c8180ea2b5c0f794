//! Opens the files that the user names. In: a path. Out: an open regular file with its size, or the text of a small
//! file. [`one_line`] makes text from a file safe to repeat in a message.
//!
//! Must not: block (a FIFO is refused before it is opened), open anything but regular files, or read more than the given
//! limit.
#![warn(clippy::indexing_slicing)]

mod wrapped;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::foreign::Foreign;
use crate::units::Bytes;
use wrapped::Wrapped;

/// A parser's message in the words of people who write such files: no names of a program's types.
pub fn in_words(message: &str) -> String {
    let mut words = message.to_owned();
    for (name, meaning) in [
        ("EOF while parsing a string", "the text ends too early"),
        ("EOF while parsing an object", "the text ends too early"),
        ("EOF while parsing a list", "the text ends too early"),
        ("EOF while parsing a value", "the text ends too early"),
        ("recursion limit exceeded", "it is nested too deeply"),
        ("invalid type: ", "found "),
        ("invalid value: ", "found "),
        ("invalid length", "found a length of"),
        ("unknown variant", "found"),
        ("unknown field", "there is no key"),
        ("missing field", "missing key"),
        ("duplicate field", "twice there is the key"),
        ("found sequence", "found a list"),
        ("found map", "found an object"),
        ("found string", "found the text"),
        ("found integer", "found the number"),
        ("found floating point", "found the number"),
        ("found boolean", "found"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("expected a borrowed string", "expected text"),
        ("expected a string", "expected text"),
        ("expected a boolean", "expected true or false"),
        ("expected one of", "known:"),
        ("expected value", "expected a value"),
    ] {
        words = words.replace(name, meaning);
    }
    for (name, meaning) in [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number from 0 on"),
        ("usize", "a whole number from 0 on"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
    ] {
        words = words.replace(&format!("expected {name}"), &format!("expected {meaning}"));
    }
    for name in ["f64", "f32"] {
        words = words.replace(&format!("expected {name}"), "expected a number");
    }
    without_type_name(&words)
}

/// `message` with "expected struct NAME with 2 elements" as "expected an object".
fn without_type_name(message: &str) -> String {
    const TYPE: &str = "expected struct ";
    let Some((before, after)) = message.split_once(TYPE) else {
        return message.to_owned();
    };
    let after = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    let after = match after
        .strip_prefix(" with ")
        .and_then(|rest| rest.split_once(" element"))
    {
        Some((_, rest)) => rest.strip_prefix('s').unwrap_or(rest),
        None => after,
    };
    format!("{before}expected an object{after}")
}

/// Bytes of a text file that are read at a time.
const PIECE: u64 = 1 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing has this name.
    #[error("{}: no such file", path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// A symbolic link whose target is gone.
    #[error("{}: is a broken link; download the model again", path.display())]
    DanglingLink {
        /// The path as given.
        path: PathBuf,
    },
    /// A directory, FIFO, socket or device.
    #[error("{}: is a {kind}, not a regular file", path.display())]
    NotRegular {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file of no bytes.
    #[error("{}: the file is empty; if it should have content, copy or download it again", path.display())]
    Empty {
        /// The path as given.
        path: PathBuf,
    },
    /// A git-LFS pointer, which stands for a file that Git keeps elsewhere.
    #[error("{}: is a git-LFS pointer and not the file itself; run `git lfs pull` in its repository, or download the file", path.display())]
    LfsPointer {
        /// The path as given.
        path: PathBuf,
    },
    /// What a server answered with instead of the file.
    #[error("{}: is a web page instead of the file, such as a login or error page; download it again", path.display())]
    WebPage {
        /// The path as given.
        path: PathBuf,
    },
    /// An archive, a compressed file, or a format of the past.
    #[error("{}: is {what}; {way_out}", path.display())]
    Wrapped {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What the user can do.
        way_out: &'static str,
    },
    /// A text file above its limit.
    #[error("{}: has {} bytes, above the limit of {} for such files", path.display(), bytes.0, limit.0)]
    TooLarge {
        /// The path as given.
        path: PathBuf,
        /// Its size.
        bytes: Bytes,
        /// The limit.
        limit: Bytes,
    },
    /// A text file that is not text.
    #[error("{}: is not UTF-8 text (first wrong byte at {at})", path.display())]
    NotUtf8 {
        /// The path as given.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        at: usize,
    },
    /// A text file with a zero byte.
    #[error("{}: is not a text file (zero byte at {at}); if it should be one, copy or download it again", path.display())]
    NotText {
        /// The path as given.
        path: PathBuf,
        /// Offset of the first zero byte.
        at: usize,
    },
    /// The operating system reported an error.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    /// The path of the file, in every variant.
    pub(crate) fn path_mut(&mut self) -> &mut PathBuf {
        match self {
            OpenError::Missing { path }
            | OpenError::DanglingLink { path }
            | OpenError::NotRegular { path, .. }
            | OpenError::Empty { path }
            | OpenError::LfsPointer { path }
            | OpenError::WebPage { path }
            | OpenError::Wrapped { path, .. }
            | OpenError::TooLarge { path, .. }
            | OpenError::NotUtf8 { path, .. }
            | OpenError::NotText { path, .. }
            | OpenError::Io { path, .. } => path,
        }
    }
}

/// Opens a regular file (or a link to one) and gives its size, which is above zero.
///
/// # Errors
/// Every [`OpenError`] except `TooLarge`, `NotUtf8` and `NotText`, which are about text. Never blocks: what is not a
/// regular file is refused before it is opened.
pub fn open(path: &Path) -> Result<(File, u64), OpenError> {
    let at = || path.to_owned();
    let io_error = |source| OpenError::Io { path: at(), source };
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => {
            OpenError::DanglingLink { path: at() }
        }
        io::ErrorKind::NotFound => OpenError::Missing { path: at() },
        _ => io_error(source),
    })?;
    if !metadata.is_file() {
        return Err(OpenError::NotRegular {
            path: at(),
            kind: kind(metadata.file_type()),
        });
    }
    let file = File::open(path).map_err(io_error)?;
    // The size of the opened file: the path may lead to another file by now.
    match file.metadata().map_err(io_error)?.len() {
        0 => Err(OpenError::Empty { path: at() }),
        bytes if is_lfs_pointer(&file, bytes) => Err(OpenError::LfsPointer { path: at() }),
        bytes if is_web_page(&file, bytes) => Err(OpenError::WebPage { path: at() }),
        bytes => match wrapped::of(path, &file, bytes) {
            Some(&Wrapped { what, way_out, .. }) => Err(OpenError::Wrapped {
                path: at(),
                what,
                way_out,
            }),
            None => Ok((file, bytes)),
        },
    }
}

/// Refuses a git-LFS pointer in place of a file that is read later, or by its name alone. What cannot be opened is left to
/// who reads it.
///
/// # Errors
/// [`OpenError::LfsPointer`].
pub(crate) fn refuse_pointer(path: &Path) -> Result<(), OpenError> {
    // A pipe would be waited for.
    let Some(about) = fs::metadata(path).ok().filter(|about| about.is_file()) else {
        return Ok(());
    };
    match File::open(path) {
        Ok(file) if is_lfs_pointer(&file, about.len()) => Err(OpenError::LfsPointer {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether a file is a git-LFS pointer, which a clone without git-LFS has in place of a large file. Source: git-lfs
/// `docs/spec.md`, which limits pointers to less than 1024 bytes.
fn is_lfs_pointer(file: &File, bytes: u64) -> bool {
    const START: &[u8] = b"version https://git-lfs.github.com/spec/";
    let mut start = [0; START.len()];
    (START.len() as u64..1024).contains(&bytes)
        && read_exact_at(file, &mut start, 0).is_ok()
        && start == START
}

/// Whether a file begins as HTML does.
fn is_web_page(file: &File, bytes: u64) -> bool {
    let mut start = [0; 64];
    let start = start.get_mut(..bytes.min(64) as usize).unwrap_or_default();
    let read = read_exact_at(file, start, 0).is_ok();
    let start = start.trim_ascii_start().to_ascii_lowercase();
    read && [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| start.starts_with(tag))
}

/// Fills `bytes` from `offset` on, without a position that threads would share.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` on, without a position that threads would share.
#[cfg(windows)]
pub(crate) fn read_exact_at(
    file: &File,
    mut bytes: &mut [u8],
    mut offset: u64,
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = bytes.split_at_mut(n).1;
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Writes `bytes` from `offset` on, without a position that threads would share.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes `bytes` from `offset` on, without a position that threads would share.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let wrote = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = bytes.get(wrote..).unwrap_or_default();
        offset += wrote as u64;
    }
    Ok(())
}

/// Whether a file is, by its name (`NAME.header.safetensors`, `NAME.header.gguf`), only the header of a weight file: the
/// first bytes of a large file, downloaded by a range request. It is planned as if the weights followed.
pub fn is_header_only(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.is_some_and(|stem| stem.ends_with(".header"))
}

/// Reads a regular UTF-8 text file of at most `limit` bytes.
///
/// # Errors
/// Every [`OpenError`].
pub fn read_text(path: &Path, limit: Bytes) -> Result<String, OpenError> {
    let (file, bytes) = open(path)?;
    if bytes > limit.0 {
        return Err(OpenError::TooLarge {
            path: path.to_owned(),
            bytes: Bytes(bytes),
            limit,
        });
    }
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    // Piece by piece, ending at the first zero byte: a sparse file may claim any size and hold nothing but zeros.
    let mut text = Vec::new();
    let mut file = file.take(limit.0);
    while file
        .by_ref()
        .take(PIECE)
        .read_to_end(&mut text)
        .map_err(io)?
        > 0
    {
        let read = text.len().saturating_sub(PIECE as usize);
        let new = text.get(read..).unwrap_or_default();
        if let Some(zero) = new.iter().position(|byte| *byte == 0) {
            return Err(OpenError::NotText {
                path: path.to_owned(),
                at: read + zero,
            });
        }
    }
    String::from_utf8(text).map_err(|error| OpenError::NotUtf8 {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })
}

/// The last component of `path`, for messages.
pub(crate) fn display_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// A message that may repeat text from outside, safe for one line of a terminal: invisible characters are escaped, and
/// of a long message the first and last 250 characters are kept.
pub fn one_line(message: &dyn fmt::Display) -> String {
    const ENDS: usize = 250;
    let text: Vec<char> = Foreign(&message.to_string()).to_string().chars().collect();
    match text.get(ENDS..text.len().saturating_sub(ENDS)) {
        Some(middle) if middle.len() > 1 => {
            let (start, end) = (
                text.iter().take(ENDS),
                text.iter().skip(ENDS + middle.len()),
            );
            start.chain([&'…']).chain(end).collect()
        }
        _ => text.into_iter().collect(),
    }
}

fn kind(file_type: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return "FIFO";
        }
        if file_type.is_socket() {
            return "socket";
        }
        if file_type.is_block_device() || file_type.is_char_device() {
            return "device";
        }
    }
    if file_type.is_dir() {
        "directory"
    } else {
        "special file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_parsers_name_no_types() {
        for (message, words) in [
            (
                "invalid type: integer `5`, expected struct WireTensor at line 1 column 7",
                "found the number `5`, expected an object at line 1 column 7",
            ),
            (
                "invalid length 1, expected struct Json with 5 elements at line 1 column 2",
                "found a length of 1, expected an object at line 1 column 2",
            ),
            (
                "invalid type: string \"auto\", expected u64",
                "found the text \"auto\", expected a whole number from 0 on",
            ),
            (
                "EOF while parsing a value at line 2 column 0",
                "the text ends too early at line 2 column 0",
            ),
            ("missing field `schema`", "missing key `schema`"),
        ] {
            assert_eq!(in_words(message), words);
        }
    }

    #[test]
    fn foreign_text_stays_on_one_line_of_sane_length() {
        assert_eq!(one_line(&"a\nb\u{1b}[2J"), r"a\nb\u{1b}[2J");
        assert_eq!(one_line(&"x".repeat(501)).len(), 501);
        let long = format!("start {} end", "é".repeat(100_000));
        let short = one_line(&long);
        assert_eq!(short.chars().count(), 501);
        assert!(short.starts_with("start é") && short.ends_with("é end") && short.contains('…'));
    }
}
