//! Projectors beside text models: llama.cpp's multimodal library loads the pair that `orinplan quantize` writes, answers
//! about images (and sounds) that the suite makes, and tells what it reserves and how many tokens it makes of an image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use orinplan::model::Projector;
use orinplan::model::projector::ImageSize;
use orinplan::plan::compute::{ComputeBackend, encoder};
use serde_json::{Value, json};

use super::bench::Bench;
use super::families::{self, Checkpoints, list};

/// Records of small checkpoints.
pub(crate) const PAIRS: &[&str] = &[
    "gemma3",
    "gemma4",
    "gemma4_vision",
    "gemma4_unified",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_5_omni",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "llava",
    "llava_next",
    "llava_onevision",
    "llava_layers",
    "idefics3",
    "smolvlm",
    "minicpmv4_6",
    "minicpmv",
    "internvl",
    "internvl_internlm2",
    "internvl_hf",
    "lfm2_vl",
    "lfm2_vl_shallow",
    "mistral3",
    "glm4v",
    "kimi_vl",
    "llama4",
];

/// Images: width and height.
const SIZES: [(u64, u64); 4] = [(100, 200), (640, 480), (1024, 768), (37, 53)];

/// The types that projectors are written in.
const SCHEMES: [&str; 3] = ["f16", "bf16", "q8_0"];

/// How far a buffer may be from the library's, as a share of it, and in MiB.
const APART: (f64, f64) = (0.01, 0.02);

/// Checks every pair.
pub(super) fn check(bench: &mut Bench, _: &Checkpoints) {
    for name in PAIRS {
        let outcome = pair(bench, name);
        bench.report(&format!("images {name}"), outcome);
    }
}

fn record(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/projectors");
    data.join(format!("{name}.json"))
}

fn pair(bench: &mut Bench, name: &str) -> anyhow::Result<String> {
    let directory = bench.file(&format!("images-{name}"));
    let request =
        json!({ "record": record(name), "directory": directory, "corpus": families::text() });
    let made = bench.probe.ask("pair", request)?;
    let text = made["text"].as_str().context("no text model")?;
    let text = bench.quantize(
        Path::new(text),
        "bf16",
        &format!("images-{name}-text.gguf"),
        &[],
    )?;
    let described: Value = serde_json::from_str(&fs::read_to_string(record(name))?)?;
    let projector =
        Projector::of_hugging_face(&described["config"], described["processor"].clone(), &[])?;
    let (mut tokens, mut buffer) = (Vec::new(), 0.0);
    for scheme in SCHEMES {
        let file = format!("images-{name}-{scheme}.gguf");
        let file = bench.quantize(&directory, scheme, &file, &["--projector"])?;
        let request = json!({ "text": text, "projector": file, "sizes": SIZES });
        let answer = bench.probe.ask("look", request)?;
        tokens = SIZES
            .map(|(width, height)| projector.image(ImageSize { width, height }).tokens)
            .to_vec();
        let images = list(&answer["images"])?;
        for (image, expect) in images.iter().zip(&tokens) {
            ensure!(
                image["tokens"].as_u64() == Some(*expect),
                "{scheme}: {} tokens, {expect} planned",
                image["tokens"]
            );
            ensure!(list(&image["ids"])?.len() == 4, "{scheme}: no answer");
        }
        ensure!(
            images.len() == SIZES.len(),
            "{scheme}: an image without answer"
        );
        let hears = projector.audio.is_some();
        ensure!(
            answer["sound"].is_object() == hears,
            "{scheme}: sound is {}",
            answer["sound"]
        );
        let reserved = list(&answer["reserved"])?;
        let reserved = reserved
            .iter()
            .map(|mib| mib.as_f64().context("not a number"));
        buffer = reserved.sum::<anyhow::Result<f64>>()?;
        let planned = encoder(&projector, None, true, ComputeBackend::Cpu).total();
        let planned = planned.as_f64() / f64::from(1 << 20);
        ensure!(
            (planned - buffer).abs() <= buffer * APART.0 + APART.1,
            "{scheme}: {planned:.2} MiB planned, {buffer:.2} reserved"
        );
    }
    Ok(format!(
        "three types load and answer; tokens {tokens:?}, {buffer:.2} MiB reserved"
    ))
}
