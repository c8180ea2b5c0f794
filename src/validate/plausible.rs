//! What can have been measured: the gate between engines and whatever is made of their figures.
//!
//! In: what an engine and the machine said, and what was asked, planned and possible. Out: the same with
//! every figure that cannot be taken away, and a doubt in its place. Never an error: a figure that
//! is none does not cost the others. Must not: know an engine.

use super::Request;
use super::compare::{Figure, PeakMemory};
use super::measured::{Measured, Quantity};
use crate::units::Bytes;

/// Tokens that a chat template may put around a prompt.
const TEMPLATE_TOKENS: u64 = 4096;

/// Clocks of boards are up to this much above what their profiles say, and tokens arrive unevenly.
const OVER: f64 = 1.05;

/// A rate so many times above what can be is none of a decoder: its tokens were held back, and came
/// together.
const HELD_BACK: f64 = 10.0;

/// An engine's own clock may be this much faster than the arrival of its tokens: those of one piece wait for it.
const BY_CLOCK: f64 = 1.25;

/// The least share of its weights that the program with a model holds: embeddings and experts that no
/// token asks for may stay on the disk.
const LEAST_SHARE: f64 = 0.25;

/// What is possible on the machine that was planned for.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Decoded tokens a second.
    pub decode: Most,
    /// Prompt tokens a second.
    pub prefill: Most,
    /// All memory of the machine.
    pub memory: Bytes,
    /// Whether its GPU shares that memory.
    pub has_gpu: bool,
    /// The model's weights.
    pub weights: Bytes,
}

/// The most of a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Most {
    /// Tokens a second.
    pub rate: f64,
    /// Of what machine it is the most.
    pub of: String,
    /// A power mode of the machine in which more is possible, and how much.
    pub elsewhere: Option<(String, f64)>,
}

impl Most {
    /// Why `rate` cannot be; `None` if it can.
    fn refuses(&self, rate: f64) -> Option<String> {
        if !rate.is_finite() {
            return Some("no time passed between its tokens".to_owned());
        }
        if rate <= 0.0 {
            return Some(format!("{rate} tokens/s are no rate"));
        }
        if rate <= self.rate * OVER {
            return None;
        }
        let other = self
            .elsewhere
            .as_ref()
            .filter(|(_, most)| rate <= most * OVER);
        let other = other.map_or(String::new(), |(mode, most)| {
            format!("; {mode} would allow {most:.1}: name the mode in force with --power-mode")
        });
        Some(format!(
            "{rate:.1} tokens/s are above the {:.1} that {} can reach{other}",
            self.rate, self.of
        ))
    }
}

/// Takes away counts of tokens that are more than was asked for, with the rates that rest on them.
pub fn believe_counts(measured: &mut Measured, request: &Request) {
    if let Some(tokens) = measured
        .generated_tokens
        .filter(|tokens| *tokens > request.tokens)
    {
        measured.generated_tokens = None;
        measured.decode.clear();
        measured.doubt(
            Quantity::Decode,
            format!(
                "the engine counts {tokens} generated tokens, and {} were asked for",
                request.tokens
            ),
        );
    }
    // A token has at least a byte.
    let longest = request.prompt.text(0).len() as u64 + TEMPLATE_TOKENS;
    if let Some(tokens) = measured.prompt_tokens.filter(|tokens| *tokens > longest) {
        measured.prompt_tokens = None;
        if measured.decode_depth > longest {
            measured.decode_depth = request.prompt.tokens();
        }
        measured.prefill.clear();
        measured.doubt(
            Quantity::Prefill,
            format!("the engine counts {tokens} tokens in a prompt that has {longest} at most"),
        );
    }
}

/// Takes away rates, times and sizes that this machine cannot have.
pub fn believe_figures(measured: &mut Measured, memory: &mut PeakMemory, limits: &Limits) {
    let worst = |rates: &[f64], most: &Most| rates.iter().find_map(|rate| most.refuses(*rate));
    if let Some(reason) = worst(&measured.decode, &limits.decode) {
        let most = limits.decode.rate * HELD_BACK;
        let is_held_back = |rate: &f64| !(rate.is_finite() && *rate < most);
        let held_back = measured.streamed && measured.decode.iter().any(is_held_back);
        measured.decode.clear();
        measured.doubt(Quantity::Decode, reason);
        if held_back {
            refuse_first_token(
                measured,
                "all tokens came at once: the server, or a proxy before it, holds its stream back",
            );
        }
    }
    let clocks = measured.decode.iter().zip(&measured.decode_at_most);
    let mut beyond = clocks.filter(|(rate, most)| **rate > **most * BY_CLOCK);
    if let Some((rate, most)) = beyond.next() {
        let reason = format!(
            "the engine's clock says {rate:.1} tokens/s, and they arrived here with {most:.1} at most"
        );
        measured.decode.clear();
        measured.doubt(Quantity::Decode, reason);
    }
    if let Some(reason) = worst(&measured.prefill, &limits.prefill) {
        measured.prefill.clear();
        measured.doubt(Quantity::Prefill, reason);
    }
    let most = &limits.prefill;
    let fastest = most
        .elsewhere
        .as_ref()
        .map_or(most.rate, |(_, rate)| rate.max(most.rate));
    let least = measured.prompt_tokens.unwrap_or(1) as f64 / fastest / OVER;
    let can_be = |first: f64| first.is_finite() && first > 0.0 && first >= least;
    if let Some(first) = measured
        .first_token
        .iter()
        .copied()
        .find(|first| !can_be(*first))
    {
        let reason = format!(
            "{:.3} ms are less than {} needs to read the prompt, {:.3} ms",
            first * 1e3,
            most.of,
            least * 1e3
        );
        refuse_first_token(measured, &reason);
    }
    believe_memory(measured, memory, limits);
}

/// The time to the first token, and the rate of prompts where that was taken from it.
fn refuse_first_token(measured: &mut Measured, reason: &str) {
    if !measured.first_token.is_empty() {
        measured.first_token.clear();
        measured.doubt(Quantity::FirstToken, reason.to_owned());
    }
    if measured.prefill_streamed && !measured.prefill.is_empty() {
        measured.prefill.clear();
        measured.doubt(
            Quantity::Prefill,
            format!("it follows from the time to the first token, and {reason}"),
        );
    }
}

fn believe_memory(measured: &mut Measured, memory: &mut PeakMemory, limits: &Limits) {
    let least = Bytes((limits.weights.as_f64() * LEAST_SHARE) as u64);
    let short = memory.short;
    for (figure, seen) in memory.figures_mut() {
        let Some(bytes) = *seen else { continue };
        let has_weights = figure.has_weights(limits.has_gpu);
        let is_short = short.is_some() && figure != Figure::Engine;
        let reason = match bytes {
            Bytes(0) => "0 B are no measurement".to_owned(),
            bytes if bytes > limits.memory => {
                format!("{bytes} are more than the machine's {}", limits.memory)
            }
            bytes if bytes < least && has_weights => format!(
                "{bytes} are less than a quarter of the model's {} of weights: they are not in it",
                limits.weights
            ),
            bytes if is_short => format!(
                "{bytes} were seen in {} looks at a program that ended within a second: it may have held more",
                short.unwrap_or_default()
            ),
            _ => continue,
        };
        *seen = None;
        measured.doubt(Quantity::Memory, format!("{}: {reason}", figure.words()));
    }
}
