//! Runs `orinplan validate` with a scratch folder for its settings.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The fixture whose plan is tried: a GGUF's header will do, as servers have the weights.
pub(crate) const MODEL: &str = "fixtures/qwen3-0.6b-Q4_K_M.header.gguf";

/// What a run left.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command with `settings` as the user's configuration folder.
pub(crate) fn run_in(settings: &Path, words: &[&str]) -> Run {
    left(&mut command(settings, words))
}

/// The same on an Orin Nano 8GB, as far as `orinplan` looks at the machine's description.
pub(crate) fn run_on_board(settings: &Path, words: &[&str]) -> Run {
    run_on(settings, "orin-nano-8gb-r36.4.7-25w", words)
}

/// The same on a recorded machine.
pub(crate) fn run_on(settings: &Path, machine: &str, words: &[&str]) -> Run {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    left(command(settings, words).env("ORINPLAN_ROOT", root.join(machine)))
}

fn command(settings: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orinplan"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_CONFIG_HOME", settings)
        .env("HOME", settings)
        .env("HF_HUB_CACHE", "no-hub-here")
        .env("HF_HUB_OFFLINE", "1")
        .env("OLLAMA_MODELS", "no-ollama-here")
        .args(words);
    command
}

fn left(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().expect("ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `validate` on the fixture, planned for a board of ours, with these further words.
pub(crate) fn validate(words: &[&str]) -> Run {
    let settings = tempfile::tempdir().unwrap();
    validate_in(settings.path(), words)
}

pub(crate) fn validate_in(settings: &Path, words: &[&str]) -> Run {
    let mut all = vec!["validate", MODEL, "--device", "orin-nano-8gb"];
    all.extend(words);
    run_on_board(settings, &all)
}

/// The document that a run prints.
#[track_caller]
pub(crate) fn document(run: &Run, code: i32) -> Value {
    assert_eq!((run.code, run.err.as_str()), (code, ""), "{}", run.out);
    crate::schema::document(&run.out)
}

/// Asserts that a run failed with status 2 and one line that names all of `fragments`.
#[track_caller]
pub(crate) fn assert_error(run: &Run, fragments: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    assert!(
        run.err.starts_with("error: ") && run.err.lines().count() == 1,
        "{}",
        run.err
    );
    for fragment in fragments {
        assert!(
            run.err.contains(fragment),
            "`{fragment}` is not in: {}",
            run.err
        );
    }
}
