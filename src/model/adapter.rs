//! Low-rank adapters (LoRA) as PEFT's `adapter_config.json` describes them: rank and adapted matrices, and what that takes.
//!
//! In: the text of a configuration. Out: an [`Adapter`]. Reads no weight: two matrices of the rank stand beside each adapted
//! one.

use serde_json::Value;

use crate::input::in_words;
use crate::model::{ModelSpec, TensorRole};

/// A low-rank adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its name in reports.
    pub name: String,
    /// The rank; the largest where modules have ranks of their own.
    pub rank: u64,
    /// The adapted modules by PEFT's names; `None` for all linear ones.
    targets: Option<Vec<String>>,
    /// The blocks that it is limited to, if it is.
    layers: Option<Vec<u64>>,
}

/// The names of modules in PEFT's configurations, and the matrix of each.
const MODULES: &[(&str, TensorRole)] = &[
    ("q_proj", TensorRole::AttnQ),
    ("k_proj", TensorRole::AttnK),
    ("v_proj", TensorRole::AttnV),
    ("qkv_proj", TensorRole::AttnQkv),
    ("c_attn", TensorRole::AttnQkv),
    ("query_key_value", TensorRole::AttnQkv),
    ("o_proj", TensorRole::AttnOutput),
    ("out_proj", TensorRole::AttnOutput),
    ("gate_proj", TensorRole::FfnGate),
    ("up_proj", TensorRole::FfnUp),
    ("gate_up_proj", TensorRole::FfnUp),
    ("down_proj", TensorRole::FfnDown),
];

impl Adapter {
    /// The adapter of a configuration.
    ///
    /// # Errors
    /// A sentence about what it is or lacks.
    pub fn parse(name: &str, text: &str) -> Result<Adapter, String> {
        let config: Value = serde_json::from_str(text)
            .map_err(|error| format!("is not JSON: {}", in_words(&error.to_string())))?;
        let kind = config["peft_type"].as_str().unwrap_or("LORA");
        if kind != "LORA" {
            return Err(format!("is an adapter of type {kind}; LORA is planned"));
        }
        if config["modules_to_save"]
            .as_array()
            .is_some_and(|modules| !modules.is_empty())
        {
            return Err("keeps whole modules (`modules_to_save`), which is not planned".to_owned());
        }
        if config["use_dora"].as_bool() == Some(true) {
            return Err("is a DoRA adapter (`use_dora`), and LoRA is planned".to_owned());
        }
        if !matches!(&config["exclude_modules"], Value::Null) {
            return Err("leaves modules out (`exclude_modules`), which is not planned: list those that it adapts in `target_modules`".to_owned());
        }
        let rank = config["r"].as_u64();
        let patterns = config["rank_pattern"].as_object();
        let own = patterns.into_iter().flat_map(|ranks| ranks.values());
        let ranks = own.filter_map(Value::as_u64).chain(rank);
        let rank = ranks.max().filter(|rank| (1..=4096).contains(rank));
        let rank = rank.ok_or("states no rank from 1 to 4096 (`r`)")?;
        let targets = match &config["target_modules"] {
            Value::String(all) if all == "all-linear" => None,
            Value::Array(names) => {
                let names = names.iter().map(|name| name.as_str().map(leaf));
                let names: Option<Vec<String>> = names.collect();
                Some(names.ok_or("names modules that are no text (`target_modules`)")?)
            }
            _ => {
                return Err(
                    "names no list of modules, nor all-linear (`target_modules`)".to_owned(),
                );
            }
        };
        let layers = match &config["layers_to_transform"] {
            Value::Null => None,
            Value::Array(layers) => Some(layers.iter().map(Value::as_u64).collect()),
            one => Some(one.as_u64().map(|one| vec![one])),
        };
        let layers = layers.map(|layers: Option<Vec<u64>>| {
            layers.ok_or("limits itself to blocks that are no numbers (`layers_to_transform`)")
        });
        Ok(Adapter {
            name: name.to_owned(),
            rank,
            targets,
            layers: layers.transpose()?,
        })
    }

    /// Weights of the adapter for `model`.
    ///
    /// # Errors
    /// A sentence that names a module or a block that `model` does not have.
    pub fn weights(&self, model: &ModelSpec) -> Result<u64, String> {
        let blocks = model.layers.len() as u64;
        let mut limited = self.layers.iter().flatten();
        if let Some(block) = limited.find(|block| **block >= blocks) {
            let name = &model.name;
            return Err(format!(
                "adapts block {block} (`layers_to_transform`), and {name} has {blocks}"
            ));
        }
        let roles: Vec<TensorRole> = match &self.targets {
            None => MODULES.iter().map(|(_, role)| *role).collect(),
            Some(names) => {
                let role = |name: &String| {
                    let known = MODULES.iter().find(|(known, _)| known == name);
                    let role = known.map(|(_, role)| *role);
                    let is_there =
                        |role: &TensorRole| model.tensors.iter().any(|t| t.role == *role);
                    role.filter(is_there).ok_or_else(|| {
                        format!(
                            "adapts `{name}`, which is no linear layer of {}'s blocks",
                            model.name
                        )
                    })
                };
                names.iter().map(role).collect::<Result<_, _>>()?
            }
        };
        let is_adapted = |layer: Option<u32>| match (&self.layers, layer) {
            (Some(layers), Some(layer)) => layers.contains(&u64::from(layer)),
            _ => true,
        };
        let tensors = model.tensors.iter();
        let adapted = tensors.filter(|tensor| {
            roles.contains(&tensor.role) && tensor.is_weight() && is_adapted(tensor.layer)
        });
        let weights = adapted.map(|tensor| {
            let columns = tensor.row();
            let rows = tensor.elements() / columns.max(1);
            self.rank.saturating_mul(rows.saturating_add(columns))
        });
        Ok(weights.fold(0, u64::saturating_add))
    }
}

/// The last part of a module's path.
fn leaf(path: &str) -> String {
    path.rsplit('.').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_adapter_says_so() {
        for (text, said) in [
            ("", "JSON"),
            (r#"{"r":8}"#, "target_modules"),
            (r#"{"target_modules":["q_proj"]}"#, "rank"),
            (r#"{"r":0,"target_modules":["q_proj"]}"#, "rank"),
            (r#"{"r":8,"target_modules":"layers.*"}"#, "all-linear"),
            (r#"{"r":8,"target_modules":[1]}"#, "no text"),
            (
                r#"{"peft_type":"IA3","r":8,"target_modules":["q_proj"]}"#,
                "IA3",
            ),
            (
                r#"{"r":8,"target_modules":["q_proj"],"modules_to_save":["lm_head"]}"#,
                "modules_to_save",
            ),
            (
                r#"{"r":8,"target_modules":["q_proj"],"use_dora":true}"#,
                "DoRA",
            ),
            (
                r#"{"r":8,"target_modules":["q_proj"],"exclude_modules":["k_proj"]}"#,
                "exclude_modules",
            ),
            (
                r#"{"r":8,"target_modules":["q_proj"],"layers_to_transform":["a"]}"#,
                "no numbers",
            ),
        ] {
            let error = Adapter::parse("a", text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let one = r#"{"r":8,"target_modules":["q_proj"],"layers_to_transform":3}"#;
        assert_eq!(Adapter::parse("a", one).unwrap().layers, Some(vec![3]));
        let own = r#"{"r":8,"rank_pattern":{"q_proj":32},"target_modules":["self_attn.q_proj"]}"#;
        let adapter = Adapter::parse("a", own).unwrap();
        assert_eq!(
            (adapter.rank, adapter.targets),
            (32, Some(vec!["q_proj".to_owned()]))
        );
    }
}
