//! The published measurements of speed, as rows of `profiles/measurements.csv`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::csv::{self, CsvError, CsvLine, Grade};
use crate::device::{Clocks, L4tRelease};

/// The text of `profiles/measurements.csv`.
pub const MEASUREMENTS: &str = include_str!("../../profiles/measurements.csv");

/// The text of `profiles/models.json`: the configuration of every model that the measurements name.
pub const MODELS: &str = include_str!("../../profiles/models.json");

const COLUMNS: &[&str] = &[
    "id",
    "board",
    "power_mode",
    "gpu_mhz",
    "emc_mhz",
    "runtime",
    "version",
    "without",
    "clocks",
    "l4t",
    "model",
    "format",
    "tensor_bytes",
    "sequences",
    "prompt_tokens",
    "cached_tokens",
    "generated_tokens",
    "requests",
    "depth",
    "prefill_tps",
    "decode_tps",
    "output_tps",
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

/// The words of the column `without`.
const FLASH_ATTENTION: &str = "flash_attention";
const CUDA_GRAPHS: &str = "cuda_graphs";
const BATCH_TILES: &str = "batch_tiles";

/// One measurement. Numbers that the source does not give are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// A stable name, `jfdg-01`.
    pub id: String,
    /// Board id.
    pub board: String,
    /// Power mode of that board's profile.
    pub power_mode: String,
    /// GPU clock of the mode in MHz, as the board's profile has it.
    pub gpu_mhz: f64,
    /// Memory clock of the mode in MHz.
    pub emc_mhz: f64,
    /// Runtime id.
    pub runtime: String,
    /// Version or commit; empty where none is stated.
    pub version: String,
    /// What the build or its options leave out of `flash_attention`, `cuda_graphs` and `batch_tiles`, divided by a space.
    pub without: String,
    /// Whether the source had the clocks locked, where it says so.
    pub clocks: Option<Clocks>,
    /// The L4T release as far as the source names it (`36.4`); empty where it does not.
    pub l4t: String,
    /// A key of `profiles/models.json`.
    pub model: String,
    /// A scheme's id, or the format that every matrix has.
    pub format: String,
    /// Bytes of the tensors as the source states them.
    pub tensor_bytes: Option<u64>,
    /// Sequences decoded together; rates are over all of them.
    pub sequences: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the prompt that a prefix cache held already.
    pub cached_tokens: Option<u64>,
    /// Tokens generated.
    pub generated_tokens: Option<u64>,
    /// Requests of the run.
    pub requests: Option<u64>,
    /// Tokens in the cache halfway through the decode.
    pub depth: Option<u64>,
    /// Prompt tokens a second.
    pub prefill_tps: Option<f64>,
    /// Decoded tokens a second.
    pub decode_tps: Option<f64>,
    /// Generated tokens a second over whole requests: the time in which their prompts are read is in it.
    pub output_tps: Option<f64>,
    /// Seconds to the first token.
    pub ttft_s: Option<f64>,
    /// Tokens of context reserved.
    pub context: Option<u64>,
    /// Memory in MiB.
    pub memory_mib: Option<f64>,
    /// What that memory is: `system`, `buffers` or `gpu peak`; empty without one.
    pub memory_of: String,
    /// Watts while decoding.
    pub power_w: Option<f64>,
    /// The rail they were read on; rails do not compare.
    pub power_of: String,
    /// How reliable it is.
    pub grade: Grade,
    /// Why that grade.
    pub reason: String,
    /// Where it is published.
    pub source: String,
}

impl Measurement {
    /// Whether attention ran as one kernel.
    pub fn flash_attention(&self) -> bool {
        self.has(FLASH_ATTENTION)
    }

    /// Whether the kernels of a step were launched together.
    pub fn cuda_graphs(&self) -> bool {
        self.has(CUDA_GRAPHS)
    }

    /// Whether batches of a few sequences were multiplied in tiles, in the formats for which the runtime does so.
    pub fn batch_tiles(&self) -> bool {
        self.has(BATCH_TILES)
    }

    fn has(&self, feature: &str) -> bool {
        !self.without.split(' ').any(|word| word == feature)
    }

    /// What tells its model from others.
    pub fn shape(&self) -> Option<Shape> {
        shape_of(&self.model)
    }

    /// The L4T release, the first of those that the source may mean.
    pub fn release(&self) -> Option<L4tRelease> {
        self.l4t.parse().ok()
    }

    /// Decoded tokens a joule, over the rail that was read.
    pub fn tokens_per_joule(&self) -> Option<f64> {
        Some(self.decode_tps? / self.power_w.filter(|watts| *watts > 0.0)?)
    }
}

/// What tells a model from others of a table: models of one shape run alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Elements of its hidden state.
    pub hidden: u64,
    /// Its blocks.
    pub layers: u64,
    /// Entries of its vocabulary.
    pub vocabulary: u64,
}

/// What [`MODELS`] says of the shape of a model: at its top, or of its text model.
#[derive(Deserialize)]
struct ModelConfig {
    hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    vocab_size: Option<u64>,
    text_config: Option<Box<ModelConfig>>,
}

impl ModelConfig {
    fn shape(&self) -> Option<Shape> {
        let own = || {
            Some(Shape {
                hidden: self.hidden_size?,
                layers: self.num_hidden_layers?,
                vocabulary: self.vocab_size?,
            })
        };
        own().or_else(|| self.text_config.as_ref()?.shape())
    }
}

/// The shape of a model of [`MODELS`].
fn shape_of(model: &str) -> Option<Shape> {
    static SHAPES: LazyLock<BTreeMap<String, Shape>> = LazyLock::new(|| {
        let read: BTreeMap<String, ModelConfig> = serde_json::from_str(MODELS).unwrap_or_default();
        let shapes = read.into_iter();
        let shapes = shapes.filter_map(|(name, config)| Some((name, config.shape()?)));
        shapes.collect()
    });
    SHAPES.get(model).copied()
}

/// The built-in measurements. A test holds that they parse; if they did not, the list would be empty.
pub fn measurements() -> &'static [Measurement] {
    static ROWS: LazyLock<Vec<Measurement>> =
        LazyLock::new(|| parse(MEASUREMENTS).unwrap_or_default());
    &ROWS
}

/// The built-in measurement called `id`.
pub(super) fn of_id(id: &str) -> Option<&'static Measurement> {
    static ROWS: LazyLock<BTreeMap<&str, &Measurement>> = LazyLock::new(|| {
        measurements()
            .iter()
            .map(|row| (row.id.as_str(), row))
            .collect()
    });
    ROWS.get(id).copied()
}

/// Reads a table of measurements.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong: another header, another number of fields, a number that is not finite
/// and above zero, a grade other than A, B and C, or an empty field other than the version, `memory_of`, `power_of` and
/// the numbers that may be missing.
pub fn parse(text: &str) -> Result<Vec<Measurement>, CsvError> {
    csv::rows(text, COLUMNS)?.iter().map(measurement).collect()
}

fn measurement(row: &CsvLine<'_>) -> Result<Measurement, CsvError> {
    Ok(Measurement {
        id: row.word("id")?,
        board: row.word("board")?,
        power_mode: row.word("power_mode")?,
        gpu_mhz: row.number("gpu_mhz")?,
        emc_mhz: row.number("emc_mhz")?,
        runtime: row.word("runtime")?,
        version: row.text("version").to_owned(),
        without: row.text("without").to_owned(),
        clocks: row.named("clocks")?,
        l4t: row.text("l4t").to_owned(),
        model: row.word("model")?,
        format: row.word("format")?,
        tensor_bytes: row.optional("tensor_bytes")?,
        sequences: row.number("sequences")?,
        prompt_tokens: row.optional("prompt_tokens")?,
        cached_tokens: row.optional("cached_tokens")?,
        generated_tokens: row.optional("generated_tokens")?,
        requests: row.optional("requests")?,
        depth: row.optional("depth")?,
        prefill_tps: row.optional("prefill_tps")?,
        decode_tps: row.optional("decode_tps")?,
        output_tps: row.optional("output_tps")?,
        ttft_s: row.optional("ttft_s")?,
        context: row.optional("context")?,
        memory_mib: row.optional("memory_mib")?,
        memory_of: row.text("memory_of").to_owned(),
        power_w: row.optional("power_w")?,
        power_of: row.text("power_of").to_owned(),
        grade: row.grade("grade")?,
        reason: row.word("reason")?,
        source: row.word("source")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_reads_and_ids_are_unique() {
        let rows = parse(MEASUREMENTS).unwrap_or_else(|error| panic!("{error}"));
        let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), rows.len());
        let known = ["", FLASH_ATTENTION, CUDA_GRAPHS, BATCH_TILES];
        for row in &rows {
            assert!(row.l4t.is_empty() || row.release().is_some(), "{}", row.id);
            assert!(row.shape().is_some(), "{}", row.id);
            assert!(
                row.without.split(' ').all(|word| known.contains(&word)),
                "{}",
                row.id
            );
        }
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
        assert!(said(",612,", ",612,,").contains("line 2 has 32 fields"));
    }
}
