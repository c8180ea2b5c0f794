//! Writes `fixtures/`: bare headers of published shapes, and small checkpoints with weights. The same
//! bytes every time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use crate::shapes::{Shape, Tensor, study};

/// Every fixture file by its path under `fixtures/`.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Writes every fixture, and removes what is no fixture any more.
pub(crate) fn write() -> anyhow::Result<()> {
    let root = root();
    let files = make()?;
    for path in existing(&root)? {
        if !files.contains_key(&path) {
            std::fs::remove_file(root.join(path))?;
        }
    }
    for (path, bytes) in &files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().context("a fixture lies in fixtures/")?)?;
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Fails if [`write`] would change anything.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = root();
    let files = make()?;
    let stale: Vec<PathBuf> = existing(&root)?
        .into_iter()
        .filter(|path| !files.contains_key(path))
        .collect();
    ensure!(
        stale.is_empty(),
        "{stale:?} are no fixtures any more; run `cargo xtask fixtures`"
    );
    for (path, bytes) in &files {
        if std::fs::read(root.join(path)).ok().as_ref() != Some(bytes) {
            bail!(
                "fixtures/{} is not what `cargo xtask fixtures` writes; run it",
                path.display()
            );
        }
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// Files under `root`, relative to it; the README is written by hand.
fn existing(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(root)?.to_owned()),
            }
        }
    }
    found.retain(|path| path != Path::new("README.md"));
    Ok(found)
}

fn make() -> anyhow::Result<Files> {
    let mut files = Files::new();
    for shape in study() {
        check_parameters(&shape)?;
        let directory = Path::new(shape.name);
        files.insert(directory.join("config.json"), pretty(&shape.config)?);
        files.insert(
            directory.join("model.header.safetensors"),
            safetensors_header(&shape.tensors)?,
        );
    }
    Ok(files)
}

fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// The shape's tensors must hold the published number of weights; scales are not weights.
fn check_parameters(shape: &Shape) -> anyhow::Result<()> {
    let weights = shape
        .tensors
        .iter()
        .filter(|(name, ..)| !name.ends_with("_scale_inv"));
    let sum: u64 = weights
        .map(|(_, _, dimensions)| dimensions.iter().product::<u64>())
        .sum();
    ensure!(
        sum == shape.parameters,
        "{}: {sum} weights, {} published",
        shape.name,
        shape.parameters
    );
    Ok(())
}

/// Length, JSON, padding to 8 bytes, as the safetensors library writes it.
fn safetensors_header(tensors: &[Tensor]) -> anyhow::Result<Vec<u8>> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, dtype, shape) in tensors {
        let width = match *dtype {
            "F32" => 4,
            "BF16" | "F16" => 2,
            "F8_E4M3" => 1,
            other => bail!("no width for {other}"),
        };
        let end = offset + shape.iter().product::<u64>() * width;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut json = serde_json::to_vec(&Value::Object(header))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}
