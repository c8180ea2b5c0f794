//! `cargo xtask catalog`: holds every entry of `profiles/catalog.toml` to the published number of its parameters, and
//! compares one with the model's own files.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use orinplan::Planner;
use orinplan::catalog::{CATALOG, Catalog, Entry};
use orinplan::checkpoint::{RawConfig, Stores};
use orinplan::hub::{Servers, Settings};
use orinplan::model::{Projector, Unknown};
use serde_json::{Map, Value};

/// Keys of a `config.json` that no plan depends on.
const UNUSED: &[&str] = &[
    "_attn_implementation",
    "_name_or_path",
    "attention_dropout",
    "audio_config",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "hidden_dropout",
    "image_token_id",
    "image_token_index",
    "initializer_range",
    "max_window_layers",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "resid_pdrop",
    "rope_theta",
    "router_aux_loss_coef",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "video_token_id",
];

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match arguments {
        [] => check(&Catalog::shipped()?),
        ["refresh", id, rest @ ..] => {
            let write = rest.contains(&"--write");
            let paths: Vec<&&str> = rest.iter().filter(|word| **word != "--write").collect();
            match paths[..] {
                // Without a path the id itself is opened, from the local cache or the hub.
                [] => refresh(id, id, write),
                [path] => refresh(id, path, write),
                _ => bail!("usage: cargo xtask catalog refresh ID [PATH] [--write]"),
            }
        }
        _ => bail!("usage: cargo xtask catalog [refresh ID [PATH] [--write]]"),
    }
}

/// The parameters of its image encoder by its `vision_config`, if that is of a known kind. Scalars are bounds of activations,
/// which no published number counts.
fn of_encoder(entry: &Entry) -> anyhow::Result<Option<u64>> {
    let planner = entry.open()?;
    let projector = planner.model().projector.as_ref();
    let counted = |projector: &Projector| {
        let weights = projector.tensors.iter().map(|t| t.tensor.elements());
        weights.filter(|&weights| weights > 1).sum()
    };
    Ok(projector.map(counted))
}

/// Whether an encoder has all of `towers`, or all but a last block that no feature is taken from (LLaVA).
fn is_whole(counted: u64, towers: u64) -> bool {
    counted <= towers && 20 * (towers - counted) <= towers
}

/// Plans every entry, and fails with those whose parameters are not the published ones.
fn check(catalog: &Catalog) -> anyhow::Result<()> {
    let mut wrong = 0;
    for entry in &catalog.entries {
        let found = match entry.count() {
            Ok(count) if entry.parameters.agrees(count) => match of_encoder(entry)? {
                Some(counted) if !is_whole(counted, entry.towers) => format!(
                    "its image encoder has {counted} parameters, its towers are {}",
                    entry.towers
                ),
                _ => continue,
            },
            Ok(count) => format!("counts {count}, published are {}", entry.parameters.count),
            Err(error) => error.to_string(),
        };
        wrong += 1;
        println!("{} ({}): {found}", entry.id, entry.shape);
    }
    let entries = catalog.entries.len();
    ensure!(wrong == 0, "{wrong} of {entries} entries are wrong");
    println!("{entries} entries count what was published");
    Ok(())
}

/// Compares the entry `id` with the model at `path`: a directory, a `config.json`, or an id in the local cache. With
/// `write` the catalogue gets the values found, if every entry agrees with its published number afterwards.
fn refresh(id: &str, path: &str, write: bool) -> anyhow::Result<()> {
    let catalog = Catalog::shipped()?;
    let named = |entry: &&Entry| entry.id == id;
    let entry = catalog.entries.iter().find(named);
    let entry = entry.with_context(|| format!("the catalogue has no `{id}`"))?;
    let stores = Stores {
        remote: Some(Arc::new(Servers::new(Settings::from_env()))),
        ..Stores::from_env()
    };
    let planner = Planner::open_in(path, &stores, |_| Unknown::Refuse)?;
    let RawConfig::HuggingFace(Value::Object(config)) = &planner.checkpoint().config else {
        bail!("{path} is a GGUF, whose metadata is no config.json");
    };
    let found = used(config);
    let mut differences = Vec::new();
    compare("", &entry.config, &found, &mut differences);
    let has_weights = !planner.checkpoint().tensors.is_empty();
    if has_weights {
        let towers = planner.model().towers.iter();
        let towers: u64 = towers.map(|tower| tower.parameters).sum();
        let count = planner.model().parameters + towers;
        if !entry.parameters.agrees(count) {
            differences.push(format!(
                "parameters: {} in the catalogue, {count} there",
                entry.parameters.count
            ));
        }
        if towers != entry.towers {
            differences.push(format!(
                "towers: {} in the catalogue, {towers} there",
                entry.towers
            ));
        }
    }
    for difference in &differences {
        println!("{difference}");
    }
    if differences.is_empty() {
        println!("{id} is as the catalogue has it");
    } else if write {
        let text = replaced(&catalog, entry, &found)?;
        check(&Catalog::parse(&text)?)?;
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../profiles/catalog.toml");
        std::fs::write(&file, text)?;
        println!("wrote the configuration of {id}");
    }
    Ok(())
}

/// A configuration without what no plan depends on.
fn used(config: &Map<String, Value>) -> Map<String, Value> {
    let kept = config
        .iter()
        .filter(|(key, _)| !UNUSED.contains(&key.as_str()));
    kept.map(|(key, value)| match value {
        Value::Object(part) => (key.clone(), Value::Object(used(part))),
        value => (key.clone(), value.clone()),
    })
    .collect()
}

/// Appends what differs, with the path of each key.
fn compare(
    path: &str,
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    told: &mut Vec<String>,
) {
    let of = |key: &str| format!("{path}{key}");
    for (key, there) in theirs {
        match (ours.get(key), there) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                compare(&format!("{}.", of(key)), ours, theirs, told);
            }
            (Some(here), there) if here == there || both(here, there) => {}
            (Some(here), there) => told.push(format!(
                "{}: {here} in the catalogue, {there} there",
                of(key)
            )),
            (None, there) => told.push(format!("{}: not in the catalogue, {there} there", of(key))),
        }
    }
    let gone = ours.iter().filter(|(key, _)| !theirs.contains_key(*key));
    told.extend(gone.map(|(key, here)| format!("{}: {here} in the catalogue, not there", of(key))));
}

/// Whether two numbers are one, however they are written.
fn both(here: &Value, there: &Value) -> bool {
    here.as_f64()
        .zip(there.as_f64())
        .is_some_and(|(a, b)| a == b)
}

/// The catalogue's text with `found` for the configuration of `entry`: in its shape where no other model shares that,
/// else in its own line what differs from the shape.
fn replaced(
    catalog: &Catalog,
    entry: &Entry,
    found: &Map<String, Value>,
) -> anyhow::Result<String> {
    let shared = catalog
        .entries
        .iter()
        .filter(|other| other.shape == entry.shape);
    let is_alone = shared.count() == 1;
    let begin = match is_alone {
        true => format!("\"{}\" = {{", entry.shape),
        false => format!("    {{ id = \"{}\",", entry.id),
    };
    let of_shape = shape_config(&entry.shape)?;
    let value = match is_alone {
        true => found.clone(),
        false => {
            let differs = |(key, value): &(&String, &Value)| of_shape.get(*key) != Some(*value);
            let own = found.iter().filter(differs);
            own.map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
    };
    let value = Value::Object(value).to_string();
    ensure!(
        !value.contains('\''),
        "a value has a quote, which the catalogue has no form for"
    );
    let mut lines: Vec<String> = CATALOG.lines().map(str::to_owned).collect();
    let line = lines.iter_mut().find(|line| line.starts_with(&begin));
    let line = line.with_context(|| format!("no line of the catalogue begins with `{begin}`"))?;
    // The configuration stands last on a line.
    let fields = line.split(", config = '").next().unwrap_or(line);
    let fields = fields.trim_end_matches([',', '}', ' ']).to_owned();
    let comma = if is_alone { "" } else { "," };
    *line = format!("{fields}, config = '{value}' }}{comma}");
    Ok(lines.join("\n") + "\n")
}

/// The configuration of a shape as the catalogue states it.
fn shape_config(shape: &str) -> anyhow::Result<Map<String, Value>> {
    let begin = format!("\"{shape}\" = {{");
    let line = CATALOG.lines().find(|line| line.starts_with(&begin));
    let config = line.and_then(|line| line.split("config = '").nth(1)?.strip_suffix("' }"));
    let config =
        config.with_context(|| format!("the shape `{shape}` has no line of the usual form"))?;
    Ok(serde_json::from_str(config)?)
}
