//! Units as types, so that bytes, rates and times cannot be mixed up, nor GB and GiB. Sums and products of bytes
//! saturate.

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A count of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A transfer rate in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BytesPerSecond(pub f64);

/// A duration in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

/// A frequency in hertz.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hertz(pub f64);

impl Bytes {
    /// 2^20 bytes.
    pub const MIB: Bytes = Bytes(1 << 20);
    /// 2^30 bytes.
    pub const GIB: Bytes = Bytes(1 << 30);

    /// The value as a floating-point number of bytes.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// `self - other`, or zero where that would be negative.
    pub fn saturating_sub(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        *self = *self + other;
    }
}

impl Mul<u64> for Bytes {
    type Output = Bytes;
    fn mul(self, times: u64) -> Bytes {
        Bytes(self.0.saturating_mul(times))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        iter.fold(Bytes(0), Add::add)
    }
}

impl Div<BytesPerSecond> for Bytes {
    type Output = Seconds;
    fn div(self, rate: BytesPerSecond) -> Seconds {
        Seconds(self.as_f64() / rate.0)
    }
}

impl Add for Seconds {
    type Output = Seconds;
    fn add(self, other: Seconds) -> Seconds {
        Seconds(self.0 + other.0)
    }
}

impl std::iter::Sum for Seconds {
    fn sum<I: Iterator<Item = Seconds>>(iter: I) -> Seconds {
        iter.fold(Seconds(0.0), Add::add)
    }
}

/// Binary units with two decimals above a MiB: `1.86 GiB`, `300.75 MiB`, `512 B`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n >= Bytes::GIB.0 => format!("{:.2} GiB", n as f64 / Bytes::GIB.as_f64()),
            n if n >= Bytes::MIB.0 => format!("{:.1} MiB", n as f64 / Bytes::MIB.as_f64()),
            n if n >= 1024 => format!("{:.1} KiB", n as f64 / 1024.0),
            n => format!("{n} B"),
        };
        f.pad(&text)
    }
}

/// A count with its noun (and verb) in singular or plural: `1 tensor has rows`, `3 tensors have rows`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

/// A count of tokens: `1 token`, `512 tokens`.
pub fn tokens(count: u64) -> String {
    counted(count, "token", "tokens")
}

/// A number of tokens as people write it: `4096`, or `4k` and `1m` in units of 1024 and 1024 x 1024, in either case, at most
/// `u64::MAX`; `None` for other text.
pub fn parse_tokens(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let units = [("k", 1024), ("m", 1 << 20), ("", 1)].into_iter();
    let mut split = units.filter_map(|(unit, of)| Some((lower.strip_suffix(unit)?, of)));
    let (digits, unit) = split.next()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX).saturating_mul(unit))
}

/// Text that is not a number with one of the accepted units, or a size above 10^18 bytes.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a size: write a number with a unit, such as 5GB (10^9), 5GiB or 5Gi (2^30), 512MB, 512MiB or 4096B"
)]
pub struct ParseBytesError(String);

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Accepts `5GB` (10^9), `5GiB` or `5Gi` as `free -h` prints it (2^30), and likewise kB, KiB, MB,
    /// MiB, TB, TiB and B, with decimals (`1.5GiB`). A bare `5G` is refused: it means 10^9 to some and 2^30 to others.
    fn from_str(text: &str) -> Result<Bytes, ParseBytesError> {
        let refuse = || ParseBytesError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(refuse)?;
        let (number, unit) = trimmed.split_at(digits);
        let scale: f64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" | "ki" => 1024.0,
            "mib" | "mi" => 1024.0 * 1024.0,
            "gib" | "gi" => 1024.0 * 1024.0 * 1024.0,
            "tib" | "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(refuse()),
        };
        let value = number.parse::<f64>().map_err(|_| refuse())? * scale;
        if value > 1e18 {
            return Err(refuse());
        }
        Ok(Bytes(value.round() as u64))
    }
}

/// A divergence in nats with two figures, and at most four decimals: `0.031`, `0.0049`, `1.2`.
pub fn nats(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 5e-5 => "<0.0001".to_owned(),
        v => {
            let decimals = (1.0 - v.log10().floor()).clamp(1.0, 4.0) as usize;
            format!("{v:.decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_in_powers_of_two() {
        assert_eq!(parse_tokens("4096"), Some(4096));
        assert_eq!(parse_tokens("4k"), Some(4096));
        assert_eq!(parse_tokens("1M"), Some(1_048_576));
        assert_eq!(parse_tokens("99999999999999999999k"), Some(u64::MAX));
        for bad in ["", "k", "4 k", "4.5k", "-4", "4kk"] {
            assert_eq!(parse_tokens(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_need_an_unambiguous_unit() {
        assert_eq!("5GB".parse::<Bytes>().unwrap(), Bytes(5_000_000_000));
        assert_eq!("5GiB".parse::<Bytes>().unwrap(), Bytes(5 << 30));
        assert_eq!("1.5 MiB".parse::<Bytes>().unwrap(), Bytes(3 << 19));
        // As `free -h` prints them.
        assert_eq!("6.5Gi".parse::<Bytes>().unwrap(), Bytes(13 << 29));
        assert_eq!("788Mi".parse::<Bytes>().unwrap(), Bytes(788 << 20));
        for bad in ["5G", "5", "", "GB", "-1GB", "1..5GB", "1e3GB", "99999999TB"] {
            let error = bad.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains("5GiB"), "{error}");
        }
    }

    #[test]
    fn one_of_a_kind_is_singular() {
        let told = |count: u64| counted(count, "tensor has rows", "tensors have rows");
        assert_eq!(told(0), "0 tensors have rows");
        assert_eq!(told(1), "1 tensor has rows");
        assert_eq!(counted(2usize, "run", "runs"), "2 runs");
    }

    #[test]
    fn bytes_over_a_rate_are_seconds() {
        assert_eq!(Bytes(68_000_000_000) / BytesPerSecond(68e9), Seconds(1.0));
    }
}
