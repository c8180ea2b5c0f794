//! Recognises, by their first bytes, archives and compressed files that may hold a model, and formats of the past. In: a
//! file and its name. Out: what it is, and the way out.

use std::fs::File;
use std::path::Path;

use super::read_exact_at;

/// A format that wraps others, or that nothing reads any more.
#[derive(Debug)]
pub(super) struct Wrapped {
    at: usize,
    magic: &'static [u8],
    pub(super) what: &'static str,
    pub(super) way_out: &'static str,
}

const fn start(magic: &'static [u8], what: &'static str, way_out: &'static str) -> Wrapped {
    Wrapped {
        at: 0,
        magic,
        what,
        way_out,
    }
}

const UNPACK: &str = "unpack it, and give what it holds";
const LEGACY: &str = "a model in GGML's format from before GGUF, which no runtime reads any more";
const ANEW: &str =
    "download the model as GGUF, or make one from the original with `orinplan quantize`";

const WRAPPED: &[Wrapped] = &[
    start(b"PK\x03\x04", "a zip archive", UNPACK),
    start(b"\x1f\x8b\x08", "compressed with gzip", UNPACK),
    start(b"BZh", "compressed with bzip2", UNPACK),
    start(b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    start(b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    start(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    Wrapped {
        at: 257,
        ..start(b"ustar", "a tar archive", UNPACK)
    },
    start(b"lmgg", LEGACY, ANEW),
    start(b"fmgg", LEGACY, ANEW),
    start(b"tjgg", LEGACY, ANEW),
];

/// Formats that are archives inside, by the ends of their names: they have their own answers.
const ARCHIVES: &[&str] = &[
    "bin",
    "ckpt",
    "keras",
    "litertlm",
    "mlpackage",
    "nemo",
    "npz",
    "pt",
    "pth",
    "task",
    "tflite",
];

/// What wraps the contents of a file, if anything does.
pub(super) fn of(path: &Path, file: &File, bytes: u64) -> Option<&'static Wrapped> {
    let mut start = [0; 262];
    let start = start.get_mut(..bytes.min(262) as usize)?;
    read_exact_at(file, start, 0).ok()?;
    // The length of a safetensors header may be any number; its text follows.
    if start.get(8) == Some(&b'{') {
        return None;
    }
    let begins = |wrapped: &&Wrapped| {
        start
            .get(wrapped.at..)
            .is_some_and(|rest| rest.starts_with(wrapped.magic))
    };
    let found = WRAPPED.iter().find(begins)?;
    let extension = path.extension().and_then(|end| end.to_str());
    let own = extension.is_some_and(|end| ARCHIVES.contains(&end.to_ascii_lowercase().as_str()));
    (found.what == LEGACY || !own).then_some(found)
}
