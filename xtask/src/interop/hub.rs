//! Models on servers: Hugging Face's own client downloads from the server that the tests have, and finds in its cache what
//! `quantize --keep-source` left there. So the server speaks as the hub does, and the cache is laid out as its clients lay it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use ring::digest::{SHA256, digest};

use super::bench::Bench;
use super::families::Checkpoints;

#[path = "../../../tests/quantize/hub/server.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod server;

use server::{Content, Repository, Served, Server};

const ID: &str = "org/model";

pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let folder = made.checkpoint("qwen3");
    let outcome = prepare(bench, &folder).and_then(|desk| {
        let theirs = desk.client("theirs", "online")?;
        same(&folder, &theirs)?;
        bench.report(
            "Hugging Face's client downloads from the tests' server",
            Ok(desk.requests()),
        );
        let output = desk.work.join("kept.gguf");
        let mut quantize = Command::new(bench.program());
        quantize.args([
            "quantize",
            ID,
            "--scheme",
            "q8_0",
            "--keep-source",
            "--output",
        ]);
        let ran = desk.environment(quantize.arg(&output), "ours").output()?;
        ensure!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let kept = desk.client("ours", "offline")?;
        same_weights(&folder, &kept)
    });
    bench.report("Hugging Face's client finds what was kept", outcome);
}

/// A server with a checkpoint, and a folder for caches.
struct Desk {
    work: PathBuf,
    server: Server,
    python: PathBuf,
    script: PathBuf,
}

fn prepare(bench: &Bench, folder: &Path) -> anyhow::Result<Desk> {
    let work = bench.file("hub");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .context("no name")?
            .to_string_lossy()
            .into_owned();
        let bytes = fs::read(&path)?;
        let hash = digest(&SHA256, &bytes);
        let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let is_large = name.ends_with(".safetensors") || name == "tokenizer.json";
        let sha256 = is_large.then(|| hex.collect());
        let content = Content::of(bytes);
        files.insert(name, Served { content, sha256 });
    }
    let server = Server::start();
    server.put(
        ID,
        Repository {
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            files,
            ..Repository::default()
        },
    );
    Ok(Desk {
        python: bench.work.join("python/bin/python"),
        script: bench.scripts.join("hub.py"),
        work,
        server,
    })
}

impl Desk {
    /// The environment of a client of the server, with caches in a folder of this name.
    fn environment<'a>(&self, command: &'a mut Command, caches: &str) -> &'a mut Command {
        command
            .env("HF_ENDPOINT", self.server.url())
            .env("HF_HUB_CACHE", self.work.join(caches))
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .env("HF_HUB_DISABLE_XET", "1")
            .env("XDG_CACHE_HOME", self.work.join("headers"))
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_TOKEN")
    }

    /// The folder in which the client has the repository.
    fn client(&self, caches: &str, manner: &str) -> anyhow::Result<PathBuf> {
        let mut client = Command::new(&self.python);
        client.arg(&self.script).args([ID, manner]);
        let ran = self.environment(&mut client, caches).output()?;
        ensure!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(PathBuf::from(String::from_utf8_lossy(&ran.stdout).trim()))
    }

    fn requests(&self) -> String {
        format!("{} requests", self.server.asked().len())
    }
}

/// Holds every file of a folder to that in another.
fn same(expected: &Path, found: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(expected)? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?;
        let there = fs::read(found.join(name)).with_context(|| name.display().to_string())?;
        ensure!(there == fs::read(&path)?, "{} differs", name.display());
    }
    Ok(())
}

fn same_weights(expected: &Path, found: &Path) -> anyhow::Result<String> {
    let mut bytes = 0;
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let there = fs::read(found.join(name)).with_context(|| name.to_owned())?;
        ensure!(there == fs::read(expected.join(name))?, "{name} differs");
        bytes += there.len();
    }
    Ok(format!("{bytes} bytes"))
}
