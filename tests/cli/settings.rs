//! `orinplan config`, and its settings as defaults of flags.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(home: &Path, variables: &[(&str, &str)], words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(
            "ORINPLAN_ROOT",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/x86-laptop"),
        )
        .env("XDG_CONFIG_HOME", home)
        .envs(variables.iter().copied())
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

fn out(run: &Output) -> String {
    assert!(run.status.success(), "{}", said(run));
    String::from_utf8(run.stdout.clone()).unwrap()
}

fn said(run: &Output) -> String {
    String::from_utf8(run.stderr.clone()).unwrap()
}

const FIT: &str = "fit fixtures/qwen3-0.6b";

#[test]
fn a_flag_is_above_the_environment_and_that_above_the_file() {
    let home = tempfile::tempdir().unwrap();
    let fit = |variables: &[(&str, &str)], words: &str| {
        out(&run(home.path(), variables, &format!("{FIT} {words}")))
    };
    let usual = fit(&[], "");
    assert!(usual.contains("no --device given"), "{usual}");
    for words in ["device orin-nx-16gb", "runtime vllm", "power-mode 25W"] {
        out(&run(home.path(), &[], &format!("config set {words}")));
    }
    let set = fit(&[], "");
    assert!(
        set.contains("Jetson Orin NX 16GB, 25W: by your settings"),
        "{set}"
    );
    assert!(set.contains("with vLLM"), "{set}");
    let above = [("ORINPLAN_RUNTIME", "ollama")];
    assert!(fit(&above, "").contains("with Ollama"));
    assert!(fit(&above, "--runtime mlc").contains("with MLC"));
    // The power mode is that of the board of the settings.
    let other = fit(&[], "--device agx-orin-64gb");
    assert!(
        other.contains("30W (its default): named by --device"),
        "{other}"
    );
    let explained = fit(&above, "--explain");
    let file = home.path().join("orinplan/config.toml");
    for source in [
        "--runtime ollama (ORINPLAN_RUNTIME)".to_owned(),
        format!("--device orin-nx-16gb ({})", file.display()),
    ] {
        assert!(explained.contains(&source), "{explained}");
    }
    let shown = out(&run(home.path(), &above, "config"));
    let row = |name: &str| {
        let row = shown.lines().find(|line| line.starts_with(name)).unwrap();
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("runtime"), ["runtime", "ollama", "ORINPLAN_RUNTIME"]);
    assert_eq!(row("format"), ["format", "-"]);
    out(&run(home.path(), &[], "config unset device"));
    out(&run(home.path(), &[], "config unset runtime"));
    out(&run(home.path(), &[], "config unset power-mode"));
    assert_eq!(fit(&[], ""), usual);
}

#[test]
fn a_change_leaves_the_other_lines_of_the_file() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("orinplan");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    fs::write(
        &file,
        "# The board on the desk.\ndevice = \"orin-nx-8gb\"\n",
    )
    .unwrap();
    out(&run(home.path(), &[], "config set format markdown"));
    out(&run(home.path(), &[], "config set device orin-nano-4gb"));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "# The board on the desk.\nformat = \"markdown\"\ndevice = \"orin-nano-4gb\"\n"
    );
    assert!(out(&run(home.path(), &[], FIT)).starts_with("## "));
}

#[test]
fn a_wrong_setting_is_an_error_that_names_its_place() {
    let home = tempfile::tempdir().unwrap();
    let refused = |variables: &[(&str, &str)], words: &str, told: &[&str]| {
        let run = run(home.path(), variables, words);
        assert_eq!(run.status.code(), Some(2), "{words}: {}", said(&run));
        for told in told {
            assert!(said(&run).contains(told), "{words}: {}", said(&run));
        }
    };
    refused(
        &[],
        "config set device orin-nano-9gb",
        &["orin-nano-9gb", "orin-nano-8gb"],
    );
    refused(&[], "config set format yaml", &["yaml", "markdown"]);
    refused(&[], "config set text /no/such/text", &["/no/such/text"]);
    refused(&[], "config unset text", &["not set"]);
    let wrong = [("ORINPLAN_DEVICE", "orin-nano-9gb")];
    refused(&wrong, FIT, &["ORINPLAN_DEVICE", "orin-nano-9gb"]);
    // A flag is above it, and other commands do not ask.
    assert!(
        run(home.path(), &wrong, &format!("{FIT} --device orin-nx-8gb"))
            .status
            .success()
    );
    assert!(run(home.path(), &wrong, "devices").status.success());
    let folder = home.path().join("orinplan");
    fs::create_dir_all(&folder).unwrap();
    for (text, told) in [
        ("device = 3\n", "must be text in quotes"),
        (
            "devices = \"orin-nx-8gb\"\n",
            "there is no setting `devices`",
        ),
        ("device = \n", "line 1: "),
    ] {
        fs::write(folder.join("config.toml"), text).unwrap();
        refused(&[], FIT, &["config.toml", told]);
        refused(&[], "config set runtime vllm", &["config.toml", told]);
        assert_eq!(
            fs::read_to_string(folder.join("config.toml")).unwrap(),
            text
        );
    }
}

#[test]
fn a_power_mode_is_that_of_the_board_beside_it_and_a_wrong_one_names_its_source() {
    let home = tempfile::tempdir().unwrap();
    let set = |words: &str| out(&run(home.path(), &[], &format!("config set {words}")));
    let bogus = said(&run(home.path(), &[], "config set power-mode bogus"));
    assert!(
        bogus.contains("no board has a power mode `bogus`"),
        "{bogus}"
    );
    set("device agx-orin-64gb");
    let other = said(&run(home.path(), &[], "config set power-mode MAXN_SUPER"));
    assert!(other.contains("no power mode `MAXN_SUPER`"), "{other}");
    set("power-mode 50W");
    // Boards that are listed have modes of their own.
    let boards = format!("{FIT} --boards 2xorin-nano-8gb");
    out(&run(home.path(), &[], &boards));
    set("device orin-nano-8gb");
    let wrong = said(&run(home.path(), &[], FIT));
    assert!(wrong.contains("config.toml: `power-mode`"), "{wrong}");
    assert!(wrong.contains("no power mode `50W`"), "{wrong}");
    let other = [("ORINPLAN_DEVICE", "agx-orin-64gb")];
    let elsewhere = out(&run(home.path(), &other, FIT));
    assert!(elsewhere.contains("30W (its default)"), "{elsewhere}");
}

#[test]
fn a_file_in_the_settings_is_the_same_from_every_folder() {
    let home = tempfile::tempdir().unwrap();
    out(&run(
        home.path(),
        &[],
        "config set device profiles/boards/orin-nx-16gb.toml",
    ));
    let kept = fs::read_to_string(home.path().join("orinplan/config.toml")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    assert!(kept.contains(root.to_str().unwrap()), "{kept}");
}

#[test]
fn a_runtime_of_the_settings_that_cannot_do_it_is_named_with_its_source() {
    let home = tempfile::tempdir().unwrap();
    out(&run(home.path(), &[], "config set runtime vllm"));
    let model = "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf";
    let wrong = said(&run(home.path(), &[], model));
    assert!(wrong.contains("Settings: --runtime vllm ("), "{wrong}");
    let given = said(&run(home.path(), &[], &format!("{model} --runtime vllm")));
    assert!(!given.contains("Settings"), "{given}");
}
