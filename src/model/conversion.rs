//! How a Hugging Face checkpoint of an architecture becomes a GGUF, as data: its keys in the order in
//! which llama.cpp's converter writes them (`conversion/*.py`), its vocabulary, and what becomes of its
//! weights. The module `convert` follows it. Must not: hold code that reads a tokenizer or a weight.

use super::hparams::{Key, Number};
use super::role::TensorRole;
use super::spec::ModelSpec;

/// The conversion of one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// Keys that go before everything but the architecture.
    pub first: &'static [KeyRule],
    /// All other keys, in groups that architectures share. One that comes a second time keeps its
    /// place and takes the new value.
    pub keys: &'static [&'static [KeyRule]],
    /// Which tokenizer it has.
    pub vocabulary: Vocabulary,
    /// The name of its way of splitting words (`tokenizer.ggml.pre`), where tokenizers of other names
    /// split alike.
    pub pre_tokenizer: Option<&'static str>,
    /// What is done to weights. All rules that name a tensor's role count.
    pub weights: &'static [WeightRule],
}

/// One key of a GGUF and where its value comes from.
#[derive(Clone, Copy, Debug)]
pub enum KeyRule {
    /// A count; lists with one for each block become arrays.
    Count {
        /// The key it becomes.
        key: Key,
        /// The row of `config.json` that states it, in most cases the key's own.
        from: Key,
        /// What the model's description says where `config.json` does not.
        or: fn(&ModelSpec) -> Option<u64>,
    },
    /// A number of `config.json`.
    Number(Number),
    /// A value that needs more than one look.
    Derived(Derived),
    /// `general.file_type`, which the caller gives.
    FileType,
}

/// Values that are made from several hyperparameters, or from the model's description.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derived {
    /// The kind of rotary scaling.
    RopeScaling,
    /// Its factor, where the kind has one.
    RopeFactor,
    /// The context before the positions were stretched; conversion fails without.
    OriginalContext,
    /// The same, for YaRN alone.
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
    /// Parts of a head that turn by the place of a token in time, height and width; these where
    /// `config.json` has none.
    RopeSections(Option<[i32; 4]>),
    /// The elements of a head that turn, by their share; this share where none is stated.
    RopeDims(f64),
    /// What the softmax is scaled by where a model has factors for long contexts.
    LongRopeAttnFactor,
    /// Heads of keys in each block, none where there is no attention.
    KvHeadsByBlock,
    /// The width of the dense feed-forward as the model's description has it.
    DenseWidth,
    /// The width of a delta net's values, all heads together.
    DeltaNetWidth,
    /// Which blocks are recurrent.
    RecurrentLayers,
    /// Which blocks see a window.
    WindowPattern,
    /// How sparse the activations of each block are, in standard deviations.
    ActivationSparsity,
}

/// Which tokenizer an architecture has, in the order in which its files are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// SentencePiece, or BPE with byte fallback from `tokenizer.json`, or byte-level BPE.
    Llama,
    /// SentencePiece, or byte-level BPE.
    SentencePieceOrByteLevel,
    /// Byte-level BPE.
    ByteLevel,
    /// SentencePiece of Phi-3, or byte-level BPE of Phi-4.
    Phi3,
    /// SentencePiece, with no space before the first word.
    SentencePiece,
}

/// What is done to the weights of tensors with these roles.
#[derive(Clone, Copy, Debug)]
pub struct WeightRule {
    /// The roles.
    pub roles: &'static [TensorRole],
    /// What is done.
    pub transform: WeightTransform,
}

/// What is done to the weights of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightTransform {
    /// The rows of each head go from two halves to pairs, as llama.cpp turns neighbours where
    /// Transformers turns an element with the one half a head further.
    RotaryPairs,
    /// One is added: the runtime multiplies by the weight where the model multiplies by one more.
    AddOne,
    /// `-exp(x)`: the model stores the logarithm of a decay.
    NegatedExp,
    /// The heads of values of a delta net, which Transformers groups by the head of keys that they
    /// share, are taken from each group in turn: ggml repeats the heads of keys as a whole.
    ValueHeadsInTurn(ValueHeads),
    /// The part of one head of keys in a matrix that holds query, key, values and gate of each.
    PartOfKeyHeads(KeyHeadPart),
}

/// Where a tensor has the heads of a delta net's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueHeads {
    /// Its rows, behind those of queries and keys.
    RowsBehindKeys,
    /// Its rows.
    Rows,
    /// Its rows, one for each head.
    SingleRows,
    /// The values of each row.
    Columns,
}

/// A part of the matrix that holds all projections of a delta net, head of keys by head of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeadPart {
    /// Query, key and values: all queries come first, then all keys.
    QueryKeyValue,
    /// The gate.
    Gate,
}

impl KeyRule {
    /// A count of `config.json`.
    pub(super) const fn count(key: Key) -> KeyRule {
        KeyRule::count_from(key, key)
    }

    /// A count that becomes `key` and that `config.json` states as `from`.
    pub(super) const fn count_from(key: Key, from: Key) -> KeyRule {
        KeyRule::Count {
            key,
            from,
            or: |_| None,
        }
    }

    /// The same; where it is not stated, what the model's description says.
    pub(super) const fn or(self, or: fn(&ModelSpec) -> Option<u64>) -> KeyRule {
        match self {
            KeyRule::Count { key, from, .. } => KeyRule::Count { key, from, or },
            other => other,
        }
    }

    /// GGUF's name of the key, without the architecture unless it starts with `general.`.
    pub fn gguf(&self) -> &'static str {
        match self {
            KeyRule::Count { key, .. } => key.gguf(),
            KeyRule::Number(number) => number.gguf(),
            KeyRule::Derived(derived) => derived.gguf(),
            KeyRule::FileType => "general.file_type",
        }
    }
}

impl Derived {
    fn gguf(self) -> &'static str {
        match self {
            Derived::RopeScaling => "rope.scaling.type",
            Derived::RopeFactor => Number::RopeFactor.gguf(),
            Derived::OriginalContext | Derived::YarnOriginalContext => Key::OriginalContext.gguf(),
            Derived::Yarn(number) | Derived::RopeNumber { number, .. } => number.gguf(),
            Derived::RopeBase => Number::RopeBase.gguf(),
            Derived::WindowRopeBase => Number::WindowRopeBase.gguf(),
            Derived::RopeSections(_) => ROPE_SECTIONS,
            Derived::RopeDims(_) => Key::RopeDim.gguf(),
            Derived::LongRopeAttnFactor => Number::RopeAttnFactor.gguf(),
            Derived::KvHeadsByBlock => Key::KvHeads.gguf(),
            Derived::DenseWidth => Key::Ffn.gguf(),
            Derived::DeltaNetWidth => Key::SsmInner.gguf(),
            Derived::RecurrentLayers => Key::RecurrentLayers.gguf(),
            Derived::WindowPattern => Key::WindowPattern.gguf(),
            Derived::ActivationSparsity => "activation_sparsity_scale",
        }
    }
}

/// The parts of a head that turn by time, height and width.
pub(super) const ROPE_SECTIONS: &str = "rope.dimension_sections";
