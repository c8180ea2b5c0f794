//! Aligned columns for a terminal and the same rows as Markdown.

use crate::foreign::{self, Foreign};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    /// Columns that a narrow screen does without, the first to go first.
    least: Vec<String>,
    /// Whether the cells of the last column break between words on a narrow screen.
    breaks_last: bool,
}

/// The least width of a last column whose cells break.
pub(super) const NARROWEST: usize = 20;

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Table {
        let columns = columns
            .into_iter()
            .map(|(name, align)| (name.to_owned(), align))
            .collect();
        Table {
            columns,
            ..Table::default()
        }
    }

    /// The table with the names of the columns that a narrow screen does without, the first to go first.
    #[must_use]
    pub fn giving_up(mut self, least: &[&str]) -> Table {
        self.least = least.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// The table with a last column of words whose cells break on a narrow screen.
    #[must_use]
    pub fn breaking_last(mut self) -> Table {
        self.breaks_last = true;
        self
    }

    /// Adds a row, one cell for each column. Control characters are escaped: a cell may contain names from files.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell per column");
        self.rows
            .push(cells.map(|cell| Foreign(&cell).to_string()).into());
    }

    /// The table without the columns that are empty in every row.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Table {
        for index in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row[index].is_empty()) {
                self.remove(index);
            }
        }
        self
    }

    fn remove(&mut self, index: usize) {
        self.columns.remove(index);
        for row in &mut self.rows {
            row.remove(index);
        }
    }

    /// Whether the text of that width has the column called `name`.
    pub fn shows(&self, name: &str, indent: &str, columns: usize) -> bool {
        let shown = self.given_up(indent, columns);
        shown.columns.iter().any(|(column, _)| column == name)
    }

    fn given_up(&self, indent: &str, columns: usize) -> Table {
        let mut shown = self.clone();
        for least in &self.least {
            if indent.len() + shown.width() <= columns {
                break;
            }
            if let Some(index) = shown.columns.iter().position(|(name, _)| name == least) {
                shown.remove(index);
            }
        }
        shown
    }

    /// Columns two spaces apart, every line indented by `indent`, without trailing space. Wider than `columns` only where
    /// nothing is left to give up.
    pub fn text(&self, indent: &str, columns: usize) -> String {
        let mut shown = self.given_up(indent, columns);
        if shown.breaks_last {
            shown.break_last(columns.saturating_sub(indent.len()));
        }
        shown.aligned(indent)
    }

    /// Breaks the cells of the last column, which then go on in rows that are empty otherwise.
    fn break_last(&mut self, columns: usize) {
        let widths = self.widths();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let width = columns.saturating_sub(before).max(NARROWEST);
        let rows = std::mem::take(&mut self.rows);
        for mut row in rows {
            let last = row.pop().unwrap_or_default();
            let mut lines = broken(&last, width).into_iter();
            row.push(lines.next().unwrap_or_default());
            let empty = vec![String::new(); row.len() - 1];
            self.rows.push(row);
            let further = lines.map(|line| [empty.clone(), vec![line]].concat());
            self.rows.extend(further);
        }
    }

    fn lines(&self) -> impl Iterator<Item = Vec<&str>> {
        let header = self.columns.iter().map(|(name, _)| name.as_str());
        let rows = self.rows.iter();
        std::iter::once(header.collect())
            .chain(rows.map(|row| row.iter().map(String::as_str).collect()))
    }

    /// The characters of each column's longest cell.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for line in self.lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }

    /// The characters of its longest line.
    fn width(&self) -> usize {
        let gaps = 2 * self.columns.len().saturating_sub(1);
        self.widths().iter().sum::<usize>() + gaps
    }

    fn aligned(&self, indent: &str) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for line in self.lines() {
            let cells = line.iter().zip(&widths).zip(&self.columns);
            let cells = cells.map(|((cell, &width), (_, align))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = format!("{indent}{}", cells.collect::<Vec<_>>().join("  "));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            format!(
                "| {} |\n",
                cells
                    .map(foreign::markdown_cell)
                    .collect::<Vec<_>>()
                    .join(" | ")
            )
        };
        let mut text = line(&mut self.columns.iter().map(|(name, _)| name.as_str()));
        text.push_str(&line(&mut self.columns.iter().map(
            |(_, align)| match align {
                Align::Left => "---",
                Align::Right => "---:",
            },
        )));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

/// `words` in lines of at most `width` characters, each of at least a word.
pub(super) fn broken(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        let has_room =
            |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= width;
        match lines.last_mut().filter(has_room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_column_of_words_breaks_on_a_narrow_screen() {
        let mut table = Table::new([("n", Align::Right), ("how", Align::Left)]).breaking_last();
        table.row(["1".into(), "one two three four five six".into()]);
        assert_eq!(
            table.text(" ", 24),
            " n  how\n 1  one two three four\n    five six\n"
        );
        assert_eq!(table.text(" ", 80).lines().count(), 2);
    }

    #[test]
    fn columns_align_and_lines_end_clean() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.row(["a".into(), "100".into()]);
        table.row(["long".into(), "2".into()]);
        assert_eq!(table.text(" ", 80), " name    n\n a     100\n long    2\n");
        assert_eq!(
            table.markdown(),
            "| name | n |\n| --- | ---: |\n| a | 100 |\n| long | 2 |\n"
        );
    }

    #[test]
    fn a_narrow_screen_does_without_the_least_columns() {
        let mut table = Table::new([
            ("name", Align::Left),
            ("bar", Align::Left),
            ("n", Align::Right),
        ]);
        table.row(["long".into(), "#####".into(), "2".into()]);
        let table = table.giving_up(&["bar", "n"]);
        let wide = " name  bar    n\n long  #####  2\n";
        assert_eq!(table.text(" ", 15), wide);
        assert_eq!(table.text(" ", 14), " name  n\n long  2\n");
        assert_eq!(table.text(" ", 7), " name\n long\n");
        assert_eq!(table.text(" ", 1), " name\n long\n");
    }
}
