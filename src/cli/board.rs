//! `orinplan board`: open several models, plan them on one board, report.

use std::path::PathBuf;

use anyhow::ensure;

use super::args::{ReportFormat, SharedArgs};
use super::{Outcome, output, pages, request, saved};
use crate::foreign;
use crate::input;
use crate::planner::{
    Board, PlanError, Planner, Request, SharedFile, SharedModel, SharedPlan, SharedRequest,
};
use crate::report::{self, fit, shared};
use crate::units::Bytes;

/// The largest file of several models that is read.
const FILE_LIMIT: Bytes = Bytes(1 << 20);

pub(super) fn run(args: &SharedArgs) -> anyhow::Result<Outcome> {
    pages::check(&args.report.figure, args.report.format())?;
    saved::check_flags(&args.report)?;
    request::counted(&args.workload)?;
    ensure!(
        args.models.len() < 2 || !args.models.iter().any(|name| is_file(name)),
        "a file of several models is given alone; add the other models to it"
    );
    let saved = args.report.check.as_deref();
    let saved = saved
        .map(|path| saved::read(path, shared::SCHEMA))
        .transpose()?;
    let mut base = request::shared(args);
    let (file, mut asked) = asked(args, &mut base)?;
    if let Some(storage) = &args.storage {
        asked.storage = storage.clone();
    }
    let outputs = args.report.outputs();
    let (mut planners, mut inputs) = (Vec::new(), Vec::new());
    for model in &asked.models {
        let planner = request::open(&model.model, &args.read)?;
        let others = file.iter().chain(&args.report.check).cloned();
        let read = output::inputs(
            planner.checkpoint(),
            others.chain(request::board_file(&args.board)),
        );
        output::check_all(&outputs, &read)?;
        inputs.push(read);
        planners.push(planner);
    }
    let plan = planned(&asked, &base, &planners)?;
    inputs.iter().try_for_each(|read| read.check())?;
    let report = shared::Report {
        request: &asked,
        planners: &planners,
        plan: &plan,
    };
    let document = shared::document(&report);
    if let Some(path) = &args.report.save {
        output::write_file(path, &report::json(&document))?;
    }
    if let Some((path, saved)) = saved {
        let differences = fit::differences(&saved, &document);
        return saved::check(&path, &differences, &args.report);
    }
    let text = match args.report.format() {
        ReportFormat::Json => report::json(&document),
        ReportFormat::Text => foreign::lines(&shared::text(&report, super::columns())),
        ReportFormat::Markdown => foreign::lines(&shared::markdown(&report)),
        form @ (ReportFormat::Html | ReportFormat::Svg) => {
            pages::rendered(&report::html::board(&report), form, &args.report.figure)?
        }
    };
    output::deliver(args.report.output.as_deref(), &text)?;
    Ok(if plan.is_as_asked() {
        Outcome::Yes
    } else {
        Outcome::No
    })
}

/// Whether it is the name of a file of several models.
fn is_file(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".toml")
}

/// What is asked for: by a file, whose board `base` then has, or by the names of models.
fn asked(
    args: &SharedArgs,
    base: &mut Request,
) -> anyhow::Result<(Option<PathBuf>, SharedRequest)> {
    if let [only] = &args.models[..]
        && is_file(only)
    {
        let path = PathBuf::from(only);
        let text = input::read_text(&path, FILE_LIMIT)?;
        let file = SharedFile::parse(&text, only)?;
        let board = &mut base.board;
        board.device = board.device.take().or_else(|| file.device.clone());
        board.power_mode = board.power_mode.take().or_else(|| file.power_mode.clone());
        let request = file.request(&path, base)?;
        return Ok((Some(path), request));
    }
    let models = args.models.iter().map(|model| SharedModel {
        name: foreign::without_secrets(model),
        model: model.clone(),
        request: base.clone(),
        priority: 1,
        on_demand: false,
    });
    let request = SharedRequest {
        models: models.collect(),
        programs: Vec::new(),
        storage: Default::default(),
    };
    Ok((None, request))
}

fn planned(
    asked: &SharedRequest,
    base: &Request,
    planners: &[Planner],
) -> Result<SharedPlan, PlanError> {
    let device = Board::device(&base.board)?;
    device.warnings.iter().for_each(|line| super::warn(line));
    let plan = asked.plan(planners, &device)?;
    for member in &plan.models {
        member
            .board
            .warnings
            .iter()
            .for_each(|line| super::warn(line));
    }
    Ok(plan)
}
