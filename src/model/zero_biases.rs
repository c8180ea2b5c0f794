//! Leaves out tensors that no row takes: biases of zeros, and numbers that are keys of a GGUF. In: a checkpoint's sorted
//! weights. Out: the same without them. Reads the numbers of such biases, a few kB each.

use std::collections::HashMap;

use super::ModelError;
use super::arch::{Arch, TensorRow};
use super::left_out;
use super::sorted::{ParsedWeight, Sorted};
use crate::checkpoint::Checkpoint;
use crate::dtype::elements;

impl Sorted {
    /// Leaves out tensors of one number that a GGUF of `arch` has among its keys, and those that llama.cpp does without.
    ///
    /// Errors if one of those numbers is missing for one of `blocks`.
    pub(super) fn leave_out_known(&mut self, arch: &Arch, blocks: usize) -> Result<(), ModelError> {
        let Some(conversion) = &arch.conversion else {
            return Ok(());
        };
        let names: Vec<&str> = conversion.stored_numbers().collect();
        let is_number = |entry: &mut ParsedWeight| {
            names.contains(&entry.pattern.as_str()) && elements(&entry.logical.shape) == 1
        };
        let has_weights = !self.text.is_empty();
        let left: Vec<ParsedWeight> = self.text.extract_if(.., is_number).collect();
        for name in names.iter().filter(|_| has_weights) {
            let stored = |block: &usize| {
                let of_block = |entry: &ParsedWeight| {
                    entry.pattern == **name && entry.numbers.first() == Some(&(*block as u32))
                };
                left.iter().any(of_block)
            };
            if let Some(block) = (0..blocks).find(|block| !stored(block)) {
                return Err(ModelError::MissingTensor {
                    tensor: name.replace("{}", &block.to_string()),
                });
            }
        }
        for entry in left {
            self.leave_out(&left_out::KEY_NUMBERS, &entry.logical);
        }
        let is_dropped =
            |entry: &mut ParsedWeight| conversion.dropped.contains(&entry.pattern.as_str());
        let left: Vec<ParsedWeight> = self.text.extract_if(.., is_dropped).collect();
        for entry in left {
            self.leave_out(&left_out::DROPPED, &entry.logical);
        }
        Ok(())
    }

    /// Leaves out biases of zeros that `arch` has no row for: GPTQ's tools write one for every projection.
    pub(super) fn leave_out_zero_biases(&mut self, checkpoint: &Checkpoint, arch: &Arch) {
        let is_spare = |entry: &ParsedWeight| {
            let of_row = |row: &TensorRow| row.names.contains(&entry.pattern.as_str());
            entry.pattern.ends_with(".bias") && !arch.rows().any(of_row)
        };
        if !self.text.iter().any(is_spare) {
            return;
        }
        let packed = |entry: &ParsedWeight| {
            let base = entry.logical.name.strip_suffix(".weight")?;
            Some((base.to_owned(), entry.logical.sources.len() > 1))
        };
        let weights: HashMap<String, bool> = self.text.iter().filter_map(packed).collect();
        let zeros = |entry: &ParsedWeight| {
            let base = entry.logical.name.strip_suffix(".bias")?;
            let packed = *weights.get(base)?;
            let stored = checkpoint
                .tensors
                .get(*entry.logical.sources.first()? as usize)?;
            match (checkpoint.all_zero(stored), packed) {
                (Some(true), _) => Some(&left_out::ZERO_BIAS),
                (None, true) => Some(&left_out::UNSEEN_BIAS),
                _ => None,
            }
        };
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.text) {
            match zeros(&entry).filter(|_| is_spare(&entry)) {
                Some(kind) => left.push((kind, entry)),
                None => kept.push(entry),
            }
        }
        self.text = kept;
        for (kind, entry) in left {
            self.leave_out(kind, &entry.logical);
        }
    }
}
