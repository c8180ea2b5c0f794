//! Leaves out tensors that no row takes: biases of zeros, and numbers that are keys of a GGUF. In: a checkpoint's sorted
//! weights. Out: the same without them. Reads the numbers of such biases, a few kB each.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::arch::{Arch, RowSite, ShapeParams, TensorRow};
use super::hparams::HParams;
use super::left_out;
use super::sorted::{ParsedWeight, Sorted};
use super::{Dims, Layer, ModelError};
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

    /// Leaves out biases of zeros that the configuration says the model does not have. Transformers does not load them;
    /// llama.cpp adds every bias that a file has.
    ///
    /// Errors if one of them is not zero, or cannot be read: the two would compute different models.
    pub(super) fn leave_out_denied_biases(
        &mut self,
        checkpoint: &Checkpoint,
        arch: &Arch,
        config: &Json,
        params: &ShapeParams,
        (dims, layers): (&Dims, &[Layer]),
    ) -> Result<(), ModelError> {
        for key in ["attention_bias", "mlp_bias"] {
            let stated = HParams::of_config(config);
            if stated.flag(key) != Some(false) {
                continue;
            }
            let mut allowed = params.clone();
            match key {
                "attention_bias" => allowed.attention_bias = true,
                _ => allowed.mlp_bias = true,
            }
            let is_denied = |entry: &ParsedWeight| {
                let block = entry.numbers.first().copied().unwrap_or(0);
                let Some(layer) = layers.get(block as usize) else {
                    return false;
                };
                let site = |params| RowSite {
                    dims,
                    params,
                    layer,
                    block: block.into(),
                };
                let mut rows = arch.rows();
                rows.any(|row| {
                    row.part == "bias"
                        && row.names.contains(&entry.pattern.as_str())
                        && !(row.when)(&site(params))
                        && (row.when)(&site(&allowed))
                })
            };
            let denied: Vec<ParsedWeight> =
                self.text.extract_if(.., |entry| is_denied(entry)).collect();
            for entry in denied {
                let stored = entry.logical.sources.first();
                let stored = stored.and_then(|&source| checkpoint.tensors.get(source as usize));
                if stored.and_then(|stored| checkpoint.all_zero(stored)) != Some(true) {
                    return Err(ModelError::DeniedBias {
                        tensor: entry.logical.name.clone(),
                        key,
                    });
                }
                self.leave_out(&left_out::ZERO_BIAS, &entry.logical);
            }
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
