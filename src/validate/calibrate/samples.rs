//! Times small models that are only shapes, two or more for each format.
//!
//! In: memory and time. Out: [`Sample`]s. What else the machine does comes and goes by seconds and minutes: so
//! all models are in memory at once and take turns until the time is up, and longer where turns differ much.
//! They take turns token by token: the weights of a real model are in no cache when its next token reads them, and
//! those of these small ones would be, where caches are large.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// How sure the time of each model should be, over that time, and how many times as long as was asked for it
/// may take to become so.
const SURE: f64 = 0.05;
const LONGER: u32 = 3;

/// How far turns are apart takes two.
const LEAST_ROUNDS: u64 = 2;

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

/// A loaded model and what is measured of it.
struct Subject {
    model: Model,
    vocabulary: u64,
    next: u32,
    /// Seconds of this round's tokens.
    seconds: f64,
    sample: Sample,
}

/// Measures as often as is possible in `time`, at least twice, and up to [`LONGER`] until all is [`SURE`]. Takes no
/// more than half of the memory that is `available`; where all models do not fit into it together, in groups
/// that do, or format by format.
pub(super) fn take(
    available: Option<Bytes>,
    time: Duration,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<Sample>, CalibrateError> {
    let started = Instant::now();
    let mut taken = Vec::new();
    let groups = groups(available.map_or(Bytes(0), |memory| Bytes(memory.0 / 2)));
    let mut left = FORMATS.len();
    for group in groups {
        let now = Instant::now();
        let rest = time.saturating_sub(started.elapsed());
        let share = rest.mul_f64(group.len() as f64 / left as f64);
        left -= group.len();
        let mut subjects = Vec::new();
        for format in group {
            let dtype = FORMATS[format].0;
            progress(&Progress::stage(format!("loading {}", dtype.name())));
            for (shape, prompt) in shapes(dtype) {
                if cancel.load(Ordering::Relaxed) {
                    return Err(ValidateError::Cancelled.into());
                }
                subjects.push(Subject::load(shape, format, prompt)?);
            }
        }
        // Rounds with prompts take longer than those without.
        let mut longest = Duration::ZERO;
        for round in 1_u64.. {
            let begun = Instant::now();
            if round % TURNS == 1 {
                for subject in &mut subjects {
                    progress(&subject.stage(round));
                    subject.read()?;
                }
            }
            for _ in 0..TOKENS {
                for subject in &mut subjects {
                    progress(&subject.stage(round));
                    subject.step(cancel)?;
                }
            }
            subjects.iter_mut().for_each(Subject::end_of_round);
            longest = longest.max(begun.elapsed());
            let ends = now.elapsed() + longest;
            let sure = || {
                subjects
                    .iter()
                    .all(|subject| subject.sample.token.noise() <= SURE)
            };
            if round >= LEAST_ROUNDS && (ends > share * LONGER || ends > share && sure()) {
                break;
            }
        }
        taken.extend(subjects.into_iter().map(|subject| subject.sample));
    }
    Ok(taken)
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
    fn load(shape: Shape, format: usize, prompt: u64) -> Result<Subject, CalibrateError> {
        let scratch = Scratch::new().map_err(|error| CalibrateError::Write(error.to_string()))?;
        let (checkpoint, spec) = shape.make(FORMATS[format].0, &scratch)?;
        let options = LoadOptions {
            context: prompt + TOKENS * TURNS,
            ..LoadOptions::default()
        };
        let mut model =
            Model::load(&checkpoint, &spec, &options, &mut |_| {}).map_err(ValidateError::from)?;
        // The first pass touches everything once.
        model.prefill(&[0]).map_err(ValidateError::from)?;
        Ok(Subject {
            model,
            vocabulary: spec.dims.vocab,
            next: 0,
            seconds: 0.0,
            sample: Sample::new(format, &spec, prompt),
        })
    }

    /// Reads the prompt into an empty cache.
    fn read(&mut self) -> Result<(), ValidateError> {
        let ids = 0..self.sample.prompt;
        let prompt: Vec<u32> = ids.map(|id| (id % self.vocabulary) as u32).collect();
        let seconds;
        (self.next, seconds) = candle::read(&mut self.model, &prompt)?;
        self.sample.prompt_read.push(seconds);
        Ok(())
    }

    /// Decodes a token behind what was read and decoded.
    fn step(&mut self, cancel: &AtomicBool) -> Result<(), ValidateError> {
        let seconds;
        (self.next, seconds) = candle::step(&mut self.model, self.next, cancel)?;
        self.seconds += seconds;
        Ok(())
    }

    fn end_of_round(&mut self) {
        self.sample.token.push(self.seconds / TOKENS as f64);
        self.seconds = 0.0;
    }

    fn stage(&self, round: u64) -> Progress {
        let format = FORMATS[self.sample.format].0.name();
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
