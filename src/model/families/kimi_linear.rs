//! Kimi-Linear: three blocks with a delta net whose decays are of each key element (KDA) for each one with latent attention
//! (MLA) without positions; leading dense blocks, then routed and shared experts.
//!
//! Sources: `modeling_kimi_linear.py` of Transformers; `src/models/kimi-linear.cpp` and `conversion/kimi_linear.py` of
//! llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{LEADING_DENSE, NEEDS_EXPERT_WIDTH, RMS_NORM};
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, PLAIN, RotatedBlocks};
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed, read};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Layer, ModelSpec, Recurrent, RecurrentKind};

pub(super) static KIMI_LINEAR: Arch = Arch {
    name: "kimi-linear",
    classes: &["KimiLinearForCausalLM"],
    model_types: &["kimi_linear"],
    forward: Some(ArchTraits {
        rotated: RotatedBlocks::None,
        states_routing: true,
        ..PLAIN
    }),
    layers: kimi_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        PROJECTIONS,
        LATENTS,
        KDA,
        GATED_FFN,
        ROUTED,
        SHARED,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, ROUTING, HEAD_DIM_IF_STATED, FILE_TYPE, KIMI_KEYS],
        weights: &[DECAY, KEYS_OF_LATENTS, VALUES_OF_LATENTS],
        ..Conversion::USUAL
    }),
    quirks: Quirks::NONE.vllm_full_states(),
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH, LEADING_DENSE, KIMI_LOADED],
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::NoRope,
            LoaderRule::UnevenHeads,
            LoaderRule::Routed,
        ],
        needs_biases: &[R::SsmDt, R::FfnRouterBias],
        optional: &[R::FfnGateShared, R::FfnUpShared, R::FfnDownShared],
        ..Loader::USUAL
    },
    ..USUAL
};

const ROUTING: &[KeyRule] = &[
    KeyRule::count(Key::ExpertGroupsUsed),
    KeyRule::Derived(Derived::SigmoidScores),
];

/// The keys of the last two groups of a block, of which `config.json` states some in an object of their own.
const KIMI_KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::Derived(Derived::KvHeadsByBlock),
    KeyRule::count(Key::ConvKernel).or(|model| Some(first(model, R::SsmConv1dQ)?.1)),
    KeyRule::count(Key::KdaHeadDim).or(|model| Some(first(model, R::SsmFA)?.0)),
    KeyRule::count(Key::KvLora),
    KeyRule::count(Key::RopeDim),
    KeyRule::Derived(Derived::LatentKeyWidth),
    KeyRule::Derived(Derived::WholeKeyWidth),
    KeyRule::count(Key::MlaValueDim),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::SharedExperts),
    KeyRule::count(Key::LeadingDense),
    KeyRule::Number(Number::ExpertScale),
];

/// The outermost and the innermost dimension of the first tensor of `role`.
fn first(model: &ModelSpec, role: R) -> Option<(u64, u64)> {
    let tensor = model.tensors.iter().find(|t| t.role == role)?;
    Some((*tensor.shape.first()?, tensor.row()))
}

const KIMI_LOADED: &[LoaderKeys] = &[
    needed(
        ValueForm::Count,
        &[
            "attention.key_length_mla",
            "attention.value_length_mla",
            "attention.kv_lora_rank",
            "ssm.conv_kernel",
            "kda.head_dim",
            "expert_shared_count",
            "expert_gating_func",
        ],
    ),
    read(ValueForm::Float, &["expert_weights_scale"]),
];

// --- tensors --------------------------------------------------------------------------------------

/// Elements of all heads of a delta net.
fn width(p: &RowSite<'_>) -> u64 {
    let state = p.layer.mixer.recurrent.as_ref();
    state.map_or(0, |state| state.inner / 3)
}

/// Elements of one of them: the state of a head is a square.
fn head(p: &RowSite<'_>) -> u64 {
    let state = p.layer.mixer.recurrent.as_ref();
    state.map_or(0, |state| state.state_elements / width(p).max(1))
}

fn kernel(p: &RowSite<'_>) -> u64 {
    let state = p.layer.mixer.recurrent.as_ref();
    state.map_or(0, |state| state.conv_elements / state.inner.max(1) + 1)
}

/// The projections that blocks of both kinds have under the same names.
const PROJECTIONS: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        let rows = match is_recurrent(p) {
            true => width(p),
            false => heads(p).saturating_mul(p.params.nope_dim + p.params.rope_dim),
        };
        vec![rows, p.dims.hidden]
    }),
    TensorRow::weight(R::AttnK, &["layers.{}.self_attn.k_proj.weight"], |p| {
        vec![width(p), p.dims.hidden]
    })
    .when(is_recurrent),
    TensorRow::weight(R::AttnV, &["layers.{}.self_attn.v_proj.weight"], |p| {
        vec![width(p), p.dims.hidden]
    })
    .when(is_recurrent),
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        let columns = match is_recurrent(p) {
            true => width(p),
            false => heads(p).saturating_mul(p.params.mla_value_dim),
        };
        vec![p.dims.hidden, columns]
    }),
];

const LATENTS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnKvAMqa,
        &["layers.{}.self_attn.kv_a_proj_with_mqa.weight"],
        |p| vec![p.params.kv_lora + p.params.rope_dim, p.dims.hidden],
    )
    .when(has_attention),
    TensorRow::weight(
        R::AttnKvANorm,
        &["layers.{}.self_attn.kv_a_layernorm.weight"],
        |p| vec![p.params.kv_lora],
    )
    .when(has_attention),
    TensorRow::weight(R::AttnKB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.kv_lora, p.params.nope_dim]
    })
    .when(has_attention),
    TensorRow::weight(R::AttnVB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.mla_value_dim, p.params.kv_lora]
    })
    .when(has_attention),
];

const fn of_net(
    role: R,
    names: &'static [&'static str],
    shape: fn(&RowSite<'_>) -> Vec<u64>,
) -> TensorRow {
    TensorRow::weight(role, names, shape).when(is_recurrent)
}

fn convolved(p: &RowSite<'_>) -> Vec<u64> {
    vec![1, width(p), 1, kernel(p)]
}

fn down(p: &RowSite<'_>) -> Vec<u64> {
    vec![head(p), p.dims.hidden]
}

fn up(p: &RowSite<'_>) -> Vec<u64> {
    vec![width(p), head(p)]
}

fn net_heads(p: &RowSite<'_>) -> u64 {
    width(p) / head(p).max(1)
}

const KDA: &[TensorRow] = &[
    of_net(
        R::SsmConv1dQ,
        &["layers.{}.self_attn.q_conv1d.weight"],
        convolved,
    ),
    of_net(
        R::SsmConv1dK,
        &["layers.{}.self_attn.k_conv1d.weight"],
        convolved,
    ),
    of_net(
        R::SsmConv1dV,
        &["layers.{}.self_attn.v_conv1d.weight"],
        convolved,
    ),
    of_net(R::SsmFA, &["layers.{}.self_attn.f_a_proj.weight"], down),
    of_net(R::SsmFB, &["layers.{}.self_attn.f_b_proj.weight"], up),
    of_net(R::SsmBeta, &["layers.{}.self_attn.b_proj.weight"], |p| {
        vec![net_heads(p), p.dims.hidden]
    }),
    of_net(R::SsmA, &["layers.{}.self_attn.A_log"], |p| {
        vec![1, 1, net_heads(p), 1]
    })
    .part(""),
    TensorRow::bias(R::SsmDt, &["layers.{}.self_attn.dt_bias"], |p| {
        vec![width(p)]
    })
    .when(is_recurrent),
    of_net(R::SsmGA, &["layers.{}.self_attn.g_a_proj.weight"], down),
    of_net(R::SsmGB, &["layers.{}.self_attn.g_b_proj.weight"], up),
    of_net(R::SsmNorm, &["layers.{}.self_attn.o_norm.weight"], |p| {
        vec![head(p)]
    }),
];

const ROUTED: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &["layers.{}.block_sparse_moe.gate.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::bias(
        R::FfnRouterBias,
        &["layers.{}.block_sparse_moe.gate.e_score_correction_bias"],
        |p| vec![experts(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &["layers.{}.block_sparse_moe.experts.{}.w1.weight"],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &["layers.{}.block_sparse_moe.experts.{}.w3.weight"],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &["layers.{}.block_sparse_moe.experts.{}.w2.weight"],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

const SHARED: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGateShared,
        &["layers.{}.block_sparse_moe.shared_experts.gate_proj.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnUpShared,
        &["layers.{}.block_sparse_moe.shared_experts.up_proj.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnDownShared,
        &["layers.{}.block_sparse_moe.shared_experts.down_proj.weight"],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];

// --- blocks ---------------------------------------------------------------------------------------

/// The object of `config.json` that describes the delta nets.
const NETS: &str = "linear_attn_config";

/// Delta nets of `heads` heads of `head` elements, whose queries, keys and values pass a convolution of `kernel` each.
fn net(heads: u64, head: u64, kernel: u64) -> Recurrent {
    let inner = heads.saturating_mul(head).saturating_mul(3);
    Recurrent {
        kind: RecurrentKind::DeltaNet,
        conv_elements: inner.saturating_mul(kernel.saturating_sub(1)),
        state_elements: heads.saturating_mul(head).saturating_mul(head),
        inner,
    }
}

/// Blocks that the configuration does not list as attention are delta nets; in a GGUF those without key-value heads.
fn kimi_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let heads = hparams.need(Key::Heads)?;
    let mut layers = if hparams.is_hugging_face() {
        only_built_in(hparams)?;
        let number = |key: &str| {
            let value = hparams.json(NETS).and_then(|nets| nets.get(key)?.as_u64());
            let value = value.filter(|n| (1..1 << 31).contains(n));
            value.ok_or_else(|| ModelError::MissingKey {
                key: format!("{NETS}.{key}"),
            })
        };
        let own = number("num_heads")?;
        if own != heads {
            return Err(ModelError::Unsupported {
                key: format!("{NETS}.num_heads"),
                found: format!("{own}, not the {heads} of `num_attention_heads`,"),
                architecture: "kimi-linear",
            });
        }
        let attending = attending(hparams)?;
        let state = net(own, number("head_dim")?, number("short_conv_kernel_size")?);
        interleaved(hparams, &state, |block, _| !attending.contains(&block))?
    } else {
        let state = net(
            heads,
            hparams.need(Key::KdaHeadDim)?,
            hparams.need(Key::ConvKernel)?,
        );
        interleaved(hparams, &state, |_, attention| attention.kv_heads == 0)?
    };
    let latent = hparams.need(Key::KvLora)? + hparams.need(Key::RopeDim)?;
    for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
        if hparams.is_hugging_face() {
            attention.kv_heads = 1;
            attention.key_dim = latent;
        }
        if attention.key_dim != latent {
            return Err(ModelError::BadValue {
                key: hparams.name(Key::HeadDim),
            });
        }
        attention.value_dim = 0;
    }
    Ok(layers)
}

/// The blocks with attention, which a `config.json` counts from 1. Every other one must be listed as a delta net.
fn attending(hparams: &HParams<'_>) -> Result<Vec<usize>, ModelError> {
    let blocks = block_count(hparams)?;
    let listed = |key: &str| {
        let list = hparams
            .json(NETS)
            .and_then(|nets| nets.get(key)?.as_array());
        let list = list.ok_or_else(|| ModelError::MissingKey {
            key: format!("{NETS}.{key}"),
        })?;
        let place = |n: &Json| {
            let n = usize::try_from(n.as_u64()?).ok()?;
            n.checked_sub(1).filter(|&n| n < blocks)
        };
        let places: Option<Vec<usize>> = list.iter().map(place).collect();
        places.ok_or_else(|| ModelError::BadValue {
            key: format!("{NETS}.{key}"),
        })
    };
    let (attending, nets) = (listed("full_attn_layers")?, listed("kda_layers")?);
    match (0..blocks).find(|n| attending.contains(n) == nets.contains(n)) {
        None => Ok(attending),
        Some(block) => Err(ModelError::Contradiction {
            what: format!(
                "`{NETS}` lists block {} as both kinds or as none",
                block + 1
            ),
        }),
    }
}

/// Refuses what llama.cpp has built in otherwise.
fn only_built_in(hparams: &HParams<'_>) -> Result<(), ModelError> {
    let built_in = [
        ("mla_use_nope", Json::Bool(true)),
        ("moe_renormalize", Json::Bool(true)),
        ("moe_router_activation_func", Json::from("sigmoid")),
        ("moe_layer_freq", Json::from(1)),
        ("num_expert_group", Json::from(1)),
        ("q_lora_rank", Json::Null),
    ];
    for (key, value) in built_in {
        match hparams.json(key) {
            Some(stated) if *stated != value && !stated.is_null() => {
                return Err(ModelError::Unsupported {
                    key: key.to_owned(),
                    found: stated.to_string(),
                    architecture: "kimi-linear",
                });
            }
            _ => {}
        }
    }
    Ok(())
}
