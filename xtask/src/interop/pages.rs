//! Pages in a browser: each one and a figure of it at the width of a phone and of a desk, in light and dark. A page
//! raises no error and asks for nothing, axe-core finds no violation, marks, slider, power modes and buttons work, and every
//! number is that of the JSON that the page carries. Screenshots and prints are left in `target/interop/pages`.
//!
//! Needs Chromium, Node and npm; where one is missing the part is skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::bench::Bench;
use super::environment;
use super::families::{self, Checkpoints};

/// What Chromium is called.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

const FAMILY: &str = "qwen3";
const BOARD: [&str; 2] = ["--device", "orin-nano-8gb"];

pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let browser = BROWSERS.iter().find_map(|name| path_of(name));
    let Some(browser) = browser else {
        return bench.skip(
            "pages",
            "no Chromium; Debian has it in the package chromium",
        );
    };
    if !environment::runs("node") || !environment::runs("npm") {
        return bench.skip("pages", "no Node with npm");
    }
    let seen = look(bench, made, &browser);
    match seen {
        Ok(seen) => seen
            .into_iter()
            .for_each(|(what, outcome)| bench.report(&what, outcome)),
        Err(error) => bench.report("pages", Err(error)),
    }
}

/// What came of a page.
type Seen = (String, anyhow::Result<String>);

fn look(bench: &Bench, made: &Checkpoints, browser: &Path) -> anyhow::Result<Vec<Seen>> {
    let folder = bench.file("pages");
    fs::create_dir_all(&folder)?;
    let pages = pages(bench, made, &folder)?;
    let script = bench.scripts.join("pages");
    install(&script, &folder)?;
    let mut node = Command::new("node");
    node.arg(script.join("pages.mjs"))
        .args([&folder, browser, &folder]);
    for (name, file) in &pages {
        node.arg(format!("{name}={}", file.display()));
    }
    let ran = node.output()?;
    ensure!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let lines = String::from_utf8(ran.stdout)?;
    lines.lines().map(seen).collect()
}

/// One page at one width, as the script reports it.
fn seen(line: &str) -> anyhow::Result<Seen> {
    let found: Value = serde_json::from_str(line)?;
    let of = |key: &str| found[key].as_str().context("no name");
    let what = format!("page {}, {}", of("page")?, of("width")?);
    let problems = found["problems"].as_array().context("no problems")?;
    let problems: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
    let checked = found["checked"].as_object().context("no counts")?;
    let checked = checked
        .iter()
        .map(|(name, count)| format!("{count} {name}"));
    let outcome = if problems.is_empty() {
        Ok(checked.collect::<Vec<_>>().join(", "))
    } else {
        Err(anyhow::anyhow!("{}", problems.join("; ")))
    };
    Ok((what, outcome))
}

/// The files: a page of each command that has one, of a model with weights, one without, and one that does not fit.
fn pages(
    bench: &Bench,
    made: &Checkpoints,
    folder: &Path,
) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let fixture = |name: &str| root.join("fixtures").join(name).display().to_string();
    let (qwen, gemma) = (fixture("qwen3-0.6b"), fixture("gemma-3n-e2b-it"));
    let weights = made.checkpoint(FAMILY).display().to_string();
    let text = families::text().display().to_string();
    let quantized = ["f16", "q8_0", "q4_0"].map(|scheme| {
        let file = bench.quantize(
            &made.checkpoint(FAMILY),
            scheme,
            &format!("pages-{scheme}.gguf"),
            &[],
        );
        Ok(file?.display().to_string())
    });
    let quantized: Vec<String> = quantized.into_iter().collect::<anyhow::Result<_>>()?;
    let [f16, q8, q4] = &quantized[..] else {
        anyhow::bail!("three files");
    };
    let evaluated = ["--text", &text, "--chunks", "2", "--chunk-tokens", "64"];
    let short = [
        "--repeats",
        "2",
        "--tokens",
        "16",
        "--prompt-tokens",
        "32",
        "--context",
        "256",
    ];
    let words: [(&'static str, Vec<&str>); 10] = [
        ("fit", [&["fit", &qwen], &BOARD[..]].concat()),
        ("fit-weights", [&["fit", &weights], &BOARD[..]].concat()),
        (
            "fit-too-large",
            [&["fit", &gemma, "--budget", "3GB"], &BOARD[..]].concat(),
        ),
        (
            "fit-boards",
            vec!["fit", &qwen, "--boards", "orin-nx-16gb,orin-nano-8gb"],
        ),
        ("board", [&["board", &qwen, &gemma], &BOARD[..]].concat()),
        ("models", [&["models"], &BOARD[..]].concat()),
        (
            "compare",
            [&["compare", f16, q8, q4], &evaluated[..]].concat(),
        ),
        ("validate", [&["validate", f16], &short[..]].concat()),
        (
            "figure-compare",
            [&["compare", f16, q8], &evaluated[..]].concat(),
        ),
        ("figure-fit", [&["fit", &qwen], &BOARD[..]].concat()),
    ];
    let mut files = Vec::new();
    for (name, words) in words {
        let form = if name.starts_with("figure") {
            "svg"
        } else {
            "html"
        };
        let ran = bench.orinplan(&[&words[..], &["--format", form]].concat())?;
        ensure!(
            matches!(ran.status.code(), Some(0 | 1)),
            "orinplan {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&ran.stderr).trim()
        );
        let file = folder.join(format!("{name}.{form}"));
        fs::write(&file, ran.stdout)?;
        files.push((name, file));
    }
    Ok(files)
}

/// Puts the browser's driver and axe-core into `folder`, in the versions of the lock file.
fn install(script: &Path, folder: &Path) -> anyhow::Result<()> {
    let stamp = folder.join("installed.json");
    let wanted = fs::read_to_string(script.join("package-lock.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(script.join(file), folder.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit"])
        .current_dir(folder);
    ensure!(
        npm.status()?.success(),
        "npm could not install {}",
        script.display()
    );
    fs::write(stamp, wanted)?;
    Ok(())
}

/// Where the program is that a shell would start.
fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}
