//! What a mix gives to its tensors, and why: each by its name, and the kinds of them.

use std::collections::BTreeMap;

use super::choose::Option as TypeOption;
use super::search::{CODEBOOKS, Mix, PROBE, Sensitivities};
use super::session::Session;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// What a mix gives to the tensors of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixKind {
    /// The kind, by its tensors' name: `attn_v`.
    pub name: String,
    /// How many get each type.
    pub types: BTreeMap<Dtype, usize>,
    /// Their bytes.
    pub bytes: Bytes,
    /// The divergence that they are expected to add.
    pub cost: f64,
    /// The divergence that they would add in the type of probes.
    pub probed: f64,
}

/// Why a tensor has its type: what it costs there, and what more bytes would save.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorChoice {
    /// The divergence that it is expected to add, in nats.
    pub cost: f64,
    /// The next larger type, by what it saves for a byte; `None` where none saves anything.
    pub larger: Option<LargerType>,
}

/// A larger type for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LargerType {
    /// The type.
    pub dtype: Dtype,
    /// Bytes that it takes more.
    pub bytes: Bytes,
    /// The divergence that it is expected to save, in nats.
    pub saves: f64,
}

/// Why each tensor of `mix` has its type, by name. The types of a small file include codebooks.
fn choices(
    sensitivities: &Sensitivities,
    mix: &Mix,
    is_small: bool,
) -> BTreeMap<String, TensorChoice> {
    let mut choices = BTreeMap::new();
    for tensor in &sensitivities.tensors {
        let dtype = mix.types.get(&tensor.name);
        let chosen = tensor.options.iter().find(|o| Some(&o.dtype) == dtype);
        let Some(chosen) = chosen else { continue };
        let rate = |o: &TypeOption| (chosen.cost - o.cost) / (o.bytes - chosen.bytes) as f64;
        let larger = tensor.options.iter().filter(|o| {
            let is_allowed = is_small || !CODEBOOKS.contains(&o.dtype);
            is_allowed && o.bytes > chosen.bytes && o.cost < chosen.cost
        });
        let larger = larger.max_by(|a, b| rate(a).total_cmp(&rate(b)));
        let choice = TensorChoice {
            cost: chosen.cost,
            larger: larger.map(|o| LargerType {
                dtype: o.dtype,
                bytes: Bytes(o.bytes - chosen.bytes),
                saves: chosen.cost - o.cost,
            }),
        };
        choices.insert(tensor.name.clone(), choice);
    }
    choices
}

impl Session<'_> {
    /// Why each tensor of `mix`, which was chosen for `size`, has its type, by name.
    pub fn choices(&self, mix: &Mix, size: Bytes) -> BTreeMap<String, TensorChoice> {
        choices(&self.sensitivities, mix, self.is_small(size))
    }

    /// What `mix` gives to each kind of tensor, the kind first whose errors cost most at the same type.
    pub fn kinds(&self, mix: &Mix) -> Vec<MixKind> {
        let mut kinds: Vec<MixKind> = Vec::new();
        for tensor in &self.sensitivities.tensors {
            let Some(dtype) = mix.types.get(&tensor.name) else {
                continue;
            };
            let option = |dtype: Dtype| tensor.options.iter().find(|option| option.dtype == dtype);
            let (chosen, probed) = (option(*dtype), option(PROBE));
            let name = tensor.role.gguf_name(None, "");
            let name = name.trim_end_matches('.').to_owned();
            let at = kinds.iter().position(|kind| kind.name == name);
            let at = at.unwrap_or_else(|| {
                kinds.push(MixKind {
                    name,
                    ..MixKind::default()
                });
                kinds.len() - 1
            });
            if let Some(kind) = kinds.get_mut(at) {
                *kind.types.entry(*dtype).or_default() += 1;
                kind.bytes += Bytes(chosen.map_or(0, |option| option.bytes));
                kind.cost += chosen.map_or(0.0, |option| option.cost);
                kind.probed += probed.map_or(0.0, |option| option.cost);
            }
        }
        kinds.sort_by(|a, b| b.probed.total_cmp(&a.probed));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::TensorSensitivity;
    use super::*;
    use crate::model::TensorRole;

    #[test]
    fn a_choice_says_what_the_next_larger_type_would_save() {
        let option = |dtype, bytes, cost| TypeOption { dtype, bytes, cost };
        let tensor = TensorSensitivity {
            name: "a".to_owned(),
            block: Some(0),
            role: TensorRole::AttnV,
            factor: 1.0,
            options: vec![
                option(Dtype::Q4_0, 100, 0.5),
                option(Dtype::Q5_0, 120, 0.4),
                option(Dtype::Q6_K, 130, 0.1),
                option(Dtype::IQ3_S, 110, 0.05),
                option(Dtype::F16, 400, 0.0),
            ],
        };
        let sensitivities = Sensitivities {
            tensors: vec![tensor],
        };
        let of = |dtype, is_small| {
            let mix = Mix {
                types: BTreeMap::from([("a".to_owned(), dtype)]),
                divergence: 0.0,
            };
            choices(&sensitivities, &mix, is_small)["a"]
        };
        let choice = of(Dtype::Q4_0, false);
        assert_eq!(choice.cost, 0.5);
        let larger = choice.larger.unwrap();
        assert_eq!((larger.dtype, larger.bytes), (Dtype::Q6_K, Bytes(30)));
        assert!((larger.saves - 0.4).abs() < 1e-12);
        assert_eq!(of(Dtype::Q4_0, true).larger.unwrap().dtype, Dtype::IQ3_S);
        assert_eq!(of(Dtype::F16, false).larger, None);
    }
}
