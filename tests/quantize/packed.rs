//! Checkpoints that are quantized already become the GGUF that their dequantized twin becomes. Each
//! layout is written here from its definition, codes and values side by side.

use serde_json::{Value as Json, json};

use crate::build::{Bytes, Scratch, Written, orinplan, quantize};
use crate::types::llama;

/// Columns that share a scale.
const GROUP: usize = 8;

/// A layout: the tensors of a matrix of `[rows, columns]` by the ends of their names, and its values.
type Pack = fn(usize, usize) -> (Vec<Piece>, Vec<f32>);

/// The end of a tensor's name, its type, shape and bytes.
type Piece = (&'static str, &'static str, Vec<usize>, Vec<u8>);

/// Codes without a pattern.
fn code(index: usize) -> u32 {
    (index as u32).wrapping_mul(2_654_435_761) >> 13
}

/// Powers of two, which every float type holds.
fn scale(index: usize) -> f32 {
    (-5.0 - (code(index) % 3) as f32).exp2()
}

fn bf16s(values: impl Iterator<Item = f32>) -> Vec<u8> {
    let upper = values.map(|value| (value.to_bits() >> 16) as u16);
    upper.flat_map(u16::to_le_bytes).collect()
}

/// Halves of powers of two.
fn f16s(values: impl Iterator<Item = f32>) -> Vec<u8> {
    let bits = values.map(|value| ((value.log2() as i32 + 15) as u16) << 10);
    bits.flat_map(u16::to_le_bytes).collect()
}

/// A sign, four bits of exponent with a bias of 7, three of mantissa.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match exponent {
        0 => mantissa / 8.0 * (-6f32).exp2(),
        e => (1.0 + mantissa / 8.0) * ((e - 7) as f32).exp2(),
    };
    if byte & 128 > 0 { -size } else { size }
}

/// A code of E4M3 that is a number.
fn e4m3_code(index: usize) -> u8 {
    match code(index) as u8 {
        nan if nan & 127 == 127 => 1,
        number => number,
    }
}

/// `value(row, column)` of a matrix.
fn values(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    places.map(|(row, column)| value(row, column)).collect()
}

/// Words of eight nibbles, the first one lowest.
fn words(nibbles: impl Iterator<Item = u32>) -> Vec<u8> {
    let nibbles: Vec<u32> = nibbles.collect();
    let word = |eight: &[u32]| (0..8).fold(0, |word, i| word | eight[i] << (4 * i));
    let words = nibbles.chunks(8).map(word);
    words.flat_map(u32::to_le_bytes).collect()
}

/// FP8 with a scale for each block of 16 rows and 8 columns (DeepSeek's form).
fn fp8_blocks(rows: usize, columns: usize) -> (Vec<Piece>, Vec<f32>) {
    let across = columns / GROUP;
    let codes = (0..rows * columns).map(e4m3_code).collect();
    let scales = bf16s((0..rows / 16 * across).map(scale));
    let pieces = vec![
        ("weight", "F8_E4M3", vec![rows, columns], codes),
        ("weight_scale_inv", "BF16", vec![rows / 16, across], scales),
    ];
    let value = |row: usize, column: usize| {
        e4m3(e4m3_code(row * columns + column)) * scale(row / 16 * across + column / GROUP)
    };
    (pieces, values(rows, columns, value))
}

/// FP8 with a scale for each row.
fn fp8_rows(rows: usize, columns: usize) -> (Vec<Piece>, Vec<f32>) {
    let codes = (0..rows * columns).map(e4m3_code).collect();
    let pieces = vec![
        ("weight", "F8_E4M3", vec![rows, columns], codes),
        (
            "weight_scale",
            "BF16",
            vec![rows, 1],
            bf16s((0..rows).map(scale)),
        ),
    ];
    let value = |row: usize, column: usize| e4m3(e4m3_code(row * columns + column)) * scale(row);
    (pieces, values(rows, columns, value))
}

/// compressed-tensors, four bits around eight, words along the columns.
fn int4(rows: usize, columns: usize) -> (Vec<Piece>, Vec<f32>) {
    let groups = columns / GROUP;
    let shape = [rows as i64, columns as i64].map(i64::to_le_bytes);
    let packed = words((0..rows * columns).map(|index| code(index) & 15));
    let pieces = vec![
        ("weight_packed", "I32", vec![rows, columns / 8], packed),
        (
            "weight_scale",
            "BF16",
            vec![rows, groups],
            bf16s((0..rows * groups).map(scale)),
        ),
        ("weight_shape", "I64", vec![2], shape.concat()),
    ];
    let value = |row: usize, column: usize| {
        ((code(row * columns + column) & 15) as f32 - 8.0) * scale(row * groups + column / GROUP)
    };
    (pieces, values(rows, columns, value))
}

/// GPTQ: words along the columns of the transposed matrix, zero points stored one too low.
fn gptq(rows: usize, columns: usize) -> (Vec<Piece>, Vec<f32>) {
    let groups = columns / GROUP;
    let nibble = |row: usize, column: usize| code(row * columns + column) & 15;
    let packed = (0..columns / 8).flat_map(|word| {
        (0..rows).flat_map(move |row| (0..8).map(move |i| nibble(row, 8 * word + i)))
    });
    let zeros = words((0..groups * rows).map(|index| code(index + 7) % 15));
    let indices = (0..columns).flat_map(|column| ((column / GROUP) as i32).to_le_bytes());
    let pieces = vec![
        ("qweight", "I32", vec![columns / 8, rows], words(packed)),
        ("qzeros", "I32", vec![groups, rows / 8], zeros),
        (
            "scales",
            "F16",
            vec![groups, rows],
            f16s((0..groups * rows).map(scale)),
        ),
        ("g_idx", "I32", vec![columns], indices.collect()),
    ];
    let value = |row: usize, column: usize| {
        let index = column / GROUP * rows + row;
        let zero = (code(index + 7) % 15 + 1) as f32;
        (nibble(row, column) as f32 - zero) * scale(index)
    };
    (pieces, values(rows, columns, value))
}

/// AWQ: words along the rows of the transposed matrix, nibbles in the order 0 2 4 6 1 3 5 7.
fn awq(rows: usize, columns: usize) -> (Vec<Piece>, Vec<f32>) {
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let groups = columns / GROUP;
    let nibble = |row: usize, column: usize| code(row * columns + column) & 15;
    let zero = |group: usize, row: usize| code(group * rows + row + 7) & 15;
    let packed = (0..columns).flat_map(|column| {
        (0..rows / 8).flat_map(move |word| ORDER.map(|i| nibble(8 * word + i, column)))
    });
    let zeros = (0..groups).flat_map(|group| {
        (0..rows / 8).flat_map(move |word| ORDER.map(|i| zero(group, 8 * word + i)))
    });
    let pieces = vec![
        ("qweight", "I32", vec![columns, rows / 8], words(packed)),
        ("qzeros", "I32", vec![groups, rows / 8], words(zeros)),
        (
            "scales",
            "F16",
            vec![groups, rows],
            f16s((0..groups * rows).map(scale)),
        ),
    ];
    let value = |row: usize, column: usize| {
        let group = column / GROUP;
        (nibble(row, column) as f32 - zero(group, row) as f32) * scale(group * rows + row)
    };
    (pieces, values(rows, columns, value))
}

/// `llama()` with its projections in a layout, and the same in F32.
pub(crate) fn twins(scratch: &Scratch, quantization: Json, pack: Pack) -> [std::path::PathBuf; 2] {
    let (config, tensors) = llama();
    let (mut packed, mut plain): (Vec<Bytes>, Vec<Bytes>) = (Vec::new(), Vec::new());
    for (name, shape, value) in tensors {
        let floats = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect();
        match name.strip_suffix("_proj.weight") {
            Some(module) => {
                let (pieces, values) = pack(shape[0], shape[1]);
                let named = pieces.into_iter().map(|(end, dtype, shape, bytes)| {
                    (format!("{module}_proj.{end}"), dtype, shape, bytes)
                });
                packed.extend(named);
                plain.push((name, "F32", shape, floats(values)));
            }
            None => {
                let values = (0..shape.iter().product()).map(value).collect();
                let tensor = (name, "F32", shape, floats(values));
                packed.push(tensor.clone());
                plain.push(tensor);
            }
        }
    }
    let mut quantized = config.clone();
    quantized["quantization_config"] = quantization;
    [
        scratch.stored("packed", &quantized, packed),
        scratch.stored("plain", &config, plain),
    ]
}

/// The name of each layout, its configuration and what packs a matrix.
pub(crate) fn layouts() -> [(&'static str, Json, Pack); 5] {
    let compressed = |bits: u32, kind: &str, format: &str| {
        let weights = json!({
            "num_bits": bits, "type": kind, "symmetric": true,
            "group_size": GROUP, "strategy": "group",
        });
        json!({
            "quant_method": "compressed-tensors", "format": format,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        })
    };
    [
        (
            "fp8 in blocks",
            json!({"quant_method": "fp8", "weight_block_size": [16, GROUP]}),
            fp8_blocks,
        ),
        (
            "fp8 by row",
            compressed(8, "float", "float-quantized"),
            fp8_rows,
        ),
        ("int4", compressed(4, "int", "pack-quantized"), int4),
        (
            "gptq",
            json!({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": false}),
            gptq,
        ),
        (
            "awq",
            json!({"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
            awq,
        ),
    ]
}

#[test]
fn packed_checkpoints_become_what_their_twins_become() {
    for (name, quantization, pack) in layouts() {
        let scratch = Scratch::new();
        let [packed, plain] = twins(&scratch, quantization, pack);
        for scheme in ["bf16", "q4_0"] {
            let [from_packed, from_plain] =
                [(&packed, "packed.gguf"), (&plain, "plain.gguf")].map(|(model, file)| {
                    let output = scratch.path(&format!("{scheme}-{file}"));
                    quantize(model, scheme, &output, &[]);
                    Written::read(&output)
                });
            assert_eq!(from_packed.names(), from_plain.names(), "{name}");
            for tensor in from_plain.names() {
                assert_eq!(
                    from_packed.data(tensor),
                    from_plain.data(tensor),
                    "{name}: {tensor} in {scheme}"
                );
            }
        }
        let words = [
            "quantize",
            packed.to_str().unwrap(),
            "--scheme",
            "q4_0",
            "--dry-run",
        ];
        let (said, _, status) = orinplan(&words);
        assert_eq!(status, 0);
        assert!(
            said.contains("note:"),
            "{name}: twice quantized, and nothing said: {said}"
        );
    }
}
