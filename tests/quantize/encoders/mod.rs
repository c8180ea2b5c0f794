//! Encoders and decoders of the GGUF formats against ggml's own `quantize_*` and
//! `dequantize_row_*`, compiled without fused products: bytes where they must be the same, errors
//! where ours must not be larger.

mod grids;
mod streams;

use orinplan::dtype::Dtype;
use orinplan::quantize::blocks::{BlockError, decode_rows, deviation, encode_rows};
use streams::{bell, fnv, heavy, importance, outlier, positive, uniform};

fn encode(dtype: Dtype, values: &[f32], row: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let bytes = dtype.bytes(&[values.len() as u64]).unwrap().0 as usize;
    let mut out = vec![0xaa; bytes];
    encode_rows(dtype, values, row, importance, &mut out).unwrap();
    out
}

fn decode(dtype: Dtype, bytes: &[u8], values: usize, row: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; values];
    decode_rows(dtype, bytes, row, &mut out).unwrap();
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn legacy_blocks_are_the_bytes_that_ggml_writes() {
    let x: Vec<f32> = INPUT.iter().map(|&bits| f32::from_bits(bits)).collect();
    for (dtype, bytes) in [
        (Dtype::Q4_0, "f52f8a1068cf5f341a7c97df5738b296c432"),
        (Dtype::Q4_1, "3c30f5bb791068cf4f34196b96cf4737a286b432"),
        (Dtype::Q5_0, "f52bdd0a09730420d19f9f6914e73eaf9f70541d8865"),
        (
            Dtype::Q5_1,
            "192cf5bbdd020873f420c08f9e6913d62d9f9e6f441d8865",
        ),
        (
            Dtype::Q8_0,
            "02202081077b78c81d38ed7ef5fda4e7c0a8fd92e544c9b18bed174cccb5280c42b2",
        ),
    ] {
        assert_eq!(hex(&encode(dtype, &x, 32, None)), bytes, "{}", dtype.name());
    }
}

#[test]
fn legacy_rows_are_the_bytes_that_ggml_writes() {
    let (x, w) = (heavy(3, 4 * 1056), importance(4, 1056));
    for (dtype, plain, weighted) in [
        (Dtype::Q4_0, 0xafe8_2bb5_e883_35d8, 0x8bb5_00b1_300b_13f3),
        (Dtype::Q4_1, 0x4a1a_5e3d_2395_a669, 0x1b16_c928_2983_aae2),
        (Dtype::Q5_0, 0xa97a_69f4_914a_f1a2, 0x7d47_8f6c_a8e8_be86),
        (Dtype::Q5_1, 0x8648_6d79_5e7c_baf2, 0x323c_a62f_3d33_e8f0),
        (Dtype::Q8_0, 0x0466_91f7_a1cd_a020, 0x0466_91f7_a1cd_a020),
    ] {
        assert_eq!(
            fnv(&encode(dtype, &x, 1056, None)),
            plain,
            "{}",
            dtype.name()
        );
        let bytes = encode(dtype, &x, 1056, Some(&w));
        assert_eq!(fnv(&bytes), weighted, "{} with importance", dtype.name());
    }
}

#[test]
fn decoded_blocks_are_the_numbers_that_ggml_reads() {
    for (dtype, halves, hash) in [
        (Dtype::Q4_0, &[0][..], 0xdfc0_f556_89da_fdb5),
        (Dtype::Q4_1, &[0, 2][..], 0x7b1f_9ab8_c215_1764),
        (Dtype::Q5_0, &[0][..], 0xfd59_c090_d3d5_3291),
        (Dtype::Q5_1, &[0, 2][..], 0xc790_deb5_29a4_1b54),
        (Dtype::Q8_0, &[0][..], 0x48a9_8e22_9dd4_fc48),
        (Dtype::IQ4_NL, &[0][..], 0x6a34_36a1_9bd2_c2b5),
        (Dtype::Q2_K, &[80, 82][..], 0xd7fa_590c_f9d0_fa48),
        (Dtype::Q3_K, &[108][..], 0x0f24_d6bc_8bf2_b6da),
        (Dtype::Q4_K, &[0, 2][..], 0x05b5_e2e7_2b59_707d),
        (Dtype::Q5_K, &[0, 2][..], 0x8af9_e690_8783_c47f),
        (Dtype::Q6_K, &[208][..], 0xed61_8095_4451_bd97),
        (Dtype::IQ4_XS, &[0][..], 0x99e6_3794_4395_4cbe),
    ] {
        decoded_alike(dtype, 4, halves, hash);
    }
}

/// So many blocks that nearly every vector of a codebook occurs.
#[test]
fn decoded_codebooks_and_levels_are_the_numbers_that_ggml_reads() {
    for (dtype, halves, hash) in [
        (Dtype::IQ2_XXS, &[0][..], 0x24ae_55e7_72a4_e461),
        (Dtype::IQ2_XS, &[0][..], 0x2f7f_d80d_13f2_13bd),
        (Dtype::IQ2_S, &[0][..], 0x46a2_b793_8890_2e3c),
        (Dtype::IQ3_XXS, &[0][..], 0x1588_181d_c46a_a938),
        (Dtype::IQ3_S, &[0][..], 0x3c6e_887b_6a7b_0913),
        (Dtype::IQ1_S, &[0][..], 0xcb00_c0c1_240e_847d),
        (Dtype::IQ1_M, &[54][..], 0x443f_3828_473e_54e3),
        (Dtype::TQ1_0, &[52][..], 0x7d02_5caf_2358_76a6),
        (Dtype::TQ2_0, &[64][..], 0x78f5_decb_0948_bf85),
        (Dtype::MXFP4, &[][..], 0x1731_4fd6_4304_ece2),
        (Dtype::NVFP4, &[][..], 0xdff8_e195_5739_c681),
        (Dtype::Q1_0, &[0][..], 0x06ee_3a75_04ef_01a5),
        (Dtype::Q2_0, &[0][..], 0xef43_5d77_9f5e_511a),
    ] {
        decoded_alike(dtype, 64, halves, hash);
    }
}

/// Decodes `count` random blocks, with sensible numbers in half precision at `halves`, and holds the values to `hash`.
fn decoded_alike(dtype: Dtype, count: usize, halves: &[usize], hash: u64) {
    let bytes = dtype.format().block_bytes as usize;
    let mut blocks: Vec<u8> = uniform(5, bytes * count)
        .iter()
        .map(|v| ((v + 1.0) * 128.0) as u8)
        .collect();
    for block in blocks.chunks_mut(bytes) {
        // Scales of a sensible size: ours to choose, as all else is random.
        for &half in halves {
            block[half + 1] = (block[half + 1] & 0x83) | 0x28;
        }
    }
    let row = dtype.format().block_elements as usize;
    let values = decode(dtype, &blocks, row * count, row);
    let bits: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(fnv(&bits), hash, "{}: {:?}..", dtype.name(), &values[..3]);
}

/// Relative errors of ggml, plain and weighted, without importance and with it.
type Errors = [f64; 4];

#[test]
fn errors_are_no_larger_than_those_of_ggml() {
    let w = importance(21, 1024);
    for (dtype, name, errors) in GGML {
        let x = match name {
            "bell" => bell(20, 6 * 1024),
            "heavy" => heavy(20, 6 * 1024),
            "positive" => positive(20, 6 * 1024),
            _ => outlier(20, 6 * 1024),
        };
        let mut ours = Vec::new();
        for importance in [None, Some(&w[..])] {
            let bytes = encode(dtype, &x, 1024, importance);
            let y = decode(dtype, &bytes, x.len(), 1024);
            let deviation = deviation(dtype, &x, &y, 1024, importance);
            ours.extend([deviation.relative(), deviation.weighted()]);
        }
        // Where all values have one sign or few of them tower, plain and weighted error pull apart.
        let more = if matches!(name, "bell" | "heavy") {
            1.0
        } else {
            1.05
        };
        for (ours, ggml) in ours.iter().zip(errors) {
            assert!(
                *ours <= ggml * more,
                "{} {name}: {ours:.6} for {ggml:.6}",
                dtype.name()
            );
        }
    }
}

/// With importance the weighted error is no larger than ggml's, without it both errors of the formats that ggml makes
/// without.
#[test]
fn errors_of_codebooks_and_levels_are_no_larger_than_those_of_ggml() {
    let w = importance(21, 1024);
    for (dtype, errors) in FEW {
        let streams = [
            bell(20, 6 * 1024),
            heavy(20, 6 * 1024),
            outlier(20, 6 * 1024),
        ];
        for (x, [plain, weighted]) in streams.iter().zip(errors) {
            let error = |importance: Option<&[f32]>| {
                let bytes = encode(dtype, x, 1024, importance);
                let y = decode(dtype, &bytes, x.len(), 1024);
                deviation(dtype, x, &y, 1024, importance)
            };
            let (name, ours) = (dtype.name(), error(Some(&w)).weighted());
            assert!(ours <= weighted, "{name}: {ours:.6} for {weighted:.6}");
            let ours = error(None).relative();
            assert!(ours <= plain, "{name}: {ours:.6} for {plain:.6}");
        }
    }
}

#[test]
fn ternary_weights_are_kept_exactly() {
    let scale = f32::from_bits(0x3d4c_0000);
    let x: Vec<f32> = uniform(9, 512)
        .iter()
        .map(|v| (v * 1.5).round() * scale)
        .collect();
    for dtype in [Dtype::TQ1_0, Dtype::TQ2_0] {
        for importance in [None, Some(&importance(10, 512)[..])] {
            let bytes = encode(dtype, &x, 512, importance);
            assert_eq!(decode(dtype, &bytes, 512, 512), x, "{}", dtype.name());
        }
    }
}

#[test]
fn what_no_block_can_hold_is_counted_and_does_no_harm() {
    let mut x = bell(30, 512);
    (x[3], x[100], x[300]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    for &dtype in orinplan::quantize::blocks::FORMATS {
        let mut out = vec![0; dtype.bytes(&[512]).unwrap().0 as usize];
        let encoded = encode_rows(dtype, &x, 512, None, &mut out).unwrap();
        assert_eq!(encoded.not_finite, 3, "{}", dtype.name());
        let y = decode(dtype, &out, 512, 512);
        if dtype.is_quantized() {
            assert!(y.iter().all(|v| v.is_finite()), "{}", dtype.name());
            let zeroed: Vec<f32> = x
                .iter()
                .map(|v| if v.is_finite() { *v } else { 0.0 })
                .collect();
            assert_eq!(encode(dtype, &zeroed, 512, None), out, "{}", dtype.name());
        } else {
            assert!(y[3].is_nan() && y[100] == f32::INFINITY && y[300] == f32::NEG_INFINITY);
        }
    }
}

#[test]
fn zeros_stay_zeros_and_constants_come_close() {
    for &dtype in orinplan::quantize::blocks::FORMATS {
        for value in [0.0, 0.37, -0.37, 1e-2, 1e4, 1e-30] {
            let x = [value; 256];
            let y = decode(dtype, &encode(dtype, &x, 256, None), 256, 256);
            for y in y {
                // F16 ends at 2^-24, and so do the scales of blocks; a float of four bits with a power of two as its
                // scale is off by a fifth at most.
                let error = (y - value).abs();
                let share = if dtype == Dtype::MXFP4 { 0.2 } else { 0.005 };
                assert!(
                    error <= value.abs() * share || (value == 1e-30 && y.abs() < 1e-7),
                    "{}: {value} became {y}",
                    dtype.name()
                );
            }
        }
    }
}

#[test]
fn the_far_ends_of_f32_stay_finite() {
    for &dtype in orinplan::quantize::blocks::FORMATS
        .iter()
        .filter(|d| d.is_quantized())
    {
        for scale in [1e-44, 1e-38, 1e-20, 1e-7, 1e5, 1e15, 1e30, f32::MAX] {
            let x: Vec<f32> = uniform(40, 256).iter().map(|v| v * scale).collect();
            for importance in [
                None,
                Some(&[1e-38; 256][..]),
                Some(&[f32::MAX; 256]),
                Some(&[0.0; 256]),
            ] {
                let y = decode(dtype, &encode(dtype, &x, 256, importance), 256, 256);
                for (x, y) in x.iter().zip(y) {
                    assert!(y.is_finite(), "{} {scale:e}: {x} became {y}", dtype.name());
                    assert!(
                        y.abs() <= 1.3 * scale + 1e-6,
                        "{} {scale:e}: {x} became {y}",
                        dtype.name()
                    );
                }
            }
        }
    }
}

#[test]
fn rows_are_encoded_alike_however_they_are_dealt_out() {
    let (x, w) = (heavy(50, 6 * 768), importance(51, 768));
    for &dtype in orinplan::quantize::blocks::FORMATS {
        for importance in [None, Some(&w[..])] {
            let whole = encode(dtype, &x, 768, importance);
            for rows in [1, 4] {
                let parts: Vec<u8> = x
                    .chunks(768 * rows)
                    .flat_map(|x| encode(dtype, x, 768, importance))
                    .collect();
                assert!(parts == whole, "{} by {rows} rows", dtype.name());
            }
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let check = |dtype, values: usize, row, importance: Option<&[f32]>, bytes: usize| {
        encode_rows(
            dtype,
            &vec![1.0; values],
            row,
            importance,
            &mut vec![0; bytes],
        )
        .unwrap_err()
    };
    let error = check(Dtype::Q4_K, 480, 480, None, 270);
    assert_eq!(
        error.to_string(),
        "a row of 480 values is not a multiple of the 256-value blocks of Q4_K"
    );
    assert!(matches!(
        check(Dtype::Q8_0, 48, 32, None, 51),
        BlockError::Values { .. }
    ));
    assert!(matches!(
        check(Dtype::Q8_0, 48, 0, None, 51),
        BlockError::Values { .. }
    ));
    let error = check(Dtype::Q8_0, 64, 32, None, 67);
    assert_eq!(error.to_string(), "64 values in Q8_0 take 68 bytes, not 67");
    let error = check(Dtype::Q4_K, 256, 256, Some(&[1.0; 255]), 144);
    assert!(matches!(
        error,
        BlockError::Importance {
            have: 255,
            row: 256
        }
    ));
    for value in [f32::NAN, -1.0, f32::INFINITY] {
        let mut importance = [1.0; 256];
        importance[9] = value;
        let error = check(Dtype::Q4_K, 256, 256, Some(&importance), 144);
        assert!(
            matches!(error, BlockError::ImportanceValue { column: 9, .. }),
            "{error}"
        );
    }
    assert_eq!(
        check(Dtype::IQ1_S, 256, 256, None, 50),
        BlockError::Unsupported(Dtype::IQ1_S)
    );
    assert_eq!(
        encode_rows(Dtype::Q4_K, &[], 0, None, &mut []),
        Ok(Default::default())
    );
}

#[test]
fn deviations_are_what_their_formulas_say() {
    // By hand: errors 0.5 and 0 on values 1 and 2; x^2 weighs them 1 and 4.
    let d = deviation(Dtype::Q6_K, &[1.0, 2.0], &[1.5, 2.0], 2, None);
    assert_eq!((d.value, d.error), (5.0, 0.25));
    assert_eq!((d.weighted_value, d.weighted_error), (17.0, 0.25));
    let d = deviation(Dtype::Q6_K, &[1.0, 2.0], &[1.5, 2.0], 2, Some(&[8.0, 2.0]));
    assert_eq!((d.weighted_value, d.weighted_error), (16.0, 2.0));
    // |x| plus the root mean square, sqrt(2.5).
    let d = deviation(Dtype::Q4_K, &[1.0, 2.0], &[1.5, 2.0], 2, None);
    assert!((d.weighted_error - 0.25 * (1.0 + 2.5f64.sqrt())).abs() < 1e-12);
    // importance x sqrt(x^2 + 2 x mean square).
    let d = deviation(Dtype::Q4_K, &[1.0, 2.0], &[1.5, 2.0], 2, Some(&[3.0, 1.0]));
    assert!((d.weighted_error - 0.75 * 6.0f64.sqrt()).abs() < 1e-12);
    assert_eq!(
        deviation(Dtype::Q4_0, &[0.0], &[0.0], 1, None).relative(),
        0.0
    );
}

#[rustfmt::skip]
const INPUT: [u32; 32] = [
    0x3e82_1fac, 0xbf7e_996c, 0x3d60_d8a0, 0x3f76_4c50, 0x3f6f_cf3a, 0xbee0_2668, 0x3e67_1810, 0x3ee2_0a7c,
    0xbe17_f7c4, 0x3f7d_596e, 0xbdb7_35a0, 0xbcb7_b140, 0xbf38_ddb2, 0xbe45_2178, 0xbf01_448c, 0xbf30_e646,
    0xbcb1_ddc0, 0xbf5d_81b2, 0xbe57_d1d4, 0x3f08_c262, 0xbedb_4714, 0xbf1e_45d2, 0xbf6a_1f55, 0xbe14_b8c4,
    0x3e39_1a78, 0x3f18_ed24, 0xbed2_0da2, 0xbf16_ccaa, 0x3ea1_ecbc, 0x3dbc_c0e0, 0x3f04_529e, 0xbf1d_477a,
];

/// Measured with ggml on the same streams.
#[rustfmt::skip]
const GGML: [(Dtype, &str, Errors); 28] = [
    (Dtype::Q2_K, "bell", [0.287531, 0.194571, 0.300845, 0.178365]),
    (Dtype::Q2_K, "heavy", [0.358321, 0.169092, 0.320628, 0.170656]),
    (Dtype::Q2_K, "positive", [0.180379, 0.127000, 0.188555, 0.122697]),
    (Dtype::Q2_K, "outlier", [0.197073, 0.029720, 0.239118, 0.041675]),
    (Dtype::Q3_K, "bell", [0.145571, 0.084112, 0.154010, 0.107467]),
    (Dtype::Q3_K, "heavy", [0.141307, 0.081934, 0.152443, 0.096976]),
    (Dtype::Q3_K, "positive", [0.140666, 0.075934, 0.145866, 0.100092]),
    (Dtype::Q3_K, "outlier", [0.103572, 0.002783, 0.114936, 0.023713]),
    (Dtype::Q4_K, "bell", [0.068814, 0.057491, 0.073784, 0.051153]),
    (Dtype::Q4_K, "heavy", [0.071553, 0.054491, 0.076621, 0.050778]),
    (Dtype::Q4_K, "positive", [0.040466, 0.033798, 0.042713, 0.031589]),
    (Dtype::Q4_K, "outlier", [0.086721, 0.034091, 0.189136, 0.017048]),
    (Dtype::Q5_K, "bell", [0.034984, 0.029462, 0.036589, 0.026462]),
    (Dtype::Q5_K, "heavy", [0.037536, 0.028470, 0.039297, 0.026754]),
    (Dtype::Q5_K, "positive", [0.019665, 0.016602, 0.020762, 0.015399]),
    (Dtype::Q5_K, "outlier", [0.050478, 0.020519, 0.067224, 0.010822]),
    (Dtype::Q6_K, "bell", [0.017095, 0.009094, 0.018307, 0.014647]),
    (Dtype::Q6_K, "heavy", [0.017740, 0.007634, 0.019363, 0.015722]),
    (Dtype::Q6_K, "positive", [0.017072, 0.009061, 0.018240, 0.014618]),
    (Dtype::Q6_K, "outlier", [0.034637, 0.000722, 0.120308, 0.027609]),
    (Dtype::IQ4_NL, "bell", [0.073592, 0.051645, 0.077566, 0.059832]),
    (Dtype::IQ4_NL, "heavy", [0.071393, 0.048730, 0.076962, 0.054568]),
    (Dtype::IQ4_NL, "positive", [0.072335, 0.048657, 0.074649, 0.058091]),
    (Dtype::IQ4_NL, "outlier", [0.100562, 0.002495, 0.182861, 0.032208]),
    (Dtype::IQ4_XS, "bell", [0.074245, 0.052578, 0.077856, 0.060561]),
    (Dtype::IQ4_XS, "heavy", [0.071775, 0.049572, 0.077094, 0.055558]),
    (Dtype::IQ4_XS, "positive", [0.072767, 0.049566, 0.075078, 0.058811]),
    (Dtype::IQ4_XS, "outlier", [0.102838, 0.002607, 0.133516, 0.021534]),
];

/// Measured with ggml on the streams `bell`, `heavy` and `outlier`: the plain error without importance (infinite where
/// ggml needs it or minds other things), and the weighted error with it.
#[rustfmt::skip]
const FEW: [(Dtype, [[f64; 2]; 3]); 8] = [
    (Dtype::IQ2_XXS, [[f64::INFINITY, 0.365852], [f64::INFINITY, 0.254883], [f64::INFINITY, 0.170006]]),
    (Dtype::IQ2_XS, [[f64::INFINITY, 0.183154], [f64::INFINITY, 0.202643], [f64::INFINITY, 0.140997]]),
    (Dtype::IQ2_S, [[f64::INFINITY, 0.169336], [f64::INFINITY, 0.191630], [f64::INFINITY, 0.132155]]),
    (Dtype::IQ3_XXS, [[f64::INFINITY, 0.110215], [f64::INFINITY, 0.119760], [f64::INFINITY, 0.080550]]),
    (Dtype::IQ3_S, [[0.159928, 0.089584], [0.214584, 0.099971], [0.299591, 0.070533]]),
    (Dtype::MXFP4, [[0.110451, 0.109295], [0.138321, 0.137342], [0.149992, 0.141194]]),
    (Dtype::TQ1_0, [[0.777298, 0.771486], [0.574739, 0.577370], [0.386197, 0.299181]]),
    (Dtype::TQ2_0, [[0.777298, 0.771486], [0.574739, 0.577370], [0.386197, 0.299181]]),
];
