//! Times the models, round by round, within the time that there is.
//!
//! In: memory and time. Out: [`Samples`], which another thread may read meanwhile. The load that other programs put on
//! a machine changes within seconds and minutes. So all models are in memory at once and decode in turns until the time
//! is up, and for longer where rounds differ much. They take turns token by token: the weights of a real model are in
//! no cache of the processor when its next token reads them, and those of these small ones would be. On a machine that
//! is too slow for all of them there are fewer models, shorter rounds and no prompts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::CalibrateError;
use super::prior::FORMATS;
use super::samples::{Sample, Samples};
use super::scratch::ScratchFile;
use super::shapes::{groups, shapes};
use super::synthetic::ModelShape;
use crate::decode::{LoadOptions, Model};
use crate::model::ModelSpec;
use crate::units::Bytes;
use crate::validate::candle;
use crate::validate::control::MeasureProgress;
use crate::validate::error::ValidateError;

/// Tokens that each model decodes in a round.
const TOKENS: u64 = 12;

/// Rounds after each reading of the prompts.
const ROUNDS_A_PROMPT: u64 = 4;

/// Tokens that a model decodes after a prompt.
const DEPTH: u64 = TOKENS * ROUNDS_A_PROMPT;

/// A time is certain if the standard deviation of its mean is at most this share of it.
const CERTAIN: f64 = 0.05;

/// The share of the time that loading the models may take.
const LOADING: f64 = 0.5;

/// The share of the time after loading that the first reading of the prompts may take.
const PROMPTS: f64 = 0.5;

/// The time of a token of a prompt is at most this share of that of a decoded token.
const IN_A_PROMPT: f64 = 0.5;

/// The deviation between rounds needs two of them, so rounds are made short enough for two.
const LEAST_ROUNDS: f64 = 2.0;

/// When measuring ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// If by then the times of all models are certain.
    pub(super) certain: Instant,
    /// In any case.
    pub(super) latest: Instant,
}

impl Deadlines {
    /// The deadlines of the first of several parts of the work, which has this share of the time that is left.
    fn of_part(self, share: f64) -> Deadlines {
        let now = Instant::now();
        let end = |of: Instant| now + of.saturating_duration_since(now).mul_f64(share);
        Deadlines {
            certain: end(self.certain),
            latest: end(self.latest),
        }
    }

    fn seconds_left(self) -> f64 {
        let left = self.latest.saturating_duration_since(Instant::now());
        left.as_secs_f64()
    }
}

/// A loaded model.
struct LoadedModel {
    decoder: Model,
    spec: ModelSpec,
    /// The token to decode next.
    next: u32,
    /// The index of its sample.
    sample: usize,
    /// An index of [`FORMATS`].
    format: usize,
    /// Tokens of its prompt.
    prompt: u64,
    /// Seconds that a decoded token takes, measured once after loading.
    token: f64,
    /// Seconds of the tokens decoded in this round.
    seconds: f64,
}

/// Measures in as many rounds as there is time for. Takes no more than half of the memory that is `available`: where
/// the models do not fit into that together, they are measured in groups that do, at least a format at a time.
///
/// # Errors
/// [`CalibrateError`] where a model cannot be written, opened or run; [`ValidateError::Cancelled`] within it once
/// `cancel` is set.
pub(super) fn take(
    samples: &Samples,
    available: Option<Bytes>,
    deadlines: Deadlines,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<(), CalibrateError> {
    let groups = groups(available.map_or(Bytes(0), |memory| Bytes(memory.0 / 2)));
    let mut left = FORMATS.len();
    for group in groups {
        if Instant::now() > deadlines.latest {
            break;
        }
        let deadlines = deadlines.of_part(group.len() as f64 / left as f64);
        left -= group.len();
        let mut models = load(&group, deadlines, cancel, progress)?;
        begin(samples, &mut models, deadlines);
        take_turns(samples, &mut models, deadlines, cancel, progress)?;
    }
    Ok(())
}

/// Loads the models of `group`, or of its first formats if there is no time for all.
fn load(
    group: &[usize],
    deadlines: Deadlines,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<Vec<LoadedModel>, CalibrateError> {
    let until = deadlines.of_part(LOADING).latest;
    let mut models = Vec::new();
    for &format in group {
        if Instant::now() > until && !models.is_empty() {
            break;
        }
        let dtype = FORMATS[format].0;
        progress(&MeasureProgress::stage(format!("loading {}", dtype.name())));
        for (shape, prompt) in shapes(dtype) {
            if cancel.load(Ordering::Relaxed) {
                return Err(ValidateError::Cancelled.into());
            }
            models.push(LoadedModel::load(shape, format, prompt, cancel)?);
        }
    }
    Ok(models)
}

/// Adds a sample for each model. Where there is no time for its prompt, it decodes after a single token instead, and
/// the token that was timed after loading counts, since there may be no other.
fn begin(samples: &Samples, models: &mut [LoadedModel], deadlines: Deadlines) {
    let mut left = deadlines.seconds_left() * PROMPTS;
    for model in models {
        let reading = model.token * model.prompt as f64 * IN_A_PROMPT;
        if reading <= left {
            left -= reading
        } else {
            model.prompt = 1
        }
        let mut sample = Sample::new(model.format, &model.spec, model.prompt, DEPTH);
        if model.prompt == 1 {
            sample.token.push(model.token);
        }
        model.sample = samples.add(sample);
    }
}

/// Lets the models decode in turns until the deadlines.
fn take_turns(
    samples: &Samples,
    models: &mut [LoadedModel],
    deadlines: Deadlines,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<(), CalibrateError> {
    let all: f64 = models.iter().map(|model| model.token).sum();
    let left = deadlines.seconds_left() * (1.0 - PROMPTS);
    let tokens = ((left / LEAST_ROUNDS / all) as u64).clamp(1, TOKENS);
    // Rounds with prompts take longer than those without.
    let mut longest = Duration::ZERO;
    for round in 1_u64.. {
        let started = Instant::now();
        if round % ROUNDS_A_PROMPT == 1 {
            for model in &mut *models {
                progress(&model.stage(round));
                model.read(samples)?;
            }
        }
        for token in 1..=tokens {
            for model in &mut *models {
                if Instant::now() > deadlines.latest {
                    return Ok(());
                }
                progress(&model.stage(round));
                model.step(cancel)?;
                if token == tokens {
                    model.end_of_round(samples, tokens);
                }
            }
        }
        longest = longest.max(started.elapsed());
        let next = Instant::now() + longest;
        let is_certain = || {
            let all = samples.all();
            let mut own = models.iter().filter_map(|model| all.get(model.sample));
            own.all(|sample| sample.token.noise() <= CERTAIN)
        };
        if next > deadlines.latest || next > deadlines.certain && is_certain() {
            return Ok(());
        }
    }
    Ok(())
}

impl LoadedModel {
    /// Makes a model of `shape` in a format and loads it.
    fn load(
        shape: ModelShape,
        format: usize,
        prompt: u64,
        cancel: &AtomicBool,
    ) -> Result<LoadedModel, CalibrateError> {
        let scratch =
            ScratchFile::new().map_err(|error| CalibrateError::Write(error.to_string()))?;
        let (checkpoint, spec) = shape.make(FORMATS[format].0, &scratch)?;
        let options = LoadOptions {
            context: prompt + DEPTH,
            ..LoadOptions::default()
        };
        let mut decoder =
            Model::load(&checkpoint, &spec, &options, &mut |_| {}).map_err(ValidateError::from)?;
        // The first pass brings the weights into memory; the second is timed.
        decoder.prefill(&[0]).map_err(ValidateError::from)?;
        let (_, token) = candle::step(&mut decoder, 0, cancel)?;
        Ok(LoadedModel {
            decoder,
            spec,
            next: 0,
            sample: 0,
            format,
            prompt,
            token,
            seconds: 0.0,
        })
    }

    /// Reads the prompt into an empty cache.
    fn read(&mut self, samples: &Samples) -> Result<(), ValidateError> {
        let ids = 0..self.prompt;
        let prompt: Vec<u32> = ids.map(|id| (id % self.spec.dims.vocab) as u32).collect();
        let seconds;
        (self.next, seconds) = candle::read(&mut self.decoder, &prompt)?;
        // A single token is no prompt.
        if self.prompt > 1
            && let Some(sample) = samples.all().get_mut(self.sample)
        {
            sample.prompt_read.push(seconds);
        }
        Ok(())
    }

    /// Decodes the next token.
    fn step(&mut self, cancel: &AtomicBool) -> Result<(), ValidateError> {
        let seconds;
        (self.next, seconds) = candle::step(&mut self.decoder, self.next, cancel)?;
        self.seconds += seconds;
        Ok(())
    }

    /// Records the mean time of a token of this round, in which `tokens` were decoded.
    fn end_of_round(&mut self, samples: &Samples, tokens: u64) {
        if let Some(sample) = samples.all().get_mut(self.sample) {
            sample.token.push(self.seconds / tokens as f64);
        }
        self.seconds = 0.0;
    }

    fn stage(&self, round: u64) -> MeasureProgress {
        let format = FORMATS[self.format].0.name();
        MeasureProgress::stage(format!("round {round}: {format}"))
    }
}
