//! What runs in CI: annotations for GitHub, the action, and the schemas of documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::schema;
use crate::support::{QWEN, left, recorded, refused, run_with, says};

/// A prediction of the fixture in 15W, in a scratch folder.
fn saved(folder: &Path) -> (String, std::path::PathBuf) {
    let path = folder.join("saved.json");
    let words = format!("fit {QWEN} --scheme q4_k_m --power-mode");
    let run = run_with(&format!("{words} 15W --save"), &[&path]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    (words, path)
}

#[test]
fn every_difference_is_an_annotation_for_github() {
    let folder = tempfile::tempdir().unwrap();
    let (words, path) = saved(folder.path());
    let check = |words: String| run_with(&format!("{words} --check"), &[&path]);
    let listed = check(format!("{words} 25W"));
    let annotated = check(format!("{words} 25W --format github"));
    assert_eq!((annotated.code, annotated.err.as_str()), (1, ""));
    let begin = format!(
        "::error file={},title=The prediction changed::",
        path.display()
    );
    let lines = annotated.out.lines().skip(1);
    let said = lines.map(|line| line.strip_prefix(&begin).unwrap().replace("%25", "%"));
    let lines = listed.out.lines().skip(1);
    assert!(said.eq(lines.map(|line| line.trim_start().to_owned())));
    let same = check(format!("{words} 15W --format github"));
    assert_eq!(same.code, 0);
    assert!(same.out.starts_with("the prediction equals "));
    refused(
        &format!("fit {QWEN} --format github"),
        &["required", "--check"],
    );
    refused("models --format github", &["github", "markdown"]);
}

/// Runs the last step of the action as a runner does.
#[cfg(unix)]
#[test]
fn the_action_runs_each_line_and_ends_with_the_largest_status() {
    let folder = tempfile::tempdir().unwrap();
    let (words, path) = saved(folder.path());
    let file = fs::read_to_string("action.yml").unwrap();
    let (_, script) = file.rsplit_once("run: |\n").unwrap();
    let script: Vec<&str> = script.lines().map(str::trim_start).collect();
    let words = words.strip_prefix("fit ").unwrap();
    let check = |mode: &str| format!("{words} {mode} --check {}", path.display());
    let action = |checks: &[String]| {
        let mut bash = Command::new("bash");
        bash.args(["-e", "-o", "pipefail", "-c", &script.join("\n")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("ORINPLAN", env!("CARGO_BIN_EXE_orinplan"))
            .env("ORINPLAN_ROOT", recorded("x86-laptop"))
            .env("XDG_CONFIG_HOME", "/no-settings-here")
            .env("CHECKS", checks.join("\n"));
        left(bash.output().unwrap())
    };
    let fine = action(&["# pinned".to_owned(), String::new(), check("15W")]);
    assert_eq!((fine.code, fine.err.as_str()), (0, ""));
    assert_eq!(fine.out.lines().count(), 1, "{}", fine.out);
    let changed = action(&[check("25W"), check("15W")]);
    assert_eq!(changed.code, 1);
    assert!(changed.out.contains("::error file="), "{}", changed.out);
    assert!(
        changed.out.contains("the prediction equals"),
        "{}",
        changed.out
    );
    assert_eq!(action(&[check("nothing"), check("25W")]).code, 2);
}

/// Names of documents in a text: `fit/1`.
fn names(text: &str) -> BTreeSet<String> {
    let found = text.split("orinplan.").skip(1);
    let found = found.filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/')?;
        Some(rest[..end].to_owned())
    });
    found.filter(|name| name.contains('/')).collect()
}

#[test]
fn every_document_has_a_schema_that_the_documentation_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut written = BTreeSet::new();
    let mut folders = vec![root.join("src/report")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                written.extend(names(&fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    let schemas = fs::read_dir(root.join("docs/schema")).unwrap();
    let schemas = schemas.map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".json").unwrap().replace('-', "/")
    });
    assert_eq!(schemas.collect::<BTreeSet<_>>(), written);
    let documentation = fs::read_to_string(root.join("docs/ci.md")).unwrap();
    assert_eq!(names(&documentation), written);
}

#[test]
fn a_schema_describes_every_key_and_its_values() {
    let text = says(0, &format!("roofline {QWEN} --scheme q4_k_m --format json"));
    let document = schema::document(&text);
    for (pointer, key, value, expected) in [
        (
            "",
            "more",
            json!(1),
            "orinplan.roofline/1.more is not described",
        ),
        ("/points/0", "bound", json!("time"), "points[0].bound: "),
        ("/device", "id", json!(null), "device.id: "),
        ("/ridge", "int8_ops_per_byte", json!(-1), "minimum"),
    ] {
        let mut other = document.clone();
        other.pointer_mut(pointer).unwrap()[key] = value;
        let wrong = schema::wrong(&other);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains(expected), "{wrong:?}");
    }
    let mut short = document.clone();
    short["ridge"].as_object_mut().unwrap().clear();
    assert!(schema::wrong(&short)[0].contains("required"));
}
