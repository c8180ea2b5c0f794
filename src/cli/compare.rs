//! `orinplan compare`: evaluate a text with a reference and with candidates, and report how far they are apart.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use super::args::{CompareArgs, ReportFormat};
use super::evaluated::Evaluated;
use super::progress::{self, Spinner, Steps};
use super::{Outcome, output, pages, show};
use crate::decode::LoadOptions;
use crate::inputs::Inputs;
use crate::quality::{self, Beginning, Chunks, LogProbs, Text};
use crate::report;
use crate::report::compare::{Candidate, Report, Subject};

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<Outcome> {
    pages::check_named(&args.figure, args.format, &report::html::COMPARE_FIGURES)?;
    let text = Text::open(args.text.text.as_deref())?;
    let reference = Evaluated::open(&args.reference)?;
    let candidates = args.candidates.iter().map(|model| Evaluated::open(model));
    let candidates = candidates.collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(kept) = &args.keep {
        let models = std::iter::once(&reference).chain(&candidates);
        let files = models.flat_map(|model| &model.checkpoint().files);
        let files = files.map(|file| file.path.clone());
        let inputs = Inputs::read(files.chain(args.text.text.clone()));
        output::check_no_input(kept, &inputs)?;
        output::check_directory(kept)?;
    }
    let tokens = args.text.chunk_tokens;
    let chunks = reference.chunks(&text, tokens, Some(args.chunks), Beginning::Inserted)?;
    let cancel = progress::cancelled_by_signals()?;
    let spinner = Spinner::new();
    let log_probs = predictions(args, &reference, &chunks, &spinner, &cancel)?;
    let kv_types = args.kv_cache.types();
    let mut rows = Vec::new();
    for candidate in &candidates {
        let [type_k, type_v] = kv_types;
        let options = LoadOptions {
            context: tokens,
            type_k,
            type_v,
            ..LoadOptions::default()
        };
        let mut model = candidate.load(&options, &spinner)?;
        let steps = Steps::new(&candidate.name, chunks.chunks.len());
        let leading = candidate.tokenizer.leading();
        let divergence = quality::divergence(
            &mut model,
            &candidate.name,
            &log_probs,
            leading,
            &cancel,
            &mut |done| steps.set(done),
        );
        steps.clear();
        rows.push(Candidate {
            subject: Subject::of(candidate.name.clone(), &candidate.planner),
            divergence: divergence?,
        });
    }
    spinner.clear();
    let report = Report {
        model: reference.planner.model(),
        text: &text,
        chunks: chunks.chunks.len(),
        chunk_tokens: chunks.tokens,
        kv_types,
        reference: Subject::of(reference.name.clone(), &reference.planner),
        perplexity: quality::perplexity(&log_probs)?.estimate(),
        candidates: rows,
    };
    show(&match args.format {
        ReportFormat::Text => report::compare::text(&report, super::columns()),
        ReportFormat::Json => report::json(&report::compare::document(&report)),
        ReportFormat::Markdown => report::compare::markdown(&report),
        form @ (ReportFormat::Html | ReportFormat::Svg) => {
            pages::rendered(&report::html::compare(&report), form, &args.figure)?
        }
    })?;
    Ok(Outcome::Yes)
}

/// The reference's predictions: those that were kept, or new ones, kept where that was asked for and otherwise in a file
/// without a name.
fn predictions(
    args: &CompareArgs,
    reference: &Evaluated,
    chunks: &Chunks,
    spinner: &Spinner,
    cancel: &AtomicBool,
) -> anyhow::Result<LogProbs> {
    let fingerprint = reference.fingerprint()?;
    let Some(kept) = &args.keep else {
        let (file, path) = output::unnamed()?;
        record(
            reference,
            chunks,
            (file.try_clone()?, &path),
            fingerprint,
            spinner,
            cancel,
        )?;
        return Ok(LogProbs::of(file, &path)?);
    };
    if kept.exists() {
        let log_probs = LogProbs::open(kept)?;
        let leading = reference.tokenizer.leading();
        log_probs.check(&chunks.chunks, leading, reference.vocabulary(), fingerprint)?;
        return Ok(log_probs);
    }
    let partial = output::partial(kept)?;
    let file = File::create_new(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    let made = record(
        reference,
        chunks,
        (file, &partial),
        fingerprint,
        spinner,
        cancel,
    );
    let named = made.and_then(|()| Ok(std::fs::rename(&partial, kept)?));
    if named.is_err() {
        drop(std::fs::remove_file(&partial));
    }
    named?;
    Ok(LogProbs::open(kept)?)
}

/// Evaluates the text with the reference.
fn record(
    reference: &Evaluated,
    chunks: &Chunks,
    file: (File, &Path),
    fingerprint: u64,
    spinner: &Spinner,
    cancel: &AtomicBool,
) -> anyhow::Result<()> {
    let options = LoadOptions {
        context: chunks.tokens as u64,
        ..LoadOptions::default()
    };
    let mut model = reference.load(&options, spinner)?;
    let steps = Steps::new(&reference.name, chunks.chunks.len());
    let tell = &mut |done| steps.set(done);
    let made = quality::record(
        &mut model,
        &reference.name,
        chunks,
        file,
        fingerprint,
        cancel,
        tell,
    );
    steps.clear();
    Ok(made?)
}
