//! Text for a terminal of a known width: prose wraps, tables give up their least columns, commands stay whole.

use std::fmt::{Arguments, Write};

use super::table::Table;
use crate::foreign::Foreign;

/// The width of prose where there is no terminal.
const COLUMNS: usize = 80;

/// Narrower than this nothing is wrapped: a table's least columns need it.
const NARROWEST: usize = 40;

/// Longer lines of prose are hard to read.
const WIDEST_PROSE: usize = 120;

/// The lines of a report as they are written.
#[derive(Debug)]
pub(super) struct Screen {
    text: String,
    /// Characters in a line of the terminal. Files and pipes have none: their tables are whole.
    columns: Option<usize>,
}

impl Screen {
    /// An empty screen, so many characters wide; without a number for a file or a pipe.
    pub(super) fn new(columns: Option<usize>) -> Screen {
        Screen {
            text: String::new(),
            columns: columns.map(|columns| columns.max(NARROWEST)),
        }
    }

    fn width(&self) -> usize {
        self.columns.unwrap_or(COLUMNS)
    }

    /// Appends text as it is.
    pub(super) fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends an empty line.
    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Appends a line as it is. Writing to a string cannot fail.
    pub(super) fn line(&mut self, args: Arguments<'_>) {
        let _ = self.text.write_fmt(args);
        self.text.push('\n');
    }

    /// Appends a table of the columns that there is room for, every line indented.
    pub(super) fn table(&mut self, table: &Table, indent: &str) {
        let text = table.text(indent, self.columns.unwrap_or(usize::MAX));
        self.text.push_str(&text);
    }

    /// Whether `table`, appended with that indent, has the column called `name`.
    pub(super) fn shows(&self, table: &Table, indent: &str, name: &str) -> bool {
        table.shows(name, indent, self.columns.unwrap_or(usize::MAX))
    }

    /// Appends words as prose where they may be whole, and else as much of them as one line has room for.
    pub(super) fn sentence(&mut self, words: &str, whole: bool) {
        if whole {
            self.prose(words);
        } else {
            self.clause(words);
        }
    }

    /// Appends words in lines of the screen's width, those after the first indented by two spaces more. A number stays on
    /// a line with the next word, which is its unit or what it counts.
    pub(super) fn prose(&mut self, words: &str) {
        let width = self.width().min(WIDEST_PROSE);
        let is_number = |word: &str| {
            let figure = |c: char| c.is_ascii_digit() || "-+.(".contains(c);
            word.ends_with(|c: char| c.is_ascii_digit()) && word.chars().all(figure)
        };
        let words = Foreign(words).to_string();
        let mut parts: Vec<String> = Vec::new();
        let mut after_number = false;
        for word in words.split(' ') {
            match parts.last_mut().filter(|_| after_number) {
                Some(part) => {
                    part.push(' ');
                    part.push_str(word);
                }
                None => parts.push(word.to_owned()),
            }
            after_number = is_number(word);
        }
        let indent = 2 + words.chars().take_while(|c| *c == ' ').count();
        let mut used = 0;
        for (index, part) in parts.iter().enumerate() {
            let length = part.chars().count();
            if index > 0 && used + 1 + length > width {
                self.text.push('\n');
                self.text.push_str(&" ".repeat(indent));
                used = indent;
            } else if index > 0 {
                self.text.push(' ');
                used += 1;
            }
            self.text.push_str(part);
            used += length;
        }
        self.text.push('\n');
    }

    /// Appends words on one line, cut after the last clause that there is room for. Where these are nested by colons, the
    /// outermost is the sentence: what stands between two colons is the beginning of a reason.
    pub(super) fn clause(&mut self, words: &str) {
        let words = Foreign(words).to_string();
        let room = words.char_indices().nth(self.width());
        let Some((room, _)) = room else {
            return self.line(format_args!("{words}"));
        };
        let fits = &words[..room];
        // A word alone before a colon is no clause.
        let is_clause = |end: &usize| *end <= room && words[..*end].split(' ').count() > 3;
        let ends = |mark| words.match_indices(mark).map(|(end, _)| end);
        let clause = ends("; ").filter(is_clause).last();
        let sentence = || ends(": ").find(is_clause);
        match clause.or_else(sentence) {
            Some(end) => self.line(format_args!("{}", &words[..end])),
            None => {
                let end = fits.char_indices().rev().nth(3).map_or(0, |(end, _)| end);
                let end = fits[..end].rfind(' ').unwrap_or(end);
                self.line(format_args!("{} ...", &fits[..end]));
            }
        }
    }

    /// Rows of the terminal that are taken: a command that is wider than the terminal takes several.
    pub(super) fn rows(&self) -> usize {
        let lines = self.text.lines();
        let rows = lines.map(|line| line.chars().count().div_ceil(self.width()).max(1));
        rows.sum()
    }

    /// What was written.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(words: &str, columns: usize) -> String {
        let mut screen = Screen::new(Some(columns));
        screen.prose(words);
        screen.finish()
    }

    #[test]
    fn long_lines_break_between_words() {
        let words = "word ".repeat(20);
        let lines = |first: usize| {
            let rest = "word ".repeat(20 - first);
            format!(
                "{}\n  {}\n",
                "word ".repeat(first).trim_end(),
                rest.trim_end()
            )
        };
        assert_eq!(wrapped(words.trim_end(), 80), lines(16));
        assert_eq!(wrapped(words.trim_end(), 70), lines(14));
        let long = "x".repeat(74);
        assert_eq!(
            wrapped(&format!("{long} 57-84 tokens/s and 15 %"), 80),
            format!("{long}\n  57-84 tokens/s and 15 %\n")
        );
        let unbroken = "x".repeat(100);
        assert_eq!(wrapped(&unbroken, 80), format!("{unbroken}\n"));
    }

    #[test]
    fn a_clause_takes_one_line() {
        let clause = |words: &str| {
            let mut screen = Screen::new(Some(40));
            screen.clause(words);
            screen.finish()
        };
        assert_eq!(clause("note: it fits; barely"), "note: it fits; barely\n");
        assert_eq!(
            clause("note: 12 MiB are left, so it fits barely; llama.cpp may take more"),
            "note: 12 MiB are left, so it fits barely\n"
        );
        assert_eq!(
            clause("note: a word of many letters that goes on and on"),
            "note: a word of many letters that ...\n"
        );
        assert_eq!(
            clause("note: an encoder is not counted: its file: no such key"),
            "note: an encoder is not counted\n"
        );
        let unbroken = "\u{e9}".repeat(50);
        assert_eq!(clause(&unbroken), format!("{} ...\n", "\u{e9}".repeat(36)));
    }

    #[test]
    fn prose_uses_a_wide_terminal_up_to_what_reads_well() {
        let words = "word ".repeat(60);
        let longest = |columns| {
            let text = wrapped(words.trim_end(), columns);
            text.lines().map(str::len).max().unwrap()
        };
        assert_eq!([60, 100, 120, 200].map(longest), [59, 99, 119, 119]);
    }
}
