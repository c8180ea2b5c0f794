//! `cargo xtask bench calibrate [--busy N] [--runs N] [--seconds N] [FILE.gguf ..]`: whether `orinplan calibrate`
//! ends on a machine that is not idle, and whether the ranges it gives hold what is decoded there.
//!
//! `N` processes of the lowest priority compute all the while, by default one for each core. Each run calibrates,
//! then decodes every file in a process of its own, and sets the rate against the range that was printed. The
//! files are published shapes in several formats, with those that are named.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::bench::release_binary;
use crate::bench_predict::{SHAPES, number, orinplan, write};

/// The shapes and formats that are decoded.
const FILES: [(&str, &str); 6] = [
    ("SmolLM2-135M", "q4_k_m"),
    ("SmolLM2-135M", "q8_0"),
    ("SmolLM2-135M", "q3_k_m"),
    ("SmolLM2-360M", "q4_0"),
    ("SmolLM2-360M", "f16"),
    ("Qwen2.5-0.5B", "q5_k_m"),
];

/// The share of decodes that the ranges have to hold.
const HELD: f64 = 0.8;

/// What is asked for.
struct Options {
    busy: usize,
    runs: usize,
    seconds: String,
    files: Vec<PathBuf>,
}

impl Options {
    fn read(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            busy: std::thread::available_parallelism()?.get(),
            runs: 20,
            seconds: "20".to_owned(),
            files: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a number"))
            };
            match *word {
                "--busy" => options.busy = value()?.parse()?,
                "--runs" => options.runs = value()?.parse()?,
                "--seconds" => options.seconds = (*value()?).to_owned(),
                flag if flag.starts_with('-') => bail!("there is no {flag}"),
                file => options.files.push(PathBuf::from(file)),
            }
        }
        ensure!(options.runs > 0, "no run measures nothing");
        Ok(options)
    }
}

/// Processes that compute at the lowest priority until this goes.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> anyhow::Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..count {
            let mut command = Command::new("nice");
            command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
            busy.0.push(command.stdin(Stdio::null()).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::read(words)?;
    let binary = release_binary()?;
    let scratch = std::env::temp_dir().join(format!("orinplan-calibrate-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let outcome = measure(&binary, &scratch, &options);
    std::fs::remove_dir_all(&scratch).ok();
    outcome
}

fn measure(binary: &Path, scratch: &Path, options: &Options) -> anyhow::Result<()> {
    let mut files = options.files.clone();
    for (name, format) in FILES {
        let shape = SHAPES.iter().find(|shape| shape.name == name);
        let path = scratch.join(format!("{name}-{format}.gguf"));
        write(shape.context("a published shape")?, format, &path)?;
        files.push(path);
    }
    let _busy = Busy::start(options.busy)?;
    println!(
        "{} busy processes, --seconds {}\n",
        options.busy, options.seconds
    );
    println!("| run | calibrated in | decodes within their range | range, median | outside |");
    println!("|---:|---:|---:|---:|---|");
    let (mut ended, mut held, mut all) = (0, 0, 0);
    for run in 1..=options.runs {
        let started = Instant::now();
        let words = [
            "calibrate",
            "--seconds",
            &options.seconds,
            "--format",
            "json",
        ];
        if let Err(error) = orinplan(binary, scratch, &words) {
            println!("| {run} | failed: {error:#} | | | |");
            continue;
        }
        ended += 1;
        let seconds = started.elapsed().as_secs_f64();
        let decodes = files.iter().map(|file| Decode::of(binary, scratch, file));
        let decodes = decodes.collect::<anyhow::Result<Vec<_>>>()?;
        let outside: Vec<String> = decodes
            .iter()
            .zip(&files)
            .filter(|(decode, _)| !decode.is_held())
            .map(|(decode, file)| {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                let Decode {
                    low,
                    high,
                    measured,
                } = decode;
                format!("{name}: {measured:.1}, not {low:.1} to {high:.1}")
            })
            .collect();
        let mut factors: Vec<f64> = decodes.iter().map(Decode::factor).collect();
        factors.sort_by(f64::total_cmp);
        println!(
            "| {run} | {seconds:.0} s | {} of {} | {:.2} either way | {} |",
            decodes.len() - outside.len(),
            decodes.len(),
            factors[factors.len() / 2],
            outside.join("; ")
        );
        held += decodes.len() - outside.len();
        all += decodes.len();
    }
    let share = held as f64 / f64::max(1.0, all as f64);
    println!(
        "\n{ended} of {} ended; {held} of {all} decodes within their range ({:.0} %)",
        options.runs,
        share * 100.0
    );
    ensure!(
        ended == options.runs && share >= HELD,
        "not every run ended, or fewer than {:.0} % were held",
        HELD * 100.0
    );
    Ok(())
}

/// Tokens a second: the range that was printed, and what was measured.
struct Decode {
    low: f64,
    high: f64,
    measured: f64,
}

impl Decode {
    fn of(binary: &Path, scratch: &Path, file: &Path) -> anyhow::Result<Decode> {
        let file = file.to_str().context("the path is text")?;
        let words = [
            "validate",
            file,
            "--tokens",
            "64",
            "--prompt-tokens",
            "64",
            "--context",
            "1024",
            "--repeats",
            "1",
            "--format",
            "json",
        ];
        let found = orinplan(binary, scratch, &words)?;
        Ok(Decode {
            low: number(&found, "/predicted/decode_tokens_per_second/low")?,
            high: number(&found, "/predicted/decode_tokens_per_second/high")?,
            measured: number(&found, "/measured/decode_tokens_per_second")?,
        })
    }

    fn is_held(&self) -> bool {
        (self.low..=self.high).contains(&self.measured)
    }

    /// How far either end is from the middle.
    fn factor(&self) -> f64 {
        (self.high / self.low).sqrt()
    }
}
