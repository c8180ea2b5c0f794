//! `orinplan devices list`, `show` and `detect` as text and as JSON (`orinplan.devices/1`).
//!
//! In: device profiles. Out: strings that end in a newline. Every number of `show` has its source,
//! in text as a footnote.

mod json;
mod links;
mod text;

pub use json::{detect_json, list_json, show_json};
pub use links::{Links, linked};
pub use text::{detect_text, list_text, show_text};
