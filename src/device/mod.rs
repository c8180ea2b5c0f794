//! Boards and machines: memory, clocks and bandwidth, each number with its source.
//!
//! In: a board's id, a profile file, or the root directory of a running machine. Out: one
//! [`DeviceProfile`]. Must not: run programs, know a model, or hold a number without a source.
#![warn(clippy::indexing_slicing)]

mod activity;
mod calibrated;
mod choice;
mod clocks;
mod cpu;
mod detect;
mod document;
mod error;
mod file;
mod l4t;
mod nvpmodel;
mod power_mode;
mod probe;
mod profile;
mod quantity;
mod registry;
mod what_if;
mod wire;

pub use activity::{
    Activity, Clock, Process, ProcessorTime, activity, descendants, forget_peak, gpu_load,
    listener, process, program_name,
};
pub use choice::{Choice, choose, open};
pub use clocks::Clocks;
pub use cpu::{CalibrationError, Cpu, FormatRate, Uncertainty};
pub use detect::{DetectedDevice, MemoryNow, detect};
pub use error::DeviceError;
pub use l4t::L4tRelease;
pub use profile::{
    AllocationLimit, AtHand, DeviceProfile, Estimate, Gpu, Original, Pitfall, PowerMode, Session,
};
pub use quantity::{OpsPerSecond, Quantity, Watts};
pub use registry::{DEFAULT_BOARD, HOST, get, ids, list, load, texts};
pub use what_if::{ParseWhatIfError, WhatIf};
