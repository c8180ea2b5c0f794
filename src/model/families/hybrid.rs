//! What architectures with recurrent blocks share: the size of their state, the tensors of Mamba 2, and what llama.cpp's
//! loader needs of delta nets and Mamba 2.
//!
//! Sources: `llama_hparams::n_embd_r` and `n_embd_s` of llama.cpp's `src/llama-hparams.cpp`;
//! `modeling_granitemoehybrid.py`, `modeling_nemotron_h.py`, `modeling_falcon_h1.py` of Transformers.

use super::common::*;
use super::loader_keys::{RMS_NORM, STATE_SPACE};
use crate::model::ModelError;
use crate::model::arch::{RowSite, TensorRow};
use crate::model::hparams::{HParams, Key, truth};
use crate::model::loader::Loader;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Attention, Layer, Mixer, Recurrent, RecurrentKind};

// --- llama.cpp's loader ---------------------------------------------------------------------------

/// What llama.cpp's loaders of architectures with attention and Mamba 2 read and need.
pub(super) const MAMBA2_LOADER: Loader = Loader {
    keys: &[RMS_NORM, STATE_SPACE],
    biases: &[R::AttnOutput, R::FfnGate, R::FfnUp, R::FfnDown],
    needs_biases: &[R::SsmConv1d, R::SsmDt],
    rope_tables: &[R::RopeFreqs],
    ..Loader::USUAL
};

// --- blocks ---------------------------------------------------------------------------------------

/// Width of the state-space mixer over all heads; 0 for models without one.
///
/// It is stated, or heads x head width, or a multiple of the hidden size.
pub(in crate::model) fn ssm_inner(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    if let Some(stated) = hparams.get(Key::SsmInner)? {
        return Ok(stated);
    }
    let heads = hparams.or_zero(Key::SsmHeads)?;
    match hparams.get(Key::SsmHeadDim)? {
        Some(width) => Ok(heads.saturating_mul(width)),
        None => Ok(hparams
            .or_zero(Key::SsmExpand)?
            .saturating_mul(hparams.or_zero(Key::Hidden)?)),
    }
}

/// [`mamba2`] for a family that states both the width of the mixer (or its multiple of the hidden size) and its heads:
/// the two must agree.
pub(super) fn mamba2_of_stated_width(hparams: &HParams<'_>) -> Result<Recurrent, ModelError> {
    let heads = hparams.or_zero(Key::SsmHeads)?;
    let (stated, by) = match hparams.get(Key::SsmInner)? {
        Some(width) => (width, "`mamba_d_ssm`"),
        None => {
            let hidden = hparams.or_zero(Key::Hidden)?;
            let width = hparams.or_zero(Key::SsmExpand)?.saturating_mul(hidden);
            (width, "`mamba_expand` x `hidden_size`")
        }
    };
    let together = match hparams.get(Key::SsmHeadDim)? {
        Some(dim) => heads.saturating_mul(dim),
        None => stated / heads.max(1) * heads,
    };
    if hparams.is_hugging_face() && together != stated {
        Err(ModelError::Contradiction {
            what: format!(
                "`mamba_n_heads` ({heads}) times `mamba_d_head` ({}) is not {by} ({stated})",
                together / heads.max(1)
            ),
        })
    } else {
        mamba2(hparams)
    }
}

/// The state of a Mamba 2 block: a window of the convolution over `x`, `B` and `C`, and a matrix of
/// `inner` x `state_size`.
pub(super) fn mamba2(hparams: &HParams<'_>) -> Result<Recurrent, ModelError> {
    let state = state_space(hparams)?;
    let gate = ssm_inner(hparams)?;
    let steps = hparams.need(Key::SsmHeads)?;
    Ok(Recurrent {
        kind: RecurrentKind::StateSpace,
        inner: state.inner.saturating_add(gate).saturating_add(steps),
        ..state
    })
}

/// The state of a gated delta net, which llama.cpp sizes like that of Mamba; `inner` is the width of the fused query, key
/// and value.
pub(super) fn state_space(hparams: &HParams<'_>) -> Result<Recurrent, ModelError> {
    let inner = match ssm_inner(hparams)? {
        0 => hparams.need(Key::SsmInner)?,
        inner => inner,
    };
    let size = hparams.need(Key::StateSize)?;
    let grouped = hparams.need(Key::SsmGroups)?.saturating_mul(size);
    let channels = inner.saturating_add(grouped.saturating_mul(2));
    let window = hparams.need(Key::ConvKernel)? - 1;
    Ok(Recurrent {
        kind: RecurrentKind::DeltaNet,
        conv_elements: window.saturating_mul(channels),
        state_elements: size.saturating_mul(inner),
        inner: channels,
    })
}

/// Attention blocks, except those for which `recurrent` is true: they have `state` instead.
pub(super) fn interleaved(
    hparams: &HParams<'_>,
    state: &Recurrent,
    recurrent: impl Fn(usize, &Attention) -> bool,
) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(hparams)?;
    for (index, layer) in layers.iter_mut().enumerate() {
        if layer
            .mixer
            .attention
            .as_ref()
            .is_some_and(|a| recurrent(index, a))
        {
            layer.mixer = Mixer {
                attention: None,
                recurrent: Some(state.clone()),
            };
        }
    }
    Ok(layers)
}

/// Names of recurrent blocks in `layer_types`.
pub(in crate::model) const RECURRENT_KINDS: &[&str] = &["linear_attention", "mamba", "conv"];

/// The name of each block's kind in `config.json`; `None` for a GGUF or if it lists none.
pub(super) fn block_types<'a>(hparams: &HParams<'a>) -> Option<Vec<&'a str>> {
    hparams
        .words("layer_types")
        .or_else(|| hparams.words("layers_block_type"))
}

/// Refuses a flag of `config.json` that no runtime computes `architecture` with.
pub(super) fn refuse(
    hparams: &HParams<'_>,
    architecture: &'static str,
    key: &str,
    is_unknown: impl Fn(bool) -> bool,
) -> Result<(), ModelError> {
    match hparams.json(key).and_then(truth) {
        Some(stated) if is_unknown(stated) => Err(ModelError::Unsupported {
            key: key.to_owned(),
            found: stated.to_string(),
            architecture,
        }),
        _ => Ok(()),
    }
}

// --- shapes and conditions ------------------------------------------------------------------------

pub(super) fn is_recurrent(p: &RowSite<'_>) -> bool {
    p.layer.mixer.recurrent.is_some()
}

/// Channels of the convolution: the inner width, and B and C (keys and queries in a delta net) of every group.
pub(super) fn conv_channels(p: &RowSite<'_>) -> u64 {
    let grouped = p.params.ssm_groups.saturating_mul(p.params.state_size);
    p.params.ssm_inner.saturating_add(grouped.saturating_mul(2))
}

pub(super) fn ssm_heads(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.params.ssm_heads]
}

/// One number per head, as a column.
fn head_column(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.params.ssm_heads, 1]
}

pub(super) fn conv_kernel(p: &RowSite<'_>) -> Vec<u64> {
    vec![conv_channels(p), p.params.conv_kernel]
}

/// Rows of the input projection: gate, convolved channels, and a time step for each head.
fn projected(p: &RowSite<'_>) -> Vec<u64> {
    let gate_and_steps = p.params.ssm_inner.saturating_add(p.params.ssm_heads);
    vec![
        conv_channels(p).saturating_add(gate_and_steps),
        p.dims.hidden,
    ]
}

pub(super) fn ssm_out(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.hidden, p.params.ssm_inner]
}

/// The shape of the gated norm, one row for each group.
pub(super) fn grouped_norm(p: &RowSite<'_>) -> Vec<u64> {
    let groups = p.params.ssm_groups.max(1);
    vec![groups, p.params.ssm_inner / groups]
}

fn has_conv_bias(p: &RowSite<'_>) -> bool {
    is_recurrent(p) && p.params.conv_bias
}

// --- groups of tensors ----------------------------------------------------------------------------

/// A Mamba 2 mixer without its norm. Granite and Falcon call it `mamba`, Nemotron `mixer`; Zamba has it within `mamba_decoder` too.
pub(super) const MAMBA2: &[TensorRow] = &[
    TensorRow::weight(
        R::SsmIn,
        &[
            "layers.{}.mamba.in_proj.weight",
            "layers.{}.mixer.in_proj.weight",
            "layers.{}.mamba_decoder.mamba.in_proj.weight",
        ],
        projected,
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmConv1d,
        &[
            "layers.{}.mamba.conv1d.weight",
            "layers.{}.mixer.conv1d.weight",
            "layers.{}.mamba_decoder.mamba.conv1d.weight",
        ],
        conv_kernel,
    )
    .when(is_recurrent),
    TensorRow::bias(
        R::SsmConv1d,
        &[
            "layers.{}.mamba.conv1d.bias",
            "layers.{}.mixer.conv1d.bias",
            "layers.{}.mamba_decoder.mamba.conv1d.bias",
        ],
        |p| vec![conv_channels(p)],
    )
    .when(has_conv_bias),
    TensorRow::bias(
        R::SsmDt,
        &[
            "layers.{}.mamba.dt_bias",
            "layers.{}.mixer.dt_bias",
            "layers.{}.mamba_decoder.mamba.dt_bias",
        ],
        ssm_heads,
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmA,
        &[
            "layers.{}.mamba.A_log",
            "layers.{}.mixer.A_log",
            "layers.{}.mamba_decoder.mamba.A_log",
        ],
        head_column,
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmD,
        &[
            "layers.{}.mamba.D",
            "layers.{}.mixer.D",
            "layers.{}.mamba_decoder.mamba.D",
        ],
        head_column,
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmOut,
        &[
            "layers.{}.mamba.out_proj.weight",
            "layers.{}.mixer.out_proj.weight",
            "layers.{}.mamba_decoder.mamba.out_proj.weight",
        ],
        ssm_out,
    )
    .when(is_recurrent),
];

/// The gated norm behind the state space.
pub(super) const MAMBA2_NORM: &[TensorRow] = &[TensorRow::weight(
    R::SsmNorm,
    &[
        "layers.{}.mamba.norm.weight",
        "layers.{}.mixer.norm.weight",
        "layers.{}.mamba_decoder.mamba.norm.weight",
    ],
    grouped_norm,
)
.when(is_recurrent)];
