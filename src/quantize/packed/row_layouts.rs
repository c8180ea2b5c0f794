//! The layouts whose rows lie one behind the other in the file: FP8, integers of compressed-tensors and bitsandbytes,
//! MXFP4, NVFP4 and MLX, with every shape checked before a value is read.

use super::error::PackedError;
use super::files::{TensorReader, is_float};
use super::grid::{Grid, MatrixStack};
use super::parts::PackedParts;
use super::rows::{CodeFormat, CodeShift, GlobalScale, RowLayout};
use super::{Layout, Weight};
use crate::dtype::Dtype;
use crate::model::packing::{Companion, Packing, stated_bits};

/// A weight of numbers without scales.
pub(super) fn floats(weight: TensorReader<'_>) -> Result<Weight<'_>, PackedError> {
    if !is_float(weight.dtype()) {
        return Err(weight.unknown(format!("{} without scales", weight.dtype().name())));
    }
    let format = CodeFormat::Float(weight.dtype());
    Ok(weight_by_rows(
        weight,
        weight.shape().to_vec(),
        format,
        None,
    ))
}

/// A weight of codes stored row by row, with nothing but `scale` between a code and its value.
fn weight_by_rows<'a>(
    codes: TensorReader<'a>,
    shape: Vec<u64>,
    format: CodeFormat,
    scale: Option<Grid<'a>>,
) -> Weight<'a> {
    let stack = MatrixStack::of(&shape);
    let stored_rows = stack.rows.saturating_mul(stack.matrices).max(1);
    let layout = Layout::Rows(RowLayout {
        codes,
        format,
        stack,
        row_bytes: codes.tensor.bytes.0 / stored_rows,
        scale,
        global: None,
        shift: CodeShift::None,
        groups: None,
    });
    Weight { shape, layout }
}

/// FP8 with or without scales.
pub(super) fn eight_bit_floats<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let scale = parts
        .find(Companion::ScaleInv)
        .or(parts.find(Companion::Scale));
    let Some(scale) = scale else {
        return floats(parts.weight);
    };
    let shape = parts.weight.shape();
    let format = CodeFormat::Float(parts.weight.dtype());
    let scale = parts.grid(scale, shape)?;
    Ok(weight_by_rows(
        parts.weight,
        shape.to_vec(),
        format,
        Some(scale),
    ))
}

/// Eight-bit integers: compressed-tensors with `weight_scale`, bitsandbytes with `SCB`.
pub(super) fn eight_bit_integers<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let shape = parts.weight.shape();
    if let Some(maxima) = parts.find(Companion::RowMaxima) {
        if let Some(format) = parts.find(Companion::Format)
            && format.integers()?.iter().any(|&format| format != 0)
        {
            return Err(parts.weight.unknown("int8 in a layout other than rows"));
        }
        let scale = Some(parts.grid(maxima, shape)?);
        let weight = weight_by_rows(parts.weight, shape.to_vec(), CodeFormat::Byte, scale);
        return Ok(adjusted(weight, |rows| {
            rows.global = Some(GlobalScale::Times(vec![1.0 / 127.0]));
        }));
    }
    let scale = parts.grid(parts.need(Companion::Scale)?, shape)?;
    let zero = parts.find(Companion::ZeroPoint);
    let zero = zero
        .map(|part| parts.zeros_like(part, &scale, shape))
        .transpose()?;
    let weight = weight_by_rows(parts.weight, shape.to_vec(), CodeFormat::Byte, Some(scale));
    Ok(adjusted(weight, |rows| {
        rows.shift = zero.map_or(CodeShift::None, CodeShift::Zero);
    }))
}

/// compressed-tensors' `pack-quantized`: integers of 1 to 8 bits in words along a row.
pub(super) fn packed_integers<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let weight = parts.weight;
    let wrong = || weight.wrong_shape(&parts.shape);
    let [outer @ .., words] = weight.shape() else {
        return Err(wrong());
    };
    let columns = match parts.find(Companion::Shape) {
        Some(part) => part.integers()?.last().copied().unwrap_or(0),
        None => i64::try_from(parts.shape.last().copied().unwrap_or(0)).unwrap_or(0),
    };
    let columns = u64::try_from(columns).map_err(|_| wrong())?;
    let stated = parts.config.into_iter().flat_map(stated_bits);
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
    let scale = parts.grid(parts.need(Companion::Scale)?, &shape)?;
    let groups = parts.groups(columns, scale.columns)?;
    let shift = match parts.find(Companion::ZeroPoint) {
        Some(part) if part.dtype() == Dtype::I32 => {
            let stack = MatrixStack::of(&shape);
            let lines = stack.rows.saturating_mul(u64::from(bits)).div_ceil(32);
            if stack.matrices != 1 || part.shape() != [lines, scale.columns] {
                return Err(part.wrong_shape(&shape));
            }
            let groups = scale.columns;
            CodeShift::PackedZero { part, bits, groups }
        }
        Some(part) => CodeShift::Zero(parts.zeros_like(part, &scale, &shape)?),
        None => CodeShift::None,
    };
    let offset = (1u32 << (bits - 1)) as f32;
    let weight = weight_by_rows(
        weight,
        shape,
        CodeFormat::Bits { bits, offset },
        Some(scale),
    );
    Ok(adjusted(weight, |rows| {
        rows.shift = shift;
        rows.groups = groups;
    }))
}

/// MXFP4 and NVFP4: two weights to a byte.
pub(super) fn four_bit_floats<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let weight = parts.weight;
    let mut shape = weight.shape().to_vec();
    // gpt-oss stores `[.., blocks, bytes]` where others store `[.., blocks x bytes]`.
    if parts.packing == Packing::FourBitFloatBlocks && shape.len() > 2 {
        let bytes = shape.pop().unwrap_or(0);
        let blocks = shape.pop().unwrap_or(0);
        shape.push(blocks.saturating_mul(bytes));
    }
    match shape.last_mut() {
        Some(columns) => *columns = columns.saturating_mul(2),
        None => return Err(weight.wrong_shape(&parts.shape)),
    }
    let scale = parts
        .find(Companion::Scale)
        .map_or_else(|| parts.need(Companion::StackScales), Ok)?;
    let scale = parts.grid(scale, &shape)?;
    let global = match (
        parts.find(Companion::GlobalScale),
        parts.find(Companion::SecondScale),
    ) {
        (Some(part), _) => Some(GlobalScale::Over(parts.one_per_matrix(part, &shape)?)),
        (None, Some(part)) => Some(GlobalScale::Times(parts.one_per_matrix(part, &shape)?)),
        (None, None) => None,
    };
    let weight = weight_by_rows(weight, shape, CodeFormat::FourBitFloat, Some(scale));
    Ok(adjusted(weight, |rows| rows.global = global))
}

/// MLX: integers of 1 to 8 bits with scales and biases, or MXFP4.
pub(super) fn mlx<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let weight = parts.weight;
    let shape = parts.shape.clone();
    let (columns, words) = (shape.last().copied(), weight.shape().last().copied());
    let (columns, words) = (columns.unwrap_or(0), words.unwrap_or(0));
    let bits = words.saturating_mul(32).checked_div(columns).unwrap_or(0) as u32;
    if !(1..=8).contains(&bits) || u128::from(words) * 32 != u128::from(columns) * u128::from(bits)
    {
        return Err(weight.wrong_shape(&shape));
    }
    let scales = parts.need(Companion::Scales)?;
    let scale = parts.grid(scales, &shape)?;
    match parts.find(Companion::Biases) {
        Some(biases) => {
            let bias = parts.zeros_like(biases, &scale, &shape)?;
            let weight = weight_by_rows(
                weight,
                shape,
                CodeFormat::Bits { bits, offset: 0.0 },
                Some(scale),
            );
            Ok(adjusted(weight, |rows| rows.shift = CodeShift::Bias(bias)))
        }
        // MLX's `mxfp4` stores its scales as bytes and has no biases.
        None if bits == 4 && scale.block_columns == 32 && scales.dtype() == Dtype::U8 => Ok(
            weight_by_rows(weight, shape, CodeFormat::FourBitFloat, Some(scale)),
        ),
        // Scales in floats are those of integers, which have biases too.
        None if is_float(scales.dtype()) => Err(PackedError::Missing {
            tensor: weight.tensor.name.clone(),
            part: Companion::Biases.usual_end(),
        }),
        None => Err(weight.unknown(format!("MLX in {bits} bits without biases"))),
    }
}

fn adjusted<'a>(mut weight: Weight<'a>, change: impl FnOnce(&mut RowLayout<'a>)) -> Weight<'a> {
    if let Layout::Rows(rows) = &mut weight.layout {
        change(rows);
    }
    weight
}
