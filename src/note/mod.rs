//! The caveats of plans and of written files, each with a stable code for scripts and a sentence for people. Every
//! report shows the same ones.
//!
//! In: what was planned or counted. Out: a [`Note`]. Must not: decide whether a caveat applies.

mod kv;
mod text;

use crate::convert::{LostScaling, LostWindow};
use crate::device::L4tRelease;
use crate::dtype::Dtype;
use crate::model::LeftOut;
use crate::model::projector::ProjectorError;
use crate::units::Bytes;

pub use kv::{KvProblem, Prefixes};
pub(crate) use text::most;

/// Why no watts are predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWatts {
    /// The processors compute.
    Processors,
    /// No source measured the rails of the board.
    Board,
    /// Several sequences are decoded at once.
    Sequences,
}

/// What a caveat changes for the reader, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Whether it fits, or whether it works at all.
    Verdict,
    /// The commands to paste, or the file that they make.
    Commands,
    /// How fast or how good the answers are.
    Answers,
    /// Nothing: it says what is behind a number.
    Background,
}

/// A caveat of a plan or of a written file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// Tensors have another type, since the blocks of the intended one do not divide their rows.
    ShapeFallback {
        /// How many.
        tensors: usize,
        /// Their names, if a file is written; empty in a plan.
        names: Vec<String>,
    },
    /// The runtime holds a tied embedding twice in memory.
    DuplicatedEmbedding {
        /// The size of the second copy.
        bytes: Bytes,
        /// The runtime.
        runtime: String,
    },
    /// FP8 weights on a GPU without FP8 units.
    Fp8StorageOnly,
    /// The KV cache cannot have the requested type.
    Kv(KvProblem),
    /// One allocation is larger than the driver of this system grants.
    Allocation {
        /// The largest allocation of the plan.
        largest: Bytes,
        /// The largest that a plan counts on.
        limit: Bytes,
        /// The largest that some board was granted, if any above `limit` was.
        granted: Option<Bytes>,
        /// The L4T release with that limit: that of the board, or the first that is known to have it.
        release: L4tRelease,
        /// The first release without that limit; `None` if none is known.
        lifted: Option<L4tRelease>,
    },
    /// The driver of this system grants one allocation of this size as far as plans count on it, and yet refused some
    /// board as much.
    AllocationRisk {
        /// The largest allocation of the plan.
        largest: Bytes,
        /// The smallest that was refused.
        refused: Bytes,
        /// The board's L4T release.
        release: L4tRelease,
        /// The first release without that trouble; `None` if none is known.
        lifted: Option<L4tRelease>,
    },
    /// There may be too little memory in one piece for the largest allocation, although there is enough in all.
    Contiguity {
        /// The largest allocation of the plan.
        largest: Bytes,
        /// What the board has free now, or the smallest allocation that was seen to fail beside a desktop.
        limit: Bytes,
        /// Whether that is what the board has free now.
        now: bool,
    },
    /// Programs of llama.cpp that read the file's chat template at start may end with an error.
    ChatTemplate {
        /// What is wrong with it.
        why: String,
    },
    /// It fits, but the memory left is less than the uncertainty of the runtime's own memory.
    Tight {
        /// The memory left.
        left: Bytes,
        /// Memory that the runtime may take beyond the expected.
        more: Bytes,
        /// The runtime.
        runtime: String,
    },
    /// The prompt leaves little or none of the context of each sequence for an answer.
    ShortSequences {
        /// Tokens of context that each sequence has.
        context: u64,
        /// Sequences that share the context.
        parallel: u64,
        /// Tokens of the prompt.
        prompt: u64,
    },
    /// The runtime's prefix cache keeps fewer tokens than were read before.
    PrefixKept {
        /// Tokens that were read before.
        cached: u64,
        /// Those that are not read again.
        kept: u64,
        /// How it keeps prompts of this model.
        prefixes: Prefixes,
        /// The runtime.
        runtime: String,
    },
    /// The requested context is longer than the model's own.
    BeyondModelContext {
        /// The model's context in tokens.
        limit: u64,
    },
    /// Vision or audio towers are part of the weights.
    Towers {
        /// Their bytes.
        bytes: Bytes,
        /// What they would take with the matrices of the image encoder in Q8_0, where its file is one of llama.cpp's in F16.
        in_q8_0: Option<Bytes>,
    },
    /// The time to the first token leaves out what the image encoder takes.
    EncoderTime,
    /// The model has a tower, and the memory that it computes in is not known.
    EncoderUnseen {
        /// Why the image encoder is not described, if it is of a known kind.
        why: Option<ProjectorError>,
    },
    /// The model has a vision or audio encoder, which the runtime leaves out.
    TextAlone {
        /// The runtime.
        runtime: String,
        /// Why there is no file to load it from, if the runtime would.
        why: Option<&'static str>,
    },
    /// The model has an audio encoder, and the memory that it computes in is not counted.
    AudioUncounted,
    /// Stored tensors that a plan does not count, since runtimes do not load them.
    LeftOut(LeftOut),
    /// The speed is not based on a published measurement.
    SpeedUnmeasured {
        /// The runtime.
        runtime: String,
    },
    /// The memory bandwidth of this device is not known, and so no speed.
    SpeedUnknown {
        /// The device.
        device: String,
    },
    /// The calibration of this machine has no rate for formats of the weights.
    FormatUnmeasured {
        /// The formats.
        formats: Vec<Dtype>,
        /// The date of the calibration.
        date: String,
    },
    /// The machine was calibrated with the kernels of another runtime.
    OtherKernels {
        /// The runtime of the plan.
        runtime: String,
        /// The runtime of the calibration.
        measured: String,
    },
    /// A power limit was asked for, and no power can be predicted.
    EnergyUnknown {
        /// The device.
        device: String,
        /// Why not.
        why: NoWatts,
    },
    /// The board's system is older than the power mode.
    ModeUnavailable {
        /// The mode.
        mode: String,
        /// The board's release.
        release: L4tRelease,
        /// The first release with the mode.
        since: L4tRelease,
        /// The modes that the board has.
        modes: Vec<String>,
    },
    /// The rates are corrected by runs that were measured on this device.
    Learned {
        /// The number of runs, their date and their runtime.
        source: String,
        /// What they refine, a phrase each.
        found: Vec<String>,
    },
    /// All of these runs are of other power modes than the planned one.
    LearnedElsewhere {
        /// The planned mode.
        mode: String,
        /// The modes of the runs.
        modes: Vec<String>,
        /// Whether `orinplan calibrate` can measure the planned mode.
        by_calibrate: bool,
    },
    /// The runtime reserves a share of the memory when it starts.
    Pool {
        /// The runtime.
        runtime: String,
        /// The share that it reserves by default, from 0 to 1.
        share: f64,
        /// The share that this plan needs, from 0 to 1.
        needed: f64,
    },
    /// The checkpoint is quantized already: quantizing it again adds to its loss.
    DoubleQuantization {
        /// Its present format.
        now: String,
    },
    /// The architecture is unknown and planned as if it were another.
    AssumedCache {
        /// The architecture that was assumed.
        as_if: String,
    },
    /// The name says that it turns texts into vectors, and the file that would say so is not there.
    ModulesUnseen,
    /// The configuration says that the weights are quantized, but there are no weights to count.
    QuantizationUnseen,
    /// The configuration has a vision or audio tower, but there are no weights to count.
    TowersUnseen {
        /// Whether the image encoder is counted, and the other is not.
        audio_alone: bool,
        /// Why the image encoder is not described, if it is of a known kind.
        why: Option<ProjectorError>,
    },
    /// The size of the file does not include the metadata that conversion would add.
    PartialHeader {
        /// Why the metadata is not known.
        why: String,
    },
    /// The file of `--quality` says nothing of the formats planned with their cache.
    QualityUnused {
        /// The file.
        file: String,
        /// What it measured: formats, each with its cache.
        measured: Vec<String>,
    },
    /// What the types of the cache cost in quality.
    CacheLoss {
        /// The types.
        cache: String,
        /// The expected divergence that counts in the quality of every format, and the range of it, in nats; `None` where
        /// nobody measured it.
        cost: Option<[f64; 3]>,
    },
    /// The weights are served with a tokenizer, and there is none beside them.
    NoTokenizer,
    /// The GGUF has no tokenizer.
    NoVocabulary,
    /// The budget is larger than the memory of the device.
    BudgetBeyondMemory {
        /// The budget that was given.
        budget: Bytes,
        /// The whole memory of the device.
        memory: Bytes,
        /// The device.
        device: String,
    },
    /// A GGUF of this model loses the scaling of its rotary positions.
    LostScaling(LostScaling),
    /// A GGUF of this model loses the window of its attention.
    LostWindow(LostWindow),
    /// No newer version of the runtime serves the model.
    LastVersion {
        /// The runtime.
        runtime: String,
        /// Its last version that does.
        until: &'static str,
        /// Tokens of its cache that an image takes beside the text.
        image_tokens: Option<u64>,
    },
    /// The KV cache is quantized, which costs speed.
    QuantizedCache {
        /// Its type.
        dtype: Dtype,
    },
    /// Matrices that stay in 16 bit in a safetensors scheme because of their shape.
    KeptShape {
        /// The names of the tensors.
        tensors: Vec<String>,
        /// Columns in a group, which do not divide a row.
        group: u64,
        /// Whether zero points are stored for eight rows together, which divide the rows of a matrix.
        words: bool,
    },
    /// Experts stacked in one tensor, which stay in 16 bit in a safetensors scheme.
    KeptStacks {
        /// The number of such tensors.
        tensors: usize,
    },
    /// NaN or infinite weights.
    NotFinite {
        /// Tensors with the number of such weights.
        tensors: Vec<(String, u64)>,
    },
    /// Finite weights beyond the range of F16.
    Overflow {
        /// Tensors with the number of such weights.
        tensors: Vec<(String, u64)>,
    },
    /// Rows of zeros.
    ZeroRows {
        /// Tensors with the number of such rows.
        tensors: Vec<(String, u64)>,
    },
    /// Quantized tensors whose weights all come back in 16 bits: they lie on the grid of their format.
    Lossless {
        /// The names of the tensors.
        tensors: Vec<String>,
        /// How many tensors were quantized.
        of: usize,
    },
    /// Quantized tensors that are not in the importance matrix.
    MissingImportance {
        /// The names of the tensors.
        tensors: Vec<String>,
    },
    /// A pattern of `--tensor-type` that matches no quantized tensor.
    UnusedPattern {
        /// The pattern.
        pattern: String,
    },
    /// The pre-tokenizer has no name in llama.cpp.
    UnknownPreTokenizer,
    /// Vision or audio towers are not part of the written file.
    TowersLeftOut {
        /// The names of the towers.
        towers: Vec<String>,
        /// Whether its image encoder is of a kind that is written.
        has_projector: bool,
    },
    /// Weight files beside the model that are no part of it.
    UnreadFiles {
        /// Their names.
        names: Vec<String>,
    },
    /// Stored tensors that are not part of the written file: the counterpart of [`Note::LeftOut`]. Its code differs,
    /// since `left_out` means towers in reports of written files.
    Unused(LeftOut),
}

impl Note {
    /// [`Note::UnreadFiles`] of these names, if there are any.
    pub fn of_unread(names: &[String]) -> Option<Note> {
        let names = names.to_vec();
        (!names.is_empty()).then_some(Note::UnreadFiles { names })
    }

    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Note::ShapeFallback { .. } => "shape_fallback",
            Note::DuplicatedEmbedding { .. } => "duplicated_embedding",
            Note::Fp8StorageOnly => "fp8_storage_only",
            Note::Kv(_) => "kv_type_impossible",
            Note::Allocation { .. } => "large_allocation",
            Note::AllocationRisk { .. } => "allocation_may_fail",
            Note::Contiguity { .. } => "contiguity",
            Note::ChatTemplate { .. } => "chat_template",
            Note::Tight { .. } => "tight",
            Note::ShortSequences { .. } => "short_sequences",
            Note::BeyondModelContext { .. } => "beyond_model_context",
            Note::Towers { .. } => "towers_included",
            Note::EncoderTime => "encoder_time_unknown",
            Note::PrefixKept { .. } => "prefix_kept",
            Note::EncoderUnseen { .. } => "encoder_memory_unknown",
            Note::TextAlone { .. } => "text_alone",
            Note::AudioUncounted => "audio_memory_unknown",
            Note::LeftOut(_) => "left_out",
            Note::SpeedUnmeasured { .. } => "speed_unmeasured",
            Note::SpeedUnknown { .. } => "speed_unknown",
            Note::FormatUnmeasured { .. } => "format_unmeasured",
            Note::OtherKernels { .. } => "other_kernels",
            Note::EnergyUnknown { .. } => "energy_unknown",
            Note::ModeUnavailable { .. } => "power_mode_unavailable",
            Note::Learned { .. } => "learned_from_runs",
            Note::LearnedElsewhere { .. } => "learned_in_other_mode",
            Note::Pool { .. } => "memory_pool",
            Note::DoubleQuantization { .. } => "double_quantization",
            Note::AssumedCache { .. } => "assumed_cache",
            Note::ModulesUnseen => "modules_unseen",
            Note::QuantizationUnseen => "quantization_unseen",
            Note::TowersUnseen { .. } => "towers_unseen",
            Note::PartialHeader { .. } => "partial_header",
            Note::QualityUnused { .. } => "quality_unused",
            Note::CacheLoss { .. } => "cache_loss",
            Note::NoTokenizer => "no_tokenizer",
            Note::NoVocabulary => "no_vocabulary",
            Note::BudgetBeyondMemory { .. } => "budget_beyond_memory",
            Note::LostScaling(_) => "lost_rope_scaling",
            Note::LostWindow(_) => "lost_window",
            Note::LastVersion { .. } => "last_version",
            Note::QuantizedCache { .. } => "quantized_cache",
            Note::KeptShape { .. } => "kept_shape",
            Note::KeptStacks { .. } => "kept_stacks",
            Note::NotFinite { .. } => "not_finite",
            Note::Overflow { .. } => "f16_overflow",
            Note::ZeroRows { .. } => "zero_rows",
            Note::Lossless { .. } => "lossless",
            Note::MissingImportance { .. } => "missing_importance",
            Note::UnusedPattern { .. } => "unused_pattern",
            Note::UnknownPreTokenizer => "unknown_pre_tokenizer",
            Note::TowersLeftOut { .. } => "left_out",
            Note::UnreadFiles { .. } => "unread_files",
            Note::Unused(_) => "unused_tensors",
        }
    }

    /// What it changes for the reader.
    pub fn weight(&self) -> Weight {
        match self {
            Note::Kv(_)
            | Note::Allocation { .. }
            | Note::AllocationRisk { .. }
            | Note::EnergyUnknown { .. }
            | Note::ModeUnavailable { .. }
            | Note::Contiguity { .. }
            | Note::ShortSequences { .. }
            | Note::PrefixKept { .. }
            | Note::Tight { .. }
            | Note::BudgetBeyondMemory { .. }
            | Note::BeyondModelContext { .. }
            | Note::NoVocabulary
            | Note::AssumedCache { .. }
            | Note::EncoderTime
            | Note::EncoderUnseen { .. }
            | Note::AudioUncounted
            | Note::TextAlone { .. }
            | Note::ModulesUnseen
            | Note::LastVersion { .. }
            | Note::QuantizationUnseen
            | Note::TowersUnseen { .. } => Weight::Verdict,
            Note::NoTokenizer
            | Note::ChatTemplate { .. }
            | Note::Pool { .. }
            | Note::DoubleQuantization { .. }
            | Note::LostScaling(_)
            | Note::LostWindow(_)
            | Note::UnknownPreTokenizer => Weight::Commands,
            Note::SpeedUnmeasured { .. }
            | Note::SpeedUnknown { .. }
            | Note::FormatUnmeasured { .. }
            | Note::OtherKernels { .. }
            | Note::QualityUnused { .. }
            | Note::CacheLoss { cost: None, .. }
            | Note::Fp8StorageOnly
            | Note::QuantizedCache { .. } => Weight::Answers,
            _ => Weight::Background,
        }
    }
}
