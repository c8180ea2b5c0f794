//! The profile of a device: its memory, what the system takes of it, and the clocks and bandwidth of each power mode. Valid
//! by existence: profiles come from `file` or `detect`, which check them.

use super::clocks::Clocks;
use super::cpu::Cpu;
use super::error::DeviceError;
use super::l4t::L4tRelease;
use super::quantity::{OpsPerSecond, Watts};
use crate::sourced::Sourced;
use crate::units::{Bytes, BytesPerSecond, Hertz};

/// The code of the note that the machine's memory bandwidth is not known.
pub(super) const BANDWIDTH_UNKNOWN: &str = "bandwidth_unknown";

/// A device: a shipped board, a user's file, or this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceProfile {
    /// The id that `--device` takes.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Module numbers in the device tree's `compatible`, such as `p3767-0003`.
    pub compatible: Vec<String>,
    /// The memory that CPU and GPU share, as CUDA and the kernel report it (less than is installed).
    pub total_memory: Sourced<Bytes>,
    /// The memory that an idle system without a desktop takes.
    pub system_headless: Estimate<Sourced<Bytes>>,
    /// The same with a desktop session.
    pub system_desktop: Estimate<Sourced<Bytes>>,
    /// The smallest allocation that was seen to fail beside a desktop for want of memory in one piece.
    pub fragmented: Option<Sourced<Bytes>>,
    /// Width of the memory bus in bits.
    pub bus_bits: Option<Sourced<u64>>,
    /// The GPU; `None` on a machine planned for its CPU.
    pub gpu: Option<Gpu>,
    /// The calibration of its processors; only of the machine at hand.
    pub cpu: Option<Cpu>,
    /// Every power mode, slowest first. Never empty.
    pub modes: Vec<PowerMode>,
    /// The mode that holds when none is asked for: one of `modes`, or the one in force here.
    pub default_mode: PowerMode,
    /// The board as it was before Super modes were added, if they were.
    pub original: Option<Original>,
    /// What only the machine itself reports; `None` where the board is not the machine at hand.
    pub at_hand: Option<AtHand>,
    /// Largest single GPU allocations by system release.
    pub allocation_limits: Vec<AllocationLimit>,
    /// Known problems of this device.
    pub pitfalls: Vec<Pitfall>,
}

/// The configuration that a board was first sold with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// The name for people.
    pub name: String,
    /// The mode after its first boot.
    pub default_mode: String,
    /// All its modes.
    pub modes: Vec<String>,
}

/// What a machine reports in addition to its board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtHand {
    /// The L4T release of a Jetson.
    pub release: Option<L4tRelease>,
    /// Whether its clocks are locked.
    pub clocks: Option<Clocks>,
    /// Whether the default mode is the one in force, not one assumed.
    pub mode_is_read: bool,
    /// The memory that is available on such a board when it is idle and headless. What is available now is
    /// [`DeviceProfile::available`].
    pub idle: Option<Bytes>,
    /// The memory that nothing uses now, not even as a page cache: what one allocation of the GPU can be made of.
    pub free: Option<Bytes>,
}

/// A number that sources disagree on.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate<T> {
    /// The lowest value seen.
    pub low: T,
    /// The value that plans use.
    pub expected: T,
    /// The highest value seen.
    pub high: T,
}

/// Whether a graphical session runs beside the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// No graphical session.
    #[default]
    Headless,
    /// The desktop that the image ships with.
    Desktop,
}

/// The GPU's fixed properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// CUDA compute capability, `8.7`.
    pub compute_capability: Sourced<String>,
    /// Streaming multiprocessors of the module; a mode may switch some off.
    pub sm_count: Sourced<u64>,
    /// CUDA cores of the module.
    pub cuda_cores: Sourced<u64>,
    /// Tensor cores of the module.
    pub tensor_cores: Sourced<u64>,
    /// Dense FP16 tensor operations of one SM in one clock.
    pub fp16_per_sm_clock: Sourced<u64>,
    /// Sparse (2:4) INT8 tensor operations of one SM in one clock.
    pub int8_sparse_per_sm_clock: Sourced<u64>,
    /// FP32 operations of one SM's CUDA cores in one clock.
    pub fp32_per_sm_clock: Sourced<u64>,
}

/// One power mode. A field is `None` where no source gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerMode {
    /// The short name, `15W`.
    pub name: String,
    /// The names under which nvpmodel knows it; empty where they equal `name`.
    pub nvpmodel: Vec<String>,
    /// The power budget; none for an uncapped mode.
    pub watts: Option<Sourced<Watts>>,
    /// The first L4T release with it, where not every release has it.
    pub since: Option<L4tRelease>,
    /// Highest CPU clock.
    pub cpu: Option<Sourced<Hertz>>,
    /// Highest GPU clock.
    pub gpu: Option<Sourced<Hertz>>,
    /// Highest clock of the memory controller (EMC).
    pub emc: Option<Sourced<Hertz>>,
    /// Bandwidth of the memory at that clock.
    pub bandwidth: Option<Sourced<BytesPerSecond>>,
    /// Streaming multiprocessors that are switched on.
    pub sm_count: Option<Sourced<u64>>,
    /// Peak of dense FP16 tensor arithmetic.
    pub fp16: Option<Sourced<OpsPerSecond>>,
    /// Peak of sparse (2:4) INT8 tensor arithmetic.
    pub int8_sparse: Option<Sourced<OpsPerSecond>>,
    /// Peak of FP32 arithmetic.
    pub fp32: Option<Sourced<OpsPerSecond>>,
}

/// What the driver of some system releases grants in a single GPU allocation. Boards were seen to differ: `refused` is at
/// most `largest`, and `granted` at least.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocationLimit {
    /// First release it holds for.
    pub from: L4tRelease,
    /// First release it no longer holds for; `None` while it still does.
    pub until: Option<L4tRelease>,
    /// The largest size that a plan counts on.
    pub largest: Sourced<Bytes>,
    /// The smallest size that some board was refused, if any up to `largest` was.
    pub refused: Option<Sourced<Bytes>>,
    /// The largest size that some board was granted, if any above `largest` was.
    pub granted: Option<Sourced<Bytes>>,
}

/// A known problem of a device, and what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pitfall {
    /// A stable name for scripts.
    pub code: String,
    /// What happens and the way out.
    pub text: String,
    /// Where it is reported.
    pub source: String,
}

impl DeviceProfile {
    /// Memory left for the model, its cache and its runtime: the total minus what the system is
    /// expected to hold.
    pub fn available(&self, session: Session) -> Bytes {
        self.total_memory
            .value
            .saturating_sub(self.system(session).expected.value)
    }

    /// The memory that the system takes in that session.
    pub fn system(&self, session: Session) -> &Estimate<Sourced<Bytes>> {
        match session {
            Session::Headless => &self.system_headless,
            Session::Desktop => &self.system_desktop,
        }
    }

    /// The mode of that name, in any case, by its own or nvpmodel's name.
    ///
    /// # Errors
    /// [`DeviceError::UnknownMode`] with the names there are.
    pub fn mode(&self, name: &str) -> Result<&PowerMode, DeviceError> {
        self.find_mode(name).ok_or_else(|| self.unknown_mode(name))
    }

    fn unknown_mode(&self, mode: &str) -> DeviceError {
        let known: Vec<_> = self.modes.iter().map(|m| m.name.as_str()).collect();
        DeviceError::UnknownMode {
            device: self.id.clone(),
            mode: mode.to_owned(),
            hint: crate::nearest::hint(mode, known.iter().copied()),
            known: known.join(", "),
        }
    }

    pub(super) fn find_mode(&self, name: &str) -> Option<&PowerMode> {
        self.modes.iter().find(|mode| mode.is_called(name))
    }

    /// The L4T release of the machine at hand, where it reports one.
    pub fn release(&self) -> Option<L4tRelease> {
        self.at_hand.as_ref()?.release
    }

    /// Whether the clocks of the machine at hand are locked, where it says so.
    pub fn clocks(&self) -> Option<Clocks> {
        self.at_hand.as_ref()?.clocks
    }

    /// The limit for one GPU allocation under `release`, else under that of the machine at hand, else
    /// under current releases. `None` where no source names one.
    pub fn largest_allocation(&self, release: Option<L4tRelease>) -> Option<&AllocationLimit> {
        let mut limits = self.allocation_limits.iter();
        match release.or(self.release()) {
            Some(release) => limits.find(|limit| limit.holds(release)),
            None => limits.find(|limit| limit.until.is_none()),
        }
    }
}

impl AllocationLimit {
    /// Whether the limit holds for `release`.
    pub fn holds(&self, release: L4tRelease) -> bool {
        self.from <= release && self.until.is_none_or(|until| release < until)
    }
}

/// Mode names without case, separators and nvpmodel's `MODE_`.
fn plain(name: &str) -> String {
    let lower = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    lower
        .strip_prefix("mode_")
        .map(str::to_owned)
        .unwrap_or(lower)
}

impl PowerMode {
    /// Whether `name` is this mode's name or one of nvpmodel's names for it, in any case and
    /// with or without nvpmodel's prefix `MODE_`.
    pub fn is_called(&self, name: &str) -> bool {
        let wanted = plain(name);
        std::iter::once(&self.name)
            .chain(&self.nvpmodel)
            .any(|own| plain(own) == wanted)
    }

    /// FP16 operations per byte at which arithmetic and memory take equally long: peak / bandwidth.
    pub fn ridge_fp16(&self) -> Option<f64> {
        ridge(self.fp16.as_ref(), self.bandwidth.as_ref())
    }

    /// Sparse INT8 operations per byte at which arithmetic and memory take equally long.
    pub fn ridge_int8(&self) -> Option<f64> {
        ridge(self.int8_sparse.as_ref(), self.bandwidth.as_ref())
    }

    /// Fills peaks that the profile does not state: SMs x clock x operations of an SM in a clock.
    pub(super) fn fill_peaks(&mut self, gpu: Option<&Gpu>) {
        let (Some(gpu), Some(clock), Some(sms)) = (gpu, &self.gpu, &self.sm_count) else {
            return;
        };
        let per_clock = sms.value as f64 * clock.value.0;
        let peak = |per_sm: &Sourced<u64>, field: &str| {
            let value = OpsPerSecond(per_clock * per_sm.value as f64);
            Some(Sourced::derived(
                value,
                format!("sm_count x gpu clock x {field}"),
            ))
        };
        if self.fp16.is_none() {
            self.fp16 = peak(&gpu.fp16_per_sm_clock, "fp16_per_sm_clock");
        }
        if self.int8_sparse.is_none() {
            self.int8_sparse = peak(&gpu.int8_sparse_per_sm_clock, "int8_sparse_per_sm_clock");
        }
        if self.fp32.is_none() {
            self.fp32 = peak(&gpu.fp32_per_sm_clock, "fp32_per_sm_clock");
        }
    }
}

fn ridge(
    ops: Option<&Sourced<OpsPerSecond>>,
    rate: Option<&Sourced<BytesPerSecond>>,
) -> Option<f64> {
    Some(ops?.value.0 / rate?.value.0)
}

/// Bandwidth of a double-data-rate memory: clock x bus bits x 2 transfers / 8 bits.
pub(super) fn ddr_bandwidth(emc: Hertz, bus_bits: u64) -> BytesPerSecond {
    BytesPerSecond(emc.0 * bus_bits as f64 * 2.0 / 8.0)
}
