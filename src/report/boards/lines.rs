//! The lines to paste: a server on each board, then the one that coordinates.

use super::Report;
use crate::plan::boards::ServerPlace;
use crate::report::fit::commands::{self, CommandBlock};
use crate::report::listed;

/// Where llama.cpp's servers on boards listen by default (`rpc-server.cpp`).
const PORT: u16 = 50052;

/// The blocks in the order in which they are needed.
pub(super) fn blocks(report: &Report<'_>) -> Vec<CommandBlock> {
    let Some((plan, split, _)) = report.shown() else {
        return Vec::new();
    };
    if report.cluster.choice.taken.is_none() {
        return Vec::new();
    }
    let engine = report.cluster.engine;
    let mut devices = Vec::new();
    let mut addresses = Vec::new();
    let mut servers = Vec::new();
    let count = split.stages.len();
    for (index, stage) in split.stages.iter().enumerate() {
        let own = engine.own_device.as_ref().filter(|_| stage.is_server);
        if let Some(own) = own {
            devices.push(own.clone());
            continue;
        }
        let number = index + 1;
        let given = report.asked.addresses.get(addresses.len());
        let address = given
            .cloned()
            .unwrap_or_else(|| format!("board-{number}:{PORT}"));
        let (host, port) = address.rsplit_once(':').unwrap_or((&address, "50052"));
        let is_loopback = matches!(host, "127.0.0.1" | "localhost");
        // A server listens on loopback unless it is told otherwise.
        let listen = if is_loopback { "127.0.0.1" } else { "0.0.0.0" };
        let command = format!("{} -H {listen} -p {port} -c", engine.server);
        servers.push((number, host.to_owned(), command));
        devices.push(format!("RPC{}", addresses.len()));
        addresses.push(address);
    }
    let shares = split.tensor_split(report.planner.model());
    let shares: Vec<String> = shares.iter().map(u64::to_string).collect();
    let placement = format!(
        "-ngl 99 --rpc {} -dev {} -sm layer -ts {}",
        addresses.join(","),
        devices.join(","),
        shares.join(",")
    );
    let own = commands::over_boards(&report.alone(), plan, &placement);
    let where_ = match report.asked.server {
        ServerPlace::Last => format!("on board {count}"),
        ServerPlace::First => "on board 1".to_owned(),
        ServerPlace::Apart => "on the machine beside them".to_owned(),
    };
    let own = own.into_iter().map(|block| CommandBlock {
        title: format!("{}, {where_}", block.title),
        ..block
    });
    started(&servers, count).into_iter().chain(own).collect()
}

/// The servers that the boards run, those with the same command in one block.
fn started(servers: &[(usize, String, String)], count: usize) -> Vec<CommandBlock> {
    let same = servers.chunk_by(|(.., one), (.., other)| one == other);
    let blocks = same.map(|servers| {
        let numbers: Vec<String> = servers.iter().map(|(n, ..)| n.to_string()).collect();
        let hosts: Vec<&str> = servers.iter().map(|(_, host, _)| host.as_str()).collect();
        let boards = match &numbers[..] {
            [number] => format!("board {number}"),
            numbers => format!("each of the boards {}", listed(numbers)),
        };
        CommandBlock {
            title: format!("On {boards} of {count} ({})", hosts.join(", ")),
            lines: servers
                .first()
                .map(|(.., command)| command.clone())
                .into_iter()
                .collect(),
            runs: true,
        }
    });
    blocks.collect()
}

/// What has to be known before the lines are pasted.
pub(super) fn notes(report: &Report<'_>) -> Vec<String> {
    let engine = report.cluster.engine;
    let alone = report.alone();
    let nothing = report
        .shown()
        .and_then(|(plan, ..)| commands::nothing_yet(&alone, plan));
    let mut notes = vec![
        format!(
            "{} has no authentication or encryption: keep it off the internet; anyone who can connect to its port can run code, so use loopback or a network of your own; build with -DGGML_RPC=ON, the same version everywhere; older builds call it {}",
            engine.server, engine.older_server
        ),
        "if a board drops out, llama-server aborts; answers in progress are lost; the other servers wait for the next one".to_owned(),
    ];
    notes.extend(nothing);
    notes
}
