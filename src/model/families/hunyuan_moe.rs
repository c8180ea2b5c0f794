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
    KeyRule::Derived(Derived::SameInAllBlocks(Key::ExpertFfn)),
    KeyRule::Derived(Derived::SameInAllBlocks(Key::ExpertsUsed)),
    KeyRule::Derived(Derived::SameInAllBlocks(Key::SharedExperts)),
];

/// Errors if blocks differ, or experts are not as wide as the dense feed-forward.
fn layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(hparams)?;
    let width = hparams.need(Key::Ffn)?;
    if hparams.is_hugging_face() {
        for key in [Key::ExpertFfn, Key::ExpertsUsed, Key::SharedExperts] {
            let all = hparams.numbers(key)?.unwrap_or_default();
            if all.windows(2).any(|pair| pair[0] != pair[1]) {
                let name = hparams
                    .stated(key.hugging_face())
                    .map_or("", |(name, _)| name);
                return Err(ModelError::Contradiction {
                    what: format!(
                        "`{name}` differs between blocks, which llama.cpp takes to be alike,"
                    ),
                });
            }
        }
        let expert = hparams.get(Key::ExpertFfn)?.unwrap_or(width);
        let shared = hparams.get(Key::SharedExperts)?.unwrap_or(1);
        if expert != width || shared != 1 {
            return Err(ModelError::Contradiction {
                what: format!(
                    "{shared} shared and routed experts are {expert} wide (`num_shared_expert`, `moe_intermediate_size`), and `intermediate_size` is {width}: llama.cpp knows one shared expert, and one width"
                ),
            });
        }
    }
    let stated = hparams.get(Key::SharedExpertFfn)?.filter(|&n| n > 0);
    for layer in &mut layers {
        if let FeedForward::Experts {
            inner,
            shared_inner,
            ..
        } = &mut layer.feed_forward
        {
            *inner = width;
            *shared_inner = stated.unwrap_or(width);
        }
    }
    Ok(layers)
}
