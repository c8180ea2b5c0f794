//! Which board is planned when none is named: the command on recorded machines.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::support::{QWEN, Run, command, left, recorded, run_with, says};

const NANO: &str = "orin-nano-8gb-r36.4.7-25w";

/// A run on the machine whose root directory is `root`.
fn run_on(root: &Path, words: &str) -> Run {
    let mut command = command();
    command.env("ORINPLAN_ROOT", root);
    left(command.args(words.split_whitespace()).output().unwrap())
}

/// The document of a run on a recorded machine.
#[track_caller]
fn document_on(root: &Path, code: i32, words: &str) -> Json {
    let run = run_on(root, &format!("{words} --format json"));
    assert_eq!((run.code, run.err.as_str()), (code, ""), "{words}");
    crate::schema::document(&run.out)
}

fn board_line(run: &Run) -> &str {
    let mut lines = run.out.lines();
    lines.find(|line| line.starts_with("Jetson ")).unwrap()
}

#[test]
fn on_a_board_that_board_is_planned() {
    for (machine, id, mode, available, line) in [
        (
            NANO,
            "orin-nano-8gb",
            "25W",
            6_710_886 * 1024_u64,
            "Jetson Orin Nano 8GB Super, 25W in force, L4T R36.4.7: this machine",
        ),
        (
            "orin-nano-8gb-r36.5.0-maxn-super",
            "orin-nano-8gb",
            "MAXN_SUPER",
            7_130_316 * 1024,
            "Jetson Orin Nano 8GB Super, MAXN_SUPER in force, L4T R36.5.0: this machine",
        ),
        (
            "agx-orin-64gb-r36.4.3-30w",
            "agx-orin-64gb",
            "30W",
            61_865_984 * 1024,
            "Jetson AGX Orin 64GB, 30W in force, L4T R36.4.3: this machine",
        ),
    ] {
        let root = recorded(machine);
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap();
        assert!(
            meminfo.contains(&format!("{} kB", available / 1024)),
            "{meminfo}"
        );
        let words = format!("fit {QWEN}");
        let document = document_on(&root, 0, &words);
        assert_eq!(document["device"]["id"], id);
        assert_eq!(document["device"]["power_mode"], mode);
        assert_eq!(document["device"]["memory_available_bytes"], available);
        assert_eq!(board_line(&run_on(&root, &words)), line);
        let roofline = run_on(&root, "roofline --nominal n:1B:4");
        assert_eq!(board_line(&roofline), line);
        // The same as `host`, which names it; another is planned where another is named.
        assert_eq!(
            document,
            document_on(&root, 0, &format!("{words} --device host"))
        );
        let other = run_on(&root, &format!("{words} --device orin-nx-16gb"));
        assert_eq!(
            board_line(&other),
            "Jetson Orin NX 16GB, 15W (its default): named by --device"
        );
    }
}

#[test]
fn elsewhere_the_super_board_is_planned_in_the_mode_it_starts_in() {
    let root = recorded("x86-laptop");
    let run = run_on(&root, &format!("fit {QWEN} --scheme q8_0"));
    assert_eq!(
        board_line(&run),
        "Jetson Orin Nano 8GB Super, 25W (its default): no --device given, no Orin here"
    );
    let rates = run
        .out
        .lines()
        .find(|line| line.starts_with("by power mode: "));
    let rates: Vec<&str> = rates.unwrap().split_whitespace().collect();
    for mode in ["7W", "15W", "25W", "MAXN_SUPER"] {
        let place = rates.iter().position(|word| *word == mode).unwrap();
        let single = run_on(
            &root,
            &format!("fit {QWEN} --scheme q8_0 --power-mode {mode}"),
        );
        let rate = rates[place + 1].trim_end_matches(',');
        let row = single.out.lines().find(|line| line.starts_with(" *  "));
        let mut cells = row.unwrap().split_whitespace();
        assert!(
            cells.any(|cell| cell == rate),
            "{mode}: {rate}\n{}",
            single.out
        );
    }
    assert!(rates.ends_with(&["tokens/s"]));
    // On the machine its mode is known, and a board that is changed has no modes of that kind.
    let quiet = |run: Run| assert!(!run.out.contains("by power mode"), "{}", run.out);
    quiet(run_on(
        &recorded(NANO),
        &format!("fit {QWEN} --scheme q8_0"),
    ));
    quiet(run_on(&root, &format!("fit {QWEN} --what-if sm-count=16")));
    // A folder that is no machine's root is no board either.
    let nowhere = run_on(
        Path::new("no-root-here"),
        &format!("fit {QWEN} --scheme q8_0"),
    );
    assert_eq!(nowhere.out, run.out);
}

/// R36.4.7 refuses one allocation above 1.5 GB, and it is the release of the machine that says so.
#[test]
fn the_release_of_the_machine_decides_without_being_named() {
    let words = "fit fixtures/gemma-3n-e2b-it --scheme q4_k_m";
    let (old, new) = (recorded(NANO), recorded("orin-nano-8gb-r36.5.0-maxn-super"));
    let refused = run_on(&old, words);
    assert_eq!(refused.code, 1, "{}", refused.out);
    let flat = refused.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("tokens of context: one allocation of 3."),
        "{flat}"
    );
    assert!(flat.contains("fails on L4T R36.4.7"), "{flat}");
    assert!(
        flat.contains("1. update to JetPack 6.2.2 (L4T R36.5.0) or later: Q4_K_M fits as asked"),
        "{flat}"
    );
    assert_eq!(run_on(&old, &format!("{words} --l4t 36.5.0")).code, 0);
    assert_eq!(run_on(&new, words).code, 0);
    assert_eq!(run_on(&new, &format!("{words} --l4t 36.4.7")).code, 1);
}

/// A board without the Super modes is the one that it was first sold as, in 15W.
#[test]
fn a_board_without_super_modes_is_the_older_one() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(
        "proc/device-tree/compatible",
        "nvidia,p3767-0003\0nvidia,tegra234\0",
    );
    put(
        "proc/meminfo",
        "MemTotal: 7800000 kB\nMemAvailable: 6900000 kB\n",
    );
    let line =
        |words: &str| board_line(&run_on(root.path(), &format!("fit {QWEN} {words}"))).to_owned();
    // Nothing tells of Super.
    assert_eq!(line(""), "Jetson Orin Nano 8GB, 15W assumed: this machine");
    put(
        "proc/device-tree/model",
        "NVIDIA Jetson Orin Nano Developer Kit Super\0",
    );
    assert_eq!(
        line(""),
        "Jetson Orin Nano 8GB Super, 25W assumed: this machine"
    );
    // Its configuration is right about it, whatever the firmware calls it.
    let conf = "< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 624750000\n\
                < POWER_MODEL ID=1 NAME=7W >\nGPU MAX_FREQ 408000000\n< PM_CONFIG DEFAULT=0 >\n";
    put("etc/nvpmodel.conf", conf);
    assert_eq!(line(""), "Jetson Orin Nano 8GB, 15W assumed: this machine");
    put("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n");
    assert_eq!(line(""), "Jetson Orin Nano 8GB, 7W in force: this machine");
    assert_eq!(
        line("--power-mode 15W"),
        "Jetson Orin Nano 8GB, 15W: this machine"
    );
    let run = run_on(root.path(), &format!("fit {QWEN} --power-mode 25W"));
    assert!(run.err.contains("its modes are 7W, 15W"), "{}", run.err);
}

/// What other programs hold now is named as what to change, with what an idle board leaves.
#[test]
fn a_busy_machine_is_told_what_it_leaves_when_idle() {
    let root = tempfile::tempdir().unwrap();
    let files = [
        "proc/device-tree/compatible",
        "etc/nvpmodel.conf",
        "var/lib/nvpmodel/status",
    ];
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(recorded(NANO).join(file), path).unwrap();
    }
    let meminfo = "MemTotal: 7802880 kB\nMemAvailable: 900000 kB\n";
    fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
    let document = document_on(root.path(), 1, &format!("fit {QWEN} --scheme q4_k_m"));
    let first = document["advice"][0].as_str().unwrap();
    assert_eq!(
        first,
        "close other programs (about 6.61 GiB are available on an idle board): Q4_K_M fits as asked"
    );
}

/// Another board's numbers would be wrong for it.
#[test]
fn a_jetson_without_a_profile_is_not_planned_as_another() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "proc/device-tree/compatible",
        "nvidia,p3737-0000+p3701-0008\0nvidia,p3701-0008\0nvidia,tegra234\0",
    );
    write(
        "proc/device-tree/model",
        "NVIDIA Jetson AGX Orin Industrial\0",
    );
    write(
        "proc/meminfo",
        "MemTotal: 64000000 kB\nMemFree: 60000000 kB\nMemAvailable: 62000000 kB\n",
    );
    let run = run_on(root.path(), &format!("fit {QWEN}"));
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(
        run.err.contains("`NVIDIA Jetson AGX Orin Industrial`")
            && run.err.contains("agx-orin-64gb), or a profile"),
        "{}",
        run.err
    );
    let run = run_on(root.path(), &format!("fit {QWEN} --device agx-orin-64gb"));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn a_release_is_one_of_l4t() {
    use crate::support::refused;
    let words = |release: &str| format!("fit {QWEN} --l4t {release}");
    refused(
        &words("6.2.1"),
        &["6.2.1 is a version of JetPack", "R36.4.4, up to R36.5.0"],
    );
    refused(&words("99.9.9"), &["begins with 35, 36, 38 or 39"]);
    let printed = run_on(&recorded("x86-laptop"), &words("R36.4.7"));
    assert_eq!((printed.code, printed.err.as_str()), (0, ""));
}

/// Clocks and system are those of the machine at hand unless flags say otherwise; measurements say what both change, and
/// the evidence comes from a board under the same.
#[test]
fn clocks_and_system_are_inputs_of_the_speed() {
    let nano = recorded("orin-nano-8gb-r36.5.0-maxn-super");
    let plan = |root: &Path, more: &str| {
        let words = format!("fit {QWEN} --scheme q4_k_m --format json {more}");
        let run = run_on(root, &words);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{words}");
        crate::schema::document(&run.out)
    };
    let rates = |plan: &Json| {
        let rate = |part: &str| {
            let rate = &plan["plans"][0][part]["tokens_per_second"]["expected"];
            rate.as_f64().unwrap()
        };
        [rate("decode"), rate("prefill")]
    };
    let at_hand = plan(&nano, "");
    assert_eq!(at_hand["device"]["clocks"], "governed");
    assert_eq!(at_hand["device"]["l4t_release"], "R36.5.0");
    assert_eq!(rates(&at_hand), rates(&plan(&nano, "--clocks governed")));
    let board = |more: &str| {
        let words = format!("--device orin-nano-8gb --power-mode MAXN_SUPER {more}");
        plan(&recorded("x86-laptop"), &words)
    };
    let unknown = board("");
    assert_eq!(unknown["device"]["clocks"], Json::Null);
    let locked = board("--clocks locked --l4t 36.5.0");
    assert_eq!(rates(&unknown), rates(&locked));
    for (slower, [decode, prompt]) in [
        (board("--clocks governed"), [1.007, 1.010]),
        (board("--l4t 36.3.0"), [1.02, 1.049]),
    ] {
        let [d, p] = rates(&slower);
        let [most, read] = rates(&unknown);
        assert!((most / d - decode).abs() < 0.002, "{most} {d}");
        assert!((read / p - prompt).abs() < 0.003, "{read} {p}");
    }
    let from =
        |plan: &Json| plan["plans"][0]["decode"]["evidence"]["nearest"]["l4t_release"].clone();
    assert_eq!(from(&locked), "36.4.7");

    let explained = |words: &str| {
        let words = format!("fit {QWEN} --device agx-orin-64gb --scheme q4_k_m --explain {words}");
        let run = run_on(&nano, &words);
        run.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let told = explained("--clocks governed --l4t 36.3.0");
    assert!(
        told.contains(
            "clocks that the system governs: 0.7 % more time a token, 1.0 % for the prompt"
        ),
        "{told}"
    );
    assert!(
        told.contains("JetPack 6.0 (L4T R36.3.0): 2.0 % more time a token, 4.9 %"),
        "{told}"
    );
    assert!(!explained("--clocks locked").contains("more time a token"));
    crate::support::refused(
        &format!("fit {QWEN} --clocks fast"),
        &["locked", "governed"],
    );
}

/// What `devices detect` says of a board, read on another machine, gives the plan that the board makes of itself.
#[test]
fn a_board_is_planned_for_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.json");
    for machine in [
        "orin-nano-8gb-r36.4.7-25w",
        "orin-nano-8gb-r36.5.0-maxn-super",
        "agx-orin-64gb-r36.4.3-30w",
        "hostile",
    ] {
        let there = |words: &[&str]| {
            let run = command()
                .env("ORINPLAN_ROOT", recorded(machine))
                .args(words)
                .args(["--format", "json"])
                .output();
            left(run.unwrap()).out
        };
        std::fs::write(&file, there(&["devices", "detect"])).unwrap();
        let own = there(&["fit", QWEN, "--device", "host"]);
        let here = run_with(&format!("fit {QWEN} --format json --device"), &[&file]);
        assert_eq!((here.code, here.err.as_str()), (0, ""), "{machine}");
        assert!(here.out == own, "{machine}");
    }
    // A laptop speaks for itself alone.
    std::fs::write(&file, says(0, "devices detect --format json")).unwrap();
    let refused = run_with(&format!("fit {QWEN} --device"), &[&file]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.err.contains("`host` is not a board with a profile"),
        "{}",
        refused.err
    );
}

#[test]
fn a_document_that_is_no_board_is_refused_with_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.json");
    let board = says(0, "devices show orin-nx-16gb --format json");
    let refused = |text: &str, said: &str| {
        std::fs::write(&file, text).unwrap();
        let run = run_with(&format!("fit {QWEN} --device"), &[&file]);
        assert_eq!((run.code, run.err.lines().count()), (2, 1), "{}", run.err);
        assert!(run.err.contains(said), "{said}: {}", run.err);
    };
    refused(
        &says(0, &format!("fit {QWEN} --format json")),
        "`orinplan.fit/1` describes no board",
    );
    refused(&says(0, "devices list --format json"), "has no `device`");
    refused(&board[..board.len() / 2], "line");
    refused("{", "line 1");
    refused(&board.replace("102400000000.0", "-1.0"), "memory bandwidth");
    refused(
        &board.replace("\"count\": 8,", "\"count\": \"8 or so\","),
        "is not a count",
    );
}

#[test]
fn sources_are_links_of_a_terminal_and_addresses_elsewhere() {
    let issue = "https://github.com/dusty-nv/jetson-containers/issues/342";
    let plain = says(0, "devices show orin-nano-8gb");
    assert!(plain.contains(issue) && !plain.contains('\u{1b}'));
    let linked = says(0, "devices show orin-nano-8gb --color always");
    assert!(linked.contains(&format!(
        "\u{1b}]8;;{issue}\u{1b}\\dusty-nv/jetson-containers issue 342"
    )));
}
