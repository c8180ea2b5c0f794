//! What to say of a subcommand that does not exist.

use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};

use super::Cli;
use crate::nearest;

/// A command of this program, and the words that people type for it.
const SYNONYMS: &[(&str, &str)] = &[
    ("fit", "plan check estimate predict size memory can-run"),
    ("models", "choose recommend catalog catalogue which suggest"),
    ("quantize", "convert quantise quant make export"),
    ("validate", "run bench benchmark test measure serve chat"),
    ("inspect", "show info list ls dump tensors"),
    ("devices", "device boards board detect modes"),
];

/// The negative number that stands where a flag or a value was expected.
pub(in crate::cli) fn negative(error: &clap::Error) -> Option<String> {
    let found = error.get(ContextKind::InvalidArg)?.to_string();
    let is_number = found.starts_with('-') && found.parse::<f64>().is_ok();
    (error.kind() == ErrorKind::UnknownArgument && is_number).then_some(found)
}

/// The message for a subcommand that does not exist, with the one that was most likely meant.
pub(in crate::cli) fn unknown_command(error: &clap::Error) -> String {
    let context = |kind| {
        error
            .get(kind)
            .map_or_else(String::new, |value| value.to_string())
    };
    let word = context(ContextKind::InvalidSubcommand);
    let usage = context(ContextKind::Usage);
    let meant = SYNONYMS.iter().find(|(_, words)| {
        words
            .split(' ')
            .any(|known| known.eq_ignore_ascii_case(&word))
    });
    let root = Cli::command();
    // Within a command that has subcommands, those are listed.
    let is_in = |inner: &&clap::Command| usage.contains(&format!("orinplan {} ", inner.get_name()));
    let inner = root.get_subcommands().find(is_in);
    let meant = meant.filter(|_| inner.is_none());
    let command = inner.unwrap_or(&root);
    let known: Vec<&str> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let hint = match meant {
        Some((name, _)) => format!(" (did you mean `{name}`?)"),
        None => nearest::hint(&word, known.iter().copied()),
    };
    format!(
        "there is no command `{word}`{hint}; known: {}",
        known.join(", ")
    )
}
