//! The speed model against every published measurement on Jetson Orin boards that the project holds
//! (`profiles/measurements.csv`), planned as a user would plan it: from the model's configuration.

use orinplan::device;
use orinplan::evidence::{Grade, Measurement, measurements};
use orinplan::plan::fit::{Target, fit};
use orinplan::plan::operations::prompt_work;
use orinplan::plan::{Speeds, Workload};
use orinplan::planner::{GgufHeader, Planner, Schemes};
use orinplan::runtime;
use orinplan::scheme::{Rules, Scheme};
use std::path::Path;

use crate::support::described;

/// Qwen3.5-0.8B has attention in every fourth of its 24 layers; LFM2's convolutions keep no state that a token waits for.
#[test]
fn layers_with_recurrent_state_are_counted() {
    for (model, layers) in [("qwen3.5-0.8b", 18), ("lfm2-350m", 0), ("qwen3-0.6b", 0)] {
        let work = prompt_work(&described(model).1, &Workload::default());
        assert_eq!(work.recurrent_layers, layers, "{model}");
    }
}

/// The plan's speeds for a row; `None` where its format is no scheme (Q1_0, Q2_0).
fn planned(row: &Measurement) -> Option<Speeds> {
    Scheme::get(&row.format)?;
    let (checkpoint, model) = described(&row.model);
    let device = device::open(&row.board, Path::new("/")).unwrap();
    let runtime = runtime::find(&row.runtime).unwrap();
    let whole = row.output_tps.and(row.prompt_tokens);
    let workload = Workload {
        context: 1 << 16,
        prompt_tokens: whole.or(row.depth).or(row.prompt_tokens).unwrap_or(256),
        cached_tokens: row.cached_tokens.unwrap_or(0),
        generated_tokens: whole.and(row.generated_tokens),
        parallel: row.sequences,
        flash_attention: row.flash_attention(),
        cuda_graphs: row.cuda_graphs(),
        ..Workload::default()
    };
    let target = Target {
        device: &device,
        mode: device.mode(&row.power_mode).unwrap(),
        release: row.release(),
        clocks: row.clocks,
        runtime: &runtime,
    };
    // The checkpoint's own 16 bits, where a runtime reads safetensors.
    let format = match runtime.loads.files.iter().any(|file| file == "gguf") {
        false if row.format == "f16" => "bf16",
        _ => &row.format,
    };
    let schemes = Schemes::Named(vec![format.to_owned()]);
    let planner = Planner::of(checkpoint, model);
    let header = GgufHeader::default();
    let all = planner.candidates(&runtime, &schemes, Rules::default(), &header);
    let plans = fit(planner.model(), all.unwrap(), target, &workload).plans;
    plans.into_iter().next().unwrap().speeds
}

/// Rows that a fit sees, with what is planned for them.
fn fitted(runtimes: &[&str]) -> Vec<(&'static Measurement, f64, Speeds)> {
    let rows = measurements().iter().filter(|row| {
        row.grade != Grade::C && runtimes.is_empty() | runtimes.contains(&row.runtime.as_str())
    });
    let planned = rows.filter_map(|row| Some((row, row.decode_tps?, planned(row)?)));
    planned.collect()
}

#[test]
fn no_measurement_and_no_expectation_lies_above_the_ceiling() {
    for (row, measured, speeds) in fitted(&[]) {
        let decode = speeds.decode;
        assert!(
            measured <= decode.ceiling,
            "{}: {measured} measured, ceiling {}",
            row.id,
            decode.ceiling
        );
        assert!(
            decode.tokens_per_second.high <= decode.ceiling,
            "{}",
            row.id
        );
    }
}

#[test]
fn the_range_holds_four_in_five_of_the_measured_rates() {
    for runtimes in [
        &["llama.cpp", "llama-bench", "ollama"][..],
        &["mlc"],
        &["tensorrt-edge-llm"],
        &["vllm"],
    ] {
        let rows = fitted(runtimes);
        let outside: Vec<&str> = rows
            .iter()
            .filter(|(_, measured, speeds)| {
                let rate = speeds.decode.tokens_per_second;
                !(rate.low <= *measured && *measured <= rate.high)
            })
            .map(|(row, ..)| row.id.as_str())
            .collect();
        assert!(
            outside.len() * 5 <= rows.len(),
            "{runtimes:?}: {outside:?} of {}",
            rows.len()
        );
    }
}

/// 50 requests are served in waves, of which the last is smaller; here all are as the others.
#[test]
fn the_range_holds_four_in_five_of_the_rates_over_whole_requests() {
    let rows = measurements().iter().filter(|row| row.grade != Grade::C);
    let planned = rows.filter_map(|row| Some((row, row.output_tps?, planned(row)?.requests?)));
    let rows: Vec<_> = planned.collect();
    assert!(rows.len() > 25, "{}", rows.len());
    let outside: Vec<&str> = rows
        .iter()
        .filter(|(_, measured, requests)| {
            let rate = requests.output_rate;
            !(rate.low <= *measured && *measured <= rate.high)
        })
        .map(|(row, ..)| row.id.as_str())
        .collect();
    assert!(
        outside.len() * 5 <= rows.len(),
        "{outside:?} of {}",
        rows.len()
    );
}

/// Half of llama.cpp's trusted rates on the Orin Nano are met within 5 %, nine in ten within 15 %.
#[test]
fn llama_cpp_on_the_orin_nano_is_met() {
    let mut off: Vec<f64> = fitted(&["llama.cpp", "llama-bench"])
        .into_iter()
        .filter(|(row, ..)| row.board == "orin-nano-8gb" && row.grade == Grade::A)
        .map(|(_, measured, speeds)| {
            (speeds.decode.tokens_per_second.expected / measured - 1.0).abs()
        })
        .collect();
    off.sort_by(f64::total_cmp);
    assert!(off.len() >= 40, "{}", off.len());
    assert!(
        off[off.len() / 2] < 0.05 && off[off.len() * 9 / 10] < 0.15,
        "{off:?}"
    );
}

#[test]
fn the_ends_of_a_ladder_of_power_modes_are_ordered() {
    // The same model and build in 7W, 15W and 25W; MAXN_SUPER is within noise of 25W for small models.
    for model in ["qwen2.5-0.5b", "llama-3.2-1b", "gemma-3-1b", "qwen3-0.6b"] {
        let of = |mode: &str| {
            let row = measurements().iter().find(|row| {
                row.id.starts_with("smolhub") && row.model == model && row.power_mode == mode
            });
            planned(row.unwrap())
                .unwrap()
                .decode
                .tokens_per_second
                .expected
        };
        let rates = ["7W", "15W", "25W", "MAXN_SUPER"].map(of);
        assert!(rates.is_sorted(), "{model}: {rates:?}");
    }
}

#[test]
fn times_to_the_first_token_of_long_prompts_lie_within_the_range() {
    let rows = measurements()
        .iter()
        .filter(|row| row.id.starts_with("smolhub") && row.grade == Grade::A);
    let mut outside = Vec::new();
    for row in rows {
        let mut at_start = row.clone();
        at_start.depth = None;
        let first = planned(&at_start).unwrap().prefill.time_to_first_token;
        let measured = row.ttft_s.unwrap();
        if !(first.low <= measured && measured <= first.high) {
            outside.push(row.id.clone());
        }
    }
    assert!(outside.len() <= 3, "{outside:?}");
}
