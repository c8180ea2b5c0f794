//! How llama.cpp's loader of an architecture deviates from its blocks and rows: the metadata keys that it reads, the
//! tensors that it also takes or does not need. Part of an architecture's entry. Must not: name an architecture.
//!
//! Sources: `load_hparams` and the scales of `load_tensors` in `src/llama-model.cpp`, `create_tensor_qkv`,
//! `load_arch_hparams` and `load_arch_tensors` in `src/models/*.cpp` of llama.cpp (build 11434).

use super::hparams::Key;
use super::role::TensorRole as R;

/// The form of a value, which llama.cpp reads by its exact type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueForm {
    /// A number of 32 bits.
    Count,
    Float,
    Flag,
    Text,
    /// A number, or one for each block.
    PerBlock,
    /// The numbers of rotary pairs for each of four position dimensions.
    Sections,
    /// The period of windowed blocks, or a flag for each block.
    Window,
    /// A flag for each block.
    WindowOfEachBlock,
    /// A floating-point number, or one for each block, under a key without the architecture's name.
    BareFloats,
}

/// Keys (after the architecture's name) that are read in the same form. A key that no loader reads may be of any type.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoaderKeys {
    /// Whether a file without them is refused.
    pub needed: bool,
    pub form: ValueForm,
    pub names: &'static [&'static str],
}

/// Requirements of a loader, or of the forward pass after it, beyond keys and tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoaderRule {
    /// The output head is always the embedding, even if the file holds one.
    NoHead,
    /// The file must hold an output head.
    NeedsHead,
    /// Biases of query, key and value are not loaded; other architectures load them if the file has them.
    NoBiases,
    /// Blocks for multi-token prediction after the last block are accepted.
    BlocksAhead,
    /// Their tensors must be there if metadata counts such blocks. (Build 11434 needs them for all architectures that
    /// accept them, build 11549 does not.)
    NeedsBlocksAhead,
    /// A file may lack them nevertheless.
    MayLackBlocksAhead,
    /// Checkpoints hold them even if their configuration does not say so.
    BlocksAheadUnsaid,
    /// The rotary table is needed if a block has full attention.
    NeedsRopeTable,
    /// The rotary table has an entry for each pair of a whole head, even if only a part of the head is rotated.
    RopeTableOfWholeHeads,
    /// The rotary tables for long and short contexts are loaded whether the scaling uses them or not.
    BothRopeTables,
    /// Key and value projections are needed even in blocks that reuse another block's cache.
    NeedsSpareProjections,
    /// Positions have several dimensions: the numbers of rotary pairs for them must not all be 0.
    RopeSections,
    /// If a window is stated, at least one block must be windowed.
    WindowedBlock,
    /// At least one block must attend to the whole context.
    WholeBlock,
    /// The forward pass rotates whole heads, and aborts the program for another number of rotated elements.
    WholeHeads,
    /// It rotates whole heads whatever number is stated.
    WholeHeadsUnsaid,
    /// All norms are LayerNorms, and the epsilon of others is read and not used.
    LayerNorms,
    /// The forward pass has no rotary positions.
    NoRope,
    /// It has none if metadata says so (`rope.scaling.finetuned`).
    RopeUnlessStated,
    /// A file without experts is refused: every block is routed, or all but the leading ones.
    Routed,
    /// A file that counts no more than one expert has none, whatever else it says of experts.
    OneExpertIsNone,
    /// Blocks for multi-token prediction are routed: metadata must tell the width of their experts or how many are used.
    RoutedPrediction,
    /// Blocks without a router among the tensors are dense; metadata does not say which.
    RoutedWhereStored,
    /// Metadata that counts experts must tell their width.
    RoutedWidth,
    /// Latent attention (MLA), whose keys and values may have different widths.
    Latents,
    /// Keys and values may have different widths.
    UnevenHeads,
    /// The recurrent blocks are delta nets.
    DeltaNets,
    /// The tokenizer must state a number of token types.
    TokenTypes,
    /// The recurrent mixer must be twice as wide as the hidden size.
    MixerTwiceAsWide,
}

/// How llama.cpp loads a GGUF of an architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loader {
    /// Keys that it reads beyond [`READ_BY_ALL`], in groups that architectures share.
    pub keys: &'static [&'static [LoaderKeys]],
    /// Its other requirements.
    pub rules: &'static [LoaderRule],
    /// Biases of the output, feed-forward and head projections that it loads if a file has them. (Those of query, key
    /// and value are the subject of [`LoaderRule::NoBiases`], the others are as the rows say.)
    pub biases: &'static [R],
    /// Biases that a file must have.
    pub needs_biases: &'static [R],
    /// Weights of the rows that a file may lack.
    pub optional: &'static [R],
    /// Rotary tables that it loads.
    pub rope_tables: &'static [R],
    /// Its defaults for keys that a file does not state.
    pub defaults: &'static [(Key, u64)],
}

impl Loader {
    /// The loader of most architectures.
    pub(super) const USUAL: Loader = Loader {
        keys: &[RMS_NORM],
        rules: &[],
        biases: &[],
        needs_biases: &[],
        optional: &[],
        rope_tables: &[],
        defaults: &[],
    };

    /// Whether it has the requirement `rule`.
    pub(super) fn has(&self, rule: LoaderRule) -> bool {
        self.rules.contains(&rule)
    }

    /// Every key that it reads.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static LoaderKeys> + use<> {
        let own = self.keys.iter().flat_map(|group| group.iter());
        READ_BY_ALL.iter().chain(own)
    }

    /// Whether it reads `key`.
    pub(super) fn reads(&self, key: &str) -> bool {
        self.keys().any(|keys| keys.names.contains(&key))
    }

    /// Whether it loads the bias of `role`; `None` if the rows decide.
    pub(super) fn bias(&self, role: R) -> Option<bool> {
        match role {
            R::AttnQ | R::AttnK | R::AttnV | R::AttnQkv => Some(!self.has(LoaderRule::NoBiases)),
            R::AttnOutput | R::FfnGate | R::FfnUp | R::FfnDown | R::Output => {
                Some(self.biases.contains(&role))
            }
            _ => None,
        }
    }
}

pub(super) const fn needed(form: ValueForm, names: &'static [&'static str]) -> LoaderKeys {
    LoaderKeys {
        needed: true,
        form,
        names,
    }
}

pub(super) const fn read(form: ValueForm, names: &'static [&'static str]) -> LoaderKeys {
    LoaderKeys {
        needed: false,
        form,
        names,
    }
}

pub(super) const EPSILON: &str = "attention.layer_norm_rms_epsilon";
pub(super) const LAYER_EPSILON: &str = "attention.layer_norm_epsilon";
pub(super) const SECTIONS: &str = "rope.dimension_sections";
/// The parameters of activations, whose names no architecture's stands before: for negative and positive arguments, the slope,
/// the largest argument of the exponential.
pub(super) const XIELU: [&str; 4] = ["xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"];
pub(super) const NORMED_STEPS: &str = "ssm.dt_b_c_rms";
pub(super) const PARALLEL: &str = "use_parallel_residual";
pub(super) const ROTATED: &str = "rope.dimension_count";
pub(super) const WINDOW_ROTATED: &str = "rope.dimension_count_swa";

/// The epsilon of RMS norms.
pub(super) const RMS_NORM: &[LoaderKeys] = &[needed(ValueForm::Float, &[EPSILON])];

/// The keys that every loader reads.
pub(super) const READ_BY_ALL: &[LoaderKeys] = &[
    needed(
        ValueForm::Count,
        &["block_count", "context_length", "embedding_length"],
    ),
    read(
        ValueForm::Count,
        &[
            "embedding_length_out",
            "pooling_type",
            "nextn_predict_layers",
            "expert_count",
            "expert_group_count",
            "expert_group_used_count",
            "attention.key_length",
            "attention.value_length",
            "attention.key_length_swa",
            "attention.value_length_swa",
            ROTATED,
            WINDOW_ROTATED,
            "rope.scaling.original_context_length",
        ],
    ),
    read(
        ValueForm::PerBlock,
        &[
            "expert_used_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
        ],
    ),
    read(
        ValueForm::Float,
        &[
            "rope.freq_base",
            "rope.scaling.factor",
            "rope.scaling.attn_factor",
            "rope.scaling.alpha",
        ],
    ),
    read(
        ValueForm::Flag,
        &["attention.causal", "rope.scaling.finetuned"],
    ),
    read(ValueForm::Text, &["rope.scaling.type"]),
];

/// The values of `rope.scaling.type` that llama.cpp loads.
pub(super) const ROPE_SCALINGS: &[&str] = &["none", "linear", "yarn", "longrope"];

/// Tensors that a block for multi-token prediction must have.
pub(super) const AHEAD_NEEDS: &[R] = &[R::NextnProj, R::NextnEmbeddingNorm, R::NextnHiddenNorm];

/// Weights that may have a scale, and a scale of their input.
const SCALED: &[R] = &[
    R::AttnQ,
    R::AttnK,
    R::AttnV,
    R::AttnOutput,
    R::AttnQkv,
    R::AttnGate,
    R::FfnGate,
    R::FfnUp,
    R::FfnDown,
    R::FfnGateShared,
    R::FfnUpShared,
    R::FfnDownShared,
    R::FfnGateExperts,
    R::FfnUpExperts,
    R::FfnDownExperts,
    R::SsmIn,
    R::SsmOut,
    R::SsmAlpha,
    R::SsmBeta,
    R::NextnProj,
    R::NextnHead,
];

/// Suffixes of the names of such scales.
pub(super) const SCALES: &[&str] = &[".scale", ".input_scale"];

/// The number of elements of the scale of a weight of `role`; `None` if no scale of it is loaded.
pub(super) fn scale(role: R, experts: u64) -> Option<u64> {
    let stacked = matches!(
        role,
        R::FfnGateExperts | R::FfnUpExperts | R::FfnDownExperts
    );
    let numbers = if stacked { experts } else { 1 };
    SCALED.contains(&role).then_some(numbers)
}
