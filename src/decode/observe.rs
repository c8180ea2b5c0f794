//! Weight matrices of a pass, whose inputs an observer may see.
//!
//! In: rows and matrices. Out: their products, and the rows for the observer that a model was loaded with.

use std::fmt;
use std::sync::Arc;

use super::DecodeError;
use super::activations::Activations;

/// Sees the rows that weight matrices are multiplied with.
pub trait Observer: Send + Sync {
    /// `rows`, of `columns` elements each and end to end, are multiplied with each of `matrices`.
    ///
    /// # Errors
    /// An error ends the pass.
    fn inputs(
        &self,
        matrices: &[MatrixName<'_>],
        rows: &[f32],
        columns: usize,
    ) -> Result<(), DecodeError>;
}

/// The matrix of a tensor, or one of a stack of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixName<'a> {
    /// The tensor's name in a GGUF.
    pub tensor: &'a str,
    /// Its number in the stack.
    pub member: usize,
    /// The matrices of the stack; one for a tensor of two dimensions.
    pub members: usize,
}

/// An observer to load a model with.
#[derive(Clone)]
pub struct Observing(pub Arc<dyn Observer>);

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observing(..)")
    }
}

/// A weight matrix.
pub(super) struct Matrix<X: Activations> {
    weight: X::Matrix,
    observed: Option<Observed>,
}

/// Who sees the inputs of a matrix, and what the matrix is called.
struct Observed {
    observer: Arc<dyn Observer>,
    tensor: Arc<str>,
    member: usize,
    members: usize,
}

impl<X: Activations> Matrix<X> {
    /// The matrix of tensor `name`, whose inputs `observer` sees.
    pub(super) fn of(name: &str, weight: X::Matrix, observer: Option<&Observing>) -> Matrix<X> {
        let observed = observer.map(|Observing(observer)| Observed {
            observer: Arc::clone(observer),
            tensor: name.into(),
            member: 0,
            members: 1,
        });
        Matrix { weight, observed }
    }

    /// The matrices of tensor `name`, each of which is observed by its number.
    pub(super) fn stack(
        name: &str,
        weights: Vec<X::Matrix>,
        observer: Option<&Observing>,
    ) -> Vec<Matrix<X>> {
        let members = weights.len();
        let matrix = |(member, weight)| {
            let mut matrix = Matrix::of(name, weight, observer);
            if let Some(observed) = &mut matrix.observed {
                (observed.member, observed.members) = (member, members);
            }
            matrix
        };
        weights.into_iter().enumerate().map(matrix).collect()
    }

    /// The rows with the numbers `ids`, as an embedding.
    pub(super) fn lookup(&self, ids: &[u32]) -> Result<X, DecodeError> {
        X::lookup(&self.weight, ids)
    }

    /// The products of `x` with the matrix.
    pub(super) fn product(&self, x: &X) -> Result<X, DecodeError> {
        let [out] = Matrix::products(x, [self])?;
        Ok(out)
    }

    /// [`Activations::products`].
    pub(super) fn products<const N: usize>(
        x: &X,
        matrices: [&Matrix<X>; N],
    ) -> Result<[X; N], DecodeError> {
        Matrix::observe(x, matrices)?;
        x.products(matrices.map(|matrix| &matrix.weight))
    }

    /// Shows `x` to the observer of `matrices`, if they have one.
    pub(super) fn observe<const N: usize>(
        x: &X,
        matrices: [&Matrix<X>; N],
    ) -> Result<(), DecodeError> {
        let observed = matrices.iter().filter_map(|m| m.observed.as_ref());
        let Some(Observed { observer, .. }) = observed.clone().next() else {
            return Ok(());
        };
        let names: Vec<MatrixName<'_>> = observed.map(Observed::name).collect();
        observer.inputs(&names, &x.clone().into_host()?, x.width())
    }
}

impl Observed {
    fn name(&self) -> MatrixName<'_> {
        MatrixName {
            tensor: &self.tensor,
            member: self.member,
            members: self.members,
        }
    }
}
