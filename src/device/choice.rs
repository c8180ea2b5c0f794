//! The way from what `--device` says to a profile.

use std::path::Path;

use super::detect::detect;
use super::error::DeviceError;
use super::profile::DeviceProfile;
use super::registry::{DEFAULT_BOARD, HOST, get, load};

/// What `--device` names: `host` for the machine whose root directory is `root`, a file if the
/// name has a path separator or ends in `.toml`, else a shipped board. Notes of the detection stand
/// among the profile's pitfalls.
///
/// # Errors
/// As [`detect`], [`load`] and [`get`].
pub fn open(device: &str, root: &Path) -> Result<DeviceProfile, DeviceError> {
    if device.eq_ignore_ascii_case(HOST) {
        Ok(detect(root)?.profile)
    } else if device.contains(['/', '\\']) || device.ends_with(".toml") {
        load(Path::new(device))
    } else {
        get(device)
    }
}

/// How a plan came by its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was named.
    Named,
    /// It is the machine at hand.
    ThisMachine,
    /// None was named, and the machine at hand is no board with a profile.
    Default,
}

/// The device of a plan: what is named, as [`open`] has it; else the machine whose root directory is
/// `root`, if it is a board with a profile; else [`DEFAULT_BOARD`].
///
/// # Errors
/// As [`open`]. A machine that cannot be described is no board.
pub fn choose(device: Option<&str>, root: &Path) -> Result<(DeviceProfile, Choice), DeviceError> {
    let Some(named) = device else {
        let here = detect(root).ok().filter(|found| found.profile.id != HOST);
        return match here {
            Some(found) => Ok((found.profile, Choice::ThisMachine)),
            None => Ok((get(DEFAULT_BOARD)?, Choice::Default)),
        };
    };
    let choice = if named.eq_ignore_ascii_case(HOST) {
        Choice::ThisMachine
    } else {
        Choice::Named
    };
    Ok((open(named, root)?, choice))
}
