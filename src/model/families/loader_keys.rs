//! Groups of metadata keys that llama.cpp's loaders of several architectures read.

use crate::model::loader::{LAYER_EPSILON, LoaderKeys, SECTIONS, ValueForm::*, needed, read};

pub(super) use crate::model::loader::RMS_NORM;

/// The epsilon of LayerNorms.
pub(super) const LAYER_NORM: &[LoaderKeys] = &[needed(Float, &[LAYER_EPSILON])];
pub(super) const OPTIONAL_CLAMP: &[LoaderKeys] = &[read(Float, &["attention.clamp_kqv"])];
pub(super) const OPTIONAL_SCALES: &[LoaderKeys] = &[read(
    Float,
    &["embedding_scale", "residual_scale", "logit_scale"],
)];
pub(super) const NEEDS_WINDOW: &[LoaderKeys] = &[needed(Count, &["attention.sliding_window"])];
pub(super) const OPTIONAL_WINDOW: &[LoaderKeys] = &[read(Count, &["attention.sliding_window"])];
pub(super) const WINDOW_PATTERN: &[LoaderKeys] =
    &[read(Window, &["attention.sliding_window_pattern"])];
pub(super) const WINDOW_ROPE_BASE: &[LoaderKeys] = &[read(Float, &["rope.freq_base_swa"])];
pub(super) const OUTPUT_SOFTCAP: &[LoaderKeys] = &[read(Float, &["final_logit_softcapping"])];
pub(super) const NEEDS_SECTIONS: &[LoaderKeys] = &[needed(Sections, &[SECTIONS])];
/// The multipliers of all Granite models.
pub(super) const MULTIPLIERS: &[LoaderKeys] = &[read(
    Float,
    &["residual_scale", "embedding_scale", "attention.scale"],
)];
pub(super) const NEEDS_LOGIT_SCALE: &[LoaderKeys] = &[needed(Float, &["logit_scale"])];
pub(super) const NEEDS_EXPERT_WIDTH: &[LoaderKeys] =
    &[needed(PerBlock, &["expert_feed_forward_length"])];
pub(super) const OPTIONAL_EXPERT_WIDTH: &[LoaderKeys] =
    &[read(PerBlock, &["expert_feed_forward_length"])];
pub(super) const SHARED_EXPERT_WIDTH: &[LoaderKeys] =
    &[read(Count, &["expert_shared_feed_forward_length"])];
pub(super) const LEADING_DENSE: &[LoaderKeys] = &[read(Count, &["leading_dense_block_count"])];
pub(super) const DEEPSTACK: &[LoaderKeys] = &[read(Count, &["n_deepstack_layers"])];
pub(super) const STATE_SPACE: &[LoaderKeys] = &[needed(
    Count,
    &[
        "ssm.conv_kernel",
        "ssm.inner_size",
        "ssm.state_size",
        "ssm.time_step_rank",
        "ssm.group_count",
    ],
)];
/// A selective scan.
pub(super) const SCAN: &[LoaderKeys] = &[needed(
    Count,
    &[
        "ssm.conv_kernel",
        "ssm.inner_size",
        "ssm.state_size",
        "ssm.time_step_rank",
    ],
)];
pub(super) const RECURRENT_LAYERS: &[LoaderKeys] =
    &[read(PerBlock, &["attention.recurrent_layers"])];
pub(super) const CONVOLUTION_CACHE: &[LoaderKeys] = &[needed(Count, &["shortconv.l_cache"])];
