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
        let (shown, _) = self.laid_out(indent, columns);
        shown.columns.iter().any(|(column, _)| column == name)
    }

    /// Whether the table has that width with every column.
    pub fn is_whole(&self, indent: &str, columns: usize) -> bool {
        indent.len() + self.width() <= columns
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

    /// Columns two spaces apart, every line indented by `indent`, without trailing space. On a screen that is too narrow
    /// for that, a row takes two lines, and where that is not enough, a line for each cell.
    pub fn text(&self, indent: &str, columns: usize) -> String {
        self.laid_out(indent, columns).1
    }

    /// The columns that the text of that width has, and the text.
    fn laid_out(&self, indent: &str, columns: usize) -> (Table, String) {
        let aligned = |mut shown: Table| {
            if shown.breaks_last {
                shown.break_last(columns.saturating_sub(indent.len()));
            }
            let text = (indent.len() + shown.width() <= columns).then(|| shown.aligned(indent))?;
            Some((shown, text))
        };
        let in_two_lines = || {
            let givings = 0..=self.least.len();
            givings.into_iter().find_map(|many| {
                let shown = self.without(self.least.iter().take(many));
                let text = shown.in_two_lines(indent, columns)?;
                Some((shown, text))
            })
        };
        aligned(self.given_up(indent, columns))
            .or_else(in_two_lines)
            .unwrap_or_else(|| (self.clone(), self.as_list(indent, columns)))
    }

    fn without<'a>(&self, names: impl Iterator<Item = &'a String>) -> Table {
        let mut shown = self.clone();
        for name in names {
            if let Some(index) = shown.columns.iter().position(|(column, _)| column == name) {
                shown.remove(index);
            }
        }
        shown
    }

    /// The columns before the last one, with the gaps behind them.
    fn width_before_last(&self) -> usize {
        let widths = self.widths();
        widths.iter().rev().skip(1).map(|width| width + 2).sum()
    }

    /// Each row up to its name on one line, the rest on the next, if both have room.
    fn in_two_lines(&self, indent: &str, columns: usize) -> Option<String> {
        let is_name = |index: &usize| {
            let has_all = self.rows.iter().all(|row| !row[*index].is_empty());
            self.columns[*index].1 == Align::Left && has_all
        };
        let last = self.columns.len().checked_sub(1)?;
        let at = 1 + (0..last).find(is_name)?;
        let mut names = self.part(0..at);
        let mut rest = self.part(at..self.columns.len());
        let below = format!("{indent}  ");
        let room = columns.checked_sub(below.len())?;
        let mut lines = vec![1; self.rows.len() + 1];
        if self.breaks_last && rest.width() > room {
            let before = rest.width_before_last();
            let rows = std::mem::take(&mut rest.rows);
            for (row, lines) in rows.into_iter().zip(lines.iter_mut().skip(1)) {
                rest.rows.push(row);
                *lines = rest.break_row(room.saturating_sub(before).max(NARROWEST), broken);
            }
        }
        if rest.width() > room {
            return None;
        }
        let before = names.width_before_last();
        let width = columns.checked_sub(indent.len() + before)?;
        let mut heads = vec![1];
        for row in std::mem::take(&mut names.rows) {
            names.rows.push(row);
            heads.push(names.break_row(width, broken_name));
        }
        let (names, rest) = (names.aligned(indent), rest.aligned(&below));
        let (mut names, mut rest) = (names.lines(), rest.lines());
        let mut text = String::new();
        for (head, many) in heads.into_iter().zip(lines) {
            let of_row = names.by_ref().take(head).chain(rest.by_ref().take(many));
            for line in of_row.filter(|line| !line.is_empty()) {
                text.push_str(line);
                text.push('\n');
            }
        }
        Some(text)
    }

    /// Some of its columns.
    fn part(&self, columns: std::ops::Range<usize>) -> Table {
        let rows = self.rows.iter().map(|row| row[columns.clone()].to_vec());
        Table {
            rows: rows.collect(),
            columns: self.columns[columns.clone()].to_vec(),
            ..Table::default()
        }
    }

    /// A line for each cell, named by its column, below the first of its row.
    fn as_list(&self, indent: &str, columns: usize) -> String {
        let names = self.columns.iter().map(|(name, _)| name.chars().count());
        let widest = names.max().unwrap_or(0);
        let room = columns.saturating_sub(indent.len() + widest + 4);
        let mut text = String::new();
        for row in &self.rows {
            let mut is_first = true;
            for ((name, _), cell) in self.columns.iter().zip(row) {
                if cell.is_empty() {
                    continue;
                }
                for (index, part) in broken(cell, room.max(NARROWEST)).iter().enumerate() {
                    let name = if index == 0 { name.as_str() } else { "" };
                    let margin = if is_first { "" } else { "  " };
                    let width = widest + 2 - margin.len();
                    let named = match (is_first, name) {
                        (true, "") => format!("{indent}{part}"),
                        _ => format!("{indent}{margin}{name:<width$}  {part}"),
                    };
                    text.push_str(named.trim_end());
                    text.push('\n');
                    is_first = false;
                }
            }
        }
        text
    }

    /// Breaks the cells of the last column, which then go on in rows that are empty otherwise.
    fn break_last(&mut self, columns: usize) {
        let before = self.width_before_last();
        for row in std::mem::take(&mut self.rows) {
            self.rows.push(row);
            self.break_row(columns.saturating_sub(before).max(NARROWEST), broken);
        }
    }

    /// Breaks the last cell of the last row, which then takes the returned number of rows.
    fn break_row(&mut self, width: usize, broken: fn(&str, usize) -> Vec<String>) -> usize {
        let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut()) else {
            return 0;
        };
        let lines = broken(&std::mem::take(cell), width);
        let many = lines.len();
        let mut lines = lines.into_iter();
        *cell = lines.next().unwrap_or_default();
        let empty = vec![String::new(); self.columns.len() - 1];
        let further = lines.map(|line| [empty.clone(), vec![line]].concat());
        self.rows.extend(further);
        many
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

/// A name in lines of at most `width` characters, broken behind a slash or a hyphen where there is one.
fn broken_name(name: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = name.chars().collect();
    let mut lines = Vec::new();
    while rest.len() > width.max(1) {
        let fits = rest.iter().take(width.max(1));
        let mark = fits.rev().position(|c| matches!(c, '/' | '-'));
        let end = mark.map_or(width.max(1), |behind| width.max(1) - behind);
        lines.push(rest.drain(..end).collect());
    }
    lines.push(rest.into_iter().collect());
    lines
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
    }

    #[test]
    fn a_row_takes_more_lines_on_a_screen_that_is_too_narrow() {
        let mut table = Table::new([
            ("", Align::Left),
            ("name", Align::Left),
            ("n", Align::Right),
            ("how", Align::Left),
        ]);
        table.row(["*".into(), "a/long/name".into(), "10".into(), "one".into()]);
        table.row(["".into(), "short".into(), "2".into(), "two".into()]);
        assert_eq!(
            table.text(" ", 16),
            "    name\n    n  how\n *  a/long/name\n   10  one\n    short\n    2  two\n"
        );
        assert_eq!(
            table.text(" ", 12),
            "    name\n    n  how\n *  a/long/\n    name\n   10  one\n    short\n    2  two\n"
        );
        // Where no column of words has a cell in each row, every cell has a line.
        let mut table = Table::new([("", Align::Left), ("count", Align::Right)]);
        table.row(["*".into(), "10".into()]);
        table.row(["".into(), "2".into()]);
        assert_eq!(table.text(" ", 6), " *\n   count  10\n count    2\n");
    }
}
