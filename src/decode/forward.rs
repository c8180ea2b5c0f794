//! The forward pass: tokens through embedding, blocks, norm and head.
//!
//! In: a description and its weights; then tokens and the state of a sequence. Out: logits.

use super::block::{Block, Step};
use super::recurrent::Recurrence;
use super::rows::{Kind, Rows};
use super::streams::{StreamBlock, Streams};
use super::weights::Weights;
use super::{DecodeError, Held, LoadOptions};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::{Attention, Cache, ForwardSpec, ModelSpec, TensorRole as R};
use crate::plan::kv::KvSettings;
use crate::units::Bytes;

/// A model's weights in the order in which a token meets them.
struct Network<X: Rows> {
    place: X::Place,
    pass: ForwardSpec,
    vocabulary: usize,
    /// How blocks attend, each way once.
    kinds: Vec<Kind>,
    embedding: X::Matrix,
    streams: Option<Streams<X>>,
    blocks: Vec<(Block<X>, Option<StreamBlock<X>>)>,
    output_norm: X::Vector,
    /// Absent where the embedding is the head too.
    head: Option<X::Matrix>,
    weight_bytes: Bytes,
}

/// A network with one sequence so far.
pub(super) struct Sequence<X: Rows> {
    network: Network<X>,
    /// Tokens evaluated.
    position: usize,
    /// Tokens that the cache holds.
    context: usize,
    /// What each block remembers.
    memory: Vec<Memory<X>>,
}

/// What a block remembers of the tokens so far.
pub(super) enum Memory<X: Rows> {
    /// Nothing, or what another block does.
    Nothing,
    /// Their keys and values.
    Tokens(X::Cells),
    /// A state of one size.
    State(Recurrence),
}

/// The kinds of attention that blocks have, collected while they are loaded.
pub(super) struct Kinds {
    settings: KvSettings,
    /// What divides rotary frequencies.
    pub(super) factors: Option<Vec<f32>>,
    all: Vec<Kind>,
}

/// Which logits a pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Last,
    All,
}

impl Kinds {
    /// Cells of a block that attends like this.
    pub(super) fn cells(&self, attention: &Attention) -> usize {
        let cells = match attention.window {
            Some(window) => self.settings.window_cells(window),
            None => self.settings.cells(),
        };
        cells as usize
    }

    /// The number of `kind`.
    pub(super) fn number(&mut self, kind: Kind) -> usize {
        let known = self.all.iter().position(|other| *other == kind);
        known.unwrap_or_else(|| {
            self.all.push(kind);
            self.all.len() - 1
        })
    }
}

impl<X: Rows> Network<X> {
    fn load(
        place: X::Place,
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<(Network<X>, Kinds), DecodeError> {
        if !matches!(checkpoint.config, RawConfig::Gguf(_)) {
            return Err(DecodeError::NotGguf);
        }
        let pass = spec.forward.clone().map_err(|reason| DecodeError::NoPass {
            architecture: spec.architecture.clone(),
            reason,
        })?;
        let mut weights = Weights::<X>::open(&place, checkpoint, spec, progress)?;
        let weights = &mut weights;
        let (hidden, vocab) = (spec.dims.hidden as usize, spec.dims.vocab as usize);
        let embedding = weights.matrix(R::TokenEmbedding, None, [vocab, hidden])?;
        let streams = Streams::load(weights, spec)?;
        let mut kinds = Kinds {
            settings: KvSettings {
                context: options.context.max(1),
                ubatch: options.ubatch,
                type_k: options.kv_type,
                type_v: options.kv_type,
                ..KvSettings::default()
            },
            factors: rope_factors(weights, spec, &pass, options)?,
            all: Vec::new(),
        };
        let blocks = spec.layers.iter().enumerate().map(|(index, layer)| {
            let block = Block::load(weights, spec, &pass, index, layer, &mut kinds)?;
            Ok((block, StreamBlock::load(weights, spec, index as u32)?))
        });
        let blocks = blocks.collect::<Result<_, DecodeError>>()?;
        // LFM2 calls its last norm after the embedding.
        let norm = match weights.has(R::OutputNorm, None) {
            true => R::OutputNorm,
            false => R::TokenEmbeddingNorm,
        };
        let output_norm = weights.vector(norm, None, hidden)?;
        let head = match spec.tied {
            true => None,
            false => Some(weights.matrix(R::Output, None, [vocab, hidden])?),
        };
        let weight_bytes = weights.finish()?;
        let network = Network {
            place,
            pass,
            vocabulary: vocab,
            kinds: kinds.all.clone(),
            embedding,
            streams,
            blocks,
            output_norm,
            head,
            weight_bytes,
        };
        Ok((network, kinds))
    }

    /// Memory for a whole context.
    fn memory(&self, spec: &ModelSpec, kinds: &Kinds) -> Result<Vec<Memory<X>>, DecodeError> {
        let dtype = kinds.settings.type_k;
        let each = spec.layers.iter().enumerate().map(|(block, layer)| {
            let mixer = &layer.mixer;
            let own = mixer.attention.as_ref().filter(|a| a.cache == Cache::Own);
            Ok(match (own, &mixer.recurrent) {
                (Some(a), _) => {
                    let widths = [a.key_dim, a.value_dim].map(|width| width as usize);
                    for width in widths {
                        if dtype == Dtype::Q8_0 && !width.is_multiple_of(32) {
                            return Err(DecodeError::KvWidth { block, width });
                        }
                    }
                    let heads_and_cells = [a.kv_heads as usize, kinds.cells(a)];
                    Memory::Tokens(X::cells(&self.place, dtype, heads_and_cells, widths)?)
                }
                (None, Some(state)) => {
                    Memory::State(Recurrence::new(state.conv_elements, state.state_elements))
                }
                (None, None) => Memory::Nothing,
            })
        });
        each.collect()
    }

    /// Evaluates `tokens` behind `position` others. The caller has checked ids and context.
    fn forward(
        &self,
        memory: &mut [Memory<X>],
        position: usize,
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Vec<f32>, DecodeError> {
        let epsilon = self.pass.norm_epsilon;
        let views = self.kinds.iter();
        let views = views.map(|kind| X::view(&self.place, kind, position, tokens.len()));
        let step = Step {
            pass: &self.pass,
            place: &self.place,
            views: views.collect::<Result<_, _>>()?,
        };
        let mut x = X::lookup(&self.embedding, tokens)?.scale(self.pass.embedding_scale)?;
        match &self.streams {
            None => {
                for (block, _) in &self.blocks {
                    x = block.apply(x, &step, memory)?;
                }
            }
            Some(streams) => {
                let (mut rows, own) = streams.start(tokens, x.clone(), epsilon)?;
                for (index, (block, beside)) in self.blocks.iter().enumerate() {
                    if let Some(beside) = beside {
                        rows = beside.apply(block, (index, rows), &own, &step, memory)?;
                    }
                }
                if let Some((first, others)) = rows.split_first() {
                    x = streams.finish(first.clone(), others)?;
                }
            }
        }
        let x = match wanted {
            Wanted::Nothing => return Ok(Vec::new()),
            Wanted::Last => x.last()?,
            Wanted::All => x,
        };
        let normed = x.rms_norm(&self.output_norm, epsilon)?;
        let [logits] = normed.products([self.head.as_ref().unwrap_or(&self.embedding)])?;
        match self.pass.output_softcap {
            Some(cap) => logits.softcap(cap)?.into_host(),
            None => logits.into_host(),
        }
    }
}

/// What divides the rotary frequencies: one table for all contexts, or one for those within the
/// original context and one for longer ones.
fn rope_factors<X: Rows>(
    weights: &mut Weights<'_, X>,
    spec: &ModelSpec,
    pass: &ForwardSpec,
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

impl<X: Rows> Sequence<X> {
    pub(super) fn load(
        place: X::Place,
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Sequence<X>, DecodeError> {
        let (network, kinds) = Network::load(place, checkpoint, spec, options, progress)?;
        let memory = network.memory(spec, &kinds)?;
        Ok(Sequence {
            network,
            position: 0,
            context: options.context.max(1) as usize,
            memory,
        })
    }
}

/// A sequence, wherever it is computed.
pub(super) trait Decoder: Send {
    /// Evaluates `tokens` behind those before. The caller has checked ids and context.
    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>, DecodeError>;

    /// Forgets every token.
    fn reset(&mut self);

    /// Tokens evaluated.
    fn position(&self) -> usize;

    /// Tokens that the cache holds.
    fn context(&self) -> usize;

    fn vocabulary(&self) -> usize;

    fn held(&self) -> Held;
}

impl<X: Rows> Decoder for Sequence<X> {
    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>, DecodeError> {
        let Sequence {
            network, memory, ..
        } = self;
        let logits = network.forward(memory, self.position, tokens, wanted)?;
        self.position += tokens.len();
        Ok(logits)
    }

    fn reset(&mut self) {
        self.position = 0;
        for memory in &mut self.memory {
            if let Memory::State(state) = memory {
                state.reset();
            }
        }
    }

    fn position(&self) -> usize {
        self.position
    }

    fn context(&self) -> usize {
        self.context
    }

    fn vocabulary(&self) -> usize {
        self.network.vocabulary
    }

    fn held(&self) -> Held {
        let bytes = self.memory.iter().map(|memory| match memory {
            Memory::Nothing => Bytes(0),
            Memory::Tokens(cells) => X::cell_bytes(cells),
            Memory::State(state) => Bytes(4) * state.elements(),
        });
        Held {
            weights: self.network.weight_bytes,
            cache: bytes.sum(),
        }
    }
}
