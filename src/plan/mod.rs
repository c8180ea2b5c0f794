//! The plan: pure arithmetic from a described model, a board and a runtime. No IO, and it cannot fail.

pub mod speed;
