//! Finds the profile of the device that `--device` names, or of the default one.

use std::path::Path;

use super::detect::detect;
use super::error::DeviceError;
use super::profile::DeviceProfile;
use super::registry::{DEFAULT_BOARD, HOST, get, ids, load};

/// The device that `--device` names: `host` is the machine with the root directory `root`, a name with a path separator or
/// that ends in `.toml` or `.json` is a file, any other a shipped board. Notes of the detection are added to the profile's pitfalls.
///
/// # Errors
/// As [`detect`], [`load`] and [`get`].
pub fn open(device: &str, root: &Path) -> Result<DeviceProfile, DeviceError> {
    if device.eq_ignore_ascii_case(HOST) {
        Ok(detect(root)?.profile)
    } else if device.contains(['/', '\\'])
        || [".toml", ".json"].iter().any(|end| device.ends_with(end))
    {
        load(Path::new(device))
    } else {
        get(device)
    }
}

/// How the device of a plan was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was named by the user.
    Named,
    /// It is that of the user's settings.
    Preferred,
    /// It is the machine at hand.
    ThisMachine,
    /// It is the default, since none was named and the machine at hand is no board with a profile.
    Default,
}

/// The device of a plan: the named one, as by [`open`]; else the machine with the root directory `root`, if it is a board
/// with a profile; else [`DEFAULT_BOARD`].
///
/// # Errors
/// As [`open`], for a named device. Where none is named, [`DeviceError::UnknownJetson`] on a Jetson without a profile; a
/// machine that cannot be detected counts as no board.
pub fn choose(device: Option<&str>, root: &Path) -> Result<(DeviceProfile, Choice), DeviceError> {
    let Some(named) = device else {
        return match detect(root).ok() {
            Some(found) if found.profile.id != HOST => Ok((found.profile, Choice::ThisMachine)),
            Some(found) if found.is_jetson => Err(DeviceError::UnknownJetson {
                model: found.model.unwrap_or_default(),
                known: ids().collect::<Vec<_>>().join(", "),
            }),
            _ => Ok((get(DEFAULT_BOARD)?, Choice::Default)),
        };
    };
    let choice = if named.eq_ignore_ascii_case(HOST) {
        Choice::ThisMachine
    } else {
        Choice::Named
    };
    Ok((open(named, root)?, choice))
}
