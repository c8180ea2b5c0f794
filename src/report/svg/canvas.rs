//! Elements of an SVG file, with everything from outside escaped.

use std::fmt::Write;

/// How wide a character of a figure's text is at most on average, in pixels: that of DejaVu Sans in bold, the widest of the fonts.
pub(super) const CHARACTER: f64 = 9.0;

/// A drawing of a fixed size.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    /// Attributes of the whole, beside those of every figure.
    attributes: String,
    body: String,
}

/// Where a text stands relative to its position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Canvas {
        Canvas {
            width,
            height,
            attributes: String::new(),
            body: String::new(),
        }
    }

    /// An attribute that scripts read.
    pub(super) fn attribute(&mut self, name: &str, value: &str) {
        let _ = write!(self.attributes, " {name}=\"{}\"", escaped(value));
    }

    pub(super) fn line(&mut self, class: &str, from: [f64; 2], to: [f64; 2]) {
        let ([x1, y1], [x2, y2]) = (from, to);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    pub(super) fn rectangle(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    pub(super) fn circle(&mut self, class: &str, [x, y]: [f64; 2], radius: f64) {
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"
        ));
    }

    /// A line through points; closed to an area where `closed`.
    pub(super) fn path(&mut self, class: &str, points: &[[f64; 2]], closed: bool) {
        let mut data = String::new();
        for (index, [x, y]) in points.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{step}{x:.1} {y:.1}");
        }
        if closed {
            data.push('Z');
        }
        self.push(format_args!("<path class=\"{class}\" d=\"{data}\"/>"));
    }

    pub(super) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// What `draw` draws as one thing that has a value to show: it can be pointed at, and reached by keyboard where
    /// `focus`.
    pub(super) fn valued(&mut self, value: &str, focus: bool, draw: impl FnOnce(&mut Canvas)) {
        let value = escaped(value);
        let reach = if focus { " tabindex=\"0\"" } else { "" };
        self.push(format_args!(
            "<g class=\"valued\" role=\"img\" aria-label=\"{value}\" data-value=\"{value}\"{reach}>"
        ));
        draw(self);
        self.body.push_str("</g>\n");
    }

    /// The whole element, in which `head` stands before what is drawn.
    pub(super) fn finish(self, id: &str, title: &str, description: &str, head: &str) -> String {
        let (title, description) = (escaped(title), escaped(description));
        let Canvas {
            width,
            height,
            attributes,
            body,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"group\" aria-labelledby=\"{id}-title {id}-description\"{attributes}>\n\
             <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-description\">{description}</desc>\n{head}{body}</svg>\n"
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }
}

/// `text` as content or attribute of an element.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters, escaped or not, and not these two.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
