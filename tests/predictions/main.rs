//! Every prediction for every fixture: snapshots for people to read, invariants for all boards,
//! power modes and runtimes, and the keys of the JSON document. Needs no network and no clock.

mod contract;
mod invariants;
mod screens;
mod snapshots;
mod support;
