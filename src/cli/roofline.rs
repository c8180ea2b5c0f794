//! `orinplan roofline`: ceilings from nominal sizes or real bytes.

use anyhow::Context;

use super::args::{ModelArgs, PlainFormat, RooflineArgs};
use super::fit::{Board, open, wanted};
use super::{Outcome, show};
use crate::plan::candidates::{Header, candidates};
use crate::plan::roofline::Roof;
use crate::plan::{Workload, fit};
use crate::report;
use crate::scheme::Rules;

pub(super) fn run(args: &RooflineArgs) -> anyhow::Result<Outcome> {
    let board = Board::open(&args.board)?;
    let target = board.target(None);
    let roof = Roof::of(target.mode).with_context(|| {
        let name = &target.device.name;
        format!("the bandwidth or the peak rates of {name} are not known, so it has no roofline")
    })?;
    let mut points: Vec<_> = args
        .nominal
        .iter()
        .map(|nominal| roof.nominal(nominal))
        .collect();
    // At depth zero the bytes of a token are the weights alone.
    let workload = Workload {
        prompt_tokens: 0,
        ..Workload::default()
    };
    for model in &args.models {
        let (checkpoint, model) = open(&ModelArgs {
            model: model.clone(),
            assume_kv: None,
        })?;
        let wanted = wanted(&args.scheme);
        let candidates = candidates(
            &checkpoint,
            &model,
            &board.runtime,
            &wanted,
            Rules::default(),
            &Header::default(),
        )?;
        let fit = fit(&model, candidates, target, &workload);
        points.extend(
            fit.plans
                .iter()
                .filter_map(|plan| roof.plan(&model.name, plan)),
        );
    }
    show(&match args.format {
        PlainFormat::Text => {
            report::roofline::text(target.device, target.mode, board.choice, &roof, &points)
        }
        PlainFormat::Json => report::json(&report::roofline::document(
            target.device,
            target.mode,
            &roof,
            &points,
        )),
    })?;
    Ok(Outcome::Yes)
}
