//! Memory over context and rates over depth: the figures of a document's curves.

use serde_json::Value;

use super::figures::{GIB, plain};
use super::value::{escaped, list, number, numbers, text};
use crate::report::svg::{Axis, Figure, Mark, Plot, Rule, Scale, Series};
use crate::units::Bytes;

/// What the curves of a document show.
pub(super) struct Curve<'a> {
    document: &'a Value,
    contexts: Vec<f64>,
    /// The plan that stands out.
    shown: usize,
    /// The power mode that stands out.
    pub(super) mode: &'a str,
}

impl<'a> Curve<'a> {
    /// The curves of `document`, in which the plan `shown` stands out.
    pub(super) fn of(document: &'a Value, shown: Option<usize>) -> Option<Curve<'a>> {
        let contexts = numbers(document, "/curves/context_tokens");
        (contexts.len() > 1).then_some(Curve {
            document,
            contexts,
            shown: shown?,
            mode: text(document, "/device/power_mode"),
        })
    }

    /// Memory over context, with the largest context that fits.
    pub(super) fn memory(&self) -> Option<Figure> {
        let plan = format!("/plans/{}", self.shown);
        let available = number(self.document, &format!("{plan}/memory/available_bytes"))? / GIB;
        let curve = |index: usize| {
            let bytes = numbers(self.document, &format!("/curves/plans/{index}/total_bytes"));
            let points = self.contexts.iter().zip(bytes);
            points
                .map(|(context, bytes)| [*context, bytes / GIB])
                .collect::<Vec<_>>()
        };
        let plans = list(self.document, "/plans");
        let all: Vec<Vec<[f64; 2]>> = (0..plans.len()).map(curve).collect();
        let most = all.iter().flatten().map(|[_, y]| *y).fold(0.0, f64::max);
        // Beyond what the board has, half of it again is enough to see how steep a line is.
        let top = (available * 1.08).max(most.min(available * 1.5));
        let (scale, ticks) = Scale::up_to(top, 5);
        // The one that stands out is named first, then the largest and the smallest.
        let mut order: Vec<usize> = (0..plans.len())
            .filter(|index| *index != self.shown)
            .collect();
        order.sort_by_key(|index| (*index != 0 && *index + 1 != plans.len(), *index));
        order.insert(0, self.shown);
        let series = order.iter().filter_map(|&index| {
            let points = below(all.get(index)?, top);
            (points.len() > 1).then(|| Series {
                label: text(self.document, &format!("/plans/{index}/scheme")).to_uppercase(),
                points,
                band: Vec::new(),
                class: if index == self.shown {
                    "chosen"
                } else {
                    "other"
                },
            })
        });
        let series: Vec<Series> = series.collect();
        let largest = number(self.document, &format!("{plan}/max_context"))?;
        let at = self.contexts.iter().position(|context| *context == largest);
        let scheme = text(self.document, &format!("{plan}/scheme")).to_uppercase();
        let marks = at
            .and_then(|at| all.get(self.shown)?.get(at))
            .map(|at| Mark {
                at: *at,
                label: format!("{largest} tokens"),
                detail: format!(
                    "{scheme}: at most {largest} tokens, {}",
                    Bytes((at[1] * GIB) as u64)
                ),
                class: "chosen",
            });
        let x = self.contexts_axis(f64::INFINITY)?;
        let ends = [*self.contexts.first()?, *self.contexts.last()?];
        Some(Figure::Plot(Plot {
            title: "Memory over context".to_owned(),
            description: if largest > 0.0 {
                format!(
                    "Memory of each format by the context it has room for. {scheme} goes up to {largest} tokens on this board."
                )
            } else if (0..plans.len()).all(|index| !self.fits(index)) {
                "Memory of each format by the context it has room for. No format fits with any context on this board.".to_owned()
            } else {
                format!(
                    "Memory of each format by the context it has room for. No context of {scheme} fits on this board."
                )
            },
            x,
            y: Axis {
                label: "memory, GiB".to_owned(),
                scale,
                ticks: plain(&ticks),
            },
            series,
            rules: vec![Rule {
                label: format!("{} available", Bytes((available * GIB) as u64)),
                from: [ends[0], available],
                to: [ends[1], available],
                class: "limit",
            }],
            marks: marks.into_iter().collect(),
            cursor: true,
        }))
    }

    /// Whether a plan fits with any context.
    fn fits(&self, index: usize) -> bool {
        let largest = number(self.document, &format!("/plans/{index}/max_context"));
        largest.is_some_and(|largest| largest > 0.0)
    }

    /// Tokens a second over depth, in each power mode.
    pub(super) fn speed(&self) -> Option<Figure> {
        let plan = format!("/plans/{}", self.shown);
        let largest =
            number(self.document, &format!("{plan}/max_context")).filter(|most| *most > 0.0);
        let largest = largest.unwrap_or(f64::INFINITY);
        let x = self.contexts_axis(largest)?;
        let kept = self
            .contexts
            .iter()
            .filter(|context| **context <= largest)
            .count();
        let rates = |mode: &str, end: &str| {
            let path = format!("/curves/plans/{}/decode_tokens_per_second", self.shown);
            numbers(self.document, &format!("{path}/{}/{end}", escaped(mode)))
        };
        let modes = list(self.document, "/curves/power_modes").iter();
        let modes: Vec<&str> = modes.filter_map(Value::as_str).collect();
        let mut series = Vec::new();
        let mut most: f64 = 0.0;
        for name in modes
            .iter()
            .filter(|name| **name == self.mode)
            .chain(modes.iter().filter(|name| **name != self.mode).rev())
        {
            let is_shown = *name == self.mode;
            let (low, expected, high) = (
                rates(name, "low"),
                rates(name, "expected"),
                rates(name, "high"),
            );
            let points = self.contexts.iter().zip(&expected).take(kept);
            let points: Vec<[f64; 2]> = points.map(|(x, y)| [*x, *y]).collect();
            let band = self.contexts.iter().zip(low.iter().zip(&high)).take(kept);
            let band: Vec<[f64; 3]> = band.map(|(x, (low, high))| [*x, *low, *high]).collect();
            most = points.iter().map(|[_, y]| *y).fold(most, f64::max);
            if is_shown {
                most = band.iter().map(|[_, _, high]| *high).fold(most, f64::max);
            }
            series.push(Series {
                label: (*name).to_owned(),
                points,
                band: if is_shown { band } else { Vec::new() },
                class: if is_shown { "chosen" } else { "other" },
            });
        }
        if series.iter().all(|series| series.points.len() < 2) {
            return None;
        }
        let (scale, ticks) = Scale::up_to(most * 1.05, 5);
        let scheme = text(self.document, &format!("{plan}/scheme")).to_uppercase();
        Some(Figure::Plot(Plot {
            title: "Speed over depth".to_owned(),
            description: format!(
                "Tokens a second that {scheme} is expected to decode, by the tokens before it, in each power mode; the band is the range in {}.",
                self.mode
            ),
            x,
            y: Axis {
                label: "tokens/s".to_owned(),
                scale,
                ticks: plain(&ticks),
            },
            series,
            rules: Vec::new(),
            marks: Vec::new(),
            cursor: true,
        }))
    }

    /// The axis of contexts up to `most`, marked at powers of two.
    fn contexts_axis(&self, most: f64) -> Option<Axis> {
        let (low, high) = (*self.contexts.first()?, self.contexts.last()?.min(most));
        let ticks = (0..40).map(|n| 2f64.powi(n));
        let ticks = ticks.filter(|tick| (low..=high).contains(tick));
        let named = |tick: f64| {
            if tick >= 1024.0 {
                format!("{}k", tick / 1024.0)
            } else {
                format!("{tick}")
            }
        };
        (high > low).then(|| Axis {
            label: "tokens of context".to_owned(),
            scale: Scale::Log(low, high),
            ticks: ticks.map(|tick| (tick, named(tick))).collect(),
        })
    }
}

/// The points of a rising line up to the height `top`, cut where it passes that.
fn below(points: &[[f64; 2]], top: f64) -> Vec<[f64; 2]> {
    let kept = points.iter().take_while(|[_, y]| *y <= top).count();
    let mut line = points.get(..kept).unwrap_or_default().to_vec();
    if let (Some([x0, y0]), Some([x1, y1])) = (line.last().copied(), points.get(kept)) {
        let share = (top - y0) / (y1 - y0).max(f64::MIN_POSITIVE);
        // Between two contexts the axis has ratios.
        line.push([x0 * (x1 / x0).powf(share), top]);
    }
    line
}
