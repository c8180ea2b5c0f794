//! Whether the GPU of a machine is as its power mode has it, with nothing else on it: what is measured otherwise holds for
//! no plan.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::device::{self, DetectedDevice, Quantity as _};

/// The share of its time that the GPU may be busy before anything is measured: an idle desktop takes some percent of it.
const BUSY: f64 = 0.1;

/// How often its load is read, and the time in between: a reading is of a fraction of a second.
const READINGS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// Why the GPU of this machine is not to be measured now, with the way out. What the machine does not say is no reason.
pub(super) fn obstacle(root: &Path, machine: &DetectedDevice) -> Option<String> {
    let mode = machine.power_mode.as_deref().unwrap_or_default();
    if let Some([limit, stated]) = machine.gpu_held_below {
        return Some(format!(
            "its clock is held at {} at most, where {mode} has {}: restart the board, which sets the mode again, or measure the processors alone with --only cpu",
            limit.show(),
            stated.show()
        ));
    }
    if let Some(cooling) = device::activity(root).cooling {
        return Some(format!(
            "the board throttles ({cooling} is active): let it cool, or measure the processors alone with --only cpu"
        ));
    }
    let load = load(root)?;
    (load > BUSY).then(|| {
        format!(
            "other programs keep it {:.0} % busy: end them, or measure the processors alone with --only cpu",
            load * 100.0
        )
    })
}

/// How busy the GPU is over a second; `None` where the machine does not say.
fn load(root: &Path) -> Option<f64> {
    let mut sum = device::gpu_load(root)?;
    let mut count = 1.0;
    for _ in 1..READINGS {
        thread::sleep(BETWEEN);
        if let Some(load) = device::gpu_load(root) {
            sum += load;
            count += 1.0;
        }
    }
    Some(sum / count)
}
