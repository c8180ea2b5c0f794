//! `cargo xtask bench stream`: a checkpoint of Qwen3-0.6B's shape quantized from a server over a link of limited rate,
//! beside the two things that bound it, measured in turns: the link alone, and the same run from the local file; and the
//! memory that it needs beyond the latter. Run it from a release build: `cargo run --release -p xtask -- bench stream [SCHEME [GBIT/S]]`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::bench::release_binary;
use crate::bench_quantize::{Cost, cost};
use crate::{peer, random};

/// The share of the slower bound's rate that a run has to reach.
const LIMIT: f64 = 0.9;
/// Bytes of memory beyond those of the local run: the window of 32 MiB, blocks on their way, connections.
const MEMORY_LIMIT: u64 = 80 << 20;
const ROUNDS: usize = 3;
const REPOSITORY: &str = "bench/qwen3-0.6b";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Connections and bytes of a request when the link is measured alone.
const CONNECTIONS: u64 = 8;
const RANGE: u64 = 2 << 20;
/// Bytes that are sent at once: short enough that a rate is even, long enough that few calls are made.
const PIECE: u64 = 256 << 10;

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let (scheme, gigabits) = match arguments {
        [] => ("q4_k_m", 1.0),
        [scheme] => (*scheme, 1.0),
        [scheme, rate] => (*scheme, rate.parse().context("the rate in Gbit/s")?),
        other => anyhow::bail!("usage: bench stream [SCHEME [GBIT/S]], not {other:?}"),
    };
    let binary = release_binary()?;
    let directory = peer::target()?.join("bench");
    let model = random::qwen3_06b(&directory.join("qwen3-0.6b"))?;
    let server = Server::start(&model, gigabits * 1e9 / 8.0)?;
    let quantize = |from: &str| -> anyhow::Result<Cost> {
        let output = directory.join("streamed.gguf");
        let cache = directory.join("hub-cache");
        std::fs::remove_dir_all(&cache).ok();
        let mut command = Command::new(&binary);
        command.args(["quantize", from, "--scheme", scheme, "--overwrite"]);
        command.arg("--output").arg(&output);
        command.env("HF_ENDPOINT", server.address());
        command.env("HF_HOME", &cache).env("XDG_CACHE_HOME", &cache);
        cost(&mut command)
    };
    let local = model.to_str().context("the path is text")?;

    println!("{REPOSITORY}, {scheme}, {gigabits} Gbit/s\n");
    println!(
        "| round | link alone | from the local file | from the server | of the slower bound's rate | memory of both runs |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    let (mut shares, mut beyond) = (Vec::new(), 0);
    for round in 1..=ROUNDS {
        let link = server.fetch_all()?;
        let (here, there) = (quantize(local)?, quantize(REPOSITORY)?);
        let (encoder, streamed) = (here.wall.as_secs_f64(), there.wall.as_secs_f64());
        let share = link.max(encoder) / streamed;
        println!(
            "| {round} | {link:.2} s | {encoder:.2} s | {streamed:.2} s | {share:.3} | {}, {} MiB |",
            here.resident >> 20,
            there.resident >> 20
        );
        shares.push(share);
        beyond = beyond.max(there.resident.saturating_sub(here.resident));
    }
    shares.sort_by(f64::total_cmp);
    let median = shares[ROUNDS / 2];
    println!(
        "\n{median:.3} of the slower bound's rate, at least {LIMIT} (median of {ROUNDS} rounds)"
    );
    println!(
        "{} MiB of memory beyond the local run's, at most {}",
        beyond >> 20,
        MEMORY_LIMIT >> 20
    );
    ensure!(
        median >= LIMIT && beyond <= MEMORY_LIMIT,
        "a limit is missed; is the machine busy?"
    );
    Ok(())
}

/// A hub with one repository, whose answers share a link of a rate. It ends with the process.
#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    directory: PathBuf,
    /// Names, sizes and digests of the repository's files.
    files: Vec<(String, u64, String)>,
    bytes_per_second: f64,
    /// When the link is free again.
    free: Mutex<Instant>,
}

impl Server {
    fn start(directory: &Path, bytes_per_second: f64) -> anyhow::Result<Server> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.context("a file's name is text")?.to_owned();
            files.push((name, path.metadata()?.len(), sha256(&path)?));
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Server {
            port: listener.local_addr()?.port(),
            shared: Arc::new(Shared {
                directory: directory.to_owned(),
                files,
                bytes_per_second,
                free: Mutex::new(Instant::now()),
            }),
        };
        let shared = Arc::clone(&server.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that leaves ends its connection alone.
                std::thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Ok(server)
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Fetches the weights and drops them. Returns the seconds that it took.
    fn fetch_all(&self) -> anyhow::Result<f64> {
        let name = "model.safetensors";
        let file = self.shared.files.iter().find(|(file, ..)| file == name);
        let size = file.context("the weights are in one file")?.1;
        let next = AtomicU64::new(0);
        let start = Instant::now();
        let work = || -> io::Result<()> {
            let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port))?);
            let mut bytes = Vec::new();
            loop {
                let from = next.fetch_add(RANGE, Ordering::Relaxed);
                if from >= size {
                    return Ok(());
                }
                let last = (from + RANGE).min(size) - 1;
                let request = format!(
                    "GET /{REPOSITORY}/resolve/{COMMIT}/{name} HTTP/1.1\r\nhost: bench\r\nrange: bytes={from}-{last}\r\n\r\n"
                );
                stream.get_mut().write_all(request.as_bytes())?;
                read_head(&mut stream)?;
                bytes.resize((last - from + 1) as usize, 0);
                stream.read_exact(&mut bytes)?;
            }
        };
        std::thread::scope(|scope| {
            let threads = (0..CONNECTIONS).map(|_| scope.spawn(work));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().try_for_each(|thread| {
                let ended = thread.join();
                ended.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            })
        })?;
        Ok(start.elapsed().as_secs_f64())
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let head = read_head(&mut stream)?;
            let Some((method, path)) = head.first().and_then(|line| {
                let mut words = line.split(' ');
                Some((words.next()?, words.next()?))
            }) else {
                return Ok(());
            };
            let range = head.iter().find_map(|line| range_of(line));
            self.answer(stream.get_mut(), method, path, range)?;
        }
    }

    fn answer(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        range: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let path = path.split('?').next().unwrap_or_default();
        if path.starts_with(&format!("/api/models/{REPOSITORY}/revision/")) {
            return send_json(stream, &json!({ "id": REPOSITORY, "sha": COMMIT }));
        }
        if path.starts_with(&format!("/api/models/{REPOSITORY}/tree/")) {
            let files = self.files.iter().map(|(name, size, sha256)| {
                let lfs = json!({ "oid": sha256, "size": size });
                json!({ "type": "file", "path": name, "size": size, "oid": COMMIT, "lfs": lfs })
            });
            return send_json(stream, &files.collect());
        }
        let name = path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/"));
        let file = self.files.iter().find(|(file, ..)| Some(&**file) == name);
        let Some((name, size, sha256)) = file else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            );
        };
        let last = size.saturating_sub(1);
        let (status, from, to) = match range {
            Some((from, to)) => ("206 Partial Content", from, to.min(last)),
            None => ("200 OK", 0, last),
        };
        let length = (to + 1).saturating_sub(from);
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-range: bytes {from}-{to}/{size}\r\n\
             accept-ranges: bytes\r\netag: \"{sha256}\"\r\nx-repo-commit: {COMMIT}\r\n\r\n"
        )?;
        if method == "HEAD" {
            return Ok(());
        }
        let mut file = File::open(self.directory.join(name))?;
        file.seek(SeekFrom::Start(from))?;
        let mut left = length;
        while left > 0 {
            let piece = left.min(PIECE);
            self.wait_for_link(piece);
            io::copy(&mut (&mut file).take(piece), stream)?;
            left -= piece;
        }
        Ok(())
    }

    /// Waits until `bytes` have passed the link.
    fn wait_for_link(&self, bytes: u64) {
        let took = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(Instant::now()) + took;
        let passed = *free;
        drop(free);
        std::thread::sleep(passed.saturating_duration_since(Instant::now()));
    }
}

/// The lines before an empty one; none at the end of the stream.
fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// The first and last byte of a line `range: bytes=FIRST-LAST`.
fn range_of(line: &str) -> Option<(u64, u64)> {
    let (name, value) = line.split_once(':')?;
    let bytes = value.trim().strip_prefix("bytes=")?;
    let (first, last) = bytes.split_once('-')?;
    let last = if last.is_empty() {
        Ok(u64::MAX)
    } else {
        last.parse()
    };
    name.eq_ignore_ascii_case("range")
        .then(|| Some((first.parse().ok()?, last.ok()?)))?
}

fn send_json(stream: &mut TcpStream, value: &serde_json::Value) -> io::Result<()> {
    let text = value.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => digest.update(&piece[..read]),
        }
    }
    let bytes = digest.finish();
    Ok(bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
