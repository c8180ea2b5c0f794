//! The lines that `fit` prints, pasted into a real shell where the user stands: files are made, and programs
//! that are not here are played by one that writes down how it was called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::build::Scratch;

/// A fixture with weights, small enough to quantize.
const MODEL: &str = "tiny-qwen3";

/// The programs that are played.
const PROGRAMS: [&str; 10] = [
    "llama-server",
    "llama-bench",
    "llama-quantize",
    "ollama",
    "sudo",
    "hf",
    "mlc_llm",
    "tensorrt-edgellm-quantize",
    "tensorrt-edgellm-export",
    "python3",
];

/// A place to stand in, with a model in `a b/` below it.
struct Desk {
    scratch: Scratch,
}

impl Desk {
    fn new() -> Desk {
        let scratch = Scratch::new();
        let model = scratch.fixture(MODEL);
        fs::create_dir(scratch.path("a b")).unwrap();
        fs::rename(model, scratch.path("a b/my model")).unwrap();
        fs::create_dir(scratch.path("bin")).unwrap();
        let play =
            "#!/bin/sh\n{ printf '%s' \"${0##*/}\"; printf '|%s' \"$@\"; echo; } >> \"$CALLS\"\n";
        for program in PROGRAMS {
            let path = scratch.path("bin").join(program);
            fs::write(&path, play).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Desk { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn shell(&self, line: &str) -> Output {
        let own = Path::new(env!("CARGO_BIN_EXE_orinplan")).parent().unwrap();
        let played = self.path("bin");
        let path = format!("{}:{}:/usr/bin:/bin", played.display(), own.display());
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.path("."))
            .env("PATH", path)
            .env("CALLS", self.path("calls"))
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("settings"))
            .env("HF_HUB_CACHE", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1")
            .env("OLLAMA_MODELS", self.path("ollama"))
            .output()
            .unwrap()
    }

    /// What `fit` prints for these words of a shell.
    fn fit(&self, words: &str) -> String {
        let output = self.shell(&format!("orinplan fit {words} --format markdown"));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn lines(&self, words: &str) -> Vec<String> {
        let text = self.fit(words);
        let blocks = text.split("```sh\n").skip(1);
        let blocks = blocks.filter_map(|rest| rest.split("\n```").next());
        blocks.flat_map(str::lines).map(str::to_owned).collect()
    }

    /// Pastes every line that is printed for these words; how programs were called.
    #[track_caller]
    fn calls(&self, words: &str) -> Vec<String> {
        let _ = fs::remove_file(self.path("calls"));
        for line in self.lines(words) {
            let output = self.shell(&line);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {said}");
        }
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Asserts that the first words of each call are these.
    #[track_caller]
    fn check(&self, words: &str, expected: &[&str]) {
        let calls = self.calls(words);
        let starts = calls.iter().zip(expected);
        let same = starts.clone().all(|(call, start)| call.starts_with(start));
        assert!(
            calls.len() == expected.len() && same,
            "{words}: {calls:#?}, not {expected:#?}"
        );
    }
}

#[test]
fn a_directory_is_made_into_a_file_that_the_server_is_given() {
    let desk = Desk::new();
    desk.check(
        "'a b/my model' --scheme q8_0",
        &[
            "llama-server|-m|my model-Q8_0.gguf|-c|",
            "ollama|create|my-model-orin|-f|my-model-orin.Modelfile",
            "ollama|run|my-model-orin",
        ],
    );
    assert!(desk.path("my model-Q8_0.gguf").is_file());
    let modelfile = fs::read_to_string(desk.path("my-model-orin.Modelfile")).unwrap();
    assert!(modelfile.starts_with("FROM ./my model-Q8_0.gguf\nPARAMETER num_ctx "));
}

#[test]
fn a_file_is_served_from_where_it_lies() {
    let desk = Desk::new();
    desk.calls("'a b/my model' --scheme q8_0 --runtime llama-bench");
    fs::rename(desk.path("my model-Q8_0.gguf"), desk.path("a b/-x.gguf")).unwrap();
    desk.check(
        "./a\\ b/-x.gguf --runtime llama-bench",
        &["llama-bench|-m|./a b/-x.gguf|-p|"],
    );
    let absolute = desk.path("a b/-x.gguf").display().to_string();
    let start = format!("llama-bench|-m|{absolute}|-p|");
    desk.check(&format!("'{absolute}' --runtime llama-bench"), &[&start]);
}

#[test]
fn a_name_that_begins_with_a_dash_is_no_option() {
    let desk = Desk::new();
    fs::rename(desk.path("a b/my model"), desk.path("-dash")).unwrap();
    desk.check(
        "./-dash --scheme q8_0",
        &[
            "llama-server|-m|./-dash-Q8_0.gguf|",
            "ollama|create|dash-orin|",
            "ollama|run|dash-orin",
        ],
    );
}

#[test]
fn a_modelfile_that_is_there_stays() {
    let desk = Desk::new();
    desk.calls("'a b/my model' --scheme q8_0");
    let lines = desk.lines("'a b/my model' --scheme q8_0 --runtime ollama");
    fs::write(desk.path("my-model-orin.Modelfile"), "FROM mine\n").unwrap();
    fs::remove_file(desk.path("calls")).unwrap();
    let output = desk.shell(lines.last().unwrap());
    assert!(!output.status.success());
    let kept = fs::read_to_string(desk.path("my-model-orin.Modelfile")).unwrap();
    assert_eq!(kept, "FROM mine\n");
    assert!(
        !desk.path("calls").exists(),
        "nothing goes on with the old one"
    );
}

#[test]
fn the_build_at_hand_decides_how_weights_are_read() {
    let desk = Desk::new();
    let check = |words: &str, expected: &str, not: &str| {
        let lines = desk.lines(&format!("'a b/my model' --scheme q8_0 {words}"));
        let line = lines.iter().find(|line| line.starts_with("llama-"));
        let line = line.unwrap();
        assert!(line.contains(expected) && !line.contains(not), "{line}");
    };
    let (new, old) = (" --load-mode none", " --no-mmap");
    check("", new, old);
    check("--runtime-version b10108", new, old);
    check("--runtime-version b10107", old, new);
    check("--runtime-version 9000", old, new);
    check("--runtime-version 0.6.0-dev", new, old);
    check("--runtime llama.cpp-cpu --runtime-version b9000", old, new);
    let (new, old) = (" -lm none", " -mmp 0");
    check("--runtime llama-bench", new, old);
    check("--runtime llama-bench --runtime-version b9000", old, new);
    let note = "before b10108 takes --no-mmap instead of --load-mode none";
    assert!(desk.fit("'a b/my model'").contains(note));
    assert!(
        !desk
            .fit("'a b/my model' --runtime-version b9000")
            .contains(note)
    );
    let refused = desk.shell("orinplan fit 'a b/my model' --runtime vllm --runtime-version b9000");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn vllm_serves_what_was_made_in_the_container_of_its_jetpack() {
    let desk = Desk::new();
    let made = desk.path("my model-fp8");
    let made = fs::canonicalize(desk.path("."))
        .unwrap()
        .join(made.file_name().unwrap());
    let start = format!(
        "sudo|docker|run|--rm|-it|--runtime|nvidia|--network|host|--ipc|host|-v|{}:/model:ro|",
        made.display()
    );
    let six = format!(
        "{start}ghcr.io/nvidia-ai-iot/vllm:latest-jetson-orin|vllm|serve|/model|--served-model-name|my model|--max-model-len|"
    );
    let seven = format!("{start}vllm/vllm-openai:latest|/model|--served-model-name|my model|");
    let words = "'a b/my model' --scheme fp8 --runtime vllm";
    desk.check(&format!("{words} --l4t 36.4.7"), &[&six]);
    assert!(made.join("config.json").is_file());
    fs::remove_dir_all(&made).unwrap();
    desk.check(&format!("{words} --l4t 39.2"), &[&seven]);
    fs::remove_dir_all(&made).unwrap();
    desk.check(words, &[&six, &seven]);
    let text = desk.fit(&format!("{words} --l4t 35.4.1"));
    assert!(
        text.contains("no container of vLLM for L4T R35.4.1 is known"),
        "{text}"
    );
}

#[test]
fn runtimes_with_a_converter_of_their_own_are_given_the_directory() {
    let desk = Desk::new();
    desk.check(
        "'a b/my model' --runtime mlc --scheme int4",
        &[
            "mlc_llm|convert_weight|a b/my model|--quantization|q4f16_1|--device|cuda|-o|my model-q4f16_1-MLC",
            "mlc_llm|gen_config|a b/my model|--quantization|q4f16_1|--conv-template|qwen2|",
            "mlc_llm|compile|my model-q4f16_1-MLC/mlc-chat-config.json|--device|cuda|-o|my model-q4f16_1-MLC/model.so",
            "mlc_llm|serve|my model-q4f16_1-MLC|--model-lib|my model-q4f16_1-MLC/model.so|--device|cuda",
        ],
    );
    let lines = desk.lines("'a b/my model' --runtime tensorrt-edge-llm --scheme int4");
    let export = "tensorrt-edgellm-export 'my model-int4_awq' 'my model-onnx'";
    assert!(lines[0].starts_with("tensorrt-edgellm-quantize llm --model_dir 'a b/my model'"));
    assert!(lines[1].starts_with(export), "{lines:#?}");
}

#[test]
fn what_has_no_weights_has_no_lines_but_what_gets_them() {
    let desk = Desk::new();
    let check = |words: &str, lines: &[&str], says: &str| {
        assert_eq!(desk.lines(words), lines, "{words}");
        let text = desk.fit(words);
        assert!(text.contains(says), "{words}: {text}");
    };
    let nothing = "nothing to run yet: ";
    fs::create_dir(desk.path("cfg")).unwrap();
    let config = desk.path("a b/my model/config.json");
    fs::copy(&config, desk.path("cfg/config.json")).unwrap();
    check("cfg", &[], nothing);
    check("cfg --runtime vllm", &[], nothing);
    check("cfg --runtime mlc", &[], nothing);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let header = fixtures.join("qwen3-0.6b");
    check(&format!("'{}'", header.display()), &[], nothing);
    let header = fixtures.join("qwen3-0.6b-Q4_K_M.header.gguf");
    check(&format!("'{}'", header.display()), &[], nothing);
    let snapshot = desk.path("hub/models--me--mine/snapshots/1");
    fs::create_dir_all(&snapshot).unwrap();
    fs::copy(&config, snapshot.join("config.json")).unwrap();
    check("me/mine", &["hf download me/mine"], nothing);
}

#[test]
fn a_hub_id_is_told_to_those_that_know_it_and_a_path_to_the_others() {
    let desk = Desk::new();
    let snapshot = desk.path("hub/models--me--mine/snapshots/1");
    fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    fs::rename(desk.path("a b/my model"), &snapshot).unwrap();
    desk.check(
        "me/mine --scheme q8_0",
        &[
            "llama-server|-m|mine-Q8_0.gguf|",
            "ollama|create|mine-orin|",
            "ollama|run|mine-orin",
        ],
    );
    let lines = desk.lines("me/mine --scheme int4 --runtime mlc");
    let start = format!("mlc_llm convert_weight {} ", snapshot.display());
    assert!(lines[0].starts_with(&start), "{lines:#?}");
}

#[test]
fn a_missing_tokenizer_is_named_and_fetched_where_its_place_is_known() {
    let desk = Desk::new();
    let model = desk.path("a b/my model");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let words = "'a b/my model' --scheme q8_0";
    let text = desk.fit(words);
    assert!(
        text.contains("Make the file (its tokenizer is missing; "),
        "{text}"
    );
    let quantize = "orinplan quantize 'a b/my model' --scheme q8_0 --output 'my model-Q8_0.gguf'";
    assert_eq!(desk.lines(words)[0], quantize);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["_name_or_path"] = "Qwen/Qwen3-0.6B".into();
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let fetch = "hf download Qwen/Qwen3-0.6B tokenizer.json tokenizer_config.json --local-dir 'a b/my model'";
    assert_eq!(desk.lines(words)[..2], [fetch, quantize]);
    config["_name_or_path"] = "-x/$(reboot)".into();
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    assert_eq!(desk.lines(words)[0], quantize);
}
