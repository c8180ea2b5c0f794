//! Weight matrices of a pass, whose inputs an observer may see, and which others can be used in place of.
//!
//! In: rows and matrices. Out: their products, and the rows for the observer that a model was loaded with.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

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
    /// Whether a router sends each token to some of the stack, as to experts; all of another stack see every token.
    pub is_routed: bool,
}

/// An observer to load a model with.
#[derive(Clone)]
pub struct Observing(pub Arc<dyn Observer>);

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observing(..)")
    }
}

/// What a model was loaded with to look into its passes and to change them.
pub(super) struct Hooks<X: Activations> {
    observer: Option<Arc<dyn Observer>>,
    /// Matrices that are used in place of those of a tensor, by its name.
    substitutes: RwLock<HashMap<String, Vec<X::Matrix>>>,
}

impl<X: Activations> Hooks<X> {
    pub(super) fn new(observer: Option<&Observing>) -> Hooks<X> {
        Hooks {
            observer: observer.map(|Observing(observer)| Arc::clone(observer)),
            substitutes: RwLock::default(),
        }
    }

    /// Uses `matrices` in place of those of `tensor`.
    pub(super) fn substitute(&self, tensor: &str, matrices: Vec<X::Matrix>) {
        let mut all = self.substitutes.write();
        let all = all.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut());
        all.insert(tensor.to_owned(), matrices);
    }

    /// Uses the matrices of the file again.
    pub(super) fn restore(&self) {
        let mut all = self.substitutes.write();
        let all = all.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut());
        all.clear();
    }

    fn substitutes(&self) -> RwLockReadGuard<'_, HashMap<String, Vec<X::Matrix>>> {
        self.substitutes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A weight matrix.
pub(super) struct Matrix<X: Activations> {
    weight: X::Matrix,
    hooks: Arc<Hooks<X>>,
    tensor: Arc<str>,
    /// Its number in the stack, and the matrices of the stack.
    member: usize,
    members: usize,
    is_routed: bool,
}

impl<X: Activations> Matrix<X> {
    /// The matrix of tensor `name`.
    pub(super) fn of(name: &str, weight: X::Matrix, hooks: &Arc<Hooks<X>>) -> Matrix<X> {
        Matrix {
            weight,
            hooks: Arc::clone(hooks),
            tensor: name.into(),
            member: 0,
            members: 1,
            is_routed: false,
        }
    }

    /// The matrices of tensor `name`, by their number.
    pub(super) fn stack(
        name: &str,
        weights: Vec<X::Matrix>,
        is_routed: bool,
        hooks: &Arc<Hooks<X>>,
    ) -> Vec<Matrix<X>> {
        let members = weights.len();
        let matrix = |(member, weight)| Matrix {
            member,
            members,
            is_routed,
            ..Matrix::of(name, weight, hooks)
        };
        weights.into_iter().enumerate().map(matrix).collect()
    }

    /// The rows with the numbers `ids`, as an embedding.
    pub(super) fn lookup(&self, ids: &[u32]) -> Result<X, DecodeError> {
        let substitutes = self.hooks.substitutes();
        X::lookup(self.weight_in(&substitutes), ids)
    }

    /// The products of `x` with the matrix.
    pub(super) fn product(&self, x: &X) -> Result<X, DecodeError> {
        let [out] = Matrix::products(x, [self])?;
        Ok(out)
    }

    /// [`Activations::products`]. The matrices are of one model.
    pub(super) fn products<const N: usize>(
        x: &X,
        matrices: [&Matrix<X>; N],
    ) -> Result<[X; N], DecodeError> {
        Matrix::observe(x, matrices)?;
        let substitutes = matrices.first().map(|matrix| matrix.hooks.substitutes());
        x.products(matrices.map(|matrix| match &substitutes {
            Some(substitutes) => matrix.weight_in(substitutes),
            None => &matrix.weight,
        }))
    }

    /// Shows `x` to the observer of `matrices`, if there is one.
    pub(super) fn observe<const N: usize>(
        x: &X,
        matrices: [&Matrix<X>; N],
    ) -> Result<(), DecodeError> {
        let observer = matrices.first().and_then(|m| m.hooks.observer.as_ref());
        let Some(observer) = observer else {
            return Ok(());
        };
        let names = matrices.map(|matrix| MatrixName {
            tensor: &matrix.tensor,
            member: matrix.member,
            members: matrix.members,
            is_routed: matrix.is_routed,
        });
        observer.inputs(&names, &x.clone().into_host()?, x.width())
    }

    fn weight_in<'m>(&'m self, substitutes: &'m HashMap<String, Vec<X::Matrix>>) -> &'m X::Matrix {
        if substitutes.is_empty() {
            return &self.weight;
        }
        let found = substitutes.get(&*self.tensor);
        let found = found.and_then(|matrices| matrices.get(self.member));
        found.unwrap_or(&self.weight)
    }
}
