//! Measures an Ollama server by its own counters: `/api/generate` reports how long it took to load, to read the prompt
//! and to generate.
//!
//! In: an address, a model's tag and a request. Out: [`Measured`].

use std::sync::mpsc::Sender;

use serde_json::{Value, json};

use super::control::MeasureProgress;
use super::error::{ValidateError, one_line};
use super::http::{Server, document};
use super::measured::Measured;
use super::stream::{AnswerPieces, StopReason};
use super::{LEAST_TOKENS, MeasureRequest};
use crate::units::Bytes;

const GENERATE: &str = "/api/generate";

/// A size above this many bytes is no model's: it is ignored.
const LARGEST_MODEL: u64 = 1 << 50;

/// Measures the model `served`, a tag as `ollama list` shows it, at `url`.
///
/// # Errors
/// [`ValidateError`] where the server cannot be reached, refuses, answers in another form, or stops
/// early.
pub(super) fn measure(
    url: &str,
    served: &str,
    request: &MeasureRequest,
    say: &Sender<MeasureProgress>,
) -> Result<Measured, ValidateError> {
    let server = Server::new(url, "/api", request.timeout)?;
    let version = server.get("/api/version")?;
    let _ = say.send(MeasureProgress::stage("loading the model and warming up"));
    generate(&server, served, request, 0, LEAST_TOKENS, &mut |_| {})?;
    let mut measured = Measured::default();
    for index in 1..=request.repeats {
        let stage = format!("repeat {index} of {}", request.repeats);
        let mut tell = |tokens| {
            let _ = say.send(MeasureProgress {
                stage: stage.clone(),
                tokens,
                of: request.tokens,
            });
        };
        let run = generate(&server, served, request, index, request.tokens, &mut tell)?;
        let is_slow = run.pieces.stopped == Some(StopReason::Time);
        measured.repeats = index;
        run.add_to(&mut measured, &server, request)?;
        // Further repeats would take as long.
        if is_slow {
            break;
        }
    }
    measured.remarks.dedup();
    let version = version.get("version").and_then(Value::as_str);
    measured.engine = one_line(&format!("Ollama {}", version.unwrap_or_default()));
    // The size of the model, and how much of it is on the GPU.
    let running = server.get("/api/ps").unwrap_or_default();
    let entries = running.get("models").and_then(Value::as_array);
    let named = |entry: &&Value| {
        let is = |key| entry.get(key).and_then(Value::as_str) == Some(served);
        is("name") || is("model")
    };
    if let Some(entry) = entries.and_then(|entries| entries.iter().find(named)) {
        let count = |key| entry.get(key).and_then(Value::as_u64);
        measured.engine_memory = count("size").map(Bytes);
        measured.on_gpu = count("size_vram").map(|bytes| bytes > 0);
        if let (Some(all), Some(gpu)) = (count("size"), count("size_vram"))
            && gpu > 0
            && gpu < all
            && all < LARGEST_MODEL
        {
            let share = gpu as f64 / all.max(1) as f64 * 100.0;
            measured.on_gpu = Some(false);
            measured.remarks.push(format!(
                "Ollama holds {share:.0} % of the model on the GPU and the rest on the CPU"
            ));
        }
    }
    Ok(measured)
}

/// The answer to one request: its pieces, and the counters at its end.
struct Answer {
    pieces: AnswerPieces,
    last: Option<Value>,
}

fn generate(
    server: &Server,
    served: &str,
    request: &MeasureRequest,
    index: usize,
    tokens: u64,
    tell: &mut dyn FnMut(u64),
) -> Result<Answer, ValidateError> {
    let url = server.url(GENERATE);
    let body = json!({
        "model": served,
        "prompt": request.prompt.text(index),
        "raw": !request.chat,
        "stream": true,
        "options": { "temperature": 0, "seed": 0, "num_predict": tokens, "num_ctx": request.context },
    });
    let mut answer = Answer {
        pieces: AnswerPieces::new(tokens),
        last: None,
    };
    let deadline = request.deadline(tokens);
    let bounds = (deadline, AnswerPieces::most_bytes(tokens));
    let stopped = server.post_lines(GENERATE, &body, bounds, |arrived, line| {
        if line.is_empty() {
            return Ok(true);
        }
        let event = document(&url, line)?;
        if let Some(error) = event.get("error").and_then(Value::as_str) {
            return Err(ValidateError::Refused {
                url: url.clone(),
                status: 200,
                message: one_line(error),
            });
        }
        let text = event.get("response").and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty());
        let more = text.is_none_or(|text| answer.pieces.take(arrived, text));
        tell(answer.pieces.count());
        let done = event.get("done").and_then(Value::as_bool) == Some(true);
        if done {
            answer.last = Some(event);
        }
        Ok(more && !done)
    })?;
    answer.pieces.stopped = answer.pieces.stopped.or(stopped);
    if let Some(stop) = answer.pieces.stopped
        && answer.last.is_none()
    {
        return if answer.pieces.is_enough() {
            Ok(answer)
        } else {
            Err(answer.pieces.endless(url, stop, deadline))
        };
    }
    if answer.last.is_none() {
        return Err(ValidateError::Cut {
            url,
            tokens: answer.pieces.count(),
            wanted: tokens,
            problem: "the connection was closed before `done`".to_owned(),
        });
    }
    Ok(answer)
}

impl Answer {
    fn add_to(
        self,
        measured: &mut Measured,
        server: &Server,
        request: &MeasureRequest,
    ) -> Result<(), ValidateError> {
        let origin = server.url(GENERATE);
        measured.text = self.pieces.text.clone();
        measured.remarks.extend(self.pieces.remark());
        let Some(last) = self.last else {
            // Stopped before Ollama sent its counters: the pieces were timed here.
            measured.streamed = true;
            measured.decode.extend(self.pieces.rate(None, None));
            measured.first_token.extend(self.pieces.first());
            measured.generated_tokens = Some(self.pieces.tokens());
            return Ok(());
        };
        let counter = |key: &str| {
            last.get(key)
                .and_then(Value::as_u64)
                .ok_or_else(|| ValidateError::Answer {
                    origin: origin.clone(),
                    expected: "answer with Ollama's counters",
                    problem: format!("`{key}` is missing or not a number"),
                })
        };
        let (tokens, nanoseconds) = (counter("eval_count")?, counter("eval_duration")?);
        if tokens < LEAST_TOKENS {
            return Err(ValidateError::TooFew {
                origin,
                tokens,
                least: LEAST_TOKENS,
            });
        }
        // Ollama counts the first token too, although its logits come from the pass over the prompt.
        measured
            .decode
            .push(tokens as f64 / (nanoseconds as f64 / 1e9));
        measured.decode_at_most.push(self.pieces.at_most(tokens));
        // A prompt that is wholly in the cache has no count.
        match (
            counter("prompt_eval_count"),
            counter("prompt_eval_duration"),
        ) {
            (Ok(prompt), Ok(nanoseconds)) if nanoseconds > 0 => {
                measured
                    .prefill
                    .push(prompt as f64 / (nanoseconds as f64 / 1e9));
                measured.prompt_tokens = Some(prompt);
                measured.decode_depth = prompt;
            }
            _ => measured.remarks.push(
                "Ollama kept the prompt from an earlier request: prefill is not measured"
                    .to_owned(),
            ),
        }
        let loading = counter("load_duration").unwrap_or(0) as f64 / 1e9;
        measured
            .first_token
            .extend(self.pieces.first().map(|first| (first - loading).max(0.0)));
        measured.generated_tokens = measured.generated_tokens.max(Some(tokens));
        if tokens < request.tokens {
            measured
                .remarks
                .push("the model ended its answer before all requested tokens".to_owned());
        }
        Ok(())
    }
}
