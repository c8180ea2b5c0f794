//! The GPU of the speed model: SMs, clock, bandwidth, peaks. Must not: know how much of these a runtime reaches.

use super::finite::ratio;
use super::operation::Operation;
use crate::units::{BytesPerSecond, Hertz};

/// The GPU as one power mode runs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockedGpu {
    /// Streaming multiprocessors that are switched on.
    pub sm_count: u32,
    /// Their clock.
    pub clock: Hertz,
    /// Peak memory bandwidth at the mode's memory clock.
    pub bandwidth: BytesPerSecond,
    /// Dense FP16 multiply-accumulates of an SM in a cycle.
    pub fp16_macs: f64,
    /// Dense INT8 multiply-accumulates of an SM in a cycle.
    pub int8_macs: f64,
}

impl ClockedGpu {
    /// A GPU of compute capability 8.7. Orin Nano 8GB: 8 SMs at 625 MHz give 10 FP16 TFLOPS and 20 dense
    /// INT8 TOPS (data sheet), which is 1024 and 2048 multiply-accumulates an SM and cycle.
    pub fn sm87(sm_count: u32, clock: Hertz, bandwidth: BytesPerSecond) -> ClockedGpu {
        ClockedGpu {
            sm_count,
            clock,
            bandwidth,
            fp16_macs: 1024.0,
            int8_macs: 2048.0,
        }
    }

    /// Seconds of `sm_cycles`, spread over all SMs.
    pub(super) fn seconds(&self, sm_cycles: f64) -> f64 {
        ratio(sm_cycles, f64::from(self.sm_count) * self.clock.0)
    }

    /// Seconds that the tensor cores need for `macs` of this operation at their peak.
    pub(super) fn peak_seconds(&self, operation: &Operation, macs: f64) -> f64 {
        let peak = if operation.is_integer() {
            self.int8_macs
        } else {
            self.fp16_macs
        };
        self.seconds(ratio(macs, peak))
    }
}
