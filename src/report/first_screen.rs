//! What a first screen leaves out so that its verdict does not scroll away: one list of steps for every report of `fit`.

use super::screen::Screen;
use crate::units::counted;

/// The lines of a usual terminal, less that of the shell.
pub(super) const ROWS: usize = 23;

/// How many alternatives a first screen shows beside each other: formats, or numbers of sequences.
pub(super) const ALTERNATIVES: usize = 4;

/// How much of each part a screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Rows of the table of alternatives.
    pub(super) rows: usize,
    /// Notes, a line each.
    pub(super) notes: usize,
    /// Pieces of advice.
    pub(super) advice: usize,
    /// Facts that the verdict does not need.
    pub(super) facts: usize,
    /// Rows of the table of boards.
    pub(super) boards: usize,
    /// Whether a line says what the numbers of the table mean.
    pub(super) legend: bool,
    /// Whether sentences are whole; otherwise each has a line.
    pub(super) whole: bool,
    /// Whether an empty line stands before the notes.
    pub(super) gaps: bool,
}

impl Room {
    /// Everything: what `--all` shows.
    pub(super) const ALL: Room = Room {
        rows: usize::MAX,
        notes: usize::MAX,
        advice: usize::MAX,
        facts: usize::MAX,
        boards: usize::MAX,
        legend: true,
        whole: true,
        gaps: true,
    };

    /// What a first screen shows where it has the rows.
    pub(super) const FIRST: Room = Room {
        rows: ALTERNATIVES,
        notes: 2,
        ..Room::ALL
    };

    /// The facts to show, and how many are left out: those in front go first.
    pub(super) fn facts<T>(self, mut all: Vec<T>) -> (Vec<T>, usize) {
        let left_out = all.len().saturating_sub(self.facts);
        (all.split_off(left_out), left_out)
    }
}

/// Leaves something out, given the number of rows that are too many.
type Step = fn(&mut Room, usize);

/// What to leave out, in this order, until the rest has room.
const STEPS: &[Step] = &[
    |room, _| room.notes = room.notes.min(1),
    |room, excess| room.rows = room.rows.min(room.rows.saturating_sub(excess).max(2)),
    |room, _| room.advice = room.advice.min(2),
    |room, _| room.advice = room.advice.min(1),
    |room, _| room.whole = false,
    |room, _| room.legend = false,
    |room, _| room.facts = room.facts.min(1),
    |room, _| room.facts = 0,
    |room, _| room.notes = 0,
    |room, _| room.boards = room.boards.min(1),
    |room, excess| room.rows = room.rows.min(room.rows.saturating_sub(excess).max(1)),
    |room, _| room.gaps = false,
    |room, _| room.advice = 0,
];

/// What `draw` makes of `room`, with less and less until it has `rows`, or until there is nothing more to leave out. What
/// then turns out to have room after all comes back.
pub(super) fn fitted(room: Room, rows: usize, draw: impl Fn(Room) -> Screen) -> String {
    let excess = |drawn: &Screen| drawn.rows().saturating_sub(rows);
    let after = |taken: &[(Step, usize)]| {
        let mut room = room;
        taken.iter().for_each(|(step, many)| step(&mut room, *many));
        room
    };
    let mut taken: Vec<(Step, usize)> = Vec::new();
    let mut drawn = draw(room);
    for step in STEPS {
        let many = excess(&drawn);
        if many == 0 {
            break;
        }
        let before = after(&taken);
        taken.push((*step, many));
        if after(&taken) == before {
            taken.pop();
        } else {
            drawn = draw(after(&taken));
        }
    }
    for at in (0..taken.len().saturating_sub(1)).rev() {
        let mut fewer = taken.clone();
        fewer.remove(at);
        let fuller = draw(after(&fewer));
        if excess(&fuller) == 0 {
            (taken, drawn) = (fewer, fuller);
        }
    }
    drawn.finish()
}

/// The last line: how much of what the flags would show beyond this screen.
pub(super) fn more_text(more: &[(usize, &str, &str)], explains: bool) -> Option<String> {
    let more = more.iter().filter(|(number, ..)| *number > 0);
    let more: Vec<String> = more
        .map(|&(number, one, many)| counted(number, one, many))
        .collect();
    let all = (!more.is_empty()).then(|| format!("--all: {} more", more.join(", ")));
    let explain = explains.then(|| "--explain: every term".to_owned());
    let flags: Vec<String> = all.into_iter().chain(explain).collect();
    (!flags.is_empty()).then(|| flags.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen of so many rows for each part.
    fn drawn(room: Room, of: [usize; 4]) -> Screen {
        let [rows, advice, boards, fixed] = of;
        let shown = rows.min(room.rows)
            + advice.min(room.advice)
            + boards.min(room.boards)
            + fixed
            + 2.min(room.notes)
            + 2.min(room.facts)
            + usize::from(room.legend)
            + usize::from(room.gaps);
        let mut screen = Screen::new(Some(80));
        (0..shown).for_each(|_| screen.blank());
        screen
    }

    fn rows(of: [usize; 4]) -> usize {
        fitted(Room::FIRST, ROWS, |room| drawn(room, of))
            .lines()
            .count()
    }

    #[test]
    fn a_screen_loses_no_more_than_it_has_to() {
        assert_eq!(rows([10, 0, 0, 5]), 4 + 5 + 2 + 2 + 1 + 1);
        // A note goes first, then formats.
        assert_eq!(rows([4, 0, 0, 14]), ROWS);
        assert_eq!(rows([10, 3, 0, 13]), ROWS);
        // All but the lines to paste, a format and a board.
        assert_eq!(rows([10, 3, 8, 21]), ROWS);
        assert_eq!(rows([10, 3, 8, 30]), 32);
        // One long part is enough: what stands before it in the list comes back.
        assert_eq!(rows([2, 1, 20, 12]), 12 + 2 + 1 + 1 + 1 + 2 + 2 + 1);
    }
}
