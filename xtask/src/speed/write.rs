//! Writes fitted numbers into a profile's text, in their places: what people wrote around them stays.

use std::fmt::Write;

use anyhow::{Context, bail};
use orinplan::runtime::profile::{Range, Speed};

use super::fit::quantile;

/// `text` with the numbers of `speed` wherever the file has them as its own.
pub(crate) fn speed(text: &str, speed: &Speed) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    let (prefill, values) = (&speed.prefill, |range: &Range| {
        [
            ("low", range.low),
            ("expected", range.expected),
            ("high", range.high),
        ]
    });
    for (section, key, range) in [
        ("speed", "bandwidth_efficiency", &speed.bandwidth_efficiency),
        ("speed", "spread", &speed.spread),
        ("speed", "launch_seconds", &speed.launch_seconds),
        ("speed", "host_seconds", &speed.host_seconds),
        ("speed.prefill", "scale", &prefill.scale),
        ("speed.prefill", "request_seconds", &prefill.request_seconds),
    ] {
        for (field, value) in values(range) {
            set(&mut text, section, key, field, value)?;
        }
    }
    for (section, key, value) in [
        ("speed", "row_cycles", speed.row_cycles.value),
        ("speed", "state_cycles", speed.state_cycles.value),
        ("speed", "batch_share", speed.batch_share.value),
        (
            "speed.prefill",
            "quantized_cycles",
            prefill.quantized_cycles.value,
        ),
        ("speed.prefill", "float_cycles", prefill.float_cycles.value),
        (
            "speed.prefill",
            "activation_bytes",
            prefill.activation_bytes.value,
        ),
        ("speed.prefill", "tile_cycles", prefill.tile_cycles.value),
        ("speed.prefill", "scan_cycles", prefill.scan_cycles.value),
        (
            "speed.attention",
            "byte_cycles",
            speed.attention.byte_cycles.value,
        ),
        (
            "speed.attention",
            "spill_tokens",
            speed.attention.spill_tokens.value,
        ),
        (
            "speed.attention",
            "mac_cycles",
            speed.attention.mac_cycles.value,
        ),
        (
            "speed.attention",
            "score_cycles",
            speed.attention.score_cycles.value,
        ),
        (
            "speed.prefill",
            "ubatch_layer_seconds",
            prefill.ubatch_layer_seconds.value,
        ),
    ] {
        set(&mut text, section, key, "value", value)?;
    }
    if let Some(eager) = &speed.eager_launch_seconds {
        set(
            &mut text,
            "speed",
            "eager_launch_seconds",
            "value",
            eager.value,
        )?;
    }
    if let Some(conditions) = &speed.conditions {
        for (key, slower) in [
            ("governed", &conditions.governed),
            ("old_system", &conditions.old_system),
        ] {
            for (field, factor) in [("decode", slower.decode), ("prefill", slower.prefill)] {
                set(&mut text, "speed.conditions", key, field, factor)?;
            }
        }
    }
    for (format, range) in &speed.format_spread {
        for (field, value) in values(range) {
            set(&mut text, "speed.format_spread", format, field, value)?;
        }
    }
    for (format, cost) in &speed.cost {
        set(&mut text, "speed.cost", format, "cycles", cost.cycles)?;
    }
    Ok(text)
}

/// Four significant digits.
pub(crate) fn short(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Sets `field` of `key` in `[section]`, where the file has that key.
pub(crate) fn set(
    text: &mut String,
    section: &str,
    key: &str,
    field: &str,
    value: f64,
) -> anyhow::Result<()> {
    let head = format!("[{section}]");
    let (mut inside, mut at) = (false, 0);
    for line in text.clone().split_inclusive('\n') {
        if line.starts_with('[') {
            inside = line.trim_end() == head;
        }
        if inside && line.starts_with(&format!("{key} = {{")) {
            let mark = format!("{field} = ");
            let from = line
                .find(&mark)
                .with_context(|| format!("{section}.{key} has no `{field}`"))?
                + mark.len();
            let rest = line.get(from..).unwrap_or_default();
            let Some(length) = rest.find([',', ' ']) else {
                bail!("{section}.{key}.{field} has no end");
            };
            text.replace_range(at + from..at + from + length, &number(value));
            return Ok(());
        }
        at += line.len();
    }
    Ok(())
}

/// A TOML float.
fn number(value: f64) -> String {
    let text = short(value).to_string();
    if text.contains(['.', 'e']) {
        text
    } else {
        format!("{text}.0")
    }
}

/// Rows of one kind: id, logarithm of predicted over measured with its model left out, and whether its range holds that.
pub(crate) type Rows = Vec<(String, f64, bool)>;

/// The record of the fit in place of the one that stands at the file's end.
pub(crate) fn record(text: &str, data: &str, kinds: [(&str, Rows); 3]) -> String {
    let body = text.split("\n[fit]\n").next().unwrap_or(text);
    let mut out = format!("{}\n\n[fit]\ndata = \"{data}\"\n", body.trim_end());
    for (kind, rows) in kinds {
        if rows.is_empty() {
            continue;
        }
        let sizes: Vec<f64> = rows
            .iter()
            .map(|(_, error, _)| percent(*error).abs())
            .collect();
        let inside = rows.iter().filter(|(_, _, inside)| *inside);
        let covered = 100.0 * inside.count() as f64 / rows.len() as f64;
        let _ = write!(
            out,
            "\n[fit.{kind}]\nmedian_percent = {:.1}\np90_percent = {:.1}\ncovered_percent = {covered:.0}.0\n\n[fit.{kind}.left_out]\n",
            quantile(&sizes, 0.5),
            quantile(&sizes, 0.9),
        );
        for (id, error, _) in &rows {
            let _ = writeln!(out, "{id} = {:.1}", percent(*error));
        }
    }
    out
}

/// Predicted over measured, less one, in per cent.
pub(crate) fn percent(error: f64) -> f64 {
    (error.exp() - 1.0) * 100.0
}
