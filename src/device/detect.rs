//! The machine at hand, read from its root directory: which board, how much memory, which power mode.
//!
//! In: `/`, or a recorded tree in tests. Out: a [`DetectedDevice`] whose profile holds the machine's
//! own numbers where it gives them. Must not: run programs, or fail over a file that is missing,
//! unreadable or garbage; what could not be read is a note.

use std::path::Path;

use super::error::DeviceError;
use super::l4t::L4tRelease;
use super::nvpmodel::{self, ConfMode};
use super::probe;
use super::profile::{DeviceProfile, Estimate, Pitfall, PowerMode, ddr_bandwidth};
use super::quantity::{Quantity, Sourced};
use super::registry::{HOST, list};
use crate::units::{Bytes, Hertz};

/// A machine as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedDevice {
    /// The board's profile with this machine's memory and power mode, or a generic `host`. Its
    /// notes stand among its pitfalls.
    pub profile: DeviceProfile,
    /// The device tree's model.
    pub model: Option<String>,
    /// The system release of a Jetson.
    pub l4t: Option<L4tRelease>,
    /// What `/proc/meminfo` says.
    pub memory: MemoryNow,
    /// The power mode in force, as nvpmodel names it.
    pub power_mode: Option<String>,
    /// The GPU's clock at this moment.
    pub gpu_now: Option<Hertz>,
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
    /// `MemAvailable`: what programs can get after reclaim.
    pub available: Option<Bytes>,
    /// `MemFree`: what one GPU allocation must fit into.
    pub free: Option<Bytes>,
    /// `SwapFree`. The GPU cannot use it.
    pub swap_free: Option<Bytes>,
    /// `CmaTotal`.
    pub cma_total: Option<Bytes>,
}

const CONF: &str = "etc/nvpmodel.conf";
const STATUS: &str = "var/lib/nvpmodel/status";
const EMC_CAP: &str = "sys/kernel/nvpmodel_emc_cap/emc_iso_cap";
/// JetPack 6 names the device `.gpu`, JetPack 5 `.ga10b`.
const GPU_NODES: [&str; 2] = [
    "sys/class/devfreq/17000000.gpu",
    "sys/class/devfreq/17000000.ga10b",
];

/// Describes the machine whose root directory is `root`.
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

    let (mut profile, power_mode, gpu_now) = match board(root)? {
        Some(mut profile) => {
            let (name, gpu_now) = apply_power_mode(root, &mut profile, &mut notes);
            apply_release(&mut profile, release, &mut notes);
            (profile, name, gpu_now)
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
            (host(&name, cpu_count, total, &mut notes), None, None)
        }
    };
    apply_memory(&mut profile, memory, &mut notes);
    profile.pitfalls.extend(notes.0.iter().cloned());
    Ok(DetectedDevice {
        profile,
        model,
        l4t: release,
        memory,
        power_mode,
        gpu_now,
        cpu_count,
        notes: notes.0,
    })
}

/// What could not be read, in the order it was tried.
#[derive(Default)]
struct Notes(Vec<Pitfall>);

impl Notes {
    fn add(&mut self, code: &str, text: impl Into<String>) {
        self.0.push(Pitfall {
            code: code.to_owned(),
            text: text.into(),
            source: "this machine".to_owned(),
        });
    }
}

/// The shipped board whose module number stands in the device tree's `compatible`.
fn board(root: &Path) -> Result<Option<DeviceProfile>, DeviceError> {
    let compatible = probe::property(root, "proc/device-tree/compatible");
    let names = |board: &DeviceProfile| {
        board
            .compatible
            .iter()
            .any(|id| compatible.iter().any(|entry| entry.contains(id.as_str())))
    };
    Ok(list()?.into_iter().find(names))
}

fn read_memory(root: &Path) -> MemoryNow {
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

/// Puts the machine's memory in the profile's place: the system holds what is not available now.
fn apply_memory(profile: &mut DeviceProfile, memory: MemoryNow, notes: &mut Notes) {
    let Some(total) = memory.total else {
        notes.add(
            "memory_unread",
            "proc/meminfo gives no MemTotal; the board's published memory stands",
        );
        return;
    };
    profile.total_memory = Sourced::measured(total, "MemTotal of this machine");
    let (available, field) = match (memory.available, memory.free) {
        (Some(available), _) => (available, "MemAvailable"),
        (None, Some(free)) => {
            notes.add(
                "memory_free_only",
                "proc/meminfo gives no MemAvailable; MemFree stands for it and may be too low",
            );
            (free, "MemFree")
        }
        (None, None) => {
            notes.add("memory_unread", "proc/meminfo gives neither MemAvailable nor MemFree; the expected system memory stands");
            return;
        }
    };
    // Whatever runs now, with or without a desktop, is already counted.
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

/// Keeps the allocation limit of the release at hand, which then needs no release to be looked up.
fn apply_release(profile: &mut DeviceProfile, release: Option<L4tRelease>, notes: &mut Notes) {
    let Some(release) = release else {
        notes.add(
            "release_unread",
            "etc/nv_tegra_release is missing or unreadable; limits of current releases are assumed",
        );
        return;
    };
    profile
        .allocation_limits
        .retain(|limit| limit.holds(release));
    for limit in &mut profile.allocation_limits {
        limit.until = None;
    }
}

/// Finds the mode in force and makes it the profile's default, with this machine's caps. Returns
/// nvpmodel's name for it and the GPU's present clock.
fn apply_power_mode(
    root: &Path,
    profile: &mut DeviceProfile,
    notes: &mut Notes,
) -> (Option<String>, Option<Hertz>) {
    let conf = probe::text(root, CONF)
        .map(|text| nvpmodel::modes(&text))
        .unwrap_or_default();
    let id = probe::text(root, STATUS).and_then(|text| nvpmodel::mode_in_force(&text));
    // Ids differ between modules and releases: only the configuration's name for the id counts.
    let in_force = id.and_then(|id| conf.into_iter().find(|mode| mode.id == id));
    let mut mode = match &in_force {
        Some(conf) => capped(conf, profile, notes),
        None => {
            let assumed = &profile.default_mode.name;
            notes.add("power_mode_unread", format!("{CONF} and {STATUS} do not tell the power mode; {assumed} is assumed, or name one with --power-mode"));
            profile.default_mode.clone()
        }
    };
    let clock = |file: &str| {
        let found = GPU_NODES
            .iter()
            .find_map(|node| probe::text(root, &format!("{node}/{file}")));
        found.and_then(|text| nvpmodel::plausible_clock(text.trim().parse().ok()?))
    };
    if let Some(max) = clock("max_freq") {
        let stated = mode.gpu.as_ref().map_or(max.0, |stated| stated.value.0);
        if (max.0 / stated - 1.0).abs() > 0.03 {
            let (max, stated) = (max.show(), Hertz(stated).show());
            notes.add(
                "gpu_clock_differs",
                format!(
                    "the GPU may run at {max} where its power mode says {stated}; {max} is used"
                ),
            );
        }
        set_gpu(
            &mut mode,
            max,
            "max_freq of the GPU's devfreq node on this machine",
        );
    }
    let emc_cap =
        probe::text(root, EMC_CAP).and_then(|text| nvpmodel::cap(text.trim().parse().ok()?, 1.0));
    let emc_max = profile
        .modes
        .iter()
        .filter_map(|mode| Some(mode.emc.as_ref()?.value.0))
        .fold(0.0, f64::max);
    // A cap above what the memory can do caps nothing.
    if let Some(cap) = emc_cap.filter(|cap| cap.0 < emc_max * 1.01) {
        set_emc(
            &mut mode,
            cap,
            profile.bus_bits.as_ref(),
            "emc_iso_cap of this machine",
        );
    }
    mode.fill_peaks(profile.gpu.as_ref());
    match profile
        .modes
        .iter_mut()
        .find(|known| known.name == mode.name)
    {
        Some(known) => *known = mode.clone(),
        None => profile.modes.push(mode.clone()),
    }
    profile.default_mode = mode;
    (
        in_force.map(|conf| probe::printable(&conf.name)),
        clock("cur_freq"),
    )
}

/// The profile's mode of that name with the configuration's caps. A mode the profile does not know
/// starts from the board's fastest, since nvpmodel caps what would run free.
fn capped(conf: &ConfMode, profile: &DeviceProfile, notes: &mut Notes) -> PowerMode {
    let known = profile.find_mode(&conf.name);
    let name = probe::printable(&conf.name);
    let mut mode = known
        .or(profile.modes.last())
        .unwrap_or(&profile.default_mode)
        .clone();
    if known.is_none() {
        notes.add(
            "power_mode_unknown",
            format!("the profile knows no mode `{name}`; its caps are read from {CONF}"),
        );
        mode.name = name;
        mode.nvpmodel.clear();
        mode.watts = None;
    }
    let source = format!("{CONF} of this machine");
    if let Some(gpu) = conf.gpu {
        set_gpu(&mut mode, gpu, &source);
    }
    if let Some(cpu) = conf.cpu {
        mode.cpu = Some(Sourced::measured(cpu, &source));
    }
    if let Some(emc) = conf.emc {
        set_emc(&mut mode, emc, profile.bus_bits.as_ref(), &source);
    }
    if let (Some(on), Some(gpu)) = (conf.sm_count, &profile.gpu)
        && mode.sm_count.as_ref().is_none_or(|sms| sms.value != on)
        && on <= gpu.sm_count.value
    {
        mode.sm_count = Some(Sourced::measured(on, &source));
        forget_peaks(&mut mode);
    }
    mode
}

/// Sets the GPU's clock. Within a hundredth of the profile's it says nothing new.
fn set_gpu(mode: &mut PowerMode, clock: Hertz, source: &str) {
    if mode
        .gpu
        .as_ref()
        .is_none_or(|stated| (stated.value.0 / clock.0 - 1.0).abs() > 0.01)
    {
        forget_peaks(mode);
    }
    mode.gpu = Some(Sourced::measured(clock, source));
}

/// Sets the memory clock, and the bandwidth that follows where it is another clock than the profile's.
fn set_emc(mode: &mut PowerMode, emc: Hertz, bus_bits: Option<&Sourced<u64>>, source: &str) {
    let same = mode
        .emc
        .as_ref()
        .is_some_and(|stated| (stated.value.0 / emc.0 - 1.0).abs() < 0.01);
    if let (false, Some(bus)) = (same, bus_bits) {
        mode.bandwidth = Some(Sourced::derived(
            ddr_bandwidth(emc, bus.value),
            format!("{source}: emc x bus_bits x 2 / 8"),
        ));
    }
    mode.emc = Some(Sourced::measured(emc, source));
}

/// Published peaks hold for the published clock and SMs only.
fn forget_peaks(mode: &mut PowerMode) {
    (mode.fp16, mode.int8_sparse, mode.fp32) = (None, None, None);
}

/// A machine without a profile: its memory, and nothing about its speed until that is measured.
fn host(name: &str, cpu_count: usize, total: Bytes, notes: &mut Notes) -> DeviceProfile {
    notes.add("bandwidth_unknown", "the memory bandwidth of this machine is unknown, so speed is too; measure it with `orinplan calibrate`");
    let none = Sourced::derived(Bytes(0), "nothing is known to be held");
    let held = Estimate {
        low: none.clone(),
        expected: none.clone(),
        high: none,
    };
    let mode = PowerMode {
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
        name: format!("this machine ({name}, {cpu_count} logical CPUs)"),
        compatible: Vec::new(),
        total_memory: Sourced::measured(total, "MemTotal of this machine"),
        system_headless: held.clone(),
        system_desktop: held,
        bus_bits: None,
        gpu: None,
        modes: vec![mode.clone()],
        default_mode: mode,
        allocation_limits: Vec::new(),
        pitfalls: Vec::new(),
    }
}
