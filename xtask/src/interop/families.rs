//! Every family that is emitted: llama.cpp loads the files, computes what Transformers computes,
//! splits text as the tokenizer's own library does, and finds the quantized weights no worse than
//! ggml's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::bench::Bench;
use super::decoder::DECIDING;

/// Formats beside F16 that each family is written in.
const QUANTIZED: &[&str] = &["q8_0", "q4_0", "q4_k_m"];

/// Largest difference of a logarithm of a probability between llama.cpp, which computes with F16
/// activations and cache, and Transformers in F32. Seen: 0.013.
const TOLERANCE: f64 = 0.04;

/// llama.cpp takes the deviation of gemma3n's activations over one element less than Transformers.
/// On rows of 256 that moves its threshold (seen: 0.16); on rows of 2048 the difference is 0.03.
const TOLERANCE_GEMMA3N: f64 = 0.3;

/// llama.cpp rounds activations to eight bits before products with four-bit floats (seen: 0.18). With the same experts in F16
/// the difference is 0.033, but for one place where a router decides otherwise.
const TOLERANCE_FOUR_BITS: f64 = 0.3;

/// How much further than ggml's own encoding of the same weights a file may be from the F16 file.
const WORSE: f64 = 1.25;

/// The same where routers decide: a token that goes to another expert moves all that comes behind it.
const WORSE_DECIDING: f64 = 1.6;

/// The checkpoints that the suite made.
pub(super) struct Checkpoints {
    /// Names of families.
    pub(super) families: Vec<String>,
    /// Tokens in front of what is decoded.
    pub(super) prompt: Value,
    texts: Value,
    ids: Value,
    directory: PathBuf,
}

impl Checkpoints {
    /// The checkpoint of `family`.
    pub(super) fn checkpoint(&self, family: &str) -> PathBuf {
        self.directory.join(family)
    }

    /// The same with these families alone; with all where `names` is empty.
    ///
    /// # Errors
    /// A name that no family has.
    pub(super) fn limited_to(mut self, names: &[String]) -> anyhow::Result<Checkpoints> {
        for name in names {
            ensure!(
                self.families.contains(name),
                "there is no family `{name}`; there are {}",
                self.families.join(", ")
            );
        }
        if !names.is_empty() {
            self.families.retain(|family| names.contains(family));
        }
        Ok(self)
    }
}

/// The licence, the one long text here that does not change.
pub(super) fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../LICENSE-APACHE")
}

/// Makes a checkpoint with a tokenizer for every family. The vocabularies are learned from [`text`].
pub(super) fn make(bench: &mut Bench) -> anyhow::Result<Checkpoints> {
    let directory = bench.file("checkpoints");
    let request = json!({ "directory": directory, "corpus": text() });
    let made = bench.probe.ask("make", request)?;
    let families = made["ids"]
        .as_object()
        .context("no checkpoints were made")?;
    Ok(Checkpoints {
        families: families.keys().cloned().collect(),
        prompt: made["prompt"].clone(),
        texts: made["texts"].clone(),
        ids: made["ids"].clone(),
        directory,
    })
}

/// Checks all families.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let expected = expected(bench);
    for family in &made.families {
        let f16 = bench.quantize(
            &made.checkpoint(family),
            "f16",
            &format!("{family}-f16.gguf"),
            &[],
        );
        let f16 = match f16 {
            Ok(file) => file,
            Err(error) => {
                bench.report(family, Err(error));
                continue;
            }
        };
        let outcome = expected
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .and_then(|rows| numbers(bench, made, family, &f16, &rows[family.as_str()]));
        bench.report(&format!("{family} f16 logits"), outcome);
        let outcome = tokens(bench, &f16, &made.texts, &made.ids[family.as_str()], false);
        bench.report(&format!("{family} tokenizer"), outcome);
        for scheme in QUANTIZED {
            let outcome = quantized(bench, made, family, &f16, scheme);
            bench.report(&format!("{family} {scheme}"), outcome);
        }
    }
}

fn expected(bench: &Bench) -> anyhow::Result<Value> {
    let path = bench.scripts.join("expected.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Greedy tokens and probabilities against Transformers. Where its first and second token are closer
/// than llama.cpp's arithmetic, the choice between them says nothing.
fn numbers(
    bench: &mut Bench,
    made: &Checkpoints,
    family: &str,
    file: &Path,
    expected: &Value,
) -> anyhow::Result<String> {
    let tolerance = match family {
        "gemma3n" => TOLERANCE_GEMMA3N,
        "gpt_oss" => TOLERANCE_FOUR_BITS,
        _ => TOLERANCE,
    };
    let (prompt, greedy) = (ids(&made.prompt)?, ids(&expected["greedy"])?);
    let likeliest = ids(&expected["likeliest"])?;
    let all: Vec<u64> = prompt.iter().chain(&greedy).copied().collect();
    let request = json!({ "file": file, "ids": all, "tokens": likeliest });
    let score = bench.probe.ask("score", request)?;
    let have = ids(&score["likeliest"])?;
    let margins = floats(&expected["margins"])?;
    let differences: Vec<f64> = floats(&score["logarithms"])?
        .iter()
        .zip(floats(&expected["logarithms"])?)
        .map(|(a, b)| (a - b).abs())
        .collect();
    let worst = differences.iter().fold(0.0, |a: f64, &b| a.max(b));
    ensure!(
        differences.len() == all.len() && worst <= tolerance,
        "logarithms of probabilities are {worst:.4} from Transformers', above {tolerance}"
    );
    for (position, margin) in margins.iter().enumerate().filter(|(_, m)| **m > tolerance) {
        ensure!(
            have.get(position) == likeliest.get(position),
            "after token {position} llama.cpp has {:?}, Transformers {:?}, {margin} before any other",
            have.get(position),
            likeliest.get(position)
        );
    }
    let sure = margins.get(prompt.len() - 1..).unwrap_or_default();
    let sure = sure
        .iter()
        .take_while(|m| **m > tolerance)
        .count()
        .min(greedy.len());
    let request = json!({ "file": file, "ids": prompt, "count": greedy.len() });
    let answer = bench.probe.ask("complete", request)?;
    let decoded = ids(&answer["ids"])?;
    ensure!(
        decoded.get(..sure) == greedy.get(..sure),
        "llama.cpp continues with {decoded:?}, Transformers with {greedy:?}"
    );
    Ok(format!(
        "{} positions within {worst:.4} of Transformers', {sure} greedy tokens equal",
        all.len()
    ))
}

/// The ids of texts in `file` against those that the tokenizer's own library gives.
pub(super) fn tokens(
    bench: &mut Bench,
    file: &Path,
    texts: &Value,
    expected: &Value,
    special: bool,
) -> anyhow::Result<String> {
    let request = json!({ "file": file, "texts": texts, "special": special });
    let have = bench.probe.ask("tokenize", request)?;
    let (texts, have, expected) = (list(texts)?, list(&have["ids"])?, list(expected)?);
    ensure!(
        texts.len() == expected.len() && have.len() == expected.len(),
        "{} texts, {} expected, {} given",
        texts.len(),
        expected.len(),
        have.len()
    );
    for ((text, have), expected) in texts.iter().zip(have).zip(expected) {
        ensure!(have == expected, "{text} becomes {have}, not {expected}");
    }
    Ok(format!("{} texts have the same ids", texts.len()))
}

/// One format against the same types as ggml encodes them.
fn quantized(
    bench: &mut Bench,
    made: &Checkpoints,
    family: &str,
    f16: &Path,
    scheme: &str,
) -> anyhow::Result<String> {
    let name = format!("{family}-{scheme}");
    let ours = bench.quantize(
        &made.checkpoint(family),
        scheme,
        &format!("{name}.gguf"),
        &[],
    )?;
    let prompt = ids(&made.prompt)?;
    let request = json!({ "file": ours, "ids": prompt, "count": 8 });
    bench.probe.ask("complete", request).context("completion")?;
    let ggml = bench.file(&format!("{name}-ggml.gguf"));
    let is_computed = COMPUTED.contains(&family);
    let said = weights(bench, f16, [&ours, &ggml], is_computed)?;
    let parts = json!([prompt]);
    let [mine, theirs] = divergences(bench, f16, [&ours, &ggml], &parts)?;
    let worse = if DECIDING.contains(&family) {
        WORSE_DECIDING
    } else {
        WORSE
    };
    ensure!(
        mine <= theirs * worse + 1e-6,
        "the divergence from F16 is {mine:.5}, with ggml's encoding {theirs:.5}"
    );
    Ok(format!(
        "answers; {said}; divergence from F16 {mine:.5}, ggml's {theirs:.5}"
    ))
}

/// Divergences of two files from one.
pub(super) fn divergences(
    bench: &mut Bench,
    reference: &Path,
    files: [&Path; 2],
    parts: &Value,
) -> anyhow::Result<[f64; 2]> {
    let mut means = [0.0; 2];
    for (mean, file) in means.iter_mut().zip(files) {
        let request = json!({ "reference": reference, "file": file, "parts": parts });
        let answer = bench.probe.ask("divergence", request)?;
        *mean = answer["mean"].as_f64().context("no divergence")?;
    }
    Ok(means)
}

/// Families whose conversion computes weights: our blocks are encoded from what it computes, ggml's from that as the 16-bit file
/// rounds it.
const COMPUTED: &[&str] = &["falcon_h1", "bitnet"];

/// What such a file and the scales of blocks lose by rounding, at most: all weights of a matrix of three values may round alike.
const ROUNDED: f64 = 1.0 / 1024.0;

/// Whether the blocks of `ours` are ggml's (legacy formats, where the source is the same) or no further from `source` than
/// ggml's (all others); writes those to `ggml`.
fn weights(
    bench: &mut Bench,
    source: &Path,
    [ours, ggml]: [&Path; 2],
    is_computed: bool,
) -> anyhow::Result<String> {
    let request = json!({ "source": source, "like": ours, "output": ggml });
    let answer = bench.probe.ask("reencode", request)?;
    let (mut same, mut better, mut worst) = (0, 0, f64::NEG_INFINITY);
    for tensor in list(&answer["tensors"])? {
        let (name, dtype) = (&tensor["name"], tensor["type"].as_str().unwrap_or_default());
        let number = |key: &str| {
            tensor[key]
                .as_f64()
                .with_context(|| format!("{name}: no {key}"))
        };
        if tensor["same"] == json!(true) {
            same += 1;
            continue;
        }
        // Four-bit floats are those of the checkpoint.
        let legacy = !dtype.ends_with("_K") && !dtype.starts_with("IQ") && dtype != "MXFP4";
        ensure!(
            !legacy || is_computed,
            "{name} has other {dtype} bytes than ggml writes"
        );
        let (mine, theirs) = (number("error")?, number("ggml")?);
        let (factor, rounding) = if is_computed {
            (1.01, ROUNDED)
        } else {
            (1.0, 0.0)
        };
        ensure!(
            mine <= (theirs * factor).hypot(rounding),
            "{name} in {dtype} has error {mine:.6}, ggml's has {theirs:.6}"
        );
        better += 1;
        worst = worst.max(mine / theirs);
    }
    Ok(match better {
        0 => format!("{same} tensors have ggml's bytes"),
        _ => format!("{same} tensors have ggml's bytes, {better} at most {worst:.4} of its error"),
    })
}

pub(super) fn list(value: &Value) -> anyhow::Result<&Vec<Value>> {
    value.as_array().context("not a list")
}

pub(super) fn ids(value: &Value) -> anyhow::Result<Vec<u64>> {
    let id = |id: &Value| id.as_u64().context("not a token");
    list(value)?.iter().map(id).collect()
}

fn floats(value: &Value) -> anyhow::Result<Vec<f64>> {
    let number = |number: &Value| number.as_f64().context("not a number");
    list(value)?.iter().map(number).collect()
}
