//! The description of a model that everything after it shares.

pub mod role;
pub mod spec;
