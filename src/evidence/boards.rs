//! What is known of models on several boards: the networks between boards (`profiles/links.toml`) and published runs of
//! layer pipelines (`profiles/pipelines.csv`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::csv::{self, CsvError};
use crate::runtime::profile::Range;
use crate::sourced::{Sourced, Trust};
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// The text of `profiles/links.toml`.
pub const LINKS: &str = include_str!("../../profiles/links.toml");

/// The text of `profiles/pipelines.csv`.
pub const PIPELINES: &str = include_str!("../../profiles/pipelines.csv");

/// The header of that table.
const COLUMNS: &[&str] = &[
    "id",
    "board",
    "boards",
    "power_mode",
    "engine",
    "model",
    "parameters",
    "format",
    "layers",
    "depth",
    "sequences",
    "tokens_per_second",
    "inter_token_ms",
    "source",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    sources: BTreeMap<String, String>,
    link: Vec<KnownLink>,
    handling: Handling,
    tensor_split: TensorSplit,
    engine: Vec<Engine>,
}

/// How a runtime puts runs of blocks on several boards: through a program on each that its own server reaches over the
/// network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The runtime's id.
    pub runtime: String,
    /// The program on each board.
    pub server: String,
    /// Its name in older builds.
    pub older_server: String,
    /// What the runtime calls the board that it runs on itself; `None` where that computes through such a program too.
    pub own_device: Option<String>,
    /// A key of `[sources]`.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownLink {
    id: String,
    name: String,
    bytes_per_second: Sourced<f64>,
    round_trip_seconds: Sourced<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handling {
    seconds: Range,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorSplit {
    bytes: Sourced<f64>,
}

fn known() -> Option<&'static Known> {
    static READ: LazyLock<Option<Known>> = LazyLock::new(|| toml::from_str(LINKS).ok());
    READ.as_ref()
}

/// How `runtime` runs a model on several boards, if it does.
pub fn engine(runtime: &str) -> Option<&'static Engine> {
    let all = known().map_or(&[][..], |known| &known.engine);
    all.iter().find(|engine| engine.runtime == runtime)
}

/// The network between boards.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its kind, or the rate and latency as they were given.
    pub name: String,
    /// Bytes of payload a second.
    pub rate: BytesPerSecond,
    /// From a request to its answer, both short.
    pub round_trip: Seconds,
    /// How far its numbers can be trusted: those that a user gives count as measured.
    pub trust: Trust,
}

impl Link {
    /// The kind of link (`1gbe`) or the rate and latency (`110MB/s,0.3ms`) that a text names.
    ///
    /// # Errors
    /// A sentence that says what is known.
    pub fn named(text: &str) -> Result<Link, String> {
        let lower = text.trim().to_ascii_lowercase();
        let all = known().map_or(&[][..], |known| &known.link);
        if let Some(link) = all.iter().find(|link| link.id == lower) {
            return Ok(link.link());
        }
        let given = lower.split_once(',').and_then(|(rate, latency)| {
            Some(Link {
                name: text.trim().to_owned(),
                rate: BytesPerSecond(scaled(
                    rate,
                    &[
                        ("gbit/s", 1.25e8),
                        ("mbit/s", 1.25e5),
                        ("gb/s", 1e9),
                        ("mb/s", 1e6),
                    ],
                    1e3..=1e11,
                )?),
                round_trip: Seconds(scaled(latency, &[("us", 1e-6), ("ms", 1e-3)], 0.0..=10.0)?),
                trust: Trust::Measured,
            })
        });
        given.ok_or_else(|| {
            let ids: Vec<&str> = all.iter().map(|link| link.id.as_str()).collect();
            format!(
                "`{text}` is not a link: write {}, or your measured rate and round trip, such as 110MB/s,0.3ms",
                ids.join(", ")
            )
        })
    }

    /// The link that is assumed where none is named: the port of a developer kit.
    pub fn usual() -> Link {
        let first = known().and_then(|known| known.link.first());
        first.map_or(
            Link {
                name: String::new(),
                rate: BytesPerSecond(1.0),
                round_trip: Seconds(0.0),
                trust: Trust::None,
            },
            KnownLink::link,
        )
    }

    /// The time that `bytes` are under way.
    pub fn seconds(&self, bytes: Bytes) -> f64 {
        (bytes / self.rate).0
    }
}

impl KnownLink {
    fn link(&self) -> Link {
        Link {
            name: self.name.clone(),
            rate: BytesPerSecond(self.bytes_per_second.value),
            round_trip: Seconds(self.round_trip_seconds.value),
            trust: self.bytes_per_second.trust,
        }
    }
}

/// A number with one of these units, in `bounds`.
fn scaled(text: &str, units: &[(&str, f64)], bounds: std::ops::RangeInclusive<f64>) -> Option<f64> {
    let read = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number * scale)
    });
    read.filter(|value| bounds.contains(value))
}

/// Seconds of a pass for each board on the link, beside the link itself.
pub fn handling() -> Option<&'static Range> {
    known().map(|known| &known.handling.seconds)
}

/// Bytes on the wire for a token, each block and each element of the hidden state, where tensors are split between boards
/// and not blocks.
pub fn tensor_split_bytes() -> Option<f64> {
    known().map(|known| known.tensor_split.bytes.value)
}

/// The text of a source of links.
pub fn source(key: &str) -> &'static str {
    let text = known().and_then(|known| known.sources.get(key));
    text.map_or("", String::as_str)
}

/// A published run of a model whose blocks were divided between boards.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineRow {
    /// Its id.
    pub id: String,
    /// The id of each of the boards.
    pub board: String,
    /// How many.
    pub boards: u64,
    /// Their power mode.
    pub power_mode: String,
    /// What ran it.
    pub engine: String,
    /// The model.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// Its format.
    pub format: String,
    /// Blocks on each board, such as `26/22`.
    pub layers: String,
    /// Tokens in the cache while it decoded, about.
    pub depth: u64,
    /// Sequences in flight.
    pub sequences: u64,
    /// Tokens a second over all of them.
    pub tokens_per_second: f64,
    /// Milliseconds between the tokens of one sequence (median), where the source says so.
    pub inter_token_ms: Option<f64>,
    /// Where it was published.
    pub source: String,
}

impl PipelineRow {
    /// Blocks on each board.
    pub fn counts(&self) -> Vec<usize> {
        let parts = self.layers.split('/');
        parts.filter_map(|part| part.parse().ok()).collect()
    }
}

/// The published runs, those of the model nearest in parameters first.
pub fn nearest_pipelines(parameters: u64) -> Vec<&'static PipelineRow> {
    static ROWS: LazyLock<Vec<PipelineRow>> =
        LazyLock::new(|| parse_pipelines(PIPELINES).unwrap_or_default());
    let distance = |row: &PipelineRow| {
        let ratio = row.parameters as f64 / parameters.max(1) as f64;
        ratio.ln().abs()
    };
    let mut rows: Vec<&PipelineRow> = ROWS.iter().collect();
    rows.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    rows
}

/// Reads a table of runs.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong.
pub fn parse_pipelines(text: &str) -> Result<Vec<PipelineRow>, CsvError> {
    let read = |row: &csv::CsvLine<'_>| {
        Ok(PipelineRow {
            id: row.word("id")?,
            board: row.word("board")?,
            boards: row.number("boards")?,
            power_mode: row.word("power_mode")?,
            engine: row.word("engine")?,
            model: row.word("model")?,
            parameters: row.number("parameters")?,
            format: row.word("format")?,
            layers: row.word("layers")?,
            depth: row.number("depth")?,
            sequences: row.number("sequences")?,
            tokens_per_second: row.number("tokens_per_second")?,
            inter_token_ms: row.optional("inter_token_ms")?,
            source: row.word("source")?,
        })
    };
    csv::rows(text, COLUMNS)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_or_measured() {
        assert_eq!(Link::named("1GbE").unwrap(), Link::usual());
        let own = Link::named("110MB/s,0.3ms").unwrap();
        assert_eq!((own.rate.0, own.round_trip.0), (110e6, 0.3e-3));
        let own = Link::named("938Mbit/s, 250us").unwrap();
        assert_eq!((own.rate.0, own.round_trip.0), (117.25e6, 0.25e-3));
        for bad in [
            "",
            "wifi",
            "1",
            "110MB/s",
            "0MB/s,1ms",
            "NaNMB/s,1ms",
            "1GB/s,1h",
        ] {
            let error = Link::named(bad).unwrap_err();
            assert!(
                error.contains("2.5gbe") && error.contains("0.3ms"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_number_of_a_link_has_a_source() {
        let read: Known = toml::from_str(LINKS).unwrap();
        let keys = read.link.iter().flat_map(|link| {
            [
                &link.bytes_per_second.source,
                &link.round_trip_seconds.source,
            ]
        });
        let further = [
            &read.handling.seconds.source,
            &read.tensor_split.bytes.source,
        ];
        let engines = read.engine.iter().map(|engine| &engine.source);
        for key in keys.chain(further).chain(engines) {
            assert!(read.sources.contains_key(key), "{key}");
        }
    }

    #[test]
    fn every_run_has_a_block_count_for_each_board() {
        let rows = parse_pipelines(PIPELINES).unwrap();
        assert!(rows.len() >= 9);
        for row in rows {
            assert_eq!(row.counts().len() as u64, row.boards, "{}", row.id);
        }
    }
}
