//! llama.cpp's rules for the type of each tensor, by category, block and shape.
//!
//! Source: `src/llama-quant.cpp` of llama.cpp (`tensor_allows_quantization`,
//! `llama_tensor_get_type_impl`, `tensor_type_fallback`). Tensors are visited in llama.cpp's order,
//! block by block and then by name, because its counters advance in that order.

use super::table::{QuantMix, Scheme};
use super::{Assigned, Overrides, Reason};
use crate::checkpoint::SourceFormat;
use crate::dtype::Dtype;
use crate::model::{Category, EightyBlocks, ModelSpec, QuantPolicy, Tensor, TensorRole};
use crate::units::Bytes;

/// A version of the rules. Published files were made with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// llama.cpp 0.5.0-dev (2026): fused `attn_qkv` and `attn_kv_b` are mixed like `attn_v`.
    #[default]
    Llama2026,
    /// Trees of 2024 and 2025: fused `attn_qkv` is Q5_K in Q4_K_M, the per-layer embedding of a
    /// tied model keeps the base type, and Q2_K and Q3_K fall back to IQ4_NL.
    Llama2025,
}

impl Rules {
    /// Every version with its name on the command line, the newest first.
    pub const ALL: [(&'static str, Rules); 2] = [
        ("llama.cpp-2026", Rules::Llama2026),
        ("llama.cpp-2025", Rules::Llama2025),
    ];
}

/// What the mixes depend on, and the counters that they advance.
struct MixState<'a> {
    model: &'a ModelSpec,
    mix: QuantMix,
    base: Dtype,
    rules: Rules,
    overrides: &'a Overrides,
    tied: bool,
    /// Query heads per key-value head in the first block (`n_gqa`).
    gqa: u64,
    blocks: usize,
    /// llama.cpp's special case for 70B models: 80 blocks with grouped attention.
    is_70b: bool,
    /// Whether an importance matrix is used; where one is needed, it is.
    importance: bool,
    value_tensors: usize,
    value_index: usize,
    down_index: usize,
    gate_index: usize,
    up_index: usize,
}

/// The order in which llama.cpp visits and writes tensors: those outside of blocks, then block by block, each by name.
/// The result holds indices into [`ModelSpec::tensors`].
pub fn quantizer_order(model: &ModelSpec) -> Vec<usize> {
    let mut order: Vec<usize> = (0..model.tensors.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |i: usize| {
            let t = &model.tensors[i];
            (t.layer.map_or(-1, i64::from), &t.name)
        };
        key(a).cmp(&key(b))
    });
    order
}

pub(super) fn assign_gguf(
    model: &ModelSpec,
    scheme: &Scheme,
    rules: Rules,
    overrides: &Overrides,
) -> Vec<Assigned> {
    let mut state = MixState::new(model, scheme, rules, overrides);
    let mut types = vec![None; model.tensors.len()];
    for index in quantizer_order(model) {
        types[index] = Some(state.visit(&model.tensors[index]));
    }
    let assigned = |(tensor, (dtype, reason)): (&Tensor, (Dtype, Reason))| Assigned {
        dtype,
        bytes: dtype.bytes(&tensor.shape).unwrap_or(Bytes(0)),
        reason,
    };
    model
        .tensors
        .iter()
        .zip(types.into_iter().flatten())
        .map(assigned)
        .collect()
}

/// Whether llama.cpp may quantize the tensor.
pub(super) fn may_quantize(tensor: &Tensor) -> bool {
    tensor.shape.len() >= 2
        && tensor.is_weight()
        && tensor.role.info().policy == QuantPolicy::Quantize
}

/// The type of a tensor that is not quantized. From a GGUF it keeps its type; from a Hugging Face checkpoint vectors,
/// norms and routers become F32, and the rest has the 16-bit type `half`.
fn unquantized(model: &ModelSpec, tensor: &Tensor, half: Dtype) -> Dtype {
    let full = tensor.shape.len() < 2
        || tensor.role.info().policy == QuantPolicy::Full
        || !tensor.is_weight();
    match tensor.dtype {
        own if model.source == SourceFormat::Gguf => own,
        _ if full => Dtype::F32,
        _ => half,
    }
}

/// llama.cpp's `use_more_bits`: the first and last eighth of the tensors, and every third between them.
fn more_bits(index: usize, count: usize) -> bool {
    index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2
}

impl<'a> MixState<'a> {
    fn new(
        model: &'a ModelSpec,
        scheme: &Scheme,
        rules: Rules,
        overrides: &'a Overrides,
    ) -> MixState<'a> {
        let quirks = model.quirks.types;
        let candidates = if quirks.recurrent_blocks_have_heads {
            model.layers.len()
        } else {
            1
        };
        let first = model
            .layers
            .iter()
            .take(candidates)
            .find_map(|l| l.mixer.attention.as_ref());
        let gqa = first.map_or(1, |a| a.heads.checked_div(a.kv_heads).unwrap_or(0));
        // Blocks for multi-token prediction are counted too.
        let blocks = model
            .tensors
            .iter()
            .filter_map(|t| t.layer)
            .max()
            .map_or(0, |last| last as usize + 1);
        let is_value = |t: &&Tensor| is_value_category(t) && t.is_weight();
        MixState {
            model,
            mix: scheme.mix,
            base: scheme.base,
            rules,
            overrides,
            tied: !model.tensors.iter().any(|t| t.role == TensorRole::Output),
            gqa,
            blocks,
            is_70b: blocks == 80
                && match quirks.eighty_blocks {
                    EightyBlocks::Never => false,
                    EightyBlocks::Grouped => gqa > 1,
                    EightyBlocks::Always => true,
                },
            importance: overrides.importance || scheme.needs_importance(),
            value_tensors: model.tensors.iter().filter(is_value).count(),
            value_index: 0,
            down_index: 0,
            gate_index: 0,
            up_index: 0,
        }
    }

    fn visit(&mut self, tensor: &Tensor) -> (Dtype, Reason) {
        let half = if self.base == Dtype::BF16 {
            Dtype::BF16
        } else {
            Dtype::F16
        };
        if !may_quantize(tensor) {
            return (unquantized(self.model, tensor, half), Reason::Kept);
        }
        if let Some(wanted) = self.overrides.wanted(tensor) {
            return match self.fallback(wanted, tensor.row()) {
                dtype if dtype == wanted => (dtype, Reason::Override),
                dtype => (dtype, Reason::ShapeFallback { intended: wanted }),
            };
        }
        if self.mix == QuantMix::None {
            return (self.base, Reason::Default);
        }
        let mixed = if self.overrides.pure {
            self.base
        } else {
            self.mixed(tensor)
        };
        let dtype = self.fallback(mixed, tensor.row());
        let reason = match dtype {
            _ if dtype != mixed => Reason::ShapeFallback { intended: mixed },
            _ if dtype == self.base => Reason::Default,
            _ => Reason::Mix,
        };
        (dtype, reason)
    }

    /// The type by the mix, before the length of rows is considered.
    fn mixed(&mut self, tensor: &Tensor) -> Dtype {
        use Dtype::*;
        let category = tensor.role.info().category;
        let heads_share_embedding = self.tied
            && category == Category::TokenEmbedding
            && !(self.rules == Rules::Llama2025 && tensor.role == TensorRole::PerLayerEmbedding);
        if category == Category::Output || heads_share_embedding {
            return self.head(tensor.row());
        }
        match (category, self.mix) {
            (_, QuantMix::Experts)
                if tensor.shape.first().is_some_and(|&n| n > 1) && tensor.shape.len() > 2 =>
            {
                self.base
            }
            (_, QuantMix::Experts) => Q8_0,
            (Category::TokenEmbedding, QuantMix::IQ1 | QuantMix::IQ2) => Q2_K,
            (Category::TokenEmbedding, QuantMix::IQ2_S | QuantMix::IQ3_XXS) => IQ3_S,
            (Category::TokenEmbedding, QuantMix::Ternary) => Q4_K,
            (_, QuantMix::IQ1 | QuantMix::IQ2 | QuantMix::IQ2_S) => {
                self.below_3_bits(self.class(category))
            }
            _ => self.of_class(self.class(category), tensor.layer),
        }
    }

    /// The type of the head, and of an embedding that is one.
    fn head(&self, row: u64) -> Dtype {
        if let Some(wanted) = self.overrides.output {
            return wanted;
        }
        match self.mix {
            QuantMix::Experts => Dtype::Q8_0,
            _ if self.base == Dtype::Q8_0 || !self.base.divides(row) => Dtype::Q8_0,
            QuantMix::IQ1 | QuantMix::IQ2 | QuantMix::IQ2_S | QuantMix::IQ3_XXS => Dtype::Q5_K,
            _ => Dtype::Q6_K,
        }
    }

    /// The mixes around the types of one and two bits.
    fn below_3_bits(&mut self, class: MixClass) -> Dtype {
        use Dtype::*;
        let eight_experts = self.model.dims.experts == 8;
        let larger = if self.mix == QuantMix::IQ2_S {
            IQ3_S
        } else {
            Q2_K
        };
        match class {
            MixClass::Value if self.gqa >= 4 || self.model.dims.experts >= 4 => Q4_K,
            MixClass::Value => larger,
            MixClass::Key if eight_experts => Q4_K,
            MixClass::Down => {
                // Here llama.cpp counts tensors, also with experts.
                let index = self.down_index;
                self.down_index += 1;
                if index < self.blocks / 8 {
                    larger
                } else {
                    self.base
                }
            }
            MixClass::AttnOutput if eight_experts => Q5_K,
            MixClass::AttnOutput => match self.mix {
                QuantMix::IQ1 => IQ2_XXS,
                QuantMix::IQ2_S => IQ3_S,
                _ => self.base,
            },
            _ => self.base,
        }
    }

    /// The other mixes.
    fn of_class(&mut self, class: MixClass, layer: Option<u32>) -> Dtype {
        use Dtype::*;
        let blocks = self.blocks;
        let eight_experts = self.model.dims.experts == 8;
        let grouped = self.gqa >= 4;
        // With experts, llama.cpp uses the number of the block, else the number of tensors so far.
        let block = layer
            .filter(|_| self.model.dims.experts > 1)
            .map(|layer| layer as usize);
        match class {
            MixClass::Value => {
                let index = self.value_index;
                self.value_index += 1;
                let dtype = match self.mix {
                    QuantMix::Q2_K if grouped => Q4_K,
                    QuantMix::Q2_K => Q3_K,
                    QuantMix::Q2_K_S | QuantMix::IQ3_XXS | QuantMix::IQ3_XS | QuantMix::IQ3_S
                        if grouped =>
                    {
                        Q4_K
                    }
                    QuantMix::IQ3_XXS if !self.importance => IQ3_S,
                    QuantMix::IQ3_M => Q4_K,
                    QuantMix::Q3_K_M if index < 2 => Q5_K,
                    QuantMix::Q3_K_M => Q4_K,
                    QuantMix::Q3_K_L => Q5_K,
                    QuantMix::IQ4 if grouped => Q5_K,
                    QuantMix::Q4_K_M | QuantMix::Q5_K_M if more_bits(index, self.value_tensors) => {
                        Q6_K
                    }
                    QuantMix::Q4_K_S if index < 4 => Q5_K,
                    _ => self.base,
                };
                match dtype {
                    _ if eight_experts => Q8_0,
                    Q3_K | Q4_K if self.is_70b => Q5_K,
                    dtype => dtype,
                }
            }
            MixClass::FusedQkv => match self.mix {
                QuantMix::Q3_K_M | QuantMix::Q3_K_L | QuantMix::IQ3_M => Q4_K,
                QuantMix::Q4_K_M => Q5_K,
                QuantMix::Q5_K_M => Q6_K,
                _ => self.base,
            },
            MixClass::Key if eight_experts => Q8_0,
            MixClass::Key | MixClass::Query => match self.mix {
                QuantMix::IQ3_XS => IQ3_XXS,
                QuantMix::IQ3_XXS => IQ2_S,
                _ => self.base,
            },
            MixClass::Down => {
                let index = block.unwrap_or(self.down_index);
                self.down_index += 1;
                match self.mix {
                    QuantMix::Q2_K => Q3_K,
                    QuantMix::Q2_K_S if index < blocks / 8 => Q4_K,
                    QuantMix::IQ3_XXS if !self.importance && index < blocks / 8 => Q4_K,
                    QuantMix::IQ3_XXS if !self.importance => Q3_K,
                    QuantMix::Q3_K_M if index < blocks / 16 => Q5_K,
                    QuantMix::Q3_K_M => Q4_K,
                    QuantMix::IQ3_M if index < blocks / 8 => Q4_K,
                    QuantMix::IQ3_M if eight_experts && more_bits(index, blocks) => Q4_K,
                    QuantMix::Q3_K_L => Q5_K,
                    QuantMix::Q4_K_M | QuantMix::Q5_K_M if more_bits(index, blocks) => Q6_K,
                    QuantMix::IQ4 if self.importance => self.base,
                    QuantMix::Q4_K_S | QuantMix::IQ4 if index < blocks / 8 => Q5_K,
                    // With an importance matrix the first blocks get the variant with offsets.
                    QuantMix::Plain if self.importance && index < blocks / 8 => match self.base {
                        Q4_0 => Q4_1,
                        Q5_0 => Q5_1,
                        base => base,
                    },
                    _ => self.base,
                }
            }
            MixClass::Gate | MixClass::Up => {
                let counter = match class {
                    MixClass::Gate => &mut self.gate_index,
                    _ => &mut self.up_index,
                };
                let index = block.unwrap_or(*counter);
                *counter += 1;
                let inner = blocks / 8..7 * blocks / 8;
                match self.mix {
                    QuantMix::IQ3_XS if inner.contains(&index) => IQ3_XXS,
                    _ => self.base,
                }
            }
            MixClass::AttnOutput if eight_experts => match self.mix {
                QuantMix::Q2_K
                | QuantMix::IQ3_XXS
                | QuantMix::IQ3_XS
                | QuantMix::IQ3_S
                | QuantMix::IQ3_M
                | QuantMix::Q3_K_M
                | QuantMix::Q4_K_S
                | QuantMix::Q4_K_M
                | QuantMix::IQ4 => Q5_K,
                QuantMix::Plain if self.base == Q3_K => Q5_K,
                _ => self.base,
            },
            MixClass::AttnOutput => match self.mix {
                QuantMix::Q2_K => Q3_K,
                QuantMix::IQ3_XXS => IQ3_S,
                QuantMix::Q3_K_M | QuantMix::IQ3_M => Q4_K,
                QuantMix::Q3_K_L => Q5_K,
                _ => self.base,
            },
            MixClass::Rest => self.base,
        }
    }

    fn class(&self, category: Category) -> MixClass {
        match (category, self.rules) {
            (Category::AttnV, _) => MixClass::Value,
            (Category::AttnQkv | Category::AttnKvB, Rules::Llama2026) => MixClass::Value,
            (Category::AttnQkv, Rules::Llama2025) => MixClass::FusedQkv,
            (Category::AttnQ, _) => MixClass::Query,
            (Category::AttnK, _) => MixClass::Key,
            (Category::FfnGate, _) => MixClass::Gate,
            (Category::FfnUp, _) => MixClass::Up,
            (Category::FfnDown, _) => MixClass::Down,
            (Category::AttnOutput, _) => MixClass::AttnOutput,
            _ => MixClass::Rest,
        }
    }

    /// `dtype`, or the type that llama.cpp falls back to if its blocks do not divide a row.
    fn fallback(&self, dtype: Dtype, row: u64) -> Dtype {
        use Dtype::*;
        if dtype.divides(row) {
            return dtype;
        }
        let smaller = match dtype {
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
            Q2_K | Q3_K if self.rules == Rules::Llama2025 => IQ4_NL,
            Q2_K | Q3_K | TQ1_0 | TQ2_0 | Q2_0 => Q4_0,
            Q4_K => Q5_0,
            Q5_K => Q5_1,
            Q6_K => Q8_0,
            other => other,
        };
        if smaller.divides(row) { smaller } else { F16 }
    }
}

/// The categories as the mixes distinguish them.
enum MixClass {
    Value,
    FusedQkv,
    Query,
    Key,
    Gate,
    Up,
    Down,
    AttnOutput,
    Rest,
}

fn is_value_category(tensor: &Tensor) -> bool {
    matches!(
        tensor.role.info().category,
        Category::AttnV | Category::AttnQkv | Category::AttnKvB
    )
}
