"""Small checkpoints of plain transformers that differ in a few rules each: see checkpoints.py."""
import parts
from parts import BIASES, GROUPS, HEAD, HEADS, HEAD_NORMS, HIDDEN, TWO, attention, layers_of, mlp, norms, plain

_AFTER = norms("post_attention_layernorm", "post_feedforward_layernorm")
_WHOLE_NORMS = [
    ("self_attn.q_norm.weight", [HEADS * HEAD]), ("self_attn.k_norm.weight", [GROUPS * HEAD]),
]
_UP_AND_DOWN = [("mlp.up_proj.weight", [512, HIDDEN]), ("mlp.down_proj.weight", [HIDDEN, 512])]
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def _layer_norm(config, key="layer_norm_eps"):
    """With LayerNorms in place of RMSNorms."""
    del config["rms_norm_eps"]
    return {**config, key: 1e-5}


def _with_biases(tensors):
    """Each weight, and a bias beside it."""
    return tensors + [(name.replace(".weight", ".bias"), shape[:1]) for name, shape in tensors]


def _experts(inner=256, count=4):
    return [("mlp.gate.weight", [count, HIDDEN])] + [
        tensor for i in range(count) for tensor in mlp(inner, f"mlp.experts.{i}.")
    ]


def seed_oss():
    config = plain(
        "SeedOssForCausalLM", "seed_oss", head_dim=HEAD, attention_bias=True, attention_out_bias=False,
        mlp_bias=False, tie_word_embeddings=False,
    )
    return config, layers_of(config, lambda _: TWO + attention() + BIASES + mlp(256))


def ernie4_5():
    config = plain("Ernie4_5ForCausalLM", "ernie4_5", head_dim=HEAD, use_bias=False)
    return config, layers_of(config, lambda _: TWO + attention() + mlp(256))


def ernie4_5_moe():
    """The first block is dense; a correction decides with the shares which experts are taken."""
    config = plain(
        "Ernie4_5_MoeForCausalLM", "ernie4_5_moe", inner=512, use_bias=False, moe_num_experts=4, moe_k=2,
        moe_intermediate_size=256, moe_num_shared_experts=1, moe_layer_start_index=1, moe_layer_interval=1,
        moe_layer_end_index=1, moe_capacity=[4, 4, 4],
    )
    routed = _experts() + mlp(256, "mlp.shared_experts.") + [("mlp.moe_statics.e_score_correction_bias", [1, 4])]
    return config, layers_of(config, lambda i: TWO + attention() + (routed if i else mlp(512)))


def exaone4():
    config = plain(
        "Exaone4ForCausalLM", "exaone4", head_dim=HEAD, sliding_window=None, sliding_window_pattern=None,
        layer_types=["full_attention"] * 2, rope_scaling=_LLAMA3,
    )
    return config, layers_of(config, lambda _: _AFTER + attention() + HEAD_NORMS + mlp(256))


def minicpm():
    """Its code is not in Transformers; Granite computes the same (expected.py)."""
    config = plain(
        "MiniCPMForCausalLM", "minicpm", scale_emb=6, scale_depth=0.9, dim_model_base=64,
        rope_scaling={
            "rope_type": "longrope", "original_max_position_embeddings": 2048,
            "short_factor": [1.0] * (HEAD // 2), "long_factor": [2.0 + i / 4 for i in range(HEAD // 2)],
        },
    )
    return config, layers_of(config, lambda _: TWO + attention() + mlp(256))


def stablelm():
    config = _layer_norm(plain(
        "StableLmForCausalLM", "stablelm", use_qkv_bias=True, qk_layernorm=False,
        use_parallel_residual=False, partial_rotary_factor=0.25, tie_word_embeddings=False,
    ))
    block = _with_biases(TWO) + attention() + BIASES + mlp(256)
    return config, layers_of(config, lambda _: block) + [("model.norm.bias", [HIDDEN])]


def arcee():
    config = plain(
        "ArceeForCausalLM", "arcee", head_dim=HEAD, inner=512, hidden_act="relu2", attention_bias=False,
        mlp_bias=False, tie_word_embeddings=False, rope_scaling=_LLAMA3,
    )
    return config, layers_of(config, lambda _: TWO + attention() + _UP_AND_DOWN)


def nemotron():
    config = _layer_norm(plain(
        "NemotronForCausalLM", "nemotron", inner=512, hidden_act="relu2", head_dim=HEAD,
        partial_rotary_factor=0.5, attention_bias=False, mlp_bias=False, tie_word_embeddings=False,
    ), "norm_eps")
    block = _with_biases(TWO) + attention() + _UP_AND_DOWN
    return config, layers_of(config, lambda _: block) + [("model.norm.bias", [HIDDEN])]


def olmo():
    config = plain("OlmoForCausalLM", "olmo", clip_qkv=1.5, attention_bias=False, pad_token_id=0)
    del config["rms_norm_eps"]
    tensors = layers_of(config, lambda _: attention() + mlp(256))
    return config, [(name, shape) for name, shape in tensors if name != "model.norm.weight"]


def olmo3():
    """With YaRN in the blocks without a window."""
    config = plain(
        "Olmo3ForCausalLM", "olmo3", 4, sliding_window=16, tie_word_embeddings=False,
        layer_types=["sliding_attention"] * 3 + ["full_attention"], pad_token_id=0, attention_bias=False,
        rope_theta=500000.0, rope_scaling={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512,
            "beta_fast": 32.0, "beta_slow": 1.0,
        },
    )
    return config, layers_of(config, lambda _: _AFTER + attention() + _WHOLE_NORMS + mlp(256))


def olmoe():
    config = plain(
        "OlmoeForCausalLM", "olmoe", num_key_value_heads=HEADS, num_experts=4, num_experts_per_tok=2,
        norm_topk_prob=False, tie_word_embeddings=False, pad_token_id=0, clip_qkv=None, rms_norm_eps=1e-5,
    )
    whole = [(f"self_attn.{name}_norm.weight", [HEADS * HEAD]) for name in "qk"]
    block = TWO + attention(groups=HEADS) + whole + _experts()
    return config, layers_of(config, lambda _: block)


def qwen2moe():
    config = plain(
        "Qwen2MoeForCausalLM", "qwen2_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256,
        shared_expert_intermediate_size=512, norm_topk_prob=False, decoder_sparse_step=1,
        mlp_only_layers=[], tie_word_embeddings=False,
    )
    shared = mlp(512, "mlp.shared_expert.") + [("mlp.shared_expert_gate.weight", [1, HIDDEN])]
    return config, layers_of(config, lambda _: TWO + attention() + BIASES + _experts() + shared)


_SCALES = {
    "embedding_multiplier": 6.0, "residual_multiplier": 0.6, "attention_multiplier": 0.15, "logits_scaling": 3.0,
}


def granite():
    config = plain(
        "GraniteForCausalLM", "granite", **_SCALES, attention_bias=False, mlp_bias=False, pad_token_id=0
    )
    return config, layers_of(config, lambda _: TWO + attention() + mlp(256))


def granitemoe():
    config = plain(
        "GraniteMoeSharedForCausalLM", "granitemoeshared", **_SCALES, num_local_experts=4,
        num_experts_per_tok=2, shared_intermediate_size=256, attention_bias=False, pad_token_id=0,
        tie_word_embeddings=False,
    )
    block = TWO + attention() + [
        ("block_sparse_moe.router.layer.weight", [4, HIDDEN]),
        ("block_sparse_moe.input_linear.weight", [4, 512, HIDDEN]),
        ("block_sparse_moe.output_linear.weight", [4, HIDDEN, 256]),
        ("shared_mlp.input_linear.weight", [512, HIDDEN]),
        ("shared_mlp.output_linear.weight", [HIDDEN, 256]),
    ]
    return config, layers_of(config, lambda _: block)


def glm4():
    config = plain(
        "Glm4ForCausalLM", "glm4", head_dim=HEAD, attention_bias=True, partial_rotary_factor=0.5,
        tie_word_embeddings=False, pad_token_id=0,
    )
    block = TWO + norms("post_self_attn_layernorm", "post_mlp_layernorm") + attention() + BIASES + [
        ("mlp.gate_up_proj.weight", [512, HIDDEN]), ("mlp.down_proj.weight", [HIDDEN, 256]),
    ]
    return config, layers_of(config, lambda _: block)


def glm4v():
    """GLM-4.1V's text model: GLM-4's blocks, whose positions have three sections."""
    config, tensors = glm4()
    text = {key: value for key, value in config.items() if key != "architectures"} | {
        "model_type": "glm4v_text", "rope_parameters": {
            "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [4, 6, 6],
        },
    }
    nested = {
        "architectures": ["Glm4vForConditionalGeneration"], "model_type": "glm4v", "text_config": text,
        "tie_word_embeddings": False,
    }
    return nested, [(name.replace("model.", "model.language_model.", 1), shape) for name, shape in tensors]


def phi2():
    config = _layer_norm(plain(
        "PhiForCausalLM", "phi", inner=4 * HIDDEN, num_key_value_heads=HEADS, hidden_act="gelu_new",
        partial_rotary_factor=0.5, qk_layernorm=False, tie_word_embeddings=False,
    ))
    weights = norms("input_layernorm") + attention(out="dense", groups=HEADS) + [
        ("mlp.fc1.weight", [4 * HIDDEN, HIDDEN]), ("mlp.fc2.weight", [HIDDEN, 4 * HIDDEN]),
    ]
    tensors = layers_of(config, lambda _: _with_biases(weights)) + [
        ("model.norm.bias", [HIDDEN]), ("lm_head.bias", [parts.VOCAB]),
    ]
    return config, [(name.replace("model.norm.", "model.final_layernorm."), s) for name, s in tensors]


# Names of moondream2's tensors, and those of the Phi that computes the same.
MOONDREAM_NAMES = [
    ("model.text.wte", "model.embed_tokens.weight"), ("model.text.post_ln.", "model.final_layernorm."),
    ("model.text.lm_head.", "lm_head."), ("model.text.blocks.", "model.layers."), (".ln.", ".input_layernorm."),
    (".attn.qkv.", ".self_attn.qkv_proj."), (".attn.proj.", ".self_attn.dense."),
]


def moondream():
    """Its code is not in Transformers; Phi computes the same (expected.py)."""
    config = {
        "architectures": ["HfMoondream"], "model_type": "moondream1", "torch_dtype": "bfloat16", "config": {"text": {
            "dim": HIDDEN, "ff_dim": 4 * HIDDEN, "n_layers": 2, "vocab_size": parts.VOCAB, "max_context": 2048,
            "n_heads": HEADS, "n_kv_heads": HEADS,
        }},
    }
    block = _with_biases([
        ("ln.weight", [HIDDEN]), ("attn.qkv.weight", [3 * HIDDEN, HIDDEN]), ("attn.proj.weight", [HIDDEN, HIDDEN]),
        ("mlp.fc1.weight", [4 * HIDDEN, HIDDEN]), ("mlp.fc2.weight", [HIDDEN, 4 * HIDDEN]),
    ])
    ends = _with_biases([("post_ln.weight", [HIDDEN]), ("lm_head.weight", [parts.VOCAB, HIDDEN])])
    tensors = [("wte", [parts.VOCAB, HIDDEN]), *ends]
    tensors += [(f"blocks.{i}.{name}", shape) for i in range(2) for name, shape in block]
    return config, [(f"model.text.{name}", shape) for name, shape in tensors]


def phi4mm():
    """Its text alone, which no adapter changes, is a Phi-3 (expected.py)."""
    config = plain(
        "Phi4MMForCausalLM", "phi4mm", head_dim=HEAD, partial_rotary_factor=0.75, sliding_window=None, pad_token_id=0,
        original_max_position_embeddings=1024, vision_lora={"r": 8}, speech_lora={"r": 8},
        audio_processor={"name": "cascades"},
        rope_scaling={
            "type": "longrope", "short_factor": [1.0 + i / 32 for i in range(HEAD * 3 // 8)],
            "long_factor": [2.0 + i / 4 for i in range(HEAD * 3 // 8)],
        },
    )
    wrapped = [
        ("self_attn.qkv_proj", [(HEADS + 2 * GROUPS) * HEAD, HIDDEN]), ("self_attn.o_proj", [HIDDEN, HEADS * HEAD]),
        ("mlp.gate_up_proj", [512, HIDDEN]), ("mlp.down_proj", [HIDDEN, 256]),
    ]
    block = TWO + [(f"{name}.base_layer.weight", shape) for name, shape in wrapped]
    for adapter in ("vision", "speech"):
        block += [(f"{name}.lora_A.{adapter}.weight", [8, shape[1]]) for name, shape in wrapped]
        block += [(f"{name}.lora_B.{adapter}.weight", [shape[0], 8]) for name, shape in wrapped]
    encoder = "model.embed_tokens_extend.image_embed.img_processor.encoder.layers.0.mlp.fc1.weight"
    return config, [*layers_of(config, lambda _: block), (encoder, [8, 8])]


def ministral3():
    """Queries grow with their position, and YaRN takes its factor back."""
    text = plain(
        "Ministral3ForCausalLM", "ministral3", head_dim=HEAD, sliding_window=None, tie_word_embeddings=False, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
        },
    )
    del text["rope_theta"]
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "text_config": text,
    }
    tensors = layers_of(text, lambda _: TWO + attention() + mlp(256), "language_model.model.")
    return config, _renamed(tensors, ("lm_head", "language_model.lm_head"))


def gemma():
    config = plain(
        "GemmaForCausalLM", "gemma", head_dim=HEAD, hidden_activation="gelu_pytorch_tanh", attention_bias=False,
        pad_token_id=0,
    )
    del config["hidden_act"]
    return config, layers_of(config, lambda _: TWO + attention() + mlp(256))


def cohere():
    config = _layer_norm(plain(
        "CohereForCausalLM", "cohere", logit_scale=0.5, use_qk_norm=False, attention_bias=False, pad_token_id=0,
    ))
    return config, layers_of(config, lambda _: norms("input_layernorm") + attention() + mlp(256))


def cohere2():
    config = _layer_norm(plain(
        "Cohere2ForCausalLM", "cohere2", 4, head_dim=HEAD, logit_scale=0.5, sliding_window=16,
        layer_types=["sliding_attention"] * 3 + ["full_attention"], rotary_pct=1.0, attention_bias=False,
        pad_token_id=0,
    ))
    return config, layers_of(config, lambda _: norms("input_layernorm") + attention() + mlp(256))


def _renamed(tensors, *names):
    """The same tensors under other names: each first word becomes the second."""
    for one, other in names:
        tensors = [(name.replace(one, other), shape) for name, shape in tensors]
    return tensors


def exaone():
    """A Llama under names of its own; its code is not in Transformers (expected.py)."""
    config = plain(
        "ExaoneForCausalLM", "exaone", head_dim=HEAD, activation_function="silu", layer_norm_epsilon=1e-5,
        rope_scaling=_LLAMA3,
    )
    del config["rms_norm_eps"], config["hidden_act"]
    config["num_layers"] = config.pop("num_hidden_layers")
    tensors = layers_of({**config, "num_hidden_layers": 2}, lambda _: TWO + attention() + mlp(256))
    return config, _renamed(tensors, *EXAONE_NAMES)


EXAONE_NAMES = (
    ("model.embed_tokens", "transformer.wte"), ("model.norm", "transformer.ln_f"), ("model.layers", "transformer.h"),
    ("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"), ("self_attn.", "attn.attention."),
    ("o_proj", "out_proj"), ("mlp.gate_proj", "mlp.c_fc_0"), ("mlp.up_proj", "mlp.c_fc_1"), ("mlp.down_proj", "mlp.c_proj"),
)


def glm():
    config = plain(
        "GlmForCausalLM", "glm", head_dim=HEAD, attention_bias=True, partial_rotary_factor=0.5,
        tie_word_embeddings=False, pad_token_id=0,
    )
    block = TWO + attention() + BIASES + [
        ("mlp.gate_up_proj.weight", [512, HIDDEN]), ("mlp.down_proj.weight", [HIDDEN, 256]),
    ]
    return config, layers_of(config, lambda _: block)


def gptneox():
    config = _layer_norm(plain(
        "GPTNeoXForCausalLM", "gpt_neox", inner=512, hidden_act="gelu", rotary_pct=0.25, rotary_emb_base=10000,
        use_parallel_residual=True, attention_bias=True, tie_word_embeddings=False,
    ))
    del config["rope_theta"], config["num_key_value_heads"]
    block = _with_biases(TWO + [
        ("attention.query_key_value.weight", [3 * HEADS * HEAD, HIDDEN]), ("attention.dense.weight", [HIDDEN, HEADS * HEAD]),
        ("mlp.dense_h_to_4h.weight", [512, HIDDEN]), ("mlp.dense_4h_to_h.weight", [HIDDEN, 512]),
    ])
    tensors = layers_of(config, lambda _: block) + [("model.norm.bias", [HIDDEN])]
    return config, _renamed(
        tensors, ("model.norm.", "model.final_layer_norm."), ("embed_tokens", "embed_in"), ("lm_head", "embed_out"),
        ("model.", "gpt_neox."),
    )


def hunyuan_dense():
    """Its rotary positions are scaled by a base that `alpha` enlarges."""
    config = plain(
        "HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", head_dim=HEAD, attention_bias=False, pad_token_id=0,
        rope_scaling={"type": "dynamic", "alpha": 50.0, "factor": 1.0},
    )
    config["max_position_embeddings"] = 32768
    names = [("self_attn.query_layernorm.weight", [HEAD]), ("self_attn.key_layernorm.weight", [HEAD])]
    return config, layers_of(config, lambda _: TWO + attention() + names + mlp(256))


def hunyuan_moe():
    """One number for each block where Transformers takes one for all."""
    config = plain(
        "HunYuanMoEV1ForCausalLM", "hunyuan_v1_moe", head_dim=HEAD, attention_bias=False, pad_token_id=0, num_experts=4,
        moe_topk=[2, 2], num_shared_expert=[1, 1], moe_intermediate_size=[256, 256], use_qk_norm=True,
    )
    names = [("self_attn.query_layernorm.weight", [HEAD]), ("self_attn.key_layernorm.weight", [HEAD])]
    experts = _renamed(_experts(), ("mlp.gate.", "mlp.gate.wg.")) + mlp(256, "mlp.shared_mlp.")
    return config, layers_of(config, lambda _: TWO + attention() + names + experts)


def phimoe():
    factors = [1.0 + i / 32 for i in range(HEAD // 2)]
    config = plain(
        "PhiMoEForCausalLM", "phimoe", tie_word_embeddings=False, attention_bias=True, lm_head_bias=True, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=None, pad_token_id=0, original_max_position_embeddings=1024,
        rms_norm_eps=1e-5, rope_scaling={
            "type": "longrope", "short_factor": factors, "long_factor": [2 * factor for factor in factors],
            "short_mscale": PHIMOE_FACTOR, "long_mscale": PHIMOE_FACTOR, "original_max_position_embeddings": 1024,
        },
    )
    experts = _renamed(
        _experts(), ("mlp.", "block_sparse_moe."), ("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2"),
    )
    tensors = layers_of(config, lambda _: _with_biases(TWO + attention()) + experts)
    return config, tensors + [("model.norm.bias", [HIDDEN]), ("lm_head.bias", [parts.VOCAB])]


# The root of 1 + ln(2) / ln(1024), which llama.cpp's converter writes whatever the configuration says.
PHIMOE_FACTOR = 1.0488088481701516


def apertus():
    """The parameters of activations are weights."""
    config = plain(
        "ApertusForCausalLM", "apertus", inner=512, hidden_act="xielu", attention_bias=False, tie_word_embeddings=False,
        rope_scaling=_LLAMA3,
    )
    curve = [("mlp.act_fn.alpha_n", [1]), ("mlp.act_fn.alpha_p", [1]), ("mlp.act_fn.beta", []), ("mlp.act_fn.eps", [])]
    block = norms("attention_layernorm", "feedforward_layernorm") + attention() + HEAD_NORMS + _UP_AND_DOWN + curve
    return config, layers_of(config, lambda _: block)


def baichuan(layers=32):
    """llama.cpp knows by the number of blocks which positions a model has; its code is not in Transformers (expected.py)."""
    config = plain("BaichuanForCausalLM", "baichuan", layers, tie_word_embeddings=False)
    del config["num_key_value_heads"], config["rope_theta"]
    packed = [("self_attn.W_pack.weight", [3 * HEADS * HEAD, HIDDEN]), ("self_attn.o_proj.weight", [HIDDEN, HEADS * HEAD])]
    return config, layers_of(config, lambda _: TWO + packed + mlp(256))


def baichuan_13b():
    return baichuan(40)


# Names of the norms of the first BitNets, and those of the class in Transformers.
BITNET_NAMES = [("self_attn.inner_attn_ln.", "self_attn.attn_sub_norm."), ("mlp.ffn_layernorm.", "mlp.ffn_sub_norm.")]


def bitnet():
    """Weights are rounded to three values; the code of the first models is not in Transformers (expected.py)."""
    config = plain("BitnetForCausalLM", "llama", inner=512, attention_bias=False, input_bits=8, weight_bits=1)
    subs = [("self_attn.inner_attn_ln.weight", [HEADS * HEAD]), ("mlp.ffn_layernorm.weight", [512])]
    return config, layers_of(config, lambda _: TWO + attention() + mlp(512) + subs)


def internlm2():
    """Queries, keys and values are stored head by head of keys and values; its code is not in Transformers (expected.py)."""
    config = plain(
        "InternLM2ForCausalLM", "internlm2", inner=512, bias=False, tie_word_embeddings=False,
        rope_scaling={"type": "dynamic", "factor": 2.0},
    )
    block = norms("attention_norm", "ffn_norm") + [
        ("attention.wqkv.weight", [(HEADS + 2 * GROUPS) * HEAD, HIDDEN]), ("attention.wo.weight", [HIDDEN, HEADS * HEAD]),
        *((f"feed_forward.{name}.weight", shape) for name, shape in (
            ("w1", [512, HIDDEN]), ("w3", [512, HIDDEN]), ("w2", [HIDDEN, 512]),
        )),
    ]
    names = {"model.embed_tokens.weight": "model.tok_embeddings.weight", "lm_head.weight": "output.weight"}
    return config, [(names.get(name, name), shape) for name, shape in layers_of(config, lambda _: block)]


def qwen2vl():
    """Its three positions are one in a text."""
    config = plain(
        "Qwen2VLForConditionalGeneration", "qwen2_vl", tie_word_embeddings=False, sliding_window=None,
        rope_scaling={"type": "mrope", "mrope_section": [8, 12, 12]},
        vision_config={"depth": 1, "embed_dim": 64, "hidden_size": HIDDEN, "num_heads": 2, "patch_size": 14},
    )
    return config, layers_of(config, lambda _: TWO + attention() + BIASES + mlp(256))


def qwen3vl():
    """Its sections are those that llama.cpp finds a position for with each pair: what they leave over it does not turn."""
    text = plain(
        "Qwen3VLForConditionalGeneration", "qwen3_vl_text", head_dim=HEAD, attention_bias=False,
        rope_scaling={"rope_type": "default", "mrope_section": [11, 11, 10], "mrope_interleaved": True},
    )
    config = {
        "architectures": text.pop("architectures"), "model_type": "qwen3_vl", "torch_dtype": "bfloat16",
        "tie_word_embeddings": True, "text_config": text,
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [1, 2, 3], "hidden_size": 64, "num_heads": 2},
    }
    block = TWO + attention() + HEAD_NORMS + mlp(256)
    return config, layers_of(text, lambda _: block, "model.language_model.")


def qwen3vlmoe():
    """Its experts are stacks whose matrices are stored transposed."""
    config, tensors = qwen3vl()
    text = config["text_config"] | {
        "model_type": "qwen3_vl_moe_text", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    }
    config |= {"architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe", "text_config": text}
    block = TWO + attention() + HEAD_NORMS + [
        ("mlp.gate.weight", [4, HIDDEN]), ("mlp.experts.gate_up_proj", [4, HIDDEN, 512]), ("mlp.experts.down_proj", [4, 256, HIDDEN]),
    ]
    return config, layers_of(text, lambda _: block, "model.language_model.")


def qwen2_5_omni():
    """The text model is a part of what thinks; what speaks stands beside it."""
    text, tensors = qwen2vl()
    text.pop("architectures")
    vision = text.pop("vision_config")
    text |= {
        "model_type": "qwen2_5_omni_text", "rope_scaling": {"rope_type": "default", "type": "default", "mrope_section": [8, 12, 12]},
    }
    config = {
        "architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "torch_dtype": "bfloat16",
        "thinker_config": {
            "model_type": "qwen2_5_omni_thinker", "text_config": text, "vision_config": vision,
            "audio_config": {"d_model": 64, "encoder_layers": 1},
        },
        "talker_config": {"model_type": "qwen2_5_omni_talker", "hidden_size": 64, "num_hidden_layers": 1},
    }
    beside = [
        ("thinker.visual.blocks.0.norm1.weight", [64]), ("thinker.audio_tower.ln_post.weight", [64]),
        ("talker.model.norm.weight", [64]), ("token2wav.code2wav_dit_model.norm_out.linear.weight", [64, 64]),
    ]
    return config, [(f"thinker.{name}", shape) for name, shape in tensors] + beside


def _llama4(layers, **more):
    return plain(
        "Llama4ForCausalLM", "llama4_text", layers, head_dim=HEAD, attention_bias=False, intermediate_size_mlp=512,
        use_qk_norm=True, pad_token_id=0, rope_theta=500000.0, **more,
    )


def llama4():
    """Chunks are of 8192 tokens, whatever is stated; one block in four has no positions."""
    config = _llama4(
        4, attention_chunk_size=8192, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2,
        no_rope_layers=[1, 1, 1, 0], attn_temperature_tuning=True, floor_scale=8192, attn_scale=0.1, rope_scaling=_LLAMA3,
        tie_word_embeddings=False,
    )
    routed = mlp(256, "feed_forward.shared_expert.") + [
        ("feed_forward.router.weight", [4, HIDDEN]), ("feed_forward.experts.gate_up_proj", [4, HIDDEN, 512]),
        ("feed_forward.experts.down_proj", [4, 256, HIDDEN]),
    ]
    return config, layers_of(config, lambda i: TWO + attention() + (routed if i % 2 else mlp(512, "feed_forward.")))


def mobilellm():
    """Llama 4 without experts, which llama.cpp runs as Qwen 3."""
    config = _llama4(
        2, attention_chunk_size=2048, num_local_experts=0, num_experts_per_tok=0, interleave_moe_layer_step=0, moe_layers=[],
        no_rope_layers=[1, 1], layer_types=["full_attention"] * 2, attn_temperature_tuning=False,
    )
    return config, layers_of(config, lambda _: TWO + attention() + mlp(512, "feed_forward."))


ALL = (
    qwen2vl, qwen2_5_omni, qwen3vl, qwen3vlmoe, llama4, mobilellm, hunyuan_moe, phimoe, apertus, baichuan, baichuan_13b, internlm2, ministral3, gemma, cohere, exaone, glm, gptneox, hunyuan_dense, seed_oss, ernie4_5, ernie4_5_moe, exaone4, minicpm, stablelm, arcee, nemotron, olmo, olmo3, olmoe, qwen2moe, granite,
    granitemoe, glm4, glm4v, phi2, moondream, phi4mm, cohere2, bitnet,
)
