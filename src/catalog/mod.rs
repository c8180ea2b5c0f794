//! The catalogue: published models of 0.1 to 16 B parameters, described by the values of their `config.json`, so that
//! they are planned by the same code as a configuration that a user has.
//!
//! In: `profiles/catalog.toml`, which is part of the program. Out: an [`Entry`] for each model, which opens as a
//! [`Planner`], and a [`Ranking`] of those that run on a board. Reads no files.

mod error;
mod published;
mod rank;
mod wire;

use serde_json::{Map, Value as Json};

use crate::checkpoint::{self, Origin};
use crate::model::{Tower, Unknown};
use crate::planner::{OpenError, Planner};
use crate::units::Bytes;

pub use error::{CatalogError, RankError};
pub use published::{Day, Published};
pub use rank::{Larger, Ranked, Ranking, Wish, size_class};

/// The text of `profiles/catalog.toml`.
pub const CATALOG: &str = include_str!("../../profiles/catalog.toml");

/// What a model is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Answers in a conversation.
    Chat,
    /// Reads images.
    Vision,
    /// Turns a text into a vector, or rates how well two texts go together: writes none.
    Embedding,
    /// Writes programs.
    Code,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 4] = [Task::Chat, Task::Vision, Task::Embedding, Task::Code];

    /// Its name in the catalogue and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Task::Chat => "chat",
            Task::Vision => "vision",
            Task::Embedding => "embedding",
            Task::Code => "code",
        }
    }
}

/// A model of the catalogue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id on the Hugging Face hub, `Qwen/Qwen3-8B`.
    pub id: String,
    /// The name of its shape, which models of the same dimensions share.
    pub shape: String,
    /// The parameters of the whole as published, towers included.
    pub parameters: Published,
    /// The parameters of its vision and audio towers and projectors; 0 where it has none.
    pub towers: u64,
    /// The parameters of heads that predict further tokens, of poolers and of unused rows, which no file for decoding has.
    pub left_out: u64,
    /// The licence: an SPDX id, or the vendor's own name of it.
    pub license: String,
    /// When it appeared.
    pub released: Day,
    /// What it is made for.
    pub tasks: Vec<Task>,
    /// Where these values were read: addresses.
    pub sources: Vec<String>,
    /// Whether each of them was; the others are to be read on its [`Entry::card`].
    pub is_confirmed: bool,
    /// Its `config.json`, as far as a plan depends on it.
    pub config: Map<String, Json>,
}

/// The models of the catalogue.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

/// Bytes of a weight of a tower: projectors are kept in 16 bit.
const TOWER_WEIGHT: Bytes = Bytes(2);

impl Catalog {
    /// The catalogue that is part of the program.
    ///
    /// # Errors
    /// None in a release: a test reads it.
    pub fn shipped() -> Result<Catalog, CatalogError> {
        Catalog::parse(CATALOG)
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    /// [`CatalogError`] for text of another form, an entry that names a shape or a source which is not there, an id that
    /// occurs twice, and a shape or a source that nothing names.
    pub fn parse(text: &str) -> Result<Catalog, CatalogError> {
        wire::parse(text).map(|entries| Catalog { entries })
    }

    /// The licences of the catalogue, each once, in alphabetical order.
    pub fn licenses(&self) -> Vec<&str> {
        let all = self.entries.iter().map(|entry| entry.license.as_str());
        let mut all: Vec<&str> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Entry {
    /// The model as `fit` plans its `config.json` alone, with the towers that only the weights would tell.
    ///
    /// # Errors
    /// As [`Planner::open`]; none for an entry of a release, since a test opens each.
    pub fn open(&self) -> Result<Planner, OpenError> {
        let origin = Origin::Hub(self.id.clone());
        let checkpoint = checkpoint::configured(origin, self.config.clone())?;
        let mut planner = Planner::described(checkpoint, Unknown::Refuse)?;
        if self.towers > 0 {
            planner.add_tower(Tower {
                name: "towers".to_owned(),
                parameters: self.towers,
                bytes: TOWER_WEIGHT * self.towers,
            });
        }
        Ok(planner)
    }

    /// The parameters that its configuration comes to, with those that it does not show: what [`Entry::parameters`] is held to.
    ///
    /// # Errors
    /// As [`Entry::open`].
    pub fn count(&self) -> Result<u64, OpenError> {
        let own = self.open()?.model().parameters;
        Ok(own + self.towers + self.left_out)
    }

    /// Whether it has this task.
    pub fn is_for(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }

    /// Whether it writes text, so that a decode rate says something about it.
    pub fn writes(&self) -> bool {
        self.tasks.iter().any(|task| *task != Task::Embedding)
    }

    /// The address of its card.
    pub fn card(&self) -> String {
        format!("https://huggingface.co/{}", self.id)
    }
}
