//! `cargo xtask fit-speed`: fits the speed of every runtime to `profiles/measurements.csv` and writes
//! what it found into `profiles/runtimes/*.toml`; prints the tables of errors that the docs show.

mod conditions;
mod data;
mod fit;
mod form;
mod learning;
mod minimise;
mod power;
mod requests;
mod simulate;
mod tables;
mod write;

use std::path::{Path, PathBuf};

use anyhow::Context;
use orinplan::evidence::{MEASUREMENTS, MODELS, fingerprint};

use data::Observation;
use fit::{Fitted, Kind};

/// Fits, writes, and prints the tables.
pub(crate) fn run() -> anyhow::Result<()> {
    let observations = data::observations()?;
    let print = fingerprint(&[MEASUREMENTS, MODELS]);
    let mut all = Vec::new();
    for family in form::FAMILIES {
        let mut fitted = fit::fit(family, &observations)?;
        learning::fit(&mut fitted, &observations);
        for (id, speed) in &fitted.speeds {
            let path = profile(id);
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let rows = |kind| rows(&fitted, &observations, id, kind);
            let kinds = [
                ("decode", rows(Kind::Decode)),
                ("prefill", rows(Kind::Prefill)),
                ("requests", rows(Kind::Requests)),
            ];
            let text = learning::written(&write::speed(&text, speed)?, speed)?;
            std::fs::write(&path, write::record(&text, &print, kinds))?;
        }
        all.push(fitted);
    }
    tables::errors(&all, &observations);
    println!();
    simulate::table(&all, &observations);
    println!();
    simulate::across_modes(&all, &observations);
    let speed = |runtime: &str| {
        let speed = all.iter().find_map(|fitted| fitted.speeds.get(runtime));
        speed.cloned()
    };
    let (csv, table) = power::fit(&observations, speed);
    std::fs::write(power_table(), csv).context("profiles/power.csv")?;
    println!("\n{table}");
    Ok(())
}

fn power_table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/power.csv")
}

fn profile(id: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../profiles/runtimes/{id}.toml"))
}

fn rows(fitted: &Fitted, observations: &[Observation], id: &str, kind: Kind) -> write::Rows {
    let of = fitted.left.iter().filter(|left| left.kind == kind);
    let named = of.filter_map(|left| {
        let observation = observations.get(left.index)?;
        let inside = fit::is_inside(left, observation, fitted.speeds.get(id)?);
        let row = &observation.row;
        (row.runtime == id).then(|| (row.id.clone(), left.left_out, inside))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use orinplan::runtime::{self, profile::Speed};

    /// Refits the numbers, though not with every model left out, and compares them with the files.
    /// The constants of a speed model by their names, and the cost of each format.
    fn constants(speed: &Speed) -> BTreeMap<&str, f64> {
        let eager = speed.eager_launch_seconds.as_ref();
        let conditions = speed.conditions.as_ref();
        let named = [
            ("governed", conditions.map_or(1.0, |c| c.governed.decode)),
            (
                "old_system",
                conditions.map_or(1.0, |c| c.old_system.prefill),
            ),
            (
                "eager_launch_seconds",
                eager.map_or(0.0, |eager| eager.expected),
            ),
            ("bandwidth_efficiency", speed.bandwidth_efficiency.expected),
            ("row_cycles", speed.row_cycles.value),
            ("launch_seconds", speed.launch_seconds.expected),
            ("host_seconds", speed.host_seconds.expected),
            ("scan_cycles", speed.prefill.scan_cycles.value),
            ("tile_cycles", speed.prefill.tile_cycles.value),
            ("activation_bytes", speed.prefill.activation_bytes.value),
            ("byte_cycles", speed.attention.byte_cycles.value),
            ("spill_tokens", speed.attention.spill_tokens.value),
            ("mac_cycles", speed.attention.mac_cycles.value),
            ("score_cycles", speed.attention.score_cycles.value),
            ("quantized_cycles", speed.prefill.quantized_cycles.value),
        ];
        let costs = speed.cost.iter();
        let costs = costs.map(|(name, cost)| (name.as_str(), cost.cycles));
        named.into_iter().chain(costs).collect()
    }

    #[test]
    fn the_profiles_hold_what_the_measurements_give() {
        let observations = data::observations().unwrap();
        let print = fingerprint(&[MEASUREMENTS, MODELS]);
        for family in form::FAMILIES {
            let speeds = fit::refit(family, &observations).unwrap();
            for (id, fitted) in speeds {
                let profile = runtime::find(id).unwrap();
                let record = profile
                    .fit
                    .as_ref()
                    .unwrap_or_else(|| panic!("{id} has no [fit]"));
                assert_eq!(record.data, print, "{id}: run `cargo xtask fit-speed`");
                let held = constants(&profile.speed);
                for (name, fitted) in constants(&fitted) {
                    let held = held[name];
                    assert!(
                        (held - fitted).abs() <= 0.01 * fitted,
                        "{id}: {name} is {held} in the profile, {fitted} by the fit"
                    );
                }
            }
        }
    }

    #[test]
    fn the_table_of_rails_holds_what_the_measurements_give() {
        let observations = data::observations().unwrap();
        let held = orinplan::evidence::parse_power(orinplan::evidence::POWER).unwrap();
        let speed = |id: &str| Some(runtime::find(id).ok()?.speed);
        let (fitted, _) = power::fit(&observations, speed);
        let fitted = orinplan::evidence::parse_power(&fitted).unwrap();
        assert_eq!(held.len(), fitted.len(), "run `cargo xtask fit-speed`");
        for (held, fitted) in held.iter().zip(&fitted) {
            assert_eq!((&held.board, &held.name), (&fitted.board, &fitted.name));
            for (held, fitted) in [
                (held.base_watts, fitted.base_watts),
                (held.sm_gigahertz_watts, fitted.sm_gigahertz_watts),
                (
                    held.gigamac_gigahertz_joules,
                    fitted.gigamac_gigahertz_joules,
                ),
                (held.gigabyte_joules, fitted.gigabyte_joules),
            ] {
                assert!((held - fitted).abs() <= 0.01 * fitted, "{held} {fitted}");
            }
        }
    }

    /// The bytes that sources state are those that the tool counts, rope factors aside.
    #[test]
    fn every_measured_model_resolves_to_its_stated_bytes() {
        for observation in data::observations().unwrap() {
            let counted = observation.assignment.tensor_bytes().0 as f64;
            let stated = observation.row.tensor_bytes.unwrap_or_default() as f64;
            assert!(
                (counted / stated - 1.0).abs() < 1e-6,
                "{}: {counted} counted, {stated} in the table",
                observation.row.id
            );
        }
    }

    /// The clocks that the table states are those of the board's power mode.
    #[test]
    fn stated_clocks_are_those_of_the_power_mode() {
        for Observation { row, gpu, .. } in data::observations().unwrap() {
            assert!(
                (gpu.clock.0 / 1e6 / row.gpu_mhz - 1.0).abs() < 0.01,
                "{}",
                row.id
            );
        }
    }
}
