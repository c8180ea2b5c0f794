//! Tables of measurements as text: one header, no quotes, no commas inside a field.

use std::str::FromStr;

/// Why a table of measurements is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// The header is not the expected one.
    #[error("the header must be `{}`", columns.join(","))]
    Header {
        /// The columns of the table.
        columns: &'static [&'static str],
    },
    /// A line has another number of fields.
    #[error("line {line} has {found} fields, must have {expected}")]
    Fields {
        /// Counted from 1.
        line: usize,
        /// How many it has.
        found: usize,
        /// How many columns there are.
        expected: usize,
    },
    /// A field cannot be read.
    #[error("line {line}: `{text}` is not a value of `{column}`")]
    Field {
        /// Counted from 1.
        line: usize,
        /// The column's name.
        column: &'static str,
        /// The field's text.
        text: String,
    },
}

/// How reliable a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Power mode, build and lengths are stated, or follow from what is; fitted with full weight.
    A,
    /// Something is missing that can be inferred; fitted with less weight.
    B,
    /// Contradicted by others, or too little is known; listed, never fitted.
    C,
}

/// A line of a table, with the names of its fields.
pub(super) struct CsvLine<'a> {
    columns: &'static [&'static str],
    line: usize,
    fields: Vec<&'a str>,
}

/// The lines of a table with these columns.
pub(super) fn rows<'a>(
    text: &'a str,
    columns: &'static [&'static str],
) -> Result<Vec<CsvLine<'a>>, CsvError> {
    let mut lines = text.lines().enumerate();
    let header = lines.next().map(|(_, line)| line);
    if header != Some(columns.join(",").as_str()) {
        return Err(CsvError::Header { columns });
    }
    let row = |(index, line): (usize, &'a str)| {
        let fields: Vec<&str> = line.split(',').collect();
        let (line, found, expected) = (index + 1, fields.len(), columns.len());
        if found != expected {
            return Err(CsvError::Fields {
                line,
                found,
                expected,
            });
        }
        Ok(CsvLine {
            columns,
            line,
            fields,
        })
    };
    lines.map(row).collect()
}

impl<'a> CsvLine<'a> {
    pub(super) fn text(&self, column: &'static str) -> &'a str {
        let at = self.columns.iter().position(|known| *known == column);
        at.and_then(|at| self.fields.get(at)).copied().unwrap_or("")
    }

    fn refuse(&self, column: &'static str) -> CsvError {
        CsvError::Field {
            line: self.line,
            column,
            text: self.text(column).to_owned(),
        }
    }

    pub(super) fn word(&self, column: &'static str) -> Result<String, CsvError> {
        match self.text(column) {
            "" => Err(self.refuse(column)),
            text => Ok(text.to_owned()),
        }
    }

    pub(super) fn number<T: Positive>(&self, column: &'static str) -> Result<T, CsvError> {
        T::read(self.text(column)).ok_or_else(|| self.refuse(column))
    }

    pub(super) fn optional<T: Positive>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, CsvError> {
        match self.text(column) {
            "" => Ok(None),
            _ => self.number(column).map(Some),
        }
    }

    /// A word that names a value, or nothing.
    pub(super) fn named<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, CsvError> {
        match self.text(column) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| self.refuse(column)),
        }
    }

    pub(super) fn grade(&self, column: &'static str) -> Result<Grade, CsvError> {
        match self.text(column) {
            "A" => Ok(Grade::A),
            "B" => Ok(Grade::B),
            "C" => Ok(Grade::C),
            _ => Err(self.refuse(column)),
        }
    }
}

/// A number above zero.
pub(super) trait Positive: Sized {
    fn read(text: &str) -> Option<Self>;
}

impl Positive for u64 {
    fn read(text: &str) -> Option<u64> {
        text.parse().ok().filter(|value| *value > 0)
    }
}

impl Positive for f64 {
    fn read(text: &str) -> Option<f64> {
        let value = text.parse::<f64>().ok()?;
        (value.is_finite() && value > 0.0).then_some(value)
    }
}
