//! The types that the user requests instead of the scheme's own. In: patterns and types. Out: the type requested for a
//! tensor, if any. Must not: know a scheme.

use std::collections::BTreeMap;
use std::str::FromStr;

use regex::Regex;

use crate::dtype::Dtype;
use crate::model::{Category, Tensor, TensorRole};

/// Types requested by the user, and settings that change the mix.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Types by the names of tensors, before all else. A type whose blocks do not divide a row is the caller's to avoid.
    pub exact: BTreeMap<String, Dtype>,
    /// The first pattern that matches a tensor's name decides.
    pub tensors: Vec<TypeOverride>,
    /// The type of the token embedding and the per-layer embedding.
    pub token_embedding: Option<Dtype>,
    /// The type of the output matrix, and of a tied embedding.
    pub output: Option<Dtype>,
    /// All tensors that may be quantized get the base type: no mix.
    pub pure: bool,
    /// An importance matrix is used, with which some mixes are smaller.
    pub importance: bool,
}

/// `PATTERN=TYPE`: a regular expression for tensor names, and a type.
#[derive(Clone, Debug)]
pub struct TypeOverride {
    /// Matches anywhere in the name.
    pub pattern: Regex,
    /// The type of the tensors that it matches.
    pub dtype: Dtype,
}

/// Text that is not a valid override.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseOverrideError {
    /// There is no equals sign, or nothing before it.
    #[error("`{0}` is not PATTERN=TYPE, such as attn_v=q8_0")]
    Form(String),
    /// The pattern is not a regular expression.
    #[error("`{pattern}` is not a regular expression: {problem}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// The last line of the error message of its parser.
        problem: String,
    },
    /// There is no such type.
    #[error("there is no type `{0}`")]
    Type(String),
}

impl FromStr for TypeOverride {
    type Err = ParseOverrideError;

    fn from_str(text: &str) -> Result<TypeOverride, ParseOverrideError> {
        // A pattern may hold an equals sign, a type cannot.
        let parts = text
            .rsplit_once('=')
            .filter(|(pattern, _)| !pattern.is_empty());
        let (pattern, name) = parts.ok_or_else(|| ParseOverrideError::Form(text.to_owned()))?;
        let dtype =
            Dtype::from_name(name).ok_or_else(|| ParseOverrideError::Type(name.to_owned()))?;
        let pattern = Regex::new(pattern).map_err(|error| ParseOverrideError::Pattern {
            pattern: pattern.to_owned(),
            problem: error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .into(),
        })?;
        Ok(TypeOverride { pattern, dtype })
    }
}

impl Overrides {
    /// The type requested for `tensor`, exact names first, then in llama.cpp's order (`llama_tensor_get_type`): the flag for embeddings (for the
    /// per-layer embedding only if no pattern matches it), the flag for the output matrix, then the patterns.
    pub(super) fn wanted(&self, tensor: &Tensor) -> Option<Dtype> {
        if let Some(&dtype) = self.exact.get(&tensor.name) {
            return Some(dtype);
        }
        let named = || {
            let mut tensors = self.tensors.iter();
            let found = tensors.find(|wish| wish.pattern.is_match(&tensor.name));
            found.map(|wish| wish.dtype)
        };
        let flag = match tensor.role.info().category {
            Category::TokenEmbedding => match tensor.role {
                TensorRole::PerLayerEmbedding if named().is_some() => None,
                _ => self.token_embedding,
            },
            Category::Output => self.output,
            _ => None,
        };
        flag.or_else(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_a_pattern_and_a_type() {
        let wish: TypeOverride = r"blk\.(0|1)\.ffn=q8_0".parse().unwrap();
        assert_eq!(wish.dtype, Dtype::Q8_0);
        assert!(wish.pattern.is_match("blk.1.ffn_down.weight"));
        assert!(!wish.pattern.is_match("blk.2.ffn_down.weight"));
        for (text, said) in [
            ("attn_v", "PATTERN=TYPE"),
            ("=q8_0", "PATTERN=TYPE"),
            ("attn_v=q9", "no type `q9`"),
            ("(=q8_0", "not a regular expression"),
        ] {
            let error = text.parse::<TypeOverride>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
