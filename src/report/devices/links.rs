//! The addresses of sources: what a source names on GitHub, and addresses as they stand.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// How the addresses of sources are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Behind each source, for a file or a pipe.
    Written,
    /// Not at all: [`linked`] makes sources links of the terminal.
    Hidden,
}

/// An address; or a repository, with an issue or a commit of it where these are named.
const REFERENCE: &str = r"https?://[^\s;,)\]]+|(?:(?P<owner>[A-Za-z0-9][A-Za-z0-9-]*)/(?P<name>[A-Za-z0-9._-]*[A-Za-z0-9])|(?P<alone>llama.cpp))(?:@(?P<commit>[0-9a-f]{7,40})\b| issue (?P<issue>\d+))?";

static REFERENCES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(REFERENCE).ok());

/// Shorter words on both sides of a slash are no repository: `GB/s`, `15W/7W`.
const SHORTEST: usize = 5;

/// The address of what was found in `text`; `None` where it is no reference.
fn address(text: &str, found: &Captures<'_>) -> Option<String> {
    let whole = found.get(0)?;
    let of = |name: &str| found.name(name).map(|part| part.as_str());
    let before = text.get(..whole.start())?.chars().next_back();
    if before.is_some_and(|c| c == '/' || c.is_alphanumeric()) {
        return None;
    }
    let (owner, name) = match (of("owner"), of("name"), of("alone")) {
        (Some(owner), Some(name), _) => (owner, name),
        (_, _, Some(name)) => ("ggml-org", name),
        _ => return Some(whole.as_str().to_owned()),
    };
    let repository = format!("https://github.com/{owner}/{name}");
    let is_named =
        |part: &str| part.len() >= SHORTEST && part.contains(|c: char| c.is_alphabetic());
    let has_marks = [owner, name]
        .concat()
        .contains(|c: char| c == '-' || c.is_ascii_digit());
    match (of("commit"), of("issue")) {
        (Some(commit), _) => Some(format!("{repository}/tree/{commit}")),
        (None, Some(issue)) => Some(format!("{repository}/issues/{issue}")),
        (None, None) => {
            let is_repository = is_named(owner) && is_named(name) && has_marks;
            is_repository
                .then_some(repository)
                .filter(|_| of("alone").is_none())
        }
    }
}

/// The addresses of what a source names, in its order, with those that stand there already left out.
pub(super) fn addresses(source: &str) -> Vec<String> {
    let found = REFERENCES
        .iter()
        .flat_map(|form| form.captures_iter(source));
    let addresses = found.filter_map(|found| address(source, &found));
    addresses
        .filter(|address| !source.contains(address))
        .collect()
}

/// The report with every reference as a link of the terminal (OSC 8).
pub fn linked(report: &str) -> String {
    let Some(form) = REFERENCES.as_ref() else {
        return report.to_owned();
    };
    let link = |found: &Captures<'_>| {
        let shown = found.get(0).map_or("", |whole| whole.as_str());
        match address(report, found) {
            Some(address) => format!("\u{1b}]8;;{address}\u{1b}\\{shown}\u{1b}]8;;\u{1b}\\"),
            None => shown.to_owned(),
        }
    };
    form.replace_all(report, link).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_issues_and_commits_have_addresses() {
        for (source, expected) in [
            (
                "dusty-nv/jetson-containers issue 342, Orin Nano 8GB: 6.6Gi available",
                &["https://github.com/dusty-nv/jetson-containers/issues/342"][..],
            ),
            (
                "llama.cpp issue 29142; 0xShug0/audio.cpp issue 12 (Orin Nano 8GB)",
                &[
                    "https://github.com/ggml-org/llama.cpp/issues/29142",
                    "https://github.com/0xShug0/audio.cpp/issues/12",
                ],
            ),
            (
                "/etc/nvpmodel/nvpmodel_p3767_0003.conf, copy in LineageOS/android_device_nvidia_concord@ca8f5dc",
                &["https://github.com/LineageOS/android_device_nvidia_concord/tree/ca8f5dc"],
            ),
            (
                "jfdg01/jetson (tegrastats) and dnewcome/jetson-llm (on a Xavier)",
                &[
                    "https://github.com/jfdg01/jetson",
                    "https://github.com/dnewcome/jetson-llm",
                ],
            ),
            (
                "RAM 1224/15656MB, 68 GB/s, CPU/GPU, llama.cpp, tokens/second",
                &[],
            ),
            ("see https://example.org/a", &[]),
        ] {
            assert_eq!(addresses(source), expected, "{source}");
        }
    }

    #[test]
    fn a_link_of_the_terminal_shows_the_same_words() {
        let report = "[1] llama.cpp issue 5; https://example.org/a\n";
        let link = |address: &str, shown: &str| {
            format!("\u{1b}]8;;{address}\u{1b}\\{shown}\u{1b}]8;;\u{1b}\\")
        };
        assert_eq!(
            linked(report),
            format!(
                "[1] {}; {}\n",
                link(
                    "https://github.com/ggml-org/llama.cpp/issues/5",
                    "llama.cpp issue 5"
                ),
                link("https://example.org/a", "https://example.org/a")
            )
        );
    }
}
