//! Models on servers, from a name to a plan or a file, against a server on this machine.

mod faults;
mod plans;
mod proxy;
mod server;
mod streams;
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ring::digest::{SHA256, digest};
use serde_json::Value as Json;

use crate::build::Scratch;
use server::{Content, Repository, Served, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secretword";

/// A server with repositories, and a place with caches of its own.
struct Desk {
    scratch: Scratch,
    server: Server,
}

/// What a run left.
#[derive(Debug)]
struct Run {
    out: String,
    err: String,
    code: i32,
}

impl Desk {
    fn new() -> Desk {
        Desk::at(Server::start())
    }

    fn at(server: Server) -> Desk {
        let scratch = Scratch::new();
        Desk { scratch, server }
    }

    /// A desk with the tiny fixture as `org/tiny`; and the fixture's folder.
    fn with_tiny() -> (Desk, PathBuf) {
        let desk = Desk::new();
        let folder = desk.path("tiny");
        fs::rename(desk.scratch.fixture("tiny-qwen3"), &folder).unwrap();
        desk.server.put("org/tiny", repository(&folder));
        (desk, folder)
    }

    /// The same with `org/gated` beside it, which asks for [`TOKEN`].
    fn with_gated() -> Desk {
        let (desk, folder) = Desk::with_tiny();
        let gated = Repository {
            token: Some(TOKEN),
            ..repository(&folder)
        };
        desk.server.put("org/gated", gated);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orinplan"));
        command
            .args(args)
            .current_dir(self.path("."))
            .env("HF_ENDPOINT", self.server.url())
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("settings"))
            .env("HF_HUB_CACHE", self.path("hub"))
            .env("OLLAMA_MODELS", self.path("ollama"))
            .env("ORINPLAN_ROOT", self.path("root"));
        for name in [
            "HF_TOKEN",
            "HF_HOME",
            "HF_HUB_OFFLINE",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
        ] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        left(self.command(args).output().unwrap())
    }

    /// A run on a machine that has a folder as `org/tiny` in the hub's cache, and no network.
    fn run_here(&self, folder: &Path, args: &[&str]) -> Run {
        let cache = self.path("here-hub");
        let kept = cache.join("models--org--tiny");
        let snapshot = kept.join("snapshots").join(COMMIT);
        if !kept.exists() {
            fs::create_dir_all(&snapshot).unwrap();
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
            }
        }
        let mut command = self.command(args);
        command
            .env("HF_HUB_CACHE", cache)
            .env("HF_HUB_OFFLINE", "1");
        left(command.output().unwrap())
    }

    /// A file that such a machine makes.
    #[track_caller]
    fn made_here(&self, folder: &Path, scheme: &str, output: &Path) {
        let output = output.to_str().unwrap();
        let args = [
            "quantize", "org/tiny", "--scheme", scheme, "--output", output,
        ];
        let run = self.run_here(folder, &args);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
    }

    /// The document that a run prints.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Json {
        let run = self.run(&[args, &["--format", "json"]].concat());
        assert!(run.code < 2, "{args:?}: {}", run.err);
        crate::schema::document(&run.out)
    }

    /// The one line of a run that fails.
    #[track_caller]
    fn error(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(
            (run.code, run.out.as_str()),
            (2, ""),
            "{args:?}: {}",
            run.err
        );
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(!run.err.contains("secret"), "{}", run.err);
        run.err
    }
}

/// Holds two files to each other.
#[track_caller]
fn same(one: &Path, other: &Path) {
    let (left, right) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    assert_eq!(left.len(), right.len());
    let first = left.iter().zip(&right).position(|(a, b)| a != b);
    assert_eq!(first, None, "the first byte that differs");
}

fn left(output: Output) -> Run {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        out: text(output.stdout),
        err: text(output.stderr),
        code: output.status.code().unwrap_or(-1),
    }
}

/// A folder as a repository: weights and tokenizers are large files.
fn repository(folder: &Path) -> Repository {
    let mut repository = Repository {
        commit: COMMIT.to_owned(),
        ..Repository::default()
    };
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        repository.files.insert(name.clone(), served(&name, bytes));
    }
    repository
}

fn served(name: &str, bytes: Vec<u8>) -> Served {
    let is_large = [".safetensors", ".gguf", "tokenizer.json"]
        .iter()
        .any(|end| name.ends_with(end));
    Served {
        sha256: is_large.then(|| sha256(&bytes)),
        content: Content::of(bytes),
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A checkpoint's weights in two shards with an index, in another folder.
fn in_two_shards(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, Json> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let names: Vec<&String> = header
        .keys()
        .filter(|name| *name != "__metadata__")
        .collect();
    let mut map = serde_json::Map::new();
    for (number, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        let (mut part, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
        for &name in names {
            let mut entry: Json = header[name].clone();
            let at = |n: usize| 8 + length + entry["data_offsets"][n].as_u64().unwrap() as usize;
            let (from, to) = (at(0), at(1));
            let tensor = &bytes[from..to];
            let start = data.len();
            data.extend(tensor);
            entry["data_offsets"] = serde_json::json!([start, data.len()]);
            part.insert(name.clone(), entry);
            map.insert(name.clone(), file.clone().into());
        }
        let text = Json::Object(part).to_string();
        let mut shard = (text.len() as u64).to_le_bytes().to_vec();
        shard.extend(text.as_bytes());
        shard.extend(data);
        fs::write(to.join(file), shard).unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(to.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
