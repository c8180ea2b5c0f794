//! What a search has measured so far, kept beside its output: the next run with the same flags goes on from there. The
//! importance matrix stays beside a list of types that is saved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The files of a search: `NAME.orinplan-probes.json` and `NAME.orinplan-imatrix.gguf`, where NAME is the output or else
/// the list of types; and the importance matrix that stays.
pub(super) struct State {
    probes: Option<PathBuf>,
    imatrix: Option<PathBuf>,
    /// Where the importance matrix that was made on the way stays.
    saved: Option<PathBuf>,
    /// Of everything that the measurements depend on.
    fingerprint: String,
}

/// The file of probes.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    fingerprint: String,
    /// Divergences in decimals that are read as the number that was written, which is not so of numbers in JSON.
    blocks: BTreeMap<u32, String>,
    kinds: BTreeMap<String, String>,
}

impl State {
    /// The state of the search for the output of `args`; without an output and a list nothing is kept.
    pub(super) fn open(
        args: &QuantizeArgs,
        setup: &Setup<'_>,
        importance: Option<&Importance>,
    ) -> anyhow::Result<State> {
        let output = args.output.as_deref().filter(|_| !args.dry_run);
        let beside = |end: &str| Some(named(output.or(args.save_types.as_deref())?, end));
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
            saved: saved_imatrix(args),
            fingerprint: format!("{:016x} {}", fingerprint.0, env!("CARGO_PKG_VERSION")),
        })
    }

    /// What an earlier run with the same weights, text and flags left; nothing if there was none.
    pub(super) fn resumed(&self, setup: &Setup<'_>) -> anyhow::Result<Resumed> {
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
            importance.file.clone_from(&setup.imatrix_name);
        }
        let block = |(block, divergence): (u32, String)| Some((block, divergence.parse().ok()?));
        let kind = |(name, divergence): (String, String)| {
            let (role, _) = TensorRole::of_gguf_name(&name);
            Some((role, divergence.parse().ok()?))
        };
        Ok(Resumed {
            importance,
            is_given: false,
            probes: Probes {
                blocks: kept.blocks.into_iter().filter_map(block).collect(),
                kinds: kept.kinds.into_iter().filter_map(kind).collect(),
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
                blocks: probes
                    .blocks
                    .iter()
                    .map(|(block, divergence)| (*block, divergence.to_string()))
                    .collect(),
                kinds: probes
                    .kinds
                    .iter()
                    .map(|(role, divergence)| {
                        (role.gguf_name(Some(0), "weight"), divergence.to_string())
                    })
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

    /// What ended the search. After an interruption, what was measured so far is not lost.
    pub(super) fn ended_by(&self, error: anyhow::Error, cancel: &AtomicBool) -> anyhow::Error {
        let kept = self.probes.as_ref().filter(|path| path.exists());
        match kept.filter(|_| cancel.load(Ordering::Relaxed)) {
            Some(path) => anyhow::anyhow!(
                "interrupted; the same command continues from what was measured, which {} and the file beside it hold",
                path.display()
            ),
            None => error,
        }
    }

    /// Puts the importance matrix beside the list of types, where there is one, and removes the other files.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        if let (Some(made), Some(saved)) = (&self.imatrix, &self.saved) {
            // Another file system may hold the list.
            std::fs::rename(made, saved)
                .or_else(|_| std::fs::copy(made, saved).map(drop))
                .with_context(|| format!("cannot write {}", saved.display()))?;
        }
        for path in [&self.probes, &self.imatrix].into_iter().flatten() {
            drop(std::fs::remove_file(path));
        }
        Ok(())
    }
}

/// Where the importance matrix of a search stays: beside the list of types that is to make the same file again. `None`
/// where it was given, or no list is saved.
pub(super) fn saved_imatrix(args: &QuantizeArgs) -> Option<PathBuf> {
    let list = args.save_types.as_deref();
    // Beside a device nothing stays.
    let is_file = |list: &&Path| std::fs::metadata(list).map_or(true, |there| there.is_file());
    let list = list.filter(|_| args.imatrix.is_none()).filter(is_file);
    list.map(|list| named(list, ".imatrix.gguf"))
}

/// What an importance matrix that was made on the way is called in the metadata of the output: as its file, if it stays.
pub(super) fn imatrix_name(args: &QuantizeArgs) -> String {
    let saved = saved_imatrix(args);
    let name = saved.as_deref().and_then(Path::file_name);
    name.map_or("orinplan".to_owned(), |name| {
        name.to_string_lossy().into_owned()
    })
}

fn named(output: &Path, end: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(end);
    output.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_says_that_the_same_command_continues() {
        let folder = tempfile::tempdir().unwrap();
        let probes = folder.path().join("a.gguf.orinplan-probes.json");
        let state = State {
            probes: Some(probes.clone()),
            imatrix: None,
            saved: None,
            fingerprint: String::new(),
        };
        let said = |is_cancelled: bool| {
            let ended = state.ended_by(anyhow::anyhow!("why"), &AtomicBool::new(is_cancelled));
            ended.to_string()
        };
        assert_eq!(said(true), "why", "nothing was kept");
        std::fs::write(&probes, "{}").unwrap();
        assert_eq!(said(false), "why");
        assert!(said(true).contains("the same command continues"));
        state.finish().unwrap();
        assert!(!probes.exists());
    }

    /// The reader of JSON is off by a bit in some.
    #[test]
    fn probes_are_read_as_the_numbers_that_were_written() {
        let kept = Kept {
            blocks: BTreeMap::from([(0, 0.001_726_753_182_317_084_5_f64.to_string())]),
            ..Kept::default()
        };
        let text = serde_json::to_string(&kept).unwrap();
        let read: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!(read.blocks[&0].parse(), Ok(0.001_726_753_182_317_084_5_f64));
    }
}
