//! Checks what a `config.json` states, before defaults are filled in: types of values, sizes of zero, and values that
//! contradict each other. What would be read as something else, or as not stated, is refused by name.

use serde_json::{Map, Value as Json};

use super::arch::Arch;
use super::hparams::{FLAGS, HParams, Key, truth};
use super::lookup::StatedNames;
use super::spec::Layer;
use super::{ModelError, families};
use crate::units::counted;

pub(super) fn check(
    arch: &Arch,
    names: &StatedNames<'_>,
    hparams: &HParams<'_>,
) -> Result<(), ModelError> {
    check_names(arch, names)?;
    let stated = |name: &&&str| hparams.json(name).is_some_and(|value| !value.is_null());
    let mut flags = FLAGS.iter().filter(stated);
    if let Some(key) = flags.find(|name| hparams.json(name).and_then(truth).is_none()) {
        return Err(ModelError::BadFlag {
            key: (*key).to_owned(),
        });
    }
    check_sizes(hparams)?;
    check_rope(hparams)
}

/// Checks that the class and `model_type` are not those of two architectures.
fn check_names(arch: &Arch, names: &StatedNames<'_>) -> Result<(), ModelError> {
    let (Some(class), Some(stated), None) =
        (names.classes.first(), names.model_type, names.text_type)
    else {
        return Ok(());
    };
    let others = Arch::all().any(|other| other.model_types.contains(&stated));
    if !arch.classes.contains(class) || arch.model_types.contains(&stated) || !others {
        return Ok(());
    }
    Err(ModelError::Contradiction {
        what: format!("`architectures` names `{class}`, and `model_type` is `{stated}`,"),
    })
}

/// Sizes that no model has zero of.
const POSITIVE: &[Key] = &[
    Key::Blocks,
    Key::Hidden,
    Key::Vocab,
    Key::Context,
    Key::Heads,
    Key::KvHeads,
    Key::HeadDim,
];

fn check_sizes(hparams: &HParams<'_>) -> Result<(), ModelError> {
    let routed = hparams.or_zero(Key::Experts)? > 1;
    let of_kind: &[Key] = if routed {
        &[Key::ExpertsUsed, Key::ExpertFfn]
    } else {
        &[Key::Ffn]
    };
    for &key in POSITIVE.iter().chain(of_kind) {
        if hparams.numbers(key)?.is_some_and(|numbers| numbers == [0]) {
            return Err(hparams.missing(key));
        }
    }
    Ok(())
}

/// Names of the rotary parameters: in files of Transformers 4 and 5.
const ROPE: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Checks that rotary parameters are objects, and that those that are stated twice are the same.
fn check_rope(hparams: &HParams<'_>) -> Result<(), ModelError> {
    let mut found: Vec<&Map<String, Json>> = Vec::new();
    for name in ROPE {
        let Some(all) = hparams.json(name).filter(|all| !all.is_null()) else {
            continue;
        };
        let of_full = all.get("full_attention").unwrap_or(all);
        found.push(of_full.as_object().ok_or_else(|| ModelError::NoObject {
            key: name.to_owned(),
        })?);
    }
    if let [scaling, parameters] = found.as_slice()
        && let Some(key) = first_difference(scaling, parameters)
    {
        return Err(ModelError::Contradiction {
            what: format!("`rope_scaling` and `rope_parameters` state different values of `{key}`"),
        });
    }
    let base = hparams.json("rope_theta").and_then(Json::as_f64);
    let mut inner = found
        .iter()
        .filter_map(|rope| rope.get("rope_theta")?.as_f64());
    match (base, inner.next()) {
        (Some(base), Some(inner)) if base != inner => Err(ModelError::Contradiction {
            what: format!(
                "`rope_theta` is {base} by itself and {inner} among the rotary parameters"
            ),
        }),
        _ => Ok(()),
    }
}

/// The first parameter that two sets of rotary parameters state otherwise. The base may be in one of them alone.
fn first_difference<'a>(
    one: &'a Map<String, Json>,
    other: &'a Map<String, Json>,
) -> Option<&'a str> {
    fn value<'m>(map: &'m Map<String, Json>, key: &str) -> Option<&'m Json> {
        let found = match key {
            "type" | "rope_type" => map.get("rope_type").or_else(|| map.get("type")),
            key => map.get(key),
        };
        found.filter(|value| !value.is_null() && *value != "default")
    }
    let mut keys = one.keys().chain(other.keys()).map(String::as_str);
    keys.find(|&key| match (value(one, key), value(other, key)) {
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a != b,
            _ => a != b,
        },
        (a, b) => key != "rope_theta" && a != b,
    })
}

/// Checks that `layer_types` lists all blocks, each with a kind that it has, that heads have a whole width, and that
/// the elements of a head turn in pairs.
pub(super) fn check_blocks(
    arch: &Arch,
    hparams: &HParams<'_>,
    layers: &[Layer],
) -> Result<(), ModelError> {
    let contradiction = |what| Err(ModelError::Contradiction { what });
    if let Some(kinds) = hparams.json("layer_types").filter(|kinds| !kinds.is_null()) {
        let wrong = |what| Err(ModelError::BlockKinds { what });
        let Some(kinds) = kinds.as_array() else {
            return wrong("`layer_types` is not a list with a kind for each block".to_owned());
        };
        if kinds.len() < layers.len() {
            return wrong(format!(
                "`layer_types` lists {} for {}",
                counted(kinds.len() as u64, "kind", "kinds"),
                counted(layers.len() as u64, "block", "blocks"),
            ));
        }
        let mut blocks = kinds.iter().zip(layers).enumerate();
        if let Some((block, (kind, _))) = blocks.find(|(_, (kind, layer))| !is_of(layer, kind)) {
            return wrong(format!(
                "block {block} is {kind} by `layer_types`, but {} has no such block there",
                arch.name,
            ));
        }
    }
    if hparams.stated(Key::KvLora.hugging_face()).is_some() {
        return Ok(());
    }
    let attention = layers.iter().find_map(|l| l.mixer.attention.as_ref());
    let Some(attention) = attention.filter(|a| a.heads > 0) else {
        return Ok(());
    };
    let (hidden, heads) = (hparams.need(Key::Hidden)?, attention.heads);
    let stated = hparams.stated(Key::HeadDim.hugging_face()).is_some();
    if !stated && !hidden.is_multiple_of(heads) {
        return contradiction(format!(
            "`hidden_size` ({hidden}) is not a multiple of `num_attention_heads` ({heads})"
        ));
    }
    if attention.key_dim % 2 == 1 {
        let dim = attention.key_dim;
        let key = if stated {
            "`head_dim`".to_owned()
        } else {
            format!("`hidden_size` ({hidden}) / `num_attention_heads` ({heads})")
        };
        return contradiction(format!(
            "{key} is {dim}, and the elements of a head turn in pairs,"
        ));
    }
    Ok(())
}

/// Whether a block is of the kind that `layer_types` says. Where a runtime leaves windows out, a windowed block has none.
fn is_of(layer: &Layer, kind: &Json) -> bool {
    let (attends, recurs) = (&layer.mixer.attention, &layer.mixer.recurrent);
    match kind.as_str() {
        Some("full_attention" | "attention") => {
            attends.as_ref().is_some_and(|a| a.window.is_none())
        }
        Some("sliding_attention" | "chunked_attention") => attends.is_some(),
        Some(kind) if families::RECURRENT_KINDS.contains(&kind) => {
            recurs.is_some() && attends.is_none()
        }
        Some("hybrid") => recurs.is_some() && attends.is_some(),
        _ => false,
    }
}
