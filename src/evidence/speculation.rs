//! How runtimes speculate, what a verification costs them, and the published runs that say so: `profiles/speculation.toml`
//! and `profiles/speculation.csv`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::csv::{self, CsvError};

/// The text of `profiles/speculation.csv`.
pub const SPECULATION: &str = include_str!("../../profiles/speculation.csv");

/// The text of `profiles/speculation.toml`.
const METHODS: &str = include_str!("../../profiles/speculation.toml");

/// The header of the table.
const COLUMNS: &[&str] = &[
    "id",
    "board",
    "power_mode",
    "runtime",
    "drafter",
    "model",
    "parameters",
    "sequences",
    "accepted",
    "share",
    "speed_up",
    "source",
];

/// What drafts the tokens that a model verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrafterKind {
    /// A smaller model.
    Model,
    /// A block of the model itself (multi-token prediction).
    Mtp,
    /// A head that was trained for the model and reads its hidden states.
    Eagle3,
    /// The text so far: what followed the last tokens when they stood there before.
    Lookup,
}

impl DrafterKind {
    /// The word for it on the command line; of a model that is its name.
    pub fn word(self) -> &'static str {
        match self {
            DrafterKind::Model => "model",
            DrafterKind::Mtp => "mtp",
            DrafterKind::Eagle3 => "eagle3",
            DrafterKind::Lookup => "lookup",
        }
    }
}

/// How a runtime speculates with one kind of drafter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// The runtime's id.
    pub runtime: String,
    /// What drafts.
    pub drafter: DrafterKind,
    /// Passes of the draft before a verification, one after the other.
    pub passes: u64,
    /// Tokens of each sequence that a verification evaluates.
    pub positions: u64,
    /// Drafted tokens on one path: the most that can be accepted, or their mean where a lookup often finds nothing.
    pub drafted: f64,
    /// What draft and verification take.
    pub cost: Cost,
    /// How far the cost may be off, in percent either way.
    pub off_percent: f64,
    /// A key of `[sources]`.
    pub source: String,
}

/// What drafting and one verification take, beside a plain decode step.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cost {
    /// Fitted: a plain step, cycles for each weight and further position, and a share of the time of the draft's passes.
    Positions {
        /// SM cycles for a quantized weight and a further position.
        quantized_cycles: f64,
        /// The same for a 16-bit weight.
        float_cycles: f64,
        /// The part of a pass's predicted time that is counted.
        pass_share: f64,
    },
    /// Not measured: a step of as many sequences as there are positions, after the passes of the draft.
    Batch,
    /// Measured as a whole.
    Steps {
        /// Plain decode steps.
        steps: f64,
    },
}

/// A published run with and without speculation.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeculationRow {
    /// Its id.
    pub id: String,
    /// Board id.
    pub board: String,
    /// Power mode.
    pub power_mode: String,
    /// Runtime id.
    pub runtime: String,
    /// What drafted.
    pub drafter: String,
    /// The model, by its name in `profiles/models.json`.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// Sequences decoded at once.
    pub sequences: u64,
    /// Tokens that a verification yields, the model's own with them, where the source says so.
    pub accepted: Option<f64>,
    /// The share of drafted tokens that were accepted, where the source says so.
    pub share: Option<f64>,
    /// Tokens a second over those without speculation.
    pub speed_up: f64,
    /// Where it was published.
    pub source: String,
}

impl SpeculationRow {
    /// Tokens that a verification yields by `method`.
    pub fn accepted_by(&self, method: &Method) -> Option<f64> {
        self.accepted
            .or(self.share.map(|share| 1.0 + share * method.drafted))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Methods {
    sources: BTreeMap<String, String>,
    method: Vec<Method>,
}

fn shipped() -> Option<&'static Methods> {
    static READ: LazyLock<Option<Methods>> = LazyLock::new(|| toml::from_str(METHODS).ok());
    READ.as_ref()
}

/// How `runtime` speculates with `drafter`, if it does.
pub fn method(runtime: &str, drafter: DrafterKind) -> Option<&'static Method> {
    methods(runtime).find(|method| method.drafter == drafter)
}

/// Every way in which `runtime` speculates.
pub fn methods(runtime: &str) -> impl Iterator<Item = &'static Method> {
    let all = shipped().map_or(&[][..], |read| &read.method);
    all.iter().filter(move |method| method.runtime == runtime)
}

/// The source of a method.
pub fn source(method: &Method) -> &'static str {
    let text = shipped().and_then(|read| read.sources.get(&method.source));
    text.map_or("", String::as_str)
}

/// The published runs with `drafter`, those of the model nearest in parameters first.
pub fn nearest_rows(drafter: DrafterKind, parameters: u64) -> Vec<&'static SpeculationRow> {
    static ROWS: LazyLock<Vec<SpeculationRow>> =
        LazyLock::new(|| parse_speculation(SPECULATION).unwrap_or_default());
    let distance = |row: &SpeculationRow| {
        let ratio = row.parameters as f64 / parameters.max(1) as f64;
        ratio.ln().abs()
    };
    let mut rows: Vec<&SpeculationRow> = ROWS
        .iter()
        .filter(|row| row.drafter == drafter.word())
        .collect();
    rows.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    rows
}

/// Reads a table of runs.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong.
pub fn parse_speculation(text: &str) -> Result<Vec<SpeculationRow>, CsvError> {
    let read = |row: &csv::CsvLine<'_>| {
        Ok(SpeculationRow {
            id: row.word("id")?,
            board: row.word("board")?,
            power_mode: row.word("power_mode")?,
            runtime: row.word("runtime")?,
            drafter: row.word("drafter")?,
            model: row.word("model")?,
            parameters: row.number("parameters")?,
            sequences: row.number("sequences")?,
            accepted: row.optional("accepted")?,
            share: row.optional("share")?,
            speed_up: row.number("speed_up")?,
            source: row.word("source")?,
        })
    };
    csv::rows(text, COLUMNS)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_source_and_every_row_its_method() {
        let read: Methods = toml::from_str(METHODS).unwrap();
        for method in &read.method {
            assert!(!source(method).is_empty(), "{method:?}");
            assert!(method.positions >= 1 && method.drafted > 0.0, "{method:?}");
            assert!(method.off_percent > 0.0, "{method:?}");
        }
        for row in parse_speculation(SPECULATION).unwrap() {
            let method = methods(&row.runtime).find(|m| m.drafter.word() == row.drafter);
            let accepted = row.accepted_by(method.unwrap());
            assert!(accepted.is_some_and(|tokens| tokens >= 1.0), "{}", row.id);
        }
    }

    #[test]
    fn the_nearest_model_comes_first() {
        let rows = nearest_rows(DrafterKind::Mtp, 800_000_000);
        assert_eq!(rows[0].model, "qwen3.5-0.8b");
        let rows = nearest_rows(DrafterKind::Mtp, 30_000_000_000);
        assert_eq!(rows[0].model, "qwen3.5-27b");
    }
}
