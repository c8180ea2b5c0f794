//! What an error in each tensor costs, from the divergence that errors in whole blocks and in all tensors of a kind
//! cause. Pure arithmetic.

use std::collections::BTreeMap;

use crate::model::TensorRole;

/// A tensor whose error was part of probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed {
    /// Its block; `None` for embeddings and the head.
    pub block: Option<u32>,
    /// Its kind.
    pub role: TensorRole,
    /// Its error in the probes.
    pub error: f64,
}

/// Rounds of fitting; the factors of any model here stop changing before.
const ROUNDS: usize = 50;

/// The divergence for an error of 1 in each tensor.
///
/// Inside of blocks it is the product of a factor of the block and one of the kind, so that the divergences of all
/// tensors of a block add up to that of its probe (`blocks`), and those of a kind over all blocks to that of its probe
/// (`kinds`, scaled to the sum of the blocks': errors that are made together amplify each other). The factors are found
/// by proportional fitting (Deming and Stephan 1940). A tensor outside of blocks has its probe to itself.
pub fn sensitivities(
    tensors: &[Probed],
    blocks: &BTreeMap<u32, f64>,
    kinds: &BTreeMap<TensorRole, f64>,
) -> Vec<f64> {
    let inside = |tensor: &&Probed| tensor.block.is_some();
    let all_blocks: f64 = blocks.values().sum();
    let in_blocks: Vec<TensorRole> = tensors.iter().filter(inside).map(|t| t.role).collect();
    let all_kinds: f64 = kinds
        .iter()
        .filter(|(role, _)| in_blocks.contains(role))
        .map(|(_, d)| d)
        .sum();
    let scale = if all_kinds > 0.0 {
        all_blocks / all_kinds
    } else {
        1.0
    };
    let mut of_block: BTreeMap<u32, f64> = blocks.keys().map(|block| (*block, 1.0)).collect();
    let mut of_kind: BTreeMap<TensorRole, f64> = kinds.keys().map(|kind| (*kind, 1.0)).collect();
    for _ in 0..ROUNDS {
        for (block, factor) in &mut of_block {
            let own = tensors.iter().filter(|t| t.block == Some(*block));
            let sum: f64 = own
                .map(|t| t.error * of_kind.get(&t.role).unwrap_or(&0.0))
                .sum();
            *factor = ratio(blocks.get(block).copied().unwrap_or(0.0), sum);
        }
        for (kind, factor) in &mut of_kind {
            let own = tensors.iter().filter(|t| t.role == *kind);
            let sum: f64 = own
                .filter_map(|t| Some(t.error * of_block.get(&t.block?)?))
                .sum();
            *factor = ratio(scale * kinds.get(kind).copied().unwrap_or(0.0), sum);
        }
    }
    let of = |tensor: &Probed| match tensor.block {
        Some(block) => {
            let factors = of_block.get(&block).zip(of_kind.get(&tensor.role));
            factors.map_or(0.0, |(block, kind)| block * kind)
        }
        None => ratio(
            kinds.get(&tensor.role).copied().unwrap_or(0.0),
            tensor.error,
        ),
    };
    tensors.iter().map(of).collect()
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes of known sensitivities give them back.
    #[test]
    fn products_of_factors_are_found() {
        let (by_block, roles) = ([0.5, 2.0, 7.0], [TensorRole::AttnQ, TensorRole::FfnDown]);
        let by_role = [0.1, 3.0];
        let error = |block: usize, role: usize| 1.0 + 0.3 * block as f64 + 0.7 * role as f64;
        let mut tensors = vec![Probed {
            block: None,
            role: TensorRole::Output,
            error: 4.0,
        }];
        let (mut blocks, mut kinds) =
            (BTreeMap::new(), BTreeMap::from([(TensorRole::Output, 6.0)]));
        for (block, a) in by_block.iter().enumerate() {
            for (index, (role, b)) in roles.iter().zip(by_role).enumerate() {
                let error = error(block, index);
                tensors.push(Probed {
                    block: Some(block as u32),
                    role: *role,
                    error,
                });
                *blocks.entry(block as u32).or_insert(0.0) += a * b * error;
                *kinds.entry(*role).or_insert(0.0) += a * b * error;
            }
        }
        let found = sensitivities(&tensors, &blocks, &kinds);
        assert!((found[0] - 1.5).abs() < 1e-9);
        for (block, a) in by_block.iter().enumerate() {
            for (index, b) in by_role.iter().enumerate() {
                let found = found[1 + 2 * block + index];
                assert!((found / (a * b) - 1.0).abs() < 1e-6, "{found}");
            }
        }
    }
}
