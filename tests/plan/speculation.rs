//! Speculation: what it brings beside published runs, and what it takes.

use std::path::Path;

use orinplan::device;
use orinplan::evidence::speculation::{SPECULATION, SpeculationRow, parse_speculation};
use orinplan::plan::draft::{Acceptance, Draft, Drafter};
use orinplan::plan::fit::{Candidate, Plan, Target, fit};
use orinplan::plan::{Fit, Workload};
use orinplan::planner::assigned;
use orinplan::runtime;
use orinplan::scheme::{Rules, Scheme};

use crate::support::described;

/// How far a predicted speed-up may be from the published one.
const TOLERANCE_PERCENT: f64 = 10.0;

/// The plan of a row, with `acceptance` in place of the row's.
fn planned(row: &SpeculationRow, acceptance: Option<Acceptance>) -> Plan {
    let device = device::open(&row.board, Path::new("/")).unwrap();
    let mode = device.mode(&row.power_mode).unwrap().clone();
    let runtime = runtime::find(&row.runtime).unwrap();
    let scheme = match row.runtime.as_str() {
        "tensorrt-edge-llm" => "int4",
        _ => "q4_k_m",
    };
    let model = described(&row.model).1;
    let assignment = assigned(
        &model,
        Scheme::get(scheme).unwrap(),
        &runtime,
        Rules::default(),
    );
    let candidate = Candidate {
        file_bytes: assignment.tensor_bytes(),
        assignment,
        quality: None,
        notes: Vec::new(),
    };
    let by = match row.drafter.as_str() {
        "eagle3" => Drafter::Eagle3,
        "mtp" => Drafter::Mtp,
        _ => Drafter::Lookup,
    };
    let workload = Workload {
        parallel: row.sequences,
        draft: Some(Draft { by, acceptance }),
        ..Workload::default()
    };
    let target = Target {
        device: &device,
        mode: &mode,
        release: None,
        clocks: None,
        runtime: &runtime,
    };
    let Fit { mut plans, .. } = fit(&model, vec![candidate], target, &workload);
    plans.remove(0)
}

#[test]
fn every_published_run_is_predicted_and_slower_ones_are_called_slower() {
    let mut off = Vec::new();
    for row in parse_speculation(SPECULATION).unwrap() {
        let acceptance = match (row.accepted, row.share) {
            (Some(tokens), _) => Acceptance::Tokens(tokens),
            (None, share) => Acceptance::Share(share.unwrap()),
        };
        let plan = planned(&row, Some(acceptance));
        let found = plan.speculation.unwrap().speed_up.unwrap();
        let percent = (found.expected / row.speed_up - 1.0) * 100.0;
        if percent.abs() > TOLERANCE_PERCENT {
            off.push(format!(
                "{}: {:.3} for {:.3}, {percent:.1} %",
                row.id, found.expected, row.speed_up
            ));
        }
        // A run that is a tenth slower or faster is on the right side of 1.
        if (row.speed_up - 1.0).abs() >= 0.1 {
            assert_eq!(found.expected < 1.0, row.speed_up < 1.0, "{}", row.id);
        }
        assert!(
            found.low <= row.speed_up && row.speed_up <= found.high,
            "{}",
            row.id
        );
    }
    assert!(off.is_empty(), "{off:#?}");
}
