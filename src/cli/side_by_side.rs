//! `orinplan fit` with several models: a row for each. One that cannot be planned takes nothing from the others.

use anyhow::bail;

use super::args::{FitArgs, Parallel, ReportFormat};
use super::{Outcome, message, output, pages, request};
use crate::foreign;
use crate::planner::{Board, Planned, Planner};
use crate::report::fit::several::{self, Side};
use crate::report::{self, fit::Report};
use crate::units::counted;

pub(super) fn run(args: &FitArgs) -> anyhow::Result<Outcome> {
    if args.workload.parallel == Parallel::Auto {
        bail!("--parallel auto plans one model");
    }
    let of_one = [
        ("--save", args.report.save.is_some()),
        ("--check", args.report.check.is_some()),
        ("--quality", args.quality.is_some()),
        ("--explain", args.explain),
        ("--types", args.types.is_some()),
        ("--watch", args.watch),
        ("--generate", args.generate.is_some()),
    ];
    if let Some((flag, _)) = of_one.into_iter().find(|(_, given)| *given) {
        bail!("{flag} applies to one model: run `fit` on each in turn");
    }
    if args.report.format().is_page() {
        return Err(pages::none("fit of several models"));
    }
    let outputs = args.report.outputs();
    let mut request = request::fit(args, None, None);
    let board = Board::open(&request.board)?;
    request.workload.draft = request::draft(args, &board)?;
    let board = request::warned(board);
    let mut sides: Vec<Result<(Planner, Planned), String>> = Vec::new();
    for model in &args.models {
        let planner = match request::open(model, &args.read) {
            Ok(planner) => planner,
            Err(error) => {
                sides.push(Err(message(&error)));
                continue;
            }
        };
        let inputs = output::inputs(planner.checkpoint(), request::board_file(&args.board));
        output::check_all(&outputs, &inputs)?;
        let planned = planner.plan_on(board.clone(), &request);
        inputs.check()?;
        sides.push(match planned {
            Ok(planned) => Ok((planner, planned)),
            Err(error) => Err(message(&error.into())),
        });
    }
    let names: Vec<String> = args
        .models
        .iter()
        .map(|m| foreign::without_secrets(m))
        .collect();
    let shown: Vec<Side<'_>> = names.iter().zip(&sides).map(side).collect();
    let text = match args.report.format() {
        ReportFormat::Json => report::json(&several::documents(&shown)),
        ReportFormat::Text => foreign::lines(&several::text(&shown, request::view(args))),
        ReportFormat::Markdown => foreign::lines(&several::markdown(&shown)),
        ReportFormat::Html | ReportFormat::Svg => return Err(pages::none("fit of several models")),
    };
    output::deliver(args.report.output.as_deref(), &text)?;
    let failed: Vec<String> = shown.iter().filter_map(failure).collect();
    if !failed.is_empty() {
        let models = counted(failed.len(), "model", "models");
        bail!("{models} could not be planned: {}", failed.join("; "));
    }
    let mut fits = sides.iter().flatten();
    Ok(
        if fits.all(|(_, planned)| planned.fit.recommended().is_some()) {
            Outcome::Yes
        } else {
            Outcome::No
        },
    )
}

fn side<'a>((model, side): (&'a String, &'a Result<(Planner, Planned), String>)) -> Side<'a> {
    Side {
        model,
        planned: match side {
            Ok((planner, planned)) => Ok(Report::new(planner, planned)),
            Err(why) => Err(why.as_str()),
        },
    }
}

/// Why a model has no plan, with its name if the message does not have it.
fn failure(side: &Side<'_>) -> Option<String> {
    let why = side.planned.as_ref().err()?;
    Some(if why.contains(side.model) {
        (*why).to_owned()
    } else {
        format!("{}: {why}", side.model)
    })
}
