//! A published number of parameters, with the precision that it was published with, and a day or month of release.

use std::fmt;

/// A number of parameters as published: `8190735360` exactly, or `7.6B` within half of its last digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Published {
    /// The number.
    pub count: u64,
    /// How far the true number may be from it.
    pub within: u64,
}

impl Published {
    /// Whether a count is what was published.
    pub fn agrees(self, count: u64) -> bool {
        self.count.abs_diff(count) <= self.within
    }
}

impl TryFrom<String> for Published {
    type Error = String;

    fn try_from(text: String) -> Result<Published, String> {
        let wrong =
            || format!("`{text}` is not a number of parameters, such as 8190735360, 494M or 7.6B");
        let units = [("M", 6), ("B", 9)];
        let unit = units
            .iter()
            .find_map(|(unit, power)| Some((text.strip_suffix(unit)?, *power)));
        let (digits, power) = unit.unwrap_or((&text, 0));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(part) || part.len() > power {
            return Err(wrong());
        }
        let step = 10_u64.pow((power - part.len()) as u32);
        let number = format!("{whole}{part}")
            .parse::<u64>()
            .map_err(|_| wrong())?;
        Ok(Published {
            count: number.checked_mul(step).ok_or_else(wrong)?,
            within: step / 2,
        })
    }
}

/// A day, `2025-04-27`, or a month where the day is not known, `2025-04`. Days are in order as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Day(String);

impl Day {
    /// Year and month, `2025-04`.
    pub fn month(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Day, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_within = |text: &str, digits: usize, most: u32| {
            let number = text.parse::<u32>().ok().filter(|_| text.len() == digits);
            number.is_some_and(|number| (1..=most).contains(&number))
        };
        let is_month =
            |year: &str, month: &str| is_within(year, 4, 9999) && is_within(month, 2, 12);
        let is_right = match parts[..] {
            [year, month] => is_month(year, month),
            [year, month, day] => is_month(year, month) && is_within(day, 2, 31),
            _ => false,
        };
        if is_right {
            Ok(Day(text))
        } else {
            Err(format!(
                "`{text}` is neither a day, such as 2025-04-27, nor a month, such as 2025-04"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_agrees_within_the_digits_that_were_published() {
        let published = |text: &str| Published::try_from(text.to_owned());
        let exact = published("8190735360").unwrap();
        assert!(exact.agrees(8_190_735_360) && !exact.agrees(8_190_735_361));
        let rounded = published("7.6B").unwrap();
        assert!(rounded.agrees(7_615_616_512) && rounded.agrees(7_550_000_000));
        assert!(!rounded.agrees(7_650_000_001) && !rounded.agrees(7_549_999_999));
        assert_eq!(published("494M").unwrap().within, 500_000);
        for wrong in [
            "",
            "B",
            ".5B",
            "7,6B",
            "7.6",
            "-1B",
            "1e9",
            "7.6b",
            "99999999999B",
        ] {
            assert!(published(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_and_months_are_in_order() {
        let day = |text: &str| Day::try_from(text.to_owned());
        assert!(day("2025-04").unwrap() < day("2025-04-27").unwrap());
        assert!(day("2025-04-27").unwrap() < day("2025-12").unwrap());
        assert_eq!(day("2025-04-27").unwrap().month(), "2025-04");
        for wrong in [
            "",
            "2025",
            "2025-13",
            "2025-4",
            "25-04",
            "2025-04-32",
            "2025-04-27-1",
        ] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }
}
