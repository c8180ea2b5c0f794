//! A model that evaluates a text: opened, with its tokenizer, and loaded into the decoder.

use std::path::PathBuf;

use super::progress::Spinner;
use super::remote;
use crate::checkpoint::{Checkpoint, Stores};
use crate::decode::{LoadOptions, Model, Tokenizer};
use crate::foreign::Foreign;
use crate::model::{ModelSpec, Unknown};
use crate::planner::Planner;
use crate::quality::{self, Beginning, Chunks, QualityError, Text};

/// Warns where chunks are longer than any text that the model was made for.
pub(super) fn warn_of_long_chunks(model: &ModelSpec, tokens: u64) {
    let limit = model.dims.context;
    if limit > 0 && tokens > limit {
        super::warn(&format!(
            "chunks of {tokens} tokens are longer than the context of {}, {limit} tokens; what it predicts behind those means little",
            Foreign(&model.name)
        ));
    }
}

/// An open model with its tokenizer.
pub(super) struct Evaluated {
    pub(super) planner: Planner,
    pub(super) tokenizer: Tokenizer,
    /// Its file's or directory's name.
    pub(super) name: String,
}

impl Evaluated {
    pub(super) fn open(model: &str) -> anyhow::Result<Evaluated> {
        let open = |stores: &Stores| Planner::open_in(model, stores, |_| Unknown::Refuse);
        let planner = remote::open_here(open)?.writing()?;
        let tokenizer = Tokenizer::read(planner.checkpoint(), planner.model())?;
        let path = PathBuf::from(model);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Ok(Evaluated {
            planner,
            tokenizer,
            name: name.unwrap_or_else(|| model.to_owned()),
        })
    }

    /// A number that other weights are unlikely to have.
    pub(super) fn fingerprint(&self) -> anyhow::Result<u64> {
        Ok(quality::fingerprint(self.checkpoint())?)
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        self.planner.checkpoint()
    }

    /// Entries of the vocabulary.
    pub(super) fn vocabulary(&self) -> usize {
        self.planner.model().dims.vocab as usize
    }

    pub(super) fn chunks(
        &self,
        text: &Text,
        tokens: u64,
        most: Option<u64>,
        beginning: Beginning,
    ) -> Result<Chunks, QualityError> {
        let most = most.map(|most| most as usize);
        let chunks = text.chunks(&self.tokenizer, tokens as usize, most, beginning)?;
        warn_of_long_chunks(self.planner.model(), tokens);
        Ok(chunks)
    }

    /// Loads the weights.
    pub(super) fn load(&self, options: &LoadOptions, spinner: &Spinner) -> anyhow::Result<Model> {
        let (checkpoint, spec) = (self.checkpoint(), self.planner.model());
        let name = &self.name;
        let tell = &mut |read| spinner.say(format!("loading {name}, {read}"));
        Ok(Model::load(checkpoint, spec, options, tell)?)
    }
}
