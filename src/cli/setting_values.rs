//! The values that completions offer after `orinplan config set KEY`: clap's scripts cannot let one word depend on another.

use std::fmt::Write;

use clap_complete::Shell;

use super::args::Key;

/// `script` with the values of each setting.
pub(super) fn offered(script: String, shell: Shell) -> String {
    match shell {
        Shell::Bash => in_bash(script),
        Shell::Zsh => in_zsh(script),
        Shell::Fish => in_fish(script),
        _ => script,
    }
}

/// Whether a value is a file too.
fn takes_files(key: Key) -> bool {
    matches!(key, Key::Device | Key::Text)
}

/// `before` written into `script` behind the first `mark` that comes after `place`.
fn behind(mut script: String, place: &str, mark: &str, text: &str) -> String {
    let at = script.find(place);
    let at = at.and_then(|at| Some(at + script.get(at..)?.find(mark)? + mark.len()));
    if let Some(at) = at {
        script.insert_str(at, text);
    }
    script
}

fn in_bash(script: String) -> String {
    let mut cases = String::new();
    for key in Key::all() {
        // Where no value begins so, bash offers files.
        let _ = write!(
            cases,
            "\n                {})\n                    COMPREPLY=($(compgen -W \"{}\" -- \"${{cur}}\"))\n                    return 0\n                    ;;",
            key.name(),
            key.values().join(" ")
        );
    }
    let place = "orinplan__subcmd__config__subcmd__set)\n            opts=";
    behind(script, place, "case \"${prev}\" in", &cases)
}

fn in_zsh(script: String) -> String {
    let mut function =
        "_orinplan__setting() {\n    local expl\n    case $words[CURRENT-1] in\n".to_owned();
    for key in Key::all() {
        let values = key.values().join(" ");
        let files = if takes_files(key) { " || _files" } else { "" };
        let offers = if values.is_empty() {
            "_files".to_owned()
        } else {
            format!("_wanted values expl value compadd - {values}{files}")
        };
        let _ = writeln!(function, "        {}) {offers} ;;", key.name());
    }
    function.push_str("        *) _default ;;\n    esac\n}\n\n");
    let takes = "':value -- Its value, as the flag of that name takes it:_default'";
    let offers = takes.replace("_default", "_orinplan__setting");
    let mut script = script.replace(takes, &offers);
    // Before the last step, which runs the script's own function.
    match script.rfind("if [ \"$funcstack[1]\"") {
        Some(last) => script.insert_str(last, &function),
        None => script.push_str(&function),
    }
    script
}

fn in_fish(script: String) -> String {
    // Settings are offered until one is named.
    let names: Vec<&str> = Key::all().map(Key::name).collect();
    let names = names.join(" ");
    let always = format!("__fish_seen_subcommand_from set\" -f -a \"{names}\"");
    let once = format!(
        "__fish_seen_subcommand_from set; and not __fish_seen_subcommand_from {names}\" -f -a \"{names}\""
    );
    let mut script = script.replace(&always, &once);
    for key in Key::all() {
        let name = key.name();
        let condition = format!(
            "__fish_orinplan_using_subcommand config; and __fish_seen_subcommand_from set; and string match -q -- {name} (commandline -opc)[-1]"
        );
        let values = key.values().join(" ");
        if !values.is_empty() {
            let _ = writeln!(
                script,
                "complete -c orinplan -n \"{condition}\" -f -k -a \"{values}\""
            );
        }
        if takes_files(key) {
            // Boards alone are offered until a word is begun.
            let begun = "commandline -ct | string length -q";
            let _ = writeln!(
                script,
                "complete -c orinplan -n \"{condition}; and {begun}\" -F"
            );
        }
    }
    script
}
