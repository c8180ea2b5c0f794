//! What llama.cpp's loader of an architecture reads, takes and needs beyond what blocks and rows say: data of an
//! entry. Must not: name an architecture.
//!
//! Sources: `load_hparams` and the scales of `load_tensors` in `src/llama-model.cpp`, `create_tensor_qkv`,
//! `load_arch_hparams` and `load_arch_tensors` in `src/models/*.cpp` of llama.cpp (build 11434).

use super::hparams::Key;
use super::role::TensorRole as R;

/// How a value is read: by its exact type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A number of 32 bits.
    Count,
    Float,
    Flag,
    Text,
    /// A number, or one for each block.
    PerBlock,
    /// How many rotary pairs turn with each of four positions.
    Sections,
    /// The period of windowed blocks, or a flag for each block.
    Window,
    /// A flag for each block.
    WindowOfEachBlock,
}

/// Keys behind the architecture's name that are read alike. A key that no loader reads may be of any type.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoaderKeys {
    /// Whether no file is loaded without them.
    pub needed: bool,
    pub form: Form,
    pub names: &'static [&'static str],
}

/// What a loader or the pass behind it holds a file to beyond keys and tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoaderRule {
    /// The head is the embedding, whatever a file holds.
    NoHead,
    /// A head of its own is needed.
    NeedsHead,
    /// Projections are loaded without biases, which all others may have on query, key and value.
    NoBiases,
    /// Blocks behind the last, which predict further tokens, are known.
    BlocksAhead,
    /// Their tensors are needed where metadata counts them. Build 11434 needs them of all that know them, 11549
    /// does not.
    NeedsBlocksAhead,
    /// A file may leave them out all the same.
    MayLackBlocksAhead,
    /// Checkpoints hold them, and configurations may not say so.
    BlocksAheadUnsaid,
    /// The rotary table is needed where a block sees the whole context.
    NeedsRopeTable,
    /// The rotary table is as long as half a head, however much of it turns.
    RopeTableOfWholeHeads,
    /// Tables for long and short contexts are loaded whether positions are stretched by them or not.
    BothRopeTables,
    /// Keys and values of blocks that reuse another's cache are needed, too.
    NeedsSpareProjections,
    /// Tokens are placed in three dimensions: some pairs must turn.
    RopeSections,
    /// A window needs a windowed block.
    WindowedBlock,
    /// The pass turns a head as a whole, or ends the program.
    WholeHeads,
    /// The pass turns nothing.
    NothingTurns,
    /// Every block is routed, or all but the leading ones: no file is loaded without experts.
    Routed,
    /// Attention by a latent, whose keys may be of another width than its values.
    Latents,
    /// Recurrent blocks that are delta nets.
    DeltaNets,
    /// The mixer is twice as wide as the residual.
    MixerTwiceAsWide,
}

/// How llama.cpp loads a GGUF of an architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loader {
    /// Keys that it reads beyond [`READ_BY_ALL`], in groups that architectures share.
    pub keys: &'static [&'static [LoaderKeys]],
    /// What else it holds a file to.
    pub rules: &'static [LoaderRule],
    /// Biases that it loads where a file has them, of projections other than query, key and value. Those of other
    /// roles are as the rows say.
    pub biases: &'static [R],
    /// Biases that it needs.
    pub needs_biases: &'static [R],
    /// Weights of the rows that a file may lack.
    pub optional: &'static [R],
    /// Rotary tables that it loads.
    pub rope_tables: &'static [R],
    /// What it takes for keys that a file leaves out.
    pub defaults: &'static [(Key, u64)],
}

impl Loader {
    /// What most do.
    pub(super) const USUAL: Loader = Loader {
        keys: &[RMS_NORM],
        rules: &[],
        biases: &[],
        needs_biases: &[],
        optional: &[],
        rope_tables: &[],
        defaults: &[],
    };

    /// Whether it holds a file to `rule`.
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

    /// Whether it loads the bias of `role`; `None` where the rows decide.
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

pub(super) const fn needed(form: Form, names: &'static [&'static str]) -> LoaderKeys {
    LoaderKeys {
        needed: true,
        form,
        names,
    }
}

pub(super) const fn read(form: Form, names: &'static [&'static str]) -> LoaderKeys {
    LoaderKeys {
        needed: false,
        form,
        names,
    }
}

pub(super) const EPSILON: &str = "attention.layer_norm_rms_epsilon";
pub(super) const LAYER_EPSILON: &str = "attention.layer_norm_epsilon";
pub(super) const SECTIONS: &str = "rope.dimension_sections";
pub(super) const ROTATED: &str = "rope.dimension_count";
pub(super) const WINDOW_ROTATED: &str = "rope.dimension_count_swa";

/// What norms over the mean square need.
pub(super) const RMS_NORM: &[LoaderKeys] = &[needed(Form::Float, &[EPSILON])];

/// What every loader reads.
pub(super) const READ_BY_ALL: &[LoaderKeys] = &[
    needed(
        Form::Count,
        &["block_count", "context_length", "embedding_length"],
    ),
    read(
        Form::Count,
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
        Form::PerBlock,
        &[
            "expert_used_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
        ],
    ),
    read(
        Form::Float,
        &[
            "rope.freq_base",
            "rope.scaling.factor",
            "rope.scaling.attn_factor",
            "rope.scaling.alpha",
        ],
    ),
    read(Form::Flag, &["attention.causal", "rope.scaling.finetuned"]),
    read(Form::Text, &["rope.scaling.type"]),
];

/// What llama.cpp knows as `rope.scaling.type`.
pub(super) const ROPE_SCALINGS: &[&str] = &["none", "linear", "yarn", "longrope"];

/// What a block that predicts ahead begins with.
pub(super) const AHEAD_NEEDS: &[R] = &[R::NextnProj, R::NextnEmbeddingNorm, R::NextnHiddenNorm];

/// Weights that may have a scale of their own, and one of their input.
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

/// Ends of their names.
pub(super) const SCALES: &[&str] = &[".scale", ".input_scale"];

/// How many numbers the scale of a weight of `role` has, if it is loaded.
pub(super) fn scale(role: R, experts: u64) -> Option<u64> {
    let stacked = matches!(
        role,
        R::FfnGateExperts | R::FfnUpExperts | R::FfnDownExperts
    );
    let numbers = if stacked { experts } else { 1 };
    SCALED.contains(&role).then_some(numbers)
}
