//! The form of a runtime profile: what it loads, what it adds to memory, what speed it reaches.
//!
//! In: a deserialized table. Out: checked values. Every number carries the key of its source in
//! [`RuntimeProfile::sources`]; a profile with a key that is not there is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::learned::Learned;
use super::lines::Lines;
use super::record::FitRecord;
use crate::dtype::Dtype;
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
    /// How far it can be relied on.
    pub trust: Trust,
}

/// A runtime: llama.cpp's server, Ollama, vLLM, ...
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeProfile {
    /// The id on the command line.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// How far its speed figures can be relied on as a whole.
    pub trust: Trust,
    /// Caveats that a report should repeat.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Short keys and the sources they stand for.
    pub sources: BTreeMap<String, String>,
    /// What computes.
    #[serde(default)]
    pub backend: Backend,
    /// What it can load.
    pub loads: Loads,
    /// What lines that start it depend on.
    #[serde(default)]
    pub lines: Lines,
    /// What it adds to memory.
    pub memory: Memory,
    /// What speed it reaches.
    pub speed: Speed,
    /// What the fit of its speed was made from and what it left, where there was one.
    pub fit: Option<FitRecord>,
    /// What runs on a device have taught.
    #[serde(skip)]
    pub learned: Option<Learned>,
}

/// What a runtime can load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loads {
    /// File formats: `gguf`, `safetensors`.
    pub files: Vec<String>,
    /// Ids of the schemes whose output it runs.
    pub schemes: Vec<String>,
    /// How quantized Hugging Face checkpoints may be packed beyond what `schemes` names: it runs
    /// those as they are.
    #[serde(default)]
    pub prequantized: Vec<String>,
    /// Its 4-bit scheme packs every matrix but a tied embedding in groups of 32 with a 16-bit scale (4.5
    /// bits a weight), where the scheme itself has groups of 128 and keeps embedding and head.
    #[serde(default)]
    pub packs_every_matrix: bool,
    /// It runs what its own converter makes of a checkpoint, not files of these formats.
    #[serde(default)]
    pub own_converter: bool,
    /// Element types its KV cache can have, in lower case.
    pub kv_types: Vec<String>,
    /// FP8 weights are widened before use on compute capability 8.7: smaller, never faster to compute.
    pub fp8_storage_only: bool,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
}

/// What a runtime adds to memory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes it holds whatever the model: CUDA context, libraries, the process itself.
    pub runtime_bytes: Range,
    /// A tied embedding is held twice, once for the input and once for the output head.
    pub duplicates_tied_embedding: Sourced<bool>,
    /// The KV cache of a sequence is rounded up to a multiple of this many tokens (llama.cpp's
    /// padding, vLLM's block).
    pub context_multiple: Sourced<u64>,
    /// How much of the KV cache is one allocation.
    pub kv_allocation: Sourced<KvAllocation>,
    /// How many rows of logits are reserved.
    pub outputs: Sourced<Outputs>,
    /// How compute buffers are sized.
    pub compute: ComputeRule,
    /// It takes this share of the board's memory at start, whatever the model needs.
    pub pool_fraction: Option<Sourced<f64>>,
    /// Bytes of tokenizer it holds for each entry of the vocabulary, where `runtime_bytes` does not
    /// count it.
    pub vocabulary_entry_bytes: Option<Sourced<f64>>,
}

/// How much of the KV cache a runtime allocates at once.
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
    /// One a sequence.
    Parallel,
    /// One a token of a ubatch.
    Ubatch,
}

/// What computes a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The processors; the GPU rests.
    Cpu,
    /// The GPU.
    #[default]
    Cuda,
}

/// How compute buffers are sized.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ComputeRule {
    /// The graph allocator of ggml: the peak of live activations. On the processors everything is in
    /// one buffer; with a GPU the token embedding and the inputs stay with the processors.
    Ggml {
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
    /// Activations of one pass, made as they are needed: what lives at once in the widest block.
    Activations {
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
    /// A share of the weights, and at least so many bytes.
    Fraction {
        /// Share of the weights' bytes.
        of_weights: f64,
        /// The least it is, in bytes.
        at_least_bytes: u64,
        /// A key of [`RuntimeProfile::sources`].
        source: String,
    },
}

/// What speed a runtime reaches. [`crate::plan::speed`] says how the numbers enter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// The norm that joins an operation's memory time and arithmetic time; at least 1. 1 adds them,
    /// a large one takes the longer.
    pub overlap_norm: Sourced<f64>,
    /// Share of the memory bandwidth that a long read reaches; above 0, at most 1.
    pub bandwidth_efficiency: Range,
    /// Factor on every arithmetic cost: the spread between builds, boards and models.
    pub cost_scale: Range,
    /// SM cycles an output row of a matrix costs beside its weights.
    pub row_cycles: Sourced<f64>,
    /// SM cycles a multiply-accumulate with cached keys, values or recurrent state costs.
    pub state_cycles: Sourced<f64>,
    /// What a further sequence adds to a matrix's arithmetic, as a share of the first one's: 1 where
    /// every sequence is computed on its own, near 0 where tensor cores take them together.
    pub batch_share: Sourced<f64>,
    /// Factor on the time of a whole step: what rows that a fit never saw leave as error.
    pub spread: Range,
    /// Seconds of kernel launches a layer, at `reference_clock_hz`; they shrink as the clock grows.
    pub launch_seconds: Range,
    /// The GPU clock that `launch_seconds` and `ubatch_layer_seconds` refer to, in hertz.
    pub reference_clock_hz: Sourced<f64>,
    /// Seconds a step costs on the host: sampling, detokenizing, the server.
    pub host_seconds: Range,
    /// Cost of a weight by format: a name of [`Dtype`], or any other name with its `bits`.
    pub cost: BTreeMap<String, FormatCost>,
    /// What a prompt costs.
    pub prefill: Prefill,
}

/// What one weight of a format costs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatCost {
    /// SM cycles to unpack a weight and multiply it by one activation.
    pub cycles: f64,
    /// Bits a weight, scales included. Needed where the name is not one of [`Dtype`].
    pub bits: Option<f64>,
    /// Weights of a row that one pass of the kernel takes; a row costs whole passes. Absent where the
    /// kernel has no such step.
    pub row_quantum: Option<u64>,
    /// A key of [`RuntimeProfile::sources`].
    pub source: String,
    /// How far it can be relied on.
    pub trust: Trust,
}

/// What a prompt costs, beside one pass over the weights for each ubatch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefill {
    /// SM cycles a multiply-accumulate with a quantized weight.
    pub quantized_cycles: Sourced<f64>,
    /// SM cycles a multiply-accumulate with a 16- or 32-bit weight.
    pub float_cycles: Sourced<f64>,
    /// SM cycles a multiply-accumulate of attention between two tokens.
    pub attention_cycles: Sourced<f64>,
    /// Seconds a layer of a ubatch adds, at the reference clock.
    pub ubatch_layer_seconds: Sourced<f64>,
    /// Factor on all of the above.
    pub scale: Range,
    /// Seconds from the request to the start of the work and from its end to the first token.
    pub request_seconds: Range,
}

impl RuntimeProfile {
    /// The same with what runs on a device have taught: the memory that it takes by itself moves by
    /// what they took more or less, and the plan multiplies its rates by their factors.
    pub fn refined(mut self, learned: Option<Learned>) -> RuntimeProfile {
        if let Some(more) = learned.as_ref().and_then(|learned| learned.more_memory) {
            let own = &mut self.memory.runtime_bytes;
            let key = "runs";
            let source = learned.as_ref().map(|learned| learned.source.clone());
            self.sources
                .insert(key.to_owned(), source.unwrap_or_default());
            for bound in [&mut own.low, &mut own.expected, &mut own.high] {
                *bound = (*bound + more).max(0.0);
            }
            (own.source, own.trust) = (key.to_owned(), Trust::Measured);
        }
        self.learned = learned;
        self
    }
}

impl Speed {
    /// What a weight stored as `dtype` at `bits` a weight costs: the format's own entry, else the
    /// entry nearest in bits, which is then at best derived.
    pub fn cost(&self, dtype: Dtype, bits: f64) -> Cost {
        let of = |entry: &FormatCost| Cost {
            cycles: entry.cycles,
            row_quantum: entry.row_quantum,
            trust: entry.trust,
        };
        if let Some(entry) = self.cost.get(dtype.name()) {
            return of(entry);
        }
        let distance = |entry: &(&String, &FormatCost)| (entry_bits(entry.0, entry.1) - bits).abs();
        let nearest = self
            .cost
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.map_or(Cost::UNKNOWN, |(_, entry)| Cost {
            trust: entry.trust.min(Trust::Derived),
            ..of(entry)
        })
    }
}

/// What one weight costs, and how far that can be relied on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// SM cycles to unpack a weight and multiply it by one activation.
    pub cycles: f64,
    /// Weights of a row that one pass of the kernel takes.
    pub row_quantum: Option<u64>,
    /// How far it can be relied on.
    pub trust: Trust,
}

impl Cost {
    const UNKNOWN: Cost = Cost {
        cycles: 0.0,
        row_quantum: None,
        trust: Trust::None,
    };
}

/// Bits a weight of a cost entry: those stated, else those of the format of that name.
fn entry_bits(name: &str, entry: &FormatCost) -> f64 {
    let of_format = |dtype: Dtype| {
        let format = dtype.format();
        format.block_bytes as f64 * 8.0 / format.block_elements as f64
    };
    entry
        .bits
        .or_else(|| Dtype::from_name(name).map(of_format))
        .unwrap_or(f64::INFINITY)
}

impl RuntimeProfile {
    /// Checks what the form alone cannot say. The error names the field and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        let (memory, speed, prefill) = (&self.memory, &self.speed, &self.speed.prefill);
        self.lines.check()?;
        for (field, source) in self.cited() {
            if !self.sources.contains_key(&source) {
                return Err(format!(
                    "`{field}` cites the source `{source}`, which [sources] does not have"
                ));
            }
        }
        if let Some(key) = self
            .sources
            .iter()
            .find(|(_, text)| text.trim().is_empty())
            .map(|(key, _)| key)
        {
            return Err(format!("source `{key}` is empty"));
        }
        for (field, range) in [
            ("memory.runtime_bytes", &memory.runtime_bytes),
            ("speed.bandwidth_efficiency", &speed.bandwidth_efficiency),
            ("speed.cost_scale", &speed.cost_scale),
            ("speed.spread", &speed.spread),
            ("speed.launch_seconds", &speed.launch_seconds),
            ("speed.host_seconds", &speed.host_seconds),
            ("speed.prefill.scale", &prefill.scale),
            ("speed.prefill.request_seconds", &prefill.request_seconds),
        ] {
            let ordered =
                0.0 <= range.low && range.low <= range.expected && range.expected <= range.high;
            if !ordered || !range.high.is_finite() {
                return Err(format!(
                    "`{field}` must have 0 <= low <= expected <= high, all finite"
                ));
            }
        }
        if !(speed.bandwidth_efficiency.low > 0.0 && speed.bandwidth_efficiency.high <= 1.0) {
            return Err(
                "`speed.bandwidth_efficiency` is a share of the bandwidth: above 0, at most 1"
                    .to_owned(),
            );
        }
        if !(speed.overlap_norm.value >= 1.0 && speed.overlap_norm.value <= 64.0) {
            return Err(format!(
                "`speed.overlap_norm` is {}, must be from 1 to 64",
                speed.overlap_norm.value
            ));
        }
        if speed.reference_clock_hz.value.is_nan() || speed.reference_clock_hz.value <= 0.0 {
            return Err("`speed.reference_clock_hz` must be above 0".to_owned());
        }
        if memory.context_multiple.value == 0 {
            return Err("`memory.context_multiple` must be at least 1".to_owned());
        }
        if memory
            .pool_fraction
            .as_ref()
            .is_some_and(|share| !(share.value > 0.0 && share.value <= 1.0))
        {
            return Err(
                "`memory.pool_fraction` is a share of the memory: above 0, at most 1".to_owned(),
            );
        }
        if memory
            .vocabulary_entry_bytes
            .as_ref()
            .is_some_and(|bytes| !(0.0..=65536.0).contains(&bytes.value))
        {
            return Err("`memory.vocabulary_entry_bytes` must be from 0 to 65536".to_owned());
        }
        if speed.cost.is_empty() {
            return Err("`speed.cost` has no format".to_owned());
        }
        if let Some((name, _)) = speed
            .cost
            .iter()
            .find(|(name, cost)| !entry_bits(name, cost).is_finite())
        {
            return Err(format!(
                "`speed.cost.{name}` is not the name of a format, so it must state its `bits`"
            ));
        }
        let costs = speed
            .cost
            .iter()
            .map(|(name, cost)| (name.as_str(), cost.cycles));
        let cycles = [
            ("row_cycles", speed.row_cycles.value),
            ("state_cycles", speed.state_cycles.value),
            ("batch_share", speed.batch_share.value),
            ("prefill.quantized_cycles", prefill.quantized_cycles.value),
            ("prefill.float_cycles", prefill.float_cycles.value),
            ("prefill.attention_cycles", prefill.attention_cycles.value),
            (
                "prefill.ubatch_layer_seconds",
                prefill.ubatch_layer_seconds.value,
            ),
        ];
        match costs
            .chain(cycles)
            .find(|(_, value)| !(value.is_finite() && *value >= 0.0))
        {
            Some((field, value)) => Err(format!(
                "`speed.{field}` is {value}, must be finite and not negative"
            )),
            None => Ok(()),
        }
    }

    /// Every field with a source and the key it cites.
    fn cited(&self) -> Vec<(String, String)> {
        let (memory, speed, prefill) = (&self.memory, &self.speed, &self.speed.prefill);
        let compute = match &memory.compute {
            ComputeRule::Ggml { source, .. }
            | ComputeRule::Activations { source }
            | ComputeRule::Fraction { source, .. } => source,
        };
        let mut cited: Vec<(String, String)> = [
            ("loads", &self.loads.source),
            ("memory.runtime_bytes", &memory.runtime_bytes.source),
            (
                "memory.duplicates_tied_embedding",
                &memory.duplicates_tied_embedding.source,
            ),
            ("memory.context_multiple", &memory.context_multiple.source),
            ("memory.kv_allocation", &memory.kv_allocation.source),
            ("memory.outputs", &memory.outputs.source),
            ("memory.compute", compute),
            ("speed.overlap_norm", &speed.overlap_norm.source),
            (
                "speed.bandwidth_efficiency",
                &speed.bandwidth_efficiency.source,
            ),
            ("speed.cost_scale", &speed.cost_scale.source),
            ("speed.row_cycles", &speed.row_cycles.source),
            ("speed.state_cycles", &speed.state_cycles.source),
            ("speed.batch_share", &speed.batch_share.source),
            ("speed.spread", &speed.spread.source),
            ("speed.launch_seconds", &speed.launch_seconds.source),
            ("speed.reference_clock_hz", &speed.reference_clock_hz.source),
            ("speed.host_seconds", &speed.host_seconds.source),
            (
                "speed.prefill.quantized_cycles",
                &prefill.quantized_cycles.source,
            ),
            ("speed.prefill.float_cycles", &prefill.float_cycles.source),
            (
                "speed.prefill.attention_cycles",
                &prefill.attention_cycles.source,
            ),
            (
                "speed.prefill.ubatch_layer_seconds",
                &prefill.ubatch_layer_seconds.source,
            ),
            ("speed.prefill.scale", &prefill.scale.source),
            (
                "speed.prefill.request_seconds",
                &prefill.request_seconds.source,
            ),
        ]
        .map(|(field, source)| (field.to_owned(), source.clone()))
        .to_vec();
        let optional = [
            ("memory.pool_fraction", &memory.pool_fraction),
            (
                "memory.vocabulary_entry_bytes",
                &memory.vocabulary_entry_bytes,
            ),
        ];
        for (field, number) in optional {
            cited.extend(
                number
                    .iter()
                    .map(|number| (field.to_owned(), number.source.clone())),
            );
        }
        cited.extend(self.lines.cited());
        cited.extend(
            speed
                .cost
                .iter()
                .map(|(name, cost)| (format!("speed.cost.{name}"), cost.source.clone())),
        );
        cited
    }
}
