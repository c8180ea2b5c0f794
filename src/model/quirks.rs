//! Special cases of llama.cpp, vLLM and MLC for single architectures, as data that plans, type rules and checks read instead
//! of comparing names.

use super::forward_spec::RotatedBlocks;

/// The special cases of an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quirks {
    /// Differences in the order of its compute graph.
    pub graph: GraphOrder,
    /// Special cases in the rules for types.
    pub types: TypeQuirks,
    /// MLC's name of its chat template; `None` if MLC has none.
    pub mlc_template: Option<&'static str>,
    /// Whether vLLM reorders the rows of query and key projections when it loads them: with their scales, and without
    /// their zero points (`permute_qk_weight_for_rotary`).
    pub vllm_reorders_heads: bool,
    /// Whether vLLM keeps recurrent states in F32 where the configuration does not say (`kda_state_dtype`,
    /// `NemotronHForCausalLMConfig`).
    pub vllm_full_states: bool,
}

/// Differences of an architecture's compute graph from the usual one (`src/models/*.cpp` of llama.cpp).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphOrder {
    /// Whether the rows with logits are selected after the final norm (`t_h_nextn`, for blocks that draft further
    /// tokens), not before the last feed-forward: then all tokens pass through the whole last block.
    pub late_rows: bool,
    /// Whether the mixer's output is added to the residual (`residual + output`), so that the sum reuses the memory of
    /// the residual; usually it is `output + residual`.
    pub residual_first_mixer: bool,
    /// The same for the feed-forward.
    pub residual_first_feed_forward: bool,
    /// The blocks whose queries and keys are rotated by position, where the file does not say.
    pub rotated: RotatedBlocks,
}

/// Special cases by architecture in `src/llama-quant.cpp` of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeQuirks {
    /// Whether GGUFs of this hybrid state the same heads for recurrent blocks as for attention. Then query heads per
    /// key-value head are those of the first attention block; GGUFs of other hybrids state 0 for recurrent blocks.
    pub recurrent_blocks_have_heads: bool,
    /// Whether experts that are stored in MXFP4 stay as they are (`conversion/gpt_oss.py`).
    pub keeps_four_bit_floats: bool,
    /// The rule for value projections in models of 80 blocks.
    pub eighty_blocks: EightyBlocks,
}

/// Which models of 80 blocks get more bits for their value projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightyBlocks {
    /// None.
    Never,
    /// Those with fewer key-value heads than query heads.
    Grouped,
    /// All.
    Always,
}

impl Quirks {
    /// No special cases.
    pub const NONE: Quirks = Quirks {
        graph: GraphOrder {
            late_rows: false,
            residual_first_mixer: false,
            residual_first_feed_forward: false,
            rotated: RotatedBlocks::All,
        },
        types: TypeQuirks {
            recurrent_blocks_have_heads: false,
            keeps_four_bit_floats: false,
            eighty_blocks: EightyBlocks::Never,
        },
        mlc_template: None,
        vllm_reorders_heads: false,
        vllm_full_states: false,
    };

    pub(super) const fn late_rows(self) -> Quirks {
        let graph = GraphOrder {
            late_rows: true,
            ..self.graph
        };
        Quirks { graph, ..self }
    }

    pub(super) const fn vllm_full_states(self) -> Quirks {
        Quirks {
            vllm_full_states: true,
            ..self
        }
    }

    pub(super) const fn vllm_reorders_heads(self) -> Quirks {
        Quirks {
            vllm_reorders_heads: true,
            ..self
        }
    }

    pub(super) const fn rotated(self, rotated: RotatedBlocks) -> Quirks {
        let graph = GraphOrder {
            rotated,
            ..self.graph
        };
        Quirks { graph, ..self }
    }

    pub(super) const fn mlc_template(self, name: &'static str) -> Quirks {
        Quirks {
            mlc_template: Some(name),
            ..self
        }
    }

    pub(super) const fn eighty_blocks(self, eighty_blocks: EightyBlocks) -> Quirks {
        let types = TypeQuirks {
            eighty_blocks,
            ..self.types
        };
        Quirks { types, ..self }
    }

    pub(super) const fn keeps_four_bit_floats(self) -> Quirks {
        let types = TypeQuirks {
            keeps_four_bit_floats: true,
            ..self.types
        };
        Quirks { types, ..self }
    }

    pub(super) const fn recurrent_blocks_have_heads(self) -> Quirks {
        let types = TypeQuirks {
            recurrent_blocks_have_heads: true,
            ..self.types
        };
        Quirks { types, ..self }
    }

    /// The special cases of a model of another name that is planned as this architecture: only the chat template, since
    /// llama.cpp applies the others by name.
    pub(super) fn assumed(self) -> Quirks {
        Quirks {
            mlc_template: self.mlc_template,
            ..Quirks::NONE
        }
    }
}
