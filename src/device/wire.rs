//! The TOML form of a device file, field by field. `file` checks the values.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::sourced::Trust;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BoardFile {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) compatible: Vec<String>,
    pub(super) default_mode: String,
    pub(super) original: Option<OriginalTable>,
    pub(super) sources: BTreeMap<String, String>,
    pub(super) memory: MemoryTable,
    pub(super) gpu: Option<GpuTable>,
    pub(super) mode: Vec<ModeTable>,
    #[serde(default)]
    pub(super) allocation_limit: Vec<LimitTable>,
    #[serde(default)]
    pub(super) pitfall: Vec<PitfallTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginalTable {
    pub(super) name: String,
    pub(super) default_mode: String,
    pub(super) modes: Vec<String>,
    pub(super) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryTable {
    pub(super) total: Stated,
    pub(super) bus_bits: Option<Stated>,
    pub(super) fragmented: Option<Stated>,
    pub(super) headless: HeldTable,
    pub(super) desktop: HeldTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldTable {
    pub(super) low: Stated,
    pub(super) expected: Stated,
    pub(super) high: Stated,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GpuTable {
    pub(super) compute_capability: Stated,
    pub(super) sm_count: Stated,
    pub(super) cuda_cores: Stated,
    pub(super) tensor_cores: Stated,
    pub(super) fp16_per_sm_clock: Stated,
    pub(super) int8_sparse_per_sm_clock: Stated,
    pub(super) fp32_per_sm_clock: Stated,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeTable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) nvpmodel: Vec<String>,
    pub(super) since: Option<String>,
    pub(super) watts: Option<Stated>,
    pub(super) cpu: Option<Stated>,
    pub(super) gpu: Option<Stated>,
    pub(super) emc: Option<Stated>,
    pub(super) bandwidth: Stated,
    pub(super) sm_count: Option<Stated>,
    pub(super) fp16: Option<Stated>,
    pub(super) int8_sparse: Option<Stated>,
    pub(super) fp32: Option<Stated>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitTable {
    pub(super) from: String,
    pub(super) until: Option<String>,
    pub(super) largest: Stated,
    pub(super) refused: Option<Stated>,
    pub(super) granted: Option<Stated>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PitfallTable {
    pub(super) code: String,
    pub(super) text: String,
    pub(super) source: String,
}

/// A number in a device file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stated {
    pub(super) value: Written,
    pub(super) source: String,
    #[serde(default)]
    pub(super) trust: Trust,
    pub(super) note: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    Text(String),
    Whole(i64),
}

impl Written {
    /// The value as it is written, without quotes.
    pub(super) fn text(&self) -> String {
        match self {
            Written::Text(text) => text.clone(),
            Written::Whole(number) => number.to_string(),
        }
    }
}
