//! Lines, bands and points over two axes, with their names beside them.

use super::canvas::{Anchor, CHARACTER, Canvas};
use super::scale::{Axis, Scale};

/// Lines and points over two axes.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The title.
    pub title: String,
    /// What it shows, in a sentence.
    pub description: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis; its label stands above it.
    pub y: Axis,
    /// Lines; where names would overlap, those of earlier ones are shown.
    pub series: Vec<Series>,
    /// Lines that others are held against.
    pub rules: Vec<Rule>,
    /// Points.
    pub marks: Vec<Mark>,
    /// Whether a value of the horizontal axis can be chosen on the page.
    pub cursor: bool,
}

/// A line with its range.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name, beside its end.
    pub label: String,
    /// Its points, in the order of x.
    pub points: Vec<[f64; 2]>,
    /// The ends of its range at each x, if it has one: `[x, low, high]`.
    pub band: Vec<[f64; 3]>,
    /// Its class in the style.
    pub class: &'static str,
}

/// A straight line between two points, named at one end.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it stands for.
    pub label: String,
    /// One end.
    pub from: [f64; 2],
    /// The other end; the name is there.
    pub to: [f64; 2],
    /// Its class in the style.
    pub class: &'static str,
}

/// A point with its name.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Where it is.
    pub at: [f64; 2],
    /// The name beside it; empty for none.
    pub label: String,
    /// All that it says, for pointer and keyboard.
    pub detail: String,
    /// Its class in the style.
    pub class: &'static str,
}

const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;

/// The inside of the axes, in pixels.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Scale,
    y: Scale,
}

impl Frame {
    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        ]
    }
}

/// A rectangle that a text covers.
#[derive(Clone, Copy)]
struct Taken {
    from: [f64; 2],
    to: [f64; 2],
}

impl Taken {
    /// The place of `text` with its baseline at `y`.
    fn of([x, y]: [f64; 2], anchor: Anchor, text: &str) -> Taken {
        let wide = text.chars().count() as f64 * CHARACTER;
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - wide / 2.0,
            Anchor::End => x - wide,
        };
        Taken {
            from: [left, y - 11.0],
            to: [left + wide, y + 3.0],
        }
    }

    /// Whether the straight line between two points passes through it.
    fn meets(&self, from: [f64; 2], to: [f64; 2]) -> bool {
        /// Shorter than a text is high.
        const STEP: f64 = 4.0;
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let steps = (length / STEP).ceil().clamp(1.0, 1000.0) as usize;
        (0..=steps).any(|step| {
            let share = step as f64 / steps as f64;
            let at = [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
            (0..2).all(|axis| (self.from[axis]..=self.to[axis]).contains(&at[axis]))
        })
    }

    fn overlaps(&self, other: &Taken) -> bool {
        let apart =
            |axis: usize| self.to[axis] <= other.from[axis] || other.to[axis] <= self.from[axis];
        !(apart(0) || apart(1))
    }
}

impl Plot {
    pub(super) fn draw(&self, width: f64) -> Canvas {
        let longest = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0) as f64 * CHARACTER
        };
        let height = (width * 0.56).clamp(250.0, 380.0);
        let left = longest(&mut self.y.ticks.iter().map(|tick| tick.1.as_str())) + 12.0;
        let right = longest(&mut self.series.iter().map(|series| series.label.as_str())) + 14.0;
        let frame = Frame {
            left,
            right: width - right.max(14.0),
            top: TOP,
            bottom: height - BOTTOM,
            x: self.x.scale,
            y: self.y.scale,
        };
        let mut canvas = Canvas::new(width, height);
        self.draw_axes(&mut canvas, &frame, width);
        for series in &self.series {
            draw_band(&mut canvas, &frame, series);
        }
        let mut taken = Vec::new();
        for rule in &self.rules {
            draw_rule(&mut canvas, &frame, rule, &mut taken);
        }
        for series in &self.series {
            draw_series(&mut canvas, &frame, series);
        }
        for series in &self.series {
            name_series(&mut canvas, &frame, series, &mut taken);
        }
        self.draw_marks(&mut canvas, &frame, &mut taken, width);
        if self.cursor {
            let (kind, low, high) = match self.x.scale {
                Scale::Linear(low, high) => ("linear", low, high),
                Scale::Log(low, high) => ("log", low, high),
            };
            let (left, right) = (frame.left, frame.right);
            canvas.attribute(
                "data-cursor",
                &format!("{kind} {low} {high} {left:.1} {right:.1}"),
            );
            canvas.line("cursor", [0.0, frame.top], [0.0, frame.bottom]);
        }
        canvas
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: &Frame, width: f64) {
        let low_y = frame.bottom;
        for (value, text) in &self.y.ticks {
            let y = frame.bottom - frame.y.share(*value) * (frame.bottom - frame.top);
            canvas.line("grid", [frame.left, y], [frame.right, y]);
            canvas.text("tick", [frame.left - 6.0, y + 4.5], Anchor::End, text);
        }
        let mut last = f64::NEG_INFINITY;
        for (value, text) in &self.x.ticks {
            let x = frame.left + frame.x.share(*value) * (frame.right - frame.left);
            canvas.line("stroke", [x, low_y], [x, low_y + 4.0]);
            let half = text.chars().count() as f64 * CHARACTER / 2.0;
            if x - half > last && x + half <= width + 4.0 {
                canvas.text("tick", [x, low_y + 18.0], Anchor::Middle, text);
                last = x + half + 6.0;
            }
        }
        canvas.line("stroke", [frame.left, low_y], [frame.right, low_y]);
        let right = frame.right;
        canvas.text(
            "axis-label",
            [right, low_y + 36.0],
            Anchor::End,
            &self.x.label,
        );
        canvas.text("axis-label", [0.0, 14.0], Anchor::Start, &self.y.label);
    }

    /// How many lines go through `place`.
    fn crossings(&self, frame: &Frame, place: &Taken) -> usize {
        let rules = self.rules.iter().map(|rule| vec![rule.from, rule.to]);
        let series = self.series.iter().map(|series| series.points.clone());
        let crosses = |points: &Vec<[f64; 2]>| {
            points.windows(2).any(|pair| match pair {
                [from, to] => place.meets(frame.place(*from), frame.place(*to)),
                _ => false,
            })
        };
        rules.chain(series).filter(crosses).count()
    }

    /// Points, each with its name on a side where it covers no other text, and the fewest lines.
    fn draw_marks(&self, canvas: &mut Canvas, frame: &Frame, taken: &mut Vec<Taken>, width: f64) {
        for mark in &self.marks {
            let [x, y] = frame.place(mark.at);
            taken.push(Taken {
                from: [x - 5.0, y - 5.0],
                to: [x + 5.0, y + 5.0],
            });
        }
        for mark in &self.marks {
            let [x, y] = frame.place(mark.at);
            let sides = [
                ([x + 9.0, y + 4.5], Anchor::Start),
                ([x - 9.0, y + 4.5], Anchor::End),
                ([x, y - 10.0], Anchor::Middle),
                ([x, y + 20.0], Anchor::Middle),
                ([x + 9.0, y - 9.0], Anchor::Start),
                ([x - 9.0, y - 9.0], Anchor::End),
                ([x + 9.0, y + 17.0], Anchor::Start),
                ([x - 9.0, y + 17.0], Anchor::End),
            ];
            let places = sides.into_iter().filter_map(|(at, anchor)| {
                let place = Taken::of(at, anchor, &mark.label);
                let inside = place.from[0] >= frame.left
                    && place.to[0] <= width
                    && place.from[1] >= frame.top - 14.0
                    && place.to[1] <= frame.bottom;
                let is_free = inside && !taken.iter().any(|other| other.overlaps(&place));
                is_free.then_some((at, anchor, place))
            });
            let free = places.min_by_key(|(.., place)| self.crossings(frame, place));
            canvas.valued(&mark.detail, true, |canvas| {
                canvas.circle("hit", [x, y], 12.0);
                canvas.circle(&format!("mark {}", mark.class), [x, y], 4.5);
                if let Some((at, anchor, place)) = free.filter(|_| !mark.label.is_empty()) {
                    canvas.text(&format!("label {}", mark.class), at, anchor, &mark.label);
                    taken.push(place);
                }
            });
        }
    }
}

fn draw_band(canvas: &mut Canvas, frame: &Frame, series: &Series) {
    if series.band.is_empty() {
        return;
    }
    let low = series
        .band
        .iter()
        .map(|[x, low, _]| frame.place([*x, *low]));
    let high = series.band.iter().rev();
    let high = high.map(|[x, _, high]| frame.place([*x, *high]));
    let around: Vec<[f64; 2]> = low.chain(high).collect();
    canvas.path(&format!("band {}", series.class), &around, true);
}

fn draw_rule(canvas: &mut Canvas, frame: &Frame, rule: &Rule, taken: &mut Vec<Taken>) {
    let (from, to) = (frame.place(rule.from), frame.place(rule.to));
    canvas.line(rule.class, from, to);
    let wide = rule.label.chars().count() as f64 * CHARACTER;
    let at = if to[0] - wide < frame.left {
        ([to[0].max(frame.left) + 6.0, to[1] + 13.0], Anchor::Start)
    } else {
        ([to[0], to[1] - 6.0], Anchor::End)
    };
    canvas.text(&format!("{}-label", rule.class), at.0, at.1, &rule.label);
    taken.push(Taken::of(at.0, at.1, &rule.label));
}

fn draw_series(canvas: &mut Canvas, frame: &Frame, series: &Series) {
    let points: Vec<[f64; 2]> = series.points.iter().map(|at| frame.place(*at)).collect();
    canvas.valued(&series.label, false, |canvas| {
        canvas.path(&format!("line {}", series.class), &points, false);
    });
}

/// The name beside the end of a line, or as little above or below as other names need; none where that is far.
fn name_series(canvas: &mut Canvas, frame: &Frame, series: &Series, taken: &mut Vec<Taken>) {
    let Some(end) = series.points.last() else {
        return;
    };
    let [x, y] = frame.place(*end);
    let places = [0.0, -4.0, 4.0, -8.0, 8.0, -12.0, 12.0].map(|aside| [x + 7.0, y + 4.5 + aside]);
    let is_free = |at: &[f64; 2]| {
        let place = Taken::of(*at, Anchor::Start, &series.label);
        !taken.iter().any(|other| other.overlaps(&place))
    };
    if let Some(at) = places.into_iter().find(is_free) {
        let class = format!("label {}", series.class);
        canvas.text(&class, at, Anchor::Start, &series.label);
        taken.push(Taken::of(at, Anchor::Start, &series.label));
    }
}
