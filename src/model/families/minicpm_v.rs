//! MiniCPM-V with a resampler: one class for text models of three architectures, told by the version. 2.6 is a Qwen 2 (whose
//! entry lists the class), 4.5 a Qwen 3, and 2.5 and 4.0 are Llamas; the text model's values are at the top level, its weights behind `llm.`.
//!
//! Sources: `modeling_minicpmv.py` beside the weights; `minicpmv-surgery.py` of llama.cpp's tools.

use super::{Variant, llama, qwen};
use crate::model::hparams::HParams;

pub(super) const QWEN3: Variant = Variant {
    of: "qwen2",
    when: |hparams| is_version(hparams, &[4.5]),
    arch: &qwen::QWEN3,
};

pub(super) const LLAMA: Variant = Variant {
    of: "qwen2",
    when: |hparams| is_version(hparams, &[2.5, 4.0]),
    arch: &llama::LLAMA,
};

/// The version is a number in some files and text in others.
fn is_version(hparams: &HParams<'_>, versions: &[f64]) -> bool {
    let of_class = hparams
        .json("model_type")
        .is_some_and(|name| name == "minicpmv");
    let stated = hparams.json("version");
    let stated =
        stated.and_then(|version| version.as_f64().or_else(|| version.as_str()?.parse().ok()));
    of_class && stated.is_some_and(|stated| versions.contains(&stated))
}
