//! `orinplan config`, and the settings of this user: defaults of flags from `config.toml` in the settings folder, and
//! above them from the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, anyhow, bail, ensure};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, ValueEnum};

use super::args::{Cli, ConfigArgs, ConfigCommand, Key, ReportFormat};
use super::{Outcome, output, settings, show, version};
use crate::device;
use crate::input;
use crate::nearest;
use crate::report::table::{Align, Table};
use crate::runtime;
use crate::units::Bytes;

/// The file in the settings folder.
const FILE: &str = "config.toml";

/// The largest file that is read; one has a line a setting.
const LIMIT: Bytes = Bytes(64 << 10);

/// Whether `value` is one that the flag takes. Which power modes there are depends on the board.
fn check(key: Key, value: &str) -> anyhow::Result<()> {
    match key {
        Key::Device => drop(device::open(value, &super::machine_root())?),
        Key::Runtime => drop(runtime::find(value)?),
        Key::PowerMode => ensure!(!value.is_empty(), "a power mode needs a name"),
        Key::Format => {
            // Those that every command has.
            let forms = ReportFormat::value_variants().iter();
            let forms = forms.filter(|form| !form.is_page());
            let names =
                forms.filter_map(|form| Some(form.to_possible_value()?.get_name().to_owned()));
            let names: Vec<String> = names.collect();
            ensure!(
                names.iter().any(|name| name == value),
                "there is no format `{value}`; known: {}",
                names.join(", ")
            );
        }
        Key::Text => drop(std::fs::File::open(value).with_context(|| value.to_owned())?),
    }
    Ok(())
}

/// Whether the board called `device` has the power mode.
fn check_mode(mode: &str, device: &str) -> anyhow::Result<()> {
    let board = device::open(device, &super::machine_root())?;
    if !board.modes.is_empty() {
        board.mode(mode)?;
    }
    Ok(())
}

/// Whether the board of the settings has the power mode, or without one any board.
fn check_new_mode(mode: &str) -> anyhow::Result<()> {
    let settings = all()?;
    let device = settings.iter().find(|setting| setting.key == Key::Device);
    if let Some(device) = device {
        return check_mode(mode, &device.value);
    }
    let boards = device::list()?;
    ensure!(
        boards.iter().any(|board| board.mode(mode).is_ok()),
        "no board has a power mode `{mode}`; `orinplan devices list` shows them, and a board of your own is set first: config set device FILE"
    );
    Ok(())
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Environment(String),
    File(PathBuf),
}

impl Source {
    fn shown(&self) -> String {
        match self {
            Source::Environment(variable) => variable.clone(),
            Source::File(path) => path.display().to_string(),
        }
    }
}

/// A setting with a value.
#[derive(Clone, Debug)]
struct Setting {
    key: Key,
    value: String,
    source: Source,
}

/// The settings that this run took as flags.
static TAKEN: OnceLock<Vec<Setting>> = OnceLock::new();

fn taken() -> &'static [Setting] {
    TAKEN.get().map_or(&[], Vec::as_slice)
}

/// Whether the device of this run is that of a setting.
pub(super) fn names_the_device() -> bool {
    taken().iter().any(|setting| setting.key == Key::Device)
}

/// The settings that this run took as flags, in a sentence; nothing if there were none.
pub(super) fn sources() -> Option<String> {
    let each = taken().iter().map(|setting| {
        let (name, source) = (setting.key.name(), setting.source.shown());
        format!("--{name} {} ({source})", setting.value)
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| format!("Settings: {}", each.join(", ")))
}

/// The text of the file; empty where there is none.
fn read(path: &Path) -> anyhow::Result<String> {
    let has_text = std::fs::metadata(path).is_ok_and(|there| there.len() > 0);
    Ok(if has_text {
        input::read_text(path, LIMIT)?
    } else {
        String::new()
    })
}

/// The settings in the file; none where there is no file.
fn in_file() -> anyhow::Result<Vec<Setting>> {
    let Some(path) = settings::directory().map(|folder| folder.join(FILE)) else {
        return Ok(Vec::new());
    };
    let text = read(&path)?;
    let of = || path.display().to_string();
    let malformed = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        anyhow!(
            "{}, line {line}: {}; fix the line, or remove the file",
            of(),
            input::in_words(error.message())
        )
    };
    let table: toml::Table = toml::from_str(&text).map_err(malformed)?;
    let setting = |(name, value): (String, toml::Value)| {
        let known = Key::all().find(|key| key.name() == name);
        let key = known.with_context(|| {
            let names: Vec<&str> = Key::all().map(|key| key.name()).collect();
            let hint = nearest::hint(&name, names.iter().copied());
            format!(
                "there is no setting `{name}`{hint}: remove its line, or use the version that wrote it; known: {}",
                names.join(", ")
            )
        })?;
        let value = value.as_str();
        Ok(Setting {
            key,
            value: value
                .with_context(|| format!("`{name}` must be text in quotes"))?
                .to_owned(),
            source: Source::File(path.clone()),
        })
    };
    let settings: anyhow::Result<Vec<Setting>> = table.into_iter().map(setting).collect();
    settings.with_context(of)
}

/// All settings: of the environment, and of the file where the environment says nothing.
fn all() -> anyhow::Result<Vec<Setting>> {
    let of_environment = |key: Key| {
        let variable = key.variable();
        let value = std::env::var(&variable).ok()?;
        (!value.is_empty()).then_some(Setting {
            key,
            value,
            source: Source::Environment(variable),
        })
    };
    let mut settings: Vec<Setting> = Key::all().filter_map(of_environment).collect();
    for setting in in_file()? {
        if settings.iter().all(|known| known.key != setting.key) {
            settings.push(setting);
        }
    }
    Ok(settings)
}

/// The command line. Only the flag needs the version in several lines, which counts what is in tables and looks at this
/// processor: no start and no man page does.
fn command(words: &[OsString]) -> clap::Command {
    let command = Cli::command();
    if words.iter().any(|word| word == "--version") {
        command.long_version(version::long())
    } else {
        command
    }
}

/// Parses the command line, with the settings as defaults of its flags.
///
/// # Errors
/// Outside, what is wrong with a setting; inside, with the command line.
pub(super) fn parse(words: Vec<OsString>) -> anyhow::Result<Result<Cli, clap::Error>> {
    let matches = match command(&words).try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => return Ok(Err(error)),
    };
    let wanted = match matches.subcommand() {
        Some((name, given)) => wanted(name, given)?,
        None => Vec::new(),
    };
    let matches = match (matches.subcommand_name(), &wanted[..]) {
        (_, []) | (None, _) => matches,
        (Some(name), settings) => {
            let command = command(&words).mut_subcommand(name, |command| {
                settings.iter().fold(command, |command, setting| {
                    let value = setting.value.clone();
                    command.mut_arg(setting.key.flag(), |flag| flag.default_value(value))
                })
            });
            match command.try_get_matches_from(&words) {
                Ok(matches) => matches,
                Err(error) => return Ok(Err(error)),
            }
        }
    };
    // Set once: a process parses one command line.
    let _ = TAKEN.set(wanted);
    Ok(Cli::from_arg_matches(&matches))
}

/// The settings that a command takes: of flags that were not given. A power mode is that of the board of the settings.
fn wanted(command: &str, given: &ArgMatches) -> anyhow::Result<Vec<Setting>> {
    let takes = |key: Key| key.commands().contains(&command);
    if !Key::all().any(takes) {
        return Ok(Vec::new());
    }
    let is_given =
        |key: Key| takes(key) && given.value_source(&key.flag()) == Some(ValueSource::CommandLine);
    let mut settings = all()?;
    let of = |key: Key| move |setting: &&Setting| setting.key == key;
    let device = settings.iter().find(of(Key::Device)).cloned();
    let is_from_file = |setting: &Setting| matches!(setting.source, Source::File(_));
    // A device from above the file is another than the one that the file's power mode is of.
    let names_boards = given.try_contains_id("boards").unwrap_or(false);
    let is_other_device =
        names_boards || is_given(Key::Device) || device.as_ref().is_some_and(|d| !is_from_file(d));
    settings.retain(|setting| {
        let key = setting.key;
        let is_of_other = key == Key::PowerMode
            && (names_boards || is_given(Key::Device) || is_other_device && is_from_file(setting));
        takes(key) && !is_given(key) && !is_of_other
    });
    for Setting { key, value, source } in &settings {
        let of_board = device.as_ref().filter(|_| *key == Key::PowerMode);
        let checked = check(*key, value).and_then(|()| match of_board {
            Some(device) => check_mode(value, &device.value),
            None => Ok(()),
        });
        checked.with_context(|| format!("{}: `{}`", source.shown(), key.name()))?;
    }
    Ok(settings)
}

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<Outcome> {
    match &args.command {
        None | Some(ConfigCommand::Show) => list()?,
        Some(ConfigCommand::Set { key, value }) => {
            check(*key, value)?;
            if *key == Key::PowerMode {
                check_new_mode(value)?;
            }
            // A file is the same from every folder.
            let is_file = matches!(key, Key::Device | Key::Text) && Path::new(value).is_file();
            let absolute = std::path::absolute(value)?;
            let absolute = absolute.to_str().filter(|_| is_file);
            change(*key, Some(absolute.unwrap_or(value)))?;
        }
        Some(ConfigCommand::Unset { key }) => change(*key, None)?,
    }
    Ok(Outcome::Yes)
}

fn list() -> anyhow::Result<()> {
    let settings = all()?;
    let mut table = Table::new([
        ("setting", Align::Left),
        ("value", Align::Left),
        ("from", Align::Left),
    ]);
    for key in Key::all() {
        let found = settings.iter().find(|setting| setting.key == key);
        let (value, source) = found.map_or(("-".to_owned(), String::new()), |setting| {
            (setting.value.clone(), setting.source.shown())
        });
        table.row([key.name().to_owned(), value, source]);
    }
    show(&table.text("", super::columns().unwrap_or(usize::MAX)))
}

/// Writes the file with one setting changed or removed; its other lines stay as they are.
fn change(key: Key, value: Option<&str>) -> anyhow::Result<()> {
    // What cannot be read is not written over.
    in_file()?;
    let (directory, _lock) = settings::locked()?;
    let path = directory.join(FILE);
    let text = read(&path)?;
    let is_of_key = |line: &&str| {
        let name = line.split_once('=').map(|(name, _)| name.trim());
        name == Some(key.name())
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !is_of_key(line))
        .map(str::to_owned)
        .collect();
    if let Some(value) = value {
        let value = toml::Value::String(value.to_owned());
        lines.push(format!("{} = {value}", key.name()));
    } else if lines.len() == text.lines().count() {
        bail!("`{}` is not set in {}", key.name(), path.display());
    }
    lines.push(String::new());
    output::write_file(&path, &lines.join("\n"))
}
