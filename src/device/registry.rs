//! The boards that ship with orinplan, and users' own files.
//!
//! A new board is one file under `profiles/boards/` and one name in the list below.

use std::io::Read as _;
use std::path::Path;

use super::document;
use super::error::{DeviceError, without_code};
use super::file::parse;
use super::profile::DeviceProfile;

macro_rules! boards {
    ($($id:literal)*) => {
        &[$(($id, concat!("profiles/boards/", $id, ".toml"),
             include_str!(concat!("../../profiles/boards/", $id, ".toml")))),*]
    };
}

/// Id, file name and text of every shipped board.
static BOARDS: &[(&str, &str, &str)] = boards! {
    "orin-nano-4gb"
    "orin-nano-8gb"
    "orin-nx-8gb"
    "orin-nx-16gb"
    "agx-orin-32gb"
    "agx-orin-64gb"
};

/// The board of a plan when none is named and the machine at hand is no board with a profile.
pub const DEFAULT_BOARD: &str = "orin-nano-8gb";

/// What `--device` takes for the machine at hand.
pub const HOST: &str = "host";

/// The largest device file that is read: the shipped ones are a fiftieth of it.
const LARGEST_FILE: u64 = 1 << 20;

/// The ids of the shipped boards, smallest module first.
pub fn ids() -> impl Iterator<Item = &'static str> {
    BOARDS.iter().map(|(id, _, _)| *id)
}

/// The texts of the shipped boards, smallest module first.
pub fn texts() -> impl Iterator<Item = &'static str> {
    BOARDS.iter().map(|(_, _, text)| *text)
}

/// Every shipped board, smallest module first.
///
/// # Errors
/// None in a release: a test reads every shipped file.
pub fn list() -> Result<Vec<DeviceProfile>, DeviceError> {
    BOARDS
        .iter()
        .map(|(_, file, text)| parse(file, text))
        .collect()
}

/// The shipped board with this id, in any case.
///
/// # Errors
/// [`DeviceError::UnknownDevice`] with the nearest id.
pub fn get(id: &str) -> Result<DeviceProfile, DeviceError> {
    let board = BOARDS
        .iter()
        .find(|(known, _, _)| known.eq_ignore_ascii_case(id.trim()));
    let (_, file, text) = board.ok_or_else(|| DeviceError::UnknownDevice {
        id: id.to_owned(),
        hint: crate::nearest::hint(&bare(id), by_likelihood()),
        known: ids().collect::<Vec<_>>().join(", "),
    })?;
    parse(file, text)
}

/// A board's name without the words that any board's name may have, as in `jetson-orin-nano-super` and `Orin Nano Developer
/// Kit`.
fn bare(id: &str) -> String {
    const COMMON: [&str; 6] = ["nvidia", "jetson", "developer", "devkit", "kit", "super"];
    let lower = id.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty() && !COMMON.contains(word));
    words.collect::<Vec<_>>().join("-")
}

/// The ids, the most common board first, then larger boards before smaller ones.
fn by_likelihood() -> Vec<&'static str> {
    let mut ids: Vec<&str> = ids().collect();
    ids.reverse();
    ids.sort_by_key(|id| *id != DEFAULT_BOARD);
    ids
}

/// A user's device file: the TOML of a profile, or the JSON of `orinplan devices detect` or `devices show`.
///
/// # Errors
/// [`DeviceError::Read`] if it cannot be read; [`DeviceError::Unsuitable`] if it is not a regular file, not UTF-8 or above 1
/// MiB; [`DeviceError::Syntax`] and [`DeviceError::Field`] if it is no valid profile.
pub fn load(path: &Path) -> Result<DeviceProfile, DeviceError> {
    let file = path.display().to_string();
    let unsuitable = |problem: &str| DeviceError::Unsuitable {
        file: file.clone(),
        problem: problem.to_owned(),
    };
    let read = |error: std::io::Error| DeviceError::Read {
        file: file.clone(),
        problem: without_code(&error),
    };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(unsuitable(
            "is not a regular file; name the .toml or .json file itself",
        ));
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(read)?;
    opened
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(unsuitable(
            "is larger than 1 MiB, the limit for a device file; is it the right file?",
        ));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| unsuitable("is not UTF-8 text; is it the right file?"))?;
    let read = if document::is_document(&text) {
        document::parse
    } else {
        parse
    };
    read(&file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_names_the_board_that_was_meant() {
        let message = |id: &str| get(id).unwrap_err().to_string();
        assert!(
            message("orin-nano-8g").contains("did you mean `orin-nano-8gb`?"),
            "{}",
            message("orin-nano-8g")
        );
        assert!(message("orin-nx16gb").contains("did you mean `orin-nx-16gb`?"));
        for (said, meant) in [
            ("orin-nano", "orin-nano-8gb"),
            ("nano", "orin-nano-8gb"),
            ("jetson-orin-nano", "orin-nano-8gb"),
            ("orin-nano-super", "orin-nano-8gb"),
            ("Jetson Orin Nano Developer Kit", "orin-nano-8gb"),
            ("orin_nano_4gb", "orin-nano-4gb"),
            ("orin-nx", "orin-nx-16gb"),
            ("agx", "agx-orin-64gb"),
            ("agx-orin-32", "agx-orin-32gb"),
        ] {
            let hint = format!("did you mean `{meant}`?");
            assert!(message(said).contains(&hint), "{}", message(said));
        }
        assert!(
            !message("xavier").contains("did you mean"),
            "{}",
            message("xavier")
        );
        assert!(message("xavier").contains("agx-orin-64gb"));
        assert_eq!(get("ORIN-NANO-8GB").unwrap().id, DEFAULT_BOARD);
    }
}
