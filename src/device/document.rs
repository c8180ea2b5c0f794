//! Boards as `orinplan devices detect` and `devices show` print them for scripts (`orinplan.devices/1`), read back as
//! profiles: what one machine says of itself, planned for on another.
//!
//! In: the text of a document. Out: a [`DeviceProfile`] that passed the rules of device files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::DeviceError;
use super::file;
use super::probe::printable;
use super::profile::{AtHand, DeviceProfile};
use super::wire::{
    BoardFile, GpuTable, HeldTable, LimitTable, MemoryTable, ModeTable, PitfallTable, Stated,
    Written,
};
use crate::input::in_words;
use crate::sourced::Trust;
use crate::units::Bytes;

const SCHEMA: &str = "orinplan.devices/1";

/// The unit of a number by its key, and how it is written in a device file.
const UNITS: [(&str, &str, f64); 5] = [
    ("hertz", "MHz", 1e6),
    ("bytes", "B", 1.0),
    ("bytes_per_second", "GB/s", 1e9),
    ("ops_per_second", "GFLOPS", 1e9),
    ("watts", "W", 1.0),
];

#[derive(Deserialize)]
struct Document {
    device: Device,
    detected: Option<Detected>,
}

/// What tells one document from another.
#[derive(Deserialize)]
struct DocumentHead {
    schema: String,
    device: Option<Id>,
}

/// A machine without a GPU is no board.
#[derive(Deserialize)]
struct Id {
    id: String,
    gpu: Option<Value>,
}

#[derive(Deserialize)]
struct Detected {
    l4t_release: Option<String>,
    clocks: Option<String>,
    power_mode: Option<String>,
    memory_free_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Device {
    id: String,
    name: String,
    compatible: Vec<String>,
    memory_idle_bytes: Option<u64>,
    memory_total: Number,
    system_headless: Held,
    system_desktop: Held,
    memory_fragmented: Option<Number>,
    bus_bits: Option<Number>,
    gpu: Option<Gpu>,
    default_power_mode: String,
    power_modes: Vec<Mode>,
    allocation_limits: Vec<Limit>,
    pitfalls: Vec<Pitfall>,
}

#[derive(Deserialize)]
struct Held {
    low: Number,
    expected: Number,
    high: Number,
}

#[derive(Deserialize)]
struct Gpu {
    compute_capability: Number,
    sm_count: Number,
    cuda_cores: Number,
    tensor_cores: Number,
    fp16_per_sm_clock: Number,
    int8_sparse_per_sm_clock: Number,
    fp32_per_sm_clock: Number,
}

#[derive(Deserialize)]
struct Mode {
    name: String,
    nvpmodel_names: Vec<String>,
    since_release: Option<String>,
    power: Option<Number>,
    gpu_clock: Option<Number>,
    sm_count: Option<Number>,
    cpu_clock: Option<Number>,
    memory_clock: Option<Number>,
    memory_bandwidth: Number,
    fp16_peak: Option<Number>,
    int8_sparse_peak: Option<Number>,
    fp32_peak: Option<Number>,
}

#[derive(Deserialize)]
struct Limit {
    from_release: String,
    until_release: Option<String>,
    largest: Number,
    refused: Option<Number>,
    granted: Option<Number>,
}

#[derive(Deserialize)]
struct Pitfall {
    code: String,
    text: String,
    source: String,
}

/// A number under a key that names its unit.
#[derive(Deserialize)]
struct Number {
    source: String,
    trust: Trust,
    note: Option<String>,
    #[serde(flatten)]
    value: Map<String, Value>,
}

/// Whether a file holds a document, and not the TOML of a profile.
pub(super) fn is_document(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Reads and checks a document; `file` is its name for messages.
///
/// # Errors
/// [`DeviceError::Syntax`] where the text is no JSON of this form, [`DeviceError::Field`] where it is another document or
/// one of a machine that is no board, and where a value breaks a rule of device files.
pub(super) fn parse(file: &str, text: &str) -> Result<DeviceProfile, DeviceError> {
    let refuse = |field: &str, value: &str, rule: &str| DeviceError::Field {
        file: file.to_owned(),
        field: field.to_owned(),
        value: printable(value),
        rule: rule.to_owned(),
    };
    let syntax = |error: serde_json::Error| {
        let message = error.to_string();
        // The line is named beside it.
        let (message, _) = message.split_once(" at line ").unwrap_or((&message, ""));
        DeviceError::Syntax {
            file: file.to_owned(),
            line: error.line(),
            message: printable(&in_words(message)),
        }
    };
    // What it is of is looked at before what it holds.
    let DocumentHead { schema, device } = serde_json::from_str(text).map_err(syntax)?;
    if schema != SCHEMA {
        let rule = "describes no board; write one with `orinplan devices detect --format json`";
        return Err(refuse("schema", &schema, rule));
    }
    match device {
        None => {
            let rule = "has no `device`; `orinplan devices detect` and `devices show ID` write one with --format json";
            return Err(refuse("schema", &schema, rule));
        }
        Some(device) if device.gpu.is_none() => {
            let rule =
                "is not a board with a profile; it can only plan for itself, with --device host";
            return Err(refuse("device.id", &device.id, rule));
        }
        Some(_) => {}
    }
    let Document { device, detected } = serde_json::from_str(text).map_err(syntax)?;
    let idle = device.memory_idle_bytes.map(Bytes);
    let mut profile = file::check(file, &board(device))?;
    profile.at_hand = detected.map(|detected| AtHand {
        release: detected
            .l4t_release
            .and_then(|release| bare(&release).parse().ok()),
        clocks: detected.clocks.and_then(|clocks| clocks.parse().ok()),
        mode_is_read: detected.power_mode.is_some(),
        free: detected.memory_free_bytes.map(Bytes),
        idle,
    });
    Ok(profile)
}

/// The device as the file that it would be.
fn board(device: Device) -> BoardFile {
    let mut sources = Sources::default();
    let memory = MemoryTable {
        total: sources.stated(device.memory_total),
        bus_bits: sources.maybe(device.bus_bits),
        headless: sources.held(device.system_headless),
        desktop: sources.held(device.system_desktop),
        fragmented: sources.maybe(device.memory_fragmented),
    };
    let gpu = device.gpu.map(|gpu| GpuTable {
        compute_capability: sources.stated(gpu.compute_capability),
        sm_count: sources.stated(gpu.sm_count),
        cuda_cores: sources.stated(gpu.cuda_cores),
        tensor_cores: sources.stated(gpu.tensor_cores),
        fp16_per_sm_clock: sources.stated(gpu.fp16_per_sm_clock),
        int8_sparse_per_sm_clock: sources.stated(gpu.int8_sparse_per_sm_clock),
        fp32_per_sm_clock: sources.stated(gpu.fp32_per_sm_clock),
    });
    let mode = device.power_modes.into_iter().map(|mode| ModeTable {
        name: mode.name,
        nvpmodel: mode.nvpmodel_names,
        since: mode.since_release.map(|release| bare(&release)),
        watts: sources.maybe(mode.power),
        cpu: sources.maybe(mode.cpu_clock),
        gpu: sources.maybe(mode.gpu_clock),
        emc: sources.maybe(mode.memory_clock),
        bandwidth: sources.stated(mode.memory_bandwidth),
        sm_count: sources.maybe(mode.sm_count),
        fp16: sources.maybe(mode.fp16_peak),
        int8_sparse: sources.maybe(mode.int8_sparse_peak),
        fp32: sources.maybe(mode.fp32_peak),
    });
    let mode = mode.collect();
    let limits = device.allocation_limits.into_iter();
    let allocation_limit = limits.map(|limit| LimitTable {
        from: bare(&limit.from_release),
        until: limit.until_release.map(|release| bare(&release)),
        largest: sources.stated(limit.largest),
        refused: sources.maybe(limit.refused),
        granted: sources.maybe(limit.granted),
    });
    let allocation_limit = allocation_limit.collect();
    let pitfall = device.pitfalls.into_iter().map(|pitfall| PitfallTable {
        code: pitfall.code,
        text: pitfall.text,
        source: sources.key(pitfall.source),
    });
    let pitfall = pitfall.collect();
    BoardFile {
        id: device.id,
        name: device.name,
        compatible: device.compatible,
        default_mode: device.default_power_mode,
        original: None,
        sources: sources.0,
        memory,
        gpu,
        mode,
        allocation_limit,
        pitfall,
    }
}

/// A release as files have it: documents say `R36.4.7`.
fn bare(release: &str) -> String {
    release.trim_start_matches('R').to_owned()
}

/// The sources of a document, each under a key: its own text.
#[derive(Default)]
struct Sources(BTreeMap<String, String>);

impl Sources {
    fn key(&mut self, source: String) -> String {
        self.0
            .entry(source.clone())
            .or_insert_with(|| source.clone());
        source
    }

    fn stated(&mut self, number: Number) -> Stated {
        let source = self.key(number.source);
        let is_derived = number.trust == Trust::Derived;
        // Documents have derived numbers without a note, which files do not.
        let note = number.note.or_else(|| is_derived.then(|| source.clone()));
        Stated {
            value: written(&number.value),
            source,
            trust: number.trust,
            note,
        }
    }

    fn maybe(&mut self, number: Option<Number>) -> Option<Stated> {
        number.map(|number| self.stated(number))
    }

    fn held(&mut self, held: Held) -> HeldTable {
        HeldTable {
            low: self.stated(held.low),
            expected: self.stated(held.expected),
            high: self.stated(held.high),
        }
    }
}

/// A number as it is written in a file; what has no known unit is left as it is, for the rule of its field to refuse.
fn written(value: &Map<String, Value>) -> Written {
    let scaled = UNITS.iter().find_map(|(key, unit, scale)| {
        let number = value.get(*key)?.as_f64()?;
        Some(format!("{} {unit}", number / scale))
    });
    let plain = || match value.values().next() {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Written::Text(scaled.unwrap_or_else(plain))
}
