//! `cargo xtask bench quantize`: a checkpoint of Qwen3-0.6B's shape from BF16 to Q4_K_M, by us and by
//! llama.cpp's `llama_model_quantize` on the same file, in turns; time, memory and error of both, and
//! the time that reading and writing alone takes. Run it from a release build:
//! `cargo run --release -p xtask -- bench quantize [ROUNDS]`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use orinplan::checkpoint::{self, Checkpoint, StoredTensor};
use orinplan::quantize::blocks::{Deviation, decode_rows, deviation};

use crate::bench::release_binary;
use crate::{peer, random};

/// Our share of llama-quantize's wall time and of its memory that is allowed.
const WALL_LIMIT: f64 = 1.0 / 3.0;
const MEMORY_LIMIT: f64 = 0.25;

/// What a run took.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Peak of resident memory, pages of mapped files among it, in bytes.
    pub(crate) resident: u64,
    /// Peak of memory that is no file's, in bytes.
    anonymous: u64,
}

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let rounds: usize = match arguments {
        [] => 5,
        [rounds] => rounds.parse().context("the number of rounds")?,
        other => anyhow::bail!("usage: bench quantize [ROUNDS], not {other:?}"),
    };
    ensure!(rounds > 0, "there must be a round");
    let threads = std::thread::available_parallelism()?.get().to_string();
    let binary = release_binary()?;
    let directory = peer::target()?.join("bench");
    let python = peer::install(&directory.join("llama-cpp"))?;
    let model = random::qwen3_06b(&directory.join("qwen3-0.6b"))?;
    let source = directory.join("qwen3-0.6b-BF16.gguf");
    let (ours, theirs) = (directory.join("ours.gguf"), directory.join("theirs.gguf"));
    let quantize = |from: &Path, scheme: &str, to: &Path| -> anyhow::Result<Cost> {
        let mut command = Command::new(&binary);
        command.arg("quantize").arg(from).args(["--scheme", scheme]);
        command.args(["--threads", &threads, "--overwrite", "--output"]);
        cost(command.arg(to))
    };
    quantize(&model, "bf16", &source)?;

    println!("| round | ours | from safetensors | llama-quantize | ours / theirs | copy alone |");
    println!("|---:|---:|---:|---:|---:|---:|");
    let mut ratios = Vec::new();
    let (mut walls, mut peaks) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let from_gguf = quantize(&source, "q4_k_m", &ours)?;
        let llama = cost(&mut peer::quantize(&python, &source, &theirs, &threads))?;
        let from_safetensors = quantize(&model, "q4_k_m", &directory.join("direct.gguf"))?;
        let copied = copy(&source, &ours, &directory.join("copy"))?;
        let seconds = |cost: Cost| cost.wall.as_secs_f64();
        let ratio = seconds(from_gguf) / seconds(llama);
        println!(
            "| {round} | {:.2} s | {:.2} s | {:.2} s | {ratio:.3} | {:.2} s |",
            seconds(from_gguf),
            seconds(from_safetensors),
            seconds(llama),
            copied.as_secs_f64(),
        );
        ratios.push(ratio);
        walls.push(seconds(from_gguf) / copied.as_secs_f64());
        peaks.push((from_gguf, llama));
    }
    let time = median(&mut ratios);
    let resident = share(&peaks, |cost| cost.resident);
    let anonymous = share(&peaks, |cost| cost.anonymous);
    println!(
        "\nwall time: {time:.3} of llama-quantize's, at most {WALL_LIMIT:.3} (median of {rounds} rounds)"
    );
    println!(
        "           {:.1} times reading and writing alone",
        median(&mut walls)
    );
    let mb = |bytes: u64| bytes as f64 / 1e6;
    if let Some((ours, theirs)) = peaks.last() {
        println!(
            "resident memory: {resident:.3} ({:.0} MB of {:.0} MB), at most {MEMORY_LIMIT}",
            mb(ours.resident),
            mb(theirs.resident)
        );
        println!(
            "not a file's: {anonymous:.3} ({:.0} MB of {:.0} MB)",
            mb(ours.anonymous),
            mb(theirs.anonymous)
        );
    }
    let worst = errors(&source, &ours, &theirs)?;
    ensure!(
        time <= WALL_LIMIT && resident <= MEMORY_LIMIT && worst <= 1.0,
        "a limit is missed; is the machine busy?"
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Our largest peak over their smallest.
fn share(peaks: &[(Cost, Cost)], of: impl Fn(Cost) -> u64) -> f64 {
    let ours = peaks.iter().map(|&(ours, _)| of(ours)).max();
    let theirs = peaks.iter().map(|&(_, theirs)| of(theirs)).min();
    ours.unwrap_or(0) as f64 / theirs.unwrap_or(1).max(1) as f64
}

/// Runs `command` and looks at its memory every few milliseconds. Whoever prints `seconds S` is
/// believed about the time, so that an interpreter's start does not count.
pub(crate) fn cost(command: &mut Command) -> anyhow::Result<Cost> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut errors = child.stderr.take().context("standard error is piped")?;
    let talk = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let (mut resident, mut anonymous) = (0, 0);
    let status = loop {
        resident = resident.max(field(&child, "VmHWM:"));
        anonymous = anonymous.max(field(&child, "RssAnon:"));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut wall = start.elapsed();
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    let talk = talk.join().ok().context("the reader ended")??;
    ensure!(status.success(), "{command:?} ended with {status}: {talk}");
    if let Some(seconds) = text.lines().find_map(|line| line.strip_prefix("seconds ")) {
        wall = Duration::from_secs_f64(seconds.parse()?);
    }
    Ok(Cost {
        wall,
        resident,
        anonymous,
    })
}

/// A number of `/proc/PID/status`, in bytes; 0 once the process has ended.
fn field(child: &Child, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Reads `source` and writes as many bytes as `sized` has, onto the disk.
fn copy(source: &Path, sized: &Path, to: &Path) -> anyhow::Result<Duration> {
    let mut left = std::fs::metadata(sized)?.len() as usize;
    let start = Instant::now();
    let (mut from, mut into) = (File::open(source)?, File::create(to)?);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        let part = n.min(left);
        into.write_all(&buffer[..part])?;
        left -= part;
    }
    into.sync_all()?;
    let wall = start.elapsed();
    std::fs::remove_file(to)?;
    Ok(wall)
}

/// Prints the errors of both files over all quantized tensors and gives the largest ratio, ours to
/// theirs, of a single tensor.
fn errors(source: &Path, ours: &Path, theirs: &Path) -> anyhow::Result<f64> {
    let open = |path: &Path| -> anyhow::Result<Checkpoint> {
        Ok(checkpoint::open(
            path.to_str().context("the path is text")?,
        )?)
    };
    let (source, files) = (open(source)?, [open(ours)?, open(theirs)?]);
    let (mut sums, mut worst, mut tensors) = ([Deviation::default(); 2], 0.0f64, 0);
    for reference in &source.tensors {
        let find = |file: &Checkpoint| {
            let found = file.tensors.iter().find(|t| t.name == reference.name);
            found
                .cloned()
                .with_context(|| format!("{} is missing", reference.name))
        };
        let [a, b] = [find(&files[0])?, find(&files[1])?];
        ensure!(
            a.dtype == b.dtype,
            "{}: {:?} and {:?}",
            a.name,
            a.dtype,
            b.dtype
        );
        if !a.dtype.is_quantized() {
            continue;
        }
        let row = *a.shape.last().context("a tensor has rows")? as usize;
        let values = decoded(&source, reference, row)?;
        let mut here = [Deviation::default(); 2];
        for ((file, tensor), sum) in files.iter().zip([&a, &b]).zip(&mut here) {
            *sum = deviation(a.dtype, &values, &decoded(file, tensor, row)?, row, None);
        }
        worst = worst.max(here[0].relative() / here[1].relative());
        worst = worst.max(here[0].weighted() / here[1].weighted());
        tensors += 1;
        sums.iter_mut()
            .zip(here)
            .for_each(|(sum, here)| *sum += here);
    }
    let [a, b] = sums;
    println!("\n| error over {tensors} tensors | ours | llama-quantize | ratio |");
    println!("|---|---:|---:|---:|");
    for (name, a, b) in [
        ("plain", a.relative(), b.relative()),
        ("weighted as ggml does", a.weighted(), b.weighted()),
    ] {
        println!("| {name} | {a:.5} | {b:.5} | {:.4} |", a / b);
    }
    println!("| worst tensor | | | {worst:.4} |");
    Ok(worst)
}

/// All values of a stored tensor.
fn decoded(file: &Checkpoint, tensor: &StoredTensor, row: usize) -> anyhow::Result<Vec<f32>> {
    use std::io::{Seek, SeekFrom};
    let path: &PathBuf = &file.files.get(tensor.file).context("a file")?.path;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(tensor.offset))?;
    let mut bytes = vec![0; tensor.bytes.0 as usize];
    file.read_exact(&mut bytes)?;
    let mut values = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
    decode_rows(tensor.dtype, &bytes, row, &mut values)?;
    Ok(values)
}
