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
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Table {
        let columns = columns
            .into_iter()
            .map(|(name, align)| (name.to_owned(), align))
            .collect();
        Table {
            columns,
            rows: Vec::new(),
        }
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
                self.columns.remove(index);
                for row in &mut self.rows {
                    row.remove(index);
                }
            }
        }
        self
    }

    /// Columns two spaces apart, every line indented by `indent`, without trailing space.
    pub fn text(&self, indent: &str) -> String {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let width = |index: usize| {
            lines()
                .map(|row| row[index].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in lines() {
            let cells =
                row.iter()
                    .zip(&widths)
                    .zip(&self.columns)
                    .map(|((cell, &width), (_, align))| match align {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_clean() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.row(["a".into(), "100".into()]);
        table.row(["long".into(), "2".into()]);
        assert_eq!(table.text(" "), " name    n\n a     100\n long    2\n");
        assert_eq!(
            table.markdown(),
            "| name | n |\n| --- | ---: |\n| a | 100 |\n| long | 2 |\n"
        );
    }
}
