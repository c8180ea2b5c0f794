//! What a tensor is for.

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// The token embedding.
    TokenEmbedding,
    /// Anything else.
    Other,
}
