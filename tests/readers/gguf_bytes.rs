//! GGUF files by their bytes: what is accepted, and what each wrong file is told.

use std::io::Cursor;

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, Header, Value};

use crate::build::*;

fn read(bytes: &[u8]) -> Result<Header, String> {
    gguf::read_header_from(Cursor::new(bytes)).map_err(|problem| problem.to_string())
}

fn refused(bytes: &[u8], fragments: &[&str]) {
    let message = read(bytes).expect_err("a wrong file was accepted");
    for fragment in fragments {
        assert!(
            message.contains(fragment),
            "`{fragment}` is not in: {message}"
        );
    }
    assert!(!message.ends_with('.'), "{message}");
}

#[test]
fn a_valid_file_is_read_as_written() {
    let bytes = small_gguf();
    let header = read(&bytes).unwrap();
    assert_eq!((header.version, header.alignment), (3, 32));
    assert_eq!(header.file_bytes, bytes.len() as u64);
    assert_eq!(header.data_offset, bytes.len() as u64 - 272);
    assert_eq!(
        header.metadata.str("general.architecture"),
        Ok(Some("llama"))
    );
    assert_eq!(header.metadata.u64s("llama.heads"), Ok(Some(vec![4, 2])));
    assert_eq!(header.metadata.bool("flag"), Ok(Some(true)));
    let tags = Value::Array(vec![Value::String("a".into()), Value::String("bc".into())]);
    assert_eq!(header.metadata.get("tags"), Some(&tags));
    let placed: Vec<_> = header
        .tensors
        .iter()
        .map(|t| {
            (
                &*t.name,
                t.dtype,
                &*t.shape,
                t.offset - header.data_offset,
                t.bytes.0,
            )
        })
        .collect();
    let expected: [(&str, Dtype, &[u64], u64, u64); 3] = [
        ("token_embd.weight", Dtype::Q8_0, &[2, 32], 0, 68),
        ("output_norm.weight", Dtype::F32, &[4], 96, 16),
        ("blk.0.attn_q.weight", Dtype::Q4_K, &[1, 256], 128, 144),
    ];
    assert_eq!(placed, expected);
}

#[test]
fn a_long_array_stays_in_the_file_and_can_be_streamed() {
    let (_guard, directory) = directory(&[("m.gguf", &small_gguf())]);
    let path = directory.join("m.gguf");
    let header = gguf::read_header(&path).unwrap();
    let tokens = header.metadata.get("tokens").unwrap();
    // 10 strings of two bytes and 60 of three, each with a length of 8.
    assert!(matches!(
        tokens,
        Value::Located {
            element_type: STRING,
            len: 70,
            bytes: 760,
            ..
        }
    ));
    let read: Result<Vec<Value>, _> = gguf::elements(&path, tokens).unwrap().collect();
    let expected: Vec<Value> = (0..70).map(|n| Value::String(format!("t{n}"))).collect();
    assert_eq!(read.unwrap(), expected);
    let flag = header.metadata.get("flag").unwrap();
    assert_eq!(gguf::elements(&path, flag).unwrap().count(), 1);

    // Cut short since the header was read: one error, then the end.
    std::fs::write(&path, &small_gguf()[..400]).unwrap();
    let read: Vec<_> = gguf::elements(&path, tokens).unwrap().collect();
    assert!(read.last().unwrap().is_err());
    assert!(read.iter().rev().skip(1).all(Result::is_ok));
}

#[test]
fn strings_longer_than_the_read_buffer_are_stepped_over() {
    let long = "x".repeat(700_000);
    let texts: Vec<&str> = (0..70)
        .map(|n| if n % 9 == 4 { &*long } else { "ab" })
        .collect();
    let header = read(&gguf(&[pair("long", ARRAY, &strings(&texts))], &[], 0)).unwrap();
    let longs = texts.iter().filter(|text| text.len() > 2).count() as u64;
    let expected = 70 * 8 + longs * 700_000 + (70 - longs) * 2;
    assert!(
        matches!(header.metadata.get("long"), Some(&Value::Located { bytes, .. }) if bytes == expected)
    );
}

#[test]
fn short_numeric_arrays_are_kept_and_long_ones_located() {
    let of = |len: u64| {
        let bytes = gguf(
            &[pair(
                "a",
                ARRAY,
                &array(U16, len, &vec![0; 2 * len as usize]),
            )],
            &[],
            0,
        );
        read(&bytes).unwrap().metadata.get("a").cloned().unwrap()
    };
    let empty = of(0);
    assert!(matches!(
        empty,
        Value::Located {
            element_type: U16,
            len: 0,
            bytes: 0,
            ..
        }
    ));
    assert_eq!(
        gguf::Metadata(vec![("a".into(), empty)]).u64s("a"),
        Ok(Some(Vec::new()))
    );
    assert!(matches!(of(4096), Value::Array(values) if values.len() == 4096));
    assert!(matches!(
        of(4097),
        Value::Located {
            element_type: U16,
            len: 4097,
            bytes: 8194,
            ..
        }
    ));
}

#[test]
fn every_type_of_ggml_has_its_size() {
    // Type id, elements of a block, bytes of a block: ggml's type traits.
    let types: [(u32, u64, u64); 35] = [
        (0, 1, 4),
        (1, 1, 2),
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (9, 32, 36),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (15, 256, 292),
        (16, 256, 66),
        (17, 256, 74),
        (18, 256, 98),
        (19, 256, 50),
        (20, 32, 18),
        (21, 256, 110),
        (22, 256, 82),
        (23, 256, 136),
        (24, 1, 1),
        (25, 1, 2),
        (26, 1, 4),
        (27, 1, 8),
        (28, 1, 8),
        (29, 256, 56),
        (30, 1, 2),
        (34, 256, 54),
        (35, 256, 66),
        (39, 32, 17),
        (40, 64, 36),
        (41, 128, 18),
        (42, 64, 18),
    ];
    for (id, block, bytes) in types {
        let file = gguf(
            &[],
            &[tensor("t", &[3 * block, 5, 2], id, 0)],
            (30 * bytes) as usize,
        );
        let header = read(&file).unwrap();
        assert_eq!(header.tensors[0].bytes.0, 30 * bytes, "type {id}");
        assert_eq!(header.tensors[0].shape, [2, 5, 3 * block]);
        let cut = &file[..file.len() - 1];
        refused(cut, &["`t`", "ends beyond the file"]);
        if block > 1 {
            let file = gguf(&[], &[tensor("t", &[3 * block + 1, 5], id, 0)], 65536);
            refused(&file, &["`t`", &format!("block of {block}")]);
        }
    }
    for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, 99, u32::MAX] {
        let file = gguf(&[], &[tensor("blk.7.odd", &[256], id, 0)], 4096);
        refused(&file, &["`blk.7.odd`", &format!("type {id}"), "42"]);
    }
}

#[test]
fn version_2_is_read_and_others_are_told_apart() {
    let with = |version| gguf_claiming(version, (0, 0), &[], &[], 1, 0);
    assert_eq!(read(&with(2)).unwrap().version, 2);
    refused(&with(1), &["version 1", "convert"]);
    refused(&with(4), &["version 4", "2 and 3"]);
    refused(&with(0), &["version 0"]);
    refused(&with(3u32.swap_bytes()), &["big-endian"]);
    refused(b"ggjt\x03\0\0\0 and more", &["not a GGUF file", "ggjt"]);
    refused(b"\x89PNG\r\n\x1a\n........", &["not a GGUF file"]);
    refused(
        b"version https://git-lfs.github.com/spec/v1\n",
        &["git lfs pull"],
    );
    refused(b"GG", &["ends at byte 2"]);
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused() {
    for huge in [1 << 20, 1 << 40, u64::MAX / 8, u64::MAX] {
        refused(
            &gguf_claiming(3, (huge, 0), &[], &[], 32, 64),
            &["tensors", &huge.to_string()],
        );
        refused(
            &gguf_claiming(3, (0, huge), &[], &[], 32, 64),
            &["pairs", &huge.to_string()],
        );
        for element in [U8, STRING, U64] {
            let pairs = [pair("big", ARRAY, &array(element, huge, &[0; 64]))];
            refused(&gguf(&pairs, &[], 0), &["`big`", &huge.to_string()]);
        }
        let pairs = [pair("text", STRING, &huge.to_le_bytes())];
        refused(&gguf(&pairs, &[], 0), &["`text`", &huge.to_string()]);
        // A string inside an array that fits by its count.
        let inner: Vec<u8> = [&huge.to_le_bytes()[..], &[0; 100 * 8]].concat();
        let pairs = [pair("texts", ARRAY, &array(STRING, 100, &inner))];
        refused(&gguf(&pairs, &[], 0), &["`texts`", &huge.to_string()]);
    }
}

#[test]
fn names_are_unique_text_of_sane_length() {
    let twice = [u32_pair("k", 1), u32_pair("k", 1)];
    refused(&gguf(&twice, &[], 0), &["key `k` appears twice"]);
    let twice = [tensor("t", &[8], 0, 0), tensor("t", &[8], 0, 32)];
    refused(&gguf(&[], &twice, 64), &["tensor name `t` appears twice"]);
    refused(&gguf(&[u32_pair("", 1)], &[], 64), &["key 0", "empty"]);
    refused(
        &gguf(&[], &[tensor("", &[8], 0, 0)], 32),
        &["tensor 0", "empty"],
    );
    let long = "k".repeat(65_536);
    refused(
        &gguf(&[u32_pair(&long, 1)], &[], 0),
        &["key 0", "65536", "65535"],
    );
    assert!(read(&gguf(&[u32_pair(&long[1..], 1)], &[], 0)).is_ok());
    refused(
        &gguf(&[], &[tensor(&long, &[8], 0, 0)], 32),
        &["tensor 0", "65536"],
    );

    let mut file = gguf(&[string_pair("abc", "text")], &[], 0);
    file[24 + 8 + 1] = 0xff;
    refused(&file, &["key 0", "UTF-8", "byte at 1"]);
    let mut file = gguf(&[string_pair("abc", "text")], &[], 0);
    file[24 + 8 + 3 + 4 + 8] = 0xff;
    refused(&file, &["`abc`", "UTF-8"]);
}

#[test]
fn values_have_a_known_type() {
    refused(
        &gguf(&[pair("k", 13, &[0; 8])], &[], 0),
        &["`k`", "type 13"],
    );
    refused(
        &gguf(&[pair("k", ARRAY, &array(77, 1, &[0; 8]))], &[], 0),
        &["`k`", "type 77"],
    );
    refused(
        &gguf(&[pair("k", BOOL, &[2])], &[], 64),
        &["`k`", "2", "0 or 1"],
    );
    let mut nested = array(U32, 1, &[0; 4]);
    for _ in 0..1000 {
        nested = array(ARRAY, 1, &nested);
    }
    refused(
        &gguf(&[pair("k", ARRAY, &nested)], &[], 0),
        &["`k`", "array of arrays"],
    );
    refused(
        &gguf(&[pair("k", ARRAY, &array(ARRAY, 0, &[]))], &[], 0),
        &["array of arrays"],
    );
}

#[test]
fn alignment_is_a_power_of_two_within_reason() {
    for bad in [0, 3, 33, 1 << 21, 1 << 31, u32::MAX] {
        let file = gguf(
            &[u32_pair("general.alignment", bad)],
            &[tensor("t", &[1], 0, 0)],
            64,
        );
        refused(
            &file,
            &["general.alignment", &bad.to_string(), "power of two"],
        );
    }
    let wide = [pair("general.alignment", U64, &32u64.to_le_bytes())];
    refused(&gguf(&wide, &[], 0), &["general.alignment", "u64", "u32"]);
    for good in [1u32, 8, 64, 4096] {
        let tensors = [tensor("a", &[1], 0, 0), tensor("b", &[1], 0, 4096)];
        let pairs = [u32_pair("general.alignment", good)];
        let file = gguf_claiming(3, (2, 1), &pairs, &tensors, good as usize, 4096 + 4);
        let header = read(&file).unwrap();
        assert_eq!(header.alignment, good);
        assert_eq!(header.tensors[1].offset + 4, file.len() as u64);
    }
}

#[test]
fn shapes_have_one_to_four_dimensions_and_a_countable_size() {
    refused(
        &gguf(&[], &[tensor("t", &[1; 5], 0, 0)], 32),
        &["`t`", "5 dimensions"],
    );
    refused(
        &gguf(&[], &[tensor("t", &[], 0, 0)], 32),
        &["`t`", "0 dimensions"],
    );
    let ne = [u64::MAX, 2, 1, 1];
    for ne in [
        &ne[..],
        &[1 << 32, 1 << 31],
        &[1 << 62, 1],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
    ] {
        let file = gguf(&[], &[tensor("t", ne, 0, 0)], 32);
        refused(&file, &["`t`", "63 bits"]);
    }
    // Zero elements are no error for ggml, and take no bytes.
    let file = gguf(&[], &[tensor("t", &[32, 0], 8, 0)], 0);
    assert_eq!(read(&file).unwrap().tensors[0].bytes.0, 0);
}

#[test]
fn data_is_aligned_inside_the_file_and_apart() {
    let two = |second| {
        gguf(
            &[],
            &[tensor("a", &[16], 0, 0), tensor("b", &[8], 0, second)],
            128,
        )
    };
    assert!(read(&two(64)).is_ok());
    assert!(read(&two(96)).is_ok(), "a hole is no error");
    refused(&two(65), &["`b`", "65", "alignment 32"]);
    refused(&two(32), &["`a` and `b` overlap"]);
    refused(&two(0), &["overlap"]);
    refused(&two(128), &["`b`", "ends beyond the file"]);
    refused(&two(u64::MAX - 31), &["`b`", "ends beyond the file"]);
    refused(&two(1 << 63), &["`b`", "ends beyond the file"]);
    // In any order.
    let swapped = [tensor("b", &[8], 0, 64), tensor("a", &[16], 0, 0)];
    assert!(read(&gguf(&[], &swapped, 96)).is_ok());
}
