//! Models on servers, as far as flags and environment allow them, and what was transferred for them.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use super::args::NetworkArgs;
use super::clean;
use super::progress::Spinner;
use crate::checkpoint::{Checkpoint, FileRange, Origin, Stores};
use crate::hub::{Purpose, Servers, Settings, Transfer};
use crate::planner::{OpenError, Planner};
use crate::quantize;
use crate::units::{Bytes, counted};

/// The flags of this run.
static NETWORK: OnceLock<NetworkArgs> = OnceLock::new();

/// The servers that this run may have asked.
static ASKED: Mutex<Vec<Arc<Servers>>> = Mutex::new(Vec::new());

/// Notes the flags of this run, before a model is opened.
pub(super) fn allow(network: NetworkArgs) {
    NETWORK.get_or_init(|| network);
}

/// The stores of this machine, and the servers behind them.
pub(super) fn stores(purpose: Purpose) -> Stores {
    let mut settings = settings();
    settings.purpose = purpose;
    stores_with(settings)
}

/// The stores that the source of a file is read from; a file that was `begun` keeps its source's commit.
pub(super) fn stores_of(begun: Option<&Path>, keep_source: bool) -> Stores {
    let mut settings = settings();
    settings.purpose = Purpose::Make;
    settings.keep_source = keep_source;
    settings.pinned = begun.and_then(quantize::resumable);
    stores_with(settings)
}

/// Opens a model whose weights are read more than once, in no order that a stream has: one of the hub is fetched into
/// the hub's own cache before, and opened from there.
pub(super) fn open_here(
    open: impl Fn(&Stores) -> Result<Planner, OpenError>,
) -> anyhow::Result<Planner> {
    let planner = open(&stores_of(None, true))?;
    let checkpoint = planner.checkpoint();
    let (Some(source), Origin::Hub(name)) = (&checkpoint.source, &checkpoint.origin) else {
        return Ok(planner);
    };
    let spinner = Spinner::new();
    let bytes: Bytes = checkpoint.files.iter().map(|file| file.bytes).sum();
    spinner.say(format!("fetching {name}, {bytes}, into the hub's cache"));
    let whole = checkpoint.files.iter().map(|file| FileRange {
        file: file.path.clone(),
        range: 0..file.bytes.0,
    });
    source.weights.fetch_ahead(whole.collect());
    let fetched = source.weights.finish();
    spinner.clear();
    fetched?;
    Ok(open(&stores(Purpose::Make))?)
}

/// How servers are used in this run.
pub(super) fn settings() -> Settings {
    let flags = NETWORK.get().copied().unwrap_or_default();
    let mut settings = Settings::from_env();
    settings.offline |= flags.offline;
    settings.refresh = flags.refresh;
    settings
}

/// [`stores`] with these settings.
pub(super) fn stores_with(settings: Settings) -> Stores {
    let servers = Arc::new(Servers::new(settings));
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked.push(servers.clone());
    Stores {
        remote: Some(servers),
        ..Stores::from_env()
    }
}

/// What was transferred in this run; `None` if no server was asked.
pub(super) fn transferred() -> Option<Transfer> {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked
        .iter()
        .filter_map(|servers| servers.transfer())
        .reduce(|a, b| Transfer {
            bytes: a.bytes + b.bytes,
            requests: a.requests + b.requests,
        })
}

/// Says on standard error what was transferred for a plan, and what a download would take.
pub(super) fn note(checkpoint: &Checkpoint) {
    if let (Some(transfer), Some(_)) = (transferred(), &checkpoint.source) {
        let whole: Bytes = checkpoint.files.iter().map(|file| file.bytes).sum();
        let requests = counted(transfer.requests, "request", "requests");
        say(&format!(
            "{} transferred in {requests}; a download would take {whole}",
            transfer.bytes
        ));
    }
}

/// A plan with what was transferred for it, which a saved one does not have: it differs from run to run.
pub(super) fn with_transfer(mut document: Value) -> Value {
    if let (Some(transfer), Some(download)) = (transferred(), document.get_mut("download")) {
        download["transferred_bytes"] = transfer.bytes.0.into();
        download["requests"] = transfer.requests.into();
    }
    document
}

/// Prints a note on standard error.
pub(super) fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "note: {}", clean(message));
}
