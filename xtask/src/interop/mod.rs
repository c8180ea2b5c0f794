//! `cargo xtask interop`: what `orinplan quantize` writes, put before the programs that will read it.
//!
//! In: checkpoints that the suite makes itself (and with `--data` trained ones). Out: a line for each
//! check on standard output; an error if one failed. Expected values come from Transformers
//! (`xtask/interop/expected.json`), llama.cpp, gguf-py, candle, SentencePiece and `tokenizers`, never
//! from the code under test. Writes under `target/interop` alone; needs Python with `venv` and, the
//! first time, PyPI.

mod blocks;
mod bench;
mod directories;
mod environment;
mod families;
mod options;
mod probe;
mod trained;

use std::path::PathBuf;

use anyhow::{Context, bail};

use bench::Bench;

/// What was asked for.
#[derive(Default)]
struct Arguments {
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
    families::check(&mut bench, &made);
    blocks::check(&mut bench, &made);
    options::check(&mut bench, &made);
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
            other => {
                bail!("`{other}` is unknown; usage: cargo xtask interop [--data DIR] [--full]")
            }
        }
    }
    Ok(parsed)
}
