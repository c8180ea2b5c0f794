//! Files that the program accepts load in llama.cpp, and files that it refuses do not: every family's file
//! with each key and each tensor of a kind left out in turn, with other types, lengths and shapes.

use std::path::Path;

use anyhow::{bail, ensure};
use orinplan::checkpoint;
use orinplan::model::{self, Unknown, accept};
use serde_json::json;

use super::bench::Bench;
use super::families::Checkpoints;
use super::gguf_file::GgufFile;
use super::shapes;

/// Checks every family, the architectures that are only planned, and two unusual checkpoints.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let mut number = 0..;
    let mut sample = |bench: &Bench| Sample {
        every: if bench.is_thorough { 1 } else { SAMPLED },
        first: number.next().unwrap_or(0),
    };
    for shape in shapes::SHAPES {
        let sample = sample(bench);
        let outcome = shapes::file(bench, shape).and_then(|file| variants(bench, &file, sample));
        bench.report(&format!("{} accepted or refused", shape.0), outcome);
    }
    for family in &made.families {
        let sample = sample(bench);
        let outcome = family_files(bench, made, family, sample);
        bench.report(&format!("{family} accepted or refused"), outcome);
    }
    let outcome = padded(bench, made);
    bench.report("fewer tokens than rows of the embedding", outcome);
    let outcome = own_head(bench, made);
    bench.report("tied, with a head of its own", outcome);
}

/// Of the files with a change, one in so many is tried for each family when the whole suite runs: the families begin at
/// different ones, so that every kind of change is tried with some.
const SAMPLED: usize = 4;

/// Which of a family's files are tried: the first, which has no change, and of the others every `every`th.
#[derive(Clone, Copy)]
struct Sample {
    every: usize,
    first: usize,
}

impl Sample {
    fn has(self, index: usize) -> bool {
        index == 0 || (index + self.first).is_multiple_of(self.every)
    }
}

fn family_files(
    bench: &mut Bench,
    made: &Checkpoints,
    family: &str,
    sample: Sample,
) -> anyhow::Result<String> {
    let name = format!("accept-{family}.gguf");
    let file = bench.quantize(&made.checkpoint(family), "f16", &name, &[])?;
    variants(bench, &GgufFile::read(&file)?, sample)
}

/// Our answer to `whole` and to each file with one change, against llama.cpp's.
fn variants(bench: &mut Bench, whole: &GgufFile, sample: Sample) -> anyhow::Result<String> {
    let path = bench.file("accept.gguf");
    let (mut accepted, mut refused, mut apart) = (0, 0, Vec::new());
    let all = whole.variants().into_iter().enumerate();
    for (_, (what, file)) in all.filter(|(index, _)| sample.has(*index)) {
        file.write(&path)?;
        let ours = accepts(&path);
        let theirs = loads(bench, &path);
        match (&ours, &theirs) {
            (Err(error), _) if accepted + refused + apart.len() == 0 => {
                bail!("the file itself is refused: {error:#}")
            }
            (Ok(()), Ok(())) => accepted += 1,
            (Err(_), Err(_)) => refused += 1,
            (Ok(()), Err(error)) => {
                apart.push(format!("{what}: accepted, and does not load: {error:#}"))
            }
            (Err(error), Ok(())) => apart.push(format!("{what}: loads, and is refused: {error:#}")),
        }
    }
    ensure!(apart.is_empty(), "{}", apart.join("\n      "));
    ensure!(
        accepted > 0 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
    Ok(format!(
        "llama.cpp loads the {accepted} accepted files and none of the {refused} refused"
    ))
}

/// Whether `fit`, `validate` and `quantize` accept the file.
fn accepts(path: &Path) -> anyhow::Result<()> {
    let checkpoint = checkpoint::open(&path.to_string_lossy())?;
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    accept::checkpoint(&checkpoint, &model)?;
    Ok(())
}

fn loads(bench: &mut Bench, path: &Path) -> anyhow::Result<()> {
    let request = json!({ "path": path });
    bench.probe.ask("loads", request).map(|_| ())
}

/// A SentencePiece-like `tokenizer.json` alone, and a larger embedding.
fn padded(bench: &mut Bench, made: &Checkpoints) -> anyhow::Result<String> {
    let mut said = Vec::new();
    for family in ["mistral", "qwen3"] {
        let directory = bench.file(&format!("padded-{family}"));
        let request = json!({
            "family": family, "like": made.checkpoint(family), "directory": directory, "rows": 24,
        });
        bench.probe.ask("other", request)?;
        let name = format!("padded-{family}.gguf");
        let file = bench.quantize(&directory, "q8_0", &name, &[])?;
        accepts(&file)?;
        loads(bench, &file)?;
        let tokens = GgufFile::read(&file)?.texts("tokenizer.ggml.tokens")?;
        let last = tokens.iter().last().unwrap_or_default().to_owned();
        ensure!(
            last == format!("[PAD{}]", tokens.len() - 1),
            "{family}: the last token is {last}"
        );
        said.push(format!("{family} ends with {last}"));
    }
    Ok(format!("{}; both answer", said.join(", ")))
}

/// A checkpoint whose configuration ties a head that differs from the embedding.
fn own_head(bench: &mut Bench, made: &Checkpoints) -> anyhow::Result<String> {
    let family = "qwen3";
    let directory = bench.file("own-head");
    let request = json!({
        "family": family, "like": made.checkpoint(family), "directory": directory, "head": true,
    });
    bench.probe.ask("other", request)?;
    let file = bench.quantize(&directory, "f16", "own-head.gguf", &[])?;
    let has_head = |file: &Path| -> anyhow::Result<bool> {
        let tensors = GgufFile::read(file)?.tensors;
        Ok(tensors.iter().any(|tensor| tensor.name == "output.weight"))
    };
    ensure!(has_head(&file)?, "the file has no output.weight");
    let tied = bench.quantize(&made.checkpoint(family), "f16", "tied.gguf", &[])?;
    ensure!(!has_head(&tied)?, "the tied file has an output.weight");
    let ask = |bench: &mut Bench, file: &Path| {
        let request = json!({ "file": file, "ids": made.prompt, "count": 8 });
        bench.probe.ask("complete", request)
    };
    let (own, tied) = (ask(bench, &file)?, ask(bench, &tied)?);
    ensure!(own != tied, "both continue with {own}");
    Ok("the file has it, and llama.cpp continues with other tokens".to_owned())
}
