//! Flags of `orinplan config`, and the flags that settings are defaults of.

use clap::{Args, Subcommand, ValueEnum};

use super::ReportFormat;
use super::known::{DEVICES, POWER_MODES, RUNTIMES};

/// A setting: the default of the flag of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Key {
    /// Board id, a profile file, or `host`
    Device,
    /// Power mode of that board
    PowerMode,
    /// Runtime that loads the model
    Runtime,
    /// Output format
    Format,
    /// Text that quality is measured on
    Text,
}

impl Key {
    pub(in crate::cli) fn all() -> impl Iterator<Item = Key> {
        Key::value_variants().iter().copied()
    }

    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Key::Device => "device",
            Key::PowerMode => "power-mode",
            Key::Runtime => "runtime",
            Key::Format => "format",
            Key::Text => "text",
        }
    }

    /// The name of its flag inside the parser.
    pub(in crate::cli) fn flag(self) -> String {
        self.name().replace('-', "_")
    }

    /// The values that completions offer.
    pub(in crate::cli) fn values(self) -> Vec<String> {
        let names = |all: &[ReportFormat]| {
            let values = all.iter().filter_map(ValueEnum::to_possible_value);
            values.map(|value| value.get_name().to_owned()).collect()
        };
        match self {
            Key::Device => DEVICES.values(),
            Key::PowerMode => POWER_MODES.values(),
            Key::Runtime => RUNTIMES.values(),
            Key::Format => names(ReportFormat::value_variants()),
            Key::Text => Vec::new(),
        }
    }

    pub(in crate::cli) fn variable(self) -> String {
        format!("ORINPLAN_{}", self.flag().to_uppercase())
    }

    /// The commands whose flag it sets.
    pub(in crate::cli) fn commands(self) -> &'static [&'static str] {
        match self {
            Key::Device | Key::PowerMode | Key::Runtime => &["fit", "board", "models", "roofline"],
            Key::Format => &["fit", "board", "models", "compare"],
            Key::Text => &["compare", "imatrix", "quantize"],
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigArgs {
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Every setting and its source
    Show,
    /// Change a setting
    Set {
        /// The setting
        #[arg(value_enum)]
        key: Key,
        /// Its value, as the flag of that name takes it
        #[arg(value_name = "VALUE")]
        value: String,
    },
    /// Remove a setting
    Unset {
        /// The setting
        #[arg(value_enum)]
        key: Key,
    },
}
