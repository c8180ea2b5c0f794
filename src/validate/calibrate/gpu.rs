//! The synthetic models by which llama.cpp's kernels are measured on a GPU, and what each is run with.
//!
//! Out: [`SyntheticModel`]s, and a file of each that llama.cpp loads. Their decode steps consist of different things, so
//! that together they tell apart the parameters of a runtime's speed. Must not: start a program, or predict anything.

use std::path::Path;
use std::time::Duration;

use super::CalibrateError;
use super::scratch::ScratchFile;
use super::synthetic::ModelShape;
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::units::Bytes;
use crate::validate::MeasureRequest;
use crate::validate::prompt::Prompt;

/// Tokens that a run generates.
const TOKENS: u64 = 64;

/// Tokens in the cache of a run whose decode rate is that of a deep context.
const DEPTH: u64 = 4096;

/// Measured repeats of a run.
const REPEATS: usize = 3;

/// What a model is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticRun {
    /// Tokens of the prompt whose rate is measured; 0 for none.
    pub prompt: u64,
    /// Tokens in the cache before the first generated one. Their prompt is not timed.
    pub depth: u64,
}

impl SyntheticRun {
    const fn prompt(prompt: u64) -> SyntheticRun {
        SyntheticRun { prompt, depth: 0 }
    }

    const fn decode() -> SyntheticRun {
        SyntheticRun::prompt(0)
    }

    const fn deep() -> SyntheticRun {
        SyntheticRun {
            prompt: 0,
            depth: DEPTH,
        }
    }

    /// What llama-bench is asked for, within `at_most`.
    pub fn request(&self, at_most: Duration) -> MeasureRequest {
        MeasureRequest {
            prompt: Prompt::Words(self.prompt),
            chat: false,
            tokens: TOKENS,
            depth: self.depth,
            context: self.context(),
            ubatch: 512,
            kv_types: [Dtype::F16; 2],
            threads: None,
            repeats: REPEATS,
            timeout: at_most,
            at_most: Some(at_most),
        }
    }

    /// Tokens of context that it needs.
    pub fn context(&self) -> u64 {
        self.prompt + self.depth + TOKENS
    }
}

/// A model whose weights carry no sense.
#[derive(Clone, Copy, Debug)]
pub struct SyntheticModel {
    shape: ModelShape,
    dtype: Dtype,
    runs: &'static [SyntheticRun],
}

/// Two of each kind but the last, so that what is peculiar to one shape or format is not taken for a property of the board.
///
/// - Many narrow layers: launches are a large part of a step, and with a full cache attention is. Their prompts are left
///   out: what a layer costs there was fitted to wider ones.
/// - Short rows of the most common formats: unpacking and multiplying take most of a step.
/// - Long rows of floats, which need no unpacking: reading memory is most of a step.
/// - A single narrow layer: nearly all of a step is the host. It is a tenth to a sixth of every other step, so without this
///   model it would be taken for slow kernels, or those for it. What is peculiar to the model is little against what it
///   tells, so one is enough.
///
/// Their shapes stay near those of published models, which the speed model was fitted to. One of each kind comes before the
/// second of any, so that runs that end early speak of every parameter.
const MODELS: [SyntheticModel; 7] = [
    SyntheticModel {
        shape: ModelShape {
            layers: 64,
            hidden: 256,
            inner: 256,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            vocab: 8192,
        },
        dtype: Dtype::F16,
        runs: &[SyntheticRun::decode(), SyntheticRun::deep()],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 6,
            hidden: 1024,
            inner: 8192,
            heads: 16,
            kv_heads: 8,
            head_dim: 64,
            vocab: 16_384,
        },
        dtype: Dtype::Q4_K,
        runs: &[SyntheticRun::prompt(512), SyntheticRun::deep()],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 1,
            hidden: 4096,
            inner: 8192,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            vocab: 4096,
        },
        dtype: Dtype::F16,
        runs: &[SyntheticRun::prompt(512)],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 1,
            hidden: 256,
            inner: 256,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            vocab: 512,
        },
        dtype: Dtype::F16,
        runs: &[SyntheticRun::decode()],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 48,
            hidden: 320,
            inner: 320,
            heads: 5,
            kv_heads: 5,
            head_dim: 64,
            vocab: 4096,
        },
        dtype: Dtype::Q8_0,
        runs: &[SyntheticRun::decode(), SyntheticRun::deep()],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 5,
            hidden: 1280,
            inner: 6144,
            heads: 10,
            kv_heads: 2,
            head_dim: 128,
            vocab: 16_384,
        },
        dtype: Dtype::Q6_K,
        runs: &[SyntheticRun::prompt(2048)],
    },
    SyntheticModel {
        shape: ModelShape {
            layers: 2,
            hidden: 5120,
            inner: 3072,
            heads: 24,
            kv_heads: 4,
            head_dim: 128,
            vocab: 4096,
        },
        dtype: Dtype::F16,
        runs: &[SyntheticRun::prompt(2048)],
    },
];

impl SyntheticModel {
    /// All of them, one of each kind first.
    pub fn all() -> [SyntheticModel; 7] {
        MODELS
    }

    /// Its name, which no published model has.
    pub fn name(&self) -> String {
        format!("synthetic-{}x{}", self.shape.layers, self.shape.hidden)
    }

    /// The type of its matrices.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// What it is run with.
    pub fn runs(&self) -> &'static [SyntheticRun] {
        self.runs
    }

    /// Opens a file of it that has no weights yet and takes no memory.
    ///
    /// # Errors
    /// [`CalibrateError`] where the file cannot be written or opened.
    pub fn open(&self) -> Result<SyntheticFile, CalibrateError> {
        let scratch =
            ScratchFile::new().map_err(|error| CalibrateError::Write(error.to_string()))?;
        let (checkpoint, mut spec) = self.shape.outline(&self.name(), self.dtype, &scratch)?;
        // Instead of that of a file without one.
        spec.name = self.name();
        Ok(SyntheticFile {
            model: *self,
            scratch,
            checkpoint,
            spec,
        })
    }
}

/// The file of a synthetic model. It is gone when this is dropped, or the program ends.
#[derive(Debug)]
pub struct SyntheticFile {
    model: SyntheticModel,
    scratch: ScratchFile,
    checkpoint: Checkpoint,
    spec: ModelSpec,
}

impl SyntheticFile {
    /// Writes the weights.
    ///
    /// # Errors
    /// [`CalibrateError::Write`].
    pub fn fill(&self) -> Result<(), CalibrateError> {
        let model = &self.model;
        model.shape.fill(&model.name(), model.dtype, &self.scratch)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model as planned.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The path by which a program that this one starts opens it.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Its size.
    pub fn bytes(&self) -> Bytes {
        self.checkpoint.files.iter().map(|file| file.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_weights_is_as_long_as_the_written_one() {
        let file = MODELS[0].open().unwrap();
        let length = || std::fs::metadata(file.path()).unwrap().len();
        let before = length();
        file.fill().unwrap();
        assert_eq!(length(), before);
        assert_eq!(file.bytes().0, before);
        assert_eq!(file.spec().name, MODELS[0].name());
        assert_eq!(file.spec().layers.len(), 64);
    }
}
