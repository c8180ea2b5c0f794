//! The file of several models on one board: TOML, as `orinplan board plan.toml` reads it.
//!
//! In: text, and the request that its entries change. Out: a [`SharedRequest`] and the board that it names.

use std::path::Path;

use serde::Deserialize;

use super::request::{Request, Schemes};
use super::shared::{Program, SharedModel, SharedRequest, Storage};
use crate::dtype::Dtype;
use crate::input;
use crate::model::adapter::Adapter;
use crate::plan::workload::KV_TYPES;
use crate::units::{Bytes, parse_tokens};

/// What is wrong with a file of several models.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct SharedFileError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedFile {
    /// A board's id or a profile file.
    pub device: Option<String>,
    /// Its power mode.
    pub power_mode: Option<String>,
    storage: Option<String>,
    #[serde(default)]
    model: Vec<ModelEntry>,
    #[serde(default)]
    program: Vec<ProgramEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    model: String,
    name: Option<String>,
    runtime: Option<String>,
    scheme: Option<String>,
    context: Option<Tokens>,
    parallel: Option<u64>,
    kv_type: Option<String>,
    priority: Option<u32>,
    #[serde(default)]
    load: Load,
    #[serde(default)]
    text_only: bool,
    #[serde(default)]
    adapters: Vec<String>,
}

/// A number of tokens, or a text such as `4k`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number of tokens, such as 4096 or \"4k\""
)]
enum Tokens {
    Count(u64),
    Text(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Load {
    #[default]
    Resident,
    OnDemand,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramEntry {
    name: String,
    memory: String,
}

impl SharedFile {
    /// The file with this text; `file` is its name for errors.
    ///
    /// # Errors
    /// [`SharedFileError`] where it is no TOML of this form, or names no model.
    pub fn parse(text: &str, file: &str) -> Result<SharedFile, SharedFileError> {
        let wrong = |problem| SharedFileError {
            file: file.to_owned(),
            problem,
        };
        let parsed: SharedFile = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| Some(text.get(..span.start)?.matches('\n').count() + 1));
            let line = line.map_or(String::new(), |line| format!("line {line}: "));
            let message = input::in_words(error.message());
            wrong(format!("{line}{}", message.replace('\n', ", ")))
        })?;
        if parsed.model.is_empty() {
            return Err(wrong(
                "it names no model; add a section [[model]] for each, with model = \"..\""
                    .to_owned(),
            ));
        }
        Ok(parsed)
    }

    /// The request of the file. Entries change `base`; a model that is a path is found beside the file at `path`.
    ///
    /// # Errors
    /// [`SharedFileError`] where a size, a type or a storage cannot be read, a number is 0, or a name appears twice.
    pub fn request(&self, path: &Path, base: &Request) -> Result<SharedRequest, SharedFileError> {
        let wrong = |problem| SharedFileError {
            file: path.display().to_string(),
            problem,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut models: Vec<SharedModel> = Vec::new();
        for entry in &self.model {
            let model = entry.model(folder, base).map_err(wrong)?;
            if models.iter().any(|known| known.name == model.name) {
                let name = &model.name;
                return Err(wrong(format!(
                    "two models are called `{name}`; give one a name of its own"
                )));
            }
            models.push(model);
        }
        let mut programs = Vec::new();
        for entry in &self.program {
            let memory = entry.memory.parse::<Bytes>();
            let memory =
                memory.map_err(|error| wrong(format!("program `{}`: {error}", entry.name)))?;
            programs.push(Program {
                name: entry.name.clone(),
                memory,
            });
        }
        let storage = self.storage.as_deref().map(Storage::named).transpose();
        Ok(SharedRequest {
            models,
            programs,
            storage: storage.map_err(wrong)?.unwrap_or_default(),
        })
    }
}

/// The adapter in a folder or of its `adapter_config.json`.
fn adapter(path: &Path, named: &str) -> Result<Adapter, String> {
    /// A configuration has some hundred bytes.
    const LIMIT: Bytes = Bytes(1 << 20);
    let file = if path.is_dir() {
        path.join("adapter_config.json")
    } else {
        path.to_owned()
    };
    let text =
        input::read_text(&file, LIMIT).map_err(|error| format!("adapter {named}: {error}"))?;
    Adapter::parse(named, &text).map_err(|problem| format!("adapter {named} {problem}"))
}

impl ModelEntry {
    fn model(&self, folder: &Path, base: &Request) -> Result<SharedModel, String> {
        let name = self.name.as_ref().unwrap_or(&self.model).clone();
        let at = |problem: String| format!("model `{name}`: {problem}");
        let mut request = base.clone();
        if self.runtime.is_some() {
            request.board.runtime.clone_from(&self.runtime);
        }
        if let Some(id) = &self.scheme {
            request.schemes = Schemes::of(std::slice::from_ref(id));
        }
        let work = &mut request.workload;
        let above_0 = |key: &str, value: u64, most: u64| {
            let is_fine = (1..=most).contains(&value);
            is_fine
                .then_some(value)
                .ok_or_else(|| at(format!("{key} is {value}; it must be from 1 to {most}")))
        };
        if let Some(context) = &self.context {
            let count = match context {
                Tokens::Count(count) => Some(*count),
                Tokens::Text(text) => parse_tokens(text),
            };
            let count = count.ok_or_else(|| {
                at("context is a number of tokens, such as 4096 or \"4k\"".to_owned())
            })?;
            work.context = Some(above_0("context", count, 1 << 30)?);
        }
        if let Some(parallel) = self.parallel {
            work.parallel = above_0("parallel", parallel, 1024)?;
        }
        if let Some(kv_type) = &self.kv_type {
            let dtype = Dtype::from_name(kv_type).filter(|dtype| KV_TYPES.contains(dtype));
            work.kv_type = dtype.ok_or_else(|| {
                let known = KV_TYPES.iter().map(|dtype| dtype.name().to_lowercase());
                let known = known.collect::<Vec<_>>().join(", ");
                at(format!(
                    "there is no KV cache of `{kv_type}`; known types are {known}"
                ))
            })?;
        }
        work.text_only |= self.text_only;
        for named in &self.adapters {
            work.adapters
                .push(adapter(&folder.join(named), named).map_err(at)?);
        }
        let beside = folder.join(&self.model);
        let model = if beside.exists() {
            beside.display().to_string()
        } else {
            self.model.clone()
        };
        Ok(SharedModel {
            model,
            request,
            priority: self.priority.unwrap_or(1),
            on_demand: matches!(self.load, Load::OnDemand),
            name,
        })
    }
}
