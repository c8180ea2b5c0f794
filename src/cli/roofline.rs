//! `orinplan roofline`: ceilings from nominal sizes or real bytes.

use anyhow::Context;

use super::args::{PlainFormat, RooflineArgs};
use super::{Outcome, remote, request, show};
use crate::hub::Purpose;
use crate::model::Unknown;
use crate::plan::roofline::Roof;
use crate::plan::{Workload, fit};
use crate::planner::{GgufHeader, Planner, Schemes};
use crate::report;
use crate::scheme::Rules;

pub(super) fn run(args: &RooflineArgs) -> anyhow::Result<Outcome> {
    let board = request::open_board(&request::board(&args.board, None))?;
    let target = board.target();
    let roof = Roof::of(target.mode).with_context(|| {
        let name = &target.device.name;
        format!("the bandwidth or the peak rates of {name} are unknown, so it has no roofline")
    })?;
    let mut points: Vec<_> = args
        .nominal
        .iter()
        .map(|nominal| roof.nominal(nominal))
        .collect();
    // With an empty cache the bytes of a token are those of the weights.
    let workload = Workload {
        prompt_tokens: 0,
        ..Workload::default()
    };
    for model in &args.models {
        let stores = remote::stores(Purpose::Plan);
        let planner = Planner::open_in(model, &stores, |_| Unknown::Refuse)?;
        let schemes = Schemes::of(&args.scheme);
        // Decoding reads no metadata.
        let header = GgufHeader::default();
        let candidates = planner.candidates(&board.runtime, &schemes, Rules::default(), &header)?;
        let fit = fit(planner.model(), candidates, target, &workload);
        let plans = fit.plans.iter();
        points.extend(plans.filter_map(|plan| roof.plan(&planner.model().name, plan)));
    }
    show(&match args.format {
        PlainFormat::Text => report::roofline::text(
            target.device,
            target.mode,
            board.choice,
            &roof,
            &points,
            super::columns(),
        ),
        PlainFormat::Json => report::json(&report::roofline::document(
            target.device,
            target.mode,
            &roof,
            &points,
        )),
    })?;
    Ok(Outcome::Yes)
}
