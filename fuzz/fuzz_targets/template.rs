//! Any text as a chat template: a prompt, or an error in one line. What one step may take without
//! bounds (repeating and joining texts, filling and counting) is for the limits of the process in
//! which templates are rendered, and left out here.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use orinplan::decode::{Chat, Message};

/// Enough for every kind of step, little enough for thousands of templates a second.
const FUEL: u64 = 2_000;

/// What makes much of little in one step.
const UNBOUNDED: [&str; 16] = [
    "*", "~", "+", "range", "batch", "slice", "indent", "center", "just", "fill", "replace",
    "count", "join", "format", "tojson", "repeat",
];

fuzz_target!(|template: &str| -> Corpus {
    if UNBOUNDED.iter().any(|word| template.contains(word)) {
        return Corpus::Reject;
    }
    let chat = Chat {
        template: template.to_owned(),
        begin: "<s>".to_owned(),
        end: "</s>".to_owned(),
        messages: vec![Message {
            role: "user".to_owned(),
            content: " Hi ".to_owned(),
        }],
    };
    if let Err(error) = chat.render_here(FUEL) {
        assert!(!error.to_string().contains('\n'));
    }
    Corpus::Keep
});
