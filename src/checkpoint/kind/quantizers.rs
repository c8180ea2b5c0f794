//! Quantization methods of Hugging Face checkpoints, by `quant_method`: those that are read, and names for the others.

use serde_json::Value as Json;

use super::{KindEvidence, OtherKind, quoted};

/// Methods whose weights are read.
const READ: &[&str] = &[
    "auto-round",
    "awq",
    "bitsandbytes",
    "compressed-tensors",
    "fbgemm_fp8",
    "fp8",
    "gptq",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
];

/// What to do with weights that were made from a published model of 16 bits.
const ORIGINAL: &str = "give the 16-bit model that it was made from, and `orinplan quantize` makes a GGUF, INT4 or FP8 from it";

/// What to do with packed weights of three values: the model was trained so, and has no others.
const TERNARY: &str = "no runtime here reads its weights: run it with Transformers or bitnet.cpp";

/// Methods that are recognised and not read, with a description and what to do.
const UNREAD: &[(&str, &str, &str)] = &[
    ("aqlm", "AQLM, additive codebooks", ORIGINAL),
    ("auto_round", "AutoRound", ORIGINAL),
    ("bitnet", "BitNet, ternary weights", TERNARY),
    ("eetq", "EETQ, 8-bit integers", ORIGINAL),
    ("exl2", "ExLlamaV2's mixed bits", ORIGINAL),
    ("exl3", "ExLlamaV3's trellis codes", ORIGINAL),
    (
        "fp_quant",
        "FP-Quant, 4-bit floats in a rotated space",
        ORIGINAL,
    ),
    ("gguf", "a GGUF inside a Hugging Face directory", ORIGINAL),
    ("higgs", "HIGGS, a grid in a rotated space", ORIGINAL),
    ("hqq", "HQQ, half-quadratic quantization", ORIGINAL),
    ("metal", "integers for Apple's GPUs", ORIGINAL),
    ("quanto", "Quanto", ORIGINAL),
    ("quark", "AMD's Quark", ORIGINAL),
    ("sinq", "SINQ", ORIGINAL),
    (
        "spqr",
        "SpQR, sparse outliers beside quantized weights",
        ORIGINAL,
    ),
    ("torchao", "torchao", ORIGINAL),
    ("vptq", "VPTQ, vector codebooks", ORIGINAL),
];

/// Prefixes of the ModelOpt algorithms (`quant_algo`) that are read.
const MODELOPT: &[&str] = &["FP8", "NVFP4", "MXFP4", "MIXED_PRECISION"];

/// Parts of the names of those that scale the inputs of layers or add to their outputs.
const SCALED_INPUTS: &[&str] = &["AWQ", "SVD"];

/// Layouts of compressed-tensors that are read.
const COMPRESSED: &[&str] = &[
    "dense",
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
];

/// Whether the weights of a model with these settings are stored in 16 bits, and rounded when it runs (BitNet's `online`
/// mode; its packed weights are `offline`).
pub fn is_quantized_as_it_runs(config: &Json) -> bool {
    let is = |key, word| config.get(key).is_some_and(|stated| stated == word);
    is("quant_method", "bitnet") && is("quantization_mode", "online")
}

pub(super) fn unread(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let what = by_config(seen).or_else(|| by_tensors(seen))?;
    let method = seen.stated("quantization_config").and_then(method);
    let listed = UNREAD.iter().find(|(name, ..)| method == Some(*name));
    Some(OtherKind::new(
        format!("a model quantized with {what}, which is not supported"),
        listed.map_or(ORIGINAL, |(_, _, way_out)| *way_out),
    ))
}

fn method(config: &Json) -> Option<&str> {
    config.get("quant_method")?.as_str()
}

fn by_config(seen: &KindEvidence<'_>) -> Option<String> {
    let stated = ["quantization_config", "compression_config"]
        .into_iter()
        .find_map(|key| seen.stated(key).filter(|config| !config.is_null()));
    if let Some(name) = stated.filter(|config| !config.is_object()) {
        let name = quoted(name.as_str().unwrap_or(&name.to_string()));
        return Some(format!(
            "{name}, whose settings are missing from `quantization_config`"
        ));
    }
    let config = stated.or_else(|| seen.quantization?.get("quantization"))?;
    let word = |key: &str| config.get(key).and_then(Json::as_str);
    let sparsity = config.get("sparsity_config");
    let sparse = sparsity.and_then(|sparsity| sparsity.get("format")?.as_str());
    if let Some(format) = sparse.filter(|format| *format != "dense") {
        return Some(format!(
            "compressed-tensors in the sparse layout {}",
            quoted(format)
        ));
    }
    if turns_inputs(config) {
        return Some("compressed-tensors and transforms of the inputs of its layers".to_owned());
    }
    let (method, algorithm) = (word("quant_method"), word("quant_algo"));
    match (method, algorithm) {
        (Some("modelopt" | "modelopt_fp4") | None, Some(algorithm))
            if !MODELOPT.iter().any(|start| algorithm.starts_with(start))
                || SCALED_INPUTS.iter().any(|part| algorithm.contains(part)) =>
        {
            Some(format!("ModelOpt's {}", quoted(algorithm)))
        }
        (Some("compressed-tensors"), _) => {
            let format = word("format").filter(|format| !COMPRESSED.contains(format))?;
            Some(format!(
                "compressed-tensors in the layout {}",
                quoted(format)
            ))
        }
        (Some(method), _) if READ.contains(&method) || is_quantized_as_it_runs(config) => None,
        (Some(method), _) => Some(match UNREAD.iter().find(|(name, ..)| *name == method) {
            Some((name, what, _)) => format!("`{name}` ({what})"),
            None => format!("{}, an unknown method", quoted(method)),
        }),
        (None, _) => None,
    }
}

/// Where a transform is applied that was multiplied into weights before they were saved.
const FUSED: [&str; 2] = ["weight_input", "weight_output"];

/// Whether a runtime has to transform what enters or leaves layers, as SpinQuant and QuIP have it: the weights alone
/// are those of another basis.
fn turns_inputs(config: &Json) -> bool {
    let groups = config.pointer("/transform_config/config_groups");
    let groups = groups.and_then(Json::as_object).into_iter().flatten();
    let applied = groups.flat_map(|(_, group)| group.get("apply").and_then(Json::as_array));
    let mut places = applied
        .flatten()
        .filter_map(|place| place.get("location")?.as_str());
    places.any(|place| !FUSED.contains(&place))
}

/// Ends of tensor names that only one method has, for weights whose configuration does not state it.
const TELLING: &[(&str, &str)] = &[
    (".W_q", "`hqq` (HQQ, half-quadratic quantization)"),
    (".weight._data", "`quanto` (Quanto)"),
    (".pre_quant_scale", "ModelOpt's AWQ"),
    (".bitmask", "compressed-tensors in a sparse layout"),
    (".trellis", "`exl3` (ExLlamaV3's trellis codes)"),
    (".q_scale_max", "`exl2` (ExLlamaV2's mixed bits)"),
    (".codebooks", "`aqlm` (AQLM, additive codebooks)"),
    (".oscales", "`spqr` or FP-Quant"),
];

fn by_tensors(seen: &KindEvidence<'_>) -> Option<String> {
    let found = |(end, _): &&(&str, &str)| seen.any_tensor(|name| name.ends_with(end));
    TELLING
        .iter()
        .find(found)
        .map(|(_, what)| (*what).to_owned())
}
