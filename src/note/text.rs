//! The sentences of notes: what a report says to people.

use super::{NoWatts, Note, Prefixes};
use crate::units::{Bytes, counted, nats, tokens};

/// The number of tensors that a note names.
const NAMED: usize = 4;

impl Note {
    /// One or two sentences for people.
    pub fn text(&self) -> String {
        match self {
            Note::ShapeFallback { tensors, names } => {
                let tensors = counted(*tensors, "tensor has rows", "tensors have rows");
                if names.is_empty() {
                    format!("{tensors} that this format's blocks do not divide; these use a larger type")
                } else {
                    format!(
                        "{tensors} that the intended type's blocks do not divide; these use another type: {}",
                        named(names)
                    )
                }
            }
            Note::DuplicatedEmbedding { bytes, runtime } => format!(
                "{runtime} keeps the tied embedding twice on an integrated GPU: {bytes} more"
            ),
            Note::Fp8StorageOnly => {
                "FP8 saves memory here, not arithmetic: Orin (SM87) has no FP8 units, so weights are widened before use".to_owned()
            }
            Note::Kv(problem) => problem.to_string(),
            Note::Allocation { largest, limit, granted, release, lifted: None } => format!(
                "one allocation of {largest} exceeds {}, the most that the driver is known to grant (L4T {release})",
                most(*limit, *granted)
            ),
            Note::Allocation { largest, limit, granted, release, lifted: Some(lifted) } => format!(
                "update to {}: L4T {release} refuses one allocation of {largest}; it grants at most {}",
                lifted.shortest(),
                most(*limit, *granted)
            ),
            Note::AllocationRisk { largest, refused, release, lifted } => {
                let update = match lifted {
                    Some(lifted) => format!("update to {}, or ", lifted.shortest()),
                    None => String::new(),
                };
                format!(
                    "one allocation of {largest} may fail under L4T {release}: some boards refused them from {refused} on; {update}reboot before it loads"
                )
            }
            Note::Contiguity { largest, limit, now: true } => format!(
                "one allocation of {largest} needs free memory; {limit} are free, the rest is page cache: before loading, run sync; echo 3 | sudo tee /proc/sys/vm/drop_caches; echo 1 | sudo tee /proc/sys/vm/compact_memory"
            ),
            Note::Contiguity { largest, limit, now: false } => format!(
                "one allocation of {largest} needs contiguous memory; {limit} has failed beside the desktop: run headless (sudo systemctl isolate multi-user.target)"
            ),
            Note::ChatTemplate { why } => format!(
                "the chat template cannot be used here ({why}); if llama-server ends with a template error, start it with --chat-template chatml, or fix the template"
            ),
            Note::Tight { left, more, runtime } => format!(
                "it barely fits: {left} would be left, and {runtime} may take {more} more than expected"
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
            Note::PrefixKept { cached, kept, prefixes, runtime } => {
                let why = match prefixes {
                    Prefixes::Tokens => "one token is read in any case".to_owned(),
                    Prefixes::Blocks { tokens, hybrid: false } => {
                        format!("the prefix cache of {runtime} keeps whole blocks of {tokens} tokens")
                    }
                    Prefixes::Blocks { tokens, hybrid: true } => format!(
                        "the prefix cache of {runtime} keeps whole blocks, of {tokens} tokens in this model with recurrent states"
                    ),
                    Prefixes::Nothing => {
                        format!("the prefix cache of {runtime} keeps no recurrent states without attention")
                    }
                };
                format!("{kept} of the {cached} cached tokens count: {why}")
            }
            Note::BeyondModelContext { limit } => {
                format!("the model was trained for {} of context; its output degrades beyond that", tokens(*limit))
            }
            Note::Towers { bytes, in_q8_0 } => {
                let format = in_q8_0.map_or_else(String::new, |less| {
                    format!(" in F16 ({less} as an mmproj in Q8_0)")
                });
                format!("the memory includes {bytes} of vision or audio weights{format}; --text-only leaves them out")
            }
            Note::EncoderTime => {
                "the time to the first token excludes the image encoder, whose speed is not known here".to_owned()
            }
            Note::EncoderUnseen { why: Some(why) } => format!(
                "the compute memory of its image encoder is not counted: {why}; leave room with --reserve, or drop the encoder with --text-only"
            ),
            Note::EncoderUnseen { why: None } => {
                "the compute memory of its vision or audio encoder is unknown and not counted; leave room with --reserve, or drop the encoder with --text-only".to_owned()
            }
            Note::TextAlone { runtime, why: None } => {
                format!("text alone: {runtime} reads no images or sound")
            }
            Note::TextAlone { why: Some(why), .. } => {
                format!("text alone, because no projector of its encoder is made: {why}")
            }
            Note::AudioUncounted => {
                "the compute memory of its audio encoder is not counted; leave room with --reserve if you use it".to_owned()
            }
            Note::LeftOut(kind) => kind.to_string(),
            Note::SpeedUnmeasured { runtime } => {
                format!("nobody has published a measurement of {runtime} on Jetson Orin; take the speed as a bracket, not a prediction")
            }
            Note::SpeedUnknown { device } => {
                format!("no speed: the memory bandwidth of {device} is unknown; run `orinplan calibrate` on it")
            }
            Note::FormatUnmeasured { formats, date } => {
                let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
                format!(
                    "no speed: the calibration of {date} has no rate for {}; `orinplan calibrate` measures every format that this program's decoder runs",
                    names.join(", ")
                )
            }
            Note::OtherKernels { runtime, measured } => {
                format!("{runtime} may be up to twice as fast or as slow: this machine was measured with {measured}; `orinplan validate --save-calibration` narrows that")
            }
            Note::EnergyUnknown { device, why } => {
                let why = match why {
                    NoWatts::Processors => "no source measured the power of a model on the processors".to_owned(),
                    NoWatts::Board => format!("no source measured the rails of the {device} by runtime and mode"),
                    NoWatts::Sequences => "no source measured the power of several sequences at once".to_owned(),
                };
                format!("{why}; so --energy-budget names no power mode")
            }
            Note::ModeUnavailable { mode, release, since, modes } => format!(
                "{mode} needs {} or later: under L4T {release} the board has {}; plan for one of these with --power-mode",
                since.of_jetpack(),
                modes.join(" and ")
            ),
            Note::Learned { source, found } => {
                format!("corrected by measured runs on this device: {source}: {}", found.join(", "))
            }
            Note::LearnedElsewhere { mode, modes, by_calibrate } => format!(
                "the runs on record are of {}, so they correct rates in {mode} less surely: measure there too, with {}`orinplan validate --save-calibration`",
                modes.join(" and "),
                if *by_calibrate { "`orinplan calibrate` or " } else { "" }
            ),
            Note::Pool { runtime, share, needed } => format!(
                "{runtime} claims {:.0} % of memory by default; --gpu-memory-utilization {:.2} limits it",
                share * 100.0,
                needed
            ),
            Note::DoubleQuantization { now } => {
                format!("the checkpoint is already {now}; quantizing it again adds to its loss")
            }
            Note::AssumedCache { as_if } => {
                format!("unknown architecture: its KV cache is planned as that of {as_if}, as --assume-kv asks")
            }
            Note::ModulesUnseen => {
                "without modules.json it is planned as a model that writes text; put that beside config.json if it makes embeddings".to_owned()
            }
            Note::QuantizationUnseen => {
                "planned as its 16-bit original: config.json says the checkpoint is quantized, but its weights are not here".to_owned()
            }
            Note::TowersUnseen { why: Some(why), .. } => {
                format!("its image encoder is not counted: {why}")
            }
            Note::TowersUnseen { audio_alone, why: None } => format!(
                "its {} is not counted; config.json alone does not give its size",
                match audio_alone {
                    true => "audio encoder",
                    false => "vision or audio encoder",
                }
            ),
            Note::PartialHeader { why } => {
                format!("{why}; the real file will be a few MiB larger")
            }
            Note::QualityUnused { file, measured } => format!(
                "{file} is not used: it measured none of these formats with this cache, but {}",
                measured.join(", ")
            ),
            Note::CacheLoss { cache, cost: Some([kld, low, high]) } => format!(
                "quality counts {} nats for the {cache} cache ({} to {})",
                nats(*kld),
                nats(*low),
                nats(*high)
            ),
            Note::CacheLoss { cache, cost: None } => format!(
                "quality leaves out what the {cache} cache loses: nobody measured that; `orinplan compare --kv-type` does, for types that it runs"
            ),
            Note::NoTokenizer => {
                "no runtime serves this directory without a tokenizer; get tokenizer.json and tokenizer_config.json from the model's page on Hugging Face".to_owned()
            }
            Note::NoVocabulary => {
                "the file has no tokenizer: llama-server and Ollama will not start, only llama-bench runs it; get a file that has one".to_owned()
            }
            Note::BudgetBeyondMemory { budget, memory, device } => format!(
                "--budget {budget} is more than all {memory} of the {device}; the verdict is for a larger machine"
            ),
            Note::LostScaling(lost) => lost.to_string(),
            Note::LostWindow(lost) => lost.to_string(),
            Note::LastVersion { runtime, until, image_tokens } => {
                let images = image_tokens.map_or(String::new(), |tokens| {
                    format!("; an image takes {tokens} tokens of the cache beside its text, which --context has to hold")
                });
                format!("{runtime} serves this architecture up to {until}{images}")
            }
            Note::QuantizedCache { dtype } => format!(
                "a {} cache saves memory and costs speed, the more the deeper it is; prefill widens one layer of it to F16",
                dtype.name()
            ),
            Note::KeptShape { tensors, group, words } => format!(
                "{} in 16 bit, because {group} does not divide their rows{} or those of neighbouring experts: {}",
                counted(tensors.len(), "tensor stays", "tensors stay"),
                if *words { " (or 8 not the number of rows)" } else { "" },
                named(tensors)
            ),
            Note::KeptStacks { tensors } => format!(
                "{} in 16 bit: the runtimes that read this format have no names for single experts of this architecture",
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
            Note::Lossless { tensors, of } => format!(
                "{} of {} lost nothing: the 16-bit weights lie on the grid of their format: {}",
                tensors.len(),
                counted(*of, "quantized tensor", "quantized tensors"),
                named(tensors)
            ),
            Note::MissingImportance { tensors } => format!(
                "{} without importance, because the matrix has no values for them: {}",
                counted(tensors.len(), "tensor was quantized", "tensors were quantized"),
                named(tensors)
            ),
            Note::UnusedPattern { pattern } => {
                format!("no quantized tensor has `{pattern}` in its name")
            }
            Note::UnknownPreTokenizer => {
                "llama.cpp does not know how this tokenizer changes or splits text; `tokenizer.ggml.pre` is `default`, and some texts will give different tokens".to_owned()
            }
            Note::TowersLeftOut { towers, has_projector } => {
                let made = if *has_projector {
                    "; `orinplan quantize --projector` writes image encoders"
                } else {
                    ""
                };
                format!("the file holds the text model; left out: {}{made}", towers.join(", "))
            }
            Note::UnreadFiles { names } => format!(
                "not read, because Transformers would not load it with this model: {}",
                named(names)
            ),
            Note::Unused(kind) => kind.to_string(),
        }
    }
}

fn sum(tensors: &[(String, u64)]) -> u64 {
    tensors.iter().map(|(_, count)| count).sum()
}

/// What a driver grants at once: what a plan counts on, and more that some board was granted.
pub(crate) fn most(limit: Bytes, granted: Option<Bytes>) -> String {
    granted.map_or(limit.to_string(), |granted| {
        format!("{limit} ({granted} on one board)")
    })
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
