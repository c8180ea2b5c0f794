//! Split GGUF: any part stands for all, and all parts agree.

use std::fs;
use std::path::Path;

use orinplan::checkpoint::{self, RawConfig, SourceFormat};

use crate::build::{self, *};

fn part(no: u16, count: u16, tensors: u32, name: &str) -> Vec<u8> {
    let mut pairs = vec![
        pair("split.no", U16, &no.to_le_bytes()),
        pair("split.count", U16, &count.to_le_bytes()),
        pair("split.tensors.count", I32, &tensors.to_le_bytes()),
    ];
    if no == 0 {
        pairs.push(string_pair("general.architecture", "llama"));
    }
    gguf(&pairs, &[tensor(name, &[8], 0, 0)], 32)
}

fn three() -> (tempfile::TempDir, std::path::PathBuf) {
    build::directory(&[
        ("m-00001-of-00003.gguf", &part(0, 3, 3, "a")),
        ("m-00002-of-00003.gguf", &part(1, 3, 3, "b")),
        ("m-00003-of-00003.gguf", &part(2, 3, 3, "c")),
    ])
}

fn refused(path: &Path, fragments: &[&str]) {
    let message = checkpoint::open(path.to_str().unwrap())
        .unwrap_err()
        .to_string();
    for fragment in fragments {
        assert!(
            message.contains(fragment),
            "`{fragment}` is not in: {message}"
        );
    }
}

#[test]
fn any_part_and_the_directory_open_the_whole() {
    let (_guard, directory) = three();
    for (given, name) in [
        ("m-00001-of-00003.gguf", "m"),
        ("m-00002-of-00003.gguf", "m"),
        ("m-00003-of-00003.gguf", "m"),
        ("", "tiny-model"),
    ] {
        let checkpoint = checkpoint::open(directory.join(given).to_str().unwrap()).unwrap();
        assert_eq!(checkpoint.name, name);
        assert_eq!(checkpoint.format, SourceFormat::Gguf);
        let tensors: Vec<_> = checkpoint
            .tensors
            .iter()
            .map(|t| (&*t.name, t.file))
            .collect();
        assert_eq!(tensors, [("a", 0), ("b", 1), ("c", 2)]);
        assert!(checkpoint.files[1].path.ends_with("m-00002-of-00003.gguf"));
        let RawConfig::Gguf(metadata) = &checkpoint.config else {
            panic!("no GGUF metadata")
        };
        assert_eq!(metadata.str("general.architecture"), Ok(Some("llama")));
    }
}

#[test]
fn missing_and_contradicting_parts_are_told() {
    let first = "m-00001-of-00003.gguf";
    let second = "m-00002-of-00003.gguf";
    let with = |name: &str, bytes: &[u8], fragments: &[&str]| {
        let (_guard, directory) = three();
        fs::write(directory.join(name), bytes).unwrap();
        refused(&directory.join(first), fragments);
    };
    with(
        second,
        &part(0, 3, 3, "b"),
        &[second, "`split.no` is 0", "the file's name says 1"],
    );
    with(second, &part(1, 4, 3, "b"), &[second, "`split.count` is 4"]);
    with(
        second,
        &part(1, 3, 9, "b"),
        &[second, "promises 9", "together have 3"],
    );
    with(
        second,
        &part(1, 3, 3, "a"),
        &["`a` is both in", first, second],
    );
    with(
        second,
        &gguf(&[], &[], 0),
        &[second, "`split.count` is missing"],
    );
    let typed = gguf(&[string_pair("split.count", "3")], &[], 0);
    with(second, &typed, &[second, "split.count", "string"]);
    let negative = gguf(&[pair("split.count", I8, &[0xff])], &[], 0);
    with(second, &negative, &[second, "split.count", "-1"]);

    let (_guard, directory) = three();
    fs::remove_file(directory.join("m-00003-of-00003.gguf")).unwrap();
    refused(
        &directory.join(first),
        &["m-00003-of-00003.gguf", "is missing"],
    );
    refused(&directory, &["m-00003-of-00003.gguf", "is missing"]);
}

#[test]
fn a_part_under_another_name_is_told() {
    let (_guard, directory) = build::directory(&[("m.gguf", &part(0, 3, 3, "a"))]);
    refused(
        &directory.join("m.gguf"),
        &["m.gguf", "one of 3 parts", "00001-of-00003"],
    );
    let (_guard, directory) = build::directory(&[("m-00004-of-00003.gguf", &part(0, 3, 3, "a"))]);
    refused(&directory.join("m-00004-of-00003.gguf"), &["shard 4 of 3"]);
    let (_guard, directory) = build::directory(&[("m-00001-of-99999.gguf", &part(0, 3, 3, "a"))]);
    refused(&directory, &["m-00002-of-99999.gguf", "is missing"]);
    let (_guard, directory) = build::directory(&[("m-00001-of-00001.gguf", &part(0, 1, 1, "a"))]);
    assert!(checkpoint::open(directory.to_str().unwrap()).is_ok());
}

#[cfg(unix)]
#[test]
fn parts_that_are_links_to_one_another_are_told() {
    let (_guard, directory) = three();
    let link = |from: &str, to: &str| {
        fs::remove_file(directory.join(to)).unwrap();
        std::os::unix::fs::symlink(directory.join(from), directory.join(to)).unwrap();
    };
    link("m-00001-of-00003.gguf", "m-00003-of-00003.gguf");
    refused(&directory, &["m-00003-of-00003.gguf", "`split.no` is 0"]);
    link("m-00003-of-00003.gguf", "m-00001-of-00003.gguf");
    refused(&directory, &["m-00001-of-00003.gguf", "symbolic link"]);
}
