//! Types by the names of tensors, as text: a `name=type` a line. In: a file's text. Out: types; and back.
//!
//! llama-quantize's `--tensor-type-file` takes lines of the same form, as patterns.

use std::collections::BTreeMap;

use super::rules::may_quantize;
use super::{Scheme, of_types};
use crate::dtype::Dtype;
use crate::model::{ModelSpec, Tensor};
use crate::units::Bytes;

/// Types by the names of tensors, from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeList {
    /// The file, as it was named.
    pub file: String,
    /// What it says.
    pub listed: ListedTypes,
    /// Bytes that its importance matrix adds to a file's metadata.
    pub imatrix_bytes: Bytes,
}

/// What a list says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedTypes {
    /// The type of each tensor that it names.
    pub types: BTreeMap<String, Dtype>,
    /// The importance matrix that the file was made with, as a path from the list's folder.
    pub imatrix: Option<String>,
    /// The id of the scheme that the file is named by, where that does not follow from the types.
    pub scheme: Option<&'static str>,
}

impl ListedTypes {
    /// The scheme that names a GGUF of `model` with these types.
    pub fn scheme(&self, model: &ModelSpec) -> &'static Scheme {
        let stated = self.scheme.and_then(Scheme::get);
        stated.unwrap_or_else(|| of_types(model, &self.types))
    }
}

/// Text that is no list of types, or not one for this model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum TypeListError {
    #[error("line {line}: `{text}` must be NAME=TYPE, such as blk.0.attn_v.weight=q6_k")]
    Form { line: usize, text: String },
    #[error("line {line}: there is no type `{text}`")]
    Type { line: usize, text: String },
    #[error("line {line}: tensor `{name}` is named twice")]
    Twice { line: usize, name: String },
    #[error("tensor `{name}` is not in {model}; the list is of another model")]
    Unknown { name: String, model: String },
    #[error("tensor `{name}` has rows of {row} values, which blocks of {dtype} do not divide")]
    Row {
        name: String,
        row: u64,
        dtype: &'static str,
    },
    #[error(
        "the list has no type for `{name}`{more}, and {model} quantizes it; the list is of another model, or cut short"
    )]
    Missing {
        name: String,
        more: String,
        model: String,
    },
    #[error("it names no tensor")]
    Empty,
}

/// What stands before the importance matrix and before the scheme. Other readers of lists take these lines for comments.
const IMATRIX: &str = "# imatrix=";
const SCHEME: &str = "# scheme=";

/// Reads a list. Empty lines are passed over, and so are other lines that begin with `#`.
///
/// # Errors
/// [`TypeListError`], with the line.
pub fn parse_types(text: &str) -> Result<ListedTypes, TypeListError> {
    let mut listed = ListedTypes::default();
    for (index, written) in text.lines().enumerate() {
        let (line, written) = (index + 1, written.trim());
        if let Some(path) = written.strip_prefix(IMATRIX) {
            listed.imatrix = Some(path.to_owned());
        } else if let Some(id) = written.strip_prefix(SCHEME) {
            listed.scheme = Scheme::get(id).map(|scheme| scheme.id);
        }
        if written.is_empty() || written.starts_with('#') {
            continue;
        }
        let parts = written
            .rsplit_once('=')
            .filter(|(name, _)| !name.trim().is_empty());
        let Some((name, dtype)) = parts else {
            let text = written.to_owned();
            return Err(TypeListError::Form { line, text });
        };
        let (name, text) = (name.trim().to_owned(), dtype.trim().to_owned());
        let Some(dtype) = Dtype::from_name(&text) else {
            return Err(TypeListError::Type { line, text });
        };
        if listed.types.insert(name.clone(), dtype).is_some() {
            return Err(TypeListError::Twice { line, name });
        }
    }
    if listed.types.is_empty() {
        return Err(TypeListError::Empty);
    }
    Ok(listed)
}

/// Checks that every type of the list is one for a tensor of `model`, and that no tensor is left out that is quantized.
///
/// # Errors
/// [`TypeListError::Unknown`], [`TypeListError::Row`], [`TypeListError::Missing`].
pub fn check_types(
    types: &BTreeMap<String, Dtype>,
    model: &ModelSpec,
) -> Result<(), TypeListError> {
    for (name, dtype) in types {
        let tensor = model.tensors.iter().find(|tensor| tensor.name == *name);
        let Some(tensor) = tensor else {
            return Err(TypeListError::Unknown {
                name: name.clone(),
                model: model.name.clone(),
            });
        };
        if !dtype.divides(tensor.row()) {
            return Err(TypeListError::Row {
                name: name.clone(),
                row: tensor.row(),
                dtype: dtype.name(),
            });
        }
    }
    let left_out = |tensor: &&Tensor| may_quantize(tensor) && !types.contains_key(&tensor.name);
    let mut missing = model.tensors.iter().filter(left_out);
    if let Some(first) = missing.next() {
        let more = match missing.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(TypeListError::Missing {
            name: first.name.clone(),
            more,
            model: model.name.clone(),
        });
    }
    Ok(())
}

/// The first line of a list that this program wrote.
pub const TYPE_LIST: &str = "# types of tensors, by orinplan";

/// The text of a list, under lines of comment.
pub fn type_list(listed: &ListedTypes, comment: &str) -> String {
    let first = std::iter::once(format!("{TYPE_LIST}\n"));
    let comment = first.chain(comment.lines().map(|line| format!("# {line}\n")));
    // A path with a line break would end in a line of another meaning.
    let imatrix = listed.imatrix.iter().filter(|path| !path.contains('\n'));
    let imatrix = imatrix.map(|path| format!("{IMATRIX}{path}\n"));
    let scheme = listed.scheme.iter();
    let scheme = scheme.map(|id| format!("{SCHEME}{id}\n"));
    let types = listed.types.iter();
    let lines = types.map(|(name, dtype)| format!("{name}={}\n", dtype.name().to_lowercase()));
    comment.chain(imatrix).chain(scheme).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let types = BTreeMap::from([
            ("blk.0.attn_v.weight".to_owned(), Dtype::Q6_K),
            ("output.weight".to_owned(), Dtype::IQ4_NL),
        ]);
        let mut listed = ListedTypes {
            types,
            ..ListedTypes::default()
        };
        let text = type_list(&listed, "of a model\nfor 1 GiB");
        assert!(
            text.starts_with("# types of tensors, by orinplan\n# of a model\n# for 1 GiB\nblk.0.attn_v.weight=q6_k\n"),
            "{text}"
        );
        assert_eq!(parse_types(&text).unwrap(), listed);
        listed.imatrix = Some("a b.gguf".to_owned());
        listed.scheme = Some("q3_k_m");
        let text = type_list(&listed, "of a model");
        assert!(
            text.contains("\n# imatrix=a b.gguf\n# scheme=q3_k_m\nblk"),
            "{text}"
        );
        assert_eq!(parse_types(&text).unwrap(), listed);
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, said) in [
            (
                "a.weight=q4_k\nb.weight q4_k",
                "line 2: `b.weight q4_k` must be NAME=TYPE",
            ),
            ("a.weight=q9", "line 1: there is no type `q9`"),
            ("a=q4_k\n\n# b\na=q5_k", "line 4: tensor `a` is named twice"),
            ("# nothing", "it names no tensor"),
            ("=q4_k", "must be NAME=TYPE"),
        ] {
            let error = parse_types(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
