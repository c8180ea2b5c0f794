//! Checks values of a `config.json` that only a forward pass needs (epsilons, rotary bases and factors, the activation).
//! A file made with wrong ones would generate nonsense or abort its runtime.

use serde_json::Value as Json;

use super::ModelError;
use super::arch::Arch;
use super::forward_spec::Activation;
use super::hparams::{HParams, Key, Number};
use super::spec::Layer;

pub(super) fn check(
    arch: &Arch,
    hparams: &HParams<'_>,
    layers: &[Layer],
) -> Result<(), ModelError> {
    activation(arch, hparams)?;
    let rope = ["rope_scaling", "rope_parameters"];
    let rope = rope.iter().find_map(|name| {
        let all = hparams.json(name).filter(|rope| rope.is_object())?;
        Some(all.get("full_attention").unwrap_or(all))
    });
    let epsilons = [Number::RmsEpsilon, Number::LayerNormEpsilon];
    let epsilons = epsilons.iter().flat_map(|number| number.hugging_face());
    let own = epsilons.map(|name| (*name, hparams.json(name), false));
    let base = std::iter::once(("rope_theta", hparams.json("rope_theta"), true));
    let of_rope = ["rope_theta", "factor"];
    let of_rope = of_rope.map(|name| (name, rope.and_then(|rope| rope.get(name)), true));
    for (name, value, positive) in own.chain(base).chain(of_rope) {
        let fits = |x: f64| x.is_finite() && x >= 0.0 && (x > 0.0 || !positive);
        match value.filter(|value| !value.is_null()).map(Json::as_f64) {
            Some(number) if !number.is_some_and(fits) => {
                return Err(ModelError::BadNumber {
                    key: name.to_owned(),
                });
            }
            _ => {}
        }
    }
    match rope {
        Some(rope) => factors(hparams, rope, layers),
        None => Ok(()),
    }
}

/// Checks that both lists of rotary factors have one number for each rotated pair of a head.
fn factors(hparams: &HParams<'_>, rope: &Json, layers: &[Layer]) -> Result<(), ModelError> {
    let attention = layers.iter().find_map(|l| l.mixer.attention.as_ref());
    let long = rope.get("long_factor").and_then(Json::as_array);
    let (Some(attention), Some(_)) = (attention, long) else {
        return Ok(());
    };
    let part = || hparams.json("partial_rotary_factor");
    let part = rope.get("partial_rotary_factor").or_else(part);
    let part = part.and_then(Json::as_f64).unwrap_or(1.0);
    // A part of a latent head turns, whose width is stated by itself.
    let turning = match hparams.or_zero(Key::RopeDim)? {
        0 => (attention.key_dim as f64 * part) as u64,
        stated => stated,
    };
    let pairs = turning / 2;
    for name in ["long_factor", "short_factor"] {
        match rope.get(name).and_then(Json::as_array) {
            Some(list) if list.len() as u64 != pairs => {
                return Err(ModelError::Contradiction {
                    what: format!(
                        "`{name}` has {} numbers, and {pairs} pairs of a head turn,",
                        list.len()
                    ),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that the stated activation is the architecture's, if its forward pass is known.
fn activation(arch: &Arch, hparams: &HParams<'_>) -> Result<(), ModelError> {
    let Some(traits) = &arch.forward else {
        return Ok(());
    };
    let stated = ["hidden_activation", "hidden_act"];
    let stated = stated.iter().find_map(|name| hparams.json(name)?.as_str());
    let (expected, is_it): (_, fn(&str) -> bool) = match traits.activation {
        Activation::Silu | Activation::ClampedSwiglu => {
            ("silu", |found| matches!(found, "silu" | "swish" | "swiglu"))
        }
        // The first Gemma files state `gelu` and mean the tanh approximation.
        Activation::GeluTanh => ("gelu_pytorch_tanh", |found| found.starts_with("gelu")),
        Activation::ReluSquared => ("relu2", |found| matches!(found, "relu2" | "sqrelu")),
        Activation::Xielu(_) => ("xielu", |found| found == "xielu"),
    };
    match stated.filter(|found| !is_it(found)) {
        Some(found) => Err(ModelError::Activation {
            found: found.to_owned(),
            architecture: arch.name,
            expected,
        }),
        None => Ok(()),
    }
}
