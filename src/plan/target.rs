//! What a model is planned against, and what follows from it for every plan: the memory that a model may use, the
//! GPU at the clock of the power mode, the processors that were measured.

use std::borrow::Cow;

use crate::device::{AllocationLimit, Clocks, Cpu, DeviceProfile, L4tRelease, PowerMode};
use crate::plan::speed::ClockedGpu;
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::runtime::profile::{ComputeBackend, Conditions, Speed};
use crate::units::Bytes;

/// What a model is planned against.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The board.
    pub device: &'a DeviceProfile,
    /// Its power mode.
    pub mode: &'a PowerMode,
    /// Its L4T release, if known: it decides how large one allocation may be.
    pub release: Option<L4tRelease>,
    /// Whether its clocks are locked, if known.
    pub clocks: Option<Clocks>,
    /// The runtime.
    pub runtime: &'a RuntimeProfile,
}

impl<'a> Target<'a> {
    /// The limits for one GPU allocation by release of the system; none where the runtime computes on the processors.
    pub(super) fn allocation_limits(self) -> &'a [AllocationLimit] {
        match self.runtime.backend {
            ComputeBackend::Cpu => &[],
            ComputeBackend::Cuda => &self.device.allocation_limits,
        }
    }

    /// The one of the board's release or, where that is not known, of current ones.
    pub(super) fn allocation_limit(self) -> Option<&'a AllocationLimit> {
        let limits = self.allocation_limits();
        (!limits.is_empty()).then(|| self.device.largest_allocation(self.release))?
    }

    /// The runtime's speed with the workload's way to launch kernels, under the board's conditions.
    pub(super) fn speed(self, workload: &Workload) -> Cow<'a, Speed> {
        let (clocks, release) = (self.clocks, self.release);
        match self.runtime.speed.launching(workload.cuda_graphs) {
            speed if self.conditions().is_none() => speed,
            Cow::Borrowed(speed) => speed.under(clocks, release),
            Cow::Owned(speed) => Cow::Owned(speed.under(clocks, release).into_owned()),
        }
    }

    /// What the board's clocks and its system change: measured where a GPU computes.
    pub fn conditions(self) -> Option<&'a Conditions> {
        let of_runtime = self.runtime.speed.conditions.as_ref();
        of_runtime.filter(|_| self.runtime.backend == ComputeBackend::Cuda)
    }
}

/// Memory the model may use: the budget or what the board has left, minus the reserve.
pub fn available(device: &DeviceProfile, workload: &Workload) -> Bytes {
    let pool = workload
        .budget
        .unwrap_or_else(|| device.available(workload.session));
    pool.saturating_sub(workload.reserve)
}

/// The GPU as a power mode runs it, if its clock, its SMs and its bandwidth are known.
pub fn gpu(mode: &PowerMode) -> Option<ClockedGpu> {
    let sms = u32::try_from(mode.sm_count.as_ref()?.value).ok()?;
    Some(ClockedGpu::sm87(
        sms,
        mode.gpu.as_ref()?.value,
        mode.bandwidth.as_ref()?.value,
    ))
}

/// The measured processors, where the runtime uses them: on a machine without a GPU, or if they were
/// measured with this very runtime.
pub(super) fn measured_cpu(target: Target<'_>) -> Option<&Cpu> {
    let cpu = target.device.cpu.as_ref()?;
    (gpu(target.mode).is_none() || cpu.runtime == target.runtime.id).then_some(cpu)
}
