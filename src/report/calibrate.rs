//! `orinplan calibrate`, and the same in `devices show host`: every measured number of this machine.

use std::path::Path;

use serde_json::{Value, json};

use super::table::{Align, Table};
use super::{line, rounded};
use crate::device::Cpu;
use crate::report::screen::Screen;
use crate::units::counted;
#[cfg(feature = "decode")]
use crate::validate::not_timed;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.calibrate/1";

/// The whole document.
pub fn document(cpu: &Cpu) -> Value {
    let mut document = json!({ "schema": SCHEMA });
    let mut numbers = serde_json::to_value(cpu).unwrap_or_default();
    if let (Some(document), Some(numbers)) = (document.as_object_mut(), numbers.as_object_mut()) {
        numbers.remove("schema");
        document.append(numbers);
    }
    rounded(document)
}

/// The report for a terminal, with the file that keeps the numbers.
pub fn text(cpu: &Cpu, path: &Path, columns: Option<usize>) -> String {
    let mut out = figures(cpu, columns);
    line(
        &mut out,
        format_args!(
            "\nkept in {}; plans with --device host use it",
            path.display()
        ),
    );
    out
}

/// A standard deviation of a logarithm, in percent.
fn percent(deviation: f64) -> String {
    format!("{:.0} %", deviation.exp_m1() * 100.0)
}

/// The numbers, and what they were measured with.
pub fn figures(cpu: &Cpu, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.prose(&format!(
        "Measured on {} by orinplan {} ({}) with {} in {:.0} s, on {}",
        cpu.date,
        cpu.version,
        cpu.runtime,
        counted(cpu.threads, "thread", "threads"),
        cpu.seconds,
        cpu.processor
    ));
    let mut table = Table::new([
        ("format", Align::Left),
        ("decode, GB/s", Align::Right),
        ("+-", Align::Right),
        ("prefill, G multiply-adds/s", Align::Right),
        ("+-", Align::Right),
    ]);
    for (name, rate) in &cpu.formats {
        table.row([
            name.clone(),
            format!("{:.1}", rate.decode_bytes_per_second / 1e9),
            percent(rate.decode_uncertainty),
            format!("{:.1}", rate.prefill_macs_per_second / 1e9),
            percent(rate.prefill_uncertainty),
        ]);
    }
    out.table(&table, "  ");
    let sure = &cpu.uncertainty;
    let facts = [
        format!(
            "memory, all threads: {:.1} GB/s",
            cpu.bandwidth_bytes_per_second / 1e9
        ),
        format!(
            "cached keys and values: {:.1} GB/s +- {}",
            cpu.cache_bytes_per_second / 1e9,
            percent(sure.cache)
        ),
        format!(
            "attention of a prompt: {:.1} G multiply-adds/s +- {}",
            cpu.attention_macs_per_second / 1e9,
            percent(sure.attention)
        ),
        format!(
            "a layer: {:.1} us +- {}",
            cpu.layer_seconds * 1e6,
            percent(sure.layer)
        ),
        format!(
            "an output row: {:.2} ns +- {}",
            cpu.row_seconds * 1e9,
            percent(sure.row)
        ),
        format!(
            "an activation of a product: {:.2} ns +- {}",
            cpu.column_seconds * 1e9,
            percent(sure.column)
        ),
        format!(
            "a token: {:.1} us +- {}",
            cpu.token_seconds * 1e6,
            percent(sure.token)
        ),
        format!(
            "an output row of a prompt's token: {:.2} ns +- {}",
            cpu.prompt_row_seconds * 1e9,
            percent(sure.prompt_row)
        ),
        format!(
            "load noise, a short run against the mean: {} in decode, {} in prefill",
            percent(sure.decode_load_noise),
            percent(sure.prefill_load_noise)
        ),
    ];
    for fact in facts {
        out.line(format_args!("  {fact}"));
    }
    caveats(&mut out, cpu);
    out.finish()
}

/// A cost with this uncertainty, a factor of two, is not measured but expected of such a machine.
const EXPECTED: f64 = std::f64::consts::LN_2;

/// What there was no time to measure.
fn caveats(out: &mut Screen, cpu: &Cpu) {
    let longer = format!(
        "`orinplan calibrate --seconds {:.0}` measures longer",
        cpu.seconds.clamp(1.0, 3600.0)
    );
    let missing = not_timed(cpu);
    if !missing.is_empty() {
        out.prose(&format!(
            "not timed, so plans have no rate for them: {}; {longer}",
            missing.join(", ")
        ));
    }
    let sure = &cpu.uncertainty;
    let shared = [
        sure.layer,
        sure.row,
        sure.column,
        sure.token,
        sure.prompt_row,
        sure.cache,
        sure.attention,
    ];
    let rates = cpu.formats.values();
    let rates = rates.flat_map(|rate| [rate.decode_uncertainty, rate.prefill_uncertainty]);
    if rates.chain(shared).any(|deviation| deviation > EXPECTED) {
        out.prose(&format!(
                "numbers with +- {} or more are estimates: there was too little time to measure them, so predicted ranges are wide; {longer}",
                percent(EXPECTED)
            ));
    }
}

/// Which formats the decoder would have timed is not known without it.
#[cfg(not(feature = "decode"))]
fn not_timed(_: &Cpu) -> Vec<&'static str> {
    Vec::new()
}
