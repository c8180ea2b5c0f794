//! The figures of a plan's document.

use serde_json::Value;

use super::value::{list, number, text};
use crate::report::svg::{Axis, Bar, Bars, Figure, Mark, Plot, Rule, Scale, Segment};
use crate::report::{count, rate};
use crate::units::Bytes;

/// The parts of a plan's memory: the class in the style, the name, the keys of the ledger.
const PARTS: &[(&str, &str, &[&str])] = &[
    ("weights", "weights", &["weights_bytes"]),
    (
        "copy",
        "embedding, second copy",
        &["duplicated_embedding_bytes"],
    ),
    ("cache", "KV cache", &["kv_cache_bytes"]),
    ("state", "recurrent state", &["recurrent_state_bytes"]),
    (
        "compute",
        "compute buffers",
        &["compute_bytes", "image_encoder_bytes", "output_bytes"],
    ),
    ("runtime", "runtime", &["runtime_bytes"]),
];

pub(super) const GIB: f64 = Bytes::GIB.0 as f64;

/// The memory of each plan by its parts, against what the board has.
pub(super) fn memory(document: &Value, taken: Option<usize>) -> Option<Figure> {
    let plans = list(document, "/plans");
    let available = number(document, "/plans/0/memory/available_bytes")?;
    let description = format!(
        "Memory of each format with {} tokens of context, against the {} available on the board.",
        number(document, "/workload/context").unwrap_or_default(),
        Bytes(available as u64),
    );
    let rows = plans.iter().enumerate().map(|(index, plan)| {
        let scheme = text(plan, "/scheme").to_uppercase();
        let each = PARTS.iter().filter_map(|(_, name, keys)| {
            let bytes = part(plan, keys);
            (bytes > 0.0).then(|| format!("{name} {}", Bytes(bytes as u64)))
        });
        let each = each.collect::<Vec<_>>().join("\n");
        Bar {
            detail: format!("{scheme}: {}\n{each}", total(plan)),
            marked: taken == Some(index),
            ..row(scheme, plan)
        }
    });
    let rows = rows.collect();
    Some(stacked(
        "Memory by format",
        description,
        plans,
        rows,
        available,
    ))
}

/// The memory of each model of a board by its parts.
pub(super) fn memory_of_each(document: &Value) -> Option<Figure> {
    let models = list(document, "/models");
    let available = number(document, "/available_bytes")?;
    let description = format!(
        "Memory of each model, against the {} available on the board for all.",
        Bytes(available as u64)
    );
    let rows = models.iter().map(|model| {
        let name = text(model, "/name");
        Bar {
            detail: format!("{name}: {}", total(model)),
            ..row(short(name), model)
        }
    });
    let rows = rows.collect();
    Some(stacked(
        "Memory of each",
        description,
        models,
        rows,
        available,
    ))
}

/// The memory of each board of plan `shown` by its parts, against what it has; boards that have different amounts say so.
pub(super) fn memory_of_boards(document: &Value, shown: usize) -> Option<Figure> {
    let boards = list(document, &format!("/plans/{shown}/boards"));
    let room = |board: &Value| number(board, "/available_bytes");
    let available: Vec<f64> = boards.iter().filter_map(room).collect();
    let most = available.iter().copied().reduce(f64::max)?;
    let is_same = available.iter().all(|&room| room == most);
    let rows = boards.iter().zip(&available).enumerate();
    let rows = rows.map(|(index, (board, room))| {
        let name = format!("board {}", index + 1);
        Bar {
            detail: format!("{name}: {} of {}", total(board), Bytes(*room as u64)),
            ..row(name, board)
        }
    });
    let rows = rows.collect();
    let what = match is_same {
        true => format!("the {} available on each", Bytes(most as u64)),
        false => format!("the {} available on the largest", Bytes(most as u64)),
    };
    let description = format!("Memory of each board, against {what}.");
    Some(stacked(
        "Memory of each board",
        description,
        boards,
        rows,
        most,
    ))
}

/// Bytes of the parts of an item's ledger under `keys`.
fn part(item: &Value, keys: &[&str]) -> f64 {
    let bytes = keys.iter().filter_map(|key| item["memory"][*key].as_f64());
    bytes.sum()
}

/// All bytes of an item's ledger.
fn total(item: &Value) -> Bytes {
    Bytes(item["memory"]["total_bytes"].as_u64().unwrap_or_default())
}

/// The bar of an item's ledger.
fn row(label: String, item: &Value) -> Bar {
    let parts = PARTS.iter().map(|(class, _, keys)| Segment {
        class,
        value: part(item, keys) / GIB,
    });
    Bar {
        label,
        parts: parts.collect(),
        value: total(item).to_string(),
        ..Bar::default()
    }
}

/// The ledgers of `items`, a row each, against what the board has.
fn stacked(
    title: &str,
    description: String,
    items: &[Value],
    rows: Vec<Bar>,
    available: f64,
) -> Figure {
    let totals = items.iter().map(|item| total(item).as_f64());
    let most = totals.fold(available, f64::max) / GIB;
    let (scale, ticks) = Scale::up_to(most * 1.02, 6);
    let used = PARTS
        .iter()
        .filter(|(_, _, keys)| items.iter().any(|item| part(item, keys) > 0.0));
    Figure::Bars(Bars {
        title: title.to_owned(),
        description,
        axis: Axis {
            label: "memory, GiB".to_owned(),
            scale,
            ticks: plain(&ticks),
        },
        rows,
        limit: Some((
            available / GIB,
            format!("{} available", Bytes(available as u64)),
        )),
        parts: used
            .map(|(class, name, _)| (*class, (*name).to_owned()))
            .collect(),
    })
}

/// The operations of a token under the roof of the board.
pub(super) fn roofline(document: &Value, shown: Option<usize>) -> Option<Figure> {
    let roof = document
        .pointer("/curves/roofline")
        .filter(|roof| !roof.is_null())?;
    let of = |key: &str| number(roof, &format!("/{key}"));
    let (bandwidth, fp16, int8) = (
        of("memory_bandwidth_bytes_per_second")?,
        of("fp16_flops_per_second")?,
        of("int8_ops_per_second")?,
    );
    let (ridge16, ridge8) = (
        of("ridge_fp16_flops_per_byte")?,
        of("ridge_int8_ops_per_byte")?,
    );
    let operations = list(roof, "/operations").iter().filter_map(|operation| {
        let number = |key: &str| operation[key].as_f64().filter(|value| *value > 0.0);
        let [x, y, seconds] = [
            number("operational_intensity")?,
            number("flops_per_second")?,
            number("seconds")?,
        ];
        Some((operation, [x, y], seconds))
    });
    let operations: Vec<(&Value, [f64; 2], f64)> = operations.collect();
    let least = |of: fn(&[f64; 2]) -> f64| {
        operations
            .iter()
            .map(|(_, at, _)| of(at))
            .fold(f64::INFINITY, f64::min)
    };
    if operations.is_empty() {
        return None;
    }
    let (x, x_ticks) = Scale::decades(least(|at| at[0]), ridge8 * 1.5);
    let (y, y_ticks) = Scale::decades(least(|at| at[1]), int8 * 1.01);
    let (Scale::Log(x0, x1), Scale::Log(y0, _)) = (x, y) else {
        return None;
    };
    let times = operations.iter().map(|(.., seconds)| seconds).sum::<f64>();
    let marks = operations
        .iter()
        .enumerate()
        .map(|(index, (operation, at, seconds))| {
            let name = format!(
                "{} {}",
                text(operation, "/name"),
                text(operation, "/dtype").to_uppercase()
            );
            Mark {
                at: *at,
                detail: format!(
                    "{name}: {:.2} FLOP/byte, {} GFLOP/s, {:.0} % of the operations' time",
                    at[0],
                    rate(at[1] / 1e9),
                    seconds / times * 100.0
                ),
                label: name,
                class: if index == 0 { "chosen" } else { "other" },
            }
        });
    // The slope begins where it enters the figure.
    let enters = x0.max(y0 / bandwidth);
    let rule = |class, label: String, from, to| Rule {
        label,
        from,
        to,
        class,
    };
    let scheme =
        shown.map(|index| text(document, &format!("/plans/{index}/scheme")).to_uppercase());
    Some(Figure::Plot(Plot {
        title: "Roofline".to_owned(),
        description: format!(
            "Each kind of operation of a {} token: how much it computes for a byte it reads, and how fast it is expected to compute. Left of a ridge, memory is the limit; the distance to the roof is what the kernels lose.",
            scheme.unwrap_or_default()
        ),
        x: Axis {
            label: "FLOP/byte".to_owned(),
            scale: x,
            ticks: plain(&x_ticks),
        },
        y: Axis {
            label: "FLOP/s".to_owned(),
            scale: y,
            ticks: y_ticks
                .iter()
                .map(|tick| (*tick, prefixed(*tick)))
                .collect(),
        },
        series: Vec::new(),
        rules: vec![
            rule(
                "ridge",
                format!("ridge {ridge16:.0}"),
                [ridge16, fp16],
                [ridge16, y0],
            ),
            rule(
                "ridge",
                format!("{ridge8:.0}"),
                [ridge8, int8],
                [ridge8, y0],
            ),
            rule(
                "roof",
                format!("{:.0} GB/s", bandwidth / 1e9),
                [enters, bandwidth * enters],
                [ridge16, fp16],
            ),
            rule("roof", String::new(), [ridge16, fp16], [ridge8, int8]),
            rule(
                "roof",
                format!("FP16 {:.1}T", fp16 / 1e12),
                [ridge16, fp16],
                [x1, fp16],
            ),
            rule(
                "roof",
                format!("INT8 {:.1}T", int8 / 1e12),
                [ridge8, int8],
                [x1, int8],
            ),
        ],
        marks: marks.collect(),
        cursor: false,
    }))
}

/// When each file has loaded, if they load one after the other.
pub(super) fn loads(document: &Value) -> Option<Figure> {
    let models = list(document, "/models");
    let mut begin = 0.0;
    let mut rows = Vec::new();
    for model in models {
        let seconds = model["load_seconds"].as_f64()?;
        let name = text(model, "/name");
        rows.push(Bar {
            label: short(name),
            parts: vec![
                Segment {
                    class: "gap",
                    value: begin,
                },
                Segment {
                    class: "weights",
                    value: seconds,
                },
            ],
            value: crate::report::seconds(seconds),
            detail: format!(
                "{name}: from {} on for {}",
                crate::report::seconds(begin),
                crate::report::seconds(seconds)
            ),
            ..Bar::default()
        });
        begin += seconds;
    }
    let (scale, ticks) = Scale::up_to(begin * 1.02, 6);
    Some(Figure::Bars(Bars {
        title: "Loading".to_owned(),
        description: format!(
            "The files one after the other from {}; all have loaded after {}.",
            text(document, "/storage/name"),
            crate::report::seconds(begin)
        ),
        axis: Axis {
            label: "seconds".to_owned(),
            scale,
            ticks: plain(&ticks),
        },
        rows,
        limit: None,
        parts: Vec::new(),
    }))
}

/// The decode rate of the first `shown` models of a ranking.
pub(super) fn ranking(document: &Value, shown: usize) -> Option<Figure> {
    let models = list(document, "/models").iter().take(shown);
    let rows = models.filter_map(|model| {
        let of = |end: &str| number(model, &format!("/decode_tokens_per_second/{end}"));
        let [low, expected, high] = [of("low")?, of("expected")?, of("high")?];
        let id = text(model, "/id");
        Some(Bar {
            label: short(id),
            parts: Segment::range(low, high),
            value: format!("{}\u{2013}{}", rate(low), rate(high)),
            detail: format!(
                "{id}: {} tokens/s expected, {} to {}",
                rate(expected),
                rate(low),
                rate(high)
            ),
            ..Bar::default()
        })
    });
    let rows: Vec<Bar> = rows.collect();
    let ends = rows
        .iter()
        .map(|row| row.parts.iter().map(|part| part.value).sum());
    let most = ends.fold(0.0, f64::max);
    let (scale, ticks) = Scale::up_to(most * 1.02, 6);
    (!rows.is_empty()).then(|| {
        Figure::Bars(Bars {
            title: "Speed".to_owned(),
            description: "The range of tokens a second that each model is expected to decode, best model first.".to_owned(),
            axis: Axis {
                label: "tokens/s".to_owned(),
                scale,
                ticks: plain(&ticks),
            },
            rows,
            limit: None,
            parts: Vec::new(),
        })
    })
}

/// The last part of a path or hub id, by which people know a model.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// Ticks as the shortest decimal numbers that they are.
pub(super) fn plain(ticks: &[f64]) -> Vec<(f64, String)> {
    let text = |tick: f64| format!("{}", format!("{tick:.5e}").parse().unwrap_or(tick));
    ticks.iter().map(|tick| (*tick, text(*tick))).collect()
}

/// `10 G`, from a power of ten.
fn prefixed(value: f64) -> String {
    match value {
        v if v >= 1e12 => format!("{:.0}T", v / 1e12),
        v if v >= 1e9 => format!("{:.0}G", v / 1e9),
        v if v >= 1e6 => format!("{:.0}M", v / 1e6),
        v => count(v as u64),
    }
}
