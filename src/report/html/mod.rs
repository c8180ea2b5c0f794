//! Reports as pages: one file with its style, figures and numbers, which needs no other and asks for none. A page is made
//! of the document that scripts get, so both say the same.

mod boards;
#[cfg(feature = "decode")]
mod compare;
mod curve;
mod figures;
mod fit;
mod models;
mod quality;
mod shared;
#[cfg(feature = "decode")]
mod validate;
mod value;

use minijinja::Environment;
use serde::Serialize;
use serde_json::Value;

use crate::foreign;
use crate::report::svg::{self, Figure};

pub use boards::page as boards;
#[cfg(feature = "decode")]
pub use compare::{FIGURES as COMPARE_FIGURES, page as compare};
pub use fit::page as fit;
pub use models::page as models;
pub use shared::page as board;
#[cfg(feature = "decode")]
pub use validate::{FIGURES as VALIDATE_FIGURES, page as validate};
use value::Cell;

/// A report as a page.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was asked, such as `orinplan fit`.
    command: &'static str,
    /// What it is about.
    title: String,
    /// Whether the answer is yes.
    holds: bool,
    /// The answer, in a sentence.
    verdict: String,
    /// Sentences below it.
    facts: Vec<String>,
    /// The numbers that matter most, with their names.
    figures_of_merit: Vec<(&'static str, Cell)>,
    /// What follows, in order.
    sections: Vec<Section>,
    /// The document, which the page carries.
    document: Value,
}

/// A part of a page under its own heading.
#[derive(Clone, Debug)]
struct Section {
    /// Its name in addresses and for `--figure`.
    id: &'static str,
    /// Its heading.
    title: String,
    /// What it shows.
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Figure(Box<Figure>),
    Table(Table),
    /// Lines to paste, under what they do.
    Commands(Vec<(String, Vec<String>)>),
    /// Sentences.
    List(Vec<String>),
    /// What changes with the context and the power mode.
    Choices(Choices),
}

/// A table, whose first column names its rows.
#[derive(Clone, Debug, Default, Serialize)]
struct Table {
    /// What it shows, in a sentence.
    caption: String,
    /// The heads of the columns, and whether a column holds numbers.
    columns: Vec<(&'static str, bool)>,
    /// The rows, and whether each stands out.
    rows: Vec<(bool, Vec<Cell>)>,
}

/// A table of which a slider and a list change the values.
#[derive(Clone, Debug, Serialize)]
struct Choices {
    /// The index of the context to begin with.
    first: usize,
    /// The largest index.
    last: usize,
    /// The power modes, and which one to begin with.
    modes: Vec<(String, bool)>,
    /// The values to begin with.
    table: Table,
}

/// Why there is no such figure.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FigureError {
    /// The report has no figure of that name.
    #[error("this report has no figure `{asked}`; it has {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The report has no figure.
    #[error("this report has no figure: its numbers are not known")]
    None,
}

impl Page {
    /// The names of the figures, in the order of the page.
    fn figures(&self) -> impl Iterator<Item = (&'static str, &Figure)> {
        self.sections
            .iter()
            .filter_map(|section| match &section.content {
                Content::Figure(figure) => Some((section.id, &**figure)),
                _ => None,
            })
    }

    /// The figure called `name`, or the first one, as a file of its own.
    ///
    /// # Errors
    /// [`FigureError`] if there is none.
    pub fn figure(&self, name: Option<&str>) -> Result<String, FigureError> {
        let mut figures = self.figures();
        let found = match name {
            Some(name) => figures.find(|(id, _)| *id == name),
            None => figures.next(),
        };
        let known: Vec<&str> = self.figures().map(|(id, _)| id).collect();
        match (found, name) {
            (Some((id, figure)), _) => Ok(foreign::lines(&figure.file(id))),
            (None, Some(asked)) if !known.is_empty() => Err(FigureError::Unknown {
                asked: asked.to_owned(),
                known,
            }),
            (None, _) => Err(FigureError::None),
        }
    }

    /// The page as one file.
    ///
    /// # Errors
    /// Where the template, which is part of the program, does not render.
    pub fn html(&self) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        // Names that end with `.html` are escaped.
        environment.add_template("page.html", include_str!("page.html"))?;
        let sections: Vec<SectionContext<'_>> = self.sections.iter().map(context).collect();
        let verdict = self.verdict.as_str();
        let page = environment.get_template("page.html")?.render(PageContext {
            command: self.command,
            title: &self.title,
            holds: self.holds,
            verdict,
            facts: &self.facts,
            figures_of_merit: &self.figures_of_merit,
            sections,
            style: include_str!("page.css"),
            figure_style: svg::STYLE,
            script: include_str!("page.js"),
            data: embedded(&self.document),
            generator: GENERATOR,
        })?;
        Ok(foreign::lines(&page))
    }
}

/// A document for a `script` element: nothing in it ends the element, and no character of it changes the text around.
fn embedded(document: &Value) -> String {
    foreign::json(&document.to_string()).replace('<', "\\u003c")
}

/// The name of the program in the first bytes of a page.
const GENERATOR: &str = "<meta name=\"generator\" content=\"orinplan\">";

/// Whether `text` begins as a page or a figure of this program does.
pub fn is_page(text: &str) -> bool {
    text.contains(GENERATOR) || text.contains(svg::GENERATOR)
}

#[derive(Serialize)]
struct PageContext<'a> {
    command: &'a str,
    title: &'a str,
    holds: bool,
    verdict: &'a str,
    facts: &'a [String],
    figures_of_merit: &'a [(&'static str, Cell)],
    sections: Vec<SectionContext<'a>>,
    style: &'a str,
    figure_style: &'a str,
    script: &'a str,
    data: String,
    generator: &'a str,
}

/// What the template shows of a section; one of the last five is there.
#[derive(Default, Serialize)]
struct SectionContext<'a> {
    id: &'a str,
    title: &'a str,
    figure: Option<FigureContext<'a>>,
    table: Option<&'a Table>,
    commands: Option<&'a [(String, Vec<String>)]>,
    list: Option<&'a [String]>,
    choices: Option<&'a Choices>,
}

/// A figure at both widths; a page shows the one that suits it.
#[derive(Serialize)]
struct FigureContext<'a> {
    description: &'a str,
    wide: String,
    narrow: String,
}

fn context(section: &Section) -> SectionContext<'_> {
    let mut context = SectionContext {
        id: section.id,
        title: &section.title,
        ..SectionContext::default()
    };
    match &section.content {
        Content::Figure(figure) => {
            context.figure = Some(FigureContext {
                description: figure.description(),
                wide: figure.element(&format!("{}-wide", section.id), svg::WIDE),
                narrow: figure.element(&format!("{}-narrow", section.id), svg::NARROW),
            });
        }
        Content::Table(table) => context.table = Some(table),
        Content::Commands(commands) => context.commands = Some(commands),
        Content::List(list) => context.list = Some(list),
        Content::Choices(choices) => context.choices = Some(choices),
    }
    context
}
