//! Caveats of plans and of written files, each with a stable code: every report shows the same ones.
//!
//! In: what was planned or counted. Out: [`Note`]. Must not: decide whether a caveat applies.

mod kv;

use crate::convert::LostScaling;
use crate::device::L4tRelease;
use crate::dtype::Dtype;
use crate::model::LeftOut;
use crate::units::{Bytes, counted, tokens};

pub use kv::KvProblem;

/// Something a reader of a report should know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// Tensors whose rows do not divide into the blocks of the intended type have another one.
    ShapeFallback {
        /// How many.
        tensors: usize,
        /// Their names, where a file is made; a plan only counts them.
        names: Vec<String>,
    },
    /// The runtime holds a tied embedding twice.
    DuplicatedEmbedding {
        /// The second copy.
        bytes: Bytes,
        /// The runtime.
        runtime: String,
    },
    /// FP8 weights on a GPU without FP8 units.
    Fp8StorageOnly,
    /// The cache cannot have the type asked for.
    Kv(KvProblem),
    /// One allocation is larger than the system's driver grants.
    Allocation {
        /// The allocation.
        largest: Bytes,
        /// What is granted.
        limit: Bytes,
        /// Where: the release at hand, or the first that is known to refuse.
        release: L4tRelease,
        /// The first release that grants more; `None` while none does.
        lifted: Option<L4tRelease>,
    },
    /// It fits, by less than the runtime's own memory is uncertain.
    Tight {
        /// What is left.
        left: Bytes,
        /// What the runtime may take beyond the expected.
        more: Bytes,
        /// The runtime.
        runtime: String,
    },
    /// The prompt leaves little or nothing for an answer of what each of several sequences has.
    ShortSequences {
        /// Tokens of context that each sequence has.
        context: u64,
        /// Sequences that share the context.
        parallel: u64,
        /// Tokens of the prompt.
        prompt: u64,
    },
    /// The context asked for is beyond what the model was made for.
    BeyondModelContext {
        /// What it was made for.
        limit: u64,
    },
    /// Vision or audio towers are part of the weights.
    Towers {
        /// Their bytes.
        bytes: Bytes,
    },
    /// Stored tensors that no file and no runtime's memory holds.
    LeftOut(LeftOut),
    /// No published measurement stands behind the speed.
    SpeedUnmeasured {
        /// The runtime.
        runtime: String,
    },
    /// The speed of this device is not known.
    SpeedUnknown {
        /// The device.
        device: String,
    },
    /// Formats of the weights were not measured on this machine.
    FormatUnmeasured {
        /// The formats.
        formats: Vec<Dtype>,
        /// The day that the machine was measured.
        date: String,
    },
    /// The machine was measured with another runtime's kernels.
    OtherKernels {
        /// The runtime that was planned for.
        runtime: String,
        /// The one that was measured.
        measured: String,
    },
    /// Runs on this device have corrected the numbers.
    Learned {
        /// How many, when, with what.
        source: String,
    },
    /// The runtime takes a share of the memory at its start.
    Pool {
        /// The share it takes by default.
        share: f64,
        /// The share this plan needs.
        needed: f64,
    },
    /// The checkpoint is quantized already: quantizing it again adds to its loss.
    DoubleQuantization {
        /// What it has now.
        now: String,
    },
    /// The architecture is unknown and planned as if it were another.
    AssumedCache {
        /// What the blocks were taken for.
        as_if: String,
    },
    /// The configuration says that the weights are quantized, but they are not there to be counted.
    QuantizationUnseen,
    /// The configuration has a vision or audio tower whose weights are not there to be counted.
    TowersUnseen,
    /// The file's size leaves out metadata that conversion would add.
    PartialHeader {
        /// Why it is not known.
        why: String,
    },
    /// No tokenizer lies beside weights that are served with one.
    NoTokenizer,
    /// More memory may be used than there is.
    BudgetBeyondMemory {
        /// What may be used.
        budget: Bytes,
        /// All memory of the device.
        memory: Bytes,
        /// The device.
        device: String,
    },
    /// How rotary positions are stretched is lost in a GGUF.
    LostScaling(LostScaling),
    /// KV cache quantized with a type that costs speed.
    QuantizedCache {
        /// Its type.
        dtype: Dtype,
    },
    /// Matrices that stay in 16 bit in a safetensors scheme.
    KeptShape {
        /// The tensors' names.
        tensors: Vec<String>,
        /// What would have to divide a row.
        group: u64,
    },
    /// Experts stored in one tensor, which stay in 16 bit in a safetensors scheme.
    KeptStacks {
        /// How many.
        tensors: usize,
    },
    /// NaN or infinite weights.
    NotFinite {
        /// Tensors with the number of such weights.
        tensors: Vec<(String, u64)>,
    },
    /// Finite weights that F16 cannot hold.
    Overflow {
        /// Tensors with the number of such weights.
        tensors: Vec<(String, u64)>,
    },
    /// Rows of zeros.
    ZeroRows {
        /// Tensors with the number of such rows.
        tensors: Vec<(String, u64)>,
    },
    /// Quantized tensors that the importance matrix does not have.
    MissingImportance {
        /// The tensors' names.
        tensors: Vec<String>,
    },
    /// A type was asked for by a pattern that no quantized tensor's name has.
    UnusedPattern {
        /// The pattern.
        pattern: String,
    },
    /// The way in which the tokenizer splits words has no name in llama.cpp.
    UnknownPreTokenizer,
    /// Vision or audio towers are not part of the written file.
    TowersLeftOut {
        /// What they are.
        towers: Vec<String>,
    },
    /// Stored tensors that the written file does without. What [`Note::LeftOut`] is to a plan, under the
    /// code that reports of files have had for it: their `left_out` names towers.
    Unused(LeftOut),
}

/// How many names a note repeats.
const NAMED: usize = 4;

impl Note {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Note::ShapeFallback { .. } => "shape_fallback",
            Note::DuplicatedEmbedding { .. } => "duplicated_embedding",
            Note::Fp8StorageOnly => "fp8_storage_only",
            Note::Kv(_) => "kv_type_impossible",
            Note::Allocation { .. } => "large_allocation",
            Note::Tight { .. } => "tight",
            Note::ShortSequences { .. } => "short_sequences",
            Note::BeyondModelContext { .. } => "beyond_model_context",
            Note::Towers { .. } => "towers_included",
            Note::LeftOut(_) => "left_out",
            Note::SpeedUnmeasured { .. } => "speed_unmeasured",
            Note::SpeedUnknown { .. } => "speed_unknown",
            Note::FormatUnmeasured { .. } => "format_unmeasured",
            Note::OtherKernels { .. } => "other_kernels",
            Note::Learned { .. } => "learned_from_runs",
            Note::Pool { .. } => "memory_pool",
            Note::DoubleQuantization { .. } => "double_quantization",
            Note::AssumedCache { .. } => "assumed_cache",
            Note::QuantizationUnseen => "quantization_unseen",
            Note::TowersUnseen => "towers_unseen",
            Note::PartialHeader { .. } => "partial_header",
            Note::NoTokenizer => "no_tokenizer",
            Note::BudgetBeyondMemory { .. } => "budget_beyond_memory",
            Note::LostScaling(_) => "lost_rope_scaling",
            Note::QuantizedCache { .. } => "quantized_cache",
            Note::KeptShape { .. } => "kept_shape",
            Note::KeptStacks { .. } => "kept_stacks",
            Note::NotFinite { .. } => "not_finite",
            Note::Overflow { .. } => "f16_overflow",
            Note::ZeroRows { .. } => "zero_rows",
            Note::MissingImportance { .. } => "missing_importance",
            Note::UnusedPattern { .. } => "unused_pattern",
            Note::UnknownPreTokenizer => "unknown_pre_tokenizer",
            Note::TowersLeftOut { .. } => "left_out",
            Note::Unused(_) => "unused_tensors",
        }
    }

    /// One or two sentences for people.
    pub fn text(&self) -> String {
        match self {
            Note::ShapeFallback { tensors, names } => {
                let tensors = counted(*tensors, "tensor has rows", "tensors have rows");
                if names.is_empty() {
                    format!("{tensors} that do not divide into the blocks of this format: a larger type is taken")
                } else {
                    format!(
                        "{tensors} that do not divide into the blocks of the intended type; another one is taken: {}",
                        named(names)
                    )
                }
            }
            Note::DuplicatedEmbedding { bytes, runtime } => format!(
                "{runtime} keeps the tied embedding twice on an integrated GPU: {bytes} more"
            ),
            Note::Fp8StorageOnly => {
                "FP8 is storage only here: Orin (SM87) has no FP8 units, weights are widened before use, so it saves memory and not arithmetic".to_owned()
            }
            Note::Kv(problem) => problem.to_string(),
            Note::Allocation { largest, limit, release, lifted: None } => format!(
                "one allocation of {largest} is more than the {limit} that the driver was seen to grant on L4T {release}; reboot and drop caches before loading, or choose a smaller format"
            ),
            Note::Allocation { largest, limit, release, lifted: Some(lifted) } => format!(
                "one allocation of {largest} fails on L4T {release}, which grants at most {limit}: update to {} or later",
                lifted.of_jetpack()
            ),
            Note::Tight { left, more, runtime } => format!(
                "it fits barely: {left} would be left, and {runtime} itself may take {more} more than expected"
            ),
            Note::ShortSequences {
                context,
                parallel,
                prompt,
            } => {
                let room = match context.saturating_sub(*prompt) {
                    0 => "nothing".to_owned(),
                    left => tokens(left),
                };
                format!(
                    "each of {parallel} sequences has {} of context, and a prompt of {prompt} leaves {room} for an answer: raise --context, or lower --parallel or --prompt-tokens",
                    tokens(*context)
                )
            }
            Note::BeyondModelContext { limit } => {
                format!("the model was made for {} of context; beyond that its output degrades", tokens(*limit))
            }
            Note::Towers { bytes } => {
                format!("vision or audio towers and projectors are counted in: {bytes}; --text-only leaves them out")
            }
            Note::LeftOut(kind) => kind.to_string(),
            Note::SpeedUnmeasured { runtime } => {
                format!("no published measurement of {runtime} on Jetson Orin is known: the speed is a bracket, not a prediction")
            }
            Note::SpeedUnknown { device } => {
                format!("the memory bandwidth of {device} is not known, so no speed is given; on the machine itself `orinplan calibrate` measures it")
            }
            Note::FormatUnmeasured { formats, date } => {
                let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
                format!(
                    "no speed is given: the calibration of {date} has no rate for {}, and other formats tell nothing of it; `orinplan calibrate` measures every format that this program's decoder runs",
                    names.join(", ")
                )
            }
            Note::OtherKernels { runtime, measured } => {
                format!("this machine was measured with {measured}: {runtime} may be up to twice as fast or as slow; `orinplan validate --save-calibration` narrows that")
            }
            Note::Learned { source } => {
                format!("corrected by what runs on this device measured: {source}")
            }
            Note::Pool { share, needed } => format!(
                "the runtime takes {:.0} % of all memory at start; start it with --gpu-memory-utilization {:.2}",
                share * 100.0,
                needed
            ),
            Note::DoubleQuantization { now } => {
                format!("the checkpoint is {now} already: quantizing it again adds to the loss it has")
            }
            Note::AssumedCache { as_if } => {
                format!("the architecture is not known; its cache was taken for that of {as_if} because --assume-kv says so")
            }
            Note::QuantizationUnseen => {
                "config.json says that this checkpoint is quantized; without its weights it is planned as its 16-bit original".to_owned()
            }
            Note::TowersUnseen => {
                "the model has a vision or audio tower, which config.json alone does not size: it is not counted".to_owned()
            }
            Note::PartialHeader { why } => {
                format!("the size of the file is without its metadata, usually some MiB of tokenizer: {why}")
            }
            Note::NoTokenizer => {
                "no tokenizer lies beside the weights, and no runtime serves a directory without: the model's page on Hugging Face has tokenizer.json and tokenizer_config.json".to_owned()
            }
            Note::BudgetBeyondMemory { budget, memory, device } => format!(
                "--budget {budget} is more than all {memory} of {device}: the verdict is that of a larger machine"
            ),
            Note::LostScaling(lost) => lost.to_string(),
            Note::QuantizedCache { dtype } => format!(
                "a {} cache saves memory and costs some speed; during prefill one layer of it is widened to F16",
                dtype.name()
            ),
            Note::KeptShape { tensors, group } => format!(
                "{} in 16 bit, because {group} does not divide their rows or those of experts beside them: {}",
                counted(tensors.len(), "tensor stays", "tensors stay"),
                named(tensors)
            ),
            Note::KeptStacks { tensors } => format!(
                "{} in 16 bit: compressed-tensors quantizes experts that are stored one by one",
                counted(*tensors, "tensor of stacked experts stays", "tensors of stacked experts stay")
            ),
            Note::NotFinite { tensors } => format!(
                "{} NaN or infinite; quantized formats hold 0 instead, 16 and 32-bit formats keep it: {}",
                counted(sum(tensors), "weight is", "weights are"),
                each(tensors)
            ),
            Note::Overflow { tensors } => format!(
                "{} beyond F16 and became infinite, bf16 holds larger values: {}",
                counted(sum(tensors), "weight is", "weights are"),
                each(tensors)
            ),
            Note::ZeroRows { tensors } => format!(
                "{} nothing but zeros: {}",
                counted(sum(tensors), "row holds", "rows hold"),
                each(tensors)
            ),
            Note::MissingImportance { tensors } => format!(
                "{} without importance, which the matrix does not have: {}",
                counted(tensors.len(), "tensor was quantized", "tensors were quantized"),
                named(tensors)
            ),
            Note::UnusedPattern { pattern } => {
                format!("no tensor that is quantized has `{pattern}` in its name")
            }
            Note::UnknownPreTokenizer => {
                "the tokenizer splits words in a way that llama.cpp has no name for; `tokenizer.ggml.pre` is `default`, and some texts will be split differently".to_owned()
            }
            Note::TowersLeftOut { towers } => {
                format!("the file holds the text model; left out: {}", towers.join(", "))
            }
            Note::Unused(kind) => kind.to_string(),
        }
    }
}

fn sum(tensors: &[(String, u64)]) -> u64 {
    tensors.iter().map(|(_, count)| count).sum()
}

fn named(tensors: &[String]) -> String {
    let names: Vec<&str> = tensors.iter().take(NAMED).map(String::as_str).collect();
    rest(names.join(", "), tensors.len())
}

fn each(tensors: &[(String, u64)]) -> String {
    let show = |(name, count): &(String, u64)| format!("{name} ({count})");
    let names: Vec<String> = tensors.iter().take(NAMED).map(show).collect();
    rest(names.join(", "), tensors.len())
}

fn rest(names: String, all: usize) -> String {
    match all.saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_singular() {
        let met = |count: u64| {
            let tensors = || vec![("blk.0.attn_q.weight".to_owned(), count)];
            let (nan, far, zero) = (tensors(), tensors(), tensors());
            [
                Note::NotFinite { tensors: nan },
                Note::Overflow { tensors: far },
                Note::ZeroRows { tensors: zero },
            ]
            .map(|note| note.text())
        };
        let starts = |texts: [String; 3], starts: [&str; 3]| {
            for (text, start) in texts.iter().zip(starts) {
                assert!(text.starts_with(start), "{text}");
            }
        };
        let one = [
            "1 weight is NaN",
            "1 weight is beyond F16",
            "1 row holds nothing",
        ];
        starts(met(1), one);
        let many = [
            "2 weights are NaN",
            "2 weights are beyond F16",
            "2 rows hold nothing",
        ];
        starts(met(2), many);
        let kept = Note::KeptStacks { tensors: 1 }.text();
        assert!(
            kept.starts_with("1 tensor of stacked experts stays in 16 bit"),
            "{kept}"
        );
    }
}
