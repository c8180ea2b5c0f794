//! Opens a model on a server: finds the state that is meant, fetches what is not in the cache of that, and hands over a
//! folder with headers and small files.

use std::collections::HashMap;
use std::sync::Arc;

use super::address::Address;
use super::cache::{Cache, ListedFile, Snapshot};
use super::choose::{self, Chosen, stem};
use super::client::Client;
use super::digest::sha256;
use super::error::HubError;
use super::headers::{self, Container};
use super::hugging_face::{self, Hub};
use super::keep::Keep;
use super::ollama;
use super::ranges::RemoteFile;
use super::reference::{MAIN, OllamaName, Pick, Repo};
use super::settings::Settings;
use super::stored::{self, INDEX, MOST_FILES, named_files};
use super::weight_files::{WeightFile, WeightFiles};
use super::weights::ServerWeights;
use crate::checkpoint::{ModelFiles, Origin, RemoteModel, ShardName, Source, hub_folder};
use crate::parallel;
use crate::units::Bytes;

/// Headers that are fetched at once.
const CONNECTIONS: usize = 16;
/// Bytes that the first ranges of all shards take together, if they are many: a header of a shard has 5 kB for a dense
/// model and 150 kB for one with many experts.
const FIRST_RANGES: u64 = 4 << 20;
/// The largest small file.
const SMALL: Bytes = Bytes(128 << 20);

/// What opens models.
pub(super) struct Opener<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) endpoint: &'a Address,
    pub(super) cache: &'a Cache,
    pub(super) settings: &'a Settings,
}

/// Where a file is.
type AddressOf<'a> = dyn Fn(&ListedFile) -> Result<Address, HubError> + Sync + 'a;

/// One state of a model.
struct Version<'a> {
    snapshot: Snapshot,
    listing: Vec<ListedFile>,
    /// What pins it, without its host: `ORG/NAME@COMMIT`.
    pinned: String,
    /// Where a file of it is.
    address: Box<AddressOf<'a>>,
    /// Whether an address of it pins the contents; where it does not, the tags of files are compared.
    pins: bool,
    keep: Option<Keep>,
}

/// A part of a file that is needed.
enum Extent {
    Whole,
    Header(Container, u64),
}

impl Opener<'_> {
    /// A model in a repository of the hub. `None` where nothing of it is known here and the network must not be used.
    pub(super) fn hub(&self, text: &str, repo: &Repo) -> Result<Option<RemoteModel>, HubError> {
        // What is gone on with began on the server.
        let stored = match self.settings.pinned {
            None => stored::find(&self.settings.stores, text, repo),
            Some(_) => None,
        };
        if stored.is_some() {
            return Ok(stored);
        }
        let hub = Hub {
            client: self.client,
            endpoint: self.endpoint,
        };
        let host = host(self.endpoint);
        let Some(commit) = self.commit(&hub, &host, repo)? else {
            return Ok(None);
        };
        let snapshot = self.cache.snapshot(&host, &repo.id, &commit);
        let known = snapshot.listing().filter(|_| !self.settings.refresh);
        let listing = match known {
            Some(listing) => listing,
            None if self.settings.offline => return Ok(None),
            None => hub.files(repo, &commit)?,
        };
        let keep = self.settings.keep_source.then(|| {
            let folder = self.settings.stores.hub.as_ref();
            let folder = folder.map(|hub| hub.join(hub_folder(&repo.id)));
            folder.map(|folder| Keep::new(folder, &repo.revision, &commit))
        });
        let version = Version {
            snapshot,
            listing,
            pinned: format!("{}@{commit}", repo.id),
            address: Box::new(|file: &ListedFile| hub.file(repo, &commit, &file.path)),
            pins: true,
            keep: keep.flatten().transpose()?,
        };
        let chosen = choose::choose(repo, &version.listing)?;
        let opened = self.fetch(&version, chosen);
        let (place, name) = opened.map_err(|error| hub.explained(error, repo))?;
        let is_whole = repo.pick == Pick::Any && matches!(place, ModelFiles::Directory(_));
        let name = if is_whole { repo.id.clone() } else { name };
        let origin = match (is_whole, repo.revision.as_str()) {
            (true, MAIN) => repo.id.clone(),
            (true, revision) => format!("{}@{revision}", repo.id),
            (false, _) => text.to_owned(),
        };
        self.model(version, place, name, Origin::Hub(origin))
            .map(Some)
    }

    /// The commit that is meant. A branch is asked for each time; where the hub cannot be reached, it is what it was.
    fn commit(&self, hub: &Hub<'_>, host: &str, repo: &Repo) -> Result<Option<String>, HubError> {
        let Repo { id, revision, .. } = repo;
        if hugging_face::is_commit(revision) {
            return Ok(Some(revision.to_ascii_lowercase()));
        }
        let pinned = self.settings.pinned.as_ref();
        if let Some((of, commit)) = pinned.and_then(|pinned| pinned.rsplit_once('@'))
            && of == id
        {
            return Ok(Some(commit.to_owned()));
        }
        let ask = || {
            let commit = hub.commit(repo)?;
            self.cache.keep(host, id, revision, &commit)?;
            Ok(commit)
        };
        self.asked_or_known(ask, || self.cache.known(host, id, revision))
    }

    /// A model of a registry as Ollama's.
    pub(super) fn ollama(
        &self,
        text: &str,
        wanted: &OllamaName,
    ) -> Result<Option<RemoteModel>, HubError> {
        let host = host(&wanted.registry);
        let OllamaName { model, tag, .. } = wanted;
        let ask = || ollama::files(self.client, wanted);
        let found = self.asked_or_known(ask, || self.known_files(&host, model, tag))?;
        let Some((version, listing)) = found else {
            return Ok(None);
        };
        self.cache.keep(&host, model, tag, &version)?;
        let find = |path: &str| listing.iter().find(|file| file.path == path).cloned();
        let chosen = Chosen::Gguf {
            parts: find(ollama::MODEL).into_iter().collect(),
            projector: find(ollama::PROJECTOR),
        };
        let version = Version {
            snapshot: self.cache.snapshot(&host, model, &version),
            listing,
            pinned: format!("{model}@sha256:{version}"),
            address: Box::new(|file: &ListedFile| ollama::blob(wanted, file)),
            pins: true,
            keep: None,
        };
        let (place, _) = self.fetch(&version, chosen)?;
        let origin = Origin::Ollama(text.to_owned());
        self.model(version, place, text.to_owned(), origin)
            .map(Some)
    }

    /// A file of any server, with the other parts if it is one of several.
    pub(super) fn file(&self, address: &Address) -> Result<Option<RemoteModel>, HubError> {
        let path = address.path();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (host, model) = (
            host(address),
            folder.trim_start_matches('/').replace('.', "_"),
        );
        let ask = || self.stated(address);
        let found = self.asked_or_known(ask, || self.known_files(&host, &model, name))?;
        let Some((version, listing)) = found else {
            let model = address.to_string();
            return Err(HubError::Offline { model });
        };
        self.cache.keep(&host, &model, name, &version)?;
        let chosen = match Container::of(name) {
            Some(Container::Safetensors) => Chosen::Safetensors(listing.clone()),
            _ => Chosen::Gguf {
                parts: listing.clone(),
                projector: None,
            },
        };
        let is_tagged = listing.iter().all(|file| file.etag.is_some());
        let version = Version {
            snapshot: self.cache.snapshot(&host, &model, &version),
            listing,
            pinned: format!("{}@{version}", path.trim_start_matches('/')),
            address: Box::new(|file: &ListedFile| {
                if name == file.path {
                    Ok(address.clone())
                } else {
                    address.join(&format!("{folder}/{}", file.path))
                }
            }),
            pins: false,
            keep: None,
        };
        // Without a tag nothing says whether what is kept is still what is there.
        if !is_tagged && !self.settings.offline {
            let _ = std::fs::remove_dir_all(&version.snapshot.folder);
        }
        let (place, name) = self.fetch(&version, chosen)?;
        let origin = Origin::Path(address.to_string());
        self.model(version, place, name, origin).map(Some)
    }

    /// What a server answers; where it must not be asked, or cannot be reached, what is known from an earlier run.
    fn asked_or_known<T>(
        &self,
        ask: impl FnOnce() -> Result<T, HubError>,
        known: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, HubError> {
        if self.settings.offline {
            return Ok(known());
        }
        match ask() {
            Err(error @ (HubError::Unreachable { .. } | HubError::Broken { .. })) => {
                known().map_or(Err(error), |known| Ok(Some(known)))
            }
            asked => asked.map(Some),
        }
    }

    /// The version that `name` had when it was last asked for, and its files.
    fn known_files(
        &self,
        host: &str,
        model: &str,
        name: &str,
    ) -> Option<(String, Vec<ListedFile>)> {
        let version = self.cache.known(host, model, name)?;
        let listing = self.cache.snapshot(host, model, &version).listing()?;
        Some((version, listing))
    }

    /// The state that a file of any server has now, and its parts.
    fn stated(&self, address: &Address) -> Result<(String, Vec<ListedFile>), HubError> {
        let path = address.path();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut listing = Vec::new();
        let mut tags = Vec::new();
        for name in parts(name) {
            let part = address.join(&format!("{folder}/{name}"))?;
            // A query, such as a signature, belongs to the file that was named.
            let part = if part.path() == path {
                address.clone()
            } else {
                part
            };
            let stated = RemoteFile::stated(self.client, &part)?;
            tags.push(stated.etag.clone().unwrap_or_default());
            listing.push(ListedFile {
                path: name,
                size: stated.size,
                sha256: None,
                etag: stated.etag,
            });
        }
        Ok((sha256(tags.join("\n").as_bytes()), listing))
    }

    /// Fetches the headers and small files of a model that are not in the cache. Returns where they are, and the name of
    /// the first weight file.
    fn fetch(
        &self,
        version: &Version<'_>,
        chosen: Chosen,
    ) -> Result<(ModelFiles, String), HubError> {
        let snapshot = &version.snapshot;
        let mut wanted: Vec<(ListedFile, Extent)> = Vec::new();
        let headers = |files: &[ListedFile], first: u64| -> Vec<(ListedFile, Extent)> {
            let part = |file: &ListedFile| {
                let container = Container::of(&file.path)?;
                Some((file.clone(), Extent::Header(container, first)))
            };
            files.iter().filter_map(part).collect()
        };
        let first = |count: usize| (FIRST_RANGES / count.max(1) as u64).clamp(16 << 10, 256 << 10);
        let purpose = self.settings.purpose;
        let (place, name) = match chosen {
            Chosen::Directory {
                weights,
                needs_index,
            } => {
                let weights = if needs_index {
                    self.named_by_index(version, weights)?
                } else {
                    weights
                };
                wanted.extend(headers(&weights, first(weights.len())));
                let small = choose::small(&version.listing, purpose);
                wanted.extend(small.into_iter().map(|file| (file, Extent::Whole)));
                (
                    ModelFiles::Directory(snapshot.folder.clone()),
                    String::new(),
                )
            }
            Chosen::Safetensors(files) => {
                wanted.extend(headers(&files, first(files.len())));
                let small = choose::small(&version.listing, purpose);
                wanted.extend(small.into_iter().map(|file| (file, Extent::Whole)));
                let path = files.first().map_or("", |file| &file.path);
                (
                    ModelFiles::Safetensors(snapshot.header(path)),
                    stem(path).0.to_owned(),
                )
            }
            Chosen::Gguf { parts, projector } => {
                // The first part holds the tokenizer.
                for (index, part) in parts.iter().enumerate() {
                    let first = if index == 0 { 1 << 20 } else { 64 << 10 };
                    wanted.extend(headers(std::slice::from_ref(part), first));
                }
                wanted.extend(headers(projector.as_slice(), 256 << 10));
                let of_ollama = |file: &&ListedFile| file.path == ollama::PARAMETERS;
                let parameters = version.listing.iter().find(of_ollama);
                wanted.extend(parameters.map(|file| (file.clone(), Extent::Whole)));
                let path = parts.first().map_or("", |file| &file.path);
                let place = ModelFiles::Gguf {
                    model: snapshot.header(path),
                    projector: projector.map(|file| snapshot.header(&file.path)),
                    parameters: parameters.map(|file| snapshot.path(&file.path)),
                };
                (place, stem(path).0.to_owned())
            }
        };
        self.gather(version, wanted)?;
        Ok((place, name))
    }

    /// The weight files that the index names.
    fn named_by_index(
        &self,
        version: &Version<'_>,
        weights: Vec<ListedFile>,
    ) -> Result<Vec<ListedFile>, HubError> {
        let Some(index) = version.listing.iter().find(|file| file.path == INDEX) else {
            return Ok(weights);
        };
        self.gather(version, vec![(index.clone(), Extent::Whole)])?;
        // A wrong index is reported where it is read.
        let named = named_files(&version.snapshot.path(INDEX)).unwrap_or_default();
        let is_named = |file: &ListedFile| named.contains(&file.path);
        Ok(weights.into_iter().filter(is_named).collect())
    }

    /// Fetches what is wanted and not kept, and keeps it.
    fn gather(
        &self,
        version: &Version<'_>,
        wanted: Vec<(ListedFile, Extent)>,
    ) -> Result<(), HubError> {
        let snapshot = &version.snapshot;
        if wanted.len() > MOST_FILES {
            return Err(HubError::Model {
                model: version.pinned.clone(),
                problem: format!(
                    "has {} files, above the limit of {MOST_FILES}",
                    wanted.len()
                ),
            });
        }
        let path = |file: &ListedFile, part: &Extent| match part {
            Extent::Whole => snapshot.path(&file.path),
            Extent::Header(..) => snapshot.header(&file.path),
        };
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(file, part)| self.settings.refresh || !path(file, part).exists())
            .collect();
        if missing.is_empty() {
            snapshot.touch();
            return Ok(());
        }
        if let (Some((file, _)), true) = (missing.first(), self.settings.offline) {
            let model = format!("{} of {}", file.path, version.pinned);
            return Err(HubError::Offline { model });
        }
        let fetched = parallel::try_map(CONNECTIONS, missing.iter(), |(file, part)| {
            let address = (version.address)(file)?;
            let bytes = match part {
                Extent::Whole => self.small(&address, file)?,
                Extent::Header(container, first) => {
                    let remote = version.remote(file, address);
                    headers::fetch(self.client, &remote, *container, *first)?
                }
            };
            Ok((path(file, part), bytes))
        })?;
        snapshot.keep(&version.listing, &fetched)
    }

    /// A small file, held to the size and digest that are stated for it.
    fn small(&self, address: &Address, file: &ListedFile) -> Result<Vec<u8>, HubError> {
        let limit = Bytes(file.size.min(SMALL.0));
        let bytes = self.client.file(address, limit)?;
        if bytes.len() as u64 != file.size {
            return Err(HubError::Answer {
                address: address.to_string(),
                problem: format!("{} bytes were sent, but it has {}", bytes.len(), file.size),
            });
        }
        let found = sha256(&bytes);
        match &file.sha256 {
            Some(expected) if *expected != found => Err(HubError::Digest {
                file: address.to_string(),
                expected: expected.clone(),
                found,
            }),
            _ => Ok(bytes),
        }
    }

    /// The model with its weights.
    fn model(
        &self,
        version: Version<'_>,
        place: ModelFiles,
        name: String,
        origin: Origin,
    ) -> Result<RemoteModel, HubError> {
        let mut files = HashMap::new();
        for file in &version.listing {
            let header = version.snapshot.header(&file.path);
            if Container::of(&file.path).is_some() && header.exists() {
                let remote = version.remote(file, (version.address)(file)?);
                files.insert(header, Arc::new(WeightFile::new(remote, file.clone())));
            }
        }
        if let Some(keep) = &version.keep {
            for file in choose::small(&version.listing, self.settings.purpose) {
                if let Ok(bytes) = std::fs::read(version.snapshot.path(&file.path)) {
                    keep.small(&file, &bytes)?;
                }
            }
        }
        let listing = version.listing.iter().map(|file| file.path.clone());
        let listing: Vec<String> = listing.collect();
        let files = WeightFiles::new(self.client.clone(), files, version.keep);
        Ok(RemoteModel {
            name,
            origin,
            place,
            source: Some(Source {
                pinned: version.pinned,
                listing,
                weights: Arc::new(ServerWeights::new(files, self.settings.purpose)),
            }),
        })
    }
}

impl Version<'_> {
    fn remote(&self, file: &ListedFile, address: Address) -> RemoteFile {
        let etag = file.etag.clone().filter(|_| !self.pins);
        RemoteFile::new(address, file.size, etag)
    }
}

/// Host and port of a server, as the name of a folder.
fn host(address: &Address) -> String {
    let (secure, host, port) = address.origin();
    match (secure, port) {
        (true, 443) => host,
        _ => format!("{host}_{port}"),
    }
}

/// The names of all parts of a file, by its name.
fn parts(name: &str) -> Vec<String> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    match ShardName::parse(stem) {
        Some(shard) if (1..=MOST_FILES as u32).contains(&shard.count) => (1..=shard.count)
            .map(|part| format!("{}.{end}", shard.part(part)))
            .collect(),
        _ => vec![name.to_owned()],
    }
}
