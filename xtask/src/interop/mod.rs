//! `cargo xtask interop`: what `orinplan quantize` writes, put before the programs that will read it,
//! and the program's own decoder and its measures of quality beside llama.cpp's.
//!
//! In: checkpoints that the suite makes itself (and with `--data` trained ones). Out: a line for each
//! check on standard output; an error if one failed. Expected values come from Transformers
//! (`xtask/interop/expected.json`), llama.cpp, gguf-py, candle, SentencePiece and `tokenizers`, never
//! from the code under test. Writes under `target/interop` alone; needs Python with `venv` and, the
//! first time, PyPI.

mod accept;
mod blocks;
mod bench;
mod calibrate;
mod decoder;
mod directories;
pub(crate) mod embeddings;
pub(crate) mod environment;
mod families;
mod gguf_file;
mod hub;
pub(crate) mod images;
mod lines;
mod llama_cpp;
mod options;
mod pages;
mod probe;
mod quality;
mod rpc;
mod server;
mod shapes;
mod trained;
mod variants;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use bench::Bench;

/// candle multiplies Q8_0 by activations in blocks of 256 where processors have VNNI, and in blocks of 32, as
/// llama.cpp does, elsewhere: on such a machine its products alone are further apart than the limits. With
/// this in the environment all machines compute alike.
const CANDLE_AVX2: &str = "MISTRALRS_FORCE_AVX2";

/// A part of the suite, by name.
type Part = (&'static str, fn(&mut Bench, &families::Checkpoints));

/// The parts that run unless some are named.
const PARTS: &[Part] = &[
    ("families", families::check),
    ("accept", accept::check),
    ("blocks", blocks::check),
    ("options", options::check),
    ("decoder", decoder::check),
    ("embeddings", embeddings::check),
    ("images", images::check),
    ("hub", hub::check),
    ("lines", lines::check),
    ("calibrate", calibrate::check),
    ("rpc", rpc::check),
    ("quality", quality::check),
    ("pages", pages::check),
];

/// What was asked for.
#[derive(Default)]
struct Arguments {
    /// Names of parts; none means all.
    parts: Vec<String>,
    /// The families that checks of each family are limited to; none means all.
    families: Vec<String>,
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
    let parsed = parse(arguments)?;
    if std::env::var_os(CANDLE_AVX2).is_none() {
        let program = std::env::current_exe()?;
        let mut again = Command::new(program);
        let again = again.arg("interop").args(arguments).env(CANDLE_AVX2, "1");
        ensure!(again.status()?.success(), "checks failed");
        return Ok(());
    }
    let mut bench = Bench::new(!parsed.parts.is_empty())?;
    let made = families::make(&mut bench)?.limited_to(&parsed.families)?;
    for (name, check) in PARTS {
        if parsed.parts.is_empty() || parsed.parts.iter().any(|part| part == name) {
            check(&mut bench, &made);
        }
    }
    if let Some(data) = &parsed.data {
        trained::check(&mut bench, data);
    }
    if parsed.full {
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
            "--family" => {
                let name = rest.next().context("--family needs a name")?;
                parsed.families.push((*name).to_owned());
            }
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
                    "`{other}` is unknown; usage: cargo xtask interop [{}].. [--family NAME].. [--data DIR] [--full]",
                    names.join(" | ")
                );
            }
        }
    }
    Ok(parsed)
}
