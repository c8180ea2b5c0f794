//! What a runtime adds to a model's memory and how much of the board's speed it reaches: data, one TOML file for each
//! runtime under `profiles/runtimes`, each number with its source.
//!
//! In: an id, or the text of a profile. Out: a [`RuntimeProfile`] that is valid by existence. Computes nothing: the plan
//! does.

mod check;
pub mod learned;
pub mod lines;
pub mod posterior;
pub mod profile;
pub mod record;
mod refine;
pub mod registry;
mod runs;

pub use learned::{Added, Learned, Runs};
pub use lines::Version;
pub use profile::RuntimeProfile;
pub use registry::{RuntimeError, builtin_ids, find, parse, texts};
