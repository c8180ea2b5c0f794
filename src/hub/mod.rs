//! Models on servers: repositories of the Hugging Face hub, Ollama's registry, files by their address.
//!
//! In: what a user typed. Out: a folder with headers and small files in the user's cache, and weights that are read by
//! position ([`crate::checkpoint::Remote`]). A plan fetches headers alone.
//!
//! Must not: ask a server for a name that is on this machine, send a token to another server than the hub, follow a
//! redirect from a public server into a private network, write a file where a server says, or hold a secret in an error
//! or a file.

mod address;
mod ahead;
mod cache;
mod choose;
mod client;
mod digest;
mod error;
mod failure;
mod headers;
mod hugging_face;
mod keep;
mod ollama;
mod open;
mod ranges;
mod reference;
mod settings;
mod stored;
mod weight_files;
mod weights;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ureq::Proxy;
use ureq::tls::Certificate;

pub use error::HubError;
pub use settings::Settings;

use crate::checkpoint::{Remote, RemoteError, RemoteModel};
use crate::units::Bytes;
use address::Address;
use cache::Cache;
use client::Client;
use open::Opener;
use reference::Reference;

/// What a model is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A plan: headers and small files are enough.
    Plan,
    /// A file or a run: tokenizers are fetched too, and weights may be read.
    Make,
}

/// What was transferred for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes of answers.
    pub bytes: Bytes,
    /// Requests, redirects included.
    pub requests: u64,
}

/// Servers that have models.
#[derive(Debug)]
pub struct Servers {
    settings: Settings,
    client: OnceLock<Arc<Client>>,
    /// One model is opened at a time.
    opening: Mutex<()>,
}

impl Servers {
    /// The servers that are used in this way.
    pub fn new(settings: Settings) -> Servers {
        Servers {
            settings,
            client: OnceLock::new(),
            opening: Mutex::new(()),
        }
    }

    /// What was transferred so far; `None` if no server was asked.
    pub fn transfer(&self) -> Option<Transfer> {
        let traffic = &self.client.get()?.traffic;
        let transfer = Transfer {
            bytes: traffic.bytes(),
            requests: traffic.requests(),
        };
        Some(transfer).filter(|transfer| transfer.requests > 0)
    }

    fn open(&self, name: &str) -> Result<Option<RemoteModel>, HubError> {
        let endpoint =
            Address::parse(&self.settings.endpoint).map_err(|error| HubError::Model {
                model: "HF_ENDPOINT".to_owned(),
                problem: error.to_string(),
            })?;
        let Some(reference) = reference::parse(name, &endpoint)? else {
            return Ok(None);
        };
        let Some(caches) = &self.settings.caches else {
            return Err(HubError::Model {
                model: name.to_owned(),
                problem:
                    "neither XDG_CACHE_HOME nor HOME names a folder for cached headers; set one of them"
                        .to_owned(),
            });
        };
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client.get_or_init(|| {
            let token = self.settings.token.clone();
            let proxy = Proxy::try_from_env();
            let client = Client::new(endpoint.clone(), token, &roots(), proxy);
            Arc::new(client.offline(self.settings.offline))
        });
        let opener = Opener {
            client,
            endpoint: &endpoint,
            cache: &Cache::below(caches),
            settings: &self.settings,
        };
        match &reference {
            Reference::Hub(repo) => opener.hub(name, repo),
            Reference::Ollama(wanted) => opener.ollama(name, wanted),
            Reference::File(address) => opener.file(address),
        }
    }
}

impl Remote for Servers {
    fn find(&self, name: &str) -> Result<Option<RemoteModel>, RemoteError> {
        Ok(self.open(name)?)
    }
}

/// The certificates that the system trusts; SSL_CERT_FILE and SSL_CERT_DIR name others.
fn roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    let certificates = found.certs.iter();
    certificates
        .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
        .collect()
}
