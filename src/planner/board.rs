//! Finds what a request names: a board in a power mode, and a runtime.

use super::error::PlanError;
use super::request::BoardRequest;
use super::settings;
use crate::device::{self, Choice, Clocks, DeviceProfile, L4tRelease, PowerMode};
use crate::plan::fit::Target;
use crate::runtime::learned::{CALIBRATED, OtherModes};
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
    /// Whether its clocks are locked, if known.
    pub clocks: Option<Clocks>,
    /// The runtime, with the corrections that were learned from runs on the board.
    pub runtime: RuntimeProfile,
    /// Why a settings file, or a part of it, is ignored: one sentence each.
    pub warnings: Vec<String>,
}

/// A device without a runtime.
#[derive(Clone, Debug)]
pub struct FoundDevice {
    /// The board; this machine with its calibration, if it has one.
    pub device: DeviceProfile,
    /// How it came to be chosen.
    pub choice: Choice,
    /// Why the calibration is ignored, if it is.
    pub warnings: Vec<String>,
}

impl Board {
    /// The board, power mode and runtime that `request` names, or the defaults. A settings file that cannot be read is
    /// ignored, with a warning.
    ///
    /// # Errors
    /// [`PlanError::Device`] where there is no such device or power mode, or its file cannot be read;
    /// [`PlanError::Runtime`] where there is no such runtime; [`PlanError::OldVersion`] and
    /// [`PlanError::OneVersion`] where a version is too old, or given of a
    /// runtime whose command lines do not depend on it.
    pub fn open(request: &BoardRequest) -> Result<Board, PlanError> {
        Board::of(Board::device(request)?, request)
    }

    /// The same on a device that was found already: `request.device` is ignored.
    ///
    /// # Errors
    /// As [`Board::open`].
    pub fn of(found: FoundDevice, request: &BoardRequest) -> Result<Board, PlanError> {
        let FoundDevice {
            mut device,
            choice,
            mut warnings,
        } = found;
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
        let oldest = runtime.lines.oldest.as_ref();
        PlanError::of_version(version, oldest, || runtime.name.clone())?;
        let folder = request.settings.as_ref();
        let runs = folder.map(|folder| settings::runs_or_none(folder, &mut warnings));
        let runs = runs.unwrap_or_default();
        let learned = runs.learned(&runtime, &device.id, &mode.name);
        let learned_in = match &learned {
            Some(learned) if !learned.modes.contains(&mode.name) => OtherModes {
                modes: learned.modes.clone(),
                by_calibrate: choice == Choice::ThisMachine && runtime.runs_kernels_of(CALIBRATED),
            },
            _ => OtherModes::default(),
        };
        let runtime = RuntimeProfile {
            learned_in,
            ..runtime.refined(learned)
        };
        for change in &request.what_if {
            change.apply(&mut device, &mut mode);
        }
        if !request.what_if.is_empty() {
            let changes: Vec<String> = request.what_if.iter().map(|c| c.text()).collect();
            mode.name = format!("{} with {}", mode.name, changes.join(" and "));
        }
        Ok(Board {
            release: request.release.or(device.release()),
            clocks: request.clocks.or(device.clocks()),
            device,
            choice,
            mode,
            runtime,
            warnings,
        })
    }

    /// The device that `request` names, or the default one, without a runtime.
    ///
    /// # Errors
    /// [`PlanError::Device`] where there is no such device, or its file cannot be read.
    pub fn device(request: &BoardRequest) -> Result<FoundDevice, PlanError> {
        let (device, choice) = device::choose(request.device.as_deref(), &request.root)?;
        let choice = match choice {
            Choice::Named if request.is_preferred => Choice::Preferred,
            choice => choice,
        };
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

    /// The board as a target of plans.
    pub fn target(&self) -> Target<'_> {
        Target {
            device: &self.device,
            mode: &self.mode,
            release: self.release,
            clocks: self.clocks,
            runtime: &self.runtime,
        }
    }
}
