//! What a user may call a model that is on a server.
//!
//! | form | means |
//! |---|---|
//! | `ORG/NAME`, `ORG/NAME@REVISION` | a repository of the hub, at a branch, tag or commit |
//! | `ORG/NAME:Q4_K_M` | the GGUF of that format in it, as `llama-cli -hf` and `ollama run hf.co/..` take it |
//! | `ORG/NAME/FILE.gguf` | a file of it |
//! | `hf.co/..`, `https://huggingface.co/ORG/NAME/resolve/REVISION/FILE` | the same by its address |
//! | `NAME:TAG`, `USER/NAME:TAG`, `HOST/USER/NAME:TAG` | a model of Ollama's registry, or of another of its kind |
//! | `https://HOST/PATH.gguf` | a file of any server |
//!
//! Must not: look whether anything of that name exists.

use std::path::{Component, Path};

use super::address::Address;
use super::error::HubError;
use super::headers::Container;
use crate::dtype::FORMATS;
use crate::scheme::SCHEMES;

/// The branch that is meant where none is named.
pub(super) const MAIN: &str = "main";

/// A model on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Hub(Repo),
    Ollama(OllamaName),
    /// A file of any server.
    File(Address),
}

/// A model in a repository of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repo {
    /// `ORG/NAME`.
    pub(super) id: String,
    pub(super) revision: String,
    /// Which of its models is meant.
    pub(super) pick: Pick,
}

/// Which of a repository's models is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// The one that is there; of several GGUF files the usual one.
    Any,
    /// The GGUF of this format.
    Tag(String),
    /// This file.
    File(String),
}

/// A model of a registry as Ollama's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OllamaName {
    pub(super) registry: Address,
    /// `library/NAME` or `USER/NAME`.
    pub(super) model: String,
    pub(super) tag: String,
}

/// Hosts that are the hub by another name.
const HUB_HOSTS: &[&str] = &["hf.co", "www.huggingface.co", "huggingface.co"];
const OLLAMA_HOSTS: &[&str] = &[OLLAMA, "ollama.com", "www.ollama.com"];
const OLLAMA: &str = "registry.ollama.ai";

/// What `text` names; `None` if it can only be a path or a name of this machine.
///
/// # Errors
/// [`HubError`] for an address that is none, or leads to no model.
pub(super) fn parse(text: &str, hub: &Address) -> Result<Option<Reference>, HubError> {
    if text.contains("://") {
        let address = Address::parse(text)?;
        let host = address.host().to_ascii_lowercase();
        let path = address.path().trim_matches('/');
        if HUB_HOSTS.contains(&host.as_str()) || address.origin() == hub.origin() {
            return in_hub(text, path).map(Some);
        }
        if OLLAMA_HOSTS.contains(&host.as_str()) {
            return in_ollama(text, path).map(Some);
        }
        if Container::of(address.path()).is_none() {
            return Err(HubError::Address {
                address: address.to_string(),
                problem: "it is neither a repository of the hub nor a .gguf or .safetensors file",
            });
        }
        if !address.is_secure() && !address.is_this_machine() {
            return Err(HubError::Address {
                address: address.to_string(),
                problem: "it is not encrypted; use https://",
            });
        }
        return Ok(Some(Reference::File(address)));
    }
    if let Some((host, path)) = text.split_once('/') {
        if HUB_HOSTS.contains(&host) {
            return in_hub(text, path.trim_matches('/')).map(Some);
        }
        if OLLAMA_HOSTS.contains(&host) {
            return in_ollama(text, path.trim_matches('/')).map(Some);
        }
    }
    if let Some(name) = ollama_name(text).or_else(|| other_registry(text)) {
        return Ok(Some(Reference::Ollama(name)));
    }
    Ok(repo(text).map(Reference::Hub))
}

/// The path of an address of the hub: `ORG/NAME[:TAG]`, `ORG/NAME/FILE`, or a page of a repository.
fn in_hub(text: &str, path: &str) -> Result<Reference, HubError> {
    let decoded = decoded(path);
    let parts: Vec<&str> = decoded.split('/').collect();
    let found = match parts.as_slice() {
        [org, name, "tree" | "commit", revision] => named(org, name, revision, Pick::Any),
        [org, name, "resolve" | "blob" | "raw", revision, file @ ..] if !file.is_empty() => {
            named(org, name, revision, Pick::File(file.join("/")))
        }
        _ => repo(&decoded),
    };
    found.map(Reference::Hub).ok_or_else(|| HubError::Address {
        address: text.split('?').next().unwrap_or_default().to_owned(),
        problem: "it is not a model repository; write it like hf.co/ORG/NAME",
    })
}

fn in_ollama(text: &str, path: &str) -> Result<Reference, HubError> {
    let path = decoded(path);
    let with_tag = if path.contains(':') {
        path
    } else {
        format!("{path}:latest")
    };
    let registry = Address::parse(&format!("https://{OLLAMA}"))?;
    let name = registry_name(&with_tag, registry).map(Reference::Ollama);
    name.ok_or_else(|| HubError::Address {
        address: text.split('?').next().unwrap_or_default().to_owned(),
        problem: "it is not an Ollama model; write it like registry.ollama.ai/library/NAME:TAG",
    })
}

/// `ORG/NAME`, with `@REVISION`, `:TAG` or `/FILE` behind it.
fn repo(text: &str) -> Option<Repo> {
    let (org, rest) = text.split_once('/')?;
    let (rest, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
    if let Some((name, file)) = rest.split_once('/') {
        Container::of(file)?;
        return named(org, name, revision, Pick::File(file.to_owned()));
    }
    // After `@`, both a file and a tag stand behind the revision.
    let (revision, file) = match revision.split_once('/') {
        Some((commit, file)) if Container::of(file).is_some() => (commit, Some(file)),
        _ => (revision, None),
    };
    let ((rest, tag), revision) = match (rest.split_once(':'), revision.split_once(':')) {
        (Some((rest, tag)), _) => ((rest, Some(tag)), revision),
        (None, Some((revision, tag))) => ((rest, Some(tag)), revision),
        (None, None) => ((rest, None), revision),
    };
    let pick = match (tag, file) {
        (None, None) => Pick::Any,
        (Some(tag), None) => Pick::Tag(tag.to_owned()),
        (_, Some(file)) => Pick::File(file.to_owned()),
    };
    named(org, rest, revision, pick)
}

fn named(org: &str, name: &str, revision: &str, pick: Pick) -> Option<Repo> {
    let is_revision = !revision.is_empty()
        && !revision.starts_with('/')
        && !revision.contains("..")
        && revision.bytes().all(|b| b.is_ascii_graphic())
        && !revision.contains(['?', '#', '\\', ':']);
    let is_pick = match &pick {
        Pick::Any => true,
        Pick::Tag(tag) => is_word(tag),
        Pick::File(file) => is_inside(file) && Container::of(file).is_some(),
    };
    (is_word(org) && is_word(name) && is_revision && is_pick).then(|| Repo {
        id: format!("{org}/{name}"),
        revision: revision.to_owned(),
        pick,
    })
}

/// `NAME:TAG` or `USER/NAME:TAG` in Ollama's registry. A repository of the hub has the second form too: a tag that is a
/// format is one of its.
fn ollama_name(text: &str) -> Option<OllamaName> {
    let (model, tag) = text.rsplit_once(':')?;
    let is_hub = model.contains('/') && is_format(tag);
    let registry = Address::parse(&format!("https://{OLLAMA}")).ok()?;
    registry_name(text, registry).filter(|_| !is_hub)
}

/// `NAME:TAG` or `USER/NAME:TAG` in a registry.
fn registry_name(text: &str, registry: Address) -> Option<OllamaName> {
    let (model, tag) = text.rsplit_once(':')?;
    let model = match model.split('/').collect::<Vec<_>>().as_slice() {
        [name] if is_word(name) => format!("library/{name}"),
        [user, name] if is_word(user) && is_word(name) => format!("{user}/{name}"),
        _ => return None,
    };
    is_word(tag).then(|| OllamaName {
        registry,
        model,
        tag: tag.to_owned(),
    })
}

/// `HOST/USER/NAME:TAG`, where the host has a dot or a port in its name.
fn other_registry(text: &str) -> Option<OllamaName> {
    let (host, rest) = text.split_once('/')?;
    let is_host =
        host.contains(['.', ':']) && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !is_host || !rest.contains('/') {
        return None;
    }
    let registry = Address::parse(&format!("https://{host}")).ok()?;
    let registry = if registry.is_this_machine() {
        Address::parse(&format!("http://{host}")).ok()?
    } else {
        registry
    };
    registry_name(rest, registry)
}

/// Whether a tag is the name of a format of GGUF files.
pub(super) fn is_format(tag: &str) -> bool {
    let tag = tag.to_ascii_uppercase();
    let bare = tag.strip_prefix("UD-").unwrap_or(&tag);
    let is = |name: &str| name.eq_ignore_ascii_case(bare);
    let formats = FORMATS.iter().map(|format| format.name);
    let sized = bare.rsplit_once('_').is_some_and(|(base, size)| {
        let sizes = ["XXS", "XS", "S", "M", "L", "XL", "NL"];
        sizes.contains(&size)
            && FORMATS
                .iter()
                .any(|format| format.name.eq_ignore_ascii_case(base))
    });
    sized
        || SCHEMES
            .iter()
            .map(|scheme| scheme.id)
            .chain(formats)
            .any(is)
}

/// Whether text is one part of a name: letters, digits, and `-_.` within.
fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(inner)
        && !text.contains("..")
}

/// Whether a path of a repository stays in its folder, on any system.
pub(super) fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && !path.contains("//")
        && !path.chars().any(char::is_control)
        && path.len() <= 1024
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Percent-encoded text as it was; what is not UTF-8 then stays encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let hub = Address::parse("https://hub.example").unwrap();
        match parse(text, &hub) {
            Err(_) => "error".to_owned(),
            Ok(None) => "none".to_owned(),
            Ok(Some(Reference::File(address))) => format!("file {address}"),
            Ok(Some(Reference::Ollama(name))) => {
                let host = name.registry.whole();
                let host = host
                    .strip_prefix("https://registry.ollama.ai/")
                    .unwrap_or(&host);
                format!("ollama {host}{} {}", name.model, name.tag)
            }
            Ok(Some(Reference::Hub(repo))) => {
                let pick = match repo.pick {
                    Pick::Any => String::new(),
                    Pick::Tag(tag) => format!(" :{tag}"),
                    Pick::File(file) => format!(" /{file}"),
                };
                format!("hub {} {}{pick}", repo.id, repo.revision)
            }
        }
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        for (text, expect) in [
            ("Qwen/Qwen3-8B", "hub Qwen/Qwen3-8B main"),
            ("Qwen/Qwen3-8B@v1.0", "hub Qwen/Qwen3-8B v1.0"),
            ("Qwen/Qwen3-8B@refs/pr/1", "hub Qwen/Qwen3-8B refs/pr/1"),
            ("hf.co/Qwen/Qwen3-8B", "hub Qwen/Qwen3-8B main"),
            ("org/m-GGUF:ud-q4_k_xl", "hub org/m-GGUF main :ud-q4_k_xl"),
            (
                "https://hub.example/org/m-GGUF/a.gguf",
                "hub org/m-GGUF main /a.gguf",
            ),
            (
                "https://hub.example:8443/org/m-GGUF/a.gguf",
                "file https://hub.example:8443/org/m-GGUF/a.gguf",
            ),
            (
                "https://huggingface.co/Qwen/Qwen3-8B/",
                "hub Qwen/Qwen3-8B main",
            ),
            (
                "https://huggingface.co/Qwen/Qwen3-8B/tree/main",
                "hub Qwen/Qwen3-8B main",
            ),
            (
                "https://huggingface.co/a/b/resolve/main/c/d%20e.gguf?download=true",
                "hub a/b main /c/d e.gguf",
            ),
            ("https://hub.example/a/b", "hub a/b main"),
            ("a/b:Q4_K_M", "hub a/b main :Q4_K_M"),
            ("a/b@v1:UD-Q4_K_XL", "hub a/b v1 :UD-Q4_K_XL"),
            ("hf.co/a/b:latest", "hub a/b main :latest"),
            ("a/b/c.gguf", "hub a/b main /c.gguf"),
            (
                "a/b/c/d-00001-of-00002.gguf",
                "hub a/b main /c/d-00001-of-00002.gguf",
            ),
            ("qwen3:0.6b", "ollama library/qwen3 0.6b"),
            ("user/model:8b", "ollama user/model 8b"),
            (
                "registry.ollama.ai/library/qwen3:0.6b",
                "ollama library/qwen3 0.6b",
            ),
            ("ollama.com/library/qwen3", "ollama library/qwen3 latest"),
            (
                "127.0.0.1:80/library/a:b",
                "ollama http://127.0.0.1:80/library/a b",
            ),
            (
                "models.example/me/a:b",
                "ollama https://models.example/me/a b",
            ),
            (
                "https://host.example/x/y.gguf?a=b",
                "file https://host.example/x/y.gguf",
            ),
            ("http://host.example/x/y.gguf", "error"),
            ("https://host.example/x/y.bin", "error"),
            ("qwen3", "none"),
            ("a/../b", "none"),
            ("a/b/../../c.gguf", "none"),
            ("a/b/c.txt", "none"),
            ("./a/b", "none"),
            ("/a/b", "none"),
        ] {
            assert_eq!(shown(text), expect, "{text}");
        }
    }

    #[test]
    fn a_path_out_of_its_folder_is_refused() {
        for path in [
            "", "/a", "../a", "a/../b", "a\\b", "c:a", "a\0b", "a//b", "a/./b\n",
        ] {
            assert!(!is_inside(path), "{path:?}");
        }
        assert!(is_inside("a/b.gguf"));
    }
}
