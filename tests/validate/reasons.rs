//! Reasons are looked up in what the machine says, from a tree of its files.

use std::fs;
use std::path::Path;

use orinplan::device::{self, Activity, Process, activity};
use orinplan::plan::speed::Spread;
use orinplan::runtime::profile::ComputeBackend;
use orinplan::validate::{
    Check, CheckContext, Comparison, ComparisonLine, Criterion, Finding, Measured, Metric, RanOn,
    Statistics, Suspect, Watched, check,
};

/// A root directory with these files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const QUIET: &[(&str, &str)] = &[
    ("proc/loadavg", "0.10 0.20 0.30 1/200 1234\n"),
    ("proc/stat", "cpu  1000 0 1000 8000 0 0 0 0 0 0\n"),
    ("proc/vmstat", "nr_free_pages 1\npswpin 10\npswpout 20\n"),
    (
        "proc/meminfo",
        "MemTotal: 8000000 kB\nMemFree: 4000000 kB\nMemAvailable: 6000000 kB\n",
    ),
    (
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
        "1728000\n",
    ),
    (
        "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq",
        "1728000\n",
    ),
    ("sys/class/devfreq/17000000.gpu/cur_freq", "1020000000\n"),
    ("sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n"),
    ("sys/class/hwmon/hwmon3/oc1_event_cnt", "2\n"),
    (
        "sys/class/thermal/cooling_device0/type",
        "gpu-throttle-alert\n",
    ),
    ("sys/class/thermal/cooling_device0/cur_state", "0\n"),
];

/// What is seen when these files changed in the meantime, over ten seconds on one processor, of which
/// the measured process took five.
fn watched(changed: &[(&str, &str)]) -> Watched {
    let root = tree(QUIET);
    let before = activity(root.path());
    let stat = [("proc/stat", "cpu  1300 0 1200 8500 0 0 0 0 0 0\n")];
    for (path, text) in stat.iter().chain(changed) {
        fs::write(root.path().join(path), text).unwrap();
    }
    let after = activity(root.path());
    Watched {
        least_available: after.memory.available,
        cpu_clock: after.cpu_clock,
        gpu_clock: after.gpu_clock,
        cooling: after.cooling.clone(),
        process: Some(Process {
            seconds: 5.0,
            peak_resident: None,
        }),
        seconds: 10.0,
        before,
        after,
        tegrastats: None,
        short: None,
    }
}

fn checks(
    watched: &Watched,
    in_force: Option<&str>,
    (backend, on_gpu): (ComputeBackend, Option<bool>),
    repeats: &[f64],
) -> Vec<Check> {
    let device = device::get("orin-nano-8gb").unwrap();
    let measured = Measured {
        on_gpu,
        ..Measured::default()
    };
    let predicted = Spread {
        low: 9.0,
        expected: 10.0,
        high: 11.0,
    };
    let comparison = Comparison {
        lines: vec![ComparisonLine {
            metric: Metric::Decode,
            predicted: Some(predicted),
            measured: Statistics::of(repeats),
            judged: true,
            held_to: Criterion::Tolerance,
        }],
        tolerance: 15.0,
        elsewhere: false,
    };
    check(&CheckContext {
        device: &device,
        mode: device.mode("15W").unwrap(),
        backend,
        mode_in_force: in_force,
        watched,
        measured: &measured,
        comparison: &comparison,
        suspects: &[
            Suspect {
                what: "on the processors".to_owned(),
                decode: 4.0,
                prefill: None,
            },
            Suspect {
                what: "in 7W".to_owned(),
                decode: 7.0,
                prefill: Some(60.0),
            },
        ],
        ran_on: RanOn::Planned,
    })
}

/// Asserts that `code` alone holds, and that its text names `says`.
#[track_caller]
fn holds(checks: &[Check], code: &str, says: &str) {
    let holding: Vec<&Check> = checks
        .iter()
        .filter(|check| matches!(check.finding, Finding::Holds(_)))
        .collect();
    assert_eq!(
        holding.iter().map(|check| check.code).collect::<Vec<_>>(),
        [code]
    );
    assert!(
        matches!(&holding[0].finding, Finding::Holds(text) if text.contains(says)),
        "{:?}",
        holding[0]
    );
}

fn quiet(changed: &[(&str, &str)]) -> Vec<Check> {
    checks(
        &watched(changed),
        Some("15W"),
        (ComputeBackend::Cuda, Some(true)),
        &[10.0, 10.1],
    )
}

#[test]
fn a_quiet_machine_gives_no_reason_and_every_look_succeeds() {
    let looked = quiet(&[]);
    assert!(
        looked
            .iter()
            .all(|check| matches!(check.finding, Finding::Clear(_))),
        "{looked:?}"
    );
    assert_eq!(looked.len(), 11);
}

#[test]
fn each_reason_is_found_where_it_stands() {
    holds(
        &quiet(&[("proc/vmstat", "pswpin 10\npswpout 5020\n")]),
        "swapping",
        "19.5 MiB",
    );
    holds(
        &quiet(&[("sys/class/hwmon/hwmon3/oc1_event_cnt", "5\n")]),
        "throttling",
        "3 times",
    );
    holds(
        &quiet(&[("sys/class/thermal/cooling_device0/cur_state", "1\n")]),
        "throttling",
        "gpu-throttle-alert",
    );
    holds(
        &quiet(&[("sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n")]),
        "gpu_clock",
        "306 MHz on average, of 1020 MHz",
    );
    holds(
        &quiet(&[(
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
            "729000\n",
        )]),
        "cpu_clock",
        "729 MHz",
    );
    holds(
        &quiet(&[(
            "proc/meminfo",
            "MemTotal: 8000000 kB\nMemAvailable: 100000 kB\n",
        )]),
        "low_memory",
        "97.7 MiB",
    );
    // Of ten seconds eight were busy, five of them with the measured process.
    holds(
        &quiet(&[("proc/stat", "cpu  1600 0 1200 8200 0 0 0 0 0 0\n")]),
        "other_load",
        "30 %",
    );
    holds(
        &quiet(&[("proc/stat", "cpu  1300 0 1200 8300 0 0 0 200 0 0\n")]),
        "other_load",
        "hypervisor gave 20 %",
    );
    let noisy = checks(
        &watched(&[]),
        Some("15W"),
        (ComputeBackend::Cuda, Some(true)),
        &[6.0, 14.0],
    );
    holds(&noisy, "unsteady", "56.6 %");
    let fallen = checks(
        &watched(&[]),
        Some("15W"),
        (ComputeBackend::Cuda, Some(false)),
        &[10.0],
    );
    holds(&fallen, "cpu_fallback", "CUDA");
    let by_choice = (ComputeBackend::Cpu, Some(false));
    let by_choice = checks(&watched(&[]), Some("15W"), by_choice, &[10.0]);
    assert!(by_choice.iter().any(|check| check.code == "cpu_fallback"
        && matches!(&check.finding, Finding::Clear(text) if text.contains("CPU"))));
    let mode = checks(
        &watched(&[]),
        Some("MAXN_SUPER"),
        (ComputeBackend::Cuda, Some(true)),
        &[10.0],
    );
    holds(
        &mode,
        "power_mode",
        "runs in MAXN_SUPER, but the plan is for 15W",
    );
    let same = checks(
        &watched(&[]),
        Some("MODE_15W"),
        (ComputeBackend::Cuda, Some(true)),
        &[10.0],
    );
    assert!(
        same.iter()
            .all(|check| !matches!(check.finding, Finding::Holds(_)))
    );
}

#[test]
fn a_slow_rate_is_set_against_those_of_what_may_be_amiss() {
    let at = |decode: &[f64]| {
        checks(
            &watched(&[]),
            Some("15W"),
            (ComputeBackend::Cuda, None),
            decode,
        )
    };
    // A tenth from what the processors give, and from what another mode gives.
    holds(
        &at(&[3.7]),
        "slow_rate",
        "3.7 tokens/s are what this model decodes on the processors",
    );
    holds(&at(&[7.5, 7.6]), "slow_rate", "in 7W");
    // Slow, but like nothing known; and fast enough to need no reason.
    for decode in [5.3, 9.9, 14.0] {
        let found = at(&[decode, decode]);
        let slow = found
            .iter()
            .find(|check| check.code == "slow_rate")
            .unwrap();
        assert!(
            matches!(slow.finding, Finding::Clear(_)),
            "{decode}: {slow:?}"
        );
    }
}

#[test]
fn repeats_are_as_far_apart_as_the_table_says_whether_they_are_judged_or_not() {
    let device = device::get("orin-nano-8gb").unwrap();
    let line = |metric, repeats: &[f64]| ComparisonLine {
        metric,
        predicted: None,
        measured: Statistics::of(repeats),
        judged: false,
        held_to: Criterion::Tolerance,
    };
    let comparison = Comparison {
        lines: vec![
            line(Metric::Decode, &[5.0, 15.0]),
            line(Metric::Prefill, &[9.0]),
        ],
        tolerance: 15.0,
        elsewhere: false,
    };
    let found = check(&CheckContext {
        device: &device,
        mode: device.mode("15W").unwrap(),
        backend: ComputeBackend::Cuda,
        mode_in_force: None,
        watched: &Watched::default(),
        measured: &Measured::default(),
        comparison: &comparison,
        suspects: &[],
        ran_on: RanOn::Planned,
    });
    holds(&found, "unsteady", "differ by 70.7 %");
}

#[test]
fn a_machine_that_says_nothing_or_nonsense_leaves_reasons_open() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(activity(empty.path()), Activity::default());
    let garbage: Vec<(&str, &str)> = QUIET
        .iter()
        .map(|(path, _)| (*path, "\0\u{1b}[x -1 nan inf 1e999\n"))
        .collect();
    let root = tree(&garbage);
    let seen = activity(root.path());
    assert_eq!(
        (seen.load_average, seen.processors, seen.swapped_pages),
        (None, None, None)
    );
    assert_eq!(device::process(root.path(), 1), None);
    assert_eq!(device::listener(root.path(), 80), None);
    assert_eq!(device::listener(Path::new("/nonexistent"), 80), None);
    let nothing = checks(
        &Watched::default(),
        None,
        (ComputeBackend::Cuda, None),
        &[10.0],
    );
    let open = nothing
        .iter()
        .filter(|check| check.finding == Finding::Unread)
        .count();
    assert_eq!(open, 9, "{nothing:?}");
}
