//! `orinplan fit --watch`: the memory of a running board beside what was planned.

use crate::report::line;
use crate::report::screen::Screen;
use crate::units::Bytes;

/// The memory of a machine while a model is loaded and served.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// All of the machine's memory.
    pub total: Bytes,
    /// In use when the watch began.
    pub before: Bytes,
    /// In use now.
    pub now: Bytes,
    /// The most that was in use.
    pub most: Bytes,
    /// What the model is planned to take.
    pub planned: Bytes,
}

/// Widths of the bar, beside 40 characters of words.
const NARROWEST: usize = 20;
const WIDEST: usize = 60;

/// A share of the plan below which nothing can have been loaded.
const LOADED: f64 = 0.1;

/// What became of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchResult {
    /// The memory in use hardly rose.
    NothingLoaded,
    /// It rose by what was planned at most.
    Within,
    /// It rose by more.
    Above,
}

impl Watched {
    /// How far the memory in use rose.
    fn rise(&self) -> Bytes {
        self.now.saturating_sub(self.before)
    }

    fn most_rise(&self) -> Bytes {
        self.most.saturating_sub(self.before)
    }

    /// What became of it.
    pub fn result(&self) -> WatchResult {
        match self.most_rise() {
            rise if rise > self.planned => WatchResult::Above,
            rise if rise.as_f64() < self.planned.as_f64() * LOADED => WatchResult::NothingLoaded,
            _ => WatchResult::Within,
        }
    }
}

/// The state now, in three lines for a terminal so many characters wide.
pub fn drawn(watched: &Watched, columns: usize) -> String {
    let width = columns.saturating_sub(40).clamp(NARROWEST, WIDEST);
    let place = |bytes: Bytes| {
        let share = bytes.as_f64() / watched.total.as_f64().max(1.0);
        ((share * width as f64).round() as usize).min(width)
    };
    let (before, now) = (place(watched.before), place(watched.now));
    let end = place(watched.before + watched.planned);
    let bar: String = (0..width)
        .map(|at| match at {
            at if at + 1 == end.max(1) => '|',
            at if at < before.min(now) => '#',
            at if at < now => '+',
            _ => '.',
        })
        .collect();
    let mut text = String::new();
    line(
        &mut text,
        format_args!("{bar}  {} of {} in use", watched.now, watched.total),
    );
    line(
        &mut text,
        format_args!(
            "since the start {}, at most {}; planned {}",
            watched.rise(),
            watched.most_rise(),
            watched.planned
        ),
    );
    text.push_str("# before the start  + since  | where the plan ends");
    text
}

/// The state now, in one line for a file or a pipe.
pub fn logged(watched: &Watched) -> String {
    format!(
        "in use {} of {}: {} since the start, {} planned\n",
        watched.now,
        watched.total,
        watched.rise(),
        watched.planned
    )
}

/// What is said at the end.
pub fn summary(watched: &Watched, columns: Option<usize>) -> String {
    let rise = watched.most_rise();
    let planned = watched.planned;
    let mut out = Screen::new(columns);
    out.prose(&match watched.result() {
        WatchResult::Within => {
            format!("WITHIN THE PLAN: memory in use rose by at most {rise}; {planned} were planned")
        }
        WatchResult::Above => format!(
            "ABOVE THE PLAN by {}: memory in use rose by {rise}; {planned} were planned",
            rise.saturating_sub(planned)
        ),
        WatchResult::NothingLoaded => format!(
            "NOTHING LOADED: memory in use rose by {rise} of the {planned} planned; start --watch before the server"
        ),
    });
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(before: u64, now: u64, most: u64, planned: u64) -> Watched {
        let [total, before, now, most, planned] =
            [80, before, now, most, planned].map(|tenths| Bytes(tenths * (1 << 30) / 10));
        Watched {
            total,
            before,
            now,
            most,
            planned,
        }
    }

    #[test]
    fn the_bar_shows_what_was_what_came_and_where_the_plan_ends() {
        let text = drawn(&watched(20, 30, 40, 40), 80);
        let lines: Vec<&str> = text.lines().collect();
        // 40 characters for 8 GiB: 10 before, 5 since, the plan ends at 6 GiB.
        assert_eq!(
            lines[0],
            format!(
                "##########+++++{}|..........  3.00 GiB of 8.00 GiB in use",
                ".".repeat(14)
            )
        );
        assert_eq!(
            lines[1],
            "since the start 1.00 GiB, at most 2.00 GiB; planned 4.00 GiB"
        );
        assert!(text.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn the_most_decides() {
        assert_eq!(watched(20, 20, 60, 40).result(), WatchResult::Within);
        assert_eq!(watched(20, 20, 61, 40).result(), WatchResult::Above);
        assert_eq!(watched(20, 22, 23, 40).result(), WatchResult::NothingLoaded);
        let text = summary(&watched(20, 20, 65, 40), Some(80));
        assert!(
            text.starts_with("ABOVE THE PLAN by 512.0 MiB: memory in use rose by 4.50 GiB"),
            "{text}"
        );
    }
}
