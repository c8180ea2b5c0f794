//! Every line that `orinplan fit` prints for llama.cpp and Ollama, pasted into a shell: files are made,
//! a real llama-server answers, a real llama-bench measures, and Ollama's client finds what a Modelfile names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};

use super::bench::Bench;
use super::families::Checkpoints;
use super::llama_cpp;
use super::server::{Server, free_port, post};

/// What is asked for: a name, the model as typed, and further words.
const CASES: &[(&str, &str, &str)] = &[
    ("a directory", "qwen3", ""),
    ("a directory from below", "../lines/qwen3/", ""),
    ("a file", "./plain.gguf", ""),
    ("a quantized cache", "plain.gguf", "--kv-type q8_0"),
    (
        "two cache types",
        "plain.gguf",
        "--kv-type-k q8_0 --kv-type-v q4_0",
    ),
    ("two sequences", "plain.gguf", "--parallel 2"),
    ("no flash attention", "plain.gguf", "--no-flash-attention"),
    (
        "an older file, quantized again",
        "plain.gguf",
        "--scheme q4_0",
    ),
    ("a split file", "split-00001-of-00002.gguf", ""),
    ("a name with spaces", "with space/it's $one.gguf", ""),
    ("a name that begins with -", "./-dash", ""),
    ("no GPU", "plain.gguf", "--runtime llama.cpp-cpu"),
];

/// Where lines are pasted.
struct Shell {
    folder: PathBuf,
    /// `PATH` with the programs in front.
    path: String,
    /// For Ollama's client.
    python: PathBuf,
    script: PathBuf,
}

/// Checks all cases.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let shell = match prepare(bench, made) {
        Ok(shell) => shell,
        Err(error) => return bench.report("lines", Err(error)),
    };
    for (name, model, words) in CASES {
        let words: Vec<&str> = words.split_whitespace().collect();
        let outcome = shell.served(model, &words);
        bench.report(&format!("llama-server's line of {name}"), outcome);
        if !words.contains(&"--runtime") {
            let outcome = shell.measured(model, &words);
            bench.report(&format!("llama-bench's line of {name}"), outcome);
        }
    }
    for (name, model, words) in CASES {
        // Ollama joins no parts.
        if words.is_empty() && !model.starts_with("split-") {
            let outcome = shell.created(model);
            bench.report(&format!("Ollama's lines of {name}"), outcome);
        }
    }
    for runtime in ["llama.cpp", "llama-bench"] {
        let outcome = shell.refused(runtime);
        bench.report(&format!("the older line of {runtime}"), outcome);
    }
}

fn prepare(bench: &Bench, made: &Checkpoints) -> anyhow::Result<Shell> {
    let programs = llama_cpp::programs(bench)?;
    let folder = bench.file("lines");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("with space"))?;
    copy(&made.checkpoint("qwen3"), &folder.join("qwen3"))?;
    copy(&made.checkpoint("qwen3"), &folder.join("-dash"))?;
    let plain = bench.quantize(&made.checkpoint("qwen3"), "q8_0", "lines/plain.gguf", &[])?;
    fs::copy(&plain, folder.join("with space/it's $one.gguf"))?;
    let own = bench.program().parent().context("no folder")?.display();
    let inherited = std::env::var("PATH").unwrap_or_default();
    let shell = Shell {
        path: format!("{}:{own}:{inherited}", programs.folder.display()),
        folder,
        python: programs.python,
        script: bench.scripts.join("modelfile.py"),
    };
    shell.done("llama-gguf-split --split --split-max-tensors 20 plain.gguf split")?;
    let parts = fs::read_dir(&shell.folder)?.filter_map(|entry| entry.ok());
    let parts = parts.filter(|entry| entry.file_name().to_string_lossy().starts_with("split-"));
    ensure!(parts.count() == 2, "the file is not split in two");
    Ok(shell)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

impl Shell {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.folder);
        command.env("PATH", &self.path);
        command.env("XDG_CONFIG_HOME", &self.folder);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> anyhow::Result<Output> {
        Ok(self.command(line).output()?)
    }

    /// Runs a line that must succeed.
    fn done(&self, line: &str) -> anyhow::Result<()> {
        let output = self.run(line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        ensure!(output.status.success(), "`{line}`: {}", last.join(" | "));
        Ok(())
    }

    /// The lines that `fit` prints under titles that start with `title`.
    fn printed(&self, model: &str, words: &[&str], title: &str) -> anyhow::Result<Vec<String>> {
        let mut command = self.command("exec orinplan fit \"$@\"");
        command
            .args(["sh", model, "--format", "markdown"])
            .args(words);
        let output = command.output()?;
        let text = String::from_utf8(output.stdout)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "orinplan fit {model}: {said}");
        let mut lines = Vec::new();
        let mut heading = "";
        let mut inside = false;
        for line in text.lines() {
            match line {
                "```sh" => inside = true,
                "```" => inside = false,
                line if inside && heading.starts_with(title) => lines.push(line.to_owned()),
                "" => {}
                line => heading = line,
            }
        }
        Ok(lines)
    }

    /// Makes the file, where one is to be made; the printed line that starts `title`.
    fn made(&self, model: &str, words: &[&str], title: &str) -> anyhow::Result<String> {
        for line in self.printed(model, words, "Make the file")? {
            // Another case may have made the same one.
            let output = self.run(&line)?;
            let said = String::from_utf8_lossy(&output.stderr);
            let is_there = said.contains("already exists");
            ensure!(output.status.success() || is_there, "`{line}`: {said}");
        }
        let mut lines = self.printed(model, words, title)?;
        ensure!(lines.len() == 1, "{} lines to run it", lines.len());
        Ok(lines.remove(0))
    }

    fn served(&self, model: &str, words: &[&str]) -> anyhow::Result<String> {
        let line = self.made(model, words, "Run it with llama.cpp")?;
        let port = free_port()?;
        let log = self.folder.join("server.log");
        let mut command = self.command(&format!("exec {line} --port {port}"));
        command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let mut server = Server::start(&mut command)?;
        server
            .ready(port, &log)
            .with_context(|| format!("`{line}`"))?;
        let (status, body) = post(port, "/completion", r#"{"prompt":"the","n_predict":4}"#)?;
        ensure!(status == 200, "`{line}`: {status} {body}");
        let answer: serde_json::Value = serde_json::from_str(&body)?;
        let tokens = answer["tokens_predicted"].as_u64().unwrap_or_default();
        ensure!(tokens > 0, "`{line}`: no token in {body}");
        Ok(format!(
            "{tokens} tokens from b{} with `{line}`",
            llama_cpp::BUILD
        ))
    }

    fn measured(&self, model: &str, words: &[&str]) -> anyhow::Result<String> {
        let words = [
            words,
            &["--runtime", "llama-bench", "--prompt-tokens", "32"],
        ]
        .concat();
        let line = self.made(model, &words, "Measure it")?;
        self.done(&line)?;
        Ok(format!("`{line}`"))
    }

    /// The first half of the line, which needs no Ollama, and what Ollama's client reads in its file.
    fn created(&self, model: &str) -> anyhow::Result<String> {
        let line = self.made(model, &[], "Run it with Ollama")?;
        let (write, rest) = line.split_once(" && ").context("one command")?;
        self.done(write)?;
        let again = self.run(write)?;
        ensure!(!again.status.success(), "`{write}` replaces a file");
        let file = rest
            .split_once(" -f ")
            .and_then(|(_, rest)| rest.split_once(" && "));
        let (file, _) = file.context("no Modelfile is named")?;
        let (python, script) = (self.python.display(), self.script.display());
        let output = self.run(&format!("'{python}' '{script}' {file}"))?;
        let read = String::from_utf8(output.stdout)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "Ollama's client: {said}");
        let found = read.lines().filter(|line| line.starts_with("FROM @"));
        ensure!(
            found.count() == 1,
            "Ollama's client finds no file in {read}"
        );
        fs::remove_file(self.folder.join(file))?;
        Ok(format!("`{write}`"))
    }

    /// What an older build takes is what this one does not.
    fn refused(&self, runtime: &str) -> anyhow::Result<String> {
        let words = ["--runtime", runtime, "--runtime-version", "b10001"];
        let mut lines = self.printed("plain.gguf", &words, "")?;
        lines.retain(|line| line.starts_with("llama-"));
        let line = lines.first().context("no line")?;
        let output = self.run(&format!("exec {line}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "`{line}` runs");
        let why = said.lines().find(|line| line.contains("invalid"));
        let why = why.with_context(|| format!("`{line}`: {said}"))?;
        Ok(format!("`{line}`: {why}"))
    }
}
