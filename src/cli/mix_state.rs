//! What a search has measured so far, kept beside its output: the next run with the same flags goes on from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::args::QuantizeArgs;
use super::output;
use crate::input;
use crate::inputs::Inputs;
use crate::model::TensorRole;
use crate::quality::mix::{Probes, Resumed, Setup, Stage};
use crate::quality::{self, Fingerprint};
use crate::quantize::{Destination, Importance};
use crate::units::Bytes;

/// The largest file of probes that is read; one has some 50 bytes for each probe.
const LIMIT: Bytes = Bytes(16 << 20);

/// The files of a search: `NAME.orinplan-probes.json` and `NAME.orinplan-imatrix.gguf`.
pub(super) struct State {
    probes: Option<PathBuf>,
    imatrix: Option<PathBuf>,
    /// Of everything that the measurements depend on.
    fingerprint: String,
}

/// The file of probes.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    fingerprint: String,
    blocks: BTreeMap<u32, f64>,
    kinds: BTreeMap<String, f64>,
}

impl State {
    /// The state of the search for the output of `args`; without an output nothing is kept.
    pub(super) fn open(
        args: &QuantizeArgs,
        setup: &Setup<'_>,
        importance: Option<&Importance>,
    ) -> anyhow::Result<State> {
        let output = args.output.as_deref().filter(|_| !args.dry_run);
        let beside = |end: &str| output.map(|path| named(path, end));
        let weights = quality::fingerprint(setup.checkpoint)?;
        let mut fingerprint = Fingerprint::new()
            .with(&weights.to_le_bytes())
            .with(&setup.text.fingerprint().to_le_bytes())
            .with(&setup.chunk_tokens.to_le_bytes());
        for tensor in setup.model.tensors.iter().filter(|_| importance.is_some()) {
            let values = importance.and_then(|importance| importance.of(&tensor.name));
            for value in values.unwrap_or_default() {
                fingerprint = fingerprint.with(&value.to_le_bytes());
            }
        }
        Ok(State {
            probes: beside(".orinplan-probes.json"),
            imatrix: beside(".orinplan-imatrix.gguf"),
            fingerprint: format!("{:016x} {}", fingerprint.0, env!("CARGO_PKG_VERSION")),
        })
    }

    /// What an earlier run with the same weights, text and flags left; nothing if there was none.
    pub(super) fn resumed(&self) -> anyhow::Result<Resumed> {
        let Some(path) = self.probes.as_ref().filter(|path| path.exists()) else {
            return Ok(Resumed::default());
        };
        let text = input::read_text(path, LIMIT)?;
        let kept: Kept = serde_json::from_str(&text).unwrap_or_default();
        if kept.fingerprint != self.fingerprint {
            return Ok(Resumed::default());
        }
        let imatrix = self.imatrix.as_ref().filter(|path| path.exists());
        let mut importance = imatrix.map(|path| Importance::open(path)).transpose()?;
        if let Some(importance) = &mut importance {
            NAME.clone_into(&mut importance.file);
        }
        let role = |(name, divergence): (String, f64)| {
            let (role, _) = TensorRole::of_gguf_name(&name);
            (role, divergence)
        };
        Ok(Resumed {
            importance,
            probes: Probes {
                blocks: kept.blocks,
                kinds: kept.kinds.into_iter().map(role).collect(),
            },
        })
    }

    /// Keeps what a stage has measured.
    pub(super) fn keep(&self, stage: &Stage<'_>) -> anyhow::Result<()> {
        let (Some(probes), Some(imatrix)) = (&self.probes, &self.imatrix) else {
            return Ok(());
        };
        let kept = match stage {
            Stage::Importance(_, sums) => {
                let destination = Destination {
                    path: imatrix,
                    overwrite: true,
                    inputs: Inputs::read([]),
                };
                sums.write(&destination)
                    .context("the importance matrix cannot be kept")?;
                Kept::default()
            }
            Stage::Probes(probes, _) => Kept {
                blocks: probes.blocks.clone(),
                kinds: probes
                    .kinds
                    .iter()
                    .map(|(role, divergence)| (role.gguf_name(Some(0), "weight"), *divergence))
                    .collect(),
                ..Kept::default()
            },
            _ => return Ok(()),
        };
        let kept = Kept {
            fingerprint: self.fingerprint.clone(),
            ..kept
        };
        output::write_file(probes, &serde_json::to_string(&kept)?)
    }

    /// Removes the files.
    pub(super) fn remove(&self) {
        for path in [&self.probes, &self.imatrix].into_iter().flatten() {
            drop(std::fs::remove_file(path));
        }
    }
}

/// What an importance matrix that was made on the way is called in the metadata of the output.
const NAME: &str = "orinplan";

fn named(output: &Path, end: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(end);
    output.with_file_name(name)
}
