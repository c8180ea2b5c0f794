//! Which layout a logical weight has, told from the names and types of its parts, with every shape
//! checked before a value is read.

use serde_json::Value as Json;

use super::bitsandbytes::{FourBit, Maxima};
use super::columns::{Columns, Packing};
use super::error::PackedError;
use super::files::{Files, Part, is_float};
use super::grid::{Grid, Stack};
use super::rows::{Codes, Global, Rows, Shift};
use super::{Layout, Weight};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::Logical;

/// The parts of one weight and what the configuration says of its quantization.
struct Parts<'a> {
    weight: Part<'a>,
    companions: Vec<Part<'a>>,
    config: Option<&'a Json>,
    /// The shape that the model derived.
    shape: Vec<u64>,
}

pub(super) fn open<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    logical: &Logical,
) -> Result<Weight<'a>, PackedError> {
    let stored = |&index: &u32| checkpoint.tensors.get(index as usize);
    let mut parts = logical
        .sources
        .iter()
        .filter_map(stored)
        .map(|tensor| Part { files, tensor });
    let Some(weight) = parts.next() else {
        return Err(PackedError::Missing {
            tensor: logical.name.clone(),
            part: "weight",
        });
    };
    let parts = Parts {
        weight,
        companions: parts.collect(),
        config: quantization_config(checkpoint),
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

/// The quantization's part of config.json, wherever it stands.
fn quantization_config(checkpoint: &Checkpoint) -> Option<&Json> {
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        return None;
    };
    let text = ["text_config", "llm_config", "language_config"].map(|part| config.get(part));
    let mut places = std::iter::once(Some(config)).chain(text).flatten();
    places.find_map(|place| {
        let keys = ["quantization_config", "compression_config", "quantization"];
        keys.iter()
            .find_map(|key| place.get(key).filter(|v| v.is_object()))
    })
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
        let named = |end: &str| weight.tensor.name.ends_with(end);
        if named(".qweight") {
            return self.columns();
        }
        if named(".weight_packed") {
            return match weight.dtype() {
                Dtype::I32 => self.packed_integers(),
                Dtype::U8 => self.four_bit_floats(),
                other => Err(weight.unknown(format!("packed in {}", other.name()))),
            };
        }
        match weight.dtype() {
            Dtype::U32 if self.find(".scales").is_some() => self.mlx(),
            Dtype::U8 if self.find(".weight.absmax").is_some() => self.bitsandbytes(),
            Dtype::U8 if named("_blocks") => self.four_bit_floats(),
            Dtype::U8 if self.find(".weight_scale_2").is_some() => self.four_bit_floats(),
            Dtype::I8 => self.bytes(),
            Dtype::F8_E4M3 | Dtype::F8_E5M2 => self.eight_bit_floats(),
            _ => floats(weight),
        }
    }

    fn find(&self, end: &str) -> Option<Part<'a>> {
        self.companions
            .iter()
            .find(|part| part.tensor.name.ends_with(end))
            .copied()
    }

    fn need(&self, end: &'static str) -> Result<Part<'a>, PackedError> {
        self.find(end).ok_or_else(|| PackedError::Missing {
            tensor: self.weight.tensor.name.clone(),
            part: end,
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
        let groups = self.setting("config_groups").and_then(Json::as_object);
        let weights = groups
            .into_iter()
            .flatten()
            .filter_map(|(_, group)| group.get("weights"));
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
            .find(".weight_scale_inv")
            .or(self.find(".weight_scale"));
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
        if let Some(maxima) = self.find(".SCB") {
            if let Some(format) = self.find(".weight_format")
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
        let scale = self.grid(self.need(".weight_scale")?, shape)?;
        let zero = self.find(".weight_zero_point");
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
        let columns = match self.find(".weight_shape") {
            Some(part) => part.integers()?.last().copied().unwrap_or(0),
            None => i64::try_from(self.shape.last().copied().unwrap_or(0)).unwrap_or(0),
        };
        let columns = u64::try_from(columns).map_err(|_| wrong())?;
        let stated = self.setting("config_groups").and_then(Json::as_object);
        let stated = stated.into_iter().flatten().filter_map(|(_, group)| {
            u32::try_from(group.get("weights")?.get("num_bits")?.as_u64()?).ok()
        });
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
        let scale = self.grid(self.need(".weight_scale")?, &shape)?;
        let groups = self.groups(".weight_g_idx", columns, scale.columns)?;
        let shift = match self.find(".weight_zero_point") {
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
    fn groups(
        &self,
        end: &str,
        columns: u64,
        groups: u64,
    ) -> Result<Option<Vec<u32>>, PackedError> {
        let Some(part) = self.find(end) else {
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
        if weight.tensor.name.ends_with("_blocks") && shape.len() > 2 {
            let bytes = shape.pop().unwrap_or(0);
            let blocks = shape.pop().unwrap_or(0);
            shape.push(blocks.saturating_mul(bytes));
        }
        match shape.last_mut() {
            Some(columns) => *columns = columns.saturating_mul(2),
            None => return Err(weight.wrong_shape(&self.shape)),
        }
        let scale = self
            .find(".weight_scale")
            .map_or_else(|| self.need("_scales"), Ok)?;
        let scale = self.grid(scale, &shape)?;
        let global = match (
            self.find(".weight_global_scale"),
            self.find(".weight_scale_2"),
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
        let scale = self.grid(self.need(".scales")?, &shape)?;
        match self.find(".biases") {
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
        let state = self
            .companions
            .iter()
            .find(|p| p.tensor.name.contains(".quant_state."));
        let state = state.ok_or_else(|| PackedError::Missing {
            tensor: self.weight.tensor.name.clone(),
            part: ".quant_state.bitsandbytes__nf4",
        })?;
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
        let map = self.need(".weight.quant_map")?;
        let map: [f32; 16] = map
            .floats(0, map.elements())?
            .try_into()
            .map_err(|_| map.wrong_shape(&shape))?;
        let absmax = self.need(".weight.absmax")?;
        let maxima = match self.find(".weight.nested_absmax") {
            None => Maxima::Plain(absmax),
            Some(maxima) => {
                let map = self.need(".weight.nested_quant_map")?;
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
        let packing = text("packing_format");
        let method_known = match text("quant_method") {
            "" | "gptq" | "awq" => true,
            _ => packing.ends_with("auto_gptq") || packing.ends_with("auto_awq"),
        };
        if !method_known {
            return Err(codes.unknown(format!("of the method `{}`", text("quant_method"))));
        }
        let scales = self.need(".scales")?;
        let (&[lines, stored], &[groups, outputs]) = (codes.shape(), scales.shape()) else {
            return Err(codes.wrong_shape(&self.shape));
        };
        let wrong = || codes.wrong_shape(&[outputs, lines]);
        let zeros = self.find(".qzeros");
        let is_gptq = outputs == stored;
        let zero_words = zeros.and_then(|z| z.shape().last().copied());
        let bits = match (is_gptq, zero_words) {
            (false, _) => 4,
            (true, Some(words)) => words.saturating_mul(32).checked_div(outputs).unwrap_or(0),
            (true, None) => self.number("bits").unwrap_or(4),
        };
        let inputs = match is_gptq {
            true => lines.saturating_mul(32).checked_div(bits).unwrap_or(0),
            false => lines,
        };
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
        let packing = match (is_gptq, text("checkpoint_format"), text("version")) {
            (true, "marlin", _) => return Err(codes.unknown("GPTQ repacked for Marlin")),
            (true, "gptq_v2", _) => Packing::Gptq { zero_offset: 0 },
            (true, ..) => Packing::Gptq { zero_offset: 1 },
            (false, _, "" | "gemm" | "GEMM") => Packing::Awq,
            (false, _, other) => return Err(codes.unknown(format!("AWQ of version `{other}`"))),
        };
        let size = self
            .number("group_size")
            .filter(|&size| inputs.div_ceil(size.max(1)) == groups);
        let size = size
            .unwrap_or_else(|| inputs.div_ceil(groups.max(1)))
            .max(1);
        let groups = match self.groups(".g_idx", inputs, groups)? {
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
            packing,
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
