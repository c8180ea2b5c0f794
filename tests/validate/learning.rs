//! What is kept of runs, and what plans make of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::{Answer, Server, models, ollama, stream};
use crate::support::{MODEL, document, run_in, run_on_board, validate_in};

fn plan(settings: &std::path::Path) -> Value {
    let words = [
        "fit",
        MODEL,
        "--device",
        "orin-nano-8gb",
        "--prompt-tokens",
        "128",
        "--format",
        "json",
    ];
    let run = run_in(settings, &words);
    document(&run, 0)["plans"][0].clone()
}

fn notes(plan: &Value) -> String {
    plan["notes"].to_string()
}

#[test]
fn a_saved_run_corrects_the_next_plan_until_it_is_forgotten() {
    let settings = tempfile::tempdir().unwrap();
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(1, 1, 8, 128, 100.0)),
    ]);
    let before = plan(settings.path());
    assert!(!notes(&before).contains("learned_from_runs"));
    let words = server.openai(&["--tokens", "8", "--repeats", "1"]);
    let run = validate_in(
        settings.path(),
        &[&words[..], &["--save-calibration"]].concat(),
    );
    assert!(
        run.code < 2 && run.out.contains("kept in "),
        "{}{}",
        run.out,
        run.err
    );

    let kept = fs::read_to_string(settings.path().join("orinplan/runs.toml")).unwrap();
    for part in [
        "runtime = \"llama.cpp\"",
        "device = \"orin-nano-8gb\"",
        "power_mode = \"25W\"",
        "engine = \"llama.cpp b9000-abc\"",
        "version = ",
        "date = \"20",
    ] {
        assert!(kept.contains(part), "{part} is not in {kept}");
    }
    let after = plan(settings.path());
    assert!(
        notes(&after).contains("learned_from_runs")
            && notes(&after).contains("1 run of llama.cpp b9000-abc"),
        "{}",
        notes(&after)
    );
    // A run draws the rate of its own model most of the way, though not all of it: runs have noise.
    let rate = |plan: &Value| {
        plan["prefill"]["tokens_per_second"]["expected"]
            .as_f64()
            .unwrap()
    };
    let drawn = (rate(&after) / rate(&before)).ln() / (100.0 / rate(&before)).ln();
    assert!((0.3..1.0).contains(&drawn), "{drawn}");
    // A run far from its prediction narrows nothing, and the range does not collapse.
    let width = |plan: &Value| {
        let range = &plan["prefill"]["tokens_per_second"];
        (range["high"].as_f64().unwrap() / range["low"].as_f64().unwrap()).ln()
    };
    assert!(
        (0.1..width(&before) + 1e-4).contains(&width(&after)),
        "{} {}",
        width(&before),
        width(&after)
    );
    // Each parameter with its uncertainty, here and of the device.
    let shown = run_in(
        settings.path(),
        &["devices", "show", "orin-nano-8gb", "--format", "json"],
    );
    let shown = document(&shown, 0);
    let prefill = &shown["learned"][0]["prefill"];
    assert_eq!(
        (&prefill["runs"], &prefill["models"]),
        (&1.into(), &1.into())
    );
    let parameter = &prefill["parameters"][0];
    assert_eq!(parameter["parameter"], "common");
    assert!(parameter["standard_deviation"].as_f64().unwrap() > 0.0);
    assert!(notes(&after).contains("prompts x "), "{}", notes(&after));
    // The same run again says nothing new.
    let again = validate_in(
        settings.path(),
        &[&words[..], &["--save-calibration"]].concat(),
    );
    assert!(again.code < 2);
    assert_eq!(
        fs::read_to_string(settings.path().join("orinplan/runs.toml"))
            .unwrap()
            .matches("[[run]]")
            .count(),
        1
    );
    // With another number of tokens it is another run.
    let longer = server.openai(&["--tokens", "7", "--repeats", "1"]);
    let third = validate_in(
        settings.path(),
        &[&longer[..], &["--save-calibration"]].concat(),
    );
    assert!(
        third.out.contains("learned, as factors on rates"),
        "{}",
        third.out
    );
    assert_eq!(
        fs::read_to_string(settings.path().join("orinplan/runs.toml"))
            .unwrap()
            .matches("[[run]]")
            .count(),
        2
    );
    // Another board has learned nothing.
    let other = run_in(
        settings.path(),
        &["fit", MODEL, "--device", "orin-nx-16gb", "--format", "json"],
    );
    assert!(!other.out.contains("learned_from_runs"));

    let reset = run_in(settings.path(), &["calibrate", "--reset"]);
    assert!(
        reset.code == 0 && reset.out.contains("runs.toml"),
        "{}",
        reset.out
    );
    assert_eq!(plan(settings.path()), before);
    assert!(
        run_in(settings.path(), &["calibrate", "--reset"])
            .out
            .contains("nothing")
    );
}

/// Garbage in the place of what was learned and measured: every plan is made, and says what it does without.
#[test]
fn settings_that_are_garbage_are_told_and_stop_no_plan() {
    let settings = tempfile::tempdir().unwrap();
    let at = |name: &str| settings.path().join("orinplan").join(name);
    fs::create_dir(settings.path().join("orinplan")).unwrap();
    fs::write(at("runs.toml"), "run = 3").unwrap();
    fs::write(at("calibration.toml"), "schema = \"x\"").unwrap();
    let told = |words: &[&str], file: &str| {
        let run = run_in(settings.path(), words);
        assert!(
            run.code < 2 && !run.out.is_empty(),
            "{words:?}: {}",
            run.err
        );
        let mut lines = run.err.lines();
        let line = lines.find(|line| line.contains(file)).unwrap();
        assert!(
            line.starts_with("warning: planning without it: ")
                && line.contains("calibrate --reset"),
            "{line}"
        );
    };
    told(&["fit", MODEL, "--device", "orin-nano-8gb"], "runs.toml");
    told(&["fit", MODEL, "--device", "host"], "runs.toml");
    told(&["fit", MODEL, "--device", "host"], "calibration.toml");
    told(&["devices", "show", "host"], "calibration.toml");
    // A board needs no calibration of this machine.
    let board = run_in(
        settings.path(),
        &["fit", MODEL, "--device", "orin-nano-8gb"],
    );
    assert!(!board.err.contains("calibration.toml"), "{}", board.err);

    // What cannot be read is not written over, and that is said before anything is measured.
    let server = server();
    let run = validate_in(settings.path(), &server.openai(&ONCE));
    assert!(
        run.code < 2 && run.out.contains("not kept: "),
        "{}",
        run.out
    );
    assert!(
        run.err.contains("the run will not be kept: ")
            && run.err.contains("fix it or move it away"),
        "{}",
        run.err
    );
    assert_eq!(fs::read_to_string(at("runs.toml")).unwrap(), "run = 3");
    assert_eq!(run_in(settings.path(), &["calibrate", "--reset"]).code, 0);
    assert_eq!(
        run_in(settings.path(), &["fit", MODEL, "--device", "host"]).err,
        ""
    );
}

/// A server whose rates a board can have, and the words that measure it once.
fn server() -> Server {
    Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(100, 10, 8, 128, 1000.0)),
    ])
}

const ONCE: [&str; 5] = ["--tokens", "8", "--repeats", "1", "--save-calibration"];

#[test]
fn a_run_that_cannot_be_kept_is_told_before_and_reported_all_the_same() {
    let server = server();
    let run = validate_in(Path::new("relative"), &server.openai(&ONCE));
    let why = "neither XDG_CONFIG_HOME nor HOME names a folder";
    assert!(run.code < 2, "{}", run.err);
    assert!(
        run.err.starts_with("warning: the run will not be kept: ") && run.err.contains(why),
        "{}",
        run.err
    );
    assert!(
        run.out.contains("measured with llama.cpp")
            && run.out.contains(&format!("not kept: {why}")),
        "{}",
        run.out
    );
    let blocked = tempfile::tempdir().unwrap();
    fs::write(blocked.path().join("orinplan"), "a file").unwrap();
    let words = [&server.openai(&ONCE)[..], &["--format", "json"]].concat();
    let run = validate_in(blocked.path(), &words);
    let found = crate::schema::document(&run.out);
    assert!(run.err.contains("cannot make"), "{}", run.err);
    assert_eq!(found["saved"], false);
    assert!(found["not_saved"].as_str().unwrap().contains("cannot make"));
    assert!(found["measured"]["decode_tokens_per_second"].is_number());
}

/// A settings folder whose runs are this text, and its path.
fn with_runs(text: &str) -> (tempfile::TempDir, PathBuf) {
    let settings = tempfile::tempdir().unwrap();
    fs::create_dir(settings.path().join("orinplan")).unwrap();
    let path = settings.path().join("orinplan/runs.toml");
    fs::write(&path, text).unwrap();
    (settings, path)
}

#[test]
fn an_entry_that_is_none_is_told_and_costs_no_other() {
    let settings = tempfile::tempdir().unwrap();
    let kept = validate_in(settings.path(), &server().openai(&ONCE));
    assert!(kept.out.contains("kept in "), "{}", kept.out);
    let good = fs::read_to_string(settings.path().join("orinplan/runs.toml")).unwrap();
    // What earlier versions wrote where free memory had not fallen.
    let entry = &good[good.find("[[run]]").unwrap()..];
    let bad = entry.replace("model = \"", "model = \"other-")
        + "\n[run.memory]\npredicted = 1e9\nmeasured = 0.0\n";
    let (settings, path) = with_runs(&format!("{good}\n{bad}"));
    let run = run_in(settings.path(), &["fit", MODEL, "--format", "json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(
        run.err.starts_with("warning: ")
            && run
                .err
                .contains("runs.toml: run 2 is left out: `measured` is 0"),
        "{}",
        run.err
    );
    assert!(run.out.contains("learned_from_runs"));
    // Written anew, the file has the good ones.
    let again = validate_in(settings.path(), &server().openai(&ONCE));
    assert!(again.out.contains("kept in "), "{}", again.out);
    let kept = fs::read_to_string(path).unwrap();
    assert_eq!(kept.matches("[[run]]").count(), 1);
    assert_eq!(run_in(settings.path(), &["fit", MODEL]).err, "");
}

#[test]
fn a_fall_of_nothing_is_not_kept_and_stops_no_later_plan() {
    // No time passed, and memory of 0 B is none.
    let settings = tempfile::tempdir().unwrap();
    let done = "{\"response\":\"a\",\"done\":true,\"eval_count\":64,\"eval_duration\":0}\n";
    let server = ollama(Answer::Whole(200, done.to_owned()), "0");
    let words = server.ollama(&["--save-calibration"]);
    let run = validate_in(settings.path(), &words);
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
    assert!(
        run.out
            .contains("by the engine's account: 0 B is not a measurement"),
        "{}",
        run.out
    );
    assert!(
        run.out.contains("NOTHING TO COMPARE")
            && run
                .out
                .contains("not kept: nothing was both predicted and measured"),
        "{}",
        run.out
    );
    assert!(!settings.path().join("orinplan/runs.toml").exists());
    assert_eq!(run_in(settings.path(), &["fit", MODEL]).code, 0);
}

#[test]
fn runs_at_the_same_time_are_all_kept() {
    let settings = tempfile::tempdir().unwrap();
    let server = server();
    let mut runs: Vec<(&str, &str)> = ["7W", "15W", "25W", "MAXN_SUPER"]
        .map(|mode| ("llama.cpp", mode))
        .to_vec();
    runs.extend(["7W", "25W"].map(|mode| ("ollama", mode)));
    std::thread::scope(|scope| {
        for (runtime, mode) in &runs {
            let (settings, server) = (settings.path(), &server);
            scope.spawn(move || {
                let board = ["validate", MODEL, "--device", "orin-nano-8gb"];
                let planned = ["--power-mode", mode, "--runtime", runtime];
                let words = [&board[..], &planned, &server.openai(&ONCE)].concat();
                let run = run_on_board(settings, &words);
                assert!(run.out.contains("kept in "), "{}{}", run.out, run.err);
            });
        }
    });
    let kept = fs::read_to_string(settings.path().join("orinplan/runs.toml")).unwrap();
    assert_eq!(kept.matches("[[run]]").count(), 6, "{kept}");
    let left: Vec<_> = fs::read_dir(settings.path().join("orinplan"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Watts follow the rate that is shown, in the mode that the runs were in.
#[test]
fn watts_follow_the_corrected_rate() {
    let settings = tempfile::tempdir().unwrap();
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(1, 20, 8, 128, 100.0)),
    ]);
    let before = plan(settings.path());
    let words = server.openai(&["--tokens", "8", "--repeats", "1"]);
    validate_in(
        settings.path(),
        &[&words[..], &["--save-calibration"]].concat(),
    );
    let after = plan(settings.path());
    let rate = |plan: &Value| plan["decode"]["tokens_per_second"].clone();
    assert_ne!(rate(&before), rate(&after));
    let modes = after["decode"]["energy"].as_array().unwrap();
    let mode = modes.iter().find(|mode| mode["power_mode"] == "25W");
    assert_eq!(mode.unwrap()["tokens_per_second"], rate(&after));
}
