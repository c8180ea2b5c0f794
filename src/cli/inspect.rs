//! `orinplan inspect`: what is in a checkpoint, known architecture or not.

use anyhow::Context;

use super::args::{InspectArgs, PlainFormat};
use super::{Outcome, show};
use crate::checkpoint::{self, Stores};
use crate::model::{self, Unknown};
use crate::report;

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let (checkpoint, kind) = checkpoint::open_any(&args.model.model, &Stores::from_env())?;
    let unknown = match (&args.model.assume_kv, &kind) {
        (_, Some(_)) => Unknown::Listed,
        (None, None) => Unknown::WeightsOnly,
        (Some(name), None) => Unknown::Assume(model::known_architecture(name)?),
    };
    let model = model::read(&checkpoint, unknown).with_context(|| args.model.model.clone())?;
    show(&match args.format {
        PlainFormat::Text => report::inspect::text(&checkpoint, &model, kind.as_ref()),
        PlainFormat::Json => report::json(&report::inspect::document(
            &checkpoint,
            &model,
            kind.as_ref(),
        )),
    })?;
    Ok(Outcome::Yes)
}
