//! The forward pass: tokens through embedding, blocks, norm and head.
//!
//! In: a description and its weights; then tokens and the state of a sequence. Out: logits.

use super::block::{Block, Step};
use super::cache::Rows;
use super::kernels::Input;
use super::matrix::Matrix;
use super::ops;
use super::recurrent::Recurrence;
use super::streams::{StreamBlock, Streams};
use super::weights::Weights;
use super::{DecodeError, LoadOptions};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::{Cache, ModelSpec, Pass, TensorRole as R};
use crate::plan::kv::KvSettings;
use crate::units::Bytes;

/// A model's weights in the order in which a token meets them.
pub(super) struct Network {
    pass: Pass,
    hidden: usize,
    embedding: Matrix,
    streams: Option<Streams>,
    blocks: Vec<(Block, Option<StreamBlock>)>,
    output_norm: Vec<f32>,
    /// Absent where the embedding is the head too.
    head: Option<Matrix>,
    weight_bytes: Bytes,
}

/// One sequence so far.
pub(super) struct State {
    /// Tokens evaluated.
    pub(super) position: usize,
    /// Tokens that the cache holds.
    pub(super) context: usize,
    /// What each block remembers.
    memory: Vec<Memory>,
}

/// What a block remembers of the tokens so far.
pub(super) enum Memory {
    /// Nothing, or what another block does.
    Nothing,
    /// Their keys and values.
    Tokens([Rows; 2]),
    /// A state of one size.
    State(Recurrence),
}

/// Which logits a pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Last,
    All,
}

impl Network {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Network, DecodeError> {
        if !matches!(checkpoint.config, RawConfig::Gguf(_)) {
            return Err(DecodeError::NotGguf);
        }
        let Some(pass) = spec.pass.clone() else {
            return Err(DecodeError::NoPass {
                architecture: spec.architecture.clone(),
            });
        };
        let mut weights = Weights::open(checkpoint, spec, progress)?;
        let weights = &mut weights;
        let (hidden, vocab) = (spec.dims.hidden as usize, spec.dims.vocab as usize);
        let embedding = weights.matrix(R::TokenEmbedding, None, [vocab, hidden])?;
        let streams = Streams::load(weights, spec)?;
        let factors = rope_factors(weights, spec, &pass, options)?;
        let blocks = spec.layers.iter().enumerate().map(|(index, layer)| {
            let block = Block::load(weights, spec, &pass, index, layer, factors.as_deref())?;
            Ok((block, StreamBlock::load(weights, spec, index as u32)?))
        });
        let blocks = blocks.collect::<Result<_, DecodeError>>()?;
        // LFM2 calls its last norm after the embedding.
        let norm = match weights.has(R::OutputNorm, None) {
            true => R::OutputNorm,
            false => R::TokenEmbeddingNorm,
        };
        let output_norm = weights.floats(norm, None, &[hidden])?;
        let head = match spec.tied {
            true => None,
            false => Some(weights.matrix(R::Output, None, [vocab, hidden])?),
        };
        Ok(Network {
            pass,
            hidden,
            embedding,
            streams,
            blocks,
            output_norm,
            head,
            weight_bytes: weights.finish()?,
        })
    }

    /// A state with room for a whole context.
    pub(super) fn state(
        &self,
        spec: &ModelSpec,
        options: &LoadOptions,
    ) -> Result<State, DecodeError> {
        let settings = KvSettings {
            context: options.context.max(1),
            ubatch: options.ubatch,
            type_k: options.kv_type,
            type_v: options.kv_type,
            ..KvSettings::default()
        };
        let mut memory = Vec::new();
        for (block, layer) in spec.layers.iter().enumerate() {
            let mixer = &layer.mixer;
            let own = mixer.attention.as_ref().filter(|a| a.cache == Cache::Own);
            memory.push(match (own, &mixer.recurrent) {
                (Some(a), _) => {
                    let cells = match a.window {
                        Some(window) => settings.window_cells(window),
                        None => settings.cells(),
                    };
                    let rows = |width: u64| {
                        let width = width as usize;
                        if options.kv_type == Dtype::Q8_0 && !width.is_multiple_of(32) {
                            return Err(DecodeError::KvWidth { block, width });
                        }
                        let shape = [a.kv_heads as usize, cells as usize, width];
                        Rows::new(options.kv_type, shape)
                    };
                    Memory::Tokens([rows(a.key_dim)?, rows(a.value_dim)?])
                }
                (None, Some(state)) => {
                    Memory::State(Recurrence::new(state.conv_elements, state.state_elements))
                }
                (None, None) => Memory::Nothing,
            });
        }
        Ok(State {
            position: 0,
            context: options.context.max(1) as usize,
            memory,
        })
    }

    /// Evaluates `tokens` behind those before. The caller has checked ids and context.
    pub(super) fn forward(
        &self,
        state: &mut State,
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Vec<f32>, DecodeError> {
        let mut x = vec![0.0; tokens.len() * self.hidden];
        for (token, row) in tokens.iter().zip(x.chunks_exact_mut(self.hidden)) {
            self.embedding.row(*token as usize, row)?;
        }
        ops::scale(&mut x, self.pass.embedding_scale);
        let step = Step {
            pass: &self.pass,
            position: state.position,
            tokens: tokens.len(),
        };
        let memory = &mut state.memory;
        match &self.streams {
            None => {
                for (block, _) in &self.blocks {
                    block.apply(&mut x, &step, memory)?;
                }
            }
            Some(streams) => {
                let (mut rows, own) = streams.start(tokens, x, self.pass.norm_epsilon)?;
                for (index, (block, beside)) in self.blocks.iter().enumerate() {
                    if let Some(beside) = beside {
                        beside.apply(block, (index, &mut rows), &own, &step, memory)?;
                    }
                }
                x = streams.finish(rows)?;
            }
        }
        state.position += tokens.len();
        let first = match wanted {
            Wanted::Nothing => return Ok(Vec::new()),
            Wanted::Last => x.len().saturating_sub(self.hidden),
            Wanted::All => 0,
        };
        let last = x.get(first..).unwrap_or_default();
        let normed = ops::normed(last, &self.output_norm, self.pass.norm_epsilon);
        let mut logits = self
            .head
            .as_ref()
            .unwrap_or(&self.embedding)
            .multiply(&Input::new(&normed, self.hidden))?;
        if let Some(cap) = self.pass.output_softcap {
            ops::softcap(&mut logits, cap);
        }
        Ok(logits)
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.embedding.rows
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.weight_bytes
    }
}

/// What divides the rotary frequencies: one table for all contexts, or one for those within the
/// original context and one for longer ones.
fn rope_factors(
    weights: &mut Weights<'_>,
    spec: &ModelSpec,
    pass: &Pass,
    options: &LoadOptions,
) -> Result<Option<Vec<f32>>, DecodeError> {
    let role = match weights.has(R::RopeFreqs, None) {
        true => R::RopeFreqs,
        false if options.context > pass.rope.original_context => R::RopeFactorsLong,
        false => R::RopeFactorsShort,
    };
    let tensor = spec.tensors.iter().find(|tensor| tensor.role == role);
    match tensor {
        Some(tensor) => weights
            .floats(role, None, &[tensor.elements() as usize])
            .map(Some),
        None => Ok(None),
    }
}

impl State {
    pub(super) fn reset(&mut self) {
        self.position = 0;
        for memory in &mut self.memory {
            if let Memory::State(state) = memory {
                state.reset();
            }
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
        let bytes = self.memory.iter().map(|memory| match memory {
            Memory::Nothing => Bytes(0),
            Memory::Tokens([keys, values]) => keys.bytes() + values.bytes(),
            Memory::State(state) => Bytes(4) * state.elements(),
        });
        bytes.sum()
    }
}
