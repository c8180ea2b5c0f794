//! `cargo xtask bench plan`: what planning costs, as whole processes of the release binary, and how
//! much of that is more than starting a process that does nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use orinplan::gguf::{self, StringList, Value};

use crate::fixtures;
use crate::shapes::{self, Shape, Tensor};

/// Counted runs of each command, after one that is not counted.
const RUNS: usize = 21;

/// One input and what it may cost.
struct Case {
    name: &'static str,
    model: PathBuf,
    wall_limit: Duration,
}

/// Planning may take this much memory.
const MEMORY_LIMIT_KIB: u64 = 100_000;

pub(crate) fn plan() -> anyhow::Result<()> {
    let binary = release_binary()?;
    let directory = std::env::temp_dir().join(format!("orinplan-bench-{}", std::process::id()));
    let outcome = measure(&binary, &directory);
    std::fs::remove_dir_all(&directory).ok();
    outcome
}

fn measure(binary: &Path, directory: &Path) -> anyhow::Result<()> {
    let milliseconds = Duration::from_millis;
    let cases = [
        Case {
            name: "Llama-3.1-8B, 4 shards",
            model: sharded(directory, &shapes::llama31_8b(), 4)?,
            wall_limit: milliseconds(50),
        },
        Case {
            name: "Llama-3.1-70B, 30 shards",
            model: sharded(directory, &shapes::llama31_70b(), 30)?,
            wall_limit: milliseconds(100),
        },
        Case {
            name: "GGUF, 152 k tokens, 280 k merges",
            model: vocabulary_gguf(directory)?,
            wall_limit: milliseconds(50),
        },
    ];
    let floor = median_wall(binary, &["--version"])?;
    println!(
        "starting the process alone: {:.1} ms\n",
        floor.as_secs_f64() * 1e3
    );
    println!("| model | median wall | of the limit | over an empty process | peak memory |");
    println!("|---|---:|---:|---:|---:|");
    let mut within = true;
    for case in &cases {
        let model = case.model.to_str().context("the temporary path is text")?;
        let wall = median_wall(binary, &["fit", model])?;
        let memory = peak_memory(binary, &["fit", model])?;
        println!(
            "| {} | {:.1} ms | {:.2} | {:.1}x | {:.1} MB |",
            case.name,
            wall.as_secs_f64() * 1e3,
            wall.as_secs_f64() / case.wall_limit.as_secs_f64(),
            wall.as_secs_f64() / floor.as_secs_f64(),
            memory as f64 * 1024.0 / 1e6,
        );
        within &= wall <= case.wall_limit && memory <= MEMORY_LIMIT_KIB;
    }
    ensure!(within, "a case is above its limit; is the machine busy?");
    Ok(())
}

pub(crate) fn release_binary() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "orinplan",
            "--message-format",
            "json",
        ])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(built.status.success(), "cargo build failed");
    let messages = String::from_utf8(built.stdout)?;
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable = artifacts
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    executable.context("cargo named no executable")
}

fn median_wall(binary: &Path, arguments: &[&str]) -> anyhow::Result<Duration> {
    let once = || -> anyhow::Result<Duration> {
        let start = Instant::now();
        let status = Command::new(binary)
            .args(arguments)
            .stdout(Stdio::null())
            .status()?;
        let wall = start.elapsed();
        // 0 it fits, 1 it does not: both are plans.
        ensure!(
            matches!(status.code(), Some(0 | 1)),
            "{arguments:?} ended with {status}"
        );
        Ok(wall)
    };
    once()?;
    let mut walls = (0..RUNS)
        .map(|_| once())
        .collect::<anyhow::Result<Vec<_>>>()?;
    walls.sort();
    Ok(walls[RUNS / 2])
}

/// The peak of resident memory in KiB, as GNU time reports it.
fn peak_memory(binary: &Path, arguments: &[&str]) -> anyhow::Result<u64> {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .arg(binary)
        .args(arguments)
        .stdout(Stdio::null())
        .output()
        .context("GNU time is needed at /usr/bin/time")?;
    let text = String::from_utf8(output.stderr)?;
    let last = text.lines().last().unwrap_or_default();
    last.trim()
        .parse()
        .with_context(|| format!("GNU time said {last:?}"))
}

/// The shape as a checkpoint of `count` shards, its weights a hole in each file.
fn sharded(directory: &Path, shape: &Shape, count: usize) -> anyhow::Result<PathBuf> {
    let directory = directory.join(shape.name);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("config.json"), shape.config.to_string())?;
    let each = shape.tensors.len().div_ceil(count);
    let mut map = serde_json::Map::new();
    for (index, tensors) in shape.tensors.chunks(each).enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        let header = fixtures::safetensors_header(tensors)?;
        let mut file = File::create(directory.join(&name))?;
        file.write_all(&header)?;
        file.set_len(header.len() as u64 + tensors.iter().map(bytes).sum::<u64>())?;
        map.extend(
            tensors
                .iter()
                .map(|(tensor, ..)| (tensor.clone(), name.clone().into())),
        );
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(
        directory.join("model.safetensors.index.json"),
        index.to_string(),
    )?;
    Ok(directory)
}

/// Bytes of a BF16 tensor.
fn bytes((_, _, shape): &Tensor) -> u64 {
    shape.iter().product::<u64>() * 2
}

/// A GGUF of Qwen3-0.6B's shape with a vocabulary as long as the real one.
fn vocabulary_gguf(directory: &Path) -> anyhow::Result<PathBuf> {
    let shape = shapes::qwen3_06b();
    let (mut metadata, tensors) = fixtures::gguf_parts(&shape)?;
    let (mut tokens, mut merges) = (StringList::default(), StringList::default());
    for index in 0..151_936 {
        tokens.push(&format!("token{index:06}"));
    }
    for index in 0..280_147 {
        merges.push(&format!("part{index:06} piece{index:06}"));
    }
    metadata.push(("tokenizer.ggml.tokens".to_owned(), Value::Strings(tokens)));
    metadata.push((
        "tokenizer.ggml.token_type".to_owned(),
        Value::I32s(vec![1; 151_936]),
    ));
    metadata.push(("tokenizer.ggml.merges".to_owned(), Value::Strings(merges)));
    let path = directory.join("vocabulary.header.gguf");
    let mut file = std::io::BufWriter::new(File::create(&path)?);
    gguf::write_header(&mut file, &metadata, &fixtures::entries(&tensors))?;
    file.flush()?;
    Ok(path)
}
