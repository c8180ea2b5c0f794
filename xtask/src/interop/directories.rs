//! `--full`: what needs PyTorch, an install of several gigabytes. The INT4 and FP8 directories
//! through compressed-tensors and Transformers, and `expected.json` against Transformers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint::{self, Checkpoint};
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::quantize::packed::{Files, Weight};
use serde_json::Value;

use super::bench::Bench;
use super::environment;
use super::families::list;

/// The schemes of directories.
const SCHEMES: &[&str] = &[
    "int4",
    "int4_asym",
    "int4_g64",
    "int4_asym_g64",
    "int4_g32",
    "int4_asym_g32",
    "fp8",
];

/// Families that are written as directories.
const FAMILIES: &[&str] = &["llama", "qwen3", "phi3", "granitemoe", "gemma4_moe"];

/// Those with stacked experts, which Transformers does not decode when they are stored one by one.
const STACKED: &[&str] = &["granitemoe", "gemma4_moe"];

/// Checks all schemes, and the expected values themselves.
///
/// # Errors
/// An environment that cannot be made.
pub(super) fn check(bench: &mut Bench) -> anyhow::Result<()> {
    let requirements = ["requirements.txt", "requirements-full.txt"];
    let requirements = requirements.map(|name| bench.scripts.join(name));
    let requirements: Vec<&Path> = requirements.iter().map(PathBuf::as_path).collect();
    let python = environment::python(&bench.work, "python-full", &requirements)?;
    let outcome = expected(bench, &python);
    bench.report("expected.json", outcome);
    for scheme in SCHEMES {
        for family in FAMILIES {
            if STACKED.contains(family) && scheme.contains("asym") {
                continue;
            }
            let outcome = directory(bench, &python, family, scheme);
            bench.report(&format!("{family} {scheme}"), outcome);
        }
    }
    Ok(())
}

/// What `script` prints.
fn output(
    bench: &Bench,
    python: &Path,
    script: &str,
    arguments: &[&Path],
) -> anyhow::Result<String> {
    let run = Command::new(python)
        .arg(bench.scripts.join(script))
        .args(arguments)
        .output()?;
    if !run.status.success() {
        let words = String::from_utf8_lossy(&run.stderr);
        let last: Vec<&str> = words.lines().rev().take(3).collect();
        bail!("{script} failed: {}", last.join(" | "));
    }
    Ok(String::from_utf8(run.stdout)?)
}

/// The file that ordinary runs compare with is what Transformers says today.
fn expected(bench: &Bench, python: &Path) -> anyhow::Result<String> {
    let text = output(bench, python, "expected.py", &[&bench.file("checkpoints")])?;
    let now: Value = serde_json::from_str(&text)?;
    let path = bench.scripts.join("expected.json");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if serde_json::from_str::<Value>(&kept).is_ok_and(|kept| kept == now) {
        return Ok("Transformers computes what it says".to_owned());
    }
    let new = bench.file("expected.json");
    fs::write(&new, text)?;
    bail!(
        "Transformers computes something else; see {}",
        new.display()
    )
}

fn open(path: &Path) -> anyhow::Result<(Checkpoint, ModelSpec)> {
    let checkpoint = checkpoint::open(&path.display().to_string())?;
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    Ok((checkpoint, model))
}

/// The values that compressed-tensors finds in a directory are those that we read from it, and with its scales and zero
/// points it packs the original weights into the same bytes.
fn directory(bench: &Bench, python: &Path, family: &str, scheme: &str) -> anyhow::Result<String> {
    let model = bench.file("checkpoints").join(family);
    let target = bench.quantize(&model, scheme, &format!("{family}-{scheme}"), &[])?;

    let floats = bench.file("values.f32");
    let text = output(bench, python, "compressed.py", &[&target, &model, &floats])?;
    let said: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let bytes = fs::read(&floats)?;
    let mut left = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b));
    let mut theirs: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for row in list(&said["weights"])? {
        let name = row["name"].as_str().context("no name")?;
        let count = usize::try_from(row["count"].as_u64().context("no count")?)?;
        ensure!(
            row["alike"] != false,
            "compressed-tensors packs {name} into other bytes"
        );
        theirs.insert(name.to_owned(), left.by_ref().take(count).collect());
    }
    let (checkpoint, model) = open(&target)?;
    let files = Files::open(&checkpoint)?;
    let mut quantized = 0;
    ensure!(
        model.stored.len() == theirs.len(),
        "compressed-tensors finds {} weights",
        theirs.len()
    );
    for logical in &model.stored {
        let name = &logical.name;
        let weight = Weight::open(&checkpoint, &files, logical)?;
        let mut ours = Vec::new();
        weight.read(0..weight.rows(), &mut ours)?;
        let theirs = theirs
            .get(name)
            .with_context(|| format!("compressed-tensors lacks {name}"))?;
        ensure!(
            ours.len() == theirs.len(),
            "{name} has {} values there",
            theirs.len()
        );
        if let Some(at) = (0..ours.len()).find(|&i| ours[i] != theirs[i]) {
            bail!(
                "value {at} of {name} is {} there, {} here",
                theirs[at],
                ours[at]
            );
        }
        quantized += usize::from(logical.sources.len() > 1);
    }
    let tokens = list(&said["ids"])?.len();
    let stacked = STACKED.contains(&family);
    ensure!(
        tokens == if stacked { 0 } else { 4 },
        "Transformers decodes {tokens} tokens, not 4"
    );
    Ok(format!(
        "{} weights, {quantized} of them quantized, equal compressed-tensors' to the bit, as it would pack them{}",
        model.stored.len(),
        if stacked {
            ""
        } else {
            "; Transformers decodes"
        }
    ))
}
