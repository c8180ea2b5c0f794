//! `orinplan fit` with several models.

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{QWEN, json, refused, run, says};

const GEMMA: &str = "fixtures/gemma-3-1b-it";
const BOARD: &str = "--device orin-nano-8gb";

#[test]
fn several_models_stand_side_by_side() {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        let words = format!("fit {QWEN} {GEMMA} {BOARD}");
        insta::assert_snapshot!("fit-side_by_side", says(0, &words));
        insta::assert_snapshot!("fit-side_by_side_markdown", says(0, &format!("{words} --format markdown")));
    });
}

#[test]
fn json_is_the_list_of_what_each_alone_gives() {
    let list = json(0, &format!("fit {QWEN} {GEMMA} {BOARD}"));
    let alone = [QWEN, GEMMA].map(|model| json(0, &format!("fit {model} {BOARD}")));
    assert_eq!(list, Json::from(alone.to_vec()));
}

#[test]
fn one_that_does_not_fit_is_told_and_costs_the_status() {
    let words = format!("fit {QWEN} fixtures/gemma-3n-e2b-it {BOARD} --budget 2GB");
    let text = says(1, &words);
    assert!(text.contains("1 of 2 fit with llama.cpp"), "{text}");
    let row = |name: &str| {
        text.lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    assert!(row(QWEN).contains("FITS"), "{text}");
    assert!(row("gemma-3n").contains("DOES NOT FIT"), "{text}");
}

#[test]
fn one_that_cannot_be_planned_takes_nothing_from_the_others() {
    let words = format!("fit nothing-here {QWEN} {BOARD}");
    let left = run(&words);
    assert_eq!(left.code, 2);
    assert_eq!(left.err.lines().count(), 1, "{}", left.err);
    assert!(
        left.err
            .starts_with("error: 1 model could not be planned: there is no model `nothing-here`"),
        "{}",
        left.err
    );
    let row = |name: &str| {
        left.out
            .lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    assert!(row("nothing-here").contains("ERROR"), "{}", left.out);
    assert!(row(QWEN).contains("FITS"), "{}", left.out);

    let left = run(&format!("{words} --format json"));
    let list = crate::schema::document(&left.out);
    assert_eq!(left.code, 2);
    assert_eq!(list[0]["schema"], "orinplan.error/1");
    assert_eq!(list[0]["model"], "nothing-here");
    assert!(
        list[0]["error"]
            .as_str()
            .unwrap()
            .starts_with("there is no model `nothing-here`")
    );
    assert_eq!(list[1], json(0, &format!("fit {QWEN} {BOARD}")));
}

#[test]
fn contexts_are_shown_where_they_differ() {
    let together = says(0, &format!("fit {QWEN} {GEMMA} {BOARD}"));
    assert!(
        together
            .replace("\n  ", " ")
            .contains("memory with 4096 tokens of context"),
        "{together}"
    );
    let apart = says(0, &format!("fit {QWEN} fixtures/tiny-llama {BOARD}"));
    assert!(
        apart.lines().any(|line| line.contains("  context  ")),
        "{apart}"
    );
}

#[test]
fn what_is_about_one_model_is_refused_for_several() {
    for flag in [
        "--save plan.json",
        "--check plan.json",
        "--quality q.json",
        "--explain",
    ] {
        let name = flag.split(' ').next().unwrap();
        refused(
            &format!("fit {QWEN} {GEMMA} {flag}"),
            &[name, "applies to one model"],
        );
    }
    assert!(
        !Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("plan.json")
            .exists()
    );
    refused(
        &format!("fit {QWEN} {GEMMA} --device orin-nano-9gb"),
        &["orin-nano-8gb"],
    );
}

#[test]
fn a_report_of_several_is_written_whole_and_over_no_model() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.md");
    let words = format!(
        "fit {QWEN} {GEMMA} {BOARD} --format markdown --output {}",
        file.display()
    );
    assert_eq!(says(0, &words), "");
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        written,
        says(0, &format!("fit {QWEN} {GEMMA} {BOARD} --format markdown"))
    );
    assert_eq!(says(0, &words), "", "a report of this program is replaced");
    refused(
        &format!("fit {QWEN} {GEMMA} {BOARD} --output {GEMMA}/config.json"),
        &["config.json", "already exists"],
    );
}
