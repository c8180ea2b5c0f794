//! Recorded machines: what a root directory tells about the board, its memory and its power mode.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::device::{self, Clocks, DetectedDevice, DeviceError, Session, detect};
use orinplan::report::devices as report;
use orinplan::sourced::Trust;
use orinplan::units::{Bytes, Hertz};
use proptest::prelude::*;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(name)
}

fn found(name: &str) -> DetectedDevice {
    detect(&recorded(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn codes(device: &DetectedDevice) -> Vec<&str> {
    device.notes.iter().map(|note| note.code.as_str()).collect()
}

#[test]
fn an_orin_nano_in_25w_is_recognised_with_its_own_memory() {
    let device = found("orin-nano-8gb-r36.4.7-25w");
    assert_eq!(device.profile.id, "orin-nano-8gb");
    assert_eq!(
        device.model.as_deref(),
        Some("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")
    );
    assert_eq!(
        device.l4t.map(|release| release.to_string()).as_deref(),
        Some("R36.4.7")
    );
    assert_eq!(device.power_mode.as_deref(), Some("25W"));
    assert_eq!(device.profile.total_memory.value, Bytes(7620 << 20));
    assert_eq!(
        device.profile.available(Session::Headless),
        Bytes(6_710_886 * 1024)
    );
    assert_eq!(
        device.profile.available(Session::Desktop),
        Bytes(6_710_886 * 1024)
    );
    let mode = &device.profile.default_mode;
    assert_eq!(
        mode.gpu.as_ref().map(|clock| (clock.value, clock.trust)),
        Some((Hertz(918e6), Trust::Measured))
    );
    assert_eq!(
        mode.cpu.as_ref().map(|clock| clock.value),
        Some(Hertz(1344e6))
    );
    assert_eq!(
        mode.bandwidth.as_ref().map(|rate| rate.value.0),
        Some(102e9)
    );
    assert_eq!(device.gpu_now, Some(Hertz(306e6)));
    // R36.4.7 refuses more at once; on this machine no release needs to be named.
    assert_eq!(
        device
            .profile
            .largest_allocation(None)
            .map(|limit| limit.largest.value),
        Some(Bytes(1_500_000_000))
    );
    assert_eq!((device.cpu_count, codes(&device)), (6, vec![]));
}

#[test]
fn a_super_board_in_maxn_super_runs_uncapped() {
    let device = found("orin-nano-8gb-r36.5.0-maxn-super");
    assert_eq!(device.profile.id, "orin-nano-8gb");
    assert_eq!(
        device.l4t.and_then(|release| release.jetpack()),
        Some("6.2.2")
    );
    assert_eq!(device.profile.default_mode.name, "MAXN_SUPER");
    assert_eq!(
        device
            .profile
            .default_mode
            .gpu
            .as_ref()
            .map(|clock| clock.value),
        Some(Hertz(1020e6))
    );
    assert_eq!(
        device
            .profile
            .default_mode
            .bandwidth
            .as_ref()
            .map(|rate| rate.value.0),
        Some(102e9)
    );
    assert_eq!(
        device
            .profile
            .largest_allocation(None)
            .map(|limit| limit.largest.value),
        Some(Bytes(6_166_843_392))
    );
    assert_eq!(codes(&device), Vec::<&str>::new());
}

/// `jetson_clocks` raises the lowest clock that the GPU may have to the highest.
#[test]
fn locked_clocks_are_seen() {
    let tree = tempfile::tempdir().unwrap();
    let copy = |file: &str, text: Option<&str>| {
        let from = Path::new("tests/recorded/orin-nano-8gb-r36.5.0-maxn-super").join(file);
        let to = tree.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        match text {
            Some(text) => std::fs::write(to, text).unwrap(),
            None => drop(std::fs::copy(from, to).unwrap()),
        }
    };
    for file in ["proc/device-tree/compatible", "proc/meminfo"] {
        copy(file, None);
    }
    let clocks = || device::detect(tree.path()).unwrap().profile.clocks();
    assert_eq!(clocks(), None);
    let node = "sys/class/devfreq/17000000.gpu";
    copy(&format!("{node}/max_freq"), None);
    assert_eq!(clocks(), None);
    copy(&format!("{node}/min_freq"), None);
    assert_eq!(clocks(), Some(Clocks::Governed));
    copy(&format!("{node}/min_freq"), Some("1020000000\n"));
    assert_eq!(clocks(), Some(Clocks::Locked));
    copy(&format!("{node}/min_freq"), Some("soon\n"));
    assert_eq!(clocks(), None);
}

#[test]
fn an_agx_orin_is_known_by_the_name_of_its_mode() {
    let device = found("agx-orin-64gb-r36.4.3-30w");
    assert_eq!(device.profile.id, "agx-orin-64gb");
    assert_eq!(device.power_mode.as_deref(), Some("MODE_30W"));
    assert_eq!(device.profile.default_mode.name, "30W");
    assert_eq!(device.profile.total_memory.value, Bytes(64_349_040 * 1024));
    assert_eq!(
        device
            .profile
            .default_mode
            .sm_count
            .as_ref()
            .map(|count| count.value),
        Some(8)
    );
    assert_eq!(
        device
            .profile
            .default_mode
            .bandwidth
            .as_ref()
            .map(|rate| rate.value.0),
        Some(204.8e9)
    );
}

#[test]
fn a_laptop_is_a_host_of_unknown_speed() {
    let device = found("x86-laptop");
    assert_eq!(device.profile.id, "host");
    assert_eq!(
        device.profile.available(Session::Headless),
        Bytes(11_403_280 * 1024)
    );
    assert!(device.profile.default_mode.bandwidth.is_none() && device.profile.gpu.is_none());
    assert!(
        device.profile.name.contains("i7-1165G7") && device.profile.name.contains("8 logical CPUs")
    );
    assert_eq!(codes(&device), ["bandwidth_unknown"]);
    let text = report::detect_text(&device, None);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("no speed is predicted") && !text.contains("GPU"),
        "{text}"
    );
}

#[test]
fn a_hostile_tree_keeps_the_published_numbers() {
    let device = found("hostile");
    let published = device::get("orin-nano-8gb").unwrap();
    assert_eq!(device.profile.total_memory, published.total_memory);
    assert_eq!(
        device.profile.available(Session::Headless),
        published.available(Session::Headless)
    );
    assert_eq!(device.l4t, None);
    assert!(
        codes(&device).contains(&"memory_unread") && codes(&device).contains(&"release_unread")
    );
    for output in [
        report::detect_text(&device, None),
        report::detect_json(&device),
        report::show_text(
            &device.profile,
            &orinplan::runtime::Runs::default(),
            None,
            report::Links::Written,
        ),
    ] {
        assert!(
            !output.contains(|c: char| c.is_control() && c != '\n'),
            "{output:?}"
        );
    }
}

#[test]
fn what_is_missing_is_noted_and_what_is_no_machine_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(detect(empty.path()), Err(DeviceError::NoMemory)));
    assert!(matches!(
        detect(&empty.path().join("absent")),
        Err(DeviceError::NoRoot { .. })
    ));
    put(
        empty.path(),
        "proc/device-tree/compatible",
        b"nvidia,p3767-0001\0nvidia,tegra234\0",
    );
    let device = detect(empty.path()).unwrap();
    assert_eq!(device.profile.id, "orin-nx-8gb");
    assert_eq!(
        codes(&device),
        ["power_mode_unread", "release_unread", "memory_unread"]
    );
    assert_eq!(device.profile.default_mode.name, "15W");
}

// The developer kit p3701-0000 came with 32 GB first.
#[test]
fn a_developer_kit_has_the_memory_it_reports() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "proc/device-tree/compatible",
        b"nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
    );
    put(
        root.path(),
        "proc/meminfo",
        b"MemTotal:       31268864 kB\nMemFree:        29000000 kB\n",
    );
    let device = detect(root.path()).unwrap();
    assert_eq!(device.profile.id, "agx-orin-64gb");
    assert_eq!(device.profile.total_memory.value, Bytes(31_268_864 * 1024));
    assert_eq!(
        device.profile.available(Session::Headless),
        Bytes(29_000_000 * 1024)
    );
    assert!(codes(&device).contains(&"memory_free_only"));
}

/// A copy of a recorded tree with one file changed.
fn changed(name: &str, path: &str, bytes: &[u8]) -> DetectedDevice {
    let copy = tempfile::tempdir().unwrap();
    for file in FILES {
        if let Ok(bytes) = fs::read(recorded(name).join(file)) {
            put(copy.path(), file, &bytes);
        }
    }
    put(copy.path(), path, bytes);
    detect(copy.path()).unwrap()
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

const FILES: [&str; 9] = [
    "proc/device-tree/model",
    "proc/device-tree/compatible",
    "proc/meminfo",
    "proc/cpuinfo",
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "var/lib/nvpmodel/status",
    "sys/class/devfreq/17000000.gpu/max_freq",
    "sys/kernel/nvpmodel_emc_cap/emc_iso_cap",
];
const NANO: &str = "orin-nano-8gb-r36.4.7-25w";

// JetPack 7.2 left the GPU at 624.75 MHz whatever the mode said.
#[test]
fn the_gpu_clock_that_the_kernel_allows_wins() {
    let device = changed(
        NANO,
        "sys/class/devfreq/17000000.gpu/max_freq",
        b"624750000\n",
    );
    assert_eq!(
        device
            .profile
            .default_mode
            .gpu
            .as_ref()
            .map(|clock| clock.value),
        Some(Hertz(624.75e6))
    );
    assert_eq!(codes(&device), ["gpu_clock_differs"]);
    let peak = device.profile.default_mode.fp16.unwrap();
    assert_eq!(peak.value.0, 8.0 * 2048.0 * 624.75e6);
}

#[test]
fn a_lower_memory_clock_lowers_the_bandwidth() {
    let device = changed(
        NANO,
        "sys/kernel/nvpmodel_emc_cap/emc_iso_cap",
        b"2133000000\n",
    );
    // 2133 MHz x 128 bit x 2 / 8
    assert_eq!(
        device
            .profile
            .default_mode
            .bandwidth
            .as_ref()
            .map(|rate| rate.value.0),
        Some(68.256e9)
    );
}

#[test]
fn a_mode_of_ones_own_is_taken_from_the_configuration() {
    let conf = b"< POWER_MODEL ID=2 NAME=ROBOT >\nTPC_POWER_GATING TPC_PG_MASK 252\nGPU MAX_FREQ 714000000\nEMC MAX_FREQ 2133000000\n";
    let device = changed(
        "orin-nano-8gb-r36.5.0-maxn-super",
        "etc/nvpmodel.conf",
        conf,
    );
    assert_eq!(device.power_mode.as_deref(), Some("ROBOT"));
    let mode = device.profile.mode("robot").unwrap();
    assert_eq!(mode.sm_count.as_ref().map(|count| count.value), Some(4));
    assert_eq!(
        mode.bandwidth.as_ref().map(|rate| rate.value.0),
        Some(68.256e9)
    );
    assert!(codes(&device).contains(&"power_mode_unknown"));
}

#[cfg(unix)]
#[test]
fn an_endless_device_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "proc/device-tree/compatible",
        b"nvidia,p3767-0003\0",
    );
    std::os::unix::fs::symlink("/dev/zero", root.path().join("proc/meminfo")).unwrap();
    fs::create_dir_all(root.path().join("etc/nvpmodel.conf")).unwrap();
    assert!(codes(&detect(root.path()).unwrap()).contains(&"memory_unread"));
}

#[test]
fn the_host_can_be_opened_like_a_board() {
    let root = recorded(NANO);
    assert_eq!(
        device::open("host", &root).unwrap().default_mode.name,
        "25W"
    );
    assert_eq!(
        device::open("orin-nx-16gb", &root).unwrap().id,
        "orin-nx-16gb"
    );
    let error = device::open("./absent.toml", &root)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read device file `./absent.toml`"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bytes in any of the files: no panic, and only the two documented errors.
    #[test]
    fn any_bytes_are_survived(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), FILES.len()),
        tails in prop::collection::vec(any::<bool>(), FILES.len()),
    ) {
        let root = tempfile::tempdir().unwrap();
        for ((file, garbage), tail) in FILES.iter().zip(&garbage).zip(&tails) {
            let mut bytes = if *tail { fs::read(recorded(NANO).join(file)).unwrap_or_default() } else { Vec::new() };
            let cut = garbage.first().map_or(0, |byte| usize::from(*byte)).min(bytes.len());
            bytes.truncate(bytes.len() - cut);
            bytes.extend(garbage);
            put(root.path(), file, &bytes);
        }
        match detect(root.path()) {
            Ok(device) => {
                prop_assert!(!report::detect_text(&device, None).is_empty());
                prop_assert!(device.profile.modes.contains(&device.profile.default_mode));
            }
            Err(error) => prop_assert!(matches!(error, DeviceError::NoMemory)),
        }
    }
}
