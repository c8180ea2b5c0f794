//! Measures this program's own decoder, token by token; of a model that turns texts into numbers one text at a time.
//!
//! In: a checkpoint with its description. Out: [`Measured`]. Decoding is greedy and does not stop at an end token, so
//! that the rate is of as many tokens as were asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::control::MeasureProgress;
use super::error::ValidateError;
use super::measured::Measured;
use super::{MeasureRequest, Prompt};
use crate::checkpoint::{Checkpoint, Pooling};
use crate::decode::{
    self, DecodeError, Engine, LoadOptions, Message, Model, Renderer, Tokenizer, greedy, threads,
};
use crate::model::ModelSpec;

/// The times of one repeat.
#[derive(Clone, Debug, Default)]
struct DecodeTimes {
    /// Seconds to read the prompt, until its logits are there.
    prefill: f64,
    /// Seconds of every further token.
    steps: Vec<f64>,
    /// The ids of the generated tokens, the one after the prompt first.
    tokens: Vec<u32>,
}

/// Measures the model of a checkpoint on `engine`.
///
/// # Errors
/// [`ValidateError::Decode`] where the model cannot be loaded or run, [`ValidateError::Prompt`] where the prompt is
/// empty, does not fit or cannot be tokenized, [`ValidateError::Cancelled`] once `cancel` is set.
pub(super) fn measure(
    (checkpoint, spec): (&Checkpoint, &ModelSpec),
    engine: Engine,
    renderer: &Renderer,
    request: &MeasureRequest,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<Measured, ValidateError> {
    let tokenizer = Tokenizer::read(checkpoint, spec);
    let chat = |tokenizer: &Tokenizer, message| {
        let rendered = decode::prompt(tokenizer, &[message], renderer, cancel);
        rendered.map_err(|error| match error {
            DecodeError::Cancelled => ValidateError::Cancelled,
            error => error.into(),
        })
    };
    let embeds = spec.retrieval.as_ref();
    // Nothing is generated behind a text that becomes a vector.
    let generated = embeds.map_or(request.tokens, |_| 0);
    let prompt = prompt(&tokenizer, spec, request, generated, &chat)?;
    let [type_k, type_v] = request.kv_types;
    let options = LoadOptions {
        context: request.context,
        type_k,
        type_v,
        ubatch: request.ubatch,
        engine,
        ..LoadOptions::default()
    };
    let mut model = Model::load(checkpoint, spec, &options, &mut |read| {
        progress(&MeasureProgress::stage(format!("loading, {read}")));
    })?;
    progress(&MeasureProgress::stage("warming up"));
    let few = prompt.get(..prompt.len().min(16)).unwrap_or_default();
    let pooling = embeds.map(|found| found.pooling.unwrap_or(Pooling::Mean));
    match pooling {
        Some(pooling) => drop(model.embed(few, pooling)?),
        None => drop(run(
            &mut model,
            few,
            super::LEAST_TOKENS,
            cancel,
            &mut |_| {},
        )?),
    }
    let mut measured = Measured {
        engine: match engine {
            Engine::Cuda => "candle, CUDA".to_owned(),
            Engine::Cpu | Engine::Tensors => {
                let threads = crate::units::counted(threads(), "thread", "threads");
                format!("candle, {threads}")
            }
        },
        repeats: request.repeats,
        prompt_tokens: Some(prompt.len() as u64),
        generated_tokens: Some(generated),
        decode_depth: prompt.len() as u64,
        on_gpu: Some(engine == Engine::Cuda),
        ..Measured::default()
    };
    for repeat in 1..=request.repeats {
        let stage = format!("repeat {repeat} of {}", request.repeats);
        if let Some(pooling) = pooling {
            if cancel.load(Ordering::Relaxed) {
                return Err(ValidateError::Cancelled);
            }
            progress(&MeasureProgress::stage(stage));
            let started = Instant::now();
            model.embed(&prompt, pooling)?;
            let seconds = started.elapsed().as_secs_f64();
            measured.prefill.push(prompt.len() as f64 / seconds);
            continue;
        }
        let timed = run(&mut model, &prompt, request.tokens, cancel, &mut |tokens| {
            progress(&MeasureProgress {
                stage: stage.clone(),
                tokens,
                of: request.tokens,
            });
        })?;
        let seconds: f64 = timed.steps.iter().sum();
        measured.decode.push(timed.steps.len() as f64 / seconds);
        measured.prefill.push(prompt.len() as f64 / timed.prefill);
        measured.first_token.push(timed.prefill);
        measured.longest_gap = timed.steps.iter().copied().reduce(f64::max);
        measured.token_ids = timed.tokens;
    }
    if let Ok(tokenizer) = &tokenizer {
        let ids = measured.token_ids.iter().copied();
        let answer: Vec<u32> = ids.take_while(|id| !tokenizer.is_end(*id)).collect();
        measured.text = tokenizer.decode(&answer);
    }
    Ok(measured)
}

/// The token ids of the prompt. Where there is no tokenizer, a prompt of plain words is replaced by arbitrary ids.
fn prompt(
    tokenizer: &Result<Tokenizer, DecodeError>,
    spec: &ModelSpec,
    request: &MeasureRequest,
    generated: u64,
    chat: &dyn Fn(&Tokenizer, Message) -> Result<String, ValidateError>,
) -> Result<Vec<u32>, ValidateError> {
    let text = request.prompt.text(0);
    let ids = match (tokenizer, &request.prompt) {
        (Err(_), Prompt::Words(count)) => spread_ids(*count, spec.dims.vocab),
        (Err(error), Prompt::Text(_)) => {
            return Err(ValidateError::Prompt(format!(
                "{error}; leave --prompt out to measure with plain ids"
            )));
        }
        (Ok(tokenizer), Prompt::Text(_)) if request.chat => {
            let role = "user".to_owned();
            let message = Message {
                role,
                content: text,
            };
            tokenizer.encode(&chat(tokenizer, message)?, true)?
        }
        (Ok(tokenizer), Prompt::Text(_)) => tokenizer.encode(&text, true)?,
        (Ok(tokenizer), Prompt::Words(count)) => {
            let mut ids = tokenizer.encode(&text, true)?;
            ids.truncate(usize::try_from(*count).unwrap_or(usize::MAX));
            ids
        }
    };
    let room = request.context.saturating_sub(generated);
    match ids.len() as u64 {
        0 => Err(ValidateError::Prompt(
            "the prompt has no token; give another --prompt".to_owned(),
        )),
        tokens if tokens > room => Err(ValidateError::Prompt(format!(
            "a prompt of {} and {} behind it do not fit into a context of {}; raise --context, or lower --tokens or --prompt-tokens",
            crate::units::tokens(tokens),
            generated,
            request.context
        ))),
        _ => Ok(ids),
    }
}

/// `count` token ids, spread over the vocabulary.
fn spread_ids(count: u64, vocabulary: u64) -> Vec<u32> {
    let id = |index: u64| (index.wrapping_mul(7919) + 17) % vocabulary.max(1);
    (0..count.clamp(1, 1 << 22))
        .map(|index| id(index) as u32)
        .collect()
}

/// Reads `prompt` into an empty cache and generates `count` tokens after it.
fn run(
    model: &mut Model,
    prompt: &[u32],
    count: u64,
    cancel: &AtomicBool,
    tell: &mut dyn FnMut(u64),
) -> Result<DecodeTimes, ValidateError> {
    let (mut next, prefill) = read(model, prompt)?;
    let mut timed = DecodeTimes {
        prefill,
        tokens: vec![next],
        ..DecodeTimes::default()
    };
    for token in 1..count {
        let seconds;
        (next, seconds) = step(model, next, cancel)?;
        timed.steps.push(seconds);
        timed.tokens.push(next);
        tell(token + 1);
    }
    Ok(timed)
}

/// Reads `prompt` into an empty cache. Returns the token that follows, and the seconds that it took.
///
/// # Errors
/// [`ValidateError::Decode`] where the decoder fails.
pub(super) fn read(model: &mut Model, prompt: &[u32]) -> Result<(u32, f64), ValidateError> {
    model.reset();
    let started = Instant::now();
    let next = greedy(model.prefill(prompt)?);
    Ok((next, started.elapsed().as_secs_f64()))
}

/// The token that follows `last`, and the seconds that it took.
///
/// # Errors
/// [`ValidateError::Decode`] where the decoder fails, [`ValidateError::Cancelled`] once `cancel` is set.
pub(super) fn step(
    model: &mut Model,
    last: u32,
    cancel: &AtomicBool,
) -> Result<(u32, f64), ValidateError> {
    if cancel.load(Ordering::Relaxed) {
        return Err(ValidateError::Cancelled);
    }
    let started = Instant::now();
    let next = greedy(model.step(last)?);
    Ok((next, started.elapsed().as_secs_f64()))
}
