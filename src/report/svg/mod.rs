//! Figures as SVG: text that can be selected, colours by class so that a page's style decides them, a title and a
//! description for readers of the screen. Each figure is drawn for a width in pixels, at which its text has its size.

mod bars;
mod canvas;
mod plot;
mod scale;

pub use bars::{Bar, Bars, Segment};
pub use plot::{Mark, Plot, Rule, Series};
pub use scale::{Axis, Scale};

/// A figure.
#[derive(Clone, Debug)]
pub enum Figure {
    /// Stacked bars, a row each.
    Bars(Bars),
    /// Lines and points over two axes.
    Plot(Plot),
}

/// The width of a figure on a wide page, in pixels.
pub const WIDE: f64 = 760.0;

/// The width of a figure on a phone.
pub const NARROW: f64 = 350.0;

/// The style of figures, in light and dark.
pub const STYLE: &str = include_str!("figure.css");

/// The name of the program in the first bytes of a file.
pub const GENERATOR: &str = "<metadata>Made by orinplan</metadata>";

impl Figure {
    /// The figure's title.
    pub fn title(&self) -> &str {
        match self {
            Figure::Bars(bars) => &bars.title,
            Figure::Plot(plot) => &plot.title,
        }
    }

    /// What it shows, in a sentence.
    pub fn description(&self) -> &str {
        match self {
            Figure::Bars(bars) => &bars.description,
            Figure::Plot(plot) => &plot.description,
        }
    }

    /// The element for a page that has the style, `width` pixels wide; `id` is its own on the page.
    pub fn element(&self, id: &str, width: f64) -> String {
        self.drawn(id, width, "")
    }

    /// A file that stands alone.
    pub fn file(&self, id: &str) -> String {
        self.drawn(
            id,
            WIDE,
            &format!("{GENERATOR}\n<style>\n{STYLE}</style>\n"),
        )
    }

    fn drawn(&self, id: &str, width: f64, head: &str) -> String {
        let canvas = match self {
            Figure::Bars(bars) => bars.draw(width),
            Figure::Plot(plot) => plot.draw(width),
        };
        canvas.finish(id, self.title(), self.description(), head)
    }
}
