//! Boards that have no more memory than the plan gives them: servers whose data the kernel limits.
//!
//! In: a model whose weights are most of what its servers take. Out: a check: the planned boards hold it, and one of them
//! alone does not.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::super::bench::Bench;
use super::super::server::{Server, free_port};
use super::super::shapes::{self, Shape};
use super::{plan, shell, wait};

const BOARDS: usize = 2;

/// 134 MB of weights in eight blocks.
const MODEL: Shape = (
    "llama",
    "LlamaForCausalLM",
    || {
        json!({"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8,
           "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 1024})
    },
    || {
        json!({"embedding_length": 512, "feed_forward_length": 2048, "block_count": 8, "attention.head_count": 8,
           "attention.head_count_kv": 8, "attention.key_length": 64, "attention.value_length": 64,
           "rope.dimension_count": 64, "context_length": 1024})
    },
);

/// What a server takes for a message with a tensor, and for threads of a computation.
const MESSAGES: u64 = 24 << 20;

/// Checks that the boards of the plan hold the model, and none of them does alone.
pub(super) fn check(bench: &Bench, programs: &Path) -> anyhow::Result<String> {
    let folder = bench.file("rpc");
    fs::create_dir_all(&folder)?;
    let file = folder.join("limits.gguf");
    shapes::file(bench, &MODEL)?.write(&file)?;
    let model = file.display().to_string();
    let planned = plan(bench, &model, BOARDS, &[1; BOARDS], 8, None)?;
    let planned = &planned["plans"][0];
    let idle = idle(programs)?;
    let mut limits = Vec::new();
    for board in planned["boards"].as_array().context("no boards")? {
        limits.push(idle + total(&board["buffers"])? + MESSAGES);
    }
    let split = planned["tensor_split"].as_array().context("no split")?;
    let split: Vec<String> = split.iter().map(Value::to_string).collect();
    ensure!(
        run(programs, &model, &limits, &split)?,
        "boards of {limits:?} bytes do not hold it"
    );
    let largest = limits.iter().max().copied().unwrap_or(0);
    ensure!(
        !run(programs, &model, &[largest], &["1".to_owned()])?,
        "one board of {largest} bytes holds it"
    );
    Ok(format!(
        "servers limited to {} MiB hold it, one of them alone does not",
        limits
            .iter()
            .map(|bytes| (bytes >> 20).to_string())
            .collect::<Vec<_>>()
            .join(" and ")
    ))
}

fn total(buffers: &Value) -> anyhow::Result<u64> {
    let of = |key: &str| buffers[key].as_u64().with_context(|| format!("no {key}"));
    Ok(of("model_bytes")? + of("kv_cache_bytes")? + of("compute_bytes")?)
}

/// Data of a server without a model, in bytes.
fn idle(programs: &Path) -> anyhow::Result<u64> {
    let port = free_port()?;
    let server = Server::start(&mut server(programs, port, None))?;
    wait(port)?;
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmData")?.parse::<u64>()? << 10)
}

/// A server whose data are at most `limit` bytes.
fn server(programs: &Path, port: u16, limit: Option<u64>) -> Command {
    let line = format!("ggml-rpc-server -H 127.0.0.1 -p {port}");
    shell(
        programs,
        &match limit {
            // `ulimit` counts in KiB.
            Some(limit) => format!("sh -c 'ulimit -d {}; exec {line}'", limit >> 10),
            None => line,
        },
    )
}

/// Whether llama-bench runs the model on servers with these limits.
fn run(programs: &Path, model: &str, limits: &[u64], split: &[String]) -> anyhow::Result<bool> {
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for limit in limits {
        let port = free_port()?;
        servers.push(Server::start(&mut server(programs, port, Some(*limit)))?);
        wait(port)?;
        addresses.push(format!("127.0.0.1:{port}"));
    }
    let devices: Vec<String> = (0..limits.len())
        .map(|index| format!("RPC{index}"))
        .collect();
    let line = format!(
        "llama-bench -m '{model}' -p 8 -n 2 -r 1 -ngl 99 --rpc {} -dev {} -ts {}",
        addresses.join(","),
        devices.join("/"),
        split.join("/")
    );
    Ok(shell(programs, &line).status()?.success())
}
