//! Streams the elements of a metadata array, whether it is in memory or still in the file.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::error::{Problem, ReadError};
use super::read::read_scalar;
use super::value::{Value, ValueType};
use crate::input;

/// Iterator over the elements of one array; ends after the first error.
pub struct Elements {
    path: PathBuf,
    source: ElementSource,
}

enum ElementSource {
    Kept(std::vec::IntoIter<Value>),
    File {
        cursor: Cursor<File>,
        element: ValueType,
        left: u64,
    },
}

/// The elements of `value`, which came from the header of the file at `path`. A scalar is an array
/// of one.
///
/// # Errors
/// [`ReadError::Open`] if the file cannot be opened, [`ReadError::Content`] for an unknown element type. Each element
/// is a result too: an array of arrays is refused, the file may be shorter by now, and a string may not be UTF-8.
pub fn elements(path: &Path, value: &Value) -> Result<Elements, ReadError> {
    let path = path.to_owned();
    let kept = |values: Vec<Value>| ElementSource::Kept(values.into_iter());
    let source = match *value {
        Value::Array(ref values) => kept(values.clone()),
        Value::Strings(ref list) => kept(list.iter().map(|s| Value::String(s.into())).collect()),
        Value::I32s(ref list) => kept(list.iter().copied().map(Value::I32).collect()),
        Value::F32s(ref list) => kept(list.iter().copied().map(Value::F32).collect()),
        Value::Located {
            element_type,
            len,
            offset,
            ..
        } => {
            let (file, _) = input::open(&path)?;
            let opened = Cursor::new(file, offset).and_then(|mut cursor| {
                cursor.place = format!("a metadata array at byte {offset}");
                match ValueType::from_id(element_type) {
                    Some(element) => Ok(ElementSource::File {
                        cursor,
                        element,
                        left: len,
                    }),
                    None => Err(Problem::ValueType {
                        place: cursor.place,
                        id: element_type,
                    }),
                }
            });
            match opened {
                Ok(source) => source,
                Err(problem) => return Err(ReadError::Content { path, problem }),
            }
        }
        ref scalar => kept(vec![scalar.clone()]),
    };
    Ok(Elements { path, source })
}

impl Iterator for Elements {
    type Item = Result<Value, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            ElementSource::Kept(values) => values.next().map(Ok),
            ElementSource::File { left: 0, .. } => None,
            ElementSource::File {
                cursor,
                element,
                left,
            } => {
                let value = read_scalar(cursor, *element);
                *left = if value.is_ok() { *left - 1 } else { 0 };
                Some(value.map_err(|problem| ReadError::Content {
                    path: self.path.clone(),
                    problem,
                }))
            }
        }
    }
}
