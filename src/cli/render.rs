//! The hidden command that renders a chat template in a process with limits: a chat on standard input, the prompt or
//! the error of the template on standard output. Only `validate --chat` calls it.

use std::process::ExitCode;

use super::print;
use crate::decode::{self, Chat, FUEL};

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
        Ok(Err(wrong)) if print(&wrong).is_ok() => ExitCode::from(decode::WRONG_TEMPLATE),
        _ => ExitCode::from(2),
    }
}

/// The prompt, or what is wrong with the template.
fn rendered() -> anyhow::Result<Result<String, String>> {
    decode::confine()?;
    let chat: Chat = serde_json::from_reader(std::io::stdin().lock())?;
    Ok(chat.render_here(FUEL).map_err(|error| match error {
        decode::DecodeError::Template { what } => what,
        error => error.to_string(),
    }))
}
