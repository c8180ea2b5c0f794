//! The values of flags, read from text; each error says what may be written.

use std::ops::RangeInclusive;

use crate::device::L4tRelease;
use crate::dtype::Dtype;
use crate::model::projector::ImageSize;
use crate::plan::workload::KV_TYPES;
use crate::quantize::blocks::FORMATS;
use crate::scheme::{Rules, TypeOverride};
use crate::units::{Seconds, parse_tokens};

/// A parser of a number of tokens in `range`: `4096`, or `4k` and `1m` in units of 1024 and 1024 x 1024.
pub(super) fn tokens(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let (least, most) = (range.start(), range.end());
        let bounds = format!("from {least} to {most}");
        // Other programs take these for the model's own limit.
        if text == "-1" || (text == "0" && *least > 0) {
            return Err(format!(
                "write the number, {bounds}; without the flag its default holds"
            ));
        }
        let count = parse_tokens(text).ok_or("write a number of tokens, such as 4096 or 4k")?;
        let is_within = range.contains(&count);
        is_within
            .then_some(count)
            .ok_or_else(|| format!("a number of tokens is {bounds} here"))
    }
}

/// Sequences decoded at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Parallel {
    /// So many.
    Count(u64),
    /// The number that gives the most tokens a second.
    Auto,
}

impl Parallel {
    /// The number, one where it is to be found.
    pub(in crate::cli) fn count(self) -> u64 {
        match self {
            Parallel::Count(count) => count,
            Parallel::Auto => 1,
        }
    }
}

pub(super) fn parse_parallel(text: &str) -> Result<Parallel, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Parallel::Auto);
    }
    let count = text.parse::<u64>().ok();
    let count = count.filter(|count| (1..=1024).contains(count));
    count
        .map(Parallel::Count)
        .ok_or_else(|| "write a number of sequences from 1 to 1024, or auto".to_owned())
}

/// Milliseconds or seconds, such as `80ms` or `0.1s`.
pub(super) fn parse_latency(text: &str) -> Result<Seconds, String> {
    let lower = text.trim().to_ascii_lowercase();
    let units = [("ms", 1e-3), ("s", 1.0)].into_iter();
    let mut read = units.filter_map(|(unit, scale)| {
        let number: f64 = lower.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number * scale)
    });
    let seconds = read
        .next()
        .filter(|seconds| (1e-4..=60.0).contains(seconds));
    seconds
        .map(Seconds)
        .ok_or_else(|| "write a time from 0.1ms to 60s, such as 80ms".to_owned())
}

/// Watts, such as `10W` or `7.5`.
pub(super) fn parse_watts(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix(['W', 'w']).unwrap_or(text).trim();
    let watts = digits.parse::<f64>().ok();
    watts
        .filter(|watts| (0.1..=2000.0).contains(watts))
        .ok_or_else(|| "write watts from 0.1 to 2000, such as 10W".to_owned())
}

pub(super) fn parse_image(text: &str) -> Result<ImageSize, String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=16384).contains(side));
    let sides = text.split_once(['x', 'X']);
    let size = sides.and_then(|(width, height)| {
        Some(ImageSize {
            width: side(width)?,
            height: side(height)?,
        })
    });
    size.ok_or_else(|| "an image reads 1024x768, with sides of 1 to 16384 pixels".to_owned())
}

pub(super) fn parse_release(text: &str) -> Result<L4tRelease, String> {
    if let Some(releases) = L4tRelease::of_version(text) {
        return Err(format!(
            "{text} is a version of JetPack; its L4T release is {releases} (see /etc/nv_tegra_release)"
        ));
    }
    let release = text
        .parse()
        .ok()
        .filter(|release: &L4tRelease| release.is_known());
    release.ok_or_else(|| {
        "an L4T release of an Orin begins with 35, 36, 38 or 39, such as 36.4.7; see /etc/nv_tegra_release".to_owned()
    })
}

pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    let percent = percent.filter(|percent| (0.1..=1000.0).contains(percent));
    percent.ok_or_else(|| "a tolerance is from 0.1 to 1000 percent".to_owned())
}

pub(super) fn parse_bits(text: &str) -> Result<f64, String> {
    let bits = text.parse::<f64>().ok();
    let bits = bits.filter(|bits| (1.0..=32.0).contains(bits));
    bits.ok_or_else(|| "write a number of bits from 1 to 32, such as 4.5".to_owned())
}

pub(super) fn parse_nats(text: &str) -> Result<f64, String> {
    let nats = text.parse::<f64>().ok();
    let nats = nats.filter(|nats| (1e-6..=10.0).contains(nats));
    nats.ok_or_else(|| "a divergence is from 0.000001 to 10 nats, such as 0.05".to_owned())
}

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    let rate = rate.filter(|rate| (0.01..=1e6).contains(rate));
    rate.ok_or_else(|| "a rate is from 0.01 to 1000000 tokens a second, such as 20".to_owned())
}

pub(super) fn parse_rules(text: &str) -> Result<Rules, String> {
    let found = Rules::ALL
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, rules)| *rules).ok_or_else(|| {
        let known: Vec<&str> = Rules::ALL.iter().map(|(name, _)| *name).collect();
        format!("known versions are {}", known.join(", "))
    })
}

pub(super) fn parse_encoded_type(text: &str) -> Result<Dtype, String> {
    let found = Dtype::from_name(text).filter(|dtype| FORMATS.contains(dtype));
    found.ok_or_else(encoded_types)
}

pub(super) fn parse_type_override(text: &str) -> Result<TypeOverride, String> {
    let wish: TypeOverride = text.parse().map_err(|error| format!("{error}"))?;
    if FORMATS.contains(&wish.dtype) {
        Ok(wish)
    } else {
        Err(encoded_types())
    }
}

fn encoded_types() -> String {
    let known: Vec<String> = FORMATS.iter().map(|d| d.name().to_lowercase()).collect();
    format!("types that can be written are {}", known.join(", "))
}

pub(super) fn parse_kv_type(text: &str) -> Result<Dtype, String> {
    let found = Dtype::from_name(text).filter(|dtype| KV_TYPES.contains(dtype));
    found.ok_or_else(|| {
        let known: Vec<String> = KV_TYPES
            .iter()
            .map(|dtype| dtype.name().to_lowercase())
            .collect();
        format!("known types are {}", known.join(", "))
    })
}
