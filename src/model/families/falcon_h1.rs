//! Falcon-H1: attention and Mamba 2 side by side in every block.
//!
//! Sources: `modeling_falcon_h1.py` of Transformers; `src/models/falcon-h1.cpp` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::hparams::HParams;
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

pub(super) static FALCON_H1: Arch = Arch {
    name: "falcon-h1",
    classes: &["FalconH1ForCausalLM"],
    model_types: &["falcon_h1"],
    layers: parallel_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        MAMBA2,
        OPTIONAL_NORM,
        FFN,
    ],
    loader: MAMBA2_LOADER,
    ..USUAL
};

/// llama.cpp stores the second norm under a name without a suffix.
const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.pre_ff_layernorm.weight"], hidden).part(""),
];

const OPTIONAL_NORM: &[TensorRow] =
    &[
        TensorRow::weight(R::SsmNorm, &["layers.{}.mamba.norm.weight"], grouped_norm)
            .when(|p| p.params.ssm_norm),
    ];

const FFN: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGate,
        &["layers.{}.feed_forward.gate_proj.weight"],
        |p| vec![inner(p), p.dims.hidden],
    ),
    TensorRow::weight(R::FfnUp, &["layers.{}.feed_forward.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(
        R::FfnDown,
        &["layers.{}.feed_forward.down_proj.weight"],
        |p| vec![p.dims.hidden, inner(p)],
    ),
];

fn parallel_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let state = mamba2_of_stated_width(hparams)?;
    let mut layers = uniform(hparams)?;
    for layer in &mut layers {
        layer.mixer.recurrent = Some(state.clone());
    }
    Ok(layers)
}
