//! The roles of tensors: one table from role to llama.cpp's name, type rules, and use by a decoded token.
//!
//! Tensor names are translated to roles once, when a model is read; later code compares roles. The names are
//! `LLM_TENSOR_NAMES` of llama.cpp's `src/llama-arch.cpp`.

/// Which part of a tensor is read to decode a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeAccess {
    /// All of it, to multiply with.
    Whole,
    /// One row.
    Row,
    /// The experts that the router selects.
    Experts,
    /// All of it, once in each of the blocks that use it in turn.
    Shared,
    /// Nothing (multi-token prediction heads, for instance).
    Never,
}

/// The class of a tensor in llama.cpp's type rules (`tensor_get_category`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// `token_embd`, `per_layer_token_embd`.
    TokenEmbedding,
    /// `output`.
    Output,
    /// `attn_q`.
    AttnQ,
    /// `attn_k`.
    AttnK,
    /// `attn_v`.
    AttnV,
    /// Fused `attn_qkv`.
    AttnQkv,
    /// `attn_kv_b`.
    AttnKvB,
    /// `attn_output`.
    AttnOutput,
    /// Any `ffn_up`, dense or of experts.
    FfnUp,
    /// Any `ffn_gate`.
    FfnGate,
    /// Any `ffn_down`.
    FfnDown,
    /// Any other tensor that may be quantized.
    Other,
}

/// Whether quantizers may change a tensor's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantPolicy {
    /// May be quantized.
    Quantize,
    /// Stays in the 16-bit type of the conversion.
    Half,
    /// Stays in F32.
    Full,
}

/// One row of the table.
#[derive(Debug)]
pub struct RoleInfo {
    /// The role.
    pub role: TensorRole,
    /// llama.cpp's name without `blk.N.` and without `.weight`.
    pub stem: &'static str,
    /// Whether the tensor belongs to a block.
    pub block: bool,
    /// Its class in the type rules.
    pub category: Category,
    /// Whether quantizers may change it.
    pub policy: QuantPolicy,
    /// Which part of it a decoded token reads.
    pub access: DecodeAccess,
}

macro_rules! roles {
    ($($role:ident $stem:literal $block:literal $category:ident $policy:ident $access:ident;)*) => {
        /// What a tensor is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum TensorRole { $($role,)*
            /// A tensor that no table row names.
            Other }

        /// Every named role.
        pub static ROLES: &[RoleInfo] = &[$(RoleInfo {
            role: TensorRole::$role, stem: $stem, block: $block,
            category: Category::$category, policy: QuantPolicy::$policy, access: DecodeAccess::$access,
        }),*];
    };
}

roles! {
    // role               stem                    block  category       keep     touch
    TokenEmbedding        "token_embd"            false  TokenEmbedding Quantize Row;
    PerLayerEmbedding     "per_layer_token_embd"  false  TokenEmbedding Quantize Row;
    PerLayerModelProj     "per_layer_model_proj"  false  Other          Half     Whole;
    PerLayerProjNorm      "per_layer_proj_norm"   false  Other          Full     Whole;
    AltupProj             "altup_proj"            false  Other          Half     Whole;
    AltupUnembdProj       "altup_unembd_proj"     false  Other          Half     Whole;
    TokenEmbeddingNorm    "token_embd_norm"       false  Other          Full     Whole;
    TokenTypes            "token_types"           false  Other          Full     Row;
    Positions             "position_embd"         false  Other          Full     Row;
    OutputNorm            "output_norm"           false  Other          Full     Whole;
    Output                "output"                false  Output         Quantize Whole;
    ClassDense            "cls"                   false  Other          Quantize Whole;
    ClassHead             "cls.output"            false  Other          Quantize Whole;
    RopeFreqs             "rope_freqs"            false  Other          Full     Whole;
    RopeFactorsLong       "rope_factors_long"     false  Other          Full     Whole;
    RopeFactorsShort      "rope_factors_short"    false  Other          Full     Whole;
    AttnNorm              "attn_norm"             true   Other          Full     Whole;
    AttnQ                 "attn_q"                true   AttnQ          Quantize Whole;
    AttnK                 "attn_k"                true   AttnK          Quantize Whole;
    AttnV                 "attn_v"                true   AttnV          Quantize Whole;
    AttnQkv               "attn_qkv"              true   AttnQkv        Quantize Whole;
    AttnOutput            "attn_output"           true   AttnOutput     Quantize Whole;
    AttnGate              "attn_gate"             true   Other          Quantize Whole;
    AttnSinks             "attn_sinks"            true   Other          Full     Whole;
    AttnQNorm             "attn_q_norm"           true   Other          Full     Whole;
    AttnKNorm             "attn_k_norm"           true   Other          Full     Whole;
    AttnOutNorm           "attn_output_norm"      true   Other          Full     Whole;
    AttnSubNorm           "attn_sub_norm"         true   Other          Full     Whole;
    FfnSubNorm            "ffn_sub_norm"          true   Other          Full     Whole;
    CrossAttnGate         "cross_attn_attn_gate"  true   Other          Full     Whole;
    CrossFfnGate          "cross_attn_mlp_gate"   true   Other          Full     Whole;
    HybridProj            "hybrid_proj"           true   Other          Quantize Whole;
    SharedAttnNorm        "shared_attn_norm"      true   Other          Full     Shared;
    SharedAttnQ           "shared_attn_q"         true   AttnQ          Quantize Shared;
    SharedAttnK           "shared_attn_k"         true   AttnK          Quantize Shared;
    SharedAttnV           "shared_attn_v"         true   AttnV          Quantize Shared;
    SharedAttnOutput      "shared_attn_output"    true   AttnOutput     Quantize Shared;
    SharedFfnNorm         "shared_ffn_norm"       true   Other          Full     Shared;
    SharedFfnUp           "shared_ffn_up"         true   FfnUp          Quantize Shared;
    SharedFfnDown         "shared_ffn_down"       true   FfnDown        Quantize Shared;
    AttnQAdapterA         "attn_q_adapter_a"      true   Other          Quantize Whole;
    AttnQAdapterB         "attn_q_adapter_b"      true   Other          Quantize Whole;
    AttnKAdapterA         "attn_k_adapter_a"      true   Other          Quantize Whole;
    AttnKAdapterB         "attn_k_adapter_b"      true   Other          Quantize Whole;
    AttnVAdapterA         "attn_v_adapter_a"      true   Other          Quantize Whole;
    AttnVAdapterB         "attn_v_adapter_b"      true   Other          Quantize Whole;
    FfnAdapterA           "ffn_adapter_a"         true   FfnUp          Quantize Whole;
    FfnAdapterB           "ffn_adapter_b"         true   FfnUp          Quantize Whole;
    AttnPostNorm          "post_attention_norm"   true   Other          Full     Whole;
    AttnQA                "attn_q_a"              true   Other          Quantize Whole;
    AttnQANorm            "attn_q_a_norm"         true   Other          Full     Whole;
    AttnQB                "attn_q_b"              true   Other          Quantize Whole;
    AttnKvAMqa            "attn_kv_a_mqa"         true   Other          Quantize Whole;
    AttnKvANorm           "attn_kv_a_norm"        true   Other          Full     Whole;
    AttnKvB               "attn_kv_b"             true   AttnKvB        Quantize Whole;
    AttnKB                "attn_k_b"              true   Other          Quantize Whole;
    AttnVB                "attn_v_b"              true   Other          Quantize Whole;
    FfnNorm               "ffn_norm"              true   Other          Full     Whole;
    FfnPostNorm           "post_ffw_norm"         true   Other          Full     Whole;
    FfnPostNorm1          "post_ffw_norm_1"       true   Other          Full     Whole;
    FfnPostNorm2          "post_ffw_norm_2"       true   Other          Full     Whole;
    FfnPreNorm2           "pre_ffw_norm_2"        true   Other          Full     Whole;
    FfnGate               "ffn_gate"              true   FfnGate        Quantize Whole;
    FfnUp                 "ffn_up"                true   FfnUp          Quantize Whole;
    FfnDown               "ffn_down"              true   FfnDown        Quantize Whole;
    FfnRouter             "ffn_gate_inp"          true   FfnGate        Full     Whole;
    FfnRouterBias         "exp_probs_b"           true   Other          Full     Whole;
    FfnGateExperts        "ffn_gate_exps"         true   FfnGate        Quantize Experts;
    FfnUpExperts          "ffn_up_exps"           true   FfnUp          Quantize Experts;
    FfnGateUpExperts      "ffn_gate_up_exps"      true   FfnGate        Quantize Experts;
    FfnDownExperts        "ffn_down_exps"         true   FfnDown        Quantize Experts;
    FfnSharedRouter       "ffn_gate_inp_shexp"    true   FfnGate        Full     Whole;
    FfnGateShared         "ffn_gate_shexp"        true   FfnGate        Quantize Whole;
    FfnUpShared           "ffn_up_shexp"          true   FfnUp          Quantize Whole;
    FfnDownShared         "ffn_down_shexp"        true   FfnDown        Quantize Whole;
    FfnLatentDown         "ffn_latent_down"       true   Other          Quantize Whole;
    FfnLatentUp           "ffn_latent_up"         true   Other          Quantize Whole;
    LayerOutNorm          "layer_output_norm"     true   Other          Full     Whole;
    LayerOutScale         "layer_output_scale"    true   Other          Full     Whole;
    PerLayerGate          "inp_gate"              true   Other          Quantize Whole;
    PerLayerProj          "proj"                  true   Other          Quantize Whole;
    PerLayerPostNorm      "post_norm"             true   Other          Full     Whole;
    AltupCorrectCoef      "altup_correct_coef"    true   Other          Half     Whole;
    AltupCorrectScale     "altup_correct_scale"   true   Other          Full     Whole;
    AltupPredictCoef      "altup_predict_coef"    true   Other          Half     Whole;
    AltupRouter           "altup_router"          true   Other          Half     Whole;
    AltupRouterNorm       "altup_router_norm"     true   Other          Full     Whole;
    LaurelL               "laurel_l"              true   Other          Half     Whole;
    LaurelR               "laurel_r"              true   Other          Half     Whole;
    LaurelPostNorm        "laurel_post_norm"      true   Other          Full     Whole;
    SsmIn                 "ssm_in"                true   Other          Quantize Whole;
    SsmOut                "ssm_out"               true   Other          Quantize Whole;
    SsmConv1d             "ssm_conv1d"            true   Other          Full     Whole;
    SsmConv1dQ            "ssm_conv1d_q"          true   Other          Full     Whole;
    SsmConv1dK            "ssm_conv1d_k"          true   Other          Full     Whole;
    SsmConv1dV            "ssm_conv1d_v"          true   Other          Full     Whole;
    SsmFA                 "ssm_f_a"               true   Other          Quantize Whole;
    SsmFB                 "ssm_f_b"               true   Other          Quantize Whole;
    SsmGA                 "ssm_g_a"               true   Other          Quantize Whole;
    SsmGB                 "ssm_g_b"               true   Other          Quantize Whole;
    SsmX                  "ssm_x"                 true   Other          Quantize Whole;
    SsmDt                 "ssm_dt"                true   Other          Quantize Whole;
    SsmDtNorm             "ssm_dt_norm"           true   Other          Full     Whole;
    SsmBNorm              "ssm_b_norm"            true   Other          Full     Whole;
    SsmCNorm              "ssm_c_norm"            true   Other          Full     Whole;
    SsmA                  "ssm_a"                 true   Other          Full     Whole;
    SsmD                  "ssm_d"                 true   Other          Full     Whole;
    SsmNorm               "ssm_norm"              true   Other          Full     Whole;
    SsmBetaAlpha          "ssm_ba"                true   Other          Quantize Whole;
    SsmAlpha              "ssm_alpha"             true   Other          Quantize Whole;
    SsmBeta               "ssm_beta"              true   Other          Quantize Whole;
    AttnNorm2             "attn_norm_2"           true   Other          Full     Whole;
    TimeMixW0             "time_mix_w0"           true   Other          Full     Whole;
    TimeMixW1             "time_mix_w1"           true   Other          Full     Whole;
    TimeMixW2             "time_mix_w2"           true   Other          Full     Whole;
    TimeMixA0             "time_mix_a0"           true   Other          Full     Whole;
    TimeMixA1             "time_mix_a1"           true   Other          Half     Whole;
    TimeMixA2             "time_mix_a2"           true   Other          Half     Whole;
    TimeMixV0             "time_mix_v0"           true   Other          Full     Whole;
    TimeMixV1             "time_mix_v1"           true   Other          Half     Whole;
    TimeMixV2             "time_mix_v2"           true   Other          Half     Whole;
    TimeMixG1             "time_mix_g1"           true   Other          Half     Whole;
    TimeMixG2             "time_mix_g2"           true   Other          Half     Whole;
    TimeMixLerp           "time_mix_lerp_fused"   true   Other          Full     Whole;
    TimeMixKK             "time_mix_k_k"          true   Other          Full     Whole;
    TimeMixKA             "time_mix_k_a"          true   Other          Full     Whole;
    TimeMixRK             "time_mix_r_k"          true   Other          Full     Whole;
    TimeMixKey            "time_mix_key"          true   Other          Quantize Whole;
    TimeMixValue          "time_mix_value"        true   Other          Quantize Whole;
    TimeMixReceptance     "time_mix_receptance"   true   Other          Quantize Whole;
    TimeMixOutput         "time_mix_output"       true   Other          Quantize Whole;
    TimeMixLn             "time_mix_ln"           true   Other          Full     Whole;
    ChannelMixLerpK       "channel_mix_lerp_k"    true   Other          Full     Whole;
    ChannelMixKey         "channel_mix_key"       true   Other          Quantize Whole;
    ChannelMixValue       "channel_mix_value"     true   Other          Quantize Whole;
    ShortconvConv         "shortconv.conv"        true   Other          Full     Whole;
    ShortconvIn           "shortconv.in_proj"     true   Other          Quantize Whole;
    ShortconvOut          "shortconv.out_proj"    true   Other          Quantize Whole;
    NextnProj             "nextn.eh_proj"         true   Other          Quantize Never;
    NextnEmbedding        "nextn.embed_tokens"    true   Other          Quantize Never;
    NextnEmbeddingNorm    "nextn.enorm"           true   Other          Full     Never;
    NextnHiddenNorm       "nextn.hnorm"           true   Other          Full     Never;
    NextnHead             "nextn.shared_head_head" true  Other          Quantize Never;
    NextnHeadNorm         "nextn.shared_head_norm" true  Other          Full     Never;
}

/// The row for tensors without a role of their own.
static OTHER: RoleInfo = RoleInfo {
    role: TensorRole::Other,
    stem: "",
    block: false,
    category: Category::Other,
    policy: QuantPolicy::Quantize,
    access: DecodeAccess::Whole,
};

impl TensorRole {
    /// This role's row of the table.
    pub fn info(self) -> &'static RoleInfo {
        ROLES.get(self as usize).unwrap_or(&OTHER)
    }

    /// Whether it is a table of rotary factors, which conversion computes from `rope_scaling` and no checkpoint stores.
    pub fn is_rope_table(self) -> bool {
        matches!(
            self,
            TensorRole::RopeFreqs | TensorRole::RopeFactorsLong | TensorRole::RopeFactorsShort
        )
    }

    /// Whether conversion computes it for architectures whose checkpoints do not store it: norms of heads are ones then.
    pub fn may_be_computed(self) -> bool {
        self.is_rope_table() || matches!(self, TensorRole::AttnQNorm | TensorRole::AttnKNorm)
    }

    /// The GGUF name of this role's tensor: `blk.3.attn_q.weight`. `part` is `weight`, `bias` or
    /// empty for the few tensors without a suffix (`ssm_a`).
    pub fn gguf_name(self, layer: Option<u32>, part: &str) -> String {
        let stem = self.info().stem;
        let dot = if part.is_empty() { "" } else { "." };
        match layer {
            Some(layer) => format!("blk.{layer}.{stem}{dot}{part}"),
            None => format!("{stem}{dot}{part}"),
        }
    }

    /// Splits a GGUF tensor name into its role and its block.
    pub fn of_gguf_name(name: &str) -> (TensorRole, Option<u32>) {
        let (layer, rest) = split_block(name);
        let stem = rest
            .strip_suffix(".weight")
            .or_else(|| rest.strip_suffix(".bias"))
            .or_else(|| rest.strip_suffix(".scale"))
            .unwrap_or(rest);
        let role = ROLES
            .iter()
            .find(|info| info.stem == stem && info.block == layer.is_some())
            .map_or(TensorRole::Other, |info| info.role);
        (role, layer)
    }
}

/// Splits `blk.3.attn_q.weight` into its block number and the rest.
fn split_block(name: &str) -> (Option<u32>, &str) {
    let inside = name.strip_prefix("blk.").and_then(|rest| {
        let (number, rest) = rest.split_once('.')?;
        Some((number.parse().ok()?, rest))
    });
    match inside {
        Some((layer, rest)) => (Some(layer), rest),
        None => (None, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_index_and_names_round_trip() {
        for (index, info) in ROLES.iter().enumerate() {
            assert_eq!(info.role as usize, index);
            let layer = info.block.then_some(17);
            let name = info.role.gguf_name(layer, "weight");
            assert_eq!(
                TensorRole::of_gguf_name(&name),
                (info.role, layer),
                "{name}"
            );
        }
    }

    #[test]
    fn unknown_names_are_other() {
        for name in [
            "",
            "blk.",
            "blk.x.attn_q.weight",
            "blk.1.mystery.weight",
            "v.patch_embd.weight",
        ] {
            assert_eq!(
                TensorRole::of_gguf_name(name).0,
                TensorRole::Other,
                "{name}"
            );
        }
        assert_eq!(
            TensorRole::of_gguf_name("blk.99999999999.attn_q.weight").1,
            None
        );
    }
}
