//! The measurements of quality, as rows of `profiles/quality.csv`.

use std::sync::LazyLock;

use crate::dtype::Dtype;
use crate::evidence::csv::{self, CsvError, CsvLine, Grade};

/// The text of `profiles/quality.csv`.
pub const QUALITY: &str = include_str!("../../../profiles/quality.csv");

const COLUMNS: &[&str] = &[
    "id",
    "model",
    "architecture",
    "parameters",
    "format",
    "bits_per_weight",
    "kld",
    "standard_error",
    "p99",
    "same_top_percent",
    "perplexity_ratio",
    "text",
    "importance_matrix",
    "tool",
    "grade",
    "reason",
    "source",
];

/// One measurement. Numbers that the source does not give are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityRow {
    /// A stable name, `llama3-8b-04`.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// llama.cpp's name of its architecture.
    pub architecture: String,
    /// Its number of weights.
    pub parameters: u64,
    /// A scheme's id; `kv_q8_0` for a cache of that type, all else alike.
    pub format: String,
    /// Bits of the file for each weight.
    pub bits_per_weight: Option<f64>,
    /// The mean divergence in nats a token.
    pub kld: f64,
    /// The standard error of that mean.
    pub standard_error: Option<f64>,
    /// The 99th percentile of the divergence.
    pub p99: Option<f64>,
    /// Places where the most likely token is that of the original, in percent.
    pub same_top_percent: Option<f64>,
    /// Perplexity over that of the original.
    pub perplexity_ratio: Option<f64>,
    /// The text, and how it was cut.
    pub text: String,
    /// What the importance matrix was made from; `none` without one.
    pub importance_matrix: String,
    /// What computed it.
    pub tool: String,
    /// How reliable it is.
    pub grade: Grade,
    /// Why that grade.
    pub reason: String,
    /// Where it is published, or how it was measured.
    pub source: String,
}

impl QualityRow {
    /// The type of the keys and values that were cached, where it is the cache that was measured.
    pub(super) fn cache(&self) -> Option<Dtype> {
        Dtype::from_name(self.format.strip_prefix("kv_")?)
    }

    /// What was measured: `Q4_K_M`, `a Q4_0 cache`.
    pub fn subject(&self) -> String {
        match self.cache() {
            Some(dtype) => format!("a {} cache", dtype.name()),
            None => self.format.to_uppercase(),
        }
    }

    /// What was measured together, of one model by the same hand on the same text: the id without its number.
    pub(super) fn series(&self) -> &str {
        self.id
            .rsplit_once('-')
            .map_or(&self.id, |(series, _)| series)
    }

    /// Whether the text is the one that most figures are of.
    pub(super) fn is_usual_text(&self) -> bool {
        self.text.starts_with("wikitext-2")
    }

    /// Whether the weights were rounded by what the activations weigh.
    pub(super) fn is_weighted(&self) -> bool {
        self.importance_matrix != "none"
    }
}

/// The built-in measurements. A test holds that they parse; if they did not, the list would be empty.
pub fn rows() -> &'static [QualityRow] {
    static ROWS: LazyLock<Vec<QualityRow>> = LazyLock::new(|| parse(QUALITY).unwrap_or_default());
    &ROWS
}

/// Reads a table of measurements.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong: another header, another number of fields, a number that is not finite
/// and above zero, a grade other than A, B and C, or an empty field other than the numbers that may be missing.
pub fn parse(text: &str) -> Result<Vec<QualityRow>, CsvError> {
    csv::rows(text, COLUMNS)?.iter().map(quality).collect()
}

fn quality(row: &CsvLine<'_>) -> Result<QualityRow, CsvError> {
    Ok(QualityRow {
        id: row.word("id")?,
        model: row.word("model")?,
        architecture: row.word("architecture")?,
        parameters: row.number("parameters")?,
        format: row.word("format")?,
        bits_per_weight: row.optional("bits_per_weight")?,
        kld: row.number("kld")?,
        standard_error: row.optional("standard_error")?,
        p99: row.optional("p99")?,
        same_top_percent: row.optional("same_top_percent")?,
        perplexity_ratio: row.optional("perplexity_ratio")?,
        text: row.word("text")?,
        importance_matrix: row.word("importance_matrix")?,
        tool: row.word("tool")?,
        grade: row.grade("grade")?,
        reason: row.word("reason")?,
        source: row.word("source")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scheme::Scheme;

    #[test]
    fn every_row_reads_has_a_known_format_and_says_where_it_is_from() {
        let rows = parse(QUALITY).unwrap_or_else(|error| panic!("{error}"));
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids.len(), rows.len(), "an id is there twice");
        for row in &rows {
            let is_format = Scheme::get(&row.format).is_some() || row.cache().is_some();
            assert!(is_format, "{}", row.id);
            let is_known = ["https://", "measured: "];
            let is_known = is_known.iter().any(|begin| row.source.starts_with(begin));
            assert!(is_known, "{}: {}", row.id, row.source);
            assert!(
                row.same_top_percent.is_none_or(|p| p <= 100.0),
                "{}",
                row.id
            );
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let line = "x-01,X,llama,1000,q4_0,,0.1,,,,,t,none,tool,A,why,https://x";
        let said = |from: &str, to: &str| {
            let text = format!("{}\n{}", COLUMNS.join(","), line.replacen(from, to, 1));
            parse(&text).unwrap_err().to_string()
        };
        assert!(said(",0.1,", ",0,").contains("line 2: `0` is not a value of `kld`"));
        assert!(said(",1000,", ",-1,").contains("`parameters`"));
        assert!(said(",A,", ",,").contains("`grade`"));
        assert!(said("https://x", "").contains("`source`"));
    }
}
