//! What llama.cpp does for single architectures beyond what blocks and tensors say: the data that plans,
//! type rules and checks read instead of names.

/// What plans and type rules ask of an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quirks {
    /// The order of its compute graph.
    pub graph: GraphOrder,
    /// What the rules for types make of it.
    pub types: TypeQuirks,
    /// The chat template that MLC has for it; plain text without one.
    pub mlc_template: Option<&'static str>,
}

/// Where the compute graph of an architecture differs from most (`src/models/*.cpp` of llama.cpp).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphOrder {
    /// Every token goes through the last block and its final norm is kept, for blocks that draft
    /// further tokens; rows with logits are picked only then (`t_h_nextn`), not before the last
    /// feed-forward.
    pub late_rows: bool,
    /// A mixer's output is added to the residual, not the residual to it: the sum then takes the
    /// residual's place.
    pub residual_first_mixer: bool,
    /// The same of a feed-forward.
    pub residual_first_feed_forward: bool,
}

/// What `src/llama-quant.cpp` of llama.cpp asks of an architecture by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeQuirks {
    /// Queries per key-value head are those of the first block that attends: GGUFs of these give
    /// recurrent blocks the same heads, those of other hybrids give them none.
    pub recurrent_blocks_have_heads: bool,
    /// The rule for values in models of 80 blocks.
    pub eighty_blocks: EightyBlocks,
}

/// Which models of 80 blocks have their values in more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightyBlocks {
    /// None.
    Never,
    /// Those whose queries share heads of keys.
    Grouped,
    /// All.
    Always,
}

impl Quirks {
    /// An architecture without any.
    pub const NONE: Quirks = Quirks {
        graph: GraphOrder {
            late_rows: false,
            residual_first_mixer: false,
            residual_first_feed_forward: false,
        },
        types: TypeQuirks {
            recurrent_blocks_have_heads: false,
            eighty_blocks: EightyBlocks::Never,
        },
        mlc_template: None,
    };

    pub(super) const fn late_rows(self) -> Quirks {
        let graph = GraphOrder {
            late_rows: true,
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

    pub(super) const fn recurrent_blocks_have_heads(self) -> Quirks {
        let types = TypeQuirks {
            recurrent_blocks_have_heads: true,
            ..self.types
        };
        Quirks { types, ..self }
    }

    /// Those of a model that is planned as if it were this architecture: what llama.cpp does by name is
    /// not done for it.
    pub(super) fn assumed(self) -> Quirks {
        Quirks {
            mlc_template: self.mlc_template,
            ..Quirks::NONE
        }
    }
}
