//! Stacked bars: a row for each thing, its parts one behind the other, and a line for what they are held against.

use super::canvas::{Anchor, CHARACTER, Canvas};
use super::scale::Axis;

/// Rows of stacked bars over one axis.
#[derive(Clone, Debug)]
pub struct Bars {
    /// The title.
    pub title: String,
    /// What it shows, in a sentence.
    pub description: String,
    /// The quantity.
    pub axis: Axis,
    /// The bars, top to bottom.
    pub rows: Vec<Bar>,
    /// The value that they are held against, with its text.
    pub limit: Option<(f64, String)>,
    /// What the parts are: a class of the style, and a name.
    pub parts: Vec<(&'static str, String)>,
}

/// One bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Its parts; the first may be a gap.
    pub parts: Vec<Segment>,
    /// A value that is held against the bar, with the class of its mark.
    pub point: Option<(f64, &'static str)>,
    /// What stands behind it.
    pub value: String,
    /// All that it says, for pointer and keyboard.
    pub detail: String,
    /// Whether it stands out.
    pub marked: bool,
}

/// A part of a bar, as long as its value.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its class in the style.
    pub class: &'static str,
    /// Its value.
    pub value: f64,
}

impl Segment {
    /// The parts of a bar that begins at `low` and ends at `high`.
    pub fn range(low: f64, high: f64) -> Vec<Segment> {
        let part = |class, value| Segment { class, value };
        vec![part("gap", low), part("range", high - low)]
    }
}

const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const LINE: f64 = 20.0;

impl Bars {
    pub(super) fn draw(&self, width: f64) -> Canvas {
        let longest = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0) as f64 * CHARACTER
        };
        let label = longest(&mut self.rows.iter().map(|row| row.label.as_str()));
        let left = (label + 12.0).min(width * 0.42);
        let right = longest(&mut self.rows.iter().map(|row| row.value.as_str())) + 12.0;
        let span = (width - left - right).max(40.0);
        let legend = self.legend(width);
        let top = legend.last().map_or(0.0, |(_, y, _)| y + 10.0)
            + if self.limit.is_some() { LINE } else { 4.0 };
        let bottom = top + self.rows.len() as f64 * ROW;
        let mut canvas = Canvas::new(width, bottom + 40.0);
        for (x, y, (class, name)) in legend {
            canvas.rectangle(&format!("part {class}"), [x, y - 9.0], [10.0, 10.0]);
            canvas.text("label", [x + 15.0, y], Anchor::Start, name);
        }
        let place = |value: f64| left + self.axis.scale.share(value) * span;
        let mut last = f64::NEG_INFINITY;
        for (value, text) in &self.axis.ticks {
            let x = place(*value);
            canvas.line("grid", [x, top], [x, bottom]);
            if x - last > text.chars().count() as f64 * CHARACTER + 8.0 {
                canvas.text("tick", [x, bottom + 15.0], Anchor::Middle, text);
                last = x;
            }
        }
        // Names of values cover the limit's line, which crosses bars.
        let mut values = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let y = top + index as f64 * ROW;
            let marked = if row.marked { " marked" } else { "" };
            canvas.text(
                &format!("label{marked}"),
                [left - 8.0, y + 17.5],
                Anchor::End,
                &shortened(&row.label, left - 12.0),
            );
            canvas.valued(&row.detail, true, |canvas| {
                canvas.rectangle("hit", [left, y], [span, ROW]);
                let mut from = 0.0;
                for part in row.parts.iter().filter(|part| part.value > 0.0) {
                    let (start, end) = (place(from), place(from + part.value));
                    from += part.value;
                    // A pixel between parts, unless that is all there is.
                    let length = (end - start - 1.0).max(0.6);
                    canvas.rectangle(
                        &format!("part {}", part.class),
                        [start, y + (ROW - BAR) / 2.0],
                        [length, BAR],
                    );
                }
                let mut end = place(from);
                if let Some((value, class)) = row.point {
                    let x = place(value);
                    canvas.circle(&format!("mark {class}"), [x, y + ROW / 2.0], 5.5);
                    end = end.max(x + 6.0);
                }
                values.push((format!("value{marked}"), [end + 6.0, y + 17.5], &row.value));
            });
        }
        if let Some((value, text)) = &self.limit {
            let x = place(*value);
            canvas.line("limit", [x, top - 6.0], [x, bottom]);
            let wide = text.chars().count() as f64 * CHARACTER;
            let (x, anchor) = if x + 4.0 + wide / 2.0 > width {
                (width.min(x + right), Anchor::End)
            } else {
                (x, Anchor::Middle)
            };
            canvas.text("limit-label", [x, top - 10.0], anchor, text);
        }
        for (class, at, value) in values {
            canvas.text(&class, at, Anchor::Start, value);
        }
        canvas.text(
            "axis-label",
            [left, bottom + 33.0],
            Anchor::Start,
            &self.axis.label,
        );
        canvas
    }

    /// Where each name of a part stands, in as many lines as they need.
    fn legend(&self, width: f64) -> Vec<(f64, f64, &(&'static str, String))> {
        let (mut x, mut y) = (0.0, 14.0);
        let mut places = Vec::new();
        for part in &self.parts {
            let wide = part.1.chars().count() as f64 * CHARACTER + 15.0 + 16.0;
            if x > 0.0 && x + wide - 16.0 > width {
                (x, y) = (0.0, y + LINE);
            }
            places.push((x, y, part));
            x += wide;
        }
        places
    }
}

/// `text`, cut where it is wider than `width`; the whole is in the row's detail.
fn shortened(text: &str, width: f64) -> String {
    let room = (width / CHARACTER).round() as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}
