//! The protocol of the Hugging Face hub: the commit of a revision, the files at it, and where they are.
//!
//! In: a repository. Out: a commit, a listing with sizes and digests. What a refusal means, and what the user can do, is
//! said here. The protocol: the documentation of the hub's API, and the `huggingface_hub` client.

use serde::Deserialize;

use super::address::{Address, encoded};
use super::cache::ListedFile;
use super::client::Client;
use super::digest::is_sha256;
use super::error::HubError;
use super::reference::{Repo, is_inside};
use crate::input;
use crate::units::Bytes;

/// The most that a page of a listing may have: a thousand files with their digests are some 300 kB.
const PAGE: Bytes = Bytes(32 << 20);
/// The most pages that are read: a repository of a model has some hundred files.
const PAGES: usize = 100;

/// The most files of a repository: the hub advises against 10,000 in a folder.
const FILES: usize = 20_000;

#[derive(Deserialize)]
struct ModelInfo {
    sha: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<LfsFile>,
}

#[derive(Deserialize)]
struct LfsFile {
    /// The SHA-256 of the contents.
    oid: String,
    size: u64,
}

/// The hub at an address, asked with a client.
#[derive(Clone, Copy)]
pub(super) struct Hub<'a> {
    pub(super) client: &'a Client,
    pub(super) endpoint: &'a Address,
}

impl Hub<'_> {
    /// The commit that the revision of `repo` stands for now.
    pub(super) fn commit(&self, repo: &Repo) -> Result<String, HubError> {
        let revision = encoded(&repo.revision, false);
        let path = format!("/api/models/{}/revision/{revision}", repo.id);
        let address = self.endpoint.join(&self.below(&path))?;
        let asked = self.client.text(&address, "application/json", PAGE);
        let (text, _) = asked.map_err(|error| self.explained(error, repo))?;
        let info: ModelInfo = document(&address, &text)?;
        match info.sha {
            Some(sha) if is_commit(&sha) => Ok(sha),
            other => Err(HubError::Answer {
                address: address.to_string(),
                problem: format!("`{}` is not a commit", other.unwrap_or_default()),
            }),
        }
    }

    /// The files of `repo` at a commit.
    pub(super) fn files(&self, repo: &Repo, commit: &str) -> Result<Vec<ListedFile>, HubError> {
        let path = format!("/api/models/{}/tree/{commit}?recursive=true", repo.id);
        let mut page = Some(self.endpoint.join(&self.below(&path))?);
        let mut files = Vec::new();
        let mut pages = 0;
        while let Some(address) = page {
            pages += 1;
            if pages > PAGES {
                return Err(HubError::Answer {
                    address: address.to_string(),
                    problem: format!("its listing has more than {PAGES} pages"),
                });
            }
            let asked = self.client.text(&address, "application/json", PAGE);
            let (text, next) = asked.map_err(|error| self.explained(error, repo))?;
            let entries: Vec<Entry> = document(&address, &text)?;
            let kept = entries.into_iter().filter(|entry| {
                // A path out of the repository is none that a client would write.
                entry.kind == "file" && is_inside(&entry.path)
            });
            files.extend(kept.map(listed));
            if files.len() > FILES {
                return Err(HubError::Answer {
                    address: address.to_string(),
                    problem: format!("its listing has more than {FILES} files"),
                });
            }
            page = next;
        }
        Ok(files)
    }

    /// Where a file of `repo` at a commit is.
    pub(super) fn file(&self, repo: &Repo, commit: &str, path: &str) -> Result<Address, HubError> {
        let path = format!("/{}/resolve/{commit}/{}", repo.id, encoded(path, true));
        self.endpoint.join(&self.below(&path))
    }

    /// A path below that of the endpoint, which a mirror may have.
    fn below(&self, path: &str) -> String {
        let base = self.endpoint.path().trim_end_matches('/');
        format!("{base}{path}")
    }

    /// A refusal, with what it means and what the user can do.
    pub(super) fn explained(&self, error: HubError, repo: &Repo) -> HubError {
        let HubError::Refused {
            address,
            status,
            code,
            message,
        } = &error
        else {
            return error;
        };
        let Repo { id, revision, .. } = repo;
        let (hub, has_token) = (self.endpoint.to_string(), self.client.has_token());
        let hub = hub.trim_end_matches('/');
        // What another server says, to which the hub led, tells nothing of the repository.
        let Some(path) = address.strip_prefix(hub).filter(|p| p.starts_with('/')) else {
            return error;
        };
        let is_of_file = path.starts_with(&format!("/{id}/resolve/"));
        let gated = code == "GatedRepo" || message.to_lowercase().contains("gated");
        let denied = |what: String, way_out: String| HubError::Denied { what, way_out };
        match (*status, code.as_str()) {
            (_, "DisabledRepo") => denied(
                format!("{id} was disabled by the hub"),
                format!("read why at {hub}/{id}"),
            ),
            (401 | 403, _) if gated && has_token => denied(
                format!("{id} is gated, and your account may not read it yet"),
                format!(
                    "accept its terms at {hub}/{id}, and use a token that may read gated repositories"
                ),
            ),
            (401 | 403, _) if gated => denied(
                format!("{id} is gated"),
                format!("accept its terms at {hub}/{id}, then set HF_TOKEN or run `hf auth login`"),
            ),
            (401, _) if has_token => denied(
                format!(
                    "{hub} does not accept the token for {id}: the token is wrong, or there is no such repository"
                ),
                format!(
                    "check the name, and the token (HF_TOKEN, or the file that `hf auth login` wrote) at {hub}/settings/tokens"
                ),
            ),
            (401, _) => denied(
                format!("there is no public repository {id} on {hub}"),
                "check the name; for a private or gated one set HF_TOKEN or run `hf auth login`"
                    .to_owned(),
            ),
            (403, _) => denied(
                format!("{hub} denies access to {id}"),
                format!("use a token that may read it, from {hub}/settings/tokens"),
            ),
            (404, "RevisionNotFound") => denied(
                format!("{id} has no branch, tag or commit `{revision}`"),
                format!("see {hub}/{id}/tree/main"),
            ),
            (404, code) if code == "EntryNotFound" || is_of_file => denied(
                format!("{id} has no such file at `{revision}`"),
                format!("see {hub}/{id}/tree/main"),
            ),
            (404, _) => denied(
                format!("there is no repository {id} on {hub}"),
                "check the spelling, or give a path".to_owned(),
            ),
            _ => error,
        }
    }
}

fn listed(entry: Entry) -> ListedFile {
    let Entry {
        path,
        size,
        oid,
        lfs,
        ..
    } = entry;
    match lfs {
        Some(LfsFile { oid, size }) => ListedFile {
            path,
            size,
            sha256: Some(oid.to_ascii_lowercase()).filter(|oid| is_sha256(oid)),
            etag: Some(oid),
        },
        None => ListedFile {
            path,
            size,
            sha256: None,
            etag: oid,
        },
    }
}

/// Whether text is a whole commit of Git, by SHA-1 or SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An answer as the document that is expected.
pub(super) fn document<T: serde::de::DeserializeOwned>(
    address: &Address,
    text: &str,
) -> Result<T, HubError> {
    serde_json::from_str(text).map_err(|error| HubError::Answer {
        address: address.to_string(),
        problem: format!(
            "it is not the expected document: {}",
            input::in_words(&error.to_string())
        ),
    })
}
