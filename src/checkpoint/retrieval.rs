//! What a checkpoint says of a model that turns texts into numbers: the tokens that its tokens attend to, and how the
//! numbers of a text's tokens become one vector.
//!
//! Sources: `modules.json` and its folders, as Sentence Transformers writes them and llama.cpp's converter reads them
//! (`_try_set_pooling_type` of `conversion/base.py`); `LLAMA_POOLING_TYPE` of llama.cpp.

use std::path::Path;

use serde_json::Value as Json;

use super::kind::{self, Attends, OtherKind};
use super::{Checkpoint, RawConfig, json};
use crate::units::Bytes;

/// A model that turns texts into numbers and writes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrieval {
    /// What it is called in messages.
    pub kind: OtherKind,
    /// What the files say of the tokens that a token attends to.
    pub attends: Attends,
    /// How the numbers of a text's tokens become one vector, where the files say so.
    pub pooling: Option<Pooling>,
}

/// How the numbers of a text's tokens become one vector, with the numbers of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean = 1,
    /// Those of the first token.
    Cls = 2,
    /// Those of the last token.
    Last = 3,
    /// One number that ranks a pair of texts.
    Rank = 4,
}

impl Pooling {
    const ALL: [Pooling; 4] = [Pooling::Mean, Pooling::Cls, Pooling::Last, Pooling::Rank];

    /// llama.cpp's name, as in `--pooling last`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
            Pooling::Rank => "rank",
        }
    }
}

/// The largest of these files that is read. Real ones stay below 4 KiB.
const LIMIT: Bytes = Bytes(1 << 20);

/// What `checkpoint` is for, if its kind is one that turns texts into numbers.
pub(super) fn of(checkpoint: &Checkpoint, kind: Option<&OtherKind>) -> Option<Retrieval> {
    let kind = kind?;
    Some(Retrieval {
        attends: kind.retrieves?,
        pooling: pooling(checkpoint),
        kind: kind.clone(),
    })
}

impl Retrieval {
    /// A model of the architecture `name`, which is of encoders.
    pub fn encoder(name: &str) -> Retrieval {
        Retrieval {
            kind: kind::encoder(name),
            attends: Attends::All,
            pooling: None,
        }
    }
}

/// The pooling that the files of `checkpoint` state; one that cannot be read is none.
fn pooling(checkpoint: &Checkpoint) -> Option<Pooling> {
    match &checkpoint.config {
        RawConfig::Gguf(metadata) => {
            let name = metadata.str("general.architecture").ok().flatten()?;
            let stated = metadata.u64(&format!("{name}.pooling_type")).ok().flatten();
            let mut tensors = checkpoint.tensors.iter();
            match stated {
                Some(stated) => Pooling::ALL.into_iter().find(|p| *p as u64 == stated),
                // llama.cpp's converter leaves it to `--reranking`.
                None => tensors
                    .any(|tensor| tensor.name.starts_with(HEAD))
                    .then_some(Pooling::Rank),
            }
        }
        RawConfig::HuggingFace(config) if ranks(config) || kind::ranks(&checkpoint.name) => {
            Some(Pooling::Rank)
        }
        RawConfig::HuggingFace(_) => of_modules(checkpoint.directory.as_deref()?),
    }
}

/// How names of the tensors of a head that ranks begin in a GGUF.
const HEAD: &str = "cls.";

/// Whether a class of `config` ranks.
fn ranks(config: &Json) -> bool {
    let classes = config.get("architectures").and_then(Json::as_array);
    let mut classes = classes.into_iter().flatten().filter_map(Json::as_str);
    classes.any(kind::ranks_by_class)
}

fn of_modules(directory: &Path) -> Option<Pooling> {
    let modules: Json = json::read(&directory.join("modules.json"), LIMIT).ok()?;
    let is_pooling = |module: &&Json| {
        let kind = module.get("type").and_then(Json::as_str);
        kind.is_some_and(|kind| kind.ends_with("Pooling"))
    };
    let folder = modules.as_array()?.iter().find(is_pooling)?;
    let folder = Path::new(folder.get("path")?.as_str()?);
    // A folder of this model's own, whatever the file says.
    let inside = |part| matches!(part, std::path::Component::Normal(_));
    if !folder.components().all(inside) {
        return None;
    }
    let config: Json = json::read(&directory.join(folder).join("config.json"), LIMIT).ok()?;
    let stated = |key: &str| config.get(key).and_then(Json::as_bool) == Some(true);
    let named = || config.get("pooling_mode").and_then(Json::as_str);
    if stated("pooling_mode_mean_tokens") {
        Some(Pooling::Mean)
    } else if stated("pooling_mode_cls_token") {
        Some(Pooling::Cls)
    } else if stated("pooling_mode_lasttoken") {
        Some(Pooling::Last)
    } else {
        match named()? {
            "mean" => Some(Pooling::Mean),
            "cls" => Some(Pooling::Cls),
            "lasttoken" => Some(Pooling::Last),
            _ => None,
        }
    }
}
