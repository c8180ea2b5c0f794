//! `orinplan fit --boards`: open, plan on several boards, report.

use anyhow::bail;

use super::args::{FitArgs, Parallel, ReportFormat};
use super::{Outcome, output, pages, remote, request, saved};
use crate::foreign;
use crate::planner::ClusterRequest;
use crate::report::{self, boards, fit};

pub(super) fn run(args: &FitArgs, asked: &ClusterRequest) -> anyhow::Result<Outcome> {
    let [model] = &args.models[..] else {
        bail!("--boards plans one model; board A B C plans several models on one board");
    };
    if args.workload.parallel == Parallel::Auto {
        bail!("--boards needs a fixed number of sequences: give --parallel N");
    }
    if args.max_latency.is_some() {
        bail!("--max-latency is for --parallel auto, which --boards does not have");
    }
    if args.watch || args.energy_budget.is_some() || args.generate.is_some() {
        bail!(
            "--watch, --energy-budget and --generate are about one board: leave them out, or leave --boards out"
        );
    }
    let form = args.report.format();
    pages::check(&args.report.figure, form)?;
    let saved = args.report.check.as_deref();
    let saved = saved
        .map(|path| saved::read(path, boards::SCHEMA))
        .transpose()?;
    let quality = args.quality.as_deref().map(request::quality).transpose()?;
    let types = args.types.as_deref().map(request::types).transpose()?;
    let planner = request::open(model, &args.read)?;
    let others = args.report.check.iter().chain(&args.types);
    let others = others.chain(&args.quality).cloned();
    let inputs = output::inputs(planner.checkpoint(), others);
    output::check_all(&args.report.outputs(), &inputs)?;
    let cluster = planner.plan_cluster(&request::fit(args, quality, types), asked)?;
    let warnings = cluster.boards.iter().flat_map(|board| &board.warnings);
    warnings.for_each(|line| super::warn(line));
    let report = boards::Report {
        planner: &planner,
        asked,
        cluster: &cluster,
    };
    let document = boards::document(&report);
    inputs.check()?;
    remote::note(planner.checkpoint());
    if let Some(path) = &args.report.save {
        output::write_file(path, &report::json(&document))?;
    }
    if let Some((path, saved)) = saved {
        let differences = fit::differences(&saved, &document);
        return saved::check(&path, &differences, &args.report);
    }
    let text = match form {
        ReportFormat::Json => report::json(&document),
        ReportFormat::Markdown => foreign::lines(&boards::markdown(&report)),
        ReportFormat::Html | ReportFormat::Svg => {
            pages::rendered(&report::html::boards(&report), form, &args.report.figure)?
        }
        ReportFormat::Text => foreign::lines(&boards::text(&report, request::view(args))),
    };
    output::deliver(args.report.output.as_deref(), &text)?;
    Ok(if cluster.choice.taken.is_some() {
        Outcome::Yes
    } else {
        Outcome::No
    })
}
