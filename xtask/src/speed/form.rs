//! What is fitted, runtime by runtime: each parameter with its start and how far it may stray from it.

use orinplan::runtime::profile::{FormatCost, Range, Speed};
use orinplan::sourced::Trust;

/// Runtimes that share kernels, fitted together.
pub(crate) struct Family {
    /// The first one's profile holds the shared numbers.
    pub(crate) members: &'static [&'static str],
    pub(crate) decode: &'static [Parameter],
    pub(crate) prefill: &'static [Parameter],
}

/// A positive number, fitted as its logarithm.
pub(crate) struct Parameter {
    /// Where it stands in a profile; behind an `@` the one member that it belongs to.
    pub(crate) path: &'static str,
    /// What one would guess.
    pub(crate) start: f64,
    /// Standard deviation of that guess, in units of e.
    pub(crate) doubt: f64,
}

const fn p(path: &'static str, start: f64, doubt: f64) -> Parameter {
    Parameter { path, start, doubt }
}

/// How far formats may differ from their common cost.
const FORMATS: f64 = 0.35;

pub(crate) const FAMILIES: &[Family] = &[
    Family {
        members: &["llama.cpp", "llama-bench", "ollama"],
        decode: &[
            p("bandwidth_efficiency", 0.8, 0.1),
            p("row_cycles", 100.0, 0.7),
            p("state_cycles", 0.0076, 0.5),
            p("attention.byte_cycles", 0.045, 0.5),
            p("attention.spill_tokens", 14000.0, 0.7),
            p("launch_seconds", 5e-5, 1.0),
            p("eager_launch_seconds", 1.5e-4, 1.0),
            p("batch_share", 0.3, 0.7),
            p("host_seconds@llama-bench", 3e-4, 1.0),
            p("host_seconds@llama.cpp", 1.2e-3, 0.7),
            p("host_seconds@ollama", 6e-3, 1.0),
            p("cost", 0.05, 1.0),
            p("cost.F16", 1.0, FORMATS),
            p("cost.Q8_0", 1.0, FORMATS),
            p("cost.Q6_K", 1.0, FORMATS),
            p("cost.Q5_K", 1.0, FORMATS),
            p("cost.Q5_0", 1.0, FORMATS),
            p("cost.Q4_K", 1.0, FORMATS),
            p("cost.Q4_0", 1.0, FORMATS),
            p("cost.IQ4_XS", 1.0, FORMATS),
            p("cost.Q3_K", 1.0, FORMATS),
            p("cost.Q2_K", 1.0, FORMATS),
            p("cost.MXFP4", 1.0, FORMATS),
            p("cost.Q2_0", 1.0, FORMATS),
            p("cost.Q1_0", 1.0, FORMATS),
        ],
        prefill: &[
            p("prefill.quantized_cycles", 0.0026, 0.5),
            p("prefill.float_cycles", 0.0019, 0.5),
            p("prefill.tile_cycles", 0.1, 0.7),
            p("prefill.scan_cycles", 2e4, 1.0),
            p("prefill.activation_bytes", 10.0, 0.5),
            p("attention.mac_cycles", 0.009, 0.5),
            p("attention.score_cycles", 2.5, 0.5),
            // As without CUDA graphs: a ubatch launches its kernels one by one.
            p("prefill.ubatch_layer_seconds", 1.5e-4, 1.0),
            p("prefill.request_seconds@llama.cpp", 0.02, 0.7),
        ],
    },
    Family {
        members: &["llama.cpp-cpu"],
        decode: &[
            p("bandwidth_efficiency", 0.25, 0.5),
            p("host_seconds", 3e-3, 0.7),
        ],
        prefill: &[p("prefill.quantized_cycles", 0.07, 0.7)],
    },
    Family {
        members: &["vllm"],
        decode: &[
            p("bandwidth_efficiency", 0.8, 0.1),
            p("cost.F16", 0.08, 0.7),
            p("cost.int4", 0.05, 0.7),
            p("state_cycles", 0.0133, 1.0),
            // As of MLC and TensorRT Edge-LLM, which launch graphs too.
            p("launch_seconds", 1e-4, 0.5),
            p("eager_launch_seconds", 5e-4, 1.0),
            p("host_seconds", 2e-3, 0.7),
            p("batch_share", 0.3, 0.7),
        ],
        prefill: &[
            p("prefill.float_cycles", 0.0011, 0.5),
            p("prefill.quantized_cycles", 0.0016, 0.5),
            p("prefill.scan_cycles", 2e4, 1.5),
            p("prefill.request_seconds", 0.03, 0.7),
        ],
    },
    Family {
        members: &["mlc"],
        decode: &[
            p("bandwidth_efficiency", 0.85, 0.1),
            p("cost.F16", 0.04, 0.5),
            p("cost.int4", 0.04, 0.7),
            p("launch_seconds", 1.5e-4, 0.7),
            p("host_seconds", 5e-4, 0.7),
        ],
        prefill: &[],
    },
    Family {
        members: &["tensorrt-edge-llm"],
        decode: &[
            p("bandwidth_efficiency", 0.85, 0.1),
            p("cost.F16", 0.05, 0.5),
            p("cost.int4", 0.015, 0.7),
            p("launch_seconds", 1e-4, 0.7),
            p("host_seconds", 9e-4, 0.7),
            p("batch_share", 0.3, 0.7),
        ],
        prefill: &[
            p("prefill.quantized_cycles", 0.0014, 0.5),
            p("prefill.scan_cycles", 2e4, 1.0),
            p("prefill.ubatch_layer_seconds", 5e-4, 1.0),
            p("prefill.request_seconds", 0.01, 0.7),
        ],
    },
];

/// `parameters` in place of what the speed of `runtime` has.
pub(crate) fn apply(
    speed: &Speed,
    runtime: &str,
    parameters: &[Parameter],
    values: &[f64],
) -> Speed {
    let mut speed = speed.clone();
    for (parameter, value) in parameters.iter().zip(values) {
        let (path, of) = parameter
            .path
            .split_once('@')
            .unwrap_or((parameter.path, runtime));
        if of == runtime {
            set(&mut speed, path, value.exp());
        }
    }
    // Formats stand in units of their common cost.
    if parameters.iter().any(|parameter| parameter.path == "cost") {
        let common = common_cost(parameters, values);
        for (name, cost) in &mut speed.cost {
            let path = format!("cost.{name}");
            let own = parameters
                .iter()
                .zip(values)
                .find(|(parameter, _)| parameter.path == path);
            cost.cycles = common * own.map_or(1.0, |(_, ratio)| ratio.exp());
        }
        relatives(&mut speed);
    }
    speed
}

fn common_cost(parameters: &[Parameter], values: &[f64]) -> f64 {
    let found = parameters
        .iter()
        .zip(values)
        .find(|(parameter, _)| parameter.path == "cost");
    found.map_or(1.0, |(_, value)| value.exp())
}

/// 16-bit formats cost alike, 32 bits twice that.
fn relatives(speed: &mut Speed) {
    let Some(half) = speed.cost.get("F16").map(|cost| cost.cycles) else {
        return;
    };
    for (name, times) in [("BF16", 1.0), ("F32", 2.0)] {
        if let Some(FormatCost { cycles, .. }) = speed.cost.get_mut(name) {
            *cycles = half * times;
        }
    }
}

/// No read reaches more than this share of the bandwidth.
const MOST_BANDWIDTH: f64 = 0.97;

/// `value` where it is below [`MOST_BANDWIDTH`], which it approaches smoothly: at a corner the search for the best point
/// would stop, since to first order each way off it is worse.
fn capped(value: f64) -> f64 {
    const SHARPNESS: f64 = 32.0;
    value / (1.0 + (value / MOST_BANDWIDTH).powf(SHARPNESS)).powf(1.0 / SHARPNESS)
}

fn set(speed: &mut Speed, path: &str, value: f64) {
    // A range that people gave keeps its ends; a fitted number has none, its error is in the spread.
    let within = |range: &mut Range, value: f64| {
        if range.low == range.high {
            (range.low, range.high) = (value, value);
        }
        range.expected = value;
        (range.low, range.high) = (range.low.min(value), range.high.max(value));
    };
    match path {
        "cost" => {}
        "bandwidth_efficiency" => within(&mut speed.bandwidth_efficiency, capped(value)),
        "launch_seconds" => within(&mut speed.launch_seconds, value),
        "eager_launch_seconds" => {
            if let Some(eager) = &mut speed.eager_launch_seconds {
                eager.value = value;
            }
        }
        "host_seconds" => within(&mut speed.host_seconds, value),
        "row_cycles" => speed.row_cycles.value = value,
        "state_cycles" => speed.state_cycles.value = value,
        "batch_share" => speed.batch_share.value = value,
        "prefill.quantized_cycles" => speed.prefill.quantized_cycles.value = value,
        "prefill.float_cycles" => speed.prefill.float_cycles.value = value,
        "prefill.scan_cycles" => speed.prefill.scan_cycles.value = value,
        "prefill.tile_cycles" => speed.prefill.tile_cycles.value = value,
        "prefill.activation_bytes" => speed.prefill.activation_bytes.value = value,
        "attention.byte_cycles" => speed.attention.byte_cycles.value = value,
        "attention.spill_tokens" => speed.attention.spill_tokens.value = value,
        "attention.mac_cycles" => speed.attention.mac_cycles.value = value,
        "attention.score_cycles" => speed.attention.score_cycles.value = value,
        "prefill.ubatch_layer_seconds" => speed.prefill.ubatch_layer_seconds.value = value,
        "prefill.request_seconds" => within(&mut speed.prefill.request_seconds, value),
        cost => {
            let format = cost.strip_prefix("cost.").unwrap_or(cost);
            if let Some(entry) = speed.cost.get_mut(format) {
                (entry.cycles, entry.trust) = (value, Trust::Fitted);
            }
            if format == "F16" {
                relatives(speed);
            }
        }
    }
}
