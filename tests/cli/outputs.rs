//! Where a report goes: files whole or not at all, saved predictions, closed pipes, no colours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{QWEN, assert_error, command, left, run, run_with, says};

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_report_goes_whole_into_a_file_and_leaves_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.md");
    for (words, code) in [("", 0), ("--format markdown", 0), ("--budget 300MB", 1)] {
        let words = format!("fit {QWEN} {words}");
        let run = run_with(&format!("{words} --output"), &[&path]);
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (code, "", "")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), says(code, &words));
        assert_eq!(names(directory.path()), std::slice::from_ref(&path));
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_nothing_is_left_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/report.txt");
    for flag in ["--output", "--save"] {
        let words = format!("fit {QWEN} {flag}");
        assert_error(
            &run_with(&words, &[&missing]),
            &["cannot write", "report.txt"],
        );
        assert_error(&run_with(&words, &[directory.path()]), &["cannot write"]);
        assert_error(&run_with(&words, &["".as_ref()]), &[flag]);
    }
    // Man pages make their own folder, where there can be one.
    assert_error(
        &run_with("man --output /dev/null/man1", &[]),
        &["cannot write"],
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn an_error_leaves_an_older_report_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.txt");
    fs::write(&path, "older").unwrap();
    for words in [
        "fit nothing-here",
        "fit fixtures/qwen3-0.6b --scheme nothing",
    ] {
        assert_error(&run_with(&format!("{words} --output"), &[&path]), &[]);
        assert_error(&run_with(&format!("{words} --save"), &[&path]), &[]);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "older");
}

#[cfg(unix)]
#[test]
fn a_device_file_is_written_to_and_not_replaced() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sink");
    symlink("/dev/null", &path).unwrap();
    let run = run_with(&format!("fit {QWEN} --output"), &[&path]);
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[test]
fn a_saved_prediction_is_compared_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.json");
    let words = format!("fit {QWEN} --scheme q8_0,q4_k_m --power-mode 15W");
    let saved = run_with(&format!("{words} --save"), &[&path]);
    assert_eq!(saved, run(&words));
    // What is printed has the numbers of figures too, and does for a check as well.
    let printed = says(0, &format!("{words} --format json"));
    let mut document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(document.as_object_mut().unwrap().remove("curves").is_some());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        document
    );

    let check = |words: &str| run_with(&format!("{words} --check"), &[&path]);
    fs::write(&path, printed).unwrap();
    assert_eq!(check(&words).code, 0);
    fs::write(&path, text).unwrap();
    let same = check(&words);
    assert_eq!((same.code, same.err.as_str()), (0, ""));
    assert!(
        same.out.starts_with("the prediction equals "),
        "{}",
        same.out
    );
    assert_eq!(same.out.lines().count(), 1);

    let other = check(&words.replace("15W", "MAXN_SUPER"));
    assert_eq!((other.code, other.err.as_str()), (1, ""));
    for line in [
        "the prediction differs from ",
        "  device.power_mode: \"15W\" saved, \"MAXN_SUPER\" now",
        "  device.memory_bandwidth_bytes_per_second: 68000000000.0 saved, 102000000000.0 now (+50.0 %)",
        "  plans[q4_k_m].decode.tokens_per_second.expected: ",
        "  plans[q8_0].decode.ceiling_tokens_per_second: ",
    ] {
        assert!(
            other.out.lines().any(|said| said.starts_with(line)),
            "{line}\n{}",
            other.out
        );
    }
    assert!(!other.out.contains("memory.weights_bytes"), "{}", other.out);

    let fewer = check(&format!("fit {QWEN} --scheme q4_k_m"));
    assert_eq!(fewer.code, 1);
    assert!(
        fewer.out.contains("plans[q8_0]: an object saved, gone now"),
        "{}",
        fewer.out
    );
}

#[test]
fn a_file_that_is_no_saved_prediction_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.json");
    let check = |bytes: &[u8], fragments: &[&str]| {
        fs::write(&path, bytes).unwrap();
        assert_error(
            &run_with(&format!("fit {QWEN} --check"), &[&path]),
            fragments,
        );
    };
    check(b"", &["empty"]);
    check(
        b"{\"schema\": \"orinplan.fit/1\", ",
        &["saved.json", "not JSON"],
    );
    check(b"\xff\xfe", &["saved.json", "UTF-8"]);
    check(b"[]", &["not a saved prediction", "missing"]);
    check(
        b"{\"schema\": \"orinplan.roofline/1\"}",
        &["orinplan.roofline/1", "orinplan.fit/1"],
    );
    check(b"{\"schema\": 1}", &["not a saved prediction"]);
    fs::remove_file(&path).unwrap();
    assert_error(
        &run_with(&format!("fit {QWEN} --check"), &[&path]),
        &["no such file"],
    );
    assert_error(
        &run_with(&format!("fit {QWEN} --check"), &[directory.path()]),
        &["directory"],
    );
    // A prediction without its plans is one, and differs.
    fs::write(&path, "{\"schema\": \"orinplan.fit/1\"}").unwrap();
    let bare = run_with(&format!("fit {QWEN} --check"), &[&path]);
    assert_eq!((bare.code, bare.err.as_str()), (1, ""));
    assert!(
        bare.out.contains("plans: not saved, a list of"),
        "{}",
        bare.out
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_the_verdict_stands() {
    for (words, code) in [
        (format!("fit {QWEN}"), 0),
        (format!("fit {QWEN} --budget 300MB"), 1),
        (format!("inspect {QWEN} --format json"), 0),
        ("devices list".to_owned(), 0),
        ("completions bash".to_owned(), 0),
        ("man".to_owned(), 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command();
        child
            .args(words.split(' '))
            .stdout(writer)
            .stderr(Stdio::piped());
        let run = left(child.spawn().unwrap().wait_with_output().unwrap());
        assert_eq!((run.code, run.err.as_str()), (code, ""), "{words}");
    }
}

#[test]
fn there_are_no_colours_where_nobody_sees_them() {
    for words in [
        format!("fit {QWEN}"),
        format!("fit {QWEN} --explain"),
        "fit --help".to_owned(),
    ] {
        let with = |name: &str, value: &str| {
            let output = command()
                .args(words.split(' '))
                .env(name, value)
                .output()
                .unwrap();
            left(output)
        };
        let plain = with("NO_COLOR", "1");
        assert_eq!(with("NO_COLOR", ""), plain);
        assert_eq!(with("TERM", "xterm-256color"), plain);
        assert!(!plain.out.contains('\u{1b}'), "{words}");
    }
}

#[test]
fn no_report_takes_the_place_of_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let fixture = "fixtures/qwen3-0.6b-Q4_K_M.header.gguf";
    for name in ["m.header.gguf", "other.gguf"] {
        fs::copy(fixture, at(name)).unwrap();
    }
    fs::hard_link(at("m.header.gguf"), at("hard.txt")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("m.header.gguf", at("soft.txt")).unwrap();
    fs::write(at("tokenizer.json"), "{\"model\": {}}").unwrap();
    let before = fs::read(fixture).unwrap();
    let model = at("m.header.gguf");
    for flag in ["--output", "--save"] {
        for name in [
            "m.header.gguf",
            "other.gguf",
            "hard.txt",
            "soft.txt",
            "tokenizer.json",
        ] {
            let run = run_with(&format!("fit {flag}"), &[&at(name), &model]);
            assert_error(&run, &[name]);
        }
    }
    assert_eq!(fs::read(&model).unwrap(), before);
    assert_eq!(fs::read(at("other.gguf")).unwrap(), before);
    assert_eq!(fs::read(at("tokenizer.json")).unwrap(), b"{\"model\": {}}");

    // A directory's configuration, and two outputs of one name.
    let config = directory.path().join("config");
    fs::create_dir(&config).unwrap();
    fs::copy(
        "fixtures/qwen3-0.6b/config.json",
        config.join("config.json"),
    )
    .unwrap();
    let run = run_with("fit --output", &[&config.join("config.json"), &config]);
    assert_error(&run, &["config.json", "which is an input"]);
    let report = at("report.json");
    let words = format!("fit --save {} --output", report.display());
    assert_error(&run_with(&words, &[&report, &model]), &["two outputs"]);
    assert!(!report.exists());

    // A prediction and a report of ours are replaced.
    for _ in 0..2 {
        assert_eq!(run_with("fit --save", &[&report, &model]).code, 0);
        assert_eq!(
            run_with("fit --output", &[&at("report.txt"), &model]).code,
            0
        );
    }
    let check = run_with("fit --check", &[&report, &model]);
    assert_eq!(check.code, 0, "{}", check.out);
    let words = format!("fit --check {} --output", report.display());
    assert_error(
        &run_with(&words, &[&report, &model]),
        &["--check prints what differs", "leave --output out"],
    );
}

#[test]
fn no_report_takes_the_place_of_notes_or_the_name_of_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("notes.txt"), "What fits on the board, by hand.\n").unwrap();
    for flag in ["--output", "--save"] {
        let words = format!("fit {QWEN} {flag}");
        let told = [
            "notes.txt",
            "not a report of this program",
            "choose another name",
        ];
        assert_error(&run_with(&words, &[&at("notes.txt")]), &told);
        let told = ["m.gguf", "has the name of a model"];
        assert_error(&run_with(&words, &[&at("m.gguf")]), &told);
    }
    assert_eq!(names(directory.path()), [at("notes.txt")]);
    // An empty file, and every form of the report.
    fs::write(at("report"), "").unwrap();
    for words in [
        "",
        "--format markdown",
        "--format json",
        "--explain",
        "--budget 300MB",
    ] {
        let run = run_with(&format!("fit {QWEN} {words} --output"), &[&at("report")]);
        assert!(run.code < 2, "{words}: {}", run.err);
    }
}

#[test]
fn what_differs_is_a_document_for_scripts() {
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("saved.json");
    let run = run_with(&format!("fit {QWEN} --save"), &[&saved]);
    assert_eq!(run.code, 0);
    let same = run_with(&format!("fit {QWEN} --format json --check"), &[&saved]);
    let same = crate::schema::document(&same.out);
    assert_eq!(
        (
            &same["equal"],
            same["differences"].as_array().unwrap().len()
        ),
        (&true.into(), 0)
    );
    let other = run_with(
        &format!("fit {QWEN} --context 2048 --format json --check"),
        &[&saved],
    );
    assert_eq!(other.code, 1);
    let other = crate::schema::document(&other.out);
    assert_eq!(other["equal"], false);
    assert!(!other["differences"].as_array().unwrap().is_empty());
    let page = run_with(&format!("fit {QWEN} --format html --check"), &[&saved]);
    assert_error(&page, &["--check", "no page"]);
}
