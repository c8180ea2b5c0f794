//! MiniCPM-V with a resampler: one class for text models of three architectures, told by the version. 2.6 is a Qwen 2 (whose
//! entry lists the class), 4.5 a Qwen 3, and 2.5 and 4.0 are Llamas (2.0 is a MiniCPM, and others may be anything); the text model's values are at the top level, its weights behind `llm.`.
//!
//! Sources: `modeling_minicpmv.py` beside the weights; `minicpmv-surgery.py` of llama.cpp's tools.

use super::{Variant, llama, qwen};
use crate::model::hparams::HParams;

pub(super) const QWEN3: Variant = Variant {
    of: "qwen2",
    when: |hparams| is_version(hparams, &[4.5]),
    arch: Ok(&qwen::QWEN3),
};

pub(super) const LLAMA: Variant = Variant {
    of: "qwen2",
    when: |hparams| is_version(hparams, &[2.5, 4.0]),
    arch: Ok(&llama::LLAMA),
};

pub(super) const UNLISTED: Variant = Variant {
    of: "qwen2",
    when: |hparams| is_of_class(hparams) && !is_version(hparams, &[2.6]),
    arch: Err("in versions 2.5, 2.6, 4.0 and 4.5"),
};

fn is_of_class(hparams: &HParams<'_>) -> bool {
    let stated = hparams.json("model_type");
    stated.is_some_and(|name| name == "minicpmv")
}

/// The version is a number in some files and text in others.
fn is_version(hparams: &HParams<'_>, versions: &[f64]) -> bool {
    let stated = hparams.json("version");
    let stated =
        stated.and_then(|version| version.as_f64().or_else(|| version.as_str()?.parse().ok()));
    is_of_class(hparams) && stated.is_some_and(|stated| versions.contains(&stated))
}
