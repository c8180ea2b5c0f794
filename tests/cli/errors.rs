//! Exit status 2: one line on standard error, nothing on standard output.

use std::fs;

use crate::support::{QWEN, assert_error, command, left, refused, run, run_with};

#[test]
fn words_that_are_not_known_are_answered_with_the_nearest() {
    refused("fti", &["`fti` (did you mean `fit`?)"]);
    refused("ift", &["`ift` (did you mean `fit`?)"]);
    // What people type for commands that have other names here.
    for (typed, meant) in [
        ("plan", "fit"),
        ("Plan", "fit"),
        ("convert", "quantize"),
        ("run", "validate"),
        ("bench", "validate"),
        ("list", "inspect"),
        ("boards", "devices"),
        ("valid", "validate"),
        ("quantise", "quantize"),
    ] {
        refused(
            &format!("{typed} {QWEN}"),
            &[
                &format!("`{typed}` (did you mean `{meant}`?)"),
                "known: fit,",
            ],
        );
    }
    refused(
        "devices shwo",
        &["`shwo` (did you mean `show`?); known: list, show, detect"],
    );
    refused(
        &format!("fit {QWEN} --device orin-nano"),
        &["`orin-nano` (did you mean `orin-nano-8gb`?)"],
    );
    refused(
        &format!("fit {QWEN} --power-mode maxn"),
        &["`maxn` (did you mean `MAXN_SUPER`?)"],
    );
    refused("fit", &["MODEL"]);
    refused(&format!("inspect {QWEN} another"), &["another"]);
    refused(
        &format!("fit {QWEN} --contxt 5"),
        &["--contxt", "--context"],
    );
    refused(
        &format!("fit {QWEN} --format pdf"),
        &["pdf", "text, json, markdown, html, svg"],
    );
    refused(
        &format!("fit {QWEN} --scheme q4km"),
        &["`q4km`", "did you mean `q4_k_m`"],
    );
    refused(&format!("fit {QWEN} --scheme=q4_k_m,"), &["``", "known: "]);
    refused(
        &format!("fit {QWEN} --rules 2024"),
        &["--rules", "llama.cpp-2026"],
    );
    refused(
        &format!("fit {QWEN} --runtime llamacpp"),
        &["llamacpp", "`llama.cpp`"],
    );
    refused(
        &format!("fit {QWEN} --device orin-nano-8g"),
        &["orin-nano-8g`", "orin-nano-8gb"],
    );
    refused(
        &format!("fit {QWEN} --power-mode 99W"),
        &["99W", "15W", "MAXN_SUPER"],
    );
    refused(&format!("fit {QWEN} --l4t thirty"), &["thirty", "36.4.7"]);
    refused(
        &format!("fit {QWEN} --check a --save b"),
        &["--check", "--save"],
    );
    refused("roofline", &["MODEL"]);
    refused("roofline --nominal a:b", &["a:b", "NAME:PARAMETERS:BITS"]);
    refused("devices show nothing", &["nothing", "orin-nano-8gb"]);
    refused("completions tcsh", &["tcsh", "bash"]);
    refused("inspect fixtures/nothing", &["fixtures/nothing"]);
}

#[test]
fn a_number_without_its_unit_is_explained() {
    for (change, way_out) in [
        ("bandwidth=204", "lacks its unit: bandwidth=204GB/s"),
        ("gpu-clock=1300", "lacks its unit: gpu-clock=1300MHz"),
        ("memory=16", "lacks its unit: memory=16GiB"),
        ("memory=16G", "write it like memory=16GiB"),
        ("bandwith=204GB/s", "(did you mean `bandwidth`?)"),
    ] {
        refused(
            &format!("fit {QWEN} --what-if {change}"),
            &[change, way_out],
        );
    }
    for flag in ["--context", "--prompt-tokens", "--ubatch"] {
        for none in ["0", "-1"] {
            refused(
                &format!("fit {QWEN} {flag} {none}"),
                &[
                    flag,
                    none,
                    "write the number, from 1 to ",
                    "its default holds",
                ],
            );
        }
        refused(&format!("fit {QWEN} {flag} -4096"), &[flag, "4096 or 4k"]);
    }
    for tokens in ["4kb", "4 k", "k", "1.5k", "4096 tokens"] {
        let output = command().args(["fit", QWEN, "--context", tokens]).output();
        assert_error(&left(output.unwrap()), &[tokens, "4096 or 4k"]);
    }
}

/// What may be fetched is named with the line that does it, and what can only be a path is not looked for in stores.
#[test]
fn a_model_that_is_not_there_says_how_it_is_had() {
    for (name, way_out) in [
        (
            "Qwen/Qwen9-7B",
            "`hf download Qwen/Qwen9-7B` fetches it from Hugging Face",
        ),
        ("qwen9:7b", "`ollama pull qwen9:7b` fetches it"),
        (
            "someone/qwen9:7b",
            "`ollama pull someone/qwen9:7b` fetches it",
        ),
    ] {
        refused(
            &format!("fit {name}"),
            &[name, way_out, "no-hub-here", "no-ollama-here"],
        );
    }
    for path in [
        "fixtures/nothing",
        "models/x.gguf",
        "./nothing",
        "/nothing/here",
        "~/x",
    ] {
        let run = run(&format!("fit {path}"));
        assert_error(
            &run,
            &[path, "no file or directory of that name; give a directory"],
        );
        assert!(
            !run.err.contains("no-hub-here") && run.err.len() < 220,
            "{}",
            run.err
        );
    }
}

#[test]
fn a_model_that_is_not_there_says_where_it_was_looked_for() {
    refused(
        "fit nothing-here",
        &[
            "nothing-here",
            "no-hub-here",
            "no-ollama-here",
            "config.json",
        ],
    );
    assert_error(&run_with("fit", &["".as_ref()]), &["no model"]);
    refused(
        "fit fixtures",
        &["several models", "qwen3-0.6b-Q4_K_M.header.gguf"],
    );
}

#[test]
fn files_that_are_no_models_are_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    for (name, bytes, fragments) in [
        ("empty.gguf", &b""[..], &["empty"][..]),
        ("empty.safetensors", b"", &["empty"]),
        ("short.gguf", b"GGUF\x03\0\0\0", &["short.gguf"]),
        ("old.gguf", b"GGUF\x01\0\0\0\0\0\0\0\0\0\0\0", &["version"]),
        (
            "text.safetensors",
            b"hello, this is text",
            &["text.safetensors"],
        ),
        ("a.json", b"[1, 2", &["JSON"]),
        ("config.json", b"[]", &["config.json"]),
        ("none.json", b"{}", &["names no architecture"]),
        (
            "list.json",
            br#"{"model_type": "llama"}"#,
            &["num_hidden_layers"],
        ),
        ("notes.txt", b"plain", &["notes.txt", ".safetensors"]),
        ("line\nbreak.json", b"{", &["JSON"]),
    ] {
        assert_error(&run_with("fit", &[&write(name, bytes)]), fragments);
        assert_error(
            &run_with("inspect --format json", &[&write(name, bytes)]),
            &[],
        );
    }
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_error(&run_with("fit", &[&empty]), &["is an empty folder"]);
}

#[cfg(unix)]
#[test]
fn a_fifo_is_refused_and_never_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["pipe.gguf", "pipe.toml"] {
        let made = std::process::Command::new("mkfifo")
            .arg(directory.path().join(name))
            .status();
        assert!(made.unwrap().success());
    }
    let pipe = directory.path().join("pipe.gguf");
    assert_error(&run_with("fit", &[&pipe]), &["FIFO"]);
    assert_error(
        &run_with(&format!("fit {QWEN} --check"), &[&pipe]),
        &["FIFO"],
    );
    let board = directory.path().join("pipe.toml");
    assert_error(
        &run_with(&format!("fit {QWEN} --device"), &[&board]),
        &["pipe.toml"],
    );
    assert_error(
        &run_with(&format!("fit {QWEN} --device"), &[directory.path()]),
        &["device"],
    );
}

#[test]
fn a_broken_device_file_is_named_with_its_field() {
    let shipped = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/profiles/boards/orin-nano-8gb.toml"
    ))
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str, fragments: &[&str]| {
        let path = directory.path().join("mine.toml");
        fs::write(&path, text).unwrap();
        assert_error(
            &run_with(&format!("fit {QWEN} --device"), &[&path]),
            fragments,
        );
        assert_error(&run_with("devices show", &[&path]), fragments);
    };
    let field = "bus_bits = { value = 128, source = \"spec\" }";
    assert!(shipped.contains(field));
    let change = |to: &str| shipped.replacen(field, to, 1);
    check("", &["mine.toml"]);
    check("not toml at all", &["mine.toml", "line 1"]);
    check(
        &change("bus_bits = { value = 128, source = \"nobody\" }"),
        &["memory.bus_bits", "nobody"],
    );
    check(
        &change("bus_bitz = { value = 128, source = \"spec\" }"),
        &["bus_bitz", "line"],
    );
    check(
        &change("bus_bits = { value = -1, source = \"spec\" }"),
        &["mine.toml", "memory.bus_bits", "`-1`"],
    );
    // The file as shipped is a device like any other.
    let path = directory.path().join("mine.toml");
    fs::write(&path, &shipped).unwrap();
    let mine = run_with(&format!("fit {QWEN} --format json --device"), &[&path]);
    let known = run_with(
        &format!("fit {QWEN} --format json --device orin-nano-8gb"),
        &[],
    );
    assert_eq!(mine, known);
}

#[test]
fn a_backtrace_never_reaches_the_user() {
    for words in [
        "fit nothing-here",
        "fit fixtures/qwen3-0.6b --check Cargo.toml",
    ] {
        let output = command()
            .args(words.split(' '))
            .env("RUST_BACKTRACE", "full")
            .output();
        assert_error(&left(output.unwrap()), &[]);
    }
}

/// What the pointer stands for would be left out in silence.
#[test]
fn a_pointer_in_place_of_any_part_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        let from = std::path::Path::new("fixtures/tiny-llama").join(file);
        std::fs::copy(from, folder.path().join(file)).unwrap();
    }
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1044992\n",
        "a".repeat(64)
    );
    for part in [
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "preprocessor_config.json",
        "model-00002-of-00002.safetensors",
        "merges.txt",
    ] {
        let path = folder.path().join(part);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &pointer).unwrap();
        let run = crate::support::run_with("fit", &[folder.path()]);
        crate::support::assert_error(&run, &[part, "git-LFS pointer"]);
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(folder.path().join("picture.png"), &pointer).unwrap();
    let run = crate::support::run_with("fit", &[folder.path()]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

/// A flag that needs another is refused, too, beside what that other one conflicts with.
#[test]
fn no_flag_is_ignored_because_of_another() {
    let qwen = "fixtures/qwen3-0.6b";
    for words in [
        format!("fit {qwen} --device orin-nx-16gb --layers 14,14"),
        format!("fit {qwen} --explain --link 10gbe"),
        format!("fit {qwen} --draft lookup --rpc a:1"),
        format!("fit {qwen} --boards 2xorin-nano-8gb --acceptance 0.5"),
        format!("fit {qwen} --boards 2xorin-nano-8gb --max-latency 10ms"),
        format!("fit {qwen} --boards 2xorin-nano-8gb --quality nofile"),
        format!("fit {qwen} --save s.json --watch-seconds 5"),
        format!("quantize {qwen} --scheme q4_k_m --context 4096 --dry-run"),
        format!("quantize {qwen} --scheme q4_k_m --text nofile --dry-run"),
        format!("quantize {qwen} --projector --target-size 1GiB --dry-run"),
        format!("quantize {qwen} --types list --save-types other --dry-run"),
        "models --energy-budget 10W".to_owned(),
        "models --kv-type q4_0 --no-flash-attention".to_owned(),
        format!("fit {qwen} --runtime ollama --kv-type-k q8_0"),
        format!("fit {qwen} --runtime candle --images 1"),
        format!("fit {qwen} --runtime-version b5000"),
        format!("fit {qwen} --runtime-version b9100 --draft lookup"),
        format!("board plan.toml {qwen}"),
    ] {
        refused(&words, &[]);
    }
}

/// The system's own number of an error means nothing to a reader, and its sentence is not said twice.
#[test]
fn a_device_file_that_is_not_there_is_told_once() {
    let words = "fit fixtures/tiny-qwen3 --device /nowhere/board.toml";
    let run = crate::support::run(words);
    assert_eq!(run.code, 2);
    let said = "error: cannot read device file `/nowhere/board.toml`: no such file or directory\n";
    assert_eq!(run.err, said);
}
