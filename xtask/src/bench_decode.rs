//! `cargo xtask bench decode`: our decoder and llama.cpp on the same files, in turns, on the same
//! threads: prefill and decode in tokens a second, and the peak of memory. Run it from a release
//! build: `cargo run --release -p xtask -- bench decode [ROUNDS] [FILE.gguf ..]`.
//!
//! Without a file the checkpoints are of published shapes, filled with noise, and quantized here. llama.cpp is that
//! of the `xllamacpp` wheel, through `xtask/interop/speed.py`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use orinplan::checkpoint;
use orinplan::decode::{LoadOptions, Model, greedy, threads};
use orinplan::model::{self, Unknown};

use crate::bench::release_binary;
use crate::interop::environment;
use crate::{peer, random, shapes};

/// Tokens of a prompt, and tokens decoded behind it.
const PASSES: [(usize, usize); 3] = [(512, 128), (2048, 32), (4096, 32)];

/// Tokens of a prompt that are evaluated at a time, by both programs.
const UBATCH: usize = 512;

/// Our share of llama.cpp's rates that is wanted at least: decode, prefill.
const WANTED: (f64, f64) = (1.3, 1.0);

type MakeShape = fn() -> shapes::Shape;

/// The published shapes and their formats.
const SHAPES: [(MakeShape, &str); 3] = [
    (shapes::qwen3_06b, "q4_k_m"),
    (shapes::qwen3_06b, "q8_0"),
    (shapes::qwen25_05b, "q4_k_m"),
];

/// What a run took.
#[derive(Clone, Copy)]
struct Run {
    prefill: f64,
    decode: f64,
    resident: f64,
}

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    if let ["ours", file, prompt, tokens] = arguments {
        return ours(Path::new(file), prompt.parse()?, tokens.parse()?);
    }
    let (rounds, files) = match arguments {
        [first, files @ ..] if !first.ends_with(".gguf") => {
            (first.parse().context("the number of rounds")?, files)
        }
        files => (5, files),
    };
    ensure!(rounds > 0, "there must be a round");
    let work = peer::target()?.join("bench");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let requirements = scripts.join("requirements.txt");
    let python = environment::python(&work, "python", &[&requirements])?;
    let files: Vec<PathBuf> = if files.is_empty() {
        let made = SHAPES.map(|(shape, scheme)| made(&shape(), scheme, &work));
        made.into_iter().collect::<anyhow::Result<_>>()?
    } else {
        files.iter().map(PathBuf::from).collect()
    };
    println!(
        "{} threads, medians of {rounds} rounds; wanted: decode {}, prefill {}\n",
        threads(),
        WANTED.0,
        WANTED.1,
    );
    println!(
        "| file | prompt | decode t/s | llama.cpp | ratio | prefill t/s | llama.cpp | ratio | peak memory / file |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut missed = 0;
    for (file, (prompt, tokens)) in files
        .iter()
        .flat_map(|file| PASSES.map(|pass| (file, pass)))
    {
        let (mut pairs, mut peak) = (Vec::new(), 0.0f64);
        for _ in 0..rounds {
            let counts = [prompt, tokens].map(|n| n.to_string());
            let ours = timed(
                Command::new(std::env::current_exe()?)
                    .args(["bench", "decode", "ours"])
                    .arg(file)
                    .args(&counts),
            )?;
            let theirs = timed(
                Command::new(&python)
                    .arg(scripts.join("speed.py"))
                    .arg(file)
                    .args(&counts)
                    .args([UBATCH, threads()].map(|n| n.to_string())),
            )?;
            peak = peak.max(ours.resident);
            pairs.push((ours, theirs));
        }
        let middle = |of: &dyn Fn(&(Run, Run)) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let decode = middle(&|(ours, theirs)| theirs.decode / ours.decode);
        let prefill = middle(&|(ours, theirs)| theirs.prefill / ours.prefill);
        let bytes = std::fs::metadata(file)?.len() as f64;
        println!(
            "| {} | {prompt} | {:.1} | {:.1} | {decode:.2} | {:.0} | {:.0} | {prefill:.2} | {:.2} |",
            file.file_stem().unwrap_or_default().to_string_lossy(),
            middle(&|(ours, _)| tokens as f64 / ours.decode),
            middle(&|(_, theirs)| tokens as f64 / theirs.decode),
            middle(&|(ours, _)| prompt as f64 / ours.prefill),
            middle(&|(_, theirs)| prompt as f64 / theirs.prefill),
            peak / bytes,
        );
        // The cache of a long context is not the weights'.
        let large = prompt == PASSES[0].0 && peak > 2.0 * bytes + 256e6;
        missed += usize::from(decode < WANTED.0 || prefill < WANTED.1 || large);
    }
    ensure!(
        missed == 0,
        "{missed} of the lines miss a limit; is the machine busy?"
    );
    Ok(())
}

/// A file of `shape`, unless it is there.
fn made(shape: &shapes::Shape, scheme: &str, work: &Path) -> anyhow::Result<PathBuf> {
    let file = work.join(format!("{}-{scheme}.gguf", shape.name));
    if file.exists() {
        return Ok(file);
    }
    let directory = random::checkpoint(shape, &work.join(shape.name))?;
    let mut command = Command::new(release_binary()?);
    command
        .arg("quantize")
        .arg(directory)
        .args(["--scheme", scheme, "--output"]);
    let status = command.arg(&file).status()?;
    ensure!(status.success(), "orinplan quantize ended with {status}");
    Ok(file)
}

/// One run of our decoder in this process, told as `speed.py` tells it.
fn ours(file: &Path, prompt: usize, tokens: usize) -> anyhow::Result<()> {
    let checkpoint = checkpoint::open(&file.to_string_lossy())?;
    let spec = model::read(&checkpoint, Unknown::Refuse)?;
    let options = LoadOptions {
        context: (prompt + tokens).next_multiple_of(256) as u64,
        ubatch: UBATCH as u64,
        ..LoadOptions::default()
    };
    let mut model = Model::load(&checkpoint, &spec, &options, &mut |_| {})?;
    model.step(1)?;
    model.reset();
    let prompt: Vec<u32> = (0..prompt as u32).map(|i| i * 7 % 1000).collect();
    let start = Instant::now();
    let mut next = greedy(model.prefill(&prompt)?);
    let prefilled = Instant::now();
    for _ in 0..tokens {
        next = greedy(model.step(next)?);
    }
    let decode = prefilled.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    println!("prefill {}", (prefilled - start).as_secs_f64());
    println!("decode {}", decode.as_secs_f64());
    println!("resident {}", kib.unwrap_or(0.0) * 1024.0);
    Ok(())
}

fn timed(command: &mut Command) -> anyhow::Result<Run> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {errors}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok())
            .with_context(|| format!("no `{name}`"))
    };
    Ok(Run {
        prefill: number("prefill")?,
        decode: number("decode")?,
        resident: number("resident")?,
    })
}
