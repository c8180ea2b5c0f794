//! Runs a model: tokens in, logits out, from the same [`ModelSpec`] that the plan uses. A Hugging Face checkpoint is
//! run as the GGUF that conversion would make of it ([`GgufView`]).
//!
//! One forward pass whose differences are data: blocks and [`ForwardSpec`](crate::model::ForwardSpec) of the
//! description, and which tensors there are. It is written over `activations`, which two engines compute:
//! `host` with kernels of the processor, `tensors` with candle's operations on a GPU. Weights stay in
//! their stored format. Must not: know an architecture by its name, print, or panic on any file.

mod activations;
mod attention;
mod block;
mod buffer;
mod chat;
mod delta_net;
mod error;
mod feed_forward;
mod forward;
mod host;
mod latent;
mod linear;
mod matrix_scan;
mod norm;
mod observe;
mod per_layer;
mod projected_space;
mod ranker;
mod recurrent;
mod rope;
mod sandbox;
mod selective_scan;
mod state;
mod state_space;
mod streams;
mod tensors;
mod time_mix;
mod tokenizer;
mod weights;

use candle_core::Device;

use crate::checkpoint::{Checkpoint, Pooling};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::quantize::packed::Files;
use crate::quantize::{GgufView, QuantizeError};
use crate::units::Bytes;

pub use chat::{Chat, FUEL, Message, prompt, template_fault};
pub use error::{DecodeError, TemplateFault};
pub use host::{kernels, multiplies, threads};
pub use observe::{MatrixName, Observer, Observing};
pub use sandbox::{COMMAND as RENDER_COMMAND, NO_JINJA, Renderer, WRONG_TEMPLATE, confine};
pub use tokenizer::Tokenizer;

use forward::{Decoder, LogitRows, Sequence};
use host::HostActivations;
use tensors::TensorActivations;

/// The implementation that computes a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The processor, with kernels of this program.
    #[default]
    Cpu,
    /// The processor, with candle's tensor operations: those of a GPU, run slowly to check them.
    Tensors,
    /// The first CUDA device, with candle's tensor operations.
    Cuda,
}

impl Engine {
    /// Whether this machine and build can run it.
    pub fn is_there(self) -> bool {
        self.backend().is_ok()
    }

    /// candle's device, for those that compute with its tensors.
    fn backend(self) -> Result<Option<Device>, DecodeError> {
        match self {
            Engine::Cpu => Ok(None),
            Engine::Tensors => Ok(Some(Device::Cpu)),
            Engine::Cuda if cfg!(feature = "cuda") => match Device::new_cuda(0) {
                Ok(device) => Ok(Some(device)),
                Err(error) => Err(DecodeError::NoGpu {
                    what: DecodeError::from(error).to_string(),
                }),
            },
            Engine::Cuda => Err(DecodeError::NoGpu {
                what: "this program was built without `--features cuda`".to_owned(),
            }),
        }
    }
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Tokens that the cache holds.
    pub context: u64,
    /// The format of cached keys: a float, Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0.
    pub type_k: Dtype,
    /// The format of cached values.
    pub type_v: Dtype,
    /// Tokens of a prompt evaluated in one pass.
    pub ubatch: u64,
    /// The implementation that computes.
    pub engine: Engine,
    /// Who sees the inputs of weight matrices.
    pub observer: Option<Observing>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            context: 4096,
            type_k: Dtype::F16,
            type_v: Dtype::F16,
            ubatch: 512,
            engine: Engine::Cpu,
            observer: None,
        }
    }
}

/// The memory of a loaded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights as they are kept, repacked copies included.
    pub weights: Bytes,
    /// Keys, values and recurrent state.
    pub cache: Bytes,
}

/// A model in memory with the state of one sequence.
pub struct Model {
    decoder: Box<dyn Decoder>,
    ubatch: usize,
    logits: Vec<f32>,
    /// Whether it has no head that generates text.
    only_embeds: bool,
}

impl Model {
    /// Loads the weights of `checkpoint`, which `spec` describes, and allocates the whole cache.
    /// `progress` is told the bytes read so far, tensor by tensor.
    ///
    /// # Errors
    /// [`DecodeError`]: no weights, an architecture or format that is not run here or, for a Hugging
    /// Face checkpoint, not converted, tensors that are missing, left over or of another shape than
    /// the metadata implies, a file that cannot be read, memory for weights or cache that cannot be
    /// allocated, no usable GPU.
    pub fn load(
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Model, DecodeError> {
        let files = Files::open(checkpoint).map_err(QuantizeError::from)?;
        Model::load_view(&GgufView::of(checkpoint, &files, spec)?, options, progress)
    }

    /// Loads the weights of a GGUF that may not be written.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_view(
        source: &GgufView<'_>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Model, DecodeError> {
        let backend = options.engine.backend()?;
        let decoder: Box<dyn Decoder> = match backend {
            None => Box::new(Sequence::<HostActivations>::load(
                (),
                source,
                options,
                progress,
            )?),
            Some(backend) => Box::new(Sequence::<TensorActivations>::load(
                backend, source, options, progress,
            )?),
        };
        Ok(Model {
            decoder,
            ubatch: options.ubatch.clamp(1, 1 << 16) as usize,
            logits: Vec::new(),
            only_embeds: source.model.is_encoder(),
        })
    }

    /// Evaluates `tokens` behind what was evaluated before, and gives the logits that follow the
    /// last of them, one for each entry of the vocabulary.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, more tokens than the context holds.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], DecodeError> {
        self.check(tokens)?;
        let mut left = tokens.chunks(self.ubatch).peekable();
        while let Some(some) = left.next() {
            let logit_rows = match left.peek() {
                Some(_) => LogitRows::None,
                None => LogitRows::Tail(1),
            };
            self.logits = self.decoder.forward(some, logit_rows)?;
        }
        Ok(&self.logits)
    }

    /// Evaluates one token; the same as [`Model::prefill`] of it.
    ///
    /// # Errors
    /// As [`Model::prefill`].
    pub fn step(&mut self, token: u32) -> Result<&[f32], DecodeError> {
        self.prefill(&[token])
    }

    /// Evaluates `tokens` and gives the logits behind each of them, end to end:
    /// `tokens.len() x vocabulary`.
    ///
    /// # Errors
    /// As [`Model::prefill`].
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, DecodeError> {
        self.check(tokens)?;
        let mut all = Vec::new();
        for some in tokens.chunks(self.ubatch) {
            all.extend(self.decoder.forward(some, LogitRows::Tail(some.len()))?);
        }
        Ok(all)
    }

    /// Evaluates `tokens` for the observer alone: it sees what every matrix is multiplied with, the head
    /// included, and no logits are computed.
    ///
    /// # Errors
    /// As [`Model::prefill`]; an error of the observer.
    pub fn observe(&mut self, tokens: &[u32]) -> Result<(), DecodeError> {
        self.check(tokens)?;
        for some in tokens.chunks(self.ubatch) {
            self.decoder.forward(some, LogitRows::Observed)?;
        }
        Ok(())
    }

    /// The vector of a text, as `pooling` makes one of those of its tokens, which are evaluated in one pass. Not scaled to
    /// any length. A pooling that ranks gives the scores of the head, of which most rerankers have one.
    ///
    /// # Errors
    /// As [`Model::prefill`]; a pooling that ranks texts where the file has no head for that.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>, DecodeError> {
        self.reset();
        self.check_tokens(tokens)?;
        let rows = self.decoder.rows(tokens)?;
        let width = (rows.len() / tokens.len()).max(1);
        let mut each = rows.chunks_exact(width);
        match pooling {
            // Where a token sees those before it, the last one has seen all.
            Pooling::Rank if self.only_embeds => {
                self.decoder.rank(each.next().unwrap_or_default().to_vec())
            }
            Pooling::Rank => {
                let last = each.next_back().unwrap_or_default();
                self.decoder.rank(last.to_vec())
            }
            Pooling::Cls => Ok(each.next().unwrap_or_default().to_vec()),
            Pooling::Last => Ok(each.next_back().unwrap_or_default().to_vec()),
            Pooling::Mean => {
                let mut sums = vec![0.0f64; width];
                for row in each {
                    let pairs = sums.iter_mut().zip(row);
                    pairs.for_each(|(sum, x)| *sum += f64::from(*x));
                }
                let count = tokens.len() as f64;
                Ok(sums.into_iter().map(|sum| (sum / count) as f32).collect())
            }
        }
    }

    /// Evaluates `tokens` from the beginning and keeps what each block gets, for [`Model::replay`]; traces are numbered
    /// from 0. Gives the logits behind the last `rows` tokens.
    ///
    /// # Errors
    /// As [`Model::prefill`].
    pub fn trace(&mut self, tokens: &[u32], rows: usize) -> Result<Vec<f32>, DecodeError> {
        self.reset();
        self.check(tokens)?;
        self.decoder.trace(tokens, rows)
    }

    /// Evaluates the tokens of a trace again from block `first` on, or from the embedding on.
    ///
    /// # Errors
    /// No such trace; as [`Model::prefill`].
    pub fn replay(
        &mut self,
        trace: usize,
        first: Option<usize>,
        rows: usize,
    ) -> Result<Vec<f32>, DecodeError> {
        self.decoder.replay(trace, first, rows)
    }

    /// Frees the traces.
    pub fn forget_traces(&mut self) {
        self.decoder.forget_traces();
    }

    /// Uses other matrices in place of those of `tensor`: `bytes` are `[members, rows, columns]` of `dtype`.
    ///
    /// # Errors
    /// Nothing multiplies the format, or there is no memory for them.
    pub fn substitute(
        &mut self,
        tensor: &str,
        dtype: Dtype,
        shape: [usize; 3],
        bytes: &[u8],
    ) -> Result<(), DecodeError> {
        let mut allocation = buffer::Allocation::new(bytes.len())?;
        allocation.copy_from_slice(bytes);
        self.decoder
            .substitute(tensor, dtype, shape, allocation.into())
    }

    /// Uses the matrices of the file again.
    pub fn restore(&mut self) {
        self.decoder.restore();
    }

    /// Whether logits can be computed of `tokens`.
    fn check(&self, tokens: &[u32]) -> Result<(), DecodeError> {
        if self.only_embeds {
            return Err(DecodeError::OnlyEmbeds);
        }
        self.check_tokens(tokens)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), DecodeError> {
        let vocabulary = self.vocabulary();
        if tokens.is_empty() {
            return Err(DecodeError::NoTokens);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(DecodeError::UnknownToken { token, vocabulary });
        }
        let tokens = self.position() + tokens.len();
        let context = self.context();
        if tokens > context {
            Err(DecodeError::ContextFull { tokens, context })
        } else {
            Ok(())
        }
    }

    /// Forgets every token; weights and cache stay allocated.
    pub fn reset(&mut self) {
        self.decoder.reset();
    }

    /// Tokens evaluated so far.
    pub fn position(&self) -> usize {
        self.decoder.position()
    }

    /// Tokens that the cache holds.
    pub fn context(&self) -> usize {
        self.decoder.context()
    }

    /// Entries of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.decoder.vocabulary()
    }

    /// The memory of weights and of the sequence's state.
    pub fn memory_use(&self) -> MemoryUse {
        self.decoder.memory_use()
    }
}

/// The most likely token; of equal ones the first, as llama.cpp and Transformers pick it.
pub fn greedy(logits: &[f32]) -> u32 {
    let best = host::largest(logits, f32::NEG_INFINITY);
    let place = logits.iter().position(|&logit| logit == best);
    place.unwrap_or(0) as u32
}
