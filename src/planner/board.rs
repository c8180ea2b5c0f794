//! Where a model runs: a board in a power mode, and a runtime, found by what a request names.

use super::error::PlanError;
use super::request::BoardRequest;
use super::settings;
use crate::device::{self, Choice, DeviceProfile, L4tRelease, PowerMode};
use crate::plan::fit::Target;
use crate::runtime::{self, RuntimeProfile};

/// A board in a power mode, and a runtime on it.
#[derive(Clone, Debug)]
pub struct Board {
    /// The board; this machine with its calibration, if it has one.
    pub device: DeviceProfile,
    /// How it came to be chosen.
    pub choice: Choice,
    /// Its power mode.
    pub mode: PowerMode,
    /// Its L4T release, if known.
    pub release: Option<L4tRelease>,
    /// The runtime, with what runs on the board have taught.
    pub runtime: RuntimeProfile,
    /// What was wrong with a settings file and did not count: one sentence each.
    pub warnings: Vec<String>,
}

/// A board alone.
#[derive(Clone, Debug)]
pub struct FoundDevice {
    /// The board; this machine with its calibration, if it has one.
    pub device: DeviceProfile,
    /// How it came to be chosen.
    pub choice: Choice,
    /// What was wrong with the calibration, which then does not count.
    pub warnings: Vec<String>,
}

impl Board {
    /// What `request` names or, where it does not, stands for. A settings file that cannot be read does not
    /// count: the warnings say so.
    ///
    /// # Errors
    /// [`PlanError`] where there is no such board, power mode or runtime, and where a version is given of a runtime
    /// that is started in one way.
    pub fn open(request: &BoardRequest) -> Result<Board, PlanError> {
        let FoundDevice {
            mut device,
            choice,
            mut warnings,
        } = Board::device(request)?;
        let mut mode = match &request.power_mode {
            Some(name) => device.mode(name)?.clone(),
            None => device.default_mode.clone(),
        };
        let id = match &request.runtime {
            Some(id) => id,
            None if device.gpu.is_none() => "llama.cpp-cpu",
            None => "llama.cpp",
        };
        let runtime = runtime::find(id)?;
        let version = request.runtime_version;
        if let Some(version) = version.filter(|_| !runtime.lines.depend_on_version()) {
            return Err(PlanError::OneVersion {
                version,
                runtime: runtime.name,
            });
        }
        let folder = request.settings.as_ref();
        let runs = folder.map(|folder| settings::runs_or_none(folder, &mut warnings));
        let learned = runs.and_then(|runs| runs.learned(&runtime.id, &device.id, &mode.name));
        let runtime = runtime.refined(learned);
        for change in &request.what_if {
            change.apply(&mut device, &mut mode);
        }
        if !request.what_if.is_empty() {
            let changes: Vec<String> = request.what_if.iter().map(|c| c.text()).collect();
            mode.name = format!("{} with {}", mode.name, changes.join(" and "));
        }
        Ok(Board {
            release: request.release.or(device.release()),
            device,
            choice,
            mode,
            runtime,
            warnings,
        })
    }

    /// The board alone.
    ///
    /// # Errors
    /// [`PlanError::Device`].
    pub fn device(request: &BoardRequest) -> Result<FoundDevice, PlanError> {
        let (device, choice) = device::choose(request.device.as_deref(), &request.root)?;
        let is_here = choice == Choice::ThisMachine;
        let folder = request.settings.as_ref().filter(|_| is_here);
        let mut warnings = Vec::new();
        let calibration =
            folder.and_then(|folder| settings::calibration_or_none(folder, &mut warnings));
        Ok(FoundDevice {
            device: match calibration {
                Some(cpu) => device.calibrated(cpu),
                None => device,
            },
            choice,
            warnings,
        })
    }

    /// What to plan against.
    pub fn target(&self) -> Target<'_> {
        Target {
            device: &self.device,
            mode: &self.mode,
            release: self.release,
            runtime: &self.runtime,
        }
    }
}
