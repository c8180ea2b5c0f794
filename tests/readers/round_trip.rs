//! Random valid files come back as they were written; for safetensors the format's own crate is
//! asked too, about right and wrong files.

use std::io::Cursor;

use ::safetensors::SafeTensors;
use orinplan::gguf::{self, Value};
use orinplan::safetensors;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::build::{self, Pair};

/// Type id, elements of a block, bytes of a block.
const GGML: [(u32, u64, u64); 8] = [
    (0, 1, 4),
    (1, 1, 2),
    (30, 1, 2),
    (2, 32, 18),
    (8, 32, 34),
    (39, 32, 17),
    (12, 256, 144),
    (14, 256, 210),
];

const NUMBERS: [(&str, u64); 7] = [
    ("F32", 4),
    ("BF16", 2),
    ("F8_E4M3", 1),
    ("F8_E5M2FNUZ", 1),
    ("I64", 8),
    ("BOOL", 1),
    ("C64", 8),
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        (-1e9f32..1e9).prop_map(Value::F32),
        (-1e9f64..1e9).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        ".{0,9}".prop_map(Value::String),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        scalar(),
        vec(any::<i32>().prop_map(Value::I32), 1..9).prop_map(Value::Array),
        vec(any::<bool>().prop_map(Value::Bool), 1..9).prop_map(Value::Array),
        vec(".{0,9}".prop_map(Value::String), 1..64).prop_map(Value::Array),
    ]
}

/// A value's type id and bytes.
fn encode(value: &Value) -> (u32, Vec<u8>) {
    match value {
        Value::U8(x) => (0, x.to_le_bytes().to_vec()),
        Value::I8(x) => (1, x.to_le_bytes().to_vec()),
        Value::U16(x) => (2, x.to_le_bytes().to_vec()),
        Value::I16(x) => (3, x.to_le_bytes().to_vec()),
        Value::U32(x) => (4, x.to_le_bytes().to_vec()),
        Value::I32(x) => (5, x.to_le_bytes().to_vec()),
        Value::F32(x) => (6, x.to_le_bytes().to_vec()),
        Value::Bool(x) => (7, vec![u8::from(*x)]),
        Value::String(x) => (8, build::string(x)),
        Value::U64(x) => (10, x.to_le_bytes().to_vec()),
        Value::I64(x) => (11, x.to_le_bytes().to_vec()),
        Value::F64(x) => (12, x.to_le_bytes().to_vec()),
        Value::Array(values) => {
            let elements: Vec<u8> = values.iter().flat_map(|value| encode(value).1).collect();
            (
                9,
                build::array(encode(&values[0]).0, values.len() as u64, &elements),
            )
        }
        Value::Located { .. } | Value::Strings(_) | Value::I32s(_) | Value::F32s(_) => {
            unreachable!("no strategy makes one")
        }
    }
}

/// A safetensors header and the bytes of its data: names, types and shapes as given, offsets in the
/// order of `entries`, written in the order of the names.
fn header(entries: &[(String, usize, Vec<u64>)]) -> (String, usize) {
    let (mut texts, mut at) = (Vec::new(), 0);
    for (name, dtype, shape) in entries {
        let (dtype, width) = NUMBERS[*dtype];
        let end = at + width * shape.iter().product::<u64>();
        let name = serde_json::to_string(name).unwrap();
        texts.push(format!(
            r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        ));
        at = end;
    }
    texts.sort();
    (format!("{{{}}}", texts.join(",")), at as usize)
}

fn entries() -> impl Strategy<Value = Vec<(String, usize, Vec<u64>)>> {
    let tensors = vec((0..NUMBERS.len(), vec(0u64..5, 0..4)), 6);
    (btree_set("[a-z.\"é0-9]{1,8}", 0..6), tensors).prop_map(|(names, tensors)| {
        names
            .into_iter()
            .zip(tensors)
            .map(|(name, (dtype, shape))| (name, dtype, shape))
            .collect()
    })
}

/// A tensor's name, shape and byte range in the file.
type Place = (String, Vec<u64>, u64, u64);

/// What the format's own crate makes of a file: names in file order, shapes and byte ranges.
fn oracle(bytes: &[u8]) -> Option<Vec<Place>> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let start = 8 + header as u64;
    let mut tensors: Vec<_> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let shape = info.shape.iter().map(|&d| d as u64).collect();
            let (from, to) = info.data_offsets;
            (name, shape, start + from as u64, start + to as u64)
        })
        .collect();
    tensors.sort();
    Some(tensors)
}

fn ours(bytes: &[u8]) -> Result<Vec<Place>, safetensors::Problem> {
    let header = safetensors::read_header_from(Cursor::new(bytes))?;
    let mut tensors: Vec<_> = header
        .tensors
        .into_iter()
        .map(|t| (t.name, t.shape, t.offset, t.offset + t.bytes.0))
        .collect();
    tensors.sort();
    Ok(tensors)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gguf_comes_back(
        keys in btree_set("[a-z._é]{1,12}", 0..8),
        values in vec(value(), 8),
        names in btree_set("[a-z.0-9]{1,12}", 0..8),
        tensors in vec((0..GGML.len(), vec(1u64..4, 1..=4)), 8),
        version in 2u32..=3,
    ) {
        let written: Vec<(String, Value)> = keys.into_iter().zip(values).collect();
        let pairs: Vec<Pair> = written
            .iter()
            .map(|(key, value)| { let (id, bytes) = encode(value); (key.clone(), id, bytes) })
            .collect();
        let (mut described, mut expected, mut at, mut end) = (Vec::new(), Vec::new(), 0u64, 0u64);
        for (name, (dtype, blocks)) in names.iter().zip(&tensors) {
            let (id, block, block_bytes) = GGML[*dtype];
            let mut ne = blocks.clone();
            ne[0] *= block;
            let bytes = block_bytes * blocks.iter().product::<u64>();
            described.push(build::tensor(name, &ne, id, at));
            ne.reverse();
            expected.push((name.clone(), id, ne, at, bytes));
            end = at + bytes;
            at = end.next_multiple_of(32);
        }
        let counts = (described.len() as u64, pairs.len() as u64);
        let file = build::gguf_claiming(version, counts, &pairs, &described, 32, end as usize);
        let header = gguf::read_header_from(Cursor::new(&file)).unwrap();
        prop_assert_eq!(header.version, version);
        prop_assert_eq!(header.metadata.0, written);
        let read: Vec<_> = header
            .tensors
            .into_iter()
            .map(|t| (t.name, t.dtype.format().ggml_id.unwrap(), t.shape, t.offset - header.data_offset, t.bytes.0))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn safetensors_come_back_as_their_own_crate_reads_them(entries in entries()) {
        let (header, data) = header(&entries);
        let bytes = build::safetensors(&header, data);
        let ours = ours(&bytes).unwrap();
        prop_assert_eq!(ours.len(), entries.len());
        prop_assert_eq!(Some(ours), oracle(&bytes));
    }

    #[test]
    fn damaged_safetensors_are_judged_as_their_own_crate_judges_them(
        entries in entries(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof!["[0-9\\[\\],:{}\" a-z]".prop_map(|text| text.as_bytes()[0]), any::<u8>()],
        longer in 0usize..2,
    ) {
        let (header, data) = header(&entries);
        let mut bytes = build::safetensors(&header, data + longer);
        let at = at.index(8 + header.len());
        bytes[at] = byte;
        match ours(&bytes) {
            // The crate merges two entries of one name; that is the one difference.
            Err(safetensors::Problem::Duplicate(_)) => {}
            ours => prop_assert_eq!(ours.ok(), oracle(&bytes)),
        }
    }
}
