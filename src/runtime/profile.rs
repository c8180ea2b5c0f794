//! The form of a runtime profile: what it loads, what it adds to memory, what speed it reaches. Every number has the key
//! of its source in [`RuntimeProfile::sources`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::learned::{Learned, OtherModes};
use super::lines::Lines;
use super::record::FitRecord;
use crate::device::{Clocks, L4tRelease};
use crate::dtype::Dtype;
use crate::scheme::Container;
use crate::sourced::{Sourced, Trust};

/// A value that is known only within bounds: `low <= expected <= high`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The lower bound.
    pub low: f64,
    /// The value to compute with.
    pub expected: f64,
    /// The upper bound.
    pub high: f64,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
    /// How reliable it is.
    pub trust: Trust,
}

impl Range {
    /// Multiplies all of it.
    pub(super) fn scale(&mut self, factor: f64) {
        for end in [&mut self.low, &mut self.expected, &mut self.high] {
            *end *= factor;
        }
    }
}

/// A runtime: llama.cpp's server, Ollama, vLLM, ...
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeProfile {
    /// The id on the command line.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// How reliable its speed figures are as a whole.
    pub trust: Trust,
    /// Caveats for reports.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The sources by their keys.
    pub sources: BTreeMap<String, String>,
    /// The processor that computes.
    #[serde(default)]
    pub backend: ComputeBackend,
    /// Ids of runtimes that run the same kernels under another host: their runs refine this one too.
    #[serde(default)]
    pub same_kernels: Vec<String>,
    /// What it can load.
    pub loads: Loads,
    /// Parts of the commands that start it.
    #[serde(default)]
    pub lines: Lines,
    /// What it adds to memory.
    pub memory: Memory,
    /// The parameters of its speed model.
    pub speed: Speed,
    /// The record of the fit of its speed parameters, if they were fitted.
    pub fit: Option<FitRecord>,
    /// Corrections learned from runs on the device.
    #[serde(skip)]
    pub learned: Option<Learned>,
    /// Where these are all of other power modes than the planned one: which.
    #[serde(skip)]
    pub learned_in: OtherModes,
}

/// What a runtime can load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loads {
    /// File formats: `gguf`, `safetensors`.
    pub files: Vec<String>,
    /// Ids of the schemes whose output it runs.
    pub schemes: Vec<String>,
    /// Packings of quantized Hugging Face checkpoints, in addition to `schemes`, that it runs as they are.
    #[serde(default)]
    pub prequantized: Vec<String>,
    /// Its 4-bit scheme packs every matrix except a tied embedding in groups of 32 with a 16-bit scale (4.5 bits a weight),
    /// where the scheme itself has groups of 128 and leaves embedding and head as they are.
    #[serde(default)]
    pub packs_every_matrix: bool,
    /// It runs what its own converter makes of a checkpoint, and no files of these formats.
    #[serde(default)]
    pub own_converter: bool,
    /// Matrices that are stored in F32 are held in F16.
    #[serde(default)]
    pub casts_f32: bool,
    /// Element types its KV cache can have, in lower case.
    pub kv_types: Vec<String>,
    /// Names of the element types that the processor it computes on has no kernels for: it leaves their products to another.
    #[serde(default)]
    pub without_kernels: Vec<String>,
    /// It runs text models alone, without image encoders.
    #[serde(default)]
    pub text_only: bool,
    /// It runs the architectures alone whose forward pass this program knows.
    #[serde(default)]
    pub known_passes_only: bool,
    /// Keys and values have the same type.
    #[serde(default)]
    pub one_kv_type: bool,
    /// FP8 weights are widened before use on compute capability 8.7: smaller, never faster to compute.
    pub fp8_storage_only: bool,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
}

impl Loads {
    /// Whether it loads files of this kind.
    pub fn reads(&self, container: Container) -> bool {
        let name = match container {
            Container::Gguf => "gguf",
            Container::Safetensors => "safetensors",
        };
        self.files.iter().any(|file| file == name)
    }

    /// Whether it computes with weights of this type where it computes.
    pub fn has_kernels(&self, dtype: Dtype) -> bool {
        let mut without = self.without_kernels.iter();
        without.all(|name| name != dtype.name())
    }
}

/// What a runtime adds to memory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes of its process before it opens a model, the CUDA context included. Without: part of `runtime_bytes`.
    pub process_bytes: Option<Range>,
    /// Bytes that it takes beyond its process, its tokenizer and what the ledger counts by tensors: libraries' workspaces,
    /// kernels, what allocators round up.
    pub runtime_bytes: Range,
    /// Whether it keeps a tied embedding twice, once for the input and once for the output head.
    pub duplicates_tied_embedding: Sourced<bool>,
    /// The KV cache of a sequence is rounded up to a multiple of this many tokens (llama.cpp's
    /// padding, vLLM's block).
    pub context_multiple: Sourced<u64>,
    /// Tokens of a block of its prefix cache, which it keeps or reads again together. Without: any number of tokens is kept.
    pub prefix_block: Option<Sourced<u64>>,
    /// Whether it allocates its weights in one piece, an untied input embedding apart. Without: each tensor by itself.
    pub weights_at_once: Option<Sourced<bool>>,
    /// How much of the KV cache it allocates at once.
    pub kv_allocation: Sourced<KvAllocation>,
    /// How many rows of logits are reserved.
    pub outputs: Sourced<Outputs>,
    /// How compute buffers are sized.
    pub compute: ComputeRule,
    /// The share of the board's memory that it takes at start, whatever the model needs.
    pub pool_fraction: Option<Sourced<f64>>,
    /// Bytes of its tokenizer for each entry of the vocabulary, where `runtime_bytes` does not include them.
    pub vocabulary_entry_bytes: Option<Sourced<f64>>,
    /// The same by what the tokenizer holds, where that is known.
    pub tokenizer_bytes: Option<TokenizerBytes>,
    /// Bytes for each entry of the vocabulary that it takes for a moment while it loads, before there are caches and compute
    /// buffers.
    pub loading_entry_bytes: Option<Sourced<f64>>,
}

/// What a tokenizer takes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerBytes {
    /// Bytes for each entry of the vocabulary.
    pub entry: f64,
    /// Bytes for each merge of a byte pair encoding.
    pub merge: f64,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
}

/// How much of the KV cache a runtime allocates at once. A block is a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvAllocation {
    /// All blocks that see the whole context together, and all windowed ones.
    Cache,
    /// Keys and values of one block.
    Block,
    /// Keys of one block, and its values.
    Tensor,
}

/// How many rows of logits a runtime reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// One for each sequence.
    Parallel,
    /// One for each token of a ubatch.
    Ubatch,
}

/// The processor that computes a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeBackend {
    /// The CPU; the GPU is not used.
    Cpu,
    /// The GPU.
    #[default]
    Cuda,
}

/// How compute buffers are sized.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ComputeRule {
    /// ggml's graph allocator: the peak of live activations. On the CPU everything is in one buffer; with a GPU the token
    /// embedding and the inputs stay in CPU memory.
    Ggml {
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
    /// Activations of one pass, allocated as needed: those alive at once in the widest block.
    Activations {
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
    /// A share of the weights, but at least a number of bytes.
    Fraction {
        /// Share of the weights' bytes.
        of_weights: f64,
        /// The least, in bytes.
        at_least_bytes: u64,
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
}

/// The parameters of a runtime's speed model, which [`crate::plan::speed`] describes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// The `p` of the p-norm that combines an operation's memory time and arithmetic time; at least 1. With 1 they add up
    /// (no overlap), with a large one the longer counts (full overlap).
    pub overlap_norm: Sourced<f64>,
    /// Share of the memory bandwidth that a long read reaches; above 0, at most 1.
    pub bandwidth_efficiency: Range,
    /// A factor on every arithmetic cost, for the differences between builds, boards and models.
    pub cost_scale: Range,
    /// SM cycles of an output row of a matrix, in addition to those of its weights.
    pub row_cycles: Sourced<f64>,
    /// SM cycles of a multiply-accumulate with recurrent state.
    pub state_cycles: Sourced<f64>,
    /// The arithmetic that a further sequence adds to a matrix, as a share of the first one's: 1 where every sequence is
    /// computed separately, near 0 where tensor cores compute them together.
    pub batch_share: Sourced<f64>,
    /// Up to so many sequences each has products of its own, as `batch_share` says; larger batches are computed as prompts
    /// are. `None` where all are computed alike.
    pub vector_batch: Option<Sourced<u64>>,
    /// A factor on the time of a whole step: the error of the model on measurements that were left out of its fit.
    pub spread: Range,
    /// The same, by the names of `cost`, for steps that read mostly weights of that format: of formats in which enough models
    /// were measured.
    #[serde(default)]
    pub format_spread: BTreeMap<String, Range>,
    /// Seconds of kernel launches for each layer at `reference_clock_hz`, inversely proportional to the clock.
    pub launch_seconds: Range,
    /// The same where kernels are launched one by one, not as a CUDA graph; `None` where the runtime has no such way.
    pub eager_launch_seconds: Option<Range>,
    /// The GPU clock that `launch_seconds` and `ubatch_layer_seconds` refer to, in hertz.
    pub reference_clock_hz: Sourced<f64>,
    /// Seconds of a step on the host: sampling, detokenizing, the server.
    pub host_seconds: Range,
    /// The cost of a weight by format: the name of a [`Dtype`], or any other name with `bits`.
    pub cost: BTreeMap<String, FormatCost>,
    /// The cost of attention.
    pub attention: AttentionCost,
    /// The cost of a prompt.
    pub prefill: Prefill,
    /// The share of the tensor cores' FP16 peak that an image encoder reaches; `None` where no measurements tell.
    pub encoder: Option<Range>,
    /// What clocks and system release change; `None` where no measurements tell.
    pub conditions: Option<Conditions>,
    /// How far boards, models and runs differ from the decode times of this model.
    pub learning: Learning,
}

/// Standard deviations, in natural logarithms of a time, of what measurements differ by from their predictions:
/// [`crate::runtime::posterior`] has the model. A parameter that is not named does not differ.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    /// Of a board, in all of the time.
    pub common: f64,
    /// Of a board, in the time to read weights.
    #[serde(default)]
    pub bandwidth: f64,
    /// In arithmetic.
    #[serde(default)]
    pub arithmetic: f64,
    /// In attention over the cache.
    #[serde(default)]
    pub cache: f64,
    /// In launches.
    #[serde(default)]
    pub launch: f64,
    /// On the host.
    #[serde(default)]
    pub host: f64,
    /// Of a model, in all of the time of its runs on a board.
    pub model: f64,
    /// Of a run.
    pub run: f64,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
}

/// What the same takes under other conditions of the board, from runs that differ in nothing else.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// With clocks that the system governs, against locked ones.
    pub governed: Slower,
    /// Under an L4T release before `before`, against one since.
    pub old_system: Slower,
    /// The first release that is not old.
    #[serde(deserialize_with = "release")]
    pub before: L4tRelease,
}

/// Factors on time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slower {
    /// Of a decode step.
    pub decode: f64,
    /// Of a prompt.
    pub prefill: f64,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
}

fn release<'de, D: Deserializer<'de>>(from: D) -> Result<L4tRelease, D::Error> {
    let text = String::deserialize(from)?;
    let release = text.parse();
    release.map_err(|_| D::Error::custom("not an L4T release such as \"36.4.0\""))
}

/// The cost of attention over cached keys and values, in one kernel (fused) or as separate products.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionCost {
    /// Decode where each query head reads for itself: SM cycles of a byte of keys or values that is read again.
    pub byte_cycles: Sourced<f64>,
    /// The depth at which half of those reads miss the L2 cache and go to memory.
    pub spill_tokens: Sourced<f64>,
    /// Prefill, fused: SM cycles of a multiply-accumulate between two tokens, one not before the other.
    pub mac_cycles: Sourced<f64>,
    /// Prefill in separate products: SM cycles of a score, which is computed, stored and read again, whether its token is
    /// masked or not.
    pub score_cycles: Sourced<f64>,
    /// A factor on the time of attention while decoding, which runs on a board showed; not part of a profile.
    #[serde(skip, default = "unchanged")]
    pub decode_scale: f64,
}

fn unchanged() -> f64 {
    1.0
}

/// The cost of one weight of a format.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatCost {
    /// SM cycles to unpack a weight and multiply it by one activation.
    pub cycles: f64,
    /// Bits a weight, scales included. Required where the name is not that of a [`Dtype`].
    pub bits: Option<f64>,
    /// Weights of a row that one pass of the kernel computes; a row costs whole passes. `None` where rows of any length cost
    /// the same a weight.
    pub row_quantum: Option<u64>,
    /// Instead of [`Speed::vector_batch`] for this format; `None` where that holds.
    pub vector_batch: Option<u64>,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
    /// How reliable it is.
    pub trust: Trust,
}

impl FormatCost {
    /// Bits a weight, scales included, of the entry that is called `name`: those stated, else those of the format of
    /// that name; infinite where neither is known.
    pub(super) fn bits_as(&self, name: &str) -> f64 {
        let of_format = |dtype: Dtype| {
            let format = dtype.format();
            format.block_bytes as f64 * 8.0 / format.block_elements as f64
        };
        self.bits
            .or_else(|| Dtype::from_name(name).map(of_format))
            .unwrap_or(f64::INFINITY)
    }
}

/// The cost of a prompt, in addition to one pass over the weights for each ubatch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefill {
    /// SM cycles of a multiply-accumulate with a quantized weight.
    pub quantized_cycles: Sourced<f64>,
    /// SM cycles to unpack a quantized weight, for each tile of 128 tokens that it is multiplied with.
    pub tile_cycles: Sourced<f64>,
    /// Tokens of the tiles that quantized experts are multiplied with, as many as the ubatch has at most: an expert computes
    /// whole ones, however few of the tokens are its own. `None` where each token costs its own products.
    pub expert_tile_tokens: Option<Sourced<u64>>,
    /// SM cycles of a multiply-accumulate with a 16- or 32-bit weight.
    pub float_cycles: Sourced<f64>,
    /// Bytes that move for each activation that a matrix reads or writes: norms, activation functions, additions and
    /// conversions between the matrices.
    pub activation_bytes: Sourced<f64>,
    /// GPU cycles that a token takes in a layer with recurrent state, whose tokens follow one another on any number of SMs.
    pub scan_cycles: Sourced<f64>,
    /// Seconds that each layer of a ubatch adds, at the reference clock.
    pub ubatch_layer_seconds: Sourced<f64>,
    /// A factor on all of the above.
    pub scale: Range,
    /// How far boards, models and runs differ from the times of prompts.
    pub learning: Learning,
    /// Seconds from the request to the start of the work and from its end to the first token.
    pub request_seconds: Range,
}

impl RuntimeProfile {
    /// The profile with what was learned from runs on a device: `runtime_bytes` changes by the difference in memory, and
    /// plans follow the parameters of `learned`.
    pub fn refined(mut self, learned: Option<Learned>) -> RuntimeProfile {
        if let Some(more) = learned.as_ref().and_then(|learned| learned.more_memory) {
            let own = &mut self.memory.runtime_bytes;
            let key = "runs";
            let source = learned.as_ref().map(|learned| learned.source.clone());
            self.sources
                .insert(key.to_owned(), source.unwrap_or_default());
            // What is learned moves the range; it does not make it narrower.
            let above = own.high - own.expected;
            for bound in [&mut own.low, &mut own.expected] {
                *bound = (*bound + more).max(0.0);
            }
            own.high = own.expected + above;
            (own.source, own.trust) = (key.to_owned(), Trust::Measured);
        }
        self.learned = learned;
        self
    }
}

impl Speed {
    /// The speed where kernels are launched as CUDA graphs, or one by one.
    pub fn launching(&self, cuda_graphs: bool) -> Cow<'_, Speed> {
        match &self.eager_launch_seconds {
            Some(eager) if !cuda_graphs => {
                let mut speed = self.clone();
                let launch = &mut speed.launch_seconds;
                (launch.low, launch.expected, launch.high) =
                    (eager.low, eager.expected, eager.high);
                Cow::Owned(speed)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The speed of a build that multiplies small batches in tiles, as the formats' own `vector_batch` says, or of an older
    /// one that does not.
    pub fn tiling(&self, small_batches: bool) -> Cow<'_, Speed> {
        if small_batches || self.cost.values().all(|cost| cost.vector_batch.is_none()) {
            return Cow::Borrowed(self);
        }
        let mut speed = self.clone();
        for cost in speed.cost.values_mut() {
            cost.vector_batch = None;
        }
        Cow::Owned(speed)
    }

    /// The speed on a board with these clocks and this system release. What is not known changes nothing.
    pub fn under(&self, clocks: Option<Clocks>, release: Option<L4tRelease>) -> Cow<'_, Speed> {
        let Some(conditions) = &self.conditions else {
            return Cow::Borrowed(self);
        };
        let governed = clocks == Some(Clocks::Governed);
        let old = release.is_some_and(|release| release < conditions.before);
        let slower = [
            (governed, &conditions.governed),
            (old, &conditions.old_system),
        ];
        let factor = |of: fn(&Slower) -> f64| -> f64 {
            let held = slower.iter().filter(|(holds, _)| *holds);
            held.map(|(_, slower)| of(slower)).product()
        };
        let (decode, prefill) = (
            factor(|slower| slower.decode),
            factor(|slower| slower.prefill),
        );
        if (decode, prefill) == (1.0, 1.0) {
            return Cow::Borrowed(self);
        }
        let mut speed = self.clone();
        speed.step_ranges().for_each(|range| range.scale(decode));
        speed.prefill.scale.scale(prefill);
        Cow::Owned(speed)
    }

    /// The factors on a whole step: of all formats, and of those with a range of their own.
    pub(super) fn step_ranges(&mut self) -> impl Iterator<Item = &mut Range> {
        std::iter::once(&mut self.spread).chain(self.format_spread.values_mut())
    }

    /// The cost of a weight that is stored as `dtype` with `bits` a weight: the entry of that format, or else the entry
    /// nearest in bits, whose trust is then at most [`Trust::Derived`].
    pub fn cost(&self, dtype: Dtype, bits: f64) -> WeightCost {
        let of = |entry: &FormatCost| WeightCost {
            cycles: entry.cycles,
            row_quantum: entry.row_quantum,
            vector_batch: entry.vector_batch,
            trust: entry.trust,
        };
        self.entry(dtype, bits)
            .map_or(WeightCost::UNKNOWN, |(name, entry)| WeightCost {
                trust: if name == dtype.name() {
                    entry.trust
                } else {
                    entry.trust.min(Trust::Derived)
                },
                ..of(entry)
            })
    }

    /// The entry of `cost` for a format with `bits` bits a weight, with its name: its own, or that of the nearest number of
    /// bits.
    fn entry(&self, dtype: Dtype, bits: f64) -> Option<(&str, &FormatCost)> {
        if let Some(own) = self.cost.get_key_value(dtype.name()) {
            return Some((own.0, own.1));
        }
        let distance = |entry: &(&String, &FormatCost)| (entry.1.bits_as(entry.0) - bits).abs();
        let nearest = self
            .cost
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.map(|(name, entry)| (name.as_str(), entry))
    }

    /// The entry of `cost` that more than half of `bytes` are of: pairs of a format with its bits a weight, and bytes. An
    /// entry that only lends its cost to a format of as many bits does not count.
    pub fn main_format(&self, bytes: impl Iterator<Item = ((Dtype, f64), u64)>) -> Option<&str> {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        let mut total = 0u64;
        for ((dtype, bits), bytes) in bytes {
            total = total.saturating_add(bytes);
            let entry = self.entry(dtype, bits);
            let own = entry.filter(|(name, entry)| *name == dtype.name() || entry.bits.is_some());
            if let Some((name, _)) = own {
                let of_name = by_name.entry(name).or_default();
                *of_name = of_name.saturating_add(bytes);
            }
        }
        let main = by_name.into_iter().find(|(_, bytes)| *bytes > total / 2);
        main.map(|(name, _)| name)
    }
}

/// The cost of one weight, and how reliable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightCost {
    /// SM cycles to unpack a weight and multiply it by one activation.
    pub cycles: f64,
    /// Weights of a row that one pass of the kernel computes.
    pub row_quantum: Option<u64>,
    /// As [`FormatCost::vector_batch`].
    pub vector_batch: Option<u64>,
    /// How reliable it is.
    pub trust: Trust,
}

impl WeightCost {
    const UNKNOWN: WeightCost = WeightCost {
        cycles: 0.0,
        row_quantum: None,
        vector_batch: None,
        trust: Trust::None,
    };
}
