//! Hyperparameters by one name, whether they stand in a `config.json` or in GGUF metadata.

use serde_json::Value as Json;

use crate::checkpoint::RawConfig;
use crate::gguf::Value;
use crate::model::ModelError;

macro_rules! keys {
    ($($key:ident [$($hf:literal)*] $gguf:literal;)*) => {
        /// A hyperparameter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Key { $($key),* }

        impl Key {
            /// The names it has in `config.json`, the first found counts.
            pub fn hugging_face(self) -> &'static [&'static str] {
                match self { $(Key::$key => &[$($hf),*]),* }
            }

            /// The key that `config.json` calls `name`.
            pub(super) fn named(name: &str) -> Option<Key> {
                let all: &[(Key, &[&str])] = &[$((Key::$key, &[$($hf),*])),*];
                let found = all.iter().find(|(_, names)| names.contains(&name));
                found.map(|(key, _)| *key)
            }

            /// The key it has in GGUF metadata, after the architecture's name and a dot.
            pub fn gguf(self) -> &'static str {
                match self { $(Key::$key => $gguf),* }
            }
        }
    };
}

keys! {
    // key               config.json                                                GGUF
    Blocks               ["num_hidden_layers" "n_layer" "num_layers"]               "block_count";
    Hidden               ["hidden_size" "n_embd" "d_model"]                         "embedding_length";
    Vocab                ["vocab_size"]                                             "vocab_size";
    Context              ["max_position_embeddings" "n_positions" "max_seq_len" "seq_length" "model_max_length"] "context_length";
    Heads                ["num_attention_heads" "n_head" "num_heads"]               "attention.head_count";
    KvHeads              ["num_key_value_heads" "n_head_kv"]                        "attention.head_count_kv";
    HeadDim              ["head_dim" "attention_head_dim"]                          "attention.key_length";
    ValueDim             ["v_head_dim"]                                             "attention.value_length";
    WindowKvHeads        ["num_swa_key_value_heads"]                                "attention.head_count_kv_swa";
    WindowHeadDim        ["swa_head_dim"]                                           "attention.key_length_swa";
    WindowValueDim       ["swa_v_head_dim"]                                         "attention.value_length_swa";
    GlobalKvHeads        ["num_global_key_value_heads"]                             "attention.head_count_kv_global";
    GlobalHeadDim        ["global_head_dim"]                                        "attention.key_length_global";
    Ffn                  ["intermediate_size" "n_inner" "ffn_dim" "block_ff_dim"]   "feed_forward_length";
    Window               ["sliding_window" "sliding_window_attention_size"]                                       "attention.sliding_window";
    WindowPattern        ["sliding_window_pattern" "_sliding_window_pattern"]       "attention.sliding_window_pattern";
    SharedKvLayers       ["num_kv_shared_layers"]                                   "attention.shared_kv_layers";
    Experts              ["num_experts" "num_local_experts" "n_routed_experts"]     "expert_count";
    ExpertsUsed          ["num_experts_per_tok" "num_experts_per_token" "top_k_experts"] "expert_used_count";
    ExpertFfn            ["moe_intermediate_size" "expert_intermediate_size"]       "expert_feed_forward_length";
    SharedExperts        ["n_shared_experts"]                                       "expert_shared_count";
    SharedExpertFfn      ["shared_expert_intermediate_size" "shared_intermediate_size" "moe_shared_expert_intermediate_size"] "expert_shared_feed_forward_length";
    LeadingDense         ["first_k_dense_replace" "num_dense_layers"]               "leading_dense_block_count";
    ExpertLatent         ["moe_latent_size"]                                        "moe_latent_size";
    NextnLayers          ["num_nextn_predict_layers" "mtp_num_hidden_layers"]       "nextn_predict_layers";
    QLora                ["q_lora_rank"]                                            "attention.q_lora_rank";
    KvLora               ["kv_lora_rank"]                                           "attention.kv_lora_rank";
    NopeDim              ["qk_nope_head_dim"]                                       "attention.key_length_nope";
    RopeDim              ["qk_rope_head_dim"]                                       "rope.dimension_count";
    MlaKeyDim            ["qk_head_dim"]                                            "attention.key_length_mla";
    MlaValueDim          ["v_head_dim"]                                             "attention.value_length_mla";
    PerLayerDim          ["hidden_size_per_layer_input"]                            "embedding_length_per_layer_input";
    PerLayerVocab        ["vocab_size_per_layer_input"]                             "vocab_size_per_layer_input";
    Streams              ["altup_num_inputs"]                                       "altup.num_inputs";
    LaurelRank           ["laurel_rank"]                                            "laurel_rank";
    ConvKernel           ["linear_conv_kernel_dim" "mamba_d_conv" "conv_kernel"]    "ssm.conv_kernel";
    StateSize            ["linear_key_head_dim" "mamba_d_state" "ssm_state_size"]   "ssm.state_size";
    SsmGroups            ["linear_num_key_heads" "mamba_n_groups" "n_groups"]       "ssm.group_count";
    SsmHeads             ["linear_num_value_heads" "mamba_n_heads" "mamba_num_heads"] "ssm.time_step_rank";
    SsmHeadDim           ["linear_value_head_dim" "mamba_d_head" "mamba_head_dim"]  "ssm.head_dim";
    SsmInner             ["mamba_d_ssm"]                                            "ssm.inner_size";
    SsmExpand            ["mamba_expand" "expand"]                                  "ssm.expand";
    FullAttentionEvery   ["full_attention_interval"]                                "full_attention_interval";
    RecurrentLayers      []                                                         "attention.recurrent_layers";
    ShortconvCache       ["conv_L_cache"]                                           "shortconv.l_cache";
}

/// What llama.cpp takes where a GGUF of an architecture does not state it (`src/models/gemma3n.cpp`).
const GGUF_DEFAULTS: &[(&str, Key, u64)] = &[
    ("gemma3n", Key::Streams, 4),
    ("gemma3n", Key::PerLayerDim, 256),
];

/// A model's raw configuration read by [`Key`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    raw: &'a RawConfig,
    /// The architecture's prefix in GGUF metadata.
    prefix: &'a str,
}

impl<'a> Facts<'a> {
    /// Reads `raw` for the architecture whose GGUF keys start with `prefix`.
    pub(super) fn new(raw: &'a RawConfig, prefix: &'a str) -> Facts<'a> {
        Facts { raw, prefix }
    }

    /// Whether the configuration is a `config.json`.
    pub(super) fn is_hugging_face(&self) -> bool {
        matches!(self.raw, RawConfig::HuggingFace(_))
    }

    /// A value of `config.json`: of the text part of a multimodal model, else of the whole.
    pub(super) fn json(&self, name: &str) -> Option<&'a Json> {
        let RawConfig::HuggingFace(config) = self.raw else {
            return None;
        };
        json_lookup(config, name)
    }

    /// A GGUF value by its key after the architecture's prefix.
    pub(super) fn metadata(&self, key: &str) -> Option<&'a Value> {
        let RawConfig::Gguf(metadata) = self.raw else {
            return None;
        };
        metadata.get(&format!("{}.{key}", self.prefix))
    }

    /// The numbers of `key`: one for a scalar, several for an array, `None` if absent or null.
    ///
    /// Errors if the value is there and not a whole, non-negative number below 2^53.
    pub(super) fn numbers(&self, key: Key) -> Result<Option<Vec<u64>>, ModelError> {
        let found = match self.raw {
            RawConfig::HuggingFace(_) => key.hugging_face().iter().find_map(|name| {
                self.json(name)
                    .filter(|v| !is_unstated(v))
                    .map(|v| (*name, json_numbers(v)))
            }),
            RawConfig::Gguf(_) => match self.metadata(key.gguf()) {
                Some(value) => Some((key.gguf(), value_numbers(value))),
                None => self.gguf_default(key).map(|n| (key.gguf(), Some(vec![n]))),
            },
        };
        match found {
            None => Ok(None),
            Some((_, Some(numbers))) => Ok(Some(numbers)),
            Some((name, None)) => Err(ModelError::BadValue {
                key: name.to_owned(),
            }),
        }
    }

    fn gguf_default(&self, key: Key) -> Option<u64> {
        let mut found = GGUF_DEFAULTS.iter();
        let found = found.find(|(arch, of, _)| *arch == self.prefix && *of == key)?;
        Some(found.2)
    }

    /// The single value of `key`; the first entry of an array.
    pub(super) fn get(&self, key: Key) -> Result<Option<u64>, ModelError> {
        let numbers = self.numbers(key)?;
        Ok(numbers.and_then(|numbers| numbers.first().copied()))
    }

    /// The single value of `key`, or zero.
    pub(super) fn or_zero(&self, key: Key) -> Result<u64, ModelError> {
        Ok(self.get(key)?.unwrap_or(0))
    }

    /// The single value of `key`, positive and no larger than any model's.
    pub(super) fn need(&self, key: Key) -> Result<u64, ModelError> {
        match self.get(key)? {
            Some(value) if value > 0 => Ok(value),
            _ => Err(self.missing(key)),
        }
    }

    /// The name that this configuration has `key` under.
    pub(super) fn name(&self, key: Key) -> String {
        match self.raw {
            RawConfig::HuggingFace(_) => {
                let name = key.hugging_face().first();
                name.copied().unwrap_or_default().to_owned()
            }
            RawConfig::Gguf(_) => format!("{}.{}", self.prefix, key.gguf()),
        }
    }

    /// The error for `key` that is not there.
    pub(super) fn missing(&self, key: Key) -> ModelError {
        ModelError::MissingKey {
            key: self.name(key),
        }
    }

    /// One value of `key` per block: an array as it stands, a scalar repeated.
    pub(super) fn per_block(
        &self,
        key: Key,
        blocks: usize,
    ) -> Result<Option<Vec<u64>>, ModelError> {
        match self.numbers(key)? {
            Some(mut list) if list.len() > 1 => {
                let last = list.last().copied().unwrap_or(0);
                list.resize(blocks, last);
                Ok(Some(list))
            }
            _ => Ok(self.get(key)?.map(|value| vec![value; blocks])),
        }
    }

    /// A true-or-false value of `config.json`.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.json(name).and_then(Json::as_bool)
    }

    /// A list of words of `config.json`, such as `layer_types`.
    pub(super) fn words(&self, name: &str) -> Option<Vec<&'a str>> {
        self.json(name)?
            .as_array()?
            .iter()
            .map(Json::as_str)
            .collect()
    }
}

/// Looks `name` up in the text part of a multimodal configuration, then in the whole.
pub(super) fn json_lookup<'a>(config: &'a Json, name: &str) -> Option<&'a Json> {
    text_config(config).get(name).or_else(|| config.get(name))
}

/// Names of the part that describes the text model of a multimodal one.
pub(super) const TEXT_PARTS: &[&str] = &["text_config", "llm_config", "language_config"];

/// The part of a configuration that describes the text model.
pub(super) fn text_config(config: &Json) -> &Json {
    TEXT_PARTS
        .iter()
        .find_map(|part| config.get(part).filter(|v| v.is_object()))
        .unwrap_or(config)
}

/// `null`, or the word for a value that follows from others.
fn is_unstated(value: &Json) -> bool {
    value.is_null() || value.as_str() == Some("auto")
}

/// Hyperparameters are far below this; larger ones would overflow products of a few of them.
const LIMIT: u64 = 1 << 40;

fn json_numbers(value: &Json) -> Option<Vec<u64>> {
    let one = |v: &Json| {
        v.as_u64().or_else(|| {
            v.as_f64()
                .filter(|f| f.fract() == 0.0 && *f >= 0.0)
                .map(|f| f as u64)
        })
    };
    let numbers: Vec<u64> = match value {
        Json::Array(items) => items.iter().map(one).collect::<Option<_>>()?,
        single => vec![one(single)?],
    };
    numbers.iter().all(|&n| n < LIMIT).then_some(numbers)
}

fn value_numbers(value: &Value) -> Option<Vec<u64>> {
    let numbers = match value {
        Value::Array(items) => items.iter().map(value_number).collect::<Option<_>>()?,
        // As conversion makes them.
        Value::I32s(items) => {
            let numbers = items.iter().map(|&n| u64::try_from(n).ok());
            numbers.collect::<Option<_>>()?
        }
        single => vec![value_number(single)?],
    };
    numbers.iter().all(|&n| n < LIMIT).then_some(numbers)
}

fn value_number(value: &Value) -> Option<u64> {
    match *value {
        Value::Bool(b) => Some(b.into()),
        _ => value.as_u64(),
    }
}
