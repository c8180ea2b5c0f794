//! The protocol of Ollama's registry, which is that of container registries: a manifest by its tag, and blobs by their
//! digest.

use serde::Deserialize;

use super::address::{Address, encoded};
use super::cache::ListedFile;
use super::client::Client;
use super::digest::{is_sha256, sha256};
use super::error::HubError;
use super::reference::OllamaName;
use crate::units::Bytes;

/// A manifest has about 1 kB.
const MANIFEST_LIMIT: Bytes = Bytes(1 << 20);
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What the kinds of layers are called as files.
const LAYERS: &[(&str, &str)] = &[
    ("model", MODEL),
    ("projector", PROJECTOR),
    ("template", "template"),
    ("params", PARAMETERS),
    ("system", "system"),
];
pub(super) const PARAMETERS: &str = "ollama-params.json";
pub(super) const MODEL: &str = "model.gguf";
pub(super) const PROJECTOR: &str = "projector.gguf";

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
}

/// The state that a tag has now, and the files of the model in it.
pub(super) fn files(
    client: &Client,
    name: &OllamaName,
) -> Result<(String, Vec<ListedFile>), HubError> {
    let tag = encoded(&name.tag, false);
    let address = name
        .registry
        .join(&format!("/v2/{}/manifests/{tag}", name.model))?;
    let asked = client.text(&address, ACCEPT, MANIFEST_LIMIT);
    let (text, _) = asked.map_err(|error| explained(error, name))?;
    let manifest: Manifest = super::hugging_face::document(&address, &text)?;
    let answer = |problem: String| HubError::Answer {
        address: address.to_string(),
        problem,
    };
    let mut files: Vec<ListedFile> = Vec::new();
    let has_kind = |kind: &str| {
        let end = format!(".{kind}");
        manifest
            .layers
            .iter()
            .any(|layer| layer.media_type.ends_with(&end))
    };
    if has_kind("adapter") {
        return Err(denied(
            name,
            "applies a LoRA adapter to its model",
            "merge the adapter into the model, and give the merged model",
        ));
    }
    if has_kind("tensor") {
        return Err(denied(
            name,
            "is stored by Ollama as single tensors instead of a GGUF",
            "give ORG/NAME of the model on the hub",
        ));
    }
    for layer in manifest.layers {
        let kind = layer
            .media_type
            .strip_prefix("application/vnd.ollama.image.");
        let known = LAYERS.iter().find(|(known, _)| Some(*known) == kind);
        let Some((_, path)) = known else {
            continue;
        };
        let digest = layer.digest.strip_prefix("sha256:").unwrap_or_default();
        if !is_sha256(digest) {
            return Err(answer(format!("`{}` is not a SHA-256", layer.digest)));
        }
        if files.iter().any(|file| file.path == *path) {
            return Err(answer(format!("it has several layers of {path}")));
        }
        files.push(ListedFile {
            path: (*path).to_owned(),
            size: layer.size,
            sha256: Some(digest.to_ascii_lowercase()),
            etag: None,
        });
    }
    if !files.iter().any(|file| file.path == MODEL) {
        return Err(answer("it has no GGUF layer".to_owned()));
    }
    Ok((sha256(text.as_bytes()), files))
}

/// Where a layer is.
pub(super) fn blob(name: &OllamaName, file: &ListedFile) -> Result<Address, HubError> {
    let digest = file.sha256.as_deref().unwrap_or_default();
    let path = format!("/v2/{}/blobs/sha256:{digest}", name.model);
    name.registry.join(&path)
}

/// A tag that is no GGUF of a whole model.
fn denied(name: &OllamaName, what: &str, way_out: &str) -> HubError {
    HubError::Denied {
        what: format!("{}:{} {what}", name.model, name.tag),
        way_out: way_out.to_owned(),
    }
}

/// A refusal, with what it means.
fn explained(error: HubError, name: &OllamaName) -> HubError {
    let HubError::Refused { status, .. } = &error else {
        return error;
    };
    let OllamaName {
        registry,
        model,
        tag,
    } = name;
    let model = model.strip_prefix("library/").unwrap_or(model);
    let host = registry.host();
    match status {
        404 => HubError::Denied {
            what: format!("{host} has no model {model}:{tag}"),
            way_out: format!(
                "see the tags of {model} there, or give ORG/NAME of a repository of the hub"
            ),
        },
        401 | 403 => HubError::Denied {
            what: format!("{host} denies access to {model}:{tag}"),
            way_out: "run `ollama pull`, then give its tag".to_owned(),
        },
        _ => error,
    }
}
