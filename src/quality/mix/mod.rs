//! Chooses a type for each tensor by measurement: the least divergence for a number of bytes.
//!
//! In: a model that runs, and tensors that can be encoded. Out: types by name, with the divergence to expect. `probe`
//! measures what errors in each block and in each kind of tensor cost, `sensitivity` turns that into the cost of an
//! error in each tensor, `choose` spends the bytes, `goal` says how many. Nothing is evaluated once for each mix.

mod choices;
mod choose;
mod goal;
mod probe;
mod search;
mod sensitivity;
mod session;
mod setup;

pub use choices::{LargerType, MixKind, TensorChoice};
pub use choose::{Option as TypeOption, choose};
pub use goal::{Goal, Reached, Recipe, USUAL};
pub use probe::{ProbeTokens, Probes, probe};
pub use search::{
    CANDIDATES, Mix, PROBE, Search, SearchStage, Sensitivities, TensorSensitivity, measure,
    measure_codebooks, mix,
};
pub use sensitivity::{Probed, sensitivities};
pub use session::{Resumed, Session, Stage};
pub use setup::{Setup, SmallestFile};
