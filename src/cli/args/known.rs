//! What completion scripts offer as the value of a flag that takes other values too: boards besides files of one's own.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, Command};

use super::parse::{parse_encoded_type, parse_kv_type};
use crate::device::{self, Clocks, HOST};
use crate::dtype::Dtype;
use crate::plan::workload::KV_TYPES;
use crate::quantize::blocks;
use crate::runtime;
use crate::scheme::SCHEMES;

/// A parser of any text, with the values that are known.
#[derive(Clone)]
pub(super) struct Known(fn() -> Vec<String>);

/// Boards of the registry, and this machine.
pub(super) const DEVICES: Known =
    Known(|| device::ids().chain([HOST]).map(str::to_owned).collect());

/// Power modes of all boards, from the lowest power.
pub(super) const POWER_MODES: Known = Known(|| {
    let boards = device::list().unwrap_or_default();
    let modes = boards.into_iter().flat_map(|board| board.modes);
    let mut names: Vec<String> = modes.map(|mode| mode.name).collect();
    let watts = |name: &String| {
        let end = name.find(|c: char| !c.is_ascii_digit());
        let digits = end.and_then(|end| name.get(..end));
        digits
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(u32::MAX)
    };
    names.sort_by(|a, b| (watts(a), a).cmp(&(watts(b), b)));
    names.dedup();
    names
});

/// Runtimes.
pub(super) const RUNTIMES: Known = Known(|| runtime::builtin_ids().map(str::to_owned).collect());

/// Formats.
pub(super) const FORMAT: Known =
    Known(|| SCHEMES.iter().map(|scheme| scheme.id.to_owned()).collect());

/// Formats, and the word for all of them.
pub(super) const FORMATS: Known = Known(|| {
    let ids = SCHEMES.iter().map(|scheme| scheme.id);
    ids.chain(["all"]).map(str::to_owned).collect()
});

/// A parser of who sets the clocks.
pub(super) fn clocks() -> impl TypedValueParser<Value = Clocks> {
    let names = [Clocks::Locked, Clocks::Governed].map(Clocks::name);
    PossibleValuesParser::new(names).try_map(|text| text.parse::<Clocks>())
}

/// A parser of types of the KV cache.
pub(super) fn kv_type() -> impl TypedValueParser<Value = Dtype> {
    Known(|| names(KV_TYPES)).try_map(|text| parse_kv_type(&text))
}

/// A parser of types that tensors are written in.
pub(super) fn encoded_type() -> impl TypedValueParser<Value = Dtype> {
    Known(|| names(blocks::FORMATS)).try_map(|text| parse_encoded_type(&text))
}

fn names(types: &[Dtype]) -> Vec<String> {
    let names = types.iter().map(|dtype| dtype.name().to_lowercase());
    names.collect()
}

impl Known {
    /// The values that are known.
    pub(super) fn values(&self) -> Vec<String> {
        (self.0)()
    }
}

impl TypedValueParser for Known {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        flag: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, flag, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter().map(PossibleValue::new)))
    }
}
