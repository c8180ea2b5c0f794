//! The tensors of a GGUF, held to the rows of its architecture as runtimes hold them: none is missing,
//! none has another shape, none is a stranger.
//!
//! In: what the metadata implies, and the tensors. Out: the first that is wrong. Must not: know how a
//! runtime computes with them.

use std::collections::HashMap;

use super::ModelError;
use super::arch::{Arch, Row, RowSite, ShapeParams};
use super::resolve_tensors::is_spare;
use super::role::TensorRole as R;
use super::rows::sites;
use super::spec::{Dims, Layer, Tensor};
use crate::dtype::elements;

/// Projections that a file holds one by one or as one tensor of all their rows.
const FUSED: &[(&[R], R)] = &[
    (&[R::AttnQ, R::AttnK, R::AttnV], R::AttnQkv),
    (&[R::AttnKB, R::AttnVB], R::AttnKvB),
    (&[R::AttnQkv, R::AttnGate], R::SsmIn),
    (&[R::FfnGateExperts, R::FfnUpExperts], R::FfnGateUpExperts),
];

/// Ends of names of numbers that scale a weight of the same base name.
const SCALES: &[&str] = &[".scale", ".input_scale"];

/// What a GGUF is held to.
pub(super) struct Held<'a> {
    pub arch: &'a Arch,
    pub dims: &'a Dims,
    pub params: &'a ShapeParams,
    pub layers: &'a [Layer],
    /// Blocks behind the last that predict further tokens.
    pub ahead: usize,
}

impl Held<'_> {
    /// Errors with the first of `tensors` that is missing, misshapen or a stranger.
    pub(super) fn check(&self, tensors: &[Tensor]) -> Result<(), ModelError> {
        let mut left: HashMap<&str, &Tensor> =
            tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        let own: Vec<&Row> = self.arch.rows().collect();
        for row in &own {
            for (layer, site) in self.sites(row) {
                let name = row.role.gguf_name(layer, row.part);
                match left.remove(name.as_str()) {
                    Some(tensor) => same_shape(tensor, (row.shape)(&site))?,
                    None if !self.needs(row, &site) => {}
                    None if self.stands_fused(row, layer, &site, tensors)? => {}
                    None => {
                        return Err(ModelError::GgufMissing {
                            tensor: name,
                            architecture: self.arch.name.to_owned(),
                        });
                    }
                }
            }
        }
        // Other entries of the name have rows that this one does without.
        for row in Arch::all()
            .filter(|arch| arch.name == self.arch.name)
            .flat_map(Arch::rows)
        {
            for (layer, site) in self.sites(row) {
                let name = row.role.gguf_name(layer, row.part);
                if let Some(tensor) = left.remove(name.as_str()) {
                    same_shape(tensor, (row.shape)(&site))?;
                }
            }
        }
        left.retain(|name, tensor| !self.stands_for_others(name, tensor, tensors));
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

    /// Where the configuration calls for `row`.
    fn sites(&self, row: &Row) -> impl Iterator<Item = (Option<u32>, RowSite<'_>)> {
        let when = row.when;
        let never = row.role == R::Output && self.arch.loader.always_tied;
        let all = sites(row, self.dims, self.params, self.layers);
        all.filter(move |(_, site)| !never && when(site))
    }

    /// Whether a file must hold the tensor of `row`: not a bias (that of a recurrent block's time
    /// steps apart, and those that the architecture's loader needs), nor a table that conversion computes, nor what reuses another's, which some
    /// load all the same.
    fn needs(&self, row: &Row, site: &RowSite<'_>) -> bool {
        let is_needed = |role| role == R::SsmDt || self.arch.loader.needs_biases.contains(&role);
        let spare = is_spare(row, site) && !self.arch.loader.needs_spare_projections;
        (row.part != "bias" || is_needed(row.role)) && !row.role.is_rope_table() && !spare
    }

    /// Whether the tensor of `row` is stored with others in one, or in several of which it is made.
    fn stands_fused(
        &self,
        row: &Row,
        layer: Option<u32>,
        site: &RowSite<'_>,
        tensors: &[Tensor],
    ) -> Result<bool, ModelError> {
        let stored = |role: R| tensors.iter().find(|t| t.role == role && t.layer == layer);
        for (apart, one) in FUSED {
            // A fused tensor has the rows of all of them.
            if apart.contains(&row.role)
                && let Some(fused) = stored(*one)
            {
                let rows = self.arch.rows().filter(|r| apart.contains(&r.role));
                let rows = rows.filter(|r| r.part == "weight" && (r.when)(site));
                let shapes: Vec<Vec<u64>> = rows.map(|r| (r.shape)(site)).collect();
                return together(fused, &shapes).map(|()| true);
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

    /// Whether a tensor that no row names belongs to one that is there, or to blocks that a pass
    /// leaves out.
    fn stands_for_others(&self, name: &str, tensor: &Tensor, tensors: &[Tensor]) -> bool {
        let blocks = self.layers.len();
        let ahead = blocks..blocks.saturating_add(self.ahead);
        let is_ahead = tensor.layer.is_some_and(|n| ahead.contains(&(n as usize)));
        let has = |role: R| {
            tensors
                .iter()
                .any(|t| t.role == role && t.layer == tensor.layer)
        };
        let named = |role: R| self.arch.rows().any(|row| row.role == role);
        // One that a pass takes instead of those its rows name.
        let instead = FUSED.iter().any(|(apart, one)| {
            tensor.role == *one && apart.iter().any(|role| named(*role))
                || apart.contains(&tensor.role) && named(*one) && !has(*one)
        });
        let weight = |base: &str| {
            let base = format!("{base}.weight");
            tensors.iter().find(|t| t.name == base)
        };
        let of_weight = |end: &str| weight(name.strip_suffix(end)?);
        let scale = SCALES.iter().any(|end| of_weight(end).is_some());
        let bias = of_weight(".bias").is_some_and(|weight| {
            let rows = weight.elements() / weight.row().max(1);
            weight.shape.len() > 1 && tensor.elements() == rows
        });
        let table = tensor.role.is_rope_table() && tensor.elements() == self.params.rope_factors;
        let in_blocks = tensor.layer.is_none_or(|n| (n as usize) < blocks);
        is_ahead || in_blocks && (instead || scale || bias || table)
    }
}

/// A dimension of one, outermost, is often left out.
fn same_shape(tensor: &Tensor, expected: Vec<u64>) -> Result<(), ModelError> {
    let significant =
        |shape: &[u64]| -> Vec<u64> { shape.iter().copied().skip_while(|&n| n == 1).collect() };
    if significant(&tensor.shape) == significant(&expected) {
        Ok(())
    } else {
        Err(ModelError::GgufShape {
            tensor: tensor.name.clone(),
            found: tensor.shape.clone(),
            expected,
        })
    }
}

/// That `fused` holds the weights of all `shapes` in rows of their width.
fn together(fused: &Tensor, shapes: &[Vec<u64>]) -> Result<(), ModelError> {
    let all = shapes.iter().map(|shape| elements(shape));
    let all = all.fold(0, u64::saturating_add);
    let width = shapes
        .last()
        .and_then(|shape| shape.last().copied())
        .unwrap_or(1);
    if fused.row() == width && fused.elements() == all {
        Ok(())
    } else {
        Err(ModelError::GgufShape {
            tensor: fused.name.clone(),
            found: fused.shape.clone(),
            expected: vec![all / width.max(1), width],
        })
    }
}
