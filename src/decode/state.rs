//! What a pass gives to its blocks beside activations, and the state that a sequence keeps of its tokens.

use super::activations::{Activations, AttentionLayout};
use crate::dtype::Dtype;
use crate::model::{Attention, Cache, ForwardSpec};
use crate::plan::kv::KvSettings;

/// The formats of cached keys and values: llama.cpp's but for IQ4_NL, whose cells it encodes in a way of its own.
pub(super) const KV_FORMATS: &[Dtype] = &[
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::Q8_0,
    Dtype::Q5_1,
    Dtype::Q5_0,
    Dtype::Q4_1,
    Dtype::Q4_0,
];

/// What a pass gives to each block.
pub(super) struct Pass<'a, X: Activations> {
    /// Tokens before the first.
    pub(super) position: usize,
    pub(super) forward: &'a ForwardSpec,
    pub(super) backend: &'a X::Backend,
    /// The view of each attention layout, by its index.
    pub(super) views: Vec<X::View>,
}

/// The state that a block keeps of the tokens so far.
pub(super) enum LayerState<X: Activations> {
    /// None: the block has no token mixer, or reads another block's cache.
    Stateless,
    /// Their keys and values.
    KvCache(X::Cells),
    /// A state of one size.
    Recurrent(RecurrentState),
    /// Both, where two mixers run side by side.
    Both(X::Cells, RecurrentState),
}

impl<X: Activations> LayerState<X> {
    /// The cached keys and values.
    pub(super) fn cells(&mut self) -> Option<&mut X::Cells> {
        match self {
            LayerState::KvCache(cells) | LayerState::Both(cells, _) => Some(cells),
            LayerState::Stateless | LayerState::Recurrent(_) => None,
        }
    }

    /// The state of one size.
    pub(super) fn recurrent(&mut self) -> Option<&mut RecurrentState> {
        match self {
            LayerState::Recurrent(state) | LayerState::Both(_, state) => Some(state),
            LayerState::Stateless | LayerState::KvCache(_) => None,
        }
    }
}

/// The attention layouts of blocks, collected while they are loaded.
pub(super) struct AttentionLayouts {
    settings: KvSettings,
    /// Divisors of the rotary frequencies, one for each pair.
    pub(super) factors: Option<Vec<f32>>,
    all: Vec<AttentionLayout>,
}

impl AttentionLayouts {
    pub(super) fn new(settings: KvSettings, factors: Option<Vec<f32>>) -> AttentionLayouts {
        AttentionLayouts {
            settings,
            factors,
            all: Vec::new(),
        }
    }

    /// Each layout once.
    pub(super) fn all(&self) -> &[AttentionLayout] {
        &self.all
    }

    /// The formats of cached keys and values.
    pub(super) fn kv_types(&self) -> [Dtype; 2] {
        [self.settings.type_k, self.settings.type_v]
    }

    /// Cells of a block that attends like this.
    pub(super) fn cells(&self, attention: &Attention) -> usize {
        let cells = match attention.window {
            Some(window) if attention.cache != Cache::None => self.settings.window_cells(window),
            _ => self.settings.cells(),
        };
        cells as usize
    }

    /// The index of `layout`, which is added where it is new.
    pub(super) fn index_of(&mut self, layout: AttentionLayout) -> usize {
        let known = self.all.iter().position(|other| *other == layout);
        known.unwrap_or_else(|| {
            self.all.push(layout);
            self.all.len() - 1
        })
    }
}

/// The state of one recurrent block.
pub(super) struct RecurrentState {
    /// The inputs of the convolution before the next one: `[kernel - 1, channels]`; or the rows that each half of a block had
    /// for the last token.
    pub(super) window: Vec<f32>,
    /// `[heads, value width, key width]`; empty for a convolution alone.
    pub(super) matrix: Vec<f32>,
    /// Values of the pass, where later blocks take a share of them.
    pub(super) values: Vec<f32>,
}

impl RecurrentState {
    pub(super) fn new(conv_elements: u64, state_elements: u64) -> RecurrentState {
        RecurrentState {
            window: vec![0.0; conv_elements as usize],
            matrix: vec![0.0; state_elements as usize],
            values: Vec::new(),
        }
    }

    pub(super) fn elements(&self) -> u64 {
        (self.window.len() + self.matrix.len()) as u64
    }

    pub(super) fn reset(&mut self) {
        self.window.fill(0.0);
        self.matrix.fill(0.0);
    }
}
