//! Caveats of a file that was made or is to be made, each with a stable code.

use super::Tally;
use crate::convert::LostScaling;
use crate::model::LeftOut;
use crate::units::counted;

/// Something a reader of the summary should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The weights were quantized before.
    DoubleQuantization {
        /// What they are now.
        now: String,
    },
    /// Rows that do not divide into the blocks of the intended type.
    ShapeFallback {
        /// The tensors' names.
        tensors: Vec<String>,
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
    /// No tokenizer lies beside the weights.
    NoTokenizer,
    /// How rotary positions are stretched is not part of the file.
    LostScaling(LostScaling),
    /// Vision or audio towers are not part of the file.
    LeftOut {
        /// What they are.
        towers: Vec<String>,
    },
    /// Tensors that the file does without.
    Unused(LeftOut),
}

/// How many names a note repeats.
const NAMED: usize = 4;

impl Note {
    /// What was met on the way: a note for each kind of finding, over the tensors that have it.
    pub(super) fn met<'a>(tallies: impl Iterator<Item = (&'a str, Tally)>) -> Vec<Note> {
        let (mut not_finite, mut overflow, mut zero_rows) = (Vec::new(), Vec::new(), Vec::new());
        for (name, tally) in tallies {
            for (count, list) in [
                (tally.not_finite, &mut not_finite),
                (tally.overflow, &mut overflow),
                (tally.zero_rows, &mut zero_rows),
            ] {
                if count > 0 {
                    list.push((name.to_owned(), count));
                }
            }
        }
        let mut notes = vec![
            Note::NotFinite {
                tensors: not_finite,
            },
            Note::Overflow { tensors: overflow },
            Note::ZeroRows { tensors: zero_rows },
        ];
        notes.retain(|note| match note {
            Note::NotFinite { tensors }
            | Note::Overflow { tensors }
            | Note::ZeroRows { tensors } => !tensors.is_empty(),
            _ => true,
        });
        notes
    }

    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Note::DoubleQuantization { .. } => "double_quantization",
            Note::ShapeFallback { .. } => "shape_fallback",
            Note::KeptShape { .. } => "kept_shape",
            Note::KeptStacks { .. } => "kept_stacks",
            Note::NotFinite { .. } => "not_finite",
            Note::Overflow { .. } => "f16_overflow",
            Note::ZeroRows { .. } => "zero_rows",
            Note::MissingImportance { .. } => "missing_importance",
            Note::UnusedPattern { .. } => "unused_pattern",
            Note::UnknownPreTokenizer => "unknown_pre_tokenizer",
            Note::NoTokenizer => "no_tokenizer",
            Note::LostScaling(_) => "lost_rope_scaling",
            Note::LeftOut { .. } => "left_out",
            Note::Unused(_) => "unused_tensors",
        }
    }

    /// One or two sentences for people.
    pub fn text(&self) -> String {
        match self {
            Note::DoubleQuantization { now } => {
                format!("the checkpoint is {now} already: quantizing it again adds to the loss it has")
            }
            Note::ShapeFallback { tensors } => format!(
                "{} that do not divide into the blocks of the intended type; another one is taken: {}",
                counted(tensors.len(), "tensor has rows", "tensors have rows"),
                named(tensors)
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
            Note::NoTokenizer => {
                "no tokenizer lies beside the weights, and neither vLLM nor Transformers serves a model without: the model's page on Hugging Face has tokenizer.json and tokenizer_config.json".to_owned()
            }
            Note::LostScaling(lost) => lost.to_string(),
            Note::LeftOut { towers } => {
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
