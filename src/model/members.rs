//! How the experts of a stored stack are called where they are stored one by one, as vLLM loads them quantized.
//!
//! In: the rows of an architecture, whose names tell it, and the tensors that are made of the stacks. Out: the
//! [`Member`]s of each stack. Must not: read weights.

use std::collections::HashMap;

use super::arch::{Arch, RowParts, TensorRow};
use super::packed::{FoldedWeight, Member};
use super::role::{QuantPolicy, TensorRole};
use super::tensor::Tensor;
use crate::dtype::Dtype;

/// More experts than any model has: stacks of more stay as they are.
const MOST: u64 = 1024;

/// Fills in [`FoldedWeight::members`] of the stacks that are stored in plain numbers.
pub(super) fn fill(arch: &Arch, tensors: &[Tensor], stored: &mut [FoldedWeight]) {
    let is_plain = |weight: &FoldedWeight| {
        let float = matches!(
            weight.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
        );
        float && weight.sources.len() == 1 && weight.shape.len() == 3
    };
    let stacks: HashMap<u32, usize> = stored
        .iter()
        .enumerate()
        .filter(|(_, weight)| is_plain(weight))
        .filter_map(|(index, weight)| Some((*weight.sources.first()?, index)))
        .collect();
    let mut of_stacks: HashMap<usize, Vec<(u32, &Tensor)>> = HashMap::new();
    for (number, tensor) in (0..).zip(tensors) {
        let stack = match tensor.sources.as_slice() {
            &[source] => stacks.get(&source),
            _ => None,
        };
        if let Some(&stack) = stack {
            of_stacks.entry(stack).or_default().push((number, tensor));
        }
    }
    for (stack, tensors) in of_stacks {
        let Some(weight) = stored.get_mut(stack) else {
            continue;
        };
        let Some(rows) = matrix_rows(&weight.shape, &tensors) else {
            continue;
        };
        let members = tensors
            .iter()
            .map(|&(number, tensor)| members(arch, (number, tensor), rows, &weight.name));
        // All of the stack, or nothing.
        let members: Option<Vec<Vec<Member>>> = members.collect();
        weight.members = members.unwrap_or_default().concat();
    }
}

/// The rows of a matrix of a stack of this `shape`, in all `tensors` that are made of it, if these make up the whole in
/// either orientation: which it is, conversion knows.
fn matrix_rows(shape: &[u64], tensors: &[(u32, &Tensor)]) -> Option<u64> {
    let &[experts, one, other] = shape else {
        return None;
    };
    let mut rows = 0u64;
    let mut width = None;
    for (_, tensor) in tensors {
        match tensor.shape.as_slice() {
            &[of, own, columns] if of == experts && width.is_none_or(|w| w == columns) => {
                rows = rows.checked_add(own)?;
                width = Some(columns);
            }
            _ => return None,
        }
    }
    let size = (rows, width?);
    ((one, other) == size || (other, one) == size).then_some(rows)
}

/// The members of `tensor`, which is made of the stack that is called `stored`, whose matrices have `all` rows. `None` if
/// its row has no names for them.
fn members(
    arch: &Arch,
    (number, tensor): (u32, &Tensor),
    all: u64,
    stored: &str,
) -> Option<Vec<Member>> {
    let &[experts, rows, columns] = tensor.shape.as_slice() else {
        return None;
    };
    let row = |row: &&TensorRow| {
        row.role == tensor.role && row.part == "weight" && row.parts == RowParts::Usual
    };
    let row = arch.rows().find(row)?;
    let block = tensor.layer?.to_string();
    let places = |name: &str| name.matches("{}").count();
    let in_block = |name: &str| name.replacen("{}", &block, 1);
    let mut own = row.names.iter().filter(|name| places(name) == 1);
    let prefix = own.find_map(|name| stored.strip_suffix(&in_block(name)))?;
    // One name for each of the matrices that are one in the tensor; the gate is stored before the other.
    let (count, before) = match tensor.role {
        TensorRole::FfnGateUpExperts => (2, 0),
        TensorRole::FfnUpExperts if all > rows => (1, all.checked_sub(rows)?),
        _ => (1, 0),
    };
    let names = row.names.iter().filter(|name| places(name) == 2);
    let names: Vec<String> = names.take(count).map(|name| in_block(name)).collect();
    let parts = names.len() as u64;
    let quantized = row.role.info().policy == QuantPolicy::Quantize;
    if !quantized || names.len() != count || experts > MOST || !rows.is_multiple_of(parts) {
        return None;
    }
    let of_part = rows / parts;
    let expert = |expert: u64| {
        let names = names.iter().zip(0..);
        names.map(move |(name, part)| Member {
            name: format!("{prefix}{}", name.replacen("{}", &expert.to_string(), 1)),
            shape: [of_part, columns],
            tensor: number,
            first: expert
                .saturating_mul(all)
                .saturating_add(before + part * of_part),
        })
    };
    Some((0..experts).flat_map(expert).collect())
}
