//! `cargo xtask bench quality MODEL.. [--text FILE] [--write DIR]`: divergence over size of every GGUF format and of mixes
//! chosen by measurement, all with the same importance matrix, on text that neither was chosen with. With `--write` the
//! mixes of three recipes' sizes are written, for another program to judge. Run it from a release build.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, bail};
use orinplan::Planner;
use orinplan::inputs::Inputs;
use orinplan::quality::Text;
use orinplan::quality::mix::{Resumed, Session, Setup};
use orinplan::quantize::packed::Files;
use orinplan::quantize::{self, Destination, Job, Options};
use orinplan::scheme::{Container, Rules, SCHEMES, Scheme};
use orinplan::units::Bytes;

/// Bits for each weight of the mixes.
const BITS: [f64; 10] = [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0];
/// The recipes at whose sizes mixes are evaluated too.
const SIZES: [&str; 3] = ["q3_k_m", "q4_k_m", "q5_k_m"];

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (mut models, mut text, mut folder) = (Vec::new(), None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut next = || {
            words
                .next()
                .map(PathBuf::from)
                .context("a flag needs a value")
        };
        match *word {
            "--text" => text = Some(next()?),
            "--write" => folder = Some(next()?),
            flag if flag.starts_with('-') => bail!("there is no flag {flag}"),
            model => models.push(model),
        }
    }
    let text = Text::open(text.as_deref())?;
    models
        .iter()
        .try_for_each(|model| one(model, &text, folder.as_deref()))
}

fn one(model: &str, text: &Text, folder: Option<&Path>) -> anyhow::Result<()> {
    let planner = Planner::open(model)?;
    let files = Files::open(planner.checkpoint())?;
    let setup = Setup {
        checkpoint: planner.checkpoint(),
        files: &files,
        model: planner.model(),
        text,
        chunk_tokens: 512,
        allow_requantize: false,
        rules: Rules::default(),
        imatrix_name: "orinplan".to_owned(),
        cancel: Arc::new(AtomicBool::new(false)),
    };
    let path = std::env::temp_dir().join(format!("orinplan-bench-{}", std::process::id()));
    let store = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let started = Instant::now();
    let mut session = Session::measure(&setup, (store, &path), Resumed::default(), &mut |_| {})?;
    session.consider_codebooks(Bytes(0), &mut |_| {})?;
    let mut out = std::io::stdout().lock();
    let name = &planner.model().name;
    writeln!(
        out,
        "{name}, measured in {:.0} s\n",
        started.elapsed().as_secs_f64()
    )?;
    writeln!(
        out,
        "| file | bytes | bits | KLD | +- | p99 | same top % | expected |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
    let weights: u64 = planner
        .model()
        .tensors
        .iter()
        .map(|tensor| tensor.elements())
        .sum();
    let mut row = |name: &str,
                   bytes: Bytes,
                   options: &Options<'_>,
                   expected: Option<f64>|
     -> anyhow::Result<()> {
        let of = session.evaluate(name, options, &mut |_| {})?;
        let (mean, p99, same) = (of.mean(), of.p99(), of.same_top());
        writeln!(
            out,
            "| {name} | {} | {:.2} | {:.4} | {:.4} | {:.3} | {:.1} | {} |",
            bytes.0,
            8.0 * bytes.as_f64() / weights as f64,
            mean.value,
            mean.standard_error,
            p99.value,
            100.0 * same.value,
            expected.map_or(String::new(), |expected| format!("{expected:.4}")),
        )?;
        Ok(out.flush()?)
    };
    for scheme in SCHEMES
        .iter()
        .filter(|scheme| scheme.container == Container::Gguf)
    {
        let options = session.plain(scheme);
        match session.size(&options) {
            Ok(bytes) => row(scheme.name, bytes, &options, None)?,
            // Types that no encoder makes.
            Err(error) => eprintln!("{}: {error}", scheme.name),
        }
    }
    let mut mixes: Vec<(String, Bytes)> = Vec::new();
    for id in SIZES {
        let scheme = Scheme::get(id).context("a recipe")?;
        mixes.push((
            format!("size of {}", scheme.name),
            session.size(&session.plain(scheme))?,
        ));
    }
    mixes.extend(BITS.map(|bits| (format!("mix of {bits} bits"), session.size_of_bits(bits))));
    for (name, size) in mixes {
        let Some(mix) = session.mix(size) else {
            continue;
        };
        let options = session.options(&mix.types);
        row(
            &name,
            session.size(&options)?,
            &options,
            Some(mix.divergence),
        )?;
        if let Some(folder) = folder.filter(|_| name.starts_with("size of")) {
            let job = Job::new(setup.checkpoint, &files, setup.model, &options)?;
            let file = format!("{}-{}.gguf", setup.model.name, name.replace(' ', "-"));
            let destination = Destination {
                path: &folder.join(file),
                overwrite: true,
                inputs: Inputs::read([]),
            };
            quantize::write(&job, &destination, 2, &setup.cancel, &mut |_| {})?;
        }
    }
    Ok(())
}
