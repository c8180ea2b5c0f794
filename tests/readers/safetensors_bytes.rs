//! safetensors files by their bytes: what is accepted, and what each wrong file is told.

use std::io::Cursor;

use orinplan::dtype::Dtype;
use orinplan::safetensors::{self, Header};

use crate::build;

fn read(bytes: &[u8]) -> Result<Header, String> {
    safetensors::read_header_from(Cursor::new(bytes)).map_err(|problem| problem.to_string())
}

fn refused(header: &str, data: usize, fragments: &[&str]) {
    let message = read(&build::safetensors(header, data)).expect_err(header);
    for fragment in fragments {
        assert!(
            message.contains(fragment),
            "`{fragment}` is not in: {message}"
        );
    }
}

#[test]
fn a_valid_file_is_read_as_written() {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"#,
        r#""b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"#,
        r#""a":{"data_offsets":[0,4],"shape":[],"dtype":"F32","note":[[1]]},"#,
        r#""c\u00e9":{"dtype":"F4","shape":[1,6],"data_offsets":[16,19]}}   "#
    );
    let read = read(&build::safetensors(header, 19)).unwrap();
    let start = 8 + header.len() as u64;
    assert_eq!(read.data_offset, start);
    assert_eq!(read.metadata["format"], "pt");
    let tensors: Vec<_> = read
        .tensors
        .iter()
        .map(|t| (&*t.name, t.dtype, &*t.shape, t.offset - start, t.bytes.0))
        .collect();
    let expected: [(&str, Dtype, &[u64], u64, u64); 3] = [
        ("a", Dtype::F32, &[], 0, 4),
        ("b", Dtype::BF16, &[2, 3], 4, 12),
        ("cé", Dtype::F4, &[1, 6], 16, 3),
    ];
    assert_eq!(tensors, expected);
}

#[test]
fn an_empty_set_of_tensors_is_a_file() {
    assert!(
        read(&build::safetensors("{}", 0))
            .unwrap()
            .tensors
            .is_empty()
    );
    assert!(read(&build::safetensors(r#"{"__metadata__":null}"#, 0)).is_ok());
}

#[test]
fn the_header_length_is_checked_before_it_is_believed() {
    let with = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    assert!(read(&with(2)).is_ok());
    assert!(
        read(&with(3))
            .unwrap_err()
            .contains("header of 3 bytes, but only 2 follow")
    );
    assert!(read(&with(1)).unwrap_err().contains("header"));
    assert!(
        read(&with(100_000_000))
            .unwrap_err()
            .contains("only 2 follow")
    );
    for huge in [100_000_001, 1 << 40, u64::MAX] {
        assert!(
            read(&with(huge))
                .unwrap_err()
                .contains("limit of 100000000")
        );
    }
    assert!(read(b"1234567").unwrap_err().contains("7 bytes"));
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    assert!(read(pointer).unwrap_err().contains("git lfs pull"));
}

#[test]
fn the_header_is_json_of_the_format() {
    refused("", 0, &["header"]);
    refused("{", 0, &["header"]);
    refused("[]", 0, &["an object of tensors"]);
    refused("{}{}", 0, &["header"]);
    refused(r#"{"x":1}"#, 0, &["entry `x`"]);
    refused(
        r#"{"x":{"dtype":"F32","shape":[1]}}"#,
        4,
        &["entry `x`", "data_offsets"],
    );
    refused(
        r#"{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        4,
        &["entry `x`"],
    );
    refused(
        r#"{"x":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
        4,
        &["entry `x`"],
    );
    refused(
        r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        4,
        &["entry `x`"],
    );
    refused(r#"{"__metadata__":{"n":1}}"#, 0, &["entry `__metadata__`"]);
    refused(
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        0,
        &["__metadata__"],
    );
    refused(&"[".repeat(100_000), 0, &["header"]);
    refused(&format!(r#"{{"x":{}"#, "[".repeat(100_000)), 0, &["header"]);
    refused(
        &format!(r#"{{"x":{}"#, r#"{"y":"#.repeat(100_000)),
        0,
        &["header"],
    );
    let mut bytes = build::safetensors(r#"{"x":1}"#, 0);
    bytes[10] = 0xff;
    assert!(read(&bytes).unwrap_err().contains("UTF-8"));
}

#[test]
fn tensors_are_named_once_and_typed() {
    let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let next = r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
    refused(
        &format!(r#"{{"w":{entry},"w":{next}}}"#),
        8,
        &["`w` appears twice"],
    );
    refused(
        &format!(r#"{{"w":{entry},"\u0077":{entry}}}"#),
        4,
        &["`w` appears twice"],
    );
    let odd = r#"{"w":{"dtype":"F7_E3M3","shape":[1],"data_offsets":[0,4]}}"#;
    refused(odd, 4, &["`w`", "`F7_E3M3`", "BF16"]);
}

#[test]
fn data_tiles_the_file() {
    let two = |first: (u64, u64), second: (u64, u64)| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}},"b":{{"dtype":"F16","shape":[2],"data_offsets":[{},{}]}}}}"#,
            first.0, first.1, second.0, second.1
        )
    };
    assert!(read(&build::safetensors(&two((0, 8), (8, 12)), 12)).is_ok());
    assert!(read(&build::safetensors(&two((4, 12), (0, 4)), 12)).is_ok());
    refused(
        &two((0, 8), (9, 13)),
        13,
        &["`b` starts at byte 9", "ends at 8"],
    );
    refused(&two((0, 8), (7, 11)), 11, &["`b` starts at byte 7"]);
    refused(&two((0, 8), (0, 4)), 8, &["no overlap"]);
    refused(&two((8, 0), (8, 12)), 12, &["`a`"]);
    refused(
        &two((1, 9), (9, 13)),
        13,
        &["`a` starts at byte 1", "ends at 0"],
    );
    refused(&two((0, 7), (7, 11)), 11, &["`a`", "takes 8 bytes", "0..7"]);
    refused(&two((0, 8), (8, 12)), 13, &["it has"]);
    refused(&two((0, 8), (8, 12)), 11, &["it has"]);
    refused(&two((0, u64::MAX), (u64::MAX, u64::MAX)), 12, &["`a`"]);
}

#[test]
fn sizes_that_no_number_holds_are_refused() {
    let one = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    refused(
        &one("F32", "[4294967296,4294967296]", 0),
        0,
        &["`w`", "64 bits"],
    );
    refused(
        &one("F64", "[2305843009213693952]", 0),
        0,
        &["`w`", "64 bits"],
    );
    refused(&one("F4", "[3]", 2), 2, &["`w`", "whole number"]);
    refused(&one("F6_E2M3", "[2]", 2), 2, &["`w`", "whole number"]);
    refused(
        &one("U8", "[18446744073709551615]", u64::MAX),
        5,
        &["bytes, but it has"],
    );
    refused(&one("U8", "[18446744073709551616]", 0), 5, &["entry `w`"]);
    assert!(read(&build::safetensors(&one("F4", "[3,2]", 3), 3)).is_ok());
    assert!(read(&build::safetensors(&one("F32", "[0,99]", 0), 0)).is_ok());
}
