//! What a rail of a board draws while a model decodes, fitted to the measurements that name their rail: the rows of
//! `profiles/power.csv`, which `cargo xtask fit-speed` writes.

use std::sync::LazyLock;

use super::csv::{self, CsvError};

/// The text of `profiles/power.csv`.
pub const POWER: &str = include_str!("../../profiles/power.csv");

/// The header of the table.
pub const POWER_COLUMNS: &[&str] = &[
    "board",
    "rail",
    "whole_board",
    "base_watts",
    "sm_gigahertz_watts",
    "gigamac_gigahertz_joules",
    "gigabyte_joules",
    "low",
    "high",
    "measurements",
    "models",
    "median_percent",
];

/// The power of one rail. Rails are never compared: what one of them holds, another does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Rail {
    /// Board id.
    pub board: String,
    /// The rail's name, as measurements give it.
    pub name: String,
    /// Whether it feeds the whole board.
    pub whole_board: bool,
    /// Watts whatever the GPU does.
    pub base_watts: f64,
    /// Watts for each SM that is on and gigahertz of its clock.
    pub sm_gigahertz_watts: f64,
    /// Joules for a thousand million multiply-accumulates and gigahertz: voltage rises with the clock.
    pub gigamac_gigahertz_joules: f64,
    /// Joules for a thousand million bytes from memory.
    pub gigabyte_joules: f64,
    /// Measured over predicted watts: the low end for models left out of the fit.
    pub low: f64,
    /// The high end.
    pub high: f64,
    /// How many measurements it was fitted to.
    pub measurements: u64,
    /// Of how many models.
    pub models: u64,
    /// The median error for models left out of the fit, in percent.
    pub median_percent: f64,
}

/// What a GPU does while its power is measured or predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity {
    /// SMs that are on.
    pub sms: f64,
    /// Their clock in GHz.
    pub gigahertz: f64,
    /// Thousand million multiply-accumulates a second.
    pub gigamacs: f64,
    /// Thousand million bytes a second from memory.
    pub gigabytes: f64,
}

impl Rail {
    /// Watts that the rail is expected to draw.
    pub fn watts(&self, activity: Activity) -> f64 {
        self.base_watts
            + self.sm_gigahertz_watts * activity.sms * activity.gigahertz
            + self.gigamac_gigahertz_joules * activity.gigamacs * activity.gigahertz
            + self.gigabyte_joules * activity.gigabytes
    }
}

/// The rails of `board` with a fit, the whole board's first.
pub fn rails(board: &str) -> Vec<&'static Rail> {
    static ROWS: LazyLock<Vec<Rail>> = LazyLock::new(|| parse_power(POWER).unwrap_or_default());
    let mut rails: Vec<&Rail> = ROWS.iter().filter(|rail| rail.board == board).collect();
    rails.sort_by_key(|rail| !rail.whole_board);
    rails
}

/// Reads a table of rails.
///
/// # Errors
/// [`CsvError`], for the first line that is wrong.
pub fn parse_power(text: &str) -> Result<Vec<Rail>, CsvError> {
    let rail = |row: &csv::CsvLine<'_>| {
        Ok(Rail {
            board: row.word("board")?,
            name: row.word("rail")?,
            whole_board: row.word("whole_board")? == "yes",
            base_watts: row.number("base_watts")?,
            sm_gigahertz_watts: row.number("sm_gigahertz_watts")?,
            gigamac_gigahertz_joules: row.number("gigamac_gigahertz_joules")?,
            gigabyte_joules: row.number("gigabyte_joules")?,
            low: row.number("low")?,
            high: row.number("high")?,
            measurements: row.number("measurements")?,
            models: row.number("models")?,
            median_percent: row.number("median_percent")?,
        })
    };
    csv::rows(text, POWER_COLUMNS)?.iter().map(rail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_rails_read_and_the_whole_board_comes_first() {
        let rows = parse_power(POWER).unwrap_or_else(|error| panic!("{error}"));
        assert!(!rows.is_empty());
        let nano = rails("orin-nano-8gb");
        assert!(nano.iter().any(|rail| rail.name == "VDD_IN"));
        assert!(nano[0].whole_board);
    }

    #[test]
    fn every_part_of_the_power_adds_up() {
        let rail = Rail {
            base_watts: 1.0,
            sm_gigahertz_watts: 0.5,
            gigamac_gigahertz_joules: 0.1,
            gigabyte_joules: 0.2,
            ..parse_power(POWER).unwrap_or_default().remove(0)
        };
        let activity = Activity {
            sms: 8.0,
            gigahertz: 0.5,
            gigamacs: 40.0,
            gigabytes: 20.0,
        };
        assert_eq!(rail.watts(activity), 1.0 + 2.0 + 2.0 + 4.0);
    }
}
