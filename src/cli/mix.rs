//! `orinplan quantize` to a size: measures what types cost, chooses them, and compares the file with a plain one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use super::args::QuantizeArgs;
use super::evaluated::Evaluated;
use super::progress::Spinner;
use crate::decode::{LoadOptions, Observing};
use crate::dtype::Dtype;
use crate::quality::mix::{self, Mix, PROBE, ProbeTokens, Search, SearchStage};
use crate::quality::{Beginning, Collector, Text, collect};
use crate::quantize::packed::Files;
use crate::quantize::{Importance, Job, Options};
use crate::scheme::{Overrides, Reason, Scheme};

/// Chunks that the importance matrix is made of; the probes evaluate pieces of the next ones.
const IMATRIX_CHUNKS: usize = 16;
/// Pieces of text in a probe, and their tokens; predictions of the second half are scored.
const PIECES: usize = 4;
const PIECE_TOKENS: usize = 128;

/// What was chosen.
pub(super) struct Chosen {
    pub(super) mix: Mix,
    pub(super) importance: Importance,
}

/// The mix for the size that `args` asks for.
pub(super) fn choose(
    args: &QuantizeArgs,
    evaluated: &Evaluated,
    files: &Files,
    given: Option<Importance>,
    cancel: &Arc<AtomicBool>,
) -> anyhow::Result<Chosen> {
    let text = Text::open(args.text.text.as_deref())?;
    let tokens = args.text.chunk_tokens;
    let chunks = evaluated.chunks(&text, tokens, None, Beginning::Replaced)?;
    let (checkpoint, model) = (evaluated.checkpoint(), evaluated.planner.model());
    let collector = Arc::new(Collector::new(true, Arc::clone(cancel)));
    let options = LoadOptions {
        context: tokens,
        observer: Some(Observing(Arc::clone(&collector) as _)),
        ..LoadOptions::default()
    };
    let spinner = Spinner::new();
    let mut decoder = evaluated.load(&options, &spinner)?;
    let probes = pieces(&chunks.chunks);
    let mut first = chunks.clone();
    first.chunks.truncate(IMATRIX_CHUNKS);
    let of = first.chunks.len();
    let importance = match given {
        Some(given) => given,
        None => {
            let tell = &mut |done| spinner.say(format!("activations: chunk {done} of {of}"));
            let mut sums = collect(&mut decoder, &collector, &first, tell)?;
            sums.dataset = text.name.clone();
            sums.importance("orinplan")
        }
    };
    collector.stop();
    let scheme = Scheme::get("q8_0").context("there is no scheme q8_0")?;
    let probing = Options {
        importance: Some(&importance),
        overrides: probe_types(model.tensors.iter().map(|t| (t.name.as_str(), t.row()))),
        allow_requantize: args.allow_requantize,
        rules: args.rules,
        ..Options::of(scheme)
    };
    let job = Job::new(checkpoint, files, model, &probing)?;
    let search = Search {
        model,
        tensors: &job.tensors,
        text: &probes,
        cancel,
    };
    let measured = mix::measure(&search, &mut decoder, &mut |stage| {
        spinner.say(match stage {
            SearchStage::Errors(done, of) => format!("errors of types: tensor {done} of {of}"),
            SearchStage::Probes(done, of) => format!("divergence: probe {done} of {of}"),
        });
    })?;
    spinner.clear();
    if std::env::var_os("DUMP").is_some() {
        for tensor in &measured.tensors {
            eprintln!("{} {:?}", tensor.name, tensor.options.iter().map(|o| (o.dtype.name(), o.bytes, o.cost)).collect::<Vec<_>>());
        }
    }
    let padded = |bytes: u64| bytes.next_multiple_of(crate::gguf::ALIGNMENT);
    let probed = job.tensors.iter().filter(|t| t.assigned.reason != Reason::Kept);
    let probed: u64 = probed.map(|t| padded(t.assigned.bytes.0)).sum();
    let rest = job.file_bytes().0 - probed;
    let target = match (args.target_size, args.target_bpw) {
        (Some(size), _) => size.0,
        (None, bits) => {
            let weights: u64 = model.tensors.iter().map(|tensor| tensor.elements()).sum();
            let header = job.file_bytes().0 - job.tensor_bytes().0;
            header + (bits.unwrap_or(16.0) * weights as f64 / 8.0) as u64
        }
    };
    let budget = target.checked_sub(rest);
    let mix = budget.and_then(|budget| mix::mix(&measured, budget));
    let mix = mix.with_context(|| format!("no mix of types has as few as {target} bytes"))?;
    drop(job);
    Ok(Chosen { mix, importance })
}

/// Every tensor in the type of probes, where that divides its rows.
fn probe_types<'a>(tensors: impl Iterator<Item = (&'a str, u64)>) -> Overrides {
    let types = tensors.map(|(name, row)| {
        let dtype = if PROBE.divides(row) { PROBE } else { Dtype::F16 };
        (name.to_owned(), dtype)
    });
    Overrides {
        exact: types.collect(),
        ..Overrides::default()
    }
}

/// Pieces of the text behind what the importance matrix is made of, spread over it.
fn pieces(chunks: &[Vec<u32>]) -> ProbeTokens {
    let behind = chunks.get(IMATRIX_CHUNKS..).filter(|rest| rest.len() >= PIECES);
    let from = behind.unwrap_or(chunks);
    let step = (from.len() / PIECES).max(1);
    let pieces = from.iter().step_by(step).take(PIECES);
    let cut = |tokens: &Vec<u32>| tokens.iter().copied().take(PIECE_TOKENS).collect();
    ProbeTokens {
        pieces: pieces.map(cut).collect(),
        rows: PIECE_TOKENS / 2,
    }
}

/// The scheme that names a file of these types: that of the type with most bytes.
pub(super) fn named(types: &BTreeMap<String, Dtype>, bytes: impl Fn(&str, Dtype) -> u64) -> Option<&'static Scheme> {
    let mut sums: BTreeMap<Dtype, u64> = BTreeMap::new();
    for (name, dtype) in types {
        *sums.entry(*dtype).or_default() += bytes(name, *dtype);
    }
    let most = sums.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.and_then(|(dtype, _)| Scheme::of_base(dtype))
}
