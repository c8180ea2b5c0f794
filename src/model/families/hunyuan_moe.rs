//! Hunyuan with experts (A13B): the dense model's attention, and one expert that all tokens use.
//!
//! Sources: `modeling_hunyuan_v1_moe.py` of Transformers; `src/models/hunyuan-moe.cpp` and `conversion/hunyuan.py` of
//! llama.cpp, which takes all experts to be as wide as the dense feed-forward.

use super::common::*;
use super::hunyuan::{ALPHA_SCALED, HEAD_NORMS, HUNYUAN_FORWARD};
use super::keys::*;
use super::loader_keys::{NEEDS_EXPERT_WIDTH, RMS_NORM, SHARED_EXPERT_WIDTH};
use crate::model::ModelError;
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Derived, KeyRule, SpecialToken};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::spec::{FeedForward, Layer};

pub(super) static HUNYUAN_MOE: Arch = Arch {
    name: "hunyuan-moe",
    classes: &["HunYuanMoEV1ForCausalLM"],
    model_types: &["hunyuan_v1_moe"],
    forward: Some(HUNYUAN_FORWARD),
    layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        HEAD_NORMS,
        EXPERTS,
        SHARED_EXPERT,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON_WITHOUT_EXPERTS,
            &[KeyRule::count(Key::Experts)],
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            WIDTHS,
            ALPHA_SCALED,
        ],
        special_tokens: &[SpecialToken::Id {
            kind: "bos",
            id: 127_959,
        }],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH, SHARED_EXPERT_WIDTH],
        rules: &[LoaderRule::WholeHeads, LoaderRule::Routed],
        ..Loader::USUAL
    },
    ..USUAL
};

const WIDTHS: &[KeyRule] = &[
    KeyRule::count_from(Key::SharedExpertFfn, Key::Ffn),
    KeyRule::Derived(Derived::OfFirstBlock(Key::ExpertFfn)),
    KeyRule::Derived(Derived::OfFirstBlock(Key::ExpertsUsed)),
    KeyRule::Derived(Derived::OfFirstBlock(Key::SharedExperts)),
];

/// Blocks may state experts of their own; llama.cpp takes all to be alike, and as wide as the dense feed-forward.
fn layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(hparams)?;
    let width = hparams.need(Key::Ffn)?;
    let blocks = layers.len();
    let each = |key: Key| {
        if hparams.is_hugging_face() {
            hparams.per_block(key, blocks)
        } else {
            Ok(None)
        }
    };
    let widths = each(Key::ExpertFfn)?;
    let choices = each(Key::ExpertsUsed)?;
    let sharing = each(Key::SharedExperts)?;
    let stated = hparams.get(Key::SharedExpertFfn)?.filter(|&n| n > 0);
    for (index, layer) in layers.iter_mut().enumerate() {
        let own = |list: &Option<Vec<u64>>| list.as_ref().and_then(|list| list.get(index).copied());
        if let FeedForward::Experts {
            count,
            used,
            inner,
            shared_inner,
        } = &mut layer.feed_forward
        {
            *used = own(&choices).unwrap_or(*used).clamp(1, *count);
            *inner = own(&widths).unwrap_or(width);
            let shared = own(&sharing).unwrap_or(1).saturating_mul(width);
            *shared_inner = stated.unwrap_or(shared);
        }
    }
    Ok(layers)
}
