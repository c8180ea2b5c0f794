//! An HTTP client for a server on this machine or its network: sends JSON, receives JSON or lines as they arrive.
//!
//! In: an address and a document. Out: the answer, each line with its time of arrival. Every error names the address.
//! Must not retry, follow redirects, or wait longer than its timeout.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use super::error::{ValidateError, one_line};
use super::stream::StopReason;
use crate::input::in_words;

/// The longest line or document that is read: an answer has some hundred bytes a token.
const LARGEST: u64 = 16 << 20;

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A server by its base address.
#[derive(Clone, Debug)]
pub(super) struct Server {
    agent: Agent,
    base: String,
    timeout: Duration,
}

impl Server {
    /// A server at `url` that may send nothing for at most `timeout`. `suffix` is removed from the address if the user
    /// has written it.
    ///
    /// # Errors
    /// [`ValidateError::Url`] where the address is not `http://` with a host.
    pub(super) fn new(url: &str, suffix: &str, timeout: Duration) -> Result<Server, ValidateError> {
        let refuse = |problem: &str| ValidateError::Url {
            url: one_line(url),
            problem: problem.to_owned(),
        };
        let Some(rest) = url.trim().strip_prefix("http://") else {
            return Err(refuse(if url.starts_with("https://") {
                "needs TLS, which this client does not support; measure on the machine itself or through `ssh -L`, with http://"
            } else {
                "is not an address of a server; write it like http://127.0.0.1:8080"
            }));
        };
        let base = rest.trim_end_matches('/').trim_end_matches(suffix);
        let base = base.trim_end_matches('/');
        if base.is_empty() || base.contains(char::is_whitespace) {
            return Err(refuse("has no host; write it like http://127.0.0.1:8080"));
        }
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            // For documents; a streamed answer has its own deadline.
            .timeout_recv_body(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Ok(Server {
            agent: config.into(),
            base: format!("http://{base}"),
            timeout,
        })
    }

    /// The full address of `path`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The document at `path`.
    ///
    /// # Errors
    /// [`ValidateError`] where the server cannot be reached, refuses, or answers something else than JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, ValidateError> {
        let url = self.url(path);
        let answer = self.agent.get(&url).call();
        let mut answer = self.accepted(&url, answer)?;
        document(&url, &self.text(&url, &mut answer)?)
    }

    /// Posts `request` and passes each line of the answer, with the seconds since the request, to `line`, until that
    /// returns `false` or the answer ends. Returns why reading was stopped before that, if it was: the answer took longer
    /// than `deadline`, or had more than `most` bytes.
    ///
    /// # Errors
    /// [`ValidateError`] where the server cannot be reached or refuses, where its answer breaks off, and those of `line`.
    pub(super) fn post_lines(
        &self,
        path: &str,
        request: &Value,
        (deadline, most): (Duration, u64),
        mut line: impl FnMut(f64, &str) -> Result<bool, ValidateError>,
    ) -> Result<Option<StopReason>, ValidateError> {
        let url = self.url(path);
        let sent = Instant::now();
        let answer = self
            .agent
            .post(&url)
            .config()
            .timeout_recv_body(Some(deadline))
            .build()
            .content_type("application/json")
            .send(request.to_string());
        let answer = self.accepted(&url, answer)?;
        let mut reader = BufReader::new(answer.into_body().into_reader());
        let mut bytes = Vec::new();
        let mut left = most;
        loop {
            bytes.clear();
            let longest = LARGEST.min(left);
            let read = (&mut reader).take(longest).read_until(b'\n', &mut bytes);
            let read = match read {
                Err(error) if timeout(&error) == Some(ureq::Timeout::RecvBody) => {
                    return Ok(Some(StopReason::Time));
                }
                read => read.map_err(|error| self.broken(&url, &error))?,
            };
            let arrived = sent.elapsed().as_secs_f64();
            left = left.saturating_sub(read as u64);
            if left == 0 {
                return Ok(Some(StopReason::Bytes));
            }
            if read as u64 >= LARGEST {
                return Err(too_long(&url));
            }
            if read == 0 || !line(arrived, String::from_utf8_lossy(&bytes).trim())? {
                return Ok(None);
            }
        }
    }

    /// The answer if its status is success, else the server's error message.
    fn accepted(
        &self,
        url: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ValidateError> {
        let mut answer = answer.map_err(|error| self.failed(url, error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = self.text(url, &mut answer).unwrap_or_default();
        Err(ValidateError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            message: one_line(&said(&text)),
        })
    }

    fn text(&self, url: &str, answer: &mut Response<Body>) -> Result<String, ValidateError> {
        let mut bytes = Vec::new();
        let mut reader = answer.body_mut().as_reader().take(LARGEST);
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|error| self.broken(url, &error))?;
        if bytes.len() as u64 >= LARGEST {
            return Err(too_long(url));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn timed_out(&self, url: &str) -> ValidateError {
        ValidateError::TimedOut {
            url: url.to_owned(),
            seconds: self.timeout.as_secs(),
        }
    }

    fn failed(&self, url: &str, error: ureq::Error) -> ValidateError {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                ValidateError::Unreachable {
                    url: url.to_owned(),
                    problem: format!("no connection within {} s", CONNECT.as_secs()),
                }
            }
            ureq::Error::Timeout(_) => self.timed_out(url),
            ureq::Error::Io(error) if is_timeout(&error) => self.timed_out(url),
            ureq::Error::BadUri(problem) => ValidateError::Url {
                url: url.to_owned(),
                problem: format!("is not an address of a server ({})", one_line(&problem)),
            },
            ureq::Error::Protocol(error) => ValidateError::Answer {
                origin: url.to_owned(),
                expected: "HTTP",
                problem: one_line(&error.to_string()),
            },
            error => ValidateError::Unreachable {
                url: url.to_owned(),
                problem: one_line(&error.to_string()),
            },
        }
    }

    /// The error of a read in the middle of an answer.
    fn broken(&self, url: &str, error: &std::io::Error) -> ValidateError {
        if is_timeout(error) {
            self.timed_out(url)
        } else {
            ValidateError::Answer {
                origin: url.to_owned(),
                expected: "complete HTTP answer",
                problem: one_line(&error.to_string()),
            }
        }
    }
}

/// Whether a read ended by a timeout: of the system, or of the client.
fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock) || timeout(error).is_some()
}

/// The client's timeout that ended a read.
fn timeout(error: &std::io::Error) -> Option<ureq::Timeout> {
    match error.get_ref()?.downcast_ref()? {
        ureq::Error::Timeout(which) => Some(*which),
        _ => None,
    }
}

fn too_long(url: &str) -> ValidateError {
    ValidateError::Answer {
        origin: url.to_owned(),
        expected: "answer of reasonable length",
        problem: format!("more than {} MiB without an end", LARGEST >> 20),
    }
}

/// `text` as JSON.
pub(super) fn document(origin: &str, text: &str) -> Result<Value, ValidateError> {
    serde_json::from_str(text).map_err(|error| ValidateError::Answer {
        origin: origin.to_owned(),
        expected: "JSON",
        problem: format!("{} in `{}`", in_words(&error.to_string()), one_line(text)),
    })
}

/// The message within a server's error document, or the text itself.
fn said(text: &str) -> String {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let error = document.get("error").unwrap_or(&document);
    let message = ["message", "detail", "error"]
        .iter()
        .find_map(|key| error.get(key).or_else(|| document.get(key)));
    match message.or(Some(error)) {
        Some(Value::String(message)) => message.clone(),
        Some(Value::Null) | None => text.to_owned(),
        Some(other) => other.to_string(),
    }
}
