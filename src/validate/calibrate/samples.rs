//! Times small models that are only shapes, two or more for each format.
//!
//! In: memory and time. Out: [`Samples`], which others may read meanwhile. What else the machine does comes and goes
//! by seconds and minutes: so all models are in memory at once and take turns until the time is up, and longer where
//! turns differ much. They take turns token by token: the weights of a real model are in no cache when its next token
//! reads them, and those of these small ones would be, where caches are large. On a machine that is too slow for all
//! of them there are fewer models, shorter rounds, no prompts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CalibrateError;
use super::prior::FORMATS;
use super::scratch::Scratch;
use super::synthetic::Shape;
use super::times::Times;
use crate::decode::{LoadOptions, Model, has_kernel};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::plan::Workload;
use crate::plan::operations::{decode_operations, prompt_attention};
use crate::plan::speed::Operation;
use crate::scheme::{self, Container};
use crate::units::Bytes;
use crate::validate::candle;
use crate::validate::control::Progress;
use crate::validate::error::ValidateError;

/// Many narrow layers: what is paid by layer and row stands out.
const NARROW: Shape = Shape {
    layers: 16,
    hidden: 768,
    inner: 2048,
    heads: 12,
    kv_heads: 4,
    head_dim: 64,
    vocab: 24_576,
};

/// A few wide ones: what is paid by byte does.
const WIDE: Shape = Shape {
    layers: 2,
    hidden: 2048,
    inner: 5632,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    vocab: 12_288,
};

/// Hardly anything but layers: what a layer costs.
const LAYERS: Shape = Shape {
    layers: 32,
    hidden: 256,
    inner: 512,
    heads: 4,
    kv_heads: 2,
    head_dim: 64,
    vocab: 4096,
};

/// Hardly anything but rows of the head: what a row costs.
const ROWS: Shape = Shape {
    layers: 1,
    vocab: 131_072,
    ..LAYERS
};

/// The format in which costs that all formats share are told apart: by depth, layers and rows.
const SHARED: Dtype = Dtype::Q4_0;

/// Tokens of the prompts: a short one, and one that leaves a deep cache.
const SHORT: u64 = 64;
const LONG: u64 = 768;

/// Tokens decoded in a round, and rounds behind one prompt.
const TOKENS: u64 = 12;
const TURNS: u64 = 4;

/// How sure the time of each model should be, over that time.
const SURE: f64 = 0.05;

/// The share of the time which loading may take, and that of what is then left which first prompts may.
const LOADING: f64 = 0.5;
const PROMPTS: f64 = 0.5;

/// What a token of a prompt takes at most, over one that is decoded alone.
const IN_A_PROMPT: f64 = 0.5;

/// How far turns are apart takes two: so many are made room for.
const LEAST_ROUNDS: f64 = 2.0;

/// The shapes of a format, each with a prompt.
fn shapes(format: Dtype) -> Vec<(Shape, u64)> {
    let (narrow, wide) = if has_kernel(format) && format != Dtype::F32 {
        (NARROW, WIDE)
    } else {
        // Large or slow, and rare: less of both.
        (
            Shape {
                layers: 4,
                vocab: 8192,
                ..NARROW
            },
            Shape {
                layers: 1,
                vocab: 4096,
                ..WIDE
            },
        )
    };
    let mut shapes = vec![(narrow, SHORT), (wide, SHORT)];
    if format == SHARED {
        shapes.extend([(NARROW, LONG), (LAYERS, SHORT), (ROWS, SHORT)]);
    }
    shapes
}

/// A model of one format behind one prompt.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// As an index of [`FORMATS`].
    pub(super) format: usize,
    /// What a decoded token touches.
    pub(super) operations: Vec<Operation>,
    pub(super) layers: f64,
    pub(super) prompt: u64,
    /// Multiply-accumulates of attention over the prompt.
    pub(super) prompt_attention: f64,
    /// Of a decoded token, turn by turn.
    pub(super) token: Times,
    /// Of the prompt, each time that it was read.
    pub(super) prompt_read: Times,
}

impl Sample {
    fn new(format: usize, spec: &ModelSpec, prompt: u64) -> Sample {
        let workload = Workload {
            prompt_tokens: prompt + TOKENS * TURNS / 2,
            ..Workload::default()
        };
        let stored = scheme::stored(spec, "calibration", Container::Gguf);
        Sample {
            format,
            operations: decode_operations(spec, &stored, &workload),
            layers: spec.layers.len() as f64,
            prompt,
            prompt_attention: prompt_attention(spec, prompt) as f64,
            token: Times::default(),
            prompt_read: Times::default(),
        }
    }
}

/// What was timed so far, turn by turn.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    pub(super) fn so_far(&self) -> Vec<Sample> {
        self.all().clone()
    }

    /// Adds one; returns where it is.
    pub(super) fn add(&self, sample: Sample) -> usize {
        let mut all = self.all();
        all.push(sample);
        all.len() - 1
    }

    fn all(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When measuring ends where all is sure, and when it does in any case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) sure: Instant,
    pub(super) latest: Instant,
}

impl Ends {
    /// Of the first of several parts, which has this share of what is left.
    fn of_part(self, share: f64) -> Ends {
        let now = Instant::now();
        let end = |of: Instant| now + of.saturating_duration_since(now).mul_f64(share);
        Ends {
            sure: end(self.sure),
            latest: end(self.latest),
        }
    }

    fn seconds_left(self) -> f64 {
        let left = self.latest.saturating_duration_since(Instant::now());
        left.as_secs_f64()
    }
}

/// A loaded model, and where among the samples it is.
struct Subject {
    model: Model,
    spec: ModelSpec,
    next: u32,
    index: usize,
    format: usize,
    prompt: u64,
    /// Seconds that a token takes, roughly.
    token: f64,
    /// Seconds of this round's tokens.
    seconds: f64,
}

/// Measures as often as is possible until `ends`. Takes no more than half of the memory that is `available`; where
/// all models do not fit into it together, in groups that do, or format by format.
pub(super) fn take(
    samples: &Samples,
    available: Option<Bytes>,
    ends: Ends,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), CalibrateError> {
    let groups = groups(available.map_or(Bytes(0), |memory| Bytes(memory.0 / 2)));
    let mut left = FORMATS.len();
    for group in groups {
        if Instant::now() > ends.latest {
            break;
        }
        let ends = ends.of_part(group.len() as f64 / left as f64);
        left -= group.len();
        let mut subjects = load(&group, ends, cancel, progress)?;
        begin(samples, &mut subjects, ends);
        take_turns(samples, &mut subjects, ends, cancel, progress)?;
    }
    Ok(())
}

/// The models of `group`, or of its first formats if there is no time for all.
fn load(
    group: &[usize],
    ends: Ends,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Subject>, CalibrateError> {
    let enough = ends.of_part(LOADING).latest;
    let mut subjects = Vec::new();
    for &format in group {
        if Instant::now() > enough && !subjects.is_empty() {
            break;
        }
        let dtype = FORMATS[format].0;
        progress(&Progress::stage(format!("loading {}", dtype.name())));
        for (shape, prompt) in shapes(dtype) {
            if cancel.load(Ordering::Relaxed) {
                return Err(ValidateError::Cancelled.into());
            }
            subjects.push(Subject::load(shape, format, prompt, cancel)?);
        }
    }
    Ok(subjects)
}

/// Makes a sample of each. Prompts that there is no time for are left out: decode begins behind a single token, and the
/// one that was timed on loading counts, since there may be no other.
fn begin(samples: &Samples, subjects: &mut [Subject], ends: Ends) {
    let mut left = ends.seconds_left() * PROMPTS;
    for subject in subjects {
        let reading = subject.token * subject.prompt as f64 * IN_A_PROMPT;
        match reading <= left {
            true => left -= reading,
            false => subject.prompt = 1,
        }
        let mut sample = Sample::new(subject.format, &subject.spec, subject.prompt);
        if subject.prompt == 1 {
            sample.token.push(subject.token);
        }
        subject.index = samples.add(sample);
    }
}

/// Lets the models take turns until `ends`.
fn take_turns(
    samples: &Samples,
    subjects: &mut [Subject],
    ends: Ends,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), CalibrateError> {
    let all: f64 = subjects.iter().map(|subject| subject.token).sum();
    let left = ends.seconds_left() * (1.0 - PROMPTS);
    let tokens = ((left / LEAST_ROUNDS / all) as u64).clamp(1, TOKENS);
    // Rounds with prompts take longer than those without.
    let mut longest = Duration::ZERO;
    for round in 1_u64.. {
        let begun = Instant::now();
        if round % TURNS == 1 {
            for subject in &mut *subjects {
                progress(&subject.stage(round));
                subject.read(samples)?;
            }
        }
        for token in 1..=tokens {
            for subject in &mut *subjects {
                if Instant::now() > ends.latest {
                    return Ok(());
                }
                progress(&subject.stage(round));
                subject.step(cancel)?;
                if token == tokens {
                    subject.end_of_round(samples, tokens);
                }
            }
        }
        longest = longest.max(begun.elapsed());
        let next = Instant::now() + longest;
        let sure = || {
            let all = samples.all();
            let mut own = subjects.iter().filter_map(|subject| all.get(subject.index));
            own.all(|sample| sample.token.noise() <= SURE)
        };
        if next > ends.latest || next > ends.sure && sure() {
            return Ok(());
        }
    }
    Ok(())
}

/// The formats, as indices, in groups whose models fit into `room` together, or alone.
fn groups(room: Bytes) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut free = Bytes(0);
    for (format, (dtype, ..)) in FORMATS.iter().enumerate() {
        let bytes = bytes(*dtype);
        match groups.last_mut() {
            Some(group) if bytes <= free => group.push(format),
            _ => {
                groups.push(vec![format]);
                free = room;
            }
        }
        free = free.saturating_sub(bytes);
    }
    groups
}

/// Of all models of a format.
fn bytes(format: Dtype) -> Bytes {
    let shapes = shapes(format).into_iter();
    shapes.map(|(shape, _)| shape.bytes(format)).sum()
}

impl Subject {
    fn load(
        shape: Shape,
        format: usize,
        prompt: u64,
        cancel: &AtomicBool,
    ) -> Result<Subject, CalibrateError> {
        let scratch = Scratch::new().map_err(|error| CalibrateError::Write(error.to_string()))?;
        let (checkpoint, spec) = shape.make(FORMATS[format].0, &scratch)?;
        let options = LoadOptions {
            context: prompt + TOKENS * TURNS,
            ..LoadOptions::default()
        };
        let mut model =
            Model::load(&checkpoint, &spec, &options, &mut |_| {}).map_err(ValidateError::from)?;
        // The first pass touches everything once, the second says how long one takes.
        model.prefill(&[0]).map_err(ValidateError::from)?;
        let (_, token) = candle::step(&mut model, 0, cancel)?;
        Ok(Subject {
            model,
            spec,
            next: 0,
            index: 0,
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
        (self.next, seconds) = candle::read(&mut self.model, &prompt)?;
        // A token alone is no prompt.
        if self.prompt > 1
            && let Some(sample) = samples.all().get_mut(self.index)
        {
            sample.prompt_read.push(seconds);
        }
        Ok(())
    }

    /// Decodes a token behind what was read and decoded.
    fn step(&mut self, cancel: &AtomicBool) -> Result<(), ValidateError> {
        let seconds;
        (self.next, seconds) = candle::step(&mut self.model, self.next, cancel)?;
        self.seconds += seconds;
        Ok(())
    }

    /// Takes down what a token took in a round of so many.
    fn end_of_round(&mut self, samples: &Samples, tokens: u64) {
        if let Some(sample) = samples.all().get_mut(self.index) {
            sample.token.push(self.seconds / tokens as f64);
        }
        self.seconds = 0.0;
    }

    fn stage(&self, round: u64) -> Progress {
        let format = FORMATS[self.format].0.name();
        Progress::stage(format!("round {round}: {format}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_larger_than_the_room_and_no_format_is_left_out() {
        assert_eq!(groups(Bytes::GIB * 16).len(), 1);
        assert_eq!(groups(Bytes(0)).len(), FORMATS.len());
        let room = Bytes::MIB * 1400;
        let some = groups(room);
        assert!((2..FORMATS.len()).contains(&some.len()), "{some:?}");
        for group in &some {
            let bytes = |format: &usize| bytes(FORMATS[*format].0);
            assert!(group.iter().map(bytes).sum::<Bytes>() <= room, "{group:?}");
        }
        assert!(some.into_iter().flatten().eq(0..FORMATS.len()));
    }

    #[test]
    fn a_shape_takes_the_bytes_that_its_file_has() {
        let scratch = Scratch::new().unwrap();
        let shape = Shape {
            layers: 1,
            ..NARROW
        };
        let (checkpoint, _) = shape.make(Dtype::Q4_0, &scratch).unwrap();
        let stored: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes.0).sum();
        // Norms are in F32 there: next to nothing.
        let error = shape.bytes(Dtype::Q4_0).0 as f64 / stored as f64 - 1.0;
        assert!(error.abs() < 0.002, "{error}");
    }
}
