//! What drafts tokens for a model: whether its runtime has such a thing, and whether the two belong together.

use super::error::PlanError;
use crate::evidence::speculation::{DrafterKind, methods};
use crate::model::ModelSpec;
use crate::plan::draft::{Acceptance, Draft, Drafter};
use crate::runtime::RuntimeProfile;

/// llama.cpp takes a draft whose vocabulary differs by so many tokens at most (`SPEC_VOCAB_MAX_SIZE_DIFFERENCE`).
const VOCABULARY_DIFFERENCE: u64 = 128;

/// Holds a draft to the model and the runtime that it is for.
pub(super) fn check(
    draft: &Draft,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
) -> Result<(), PlanError> {
    if model.retrieval.is_some() {
        return Err(PlanError::NothingToDraft {
            model: model.name.clone(),
        });
    }
    if draft.method(runtime).is_none() {
        let known: Vec<&str> = methods(&runtime.id).map(|m| m.drafter.word()).collect();
        return Err(PlanError::NoSpeculation {
            runtime: runtime.name.clone(),
            drafter: draft.kind().word(),
            known: known.join(", "),
        });
    }
    if let (Some(Acceptance::Tokens(given)), Some(method)) =
        (draft.acceptance, draft.method(runtime))
        && given > method.positions as f64
    {
        let most = method.positions;
        return Err(PlanError::Acceptance { given, most });
    }
    if draft.kind() == DrafterKind::Mtp && model.ahead == 0 {
        return Err(PlanError::NoBlocksAhead {
            model: model.name.clone(),
        });
    }
    if let Drafter::Model(other) = &draft.by {
        let (own, theirs) = (model.dims.vocab, other.model.dims.vocab);
        if own.abs_diff(theirs) > VOCABULARY_DIFFERENCE {
            return Err(PlanError::DraftVocabulary {
                draft: other.model.name.clone(),
                theirs,
                model: model.name.clone(),
                own,
            });
        }
    }
    Ok(())
}
