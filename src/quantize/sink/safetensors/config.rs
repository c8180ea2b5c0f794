//! The `config.json` of a quantized model, in the form that llm-compressor writes and vLLM and Transformers read.

use serde_json::{Value as Json, json};

use super::layout::Prediction;
use crate::model::{ModelSpec, TEXT_PARTS};
use crate::scheme::{Reason, Scheme};

/// The version of the format: that of the compressed-tensors release that was checked to read it.
const VERSION: &str = "0.12.2";

/// Modules that are not quantized: the head, and every matrix that keeps its type. A stack of experts is a parameter of
/// the module above it; runtimes ask for the layers below that, which a pattern names.
pub(super) fn ignored(model: &ModelSpec, plan: &Prediction) -> Vec<String> {
    let mut ignored = vec!["lm_head".to_owned()];
    let mut add = |entry: String| {
        if !ignored.contains(&entry) {
            ignored.push(entry);
        }
    };
    for weight in &plan.weights {
        if weight.assigned.reason == Reason::Default || weight.table {
            continue;
        }
        let name = weight.name(model);
        let module = name.strip_suffix(".weight");
        if weight.stacked {
            let above = module.unwrap_or(name).rsplit_once('.');
            let Some((above, _)) = above else { continue };
            let in_block = above.find("layers.").map_or(above, |at| &above[at..]);
            let below = format!("re:.*{}\\..*", in_block.replace('.', "\\."));
            add(above.to_owned());
            add(below);
        } else if let (Some(module), 2) = (module, weight.shape.len()) {
            add(module.to_owned());
        }
    }
    ignored
}

/// The text of `config.json`: the original with this quantization instead of an earlier one. If the model has a head of
/// its own, it is stated to be untied; otherwise readers would ignore the stored head.
pub(super) fn json(
    original: &Json,
    model: &ModelSpec,
    scheme: &Scheme,
    ignored: &[String],
) -> String {
    let mut config = original.clone();
    // Parts of a multimodal configuration may state a quantization or a type, too.
    for part in [None]
        .into_iter()
        .chain(TEXT_PARTS.iter().copied().map(Some))
    {
        let config = match part {
            None => Some(&mut config),
            Some(part) => config.pointer_mut(part),
        };
        if let Some(config) = config {
            clean(config);
            match config.get_mut("tie_word_embeddings") {
                Some(tied) if !model.tied => *tied = json!(false),
                _ => {}
            }
        }
    }
    if let Some(config) = config.as_object_mut() {
        config.insert(
            "quantization_config".to_owned(),
            quantization(scheme, ignored),
        );
    }
    format!("{config:#}\n")
}

/// Removes an earlier quantization, and replaces a 32-bit type by the 16-bit one that is written.
fn clean(config: &mut Json) {
    let Some(config) = config.as_object_mut() else {
        return;
    };
    for key in ["quantization_config", "compression_config", "quantization"] {
        config.shift_remove(key);
    }
    for key in ["torch_dtype", "dtype"] {
        if let Some(dtype) = config.get_mut(key)
            && matches!(dtype.as_str(), Some("float32" | "float64"))
        {
            *dtype = json!("bfloat16");
        }
    }
}

fn quantization(scheme: &Scheme, ignored: &[String]) -> Json {
    let weights = |bits: u64, kind: &str, strategy: &str, group: Json| {
        json!({
            "actorder": null, "block_structure": null, "dynamic": false, "group_size": group,
            "num_bits": bits, "observer": "mse", "observer_kwargs": {}, "strategy": strategy,
            "symmetric": true, "type": kind
        })
    };
    let (format, weights, activations) = match scheme.groups {
        Some(groups) => {
            let mut weights = weights(4, "int", "group", json!(groups.size));
            weights["symmetric"] = json!(!groups.zeros);
            ("pack-quantized", weights, Json::Null)
        }
        None => {
            let activations = json!({
                "actorder": null, "block_structure": null, "dynamic": true, "group_size": null,
                "num_bits": 8, "observer": null, "observer_kwargs": {}, "strategy": "token",
                "symmetric": true, "type": "float"
            });
            let mut weights = weights(8, "float", "channel", Json::Null);
            weights["observer"] = json!("minmax");
            ("float-quantized", weights, activations)
        }
    };
    json!({
        "config_groups": {"group_0": {
            "format": format,
            "input_activations": activations,
            "output_activations": null,
            "targets": ["Linear"],
            "weights": weights
        }},
        "format": format,
        "global_compression_ratio": null,
        "ignore": ignored,
        "kv_cache_scheme": null,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "version": VERSION
    })
}
