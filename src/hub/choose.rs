//! Which files of a repository make up the model that is meant, by their names.
//!
//! In: a listing and what the user named. Out: the weight files whose headers are needed, and the small files beside them.
//! Must not: fetch.

use std::path::Path;

use super::Purpose;
use super::cache::ListedFile;
use super::error::HubError;
use super::headers::Container;
use super::reference::{Pick, Repo};
use crate::checkpoint::{ShardName, same_set};

/// The files of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Chosen {
    /// A Hugging Face directory.
    Directory {
        weights: Vec<ListedFile>,
        /// Whether only the index says which of them are meant.
        needs_index: bool,
    },
    Safetensors(Vec<ListedFile>),
    Gguf {
        parts: Vec<ListedFile>,
        projector: Option<ListedFile>,
    },
}

/// The tag that llama.cpp and Ollama take where none is named.
const USUAL: &str = "Q4_K_M";

/// The model of `repo` that is meant, among `files`.
pub(super) fn choose(repo: &Repo, files: &[ListedFile]) -> Result<Chosen, HubError> {
    let wrong = |problem: String| HubError::Model {
        model: repo.id.clone(),
        problem,
    };
    let ggufs = models(files);
    match &repo.pick {
        Pick::File(path) => {
            let Some(file) = files.iter().find(|file| file.path == *path) else {
                let names = ggufs.iter().map(|file| file.path.as_str());
                let near = crate::nearest::hint(path, names);
                return Err(wrong(format!("has no file `{path}`{near}")));
            };
            match Container::of(path) {
                Some(Container::Gguf) => Ok(gguf(file, files)),
                _ => Ok(Chosen::Safetensors(set(file, files))),
            }
        }
        Pick::Tag(tag) => match tagged(&ggufs, tag).or_else(|| usual(&ggufs, tag)) {
            Some(file) => Ok(gguf(file, files)),
            None if ggufs.is_empty() => Err(wrong(format!(
                "has no GGUF files, so no `{tag}`; `orinplan quantize {}` makes one",
                repo.id
            ))),
            None => Err(wrong(format!(
                "has no GGUF of `{tag}`; it has {}",
                names(&ggufs)
            ))),
        },
        Pick::Any if files.is_empty() => Err(wrong("has no model files; see its page".to_owned())),
        Pick::Any => {
            let weights: Vec<ListedFile> = safetensors(files).cloned().collect();
            if !weights.is_empty() || ggufs.is_empty() {
                return Ok(directory(weights));
            }
            let only = match ggufs.as_slice() {
                [only] => Some(*only),
                _ => tagged(&ggufs, USUAL),
            };
            only.map(|file| gguf(file, files)).ok_or_else(|| {
                wrong(format!(
                    "holds several models; name one as {}:TAG or {}/FILE: {}",
                    repo.id,
                    repo.id,
                    names(&ggufs)
                ))
            })
        }
    }
}

/// The safetensors files that Transformers would look at.
fn safetensors(files: &[ListedFile]) -> impl Iterator<Item = &ListedFile> {
    files.iter().filter(|file| {
        !file.path.contains('/') && Container::of(&file.path) == Some(Container::Safetensors)
    })
}

fn directory(weights: Vec<ListedFile>) -> Chosen {
    let single = weights.iter().find(|file| file.path == "model.safetensors");
    if let Some(single) = single {
        return Chosen::Directory {
            weights: vec![single.clone()],
            needs_index: false,
        };
    }
    let one_set = weights.first().is_none_or(|first| {
        let mut others = weights.iter().skip(1);
        others.all(|other| same_set(Path::new(&first.path), Path::new(&other.path)))
    });
    Chosen::Directory {
        weights,
        needs_index: !one_set,
    }
}

/// GGUF files that are models, each split one by its first part.
fn models(files: &[ListedFile]) -> Vec<&ListedFile> {
    let is_first = |path: &str| stem(path).1.is_none_or(|shard| shard.number == 1);
    let found = files.iter().filter(|file| {
        Container::of(&file.path) == Some(Container::Gguf)
            && !is_projector(&file.path)
            && is_first(&file.path)
    });
    found.collect()
}

fn is_projector(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.to_ascii_lowercase().contains("mmproj")
}

/// The file's name without its end and the number of a part, and that number.
pub(super) fn stem(path: &str) -> (&str, Option<ShardName<'_>>) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let shard = ShardName::parse(stem);
    (shard.map_or(stem, |shard| shard.stem), shard)
}

/// The model whose name ends with `tag`, else the one that has it as a part of its name.
fn tagged<'a>(models: &[&'a ListedFile], tag: &str) -> Option<&'a ListedFile> {
    let tag = tag.to_ascii_lowercase();
    let rank = |file: &&ListedFile| {
        let name = stem(&file.path).0.to_ascii_lowercase();
        let rest = name.strip_suffix(&tag)?;
        // `UD-Q4_K_M` is another format than `Q4_K_M`.
        let is_plain = !rest.ends_with("ud-") || tag.starts_with("ud-");
        let is_whole = rest.is_empty() || rest.ends_with(['-', '.', '_']);
        is_whole.then_some((!is_plain, file.path.len()))
    };
    let ranked = models.iter().filter_map(|file| Some((rank(file)?, *file)));
    ranked
        .min_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, file)| file)
}

/// What is meant by `latest`: the usual format.
fn usual<'a>(models: &[&'a ListedFile], tag: &str) -> Option<&'a ListedFile> {
    let is_latest = tag.eq_ignore_ascii_case("latest");
    is_latest.then(|| tagged(models, USUAL)).flatten()
}

/// A GGUF with its other parts, and the smallest projector.
fn gguf(file: &ListedFile, files: &[ListedFile]) -> Chosen {
    let projectors = files.iter().filter(|file| {
        Container::of(&file.path) == Some(Container::Gguf) && is_projector(&file.path)
    });
    let smallest = projectors.min_by(|a, b| (a.size, &a.path).cmp(&(b.size, &b.path)));
    Chosen::Gguf {
        parts: set(file, files),
        projector: smallest.filter(|_| !is_projector(&file.path)).cloned(),
    }
}

/// All parts of the model that a file is of, in order.
fn set(file: &ListedFile, files: &[ListedFile]) -> Vec<ListedFile> {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    if stem(&file.path).1.is_none() {
        return vec![file.clone()];
    }
    let mut parts: Vec<ListedFile> = files
        .iter()
        .filter(|other| {
            folder(&other.path) == folder(&file.path)
                && Path::new(&other.path).extension() == Path::new(&file.path).extension()
                && same_set(Path::new(&other.path), Path::new(&file.path))
        })
        .cloned()
        .collect();
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    parts
}

fn names(models: &[&ListedFile]) -> String {
    const MOST: usize = 24;
    let mut names: Vec<&str> = models
        .iter()
        .take(MOST)
        .map(|file| file.path.as_str())
        .collect();
    if models.len() > MOST {
        names.push("..");
    }
    names.join(", ")
}

/// Small files of a directory that are needed: for a plan the configuration, and a tokenizer that is small; to make a file
/// also what goes with it (licences, templates, code).
pub(super) fn small(files: &[ListedFile], purpose: Purpose) -> Vec<ListedFile> {
    /// A configuration has some kB.
    const CONFIG: u64 = 1 << 20;
    /// Vocabularies have some MB, and a plan is asked for in a second.
    const TOKENIZERS: u64 = 1 << 20;
    /// The largest tokenizers have 35 MB.
    const LARGEST: u64 = 128 << 20;
    const PARTS: &[&str] = &[
        "tokenizer",
        "vocab",
        "merges",
        "tekken",
        "tiktoken",
        "spiece",
        "added_tokens",
        "special_tokens",
        "chat_template",
    ];
    let makes = purpose == Purpose::Make;
    let end = |path: &str| path.rsplit_once('.').map(|(_, end)| end.to_owned());
    let top = files.iter().filter(|file| {
        let path = file.path.as_str();
        !path.contains('/') && !path.starts_with('.') && Container::of(path).is_none()
    });
    let (tokenizers, others): (Vec<&ListedFile>, Vec<_>) =
        top.partition(|file| PARTS.iter().any(|part| file.path.contains(part)));
    let total: u64 = tokenizers.iter().map(|file| file.size).sum();
    let tokenizers = tokenizers.into_iter().filter(|file| {
        if makes {
            file.size <= LARGEST
        } else {
            total <= TOKENIZERS
        }
    });
    let others = others
        .into_iter()
        .filter(|file| match end(&file.path).as_deref() {
            Some("json") => file.size <= if makes { LARGEST } else { CONFIG },
            Some("txt" | "md" | "jinja" | "py" | "model") | None => makes && file.size <= CONFIG,
            Some(_) => false,
        });
    others.chain(tokenizers).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::reference::MAIN;

    fn listed(path: &str, size: u64) -> ListedFile {
        ListedFile {
            path: path.to_owned(),
            size,
            sha256: None,
            etag: None,
        }
    }

    fn chosen(pick: Pick, paths: &[&str]) -> Result<Vec<String>, String> {
        let files: Vec<ListedFile> = paths.iter().map(|path| listed(path, 7)).collect();
        let repo = Repo {
            id: "o/n".to_owned(),
            revision: MAIN.to_owned(),
            pick,
        };
        let found = choose(&repo, &files).map_err(|error| error.to_string())?;
        let files = match found {
            Chosen::Directory { weights, .. } | Chosen::Safetensors(weights) => weights,
            Chosen::Gguf { parts, projector } => parts.into_iter().chain(projector).collect(),
        };
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn a_repository_without_a_file_holds_no_model() {
        let error = chosen(Pick::Any, &[]).unwrap_err();
        assert!(error.contains("has no model files"), "{error}");
    }

    #[test]
    fn the_model_that_is_meant_is_found_by_its_name() {
        let tag = |tag: &str| Pick::Tag(tag.to_owned());
        let ggufs = [
            "n-UD-Q4_K_M.gguf",
            "n-Q4_K_M.gguf",
            "n-Q8_0-00001-of-00002.gguf",
            "n-Q8_0-00002-of-00002.gguf",
            "mmproj-n-f16.gguf",
        ];
        let check = |pick: Pick, paths: &[&str], expect: &[&str]| {
            assert_eq!(chosen(pick, paths).unwrap(), expect);
        };
        check(
            tag("q4_k_m"),
            &ggufs,
            &["n-Q4_K_M.gguf", "mmproj-n-f16.gguf"],
        );
        check(
            tag("UD-Q4_K_M"),
            &ggufs,
            &["n-UD-Q4_K_M.gguf", "mmproj-n-f16.gguf"],
        );
        check(
            tag("latest"),
            &ggufs,
            &["n-Q4_K_M.gguf", "mmproj-n-f16.gguf"],
        );
        check(
            tag("Q8_0"),
            &ggufs,
            &[ggufs[2], ggufs[3], "mmproj-n-f16.gguf"],
        );
        check(Pick::Any, &ggufs, &["n-Q4_K_M.gguf", "mmproj-n-f16.gguf"]);
        check(
            Pick::Any,
            &["a.gguf", "model.safetensors", "x.safetensors"],
            &["model.safetensors"],
        );
        let shards = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        check(Pick::Any, &shards, &shards);
        let error = chosen(tag("Q2_K"), &ggufs).unwrap_err();
        assert!(error.contains("n-Q4_K_M.gguf"), "{error}");
        let error = chosen(Pick::Any, &["a.gguf", "b.gguf"]).unwrap_err();
        assert!(error.contains("several models"), "{error}");
    }

    #[test]
    fn a_plan_fetches_no_large_tokenizer() {
        let files = [
            listed("config.json", 1000),
            listed("tokenizer.json", 11 << 20),
            listed("README.md", 10),
            listed("a/config.json", 10),
        ];
        let names = |purpose| -> Vec<String> {
            small(&files, purpose)
                .into_iter()
                .map(|file| file.path)
                .collect()
        };
        assert_eq!(names(Purpose::Plan), ["config.json"]);
        assert_eq!(
            names(Purpose::Make),
            ["config.json", "README.md", "tokenizer.json"]
        );
    }
}
