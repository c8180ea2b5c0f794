//! llama-bench: found, run, read, and the verdict over what it says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{MODEL, Run, assert_error, document, run_in, run_on_board};

/// A folder with a small GGUF, settings, and a program that stands for llama-bench.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        // The header of a real file with a hole in the place of its weights.
        let model = folder.path().join("m.gguf");
        fs::copy(MODEL, &model).unwrap();
        let plan = run_in(folder.path(), &["fit", MODEL, "--format", "json"]);
        let bytes = document(&plan, 0)["plans"][0]["file_bytes"]
            .as_u64()
            .unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(&model)
            .unwrap()
            .set_len(bytes)
            .unwrap();
        Machine { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a program of this shell script.
    fn program(&self, script: &str) -> PathBuf {
        let path = self.path("llama-bench");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn run(&self, words: &[&str]) -> Run {
        let model = self.path("m.gguf");
        let fixed = [
            "validate",
            model.to_str().unwrap(),
            "--backend",
            "llama-bench",
            "--device",
            "orin-nano-8gb",
        ];
        run_on_board(self.folder.path(), &[&fixed, words].concat())
    }

    fn measured(&self, code: i32, script: &str) -> Value {
        let program = self.program(script);
        let run = self.run(&["--program", program.to_str().unwrap(), "--format", "json"]);
        document(&run, code)
    }
}

/// What llama-bench prints for these rates, in the form of build 0c1e57098.
fn rows(backends: &str, prefill: &[f64], decode: &[f64]) -> String {
    let row = |prompt: u64, generated: u64, rates: &[f64]| {
        format!(
            "{{\"build_commit\":\"0c1e57098\",\"build_number\":9000,\"cpu_info\":\"ARM\",\"gpu_info\":\"Orin\",\"backends\":\"{backends}\",\"model_filename\":\"m.gguf\",\"model_type\":\"qwen3\",\"n_prompt\":{prompt},\"n_gen\":{generated},\"n_depth\":0,\"avg_ts\":1.0,\"stddev_ts\":0.0,\"samples_ns\":[1],\"samples_ts\":{rates:?}}}"
        )
    };
    format!(
        "cat <<'END'\n[\n{},\n{}\n]\nEND",
        row(128, 0, prefill),
        row(0, 64, decode)
    )
}

#[test]
fn its_samples_are_the_repeats() {
    let found = Machine::new().measured(
        1,
        &rows("CUDA", &[100.0, 110.0, 120.0], &[10.0, 12.0, 11.0]),
    );
    assert_eq!(found["runtime"]["id"], "llama-bench");
    assert_eq!(
        found["measured"]["engine"],
        "llama.cpp b9000 0c1e57098 (CUDA)"
    );
    assert_eq!(found["measured"]["prefill_tokens_per_second"], 110.0);
    let decode = &found["measured"]["spread"]["decode_tokens_per_second"];
    assert_eq!(
        (&decode["mean"], &decode["standard_deviation"]),
        (&11.0.into(), &1.0.into())
    );
    assert_eq!(
        (&decode["least"], &decode["most"]),
        (&10.0.into(), &12.0.into())
    );
    assert_eq!(
        found["measured"]["time_to_first_token_seconds"],
        Value::Null
    );
    // Published runs of this file on this board are at 30 to 40 tokens a second: eleven are far off.
    assert_eq!(found["within_tolerance"], false);
    assert!(found["error"]["decode_percent"].as_f64().unwrap() > 100.0);
}

#[test]
fn a_build_without_the_gpu_is_the_first_reason() {
    let context = Machine::new();
    let program = context.program(&rows("CPU", &[100.0], &[10.0]));
    let run = context.run(&["--program", program.to_str().unwrap()]);
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    let words = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("OFF by more than 15 %"), "{words}");
    assert!(words.contains("likely reasons, as seen on this machine: - llama.cpp b9000 0c1e57098 (CPU) ran on the CPU"), "{words}");
    // A build with CUDA that sees no device.
    let blind = rows("CUDA", &[100.0], &[10.0]).replace("\"Orin\"", "\"\"");
    let found = context.measured(1, &blind);
    assert!(
        found.to_string().contains("(CUDA) ran on the CPU"),
        "{found}"
    );
}

#[test]
fn what_is_no_llama_bench_is_told() {
    let context = Machine::new();
    let run = |script: &str| {
        let program = context.program(script);
        context.run(&["--program", program.to_str().unwrap()])
    };
    assert_error(
        &run("echo 'error: unknown model' >&2; exit 3"),
        &["llama-bench ended with", "3", "unknown model"],
    );
    assert_error(&run("echo hello"), &["no result of llama-bench", "hello"]);
    assert_error(&run("echo '[]'"), &["no test of a prompt"]);
    assert_error(&run(&rows("CUDA", &[], &[])), &["no samples"]);
    assert_error(&run("kill -9 $$"), &["ended with", "signal"]);
    let missing = context.path("no-such-program");
    assert_error(
        &context.run(&["--program", missing.to_str().unwrap()]),
        &["cannot run", "no-such-program"],
    );
    assert_error(
        &context.run(&["--prompt", "Hi", "--program", "/bin/true"]),
        &["--prompt-tokens"],
    );
}

#[test]
fn it_is_found_in_path_and_nowhere_that_a_stranger_may_have_filled() {
    let context = Machine::new();
    let program = context.program(&rows("CUDA", &[1000.0], &[40.0]));
    let model = fs::canonicalize(context.path("m.gguf")).unwrap();
    // A cloned repository, and builds in the home folder.
    for folder in ["build/bin", "llama.cpp/build/bin", ".local/bin"] {
        fs::create_dir_all(context.path(folder)).unwrap();
        fs::copy(&program, context.path(folder).join("llama-bench")).unwrap();
    }
    let run = |path: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_orinplan"))
            .current_dir(context.folder.path())
            .env("XDG_CONFIG_HOME", context.folder.path())
            .env("HOME", context.folder.path())
            .env("PATH", path)
            .args([
                "validate",
                model.to_str().unwrap(),
                "--backend",
                "llama-bench",
                "--device",
                "orin-nano-8gb",
            ])
            .output()
            .unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    for path in [
        "",
        ":/bin",
        "/bin:",
        ".:/bin",
        "build/bin:/bin",
        "./build/bin:/bin",
    ] {
        assert_error(
            &run(path),
            &["llama-bench was not found", "PATH", "--program"],
        );
    }
    let listed = format!("{}:/bin", context.path("build/bin").display());
    let found = run(&listed);
    assert!(
        found.code < 2 && found.out.contains("llama.cpp b9000"),
        "{}{}",
        found.out,
        found.err
    );
}

#[test]
fn figures_that_none_can_have_are_not_measured() {
    let context = Machine::new();
    for (prefill, decode, says) in [
        (1000.0, -1000.0, "-1000 tokens/s is not a rate"),
        (1000.0, 0.0, "0 tokens/s is not a rate"),
        (
            1000.0,
            219_732.0,
            "219732.0 tokens/s are above the 172.4 that Jetson Orin Nano 8GB Super in 15W can reach",
        ),
        // 102 GB/s instead of 68 GB/s.
        (1000.0, 200.0, "MAXN_SUPER would allow"),
    ] {
        let program = context.program(&rows("CUDA", &[prefill, prefill], &[40.0, decode]));
        let words = [
            "--program",
            program.to_str().unwrap(),
            "--format",
            "json",
            "--power-mode",
            "15W",
        ];
        let found = document(&context.run(&words), 1);
        assert_eq!(found["measured"]["decode_tokens_per_second"], Value::Null);
        assert_eq!(found["measured"]["prefill_tokens_per_second"], 1000.0);
        assert_eq!(
            found["not_measured"][0]["quantity"],
            "decode_tokens_per_second"
        );
        let reason = found["not_measured"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(says), "{reason}");
    }
    let nothing = context.measured(1, &rows("CUDA", &[0.0], &[0.0]));
    assert_eq!(nothing["verdict"], "nothing_to_compare");
    assert_eq!(nothing["workload"]["repeats"], 1);
}

#[test]
fn results_of_something_else_are_not_believed() {
    let context = Machine::new();
    let right = rows("CUDA", &[1000.0], &[40.0]);
    for (from, to, says) in [
        ("m.gguf", "other/x.gguf", "of the model `other/x.gguf`"),
        (
            "\"n_depth\":0",
            "\"n_depth\":4096",
            "a cache with 4096 tokens instead",
        ),
        (
            "\"n_gen\":64",
            "\"n_gen\":18446744073709551615",
            "18446744073709551615 generated",
        ),
        ("\"n_gen\":64", "\"n_gen\":8", "instead of 0 and 64"),
        (
            "\"n_prompt\":128",
            "\"n_prompt\":512",
            "it is of 512 tokens of prompt",
        ),
    ] {
        let program = context.program(&right.replace(from, to));
        let run = context.run(&["--program", program.to_str().unwrap()]);
        assert_error(&run, &["no result of llama-bench", says]);
    }
    // The whole path of the model, and a build that does not say it.
    for name in ["/some/where/m.gguf", ""] {
        context.measured(1, &right.replace("m.gguf", name));
    }
}

#[test]
fn the_memory_of_a_script_is_not_that_of_a_model() {
    let context = Machine::new();
    let memory = |script: &str| {
        let program = context.program(&format!("{script}\n{}", rows("CPU", &[1000.0], &[40.0])));
        let model = context.path("m.gguf");
        let words = [
            "validate",
            model.to_str().unwrap(),
            "--backend",
            "llama-bench",
            "--device",
            "host",
        ];
        let run = run_in(
            context.folder.path(),
            &[&words[..], &["--program", program.to_str().unwrap()]].concat(),
        );
        assert_eq!(run.err, "");
        run.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = memory("sleep 1.5");
    assert!(
        text.contains("not measured: resident in the process: ")
            && text.contains("of weights that every token reads: it does not include them"),
        "{text}"
    );
    // What a script starts is counted: 200 MB in a shell's variable, for a moment too short to believe it.
    let text = memory("sh -c 'x=$(head -c 200000000 /dev/zero | tr \"\\0\" x); sleep 0.4'");
    assert!(!text.contains("peak memory 1"), "{text}");
}

#[test]
fn it_ends_with_all_that_it_started_and_cannot_print_without_end() {
    let context = Machine::new();
    let left = context.path("left");
    // The shell ends at once, and what it started keeps its pipes.
    let lingering = format!(
        "(sleep 2; touch {}) &\n{}",
        left.display(),
        rows("CUDA", &[1000.0], &[40.0])
    );
    let since = std::time::Instant::now();
    context.measured(1, &lingering);
    // One that has left the group is not waited for either, and ends as well.
    let apart = format!(
        "setsid sh -c 'sleep 2; touch {}' &\n{}",
        left.display(),
        rows("CUDA", &[1000.0], &[40.0])
    );
    context.measured(1, &apart);
    assert!(since.elapsed().as_secs() < 15);
    let program = context.program("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_error(
        &context.run(&["--program", program.to_str().unwrap()]),
        &["printed more than 16 MiB"],
    );
    let program = context.program("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa >&2");
    assert_error(
        &context.run(&["--program", program.to_str().unwrap()]),
        &["printed more than 16 MiB"],
    );
    let program = context.program("sleep 60");
    let words = [
        "--program",
        program.to_str().unwrap(),
        "--timeout",
        "1",
        "--tokens",
        "4",
        "--repeats",
        "1",
    ];
    // Twice (2 s + 4 s).
    assert_error(
        &context.run(&words),
        &["did not end within 12 s", "--timeout"],
    );
    assert!(!left.exists(), "what it had started lived on");
}

#[test]
fn a_model_that_this_machine_cannot_hold_is_not_tried() {
    let context = Machine::new();
    let program = context.program("echo started > started; exit 1");
    let fixed = [
        "--program",
        program.to_str().unwrap(),
        "--context",
        "1000000000",
    ];
    let run = context.run(&[&fixed[..], &["--format", "json"]].concat());
    let found = document(&run, 1);
    assert_eq!(
        (&found["verdict"], &found["measured"]),
        (&"does_not_fit".into(), &Value::Null)
    );
    let text = context.run(&fixed);
    assert_eq!(text.code, 1);
    assert!(
        text.out.contains("NOT TRIED: it needs ") && text.out.contains("--context "),
        "{}",
        text.out
    );
}

/// Boards differ in what their drivers grant, and a load that a driver refuses harms nothing: the run tells.
#[test]
fn a_model_that_the_driver_may_refuse_is_tried() {
    let context = Machine::new();
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/profiles/boards/orin-nano-8gb.toml"
    );
    let board = fs::read_to_string(shipped).unwrap();
    let strict = board.replacen("value = \"6166843392 B\"", "value = \"1 MiB\"", 1);
    fs::write(context.path("strict.toml"), strict).unwrap();
    let program = context.program(&rows("CUDA", &[900.0], &[60.0]));
    let [model, board] = ["m.gguf", "strict.toml"].map(|name| context.path(name));
    let words = [
        "validate",
        model.to_str().unwrap(),
        "--backend",
        "llama-bench",
        "--device",
        board.to_str().unwrap(),
        "--program",
        program.to_str().unwrap(),
        "--format",
        "json",
    ];
    let run = run_on_board(context.folder.path(), &words);
    let found: Value = serde_json::from_str(&run.out).expect(&run.err);
    assert_ne!(found["verdict"], "does_not_fit");
    assert_ne!(found["measured"], Value::Null);
}

#[test]
fn an_interrupt_ends_the_program_and_the_measurement() {
    let context = Machine::new();
    let started = context.path("started");
    let program = context.program(&format!("touch {}; sleep 60", started.display()));
    let model = context.path("m.gguf");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_CONFIG_HOME", context.folder.path())
        .args([
            "validate",
            model.to_str().unwrap(),
            "--backend",
            "llama-bench",
            "--device",
            "orin-nano-8gb",
        ])
        .args(["--program", program.to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Signals are caught before the program is started.
    while !started.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: interrupted; nothing was kept\n"
    );
}

/// Killed, `orinplan` has no time to end what it started: the kernel does.
#[cfg(target_os = "linux")]
#[test]
fn it_ends_with_an_orinplan_that_is_killed() {
    let machine = Machine::new();
    let started = machine.path("started");
    // The number of the process, whole before it is looked for.
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60",
        started.display()
    );
    let program = machine.program(&script);
    let model = machine.path("m.gguf");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_CONFIG_HOME", machine.folder.path())
        .args(["validate", model.to_str().unwrap()])
        .args(["--backend", "llama-bench", "--device", "orin-nano-8gb"])
        .args(["--program", program.to_str().unwrap()])
        .spawn()
        .unwrap();
    while !started.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = fs::read_to_string(&started).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    assert!(fs::read_to_string(&stat).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    // What is dead may not have been waited for by whoever inherited it.
    let is_dead = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let since = std::time::Instant::now();
    while !is_dead() {
        assert!(since.elapsed().as_secs() < 30, "it lives on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_run_on_another_machine_has_no_verdict_and_is_not_kept() {
    let machine = Machine::new();
    let program = machine.program(&rows("CPU", &[100.0], &[10.0]));
    let model = machine.path("m.gguf");
    let run = |more: &[&str]| {
        let fixed = ["validate", model.to_str().unwrap(), "--program"];
        let planned = ["--backend", "llama-bench", "--device", "agx-orin-64gb"];
        let words = [&fixed[..], &[program.to_str().unwrap()], &planned, more].concat();
        run_on_board(machine.folder.path(), &words)
    };
    let text = run(&["--save-calibration"]);
    assert_eq!(text.code, 1);
    let words = text.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("NOTHING TO COMPARE: it did not run on the planned machine likely reasons, as seen on this machine: - it ran on this machine (Jetson Orin Nano 8GB Super), which is not a Jetson AGX Orin 64GB: run it there"),
        "{words}"
    );
    assert!(
        !words.contains(" by +") && !words.contains("OFF"),
        "{words}"
    );
    let why =
        "it runs on this machine (Jetson Orin Nano 8GB Super), which is not a Jetson AGX Orin 64GB";
    assert!(words.contains(&format!("not kept: {why}")), "{words}");
    assert!(text.err.contains(why), "{}", text.err);
    let found = document(&run(&["--format", "json"]), 1);
    assert_eq!(found["verdict"], "nothing_to_compare");
    assert_eq!(found["error"]["decode_percent"], Value::Null);
    assert_eq!(found["checks"][0]["code"], "another_machine");
    assert_eq!(found["measured"]["decode_tokens_per_second"], 10.0);
}
