//! `orinplan inspect`: what is in a checkpoint, known architecture or not.

use anyhow::Context;

use super::args::{InspectArgs, PlainFormat};
use super::{Outcome, print};
use crate::model::{self, Unknown};
use crate::{checkpoint, report};

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let checkpoint = checkpoint::open(&args.model.model)?;
    let unknown = match &args.model.assume_kv {
        None => Unknown::WeightsOnly,
        Some(name) => Unknown::Assume(model::known_architecture(name)?),
    };
    let model = model::read(&checkpoint, unknown).with_context(|| args.model.model.clone())?;
    print(&match args.format {
        PlainFormat::Text => report::inspect::text(&checkpoint, &model),
        PlainFormat::Json => report::json(&report::inspect::document(&checkpoint, &model)),
    })?;
    Ok(Outcome::Yes)
}
