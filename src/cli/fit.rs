//! `orinplan fit`: open, plan, report.

use std::path::Path;

use anyhow::bail;

use super::args::{FitArgs, ReportFormat};
use super::{Outcome, output, print, request, saved};
use crate::foreign;
use crate::plan::Plan;
use crate::report::{self, fit::Report};

pub(super) fn run(args: &FitArgs) -> anyhow::Result<Outcome> {
    if args.explain && args.format == ReportFormat::Json {
        bail!(
            "--explain is for people: use it with --format text or markdown; JSON has every number"
        );
    }
    let saved = args.check.as_deref().map(saved::read).transpose()?;
    let planner = request::open(&args.model)?;
    // A board of its own is a file that is read; an id is the name of none.
    let board = args.board.device.iter().map(std::path::PathBuf::from);
    let others = args
        .check
        .iter()
        .cloned()
        .chain(board.filter(|file| file.is_file()));
    let inputs = output::inputs(planner.checkpoint(), others);
    let outputs: Vec<&Path> = [&args.save, &args.output]
        .into_iter()
        .filter_map(Option::as_deref)
        .collect();
    output::check_all(&outputs, &inputs)?;
    let planned = planner.plan(&request::fit(args))?;
    planned
        .board
        .warnings
        .iter()
        .for_each(|line| super::warn(line));
    let report = Report::new(&planner, &planned);
    let document = report::fit::document(&report);
    inputs.check()?;
    if let Some(path) = &args.save {
        output::write_file(path, &report::json(&document))?;
    }
    if let Some((path, saved)) = saved {
        return saved::check(&path, &report::fit::differences(&saved, &document));
    }
    let text = match args.format {
        ReportFormat::Json => report::json(&document),
        _ => shown(args, &report),
    };
    match &args.output {
        Some(path) => output::write_file(path, &text)?,
        None if args.format == ReportFormat::Text && super::wants_colour() => {
            print(&report::fit::painted(&text))?;
        }
        None => print(&text)?,
    }
    Ok(if planned.fit.plans.iter().any(Plan::fits) {
        Outcome::Yes
    } else {
        Outcome::No
    })
}

/// The report for people, with control characters escaped: it may contain names from files.
fn shown(args: &FitArgs, report: &Report<'_>) -> String {
    let is_markdown = args.format == ReportFormat::Markdown;
    let mut text = foreign::lines(&if is_markdown {
        report::fit::markdown(report)
    } else {
        report::fit::text(report)
    });
    if args.explain {
        let shown = report.fit.recommended().or(report.fit.plans.first());
        let explained = shown.map(|plan| report::fit::explain(report, plan));
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
