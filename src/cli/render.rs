//! The hidden command that renders a chat template in a process with limits: a chat on standard input, the prompt or
//! the error of the template on standard output. `validate --chat` calls it, and what looks for faults of templates.

use std::process::ExitCode;

use super::print;
use crate::decode::{self, Chat, DecodeError, FUEL, TemplateFault};

/// Whether this process was started to render.
pub(super) fn is_asked() -> bool {
    let mut words = std::env::args_os().skip(1);
    words
        .next()
        .is_some_and(|word| word == decode::RENDER_COMMAND)
        && words.next().is_none()
}

pub(super) fn run() -> ExitCode {
    match rendered() {
        Ok(Ok(prompt)) if print(&prompt).is_ok() => ExitCode::SUCCESS,
        Ok(Err((wrong, status))) if print(&wrong).is_ok() => ExitCode::from(status),
        _ => ExitCode::from(2),
    }
}

/// The prompt, or what is wrong with the template and the status that says how.
fn rendered() -> anyhow::Result<Result<String, (String, u8)>> {
    decode::confine()?;
    let chat: Chat = serde_json::from_reader(std::io::stdin().lock())?;
    Ok(chat.render_here(FUEL).map_err(|error| match error {
        DecodeError::Template {
            what,
            fault: TemplateFault::Syntax,
        } => (what, decode::NO_JINJA),
        DecodeError::Template { what, .. } => (what, decode::WRONG_TEMPLATE),
        error => (error.to_string(), decode::WRONG_TEMPLATE),
    }))
}
