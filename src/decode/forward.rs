//! The forward pass: tokens through embedding, blocks, norm and head.
//!
//! In: a description and its weights; then tokens and the state of a sequence. Out: logits.

use super::activations::{Activations, AttentionLayout};
use super::block::Block;
use super::state::{AttentionLayouts, LayerState, RecurrentState, Step};
use super::streams::{StreamBlock, Streams};
use super::weights::Weights;
use super::{DecodeError, Held, LoadOptions};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::model::{Cache, ForwardSpec, ModelSpec, TensorRole as R};
use crate::plan::kv::KvSettings;
use crate::units::Bytes;

/// A model's weights in the order in which a token meets them.
struct Network<X: Activations> {
    backend: X::Backend,
    pass: ForwardSpec,
    vocabulary: usize,
    /// The attention layouts of its blocks, each once.
    layouts: Vec<AttentionLayout>,
    embedding: X::Matrix,
    streams: Option<Streams<X>>,
    blocks: Vec<(Block<X>, Option<StreamBlock<X>>)>,
    output_norm: X::Vector,
    /// Absent where the embedding is the head too.
    head: Option<X::Matrix>,
    weight_bytes: Bytes,
}

/// A network with one sequence so far.
pub(super) struct Sequence<X: Activations> {
    network: Network<X>,
    /// Tokens evaluated.
    position: usize,
    /// Tokens that the cache holds.
    context: usize,
    /// What each block keeps of them.
    states: Vec<LayerState<X>>,
}

/// Which logits a pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Last,
    All,
}

impl<X: Activations> Network<X> {
    fn load(
        backend: X::Backend,
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<(Network<X>, AttentionLayouts), DecodeError> {
        if !matches!(checkpoint.config, RawConfig::Gguf(_)) {
            return Err(DecodeError::NotGguf);
        }
        let pass = spec.forward.clone().map_err(|reason| DecodeError::NoPass {
            architecture: spec.architecture.clone(),
            reason,
        })?;
        let mut weights = Weights::<X>::open(&backend, checkpoint, spec, progress)?;
        let weights = &mut weights;
        let (hidden, vocab) = (spec.dims.hidden as usize, spec.dims.vocab as usize);
        let embedding = weights.matrix(R::TokenEmbedding, None, [vocab, hidden])?;
        let streams = Streams::load(weights, spec)?;
        let settings = KvSettings {
            context: options.context.max(1),
            ubatch: options.ubatch,
            type_k: options.kv_type,
            type_v: options.kv_type,
            ..KvSettings::default()
        };
        let factors = rope_factors(weights, spec, &pass, options)?;
        let mut layouts = AttentionLayouts::new(settings, factors);
        let blocks = spec.layers.iter().enumerate().map(|(index, layer)| {
            let block = Block::load(weights, spec, &pass, index, layer, &mut layouts)?;
            Ok((block, StreamBlock::load(weights, spec, index as u32)?))
        });
        let blocks = blocks.collect::<Result<_, DecodeError>>()?;
        // LFM2 calls its last norm after the embedding.
        let norm = if weights.has(R::OutputNorm, None) {
            R::OutputNorm
        } else {
            R::TokenEmbeddingNorm
        };
        let output_norm = weights.vector(norm, None, hidden)?;
        let head = if spec.tied {
            None
        } else {
            Some(weights.matrix(R::Output, None, [vocab, hidden])?)
        };
        let weight_bytes = weights.finish()?;
        let network = Network {
            backend,
            pass,
            vocabulary: vocab,
            layouts: layouts.all().to_vec(),
            embedding,
            streams,
            blocks,
            output_norm,
            head,
            weight_bytes,
        };
        Ok((network, layouts))
    }

    /// The states of all blocks, for a whole context.
    fn states(
        &self,
        spec: &ModelSpec,
        layouts: &AttentionLayouts,
    ) -> Result<Vec<LayerState<X>>, DecodeError> {
        let dtype = layouts.kv_type();
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
                    let heads_and_cells = [a.kv_heads as usize, layouts.cells(a)];
                    LayerState::KvCache(X::cells(&self.backend, dtype, heads_and_cells, widths)?)
                }
                (None, Some(state)) => LayerState::Recurrent(RecurrentState::new(
                    state.conv_elements,
                    state.state_elements,
                )),
                (None, None) => LayerState::Stateless,
            })
        });
        each.collect()
    }

    /// Evaluates `tokens` behind `position` others. The caller has checked ids and context.
    fn forward(
        &self,
        states: &mut [LayerState<X>],
        position: usize,
        tokens: &[u32],
        wanted: Wanted,
    ) -> Result<Vec<f32>, DecodeError> {
        let epsilon = self.pass.norm_epsilon;
        let views = self.layouts.iter();
        let views = views.map(|layout| X::view(&self.backend, layout, position, tokens.len()));
        let step = Step {
            pass: &self.pass,
            backend: &self.backend,
            views: views.collect::<Result<_, _>>()?,
        };
        let mut x = X::lookup(&self.embedding, tokens)?.scale(self.pass.embedding_scale)?;
        match &self.streams {
            None => {
                for (block, _) in &self.blocks {
                    x = block.apply(x, &step, states)?;
                }
            }
            Some(streams) => {
                let (mut rows, own) = streams.start(tokens, x.clone(), epsilon)?;
                for (index, (block, beside)) in self.blocks.iter().enumerate() {
                    if let Some(beside) = beside {
                        rows = beside.apply(block, (index, rows), &own, &step, states)?;
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
fn rope_factors<X: Activations>(
    weights: &mut Weights<'_, X>,
    spec: &ModelSpec,
    pass: &ForwardSpec,
    options: &LoadOptions,
) -> Result<Option<Vec<f32>>, DecodeError> {
    let role = if weights.has(R::RopeFreqs, None) {
        R::RopeFreqs
    } else if options.context > pass.rope.original_context {
        R::RopeFactorsLong
    } else {
        R::RopeFactorsShort
    };
    let tensor = spec.tensors.iter().find(|tensor| tensor.role == role);
    match tensor {
        Some(tensor) => weights
            .floats(role, None, &[tensor.elements() as usize])
            .map(Some),
        None => Ok(None),
    }
}

impl<X: Activations> Sequence<X> {
    pub(super) fn load(
        backend: X::Backend,
        checkpoint: &Checkpoint,
        spec: &ModelSpec,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Sequence<X>, DecodeError> {
        let (network, layouts) = Network::load(backend, checkpoint, spec, options, progress)?;
        let states = network.states(spec, &layouts)?;
        Ok(Sequence {
            network,
            position: 0,
            context: options.context.max(1) as usize,
            states,
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

impl<X: Activations> Decoder for Sequence<X> {
    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>, DecodeError> {
        let Sequence {
            network, states, ..
        } = self;
        let logits = network.forward(states, self.position, tokens, wanted)?;
        self.position += tokens.len();
        Ok(logits)
    }

    fn reset(&mut self) {
        self.position = 0;
        for state in &mut self.states {
            if let LayerState::Recurrent(state) = state {
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
        let bytes = self.states.iter().map(|state| match state {
            LayerState::Stateless => Bytes(0),
            LayerState::KvCache(cells) => X::cell_bytes(cells),
            LayerState::Recurrent(state) => Bytes(4) * state.elements(),
        });
        Held {
            weights: self.network.weight_bytes,
            cache: bytes.sum(),
        }
    }
}
