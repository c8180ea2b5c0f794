//! Parts of the command lines that start a runtime: options that depend on its version, and container images that depend
//! on the L4T release. Data of its profile.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::device::L4tRelease;

/// Parts of the command lines of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// The oldest build for which the lines are known.
    pub oldest: Option<KnownSince>,
    /// The oldest build that has the options of speculation that the lines have.
    pub drafts: Option<KnownSince>,
    /// The option that reads the weights into memory instead of mapping the file, newest spelling first; the last one is
    /// that of all older builds.
    #[serde(default)]
    pub unmapped: Vec<Spelling>,
    /// Container images for a Jetson.
    #[serde(default)]
    pub container: Vec<ContainerImage>,
}

/// A build from which on something is known.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSince {
    /// The build.
    pub build: Version,
    /// A key of [`RuntimeProfile::sources`](super::RuntimeProfile::sources).
    pub source: String,
}

impl KnownSince {
    /// Whether a build is older; releases have numbers only since later.
    pub fn is_before(&self, version: Version) -> bool {
        matches!((version, self.build), (Version::Build(have), Version::Build(since)) if have < since)
    }
}

/// Words of a command line, and the first version that accepts them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spelling {
    /// The words.
    pub words: String,
    /// The first build that accepts them, such as `b10000`; `None` for the oldest known spelling.
    pub since: Option<Version>,
    /// The first release that accepts them, such as `0.5.0`, where releases have numbers.
    pub since_release: Option<Version>,
    /// A key of [`RuntimeProfile::sources`](super::RuntimeProfile::sources).
    pub source: String,
}

/// A container image with the runtime in it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerImage {
    /// The JetPack generation it is for.
    pub name: String,
    /// The first L4T release it runs on.
    pub from: Release,
    /// The first release that it no longer runs on.
    pub until: Option<Release>,
    /// The image, and the words of the command up to the model.
    pub words: String,
    /// A key of [`RuntimeProfile::sources`](super::RuntimeProfile::sources).
    pub source: String,
}

/// An L4T release in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Release(pub L4tRelease);

impl TryFrom<String> for Release {
    type Error = String;

    fn try_from(text: String) -> Result<Release, String> {
        let release = text.parse().map(Release);
        release.map_err(|()| format!("`{text}` is not an L4T release such as 36.4.7"))
    }
}

/// A build number (`b10884`) or the number of a release (`0.6.0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Version {
    /// A build of llama.cpp, counted in commits.
    Build(u64),
    /// Major, minor and patch.
    Release([u64; 3]),
}

impl FromStr for Version {
    type Err = String;

    /// Reads `b9000`, `9000`, `0.6.0`, `v0.6` and `0.6.0-dev`.
    fn from_str(text: &str) -> Result<Version, String> {
        let wrong = || {
            format!(
                "`{text}` is not a version: write a build such as b9000, or a release such as 0.6.0 (see the program's --version)"
            )
        };
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
        let trimmed = text.trim();
        let bare = trimmed.trim_start_matches(['b', 'v']);
        if !bare.contains('.') {
            return number(bare).map(Version::Build);
        }
        let bare = bare.split_once('-').map_or(bare, |(numbers, _)| numbers);
        let mut release = [0; 3];
        let mut parts = bare.split('.');
        for (place, part) in release.iter_mut().zip(parts.by_ref()) {
            *place = number(part)?;
        }
        match parts.next() {
            None => Ok(Version::Release(release)),
            Some(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Version, String> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Build(number) => write!(f, "b{number}"),
            Version::Release([major, minor, patch]) => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

impl Spelling {
    fn is_known_to(&self, version: Version) -> bool {
        match (version, self.since, self.since_release) {
            (Version::Build(have), Some(Version::Build(since)), _) => have >= since,
            (Version::Release(have), _, Some(Version::Release(since))) => have >= since,
            (_, since, _) => since.is_none(),
        }
    }
}

impl Lines {
    /// Whether the words depend on the version.
    pub fn depend_on_version(&self) -> bool {
        self.unmapped.len() > 1
    }

    /// The words that read weights into memory instead of mapping the file, for `version` or else for the newest one.
    pub fn unmapped(&self, version: Option<Version>) -> Option<&str> {
        let known = |spelling: &&Spelling| version.is_none_or(|v| spelling.is_known_to(v));
        let spelling = self.unmapped.iter().find(known);
        spelling.map(|spelling| spelling.words.as_str())
    }

    /// The container images for a release; all of them where it is not known.
    pub fn containers(&self, release: Option<L4tRelease>) -> impl Iterator<Item = &ContainerImage> {
        self.container.iter().filter(move |container| {
            release.is_none_or(|release| {
                container.from.0 <= release && container.until.is_none_or(|end| release < end.0)
            })
        })
    }

    /// Holds the entries to their order.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let Some((oldest, newer)) = self.unmapped.split_last() else {
            return Ok(());
        };
        if oldest.since.is_none() && newer.iter().all(|spelling| spelling.since.is_some()) {
            Ok(())
        } else {
            Err(
                "`lines.unmapped` goes from the newest spelling to the oldest, which alone has no `since`"
                    .to_owned(),
            )
        }
    }

    /// The name of every entry's field, with the key of its source.
    pub(super) fn cited(&self) -> impl Iterator<Item = (String, String)> {
        let unmapped = self.unmapped.iter().map(|s| ("lines.unmapped", &s.source));
        let container = self.container.iter();
        let container = container.map(|c| ("lines.container", &c.source));
        let known = [
            ("lines.oldest", &self.oldest),
            ("lines.drafts", &self.drafts),
        ];
        let known = known
            .into_iter()
            .filter_map(|(field, since)| Some((field, &since.as_ref()?.source)));
        unmapped
            .chain(container)
            .chain(known)
            .map(|(field, source)| (field.to_owned(), source.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_the_forms_that_programs_print() {
        let check = |text: &str, expected: Option<&str>| {
            let read = text.parse::<Version>().ok();
            assert_eq!(read.map(|v| v.to_string()).as_deref(), expected, "{text}");
        };
        check("b9000", Some("b9000"));
        check("9000", Some("b9000"));
        check("0.6.0", Some("0.6.0"));
        check("v0.6", Some("0.6.0"));
        check("0.6.0-dev", Some("0.6.0"));
        for wrong in ["", "b", "latest", "0.6.x", "1.2.3.4", "-1"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_version_has_the_newest_spelling_it_knows() {
        let lines: Lines = toml::from_str(
            "[[unmapped]]\nwords = \"new\"\nsince = \"b10\"\nsince_release = \"0.5.0\"\nsource = \"x\"\n\
             [[unmapped]]\nwords = \"old\"\nsource = \"x\"",
        )
        .unwrap();
        let check = |version: Option<&str>, words: &str| {
            let version = version.map(|text| text.parse().unwrap());
            assert_eq!(lines.unmapped(version), Some(words), "{version:?}");
        };
        check(None, "new");
        check(Some("b10"), "new");
        check(Some("b9"), "old");
        check(Some("0.5.0-dev"), "new");
        check(Some("0.4.9"), "old");
    }
}
