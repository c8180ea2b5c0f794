//! The plan: a model, a type per tensor, a board and a workload come in, a memory ledger and a speed
//! come out. Pure functions: nothing here reads a file or can fail. That a model does not fit is a
//! result with numbers, not an error.

pub mod advise;
pub mod boards;
pub mod change;
pub mod compute;
pub mod cpu;
pub mod curves;
pub mod draft;
pub mod energy;
pub mod fit;
pub mod kv;
pub mod memory;
mod notes;
pub mod operations;
pub mod part;
pub mod prefix;
pub mod projector;
mod rates;
pub mod recommend;
pub mod roofline;
pub mod speculation;
pub mod speed;
mod target;
pub mod throughput;
pub mod together;
pub mod workload;

#[cfg(test)]
mod golden;

pub use fit::{Fit, Plan, RequestEstimate, Speeds, Verdict, fit};
pub use memory::Ledger;
pub use recommend::{Prefer, Preference};
pub use workload::Workload;
