//! Rejects figures that cannot have been measured, before anything else uses them.
//!
//! In: what an engine reported and the machine showed; what was asked for, planned, and possible. Out: the same without
//! the implausible figures, and the reason for each. Never an error: one bad figure does not cost the others. Must not:
//! know an engine.

use super::MeasureRequest;
use super::compare::{MemoryFigure, PeakMemory};
use super::measured::{Measured, Metric};
use crate::units::Bytes;

/// Tokens that a chat template may add to a prompt.
const TEMPLATE_TOKENS: u64 = 4096;

/// Rates may exceed a ceiling by this factor: a board's clock may be above that of its profile, and tokens arrive
/// unevenly.
const OVER: f64 = 1.05;

/// A rate this many times above its ceiling is no decoder's: the tokens were held back and sent together.
const HELD_BACK: f64 = 3.0;

/// A rate by an engine's own clock may exceed that of the arrival of its tokens by this factor: tokens of one piece
/// arrive together, when the last of them is there.
const BY_CLOCK: f64 = 1.25;

/// The least share of the weights that a token reads which is in memory, mapped files included: what no token uses may
/// stay on the disk.
const LEAST_SHARE: f64 = 0.9;

/// The most that is possible on the machine that was planned for.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Decoded tokens a second.
    pub decode: RateCeiling,
    /// Prompt tokens a second.
    pub prefill: RateCeiling,
    /// All memory of the machine.
    pub memory: Bytes,
    /// Whether its GPU shares that memory.
    pub has_gpu: bool,
    /// Bytes of the model's weights that every token reads.
    pub weights: Bytes,
}

/// The ceiling of a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCeiling {
    /// Tokens a second.
    pub rate: f64,
    /// The machine that it is the ceiling of.
    pub of: String,
    /// The power mode of the machine with the highest ceiling, and that ceiling, if there are others than the planned one.
    pub elsewhere: Option<(String, f64)>,
}

impl RateCeiling {
    /// Why `rate` is impossible; `None` if it is not.
    fn refuses(&self, rate: f64) -> Option<String> {
        if !rate.is_finite() {
            return Some("no time passed between its tokens".to_owned());
        }
        if rate <= 0.0 {
            return Some(format!("{rate} tokens/s is not a rate"));
        }
        if rate <= self.rate * OVER {
            return None;
        }
        let other = self
            .elsewhere
            .as_ref()
            .filter(|(_, most)| rate <= most * OVER);
        let other = other.map_or(String::new(), |(mode, most)| {
            format!("; {mode} would allow {most:.1}: name the current mode with --power-mode")
        });
        Some(format!(
            "{rate:.1} tokens/s are above the {:.1} that {} can reach{other}",
            self.rate, self.of
        ))
    }
}

/// Rejects counts of tokens that are larger than what was asked for, with the rates that were computed from them.
pub fn reject_counts(measured: &mut Measured, request: &MeasureRequest) {
    if let Some(tokens) = measured
        .generated_tokens
        .filter(|tokens| *tokens > request.tokens)
    {
        measured.generated_tokens = None;
        measured.decode.clear();
        measured.reject(
            Metric::Decode,
            format!(
                "the engine counts {tokens} generated tokens, but {} were requested",
                request.tokens
            ),
        );
    }
    // A token has at least one byte.
    let longest = request.prompt.text(0).len() as u64 + TEMPLATE_TOKENS;
    let is_wrong = |tokens: &u64| *tokens == 0 || *tokens > longest;
    if let Some(tokens) = measured.prompt_tokens.filter(is_wrong) {
        measured.prompt_tokens = None;
        if measured.decode_depth > longest {
            measured.decode_depth = request.prompt.tokens();
        }
        measured.prefill.clear();
        measured.reject(
            Metric::Prefill,
            format!("the engine counts {tokens} tokens in a prompt that has 1 to {longest}"),
        );
    }
}

/// Rejects rates, times and sizes that are impossible on the machine of `limits`.
pub fn reject_figures(measured: &mut Measured, memory: &mut PeakMemory, limits: &Limits) {
    let worst =
        |rates: &[f64], most: &RateCeiling| rates.iter().find_map(|rate| most.refuses(*rate));
    if let Some(reason) = worst(&measured.decode, &limits.decode) {
        let most = limits.decode.rate * HELD_BACK;
        let is_held_back = |rate: &f64| !(rate.is_finite() && *rate < most);
        let held_back = measured.streamed && measured.decode.iter().any(is_held_back);
        measured.decode.clear();
        measured.reject(Metric::Decode, reason);
        if held_back {
            reject_first_token(
                measured,
                "all tokens came at once: the server, or a proxy before it, buffers its stream",
            );
        }
    }
    let clocks = measured.decode.iter().zip(&measured.decode_at_most);
    let mut beyond = clocks.filter(|(rate, most)| **rate > **most * BY_CLOCK);
    if let Some((rate, most)) = beyond.next() {
        let reason = format!(
            "the engine's clock says {rate:.1} tokens/s, but they arrived here at {most:.1} at most"
        );
        measured.decode.clear();
        measured.reject(Metric::Decode, reason);
    }
    if let Some(reason) = worst(&measured.prefill, &limits.prefill) {
        measured.prefill.clear();
        measured.reject(Metric::Prefill, reason);
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
        reject_first_token(measured, &reason);
    }
    reject_memory(measured, memory, limits);
}

/// Rejects the time to the first token, and the prefill rate where it was computed from that.
fn reject_first_token(measured: &mut Measured, reason: &str) {
    if !measured.first_token.is_empty() {
        measured.first_token.clear();
        measured.reject(Metric::FirstToken, reason.to_owned());
    }
    if measured.prefill_streamed && !measured.prefill.is_empty() {
        measured.prefill.clear();
        measured.reject(
            Metric::Prefill,
            format!("it follows from the time to the first token, and {reason}"),
        );
    }
}

fn reject_memory(measured: &mut Measured, memory: &mut PeakMemory, limits: &Limits) {
    let least = Bytes((limits.weights.as_f64() * LEAST_SHARE) as u64);
    let short = memory.short;
    for (figure, seen) in memory.figures_mut() {
        let Some(bytes) = *seen else { continue };
        let has_weights = figure.has_weights(limits.has_gpu);
        let is_short = short.is_some() && figure != MemoryFigure::Engine;
        let reason = match bytes {
            Bytes(0) => "0 B is not a measurement".to_owned(),
            bytes if bytes > limits.memory => {
                format!("{bytes} are more than the machine's {}", limits.memory)
            }
            bytes if bytes < least && has_weights => format!(
                "{bytes} are less than the {} of weights that every token reads: it does not include them",
                limits.weights
            ),
            bytes if is_short => format!(
                "{bytes} in the {} samples of a program that ended within a second: its peak may be higher",
                short.unwrap_or_default()
            ),
            _ => continue,
        };
        *seen = None;
        measured.reject(Metric::Memory, format!("{}: {reason}", figure.words()));
    }
}
