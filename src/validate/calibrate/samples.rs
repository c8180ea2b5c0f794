//! Times small models that are only shapes, two for each format.
//!
//! In: memory, time, a folder for scratch files. Out: [`Sample`]s. What else the machine does comes
//! and goes by seconds and minutes: so all models are in memory at once and take turns until the time is up.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::CalibrateError;
use super::synthetic::Shape;
use crate::decode::{LoadOptions, Model};
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

/// The formats that are measured. Others are taken for the nearest in bits.
pub(super) const FORMATS: [Dtype; 10] = [
    Dtype::Q4_K,
    Dtype::Q6_K,
    Dtype::Q8_0,
    Dtype::Q4_0,
    Dtype::Q5_0,
    Dtype::F16,
    Dtype::Q5_K,
    Dtype::BF16,
    Dtype::Q3_K,
    Dtype::Q2_K,
];

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

/// The format in which the narrow shape is measured at depth too.
const DEEP: Dtype = Dtype::Q4_0;

/// Tokens of the prompts: a short one, and one that leaves a deep cache.
const SHORT: u64 = 64;
const LONG: u64 = 768;

/// Tokens decoded at a time, and how often behind one prompt. Many short times far apart tell more of a busy
/// machine than a long one.
const TOKENS: u64 = 12;
const TIMES: u64 = 4;

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
    /// Of every token decoded.
    pub(super) token_seconds: Vec<f64>,
    /// Of every time that the prompt was read.
    pub(super) prompt_seconds: Vec<f64>,
}

impl Sample {
    fn new(format: usize, spec: &ModelSpec, prompt: u64) -> Sample {
        let workload = Workload {
            prompt_tokens: prompt + TOKENS * TIMES / 2,
            ..Workload::default()
        };
        let stored = scheme::stored(spec, "calibration", Container::Gguf);
        Sample {
            format,
            operations: decode_operations(spec, &stored, &workload),
            layers: spec.layers.len() as f64,
            prompt,
            prompt_attention: prompt_attention(spec, prompt) as f64,
            token_seconds: Vec::new(),
            prompt_seconds: Vec::new(),
        }
    }
}

/// A loaded model and what is measured of it.
struct Subject {
    model: Model,
    vocabulary: u64,
    next: u32,
    sample: Sample,
}

/// Measures as often as is possible in `time`, at least once, with no more than half of the memory that is
/// `available`; where all models do not fit into it together, in groups that do, or format by format.
pub(super) fn take(
    available: Option<Bytes>,
    time: Duration,
    folder: &Path,
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
            progress(&Progress::stage(format!(
                "loading {}",
                FORMATS[format].name()
            )));
            let deep = (FORMATS[format] == DEEP).then_some((NARROW, LONG));
            for (shape, prompt) in [(NARROW, SHORT), (WIDE, SHORT)].into_iter().chain(deep) {
                subjects.push(Subject::load(shape, format, prompt, folder)?);
            }
        }
        // Rounds with prompts take longer than those without.
        let mut longest = Duration::ZERO;
        for round in 1_u64.. {
            let begun = Instant::now();
            for subject in &mut subjects {
                let format = FORMATS[subject.sample.format].name();
                progress(&Progress::stage(format!("round {round}: {format}")));
                if round % TIMES == 1 {
                    subject.read()?;
                }
                subject.decode(cancel)?;
            }
            longest = longest.max(begun.elapsed());
            if now.elapsed() + longest > share {
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
    for (format, dtype) in FORMATS.iter().enumerate() {
        let bytes = NARROW.bytes(*dtype) + WIDE.bytes(*dtype);
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

impl Subject {
    fn load(
        shape: Shape,
        format: usize,
        prompt: u64,
        folder: &Path,
    ) -> Result<Subject, CalibrateError> {
        let path = folder.join("calibration.gguf");
        let (checkpoint, spec) = shape.make(FORMATS[format], &path)?;
        let options = LoadOptions {
            context: prompt + TOKENS * TIMES,
            ..LoadOptions::default()
        };
        let loaded = Model::load(&checkpoint, &spec, &options, &mut |_| {});
        // The weights are in memory: the file has done its work.
        let _ = std::fs::remove_file(&path);
        let mut model = loaded.map_err(ValidateError::from)?;
        // The first pass touches everything once.
        model.prefill(&[0]).map_err(ValidateError::from)?;
        Ok(Subject {
            model,
            vocabulary: spec.dims.vocab,
            next: 0,
            sample: Sample::new(format, &spec, prompt),
        })
    }

    /// Reads the prompt into an empty cache.
    fn read(&mut self) -> Result<(), ValidateError> {
        let ids = 0..self.sample.prompt;
        let prompt: Vec<u32> = ids.map(|id| (id % self.vocabulary) as u32).collect();
        let seconds;
        (self.next, seconds) = candle::read(&mut self.model, &prompt)?;
        self.sample.prompt_seconds.push(seconds);
        Ok(())
    }

    /// Decodes some tokens behind what was read and decoded.
    fn decode(&mut self, cancel: &AtomicBool) -> Result<(), ValidateError> {
        for _ in 0..TOKENS {
            let seconds;
            (self.next, seconds) = candle::step(&mut self.model, self.next, cancel)?;
            self.sample.token_seconds.push(seconds);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_larger_than_the_room_and_no_format_is_left_out() {
        assert_eq!(groups(Bytes::GIB * 16).len(), 1);
        assert_eq!(groups(Bytes(0)).len(), FORMATS.len());
        let room = Bytes::MIB * 700;
        let some = groups(room);
        assert!((2..FORMATS.len()).contains(&some.len()), "{some:?}");
        for group in &some {
            let bytes =
                |format: &usize| NARROW.bytes(FORMATS[*format]) + WIDE.bytes(FORMATS[*format]);
            assert!(group.iter().map(bytes).sum::<Bytes>() <= room, "{group:?}");
        }
        assert!(some.into_iter().flatten().eq(0..FORMATS.len()));
    }

    #[test]
    fn a_shape_takes_the_bytes_that_its_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("narrow.gguf");
        let (checkpoint, _) = NARROW.make(Dtype::Q4_0, &path).unwrap();
        let stored: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes.0).sum();
        // Norms are in F32 there: next to nothing.
        let error = NARROW.bytes(Dtype::Q4_0).0 as f64 / stored as f64 - 1.0;
        assert!(error.abs() < 0.002, "{error}");
    }
}
