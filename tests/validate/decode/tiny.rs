//! Tiny models of every architecture that runs, as GGUF files of F32: weights follow from a hash of
//! their place, so that another engine can be given the very same file.

use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::gguf::{StringList, TensorEntry, Value, write_header};

pub(crate) const VOCABULARY: u64 = 96;
const HIDDEN: u64 = 64;
const INNER: u64 = 96;
/// Each token's own input to a block of gemma3n; llama.cpp knows no other width.
const PER_LAYER: u64 = 256;

/// The weights of tensor `index`: `(-1, 1) x scale`, or about one for a norm.
fn weights(index: usize, name: &str, count: u64) -> Vec<f32> {
    let value = |place: u64| {
        let mut hash = (place * 2_654_435_761 + index as u64 * 40_503 + 12_345) as u32;
        hash ^= hash >> 15;
        hash = hash.wrapping_mul(2_246_822_519);
        hash ^= hash >> 13;
        let unit = (hash >> 8) as f32 / (1 << 23) as f32 - 1.0;
        match name {
            _ if name.ends_with(".bias") => unit * 0.5,
            _ if name.contains("norm") || name.contains("rope_freqs") => 1.0 + unit * 0.25,
            _ if name.ends_with("ssm_a") => -1.0 - unit * 0.25,
            "token_embd.weight" => unit * 0.5,
            _ if name.contains("conv") => unit * 0.75,
            _ => unit * 0.25,
        }
    };
    (0..count).map(value).collect()
}

type Tensors = Vec<(String, Vec<u64>)>;

/// Name ends and shapes of the tensors of a block.
fn block(architecture: &str, index: u64) -> Vec<(&'static str, Vec<u64>)> {
    let attention = || {
        vec![
            ("attn_q.weight", vec![64, HIDDEN]),
            ("attn_k.weight", vec![32, HIDDEN]),
            ("attn_v.weight", vec![32, HIDDEN]),
            ("attn_output.weight", vec![HIDDEN, 64]),
        ]
    };
    let head_norms = || {
        vec![
            ("attn_q_norm.weight", vec![16]),
            ("attn_k_norm.weight", vec![16]),
        ]
    };
    let norm = |name| (name, vec![HIDDEN]);
    let plain = || vec![norm("attn_norm.weight"), norm("ffn_norm.weight")];
    let sandwich = || {
        vec![
            norm("attn_norm.weight"),
            norm("post_attention_norm.weight"),
            norm("ffn_norm.weight"),
            norm("post_ffw_norm.weight"),
        ]
    };
    let dense = || {
        vec![
            ("ffn_gate.weight", vec![INNER, HIDDEN]),
            ("ffn_up.weight", vec![INNER, HIDDEN]),
            ("ffn_down.weight", vec![HIDDEN, INNER]),
        ]
    };
    let experts = || {
        vec![
            ("ffn_gate_inp.weight", vec![4, HIDDEN]),
            ("ffn_gate_exps.weight", vec![4, 32, HIDDEN]),
            ("ffn_up_exps.weight", vec![4, 32, HIDDEN]),
            ("ffn_down_exps.weight", vec![4, HIDDEN, 32]),
        ]
    };
    let shared_expert = || {
        vec![
            ("ffn_gate_shexp.weight", vec![32, HIDDEN]),
            ("ffn_up_shexp.weight", vec![32, HIDDEN]),
            ("ffn_down_shexp.weight", vec![HIDDEN, 32]),
        ]
    };
    match (architecture, index) {
        ("rwkv7", _) => time_and_channel_mix(),
        ("bert", _) => {
            let biased = vec![
                ("attn_q.bias", vec![64]),
                ("attn_k.bias", vec![32]),
                ("attn_v.bias", vec![32]),
                norm("attn_output.bias"),
                norm("attn_output_norm.weight"),
                norm("attn_output_norm.bias"),
                ("ffn_up.weight", vec![INNER, HIDDEN]),
                ("ffn_up.bias", vec![INNER]),
                ("ffn_down.weight", vec![HIDDEN, INNER]),
                norm("ffn_down.bias"),
                norm("layer_output_norm.weight"),
                norm("layer_output_norm.bias"),
            ];
            [attention(), biased].concat()
        }
        ("kimi-linear", index) => {
            let mixer = match index {
                2 => vec![
                    ("attn_q.weight", vec![96, HIDDEN]),
                    ("attn_kv_a_mqa.weight", vec![40, HIDDEN]),
                    ("attn_kv_a_norm.weight", vec![32]),
                    ("attn_k_b.weight", vec![4, 32, 16]),
                    ("attn_v_b.weight", vec![4, 16, 32]),
                    ("attn_output.weight", vec![HIDDEN, 64]),
                ],
                _ => decayed_by_element(),
            };
            let feed = match index {
                0 => dense(),
                _ => {
                    let correction = vec![("exp_probs_b.bias", vec![4])];
                    [experts(), correction, shared_expert()].concat()
                }
            };
            [plain(), mixer, feed].concat()
        }
        ("qwen2", _) => {
            let biases = vec![
                ("attn_q.bias", vec![64]),
                ("attn_k.bias", vec![32]),
                ("attn_v.bias", vec![32]),
            ];
            [plain(), attention(), biases, dense()].concat()
        }
        ("qwen3", _) => [plain(), attention(), head_norms(), dense()].concat(),
        ("phi3", _) => {
            let fused = vec![
                ("attn_qkv.weight", vec![128, HIDDEN]),
                ("attn_output.weight", vec![HIDDEN, 64]),
                ("ffn_up.weight", vec![2 * INNER, HIDDEN]),
                ("ffn_down.weight", vec![HIDDEN, INNER]),
            ];
            [plain(), fused].concat()
        }
        ("starcoder2", _) => {
            let without_gate = vec![
                ("ffn_up.weight", vec![INNER, HIDDEN]),
                ("ffn_down.weight", vec![HIDDEN, INNER]),
            ];
            let biases = vec![
                norm("attn_norm.bias"),
                norm("ffn_norm.bias"),
                ("attn_q.bias", vec![64]),
                ("attn_k.bias", vec![32]),
                ("attn_v.bias", vec![32]),
                ("attn_output.bias", vec![HIDDEN]),
                ("ffn_up.bias", vec![INNER]),
                ("ffn_down.bias", vec![HIDDEN]),
            ];
            [plain(), attention(), without_gate, biases].concat()
        }
        ("gemma2", _) => [sandwich(), attention(), dense()].concat(),
        ("gemma3", _) => [sandwich(), attention(), head_norms(), dense()].concat(),
        ("gemma3n", _) => {
            let streams = vec![
                ("altup_router.weight", vec![4, HIDDEN]),
                norm("altup_router_norm.weight"),
                ("altup_predict_coef.weight", vec![16, 4]),
                ("altup_correct_coef.weight", vec![4, 4]),
                norm("altup_correct_scale.weight"),
                ("laurel_l.weight", vec![64, HIDDEN]),
                ("laurel_r.weight", vec![HIDDEN, 64]),
                norm("laurel_post_norm.weight"),
                ("inp_gate.weight", vec![PER_LAYER, HIDDEN]),
                ("proj.weight", vec![HIDDEN, PER_LAYER]),
                norm("post_norm.weight"),
            ];
            [sandwich(), attention(), head_norms(), dense(), streams].concat()
        }
        ("qwen3moe", _) => [plain(), attention(), head_norms(), experts()].concat(),
        ("lfm2", 1) => [plain(), attention(), head_norms(), dense()].concat(),
        ("lfm2", _) => {
            let convolution = vec![
                ("shortconv.conv.weight", vec![HIDDEN, 3]),
                ("shortconv.in_proj.weight", vec![3 * HIDDEN, HIDDEN]),
                ("shortconv.out_proj.weight", vec![HIDDEN, HIDDEN]),
            ];
            [plain(), convolution, dense()].concat()
        }
        ("qwen35" | "qwen3next", index) => {
            let norms = vec![norm("attn_norm.weight"), norm("post_attention_norm.weight")];
            let mixer = match index {
                3 => {
                    let mut gated = attention();
                    gated[0].1[0] = 128;
                    [gated, head_norms()].concat()
                }
                _ => {
                    let net = vec![
                        ("attn_qkv.weight", vec![128, HIDDEN]),
                        ("attn_gate.weight", vec![64, HIDDEN]),
                        ("ssm_conv1d.weight", vec![128, 4]),
                        ("ssm_dt.bias", vec![4]),
                        ("ssm_a", vec![4]),
                    ];
                    let rates = match architecture {
                        "qwen35" => vec![
                            ("ssm_beta.weight", vec![4, HIDDEN]),
                            ("ssm_alpha.weight", vec![4, HIDDEN]),
                        ],
                        _ => vec![("ssm_ba.weight", vec![8, HIDDEN])],
                    };
                    let output = vec![
                        ("ssm_norm.weight", vec![16]),
                        ("ssm_out.weight", vec![HIDDEN, 64]),
                    ];
                    [net, rates, output].concat()
                }
            };
            let feed = match architecture {
                "qwen35" => dense(),
                _ => {
                    let gate = vec![("ffn_gate_inp_shexp.weight", vec![HIDDEN])];
                    [experts(), shared_expert(), gate].concat()
                }
            };
            [norms, mixer, feed].concat()
        }
        _ => [plain(), attention(), dense()].concat(),
    }
}

/// A delta net of Kimi-Linear.
fn decayed_by_element() -> Vec<(&'static str, Vec<u64>)> {
    let square = || vec![64, HIDDEN];
    let convolution = || vec![1, 64, 1, 4];
    vec![
        ("attn_q.weight", square()),
        ("attn_k.weight", square()),
        ("attn_v.weight", square()),
        ("ssm_conv1d_q.weight", convolution()),
        ("ssm_conv1d_k.weight", convolution()),
        ("ssm_conv1d_v.weight", convolution()),
        ("ssm_f_a.weight", vec![16, HIDDEN]),
        ("ssm_f_b.weight", vec![64, 16]),
        ("ssm_beta.weight", vec![4, HIDDEN]),
        ("ssm_a", vec![1, 1, 4, 1]),
        ("ssm_dt.bias", vec![64]),
        ("ssm_g_a.weight", vec![16, HIDDEN]),
        ("ssm_g_b.weight", vec![64, 16]),
        ("ssm_norm.weight", vec![16]),
        ("attn_output.weight", vec![HIDDEN, 64]),
    ]
}

/// A block of RWKV 7.
fn time_and_channel_mix() -> Vec<(&'static str, Vec<u64>)> {
    let rows = [
        "attn_norm.weight",
        "attn_norm.bias",
        "attn_norm_2.weight",
        "attn_norm_2.bias",
        "time_mix_w0.weight",
        "time_mix_a0.weight",
        "time_mix_v0.weight",
        "time_mix_k_k.weight",
        "time_mix_k_a.weight",
        "time_mix_r_k.weight",
        "time_mix_ln.weight",
        "time_mix_ln.bias",
        "channel_mix_lerp_k.weight",
    ];
    let down = [
        "time_mix_w1.weight",
        "time_mix_a1.weight",
        "time_mix_v1.weight",
        "time_mix_g1.weight",
    ];
    let up = [
        "time_mix_w2.weight",
        "time_mix_a2.weight",
        "time_mix_v2.weight",
        "time_mix_g2.weight",
    ];
    let square = [
        "time_mix_key.weight",
        "time_mix_value.weight",
        "time_mix_receptance.weight",
        "time_mix_output.weight",
    ];
    let mut all = vec![
        ("time_mix_lerp_fused.weight", vec![6, 1, 1, HIDDEN]),
        ("channel_mix_key.weight", vec![INNER, HIDDEN]),
        ("channel_mix_value.weight", vec![HIDDEN, INNER]),
    ];
    all.extend(rows.map(|name| (name, vec![HIDDEN])));
    all.extend(down.map(|name| (name, vec![8, HIDDEN])));
    all.extend(up.map(|name| (name, vec![HIDDEN, 8])));
    all.extend(square.map(|name| (name, vec![HIDDEN, HIDDEN])));
    all
}

fn tensors(architecture: &str, blocks: u64) -> Tensors {
    let mut all: Tensors = vec![("token_embd.weight".into(), vec![VOCABULARY, HIDDEN])];
    for index in 0..blocks {
        let own = block(architecture, index).into_iter();
        all.extend(own.map(|(name, shape)| (format!("blk.{index}.{name}"), shape)));
    }
    let last = match architecture {
        "lfm2" | "bert" => "token_embd_norm.weight",
        _ => "output_norm.weight",
    };
    all.push((last.into(), vec![HIDDEN]));
    if matches!(architecture, "llama" | "phi3" | "kimi-linear" | "rwkv7") {
        all.push(("output.weight".into(), vec![VOCABULARY, HIDDEN]));
    }
    if architecture == "gemma3n" {
        let stack = vec![3, HIDDEN, HIDDEN];
        all.push(("altup_proj.weight".into(), stack.clone()));
        all.push(("altup_unembd_proj.weight".into(), stack));
        let width = PER_LAYER * blocks;
        all.push((
            "per_layer_token_embd.weight".into(),
            vec![VOCABULARY, width],
        ));
        all.push(("per_layer_model_proj.weight".into(), vec![width, HIDDEN]));
        all.push(("per_layer_proj_norm.weight".into(), vec![PER_LAYER]));
    }
    if matches!(architecture, "starcoder2" | "rwkv7") {
        all.push(("output_norm.bias".into(), vec![HIDDEN]));
    }
    if architecture == "bert" {
        all.push(("token_embd_norm.bias".into(), vec![HIDDEN]));
        all.push(("token_types.weight".into(), vec![2, HIDDEN]));
        all.push(("position_embd.weight".into(), vec![512, HIDDEN]));
    }
    if architecture == "rwkv7" {
        all.push(("token_embd_norm.weight".into(), vec![HIDDEN]));
        all.push(("token_embd_norm.bias".into(), vec![HIDDEN]));
    }
    if architecture == "llama" {
        all.push(("rope_freqs.weight".into(), vec![8]));
    }
    all
}

/// The number of blocks, and the keys that only this architecture has.
fn particulars(architecture: &str) -> (u64, Vec<(&'static str, Value)>) {
    let numbers = |pairs: &[(&'static str, u32)]| {
        pairs.iter().map(|&(key, n)| (key, Value::U32(n))).collect()
    };
    match architecture {
        "llama" => (2, numbers(&[("rope.dimension_count", 16)])),
        "smollm3" => (4, Vec::new()),
        "phi3" => (2, numbers(&[("rope.dimension_count", 12)])),
        "gemma2" => (
            2,
            vec![
                ("attention.sliding_window", Value::U32(8)),
                ("attn_logit_softcapping", Value::F32(20.0)),
                ("final_logit_softcapping", Value::F32(30.0)),
            ],
        ),
        "gemma3" => (
            7,
            vec![
                ("attention.sliding_window", Value::U32(8)),
                ("rope.scaling.type", Value::String("linear".into())),
                ("rope.scaling.factor", Value::F32(4.0)),
            ],
        ),
        // The first 20 have caches; of those behind them four read a windowed one and the last a whole one.
        "gemma3n" => (
            25,
            numbers(&[
                ("attention.sliding_window", 8),
                ("altup.num_inputs", 4),
                ("embedding_length_per_layer_input", PER_LAYER as u32),
            ]),
        ),
        "qwen3moe" => (
            2,
            numbers(&[
                ("expert_count", 4),
                ("expert_used_count", 2),
                ("expert_feed_forward_length", 32),
            ]),
        ),
        "lfm2" => (3, numbers(&[("shortconv.l_cache", 3)])),
        "qwen35" => (
            4,
            numbers(&[
                ("rope.dimension_count", 8),
                ("ssm.conv_kernel", 4),
                ("ssm.inner_size", 64),
                ("ssm.state_size", 16),
                ("ssm.time_step_rank", 4),
                ("ssm.group_count", 2),
            ]),
        ),
        "qwen3next" => {
            let (blocks, mut keys) = particulars("qwen35");
            let (_, experts) = particulars("qwen3moe");
            keys.extend(experts);
            keys.push(("expert_shared_feed_forward_length", Value::U32(32)));
            (blocks, keys)
        }
        "kimi-linear" => {
            let (_, mut keys) = particulars("qwen3moe");
            keys.extend(numbers(&[
                ("attention.key_length", 40),
                ("attention.value_length", 32),
                ("attention.key_length_mla", 24),
                ("attention.value_length_mla", 16),
                ("attention.kv_lora_rank", 32),
                ("rope.dimension_count", 8),
                ("ssm.conv_kernel", 4),
                ("kda.head_dim", 16),
                ("expert_shared_count", 1),
                ("expert_gating_func", 2),
                ("leading_dense_block_count", 1),
            ]));
            keys.push(("expert_weights_scale", Value::F32(1.5)));
            let attends = [0, 0, 1, 0].map(Value::U32).to_vec();
            keys.push(("attention.head_count_kv", Value::Array(attends)));
            (4, keys)
        }
        "bert" => (
            2,
            vec![
                ("attention.causal", Value::Bool(false)),
                ("pooling_type", Value::U32(2)),
            ],
        ),
        // llama.cpp's vectors leave nothing over in heads of 64 alone.
        "rwkv7" => (
            3,
            numbers(&[
                ("wkv.head_size", 64),
                ("attention.decay_lora_rank", 8),
                ("attention.iclr_lora_rank", 8),
                ("attention.value_residual_mix_lora_rank", 8),
                ("attention.gate_lora_rank", 8),
                ("attention.head_count", 0),
            ]),
        ),
        _ => (2, Vec::new()),
    }
}

fn metadata(architecture: &str) -> (u64, Vec<(String, Value)>) {
    let (blocks, own) = particulars(architecture);
    let kv_heads = match architecture {
        "lfm2" => Value::Array(vec![Value::U32(0), Value::U32(2), Value::U32(0)]),
        _ => Value::U32(2),
    };
    let epsilon = match architecture {
        "starcoder2" | "rwkv7" | "bert" => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    let common = [
        ("block_count", Value::U32(blocks as u32)),
        ("context_length", Value::U32(512)),
        ("embedding_length", Value::U32(HIDDEN as u32)),
        ("attention.head_count", Value::U32(4)),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", Value::U32(16)),
        ("attention.value_length", Value::U32(16)),
        ("feed_forward_length", Value::U32(INNER as u32)),
        (epsilon, Value::F32(1e-5)),
        ("rope.freq_base", Value::F32(10_000.0)),
    ];
    let mut tokens = StringList::default();
    (0..VOCABULARY).for_each(|id| tokens.push(&format!("t{id}")));
    let mut merges = StringList::default();
    merges.push("t 1");
    let mut all = vec![
        (
            "general.architecture".to_owned(),
            Value::String(architecture.into()),
        ),
        (
            "tokenizer.ggml.model".to_owned(),
            Value::String("gpt2".into()),
        ),
        (
            "tokenizer.ggml.pre".to_owned(),
            Value::String("gpt-2".into()),
        ),
        ("tokenizer.ggml.tokens".to_owned(), Value::Strings(tokens)),
        ("tokenizer.ggml.merges".to_owned(), Value::Strings(merges)),
    ];
    if architecture == "bert" {
        let types = "tokenizer.ggml.token_type_count".to_owned();
        all.push((types, Value::U32(2)));
    }
    let stated = |key: &str| own.iter().any(|(stated, _)| *stated == key);
    let mut keys: Vec<(&str, Value)> = common.into_iter().filter(|(key, _)| !stated(key)).collect();
    keys.extend(own);
    let keys = keys.into_iter();
    all.extend(keys.map(|(key, value)| (format!("{architecture}.{key}"), value)));
    (blocks, all)
}

/// Writes the model to `path`; `change` may damage its tensors' shapes or its metadata.
pub(crate) fn write(
    architecture: &str,
    path: &Path,
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Tensors),
) {
    let (blocks, mut metadata) = metadata(architecture);
    let mut tensors = tensors(architecture, blocks);
    change(&mut metadata, &mut tensors);
    let entries: Vec<TensorEntry<'_>> = tensors
        .iter()
        .map(|(name, shape)| TensorEntry {
            name,
            dtype: Dtype::F32,
            shape,
        })
        .collect();
    let mut file = Vec::new();
    write_header(&mut file, &metadata, &entries).unwrap();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        for value in weights(index, name, shape.iter().product()) {
            file.extend(value.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32), 0);
    }
    std::fs::write(path, file).unwrap();
}
