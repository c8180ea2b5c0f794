//! Reads small text files under a root directory: up to a limit, regular files only, with any bytes in them.

use std::io::Read as _;
use std::path::Path;

use super::profile::Pitfall;
use crate::units::Bytes;

/// The most bytes that are read of a file: most have a few kB, `/proc/cpuinfo` of a large server some hundred.
const LARGEST: u64 = 1 << 20;

/// The text of `root/path`, with bytes that are not UTF-8 replaced. `None` if it is missing, unreadable, or no regular file
/// (a FIFO would block).
pub(super) fn text(root: &Path, path: &str) -> Option<String> {
    let path = root.join(path);
    if !std::fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The NUL-separated strings of a device-tree property, without control characters.
pub(super) fn property(root: &Path, path: &str) -> Vec<String> {
    let text = text(root, path).unwrap_or_default();
    text.split('\0')
        .map(printable)
        .filter(|word| !word.is_empty())
        .collect()
}

/// The text without control characters, at most 128 characters, for a terminal.
pub(super) fn printable(text: &str) -> String {
    let clean: String = text
        .trim()
        .chars()
        .filter(|c| !c.is_control() && *c != '\u{fffd}')
        .take(128)
        .collect();
    clean.trim().to_owned()
}

/// A field of `/proc/meminfo`, such as `MemTotal:        7607000 kB`.
pub(super) fn meminfo(text: &str, field: &str) -> Option<Bytes> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // A number above 16 TiB is wrong.
    Some(Bytes(kib.checked_mul(1024)?)).filter(|bytes| *bytes <= Bytes::GIB * 16384)
}

/// The number of logical processors and the first model name in `/proc/cpuinfo`.
pub(super) fn cpus(text: &str) -> (usize, Option<String>) {
    let keyed = |key: &'static str| {
        text.lines()
            .filter_map(move |line| line.split_once(':').filter(|(name, _)| name.trim() == key))
    };
    let model = keyed("model name")
        .map(|(_, value)| printable(value))
        .find(|name| !name.is_empty());
    (keyed("processor").count(), model)
}

/// Notes about the detection, in their order.
#[derive(Default)]
pub(super) struct Notes(pub(super) Vec<Pitfall>);

impl Notes {
    /// Adds a note about this machine.
    pub(super) fn add(&mut self, code: &str, text: impl Into<String>) {
        self.0.push(Pitfall {
            code: code.to_owned(),
            text: text.into(),
            source: "this machine".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_fields_are_matched_whole() {
        let text = "MemTotalX: 1 kB\nMemTotal:       64349040 kB\nMemFree: junk kB\nMemAvailable: 99999999999999999 kB\nCma: 1\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(Bytes(64_349_040 * 1024)));
        for field in ["MemFree", "MemAvailable", "Cma", "SwapFree"] {
            assert_eq!(meminfo(text, field), None, "{field}");
        }
    }

    #[test]
    fn processors_are_counted() {
        let text = "processor\t: 0\nmodel name\t: A CPU\n\nprocessor\t: 1\nmodel name\t: A CPU\n";
        assert_eq!(cpus(text), (2, Some("A CPU".to_owned())));
        assert_eq!(cpus("garbage\n:\n"), (0, None));
    }
}
