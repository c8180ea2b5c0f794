//! The program's own decoder beside llama.cpp on the same files: logits over a long prompt for every
//! family, a speed run against llama.cpp's server, and with trained models their golden tokens.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint;
use orinplan::decode::{Engine, LoadOptions, Model, greedy};
use orinplan::dtype::Dtype;
use orinplan::model::{self, Unknown};
use orinplan::note::KvProblem;
use orinplan::plan::kv::{KvSettings, kv_cache};
use serde_json::{Value, json};

use super::bench::Bench;
use super::families::{Checkpoints, ids, list};

/// Formats in which each family is run: floats, one of the old formats, a mixture of K-quants.
const SCHEMES: &[&str] = &["f16", "q8_0", "q4_k_m"];

/// Formats of cached keys and values.
const F16: [Dtype; 2] = [Dtype::F16, Dtype::F16];
const CACHES: [[Dtype; 2]; 5] = [
    [Dtype::Q8_0, Dtype::Q8_0],
    [Dtype::Q4_0, Dtype::Q4_0],
    [Dtype::Q8_0, Dtype::Q4_0],
    [Dtype::Q5_0, Dtype::Q5_1],
    [Dtype::Q4_1, Dtype::Q4_1],
];

/// The divergence from llama.cpp with the same cache, as a share of what the cache costs llama.cpp. llama.cpp rounds
/// queries to eight bits before it multiplies them with quantized keys.
const SHARE_OF_COST: f64 = 0.25;

/// The same for models in which activations decide, between experts or which of them count at all: one decision that
/// falls the other way changes all that comes behind it, in our program as between two builds of llama.cpp. In F16 these
/// models are within 5e-6 of llama.cpp, as all are. With activations rounded to eight bits, `jamba` and `hunyuan_moe` are up to
/// 1.7e-3 apart, and llama.cpp's two attentions 1.6e-3 (`hunyuan_moe`) and 3.2e-3 (`phimoe`, whose caches of eight bits cost
/// it 6.9e-3 and set us 3.1e-3 apart).
const SHARE_OF_COST_DECIDING: f64 = 0.9;
pub(super) const DECIDING: [&str; 21] = [
    "qwen3moe",
    "qwen3vlmoe",
    "llama4",
    "qwen35moe",
    "gemma3n",
    "olmoe",
    "qwen2moe",
    "granitemoe",
    "ernie4_5_moe",
    "nemotron_h_moe",
    "lfm2moe",
    "deepseek2",
    "deepseek3",
    "deepseek_ocr",
    "gpt_oss",
    "gemma4_moe",
    "hunyuan_moe",
    "phimoe",
    "jamba",
    "qwen3next",
    "kimi_linear",
];

/// How much further the engines that round activations in ways of their own may be in those models, and the kernels, which
/// round as llama.cpp does: one decision more is up to twice the difference of llama.cpp's two attentions.
const DECIDING_MORE: f64 = 3.0;
const DECIDING_MORE_ALIKE: f64 = 2.0 / OWN_MORE;

/// Tokens whose logits are compared.
const POSITIONS: u64 = 200;

/// Mean Kullback-Leibler divergence from llama.cpp, and the share of positions with the same likeliest
/// token. llama.cpp with and without fused attention may differ more, because activations rounded to
/// eight bits amplify small differences. Then the limits are that difference and half of it (a router's decision more
/// or less), and for the agreement two of the 200 positions less.
const DIVERGENCE: f64 = 1e-3;
const AGREEMENT: f64 = 0.99;
const POSITIONS_MORE: f64 = 0.01;
const OWN_MORE: f64 = 1.5;

/// Where llama.cpp's likeliest token leads the next by less than this, in the logarithm of its probability,
/// another choice does not count.
const MARGIN: f64 = 0.05;

/// A walk through a small vocabulary in steps that share no factor with it.
pub(super) fn walk() -> Vec<u32> {
    (0..POSITIONS).map(|i| (3 + i * 89 % 251) as u32).collect()
}

/// Checks every family, and a run against the server.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let walk = walk();
    for family in &made.families {
        let deciding = DECIDING.contains(&family.as_str());
        let engines = ENGINES.map(|limits| if deciding { limits.deciding() } else { limits });
        for scheme in SCHEMES {
            let name = format!("decoder-{family}-{scheme}.gguf");
            let outcome = bench
                .quantize(&made.checkpoint(family), scheme, &name, &[])
                .and_then(|file| beside_llama(bench, &file, std::slice::from_ref(&walk), &engines));
            bench.report(&format!("decoder {family} {scheme}"), outcome);
        }
    }
    let compared = |family: &&String| !OTHER_CACHES.contains(&family.as_str());
    for (number, family) in made.families.iter().filter(compared).enumerate() {
        let share = if DECIDING.contains(&family.as_str()) {
            SHARE_OF_COST_DECIDING
        } else {
            SHARE_OF_COST
        };
        // In the whole suite each family takes one, and the next family the next.
        let taken = |place: &usize| bench.is_thorough || *place == number % CACHES.len();
        let places: Vec<usize> = (0..CACHES.len()).filter(taken).collect();
        for cache in places
            .into_iter()
            .filter_map(|place| CACHES.get(place).copied())
        {
            let name = format!("decoder-{family}-f16.gguf");
            let outcome = bench
                .quantize(&made.checkpoint(family), "f16", &name, &[])
                .and_then(|file| match planned_problem(&file, cache)? {
                    Some(problem) => refused_by_both(bench, &file, &walk, cache, &problem),
                    None => in_cache(bench, &file, &walk, cache, share),
                });
            let [type_k, type_v] = cache.map(|dtype| dtype.name());
            bench.report(
                &format!("decoder {family} cache {type_k} {type_v}"),
                outcome,
            );
        }
    }
    let outcome = server(bench, made);
    bench.report("validate --backend openai", outcome);
}

/// Families with latent attention whose quantized caches cost other bits here than in llama.cpp, by up to twice what they
/// cost it; with caches of 16 bits both agree. llama.cpp refuses two types for keys and values of `deepseek3`. In `gpt_oss`
/// activations are rounded to eight bits before each product with an expert, which moves routers as much as a cache of eight
/// bits does.
const OTHER_CACHES: &[&str] = &["deepseek3", "minicpm3", "gpt_oss"];

/// Why a plan with such a cache says that llama.cpp refuses it.
fn planned_problem(file: &Path, [type_k, type_v]: [Dtype; 2]) -> anyhow::Result<Option<KvProblem>> {
    let checkpoint = checkpoint::open(&file.to_string_lossy())?;
    let spec = model::read(&checkpoint, Unknown::Refuse)?;
    let settings = KvSettings {
        type_k,
        type_v,
        ..KvSettings::default()
    };
    Ok(kv_cache(&spec, &settings).problem)
}

/// That llama.cpp refuses a cache as the plan says.
fn refused_by_both(
    bench: &mut Bench,
    file: &Path,
    ids: &[u32],
    cache: [Dtype; 2],
    problem: &KvProblem,
) -> anyhow::Result<String> {
    match llama(bench, file, ids, true, cache) {
        Ok(_) => bail!("llama.cpp takes it, and the plan says: {problem}"),
        Err(refusal) => Ok(format!("{problem}; llama.cpp: {refusal:#}")),
    }
}

/// How logits differ from llama.cpp's.
#[derive(Default)]
struct Difference {
    positions: usize,
    /// Sum over all positions.
    divergence: f64,
    same: usize,
    /// Places where the likeliest token is another, and llama.cpp's stood out.
    other: usize,
}

impl Difference {
    /// Adds the rows of `width` logits.
    fn add(&mut self, theirs: &[f32], ours: &[f32], width: usize) {
        for (theirs, ours) in theirs.chunks_exact(width).zip(ours.chunks_exact(width)) {
            let (p, q) = (logarithms(theirs), logarithms(ours));
            let each = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q));
            self.divergence += each.sum::<f64>();
            self.positions += 1;
            if greedy(theirs) == greedy(ours) {
                self.same += 1;
            } else if margin(&p) >= MARGIN {
                self.other += 1;
            }
        }
    }

    fn mean(&self) -> f64 {
        self.divergence / self.positions as f64
    }

    /// Where the likeliest token is the same, or another one nearly as likely.
    fn agreement(&self) -> f64 {
        1.0 - self.other as f64 / self.positions as f64
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(
            f,
            "divergence {:.7}, likeliest token equal at {:.1} %, ties of {MARGIN} apart {:.1} %",
            self.mean(),
            percent(self.same as f64 / self.positions as f64),
            percent(self.agreement())
        )
    }
}

fn load(file: &Path, engine: Engine, [type_k, type_v]: [Dtype; 2]) -> anyhow::Result<Model> {
    let checkpoint = checkpoint::open(&file.to_string_lossy())?;
    let spec = model::read(&checkpoint, Unknown::Refuse)?;
    let options = LoadOptions {
        context: 512,
        type_k,
        type_v,
        engine,
        ..LoadOptions::default()
    };
    Ok(Model::load(&checkpoint, &spec, &options, &mut |_| {})?)
}

/// llama.cpp's logits behind each of `ids`, with fused attention or without, and cached keys and values of these types.
fn llama(
    bench: &mut Bench,
    file: &Path,
    ids: &[u32],
    flash: bool,
    cache: [Dtype; 2],
) -> anyhow::Result<Vec<f32>> {
    let output = bench.file("logits.f32");
    let types = cache.map(|dtype| dtype.format().ggml_id);
    let request =
        json!({ "file": file, "ids": ids, "output": output, "flash": flash, "types": types });
    bench.probe.ask("logits", request)?;
    let bytes = fs::read(&output)?;
    let floats = bytes.as_chunks().0.iter();
    Ok(floats.map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// An engine of the decoder, and how far its logits may exceed the limits.
#[derive(Clone, Copy)]
pub(super) struct EngineLimits {
    name: &'static str,
    engine: Engine,
    /// The factor on the limit of the divergence.
    divergence: f64,
    /// Less than the limit of the agreement, as a share of the positions.
    positions: f64,
}

impl EngineLimits {
    /// Those for a model in which activations decide.
    fn deciding(self) -> EngineLimits {
        let rounds_alike = self.divergence == KERNELS.divergence;
        let more = if rounds_alike {
            DECIDING_MORE_ALIKE
        } else {
            DECIDING_MORE
        };
        EngineLimits {
            divergence: self.divergence * more,
            positions: self.positions * more,
            ..self
        }
    }
}

/// Multiplies with all formats.
pub(super) const KERNELS: EngineLimits = EngineLimits {
    name: "kernels",
    engine: Engine::Cpu,
    divergence: 1.0,
    positions: 0.0,
};

/// The second runs the operations of a GPU on the processor; the GPU is run where there is one
/// (`--features cuda`). Before products with quantized weights candle rounds activations in ways of its
/// own, hence the wider limits.
const ENGINES: [EngineLimits; 3] = [
    KERNELS,
    EngineLimits {
        name: "tensors",
        engine: Engine::Tensors,
        divergence: 3.0,
        positions: 0.01,
    },
    EngineLimits {
        name: "GPU",
        engine: Engine::Cuda,
        divergence: 3.0,
        positions: 0.01,
    },
];

/// Logits of `parts` in llama.cpp and in `engines` of the decoder, within the limits.
pub(super) fn beside_llama(
    bench: &mut Bench,
    file: &Path,
    parts: &[Vec<u32>],
    engines: &[EngineLimits],
) -> anyhow::Result<String> {
    let mut references = Vec::new();
    let mut own = Difference::default();
    for part in parts {
        let theirs = llama(bench, file, part, true, F16)?;
        let width = theirs.len() / part.len();
        own.add(&theirs, &llama(bench, file, part, false, F16)?, width);
        references.push(theirs);
    }
    let (mut said, mut within) = (format!("{} positions", own.positions), true);
    for ours in engines.iter().filter(|ours| ours.engine.is_there()) {
        let mut model = load(file, ours.engine, F16)?;
        let mut difference = Difference::default();
        for (part, theirs) in parts.iter().zip(&references) {
            model.reset();
            let logits = model.logits(part)?;
            ensure!(
                theirs.len() == logits.len(),
                "llama.cpp gives {} logits, the decoder {}",
                theirs.len(),
                logits.len()
            );
            difference.add(theirs, &logits, logits.len() / part.len());
        }
        said.push_str(&format!("; {}: {difference}", ours.name));
        let agreement = AGREEMENT.min(own.agreement() - POSITIONS_MORE) - ours.positions;
        within &= difference.mean() < DIVERGENCE.max(OWN_MORE * own.mean()) * ours.divergence
            && difference.agreement() >= agreement;
    }
    said.push_str(&format!("; llama.cpp's two attentions: {own}"));
    ensure!(within, "{said}");
    Ok(said)
}

/// Logits with a quantized cache in both engines beside llama.cpp's with the same cache, and what the cache costs.
fn in_cache(
    bench: &mut Bench,
    file: &Path,
    ids: &[u32],
    cache: [Dtype; 2],
    share_of_cost: f64,
) -> anyhow::Result<String> {
    let mut ours = Vec::new();
    for engine in ENGINES.iter().filter(|ours| ours.engine.is_there()) {
        ours.push((engine, load(file, engine.engine, cache)?.logits(ids)?));
    }
    let full = llama(bench, file, ids, true, F16)?;
    let theirs = llama(bench, file, ids, true, cache)?;
    let width = theirs.len() / ids.len();
    let mut cost = Difference::default();
    cost.add(&full, &theirs, width);
    let limit = DIVERGENCE.max(cost.mean() * share_of_cost);
    let (mut said, mut within) = (format!("the cache costs llama.cpp {cost}"), true);
    for (engine, logits) in ours {
        let mut difference = Difference::default();
        difference.add(&theirs, &logits, width);
        said.push_str(&format!("; {}: {difference}", engine.name));
        within &= difference.mean() < limit * engine.divergence;
    }
    ensure!(within, "{said}");
    Ok(said)
}

fn logarithms(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|x| f64::from(x - largest));
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|x| x - sum.ln()).collect()
}

/// How far the likeliest token is before the next.
fn margin(logarithms: &[f64]) -> f64 {
    let mut top = [f64::NEG_INFINITY; 2];
    for &x in logarithms {
        if x > top[0] {
            top = [x, top[0]];
        } else if x > top[1] {
            top[1] = x;
        }
    }
    top[0] - top[1]
}

/// llama.cpp's own server on loopback, timed by `validate`.
fn server(bench: &mut Bench, made: &Checkpoints) -> anyhow::Result<String> {
    let file = bench.quantize(&made.checkpoint("qwen3"), "q8_0", "server.gguf", &[])?;
    let url = bench.probe.ask("serve", json!({ "file": file }))?["url"].clone();
    let url = url
        .as_str()
        .context("the server has no address")?
        .to_owned();
    let path = file.display().to_string();
    let words = [
        "validate",
        &path,
        "--backend",
        "openai",
        "--url",
        &url,
        "--tokens",
        "24",
        "--prompt-tokens",
        "48",
        "--context",
        "512",
        "--format",
        "json",
    ];
    let run = bench.orinplan(&words);
    bench.probe.ask("stop", json!({}))?;
    let run = run?;
    // A verdict is not asked for: nobody calibrated this machine.
    ensure!(
        matches!(run.status.code(), Some(0 | 1)),
        "{}: {}",
        run.status,
        String::from_utf8_lossy(&run.stderr).trim()
    );
    let document: Value = serde_json::from_slice(&run.stdout)?;
    let number = |pointer: &str| {
        let number = document.pointer(pointer).and_then(Value::as_f64);
        number.with_context(|| format!("no {pointer}"))
    };
    let decode = number("/measured/decode_tokens_per_second")?;
    let first = number("/measured/time_to_first_token_seconds")?;
    ensure!(
        decode > 0.0 && first > 0.0,
        "{decode} tokens/s, first after {first} s"
    );
    Ok(format!(
        "{decode:.0} tokens/s of llama.cpp's server, first token after {:.1} ms",
        first * 1e3
    ))
}

/// The tokens that follow greedily.
fn follow(model: &mut Model, prompt: &[u32], count: usize) -> anyhow::Result<Vec<u64>> {
    model.reset();
    let mut next = greedy(model.prefill(prompt)?);
    let mut said = vec![u64::from(next)];
    while said.len() < count {
        next = greedy(model.step(next)?);
        said.push(u64::from(next));
    }
    Ok(said)
}

fn tokens(value: &Value) -> anyhow::Result<Vec<u32>> {
    ids(value)?
        .into_iter()
        .map(|id| Ok(u32::try_from(id)?))
        .collect()
}

/// The golden tokens of a story model, from a file that keeps its weights.
pub(super) fn story(bench: &mut Bench, directory: &Path, golden: &Value) -> anyhow::Result<String> {
    let (prompt, all) = (tokens(&golden["prompt_ids"])?, ids(&golden["greedy_ids"])?);
    let expected = all
        .get(prompt.len()..)
        .context("nothing follows the prompt")?;
    let mut said = String::new();
    for scheme in ["f16", "bf16"] {
        let name = format!("decoder-story-{scheme}.gguf");
        let file = bench.quantize(directory, scheme, &name, &[])?;
        let have = follow(&mut load(&file, Engine::Cpu, F16)?, &prompt, expected.len())?;
        let equal = have
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        ensure!(
            equal == expected.len(),
            "{scheme}: {have:?}, not {expected:?}"
        );
        said.push_str(&format!("{equal} greedy tokens equal in {scheme}; "));
    }
    Ok(said.trim_end_matches("; ").to_owned())
}

/// A file that llama.cpp's tools made: its golden tokens, and llama.cpp's logits on held-out text.
pub(super) fn golden(
    bench: &mut Bench,
    file: &Path,
    rows: &Value,
    scheme: &str,
    parts: &Value,
) -> anyhow::Result<String> {
    let parts: Vec<Vec<u32>> = list(parts)?.iter().map(tokens).collect::<Result<_, _>>()?;
    let difference = beside_llama(bench, file, &parts, &ENGINES)?;
    let mut model = load(file, Engine::Cpu, F16)?;
    let (mut equal, mut all, mut widest) = (0, 0, 0f64);
    for row in list(rows)? {
        let prompt = tokens(&row["prompt_ids"])?;
        let key = format!("llama_cpp_{scheme}");
        let request = json!({ "file": file, "ids": prompt, "count": 48 });
        let expected = if row[&key].is_null() {
            ids(&bench.probe.ask("complete", request)?["ids"])?
        } else {
            ids(&row[&key])?
        };
        let have = follow(&mut model, &prompt, expected.len())?;
        let same = have
            .iter()
            .zip(&expected)
            .take_while(|(a, b)| a == b)
            .count();
        equal += same;
        all += expected.len();
        if same == expected.len() {
            continue;
        }
        // They may part where llama.cpp, given the text so far at once, hardly prefers its token, or ours.
        let mut until = prompt.clone();
        until.extend(tokens(&json!(expected[..same]))?);
        let logits = llama(bench, file, &until, true, F16)?;
        let last = logits.len() - logits.len() / until.len();
        let logit = |id: u64| f64::from(logits[last + id as usize]);
        let (ours, theirs) = (have[same], expected[same]);
        let preferred = logit(theirs) - logit(ours);
        widest = widest.max(preferred);
        ensure!(
            scheme != "BF16" && preferred < MARGIN,
            "after {same} tokens {ours} stands for {theirs}, which llama.cpp prefers by {preferred:.4}"
        );
    }
    Ok(format!(
        "{difference}; {equal} of {all} greedy tokens equal, apart at margins up to {widest:.3}"
    ))
}
