//! Adds the calibration of its processors to a machine's profile.

use super::cpu::Cpu;
use super::profile::{BANDWIDTH_UNKNOWN, DeviceProfile, Pitfall};
use crate::sourced::Sourced;
use crate::units::{BytesPerSecond, counted};

impl DeviceProfile {
    /// The profile with the calibration `cpu`. A calibration of another machine, or of other processors, is ignored with a
    /// note.
    pub fn calibrated(mut self, cpu: Cpu) -> DeviceProfile {
        if cpu.processor != self.name {
            self.pitfalls.push(Pitfall {
                code: "calibration_of_another_machine".to_owned(),
                text: format!(
                    "the calibration of {} is of `{}`, and this is `{}`: run `orinplan calibrate` here",
                    cpu.date, cpu.processor, self.name
                ),
                source: "this machine".to_owned(),
            });
            return self;
        }
        if self.gpu.is_none() {
            let source = format!(
                "orinplan calibrate, {}, orinplan {}, {}",
                cpu.date,
                cpu.version,
                counted(cpu.threads, "thread", "threads")
            );
            let rate = BytesPerSecond(cpu.bandwidth_bytes_per_second);
            let bandwidth = Some(Sourced::measured(rate, source));
            self.default_mode.bandwidth.clone_from(&bandwidth);
            for mode in &mut self.modes {
                mode.bandwidth.clone_from(&bandwidth);
            }
            self.pitfalls
                .retain(|pitfall| pitfall.code != BANDWIDTH_UNKNOWN);
        }
        self.cpu = Some(cpu);
        self
    }
}
