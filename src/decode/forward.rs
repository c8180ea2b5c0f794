//! The forward pass: tokens through embedding, blocks, norm and head.
//!
//! In: a description and its weights; then tokens and the state of a sequence. Out: logits.

use super::activations::{Activations, AttentionLayout};
use super::block::Block;
use super::linear::Linear;
use super::norm::Norm;
use super::observe::Matrix;
use super::state::{AttentionLayouts, KV_FORMATS, LayerState, Pass, RecurrentState};
use super::streams::{StreamBlock, Streams};
use super::weights::Weights;
use super::{DecodeError, LoadOptions, MemoryUse};
use crate::model::{Cache, ForwardSpec, ModelSpec, TensorRole as R};
use crate::plan::kv::KvSettings;
use crate::quantize::GgufView;
use crate::units::Bytes;

/// A model's weights, in the order in which a pass uses them.
struct Network<X: Activations> {
    backend: X::Backend,
    forward: ForwardSpec,
    vocabulary: usize,
    /// The attention layouts of its blocks, each once.
    layouts: Vec<AttentionLayout>,
    embedding: Matrix<X>,
    streams: Option<Streams<X>>,
    blocks: Vec<(Block<X>, Option<StreamBlock<X>>)>,
    output_norm: Norm<X>,
    /// Absent where the embedding is the head too.
    head: Option<Linear<X>>,
    weight_bytes: Bytes,
}

/// A network with the state of one sequence.
pub(super) struct Sequence<X: Activations> {
    network: Network<X>,
    /// Tokens evaluated.
    position: usize,
    /// Tokens that the cache holds.
    context: usize,
    /// What each block keeps of those tokens.
    states: Vec<LayerState<X>>,
}

/// The tokens of a pass whose logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogitRows {
    None,
    /// None, but an observer sees what the head would be multiplied with.
    Observed,
    Last,
    All,
}

impl<X: Activations> Network<X> {
    fn load(
        backend: X::Backend,
        source: &GgufView<'_>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<(Network<X>, AttentionLayouts), DecodeError> {
        let spec = &*source.model;
        let forward = spec
            .forward
            .clone()
            .map_err(|reason| DecodeError::NoForwardPass {
                architecture: spec.architecture.clone(),
                reason,
            })?;
        let observer = options.observer.as_ref();
        let mut weights = Weights::<X>::open(&backend, source, observer, progress)?;
        let weights = &mut weights;
        let (hidden, vocab) = (spec.dims.hidden as usize, spec.dims.vocab as usize);
        let embedding = weights.matrix(R::TokenEmbedding, None, [vocab, hidden])?;
        let streams = Streams::load(weights, spec, &forward)?;
        let settings = KvSettings {
            context: options.context.max(1),
            ubatch: options.ubatch,
            type_k: options.type_k,
            type_v: options.type_v,
            // As the profiles of this runtime plan it.
            context_multiple: 1,
            ..KvSettings::default()
        };
        let factors = rope_factors(weights, spec, &forward, options)?;
        let mut layouts = AttentionLayouts::new(settings, factors);
        let blocks = spec.layers.iter().enumerate().map(|(index, layer)| {
            let block = Block::load(weights, spec, &forward, index, layer, &mut layouts)?;
            let streams = StreamBlock::load(weights, spec, &forward, index as u32)?;
            Ok((block, streams))
        });
        let blocks = blocks.collect::<Result<_, DecodeError>>()?;
        // LFM2 calls its last norm after the embedding.
        let norm = if weights.has(R::OutputNorm, None) {
            R::OutputNorm
        } else {
            R::TokenEmbeddingNorm
        };
        let output_norm = Norm::load(weights, &forward, norm, None, hidden)?;
        let head = if spec.tied {
            None
        } else {
            Some(Linear::load(weights, R::Output, None, [vocab, hidden])?)
        };
        let weight_bytes = weights.finish()?;
        let network = Network {
            backend,
            forward,
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
        let dtypes = layouts.kv_types();
        let each = spec.layers.iter().enumerate().map(|(block, layer)| {
            let mixer = &layer.mixer;
            let own = mixer.attention.as_ref().filter(|a| a.cache == Cache::Own);
            Ok(match (own, &mixer.recurrent) {
                (Some(a), _) => {
                    let widths = [a.key_dim, a.value_dim].map(|width| width as usize);
                    for (dtype, width) in dtypes.into_iter().zip(widths) {
                        if !KV_FORMATS.contains(&dtype) {
                            return Err(DecodeError::KvType { dtype });
                        }
                        if !dtype.divides(width as u64) {
                            return Err(DecodeError::KvWidth {
                                block,
                                dtype,
                                width,
                            });
                        }
                    }
                    let heads_and_cells = [a.kv_heads as usize, layouts.cells(a)];
                    LayerState::KvCache(X::cells(&self.backend, dtypes, heads_and_cells, widths)?)
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
        logit_rows: LogitRows,
    ) -> Result<Vec<f32>, DecodeError> {
        let views = self.layouts.iter();
        let views = views.map(|layout| X::view(&self.backend, layout, position, tokens.len()));
        let pass = Pass {
            forward: &self.forward,
            backend: &self.backend,
            views: views.collect::<Result<_, _>>()?,
        };
        let mut x = self
            .embedding
            .lookup(tokens)?
            .scale(self.forward.embedding_scale)?;
        match &self.streams {
            None => {
                for (block, _) in &self.blocks {
                    x = block.apply(x, &pass, states)?;
                }
            }
            Some(streams) => {
                let (mut rows, inputs) = streams.start(tokens, x.clone())?;
                for (index, (block, streams)) in self.blocks.iter().enumerate() {
                    if let Some(streams) = streams {
                        rows = streams.apply(block, (index, rows), &inputs, &pass, states)?;
                    }
                }
                if let Some((first, others)) = rows.split_first() {
                    x = streams.finish(first.clone(), others)?;
                }
            }
        }
        let x = match logit_rows {
            LogitRows::None => return Ok(Vec::new()),
            LogitRows::Last => x.last()?,
            LogitRows::All | LogitRows::Observed => x,
        };
        let normed = self.output_norm.apply(x)?;
        if logit_rows == LogitRows::Observed {
            match &self.head {
                Some(head) => head.observe(&normed)?,
                None => Matrix::observe(&normed, [&self.embedding])?,
            }
            return Ok(Vec::new());
        }
        let logits = match &self.head {
            Some(head) => head.apply(&normed)?,
            None => self.embedding.product(&normed)?,
        };
        match self.forward.output_softcap {
            Some(cap) => logits.softcap(cap)?.into_host(),
            None => logits.into_host(),
        }
    }
}

/// Divisors of the rotary frequencies: one table for all contexts, or one for those within the
/// original context and one for longer ones.
fn rope_factors<X: Activations>(
    weights: &mut Weights<'_, X>,
    spec: &ModelSpec,
    forward: &ForwardSpec,
    options: &LoadOptions,
) -> Result<Option<Vec<f32>>, DecodeError> {
    let role = if weights.has(R::RopeFreqs, None) {
        R::RopeFreqs
    } else if options.context > forward.rope.original_context {
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
        source: &GgufView<'_>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Sequence<X>, DecodeError> {
        let (network, layouts) = Network::load(backend, source, options, progress)?;
        let states = network.states(&source.model, &layouts)?;
        Ok(Sequence {
            network,
            position: 0,
            context: options.context.max(1) as usize,
            states,
        })
    }
}

/// A [`Sequence`] on any backend.
pub(super) trait Decoder: Send {
    /// Evaluates `tokens` behind those before. The caller has checked ids and context.
    fn forward(&mut self, tokens: &[u32], logit_rows: LogitRows) -> Result<Vec<f32>, DecodeError>;

    /// Forgets every token.
    fn reset(&mut self);

    /// Tokens evaluated.
    fn position(&self) -> usize;

    /// Tokens that the cache holds.
    fn context(&self) -> usize;

    fn vocabulary(&self) -> usize;

    fn memory_use(&self) -> MemoryUse;
}

impl<X: Activations> Decoder for Sequence<X> {
    fn forward(&mut self, tokens: &[u32], logit_rows: LogitRows) -> Result<Vec<f32>, DecodeError> {
        let Sequence {
            network, states, ..
        } = self;
        let logits = network.forward(states, self.position, tokens, logit_rows)?;
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

    fn memory_use(&self) -> MemoryUse {
        let bytes = self.states.iter().map(|state| match state {
            LayerState::Stateless => Bytes(0),
            LayerState::KvCache(cells) => X::cell_bytes(cells),
            LayerState::Recurrent(state) => Bytes(4) * state.elements(),
        });
        MemoryUse {
            weights: self.network.weight_bytes,
            cache: bytes.sum(),
        }
    }
}
