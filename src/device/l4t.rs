//! L4T releases (the board's system image) and the JetPack versions they belong to.

use std::fmt;
use std::str::FromStr;

/// An L4T release such as 36.4.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct L4tRelease {
    /// 36 of 36.4.7.
    pub major: u16,
    /// 4 of 36.4.7.
    pub minor: u16,
    /// 7 of 36.4.7; 0 where the release names none.
    pub patch: u16,
}

/// First release of each JetPack version; a row holds until the next.
///
/// Sources: NVIDIA's release notes for 36.x and 39.x; jetson-containers for 35.x.
const JETPACK: &[(L4tRelease, &str)] = &[
    (L4tRelease::new(35, 3, 1), "5.1.1"),
    (L4tRelease::new(35, 4, 1), "5.1.2"),
    (L4tRelease::new(36, 3, 0), "6.0"),
    (L4tRelease::new(36, 4, 0), "6.1"),
    (L4tRelease::new(36, 4, 3), "6.2"),
    (L4tRelease::new(36, 4, 4), "6.2.1"),
    (L4tRelease::new(36, 5, 0), "6.2.2"),
    (L4tRelease::new(38, 0, 0), "7"),
    (L4tRelease::new(39, 2, 0), "7.2"),
];

impl L4tRelease {
    const fn new(major: u16, minor: u16, patch: u16) -> L4tRelease {
        L4tRelease {
            major,
            minor,
            patch,
        }
    }

    /// The JetPack version of this release, where known. A release between two rows of the table belongs to the earlier
    /// row if that has the same major number.
    pub fn jetpack(self) -> Option<&'static str> {
        let row = JETPACK.iter().rev().find(|(first, _)| *first <= self)?;
        (row.0.major == self.major).then_some(row.1)
    }

    /// Whether a release with this major number runs on an Orin, as far as is known.
    pub fn is_known(self) -> bool {
        JETPACK.iter().any(|(first, _)| first.major == self.major)
    }

    /// The releases of a JetPack version, in a range of the table.
    pub fn of_version(version: &str) -> Option<String> {
        let at = JETPACK.iter().position(|(_, name)| *name == version)?;
        let (first, _) = JETPACK.get(at)?;
        let next = JETPACK
            .get(at + 1)
            .filter(|(next, _)| next.major == first.major);
        Some(match next {
            Some((next, _)) => format!("{first}, up to {next}"),
            None => format!("{first} or later"),
        })
    }

    /// The name under which it is installed: `JetPack 6.2.2 (L4T R36.5.0)`.
    pub fn of_jetpack(self) -> String {
        match self.jetpack() {
            Some(version) => format!("JetPack {version} (L4T {self})"),
            None => format!("L4T {self}"),
        }
    }

    /// The same in as few words as name it: `JetPack 6.2.2`.
    pub fn shortest(self) -> String {
        match self.jetpack() {
            Some(version) => format!("JetPack {version}"),
            None => format!("L4T {self}"),
        }
    }

    /// Reads `/etc/nv_tegra_release`: `# R36 (release), REVISION: 4.7, GCID: ...`.
    pub(super) fn from_release_file(text: &str) -> Option<L4tRelease> {
        let line = text.lines().find(|line| line.contains("REVISION:"))?;
        let major = line
            .split_once('R')?
            .1
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        let revision = line.split_once("REVISION:")?.1.split(',').next()?.trim();
        format!("{major}.{revision}").parse().ok()
    }
}

impl fmt::Display for L4tRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for L4tRelease {
    type Err = ();

    /// Accepts `36.4.7`, `36.5` and `R36.4.7`.
    fn from_str(text: &str) -> Result<L4tRelease, ()> {
        let number = text.strip_prefix(['R', 'r']).unwrap_or(text);
        let mut parts = number
            .split('.')
            .map(|part| part.trim().parse::<u16>().map_err(|_| ()));
        let major = parts.next().ok_or(())??;
        let minor = parts.next().ok_or(())??;
        let patch = parts.next().unwrap_or(Ok(0))?;
        match parts.next() {
            None => Ok(L4tRelease {
                major,
                minor,
                patch,
            }),
            Some(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_named() {
        // The first line as a board prints it.
        let text =
            "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64\n";
        let release = L4tRelease::from_release_file(text).unwrap();
        assert_eq!(release, "36.4.7".parse().unwrap());
        assert_eq!(release.to_string(), "R36.4.7");
        let jetpack = |text: &str| text.parse::<L4tRelease>().unwrap().jetpack();
        assert_eq!(jetpack("36.4.7"), Some("6.2.1"));
        assert_eq!(jetpack("36.4.3"), Some("6.2"));
        assert_eq!(jetpack("36.5"), Some("6.2.2"));
        assert_eq!(jetpack("39.2"), Some("7.2"));
        assert_eq!(jetpack("37.1"), None);
        assert_eq!(jetpack("32.7"), None);
    }

    #[test]
    fn garbage_is_no_release() {
        for bad in [
            "",
            "R",
            "REVISION:",
            "R36 REVISION:",
            "R99999 REVISION: 4.7",
            "\u{fffd}REVISION: R",
        ] {
            assert_eq!(L4tRelease::from_release_file(bad), None, "{bad}");
        }
        assert!("36.4.7.1".parse::<L4tRelease>().is_err());
    }
}
