//! Text and JSON for people and scripts. Formats what it is given; decides nothing.

pub mod devices;
