//! Checks the tensors of a GGUF against the rows of its architecture, as llama.cpp's loader does: none may be missing,
//! have another shape, or be unknown.
//!
//! In: dimensions and blocks from the metadata, and the tensors. Out: the first that is wrong. Must not: know how a
//! runtime computes with them. Deviations of llama.cpp's loader from the rows are in the `loader` of the entry.

use std::collections::HashMap;

use super::ModelError;
use super::arch::{Arch, RowSite, ShapeParams, TensorRow};
use super::loader::{self, LoaderRule};
use super::resolve_tensors::is_spare;
use super::role::TensorRole as R;
use super::rows::sites;
use super::spec::{Dims, Layer};
use super::tensor::Tensor;
use crate::dtype::{Dtype, elements};

/// Projections that a file may store one by one or fused into one tensor with the rows of all.
const FUSED: &[(&[R], R)] = &[
    (&[R::AttnQ, R::AttnK, R::AttnV], R::AttnQkv),
    (&[R::AttnKB, R::AttnVB], R::AttnKvB),
    (&[R::AttnQkv, R::AttnGate], R::SsmIn),
    (&[R::FfnGateExperts, R::FfnUpExperts], R::FfnGateUpExperts),
];

/// The rows of an architecture, with the dimensions and blocks of one GGUF.
pub(super) struct GgufRows<'a> {
    pub arch: &'a Arch,
    pub dims: &'a Dims,
    pub params: &'a ShapeParams,
    pub layers: &'a [Layer],
    /// The number of blocks for multi-token prediction, which follow the last block.
    pub ahead: usize,
    /// Whether rotary scaling is LongRoPE, with one table of factors for long contexts and one for short.
    pub longrope: bool,
}

impl GgufRows<'_> {
    /// Checks `tensors`.
    ///
    /// Errors with the first that is missing ([`ModelError::GgufMissing`]), has another shape
    /// ([`ModelError::GgufShape`]) or is unknown ([`ModelError::GgufStranger`]).
    pub(super) fn check(&self, tensors: &[Tensor]) -> Result<(), ModelError> {
        let mut left: HashMap<&str, &Tensor> =
            tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let own: Vec<&TensorRow> = self.arch.rows().collect();
        for row in &own {
            for (layer, site) in self.sites(row) {
                let name = row.role.gguf_name(layer, row.part);
                match left.remove(name.as_str()) {
                    Some(tensor) => check_shape(tensor, (row.shape)(&site))?,
                    None if !self.needs(row, &site) => {}
                    None if self.is_stored_fused(row, layer, &site, tensors)? => {}
                    None => return Err(self.missing(name)),
                }
            }
        }
        let head = R::Output.gguf_name(None, "weight");
        if self.params.tied && self.arch.loader.has(LoaderRule::NeedsHead) {
            return Err(self.missing(head));
        }
        self.check_ahead(&mut left)?;
        // Rows of other entries that llama.cpp runs under the same name are allowed.
        for row in Arch::all()
            .filter(|arch| arch.name == self.arch.name)
            .flat_map(Arch::rows)
        {
            for (layer, site) in self.sites(row) {
                let name = row.role.gguf_name(layer, row.part);
                if let Some(tensor) = left.remove(name.as_str()) {
                    check_shape(tensor, (row.shape)(&site))?;
                }
            }
        }
        left.retain(|name, tensor| !self.is_loaded(name, tensor, tensors));
        match left.keys().min() {
            None => Ok(()),
            Some(first) => Err(ModelError::GgufStranger {
                tensor: (*first).to_owned(),
                count: left.len(),
                architecture: self.arch.name.to_owned(),
                blocks: self.layers.len(),
            }),
        }
    }

    fn missing(&self, tensor: String) -> ModelError {
        ModelError::GgufMissing {
            tensor,
            architecture: self.arch.name.to_owned(),
        }
    }

    /// The places where the configuration calls for `row` and llama.cpp loads it.
    fn sites(&self, row: &TensorRow) -> impl Iterator<Item = (Option<u32>, RowSite<'_>)> {
        let (when, loader) = (row.when, &self.arch.loader);
        let never = match (row.role, row.part) {
            (R::Output, "weight") => loader.has(LoaderRule::NoHead),
            (role, "bias") => loader.bias(role) == Some(false),
            (role, _) if role.is_rope_table() => !self.loads_table(role),
            _ => false,
        };
        let all = sites(row, self.dims, self.params, self.layers);
        all.filter(move |(_, site)| !never && when(site))
    }

    /// Whether a file must hold the tensor of `row`.
    fn needs(&self, row: &TensorRow, site: &RowSite<'_>) -> bool {
        let loader = &self.arch.loader;
        if row.part == "bias" {
            return loader.needs_biases.contains(&row.role);
        }
        if row.role.is_rope_table() {
            let whole = |layer: &Layer| {
                let attention = layer.mixer.attention.as_ref();
                attention.is_some_and(|a| a.window.is_none())
            };
            return loader.has(LoaderRule::NeedsRopeTable) && self.layers.iter().any(whole);
        }
        let spare = is_spare(row, site) && !loader.has(LoaderRule::NeedsSpareProjections);
        let scale = row.part == "scale" && loader::scale(row.role, 0).is_some();
        !spare && !scale && !loader.optional.contains(&row.role)
    }

    /// Whether the rotary table of `role` is loaded.
    fn loads_table(&self, role: R) -> bool {
        let stretched = role != R::RopeFreqs;
        let loader = &self.arch.loader;
        let both = !loader.has(LoaderRule::BothRopeTables) && stretched != self.longrope;
        loader.rope_tables.contains(&role) && !both
    }

    /// Checks the blocks for multi-token prediction, which llama.cpp needs although it does not use them. Only their
    /// projections of query, key and value and their gates and ups may be fused. Removes tensors of the rows from `left`.
    fn check_ahead(&self, left: &mut HashMap<&str, &Tensor>) -> Result<(), ModelError> {
        let loader = &self.arch.loader;
        let first = self.layers.len();
        let stored = |left: &HashMap<&str, &Tensor>, block: usize, role: R| {
            let name = role.gguf_name(u32::try_from(block).ok(), "weight");
            left.contains_key(name.as_str())
        };
        let left_off =
            loader.has(LoaderRule::MayLackBlocksAhead) && !stored(left, first, R::NextnProj);
        let asked = loader.has(LoaderRule::NeedsBlocksAhead) && !left_off;
        let attends = |layer: &&Layer| layer.mixer.attention.is_some();
        let Some(layer) = self.layers.iter().rfind(attends).filter(|_| asked) else {
            return Ok(());
        };
        let site = RowSite {
            dims: self.dims,
            params: self.params,
            layer,
            block: first as u64,
        };
        let rows = self
            .arch
            .rows()
            .filter(|row| row.role.info().block && (row.when)(&site) && self.needs(row, &site));
        let rows: Vec<&TensorRow> = rows.collect();
        for block in first..first.saturating_add(self.ahead) {
            for &role in loader::AHEAD_NEEDS {
                if !stored(left, block, role) {
                    let name = role.gguf_name(u32::try_from(block).ok(), "weight");
                    return Err(self.missing(name));
                }
            }
            for row in &rows {
                let name = row.role.gguf_name(u32::try_from(block).ok(), row.part);
                let fused = FUSED.iter().any(|(apart, _)| apart.contains(&row.role));
                match left.remove(name.as_str()) {
                    Some(tensor) => check_shape(tensor, (row.shape)(&site))?,
                    None if fused => {}
                    None => return Err(self.missing(name)),
                }
            }
        }
        Ok(())
    }

    /// Whether the tensor of `row` is stored as part of a fused tensor, or (if it is a fused one) as its parts.
    fn is_stored_fused(
        &self,
        row: &TensorRow,
        layer: Option<u32>,
        site: &RowSite<'_>,
        tensors: &[Tensor],
    ) -> Result<bool, ModelError> {
        // A bias has the role of its weight.
        let stored = |role: R| {
            let name = role.gguf_name(layer, "weight");
            tensors.iter().find(|t| t.name == name)
        };
        for (apart, one) in FUSED {
            // A fused tensor has the rows of all its parts.
            if apart.contains(&row.role)
                && let Some(fused) = stored(*one)
            {
                let rows = self.arch.rows().filter(|r| apart.contains(&r.role));
                let rows = rows.filter(|r| r.part == "weight" && (r.when)(site));
                let shapes: Vec<Vec<u64>> = rows.map(|r| (r.shape)(site)).collect();
                return check_fused_shape(fused, &shapes).map(|()| true);
            }
            if row.role == *one && apart.iter().all(|role| stored(*role).is_some()) {
                let expected = (row.shape)(site);
                let parts = apart.iter().filter_map(|role| stored(*role));
                let found = parts.fold(0u64, |n, t| n.saturating_add(t.elements()));
                return Ok(found == elements(&expected));
            }
        }
        Ok(false)
    }

    /// Whether llama.cpp loads a tensor that no row names: a scale or bias of a stored weight, a fused projection or its
    /// parts, a rotary table, or a tensor of a block for multi-token prediction.
    fn is_loaded(&self, name: &str, tensor: &Tensor, tensors: &[Tensor]) -> bool {
        let blocks = self.layers.len();
        let block = tensor.layer.map(|n| n as usize);
        if block.is_some_and(|n| n >= blocks) {
            let ahead = block.is_some_and(|n| n < blocks.saturating_add(self.ahead));
            return ahead
                && self.arch.loader.has(LoaderRule::BlocksAhead)
                && tensor.role != R::Other;
        }
        let has = |role: R| {
            tensors
                .iter()
                .any(|t| t.role == role && t.layer == tensor.layer)
        };
        let named = |role: R| self.arch.rows().any(|row| row.role == role);
        // A fused projection instead of its parts, or the reverse.
        let instead = FUSED.iter().any(|(apart, one)| {
            tensor.role == *one && apart.iter().any(|role| named(*role))
                || apart.contains(&tensor.role) && named(*one) && !has(*one)
        });
        let of_weight = |end: &str| {
            let base = format!("{}.weight", name.strip_suffix(end)?);
            tensors.iter().find(|t| t.name == base)
        };
        let scale = loader::SCALES.iter().any(|end| {
            of_weight(end).is_some_and(|weight| {
                let of_head = weight.role == R::Output && weight.dtype == Dtype::NVFP4;
                let numbers = loader::scale(weight.role, self.dims.experts);
                numbers.or(of_head.then_some(1)) == Some(tensor.elements())
            })
        });
        let bias = of_weight(".bias").is_some_and(|weight| {
            let layer = block.and_then(|n| self.layers.get(n));
            let attention = layer.map(|layer| layer.mixer.attention.as_ref());
            let projects = match weight.role {
                R::AttnQkv => attention.is_none_or(|attention| attention.is_some()),
                // Those of a delta net are like those of attention; queries of latents have none.
                R::AttnQ | R::AttnK | R::AttnV => {
                    attention.flatten().is_none_or(|a| a.value_dim > 0)
                }
                _ => true,
            };
            let rows = weight.elements() / weight.row().max(1);
            self.arch.loader.bias(weight.role) == Some(true)
                && projects
                && weight.shape.len() > 1
                && tensor.elements() == rows
        });
        let table = tensor.role.is_rope_table()
            && self.loads_table(tensor.role)
            && tensor.elements() == self.params.rope_factors;
        (instead && tensor.name.ends_with(".weight")) || scale || bias || table
    }
}

/// Checks that a tensor has the expected shape. Outermost dimensions of 1 do not count: files often omit them.
fn check_shape(tensor: &Tensor, expected: Vec<u64>) -> Result<(), ModelError> {
    let significant =
        |shape: &[u64]| -> Vec<u64> { shape.iter().copied().skip_while(|&n| n == 1).collect() };
    if significant(&tensor.shape) == significant(&expected) {
        return Ok(());
    }
    Err(ModelError::GgufShape {
        tensor: tensor.name.clone(),
        found: tensor.shape.clone(),
        expected,
    })
}

/// Checks that `fused` has the rows of all `shapes`.
fn check_fused_shape(fused: &Tensor, shapes: &[Vec<u64>]) -> Result<(), ModelError> {
    let all = shapes.iter().map(|shape| elements(shape));
    let all = all.fold(0, u64::saturating_add);
    let width = shapes
        .last()
        .and_then(|shape| shape.last().copied())
        .unwrap_or(1);
    if fused.row() == width && fused.elements() == all {
        return Ok(());
    }
    Err(ModelError::GgufShape {
        tensor: fused.name.clone(),
        found: fused.shape.clone(),
        expected: vec![all / width.max(1), width],
    })
}
