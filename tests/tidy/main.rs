//! The rules of `ARCHITECTURE.md` that a program can check.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod modules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the data's flow: each may use those before it, none behind it.
const ORDER: &[&str] = &[
    "units",
    "sourced",
    "dtype",
    "nearest",
    "parallel",
    "foreign",
    "input",
    "inputs",
    "gguf",
    "safetensors",
    "checkpoint",
    "model",
    "device",
    "scheme",
    "convert",
    "note",
    "quantize",
    "runtime",
    "evidence",
    "plan",
    "planner",
    "catalog",
    "hub",
    "decode",
    "quality",
    "validate",
    "report",
    "cli",
];

/// What a module must not name, because it would be input, output or a process.
const PURE: &[(&str, &[&str])] = &[
    ("model", &["std::fs", "std::process", "println!"]),
    (
        "scheme",
        &["std::fs", "std::io", "std::process", "println!"],
    ),
    ("note", &["std::fs", "std::io", "std::process", "println!"]),
    (
        "runtime",
        &["std::fs", "std::io", "std::process", "println!"],
    ),
    (
        "plan",
        &[
            "std::fs",
            "std::io",
            "std::process",
            "std::env",
            "std::time",
            "println!",
        ],
    ),
    (
        "report",
        &[
            "std::fs",
            "std::process",
            "std::env",
            "std::time",
            "println!",
        ],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file with its module and its text.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((module(&path), path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The top module of a source file; `lib` and `main` for those two.
fn module(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The lines that are code, not comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn modules_use_only_what_stands_before_them() {
    let position = |name: &str| ORDER.iter().position(|known| *known == name);
    for (module, path, text) in sources() {
        if module == "lib" || module == "main" {
            continue;
        }
        let own =
            position(&module).unwrap_or_else(|| panic!("`{module}` has no place in the order"));
        for line in code(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(other) = position(&used) else {
                    continue;
                };
                assert!(
                    other <= own,
                    "{}: `{module}` uses `{used}`, which stands behind it",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn lib_lists_the_modules_in_that_order() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let listed: Vec<&str> = lib
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect();
    assert_eq!(listed, ORDER);
}

#[test]
fn pure_modules_do_no_input_or_output() {
    for (module, path, text) in sources() {
        let Some((_, banned)) = PURE.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for line in code(&text) {
            for word in *banned {
                assert!(
                    !line.contains(word),
                    "{}: {word} in `{module}`",
                    path.display()
                );
            }
        }
    }
}

/// The words of the string literals in the code of a file, its tests left out. A word goes on over
/// dashes, dots and colons: `llama.cpp` is one, and so is the tag of a model.
fn words(text: &str) -> Vec<String> {
    let tested = text.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = code(tested).flat_map(|line| line.split('"').skip(1).step_by(2));
    let part = |c: char| c.is_alphanumeric() || "_-.:".contains(c);
    literals
        .flat_map(|literal| literal.split(|c| !part(c)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_architecture_is_named_in_its_entry_alone() {
    let names: BTreeSet<&str> = orinplan::model::architecture_names().collect();
    assert!(names.len() > 60, "the table was not found");
    for (_, path, text) in sources() {
        let entry = path.ancestors().any(|folder| {
            folder.ends_with("model/families") || folder.ends_with("projector/families")
        });
        // One method of quantization has the name of an architecture.
        let other = ["tests.rs", "golden.rs", "kind/quantizers.rs"]
            .iter()
            .any(|end| path.ends_with(end));
        if entry || other {
            continue;
        }
        for word in words(&text) {
            // A key of GGUF starts with the name: `llama.block_count`.
            let first = match word.split_once('.') {
                Some((first, rest)) if !rest.starts_with("cpp") => first,
                _ => word.as_str(),
            };
            assert!(
                !names.contains(first),
                "{}: `{word}` names an architecture outside of src/model/families",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_opens_with_its_job() {
    for (_, path, text) in sources() {
        assert!(
            text.starts_with("//! "),
            "{} must open with a //! line",
            path.display()
        );
    }
}

#[test]
fn main_is_a_page_and_logic_is_short() {
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        let limit = if path.ends_with("src/main.rs") {
            60
        } else {
            600
        };
        assert!(
            lines <= limit,
            "{} has {lines} lines, above {limit}",
            path.display()
        );
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let names: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    assert!(names.contains("clap"), "the manifest was not understood");
    for name in names {
        assert!(
            architecture.contains(&format!("| `{name}` |")),
            "ARCHITECTURE.md gives no reason for {name}"
        );
    }
}
