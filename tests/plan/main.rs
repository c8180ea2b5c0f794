//! Every prediction for every fixture: snapshots for people to read, invariants for all boards,
//! power modes and runtimes, and the keys of the JSON document; the boards and the speed model behind
//! them. Needs no network and no clock.

mod contract;
mod devices;
mod invariants;
mod published;
mod screens;
mod snapshots;
mod speed;
mod support;
