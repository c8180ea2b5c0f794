//! Detects the machine at hand from its root directory: which board, how much memory, which power mode.
//!
//! In: `/`, or a recorded tree in tests. Out: a [`DetectedDevice`] whose profile has the machine's own numbers where it
//! reports them. Must not: run programs, or fail because a file is missing, unreadable or malformed; what could not be
//! read is a note.

use std::path::Path;

use super::error::DeviceError;
use super::l4t::L4tRelease;
use super::power_mode;
use super::probe::{self, Notes};
use super::profile::{AtHand, BANDWIDTH_UNKNOWN, DeviceProfile, Estimate, Pitfall, PowerMode};
use super::registry::{HOST, list};
use crate::sourced::Sourced;
use crate::units::{Bytes, Hertz, counted};

/// A detected machine.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedDevice {
    /// The board's profile with this machine's memory and power mode, or a generic `host`. The notes are added to its
    /// pitfalls.
    pub profile: DeviceProfile,
    /// The device tree's model.
    pub model: Option<String>,
    /// Whether it is a Jetson, of a known board or not.
    pub is_jetson: bool,
    /// The system release of a Jetson.
    pub l4t: Option<L4tRelease>,
    /// The memory by `/proc/meminfo`.
    pub memory: MemoryNow,
    /// The power mode in force, as nvpmodel names it.
    pub power_mode: Option<String>,
    /// The GPU's clock at this moment.
    pub gpu_now: Option<Hertz>,
    /// The highest clock that the GPU may have and that of the power mode in force, where the first is lower.
    pub gpu_held_below: Option<[Hertz; 2]>,
    /// Logical processors that are online.
    pub cpu_count: usize,
    /// What could not be read, and what differs from the board's profile.
    pub notes: Vec<Pitfall>,
}

/// `/proc/meminfo`; a field is `None` where the file lacks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNow {
    /// `MemTotal`.
    pub total: Option<Bytes>,
    /// `MemAvailable`: what programs can get after page caches are reclaimed.
    pub available: Option<Bytes>,
    /// `MemFree`: a GPU allocation has to fit into it.
    pub free: Option<Bytes>,
    /// `SwapFree`. The GPU cannot use it.
    pub swap_free: Option<Bytes>,
    /// `CmaTotal`.
    pub cma_total: Option<Bytes>,
}

/// Detects the machine with the root directory `root`.
///
/// # Errors
/// [`DeviceError::NoRoot`] if `root` is no directory; [`DeviceError::NoMemory`] if the machine is no
/// known board and `proc/meminfo` gives no `MemTotal`.
pub fn detect(root: &Path) -> Result<DetectedDevice, DeviceError> {
    if !root.is_dir() {
        return Err(DeviceError::NoRoot {
            root: root.to_owned(),
        });
    }
    let mut notes = Notes::default();
    let memory = read_memory(root);
    let model = probe::property(root, "proc/device-tree/model")
        .into_iter()
        .next();
    let (cpu_count, cpu_model) =
        probe::cpus(&probe::text(root, "proc/cpuinfo").unwrap_or_default());
    let release = probe::text(root, "etc/nv_tegra_release")
        .and_then(|text| L4tRelease::from_release_file(&text));

    let compatible = probe::property(root, "proc/device-tree/compatible");
    let (mut profile, in_force) = match board(&compatible)? {
        Some(mut profile) => {
            let is_super = model.as_ref().is_some_and(|name| name.ends_with("Super"));
            let in_force = power_mode::apply(root, is_super, &mut profile, &mut notes);
            if release.is_none() {
                notes.add("release_unread", "etc/nv_tegra_release is missing or unreadable; limits of current releases are assumed");
            }
            (profile, Some(in_force))
        }
        None => {
            if let Some(model) = &model {
                notes.add(
                    "unknown_board",
                    format!(
                        "no shipped profile is for `{model}`; write one and name it with --device"
                    ),
                );
            }
            let name = model
                .clone()
                .or(cpu_model)
                .unwrap_or_else(|| "unknown processor".to_owned());
            let total = memory.total.ok_or(DeviceError::NoMemory)?;
            (host(&name, cpu_count, total, &mut notes), None)
        }
    };
    let (power_mode, gpu_now, gpu_held_below) = in_force.map_or((None, None, None), |found| {
        (found.name, found.gpu_now, found.gpu_held_below)
    });
    let is_board = !profile.compatible.is_empty();
    let is_jetson = compatible
        .iter()
        .any(|entry| entry.starts_with("nvidia,tegra"));
    profile.at_hand = Some(AtHand {
        release,
        clocks: if is_board {
            power_mode::clocks(root)
        } else {
            None
        },
        mode_is_read: power_mode.is_some(),
        idle: is_board.then(|| idle(&profile, memory)),
        free: memory.free,
    });
    apply_memory(&mut profile, memory, &mut notes);
    profile.pitfalls.extend(notes.0.iter().cloned());
    Ok(DetectedDevice {
        profile,
        model,
        is_jetson,
        l4t: release,
        memory,
        power_mode,
        gpu_now,
        gpu_held_below,
        cpu_count,
        notes: notes.0,
    })
}

/// The shipped board whose module number is in the device tree's `compatible` property.
fn board(compatible: &[String]) -> Result<Option<DeviceProfile>, DeviceError> {
    if compatible.is_empty() {
        return Ok(None);
    }
    let names = |board: &DeviceProfile| {
        board
            .compatible
            .iter()
            .any(|id| compatible.iter().any(|entry| entry.contains(id.as_str())))
    };
    Ok(list()?.into_iter().find(names))
}

pub(super) fn read_memory(root: &Path) -> MemoryNow {
    let text = probe::text(root, "proc/meminfo").unwrap_or_default();
    let field = |name| probe::meminfo(&text, name);
    MemoryNow {
        total: field("MemTotal").filter(|total| *total >= Bytes::MIB),
        available: field("MemAvailable"),
        free: field("MemFree"),
        swap_free: field("SwapFree"),
        cma_total: field("CmaTotal"),
    }
}

/// The memory that is available on such a board when it is idle and headless: the machine's own total minus what the
/// system takes by the profile.
fn idle(profile: &DeviceProfile, memory: MemoryNow) -> Bytes {
    let total = memory.total.unwrap_or(profile.total_memory.value);
    total.saturating_sub(profile.system_headless.expected.value)
}

/// Replaces the profile's memory by the machine's: the system takes what is not available now.
fn apply_memory(profile: &mut DeviceProfile, memory: MemoryNow, notes: &mut Notes) {
    let Some(total) = memory.total else {
        notes.add(
            "memory_unread",
            "proc/meminfo gives no MemTotal; the board's published memory is used",
        );
        return;
    };
    profile.total_memory = Sourced::measured(total, "MemTotal of this machine");
    let (available, field) = match (memory.available, memory.free) {
        (Some(available), _) => (available, "MemAvailable"),
        (None, Some(free)) => {
            notes.add(
                "memory_free_only",
                "proc/meminfo gives no MemAvailable; MemFree is used instead and may be too low",
            );
            (free, "MemFree")
        }
        (None, None) => {
            notes.add("memory_unread", "proc/meminfo gives neither MemAvailable nor MemFree; the expected system memory is used");
            return;
        }
    };
    // Everything that runs now is included, with or without a desktop.
    let held = Sourced::measured(
        total.saturating_sub(available),
        format!("MemTotal less {field} of this machine"),
    );
    let now = Estimate {
        low: held.clone(),
        expected: held.clone(),
        high: held,
    };
    profile.system_headless = now.clone();
    profile.system_desktop = now;
}

/// The profile of a machine that is no shipped board: its memory, and no speed until it is calibrated.
fn host(name: &str, cpu_count: usize, total: Bytes, notes: &mut Notes) -> DeviceProfile {
    notes.add(
        BANDWIDTH_UNKNOWN,
        "the memory bandwidth of this machine is unknown, so no speed is predicted for it; `orinplan calibrate` measures it",
    );
    let none = Sourced::derived(Bytes(0), "nothing is known to be held");
    let held = Estimate {
        low: none.clone(),
        expected: none.clone(),
        high: none,
    };
    let mode = PowerMode {
        since: None,
        name: HOST.to_owned(),
        nvpmodel: Vec::new(),
        watts: None,
        cpu: None,
        gpu: None,
        emc: None,
        bandwidth: None,
        sm_count: None,
        fp16: None,
        int8_sparse: None,
        fp32: None,
    };
    DeviceProfile {
        id: HOST.to_owned(),
        name: format!(
            "{name}, {}",
            counted(cpu_count, "logical CPU", "logical CPUs")
        ),
        compatible: Vec::new(),
        total_memory: Sourced::measured(total, "MemTotal of this machine"),
        system_headless: held.clone(),
        system_desktop: held,
        fragmented: None,
        bus_bits: None,
        gpu: None,
        cpu: None,
        modes: vec![mode.clone()],
        default_mode: mode,
        original: None,
        at_hand: None,
        allocation_limits: Vec::new(),
        pitfalls: Vec::new(),
    }
}
