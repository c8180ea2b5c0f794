//! Measures a server with OpenAI's completions (llama-server, vLLM, TensorRT Edge-LLM) by the times at which tokens
//! arrive here.
//!
//! In: an address and a request. Out: [`Measured`]. Uses the server's own counts (`usage`, and llama-server's `timings`)
//! where it sends them; a remark says where it does not.

use std::sync::mpsc::Sender;
use std::time::Duration;

use serde_json::{Value, json};

use super::control::MeasureProgress;
use super::error::{ValidateError, one_line};
use super::http::{Server, document};
use super::measured::{DraftCounts, Measured, Metric};
use super::stream::{AnswerPieces, StopReason};
use super::{LEAST_TOKENS, MeasureRequest};
use crate::units::counted;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Measures the server at `url`.
///
/// # Errors
/// [`ValidateError`] where the server cannot be reached, refuses, answers in another form, or stops early.
pub(super) fn measure(
    url: &str,
    served: Option<&str>,
    request: &MeasureRequest,
    say: &Sender<MeasureProgress>,
) -> Result<Measured, ValidateError> {
    let server = Server::new(url, "/v1", request.timeout)?;
    let listed = server.get("/v1/models")?;
    let model = match served {
        Some(name) => name.to_owned(),
        None => only_model(&server, &listed)?,
    };
    // The first request includes what is loaded or compiled once.
    let warm_up = CompletionRequest::new(request, &model, 0, LEAST_TOKENS);
    let _ = say.send(MeasureProgress::stage("warming up"));
    let extended = match complete(&server, &warm_up, true, &mut |_| {}) {
        Ok(_) => true,
        // A strict server may refuse fields that OpenAI does not have.
        Err(ValidateError::Refused {
            status: 400 | 422, ..
        }) => {
            complete(&server, &warm_up, false, &mut |_| {})?;
            false
        }
        Err(error) => return Err(error),
    };
    let mut streams = Vec::new();
    for index in 1..=request.repeats {
        let stage = format!("repeat {index} of {}", request.repeats);
        let asked = CompletionRequest::new(request, &model, index, request.tokens);
        let mut tell = |tokens| {
            let _ = say.send(MeasureProgress {
                stage: stage.clone(),
                tokens,
                of: request.tokens,
            });
        };
        let stream = complete(&server, &asked, extended, &mut tell)?;
        let is_slow = stream.pieces.stopped == Some(StopReason::Time);
        streams.push(stream);
        // Further repeats would take as long.
        if is_slow {
            break;
        }
    }
    let url = server.url(asked_path(request));
    let mut measured = gather(&url, streams, request)?;
    let owner = listed.pointer("/data/0/owned_by").and_then(Value::as_str);
    measured.engine = engine(owner, &measured.engine);
    Ok(measured)
}

/// The name of the engine: the owner of the model, and the fingerprint of the build.
fn engine(owner: Option<&str>, fingerprint: &str) -> String {
    let words = [owner.unwrap_or_default(), fingerprint];
    one_line(&words.join(" ").replace("llamacpp", "llama.cpp")).replace("no message", "")
}

fn asked_path(request: &MeasureRequest) -> &'static str {
    if request.chat { CHAT } else { COMPLETIONS }
}

fn only_model(server: &Server, listed: &Value) -> Result<String, ValidateError> {
    let entries = listed.get("data").and_then(Value::as_array);
    let ids: Vec<&str> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("id")?.as_str())
        .collect();
    match ids[..] {
        [only] => Ok(only.to_owned()),
        _ => Err(ValidateError::WhichModel {
            url: server.url("/v1/models"),
            found: match ids.is_empty() {
                true => "lists no model; start it with one, or name it".to_owned(),
                false => format!("serves {}; name one of them", one_line(&ids.join(", "))),
            },
        }),
    }
}

/// One request.
struct CompletionRequest {
    path: &'static str,
    tokens: u64,
    deadline: Duration,
    body: Value,
}

impl CompletionRequest {
    fn new(request: &MeasureRequest, model: &str, index: usize, tokens: u64) -> CompletionRequest {
        let mut body = json!({
            "model": model,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let text = request.prompt.text(index);
        if request.chat {
            body["messages"] = json!([{ "role": "user", "content": text }])
        } else {
            body["prompt"] = text.into()
        }
        CompletionRequest {
            path: asked_path(request),
            tokens,
            deadline: request.deadline(tokens),
            body,
        }
    }
}

/// The answer to one request.
struct Stream {
    pieces: AnswerPieces,
    /// Arrival of the piece that gives the reason for the end, in seconds since the request.
    finished: Option<f64>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    cached_tokens: u64,
    prefill_rate: Option<f64>,
    draft: Option<DraftCounts>,
    fingerprint: String,
}

fn complete(
    server: &Server,
    asked: &CompletionRequest,
    extended: bool,
    tell: &mut dyn FnMut(u64),
) -> Result<Stream, ValidateError> {
    let url = server.url(asked.path);
    let mut body = asked.body.clone();
    if extended {
        // Fields of llama-server and vLLM: go on after an end token, and read the whole prompt in every request.
        body["ignore_eos"] = true.into();
        body["cache_prompt"] = false.into();
    }
    let mut stream = Stream::new(asked.tokens);
    let (mut done, mut other) = (false, None);
    let bounds = (asked.deadline, AnswerPieces::most_bytes(asked.tokens));
    let stopped = server.post_lines(asked.path, &body, bounds, |arrived, line| {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            if other.is_none() && !line.is_empty() && !line.starts_with([':', 'e', 'i', 'r']) {
                other = Some(one_line(line));
            }
            return Ok(true);
        };
        if data == "[DONE]" {
            done = true;
            return Ok(false);
        }
        let event = document(&url, data)?;
        if let Some(error) = event.get("error") {
            let message = error.get("message").and_then(Value::as_str);
            return Err(ValidateError::Cut {
                url: url.clone(),
                tokens: stream.pieces.count(),
                wanted: asked.tokens,
                problem: one_line(message.unwrap_or(&error.to_string())),
            });
        }
        let more = stream.take(arrived, &event);
        tell(stream.pieces.count());
        Ok(more)
    })?;
    stream.pieces.stopped = stream.pieces.stopped.or(stopped);
    if let Some(stop) = stream.pieces.stopped {
        return if stream.pieces.is_enough() {
            Ok(stream)
        } else {
            Err(stream.pieces.endless(url, stop, asked.deadline))
        };
    }
    if !done && stream.finished.is_none() {
        let nothing = || match stream.pieces.count() {
            0 => "the answer is no event stream".to_owned(),
            _ => "the connection was closed".to_owned(),
        };
        return Err(ValidateError::Cut {
            url,
            tokens: stream.pieces.count(),
            wanted: asked.tokens,
            problem: other.map_or_else(nothing, |line| {
                format!("the answer is no event stream: `{line}`")
            }),
        });
    }
    Ok(stream)
}

impl Stream {
    fn new(tokens: u64) -> Stream {
        Stream {
            pieces: AnswerPieces::new(tokens),
            finished: None,
            prompt_tokens: None,
            completion_tokens: None,
            cached_tokens: 0,
            prefill_rate: None,
            draft: None,
            fingerprint: String::new(),
        }
    }

    /// Takes an event. Returns whether more is wanted.
    fn take(&mut self, arrived: f64, event: &Value) -> bool {
        let choice = event.pointer("/choices/0");
        let texts = ["/text", "/delta/content", "/delta/reasoning_content"];
        let text = texts.iter().find_map(|path| {
            choice?
                .pointer(path)?
                .as_str()
                .filter(|text| !text.is_empty())
        });
        let more = text.is_none_or(|text| self.pieces.take(arrived, text));
        if choice.is_some_and(|choice| choice.get("finish_reason").is_some_and(Value::is_string)) {
            self.finished = Some(arrived);
        }
        let count = |path: &str| event.pointer(path).and_then(Value::as_u64);
        self.prompt_tokens = count("/usage/prompt_tokens").or(self.prompt_tokens);
        self.completion_tokens = count("/usage/completion_tokens").or(self.completion_tokens);
        let cached = count("/usage/prompt_tokens_details/cached_tokens");
        self.cached_tokens = cached.unwrap_or(self.cached_tokens);
        let rate = event.pointer("/timings/prompt_per_second");
        self.prefill_rate = rate.and_then(Value::as_f64).or(self.prefill_rate);
        let drafted = count("/timings/draft_n").zip(count("/timings/draft_n_accepted"));
        let draft = drafted.filter(|(drafted, accepted)| *drafted > 0 && accepted <= drafted);
        let draft = draft.map(|(drafted, accepted)| DraftCounts { drafted, accepted });
        self.draft = draft.or(self.draft);
        if let Some(fingerprint) = event.get("system_fingerprint").and_then(Value::as_str) {
            self.fingerprint = fingerprint.to_owned();
        }
        more
    }

    /// An implausible count of generated tokens: hardly any, in an answer of several pieces.
    fn miscounted(&self) -> Option<u64> {
        let few = self.completion_tokens.filter(|count| *count < LEAST_TOKENS);
        few.filter(|_| self.pieces.count() >= LEAST_TOKENS)
    }

    /// Tokens generated: what the server counted, else the pieces.
    fn tokens(&self) -> u64 {
        self.completion_tokens.unwrap_or(self.pieces.tokens())
    }
}

/// The measurement that the answers give together.
fn gather(
    url: &str,
    streams: Vec<Stream>,
    request: &MeasureRequest,
) -> Result<Measured, ValidateError> {
    let mut measured = Measured {
        repeats: streams.len(),
        streamed: true,
        ..Measured::default()
    };
    let (mut cached, mut longest) = (0, 0f64);
    for stream in &streams {
        let pieces = &stream.pieces;
        let rate = pieces.rate(stream.completion_tokens, stream.finished);
        let (Some(first), Some(rate)) = (pieces.first(), rate) else {
            return Err(too_few(url, 0));
        };
        if let Some(stop) = pieces.stopped
            && pieces.count() < LEAST_TOKENS
        {
            let deadline = request.deadline(request.tokens);
            return Err(pieces.endless(url.to_owned(), stop, deadline));
        }
        if stream.tokens().max(pieces.count()) < LEAST_TOKENS {
            return Err(too_few(url, stream.tokens()));
        }
        measured.decode.push(rate);
        measured.first_token.push(first);
        let read = stream.prompt_tokens.map(|tokens| tokens as f64 / first);
        measured.prefill_streamed |= stream.prefill_rate.is_none();
        measured.prefill.extend(stream.prefill_rate.or(read));
        if let Some(counts) = stream.draft {
            let all = measured.draft.get_or_insert_default();
            all.drafted = all.drafted.saturating_add(counts.drafted);
            all.accepted = all.accepted.saturating_add(counts.accepted);
        }
        cached = stream.cached_tokens.max(cached);
        longest = longest.max(pieces.longest_gap());
        measured.remarks.extend(pieces.remark());
    }
    if let Some(held_back) = streams.iter().find_map(|stream| stream.pieces.held_back()) {
        measured.first_token.clear();
        if measured.prefill_streamed {
            measured.prefill.clear();
        }
        measured.rejected.push(held_back);
    }
    let miscounted = streams.iter().find_map(|stream| {
        let pieces = stream.pieces.count();
        Some(format!(
            "the server counts {} in an answer of {pieces} pieces",
            counted(stream.miscounted()?, "generated token", "generated tokens")
        ))
    });
    measured.remarks.dedup();
    let mut remark = |remark: &str| measured.remarks.push(remark.to_owned());
    if cached > 0 {
        remark(
            "the server kept part of the prompt from an earlier request: prefill and first token are faster than they would be",
        );
    }
    let uncounted = |stream: &Stream| stream.completion_tokens.is_none();
    if streams
        .iter()
        .any(|stream| uncounted(stream) && stream.pieces.stopped.is_none())
    {
        remark(
            "the server reports no usage: each piece of the stream counts as one token, and prefill is not measured",
        );
    }
    if streams
        .iter()
        .any(|stream| stream.tokens() < request.tokens && stream.miscounted().is_none())
    {
        remark("the model ended its answer before all requested tokens");
    }
    let generated = streams.iter().map(Stream::tokens).max();
    let Some(stream) = streams.into_iter().last() else {
        return Err(too_few(url, 0));
    };
    measured.prompt_tokens = stream.prompt_tokens;
    measured.generated_tokens = generated;
    if let Some(reason) = miscounted {
        measured.generated_tokens = None;
        measured.decode.clear();
        measured.reject(Metric::Decode, reason);
    }
    measured.decode_depth = stream.prompt_tokens.unwrap_or(0);
    measured.longest_gap = Some(longest);
    measured.engine = stream.fingerprint;
    measured.text = stream.pieces.text;
    Ok(measured)
}

fn too_few(url: &str, tokens: u64) -> ValidateError {
    ValidateError::TooFew {
        origin: url.to_owned(),
        tokens,
        least: LEAST_TOKENS,
    }
}
