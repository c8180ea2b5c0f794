//! A projection of rows: a weight matrix and its bias, if it has one, and the norm of what it projects, if that has one.

use super::DecodeError;
use super::activations::Activations;
use super::norm::Norm;
use super::observe::Matrix;
use super::weights::Weights;
use crate::model::{ForwardSpec, TensorRole as R};

/// A projection with its bias, if it has one.
pub(super) struct Linear<X: Activations> {
    weight: Matrix<X>,
    bias: Option<X::Vector>,
}

impl<X: Activations> Linear<X> {
    /// The projection of `role`, `[rows, columns]`.
    ///
    /// Errors if its weight is missing, or a tensor of it has another shape or format.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        role: R,
        layer: Option<u32>,
        shape: [usize; 2],
    ) -> Result<Linear<X>, DecodeError> {
        Ok(Linear {
            weight: weights.matrix(role, layer, shape)?,
            bias: weights.bias(role, layer, shape[0])?,
        })
    }

    pub(super) fn of(weight: Matrix<X>, bias: Option<X::Vector>) -> Linear<X> {
        Linear { weight, bias }
    }

    /// A projection of `role` for each member of a stack, `[members, rows, columns]`.
    ///
    /// Errors as [`Linear::load`].
    pub(super) fn load_stack(
        weights: &mut Weights<'_, X>,
        role: R,
        layer: Option<u32>,
        shape: [usize; 3],
    ) -> Result<Vec<Linear<X>>, DecodeError> {
        let [members, rows, _] = shape;
        let matrices = weights.stack(role, layer, shape)?;
        let biases = weights.stack_biases(role, layer, [members, rows])?;
        let biases = biases.into_iter().map(Some);
        let biases = biases.chain(std::iter::repeat_with(|| None));
        let each = matrices.into_iter().zip(biases);
        Ok(each
            .map(|(matrix, bias)| Linear::of(matrix, bias))
            .collect())
    }

    /// Shows `x` to the observer without a product.
    pub(super) fn observe(&self, x: &X) -> Result<(), DecodeError> {
        Matrix::observe(x, [&self.weight])
    }

    /// `[tokens, columns]` to `[tokens, rows]`.
    pub(super) fn apply(&self, x: &X) -> Result<X, DecodeError> {
        let [out] = Linear::apply_all([self], x)?;
        Ok(out)
    }

    /// Several projections of the same rows.
    pub(super) fn apply_all<const N: usize>(
        all: [&Linear<X>; N],
        x: &X,
    ) -> Result<[X; N], DecodeError> {
        let mut out = Matrix::products(x, all.map(|linear| &linear.weight))?;
        for (out, linear) in out.iter_mut().zip(all) {
            if let Some(bias) = &linear.bias {
                out.add_vector(bias)?;
            }
        }
        Ok(out)
    }
}

/// A projection of rows that a norm comes before, where the file has one.
pub(super) struct NormedLinear<X: Activations> {
    norm: Option<Norm<X>>,
    linear: Linear<X>,
}

impl<X: Activations> NormedLinear<X> {
    /// The projection of the second of `roles`, `[rows, columns]`, behind the norm of the first.
    ///
    /// Errors as [`Linear::load`].
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        [norm, role]: [R; 2],
        layer: Option<u32>,
        shape: [usize; 2],
    ) -> Result<NormedLinear<X>, DecodeError> {
        Ok(NormedLinear {
            norm: Norm::load_if_there(weights, forward, norm, layer, shape[1])?,
            linear: Linear::load(weights, role, layer, shape)?,
        })
    }

    /// A projection without a norm.
    pub(super) fn of(linear: Linear<X>) -> NormedLinear<X> {
        NormedLinear { norm: None, linear }
    }

    /// `[tokens, columns]` to `[tokens, rows]`.
    pub(super) fn apply(&self, x: X) -> Result<X, DecodeError> {
        match &self.norm {
            Some(norm) => self.linear.apply(&norm.apply(x)?),
            None => self.linear.apply(&x),
        }
    }
}
