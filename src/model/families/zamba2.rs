//! Zamba 2: Mamba 2 in every block. Before the mixer of some blocks a transformer reads what comes in beside the token's embedding;
//! one or two of them are shared by all these blocks, each of which has adapters of its own for it and projects what it gives.
//!
//! llama.cpp has no such architecture; vLLM has. The first published files are of Zyphra's own fork of Transformers and have
//! other names: neither reads them.
//!
//! Sources: `modeling_zamba2.py` of Transformers; `zamba2.py` of vLLM; "The Zamba2 Suite" (arXiv 2411.15242).

use super::common::*;
use super::hybrid::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, Served, ServedBy, Sharing, TensorRow};
use crate::model::hparams::{HParams, Key};
use crate::model::role::TensorRole as R;
use crate::model::spec::{Attention, Cache, FeedForward, Layer, Mixer};
use crate::units::counted;

pub(super) static ZAMBA2: Arch = Arch {
    name: "zamba2",
    classes: &["Zamba2ForCausalLM"],
    model_types: &["zamba2"],
    in_llama_cpp: false,
    layers: zamba_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        AROUND,
        MAMBA2,
        MAMBA2_NORM,
        SHARED_TRANSFORMER,
        ADAPTERS,
    ],
    refusal: Some("llama.cpp has no such architecture (vLLM runs the checkpoint)"),
    served: Some(Served::By(ServedBy {
        runtime: "vllm",
        until: None,
        image_tokens: |_| None,
    })),
    ..USUAL
};

/// The kinds of blocks.
const KINDS: &str = "layers_block_type";

/// The numbers of the blocks that a transformer comes before.
fn hybrids(hparams: &HParams<'_>) -> Result<Vec<usize>, ModelError> {
    let missing = || ModelError::MissingKey {
        key: KINDS.to_owned(),
    };
    let kinds = block_types(hparams).ok_or_else(missing)?;
    let known = |kind: &&&str| ["mamba", "linear_attention", "hybrid"].contains(*kind);
    if let Some(other) = kinds.iter().find(|kind| !known(kind)) {
        return Err(ModelError::Unsupported {
            key: KINDS.to_owned(),
            found: (*other).to_owned(),
            architecture: "zamba2",
        });
    }
    let blocks = block_count(hparams)?;
    if kinds.len() != blocks {
        return Err(ModelError::BlockKinds {
            what: format!(
                "`{KINDS}` lists {} for {}",
                counted(kinds.len() as u64, "kind", "kinds"),
                counted(blocks as u64, "block", "blocks"),
            ),
        });
    }
    let all = kinds.iter().enumerate();
    Ok(all
        .filter(|(_, kind)| **kind == "hybrid")
        .map(|(block, _)| block)
        .collect())
}

fn zamba_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    refuse(hparams, "zamba2", "add_bias_linear", |stated| stated)?;
    let state = mamba2(hparams)?;
    let heads = hparams.need(Key::Heads)?;
    let width = match hparams.get(Key::HeadDim)? {
        Some(width) => width,
        // Heads are of what comes in and the embedding beside it.
        None => hparams.need(Key::Hidden)?.saturating_mul(2) / heads,
    };
    let attention = Attention {
        heads,
        kv_heads: hparams.get(Key::KvHeads)?.unwrap_or(heads),
        key_dim: width,
        value_dim: width,
        window: None,
        cache: Cache::Own,
    };
    let inner = match hparams.get(Key::Ffn)? {
        Some(inner) => inner,
        None => hparams.need(Key::Hidden)?.saturating_mul(4),
    };
    let block = Layer {
        mixer: Mixer {
            attention: None,
            recurrent: Some(state),
        },
        feed_forward: FeedForward::None,
    };
    let mut layers = vec![block; block_count(hparams)?];
    for hybrid in hybrids(hparams)? {
        if let Some(layer) = layers.get_mut(hybrid) {
            layer.mixer.attention = Some(attention.clone());
            layer.feed_forward = FeedForward::Dense { inner };
        }
    }
    Ok(layers)
}

/// The blocks that store a transformer for others too, which are the first ones; none in models of other architectures.
pub(in crate::model) fn shared_transformers(
    hparams: &HParams<'_>,
) -> Result<Vec<Sharing>, ModelError> {
    if hparams
        .stated(Key::SharedTransformers.hugging_face())
        .is_none()
    {
        return Ok(Vec::new());
    }
    let hybrids = hybrids(hparams)?;
    let stated = hparams.need(Key::SharedTransformers)?;
    let count = usize::try_from(stated).ok();
    let count = count.filter(|&n| n <= hybrids.len());
    let count = count.ok_or_else(|| ModelError::Contradiction {
        what: format!(
            "`num_mem_blocks` is {stated}, with {} of kind `hybrid` in `{KINDS}`,",
            counted(hybrids.len() as u64, "block", "blocks"),
        ),
    })?;
    let rank = hparams.need(Key::AdapterRank)?;
    let adapts_attention = hparams.flag("use_shared_attention_adapter");
    let one = |(first, block): (usize, &usize)| Sharing {
        block: *block as u64,
        users: (hybrids.len() - first).div_ceil(count) as u64,
        rank,
        adapts_attention: adapts_attention.unwrap_or(false),
    };
    Ok(hybrids.iter().take(count).enumerate().map(one).collect())
}

fn sharing<'a>(p: &RowSite<'a>) -> Option<&'a Sharing> {
    let mut all = p.params.sharing.iter();
    all.find(|sharing| sharing.block == p.block)
}

fn stores_transformer(p: &RowSite<'_>) -> bool {
    sharing(p).is_some()
}

fn stores_adapters_of_attention(p: &RowSite<'_>) -> bool {
    sharing(p).is_some_and(|sharing| sharing.adapts_attention)
}

/// The width of what a transformer reads.
fn both(p: &RowSite<'_>) -> u64 {
    p.dims.hidden.saturating_mul(2)
}

/// The first matrices of the adapters of all blocks that use the transformer, over inputs of this width.
fn down(p: &RowSite<'_>, inputs: u64) -> Vec<u64> {
    let (users, rank) = sharing(p).map_or((0, 0), |sharing| (sharing.users, sharing.rank));
    vec![users, rank, inputs]
}

/// Their second matrices, with so many outputs.
fn up(p: &RowSite<'_>, outputs: u64) -> Vec<u64> {
    let (users, rank) = sharing(p).map_or((0, 0), |sharing| (sharing.users, sharing.rank));
    vec![users, outputs, rank]
}

fn gate_and_up(p: &RowSite<'_>) -> u64 {
    inner(p).saturating_mul(2)
}

/// What stands around the mixer, one level deeper in blocks with a transformer, and the projection of what that gives.
const AROUND: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnNorm,
        &[
            "layers.{}.input_layernorm.weight",
            "layers.{}.mamba_decoder.input_layernorm.weight",
        ],
        hidden,
    ),
    TensorRow::weight(R::HybridProj, &["layers.{}.linear.weight"], |p| {
        vec![p.dims.hidden, p.dims.hidden]
    })
    .when(has_attention),
];

const SHARED_TRANSFORMER: &[TensorRow] = &[
    TensorRow::weight(
        R::SharedAttnNorm,
        &["layers.{}.shared_transformer.input_layernorm.weight"],
        |p| vec![both(p)],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedAttnQ,
        &["layers.{}.shared_transformer.self_attn.q_proj.weight"],
        |p| vec![query_width(p), both(p)],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedAttnK,
        &["layers.{}.shared_transformer.self_attn.k_proj.weight"],
        |p| vec![key_width(p), both(p)],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedAttnV,
        &["layers.{}.shared_transformer.self_attn.v_proj.weight"],
        |p| vec![value_width(p), both(p)],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedAttnOutput,
        &["layers.{}.shared_transformer.self_attn.o_proj.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedFfnNorm,
        &["layers.{}.shared_transformer.pre_ff_layernorm.weight"],
        hidden,
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedFfnUp,
        &["layers.{}.shared_transformer.feed_forward.gate_up_proj.weight"],
        |p| vec![gate_and_up(p), p.dims.hidden],
    )
    .when(stores_transformer),
    TensorRow::weight(
        R::SharedFfnDown,
        &["layers.{}.shared_transformer.feed_forward.down_proj.weight"],
        |p| vec![p.dims.hidden, inner(p)],
    )
    .when(stores_transformer),
];

/// An adapter for each block that uses a transformer, numbered among all such blocks.
const ADAPTERS: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnAdapterA,
        &["layers.{}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{}.down.weight"],
        |p| down(p, p.dims.hidden),
    )
    .scattered()
    .when(stores_transformer),
    TensorRow::weight(
        R::FfnAdapterB,
        &["layers.{}.shared_transformer.feed_forward.gate_up_proj_adapter_list.{}.up.weight"],
        |p| up(p, gate_and_up(p)),
    )
    .scattered()
    .when(stores_transformer),
    TensorRow::weight(
        R::AttnQAdapterA,
        &["layers.{}.shared_transformer.self_attn.linear_q_adapter_list.{}.down.weight"],
        |p| down(p, both(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
    TensorRow::weight(
        R::AttnQAdapterB,
        &["layers.{}.shared_transformer.self_attn.linear_q_adapter_list.{}.up.weight"],
        |p| up(p, query_width(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
    TensorRow::weight(
        R::AttnKAdapterA,
        &["layers.{}.shared_transformer.self_attn.linear_k_adapter_list.{}.down.weight"],
        |p| down(p, both(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
    TensorRow::weight(
        R::AttnKAdapterB,
        &["layers.{}.shared_transformer.self_attn.linear_k_adapter_list.{}.up.weight"],
        |p| up(p, key_width(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
    TensorRow::weight(
        R::AttnVAdapterA,
        &["layers.{}.shared_transformer.self_attn.linear_v_adapter_list.{}.down.weight"],
        |p| down(p, both(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
    TensorRow::weight(
        R::AttnVAdapterB,
        &["layers.{}.shared_transformer.self_attn.linear_v_adapter_list.{}.up.weight"],
        |p| up(p, value_width(p)),
    )
    .scattered()
    .when(stores_adapters_of_attention),
];
