//! `fit --watch` on a recorded board whose memory changes meanwhile.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::support::{QWEN, Run, command, recorded, refused};

const MACHINE: &str = "orin-nano-8gb-r36.4.7-25w";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Watches the board for three seconds, in which its available memory falls by so many MiB and rises again.
fn watched(mebibytes: u64) -> Run {
    let folder = tempfile::tempdir().unwrap();
    copy(&recorded(MACHINE), folder.path());
    let file = folder.path().join("proc/meminfo");
    let idle = fs::read_to_string(&file).unwrap();
    let available = "MemAvailable:    6710886 kB";
    assert!(idle.contains(available), "{idle}");
    let kib = 6_710_886 - mebibytes * 1024;
    let busy = idle.replace(available, &format!("MemAvailable:    {kib} kB"));
    let becomes = |text: &str| {
        thread::sleep(Duration::from_millis(500));
        let new = folder.path().join("meminfo.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    let mut watch = command()
        .env("ORINPLAN_ROOT", folder.path())
        .args(["fit", QWEN, "--watch", "--watch-seconds", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = String::new();
    for line in BufReader::new(watch.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        out.push_str(&line);
        out.push('\n');
        if line.starts_with("watching this machine") {
            becomes(&busy);
            // What is little is not told meanwhile.
            if mebibytes < 64 {
                becomes(&idle);
            }
        } else if line.contains("since the start") && !line.contains(" 0 B since") {
            becomes(&idle);
        }
    }
    let code = watch.wait().unwrap().code().unwrap();
    Run {
        code,
        out,
        err: String::new(),
    }
}

#[test]
fn the_memory_that_a_server_takes_is_shown_beside_the_plan() {
    // 1.34 GiB are planned, as the README says.
    let run = watched(1024);
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(
        run.out.starts_with("FITS as Q5_K_M: 1.34 GiB"),
        "{}",
        run.out
    );
    for said in [
        ": 1.00 GiB since the start, 1.34 GiB planned",
        ": 0 B since the start, 1.34 GiB planned",
        "WITHIN THE PLAN: memory in use rose by at most 1.00 GiB; 1.34 GiB were planned",
    ] {
        assert!(run.out.contains(said), "{said}: {}", run.out);
    }
}

#[test]
fn more_than_planned_and_nothing_at_all_are_told() {
    let run = watched(2048);
    assert_eq!(run.code, 1, "{}", run.out);
    let end = run.out.split_once("ABOVE THE PLAN by ").map(|(_, end)| end);
    assert!(
        end.is_some_and(|end| end.contains("rose by 2.00 GiB")),
        "{}",
        run.out
    );
    let run = watched(16);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("NOTHING LOADED"), "{}", run.out);
}

#[test]
fn another_board_cannot_be_watched() {
    let words = format!("fit {QWEN} --device orin-nx-16gb --watch");
    refused(&words, &["--watch", "--device host"]);
    refused(
        &format!("fit {QWEN} --watch --format json"),
        &["--watch", "text"],
    );
}
