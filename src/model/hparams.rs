//! Hyperparameters under one name, whether they are in a `config.json` or in GGUF metadata.

use serde_json::Value as Json;

use crate::checkpoint::RawConfig;
use crate::gguf::{Metadata, Value};
use crate::model::ModelError;

/// One row for each hyperparameter, shared by planner and converter: its names in `config.json`, its key in GGUF
/// metadata, and its default.
macro_rules! rows {
    (
        $(#[$about:meta])* $name:ident of $number:ty
        $(| $key:ident [$($hf:literal)*] $gguf:literal $(or $default:literal)?)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum $name { $($key),* }

        impl $name {
            /// Its names in `config.json`; the first that is found counts.
            pub const fn hugging_face(self) -> &'static [&'static str] {
                match self { $($name::$key => &[$($hf),*]),* }
            }

            /// Its key in GGUF metadata, after the architecture's name and a dot.
            pub const fn gguf(self) -> &'static str {
                match self { $($name::$key => $gguf),* }
            }

            /// Its value if it is not stated, for every architecture.
            pub const fn default(self) -> Option<$number> {
                match self { $($name::$key => rows!(@default $($default)?)),* }
            }

            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$key),*];
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

rows! {
    /// A hyperparameter that is a whole number, or one for each block.
    Key of u64
    //                   config.json                                                GGUF
  | Blocks               ["num_hidden_layers" "n_layer" "num_layers" "n_layers"]    "block_count"
  | Hidden               ["hidden_size" "n_embd" "d_model" "dim"]                   "embedding_length"
  | Vocab                ["vocab_size"]                                             "vocab_size"
  | Context              ["max_position_embeddings" "n_ctx" "max_trained_positions" "n_positions" "max_sequence_length" "max_seq_len" "seq_length" "max_context" "model_max_length"] "context_length"
  | LongestText          ["model_max_length"]                                       "context_length"
  | Heads                ["num_attention_heads" "n_head" "num_heads" "n_heads"]     "attention.head_count"
  | KvHeads              ["num_key_value_heads" "n_head_kv" "n_kv_heads"]           "attention.head_count_kv"
  | HeadDim              ["head_dim" "attention_head_dim" "hidden_size_per_head"]   "attention.key_length"
  | ValueDim             ["v_head_dim"]                                             "attention.value_length"
  | WindowKvHeads        ["num_swa_key_value_heads"]                                "attention.head_count_kv_swa"
  | WindowHeadDim        ["swa_head_dim"]                                           "attention.key_length_swa"
  | WindowValueDim       ["swa_v_head_dim"]                                         "attention.value_length_swa"
  | GlobalKvHeads        ["num_global_key_value_heads"]                             "attention.head_count_kv_global"
  | GlobalHeadDim        ["global_head_dim"]                                        "attention.key_length_global"
  | Ffn                  ["intermediate_size" "n_inner" "ffn_dim" "hidden_dim" "block_ff_dim" "ff_dim"] "feed_forward_length"
  | DenseFfn             ["intermediate_size_mlp"]                                  "feed_forward_length"
  | Window               ["sliding_window" "sliding_window_attention_size"]         "attention.sliding_window"
  | WindowPattern        ["sliding_window_pattern" "_sliding_window_pattern"]       "attention.sliding_window_pattern"
  | SharedKvLayers       ["num_kv_shared_layers"]                                   "attention.shared_kv_layers"
  | Experts              ["num_experts" "num_local_experts" "n_routed_experts" "moe_num_experts"]     "expert_count"
  | ExpertsUsed          ["num_experts_per_tok" "num_experts_per_token" "top_k_experts" "moe_k" "moe_topk" "moe_top_k"] "expert_used_count"
  | ExpertGroups         ["n_group"]                                               "expert_group_count"
  | ExpertGroupsUsed     ["topk_group"]                                            "expert_group_used_count"
  | ExpertFfn            ["moe_intermediate_size" "expert_intermediate_size"]       "expert_feed_forward_length"
  | SharedExperts        ["n_shared_experts" "moe_num_shared_experts" "num_shared_expert" "num_shared_experts"]                                       "expert_shared_count"
  | SharedExpertFfn      ["shared_expert_intermediate_size" "shared_intermediate_size" "moe_shared_expert_intermediate_size"] "expert_shared_feed_forward_length"
  | LeadingDense         ["first_k_dense_replace" "num_dense_layers" "moe_layer_start_index"]               "leading_dense_block_count"
  | RoutedInterval       ["moe_layer_interval" "decoder_sparse_step" "interleave_moe_layer_step"]               "interleave_moe_layer_step"
  | RoutedEvery          ["moe_every_n_layers"]                                     "moe_every_n_layers"
  | ExpertLatent         ["moe_latent_size"]                                        "moe_latent_size"
  | NextnLayers          ["num_nextn_predict_layers" "mtp_num_hidden_layers"]       "nextn_predict_layers"
  | QLora                ["q_lora_rank"]                                            "attention.q_lora_rank"
  | KvLora               ["kv_lora_rank"]                                           "attention.kv_lora_rank"
  | NopeDim              ["qk_nope_head_dim"]                                       "attention.key_length_nope"
  | RopeDim              ["qk_rope_head_dim"]                                       "rope.dimension_count"
  | WindowRopeDim        []                                                         "rope.dimension_count_swa"
  | MlaKeyDim            ["qk_head_dim"]                                            "attention.key_length_mla"
  | MlaValueDim          ["v_head_dim"]                                             "attention.value_length_mla"
  | PerLayerDim          ["hidden_size_per_layer_input"]                            "embedding_length_per_layer_input"
  | PerLayerVocab        ["vocab_size_per_layer_input"]                             "vocab_size_per_layer_input"
  | Streams              ["altup_num_inputs"]                                       "altup.num_inputs"
  | ActiveStream         ["altup_active_idx"]                                       "altup.active_idx" or 0
  | LaurelRank           ["laurel_rank"]                                            "laurel_rank"
  | ConvKernel           ["linear_conv_kernel_dim" "mamba_d_conv" "conv_kernel"]    "ssm.conv_kernel"
  | StateSize            ["linear_key_head_dim" "mamba_d_state" "ssm_state_size" "state_size"] "ssm.state_size"
  | SsmGroups            ["linear_num_key_heads" "mamba_n_groups" "mamba_ngroups" "n_groups"]       "ssm.group_count"
  | SsmHeads             ["linear_num_value_heads" "mamba_n_heads" "n_mamba_heads" "mamba_num_heads" "num_heads"] "ssm.time_step_rank"
  | TimeStepRank         ["time_step_rank" "mamba_dt_rank"]                       "ssm.time_step_rank"
  | SsmHeadDim           ["linear_value_head_dim" "mamba_d_head" "mamba_head_dim" "mamba_headdim"]  "ssm.head_dim"
  | KdaHeadDim           []                                                         "kda.head_dim"
  | SsmInner             ["mamba_d_ssm"]                                            "ssm.inner_size"
  | SsmExpand            ["mamba_expand" "expand"]                                  "ssm.expand"
  | FullAttentionEvery   ["full_attention_interval"]                                "full_attention_interval" or 4
  | RecurrentLayers      []                                                         "attention.recurrent_layers"
  | ShortconvCache       ["conv_L_cache"]                                           "shortconv.l_cache"
  | WkvHead              []                                                         "wkv.head_size"
  | DecayRank            ["decay_low_rank_dim"]                                     "attention.decay_lora_rank"
  | RateRank             ["a_low_rank_dim"]                                         "attention.iclr_lora_rank"
  | ValueRank            ["v_low_rank_dim"]                                         "attention.value_residual_mix_lora_rank"
  | GateRank             ["gate_low_rank_dim"]                                      "attention.gate_lora_rank"
  | TokenShift           []                                                         "token_shift_count"
  | SharedTransformers   ["num_mem_blocks"]                                         "shared_transformers"
  | AdapterRank          ["adapter_rank"]                                           "adapter_rank"
  | OriginalContext      ["original_max_position_embeddings"]                       "rope.scaling.original_context_length"
}

rows! {
    /// A hyperparameter that is a floating-point number. Those of `rope.` are among the rotary parameters of a
    /// `config.json`; the bases may also be at its top level.
    Number of f64
    //                   config.json                                                GGUF
  | RmsEpsilon           ["rms_norm_eps" "norm_eps"]                                "attention.layer_norm_rms_epsilon"
  | LayerNormEpsilon     ["layer_norm_eps" "layer_norm_epsilon" "norm_epsilon"]     "attention.layer_norm_epsilon"
  | AttentionScale       ["attention_multiplier"]                                   "attention.scale"
  | EmbeddingScale       ["embedding_multiplier" "scale_emb"]                       "embedding_scale"
  | ResidualScale        ["residual_multiplier"]                                    "residual_scale"
  | LogitScale           ["logits_scaling" "logit_scale"]                           "logit_scale"
  | Clamp                ["clip_qkv"]                                               "attention.clamp_kqv"
  | ExpertScale          ["routed_scaling_factor"]                                  "expert_weights_scale"
  | AttentionSoftcap     ["attn_logit_softcapping"]                                 "attn_logit_softcapping"
  | FinalSoftcap         ["final_logit_softcapping"]                                "final_logit_softcapping"
  | TemperatureScale     ["llama_4_scaling_beta"]                                   "attention.temperature_scale"
  | RopeBase             ["global_rope_theta" "rope_global_theta" "rope_theta_global" "rope_theta" "rotary_emb_base"] "rope.freq_base" or 10_000.0
  | WindowRopeBase       ["local_rope_theta" "rope_local_theta" "rope_theta_local" "swa_rope_theta" "rope_local_base_freq"] "rope.freq_base_swa"
  | RopeFactor           ["factor"]                                                 "rope.scaling.factor" or 1.0
  | RopeAttnFactor       []                                                         "rope.scaling.attn_factor" or 1.0
  | YarnExtFactor        ["extrapolation_factor"]                                   "rope.scaling.yarn_ext_factor"
  | YarnAttnFactor       ["attention_factor" "attn_factor"]                         "rope.scaling.yarn_attn_factor"
  | YarnBetaFast         ["beta_fast"]                                              "rope.scaling.yarn_beta_fast" or 32.0
  | YarnBetaSlow         ["beta_slow"]                                              "rope.scaling.yarn_beta_slow" or 1.0
  | YarnLogMultiplier    ["mscale_all_dim"]                                         "rope.scaling.yarn_log_multiplier"
}

impl Key {
    /// The key with the name `name` in `config.json`.
    pub(super) fn named(name: &str) -> Option<Key> {
        let mut all = Key::ALL.iter().copied();
        all.find(|key| key.hugging_face().contains(&name))
    }
}

/// The configuration that hyperparameters are read from.
#[derive(Clone, Copy, Debug)]
enum ConfigSource<'a> {
    Config(&'a Json),
    Gguf(&'a Metadata),
}

/// Reads a model's raw configuration by [`Key`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct HParams<'a> {
    source: ConfigSource<'a>,
    /// The architecture's prefix in GGUF metadata.
    prefix: &'a str,
    /// Defaults of llama.cpp's loader for keys that a GGUF does not state.
    gguf_defaults: &'static [(Key, u64)],
}

impl<'a> HParams<'a> {
    /// Reads `raw` for the architecture whose GGUF keys start with `prefix`.
    pub(super) fn new(raw: &'a RawConfig, prefix: &'a str) -> HParams<'a> {
        let source = match raw {
            RawConfig::HuggingFace(config) => ConfigSource::Config(config),
            RawConfig::Gguf(metadata) => ConfigSource::Gguf(metadata),
        };
        HParams {
            source,
            prefix,
            gguf_defaults: &[],
        }
    }

    /// Reads a `config.json`.
    pub(crate) fn of_config(config: &'a Json) -> HParams<'a> {
        HParams {
            source: ConfigSource::Config(config),
            prefix: "",
            gguf_defaults: &[],
        }
    }

    /// The same with the defaults of llama.cpp's loader for keys that a GGUF does not state.
    pub(super) fn with_gguf_defaults(self, gguf_defaults: &'static [(Key, u64)]) -> HParams<'a> {
        HParams {
            gguf_defaults,
            ..self
        }
    }

    /// Whether the configuration is a `config.json`.
    pub(super) fn is_hugging_face(&self) -> bool {
        matches!(self.source, ConfigSource::Config(_))
    }

    /// A value of `config.json`, from the text part of a multimodal model or from the top level.
    pub(crate) fn json(&self, name: &str) -> Option<&'a Json> {
        match self.source {
            ConfigSource::Config(config) => json_lookup(config, name),
            ConfigSource::Gguf(_) => None,
        }
    }

    /// The first of `names` that `config.json` states, with its value; `null` counts as not stated.
    pub(crate) fn stated<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Json)> {
        let stated = |name: &'n str| Some((name, self.json(name).filter(|v| !is_unstated(v))?));
        names.iter().copied().find_map(stated)
    }

    /// A GGUF value by its key after the architecture's prefix.
    pub(super) fn metadata(&self, key: &str) -> Option<&'a Value> {
        match self.source {
            ConfigSource::Gguf(metadata) => metadata.get(&format!("{}.{key}", self.prefix)),
            ConfigSource::Config(_) => None,
        }
    }

    /// A floating-point number for each of `blocks`, under a GGUF key without the architecture's name.
    ///
    /// Errors if there are none, fewer, or one is not finite.
    pub(super) fn floats(&self, key: &str, blocks: u64) -> Result<Vec<f32>, ModelError> {
        let value = match self.source {
            ConfigSource::Gguf(metadata) => metadata.get(key),
            ConfigSource::Config(_) => None,
        };
        let numbers: Option<Vec<f32>> = match value {
            None => {
                let key = key.to_owned();
                return Err(ModelError::MissingKey { key });
            }
            Some(Value::F32(one)) => Some(vec![*one; blocks as usize]),
            Some(Value::F32s(all)) => Some(all.clone()),
            Some(Value::Array(all)) => {
                let all = all.iter().map(|item| item.as_f64().map(|x| x as f32));
                all.collect()
            }
            Some(_) => None,
        };
        let fits = |all: &Vec<f32>| {
            all.len() as u64 == blocks && all.iter().all(|number| number.is_finite())
        };
        let bad = || ModelError::BadNumber {
            key: key.to_owned(),
        };
        numbers.filter(fits).ok_or_else(bad)
    }

    /// The numbers of `key`: one for a scalar, several for an array, `None` if absent or null.
    ///
    /// Errors if the value is there and not a whole, non-negative number of a plausible size.
    pub(super) fn numbers(&self, key: Key) -> Result<Option<Vec<u64>>, ModelError> {
        let found = match self.source {
            ConfigSource::Config(_) => self
                .stated(key.hugging_face())
                .map(|(name, value)| (name, json_numbers(value))),
            ConfigSource::Gguf(_) => match self.metadata(key.gguf()) {
                Some(value) => Some((key.gguf(), value_numbers(value))),
                None => self.gguf_default(key).map(|n| (key.gguf(), Some(vec![n]))),
            },
        };
        let plausible = |numbers: &Vec<u64>| numbers.iter().all(|&n| n < limit(key));
        match found {
            None => Ok(None),
            Some((name, numbers)) => match numbers.filter(plausible) {
                Some(numbers) => Ok(Some(numbers)),
                None => Err(ModelError::BadValue {
                    key: name.to_owned(),
                }),
            },
        }
    }

    fn gguf_default(&self, key: Key) -> Option<u64> {
        let mut defaults = self.gguf_defaults.iter();
        defaults.find(|(of, _)| *of == key).map(|(_, n)| *n)
    }

    /// The single value of `key`; the first entry of an array where blocks may differ.
    pub(super) fn get(&self, key: Key) -> Result<Option<u64>, ModelError> {
        let numbers = self.numbers(key)?.unwrap_or_default();
        if numbers.len() > 1 && OF_THE_MODEL.contains(&key) {
            let key = self.name(key);
            return Err(ModelError::BadValue { key });
        }
        Ok(numbers.first().copied())
    }

    /// The single value of `key`, or zero.
    pub(super) fn or_zero(&self, key: Key) -> Result<u64, ModelError> {
        Ok(self.get(key)?.unwrap_or(0))
    }

    /// The single value of `key`; the default of its row if it is not stated or zero.
    pub(super) fn or_default(&self, key: Key) -> Result<u64, ModelError> {
        let stated = self.get(key)?.filter(|&n| n > 0);
        Ok(stated.or(key.default()).unwrap_or(0))
    }

    /// The single value of `key`.
    ///
    /// Errors if it is missing or zero, or not a number of a plausible size.
    pub(super) fn need(&self, key: Key) -> Result<u64, ModelError> {
        match self.get(key)? {
            Some(value) if value > 0 => Ok(value),
            _ => Err(self.missing(key)),
        }
    }

    /// The name of `key` in this configuration.
    pub(super) fn name(&self, key: Key) -> String {
        match self.source {
            ConfigSource::Config(_) => {
                let name = key.hugging_face().first();
                name.copied().unwrap_or_default().to_owned()
            }
            ConfigSource::Gguf(_) => format!("{}.{}", self.prefix, key.gguf()),
        }
    }

    /// The error for a missing `key`.
    pub(super) fn missing(&self, key: Key) -> ModelError {
        ModelError::MissingKey {
            key: self.name(key),
        }
    }

    /// One value of `key` per block: an array's first ones, a scalar repeated.
    ///
    /// Errors as [`Self::numbers`], and if an array has too few.
    pub(super) fn per_block(
        &self,
        key: Key,
        blocks: usize,
    ) -> Result<Option<Vec<u64>>, ModelError> {
        match self.numbers(key)? {
            Some(list) if list.len() > 1 && list.len() < blocks => Err(ModelError::BadValue {
                key: self.name(key),
            }),
            Some(mut list) if list.len() > 1 => {
                list.truncate(blocks);
                Ok(Some(list))
            }
            _ => Ok(self.get(key)?.map(|value| vec![value; blocks])),
        }
    }

    /// A boolean of `config.json`, one of [`FLAGS`].
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        debug_assert!(FLAGS.contains(&name), "{name}");
        self.json(name).and_then(truth)
    }

    /// A list of strings of `config.json`, such as `layer_types`.
    pub(super) fn words(&self, name: &str) -> Option<Vec<&'a str>> {
        self.json(name)?
            .as_array()?
            .iter()
            .map(Json::as_str)
            .collect()
    }
}

/// Every boolean that is read. A value that is none is refused.
pub(super) const FLAGS: &[&str] = &[
    "add_bias_linear",
    "attention_bias",
    "attention_k_eq_v",
    "block_auto_adjust_ff_dim",
    "enable_moe_block",
    "mamba_conv_bias",
    "mamba_proj_bias",
    "mamba_rms_norm",
    "mlp_bias",
    "norm_topk_prob",
    "tie_embedding",
    "tie_word_embeddings",
    "use_bias",
    "use_conv_bias",
    "use_double_wide_mlp",
    "use_qk_norm",
    "use_qkv_bias",
    "use_shared_attention_adapter",
];

/// Whether a value is true or false; Python takes 1 and 0 as well.
pub(super) fn truth(value: &Json) -> Option<bool> {
    match value.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => value.as_bool(),
    }
}

/// What a model has one of: an array is that of several models in one, such as a decoder's and a depth decoder's.
const OF_THE_MODEL: [Key; 6] = [
    Key::Blocks,
    Key::Hidden,
    Key::Vocab,
    Key::Context,
    Key::SharedTransformers,
    Key::AdapterRank,
];

/// Looks `name` up in the text part of a multimodal configuration, then at the top level.
pub(crate) fn json_lookup<'a>(config: &'a Json, name: &str) -> Option<&'a Json> {
    text_config(config).get(name).or_else(|| config.get(name))
}

/// Where a multimodal configuration describes the text model, as JSON pointers. A model that also speaks has a part that
/// thinks, with a text model of its own.
pub(crate) const TEXT_PARTS: &[&str] = &[
    "/text_config",
    "/llm_config",
    "/language_config",
    "/thinker_config/text_config",
];

/// The part called `name` that describes an encoder.
pub(crate) fn encoder_part<'a>(config: &'a Json, name: &str) -> Option<&'a Json> {
    let thinker = || config.get("thinker_config")?.get(name);
    config.get(name).or_else(thinker)
}

/// The part of a configuration that describes the text model.
pub(super) fn text_config(config: &Json) -> &Json {
    TEXT_PARTS
        .iter()
        .find_map(|part| config.pointer(part).filter(|v| v.is_object()))
        .unwrap_or(config)
}

/// Whether a value counts as not stated: `null`, or `auto` for a value that follows from others.
fn is_unstated(value: &Json) -> bool {
    value.is_null() || value.as_str() == Some("auto")
}

/// The upper limit of a hyperparameter. Products of two stay below 2^62, so that sums of a few fit into 64 bits;
/// products with numbers of tokens saturate.
fn limit(key: Key) -> u64 {
    match key {
        Key::Context | Key::LongestText | Key::OriginalContext | Key::Vocab => 1 << 40,
        _ => 1 << 31,
    }
}

fn json_numbers(value: &Json) -> Option<Vec<u64>> {
    let one = |v: &Json| {
        v.as_u64().or_else(|| {
            v.as_f64()
                .filter(|f| f.fract() == 0.0 && *f >= 0.0)
                .map(|f| f as u64)
        })
    };
    match value {
        Json::Array(items) => items.iter().map(one).collect(),
        single => Some(vec![one(single)?]),
    }
}

fn value_numbers(value: &Value) -> Option<Vec<u64>> {
    match value {
        Value::Array(items) => items.iter().map(value_number).collect(),
        // Metadata made by conversion.
        Value::I32s(items) => items.iter().map(|&n| u64::try_from(n).ok()).collect(),
        single => Some(vec![value_number(single)?]),
    }
}

fn value_number(value: &Value) -> Option<u64> {
    match *value {
        Value::Bool(b) => Some(b.into()),
        _ => value.as_u64(),
    }
}
