//! Whether the clocks of a board are held at the maximum of its power mode.

use std::fmt;
use std::str::FromStr;

/// Who sets the clocks below the maximum of the power mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// `jetson_clocks` holds them at the maximum.
    Locked,
    /// The system lowers and raises them with the load, as it does after every start.
    Governed,
}

impl Clocks {
    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Clocks::Locked => "locked",
            Clocks::Governed => "governed",
        }
    }
}

impl fmt::Display for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Clocks {
    type Err = String;

    fn from_str(text: &str) -> Result<Clocks, String> {
        [Clocks::Locked, Clocks::Governed]
            .into_iter()
            .find(|clocks| clocks.name() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is neither `locked` nor `governed`",
                    text.escape_debug()
                )
            })
    }
}
