//! The table of schemes. Ids are llama.cpp's names in lower case, and `int4` and `fp8`.

use crate::dtype::Dtype;
use crate::units::Bytes;

/// The container that a scheme is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// GGUF, for llama.cpp and Ollama.
    Gguf,
    /// safetensors, for vLLM and Transformers.
    Safetensors,
}

/// llama.cpp's quantization mix: which tensors get another type than the scheme's base type (see `rules.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, non_camel_case_types)]
pub enum QuantMix {
    /// No mix: all tensors that may be quantized get one type (16-bit and compressed-tensors schemes).
    None,
    /// The base type, with the head and tied embedding in Q6_K or Q8_0.
    Plain,
    Q2_K,
    Q2_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_M,
    /// `IQ1_S` and `IQ1_M`.
    IQ1,
    /// `IQ2_XXS` and `IQ2_XS`.
    IQ2,
    /// `IQ2_S` and `IQ2_M`.
    IQ2_S,
    IQ3_XXS,
    IQ3_XS,
    IQ3_S,
    IQ3_M,
    /// `IQ4_NL` and `IQ4_XS`.
    IQ4,
    /// Types for models that were trained with few levels.
    Ternary,
    /// The base type for stacked experts alone, Q8_0 for the rest.
    Experts,
}

/// How a scheme groups weights that are stored as integers (compressed-tensors' `pack-quantized`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Columns that share a scale.
    pub size: u64,
    /// Whether each group has a zero point, too.
    pub zeros: bool,
}

/// Rows whose zero points share a word.
pub const ZEROS_IN_WORD: u64 = 8;

impl Groups {
    /// The exact size of a matrix in four bits: `weight_packed` (eight weights in an I32), `weight_scale` (16 bit for each
    /// group of a row), `weight_shape` (two I64), and `weight_zero_point` (the codes of eight rows in an I32). `None` where
    /// groups do not divide its rows, or words do not divide the zero points of a group of columns.
    pub fn bytes(self, shape: &[u64]) -> Option<Bytes> {
        let &[rows, columns] = shape else { return None };
        let words = !self.zeros || rows.is_multiple_of(ZEROS_IN_WORD);
        if !columns.is_multiple_of(self.size) || !words {
            return None;
        }
        let groups = columns / self.size;
        let of_row = (columns / 2).saturating_add(groups.saturating_mul(2));
        let zeros = (rows / ZEROS_IN_WORD)
            .saturating_mul(groups)
            .saturating_mul(4);
        let zeros = if self.zeros { zeros } else { 0 };
        let all = rows.saturating_mul(of_row).saturating_add(zeros);
        Some(Bytes(all.saturating_add(16)))
    }
}

/// One scheme.
#[derive(Debug)]
pub struct Scheme {
    /// `q4_k_m`.
    pub id: &'static str,
    /// The name as the field writes it.
    pub name: &'static str,
    /// The type that most tensors get.
    pub base: Dtype,
    /// Which tensors get another type.
    pub mix: QuantMix,
    /// The container of the file.
    pub container: Container,
    /// GGUF's `general.file_type` (`llama_ftype`), if it has one.
    pub file_type: Option<u32>,
    /// Whether it is shown by default; the others are shown when named or with `all`.
    pub common: bool,
    /// One line for people.
    pub about: &'static str,
    /// The groups of its integers; for those of compressed-tensors.
    pub groups: Option<Groups>,
}

/// Groups without and with zero points.
macro_rules! groups {
    () => {
        None
    };
    ($size:literal) => {
        Some(Groups {
            size: $size,
            zeros: false,
        })
    };
    ($size:literal zeros) => {
        Some(Groups {
            size: $size,
            zeros: true,
        })
    };
}

macro_rules! schemes {
    ($($id:literal $name:literal $base:ident $mix:ident $container:ident $file_type:expr, $common:literal $about:literal $(groups($($groups:tt)+))?;)*) => {
        /// Every scheme, best quality first.
        pub static SCHEMES: &[Scheme] = &[$(Scheme {
            id: $id, name: $name, base: Dtype::$base, mix: QuantMix::$mix,
            container: Container::$container, file_type: $file_type, common: $common, about: $about,
            groups: groups!($($($groups)+)?),
        }),*];
    };
}

schemes! {
    "bf16"   "BF16"   BF16    None   Gguf        Some(32), true  "16-bit brain float, no loss for most checkpoints";
    "f16"    "F16"    F16     None   Gguf        Some(1),  true  "16-bit float";
    "q8_0"   "Q8_0"   Q8_0    Plain  Gguf        Some(7),  true  "8-bit, loss not measurable";
    "fp8"    "FP8"    F8_E4M3 None   Safetensors None,     true  "8-bit float weights with a scale per row, for vLLM";
    "q6_k"   "Q6_K"   Q6_K    Plain  Gguf        Some(18), true  "6-bit, very small loss";
    "q5_1"   "Q5_1"   Q5_1    Plain  Gguf        Some(9),  false "5-bit legacy with offsets";
    "q5_k_m" "Q5_K_M" Q5_K    Q5_K_M Gguf        Some(17), true  "5-bit, small loss";
    "q5_k_s" "Q5_K_S" Q5_K    Plain  Gguf        Some(16), false "5-bit without the mix";
    "q5_0"   "Q5_0"   Q5_0    Plain  Gguf        Some(8),  false "5-bit legacy";
    "q4_1"   "Q4_1"   Q4_1    Plain  Gguf        Some(3),  false "4-bit legacy with offsets";
    "q4_k_m" "Q4_K_M" Q4_K    Q4_K_M Gguf        Some(15), true  "4-bit, the usual choice";
    "q4_k_s" "Q4_K_S" Q4_K    Q4_K_S Gguf        Some(14), true  "4-bit with less of the mix";
    "int4_asym_g32" "INT4_ASYM_G32" INT4 None Safetensors None, false "4-bit groups of 32 with zero points, for vLLM" groups(32 zeros);
    "int4_g32" "INT4_G32" INT4 None  Safetensors None,     false "4-bit groups of 32, for vLLM" groups(32);
    "int4_asym_g64" "INT4_ASYM_G64" INT4 None Safetensors None, false "4-bit groups of 64 with zero points, for vLLM" groups(64 zeros);
    "int4_g64" "INT4_G64" INT4 None  Safetensors None,     false "4-bit groups of 64, for vLLM" groups(64);
    "int4_asym" "INT4_ASYM" INT4 None Safetensors None,    false "4-bit groups of 128 with zero points (W4A16_ASYM), for vLLM" groups(128 zeros);
    "int4"   "INT4"   INT4    None   Safetensors None,     true  "4-bit groups of 128 (W4A16), for vLLM" groups(128);
    "iq4_nl" "IQ4_NL" IQ4_NL  IQ4    Gguf        Some(25), false "4-bit non-linear, slower kernels";
    "iq4_xs" "IQ4_XS" IQ4_XS  IQ4    Gguf        Some(30), false "4-bit non-linear, slower kernels";
    "q4_0"   "Q4_0"   Q4_0    Plain  Gguf        Some(2),  true  "4-bit legacy, fast kernels";
    "mxfp4_moe" "MXFP4_MOE" MXFP4 Experts Gguf   Some(38), false "4-bit floats for experts, 8 bits for the rest";
    "iq3_m"  "IQ3_M"  IQ3_S   IQ3_M  Gguf        Some(27), false "3-bit from a codebook, larger mix, slow kernels";
    "q3_k_l" "Q3_K_L" Q3_K    Q3_K_L Gguf        Some(13), false "3-bit, larger mix";
    "q3_k_m" "Q3_K_M" Q3_K    Q3_K_M Gguf        Some(12), true  "3-bit, noticeable loss";
    "iq3_s"  "IQ3_S"  IQ3_S   IQ3_S  Gguf        Some(26), false "3-bit from a codebook, slow kernels";
    "q3_k_s" "Q3_K_S" Q3_K    Plain  Gguf        Some(11), false "3-bit, high loss";
    "iq3_xs" "IQ3_XS" IQ3_S   IQ3_XS Gguf        Some(22), false "3-bit from codebooks, with an importance matrix";
    "iq3_xxs" "IQ3_XXS" IQ3_XXS IQ3_XXS Gguf     Some(23), false "3-bit from a codebook, with an importance matrix";
    "q2_k"   "Q2_K"   Q2_K    Q2_K   Gguf        Some(10), true  "2-bit, high loss";
    "q2_k_s" "Q2_K_S" Q2_K    Q2_K_S Gguf        Some(21), false "2-bit, for use with an importance matrix";
    "iq2_m"  "IQ2_M"  IQ2_S   IQ2_S  Gguf        Some(29), false "2-bit from a codebook, with an importance matrix";
    "iq2_s"  "IQ2_S"  IQ2_XS  IQ2_S  Gguf        Some(28), false "2-bit from a codebook, with an importance matrix";
    "iq2_xs" "IQ2_XS" IQ2_XS  IQ2    Gguf        Some(20), false "2-bit from a codebook, with an importance matrix, high loss";
    "iq2_xxs" "IQ2_XXS" IQ2_XXS IQ2  Gguf        Some(19), false "2-bit from a codebook, with an importance matrix, high loss";
    "q2_0"   "Q2_0"   Q2_0    Ternary Gguf       Some(41), false "2-bit levels, for models trained with them";
    "tq2_0"  "TQ2_0"  TQ2_0   Ternary Gguf       Some(37), false "three levels in 2 bits, for models trained with them";
    "iq1_m"  "IQ1_M"  IQ1_M   IQ1    Gguf        Some(31), false "1.75 bits from a codebook, with an importance matrix, extreme loss";
    "tq1_0"  "TQ1_0"  TQ1_0   Ternary Gguf       Some(36), false "three levels in 1.7 bits, for models trained with them";
    "iq1_s"  "IQ1_S"  IQ1_S   IQ1    Gguf        Some(24), false "1.5 bits from a codebook, with an importance matrix, extreme loss";
    "q1_0"   "Q1_0"   Q1_0    Plain  Gguf        Some(40), false "signs in 1 bit, for models trained with them";
}

impl Scheme {
    /// The scheme called `id`, in any case.
    pub fn get(id: &str) -> Option<&'static Scheme> {
        SCHEMES.iter().find(|s| s.id.eq_ignore_ascii_case(id))
    }

    /// The scheme of files with weights in F16, or else in BF16.
    pub fn of_half(half: Dtype) -> &'static Scheme {
        let mut schemes = SCHEMES.iter();
        let found = schemes.find(|s| s.base == half && s.mix == QuantMix::None);
        // BF16 comes first.
        found.unwrap_or(&SCHEMES[0])
    }

    /// Whether llama.cpp makes it only with an importance matrix; plans assume that there is one.
    pub fn needs_importance(&self) -> bool {
        self.base.needs_importance() || self.mix == QuantMix::IQ3_XS
    }

    /// Whether it is one of llama.cpp's common recipes for quantized files.
    pub fn is_recipe(&self) -> bool {
        self.container == Container::Gguf && self.mix != QuantMix::None && self.common
    }

    /// The scheme that a file is called whose tensors are mostly `dtype`: the common one of that base with the
    /// largest mix.
    pub fn of_base(dtype: Dtype) -> Option<&'static Scheme> {
        let of_base =
            |scheme: &&Scheme| scheme.base == dtype && scheme.container == Container::Gguf;
        let mut found = SCHEMES.iter().filter(of_base);
        let common = found.clone().find(|scheme| scheme.common);
        common.or_else(|| found.next())
    }

    /// The scheme with GGUF's `general.file_type` number `file_type`.
    pub fn of_file_type(file_type: u64) -> Option<&'static Scheme> {
        SCHEMES
            .iter()
            .find(|s| s.file_type.map(u64::from) == Some(file_type))
    }
}
