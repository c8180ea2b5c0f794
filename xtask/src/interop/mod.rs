//! `cargo xtask interop`: what `orinplan quantize` writes, put before the programs that will read it,
//! and the program's own decoder beside llama.cpp.
//!
//! In: checkpoints that the suite makes itself (and with `--data` trained ones). Out: a line for each
//! check on standard output; an error if one failed. Expected values come from Transformers
//! (`xtask/interop/expected.json`), llama.cpp, gguf-py, candle, SentencePiece and `tokenizers`, never
//! from the code under test. Writes under `target/interop` alone; needs Python with `venv` and, the
//! first time, PyPI.

mod accept;
mod blocks;
mod bench;
mod decoder;
mod directories;
pub(crate) mod environment;
mod families;
mod lines;
mod llama_cpp;
mod options;
mod probe;
mod trained;

use std::path::PathBuf;

use anyhow::{Context, bail};

use bench::Bench;

/// A part of the suite, by name.
type Part = (&'static str, fn(&mut Bench, &families::Made));

/// The parts that run unless some are named.
const PARTS: &[Part] = &[
    ("families", families::check),
    ("accept", accept::check),
    ("blocks", blocks::check),
    ("options", options::check),
    ("decoder", decoder::check),
    ("lines", lines::check),
];

/// What was asked for.
#[derive(Default)]
struct Arguments {
    /// Names of parts; none means all.
    parts: Vec<String>,
    /// A folder with `models`, `golden`, `tokenizers` and `text`, checked as well.
    data: Option<PathBuf>,
    /// Also the safetensors schemes, and `expected.json`, against PyTorch's libraries.
    full: bool,
}

/// Runs all checks.
///
/// # Errors
/// Unknown arguments, no Python, or the number of checks that failed.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let arguments = parse(arguments)?;
    let mut bench = Bench::new()?;
    let made = families::make(&mut bench)?;
    for (name, check) in PARTS {
        if arguments.parts.is_empty() || arguments.parts.iter().any(|part| part == name) {
            check(&mut bench, &made);
        }
    }
    if let Some(data) = &arguments.data {
        trained::check(&mut bench, data);
    }
    if arguments.full {
        directories::check(&mut bench)?;
    }
    bench.finish()
}

fn parse(arguments: &[&str]) -> anyhow::Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--full" => parsed.full = true,
            "--data" => {
                let path = rest.next().context("--data needs a directory")?;
                parsed.data = Some(PathBuf::from(path));
            }
            part if PARTS.iter().any(|(name, _)| *name == part) => {
                parsed.parts.push(part.to_owned());
            }
            other => {
                let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                bail!(
                    "`{other}` is unknown; usage: cargo xtask interop [{}].. [--data DIR] [--full]",
                    names.join(" | ")
                );
            }
        }
    }
    Ok(parsed)
}
