//! How a Hugging Face checkpoint of an architecture is converted to a GGUF, as data: the metadata keys in the order in
//! which llama.cpp's converter writes them (`conversion/*.py`), the vocabulary, and the transforms of weights. The
//! module `convert` executes it. Must not: read a tokenizer or a weight.

use super::hparams::{Key, Number};
use super::role::TensorRole;
use super::spec::ModelSpec;

/// The conversion of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// Keys that are written before all others except the architecture.
    pub first: &'static [KeyRule],
    /// All other keys, in groups that architectures share. A key that occurs a second time keeps its position and takes
    /// the new value.
    pub keys: &'static [&'static [KeyRule]],
    /// The kind of its tokenizer.
    pub vocabulary: Vocabulary,
    /// The name of its pre-tokenizer (`tokenizer.ggml.pre`), if several names stand for the same splitting.
    pub pre_tokenizer: Option<&'static str>,
    /// Names of stored tensors that its converter leaves out, without the model's prefix.
    pub dropped: &'static [&'static str],
    /// The template in which a reranker is given a query and a document.
    pub rank_template: Option<&'static str>,
    /// Special tokens that its converter writes beside those that the files name.
    pub special_tokens: &'static [SpecialToken],
    /// The transforms of weights. All rules that name a tensor's role apply.
    pub weights: &'static [WeightRule],
    /// Whether its converter writes the stacks of a block's experts together: gates, ups, downs.
    pub stacks_together: bool,
    /// Where its own code may take the tokenizer from, if that is another place than the files beside the weights.
    pub tokenizer_elsewhere: Option<TokenizerElsewhere>,
}

impl Conversion {
    /// The number of answers of a reranker; 0 if no GGUF of one is made.
    pub(crate) fn labels(&self) -> u64 {
        let rules = self.keys.iter().copied().flatten();
        let labels = rules.map(|rule| match rule {
            KeyRule::Derived(Derived::Labels(labels)) => labels.len() as u64,
            KeyRule::Derived(Derived::StatedLabel) => 1,
            _ => 0,
        });
        labels.max().unwrap_or(0)
    }

    /// The names of tensors whose numbers become keys.
    pub(super) fn stored_numbers(&self) -> impl Iterator<Item = &'static str> + use<> {
        let groups = std::iter::once(self.first).chain(self.keys.iter().copied());
        groups.flatten().filter_map(|rule| match rule {
            KeyRule::Stored { tensors, .. } => Some(*tensors),
            _ => None,
        })
    }

    /// The keys of nearly every architecture and byte-level BPE; weights as they are stored.
    pub(super) const USUAL: Conversion = Conversion {
        first: &[],
        keys: &[],
        vocabulary: Vocabulary::ByteLevel,
        pre_tokenizer: None,
        dropped: &[],
        rank_template: None,
        special_tokens: &[],
        weights: &[],
        stacks_together: false,
        tokenizer_elsewhere: None,
    };
}

/// A tokenizer that the code beside the weights takes from another repository, while the files here are an earlier model's.
#[derive(Clone, Copy, Debug)]
pub struct TokenizerElsewhere {
    /// The file with the code.
    pub code: &'static str,
    /// The repository, which the code names if it does so.
    pub repository: &'static str,
    /// A token that that tokenizer has and the other lacks.
    pub token: &'static str,
}

/// A special token that the tokenizer's files may not name.
#[derive(Clone, Copy, Debug)]
pub enum SpecialToken {
    /// Those that generation never writes (`suppress_tokens`), for a model of this class.
    Suppressed {
        /// Its name in `architectures`.
        class: &'static str,
    },
    /// The token with this text, unless the files name one of its kind.
    Text {
        /// Its kind (`eot`).
        kind: &'static str,
        /// Its text.
        text: &'static str,
    },
    /// The token with this text, if there is one, whatever token of its kind the files name.
    Instead {
        /// Its kind (`eos`).
        kind: &'static str,
        /// Its text.
        text: &'static str,
    },
    /// This token, whatever the files say.
    Id {
        /// GGUF's name of its kind.
        kind: &'static str,
        /// Its id.
        id: u32,
    },
}

/// One key of a GGUF and where its value comes from.
#[derive(Clone, Copy, Debug)]
pub enum KeyRule {
    /// A count; a list with one number for each block becomes an array.
    Count {
        /// The key that is written.
        key: Key,
        /// The hyperparameter that it is read from, in most cases the same.
        from: Key,
        /// The value from the model's description, if `config.json` does not state one.
        or: fn(&ModelSpec) -> Option<u64>,
    },
    /// A number of `config.json`.
    Number(Number),
    /// A number that all models of the architecture have.
    Fixed(Number, f64),
    /// A flag.
    Flag {
        /// The key that is written.
        key: &'static str,
        /// Its name in `config.json`.
        from: Option<&'static str>,
        /// Its value if `config.json` does not state it.
        or: bool,
    },
    /// A value that is computed.
    Derived(Derived),
    /// The same text for all models of the architecture.
    Text {
        /// The key.
        key: &'static str,
        /// The text.
        text: &'static str,
    },
    /// A list of the numbers that blocks store as tensors of one element each.
    Stored {
        /// The key, without a prefix.
        key: &'static str,
        /// The names of the tensors without the model's prefix, with `{}` for the block's number.
        tensors: &'static str,
    },
    /// `general.file_type`, which the caller passes.
    FileType,
}

/// Values that are computed from several hyperparameters or from the model's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derived {
    /// The kind of rotary scaling.
    RopeScaling,
    /// The kind of rotary scaling, `none` without any.
    RopeScalingOrNone,
    /// `none` as the kind of rotary scaling.
    NoRopeScaling,
    /// The factor of rotary scaling, if its kind has one.
    RopeFactor,
    /// The context before rotary scaling; conversion fails if it is not stated.
    OriginalContext,
    /// The same, for YaRN only.
    YarnOriginalContext,
    /// A parameter of YaRN.
    Yarn(Number),
    /// A rotary parameter that models of this `model_type` must have, and others do not.
    RopeNumber {
        /// The parameter.
        number: Number,
        /// The model type.
        model_type: &'static str,
    },
    /// The rotary base.
    RopeBase,
    /// The rotary base of windowed blocks.
    WindowRopeBase,
    /// The numbers of rotary pairs that are rotated by a token's position in time, height and width; the given ones if
    /// `config.json` states none.
    RopeSections(Option<[i32; 4]>),
    /// The number of rotated elements of a head, from the stated share of the head; from the given share if none is
    /// stated.
    RopeDims(f64),
    /// The epsilon of LayerNorms, also under names that others have for that of RMS norms.
    LayerNormEpsilon,
    /// The epsilon of RMS norms, also under names that others have for that of LayerNorms.
    RmsEpsilon,
    /// A part of what is written where `alpha` scales rotary positions.
    AlphaScaled(AlphaPart),
    /// The factor on the softmax in a model with rotary factors for long contexts.
    LongRopeAttnFactor,
    /// Key heads of each block; 0 for a block without attention.
    KvHeadsByBlock,
    /// The width of the dense feed-forward, from the model's description.
    DenseWidth,
    /// The share of the hidden size that each head of the first block with attention has, as the number of rotated elements.
    RopeDimsOfHidden,
    /// 1 as the number of key heads: a latent that all heads share.
    OneKeyHead,
    /// The width of a latent and its rotary part.
    LatentKeyWidth,
    /// The width of a latent.
    LatentWidth,
    /// The width of a whole head of keys.
    WholeKeyWidth,
    /// The same under the usual key.
    WholeHeadWidth,
    /// A tenth of what YaRN multiplies the logarithm of the factor with.
    TenthOfYarnMultiplier,
    /// That the shares of experts sum to one, if they do.
    NormalizedShares,
    /// 0 as the width of the feed-forward.
    NoFeedForward,
    /// 0 as the number of heads.
    NoHeads,
    /// The width of each block's feed-forward or experts; 0 for a block without.
    WidthsByBlock,
    /// The width of a state-space mixer over all heads.
    StateSpaceWidth,
    /// The context of a model without positions, which has no limit.
    UnboundedContext,
    /// The positions that tokens use.
    UsedPositions,
    /// How a router's scores become shares, if it is stated.
    ExpertScores,
    /// A sigmoid as the function of a router's scores.
    SigmoidScores,
    /// The width of a delta net's values over all heads.
    DeltaNetWidth,
    /// Which blocks are recurrent.
    RecurrentLayers,
    /// Which blocks have a sliding window.
    WindowPattern,
    /// The same, if any block has one.
    WindowPatternIfAny,
    /// The factor on what blocks add: the stated depth scale by the root of the number of blocks.
    DepthScale,
    /// The divisor of logits: the hidden size by that of a base model.
    BaseWidths,
    /// Blocks of the text model that get the output of blocks of the image encoder.
    DeepstackLayers,
    /// The activation sparsity of each block, in standard deviations.
    ActivationSparsity,
    /// What the outputs of a reranker stand for.
    Labels(&'static [&'static str]),
    /// What its only output stands for, as `config.json` says.
    StatedLabel,
    /// That a reranker ranks.
    RankPooling,
    /// The number of this key that the first block has; those of others are compared where the file is checked.
    OfFirstBlock(Key),
    /// How a model that turns texts into numbers makes one vector of a text's.
    Pooling,
    /// The width of a head in blocks with full attention, under this key.
    WholeContextHead(Key),
    /// Key heads of each block, if those with full attention state their own.
    KvHeadsByBlockIfStated,
    /// The width of each block's dense feed-forward, if some are stated to be twice as wide.
    DenseWidthsIfDouble,
}

/// What is written where `alpha` scales rotary positions, which llama.cpp knows as a larger base alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlphaPart {
    /// The base, scaled.
    Base,
    /// `none` as the kind of scaling.
    Kind,
    /// 1 as the factor.
    Factor,
    /// The context before scaling, which is that after it.
    OriginalContext,
    /// The context after scaling.
    Context,
}

/// The kinds of tokenizer that an architecture may have, in the order in which their files are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// SentencePiece, or BPE with byte fallback from `tokenizer.json`, or byte-level BPE.
    Llama,
    /// SentencePiece, or byte-level BPE.
    SentencePieceOrByteLevel,
    /// SentencePiece, or BPE with byte fallback from `tokenizer.json`, then without a space before the first word.
    SentencePieceOrUnspacedPieces,
    /// Byte-level BPE.
    ByteLevel,
    /// SentencePiece of Phi-3, or byte-level BPE of Phi-4.
    Phi3,
    /// SentencePiece, or byte-level BPE; `tokenizer_config.json` says whether a space stands before the first word.
    SentencePieceWithStatedSpace,
    /// SentencePiece whose own file says whether a space stands before the first word, and whose names say which pieces are not
    /// used; or byte-level BPE.
    SentencePieceAsTrained,
    /// SentencePiece without a space before the first word.
    SentencePiece,
    /// WordPiece.
    WordPiece,
    /// Pieces whose sum of scores decides how a text is split (SentencePiece's Unigram).
    Unigram,
    /// SentencePiece pieces that are joined by merges.
    MergedPieces,
    /// Byte-level BPE whose tokens have types.
    TypedByteLevel,
    /// A list of strings of bytes, of which the longest at each place is taken (`rwkv_vocab_v20230424.txt`).
    World,
    /// Tokens with scores, one a line (`tokenizer.jsonl`), whose sum decides how a text is split.
    ScoredLines {
        /// What names of control tokens begin with.
        control: &'static str,
    },
}

/// A transform of the weights of all tensors with these roles.
#[derive(Clone, Copy, Debug)]
pub struct WeightRule {
    /// The roles.
    pub roles: &'static [TensorRole],
    /// The transform.
    pub transform: WeightTransform,
}

/// A transform of the weights of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightTransform {
    /// Reorders the rows of each head from two halves to pairs: Transformers rotates element `i` with `i + dim / 2`,
    /// llama.cpp (for architectures of rotary style `NORM`) element `2 i` with `2 i + 1`.
    RotaryPairs,
    /// The same of the first half of each head, which alone turns.
    RotaryPairsOfHalf,
    /// The other way round: from pairs to two halves.
    RotaryHalves,
    /// The other way round, of the first half of each head.
    RotaryHalvesOfHalf,
    /// Adds this number: the model multiplies by so much more than the weight, the runtime by the stored weight.
    Add(f32),
    /// `-exp(x)`: the checkpoint stores the logarithm of a decay.
    NegatedExp,
    /// Reorders the value heads of a delta net. Transformers groups them by the key head that they share; the output
    /// takes one of each group in turn, since ggml repeats all key heads as a whole.
    ValueHeadsInTurn(ValueHeads),
    /// Multiplies with the number of `config.json` under this name.
    Times(&'static str),
    /// Multiplies with this number of the list under this name.
    TimesListed(&'static str, usize),
    /// Multiplies the rows of gate, `x`, `B`, `C` and time steps with the numbers of the list under this name.
    TimesParts(&'static str),
    /// Extracts, head by head, the rows of keys from a matrix of keys and values, and transposes each head.
    TransposedKeysOfHeads,
    /// Extracts, head by head, the rows of values from the same matrix.
    ValuesOfHeads,
    /// Leaves out the positions that no token uses.
    WithoutSkippedPositions,
    /// Reorders the rows of a matrix of query, key and values from those of each head to all queries, all keys, all values.
    QueryKeyValueByHead,
    /// Extracts a third of the rows: that of query (0), key (1) or value (2) of a matrix that stores all.
    PartOfThree(u64),
    /// Extracts a part of a matrix that stores, for each head of keys and values, its queries, its key and its value.
    PartOfGroups(GroupPart),
    /// Extracts the rows of these tokens.
    RowsOfTokens(&'static [&'static str]),
    /// Brings each row to unit length, in models of so many tokens alone.
    UnitRows {
        /// Their number of tokens.
        vocab: u64,
    },
    /// Rounds each value to -1, 0 or 1 times the mean magnitude of the tensor.
    Ternary,
    /// Transposes each matrix of a stack that is stored under a name without `.weight` in floats.
    TransposedFloats,
    /// Extracts this row of every two.
    OneOfTwo(u64),
    /// Of rows that are transposed, extracts this half of each.
    HalfOfRows(u64),
    /// Extracts a part of a matrix that stores query, key, values and gate key head by key head.
    PartOfKeyHeads(KeyHeadPart),
}

/// The dimension of a tensor that runs over the value heads of a delta net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueHeads {
    /// The rows that follow those of queries and keys.
    RowsBehindKeys,
    /// All rows.
    Rows,
    /// All rows, one for each head.
    SingleRows,
    /// The columns.
    Columns,
}

/// A part of the matrix that stores query, key and value by heads of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPart {
    /// The queries that share the head.
    Queries,
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// A part of the matrix that stores all projections of a delta net key head by key head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeadPart {
    /// Query, key and values, in the order of all queries, all keys, all values.
    QueryKeyValue,
    /// The gate.
    Gate,
}

impl KeyRule {
    /// The count `key` of `config.json`.
    pub(super) const fn count(key: Key) -> KeyRule {
        KeyRule::count_from(key, key)
    }

    /// A count that is written as `key` and read from `from`.
    pub(super) const fn count_from(key: Key, from: Key) -> KeyRule {
        KeyRule::Count {
            key,
            from,
            or: |_| None,
        }
    }

    /// The same rule with a value from the model's description if `config.json` does not state one.
    pub(super) const fn or(self, or: fn(&ModelSpec) -> Option<u64>) -> KeyRule {
        match self {
            KeyRule::Count { key, from, .. } => KeyRule::Count { key, from, or },
            other => other,
        }
    }

    /// GGUF's name of the key, without the architecture's prefix; [`KeyRule::has_prefix`] says whether it has one.
    pub fn gguf(&self) -> &'static str {
        match self {
            KeyRule::Count { key, .. } => key.gguf(),
            KeyRule::Number(number) | KeyRule::Fixed(number, _) => number.gguf(),
            KeyRule::Flag { key, .. } => key,
            KeyRule::Derived(derived) => derived.gguf(),
            KeyRule::Text { key, .. } | KeyRule::Stored { key, .. } => key,
            KeyRule::FileType => "general.file_type",
        }
    }

    /// Whether the architecture's name stands before the key.
    pub fn has_prefix(&self) -> bool {
        let own = ["general.", "tokenizer."];
        let is_own = own.iter().any(|start| self.gguf().starts_with(start));
        !is_own && !matches!(self, KeyRule::Stored { .. })
    }
}

impl Derived {
    fn gguf(self) -> &'static str {
        match self {
            Derived::RopeScaling | Derived::RopeScalingOrNone | Derived::NoRopeScaling => {
                "rope.scaling.type"
            }
            Derived::RopeFactor => Number::RopeFactor.gguf(),
            Derived::OriginalContext | Derived::YarnOriginalContext => Key::OriginalContext.gguf(),
            Derived::Yarn(number) | Derived::RopeNumber { number, .. } => number.gguf(),
            Derived::RopeBase => Number::RopeBase.gguf(),
            Derived::WindowRopeBase => Number::WindowRopeBase.gguf(),
            Derived::RopeSections(_) => ROPE_SECTIONS,
            Derived::RopeDims(_) => Key::RopeDim.gguf(),
            Derived::LayerNormEpsilon => Number::LayerNormEpsilon.gguf(),
            Derived::RmsEpsilon => Number::RmsEpsilon.gguf(),
            Derived::AlphaScaled(part) => match part {
                AlphaPart::Base => Number::RopeBase.gguf(),
                AlphaPart::Kind => "rope.scaling.type",
                AlphaPart::Factor => Number::RopeFactor.gguf(),
                AlphaPart::OriginalContext => Key::OriginalContext.gguf(),
                AlphaPart::Context => Key::Context.gguf(),
            },
            Derived::LongRopeAttnFactor => Number::RopeAttnFactor.gguf(),
            Derived::KvHeadsByBlock => Key::KvHeads.gguf(),
            Derived::DenseWidth => Key::Ffn.gguf(),
            Derived::RopeDimsOfHidden => Key::RopeDim.gguf(),
            Derived::WidthsByBlock | Derived::NoFeedForward => Key::Ffn.gguf(),
            Derived::NoHeads => Key::Heads.gguf(),
            Derived::OneKeyHead => Key::KvHeads.gguf(),
            Derived::LatentKeyWidth | Derived::WholeHeadWidth => Key::HeadDim.gguf(),
            Derived::LatentWidth => Key::ValueDim.gguf(),
            Derived::WholeKeyWidth => Key::MlaKeyDim.gguf(),
            Derived::TenthOfYarnMultiplier => Number::YarnLogMultiplier.gguf(),
            Derived::NormalizedShares => "expert_weights_norm",
            Derived::StateSpaceWidth => Key::SsmInner.gguf(),
            Derived::UnboundedContext | Derived::UsedPositions => Key::Context.gguf(),
            Derived::ExpertScores | Derived::SigmoidScores => "expert_gating_func",
            Derived::DeltaNetWidth => Key::SsmInner.gguf(),
            Derived::RecurrentLayers => Key::RecurrentLayers.gguf(),
            Derived::WindowPattern | Derived::WindowPatternIfAny => Key::WindowPattern.gguf(),
            Derived::DepthScale => Number::ResidualScale.gguf(),
            Derived::BaseWidths => Number::LogitScale.gguf(),
            Derived::DeepstackLayers => "n_deepstack_layers",
            Derived::ActivationSparsity => "activation_sparsity_scale",
            Derived::Pooling | Derived::RankPooling => "pooling_type",
            Derived::Labels(_) | Derived::StatedLabel => LABELS,
            Derived::OfFirstBlock(key) => key.gguf(),
            Derived::WholeContextHead(key) => key.gguf(),
            Derived::KvHeadsByBlockIfStated => Key::KvHeads.gguf(),
            Derived::DenseWidthsIfDouble => Key::Ffn.gguf(),
        }
    }
}

/// The key for what the outputs of a head that ranks stand for.
pub(super) const LABELS: &str = "classifier.output_labels";

/// The key for the numbers of rotary pairs by time, height and width.
pub(super) const ROPE_SECTIONS: &str = "rope.dimension_sections";
