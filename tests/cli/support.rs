//! Runs the command and looks at what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

/// The fixture that most runs plan; small, known, and present.
pub(crate) const QWEN: &str = "fixtures/qwen3-0.6b";

/// What a run left.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command in the project's directory, without the machine's model stores and the user's settings, on
/// a recorded laptop.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orinplan"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("HF_HOME")
        .env("ORINPLAN_ROOT", recorded("x86-laptop"))
        .env("XDG_CONFIG_HOME", "/no-settings-here")
        .env("HF_HUB_CACHE", "no-hub-here")
        .env("HF_HUB_OFFLINE", "1")
        .env("XDG_CACHE_HOME", "/no-cache-here")
        .env("OLLAMA_MODELS", "no-ollama-here")
        .env_remove("NO_COLOR");
    command
}

/// The root directory of a recorded machine.
pub(crate) fn recorded(machine: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/recorded").join(machine)
}

/// What a finished process left.
pub(crate) fn left(output: Output) -> Run {
    Run {
        code: output.status.code().expect("ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the command with these words, split at blanks, then these paths.
pub(crate) fn run_with(words: &str, paths: &[&Path]) -> Run {
    left(
        command()
            .args(words.split_whitespace())
            .args(paths)
            .output()
            .unwrap(),
    )
}

/// Runs the command with these words, split at blanks.
pub(crate) fn run(words: &str) -> Run {
    run_with(words, &[])
}

/// The standard output of a run that ends with `code` and says nothing else.
#[track_caller]
pub(crate) fn says(code: i32, words: &str) -> String {
    let run = run(words);
    assert_eq!((run.code, run.err.as_str()), (code, ""), "{words}");
    run.out
}

/// The document that a run prints.
#[track_caller]
pub(crate) fn json(code: i32, words: &str) -> Json {
    crate::schema::document(&says(code, &format!("{words} --format json")))
}

/// Asserts that a run failed with status 2, one line on standard error and nothing else.
#[track_caller]
pub(crate) fn assert_error(run: &Run, fragments: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    assert!(
        run.err.starts_with("error: ") && run.err.ends_with('\n'),
        "{}",
        run.err
    );
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    // `<MODEL>...` at the end of a usage line is no full stop.
    let end = run.err.trim_end();
    assert!(!end.ends_with('.') || end.ends_with("..."), "{end}");
    for fragment in fragments {
        assert!(
            run.err.contains(fragment),
            "`{fragment}` is not in: {}",
            run.err
        );
    }
}

/// Asserts that these words are refused, and that the message names all of `fragments`.
#[track_caller]
pub(crate) fn refused(words: &str, fragments: &[&str]) {
    assert_error(&run(words), fragments);
}
