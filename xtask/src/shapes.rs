//! The shapes of published models: configuration and every tensor, written out here and not taken
//! from the code under test. Sources: the models' own `config.json` and safetensors headers on the
//! Hugging Face hub; parameter counts as published there.

use serde_json::{Value, json};

/// A tensor: name, safetensors type, shape.
pub(crate) type Tensor = (String, &'static str, Vec<u64>);

/// A published model.
pub(crate) struct Shape {
    /// The directory it becomes.
    pub(crate) name: &'static str,
    pub(crate) config: Value,
    pub(crate) tensors: Vec<Tensor>,
    /// Logical weights as published, which the tensors above must add up to.
    pub(crate) parameters: u64,
}

/// The models of the study of decode on the Orin Nano, in the forms it ran through vLLM, and
/// unquantized where it ran GGUF files; beside them one with experts.
pub(crate) fn published() -> Vec<Shape> {
    vec![
        qwen25_05b(),
        qwen3_06b(),
        qwen3_06b_fp8(),
        gemma3_1b(),
        gemma3n_e2b(),
        granite31_1b(),
    ]
}

/// A plain decoder's numbers.
#[derive(Clone, Copy)]
struct Decoder {
    prefix: &'static str,
    blocks: u64,
    hidden: u64,
    inner: u64,
    queries: u64,
    keys: u64,
    vocab: u64,
}

fn bf16(name: String, shape: &[u64]) -> Tensor {
    (name, "BF16", shape.to_vec())
}

/// Embedding, projections and feed-forward, final norm; `more` adds what a family has in a block.
fn decoder(d: Decoder, more: impl Fn(&str, &mut Vec<Tensor>)) -> Vec<Tensor> {
    let Decoder {
        prefix,
        blocks,
        hidden,
        inner,
        queries,
        keys,
        vocab,
    } = d;
    let mut tensors = vec![bf16(
        format!("{prefix}embed_tokens.weight"),
        &[vocab, hidden],
    )];
    for block in 0..blocks {
        let at = format!("{prefix}layers.{block}.");
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
        ] {
            tensors.push(bf16(format!("{at}{name}.weight"), &shape));
        }
        more(&at, &mut tensors);
    }
    tensors.push(bf16(format!("{prefix}norm.weight"), &[hidden]));
    tensors
}

pub(crate) fn qwen25_05b() -> Shape {
    let numbers = Decoder {
        prefix: "model.",
        blocks: 24,
        hidden: 896,
        inner: 4864,
        queries: 896,
        keys: 128,
        vocab: 151_936,
    };
    Shape {
        name: "qwen2.5-0.5b-instruct",
        config: json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896,
            "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151_936,
            "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "hidden_act": "silu",
            "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
            "sliding_window": 32768, "max_window_layers": 21,
            "bos_token_id": 151_643, "eos_token_id": 151_645,
        }),
        tensors: decoder(numbers, |at, tensors| {
            for (name, width) in [("k", 128), ("q", 896), ("v", 128)] {
                tensors.push(bf16(format!("{at}self_attn.{name}_proj.bias"), &[width]));
            }
        }),
        parameters: 494_032_768,
    }
}

const QWEN3_06B: Decoder = Decoder {
    prefix: "model.",
    blocks: 28,
    hidden: 1024,
    inner: 3072,
    queries: 2048,
    keys: 1024,
    vocab: 151_936,
};

fn qwen3_config() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024,
        "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "vocab_size": 151_936, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "hidden_act": "silu",
        "tie_word_embeddings": true, "attention_bias": false, "torch_dtype": "bfloat16",
        "bos_token_id": 151_643, "eos_token_id": 151_645,
    })
}

fn head_norms(at: &str, width: u64, tensors: &mut Vec<Tensor>) {
    for name in ["k_norm", "q_norm"] {
        tensors.push(bf16(format!("{at}self_attn.{name}.weight"), &[width]));
    }
}

pub(crate) fn qwen3_06b() -> Shape {
    Shape {
        name: "qwen3-0.6b",
        config: qwen3_config(),
        tensors: decoder(QWEN3_06B, |at, tensors| head_norms(at, 128, tensors)),
        parameters: 596_049_920,
    }
}

/// FP8 weights in blocks of 128 x 128 with a BF16 scale each; it stores its tied head again.
fn qwen3_06b_fp8() -> Shape {
    let mut config = qwen3_config();
    config["quantization_config"] = json!({
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
        "weight_block_size": [128, 128],
    });
    let tensors = qwen3_06b()
        .tensors
        .into_iter()
        .flat_map(|(name, dtype, shape)| {
            if !name.contains("_proj") {
                return vec![(name, dtype, shape)];
            }
            let scales: Vec<u64> = shape
                .iter()
                .map(|dimension| dimension.div_ceil(128))
                .collect();
            let scale = bf16(format!("{name}_scale_inv"), &scales);
            vec![(name, "F8_E4M3", shape), scale]
        });
    Shape {
        name: "qwen3-0.6b-fp8",
        config,
        tensors: tensors.collect(),
        parameters: 596_049_920,
    }
}

fn sandwich_norms(at: &str, hidden: u64, tensors: &mut Vec<Tensor>) {
    for name in ["post_feedforward_layernorm", "pre_feedforward_layernorm"] {
        tensors.push(bf16(format!("{at}{name}.weight"), &[hidden]));
    }
}

fn gemma3_1b() -> Shape {
    let numbers = Decoder {
        prefix: "model.",
        blocks: 26,
        hidden: 1152,
        inner: 6912,
        queries: 1024,
        keys: 256,
        vocab: 262_144,
    };
    Shape {
        name: "gemma-3-1b-it",
        config: json!({
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 1152,
            "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4,
            "num_key_value_heads": 1, "head_dim": 256, "max_position_embeddings": 32768,
            "vocab_size": 262_144, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
            "rope_local_base_freq": 10_000, "sliding_window": 512, "sliding_window_pattern": 6,
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256,
            "torch_dtype": "bfloat16", "bos_token_id": 2, "eos_token_id": [1, 106],
        }),
        tensors: decoder(numbers, |at, tensors| {
            head_norms(at, 256, tensors);
            sandwich_norms(at, 1152, tensors);
        }),
        parameters: 999_885_952,
    }
}

fn gemma3n_e2b() -> Shape {
    let numbers = Decoder {
        prefix: "model.language_model.",
        blocks: 30,
        hidden: 2048,
        inner: 8192,
        queries: 2048,
        keys: 512,
        vocab: 262_400,
    };
    let mut tensors = decoder(numbers, |at, tensors| {
        head_norms(at, 256, tensors);
        sandwich_norms(at, 2048, tensors);
        for (name, shape) in [
            ("altup.correct_output_scale", vec![2048]),
            ("altup.correction_coefs.weight", vec![4, 4]),
            ("altup.modality_router.weight", vec![4, 2048]),
            ("altup.prediction_coefs.weight", vec![16, 4]),
            ("altup.router_norm.weight", vec![2048]),
            ("laurel.linear_left.weight", vec![64, 2048]),
            ("laurel.linear_right.weight", vec![2048, 64]),
            ("laurel.post_laurel_norm.weight", vec![2048]),
            ("per_layer_input_gate.weight", vec![256, 2048]),
            ("per_layer_projection.weight", vec![2048, 256]),
            ("post_per_layer_input_norm.weight", vec![2048]),
        ] {
            tensors.push(bf16(format!("{at}{name}"), &shape));
        }
    });
    for stream in 0..3 {
        for name in ["altup_projections", "altup_unembed_projections"] {
            tensors.push(bf16(
                format!("{}{name}.{stream}.weight", numbers.prefix),
                &[2048, 2048],
            ));
        }
    }
    for (name, shape) in [
        ("embed_tokens_per_layer", vec![262_144, 256 * 30]),
        ("per_layer_model_projection", vec![256 * 30, 2048]),
        ("per_layer_projection_norm", vec![256]),
    ] {
        tensors.push(bf16(format!("{}{name}.weight", numbers.prefix), &shape));
    }
    let types: Vec<&str> = (0..30)
        .map(|block| {
            if block % 5 == 4 {
                "full_attention"
            } else {
                "sliding_attention"
            }
        })
        .collect();
    Shape {
        name: "gemma-3n-e2b-it",
        config: json!({
            "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
            "torch_dtype": "bfloat16", "eos_token_id": [1, 106],
            "text_config": {
                "model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": vec![8192; 30],
                "num_hidden_layers": 30, "num_attention_heads": 8, "num_key_value_heads": 2,
                "head_dim": 256, "max_position_embeddings": 32768, "vocab_size": 262_400,
                "rms_norm_eps": 1e-6, "sliding_window": 512, "layer_types": types,
                "vocab_size_per_layer_input": 262_144, "hidden_size_per_layer_input": 256,
                "altup_num_inputs": 4, "num_kv_shared_layers": 10, "laurel_rank": 64,
                "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
            },
        }),
        tensors,
        parameters: 4_456_156_768,
    }
}

/// 32 experts in each block, 8 of which a token uses: 400 M weights of 1.3 B.
fn granite31_1b() -> Shape {
    let (hidden, inner, experts, vocab) = (1024, 512, 32, 49_155);
    let mut tensors = vec![bf16(
        "model.embed_tokens.weight".to_owned(),
        &[vocab, hidden],
    )];
    for block in 0..24 {
        for (name, shape) in [
            (
                "block_sparse_moe.input_linear",
                vec![experts, 2 * inner, hidden],
            ),
            (
                "block_sparse_moe.output_linear",
                vec![experts, hidden, inner],
            ),
            ("block_sparse_moe.router.layer", vec![experts, hidden]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.k_proj", vec![512, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.v_proj", vec![512, hidden]),
        ] {
            tensors.push(bf16(format!("model.layers.{block}.{name}.weight"), &shape));
        }
    }
    tensors.push(bf16("model.norm.weight".to_owned(), &[hidden]));
    Shape {
        name: "granite-3.1-1b-a400m-instruct",
        config: json!({
            "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe",
            "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 24,
            "num_attention_heads": 16, "num_key_value_heads": 8, "num_local_experts": experts,
            "num_experts_per_tok": 8, "max_position_embeddings": 131_072, "vocab_size": vocab,
            "rms_norm_eps": 1e-6, "rope_theta": 1_500_000.0, "hidden_act": "silu",
            "attention_bias": false, "attention_multiplier": 0.015625, "embedding_multiplier": 12.0,
            "logits_scaling": 6.0, "residual_multiplier": 0.22, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 0,
        }),
        tensors,
        parameters: 1_334_628_352,
    }
}

/// Llama 3.1 8B.
pub(crate) fn llama31_8b() -> Shape {
    llama31("llama-3.1-8b", 32, [4096, 14336, 32, 8], 8_030_261_248)
}

/// Llama 3.1 70B.
pub(crate) fn llama31_70b() -> Shape {
    llama31("llama-3.1-70b", 80, [8192, 28672, 64, 8], 70_553_706_496)
}

fn llama31(name: &'static str, blocks: u64, sizes: [u64; 4], parameters: u64) -> Shape {
    let [hidden, inner, heads, groups] = sizes;
    let numbers = Decoder {
        prefix: "model.",
        blocks,
        hidden,
        inner,
        queries: hidden,
        keys: groups * 128,
        vocab: 128_256,
    };
    let mut tensors = decoder(numbers, |_, _| {});
    tensors.push(bf16("lm_head.weight".to_owned(), &[128_256, hidden]));
    Shape {
        name,
        config: json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": blocks, "num_attention_heads": heads,
            "num_key_value_heads": groups, "max_position_embeddings": 131_072,
            "vocab_size": 128_256, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            },
            "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        }),
        tensors,
        parameters,
    }
}
