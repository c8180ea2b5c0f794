//! `cargo xtask logits FILE.gguf IDS [--greedy N] [--out FILE] [--kv q8_0] [--ubatch N]`: what the decoder
//! makes of a GGUF, for comparison with another engine. IDS are token ids with commas between.
//!
//! Prints the N ids that follow greedily, or writes the logits behind every given id to FILE as
//! little-endian `f32`, `ids x vocabulary`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use orinplan::checkpoint;
use orinplan::decode::{LoadOptions, Model, greedy};
use orinplan::dtype::Dtype;
use orinplan::model::{self, Unknown};

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let [file, ids, flags @ ..] = arguments else {
        bail!("give a file and token ids");
    };
    let ids: Vec<u32> = ids.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let flag = |name: &str| {
        let at = flags.iter().position(|flag| *flag == name)?;
        flags.get(at + 1).copied()
    };
    let mut options = LoadOptions::default();
    if let Some(name) = flag("--kv") {
        options.kv_type = Dtype::from_name(name).context("no such type")?;
    }
    if let Some(ubatch) = flag("--ubatch") {
        options.ubatch = ubatch.parse()?;
    }
    let checkpoint = checkpoint::open(&PathBuf::from(file).to_string_lossy())?;
    let spec = model::read(&checkpoint, Unknown::Refuse)?;
    let mut model = Model::load(&checkpoint, &spec, &options, &mut |_| {})?;
    if let Some(count) = flag("--greedy") {
        let mut next = greedy(model.prefill(&ids)?);
        let mut said = vec![next.to_string()];
        for _ in 1..count.parse::<usize>()? {
            next = greedy(model.step(next)?);
            said.push(next.to_string());
        }
        println!("{}", said.join(","));
    }
    if let Some(out) = flag("--out") {
        model.reset();
        let logits = model.logits(&ids)?;
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(out, bytes)?;
    }
    Ok(())
}
