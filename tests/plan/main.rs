//! Every prediction for every fixture: snapshots for people to read, invariants for all boards,
//! power modes and runtimes, and the keys of the JSON document; the boards and the speed model behind
//! them. Needs no network and no clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../schema/mod.rs"]
mod schema;

mod adapters;
mod boards;
mod contract;
mod devices;
mod first_screens;
mod images;
mod invariants;
mod operations;
mod processors;
mod published;
mod requests;
mod screens;
mod snapshots;
mod speculation;
mod speed;
mod support;
