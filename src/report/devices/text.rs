//! Devices as aligned text.

use crate::device::{
    AllocationLimit, DEFAULT_BOARD, DetectedDevice, DeviceProfile, Estimate, Gpu, PowerMode,
    Quantity, Session,
};
use crate::report::{calibrate, wrapped};
use crate::runtime::Runs;
use crate::runtime::learned::{Factor, Learned};
use crate::sourced::{Sourced, Trust};
use crate::units::{Bytes, Hertz, counted};

/// One row per device, for its default power mode.
pub fn list_text(devices: &[DeviceProfile]) -> String {
    let header = [
        "id",
        "name",
        "memory",
        "available",
        "bandwidth",
        "power modes",
    ]
    .map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    for device in devices {
        let star = if device.id == DEFAULT_BOARD { "*" } else { "" };
        rows.push(vec![
            format!("{}{star}", device.id),
            device.name.clone(),
            device.total_memory.value.show(),
            device.available(Session::Headless).show(),
            plain(device.default_mode.bandwidth.as_ref()),
            mode_names(device),
        ]);
    }
    let mut text = table(&rows, "");
    text.push('\n');
    wrapped(
        &mut text,
        "* the default where this machine is no Jetson Orin. `available` is what an idle headless system leaves; bandwidth is that of the power mode in [brackets]. `orinplan devices show ID` gives every number with its source.",
    );
    text
}

/// The names of its power modes, the default one in brackets.
fn mode_names(device: &DeviceProfile) -> String {
    let names = device.modes.iter().map(|mode| mode_name(mode, device));
    names.collect::<Vec<_>>().join(" ")
}

fn mode_name(mode: &PowerMode, device: &DeviceProfile) -> String {
    if mode.name == device.default_mode.name {
        format!("[{}]", mode.name)
    } else {
        mode.name.clone()
    }
}

/// Every number of a device with its source, its power modes, its known problems, the calibration of its processors, and the
/// corrections learned from `runs` on it.
pub fn show_text(device: &DeviceProfile, runs: &Runs) -> String {
    let mut feet = Footnotes::default();
    let mut text = format!("{}: {}\n", device.id, device.name);
    if !device.compatible.is_empty() {
        text.push_str(&format!("device tree: {}\n", device.compatible.join(", ")));
    }
    text.push_str("\nMemory, one pool for CPU and GPU\n");
    let mut rows = vec![vec!["total".to_owned(), feet.mark(&device.total_memory)]];
    for (name, session) in [
        ("headless", Session::Headless),
        ("desktop", Session::Desktop),
    ] {
        let held = feet.estimate(device.system(session));
        rows.push(vec![format!("held by the system, {name}"), held]);
        rows.push(vec![
            format!("available, {name}"),
            device.available(session).show(),
        ]);
    }
    rows.extend(
        device
            .bus_bits
            .as_ref()
            .map(|bits| vec!["bus width in bits".to_owned(), feet.mark(bits)]),
    );
    rows.extend(device.allocation_limits.iter().map(|limit| {
        vec![
            format!("largest GPU allocation, {}", releases(limit)),
            feet.mark(&limit.largest),
        ]
    }));
    text.push_str(&table(&rows, "  "));
    if let Some(gpu) = &device.gpu {
        text.push_str("\nGPU\n");
        text.push_str(&table(&gpu_rows(gpu, &mut feet), "  "));
    }
    text.push_str("\nPower modes, default in [brackets]\n");
    text.push_str(&table(&mode_rows(device, &mut feet), "  "));
    if !device.pitfalls.is_empty() {
        text.push_str("\nPitfalls\n");
        for pitfall in &device.pitfalls {
            let source = feet.number(&pitfall.source);
            let entry = format!("- {}: {} [{source}]", pitfall.code, pitfall.text);
            wrapped(&mut text, &entry);
        }
    }
    text.push_str("\nSources\n");
    text.push_str(&feet.text());
    if let Some(cpu) = &device.cpu {
        text.push_str("\nProcessors\n");
        text.push_str(&calibrate::figures(cpu));
    }
    let learned = runs.of_device(&device.id);
    if !learned.is_empty() {
        text.push_str("\nLearned from runs\n");
    }
    for (runtime, mode, learned) in learned {
        wrapped(&mut text, &learned_from_runs(runtime, mode, &learned));
    }
    text
}

/// The corrections learned for a runtime in a power mode, in one line.
fn learned_from_runs(runtime: &str, mode: &str, learned: &Learned) -> String {
    let factor = |name: &str, factor: &Option<Factor>| {
        let told = |f: &Factor| {
            format!(
                "{name} x {:.2} (within x {:.2}, {})",
                f.value,
                f.spread,
                counted(f.count, "model", "models"),
            )
        };
        factor.as_ref().map(told)
    };
    let memory = learned
        .more_memory
        .map(|more| format!("{:+.1} MiB of memory", more / 1_048_576.0));
    let parts = [
        factor("decode", &learned.decode),
        factor("prefill", &learned.prefill),
        memory,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!(
        "- {runtime}, {mode}: {}; {}",
        parts.join(", "),
        learned.source
    )
}

fn releases(limit: &AllocationLimit) -> String {
    match limit.until {
        Some(until) => format!("L4T from {}, before {until}", limit.from),
        None => format!("L4T from {}", limit.from),
    }
}

fn gpu_rows(gpu: &Gpu, feet: &mut Footnotes) -> Vec<Vec<String>> {
    let capability = format!(
        "{} [{}]",
        gpu.compute_capability.value,
        feet.reference(&gpu.compute_capability)
    );
    let mut rows = vec![vec!["compute capability".to_owned(), capability]];
    let counts = [
        ("streaming multiprocessors (SM)", &gpu.sm_count),
        ("CUDA cores", &gpu.cuda_cores),
        ("tensor cores", &gpu.tensor_cores),
        (
            "FP16 tensor operations per SM and clock",
            &gpu.fp16_per_sm_clock,
        ),
        (
            "sparse INT8 operations per SM and clock",
            &gpu.int8_sparse_per_sm_clock,
        ),
        ("FP32 operations per SM and clock", &gpu.fp32_per_sm_clock),
    ];
    rows.extend(counts.map(|(name, count)| vec![name.to_owned(), feet.mark(count)]));
    rows
}

fn mode_rows(device: &DeviceProfile, feet: &mut Footnotes) -> Vec<Vec<String>> {
    let header = [
        "mode",
        "power",
        "GPU",
        "SMs",
        "CPU",
        "memory clock",
        "bandwidth",
        "FP16",
        "INT8 sparse",
        "FP32",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for mode in &device.modes {
        rows.push(vec![
            mode_name(mode, device),
            feet.maybe(mode.watts.as_ref()),
            feet.maybe(mode.gpu.as_ref()),
            feet.maybe(mode.sm_count.as_ref()),
            feet.maybe(mode.cpu.as_ref()),
            feet.maybe(mode.emc.as_ref()),
            feet.maybe(mode.bandwidth.as_ref()),
            feet.maybe(mode.fp16.as_ref()),
            feet.maybe(mode.int8_sparse.as_ref()),
            feet.maybe(mode.fp32.as_ref()),
        ]);
    }
    rows
}

/// The machine at hand, with notes about what could not be read.
pub fn detect_text(found: &DetectedDevice) -> String {
    let mode = &found.profile.default_mode;
    let mut rows = vec![vec![
        "device".to_owned(),
        format!("{} ({})", found.profile.id, found.profile.name),
    ]];
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![name.to_owned(), value]));
    };
    row("model", found.model.clone());
    let jetpack = |text: String, version: Option<&str>| match version {
        Some(version) => format!("{text} (JetPack {version})"),
        None => text,
    };
    row(
        "L4T release",
        found
            .l4t
            .map(|release| jetpack(release.to_string(), release.jetpack())),
    );
    row("memory", Some(found.profile.total_memory.value.show()));
    row(
        "available now",
        Some(found.profile.available(Session::Headless).show()),
    );
    row(
        "free now (one GPU allocation)",
        found
            .memory
            .free
            .filter(|_| mode.gpu.is_some())
            .map(Bytes::show),
    );
    row(
        "free swap (not for the GPU)",
        found
            .memory
            .swap_free
            .filter(|_| mode.gpu.is_some())
            .map(Bytes::show),
    );
    let limit = found.profile.largest_allocation(None);
    row(
        "largest GPU allocation",
        limit.map(|limit| limit.largest.value.show()),
    );
    row(
        "logical CPUs",
        (found.cpu_count > 0).then(|| found.cpu_count.to_string()),
    );
    row("power mode", found.power_mode.clone());
    row(
        "GPU clock, highest",
        mode.gpu.as_ref().map(|clock| clock.value.show()),
    );
    row("GPU clock, now", found.gpu_now.map(Hertz::show));
    row(
        "SMs",
        mode.sm_count.as_ref().map(|count| count.value.show()),
    );
    row(
        "memory clock, highest",
        mode.emc.as_ref().map(|clock| clock.value.show()),
    );
    row("memory bandwidth", Some(plain(mode.bandwidth.as_ref())));
    let mut text = table(&rows, "");
    if !found.notes.is_empty() {
        text.push_str("\nNotes\n");
        let lines = found
            .notes
            .iter()
            .map(|note| format!("  {}: {}\n", note.code, note.text));
        text.extend(lines);
    }
    text
}

fn plain<T: Quantity>(number: Option<&Sourced<T>>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.value.show())
}

/// Sources in the order they were first referred to, numbered from 1.
#[derive(Default)]
struct Footnotes(Vec<String>);

impl Footnotes {
    /// The value with the number of its footnote.
    fn mark<T: Quantity>(&mut self, number: &Sourced<T>) -> String {
        format!("{} [{}]", number.value.show(), self.reference(number))
    }

    fn maybe<T: Quantity>(&mut self, number: Option<&Sourced<T>>) -> String {
        number.map_or_else(|| "-".to_owned(), |number| self.mark(number))
    }

    fn estimate(&mut self, held: &Estimate<Sourced<Bytes>>) -> String {
        let [low, expected, high] =
            [&held.low, &held.expected, &held.high].map(|bytes| self.mark(bytes));
        format!("{expected}, from {low} to {high}")
    }

    fn reference<T>(&mut self, number: &Sourced<T>) -> usize {
        let remark = match (number.trust, &number.note) {
            (Trust::Published, None) => String::new(),
            (Trust::Published, Some(note)) => format!(" ({note})"),
            (trust, None) => format!(" ({})", trust.word()),
            (trust, Some(note)) => format!(" ({}: {note})", trust.word()),
        };
        self.number(&format!("{}{remark}", number.source))
    }

    fn number(&mut self, source: &str) -> usize {
        let known = self.0.iter().position(|known| known == source);
        1 + known.unwrap_or_else(|| {
            self.0.push(source.to_owned());
            self.0.len() - 1
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (source, number) in self.0.iter().zip(1..) {
            wrapped(&mut text, &format!("[{number}] {source}"));
        }
        text
    }
}

/// Rows with their columns aligned to the left, two spaces apart.
fn table(rows: &[Vec<String>], indent: &str) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        format!("{indent}{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}
