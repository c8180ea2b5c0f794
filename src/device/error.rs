//! The errors of finding, reading and detecting a device.

use std::path::PathBuf;

/// Why there is no device profile, power mode or machine description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The profile file cannot be read.
    #[error("cannot read device file `{file}`: {problem}")]
    Read {
        /// The file as the user named it.
        file: String,
        /// What the system says.
        problem: String,
    },
    /// The profile file is no regular file, or larger than a profile can be.
    #[error("device file `{file}` {problem}")]
    Unsuitable {
        /// The file as the user named it.
        file: String,
        /// What it is instead.
        problem: String,
    },
    /// The profile is not TOML, or a field is missing or unknown.
    #[error(
        "device file `{file}`, line {line}: {message}; `orinplan devices show orin-nano-8gb` lists the fields of a complete one"
    )]
    Syntax {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A field's value breaks a rule.
    #[error("device file `{file}`, field `{field}`: `{value}` {rule}")]
    Field {
        /// The file.
        file: String,
        /// The path of the field, such as `mode[15W].gpu`.
        field: String,
        /// The offending value as written.
        value: String,
        /// The rule and the way out.
        rule: String,
    },
    /// The machine is a Jetson that no shipped board is.
    #[error(
        "this Jetson has no profile (`{model}`), and another board's numbers would be wrong: name the most similar board with --device ({known}), or a profile of your own"
    )]
    UnknownJetson {
        /// The device tree's model.
        model: String,
        /// Every known id.
        known: String,
    },
    /// No board has this id.
    #[error(
        "no device is called `{id}`{hint}; known: {known}, `host` for this machine, or a path to a device file"
    )]
    UnknownDevice {
        /// What was asked for.
        id: String,
        /// The closest known id in brackets, if one is close.
        hint: String,
        /// Every known id.
        known: String,
    },
    /// The device has no such power mode.
    #[error("{device} has no power mode `{mode}`{hint}; its modes are {known}")]
    UnknownMode {
        /// The device's id.
        device: String,
        /// What was asked for.
        mode: String,
        /// The closest of its modes in brackets, if one is close.
        hint: String,
        /// The names of its modes.
        known: String,
    },
    /// The root of the machine is no directory.
    #[error(
        "cannot describe this machine: `{root}` is not a directory; name a board with --device instead"
    )]
    NoRoot {
        /// The root that was given.
        root: PathBuf,
    },
    /// The machine does not report how much memory it has.
    #[error(
        "cannot describe this machine: proc/meminfo gives no MemTotal; name a board with --device, or write a device file"
    )]
    NoMemory,
}

/// The system's sentence without the number that follows it.
pub(super) fn without_code(error: &std::io::Error) -> String {
    let said = error.to_string();
    said.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}
