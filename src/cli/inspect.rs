//! `orinplan inspect`: what is in a checkpoint, known architecture or not.

use anyhow::Context;

use super::args::{InspectArgs, PlainFormat};
use super::{Outcome, remote, show};
use crate::checkpoint;
use crate::hub::Purpose;
use crate::model::{self, Unknown, accept};
use crate::report;

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let (checkpoint, kind) =
        checkpoint::open_any(&args.model.model, &remote::stores(Purpose::Plan))?;
    // A model that turns texts into numbers is described where its architecture is known for that.
    let listed = kind.as_ref().filter(|_| checkpoint.retrieval.is_none());
    let unknown = match (&args.model.read.assume_kv, listed) {
        (_, Some(_)) => Unknown::Listed,
        (None, None) => Unknown::WeightsOnly,
        (Some(name), None) => Unknown::Assume(model::known_architecture(name)?),
    };
    let described = model::read(&checkpoint, unknown);
    // A checkpoint that cannot be planned is listed all the same, with the reason.
    let (model, refusal) = match described {
        Err(_) if checkpoint.retrieval.is_some() => (
            model::read(&checkpoint, Unknown::Listed).with_context(|| args.model.model.clone())?,
            None,
        ),
        Err(refusal) if !checkpoint.tensors.is_empty() => (
            model::read(&checkpoint, Unknown::Listed).with_context(|| args.model.model.clone())?,
            Some(refusal.to_string()),
        ),
        described => {
            let model = described.with_context(|| args.model.model.clone())?;
            let is_model = listed.is_none();
            let accepted = accept::checkpoint(&checkpoint, &model).map_err(|e| e.to_string());
            (model, accepted.err().filter(|_| is_model))
        }
    };
    let (kind, refusal) = (kind.as_ref(), refusal.as_deref());
    show(&match args.format {
        PlainFormat::Text => {
            report::inspect::text(&checkpoint, &model, kind, refusal, super::columns())
        }
        PlainFormat::Json => report::json(&report::inspect::document(
            &checkpoint,
            &model,
            kind,
            refusal,
        )),
    })?;
    Ok(Outcome::Yes)
}
