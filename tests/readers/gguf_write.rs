//! Headers that are written are read back as they were, and have the size that was said.

use std::io::Cursor;

use orinplan::dtype::Dtype;
use orinplan::gguf::{
    StringList, TensorEntry, Value, WriteError, data_offsets, file_bytes, header_bytes,
    read_header_from, write_header,
};
use orinplan::units::Bytes;
use proptest::prelude::*;

fn pairs(values: Vec<Value>) -> Vec<(String, Value)> {
    let keyed = values.into_iter().enumerate();
    keyed
        .map(|(n, value)| (format!("key.{n}"), value))
        .collect()
}

const TENSORS: [TensorEntry<'_>; 3] = [
    TensorEntry {
        name: "a.weight",
        dtype: Dtype::Q4_K,
        shape: &[3, 256],
    },
    TensorEntry {
        name: "b",
        dtype: Dtype::F32,
        shape: &[5],
    },
    TensorEntry {
        name: "c",
        dtype: Dtype::BF16,
        shape: &[2, 3, 4],
    },
];

#[test]
fn a_header_has_the_bytes_that_the_format_gives_it() {
    let metadata = [("k".to_owned(), Value::U32(7))];
    let tensors = [TensorEntry {
        name: "t",
        dtype: Dtype::F32,
        shape: &[3, 2],
    }];
    let mut out = Vec::new();
    let end = write_header(&mut out, &metadata, &tensors).unwrap();
    // ggml's docs/gguf.md: magic, version, tensors, pairs; key, type 4, value; name, dimensions
    // (innermost first), type 0, offset; padding to 32.
    let mut expect = b"GGUF".to_vec();
    expect.extend([3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    expect.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 4, 0, 0, 0, 7, 0, 0, 0]);
    expect.extend([1, 0, 0, 0, 0, 0, 0, 0, b't', 2, 0, 0, 0]);
    expect.extend([2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    expect.extend([0; 4 + 8]);
    assert_eq!(
        header_bytes(&metadata, [("t", 2)]),
        Bytes(expect.len() as u64)
    );
    expect.resize(96, 0);
    assert_eq!((out, end), (expect, Bytes(96)));
}

#[test]
fn every_kind_of_value_comes_back() {
    let metadata = pairs(vec![
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U32(3),
        Value::I32(-3),
        Value::F32(0.5),
        Value::Bool(true),
        Value::String("é".into()),
        Value::U64(4),
        Value::I64(-4),
        Value::F64(0.25),
        Value::Array(vec![Value::Bool(true), Value::Bool(false)]),
        Value::Strings(["a", "", "Ġb"].into_iter().collect()),
        Value::I32s(vec![1, -2]),
        Value::F32s(vec![-1000.0]),
    ]);
    let mut out = Vec::new();
    let end = write_header(&mut out, &metadata, &TENSORS).unwrap();
    assert_eq!(end.0, out.len() as u64);
    let sizes = [Bytes(3 * 144), Bytes(20), Bytes(48)];
    let header = header_bytes(&metadata, TENSORS.iter().map(|t| (t.name, t.shape.len())));
    // 432 is padded to 448, 20 to 32, 48 to 64.
    let file = file_bytes(header, sizes);
    assert_eq!(file.0, end.0 + 448 + 32 + 64);
    out.resize(file.0 as usize, 0);

    let read = read_header_from(Cursor::new(out)).unwrap();
    assert_eq!(
        (read.version, read.header_bytes, read.data_offset),
        (3, header.0, end.0)
    );
    let found: Vec<_> = read
        .tensors
        .iter()
        .map(|t| (&*t.name, t.dtype, &*t.shape))
        .collect();
    let given: Vec<_> = TENSORS.iter().map(|t| (t.name, t.dtype, t.shape)).collect();
    assert_eq!(found, given);
    let offsets: Vec<u64> = read.tensors.iter().map(|t| t.offset).collect();
    assert_eq!(offsets, [0, 448, 480].map(|offset| end.0 + offset));
    assert_eq!(data_offsets(end, sizes), (offsets, file));
    let expand = |value: &Value| match value {
        Value::Strings(list) => {
            Value::Array(list.iter().map(|text| Value::String(text.into())).collect())
        }
        Value::I32s(list) => Value::Array(list.iter().map(|&n| Value::I32(n)).collect()),
        Value::F32s(list) => Value::Array(list.iter().map(|&x| Value::F32(x)).collect()),
        other => other.clone(),
    };
    let expect: Vec<_> = metadata
        .iter()
        .map(|(k, v)| (k.clone(), expand(v)))
        .collect();
    assert_eq!(read.metadata.0, expect);
}

#[test]
fn what_gguf_cannot_hold_is_refused_before_anything_is_written() {
    let check = |metadata: &[(String, Value)], tensors: &[TensorEntry<'_>], expect: &str| {
        let mut out = Vec::new();
        let error: WriteError = write_header(&mut out, metadata, tensors).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
        assert!(out.is_empty());
    };
    let tensor = |dtype, shape| TensorEntry {
        name: "t",
        dtype,
        shape,
    };
    check(&pairs(vec![Value::Array(vec![])]), &[], "empty array");
    check(
        &pairs(vec![Value::Strings(StringList::default())]),
        &[],
        "empty array",
    );
    check(
        &pairs(vec![Value::Array(vec![Value::U8(1), Value::I8(1)])]),
        &[],
        "i8 among",
    );
    check(
        &pairs(vec![Value::Array(vec![Value::Array(vec![])])]),
        &[],
        "among",
    );
    let located = Value::Located {
        element_type: 8,
        len: 9,
        offset: 0,
        bytes: 99,
    };
    check(&pairs(vec![located]), &[], "still lies in its file");
    check(
        &[("k".into(), Value::U8(1)), ("k".into(), Value::U8(2))],
        &[],
        "twice",
    );
    check(&[], &[TENSORS[1], TENSORS[1]], "twice");
    check(&[], &[tensor(Dtype::INT4, &[128])], "GGUF does not have");
    check(&[], &[tensor(Dtype::Q4_K, &[2, 255])], "whole blocks");
    check(&[], &[tensor(Dtype::F32, &[])], "one to four dimensions");
    check(
        &[],
        &[tensor(Dtype::F32, &[1; 5])],
        "one to four dimensions",
    );
    check(&[], &[tensor(Dtype::F32, &[u64::MAX, 2])], "2^63");
}

proptest! {
    #[test]
    fn strings_of_any_kind_come_back(strings in proptest::collection::vec(".*", 1..50)) {
        let list: StringList = strings.iter().collect();
        let metadata = pairs(vec![Value::Strings(list), Value::U8(9)]);
        let mut out = Vec::new();
        let end = write_header(&mut out, &metadata, &[]).unwrap();
        prop_assert_eq!(end.0, out.len() as u64);
        let read = read_header_from(Cursor::new(out)).unwrap();
        let expect = strings.into_iter().map(Value::String).collect();
        prop_assert_eq!(&read.metadata.0[0].1, &Value::Array(expect));
        prop_assert_eq!(&read.metadata.0[1].1, &Value::U8(9));
    }
}
