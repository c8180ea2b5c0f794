//! The plan: a model, a type per tensor, a board and a workload come in, a memory ledger and a speed
//! come out. Pure functions: nothing here reads a file or can fail.

pub mod compute;
pub mod kv;

#[cfg(test)]
mod golden;
