//! A norm with its weight and, where the file has one, its bias; in some models with neither.

use super::DecodeError;
use super::activations::Activations;
use super::weights::Weights;
use crate::model::{ForwardSpec, NormKind, TensorRole as R};

/// A norm of rows or, where it is as wide as a head, of each head.
pub(super) struct Norm<X: Activations> {
    kind: NormKind,
    epsilon: f32,
    width: usize,
    weight: Weight<X>,
    bias: Option<X::Vector>,
}

/// What normalized runs are multiplied with.
enum Weight<X: Activations> {
    None,
    /// The same for every run.
    Run(X::Vector),
    /// Of each run of a row its own.
    Row(X::Vector),
}

impl<X: Activations> Norm<X> {
    /// The norm of `role`, `width` elements wide.
    ///
    /// Errors if its weight is missing, or a tensor of it has another shape or format.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        role: R,
        layer: Option<u32>,
        width: usize,
    ) -> Result<Norm<X>, DecodeError> {
        Ok(Norm {
            kind: forward.norm,
            epsilon: forward.norm_epsilon,
            width,
            weight: if forward.norm_weights {
                Weight::Run(weights.vector(role, layer, width)?)
            } else {
                Weight::None
            },
            bias: weights.bias(role, layer, width)?,
        })
    }

    /// The norm of `role` over heads of `width` elements, each with a weight of its own.
    pub(super) fn load_of_heads(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        role: R,
        layer: Option<u32>,
        [heads, width]: [usize; 2],
    ) -> Result<Norm<X>, DecodeError> {
        let rows = weights.floats(role, layer, &[heads, width])?;
        Ok(Norm {
            kind: forward.norm,
            epsilon: forward.norm_epsilon,
            width,
            weight: Weight::Row(weights.own_vector(rows)?),
            bias: None,
        })
    }

    /// [`Norm::load`] if the file has its weight.
    pub(super) fn load_if_there(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        role: R,
        layer: Option<u32>,
        width: usize,
    ) -> Result<Option<Norm<X>>, DecodeError> {
        if weights.has(role, layer) {
            Norm::load(weights, forward, role, layer, width).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Every run of `width` elements, normalized.
    pub(super) fn apply(&self, x: X) -> Result<X, DecodeError> {
        // The variance is the mean square of a centred row.
        let centred = match self.kind {
            NormKind::Rms => x,
            NormKind::Layer => x.centre(self.width)?,
        };
        let mut normed = match &self.weight {
            Weight::None => centred.plain_norm(self.width, self.epsilon)?,
            Weight::Run(weight) => centred.rms_norm(weight, self.epsilon)?,
            Weight::Row(weight) => centred
                .plain_norm(self.width, self.epsilon)?
                .times_vector(weight)?,
        };
        if let Some(bias) = &self.bias {
            normed.add_vector(bias)?;
        }
        Ok(normed)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::host::HostActivations;
    use super::super::tensors::TensorActivations;
    use super::*;

    const EPSILON: f32 = 1e-5;
    const WEIGHT: [f32; 5] = [0.5, 1.0, -1.5, 2.0, 0.25];
    const BIAS: [f32; 5] = [0.3, -0.1, 0.0, 1.0, -2.0];

    /// `rows` as rows of two heads each, normalized head by head.
    fn normed<X: Activations>(
        backend: &X::Backend,
        kind: NormKind,
        bias: Option<[f32; 5]>,
        rows: &[f32],
    ) -> Vec<f32> {
        let vector = |values: [f32; 5]| X::vector(backend, values.to_vec()).unwrap();
        let norm = Norm::<X> {
            kind,
            epsilon: EPSILON,
            width: WEIGHT.len(),
            weight: Weight::Run(vector(WEIGHT)),
            bias: bias.map(vector),
        };
        let rows = X::from_host(backend, rows.to_vec(), 2 * WEIGHT.len()).unwrap();
        norm.apply(rows).unwrap().into_host().unwrap()
    }

    fn defined(kind: NormKind, bias: [f32; 5], rows: &[f32]) -> Vec<f64> {
        let head = |head: &[f32]| -> Vec<f64> {
            let x: Vec<f64> = head.iter().map(|&x| x.into()).collect();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let centre = match kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => mean,
            };
            let squares = x.iter().map(|x| (x - centre).powi(2));
            let scale = (squares.sum::<f64>() / x.len() as f64 + f64::from(EPSILON)).sqrt();
            let affine = WEIGHT.iter().zip(bias);
            let pairs = x.iter().zip(affine);
            pairs
                .map(|(x, (w, b))| (x - centre) / scale * f64::from(*w) + f64::from(b))
                .collect()
        };
        rows.chunks_exact(WEIGHT.len()).flat_map(head).collect()
    }

    /// On both backends, with and without a bias, and where the mean is far above the spread.
    #[test]
    fn norms_of_heads_are_those_of_their_definitions() {
        for (kind, offset) in [
            (NormKind::Rms, 0.0),
            (NormKind::Layer, 0.0),
            (NormKind::Layer, 1000.0),
        ] {
            let rows: Vec<f32> = (0..30).map(|i| offset + (i as f32 * 0.7).sin()).collect();
            for bias in [None, Some(BIAS)] {
                let expected = defined(kind, bias.unwrap_or_default(), &rows);
                let host = normed::<HostActivations>(&(), kind, bias, &rows);
                let tensors = normed::<TensorActivations>(&Device::Cpu, kind, bias, &rows);
                for found in [host, tensors] {
                    assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.iter().zip(&expected) {
                        let off = (f64::from(*found) - expected).abs();
                        assert!(off < 3e-4, "{kind:?}, {bias:?}: {found} for {expected}");
                    }
                }
            }
        }
    }

    /// The first of two heads has half of the weight of the second.
    fn of_heads<X: Activations>(backend: &X::Backend, rows: &[f32]) -> Vec<f32> {
        let row = WEIGHT.map(|weight| weight / 2.0).into_iter().chain(WEIGHT);
        let norm = Norm::<X> {
            kind: NormKind::Rms,
            epsilon: EPSILON,
            width: WEIGHT.len(),
            weight: Weight::Row(X::vector(backend, row.collect()).unwrap()),
            bias: None,
        };
        let rows = X::from_host(backend, rows.to_vec(), 2 * WEIGHT.len()).unwrap();
        norm.apply(rows).unwrap().into_host().unwrap()
    }

    #[test]
    fn each_head_may_have_a_weight_of_its_own() {
        let rows: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        let expected = defined(NormKind::Rms, [0.0; 5], &rows);
        let host = of_heads::<HostActivations>(&(), &rows);
        let tensors = of_heads::<TensorActivations>(&Device::Cpu, &rows);
        for found in [host, tensors] {
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let factor = if at % 10 < 5 { 0.5 } else { 1.0 };
                assert!((f64::from(*found) - factor * expected).abs() < 3e-4, "{at}");
            }
        }
    }
}
