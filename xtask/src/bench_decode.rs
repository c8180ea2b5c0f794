//! `cargo xtask bench decode`: our decoder and llama.cpp on the same files, in turns, on the same
//! threads: prefill and decode in tokens a second, and the peak of memory. Run it from a release
//! build: `cargo run --release -p xtask -- bench decode [ROUNDS]`.
//!
//! The checkpoints are of published shapes, filled with noise, and quantized here. llama.cpp is that
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

/// Tokens of the prompt, and tokens decoded behind it.
const PROMPT: usize = 512;
const TOKENS: usize = 128;

/// A file, and our share of llama.cpp's rates that is wanted at least: decode, prefill.
struct Case {
    shape: fn() -> shapes::Shape,
    scheme: &'static str,
    wanted: (f64, f64),
}

const CASES: &[Case] = &[
    Case {
        shape: shapes::qwen3_06b,
        scheme: "q4_k_m",
        wanted: (1.0, 0.5),
    },
    Case {
        shape: shapes::qwen3_06b,
        scheme: "q8_0",
        wanted: (1.2, 0.0),
    },
    Case {
        shape: shapes::qwen25_05b,
        scheme: "q4_k_m",
        wanted: (0.8, 0.0),
    },
];

/// What a run took.
#[derive(Clone, Copy)]
struct Run {
    prefill: f64,
    decode: f64,
    resident: f64,
}

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let rounds: usize = match arguments {
        [] => 5,
        ["ours", file] => return ours(Path::new(file)),
        [rounds] => rounds.parse().context("the number of rounds")?,
        other => anyhow::bail!("usage: bench decode [ROUNDS], not {other:?}"),
    };
    ensure!(rounds > 0, "there must be a round");
    let work = peer::target()?.join("bench");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let requirements = scripts.join("requirements.txt");
    let python = environment::python(&work, "python", &[&requirements])?;
    println!(
        "{} threads, {PROMPT} tokens of prompt, {TOKENS} decoded, medians of {rounds} rounds\n",
        threads()
    );
    println!(
        "| model | decode t/s | llama.cpp | ratio | wanted | prefill t/s | llama.cpp | ratio | wanted | peak memory / file |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut missed = 0;
    for case in CASES {
        let shape = (case.shape)();
        let file = made(&shape, case.scheme, &work)?;
        let (mut pairs, mut peak) = (Vec::new(), 0.0f64);
        for _ in 0..rounds {
            let ours = timed(
                Command::new(std::env::current_exe()?)
                    .args(["bench", "decode", "ours"])
                    .arg(&file),
            )?;
            let theirs = timed(
                Command::new(&python)
                    .arg(scripts.join("speed.py"))
                    .arg(&file)
                    .args([PROMPT, TOKENS, threads()].map(|n| n.to_string())),
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
        let bytes = std::fs::metadata(&file)?.len() as f64;
        println!(
            "| {} {} | {:.1} | {:.1} | {decode:.2} | {} | {:.0} | {:.0} | {prefill:.2} | {} | {:.2} |",
            shape.name,
            case.scheme,
            middle(&|(ours, _)| TOKENS as f64 / ours.decode),
            middle(&|(_, theirs)| TOKENS as f64 / theirs.decode),
            case.wanted.0,
            middle(&|(ours, _)| PROMPT as f64 / ours.prefill),
            middle(&|(_, theirs)| PROMPT as f64 / theirs.prefill),
            case.wanted.1,
            peak / bytes,
        );
        missed += usize::from(
            decode < case.wanted.0 || prefill < case.wanted.1 || peak > 2.0 * bytes + 256e6,
        );
    }
    ensure!(
        missed == 0,
        "{missed} of the models miss a limit; is the machine busy?"
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
fn ours(file: &Path) -> anyhow::Result<()> {
    let checkpoint = checkpoint::open(&file.to_string_lossy())?;
    let spec = model::read(&checkpoint, Unknown::Refuse)?;
    let options = LoadOptions {
        context: 1024,
        ..LoadOptions::default()
    };
    let mut model = Model::load(&checkpoint, &spec, &options, &mut |_| {})?;
    model.step(1)?;
    model.reset();
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 7 % 1000).collect();
    let start = Instant::now();
    let mut next = greedy(model.prefill(&prompt)?);
    let prefilled = Instant::now();
    for _ in 0..TOKENS {
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
