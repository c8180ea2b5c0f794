//! Finds the power mode in force on a Jetson, with the caps of this machine.
//!
//! In: a root directory and the board's profile. Out: the profile with that mode as its default. The kernel's limits count
//! before those of nvpmodel's configuration, and these before the profile's.

use std::path::Path;

use super::clocks::Clocks;
use super::nvpmodel::{self, ConfMode};
use super::probe::{self, Notes};
use super::profile::{DeviceProfile, PowerMode, ddr_bandwidth};
use super::quantity::Quantity;
use crate::sourced::Sourced;
use crate::units::Hertz;

const CONF: &str = "etc/nvpmodel.conf";
const STATUS: &str = "var/lib/nvpmodel/status";
const EMC_CAP: &str = "sys/kernel/nvpmodel_emc_cap/emc_iso_cap";
/// JetPack 6 names the device `.gpu`, JetPack 5 `.ga10b`.
pub(super) const GPU_NODES: [&str; 2] = [
    "sys/class/devfreq/17000000.gpu",
    "sys/class/devfreq/17000000.ga10b",
];

/// What a machine says of its power mode.
pub(super) struct InForce {
    /// nvpmodel's name for it.
    pub(super) name: Option<String>,
    /// The current clock of the GPU.
    pub(super) gpu_now: Option<Hertz>,
    /// The GPU's limit, and that of its mode, where the first is lower.
    pub(super) gpu_held_below: Option<[Hertz; 2]>,
}

/// Finds the mode in force and makes it the profile's default, with this machine's caps. `is_super` says that the device tree
/// is that of a Super board.
pub(super) fn apply(
    root: &Path,
    is_super: bool,
    profile: &mut DeviceProfile,
    notes: &mut Notes,
) -> InForce {
    let text = probe::text(root, CONF).unwrap_or_default();
    let conf = nvpmodel::modes(&text);
    keep_configured(&conf, is_super, profile);
    let first = nvpmodel::first_mode(&text);
    let first = first.and_then(|id| conf.iter().find(|mode| mode.id == id));
    if let Some(mode) = first.and_then(|conf| profile.find_mode(&conf.name)) {
        profile.default_mode = mode.clone();
    }
    let id = probe::text(root, STATUS).and_then(|text| nvpmodel::mode_in_force(&text));
    // Ids differ between modules and releases: only the configuration's name for the id counts.
    let in_force = id.and_then(|id| conf.into_iter().find(|mode| mode.id == id));
    let mut mode = match &in_force {
        Some(conf) => capped(conf, profile, notes),
        None => {
            let assumed = &profile.default_mode.name;
            notes.add("power_mode_unread", format!("{CONF} and {STATUS} do not state the power mode; {assumed} is assumed; name another with --power-mode"));
            profile.default_mode.clone()
        }
    };
    let clock = |file: &str| {
        let found = GPU_NODES
            .iter()
            .find_map(|node| probe::text(root, &format!("{node}/{file}")));
        found.and_then(|text| nvpmodel::plausible_clock(text.trim().parse().ok()?))
    };
    let mut gpu_held_below = None;
    if let Some(max) = clock("max_freq") {
        let stated = mode.gpu.as_ref().map_or(max, |stated| stated.value);
        if (max.0 / stated.0 - 1.0).abs() > 0.03 {
            // A mode that was assumed is not one that the clock is held below.
            gpu_held_below = Some([max, stated]).filter(|_| in_force.is_some() && max.0 < stated.0);
            let (max, stated) = (max.show(), stated.show());
            notes.add(
                "gpu_clock_differs",
                format!(
                    "the GPU may run at {max}, but its power mode says {stated}; {max} is used"
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
    // A cap above the highest memory clock has no effect.
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
    InForce {
        name: in_force.map(|conf| probe::printable(&conf.name)),
        gpu_now: clock("cur_freq"),
        gpu_held_below,
    }
}

/// Whether the GPU's clock is locked: `jetson_clocks` raises the lowest that it may have to the highest.
pub(super) fn clocks(root: &Path) -> Option<Clocks> {
    let limit = |file: &str| {
        let read = |node| probe::text(root, &format!("{node}/{file}"));
        let text = GPU_NODES.iter().find_map(read)?;
        nvpmodel::plausible_clock(text.trim().parse().ok()?)
    };
    let (lowest, highest) = (limit("min_freq")?, limit("max_freq")?);
    Some(if lowest.0 < highest.0 {
        Clocks::Governed
    } else {
        Clocks::Locked
    })
}

/// Removes the Super modes from a board whose nvpmodel configuration has none of them or, where that cannot be read, whose
/// device tree is not that of a Super board.
fn keep_configured(conf: &[ConfMode], is_super: bool, profile: &mut DeviceProfile) {
    let Some(original) = &profile.original else {
        return;
    };
    let is_added = |mode: &PowerMode| !original.modes.contains(&mode.name);
    let added: Vec<&PowerMode> = profile.modes.iter().filter(|mode| is_added(mode)).collect();
    let has_added = conf
        .iter()
        .any(|conf| added.iter().any(|mode| mode.is_called(&conf.name)));
    let known = conf
        .iter()
        .any(|conf| profile.find_mode(&conf.name).is_some());
    if has_added || (!known && is_super) {
        return;
    }
    let original = original.clone();
    profile.name = original.name;
    profile
        .modes
        .retain(|mode| original.modes.contains(&mode.name));
    if let Some(mode) = profile.find_mode(&original.default_mode) {
        profile.default_mode = mode.clone();
    }
}

/// The profile's mode of that name with the caps of the configuration. A mode that the profile does not have is derived
/// from the board's fastest one.
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

/// Sets the GPU's clock. Published peaks are kept if it is within 1 % of the profile's.
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

/// Sets the memory clock, and the bandwidth that follows from it where it differs from the profile's clock.
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

/// Removes the peaks that were published for another clock or number of SMs.
fn forget_peaks(mode: &mut PowerMode) {
    (mode.fp16, mode.int8_sparse, mode.fp32) = (None, None, None);
}
