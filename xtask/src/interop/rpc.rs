//! A model on several boards as `orinplan fit --boards` plans it, tried with llama.cpp's servers on loopback: the printed
//! lines run, every process has the planned buffers, and what passes between them is counted.
//!
//! In: small checkpoints. Out: a line for each check. Bytes are counted by a proxy before each server.

mod limits;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::bench::Bench;
use super::families::Checkpoints;
use super::llama_cpp;
use super::server::{Server, free_port, post};

/// A family and the boards that share it: one with blocks of one kind, one with windowed blocks too; one whose last board
/// gets no positions, one with norms behind, one whose blocks have attention and feed-forward side by side.
const CASES: &[(&str, usize)] = &[("qwen3", 2), ("gemma3", 3), ("smollm3", 3), ("olmo3", 3)];

/// How far bytes on the wire may be from the plan.
const WIRE_PERCENT: f64 = 5.0;

/// llama.cpp logs sizes in MiB with two decimals; a device has two caches at most.
const LOGGED: f64 = 0.011;

/// Tokens of the prompt of decode steps that are counted, and of one that is counted itself.
const PROMPTS: [u64; 2] = [8, 300];

/// Counted steps: as many as share a graph, so that one new graph is among them.
const STEPS: u64 = 256;

/// Checks all cases, then what happens when a server is gone.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let programs = match llama_cpp::programs(bench) {
        Ok(programs) => programs.folder,
        Err(error) => return bench.report("rpc", Err(error)),
    };
    for &(family, boards) in CASES {
        let name = format!("{family} on {boards} boards");
        let setup = Cluster::new(bench, made, &programs, family, boards);
        let mut cluster = match setup {
            Ok(cluster) => cluster,
            Err(error) => {
                bench.report(&name, Err(error));
                continue;
            }
        };
        bench.report(&format!("{name}: buffers"), cluster.buffers());
        bench.report(&format!("{name}: bytes of a step"), cluster.step(bench));
        bench.report(&format!("{name}: bytes of a prompt"), cluster.prompt(bench));
        bench.report(&format!("{name}: the answer of one board"), cluster.same());
        bench.report(&format!("{name}: one board drops out"), cluster.drops_out());
    }
    bench.report("boards of limited memory", limits::check(bench, &programs));
}

/// Bytes that passed a proxy.
#[derive(Debug, Default)]
struct Counts {
    to: AtomicU64,
    from: AtomicU64,
}

/// The servers of a plan, and llama-server before them.
struct Cluster {
    /// The program's file and the words that name the boards.
    model: String,
    boards: usize,
    plan: Value,
    counts: Vec<Arc<Counts>>,
    servers: Vec<Server>,
    llama: Server,
    port: u16,
    log: PathBuf,
    programs: PathBuf,
}

impl Cluster {
    /// Starts what the printed lines say: servers on ports of this machine, proxies before them, llama-server.
    fn new(
        bench: &Bench,
        made: &Checkpoints,
        programs: &Path,
        family: &str,
        boards: usize,
    ) -> anyhow::Result<Cluster> {
        let folder = bench.file("rpc");
        fs::create_dir_all(&folder)?;
        let file = bench.quantize(
            &made.checkpoint(family),
            "q8_0",
            &format!("rpc/{family}.gguf"),
            &[],
        )?;
        let model = file.display().to_string();
        let ports: Vec<u16> = (0..boards).map(|_| free_port()).collect::<Result<_, _>>()?;
        let plan = plan(bench, &model, boards, &ports, PROMPTS[0], None)?;
        let mut servers = Vec::new();
        for index in 0..boards {
            let line = line(&plan, &format!("On board {} ", index + 1))?;
            ensure!(line.starts_with("ggml-rpc-server -H 127.0.0.1"), "{line}");
            // Its cache of large tensors has no part in this.
            let line = line.trim_end_matches(" -c");
            servers.push(Server::start(&mut shell(programs, line))?);
        }
        let mut counts = Vec::new();
        let mut proxies = Vec::new();
        for port in ports {
            let count = Arc::new(Counts::default());
            proxies.push(proxy(port, Arc::clone(&count))?);
            counts.push(count);
        }
        let plan = self::plan(bench, &model, boards, &proxies, PROMPTS[0], None)?;
        let line = line(&plan, "Run it with llama.cpp")?;
        let log = folder.join(format!("{family}.log"));
        let port = free_port()?;
        let mut llama = start(programs, &line, port, &log)?;
        llama.ready(port, &log).with_context(|| line.clone())?;
        Ok(Cluster {
            model,
            boards,
            plan,
            counts,
            servers,
            llama,
            port,
            log,
            programs: programs.to_owned(),
        })
    }

    /// The buffers that llama-server logs for each device and for its own processor.
    fn buffers(&self) -> anyhow::Result<String> {
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let mut compared = Vec::new();
        let mut same = |device: &str, what: &str, planned: &Value| -> anyhow::Result<()> {
            let planned = planned.as_f64().context("no bytes")? / f64::from(1 << 20);
            let logged = logged(&log, device, what);
            let logged = match logged {
                Some(logged) => logged,
                None if planned == 0.0 => return Ok(()),
                None => anyhow::bail!("no {what} buffer of {device} in {}", self.log.display()),
            };
            ensure!(
                (logged - planned).abs() <= LOGGED,
                "{device}: {what} buffer {logged:.2} MiB, planned {planned:.3}"
            );
            compared.push(format!("{logged:.2}"));
            Ok(())
        };
        let addresses = addresses(&self.plan)?;
        let stages = self.plan["plans"][0]["boards"]
            .as_array()
            .context("no boards")?;
        for (address, stage) in addresses.iter().zip(stages) {
            let device = format!("[{address}]");
            let buffers = &stage["buffers"];
            same(&device, "model", &buffers["model_bytes"])?;
            same(&device, "KV", &buffers["kv_cache_bytes"])?;
            same(&device, "compute", &buffers["compute_bytes"])?;
        }
        let own = &self.plan["plans"][0]["server_buffers"];
        same("CPU", "model", &own["model_bytes"])?;
        same("CPU", "compute", &own["compute_bytes"])?;
        Ok(format!("{} MiB", compared.join(", ")))
    }

    /// Bytes of a decode step, as the difference of a long and a short answer.
    fn step(&self, bench: &Bench) -> anyhow::Result<String> {
        let short = self.counted(PROMPTS[0], 20)?;
        let long = self.counted(PROMPTS[0], 20 + STEPS)?;
        let middle = PROMPTS[0] + 20 + STEPS / 2;
        let plan = plan_again(bench, self, middle)?;
        let mut told = Vec::new();
        for (index, (short, long)) in short.iter().zip(&long).enumerate() {
            let wire = &plan["plans"][0]["boards"][index]["wire"]["step"];
            let per = |at: usize| (long[at] - short[at]) as f64 / STEPS as f64;
            told.push(near(per(0), &wire["to_bytes"])?);
            told.push(near(per(1), &wire["from_bytes"])?);
        }
        Ok(told.join(", "))
    }

    /// Bytes of reading a prompt.
    fn prompt(&self, bench: &Bench) -> anyhow::Result<String> {
        let counted = self.counted(PROMPTS[1], 1)?;
        let plan = plan_again(bench, self, PROMPTS[1])?;
        let mut told = Vec::new();
        for (index, counted) in counted.iter().enumerate() {
            let wire = &plan["plans"][0]["boards"][index]["wire"]["prompt"];
            told.push(near(counted[0] as f64, &wire["to_bytes"])?);
        }
        Ok(told.join(", "))
    }

    /// Bytes to and from each board while `tokens` are answered to a prompt.
    fn counted(&self, prompt: u64, tokens: u64) -> anyhow::Result<Vec<[u64; 2]>> {
        let now = || -> Vec<[u64; 2]> {
            let read = |count: &Arc<Counts>| {
                [&count.to, &count.from].map(|bytes| bytes.load(Ordering::SeqCst))
            };
            self.counts.iter().map(read).collect()
        };
        let before = now();
        answer(self.port, prompt, tokens)?;
        // What is under way to a board needs no answer.
        thread::sleep(Duration::from_millis(100));
        let pairs = now().into_iter().zip(before);
        Ok(pairs
            .map(|(after, before)| [after[0] - before[0], after[1] - before[1]])
            .collect())
    }

    /// The same tokens as from one server with all blocks.
    fn same(&self) -> anyhow::Result<String> {
        let port = free_port()?;
        let line = format!("ggml-rpc-server -H 127.0.0.1 -p {port}");
        let _server = Server::start(&mut shell(&self.programs, &line))?;
        wait(port)?;
        let own = free_port()?;
        let log = self.log.with_extension("one.log");
        let line = format!(
            "llama-server -m '{}' -c 1024 -ngl 99 --rpc 127.0.0.1:{port} -dev RPC0 -np 1",
            self.model
        );
        let mut llama = start(&self.programs, &line, own, &log)?;
        llama.ready(own, &log)?;
        let (several, one) = (
            answer(self.port, PROMPTS[0], 64)?,
            answer(own, PROMPTS[0], 64)?,
        );
        ensure!(several == one, "{several:?} and {one:?}");
        Ok(format!("{} tokens alike", one.len()))
    }

    /// Kills the last server during an answer.
    fn drops_out(&mut self) -> anyhow::Result<String> {
        let port = self.port;
        let asked = thread::spawn(move || answer(port, PROMPTS[0], 900));
        thread::sleep(Duration::from_millis(300));
        drop(self.servers.pop());
        let signal = self.llama.ended_by()?;
        ensure!(signal == 6, "llama-server ended by signal {signal}");
        let asked = asked.join().map_err(|_| anyhow::anyhow!("no answer"))?;
        ensure!(asked.is_err(), "an answer came nevertheless");
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        let said = "Remote RPC server crashed or returned malformed response";
        ensure!(log.contains(said), "llama-server does not say `{said}`");
        for server in &mut self.servers {
            ensure!(server.runs()?, "another board's server ended too");
        }
        Ok(format!(
            "llama-server aborts, {} others stay",
            self.boards - 1
        ))
    }
}

/// The plan of a model on boards at these ports.
fn plan(
    bench: &Bench,
    model: &str,
    boards: usize,
    ports: &[u16],
    prompt: u64,
    blocks: Option<&str>,
) -> anyhow::Result<Value> {
    let count = format!("{boards}xorin-nano-8gb");
    let addresses: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let (addresses, prompt) = (addresses.join(","), prompt.to_string());
    let mut words = vec![
        "fit",
        model,
        "--boards",
        &count,
        "--server-on",
        "apart",
        "--runtime",
        "llama.cpp-cpu",
        "--context",
        "1024",
        "--prompt-tokens",
        &prompt,
        "--rpc",
        &addresses,
        "--scheme",
        "q8_0",
        "--format",
        "json",
    ];
    words.extend(blocks.into_iter().flat_map(|blocks| ["--layers", blocks]));
    Ok(serde_json::from_slice(&bench.succeeds(&words)?)?)
}

/// The plan of another prompt, with the blocks that the servers have.
fn plan_again(bench: &Bench, cluster: &Cluster, prompt: u64) -> anyhow::Result<Value> {
    let boards = cluster.plan["plans"][0]["boards"].as_array();
    let blocks = boards
        .into_iter()
        .flatten()
        .map(|board| board["blocks"].to_string());
    let blocks: Vec<String> = blocks.collect();
    plan(
        bench,
        &cluster.model,
        cluster.boards,
        &vec![1; cluster.boards],
        prompt,
        Some(&blocks.join(",")),
    )
}

/// The printed line under the title that starts so.
fn line(plan: &Value, title: &str) -> anyhow::Result<String> {
    let blocks = plan["commands"].as_array().context("no commands")?;
    let block = blocks.iter().find(|block| {
        block["title"]
            .as_str()
            .is_some_and(|known| known.starts_with(title))
    });
    let line = block.and_then(|block| block["lines"][0].as_str());
    Ok(line
        .with_context(|| format!("no line `{title}`"))?
        .to_owned())
}

/// The addresses in llama-server's line.
fn addresses(plan: &Value) -> anyhow::Result<Vec<String>> {
    let line = line(plan, "Run it with llama.cpp")?;
    let mut words = line.split(' ').skip_while(|word| *word != "--rpc").skip(1);
    let list = words.next().context("no --rpc")?;
    Ok(list.split(',').map(str::to_owned).collect())
}

/// The buffers of a kind that a device has, in MiB: those after the weights were loaded, because llama.cpp probes with
/// empty ones first. Full and windowed caches are two.
fn logged(log: &str, device: &str, what: &str) -> Option<f64> {
    let size = |line: &str, device: &str, what: &str| -> Option<f64> {
        let (before, after) = line.split_once(&format!(" {what} buffer size ="))?;
        let name = before.rsplit(' ').next()?;
        let number = after.trim().split(' ').next()?;
        name.contains(device).then(|| number.parse().ok())?
    };
    let lines: Vec<&str> = log.lines().collect();
    let loaded = lines
        .iter()
        .rposition(|line| size(line, "CPU", "model").is_some())?;
    let after = lines.get(loaded..)?.iter();
    let found: Vec<f64> = after.filter_map(|line| size(line, device, what)).collect();
    (!found.is_empty()).then(|| found.iter().sum())
}

/// Whether `counted` bytes are near what the plan has.
fn near(counted: f64, planned: &Value) -> anyhow::Result<String> {
    let planned = planned.as_f64().context("no bytes")?;
    let off = (counted / planned - 1.0) * 100.0;
    ensure!(
        off.abs() <= WIRE_PERCENT,
        "{counted:.0} bytes, planned {planned:.0} ({off:+.1} %)"
    );
    Ok(format!("{counted:.0} ({off:+.1} %)"))
}

/// The token ids that the server on `port` answers to a prompt of so many tokens.
fn answer(port: u16, prompt: u64, tokens: u64) -> anyhow::Result<Vec<u64>> {
    let prompt: Vec<u64> = (0..prompt).map(|index| 3 + index % 200).collect();
    let body = serde_json::json!({
        "prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": true,
        "cache_prompt": false, "return_tokens": true,
    });
    let (status, body) = post(port, "/completion", &body.to_string())?;
    ensure!(status == 200, "{status} {body}");
    let body: Value = serde_json::from_str(&body)?;
    let ids = body["tokens"].as_array().context("no tokens")?;
    Ok(ids.iter().filter_map(Value::as_u64).collect())
}

/// `line` in a shell with llama.cpp's programs.
fn shell(programs: &Path, line: &str) -> Command {
    let inherited = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {line}")]);
    command.env("PATH", format!("{}:{inherited}", programs.display()));
    // Looking for a debugger takes seconds.
    command.env("GGML_NO_BACKTRACE", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn start(programs: &Path, line: &str, port: u16, log: &Path) -> anyhow::Result<Server> {
    // Buffers are logged at a level above the usual one.
    let mut command = shell(programs, &format!("{line} --port {port} -v"));
    command.stderr(fs::File::create(log)?);
    Server::start(&mut command)
}

/// Waits until something listens on `port`.
fn wait(port: u16) -> anyhow::Result<()> {
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("nothing listens on {port}")
}

/// A port before `port` of which everything is counted.
fn proxy(port: u16, counts: Arc<Counts>) -> anyhow::Result<u16> {
    wait(port)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let own = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            for stream in [&client, &server] {
                // A step is a few short messages.
                let _ = stream.set_nodelay(true);
            }
            let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
                continue;
            };
            let (to, from) = (Arc::clone(&counts), Arc::clone(&counts));
            thread::spawn(move || pass(client, server, &to.to));
            thread::spawn(move || pass(server_too, client_too, &from.from));
        }
    });
    Ok(own)
}

/// Passes bytes on until one side ends, which the other then learns.
fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..read) else {
            break;
        };
        if to.write_all(bytes).is_err() {
            break;
        }
        count.fetch_add(read as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
