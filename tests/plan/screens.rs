//! What people see: text, Markdown and `--explain`, for a model that fits and one that does not.

use crate::support::{fixtures, open, run};
use orinplan::report::fit::View;

/// The exit status, then standard output; standard error must be empty.
fn screen(fixture: &str, words: &str) -> String {
    let output = run(fixture, words);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    // Snapshots keep no trailing blanks, so none may be there.
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    format!("exit {}\n{text}", output.status.code().unwrap())
}

macro_rules! screens {
    ($($test:ident $fixture:literal $words:literal;)*) => {$(
        #[test]
        fn $test() {
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                let name = concat!("screen-", stringify!($test));
                insta::assert_snapshot!(name, screen($fixture, $words));
            });
        }
    )*};
}

screens! {
    fits_text "qwen3-0.6b" "";
    fits_markdown "qwen3-0.6b" "--format markdown";
    fits_explained "qwen3-0.6b" "--scheme q4_k_m --explain";
    too_large_text "gemma-3n-e2b-it" "--budget 3GB";
    too_large_markdown "gemma-3n-e2b-it" "--budget 3GB --format markdown";
    too_large_explained "gemma-3n-e2b-it" "--budget 3GB --scheme q4_k_m --explain";
    too_long_a_context_names_what_to_change "gemma-3-1b-it" "--context 32768 --budget 1700MB --scheme q4_k_m";
}

fn view(columns: usize) -> View {
    View {
        columns: Some(columns),
        formats: false,
        all: false,
        explain: false,
    }
}

/// A line of a command is not broken, so that it can be pasted.
fn is_command(line: &str) -> bool {
    ["  orinplan ", "  llama", "  sudo ", "  (set -C"]
        .iter()
        .any(|begin| line.starts_with(begin))
}

/// The last of the 24 lines of a usual terminal is the shell's.
#[test]
fn the_first_screen_is_a_screen() {
    for fixture in fixtures() {
        for runtime in ["llama.cpp", "ollama", "vllm"] {
            let Some(text) = open(&fixture).text(runtime, view(80)) else {
                continue;
            };
            // Named from the folder of the project.
            let text = text.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "");
            let rows = text.lines().map(|line| line.chars().count().div_ceil(80));
            let rows: usize = rows.map(|rows| rows.max(1)).sum();
            assert!(rows <= 23, "{fixture} {runtime}: {rows}\n{text}");
        }
    }
}

#[test]
fn prose_and_tables_keep_within_the_width() {
    let model = open("tiny-qwen3");
    let widest = |columns| {
        let text = model.text("llama.cpp", view(columns)).unwrap();
        let lines = text.lines().filter(|line| !is_command(line));
        lines.map(|line| line.chars().count()).max().unwrap()
    };
    for columns in [40, 60, 80, 100, 200] {
        assert!(widest(columns) <= columns, "{columns}");
    }
    assert!(widest(200) > 80);
    let table = |columns| {
        let text = model.text("llama.cpp", view(columns)).unwrap();
        text.lines()
            .find(|line| line.contains("format "))
            .unwrap()
            .to_owned()
    };
    assert!(table(200).contains(" used "));
    assert!(!table(80).contains(" used ") && table(80).contains(" quality"));
    assert!(!table(40).contains(" quality") && table(40).contains(" tokens/s"));
}
