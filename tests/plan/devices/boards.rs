//! The shipped boards against published figures, and the reports about them.

use orinplan::device::{self, DeviceProfile, Session};
use orinplan::report::devices as report;
use orinplan::runtime::Runs;
use orinplan::sourced::Trust;
use orinplan::units::{Bytes, BytesPerSecond};

fn board(id: &str) -> DeviceProfile {
    device::get(id).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_shipped_board_loads_and_the_ids_are_the_documented_ones() {
    let documented = [
        "orin-nano-4gb",
        "orin-nano-8gb",
        "orin-nx-8gb",
        "orin-nx-16gb",
        "agx-orin-32gb",
        "agx-orin-64gb",
    ];
    let boards = device::list().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        boards
            .iter()
            .map(|board| board.id.as_str())
            .collect::<Vec<_>>(),
        documented
    );
    assert_eq!(device::ids().collect::<Vec<_>>(), documented);
    assert_eq!(device::DEFAULT_BOARD, "orin-nano-8gb");
}

#[test]
fn every_file_in_the_profile_directory_is_a_shipped_board_of_that_name() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/boards");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), device::ids().count());
    for file in files {
        let loaded = device::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            Some(loaded.id.as_str()),
            file.file_stem().and_then(|stem| stem.to_str())
        );
        assert_eq!(loaded, board(&loaded.id));
    }
}

/// Mode, GPU MHz, CPU MHz, EMC MHz, GB/s, SMs; 0 where nothing is published.
type Row = (&'static str, f64, f64, f64, f64, u64);

#[track_caller]
fn check_modes(id: &str, default: &str, rows: &[Row]) {
    let board = board(id);
    assert_eq!(board.default_mode.name, default, "{id}");
    assert_eq!(board.modes.len(), rows.len(), "{id}");
    for (name, gpu, cpu, emc, bandwidth, sms) in rows {
        let mode = board.mode(name).unwrap();
        let megahertz = |clock: &Option<orinplan::sourced::Sourced<orinplan::units::Hertz>>| {
            clock.as_ref().map_or(0.0, |clock| clock.value.0 / 1e6)
        };
        assert_eq!(
            (
                megahertz(&mode.gpu),
                megahertz(&mode.cpu),
                megahertz(&mode.emc)
            ),
            (*gpu, *cpu, *emc),
            "{id} {name}"
        );
        assert_eq!(
            mode.bandwidth.as_ref().unwrap().value,
            BytesPerSecond(bandwidth * 1e9),
            "{id} {name}"
        );
        assert_eq!(mode.sm_count.as_ref().unwrap().value, *sms, "{id} {name}");
    }
}

// nvpmodel's configuration files for each module; bandwidth from the data sheets.
#[test]
fn power_modes_are_nvpmodels() {
    check_modes(
        "orin-nano-8gb",
        "25W",
        &[
            ("7w", 408.0, 960.0, 2133.0, 68.0, 4),
            ("15w", 612.0, 1497.6, 2133.0, 68.0, 8),
            ("25W", 918.0, 1344.0, 3199.0, 102.0, 8),
            ("maxn super", 1020.0, 1728.0, 3199.0, 102.0, 8),
        ],
    );
    check_modes(
        "orin-nano-4gb",
        "10W",
        &[
            ("7W_CPU", 306.0, 960.0, 2133.0, 34.0, 4),
            ("7W_AI", 408.0, 806.4, 2133.0, 34.0, 4),
            ("10W", 612.0, 1497.6, 2133.0, 34.0, 4),
            ("25W", 1020.0, 1728.0, 3199.0, 51.0, 4),
            ("MAXN_SUPER", 1020.0, 1728.0, 3199.0, 51.0, 4),
        ],
    );
    check_modes(
        "orin-nx-8gb",
        "15W",
        &[
            ("10W", 612.0, 1190.4, 2133.0, 68.0, 4),
            ("15W", 612.0, 1420.8, 3199.0, 102.4, 4),
            ("20W", 408.0, 1497.6, 3199.0, 102.4, 8),
            ("MAXN", 765.0, 1984.0, 3199.0, 102.4, 8),
            ("40W", 1173.0, 1984.0, 3199.0, 102.4, 8),
            ("MAXN_SUPER", 1173.0, 1984.0, 3199.0, 102.4, 8),
        ],
    );
    check_modes(
        "orin-nx-16gb",
        "15W",
        &[
            ("10W", 612.0, 1190.4, 2133.0, 68.0, 4),
            ("15W", 612.0, 1420.8, 3199.0, 102.4, 4),
            ("25W", 408.0, 1497.6, 3199.0, 102.4, 8),
            ("MAXN", 918.0, 1984.0, 3199.0, 102.4, 8),
            ("40W", 1173.0, 1497.6, 3199.0, 102.4, 8),
            ("MAXN_SUPER", 1173.0, 1984.0, 3199.0, 102.4, 8),
        ],
    );
    check_modes(
        "agx-orin-32gb",
        "30W",
        &[
            ("MODE_15W", 408.0, 1113.6, 2133.0, 136.5, 6),
            ("mode_30w", 612.0, 1728.0, 3199.0, 204.8, 8),
            ("40W", 816.0, 1497.6, 3199.0, 204.8, 14),
            ("MAXN", 939.0, 0.0, 3199.0, 204.8, 14),
        ],
    );
    check_modes(
        "agx-orin-64gb",
        "30W",
        &[
            ("15W", 408.0, 1113.6, 2133.0, 136.5, 6),
            ("30W", 612.0, 1728.0, 3199.0, 204.8, 8),
            ("50W", 816.0, 1497.6, 3199.0, 204.8, 16),
            ("MAXN", 1300.0, 2201.0, 3199.0, 204.8, 16),
        ],
    );
}

#[test]
fn ridge_points_are_those_of_the_study() {
    let mode = board("orin-nano-8gb").mode("15W").unwrap().clone();
    assert_eq!(mode.ridge_fp16().map(f64::round), Some(147.0));
    assert_eq!(mode.ridge_int8().map(f64::round), Some(588.0));
    assert_eq!(mode.fp16.unwrap().value.0, 10e12);
    assert_eq!(mode.int8_sparse.unwrap().value.0, 40e12);
}

// Sparse INT8 TOPS of the data sheets that the GPU alone reaches (Orin Nano has no DLA).
#[test]
fn derived_peaks_agree_with_data_sheets() {
    for (id, mode, tops) in [
        ("orin-nano-8gb", "MAXN_SUPER", 67.0),
        ("orin-nano-4gb", "10W", 20.0),
    ] {
        let peak = board(id).mode(mode).unwrap().int8_sparse.clone().unwrap();
        assert_eq!(peak.trust, Trust::Derived);
        assert!(
            (peak.value.0 / 1e12 / tops - 1.0).abs() < 0.03,
            "{id} {mode}: {} of {tops}",
            peak.value.0 / 1e12
        );
    }
}

// Idle boards: 6.4 to 6.8 GiB headless, 5.2 GB to 5.7 GiB with a desktop.
#[test]
fn available_memory_of_the_default_board_is_what_idle_boards_report() {
    let board = board("orin-nano-8gb");
    let gib = |tenths: u64| Bytes(tenths * (1 << 30) / 10);
    let headless = board.available(Session::Headless);
    assert!(headless >= gib(64) && headless <= gib(68), "{headless}");
    let desktop = board.available(Session::Desktop);
    assert!(
        desktop >= Bytes(5_200_000_000) && desktop <= gib(57),
        "{desktop}"
    );
    assert_eq!(board.total_memory.value, Bytes(7607 << 20));
}

#[test]
fn allocation_limits_follow_the_release() {
    let board = board("orin-nano-8gb");
    let limit = |release: Option<&str>| {
        let release = release.map(|release| release.parse().unwrap());
        board.largest_allocation(release)
    };
    let largest = |release| limit(release).map(|limit| limit.largest.value);
    assert_eq!(largest(Some("36.4.7")), Some(Bytes(1_500_000_000)));
    assert_eq!(largest(Some("36.5.0")), Some(Bytes(6_166_843_392)));
    assert_eq!(largest(Some("36.4.3")), None);
    assert_eq!(largest(None), Some(Bytes(6_166_843_392)));
    // Boards under R36.4.7 differ.
    let seen = limit(Some("36.4.7")).unwrap();
    assert_eq!(seen.refused.as_ref().unwrap().value, Bytes(1_100_000_000));
    assert_eq!(seen.granted.as_ref().unwrap().value, Bytes(3 << 30));
}

#[test]
fn an_unknown_power_mode_names_those_there_are() {
    let error = board("orin-nano-8gb").mode("30W").unwrap_err().to_string();
    assert_eq!(
        error,
        "orin-nano-8gb has no power mode `30W`; its modes are 7W, 15W, 25W, MAXN_SUPER"
    );
}

#[test]
fn module_numbers_name_one_board_each() {
    let boards = device::list().unwrap();
    let mut modules: Vec<_> = boards
        .iter()
        .flat_map(|board| board.compatible.clone())
        .collect();
    let count = modules.len();
    modules.sort();
    modules.dedup();
    assert_eq!(modules.len(), count);
}

/// Every object of the document that holds a number under a unit's key.
fn numbers<'a>(
    value: &'a serde_json::Value,
    found: &mut Vec<&'a serde_json::Map<String, serde_json::Value>>,
) {
    match value {
        serde_json::Value::Object(object) if object.contains_key("trust") => found.push(object),
        serde_json::Value::Object(object) => {
            object.values().for_each(|value| numbers(value, found))
        }
        serde_json::Value::Array(array) => array.iter().for_each(|value| numbers(value, found)),
        _ => {}
    }
}

#[test]
fn every_number_of_every_board_says_where_it_is_from() {
    for board in device::list().unwrap() {
        let json: serde_json::Value =
            serde_json::from_str(&report::show_json(&board, &Runs::default())).unwrap();
        assert_eq!(json["schema"], "orinplan.devices/1");
        let mut found = Vec::new();
        numbers(&json, &mut found);
        assert!(found.len() > 40, "{}: {}", board.id, found.len());
        for number in found {
            assert!(
                number["source"]
                    .as_str()
                    .is_some_and(|source| source.len() > 8),
                "{}: {number:?}",
                board.id
            );
        }
    }
}

#[test]
fn the_list_is_one_aligned_row_a_board() {
    let text = report::list_text(&device::list().unwrap(), None);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines.iter().all(|line| line.chars().count() <= 120),
        "{text}"
    );
    let row = lines
        .iter()
        .find(|line| line.starts_with("orin-nano-8gb*"))
        .unwrap();
    assert!(
        row.contains("7.43 GiB")
            && row.contains("102 GB/s")
            && row.contains("7W 15W [25W] MAXN_SUPER"),
        "{row}"
    );
    let column = |line: &str, word: &str| line.find(word);
    assert_eq!(column(lines[0], "power modes"), column(row, "7W"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&report::list_json(&device::list().unwrap())).unwrap();
    assert_eq!(
        json["devices"][1]["memory_bandwidth_bytes_per_second"],
        102e9
    );
    assert_eq!(json["devices"][1]["memory_total_bytes"], 7_976_517_632_u64);
}

#[test]
fn show_prints_modes_sources_and_pitfalls() {
    let text = report::show_text(
        &board("orin-nano-8gb"),
        &Runs::default(),
        None,
        report::Links::Written,
    );
    for part in [
        "7.43 GiB [1]",
        "[25W]",
        "612 MHz",
        "102 GB/s",
        "nvmap_4gib",
        "drop_caches",
        "Sources\n[1] ",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
