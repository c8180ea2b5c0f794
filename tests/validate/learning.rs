//! What is kept of runs, and what plans make of it.

use std::fs;

use serde_json::Value;

use crate::server::{Server, models, stream};
use crate::support::{MODEL, assert_error, document, run_in, validate_in};

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
    // One run draws the rate half of the way, in logarithms: sqrt(expected x measured).
    let rate = |plan: &Value| {
        plan["prefill"]["tokens_per_second"]["expected"]
            .as_f64()
            .unwrap()
    };
    let drawn = (rate(&before) * 100.0).sqrt();
    assert!(
        (rate(&after) / drawn - 1.0).abs() < 1e-4,
        "{} {drawn}",
        rate(&after)
    );
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

#[test]
fn settings_that_are_garbage_are_named_with_the_way_out() {
    let settings = tempfile::tempdir().unwrap();
    fs::create_dir(settings.path().join("orinplan")).unwrap();
    fs::write(settings.path().join("orinplan/runs.toml"), "run = 3").unwrap();
    let run = run_in(settings.path(), &["fit", MODEL]);
    assert_error(&run, &["runs.toml", "calibrate --reset"]);
    fs::remove_file(settings.path().join("orinplan/runs.toml")).unwrap();
    fs::write(
        settings.path().join("orinplan/calibration.toml"),
        "schema = \"x\"",
    )
    .unwrap();
    assert_error(
        &run_in(settings.path(), &["fit", MODEL, "--device", "host"]),
        &["calibration.toml", "calibrate --reset"],
    );
    // A board needs no calibration of this machine.
    assert_eq!(run_in(settings.path(), &["fit", MODEL]).code, 0);
}

#[test]
fn runs_are_kept_nowhere_without_a_place_for_settings() {
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(1, 1, 8, 128, 100.0)),
    ]);
    let words = server.openai(&["--tokens", "8", "--repeats", "1", "--save-calibration"]);
    assert_error(
        &validate_in(std::path::Path::new("relative"), &words),
        &["XDG_CONFIG_HOME", "HOME"],
    );
}
