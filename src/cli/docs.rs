//! `orinplan completions` and `orinplan man`, made from the flag declarations.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::{Outcome, print, setting_values};

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "orinplan", &mut script);
    let script = String::from_utf8(script)?;
    let script = match args.shell {
        Shell::Fish => script + &left_out_for_fish(&command),
        Shell::Zsh => with_files_for_zsh(script, &command),
        _ => script,
    };
    print(&setting_values::offered(script, args.shell))?;
    Ok(Outcome::Yes)
}

/// The values that completions offer for an argument.
fn offered(arg: &Arg) -> Vec<String> {
    let values = arg.get_possible_values();
    let shown = values.iter().filter(|value| !value.is_hide_set());
    shown.map(|value| value.get_name().to_owned()).collect()
}

/// Whether an argument takes files besides the values that are known.
fn takes_files(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.contains("FILE"))
}

/// The commands without commands of their own, with the words that lead to each.
fn leaves(command: &Command) -> Vec<(Vec<&str>, &Command)> {
    if !command.has_subcommands() {
        return vec![(Vec::new(), command)];
    }
    let each = command.get_subcommands().flat_map(|inner| {
        let below = leaves(inner).into_iter();
        below.map(|(words, leaf)| ([&[inner.get_name()], &words[..]].concat(), leaf))
    });
    each.collect()
}

/// Values of arguments without a flag, and files besides values once a word is begun: clap's script for fish has neither.
fn left_out_for_fish(root: &Command) -> String {
    let mut script = String::new();
    for (words, command) in leaves(root) {
        let [first, rest @ ..] = &words[..] else {
            continue;
        };
        let inner = rest
            .iter()
            .map(|word| format!("; and __fish_seen_subcommand_from {word}"));
        let inner: String = inner.collect();
        let condition = format!("__fish_orinplan_using_subcommand {first}{inner}");
        let shown = command
            .get_arguments()
            .filter(|arg| !offered(arg).is_empty());
        for arg in shown.filter(|_| *first != "help") {
            let flag = arg.get_long().map(|flag| format!(" -l {flag} -r"));
            if flag.is_none() {
                let values = offered(arg).join(" ");
                let line = format!("complete -c orinplan -n \"{condition}\" -f -a \"{values}\"\n");
                script.push_str(&line);
            }
            if takes_files(arg) {
                let flag = flag.unwrap_or_default();
                let begun = "commandline -ct | string length -q";
                let line =
                    format!("complete -c orinplan -n \"{condition}; and {begun}\"{flag} -F\n");
                script.push_str(&line);
            }
        }
    }
    script
}

/// The script for zsh, which offers files to a word that begins no value, where both are taken.
fn with_files_for_zsh(mut script: String, root: &Command) -> String {
    let mut functions = String::new();
    for (_, command) in leaves(root) {
        let both = command.get_arguments().filter(|arg| takes_files(arg));
        for arg in both.filter(|arg| !offered(arg).is_empty()) {
            let values = offered(arg).join(" ");
            let function = format!("_orinplan__or_file__{}", arg.get_id());
            let action = format!(":({values})'");
            if script.contains(&action) {
                script = script.replace(&action, &format!(":{function}'"));
                functions.push_str(&format!(
                    "{function}() {{\n    local expl\n    _wanted values expl value compadd - {values} || _files\n}}\n\n"
                ));
            }
        }
    }
    // Before the last step, which runs the script's own function.
    match script.rfind("if [ \"$funcstack[1]\"") {
        Some(last) => script.insert_str(last, &functions),
        None => script.push_str(&functions),
    }
    script
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Outcome> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    match &args.output {
        Some(directory) => fs::create_dir_all(directory)
            .and_then(|()| write_pages(&root, "", directory))
            .with_context(|| format!("cannot write man pages to {}", directory.display()))?,
        None => print(&String::from_utf8(page(&root, &examples(&root, ""))?.1)?)?,
    }
    Ok(Outcome::Yes)
}

/// The examples of a command; where it has none, those of the command above it.
fn examples(command: &Command, above: &str) -> String {
    let own = command.get_after_long_help();
    own.map_or_else(|| above.to_owned(), ToString::to_string)
}

/// Writes the page of a command and of those below it.
fn write_pages(command: &Command, above: &str, directory: &Path) -> io::Result<()> {
    let examples = examples(command, above);
    for inner in command.get_subcommands() {
        write_pages(inner, &examples, directory)?;
    }
    let (name, page) = page(command, &examples)?;
    fs::write(directory.join(name), page)
}

/// The file name of a command's page, and the page.
fn page(command: &Command, examples: &str) -> io::Result<(String, Vec<u8>)> {
    let command = command.clone().after_long_help(None::<&str>);
    let man = clap_mangen::Man::new(command)
        .source(concat!("orinplan ", env!("CARGO_PKG_VERSION")))
        .manual("orinplan");
    let mut page = Vec::new();
    man.render(&mut page)?;
    sections(examples).to_writer(&mut page)?;
    Ok((man.get_filename(), page))
}

/// What stands below a help text, as sections of a page: a line that is not indented and ends with a colon is a heading.
/// Examples are commands, each below a comment of what it does if it has one; anything else stays as it is.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut of_commands = true;
    let mut does = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        match line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                of_commands = heading == "Examples";
                if !of_commands {
                    roff.control("nf", []);
                }
            }
            None if line.trim().is_empty() => {}
            None if of_commands => {
                if let Some(comment) = line.trim().strip_prefix("# ") {
                    does = comment;
                    continue;
                }
                let mut words = line.trim().to_owned();
                while words.ends_with('\\') {
                    words.pop();
                    words.push_str(lines.next().unwrap_or_default().trim());
                }
                let does = std::mem::take(&mut does);
                roff.control(if does.is_empty() { "PP" } else { "TP" }, []);
                roff.text([bold(words)]);
                if !does.is_empty() {
                    roff.text([roman(does)]);
                }
            }
            None => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
        let ends = lines
            .peek()
            .is_none_or(|next| !next.starts_with(' ') && !next.is_empty());
        if ends && !of_commands {
            roff.control("fi", []);
        }
    }
    roff
}
