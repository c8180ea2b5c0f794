//! Help, the man pages and the completions: one declaration of flags feeds them all.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::says;

const COMMANDS: [&str; 15] = [
    "fit",
    "board",
    "models",
    "quantize",
    "pull",
    "imatrix",
    "compare",
    "validate",
    "calibrate",
    "roofline",
    "inspect",
    "devices",
    "config",
    "completions",
    "man",
];

/// The long flags that a help text declares.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '=']));
    words
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_subcommand_has_help() {
    let top = says(0, "--help");
    assert_eq!(says(0, "help"), top);
    assert!(
        top.contains("Exit status: 0 it fits, 1 it does not"),
        "{top}"
    );
    for command in COMMANDS {
        assert!(top.contains(&format!("\n  {command} ")), "{command}");
        let help = says(0, &format!("{command} --help"));
        assert!(
            help.contains(&format!("Usage: orinplan {command}")),
            "{help}"
        );
        assert_eq!(says(0, &format!("help {command}")), help);
        assert!(says(0, &format!("{command} -h")).contains("Usage: "));
    }
    let version = format!("orinplan {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(says(0, "-V"), version);
    let told = says(0, "--version");
    assert!(told.starts_with(&version), "{told}");
    for word in [
        "features: cli",
        "kernels: ",
        "data: version ",
        "measurements of speed",
    ] {
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn the_man_pages_mention_every_flag() {
    // They are the same from every machine.
    assert!(!says(0, "man").contains("kernels: "));
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    assert_eq!(says(0, &format!("man --output {place}")), "");
    let mut counted = 0;
    for command in COMMANDS {
        let page = directory.path().join(format!("orinplan-{command}.1"));
        let page = fs::read_to_string(page).unwrap().replace("\\-", "-");
        let examples = page.split_once(".SH EXAMPLES\n").unwrap().1;
        assert!(examples.contains("\\fBorinplan "), "{examples}");
        for flag in flags(&says(0, &format!("{command} --help"))) {
            assert!(page.contains(&flag), "{command} {flag}");
            counted += 1;
        }
    }
    assert!(counted > 40, "{counted}");
    // Those of the command above it.
    let set = fs::read_to_string(directory.path().join("orinplan-config-set.1")).unwrap();
    assert!(
        set.contains(".TP\n\\fBorinplan config\\fR\nevery setting "),
        "{set}"
    );
    let whole = fs::read_to_string(directory.path().join("orinplan.1")).unwrap();
    for top in [whole, says(0, "man")] {
        assert!(
            COMMANDS
                .iter()
                .all(|command| top.contains(&format!("orinplan\\-{command}(1)")))
        );
    }
}

#[test]
fn completions_know_every_flag_of_fit() {
    let fit = flags(&says(0, "fit --help"));
    assert!(fit.contains("--kv-type-k") && fit.len() > 20, "{fit:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = says(0, &format!("completions {shell}"));
        for flag in &fit {
            // fish writes a long flag without its dashes.
            let written = if shell == "fish" {
                flag.trim_start_matches('-')
            } else {
                flag
            };
            assert!(script.contains(written), "{shell} {flag}");
        }
    }
}

/// What bash offers for the last of `words`.
fn offered_by_bash(script: &str, words: &[&str]) -> String {
    let ask = "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
               _orinplan orinplan \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[*]}\"";
    let run = Command::new("bash")
        .args(["-c", &format!("{script}\n{ask}"), "bash"])
        .args(words)
        .output()
        .unwrap();
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

#[cfg(unix)]
#[test]
fn bash_offers_boards_formats_runtimes_cache_types_and_power_modes() {
    let script = says(0, "completions bash");
    for (words, offered) in [
        ("fit --device orin-nx", "orin-nx-8gb orin-nx-16gb"),
        ("quantize --fit agx", "agx-orin-32gb agx-orin-64gb"),
        ("devices show orin-nano", "orin-nano-4gb orin-nano-8gb"),
        ("fit --scheme q5_k", "q5_k_m q5_k_s"),
        ("quantize --output-tensor-type q6", "q6_k"),
        ("fit --runtime ten", "tensorrt-edge-llm"),
        ("fit --kv-type q5", "q5_1 q5_0"),
        ("fit --power-mode MAXN", "MAXN MAXN_SUPER"),
        ("config set po", "power-mode"),
        ("config set device orin-nx", "orin-nx-8gb orin-nx-16gb"),
        ("config set power-mode MAXN", "MAXN MAXN_SUPER"),
        ("config set runtime ten", "tensorrt-edge-llm"),
        ("config set format m", "markdown"),
        ("config set text READ", ""),
        // Left to the shell, which has files.
        ("fit --device profiles/", ""),
    ] {
        let words: Vec<&str> = ["orinplan"].into_iter().chain(words.split(' ')).collect();
        assert_eq!(offered_by_bash(&script, &words), offered, "{words:?}");
    }
}

/// Where fish is installed, it is asked.
#[cfg(unix)]
#[test]
fn fish_offers_values_of_words_without_a_flag_and_files_for_a_board() {
    let script = says(0, "completions fish");
    for line in [
        "using_subcommand devices; and __fish_seen_subcommand_from show\" -f -a \"orin-nano-4gb ",
        "-l device -r -F\n",
    ] {
        assert!(script.contains(line), "{line}");
    }
    let offered = |line: &str| {
        let ask = format!("{script}\ncomplete -C \"orinplan {line}\"");
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &ask]);
        let run = fish.current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let run = run.ok().filter(|run| run.status.success())?;
        let lines = String::from_utf8(run.stdout).unwrap();
        Some(lines.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for (line, expected) in [
        ("devices show orin-nx", "orin-nx-8gb orin-nx-16gb"),
        ("completions b", "bash"),
        ("config unset po", "power-mode"),
        ("config set device orin-nx", "orin-nx-8gb orin-nx-16gb"),
        ("config set power-mode MAXN", "MAXN MAXN_SUPER"),
        ("config set runtime ten", "tensorrt-edge-llm"),
        ("config set text READ", "README.md"),
        ("fit --device agx", "agx-orin-32gb agx-orin-64gb"),
        (
            "fit --device profiles/boards/agx-orin-3",
            "profiles/boards/agx-orin-32gb.toml",
        ),
    ] {
        assert!(offered(line).is_none_or(|said| said == expected), "{line}");
    }
}

#[test]
fn completions_offer_what_is_known_and_flags_take_more() {
    let script = says(0, "completions bash");
    for word in [
        "orin-nx-16gb",
        "MAXN_SUPER",
        "tensorrt-edge-llm",
        "iq3_xxs",
        "iq4_nl",
    ] {
        assert!(script.contains(word), "{word}");
    }
    // A help text would be pages of them.
    assert!(!says(0, "fit --help").contains("tensorrt-edge-llm"));
    let man = says(0, "fit --help");
    let first = "\nExamples:\n  # from the headers on the server\n  orinplan fit Qwen/Qwen3-8B\n";
    assert!(man.contains(first), "{man}");
}

/// What names one power mode for one model is offered where one model is planned.
#[test]
fn no_command_offers_a_flag_that_it_refuses() {
    for command in &COMMANDS {
        let offered = flags(&says(0, &format!("{command} --help")));
        assert_eq!(
            offered.contains("--energy-budget"),
            *command == "fit",
            "{command}"
        );
    }
}

/// Examples are copied from a terminal of 80 columns: none of their lines may be broken there.
#[test]
fn examples_can_be_copied() {
    for command in [""].iter().chain(&COMMANDS) {
        let help = says(0, format!("{command} --help").trim());
        let (_, examples) = help.split_once("\nExamples:\n").unwrap();
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
            let is_written = ["  # ", "  orinplan ", "  ORINPLAN_", "    > "];
            let is_sample = *command == "board" || line.is_empty();
            assert!(
                is_sample || is_written.iter().any(|begin| line.starts_with(begin)),
                "{command}: {line}"
            );
            // Words behind a command would be arguments of it.
            let is_command = line.starts_with("  orinplan ") && *command != "board";
            assert!(
                !is_command || !line.trim().contains("  "),
                "{command}: {line}"
            );
        }
    }
    let help = says(0, "board --help");
    let (_, sample) = help.split_once("\nFILE.toml:\n").unwrap();
    let sample: toml::Table = sample.parse().unwrap();
    assert_eq!(sample["model"][0]["load"].as_str(), Some("resident"));
}

#[test]
fn man_pages_make_their_directory() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man/man1");
    says(0, &format!("man --output {}", pages.display()));
    let page = std::fs::read_to_string(pages.join("orinplan-fit.1")).unwrap();
    assert!(page.contains("from the headers on the server"), "{page}");
}
