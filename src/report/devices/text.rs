//! Devices as aligned text.

use super::links::{Links, addresses};
use crate::device::{
    AllocationLimit, DEFAULT_BOARD, DetectedDevice, DeviceProfile, Estimate, Gpu, PowerMode,
    Quantity, Session,
};
use crate::report::screen::Screen;
use crate::report::table::{Align, NARROWEST, Table, broken};
use crate::report::{self, calibrate};
use crate::runtime::Runs;
use crate::sourced::{Sourced, Trust};
use crate::units::{Bytes, Hertz};

/// One row per device, for its default power mode.
pub fn list_text(devices: &[DeviceProfile], columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("id", Align::Left),
        ("name", Align::Left),
        ("memory", Align::Right),
        ("available", Align::Right),
        ("bandwidth", Align::Right),
        ("power modes", Align::Left),
    ])
    .giving_up(&["name", "bandwidth", "available", "memory"])
    .breaking_last();
    for device in devices {
        let star = if device.id == DEFAULT_BOARD { "*" } else { "" };
        table.row([
            format!("{}{star}", device.id),
            device.name.clone(),
            device.total_memory.value.show(),
            device.available(Session::Headless).show(),
            plain(device.default_mode.bandwidth.as_ref()),
            mode_names(device),
        ]);
    }
    let mut text = Screen::new(columns);
    text.table(&table, "");
    text.blank();
    let meanings = [
        ("available", "`available`: left by an idle headless system"),
        (
            "bandwidth",
            "bandwidth: in the default power mode, which stands in [brackets]",
        ),
    ];
    let shown = meanings.into_iter();
    let shown = shown.filter(|(name, _)| text.shows(&table, "", name));
    let shown: Vec<&str> = shown.map(|(_, meaning)| meaning).collect();
    let shown = if shown.is_empty() {
        "[brackets]: the default power mode".to_owned()
    } else {
        shown.join("; ")
    };
    text.prose(&format!("* default on a machine that is not a Jetson Orin. {shown}. `orinplan devices show ID` gives every number with its source."));
    text.finish()
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
pub fn show_text(
    device: &DeviceProfile,
    runs: &Runs,
    columns: Option<usize>,
    links: Links,
) -> String {
    let mut feet = Footnotes::default();
    let mut text = Screen::new(columns);
    text.prose(&format!("{}: {}", device.id, device.name));
    if !device.compatible.is_empty() {
        text.prose(&format!("device tree: {}", device.compatible.join(", ")));
    }
    text.push_str("\nMemory, one pool for CPU and GPU\n");
    let mut rows = vec![["total".to_owned(), feet.mark(&device.total_memory)]];
    for (name, session) in [
        ("headless", Session::Headless),
        ("desktop", Session::Desktop),
    ] {
        let held = feet.estimate(device.system(session));
        rows.push([format!("held by the system, {name}"), held]);
        rows.push([
            format!("available, {name}"),
            device.available(session).show(),
        ]);
    }
    rows.extend(
        device
            .bus_bits
            .as_ref()
            .map(|bits| ["bus width in bits".to_owned(), feet.mark(bits)]),
    );
    rows.extend(device.fragmented.as_ref().map(|bytes| {
        [
            "allocation that failed beside a desktop".to_owned(),
            feet.mark(bytes),
        ]
    }));
    for limit in &device.allocation_limits {
        let seen = [
            ("some board was refused", limit.refused.as_ref()),
            ("largest GPU allocation", Some(&limit.largest)),
            ("some board was granted", limit.granted.as_ref()),
        ];
        let seen = seen.into_iter().filter_map(|(what, bytes)| {
            let what = format!("{what}, {}", releases(limit));
            Some([what, feet.mark(bytes?)])
        });
        rows.extend(seen);
    }
    text.push_str(&pairs(&rows, "  ", columns));
    if let Some(gpu) = &device.gpu {
        text.push_str("\nGPU\n");
        text.push_str(&pairs(&gpu_rows(gpu, &mut feet), "  ", columns));
    }
    text.push_str("\nPower modes, default in [brackets]\n");
    text.table(&modes(device, &mut feet), "  ");
    if !device.pitfalls.is_empty() {
        text.push_str("\nPitfalls\n");
        for pitfall in &device.pitfalls {
            let source = feet.number(&pitfall.source);
            let entry = format!("- {}: {} [{source}]", pitfall.code, pitfall.text);
            text.prose(&entry);
        }
    }
    text.push_str("\nSources\n");
    feet.write(&mut text, links);
    if let Some(cpu) = &device.cpu {
        text.push_str("\nProcessors\n");
        text.push_str(&calibrate::figures(cpu, columns));
    }
    let learned = runs.of_device(&device.id);
    if !learned.is_empty() {
        text.push_str("\nLearned from runs (factors on times, +-: one standard deviation)\n");
    }
    for there in learned {
        let (runtime, mode) = (&there.runtime, &there.power_mode);
        let learned = report::learned::text(&there.learned);
        // Its own runs need no name.
        let of = match there.learned.runs_of.as_slice() {
            [own] if own == runtime => String::new(),
            others => format!(" (from runs of {})", others.join(" and ")),
        };
        text.prose(&format!("- {runtime}{of}, {mode}: {learned}"));
    }
    text.finish()
}

fn releases(limit: &AllocationLimit) -> String {
    match limit.until {
        Some(until) => format!("L4T from {}, before {until}", limit.from),
        None => format!("L4T from {}", limit.from),
    }
}

fn gpu_rows(gpu: &Gpu, feet: &mut Footnotes) -> Vec<[String; 2]> {
    let capability = format!(
        "{} [{}]",
        gpu.compute_capability.value,
        feet.reference(&gpu.compute_capability)
    );
    let mut rows = vec![["compute capability".to_owned(), capability]];
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
    rows.extend(counts.map(|(name, count)| [name.to_owned(), feet.mark(count)]));
    rows
}

fn modes(device: &DeviceProfile, feet: &mut Footnotes) -> Table {
    let columns = [
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
    // A narrow screen stacks them: every number is shown.
    let mut table = Table::new(columns.map(|name| (name, Align::Left)));
    for mode in &device.modes {
        table.row([
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
    table
}

/// The machine at hand, with notes about what could not be read.
pub fn detect_text(found: &DetectedDevice, columns: Option<usize>) -> String {
    let mode = &found.profile.default_mode;
    let mut rows = vec![[
        "device".to_owned(),
        format!("{} ({})", found.profile.id, found.profile.name),
    ]];
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| [name.to_owned(), value]));
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
    let mut text = Screen::new(columns);
    text.push_str(&pairs(&rows, "", columns));
    if !found.notes.is_empty() {
        text.push_str("\nNotes\n");
        for note in &found.notes {
            text.prose(&format!("  {}: {}", note.code, note.text));
        }
    }
    text.finish()
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

    fn write(&self, text: &mut Screen, links: Links) {
        for (source, number) in self.0.iter().zip(1..) {
            let mut line = format!("[{number}] {source}");
            if links == Links::Written {
                line.extend(
                    addresses(source)
                        .iter()
                        .map(|address| format!(" {address}")),
                );
            }
            text.prose(&line);
        }
    }
}

/// Names and values, the values aligned, or below their names on a screen that is too narrow for that.
fn pairs(rows: &[[String; 2]], indent: &str, columns: Option<usize>) -> String {
    let widths = rows.iter().map(|[name, _]| name.chars().count());
    let width = widths.max().unwrap_or(0);
    let screen = columns.unwrap_or(usize::MAX);
    let room = screen.saturating_sub(indent.len() + width + 2);
    let mut text = String::new();
    for [name, value] in rows {
        if room < NARROWEST.min(value.chars().count()) {
            for part in broken(name, screen.saturating_sub(indent.len())) {
                text.push_str(&format!("{indent}{part}\n"));
            }
            for part in broken(value, screen.saturating_sub(indent.len() + 4)) {
                text.push_str(&format!("{indent}    {part}\n"));
            }
            continue;
        }
        let names = std::iter::once(name.as_str()).chain(std::iter::repeat(""));
        for (name, part) in names.zip(broken(value, room)) {
            text.push_str(&format!("{indent}{name:<width$}  {part}\n"));
        }
    }
    text
}
