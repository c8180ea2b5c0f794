//! Groups of tensors that architectures share.

use super::shapes::*;
use crate::model::arch::TensorRow;
use crate::model::role::TensorRole as R;

/// Embedding, final norm and output head.
pub(in super::super) const EMBEDDING_AND_HEAD: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows),
    TensorRow::weight(R::OutputNorm, &["norm.weight"], hidden),
    TensorRow::weight(R::Output, &["lm_head.weight"], vocab_rows).when(untied),
];

/// The two norms of a pre-norm block.
pub(in super::super) const PRE_NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::FfnNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
];

/// Biases of LayerNorms.
pub(in super::super) const NORM_BIASES: &[TensorRow] = &[
    TensorRow::bias(R::OutputNorm, &["norm.bias"], hidden),
    TensorRow::bias(R::AttnNorm, &["layers.{}.input_layernorm.bias"], hidden),
    TensorRow::bias(
        R::FfnNorm,
        &["layers.{}.post_attention_layernorm.bias"],
        hidden,
    ),
];

/// Separate query, key, value and output projections.
pub(in super::super) const ATTENTION: &[TensorRow] = &[
    QUERY_PROJECTION,
    KEY_PROJECTION,
    VALUE_PROJECTION,
    OUTPUT_PROJECTION,
];

pub(in super::super) const QUERY_PROJECTION: TensorRow =
    TensorRow::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![query_width(p), p.dims.hidden]
    })
    .when(has_attention);

pub(in super::super) const KEY_PROJECTION: TensorRow =
    TensorRow::weight(R::AttnK, &["layers.{}.self_attn.k_proj.weight"], |p| {
        vec![key_width(p), p.dims.hidden]
    })
    .when(has_attention);

pub(in super::super) const VALUE_PROJECTION: TensorRow =
    TensorRow::weight(R::AttnV, &["layers.{}.self_attn.v_proj.weight"], |p| {
        vec![value_width(p), p.dims.hidden]
    })
    .when(has_attention);

/// The projection of the attention's output.
pub(in super::super) const OUTPUT_PROJECTION: TensorRow = TensorRow::weight(
    R::AttnOutput,
    &[
        "layers.{}.self_attn.o_proj.weight",
        "layers.{}.self_attn.out_proj.weight",
    ],
    |p| vec![p.dims.hidden, query_width(p)],
)
.when(has_attention);

/// Biases on query, key and value.
pub(in super::super) const QKV_BIAS: &[TensorRow] = &[
    TensorRow::bias(R::AttnQ, &["layers.{}.self_attn.q_proj.bias"], |p| {
        vec![query_width(p)]
    })
    .when(has_attention_bias),
    TensorRow::bias(R::AttnK, &["layers.{}.self_attn.k_proj.bias"], |p| {
        vec![key_width(p)]
    })
    .when(has_attention_bias),
    TensorRow::bias(R::AttnV, &["layers.{}.self_attn.v_proj.bias"], |p| {
        vec![value_width(p)]
    })
    .when(has_attention_bias),
];

/// Biases on query, key and value of architectures that always have them, without a key in the configuration.
pub(in super::super) const ALWAYS_QKV_BIAS: &[TensorRow] = &[
    TensorRow::bias(R::AttnQ, &["layers.{}.self_attn.q_proj.bias"], |p| {
        vec![query_width(p)]
    }),
    TensorRow::bias(R::AttnK, &["layers.{}.self_attn.k_proj.bias"], |p| {
        vec![key_width(p)]
    }),
    TensorRow::bias(R::AttnV, &["layers.{}.self_attn.v_proj.bias"], |p| {
        vec![value_width(p)]
    }),
];

/// A bias on the attention output.
pub(in super::super) const OUTPUT_BIAS: &[TensorRow] =
    &[
        TensorRow::bias(R::AttnOutput, &["layers.{}.self_attn.o_proj.bias"], hidden)
            .when(has_attention_bias),
    ];

/// Norms on each query and key head.
pub(in super::super) const QK_NORM: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQNorm,
        &["layers.{}.self_attn.q_norm.weight"],
        key_head,
    )
    .when(has_attention),
    TensorRow::weight(
        R::AttnKNorm,
        &["layers.{}.self_attn.k_norm.weight"],
        key_head,
    )
    .when(has_attention),
];

/// A gated feed-forward.
pub(in super::super) const GATED_FFN: &[TensorRow] = &[
    TensorRow::weight(R::FfnGate, &["layers.{}.mlp.gate_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    })
    .when(is_dense),
];

/// The same of classes that call it `feed_forward`.
pub(in super::super) const FEED_FORWARD: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGate,
        &["layers.{}.feed_forward.gate_proj.weight"],
        |p| vec![inner(p), p.dims.hidden],
    )
    .when(is_dense),
    TensorRow::weight(R::FfnUp, &["layers.{}.feed_forward.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(
        R::FfnDown,
        &["layers.{}.feed_forward.down_proj.weight"],
        |p| vec![p.dims.hidden, inner(p)],
    )
    .when(is_dense),
];

/// Biases of a gated feed-forward.
pub(in super::super) const GATED_FFN_BIAS: &[TensorRow] = &[
    TensorRow::bias(R::FfnGate, &["layers.{}.mlp.gate_proj.bias"], |p| {
        vec![inner(p)]
    })
    .when(is_dense_with_bias),
    TensorRow::bias(R::FfnUp, &["layers.{}.mlp.up_proj.bias"], |p| {
        vec![inner(p)]
    })
    .when(is_dense_with_bias),
    TensorRow::bias(R::FfnDown, &["layers.{}.mlp.down_proj.bias"], hidden).when(is_dense_with_bias),
];

/// Routed experts, stacked in GGUF. Checkpoints store one matrix per expert, or stacks with gate and up fused.
pub(in super::super) const EXPERTS: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &["layers.{}.mlp.gate.weight", "layers.{}.mlp.gate.wg.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.mlp.experts.{}.gate_proj.weight",
            "layers.{}.mlp.switch_mlp.gate_proj.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.mlp.experts.{}.up_proj.weight",
            "layers.{}.mlp.switch_mlp.up_proj.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.mlp.experts.{}.down_proj.weight",
            "layers.{}.mlp.switch_mlp.down_proj.weight",
            "layers.{}.mlp.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

/// The shared expert, which every token uses in addition to the routed ones.
pub(in super::super) const SHARED_EXPERT: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGateShared,
        &[
            "layers.{}.mlp.shared_expert.gate_proj.weight",
            "layers.{}.mlp.shared_experts.gate_proj.weight",
            "layers.{}.mlp.shared_mlp.gate_proj.weight",
        ],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnUpShared,
        &[
            "layers.{}.mlp.shared_expert.up_proj.weight",
            "layers.{}.mlp.shared_experts.up_proj.weight",
            "layers.{}.mlp.shared_mlp.up_proj.weight",
        ],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnDownShared,
        &[
            "layers.{}.mlp.shared_expert.down_proj.weight",
            "layers.{}.mlp.shared_experts.down_proj.weight",
            "layers.{}.mlp.shared_mlp.down_proj.weight",
        ],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];

/// One frequency factor per rotary pair, which conversion computes from `rope_scaling`.
pub(in super::super) const ROPE_FREQS: &[TensorRow] =
    &[
        TensorRow::weight(R::RopeFreqs, &[], |p| vec![p.params.rope_factors])
            .when(|p| p.params.rope_factors > 0),
    ];

/// One factor per rotary pair for long contexts and one for short, from `rope_scaling`.
pub(in super::super) const ROPE_FACTORS: &[TensorRow] = &[
    TensorRow::weight(R::RopeFactorsLong, &[], |p| vec![p.params.rope_factors])
        .when(|p| p.params.rope_factors > 0),
    TensorRow::weight(R::RopeFactorsShort, &[], |p| vec![p.params.rope_factors])
        .when(|p| p.params.rope_factors > 0),
];
