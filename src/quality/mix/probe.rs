//! Measures the divergence that errors in one block, or in all tensors of one kind, cause.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::QualityError;
use super::super::divergence::divergence_of;
use crate::decode::{self, Model};
use crate::model::TensorRole;
use crate::quantize::{PlannedTensor, encoded};

/// A tensor to be probed: as it is planned for the probe, and where it belongs.
pub struct ProbedTensor<'a> {
    /// Its encoding in the probe.
    pub planned: &'a PlannedTensor<'a>,
    /// Its block.
    pub block: Option<u32>,
    /// Its kind.
    pub role: TensorRole,
}

/// The text of the probes.
#[derive(Clone, Debug)]
pub struct ProbeTokens {
    /// Pieces, each evaluated by itself.
    pub pieces: Vec<Vec<u32>>,
    /// The last predictions of each piece that are scored.
    pub rows: usize,
}

/// Mean divergences in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    /// With all tensors of a block in the probe's types.
    pub blocks: BTreeMap<u32, f64>,
    /// With all tensors of a kind.
    pub kinds: BTreeMap<TensorRole, f64>,
}

impl Probes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.blocks.len() + self.kinds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Probes every block and every kind of `tensors` that is not in `probes` yet. `progress` is given the probes after each,
/// and how many there will be.
///
/// # Errors
/// [`QualityError`]: the model cannot be evaluated, tensors cannot be encoded, or `cancel` became true.
pub fn probe(
    model: &mut Model,
    tensors: &[ProbedTensor<'_>],
    text: &ProbeTokens,
    mut probes: Probes,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Probes, usize),
) -> Result<Probes, QualityError> {
    let pieces = text.pieces.iter();
    let references = pieces.map(|tokens| Ok(model.trace(tokens, text.rows)?));
    let references = references.collect::<Result<Vec<Vec<f32>>, QualityError>>()?;
    let mut blocks: Vec<u32> = tensors.iter().filter_map(|tensor| tensor.block).collect();
    let mut kinds: Vec<TensorRole> = tensors.iter().map(|tensor| tensor.role).collect();
    blocks.sort_unstable();
    blocks.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    let of = blocks.len() + kinds.len();
    let mut one = |first: Option<u32>, some: &dyn Fn(&&ProbedTensor<'_>) -> bool| {
        for tensor in tensors.iter().filter(some) {
            let bytes = encoded(tensor.planned, decode::threads(), cancel)?;
            let (dtype, shape) = (tensor.planned.assigned.dtype, &tensor.planned.shape);
            model.substitute(tensor.planned.name, dtype, matrices(shape), &bytes)?;
        }
        let mut sum = 0.0;
        for (trace, reference) in references.iter().enumerate() {
            if cancel.load(Ordering::Relaxed) {
                return Err(QualityError::Interrupted);
            }
            let first = first.map(|block| block as usize);
            let logits = model.replay(trace, first, text.rows)?;
            sum += divergence_of(&logits, reference, model.vocabulary());
        }
        model.restore();
        Ok(sum / references.len().max(1) as f64)
    };
    for block in blocks {
        if probes.blocks.contains_key(&block) {
            continue;
        }
        let divergence = one(Some(block), &|tensor| tensor.block == Some(block))?;
        probes.blocks.insert(block, divergence);
        progress(&probes, of);
    }
    for kind in kinds {
        if probes.kinds.contains_key(&kind) {
            continue;
        }
        let divergence = one(None, &|tensor| tensor.role == kind)?;
        probes.kinds.insert(kind, divergence);
        progress(&probes, of);
    }
    Ok(probes)
}

/// Matrices, rows and columns of a tensor.
fn matrices(shape: &[u64]) -> [usize; 3] {
    match *shape {
        [members, rows, columns] => [members, rows, columns].map(|n| n as usize),
        [rows, columns] => [1, rows as usize, columns as usize],
        _ => [1, 1, shape.iter().product::<u64>() as usize],
    }
}
