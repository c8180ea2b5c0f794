//! The one table of element formats: ggml's types and safetensors' types with their block sizes.
//!
//! Block layouts: `ggml/src/ggml-common.h` of llama.cpp; each block size below is written as the
//! sum of its block's fields. safetensors types: the format's own `Dtype` list.

use crate::units::Bytes;

/// Elements of a tensor of `shape`: the product of its dimensions, 1 for a scalar. The product saturates at `u64::MAX`,
/// since a shape read from a file may overflow; no real tensor has that many.
pub fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |n, &d| n.saturating_mul(d))
}

/// One row of the table.
#[derive(Debug)]
pub struct Format {
    /// The format that the row describes.
    pub dtype: Dtype,
    /// The name as the field writes it (`Q4_K`, `F8_E4M3`).
    pub name: &'static str,
    /// GGUF's type id, if GGUF has the type.
    pub ggml_id: Option<u32>,
    /// safetensors' type name, if safetensors has the type.
    pub safetensors: Option<&'static str>,
    /// Elements in a block. A row must be a multiple of it.
    pub block_elements: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

macro_rules! formats {
    ($($dtype:ident $name:literal $ggml:expr, $safetensors:expr, $elements:literal in $bytes:expr;)*) => {
        /// An element format of a stored or planned tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, missing_docs)]
        pub enum Dtype { $($dtype),* }

        /// Every format, in the order of [`Dtype`].
        pub static FORMATS: &[Format] = &[$(Format {
            dtype: Dtype::$dtype, name: $name, ggml_id: $ggml, safetensors: $safetensors,
            block_elements: $elements, block_bytes: $bytes,
        }),*];
    };
}

formats! {
    // name              ggml id    safetensors       elements in bytes of a block
    F64     "F64"        Some(28),  Some("F64"),      1 in 8;
    F32     "F32"        Some(0),   Some("F32"),      1 in 4;
    F16     "F16"        Some(1),   Some("F16"),      1 in 2;
    BF16    "BF16"       Some(30),  Some("BF16"),     1 in 2;
    F8_E4M3 "F8_E4M3"    None,      Some("F8_E4M3"),  1 in 1;
    F8_E5M2 "F8_E5M2"    None,      Some("F8_E5M2"),  1 in 1;
    F8_E4M3FNUZ "F8_E4M3FNUZ" None, Some("F8_E4M3FNUZ"), 1 in 1;
    F8_E5M2FNUZ "F8_E5M2FNUZ" None, Some("F8_E5M2FNUZ"), 1 in 1;
    F8_E8M0 "F8_E8M0"    None,      Some("F8_E8M0"),  1 in 1;
    F6_E2M3 "F6_E2M3"    None,      Some("F6_E2M3"),  4 in 3;
    F6_E3M2 "F6_E3M2"    None,      Some("F6_E3M2"),  4 in 3;
    F4      "F4"         None,      Some("F4"),       2 in 1;
    C64     "C64"        None,      Some("C64"),      1 in 8;
    I64     "I64"        Some(27),  Some("I64"),      1 in 8;
    I32     "I32"        Some(26),  Some("I32"),      1 in 4;
    I16     "I16"        Some(25),  Some("I16"),      1 in 2;
    I8      "I8"         Some(24),  Some("I8"),       1 in 1;
    U64     "U64"        None,      Some("U64"),      1 in 8;
    U32     "U32"        None,      Some("U32"),      1 in 4;
    U16     "U16"        None,      Some("U16"),      1 in 2;
    U8      "U8"         None,      Some("U8"),       1 in 1;
    BOOL    "BOOL"       None,      Some("BOOL"),     1 in 1;
    Q4_0    "Q4_0"       Some(2),   None,             32 in 2 + 32 / 2;
    Q4_1    "Q4_1"       Some(3),   None,             32 in 2 + 2 + 32 / 2;
    Q5_0    "Q5_0"       Some(6),   None,             32 in 2 + 4 + 32 / 2;
    Q5_1    "Q5_1"       Some(7),   None,             32 in 2 + 2 + 4 + 32 / 2;
    Q8_0    "Q8_0"       Some(8),   None,             32 in 2 + 32;
    Q8_1    "Q8_1"       Some(9),   None,             32 in 2 + 2 + 32;
    Q2_K    "Q2_K"       Some(10),  None,             256 in 256 / 16 + 256 / 4 + 2 + 2;
    Q3_K    "Q3_K"       Some(11),  None,             256 in 256 / 8 + 256 / 4 + 12 + 2;
    Q4_K    "Q4_K"       Some(12),  None,             256 in 2 + 2 + 12 + 256 / 2;
    Q5_K    "Q5_K"       Some(13),  None,             256 in 2 + 2 + 12 + 256 / 8 + 256 / 2;
    Q6_K    "Q6_K"       Some(14),  None,             256 in 256 / 2 + 256 / 4 + 256 / 16 + 2;
    Q8_K    "Q8_K"       Some(15),  None,             256 in 4 + 256 + 256 / 16 * 2;
    IQ2_XXS "IQ2_XXS"    Some(16),  None,             256 in 2 + 256 / 8 * 2;
    IQ2_XS  "IQ2_XS"     Some(17),  None,             256 in 2 + 256 / 8 * 2 + 256 / 32;
    IQ3_XXS "IQ3_XXS"    Some(18),  None,             256 in 2 + 3 * 256 / 8;
    IQ1_S   "IQ1_S"      Some(19),  None,             256 in 2 + 256 / 8 + 256 / 16;
    IQ4_NL  "IQ4_NL"     Some(20),  None,             32 in 2 + 32 / 2;
    IQ3_S   "IQ3_S"      Some(21),  None,             256 in 2 + 13 * (256 / 32) + 256 / 64;
    IQ2_S   "IQ2_S"      Some(22),  None,             256 in 2 + 256 / 4 + 256 / 16;
    IQ4_XS  "IQ4_XS"     Some(23),  None,             256 in 2 + 2 + 256 / 64 + 256 / 2;
    IQ1_M   "IQ1_M"      Some(29),  None,             256 in 256 / 8 + 256 / 16 + 256 / 32;
    TQ1_0   "TQ1_0"      Some(34),  None,             256 in (256 - 4 * 256 / 64) / 5 + 256 / 64 + 2;
    TQ2_0   "TQ2_0"      Some(35),  None,             256 in 256 / 4 + 2;
    MXFP4   "MXFP4"      Some(39),  None,             32 in 1 + 32 / 2;
    NVFP4   "NVFP4"      Some(40),  None,             64 in 64 / 16 + 64 / 2;
    Q1_0    "Q1_0"       Some(41),  None,             128 in 2 + 128 / 8;
    Q2_0    "Q2_0"       Some(42),  None,             64 in 2 + 64 / 4;
    // Packed four-bit weights with one 16-bit scale for 128 of them, as compressed-tensors'
    // `pack-quantized` lays them out in two tensors; the block is the sum of both.
    INT4    "INT4"       None,      None,             128 in 128 / 2 + 2;
}

impl Dtype {
    /// This format's row of the table.
    pub fn format(self) -> &'static Format {
        &FORMATS[self as usize]
    }

    /// The name as the field writes it.
    pub fn name(self) -> &'static str {
        self.format().name
    }

    /// The format with GGUF's type id `id`.
    pub fn from_ggml_id(id: u32) -> Option<Dtype> {
        FORMATS
            .iter()
            .find(|f| f.ggml_id == Some(id))
            .map(|f| f.dtype)
    }

    /// The format that safetensors calls `name`.
    pub fn from_safetensors(name: &str) -> Option<Dtype> {
        FORMATS
            .iter()
            .find(|f| f.safetensors == Some(name))
            .map(|f| f.dtype)
    }

    /// The format called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Dtype> {
        FORMATS
            .iter()
            .find(|f| f.name.eq_ignore_ascii_case(name))
            .map(|f| f.dtype)
    }

    /// Whether elements share a scale within a block, as in ggml's quantized types.
    pub fn is_quantized(self) -> bool {
        self.format().block_elements > 4
    }

    /// Whether llama.cpp encodes it only with an importance matrix.
    pub fn needs_importance(self) -> bool {
        use Dtype::*;
        matches!(self, IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS)
    }

    /// Whether a row of `elements` is a whole number of blocks.
    pub fn divides(self, elements: u64) -> bool {
        elements.is_multiple_of(self.format().block_elements)
    }

    /// Bytes of a row of `elements`, rounded up to whole blocks. (ggml itself only has rows of whole blocks.)
    pub fn row_bytes(self, elements: u64) -> Bytes {
        let format = self.format();
        Bytes(elements.div_ceil(format.block_elements)) * format.block_bytes
    }

    /// The bytes of a tensor of `shape` (outermost dimension first, rows last).
    ///
    /// `None` if a row is not a whole number of blocks or the size does not fit 64 bits. A shape
    /// without dimensions is a scalar.
    pub fn bytes(self, shape: &[u64]) -> Option<Bytes> {
        let format = self.format();
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        if !self.divides(shape.last().copied().unwrap_or(1)) && elements != 0 {
            return None;
        }
        (elements / format.block_elements)
            .checked_mul(format.block_bytes)
            .map(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_equal_ggml() {
        // type_size / blck_size as ggml's own type traits report them.
        let ggml = [
            ("Q4_0", 18),
            ("Q4_1", 20),
            ("Q5_0", 22),
            ("Q5_1", 24),
            ("Q8_0", 34),
            ("Q8_1", 36),
            ("Q2_K", 84),
            ("Q3_K", 110),
            ("Q4_K", 144),
            ("Q5_K", 176),
            ("Q6_K", 210),
            ("Q8_K", 292),
            ("IQ2_XXS", 66),
            ("IQ2_XS", 74),
            ("IQ3_XXS", 98),
            ("IQ1_S", 50),
            ("IQ4_NL", 18),
            ("IQ3_S", 110),
            ("IQ2_S", 82),
            ("IQ4_XS", 136),
            ("IQ1_M", 56),
            ("TQ1_0", 54),
            ("TQ2_0", 66),
            ("MXFP4", 17),
            ("NVFP4", 36),
            ("Q1_0", 18),
            ("Q2_0", 18),
        ];
        for (name, bytes) in ggml {
            assert_eq!(
                Dtype::from_name(name).unwrap().format().block_bytes,
                bytes,
                "{name}"
            );
        }
    }

    #[test]
    fn table_rows_stand_at_their_own_index() {
        for (index, format) in FORMATS.iter().enumerate() {
            assert_eq!(format.dtype as usize, index, "{}", format.name);
        }
    }

    #[test]
    fn sizes_follow_rows_and_overflow_is_none() {
        assert_eq!(Dtype::Q4_K.bytes(&[2, 256]), Some(Bytes(288)));
        assert_eq!(Dtype::Q4_K.bytes(&[2, 255]), None);
        assert_eq!(Dtype::F32.bytes(&[]), Some(Bytes(4)));
        assert_eq!(Dtype::F32.bytes(&[u64::MAX, 2]), None);
        assert_eq!(Dtype::F64.bytes(&[u64::MAX / 4]), None);
        assert_eq!(Dtype::Q4_K.row_bytes(512), Bytes(288));
        assert_eq!(Dtype::Q4_K.row_bytes(257), Bytes(288));
        assert_eq!(Dtype::F16.row_bytes(0), Bytes(0));
        assert_eq!(Dtype::F16.row_bytes(u64::MAX), Bytes(u64::MAX));
    }
}
