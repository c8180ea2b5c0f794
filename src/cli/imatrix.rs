//! `orinplan imatrix`: open, load, evaluate a text, write the importance matrix.

use std::sync::Arc;

use super::args::ImatrixArgs;
use super::evaluated::Evaluated;
use super::{Outcome, output, progress, show, warn};
use crate::decode::{LoadOptions, Observing};
use crate::quality::{Beginning, Collector, Text, collect};
use crate::quantize::Destination;
use crate::report;

pub(super) fn run(args: &ImatrixArgs) -> anyhow::Result<Outcome> {
    let text = Text::open(args.text.text.as_deref())?;
    let evaluated = Evaluated::open(&args.model)?;
    let inputs = output::inputs(evaluated.checkpoint(), args.text.text.clone());
    let destination = Destination {
        path: &args.output,
        overwrite: args.overwrite,
        inputs,
    };
    destination.check_file()?;
    let tokens = args.text.chunk_tokens;
    let chunks = evaluated.chunks(&text, tokens, args.chunks, Beginning::Replaced)?;
    let cancel = progress::cancelled_by_signals()?;
    let collector = Arc::new(Collector::new(args.process_output, Arc::clone(&cancel)));
    let options = LoadOptions {
        context: tokens,
        observer: Some(Observing(Arc::clone(&collector) as _)),
        ..LoadOptions::default()
    };
    let spinner = progress::Spinner::new();
    let mut model = evaluated.load(&options, &spinner)?;
    spinner.clear();
    let bar = progress::Steps::new("chunk", chunks.chunks.len());
    let sums = collect(&mut model, &collector, &chunks, &mut |done| bar.set(done));
    bar.clear();
    let mut sums = sums?;
    sums.dataset = text.name;
    sums.write(&destination)?;
    if (sums.chunks as usize) < chunks.chunks.len() {
        let all = chunks.chunks.len();
        warn(&format!(
            "interrupted: {} holds the sums of {} of {all} chunks",
            args.output.display(),
            sums.chunks,
        ));
    }
    show(&report::imatrix::text(
        &sums,
        &args.output,
        super::columns(),
    ))?;
    Ok(progress::signalled().map_or(Outcome::Yes, Outcome::Signalled))
}
