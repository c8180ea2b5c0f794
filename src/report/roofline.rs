//! `orinplan roofline`: points under a board's roof (`orinplan.roofline/1`).

use serde_json::{Value, json};

use crate::device::{Choice, DeviceProfile, PowerMode};
use crate::plan::roofline::{Point, Roof};
use crate::report::fit::bound;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{planned_for, rounded};

/// The document's first key.
pub const SCHEMA: &str = "orinplan.roofline/1";

/// The whole document.
pub fn document(device: &DeviceProfile, mode: &PowerMode, roof: &Roof, points: &[Point]) -> Value {
    rounded(json!({
        "schema": SCHEMA,
        "device": {
            "id": device.id,
            "power_mode": mode.name,
            "memory_bandwidth_bytes_per_second": roof.bandwidth,
            "fp16_flops_per_second": roof.fp16,
            "int8_ops_per_second": roof.int8,
        },
        "ridge": {
            "fp16_flops_per_byte": roof.ridge_fp16(),
            "int8_ops_per_byte": roof.ridge_int8(),
        },
        "points": points.iter().map(|point| json!({
            "model": point.model,
            "scheme": point.scheme,
            "operational_intensity": point.operational_intensity,
            "ceiling_tokens_per_second": point.ceiling,
            "bound": bound(point.bound),
        })).collect::<Vec<_>>(),
    }))
}

/// The report for a terminal.
pub fn text(
    device: &DeviceProfile,
    mode: &PowerMode,
    choice: Choice,
    roof: &Roof,
    points: &[Point],
    columns: Option<usize>,
) -> String {
    let mut out = Screen::new(columns);
    out.prose(&planned_for(device, mode, device.release(), choice));
    out.prose(&format!(
        "{:.0} GB/s, {:.1} TFLOPS FP16, {:.1} TOPS INT8 (sparse)",
        roof.bandwidth / 1e9,
        roof.fp16 / 1e12,
        roof.int8 / 1e12,
    ));
    out.prose(&format!(
        "ridge: {:.0} FLOP/byte (FP16), {:.0} op/byte (INT8); below it memory is the limit",
        roof.ridge_fp16(),
        roof.ridge_int8(),
    ));
    out.blank();
    let mut table = Table::new([
        ("model", Align::Left),
        ("format", Align::Left),
        ("FLOP/byte", Align::Right),
        ("ceiling t/s", Align::Right),
        ("bound", Align::Left),
    ]);
    for point in points {
        table.row([
            point.model.clone(),
            point.scheme.clone(),
            format!("{:.2}", point.operational_intensity),
            format!("{:.2}", point.ceiling),
            bound(point.bound).to_owned(),
        ]);
    }
    out.table(&table, " ");
    out.blank();
    out.prose("A ceiling ignores efficiency: `orinplan fit` says what a runtime reaches.");
    out.finish()
}
