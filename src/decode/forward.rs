//! The forward pass: tokens through embedding, blocks, norm and head.
//!
//! In: a description and its weights; then tokens and the state of a sequence. Out: logits.

use std::sync::Arc;

use super::activations::{Activations, AttentionLayout};
use super::attention;
use super::block::Block;
use super::buffer::Buffer;
use super::linear::Linear;
use super::norm::Norm;
use super::observe::{Hooks, Matrix};
use super::per_layer::PerLayer;
use super::ranker::Ranker;
use super::state::{AttentionLayouts, KV_FORMATS, LayerState, Pass, RecurrentState};
use super::streams::{StreamBlock, Streams};
use super::weights::Weights;
use super::{DecodeError, LoadOptions, MemoryUse};
use crate::dtype::Dtype;
use crate::model::{Attention, Cache, ForwardSpec, ModelSpec, RecurrentKind, TensorRole as R};
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
    /// One for each position, where blocks do not turn heads.
    positions: Option<Matrix<X>>,
    /// What the type of a token adds to its embedding: that of a first text.
    token_type: Option<X::Vector>,
    /// Of embeddings, before the first block.
    embedding_norm: Option<Norm<X>>,
    per_layer: Option<PerLayer<X>>,
    streams: Option<Streams<X>>,
    blocks: Vec<(Block<X>, Option<StreamBlock<X>>)>,
    /// Absent where the last block has its own.
    output_norm: Option<Norm<X>>,
    /// Absent where the embedding is the head too, and where there is none.
    head: Option<Linear<X>>,
    /// That of a reranker.
    ranker: Option<Ranker<X>>,
    hooks: Arc<Hooks<X>>,
    /// Whether blocks read what others keep.
    shares_states: bool,
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
    /// The passes that can be replayed.
    traces: Vec<Trace<X>>,
}

/// The tokens of a pass whose logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogitRows {
    None,
    /// None, but an observer sees what the head would be multiplied with.
    Observed,
    /// The last ones, so many.
    Tail(usize),
}

/// What blocks hand on.
#[derive(Clone)]
enum Flow<X: Activations> {
    /// The residual stream, and the inputs of all blocks if they have any.
    Residual(X, Option<X>),
    /// Several streams, the computed one first, and the inputs of all blocks.
    Streams(Vec<X>, X),
}

/// A pass whose blocks can be evaluated again, from any of them on.
struct Trace<X: Activations> {
    tokens: Vec<u32>,
    /// What each block got, and what the last one gave.
    flows: Vec<Flow<X>>,
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
        let hooks = Arc::new(Hooks::new(options.observer.as_ref()));
        let mut weights = Weights::<X>::open(&backend, source, Arc::clone(&hooks), progress)?;
        let weights = &mut weights;
        let (hidden, vocab) = (spec.dims.hidden as usize, spec.dims.vocab as usize);
        let embedding = weights.matrix(R::TokenEmbedding, None, [vocab, hidden])?;
        let per_layer = PerLayer::load(weights, spec, &forward)?;
        let streams = Streams::load(weights, spec)?;
        let settings = KvSettings {
            context: options.context.max(1),
            ubatch: options.ubatch,
            type_k: options.type_k,
            type_v: options.type_v,
            // As the profiles of this runtime plan it.
            context_multiple: 1,
            ..KvSettings::default()
        };
        let last_is_normed = weights.has(R::LayerOutNorm, Some(0));
        let factors = weights.rope_factors(options.context > forward.rope.original_context)?;
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
        let output_norm = if last_is_normed {
            Norm::load_if_there(weights, &forward, R::OutputNorm, None, hidden)?
        } else {
            Some(Norm::load(weights, &forward, norm, None, hidden)?)
        };
        // Where it is the last norm (LFM2), it was taken above: a tensor is loaded once.
        let norm = R::TokenEmbeddingNorm;
        let embedding_norm = Norm::load_if_there(weights, &forward, norm, None, hidden)?;
        let positions = rows_of(weights, R::Positions);
        let positions = positions
            .map(|rows| weights.matrix(R::Positions, None, [rows, hidden]))
            .transpose()?;
        let types = rows_of(weights, R::TokenTypes);
        let types = types
            .map(|rows| weights.floats(R::TokenTypes, None, &[rows, hidden]))
            .transpose()?;
        let token_type = types
            .map(|mut types| {
                types.truncate(hidden);
                weights.own_vector(types)
            })
            .transpose()?;
        let head = if spec.tied || spec.is_encoder() {
            None
        } else {
            Some(Linear::load(weights, R::Output, None, [vocab, hidden])?)
        };
        let ranker = Ranker::load_if_there(weights, &forward, hidden)?;
        let weight_bytes = weights.finish()?;
        let network = Network {
            backend,
            forward,
            vocabulary: vocab,
            layouts: layouts.all().to_vec(),
            embedding,
            positions,
            token_type,
            embedding_norm,
            per_layer,
            streams,
            blocks,
            output_norm,
            head,
            ranker,
            hooks,
            shares_states: spec.layers.iter().any(|layer| {
                let (attention, recurrent) = (&layer.mixer.attention, &layer.mixer.recurrent);
                let shares = |attention: &Attention| attention.cache == Cache::Shared;
                attention.as_ref().is_some_and(shares)
                    || recurrent
                        .as_ref()
                        .is_some_and(|r| r.kind == RecurrentKind::TimeMix)
            }),
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
            let own = mixer.attention.as_ref();
            let own = own.filter(|a| match a.cache {
                Cache::Own | Cache::Images => true,
                Cache::Shared => false,
                Cache::None => attention::cache_of(&spec.layers, block) == block,
            });
            // What nothing caches has no type of a cache.
            let dtypes = match own {
                Some(attention) if attention.cache == Cache::None => [Dtype::F16; 2],
                _ => dtypes,
            };
            let recurrent = mixer
                .recurrent
                .as_ref()
                .map(|state| RecurrentState::new(state.conv_elements, state.state_elements));
            Ok(match (own, recurrent) {
                (Some(a), recurrent) => {
                    let values = self
                        .blocks
                        .get(block)
                        .and_then(|(block, _)| block.cached_values());
                    let values = values.unwrap_or(a.value_dim as usize);
                    let widths = [a.key_dim as usize, values];
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
                    let cells = X::cells(&self.backend, dtypes, heads_and_cells, widths)?;
                    match recurrent {
                        Some(state) => LayerState::Both(cells, state),
                        None => LayerState::KvCache(cells),
                    }
                }
                (None, Some(state)) => LayerState::Recurrent(state),
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
        let pass = self.pass(position, tokens.len())?;
        let mut flow = self.begin(position, tokens)?;
        for block in 0..self.blocks.len() {
            flow = self.advance(block, flow, &pass, states)?;
        }
        self.logits(flow, logit_rows)
    }

    /// What blocks and the last norm make of `tokens`, which are all of a text: `[tokens, hidden]`.
    fn rows(&self, states: &mut [LayerState<X>], tokens: &[u32]) -> Result<Vec<f32>, DecodeError> {
        let pass = self.pass(0, tokens.len())?;
        let mut flow = self.begin(0, tokens)?;
        for block in 0..self.blocks.len() {
            flow = self.advance(block, flow, &pass, states)?;
        }
        self.normed(self.merged(flow)?)?.into_host()
    }

    /// What a pass gives to each block.
    fn pass(&self, position: usize, tokens: usize) -> Result<Pass<'_, X>, DecodeError> {
        let views = self.layouts.iter();
        let views = views.map(|layout| X::view(&self.backend, layout, position, tokens));
        Ok(Pass {
            position,
            forward: &self.forward,
            backend: &self.backend,
            views: views.collect::<Result<_, _>>()?,
        })
    }

    /// What the first block gets.
    fn begin(&self, position: usize, tokens: &[u32]) -> Result<Flow<X>, DecodeError> {
        let x = self.embedding.lookup(tokens)?;
        let mut x = x.scale(self.forward.embedding_scale)?;
        if let Some(token_type) = &self.token_type {
            x.add_vector(token_type)?;
        }
        if let Some(positions) = &self.positions {
            let places = position as u32..(position + tokens.len()) as u32;
            x = x.add(&positions.lookup(&places.collect::<Vec<u32>>())?)?;
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.apply(x)?;
        }
        let inputs = self.per_layer.as_ref();
        let inputs = inputs
            .map(|per_layer| per_layer.inputs(tokens, &x))
            .transpose()?;
        Ok(match (&self.streams, inputs) {
            (Some(streams), Some(inputs)) => Flow::Streams(streams.start(x)?, inputs),
            (_, inputs) => Flow::Residual(x, inputs),
        })
    }

    /// What block `index` makes of `flow`.
    fn advance(
        &self,
        index: usize,
        flow: Flow<X>,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<Flow<X>, DecodeError> {
        let Some((block, streams)) = self.blocks.get(index) else {
            return Ok(flow);
        };
        Ok(match (flow, streams) {
            (Flow::Residual(x, inputs), _) => {
                let x = block.apply(x, inputs.as_ref(), pass, states)?;
                Flow::Residual(x, inputs)
            }
            (Flow::Streams(rows, inputs), Some(streams)) => {
                let rows = streams.apply(block, rows, &inputs, pass, states)?;
                Flow::Streams(rows, inputs)
            }
            (flow, None) => flow,
        })
    }

    /// What the last block gave, as one stream.
    fn merged(&self, flow: Flow<X>) -> Result<X, DecodeError> {
        match (flow, &self.streams) {
            (Flow::Residual(x, _), _) => Ok(x),
            (Flow::Streams(rows, inputs), streams) => match (rows.split_first(), streams) {
                (Some((first, others)), Some(streams)) => streams.finish(first.clone(), others),
                _ => Ok(inputs),
            },
        }
    }

    /// The same behind the last norm.
    fn normed(&self, x: X) -> Result<X, DecodeError> {
        match &self.output_norm {
            Some(norm) => norm.apply(x),
            None => Ok(x),
        }
    }

    /// The logits of what the last block gave.
    fn logits(&self, flow: Flow<X>, logit_rows: LogitRows) -> Result<Vec<f32>, DecodeError> {
        let x = self.merged(flow)?;
        let x = match logit_rows {
            LogitRows::None => return Ok(Vec::new()),
            LogitRows::Tail(rows) => x.tail(rows)?,
            LogitRows::Observed => x,
        };
        let normed = self.normed(x)?;
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
        let logits = logits.scale(self.forward.output_scale)?;
        match self.forward.output_softcap {
            Some(cap) => logits.softcap(cap)?.into_host(),
            None => logits.into_host(),
        }
    }
}

/// Rows of a table outside of blocks, if there is one.
fn rows_of<X: Activations>(weights: &Weights<'_, X>, role: R) -> Option<usize> {
    let shape = weights.shape(role, None, "weight")?;
    shape.first().map(|&rows| rows as usize)
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
        let positions = source.model.tensors.iter().find(|t| t.role == R::Positions);
        let positions = positions.and_then(|tensor| tensor.shape.first().copied());
        let context = options.context.min(positions.unwrap_or(u64::MAX));
        Ok(Sequence {
            network,
            position: 0,
            context: context.max(1) as usize,
            states,
            traces: Vec::new(),
        })
    }
}

/// A [`Sequence`] on any backend.
pub(super) trait Decoder: Send {
    /// Evaluates `tokens` behind those before. The caller has checked ids and context.
    fn forward(&mut self, tokens: &[u32], logit_rows: LogitRows) -> Result<Vec<f32>, DecodeError>;

    /// What the blocks and the last norm make of `tokens`, in one pass from the beginning: `[tokens, hidden]`.
    fn rows(&mut self, tokens: &[u32]) -> Result<Vec<f32>, DecodeError>;

    /// The scores of a reranker by what that gave for one token.
    fn rank(&self, row: Vec<f32>) -> Result<Vec<f32>, DecodeError>;

    /// Evaluates `tokens` from the beginning and keeps what each block gets. Gives the logits of the last `rows`.
    fn trace(&mut self, tokens: &[u32], rows: usize) -> Result<Vec<f32>, DecodeError>;

    /// Evaluates the tokens of a trace again from block `first` on; with `None` the embedding too.
    fn replay(
        &mut self,
        trace: usize,
        first: Option<usize>,
        rows: usize,
    ) -> Result<Vec<f32>, DecodeError>;

    /// Frees the traces.
    fn forget_traces(&mut self);

    /// Uses these matrices, `[members, rows, columns]` of `dtype`, in place of those of `tensor`.
    fn substitute(
        &mut self,
        tensor: &str,
        dtype: Dtype,
        shape: [usize; 3],
        bytes: Buffer,
    ) -> Result<(), DecodeError>;

    /// Uses the matrices of the file again.
    fn restore(&mut self);

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

    fn rows(&mut self, tokens: &[u32]) -> Result<Vec<f32>, DecodeError> {
        self.reset();
        let rows = self.network.rows(&mut self.states, tokens)?;
        self.reset();
        Ok(rows)
    }

    fn rank(&self, row: Vec<f32>) -> Result<Vec<f32>, DecodeError> {
        let ranker = self.network.ranker.as_ref();
        let ranker = ranker.ok_or(DecodeError::NoRanker)?;
        ranker.apply(&self.network.backend, row)
    }

    fn trace(&mut self, tokens: &[u32], rows: usize) -> Result<Vec<f32>, DecodeError> {
        self.reset();
        let network = &self.network;
        let pass = network.pass(0, tokens.len())?;
        let mut flows = vec![network.begin(0, tokens)?];
        for block in 0..network.blocks.len() {
            let before = flows.last().cloned().ok_or(DecodeError::NoTokens)?;
            flows.push(network.advance(block, before, &pass, &mut self.states)?);
        }
        let last = flows.last().cloned().ok_or(DecodeError::NoTokens)?;
        self.traces.push(Trace {
            tokens: tokens.to_vec(),
            flows,
        });
        self.network.logits(last, LogitRows::Tail(rows))
    }

    fn replay(
        &mut self,
        trace: usize,
        first: Option<usize>,
        rows: usize,
    ) -> Result<Vec<f32>, DecodeError> {
        self.reset();
        let network = &self.network;
        let trace = self.traces.get(trace).ok_or(DecodeError::NoTokens)?;
        // A block that reads what one before `first` keeps would read what another pass left there.
        let first = first.filter(|_| !network.shares_states);
        let pass = network.pass(0, trace.tokens.len())?;
        let mut flow = match first.and_then(|first| trace.flows.get(first)) {
            Some(flow) => flow.clone(),
            None => network.begin(0, &trace.tokens)?,
        };
        for block in first.unwrap_or(0)..network.blocks.len() {
            flow = network.advance(block, flow, &pass, &mut self.states)?;
        }
        network.logits(flow, LogitRows::Tail(rows))
    }

    fn substitute(
        &mut self,
        tensor: &str,
        dtype: Dtype,
        [members, rows, columns]: [usize; 3],
        bytes: Buffer,
    ) -> Result<(), DecodeError> {
        let backend = &self.network.backend;
        let matrix = |part| X::matrix(backend, tensor, dtype, [rows, columns], part);
        let matrices = bytes.split(members).map(matrix).collect::<Result<_, _>>()?;
        self.network.hooks.substitute(tensor, matrices);
        Ok(())
    }

    fn forget_traces(&mut self) {
        self.traces.clear();
    }

    fn restore(&mut self) {
        self.network.hooks.restore();
    }

    fn reset(&mut self) {
        self.position = 0;
        for state in &mut self.states {
            if let LayerState::Recurrent(state) | LayerState::Both(_, state) = state {
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
            LayerState::Both(cells, state) => X::cell_bytes(cells) + Bytes(4) * state.elements(),
        });
        MemoryUse {
            weights: self.network.weight_bytes,
            cache: bytes.sum(),
        }
    }
}
