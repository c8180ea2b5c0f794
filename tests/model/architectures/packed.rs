//! Quantized Hugging Face checkpoints: logical weights are those of the model before quantization,
//! and stored bytes are those of every packed word, scale and zero point.
//!
//! Layouts: FP8 of DeepSeek and Qwen, compressed-tensors, AutoGPTQ,
//! AutoAWQ, bitsandbytes, MLX, Transformers' gpt-oss and ModelOpt.

use orinplan::checkpoint::StoredTensor;
use orinplan::dtype::Dtype;
use orinplan::model::{ModelError, ModelSpec};
use serde_json::{Value as Json, json};

use super::support::{elements, hugging_face, planned, read, tensor, tensors};

/// A tied Qwen3 of this many blocks, residual width, inner width, and heads of 128.
struct Shape {
    blocks: u64,
    hidden: u64,
    inner: u64,
    heads: u64,
    kv_heads: u64,
    vocab: u64,
}

const SMALL: Shape = Shape {
    blocks: 2,
    hidden: 256,
    inner: 512,
    heads: 4,
    kv_heads: 2,
    vocab: 1000,
};

impl Shape {
    fn config(&self, more: Json) -> Json {
        let mut config = json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
            "hidden_size": self.hidden, "intermediate_size": self.inner, "head_dim": 128,
            "num_hidden_layers": self.blocks, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
            "max_position_embeddings": 40960, "tie_word_embeddings": true
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// The linear layers of a block: name, outputs, inputs.
    fn linear(&self) -> [(&'static str, u64, u64); 7] {
        let (queries, keys) = (self.heads * 128, self.kv_heads * 128);
        [
            ("self_attn.q_proj", queries, self.hidden),
            ("self_attn.k_proj", keys, self.hidden),
            ("self_attn.v_proj", keys, self.hidden),
            ("self_attn.o_proj", self.hidden, queries),
            ("mlp.gate_proj", self.inner, self.hidden),
            ("mlp.up_proj", self.inner, self.hidden),
            ("mlp.down_proj", self.hidden, self.inner),
        ]
    }

    /// Everything that quantizers leave alone.
    fn rest(&self) -> Vec<StoredTensor> {
        let mut all = tensors(&[
            ("model.embed_tokens.weight", &[self.vocab, self.hidden]),
            ("model.norm.weight", &[self.hidden]),
        ]);
        for block in 0..self.blocks {
            for (name, width) in [
                ("input_layernorm", self.hidden),
                ("post_attention_layernorm", self.hidden),
                ("self_attn.q_norm", 128),
                ("self_attn.k_norm", 128),
            ] {
                let name = format!("model.layers.{block}.{name}.weight");
                all.push(tensor(&name, &[width], Dtype::BF16));
            }
        }
        all
    }

    /// The model with each linear layer stored as `pack(name, outputs, inputs)`.
    fn stored(&self, pack: impl Fn(&str, u64, u64) -> Vec<StoredTensor>) -> Vec<StoredTensor> {
        let mut all = self.rest();
        for block in 0..self.blocks {
            for (name, outputs, inputs) in self.linear() {
                all.extend(pack(
                    &format!("model.layers.{block}.{name}"),
                    outputs,
                    inputs,
                ));
            }
        }
        all
    }
}

/// Reads the quantized model: its weights, shapes and names must be those of the configuration
/// alone, its bytes those of the stored tensors.
fn check(config: Json, stored: Vec<StoredTensor>, label: &str) -> ModelSpec {
    let bytes: u64 = stored.iter().map(|t| t.bytes.0).sum();
    let model = read(&hugging_face(config.clone(), stored)).unwrap();
    let plain = planned(&config);
    assert_eq!(model.parameters, plain.parameters);
    assert_eq!(model.prequantized.as_deref(), Some(label));
    let shapes = |m: &ModelSpec| -> Vec<_> {
        m.tensors
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone()))
            .collect()
    };
    assert_eq!(shapes(&model), shapes(&plain));
    assert_eq!(
        model.tensors.iter().map(|t| t.stored_bytes.0).sum::<u64>(),
        bytes
    );
    model
}

fn dtype_of(model: &ModelSpec, name: &str) -> Dtype {
    model.tensors.iter().find(|t| t.name == name).unwrap().dtype
}

/// Qwen3-0.6B-FP8: 440,401,920 weights of a byte in blocks of 128 x 128, the rest in 16 bit. The
/// model has 596,049,920 weights.
#[test]
fn fp8_in_blocks() {
    let shape = Shape {
        blocks: 28,
        hidden: 1024,
        inner: 3072,
        heads: 16,
        kv_heads: 8,
        vocab: 151_936,
    };
    let stored = shape.stored(|name, outputs, inputs| {
        vec![
            tensor(
                &format!("{name}.weight"),
                &[outputs, inputs],
                Dtype::F8_E4M3,
            ),
            tensor(
                &format!("{name}.weight_scale_inv"),
                &[outputs.div_ceil(128), inputs.div_ceil(128)],
                Dtype::BF16,
            ),
        ]
    });
    let bytes: u64 = stored.iter().map(|t| t.bytes.0).sum();
    assert_eq!(
        bytes,
        440_401_920 + 440_401_920 / (128 * 128) * 2 + 155_648_000 * 2
    );
    let config = shape.config(json!({"quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]
    }}));
    let model = check(config, stored, "fp8");
    assert_eq!(model.parameters, 596_049_920);
    assert_eq!(dtype_of(&model, "blk.3.attn_q.weight"), Dtype::F8_E4M3);
}

/// compressed-tensors `float-quantized`, with scales per row, and static ones with scalars and a
/// quantized cache.
#[test]
fn fp8_per_channel_and_per_tensor() {
    let config = SMALL.config(json!({"quantization_config": {
        "quant_method": "compressed-tensors", "format": "float-quantized"
    }}));
    let channels = SMALL.stored(|name, outputs, inputs| {
        vec![
            tensor(
                &format!("{name}.weight"),
                &[outputs, inputs],
                Dtype::F8_E4M3,
            ),
            tensor(&format!("{name}.weight_scale"), &[outputs, 1], Dtype::BF16),
        ]
    });
    check(config.clone(), channels, "fp8");
    let scalars = SMALL.stored(|name, outputs, inputs| {
        let mut all = vec![
            tensor(
                &format!("{name}.weight"),
                &[outputs, inputs],
                Dtype::F8_E4M3,
            ),
            tensor(&format!("{name}.weight_scale"), &[], Dtype::F32),
            tensor(&format!("{name}.input_scale"), &[], Dtype::F32),
        ];
        if name.ends_with("k_proj") {
            all.push(tensor(&format!("{name}.k_scale"), &[], Dtype::F32));
        }
        all
    });
    check(config.clone(), scalars, "fp8");
    // Scales of a quantized cache that stand beside the projections are no weights.
    let mut beside = SMALL.stored(|name, outputs, inputs| {
        vec![tensor(
            &format!("{name}.weight"),
            &[outputs, inputs],
            Dtype::F8_E4M3,
        )]
    });
    let plain = elements(&beside);
    let eight_bit = beside.iter().filter(|t| t.dtype == Dtype::F8_E4M3);
    let scales: Vec<_> = eight_bit
        .map(|t| tensor(&format!("{}_scale", t.name), &[], Dtype::F32))
        .collect();
    // Eight-bit floats without a scale would be the numbers of another matrix.
    let bare = read(&hugging_face(config.clone(), beside.clone()));
    let said = bare.unwrap_err().to_string();
    assert!(said.contains("q_proj.weight_scale"), "{said}");
    beside.extend(scales);
    beside.push(tensor("model.layers.0.self_attn.k_scale", &[1], Dtype::F32));
    beside.push(tensor("model.layers.0.self_attn.v_scale", &[1], Dtype::F32));
    assert_eq!(
        read(&hugging_face(config, beside)).unwrap().parameters,
        plain
    );
}

fn pack_quantized(bits: u64, group: u64) -> Json {
    json!({"quantization_config": {
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": bits, "group_size": group}}}
    }})
}

fn packed_linear(
    name: &str,
    outputs: u64,
    inputs: u64,
    bits: u64,
    group: u64,
) -> Vec<StoredTensor> {
    let words = inputs.div_ceil(32 / bits);
    vec![
        tensor(
            &format!("{name}.weight_packed"),
            &[outputs, words],
            Dtype::I32,
        ),
        tensor(
            &format!("{name}.weight_scale"),
            &[outputs, inputs.div_ceil(group)],
            Dtype::BF16,
        ),
        tensor(&format!("{name}.weight_shape"), &[2], Dtype::I64),
    ]
}

#[test]
fn compressed_tensors_packs_four_or_eight_bits() {
    for (bits, label) in [(4, "int4"), (8, "int8")] {
        let stored =
            SMALL.stored(|name, outputs, inputs| packed_linear(name, outputs, inputs, bits, 128));
        check(SMALL.config(pack_quantized(bits, 128)), stored, label);
    }
}

/// 300 columns of four bits fill 37.5 words: the last half word is padding, not weights.
#[test]
fn padding_of_packed_words_is_not_counted() {
    let odd = Shape {
        inner: 300,
        ..SMALL
    };
    let stored = |inner: u64| {
        let shape = Shape { inner, ..SMALL };
        shape.stored(|name, outputs, inputs| packed_linear(name, outputs, inputs, 4, 128))
    };
    let model = check(odd.config(pack_quantized(4, 128)), stored(300), "int4");
    let down = model
        .tensors
        .iter()
        .find(|t| t.name == "blk.0.ffn_down.weight");
    assert_eq!(down.unwrap().shape, [256, 300]);
    // Sixteen columns more than the configuration says are no padding.
    let error = read(&hugging_face(
        odd.config(pack_quantized(4, 128)),
        stored(316),
    ));
    assert!(
        matches!(error, Err(ModelError::ShapeMismatch { .. })),
        "{error:?}"
    );
}

#[test]
fn nvfp4_and_mxfp4_are_told_apart_by_their_scales() {
    let config = |format: &str| {
        SMALL.config(json!({"quantization_config": {
            "quant_method": "compressed-tensors", "format": format
        }}))
    };
    let packed = |group: u64, scale: Dtype| {
        SMALL.stored(move |name, outputs, inputs| {
            vec![
                tensor(
                    &format!("{name}.weight_packed"),
                    &[outputs, inputs / 2],
                    Dtype::U8,
                ),
                tensor(
                    &format!("{name}.weight_scale"),
                    &[outputs, inputs / group],
                    scale,
                ),
                tensor(&format!("{name}.weight_global_scale"), &[1], Dtype::F32),
                tensor(&format!("{name}.input_global_scale"), &[1], Dtype::F32),
            ]
        })
    };
    let nvfp4 = check(
        config("nvfp4-pack-quantized"),
        packed(16, Dtype::F8_E4M3),
        "nvfp4",
    );
    assert_eq!(dtype_of(&nvfp4, "blk.0.ffn_up.weight"), Dtype::NVFP4);
    let mxfp4 = check(
        config("mxfp4-pack-quantized"),
        packed(32, Dtype::U8),
        "mxfp4",
    );
    assert_eq!(dtype_of(&mxfp4, "blk.0.ffn_up.weight"), Dtype::MXFP4);
    // ModelOpt keeps the weight's own name.
    let modelopt = SMALL.stored(|name, outputs, inputs| {
        vec![
            tensor(&format!("{name}.weight"), &[outputs, inputs / 2], Dtype::U8),
            tensor(
                &format!("{name}.weight_scale"),
                &[outputs, inputs / 16],
                Dtype::F8_E4M3,
            ),
            tensor(&format!("{name}.weight_scale_2"), &[], Dtype::F32),
            tensor(&format!("{name}.input_scale"), &[], Dtype::F32),
        ]
    });
    let config = SMALL.config(json!({"quantization_config": {
        "quant_method": "modelopt", "quant_algo": "NVFP4"
    }}));
    check(config, modelopt, "nvfp4");
}

/// The bits follow from the zero points; `config.json` of older checkpoints does not state them.
#[test]
fn gptq_packs_along_the_inputs() {
    for (bits, label) in [(4, "gptq-int4"), (8, "gptq-int8"), (3, "gptq-int4")] {
        for stated in [Some(bits), None] {
            let config = SMALL.config(json!({"quantization_config": {
                "quant_method": "gptq", "bits": stated, "group_size": 128, "desc_act": true
            }}));
            let stored = SMALL.stored(|name, outputs, inputs| {
                let groups = inputs / 128;
                vec![
                    tensor(
                        &format!("{name}.qweight"),
                        &[inputs * bits / 32, outputs],
                        Dtype::I32,
                    ),
                    tensor(
                        &format!("{name}.qzeros"),
                        &[groups, outputs * bits / 32],
                        Dtype::I32,
                    ),
                    tensor(&format!("{name}.scales"), &[groups, outputs], Dtype::F16),
                    tensor(&format!("{name}.g_idx"), &[inputs], Dtype::I32),
                ]
            });
            check(config, stored, label);
        }
    }
}

#[test]
fn awq_packs_along_the_outputs() {
    let config = SMALL.config(json!({"quantization_config": {
        "quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"
    }}));
    let stored = SMALL.stored(|name, outputs, inputs| {
        vec![
            tensor(
                &format!("{name}.qweight"),
                &[inputs, outputs / 8],
                Dtype::I32,
            ),
            tensor(
                &format!("{name}.qzeros"),
                &[inputs / 128, outputs / 8],
                Dtype::I32,
            ),
            tensor(
                &format!("{name}.scales"),
                &[inputs / 128, outputs],
                Dtype::F16,
            ),
        ]
    });
    check(config, stored, "awq-int4");
}

/// nf4 keeps no shape, with its block maxima quantized again; int8 keeps one scale per row.
#[test]
fn bitsandbytes() {
    let nf4 = SMALL.stored(|name, outputs, inputs| {
        let n = outputs * inputs;
        vec![
            tensor(&format!("{name}.weight"), &[n / 2, 1], Dtype::U8),
            tensor(&format!("{name}.weight.absmax"), &[n / 64], Dtype::U8),
            tensor(
                &format!("{name}.weight.nested_absmax"),
                &[n / 64 / 256 + 1],
                Dtype::F32,
            ),
            tensor(&format!("{name}.weight.quant_map"), &[16], Dtype::F32),
            tensor(
                &format!("{name}.weight.nested_quant_map"),
                &[256],
                Dtype::F32,
            ),
            tensor(
                &format!("{name}.weight.quant_state.bitsandbytes__nf4"),
                &[86],
                Dtype::U8,
            ),
        ]
    });
    let config = |four: bool| {
        SMALL.config(json!({"quantization_config": {
            "quant_method": "bitsandbytes", "load_in_4bit": four, "load_in_8bit": !four
        }}))
    };
    check(config(true), nf4, "bnb-int4");
    let int8 = SMALL.stored(|name, outputs, inputs| {
        vec![
            tensor(&format!("{name}.weight"), &[outputs, inputs], Dtype::I8),
            tensor(&format!("{name}.SCB"), &[outputs], Dtype::F32),
            tensor(&format!("{name}.weight_format"), &[], Dtype::U8),
        ]
    });
    check(config(false), int8, "bnb-int8");
}

fn mlx(name: &str, outputs: u64, inputs: u64, bits: u64, group: u64) -> Vec<StoredTensor> {
    vec![
        tensor(
            &format!("{name}.weight"),
            &[outputs, inputs * bits / 32],
            Dtype::U32,
        ),
        tensor(
            &format!("{name}.scales"),
            &[outputs, inputs / group],
            Dtype::BF16,
        ),
        tensor(
            &format!("{name}.biases"),
            &[outputs, inputs / group],
            Dtype::BF16,
        ),
    ]
}

/// Eight bits and groups of its own for one kind of layer, and a quantized embedding.
#[test]
fn mlx_mixes_bits() {
    let mut quantization = json!({"group_size": 64, "bits": 4});
    for block in 0..SMALL.blocks {
        quantization[format!("model.layers.{block}.mlp.down_proj")] =
            json!({"group_size": 32, "bits": 8});
    }
    let config = SMALL.config(json!({"quantization": quantization}));
    let mut stored = SMALL.stored(|name, outputs, inputs| {
        if name.ends_with("down_proj") {
            mlx(name, outputs, inputs, 8, 32)
        } else {
            mlx(name, outputs, inputs, 4, 64)
        }
    });
    stored.retain(|t| t.name != "model.embed_tokens.weight");
    stored.extend(mlx("model.embed_tokens", SMALL.vocab, SMALL.hidden, 4, 64));
    let model = check(config, stored, "mlx-int4");
    assert_eq!(dtype_of(&model, "blk.0.ffn_down.weight"), Dtype::I8);
    assert_eq!(dtype_of(&model, "token_embd.weight"), Dtype::INT4);
}

/// gpt-oss: blocks of 32 four-bit floats (16 bytes) and a byte of scale, gate and up interleaved;
/// the same weights in 16 bit are transposed stacks.
#[test]
fn gpt_oss_in_mxfp4_and_in_16_bit() {
    let (hidden, inner, experts) = (64, 96, 4);
    let config = json!({
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": true,
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "num_local_experts": experts, "num_experts_per_tok": 2, "vocab_size": 100,
        "max_position_embeddings": 512, "sliding_window": 128,
        "quantization_config": {"quant_method": "mxfp4"}
    });
    let rest = tensors(&[
        ("model.embed_tokens.weight", &[100, 64]),
        ("model.norm.weight", &[64]),
        ("lm_head.weight", &[100, 64]),
        ("model.layers.{2}.input_layernorm.weight", &[64]),
        ("model.layers.{2}.post_attention_layernorm.weight", &[64]),
        ("model.layers.{2}.self_attn.q_proj.weight", &[64, 64]),
        ("model.layers.{2}.self_attn.q_proj.bias", &[64]),
        ("model.layers.{2}.self_attn.k_proj.weight", &[32, 64]),
        ("model.layers.{2}.self_attn.k_proj.bias", &[32]),
        ("model.layers.{2}.self_attn.v_proj.weight", &[32, 64]),
        ("model.layers.{2}.self_attn.v_proj.bias", &[32]),
        ("model.layers.{2}.self_attn.o_proj.weight", &[64, 64]),
        ("model.layers.{2}.self_attn.o_proj.bias", &[64]),
        ("model.layers.{2}.self_attn.sinks", &[4]),
        ("model.layers.{2}.mlp.router.weight", &[4, 64]),
        ("model.layers.{2}.mlp.router.bias", &[4]),
        ("model.layers.{2}.mlp.experts.gate_up_proj_bias", &[4, 192]),
        ("model.layers.{2}.mlp.experts.down_proj_bias", &[4, 64]),
    ]);
    let experts_in = |name: &str, rows: u64, columns: u64| {
        let name = |end: &str| format!("model.layers.{name}_proj_{end}");
        [
            tensor(
                &name("blocks"),
                &[experts, rows, columns / 32, 16],
                Dtype::U8,
            ),
            tensor(&name("scales"), &[experts, rows, columns / 32], Dtype::U8),
        ]
    };
    let mut quantized = rest.clone();
    for block in 0..2 {
        quantized.extend(experts_in(
            &format!("{block}.mlp.experts.gate_up"),
            2 * inner,
            hidden,
        ));
        quantized.extend(experts_in(
            &format!("{block}.mlp.experts.down"),
            hidden,
            inner,
        ));
    }
    let model = check(config.clone(), quantized, "mxfp4");
    assert_eq!(dtype_of(&model, "blk.1.ffn_gate_exps.weight"), Dtype::MXFP4);

    let mut half = rest;
    half.extend(tensors(&[
        (
            "model.layers.{2}.mlp.experts.gate_up_proj",
            &[experts, hidden, 2 * inner],
        ),
        (
            "model.layers.{2}.mlp.experts.down_proj",
            &[experts, inner, hidden],
        ),
    ]));
    let plain = read(&hugging_face(config, half)).unwrap();
    assert_eq!(plain.parameters, model.parameters);
    assert_eq!(plain.prequantized, None);
}

/// The quantization says one thing, the tensors another: an error, whatever they hold.
#[test]
fn packed_nonsense_is_an_error() {
    let config = SMALL.config(pack_quantized(0, 0));
    for (end, shape, dtype) in [
        (".weight_packed", vec![u64::MAX / 8, 1], Dtype::I32),
        (".weight_packed", vec![], Dtype::I32),
        (".weight_packed", vec![0, 0], Dtype::U8),
        (".qweight", vec![0, 0], Dtype::I32),
        ("_blocks", vec![1, 2, u64::MAX / 64, 1], Dtype::U8),
    ] {
        let stored = SMALL.stored(|name, outputs, inputs| {
            if !name.ends_with("0.mlp.up_proj") {
                return vec![tensor(
                    &format!("{name}.weight"),
                    &[outputs, inputs],
                    Dtype::BF16,
                )];
            }
            let mut weight = tensor(&format!("{name}{end}"), &[1], dtype);
            weight.shape.clone_from(&shape);
            vec![weight, tensor(&format!("{name}_scales"), &[1], Dtype::U8)]
        });
        assert!(
            read(&hugging_face(config.clone(), stored)).is_err(),
            "{end} {shape:?}"
        );
    }
}
