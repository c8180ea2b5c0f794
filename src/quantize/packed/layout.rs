//! The layout of a logical weight, by what the model says of its packing, with every shape checked
//! before a value is read.

use serde_json::Value as Json;

use super::bitsandbytes::{FourBit, Maxima};
use super::columns::{Columns, Method};
use super::error::PackedError;
use super::files::{Files, Part, is_float};
use super::grid::{Grid, Stack};
use super::rows::{Codes, Global, Rows, Shift};
use super::{Layout, Weight};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::FoldedWeight;
use crate::model::packing::{
    ByInputs, Companion, Packing, quantization_config, stated_bits, weight_settings,
};

/// The parts of one weight and what the configuration says of its quantization.
struct Parts<'a> {
    weight: Part<'a>,
    packing: Packing,
    companions: Vec<(Companion, Part<'a>)>,
    config: Option<&'a Json>,
    /// The shape that the model derived.
    shape: Vec<u64>,
}

pub(super) fn open<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    logical: &FoldedWeight,
) -> Result<Weight<'a>, PackedError> {
    let part = |&index: &u32| {
        let tensor = checkpoint.tensors.get(index as usize)?;
        Some(Part { files, tensor })
    };
    let sources = logical.sources.split_first();
    let Some((weight, rest)) = sources.and_then(|(first, rest)| Some((part(first)?, rest))) else {
        return Err(PackedError::Missing {
            tensor: logical.name.clone(),
            part: "weight",
        });
    };
    let companions = logical.companions.iter().copied().zip(rest);
    let parts = Parts {
        weight,
        packing: logical.packing,
        companions: companions
            .filter_map(|(kind, index)| Some((kind, part(index)?)))
            .collect(),
        config: match &checkpoint.config {
            RawConfig::HuggingFace(config) => quantization_config(config),
            RawConfig::Gguf(_) => None,
        },
        shape: logical.shape.clone(),
    };
    parts.open()
}

pub(super) fn plain<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    index: usize,
) -> Result<Weight<'a>, PackedError> {
    let tensor = checkpoint.tensors.get(index);
    let tensor = tensor.ok_or_else(|| PackedError::Missing {
        tensor: format!("number {index}"),
        part: "weight",
    })?;
    floats(Part { files, tensor })
}

fn floats(weight: Part<'_>) -> Result<Weight<'_>, PackedError> {
    if !is_float(weight.dtype()) {
        return Err(weight.unknown(format!("{} without scales", weight.dtype().name())));
    }
    let kind = Codes::Float(weight.dtype());
    Ok(rows(weight, weight.shape().to_vec(), kind, None))
}

/// A weight stored by rows without anything between codes and scales.
fn rows<'a>(codes: Part<'a>, shape: Vec<u64>, kind: Codes, scale: Option<Grid<'a>>) -> Weight<'a> {
    let stack = Stack::of(&shape);
    let stored_rows = stack.rows.saturating_mul(stack.matrices).max(1);
    let layout = Layout::Rows(Rows {
        codes,
        kind,
        stack,
        row_bytes: codes.tensor.bytes.0 / stored_rows,
        scale,
        global: None,
        shift: Shift::None,
        groups: None,
    });
    Weight { shape, layout }
}

impl<'a> Parts<'a> {
    fn open(&self) -> Result<Weight<'a>, PackedError> {
        let weight = self.weight;
        match (self.packing, weight.dtype()) {
            (Packing::ByInputs, _) => self.columns(),
            (Packing::Words, Dtype::I32) => self.packed_integers(),
            (Packing::Words, other) => Err(weight.unknown(format!("packed in {}", other.name()))),
            (Packing::FourBitFloats | Packing::FourBitFloatBlocks, _) => self.four_bit_floats(),
            (Packing::Mlx, _) => self.mlx(),
            (Packing::BitsAndBytes, _) => self.bitsandbytes(),
            (Packing::Elements, Dtype::I8) => self.bytes(),
            (Packing::Elements, Dtype::F8_E4M3 | Dtype::F8_E5M2) => self.eight_bit_floats(),
            (Packing::Elements, _) => floats(weight),
        }
    }

    fn find(&self, kind: Companion) -> Option<Part<'a>> {
        let found = self.companions.iter().find(|(of, _)| *of == kind);
        found.map(|(_, part)| *part)
    }

    fn need(&self, kind: Companion) -> Result<Part<'a>, PackedError> {
        self.find(kind).ok_or_else(|| PackedError::Missing {
            tensor: self.weight.tensor.name.clone(),
            part: kind.usual_end(),
        })
    }

    fn setting(&self, key: &str) -> Option<&'a Json> {
        self.config?.get(key)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.setting(key)?.as_u64()
    }

    /// Block sizes that the configuration states, in whatever place its format has for them.
    fn hints(&self) -> Vec<u64> {
        let block = self.setting("weight_block_size");
        let weights = self.config.into_iter().flat_map(weight_settings);
        let sizes = weights.flat_map(|w| [w.get("block_structure"), w.get("group_size")]);
        let all = std::iter::once(block).chain(sizes).flatten();
        all.flat_map(|value| match value.as_array() {
            Some(sizes) => sizes.iter().filter_map(Json::as_u64).collect(),
            None => value.as_u64().into_iter().collect::<Vec<_>>(),
        })
        .collect()
    }

    fn grid(&self, part: Part<'a>, shape: &[u64]) -> Result<Grid<'a>, PackedError> {
        if !is_float(part.dtype()) && !matches!(part.dtype(), Dtype::I8 | Dtype::U8) {
            return Err(part.unexpected("a float type"));
        }
        Grid::new(part, shape, &self.hints())
    }

    fn eight_bit_floats(&self) -> Result<Weight<'a>, PackedError> {
        let scale = self
            .find(Companion::ScaleInv)
            .or(self.find(Companion::Scale));
        let Some(scale) = scale else {
            return floats(self.weight);
        };
        let shape = self.weight.shape();
        let kind = Codes::Float(self.weight.dtype());
        let scale = self.grid(scale, shape)?;
        Ok(rows(self.weight, shape.to_vec(), kind, Some(scale)))
    }

    /// Eight-bit integers: compressed-tensors with `weight_scale`, bitsandbytes with `SCB`.
    fn bytes(&self) -> Result<Weight<'a>, PackedError> {
        let shape = self.weight.shape();
        if let Some(maxima) = self.find(Companion::RowMaxima) {
            if let Some(format) = self.find(Companion::Format)
                && format.integers()?.iter().any(|&format| format != 0)
            {
                return Err(self.weight.unknown("int8 in a layout other than rows"));
            }
            let scale = Some(self.grid(maxima, shape)?);
            let weight = rows(self.weight, shape.to_vec(), Codes::Byte, scale);
            return Ok(with(weight, |rows| {
                rows.global = Some(Global::Times(vec![1.0 / 127.0]))
            }));
        }
        let scale = self.grid(self.need(Companion::Scale)?, shape)?;
        let zero = self.find(Companion::ZeroPoint);
        let zero = zero
            .map(|part| self.zeros_like(part, &scale, shape))
            .transpose()?;
        let weight = rows(self.weight, shape.to_vec(), Codes::Byte, Some(scale));
        Ok(with(weight, |rows| {
            rows.shift = zero.map_or(Shift::None, Shift::Zero)
        }))
    }

    /// Zero points or biases that stand where scales stand.
    fn zeros_like(
        &self,
        part: Part<'a>,
        scale: &Grid<'a>,
        shape: &[u64],
    ) -> Result<Grid<'a>, PackedError> {
        let grid = self.grid(part, shape)?;
        match grid.columns == scale.columns {
            true => Ok(grid),
            false => Err(part.wrong_shape(shape)),
        }
    }

    /// compressed-tensors' `pack-quantized`.
    fn packed_integers(&self) -> Result<Weight<'a>, PackedError> {
        let weight = self.weight;
        let wrong = || weight.wrong_shape(&self.shape);
        let [outer @ .., words] = weight.shape() else {
            return Err(wrong());
        };
        let columns = match self.find(Companion::Shape) {
            Some(part) => part.integers()?.last().copied().unwrap_or(0),
            None => i64::try_from(self.shape.last().copied().unwrap_or(0)).unwrap_or(0),
        };
        let columns = u64::try_from(columns).map_err(|_| wrong())?;
        let stated = self.config.into_iter().flat_map(stated_bits);
        let stated = stated.filter_map(|bits| u32::try_from(bits).ok());
        let fits = |bits: &u32| {
            (1..=8).contains(bits)
                && u128::from(columns) * u128::from(*bits)
                    > (u128::from(*words) * 32).saturating_sub(32)
                && u128::from(columns) * u128::from(*bits) <= u128::from(*words) * 32
        };
        let bits = stated
            .chain([4, 8, 2, 3, 5, 6, 7, 1])
            .find(fits)
            .ok_or_else(wrong)?;
        let mut shape = outer.to_vec();
        shape.push(columns);
        let scale = self.grid(self.need(Companion::Scale)?, &shape)?;
        let groups = self.groups(columns, scale.columns)?;
        let shift = match self.find(Companion::ZeroPoint) {
            Some(part) if part.dtype() == Dtype::I32 => {
                let stack = Stack::of(&shape);
                let lines = stack.rows.saturating_mul(u64::from(bits)).div_ceil(32);
                if stack.matrices != 1 || part.shape() != [lines, scale.columns] {
                    return Err(part.wrong_shape(&shape));
                }
                let groups = scale.columns;
                Shift::PackedZero { part, bits, groups }
            }
            Some(part) => Shift::Zero(self.zeros_like(part, &scale, &shape)?),
            None => Shift::None,
        };
        let offset = (1u32 << (bits - 1)) as f32;
        let weight = rows(weight, shape, Codes::Bits { bits, offset }, Some(scale));
        Ok(with(weight, |rows| {
            rows.shift = shift;
            rows.groups = groups;
        }))
    }

    /// The group of each column if the file says it.
    fn groups(&self, columns: u64, groups: u64) -> Result<Option<Vec<u32>>, PackedError> {
        let Some(part) = self.find(Companion::GroupIndex) else {
            return Ok(None);
        };
        let indices = part.integers()?;
        // compressed-tensors writes -1 everywhere where columns were not reordered.
        if indices.iter().all(|&index| index == -1) {
            return Ok(None);
        }
        if indices.len() as u64 != columns {
            return Err(part.wrong_shape(&self.shape));
        }
        let check = |(column, group): (usize, i64)| match u32::try_from(group) {
            Ok(index) if u64::from(index) < groups => Ok(index),
            _ => Err(PackedError::Group {
                tensor: part.tensor.name.clone(),
                column,
                group,
                groups,
            }),
        };
        indices
            .into_iter()
            .enumerate()
            .map(check)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// MXFP4 and NVFP4: two weights to a byte.
    fn four_bit_floats(&self) -> Result<Weight<'a>, PackedError> {
        let weight = self.weight;
        let mut shape = weight.shape().to_vec();
        // gpt-oss has a dimension for the bytes of a block.
        if self.packing == Packing::FourBitFloatBlocks && shape.len() > 2 {
            let bytes = shape.pop().unwrap_or(0);
            let blocks = shape.pop().unwrap_or(0);
            shape.push(blocks.saturating_mul(bytes));
        }
        match shape.last_mut() {
            Some(columns) => *columns = columns.saturating_mul(2),
            None => return Err(weight.wrong_shape(&self.shape)),
        }
        let scale = self
            .find(Companion::Scale)
            .map_or_else(|| self.need(Companion::StackScales), Ok)?;
        let scale = self.grid(scale, &shape)?;
        let global = match (
            self.find(Companion::GlobalScale),
            self.find(Companion::SecondScale),
        ) {
            (Some(part), _) => Some(Global::Over(self.one_per_matrix(part, &shape)?)),
            (None, Some(part)) => Some(Global::Times(self.one_per_matrix(part, &shape)?)),
            (None, None) => None,
        };
        let weight = rows(weight, shape, Codes::FourBitFloat, Some(scale));
        Ok(with(weight, |rows| rows.global = global))
    }

    fn one_per_matrix(&self, part: Part<'a>, shape: &[u64]) -> Result<Vec<f32>, PackedError> {
        let matrices = Stack::of(shape).matrices;
        match part.elements() {
            n if n == 1 || n == matrices => part.floats(0, n),
            _ => Err(part.wrong_shape(shape)),
        }
    }

    fn mlx(&self) -> Result<Weight<'a>, PackedError> {
        let weight = self.weight;
        let shape = self.shape.clone();
        let (columns, words) = (shape.last().copied(), weight.shape().last().copied());
        let (columns, words) = (columns.unwrap_or(0), words.unwrap_or(0));
        let bits = words.saturating_mul(32).checked_div(columns).unwrap_or(0) as u32;
        if !(1..=8).contains(&bits)
            || u128::from(words) * 32 != u128::from(columns) * u128::from(bits)
        {
            return Err(weight.wrong_shape(&shape));
        }
        let scale = self.grid(self.need(Companion::Scales)?, &shape)?;
        match self.find(Companion::Biases) {
            Some(biases) => {
                let bias = self.zeros_like(biases, &scale, &shape)?;
                let weight = rows(
                    weight,
                    shape,
                    Codes::Bits { bits, offset: 0.0 },
                    Some(scale),
                );
                Ok(with(weight, |rows| rows.shift = Shift::Bias(bias)))
            }
            // MLX's `mxfp4` has bytes for scales and no biases.
            None if bits == 4 && scale.block_columns == 32 => {
                Ok(rows(weight, shape, Codes::FourBitFloat, Some(scale)))
            }
            None => Err(weight.unknown(format!("MLX in {bits} bits without biases"))),
        }
    }

    fn bitsandbytes(&self) -> Result<Weight<'a>, PackedError> {
        let state = self.need(Companion::State)?;
        let text = state.bytes(0, state.tensor.bytes.0.min(1 << 16))?;
        let wrong = |what: String| PackedError::Content {
            tensor: state.tensor.name.clone(),
            what,
            expected: "the JSON of a bitsandbytes state".to_owned(),
        };
        let json: Json = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let number = |key: &str| json.get(key).and_then(Json::as_u64).filter(|&n| n > 0);
        let shape = json.get("shape").and_then(Json::as_array);
        let shape: Option<Vec<u64>> = shape.and_then(|s| s.iter().map(Json::as_u64).collect());
        let shape = shape.ok_or_else(|| wrong("no `shape`".to_owned()))?;
        let block = number("blocksize").ok_or_else(|| wrong("no `blocksize`".to_owned()))?;
        let map = self.need(Companion::Map)?;
        let map: [f32; 16] = map
            .floats(0, map.elements())?
            .try_into()
            .map_err(|_| map.wrong_shape(&shape))?;
        let absmax = self.need(Companion::BlockMaxima)?;
        let maxima = match self.find(Companion::NestedMaxima) {
            None => Maxima::Plain(absmax),
            Some(maxima) => {
                let map = self.need(Companion::NestedMap)?;
                Maxima::Nested {
                    codes: absmax,
                    map: map.floats(0, map.elements().min(256))?,
                    maxima,
                    width: number("nested_blocksize").unwrap_or(256),
                    offset: json
                        .get("nested_offset")
                        .and_then(Json::as_f64)
                        .unwrap_or(0.0) as f32,
                }
            }
        };
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let fits = elements.is_some_and(|n| {
            n.div_ceil(2) == self.weight.tensor.bytes.0 && n.div_ceil(block) <= maxima.count()
        });
        if !fits {
            return Err(self.weight.wrong_shape(&shape));
        }
        let codes = self.weight;
        let layout = Layout::BitsAndBytes(FourBit {
            codes,
            map,
            block,
            maxima,
        });
        Ok(Weight { shape, layout })
    }

    /// GPTQ and AWQ.
    fn columns(&self) -> Result<Weight<'a>, PackedError> {
        let codes = self.weight;
        let text = |key: &str| self.setting(key).and_then(Json::as_str).unwrap_or_default();
        let format = text("packing_format");
        let method_known = match text("quant_method") {
            "" | "gptq" | "awq" => true,
            _ => format.ends_with("auto_gptq") || format.ends_with("auto_awq"),
        };
        if !method_known {
            return Err(codes.unknown(format!("of the method `{}`", text("quant_method"))));
        }
        let scales = self.need(Companion::Scales)?;
        let (&[lines, stored], &[groups, outputs]) = (codes.shape(), scales.shape()) else {
            return Err(codes.wrong_shape(&self.shape));
        };
        let wrong = || codes.wrong_shape(&[outputs, lines]);
        let zeros = self.find(Companion::Zeros);
        let ByInputs {
            inputs,
            bits,
            along_inputs: is_gptq,
            ..
        } = ByInputs::new(
            [lines, stored],
            Some(scales.shape()),
            zeros.as_ref().map(|zeros| zeros.shape()),
            self.number("bits"),
        );
        let sizes = match is_gptq {
            true => (1..=8).contains(&bits) && outputs.saturating_mul(bits) % 32 == 0,
            false => outputs.is_multiple_of(8) && stored == outputs / 8,
        };
        if !sizes || codes.dtype() != Dtype::I32 || inputs == 0 || outputs == 0 {
            return Err(wrong());
        }
        if let Some(zeros) = zeros
            && (zeros.shape() != [groups, outputs.saturating_mul(bits) / 32]
                || zeros.dtype() != Dtype::I32)
        {
            return Err(zeros.wrong_shape(&[outputs, inputs]));
        }
        let method = match (is_gptq, text("checkpoint_format"), text("version")) {
            (true, "marlin", _) => return Err(codes.unknown("GPTQ repacked for Marlin")),
            (true, "gptq_v2", _) => Method::Gptq { zero_offset: 0 },
            (true, ..) => Method::Gptq { zero_offset: 1 },
            (false, _, "" | "gemm" | "GEMM") => Method::Awq,
            (false, _, other) => return Err(codes.unknown(format!("AWQ of version `{other}`"))),
        };
        let size = self
            .number("group_size")
            .filter(|&size| inputs.div_ceil(size.max(1)) == groups);
        let size = size
            .unwrap_or_else(|| inputs.div_ceil(groups.max(1)))
            .max(1);
        let groups = match self.groups(inputs, groups)? {
            Some(groups) => groups,
            None => (0..inputs).map(|input| (input / size) as u32).collect(),
        };
        let bits = bits as u32;
        let layout = Columns {
            codes,
            zeros,
            scales,
            groups,
            bits,
            method,
        };
        let shape = vec![outputs, inputs];
        Ok(Weight {
            shape,
            layout: Layout::Columns(layout),
        })
    }
}

fn with<'a>(mut weight: Weight<'a>, change: impl FnOnce(&mut Rows<'a>)) -> Weight<'a> {
    if let Layout::Rows(rows) = &mut weight.layout {
        change(rows);
    }
    weight
}
