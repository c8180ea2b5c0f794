//! Help, the man pages and the completions: one declaration of flags feeds them all.

use std::collections::BTreeSet;
use std::fs;

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
    for word in ["features: cli", "kernels: ", "measurements of speed"] {
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
        for flag in flags(&says(0, &format!("{command} --help"))) {
            assert!(page.contains(&flag), "{command} {flag}");
            counted += 1;
        }
    }
    assert!(counted > 40, "{counted}");
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
    assert!(man.contains("\nExamples:\n  orinplan fit "), "{man}");
}
