//! The table of measurements as text: one header, no quotes, no commas inside a field.

use super::{Grade, Measurement};

const COLUMNS: [&str; 25] = [
    "id",
    "board",
    "power_mode",
    "gpu_mhz",
    "emc_mhz",
    "runtime",
    "version",
    "model",
    "format",
    "tensor_bytes",
    "sequences",
    "prompt_tokens",
    "generated_tokens",
    "depth",
    "prefill_tps",
    "decode_tps",
    "ttft_s",
    "context",
    "memory_mib",
    "memory_of",
    "power_w",
    "power_of",
    "grade",
    "reason",
    "source",
];

/// Why a table of measurements is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// The header is not the expected one.
    #[error("the header must be `{}`", COLUMNS.join(","))]
    Header,
    /// A line has another number of fields.
    #[error("line {line} has {found} fields, must have {}", COLUMNS.len())]
    Fields {
        /// Counted from 1.
        line: usize,
        /// How many it has.
        found: usize,
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

/// Reads a table.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong: another header, another number of fields, a number that is not finite
/// and above zero, a grade other than A, B and C, or an empty field other than the version, `memory_of`, `power_of` and
/// the numbers that may be missing.
pub fn parse(text: &str) -> Result<Vec<Measurement>, CsvError> {
    let mut lines = text.lines().enumerate();
    let header = lines.next().map(|(_, line)| line);
    if header != Some(COLUMNS.join(",").as_str()) {
        return Err(CsvError::Header);
    }
    lines.map(|(index, line)| row(index + 1, line)).collect()
}

fn row(line: usize, text: &str) -> Result<Measurement, CsvError> {
    let fields: Vec<&str> = text.split(',').collect();
    if fields.len() != COLUMNS.len() {
        return Err(CsvError::Fields {
            line,
            found: fields.len(),
        });
    }
    let row = CsvRow { line, fields };
    Ok(Measurement {
        id: row.word("id")?,
        board: row.word("board")?,
        power_mode: row.word("power_mode")?,
        gpu_mhz: row.number("gpu_mhz")?,
        emc_mhz: row.number("emc_mhz")?,
        runtime: row.word("runtime")?,
        version: row.text("version").to_owned(),
        model: row.word("model")?,
        format: row.word("format")?,
        tensor_bytes: row.optional("tensor_bytes")?,
        sequences: row.number("sequences")?,
        prompt_tokens: row.optional("prompt_tokens")?,
        generated_tokens: row.optional("generated_tokens")?,
        depth: row.optional("depth")?,
        prefill_tps: row.optional("prefill_tps")?,
        decode_tps: row.optional("decode_tps")?,
        ttft_s: row.optional("ttft_s")?,
        context: row.optional("context")?,
        memory_mib: row.optional("memory_mib")?,
        memory_of: row.text("memory_of").to_owned(),
        power_w: row.optional("power_w")?,
        power_of: row.text("power_of").to_owned(),
        grade: match row.text("grade") {
            "A" => Grade::A,
            "B" => Grade::B,
            "C" => Grade::C,
            _ => return Err(row.refuse("grade")),
        },
        reason: row.word("reason")?,
        source: row.word("source")?,
    })
}

struct CsvRow<'a> {
    line: usize,
    fields: Vec<&'a str>,
}

impl<'a> CsvRow<'a> {
    fn text(&self, column: &'static str) -> &'a str {
        let at = COLUMNS.iter().position(|known| *known == column);
        at.and_then(|at| self.fields.get(at)).copied().unwrap_or("")
    }

    fn refuse(&self, column: &'static str) -> CsvError {
        CsvError::Field {
            line: self.line,
            column,
            text: self.text(column).to_owned(),
        }
    }

    fn word(&self, column: &'static str) -> Result<String, CsvError> {
        match self.text(column) {
            "" => Err(self.refuse(column)),
            text => Ok(text.to_owned()),
        }
    }

    fn number<T: Positive>(&self, column: &'static str) -> Result<T, CsvError> {
        T::read(self.text(column)).ok_or_else(|| self.refuse(column))
    }

    fn optional<T: Positive>(&self, column: &'static str) -> Result<Option<T>, CsvError> {
        match self.text(column) {
            "" => Ok(None),
            _ => self.number(column).map(Some),
        }
    }
}

/// A number above zero.
trait Positive: Sized {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::MEASUREMENTS;

    #[test]
    fn the_shipped_table_reads_and_ids_are_unique() {
        let rows = parse(MEASUREMENTS).unwrap_or_else(|error| panic!("{error}"));
        let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), rows.len());
    }

    #[test]
    fn a_broken_line_is_named() {
        let said = |from: &str, to: &str| {
            let text: String = MEASUREMENTS.lines().take(2).collect::<Vec<_>>().join("\n");
            assert!(text.contains(from), "{from}");
            parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(said("id,board", "board,id").contains("the header must be"));
        assert!(said(",612,", ",nan,").contains("line 2: `nan` is not a value of `gpu_mhz`"));
        assert!(said(",612,", ",-1,").contains("`gpu_mhz`"));
        assert!(said(",A,", ",D,").contains("`D` is not a value of `grade`"));
        assert!(said(",612,", ",612,,").contains("line 2 has 26 fields"));
    }
}
