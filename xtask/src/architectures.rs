//! `cargo xtask architectures`: writes `docs/architectures.md`, the table of what is done with each architecture and what
//! that was checked against, from the entries and from the data of the checks; with `--check` fails if the file differs.
//!
//! In: the table of architectures, `tests/data/converter/*.txt`, `xtask/interop/expected.json`. Out: Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use orinplan::model::projector::known_projectors;
use orinplan::model::{KnownArchitecture, known_architectures, refused_architectures};
use serde_json::Value;

use crate::interop::{embeddings, images};

const HEAD: &str = "# Architectures

What the program does with models of each architecture (llama.cpp's name), by the class in `config.json`. It plans them
from a `config.json` and from a GGUF; those that llama.cpp does not have (*no GGUF*) from a `config.json` alone, for the
runtime that serves them. Those that no runtime here serves are described and not planned. `cargo xtask architectures`
writes this file.

- *converter*: a conversion is held to llama.cpp's converter, key by key and byte by byte (`tests/data/converter`).
- *logits*: `cargo xtask interop` holds the decoder's logits to llama.cpp's on the same file in three formats, and those
  of llama.cpp on the converted file to Transformers'.
- *embeddings*: of models that turn texts into numbers, `cargo xtask interop` holds the decoder's vectors of texts to
  llama.cpp's on the same file, in floats and in blocks: the cosine of their angle is above 0.9999.
- *images*: of models with images, the projector is held to the file that llama.cpp's converter (or script) writes, key
  by key and byte by byte (`tests/data/projectors`), and `cargo xtask interop` gives llama.cpp's multimodal library the
  pair: it loads, answers about images, makes the planned tokens of them and reserves the planned memory. *file* stands
  for the first alone. Projectors are listed by `clip.projector_type` below, with the `model_type` in `config.json` of
  the models that they belong to.
- *loader*: `cargo xtask interop` holds which files are accepted to what llama.cpp loads. It does so for every
  architecture.

A place that says *not checked* follows from the sources that the entry names, and from nothing else.

| architecture | classes | plan | convert | decode | projector |
|---|---|---|---|---|---|
";

/// Families of the suite under other names than llama.cpp's, with these.
const FAMILIES: &[(&str, &str)] = &[
    ("mistral", "llama"),
    ("qwen2_5_omni", "qwen2vl"),
    ("mobilellm", "qwen3"),
    ("qwen3_5", "qwen35"),
    ("olmo3", "olmo2"),
    ("ernie4_5_moe", "ernie4_5-moe"),
    ("glm", "chatglm"),
    ("ministral3", "mistral3"),
    ("cohere", "command-r"),
    ("falcon_h1", "falcon-h1"),
    ("hunyuan_dense", "hunyuan-dense"),
    ("deepseek3", "deepseek2"),
    ("deepseek_ocr", "deepseek2-ocr"),
    ("glm4v", "glm4"),
    ("gpt_oss", "gpt-oss"),
    ("falcon_mamba", "mamba"),
    ("bamba", "granitehybrid"),
    ("kimi_linear", "kimi-linear"),
    ("gemma4_dense", "gemma4"),
    ("gemma4_moe", "gemma4"),
    ("hunyuan_moe", "hunyuan-moe"),
    ("baichuan_13b", "baichuan"),
    ("moondream", "phi2"),
    ("phi4mm", "phi3"),
];

/// Writes the file.
///
/// # Errors
/// Files that cannot be read or written.
pub(crate) fn write() -> anyhow::Result<()> {
    Ok(fs::write(place(), table()?)?)
}

/// Checks that the file is current.
///
/// # Errors
/// A file that differs, or cannot be read.
pub(crate) fn check() -> anyhow::Result<()> {
    let current = fs::read_to_string(place())? == table()?;
    ensure!(
        current,
        "docs/architectures.md is out of date: run `cargo xtask architectures`"
    );
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn place() -> PathBuf {
    root().join("docs/architectures.md")
}

fn table() -> anyhow::Result<String> {
    let (converted, run, checked) = (converted()?, run()?, checked()?);
    let mut rows: Vec<KnownArchitecture> = known_architectures().collect();
    rows.sort_by_key(|row| (row.name, row.classes));
    let lines = rows.iter().map(|row| {
        let does = |done: bool, checked: &BTreeSet<String>, against: &str| {
            if !done {
                ""
            } else if checked.contains(row.name) {
                against
            } else {
                "not checked"
            }
            .to_owned()
        };
        let embeds = embeddings::MODELS.iter().any(|(name, _)| *name == row.name);
        let decode = match does(row.decodes, &run, "logits") {
            unchecked if embeds && unchecked != "logits" => "embeddings".to_owned(),
            decode => decode,
        };
        format!(
            "| `{}` | {} | {} | {} | {decode} | {} |\n",
            row.name,
            row.classes.join(", "),
            match (row.plans, row.in_llama_cpp) {
                (false, _) => "",
                (true, true) => "loader",
                (true, false) => "no GGUF",
            },
            does(row.converts, &converted, "converter"),
            beside(row, &checked),
        )
    });
    let lines: String = lines.collect();
    Ok([
        HEAD,
        &lines,
        &refused(),
        &projectors(&checked),
        &coverage(&rows)?,
    ]
    .concat())
}

/// Of which classes no GGUF is made, and why.
fn refused() -> String {
    let line = |(classes, why): (&[&str], &str)| format!("- {}: {why}.\n", classes.join(", "));
    let lines: String = refused_architectures().map(line).collect();
    format!(
        "
## No GGUF

No GGUF is made of models that llama.cpp does not load or computes otherwise. They are planned for the runtimes that
serve them, if any here do.

{lines}"
    )
}

/// The projectors of models that are no wrappers of text models of any architecture, with what they were checked against.
fn beside(row: &KnownArchitecture, checked: &BTreeMap<String, &str>) -> String {
    let sees = |class: &&str| class.ends_with("ForConditionalGeneration");
    if !row.classes.iter().any(sees) {
        return String::new();
    }
    let own = known_projectors().filter(|(_, kind)| row.model_types.contains(kind));
    let found = own.map(|(_, kind)| format!("`{kind}` {}", against(checked, kind)));
    found.collect::<Vec<_>>().join(", ")
}

fn against<'a>(checked: &BTreeMap<String, &'a str>, model_type: &str) -> &'a str {
    checked.get(model_type).copied().unwrap_or("not checked")
}

/// What the projectors of each `model_type` were checked against: records of a converter's files, and of those the pairs that
/// the suite puts before the multimodal library.
fn checked() -> anyhow::Result<BTreeMap<String, &'static str>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("tests/data/projectors"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            let described: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let kind = described["config"]["model_type"].as_str();
            let kind = kind.with_context(|| path.display().to_string())?.to_owned();
            let record = path.file_stem().unwrap_or_default().to_string_lossy();
            let seen = images::PAIRS.contains(&record.as_ref());
            let known = found.entry(kind).or_insert("file");
            if seen {
                *known = "file and images";
            }
        }
    }
    Ok(found)
}

/// The table of projectors.
fn projectors(checked: &BTreeMap<String, &str>) -> String {
    let mut rows: Vec<(&str, &str)> = known_projectors().collect();
    rows.sort_unstable();
    let line = |&(name, kind): &(&str, &str)| {
        format!("| `{name}` | `{kind}` | {} |\n", against(checked, kind))
    };
    let lines: String = rows.iter().map(line).collect();
    format!("\n## Projectors\n\n| projector | models | checked |\n|---|---|---|\n{lines}")
}

/// How many of the wanted models the program plans, converts and decodes, and which of them it does not know.
fn coverage(rows: &[KnownArchitecture]) -> anyhow::Result<String> {
    let text = fs::read_to_string(root().join("xtask/wanted.txt"))?;
    let models = text.lines().filter(|line| !line.starts_with('#'));
    let models = models.map(|line| line.split_once(": ").with_context(|| line.to_owned()));
    let models = models.collect::<anyhow::Result<Vec<(&str, &str)>>>()?;
    let entry = |class: &str| rows.iter().find(|row| row.classes.contains(&class));
    let entries: Vec<&KnownArchitecture> = models.iter().filter_map(|m| entry(m.1)).collect();
    let count = |does: fn(&KnownArchitecture) -> bool| entries.iter().filter(|e| does(e)).count();
    let without = |does: fn(&KnownArchitecture) -> bool| {
        let lacking = models.iter().filter(|m| !entry(m.1).is_some_and(does));
        let names: Vec<&str> = lacking.map(|m| m.0).collect();
        names.join(", ")
    };
    Ok(format!(
        "
## Coverage

Of {} wanted models (`xtask/wanted.txt`: what is run on Jetson boards, and the class that decides what is done with each),
{} are planned, {} converted and {} decoded.

- Not planned: {}.
- Not converted: {}.
- Not decoded: {}.
",
        models.len(),
        count(|entry| entry.plans),
        count(|entry| entry.converts),
        count(|entry| entry.decodes),
        without(|entry| entry.plans),
        without(|entry| entry.converts),
        without(|entry| entry.decodes),
    ))
}

/// Architectures with a file of llama.cpp's converter.
fn converted() -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/data/converter"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "txt") {
            let text = fs::read_to_string(&path)?;
            let name = text.lines().next();
            let name = name.and_then(|line| line.strip_prefix("general.architecture string "));
            found.insert(name.with_context(|| path.display().to_string())?.to_owned());
        }
    }
    Ok(found)
}

/// Architectures that the suite runs beside llama.cpp.
fn run() -> anyhow::Result<BTreeSet<String>> {
    let text = fs::read_to_string(root().join("xtask/interop/expected.json"))?;
    let all: Value = serde_json::from_str(&text)?;
    let families = all.as_object().context("no families")?.keys();
    let name = |family: &String| {
        let other = FAMILIES.iter().find(|(known, _)| known == family);
        other.map_or(family.clone(), |(_, name)| (*name).to_owned())
    };
    Ok(families.map(name).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_of_architectures_is_current() {
        super::check().unwrap();
    }

    /// A family that no entry has would be left out of the table in silence.
    #[test]
    fn every_family_of_the_suite_is_an_architecture() {
        for name in super::run().unwrap() {
            assert!(
                super::known_architectures().any(|known| known.name == name),
                "{name}"
            );
        }
    }
}
