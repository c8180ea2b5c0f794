//! Mamba 1 and Falcon-Mamba: blocks of one selective scan, without attention and feed-forward.
//!
//! Sources: `modeling_mamba.py`, `modeling_falcon_mamba.py` of Transformers; `src/models/mamba.cpp`, `mamba-base.cpp` and
//! `conversion/mamba.py` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{RMS_NORM, SCAN};
use super::mamba2::STATE_SPACES_ALONE;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, NORMED_STEPS, ValueForm, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer, Mixer, ModelSpec, Recurrent, RecurrentKind};

pub(super) static MAMBA: Arch = Arch {
    name: "mamba",
    classes: &["MambaForCausalLM"],
    model_types: &["mamba"],
    forward: Some(PLAIN),
    layers: mamba_layers,
    tensors: &[EMBEDDING_AND_HEAD, NORM, SELECTIVE_SCAN],
    conversion: Some(Conversion {
        keys: &[STATE_SPACES_ALONE, KEYS, UNNORMED, FILE_TYPE],
        weights: &[DECAY],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, SCAN, OPTIONAL_NORMED],
        rules: &[LoaderRule::NoRope, LoaderRule::MixerTwiceAsWide],
        needs_biases: SCAN_BIASES,
        ..Loader::USUAL
    },
    ..USUAL
};

/// Its time steps, `B` and `C` are normed, without weights. llama.cpp does so with the epsilon of the other norms;
/// `mixer_rms_eps`, which the class has for these, has no place in a GGUF.
pub(super) static FALCON_MAMBA: Arch = Arch {
    classes: &["FalconMambaForCausalLM"],
    model_types: &["falcon_mamba"],
    conversion: Some(Conversion {
        keys: &[STATE_SPACES_ALONE, KEYS, NORMED, FILE_TYPE],
        weights: &[DECAY],
        ..Conversion::USUAL
    }),
    ..MAMBA
};

const KEYS: &[KeyRule] = &[TIME_STEP_RANK, KeyRule::Derived(Derived::RmsEpsilon)];

/// The width of the projection that time steps are computed from: as stated, or as stored.
pub(super) const TIME_STEP_RANK: KeyRule = KeyRule::count(Key::TimeStepRank).or(step_rank);

fn step_rank(model: &ModelSpec) -> Option<u64> {
    let mut tensors = model.tensors.iter();
    let weight = tensors.find(|t| t.role == R::SsmDt && t.is_weight())?;
    Some(weight.row())
}

const UNNORMED: &[KeyRule] = &[normed_steps(false)];
const NORMED: &[KeyRule] = &[normed_steps(true)];

const fn normed_steps(are: bool) -> KeyRule {
    KeyRule::Flag {
        key: NORMED_STEPS,
        from: None,
        or: are,
    }
}

const OPTIONAL_NORMED: &[LoaderKeys] = &[read(ValueForm::Flag, &[NORMED_STEPS])];

/// Biases that llama.cpp needs of a selective scan.
pub(super) const SCAN_BIASES: &[R] = &[R::SsmConv1d, R::SsmDt];

const NORM: &[TensorRow] = &[TensorRow::weight(
    R::AttnNorm,
    &["layers.{}.norm.weight"],
    hidden,
)];

/// A selective scan. Jamba calls it `mamba`.
pub(super) const SELECTIVE_SCAN: &[TensorRow] = &[
    TensorRow::weight(
        R::SsmIn,
        &[
            "layers.{}.mixer.in_proj.weight",
            "layers.{}.mamba.in_proj.weight",
        ],
        |p| vec![channels(p).saturating_mul(2), p.dims.hidden],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmConv1d,
        &[
            "layers.{}.mixer.conv1d.weight",
            "layers.{}.mamba.conv1d.weight",
        ],
        |p| vec![channels(p), p.params.conv_kernel],
    )
    .when(is_recurrent),
    TensorRow::bias(
        R::SsmConv1d,
        &["layers.{}.mixer.conv1d.bias", "layers.{}.mamba.conv1d.bias"],
        |p| vec![channels(p)],
    )
    .when(|p| is_recurrent(p) && p.params.conv_bias),
    TensorRow::weight(
        R::SsmX,
        &[
            "layers.{}.mixer.x_proj.weight",
            "layers.{}.mamba.x_proj.weight",
        ],
        |p| {
            let both = p.params.state_size.saturating_mul(2);
            vec![p.params.time_step_rank.saturating_add(both), channels(p)]
        },
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmDt,
        &[
            "layers.{}.mixer.dt_proj.weight",
            "layers.{}.mamba.dt_proj.weight",
        ],
        |p| vec![channels(p), p.params.time_step_rank],
    )
    .when(is_recurrent),
    TensorRow::bias(
        R::SsmDt,
        &[
            "layers.{}.mixer.dt_proj.bias",
            "layers.{}.mamba.dt_proj.bias",
        ],
        |p| vec![channels(p)],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmA,
        &["layers.{}.mixer.A_log", "layers.{}.mamba.A_log"],
        |p| vec![channels(p), p.params.state_size],
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(R::SsmD, &["layers.{}.mixer.D", "layers.{}.mamba.D"], |p| {
        vec![channels(p)]
    })
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmOut,
        &[
            "layers.{}.mixer.out_proj.weight",
            "layers.{}.mamba.out_proj.weight",
        ],
        |p| vec![p.dims.hidden, channels(p)],
    )
    .when(is_recurrent),
];

/// Channels of the scan, each of which keeps a state of its own.
fn channels(p: &RowSite<'_>) -> u64 {
    let state = p.layer.mixer.recurrent.as_ref();
    let elements = state.map_or(0, |state| state.state_elements);
    elements / p.params.state_size.max(1)
}

fn mamba_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    for key in ["use_bias", "use_conv_bias"] {
        let usual = key == "use_conv_bias";
        refuse(hparams, "mamba", key, |stated| stated != usual)?;
    }
    // The stated width counts, whatever multiple of the hidden size is stated beside it.
    let inner = match hparams.get(Key::Ffn)?.filter(|_| hparams.is_hugging_face()) {
        Some(stated) => stated,
        None => ssm_inner(hparams)?,
    };
    let block = Layer {
        mixer: Mixer {
            attention: None,
            recurrent: Some(selective_scan(hparams, inner)?),
        },
        feed_forward: FeedForward::None,
    };
    Ok(vec![block; block_count(hparams)?])
}

/// The state of a selective scan over `inner` channels: a window of its convolution, and `state_size` numbers for each
/// channel.
pub(super) fn selective_scan(hparams: &HParams<'_>, inner: u64) -> Result<Recurrent, ModelError> {
    let inner = match inner {
        0 => return Err(hparams.missing(Key::SsmInner)),
        inner => inner,
    };
    let window = hparams.need(Key::ConvKernel)? - 1;
    Ok(Recurrent {
        kind: RecurrentKind::Scan,
        conv_elements: window.saturating_mul(inner),
        state_elements: hparams.need(Key::StateSize)?.saturating_mul(inner),
        inner: inner.saturating_mul(2),
    })
}
