//! A user's device file: what is accepted, and how each mistake is named.

use std::path::PathBuf;

use orinplan::device;
use proptest::prelude::*;

fn shipped() -> String {
    std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/profiles/boards/orin-nano-8gb.toml"
    ))
    .unwrap()
}

fn written(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// The shipped board with `from` replaced by `to` is refused with all of `parts` in one line.
/// Line numbers are those of the shipped file, where `from` stands.
#[track_caller]
fn check(from: &str, to: &str, parts: &[&str]) {
    let text = shipped();
    assert!(text.contains(from), "{from}");
    let (_directory, path) = written(text.replacen(from, to, 1));
    let error = device::load(&path).unwrap_err().to_string();
    let line = text.lines().take_while(|line| !line.contains(from)).count() + 1;
    let line = format!("line {line}:");
    for part in parts
        .iter()
        .map(|part| if *part == "line" { line.as_str() } else { part })
        .chain(["mine.toml"])
    {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_number_without_a_source_is_refused() {
    check(
        r#"total    = { value = "7607 MiB", source = "tegrastats_nano", trust = "measured""#,
        r#"total    = { value = "7607 MiB", trust = "measured""#,
        &["line", "missing key `source`"],
    );
    check(
        r#"bus_bits = { value = 128, source = "spec" }"#,
        "bus_bits = 128",
        &["line"],
    );
    check(
        r#"value = 128, source = "spec""#,
        r#"value = 128, source = "nobody""#,
        &["memory.bus_bits.source", "`nobody`", "[sources]"],
    );
    check(
        r#"value = 128, source = "spec""#,
        r#"value = 128, source = """#,
        &["memory.bus_bits.source"],
    );
    check(
        "study           = ",
        "study           = \"\" #",
        &["sources.study", "is empty"],
    );
}

#[test]
fn a_derived_number_needs_its_derivation() {
    check(
        r#"trust = "derived", note = "128 lanes, a multiply-add counting as two""#,
        r#"trust = "derived""#,
        &["gpu.fp32_per_sm_clock", "derived without a note"],
    );
}

#[test]
fn implausible_values_are_named_with_their_field() {
    check(
        "\"612 MHz\"",
        "\"612 GHz\"",
        &["mode[15W].gpu", "`612 GHz`", "\"612 MHz\""],
    );
    check(
        "\"612 MHz\"",
        "\"-612 MHz\"",
        &["mode[15W].gpu", "`-612 MHz`"],
    );
    check("\"7607 MiB\"", "\"7607 M\"", &["memory.total", "`7607 M`"]);
    check("\"7607 MiB\"", "0", &["memory.total", "`0`"]);
    check(
        "\"102 GB/s\"",
        "\"204 GB/s\"",
        &["mode[25W].bandwidth", "`204 GB/s`", "102.37 GB/s"],
    );
    check(
        "\"644 MiB\"",
        "\"900 MiB\"",
        &["memory.headless", "between its low and high"],
    );
    check(
        "\"2648 MiB\"",
        "\"8 GiB\"",
        &["memory.desktop.high", "memory.total"],
    );
    check(
        "\"8.7\"",
        "\"sm_87\"",
        &["gpu.compute_capability", "`sm_87`"],
    );
    check(
        "{ value = 8, source = \"conf_super\"",
        "{ value = 16, source = \"conf_super\"",
        &["mode[15W].sm_count", "gpu.sm_count (8)"],
    );
    check(
        "until = \"36.5.0\"",
        "until = \"36.4.0\"",
        &["allocation_limit[0].from", "`R36.4.7`"],
    );
    check(
        "from = \"36.4.7\"",
        "from = \"latest\"",
        &["allocation_limit[0].from", "`latest`"],
    );
    check(
        "refused = { value = \"1.1 GB\"",
        "refused = { value = \"1.6 GB\"",
        &["allocation_limit[0].refused", "is above `largest`"],
    );
    check(
        "granted = { value = \"3 GiB\"",
        "granted = { value = \"1 GiB\"",
        &["allocation_limit[0].granted", "is below `largest`"],
    );
}

#[test]
fn structure_is_checked() {
    check(
        "default_mode = \"25W\"",
        "default_mode = \"30W\"",
        &["default_mode", "`30W`", "7W, 15W, 25W, MAXN_SUPER"],
    );
    check(
        "modes = [\"7W\", \"15W\"]",
        "modes = [\"7W\", \"16W\"]",
        &["original.modes", "`16W`"],
    );
    check(
        "modes = [\"7W\", \"15W\"]",
        "modes = [\"7W\"]",
        &["original.default_mode", "`15W`"],
    );
    check(
        "name = \"Jetson Orin Nano 8GB\"\n",
        "name = \"\"\n",
        &["original.name"],
    );
    check(
        "name = \"25W\"",
        "name = \"15w\"",
        &["mode.name", "names two modes"],
    );
    check(
        "id = \"orin-nano-8gb\"",
        "id = \"Orin Nano\"",
        &["`Orin Nano`", "lower-case"],
    );
    check("[gpu]", "[graphics]", &["there is no key `graphics`"]);
    check("[memory]", "[memory", &["line"]);
    check(
        "trust = \"measured\"",
        "trust = \"guessed\"",
        &["found `guessed`"],
    );
}

#[test]
fn control_characters_stay_out_of_messages() {
    check(
        r#"name = "Jetson Orin Nano 8GB""#,
        r#"name = "\u001b[2J\nboard""#,
        &["`[2Jboard`", "printable"],
    );
    check(
        r#"name = "25W""#,
        "name = \"2\\n5W\"\nwatt = 1",
        &["there is no key `watt`"],
    );
    check(r#"[gpu]"#, r#"["g\npu"]"#, &["there is no key `g pu`"]);
}

#[test]
fn files_that_are_no_profiles_are_refused() {
    let refuse = |bytes: &[u8]| device::load(&written(bytes).1).map(|_| ());
    let (_directory, path) = written([0xff, 0xfe, 0x00]);
    assert!(
        device::load(&path)
            .unwrap_err()
            .to_string()
            .contains("not UTF-8")
    );
    let (directory, path) = written(vec![b'#'; (1 << 20) + 1]);
    assert!(
        device::load(&path)
            .unwrap_err()
            .to_string()
            .contains("1 MiB")
    );
    assert!(
        device::load(directory.path())
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    assert!(refuse(b"").is_err());
    assert!(refuse("[".repeat(100_000).as_bytes()).is_err());
    assert!(refuse(format!("x = {}", "[".repeat(100_000)).as_bytes()).is_err());
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_a_shorter_profile() {
    let text = shipped();
    let (_directory, path) = written("");
    for end in (0..text.len())
        .step_by(97)
        .filter(|end| text.is_char_boundary(*end))
    {
        std::fs::write(&path, &text[..end]).unwrap();
        if let Ok(profile) = device::load(&path) {
            assert!(!profile.modes.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A byte changed anywhere gives a profile or one line of error.
    #[test]
    fn a_changed_byte_is_survived(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = shipped().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (_directory, path) = written(bytes);
        if let Err(error) = device::load(&path) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
