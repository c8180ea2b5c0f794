//! `orinplan fit`: open, plan, report.

use anyhow::ensure;
use serde_json::Value;

use super::args::{FitArgs, Parallel, ReportFormat};
use super::{
    Outcome, boards, config, output, pages, print, remote, request, saved, side_by_side, template,
    watch,
};
use crate::foreign;
use crate::inputs::Inputs;
use crate::plan::throughput::Throughput;
use crate::planner::{self, Board, Planned, Planner, Request};
use crate::report::{self, fit::Report};
use crate::scheme::Container;

pub(super) fn run(args: &FitArgs) -> anyhow::Result<Outcome> {
    check(args)?;
    if let Some(asked) = args.boards.request() {
        return boards::run(args, &asked);
    }
    let [model] = &args.models[..] else {
        return side_by_side::run(args);
    };
    let saved = args.report.check.as_deref();
    let saved = saved
        .map(|path| saved::read(path, report::fit::SCHEMA))
        .transpose()?;
    let quality = args.quality.as_deref().map(request::quality).transpose()?;
    let types = args.types.as_deref().map(request::types).transpose()?;
    let planner = request::open(model, &args.read)?;
    let inputs = inputs(args, &planner)?;
    let mut request = request::fit(args, quality, types);
    let board = Board::open(&request.board)?;
    request.workload.draft = request::draft(args, &board)?;
    let throughput = throughput(args, &planner, &board, &mut request)?;
    let planned = planned(args, &planner, board, &request)?;
    let report = Report::new(&planner, &planned);
    let mut document = report::fit::document(&report);
    if let Some(throughput) = &throughput {
        document["throughput"] = report::fit::throughput::document(throughput);
    }
    inputs.check()?;
    remote::note(planner.checkpoint());
    if let Some(path) = &args.report.save {
        output::write_file(path, &report::json(&document))?;
    }
    if let Some((path, saved)) = saved {
        let differences = report::fit::differences(&saved, &document);
        return saved::check(&path, &differences, &args.report);
    }
    deliver(args, &report, document, throughput.as_ref())?;
    let recommended = planned.fit.recommended();
    if let Some(plan) = recommended.filter(|_| args.watch) {
        return watch::run(plan.memory.total(), args.watch_seconds);
    }
    let found = throughput.is_none_or(|throughput| throughput.best.is_some());
    Ok(if recommended.is_some() && found {
        Outcome::Yes
    } else {
        Outcome::No
    })
}

/// Refuses flags that contradict each other.
fn check(args: &FitArgs) -> anyhow::Result<()> {
    let form = args.report.format();
    pages::check(&args.report.figure, form)?;
    saved::check_flags(&args.report)?;
    watch::check(args)?;
    let is_for_programs = form == ReportFormat::Json || form.is_page();
    ensure!(
        !(args.explain && args.models.len() == 1 && is_for_programs),
        "--explain needs --format text or markdown; JSON and pages already have every number"
    );
    Ok(())
}

/// The files that are read, none of which the outputs may replace.
fn inputs(args: &FitArgs, planner: &Planner) -> anyhow::Result<Inputs> {
    let others = args
        .report
        .check
        .iter()
        .chain(&args.quality)
        .chain(&args.types);
    let inputs = output::inputs(
        planner.checkpoint(),
        others.cloned().chain(request::board_file(&args.board)),
    );
    output::check_all(&args.report.outputs(), &inputs)?;
    Ok(inputs)
}

/// The plans, with what only running the chat template tells.
fn planned(
    args: &FitArgs,
    planner: &Planner,
    board: Board,
    request: &Request,
) -> anyhow::Result<Planned> {
    let mut planned = planner.plan_on(board, request)?;
    if planned.board.runtime.loads.reads(Container::Gguf)
        && let Some(note) = template::note(planner.checkpoint())
    {
        let plans = planned.fit.plans.iter_mut();
        plans.for_each(|plan| plan.notes.push(note.clone()));
    }
    watch::check_board(args, planned.board.choice)?;
    let warnings = planned.board.warnings.iter();
    warnings.for_each(|line| super::warn(line));
    Ok(planned)
}

/// Prints the report in its format, or writes it to the file of `--output`.
fn deliver(
    args: &FitArgs,
    report: &Report<'_>,
    document: Value,
    throughput: Option<&Throughput>,
) -> anyhow::Result<()> {
    let text = match args.report.format() {
        ReportFormat::Json => {
            let document = report::fit::with_curves(document, report);
            report::json(&remote::with_transfer(document))
        }
        form @ (ReportFormat::Html | ReportFormat::Svg) => {
            pages::rendered(&report::html::fit(report), form, &args.report.figure)?
        }
        ReportFormat::Text | ReportFormat::Markdown => {
            let plans = shown(args, report, throughput);
            let batches = batches(args, report, throughput);
            let is_verdict = throughput.is_some_and(|found| found.best.is_none());
            if is_verdict && !batches.is_empty() {
                // The verdict is theirs.
                format!("{}\n{plans}", batches.trim_start())
            } else {
                plans + &batches
            }
        }
    };
    let output = args.report.output.as_deref();
    let is_painted =
        output.is_none() && args.report.format() == ReportFormat::Text && super::wants_colour();
    if is_painted {
        print(&report::fit::painted(&text))
    } else {
        output::deliver(output, &text)
    }
}

/// With `--parallel auto`: what each number of sequences brings. `request` then asks for the best of them, or for one.
fn throughput(
    args: &FitArgs,
    planner: &Planner,
    board: &Board,
    request: &mut Request,
) -> anyhow::Result<Option<Throughput>> {
    if args.workload.parallel != Parallel::Auto {
        ensure!(
            args.max_latency.is_none(),
            "--max-latency chooses the number of sequences: use it with --parallel auto"
        );
        return Ok(None);
    }
    let found = planner.throughput(board, request, args.max_latency)?;
    let sequences = found.taken().map_or(1, |batch| batch.sequences);
    *request = planner::together(request, found.context_each, sequences);
    Ok(Some(found))
}

/// What each number of sequences brings, below the plan of the best; the first screen has it in place of other formats.
fn batches(args: &FitArgs, report: &Report<'_>, found: Option<&Throughput>) -> String {
    let Some(found) = found else {
        return String::new();
    };
    let runtime = &report.target.runtime.id;
    let is_first_screen = !args.all && !args.explain;
    if is_first_screen && args.report.format() == ReportFormat::Text {
        return String::new();
    }
    if args.report.format() == ReportFormat::Markdown {
        return foreign::lines(&report::fit::throughput::markdown(found, runtime));
    }
    foreign::lines(&report::fit::throughput::text(
        found,
        runtime,
        request::view(args).columns,
    ))
}

/// The report for people, with control characters escaped: it may contain names from files.
fn shown(args: &FitArgs, report: &Report<'_>, batches: Option<&Throughput>) -> String {
    let is_markdown = args.report.format() == ReportFormat::Markdown;
    let mut text = foreign::lines(&if is_markdown {
        report::fit::markdown(report)
    } else {
        report::fit::text(report, batches, request::view(args))
    });
    if args.explain {
        if let Some(settings) = config::sources().filter(|_| !is_markdown) {
            text.push_str(&format!("\n{}\n", foreign::lines(&settings)));
        }
        let shown = report.fit.recommended().or(report.fit.plans.first());
        let explained =
            shown.map(|plan| report::fit::explain(report, plan, request::view(args).columns));
        let explained = foreign::lines(&explained.unwrap_or_default());
        if is_markdown {
            let fenced = foreign::fenced("text", explained.trim_matches('\n'));
            text.push_str(&format!("\n{fenced}\n"));
        } else {
            text.push_str(&explained);
        }
    }
    text
}
