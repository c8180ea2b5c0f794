//! Why a model cannot be had from a server, each with what the user can do. No text here ever holds a token or the query
//! of an address, in which servers put signatures.

use std::path::PathBuf;
use std::time::Duration;

use crate::input::one_line;
use crate::units::Bytes;
use crate::{gguf, safetensors};

/// Why a model cannot be had from a server.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum HubError {
    #[error("`{}` is not an address: {problem}", one_line(address))]
    Address {
        address: String,
        problem: &'static str,
    },
    #[error(
        "{model}: is not on this machine, and --offline or HF_HUB_OFFLINE forbids the network; run it once without that"
    )]
    Offline { model: String },
    #[error(
        "{address}: cannot be reached: {}; check the network, or HTTPS_PROXY",
        one_line(problem)
    )]
    Unreachable { address: String, problem: String },
    #[error(
        "{address}: cannot be trusted: {}; SSL_CERT_FILE names certificates beside the system's",
        one_line(problem)
    )]
    Untrusted { address: String, problem: String },
    #[error("{address}: the connection broke off: {}", one_line(problem))]
    Broken { address: String, problem: String },
    #[error("{address}: the server is busy (status {status}){}; try again later{}", asked_to_wait(*after), if *has_token { "" } else { ", or set HF_TOKEN: requests with a token have a higher limit" })]
    Busy {
        address: String,
        status: u16,
        after: Option<Duration>,
        has_token: bool,
    },
    #[error("{address}: the server refuses with status {status}{}", said(message))]
    Refused {
        address: String,
        status: u16,
        code: String,
        message: String,
    },
    #[error("{what}: {way_out}")]
    Denied { what: String, way_out: String },
    #[error("{address}: is redirected more than {limit} times; the server is misconfigured")]
    EndlessRedirects { address: String, limit: usize },
    #[error("{address}: is redirected to {target}, {problem}; it is not followed")]
    Redirect {
        address: String,
        target: String,
        problem: &'static str,
    },
    #[error(
        "{address}: sent a web page instead of the file, such as a login page; open it in a browser, or check HTTPS_PROXY"
    )]
    WebPage { address: String },
    #[error(
        "{address}: does not support range requests, which orinplan needs; download the file and give its path"
    )]
    NoRanges { address: String },
    #[error("{address}: violates the protocol: {}", one_line(problem))]
    Answer { address: String, problem: String },
    #[error(
        "{address}: changed since the first request: {}; run again to start over",
        one_line(problem)
    )]
    Changed { address: String, problem: String },
    #[error("{address}: has more than the {limit} ({} bytes) that are read of such a file", limit.0)]
    TooLarge { address: String, limit: Bytes },
    #[error(
        "{file}: has the SHA-256 {found} instead of {expected}; the output made from it was removed"
    )]
    Digest {
        file: String,
        expected: String,
        found: String,
    },
    #[error("{model}: {problem}")]
    Model { model: String, problem: String },
    #[error("{address}: {problem}")]
    Gguf {
        address: String,
        problem: gguf::Problem,
    },
    #[error("{address}: {problem}")]
    Safetensors {
        address: String,
        problem: safetensors::Problem,
    },
    #[error("{}: {source}", path.display())]
    Cache {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl HubError {
    /// Whether another try may succeed, and how long the server asks to wait before that.
    pub(super) fn transient(&self) -> Option<Option<Duration>> {
        match self {
            HubError::Busy { after, .. } => Some(*after),
            HubError::Broken { .. } | HubError::Unreachable { .. } => Some(None),
            _ => None,
        }
    }

    /// The error of reading weights. Where they are not those of the pinned state, its kind is
    /// [`std::io::ErrorKind::InvalidData`]: what was made of them is not to be kept.
    pub(super) fn of_reading(self: std::sync::Arc<Self>) -> std::io::Error {
        let kind = match *self {
            HubError::Digest { .. } | HubError::Changed { .. } => std::io::ErrorKind::InvalidData,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, self)
    }

    pub(super) fn cache(path: &std::path::Path, source: std::io::Error) -> HubError {
        let path = path.to_owned();
        HubError::Cache { path, source }
    }
}

fn asked_to_wait(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| {
        format!(" and asks to wait {} s", after.as_secs())
    })
}

fn said(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(": {}", one_line(&message)),
    }
}
