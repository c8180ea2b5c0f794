//! `orinplan calibrate` on a board with a GPU: llama-bench runs synthetic models, and plans learn from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::schema;
use crate::support::{MODEL, Run, assert_error, run_in, run_on, run_on_board};

/// A program that stands for llama-bench: it notes its arguments, looks for a GGUF with weights where it is told, and
/// prints rates in the form of build 0c1e57098.
fn llama_bench(folder: &Path, backends: &str) -> PathBuf {
    let row = "'{\"build_commit\":\"0c1e57098\",\"build_number\":9000,\"backends\":\"%s\",\"model_filename\":\"%s\",\"n_prompt\":%d,\"n_gen\":%d,\"n_depth\":%d,\"samples_ts\":[%s,%s,%s]}'";
    let script = format!(
        "echo \"$@\" >> {log}\n\
        p=0; n=0; d=0\n\
        while [ $# -gt 0 ]; do case $1 in -m) m=$2 ;; -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; esac; shift 2; done\n\
        [ \"$(head -c 4 $m)\" = GGUF ] || exit 9\n\
        [ $(tail -c 1000 $m | tr -d '\\000' | wc -c) -gt 100 ] || exit 8\n\
        echo '['\n\
        if [ $p -gt 0 ]; then printf {row}',\\n' {backends} $m $p 0 $d 800 810 805; fi\n\
        printf {row}'\\n]\\n' {backends} $m 0 $n $d 110 111 112\n",
        log = folder.join("asked").display(),
    );
    program(folder, &script)
}

fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("llama-bench");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn calibrate(folder: &Path, program: &Path, more: &[&str]) -> Run {
    calibrate_in(folder, "orin-nano-8gb-r36.4.7-25w", program, more)
}

/// The same on another recorded machine.
fn calibrate_in(folder: &Path, machine: &str, program: &Path, more: &[&str]) -> Run {
    let mut words: Vec<&str> = vec!["calibrate", "--only", "gpu", "--program"];
    words.push(program.to_str().unwrap());
    if !more.contains(&"--seconds") {
        words.extend(["--seconds", "60"]);
    }
    words.extend(more);
    run_on(folder, machine, &words)
}

fn in_words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn llama_bench_measures_the_gpu_and_plans_learn_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bench = llama_bench(folder, "CUDA");
    let run = calibrate(folder, &bench, &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let words = in_words(&run.out);
    for part in [
        "The GPU in 25W, by 10 runs of synthetic models with llama.cpp b9000 0c1e57098 (CUDA), on Jetson Orin Nano 8GB Super",
        "synthetic-64x256 f16 decode 24",
        "synthetic-6x1024 q4_k a prompt of 512",
        "synthetic-6x1024 q4_k decode after 4096",
        "refined, as factors on times, +-: one standard deviation all times x 1.0",
        "bandwidth efficiency 0.76 -> 0.",
        "launches x 1.",
        "10 runs kept (",
        "plans for llama-bench and llama.cpp on this board in 25W use them",
    ] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
    let asked = fs::read_to_string(folder.join("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert_eq!(asked.len(), 10, "{asked:?}");
    let all = "-n 64 -r 3 -o json -fa 1 -ctk f16 -ctv f16 -ub 512";
    assert!(asked[0].ends_with(&format!("-p 0 {all}")), "{}", asked[0]);
    assert!(asked[4].ends_with(&format!("-p 512 {all}")), "{}", asked[4]);
    // One of each kind, then the second of each that has one.
    let models = |runs: &[usize]| -> Vec<&str> {
        let prompts = runs.iter().map(|run| asked[*run]);
        prompts
            .map(|words| words.split(' ').nth(3).unwrap())
            .collect()
    };
    assert_eq!(
        models(&[0, 2, 4, 5, 6, 8, 9]),
        ["0", "512", "512", "0", "0", "2048", "2048"]
    );
    assert!(asked[1].ends_with("-p 0 -n 64 -r 3 -o json -fa 1 -ctk f16 -ctv f16 -ub 512 -d 4096"));

    // In the store of `validate --save-calibration`, in its form.
    let runs = || fs::read_to_string(folder.join("orinplan/runs.toml")).unwrap();
    for (part, count) in [
        ("[[run]]", 10),
        ("synthetic = true", 10),
        ("runtime = \"llama-bench\"", 10),
        ("power_mode = \"25W\"", 10),
        ("[run.shares]", 10),
        ("[run.memory]", 0),
    ] {
        assert_eq!(runs().matches(part).count(), count, "{part}: {}", runs());
    }
    // Its runs are not taken for those of a published model, by no name of the board.
    for device in ["host", "orin-nano-8gb"] {
        let fit = run_on_board(
            folder,
            &["fit", MODEL, "--device", device, "--format", "json"],
        );
        assert!(
            fit.out.contains("of synthetic models with llama.cpp b9000"),
            "{device}: {}{}",
            fit.out,
            fit.err
        );
    }
    // Both runtimes that learn are named, with whose runs they learn from.
    let shown = run_on_board(folder, &["devices", "show", "host"]);
    let words = in_words(&shown.out);
    for part in [
        "- llama-bench, 25W: decode x ",
        "- llama.cpp (from runs of llama-bench), 25W: decode x ",
    ] {
        assert!(words.contains(part), "`{part}` is not in {words}");
    }
    let shown = run_on_board(folder, &["devices", "show", "host", "--format", "json"]);
    let shown = schema::document(&shown.out);
    let learned = shown["learned"].as_array().unwrap();
    let named = learned
        .iter()
        .map(|one| (&one["runtime"], &one["runs_of"][0]));
    let named: Vec<_> = named.collect();
    let [own, other] = ["llama-bench", "llama.cpp"].map(serde_json::Value::from);
    assert_eq!(named, [(&own, &own), (&other, &own)]);
    // The host of the one is not that of the other.
    let parameters = |index: usize| {
        let all = learned[index]["decode"]["parameters"].as_array();
        all.unwrap().len()
    };
    assert_eq!([parameters(0), parameters(1)], [6, 5]);
    // In another mode they correct too, and the plan says that they are of this one.
    let other = [
        "fit",
        MODEL,
        "--device",
        "host",
        "--power-mode",
        "15W",
        "--format",
        "json",
    ];
    let other = run_on_board(folder, &other);
    let note = "the runs on record are of 25W, so they correct rates in 15W less surely: measure there too, with ";
    for part in [
        "learned_in_other_mode",
        &format!("{note}`orinplan calibrate` or `orinplan validate"),
        "10 runs of synthetic models with llama.cpp b9000 0c1e57098 (CUDA) in 25W on ",
    ] {
        assert!(other.out.contains(part), "`{part}`: {}", other.out);
    }
    // On another machine `calibrate` would measure that.
    let named = [
        "fit",
        MODEL,
        "--device",
        "orin-nano-8gb",
        "--power-mode",
        "15W",
        "--format",
        "json",
    ];
    let named = run_in(folder, &named);
    assert!(
        named
            .out
            .contains(&format!("{note}`orinplan validate --save-calibration`")),
        "{}",
        named.out
    );
    // In its own mode it says neither.
    let own = run_on_board(
        folder,
        &["fit", MODEL, "--device", "host", "--format", "json"],
    );
    assert!(
        !own.out.contains("learned_in_other_mode") && !own.out.contains("(CUDA) in 25W on "),
        "{}",
        own.out
    );

    // A second one replaces them; what a user's model showed stays.
    let text = runs();
    let own = text[text.find("[[run]]").unwrap()..]
        .split("[[run]]")
        .nth(1)
        .unwrap();
    let own = own
        .replace("synthetic = true\n", "")
        .replace("synthetic-64x256", "mine");
    fs::write(
        folder.join("orinplan/runs.toml"),
        format!("{text}\n[[run]]{own}"),
    )
    .unwrap();
    let run = calibrate(folder, &bench, &["--format", "json"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let found = schema::document(&run.out);
    assert_eq!(runs().matches("[[run]]").count(), 11, "{}", runs());
    let gpu = &found["gpu"];
    assert_eq!(
        (&gpu["measured"], &gpu["runtime"]),
        (&true.into(), &"llama-bench".into())
    );
    assert_eq!(gpu["runs"].as_array().unwrap().len(), 10);
    assert_eq!(gpu["runs"][1]["depth"], 4096);
    assert_eq!(
        gpu["runs"][1]["decode_tokens_per_second"]["measured"],
        111.0
    );
    assert_eq!(
        gpu["learned"]["decode"]["parameters"][1]["parameter"],
        "bandwidth_efficiency"
    );

    let reset = run_on_board(folder, &["calibrate", "--reset"]);
    assert!(reset.out.contains("runs.toml"), "{}", reset.out);
    assert!(!folder.join("orinplan/runs.toml").exists());
}

/// One sentence says what the GPU lacks and what to do.
#[test]
fn a_gpu_that_cannot_be_measured_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let says = |run: Run, part: &str| {
        assert_error(&run, &[&format!("the GPU was not measured: {part}")]);
        assert!(!folder.join("orinplan/runs.toml").exists());
    };
    let bench = llama_bench(folder, "CPU");
    says(
        calibrate(folder, &bench, &[]),
        &format!(
            "{} (llama.cpp b9000 0c1e57098 (CPU)) was built without CUDA",
            bench.display()
        ),
    );
    // `backends` is what it was built for; it sees no device.
    let bench = llama_bench(folder, "CUDA");
    replace(&bench, "\"backends\"", "\"gpu_info\":\"\",\"backends\"");
    says(
        calibrate(folder, &bench, &[]),
        &format!(
            "{} (llama.cpp b9000 0c1e57098 (CUDA)) finds no GPU: add this user to the groups video and render, or start the container with `--runtime nvidia`",
            bench.display()
        ),
    );
    let bench = program(folder, "echo 'error: no device' >&2; exit 3");
    says(
        calibrate(folder, &bench, &[]),
        &format!("{} ended with", bench.display()),
    );
    let bench = program(folder, "sleep 60");
    says(
        calibrate_in(folder, "x86-laptop", &bench, &[]),
        "orinplan knows no GPU of this machine",
    );
    says(
        calibrate(folder, &bench, &["--seconds", "1"]),
        "llama-bench took longer than 1 s: allow more time, such as --seconds 3",
    );
    // A name that is wrong is an error, before anything is measured.
    assert_error(
        &calibrate(folder, &folder.join("nothing"), &[]),
        &["nothing: no such file"],
    );
}

/// Rates that no board has are told, each by itself, and kept nowhere.
#[test]
fn rates_that_cannot_be_are_told_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (rate, why) in [
        ("0.5", "its rate is more than 100 times off the prediction"),
        ("99999", "99999.0 tokens/s are above the"),
    ] {
        let bench = llama_bench(folder, "CUDA");
        replace(&bench, "110 111 112", &format!("{rate} {rate} {rate}"));
        let run = calibrate(folder, &bench, &[]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
        let words = in_words(&run.out);
        for line in [
            "synthetic-64x256: not measured: decode",
            "synthetic-64x256: not measured: decode after 4096",
            // Its prompt has a rate that can be.
            "synthetic-6x1024: not measured: decode",
        ] {
            assert!(words.contains(&format!("{line}: {why}")), "{words}");
        }
        assert!(
            words.contains("4 runs kept, 6 without a plausible rate ("),
            "{words}"
        );
        let kept = fs::read_to_string(folder.join("orinplan/runs.toml")).unwrap();
        assert_eq!(kept.matches("[[run]]").count(), 4, "{kept}");
        assert!(!kept.contains("[run.decode]"), "{kept}");
    }
}

/// Where none is plausible, those of an earlier calibration stay, and the report says so.
#[test]
fn a_calibration_without_a_plausible_rate_keeps_nothing_and_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("orinplan/runs.toml");
    let bench = llama_bench(folder, "CUDA");
    replace(&bench, "800 810 805", "0.001 0.001 0.001");
    replace(&bench, "110 111 112", "0.001 0.001 0.001");
    let run = calibrate(folder, &bench, &[]);
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
    let none = "The GPU was not measured: no run was kept: 10 without a plausible rate";
    let words = in_words(&run.out);
    assert!(words.ends_with(none), "{words}");
    assert!(!file.exists());
    calibrate(folder, &llama_bench(folder, "CUDA"), &[]);
    let before = fs::read_to_string(&file).unwrap();
    replace(&bench, "800 810 805", "0.001 0.001 0.001");
    replace(&bench, "110 111 112", "0.001 0.001 0.001");
    let run = calibrate(folder, &bench, &["--format", "json"]);
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
    let gpu = &schema::document(&run.out)["gpu"];
    assert_eq!(
        (&gpu["measured"], &gpu["runs"][0]["kept"]),
        (&false.into(), &false.into())
    );
    let why = gpu["not_measured"].as_str().unwrap();
    assert!(
        why.contains("`orinplan calibrate --reset` removes"),
        "{why}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from));
    fs::write(file, text.replace(from, to)).unwrap();
}

/// The shell's words for the number of runs that llama-bench was asked for.
fn asked(folder: &Path) -> String {
    format!("$(cat {}/asked 2>/dev/null | wc -l)", folder.display())
}

/// What fails alone costs itself; two runs in a row that fail end a calibration. Neither takes away what an earlier one kept.
#[test]
fn runs_that_fail_cost_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let count = || {
        let kept = fs::read_to_string(folder.join("orinplan/runs.toml")).unwrap();
        kept.matches("[[run]]").count()
    };
    let bench = llama_bench(folder, "CUDA");
    // A build from before it knew the flag.
    let unknown = "for word in \"$@\"; do [ \"$word\" = -d ] && { echo 'error: invalid parameter for argument: -d' >&2; exit 1; }; done";
    replace(&bench, "#!/bin/sh\n", &format!("#!/bin/sh\n{unknown}\n"));
    let run = calibrate(folder, &bench, &[]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let words = in_words(&run.out);
    assert!(
        words.contains("by 7 runs of synthetic models")
            && words.contains("use a build of llama.cpp from May 2025 or later")
            && words.contains("synthetic-2x5120"),
        "{words}"
    );
    assert_eq!(count(), 7);

    calibrate(folder, &llama_bench(folder, "CUDA"), &[]);
    assert_eq!(count(), 10);
    fs::remove_file(folder.join("asked")).unwrap();
    let crash = format!(
        "[ {} -ge 2 ] && {{ echo >> {}/crashed; exit 9; }}",
        asked(folder),
        folder.display()
    );
    replace(&bench, "#!/bin/sh\n", &format!("#!/bin/sh\n{crash}\n"));
    let run = calibrate(folder, &bench, &["--format", "json"]);
    let gpu = &schema::document(&run.out)["gpu"];
    assert_eq!(gpu["runs"].as_array().unwrap().len(), 2, "{gpu}");
    assert!(
        gpu["not_measured"].as_str().unwrap().contains("ended with"),
        "{gpu}"
    );
    assert_eq!(fs::read(folder.join("crashed")).unwrap().len(), 2);
    assert_eq!(count(), 10);
}

/// What was measured of the GPU stays, and is shown, where the processors' part ends early; and where it cannot be written
/// it is shown all the same.
#[test]
fn what_was_measured_survives_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bench = llama_bench(folder, "CUDA");
    let all = [
        "calibrate",
        "--seconds",
        "60",
        "--format",
        "json",
        "--program",
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .args(all)
        .arg(&bench)
        .env("XDG_CONFIG_HOME", folder)
        .env(
            "ORINPLAN_ROOT",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/orin-nano-8gb-r36.4.7-25w"),
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let file = folder.join("orinplan/runs.toml");
    while !file.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "error: the processors were not measured: interrupted\n"
    );
    let found = schema::document(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(found["gpu"]["runs"].as_array().unwrap().len(), 10);
    let kept = fs::read_to_string(&file).unwrap();
    assert_eq!(kept.matches("[[run]]").count(), 10);

    // Its file is damaged meanwhile.
    let damage = format!("echo '[[[' > {}", file.display());
    replace(&bench, "#!/bin/sh\n", &format!("#!/bin/sh\n{damage}\n"));
    let run = calibrate(folder, &bench, &[]);
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
    let words = in_words(&run.out);
    assert!(words.contains("synthetic-64x256 f16 decode 24"), "{words}");
    assert!(
        words.contains("not kept: ") && words.contains("runs.toml: "),
        "{words}"
    );
}

/// The user ends it while the GPU is measured.
#[test]
fn an_interrupt_keeps_the_runs_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bench = llama_bench(folder, "CUDA");
    // It asks for the end itself, in its third run.
    let ask = format!(
        "[ {} -ge 2 ] && {{ kill -INT $(cat {}/pid); sleep 60; }}",
        asked(folder),
        folder.display()
    );
    replace(&bench, "#!/bin/sh\n", &format!("#!/bin/sh\n{ask}\n"));
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/orin-nano-8gb-r36.4.7-25w");
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("echo $$ > {}/pid; exec \"$@\"", folder.display()))
        .args([
            "sh",
            env!("CARGO_BIN_EXE_orinplan"),
            "calibrate",
            "--only",
            "gpu",
            "--program",
        ])
        .arg(&bench)
        .env("XDG_CONFIG_HOME", folder)
        .env("ORINPLAN_ROOT", root)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let words = in_words(&String::from_utf8(output.stdout).unwrap());
    assert!(
        words.contains("the other runs are missing: interrupted")
            && words.contains("2 runs kept ("),
        "{words}"
    );
    let kept = fs::read_to_string(folder.join("orinplan/runs.toml")).unwrap();
    assert_eq!(kept.matches("[[run]]").count(), 2);
}

#[test]
fn a_program_for_the_processors_alone_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["calibrate", "--only", "cpu", "--program", "/bin/sh"];
    assert_error(
        &run_on_board(folder.path(), &words),
        &["--program names what measures the GPU", "--only cpu"],
    );
}

/// The numbers of the processors stand together, or none does.
#[test]
fn a_document_without_a_number_of_the_processors_is_not_one() {
    let gpu = serde_json::json!({ "measured": false, "not_measured": "why" });
    let alone = serde_json::json!({ "schema": "orinplan.calibrate/1", "gpu": gpu });
    assert!(schema::wrong(&alone).is_empty());
    let mut more = alone.clone();
    more["threads"] = 2.into();
    assert!(!schema::wrong(&more).is_empty());
    let mut nothing = alone;
    nothing["gpu"] = serde_json::Value::Null;
    assert!(!schema::wrong(&nothing).is_empty());
}

/// A copy of a recorded board that a test may change.
fn copied_board(folder: &Path) -> PathBuf {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let root = folder.join("root");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(recorded.join("orin-nano-8gb-r36.4.7-25w"))
        .arg(&root)
        .status();
    assert!(copied.unwrap().success());
    root
}

/// Other programs on the GPU, a clock below that of the mode, and heat: each is said before llama-bench starts.
#[test]
fn a_gpu_that_is_not_free_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = copied_board(folder);
    let bench = llama_bench(folder, "CUDA");
    let calibrate = || calibrate_in(folder, root.to_str().unwrap(), &bench, &[]);
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let refused = |why: &str| {
        let out = ", or measure the processors alone with --only cpu";
        assert_error(
            &calibrate(),
            &[&format!("the GPU was not measured: {why}{out}")],
        );
        assert!(!folder.join("asked").exists());
    };
    for path in [
        "sys/class/devfreq/17000000.gpu/device/load",
        "sys/devices/platform/gpu.0/load",
    ] {
        write(path, "430\n");
        refused("other programs keep it 43 % busy: end them");
        fs::remove_file(root.join(path)).unwrap();
    }
    let limit = "sys/class/devfreq/17000000.gpu/max_freq";
    write(limit, "612000000\n");
    refused(
        "its clock is held at 612 MHz at most, where 25W has 918 MHz: restart the board, which sets the mode again",
    );
    write(limit, "918000000\n");
    let cooling = "sys/class/thermal/cooling_device3";
    write(&format!("{cooling}/type"), "gpu-throttle-alert\n");
    write(&format!("{cooling}/cur_state"), "1\n");
    refused("the board throttles (gpu-throttle-alert is active): let it cool");
    write(&format!("{cooling}/cur_state"), "0\n");
    // A desktop's share, what is off, and what no driver says.
    for load in ["60\n", "0\n", "70000\n", "much\n", ""] {
        write("sys/class/devfreq/17000000.gpu/device/load", load);
        let run = calibrate();
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{load}: {}", run.out);
    }
}

/// The processors are measured all the same.
#[test]
fn the_processors_are_measured_beside_a_busy_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = copied_board(folder);
    let device = root.join("sys/class/devfreq/17000000.gpu/device");
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("load"), "999\n").unwrap();
    let bench = llama_bench(folder, "CUDA");
    let words = ["calibrate", "--seconds", "15", "--format", "json"];
    let words = [&words[..], &["--program", bench.to_str().unwrap()]].concat();
    let run = run_on(folder, root.to_str().unwrap(), &words);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let found = schema::document(&run.out);
    assert_eq!(found["gpu"]["measured"], false);
    let why = found["gpu"]["not_measured"].as_str().unwrap();
    assert!(why.contains("100 % busy"), "{why}");
    assert!(found["bandwidth_bytes_per_second"].is_number());
    assert!(!folder.join("orinplan/runs.toml").exists());
}

/// Before a model takes memory, and before llama-bench is started.
#[test]
fn too_little_memory_is_said_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = copied_board(folder);
    let memory = root.join("proc/meminfo");
    let text = fs::read_to_string(&memory).unwrap();
    fs::write(&memory, text.replace("6710886 kB", "204800 kB")).unwrap();
    let bench = llama_bench(folder, "CUDA");
    // An absolute path stands for itself.
    let run = calibrate_in(folder, root.to_str().unwrap(), &bench, &[]);
    assert_error(
        &run,
        &[
            "the GPU was not measured: synthetic-64x256 needs ",
            "of memory, and 200.0 MiB are available: end other programs",
        ],
    );
    assert!(!folder.join("asked").exists());
}

/// Where there is no time for all models, those that were measured count.
#[test]
fn what_was_measured_in_time_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bench = llama_bench(folder, "CUDA");
    let twice = format!("[ {} -ge 2 ] && sleep 60", asked(folder));
    replace(&bench, "#!/bin/sh\n", &format!("#!/bin/sh\n{twice}\n"));
    let run = calibrate(folder, &bench, &["--seconds", "5"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    let words = in_words(&run.out);
    assert!(words.contains("by 2 runs of synthetic models"), "{words}");
    assert!(
        words.contains("the other runs are missing: llama-bench took longer than 5 s"),
        "{words}"
    );
}

#[test]
fn an_interrupt_ends_the_program_that_it_started_and_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let bench = program(
        folder.path(),
        &format!(
            "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60",
            started.display()
        ),
    );
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/orin-nano-8gb-r36.4.7-25w");
    let child = Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .args(["calibrate", "--program"])
        .arg(&bench)
        .env("XDG_CONFIG_HOME", folder.path())
        .env("ORINPLAN_ROOT", root)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !started.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "error: interrupted; nothing was kept\n");
    let stat = format!(
        "/proc/{}/stat",
        fs::read_to_string(&started).unwrap().trim()
    );
    let is_over = fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z "));
    assert!(is_over, "llama-bench lives on");
    assert!(!folder.path().join("orinplan/runs.toml").exists());
    assert!(!folder.path().join("orinplan/calibration.toml").exists());
}

/// The processors are measured all the same.
#[test]
fn without_llama_bench_the_processors_are_measured_and_the_way_out_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/orin-nano-8gb-r36.4.7-25w");
    let output = Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .args(["calibrate", "--seconds", "15", "--format", "json"])
        .env("XDG_CONFIG_HOME", folder.path())
        .env("ORINPLAN_ROOT", root)
        .env("PATH", "/nothing-here")
        .output()
        .unwrap();
    let found = schema::document(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(found["gpu"]["measured"], false);
    let why = found["gpu"]["not_measured"].as_str().unwrap();
    assert!(
        why.contains("llama-bench was not found") && why.contains("--program FILE"),
        "{why}"
    );
    assert!(found["bandwidth_bytes_per_second"].is_number());
    // Nothing was kept of a GPU.
    let words = ["fit", MODEL, "--device", "host", "--format", "json"];
    let fit = run_on_board(folder.path(), &words);
    assert!(
        fit.out.contains("orinplan.fit/1") && !fit.out.contains("synthetic"),
        "{}{}",
        fit.out,
        fit.err
    );
}
