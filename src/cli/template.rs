//! The caveat that a model's chat template fails, found by rendering it once in a process of its own.

use std::sync::atomic::AtomicBool;

use crate::checkpoint::Checkpoint;
use crate::convert;
use crate::decode::{Renderer, template_fault};
use crate::note::Note;

/// The caveat for the GGUF that `checkpoint` is or becomes.
pub(super) fn note(checkpoint: &Checkpoint) -> Option<Note> {
    let template = convert::chat_template(checkpoint)?;
    let program = std::env::current_exe().ok()?;
    let renderer = Renderer { program };
    let fault = template_fault(&template, &renderer, &AtomicBool::new(false));
    fault.map(|why| Note::ChatTemplate { why })
}
