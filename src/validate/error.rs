//! The errors of a measurement.

use std::path::PathBuf;

use crate::foreign::Foreign;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// The user or the system asked to stop.
    #[error("interrupted; nothing was kept")]
    Cancelled,
    /// The address cannot be used.
    #[error("`{url}` {problem}")]
    Url {
        /// As the user wrote it.
        url: String,
        /// What is wrong, and the way out.
        problem: String,
    },
    /// Nothing listens there, or it cannot be reached.
    #[error("no answer from {url}: {problem}; is the server running there?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The system's error.
        problem: String,
    },
    /// The server took the request and then sent nothing for too long.
    #[error(
        "{url} sent nothing for {seconds} s; a slow prefill may need more: raise --timeout, or shorten the prompt with --prompt-tokens"
    )]
    TimedOut {
        /// What was asked.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's message, on one line.
        message: String,
    },
    /// The answer ended before it was complete.
    #[error("{url} ended its answer early, after {tokens} of {wanted} tokens: {problem}")]
    Cut {
        /// What was asked.
        url: String,
        /// Tokens, or pieces of the stream, that arrived.
        tokens: u64,
        /// Tokens that were asked for.
        wanted: u64,
        /// What was seen instead of the end.
        problem: String,
    },
    /// The answer did not end, and nothing in it could be measured.
    #[error("{url} did not end its answer: {tokens} of {wanted} tokens in {limit}")]
    Endless {
        /// What was asked.
        url: String,
        /// What was too much.
        limit: String,
        /// Tokens, or pieces of the stream, that arrived.
        tokens: u64,
        /// Tokens that were asked for.
        wanted: u64,
    },
    /// The answer is not in the form that the backend speaks.
    #[error("{origin} gave no {expected}: {problem}")]
    Answer {
        /// The address or the program.
        origin: String,
        /// What the answer should have been.
        expected: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The server lists no model, or several.
    #[error("{url} {found} with --served-model")]
    WhichModel {
        /// What was asked.
        url: String,
        /// What it serves, and what to name.
        found: String,
    },
    /// Too few tokens came for a rate.
    #[error(
        "{origin} generated {}, too few for a rate: at least {least} are needed; raise --tokens, or give another --prompt if the model ends its answer at once",
        crate::units::tokens(*tokens)
    )]
    TooFew {
        /// The address or the program.
        origin: String,
        /// What came.
        tokens: u64,
        /// What is needed.
        least: u64,
    },
    /// llama-bench is not where it was looked for.
    #[error(
        "llama-bench was not found in the absolute folders of PATH; name it with --program FILE, such as --program ~/llama.cpp/build/bin/llama-bench"
    )]
    NoProgram,
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// Its path.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A program was ended because it ran or printed for too long.
    #[error("{program} was stopped: {problem}")]
    Ended {
        /// Its path.
        program: PathBuf,
        /// What it did.
        problem: String,
    },
    /// A program failed.
    #[error("{program} ended with {status}: {message}")]
    Program {
        /// Its path.
        program: PathBuf,
        /// Its exit status.
        status: String,
        /// The last lines that it printed.
        message: String,
    },
    /// This program's decoder cannot run the model.
    #[error(transparent)]
    Decode(#[from] crate::decode::DecodeError),
    /// The prompt is empty, does not fit, or is not possible with this backend.
    #[error("{0}")]
    Prompt(String),
}

/// Text from outside on one line, with control characters escaped, at most 300 characters.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = Foreign(&words).to_string().chars().take(300).collect();
    if line.is_empty() {
        line.push_str("no message");
    }
    line
}
