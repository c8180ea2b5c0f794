"""Small checkpoints of every family: all of its structure, random weights, the same on every machine.

In: a directory. Out: a directory of Hugging Face form for each family (the tokenizer comes from
vocabularies.py). The prompt and what Transformers computes for it stand in expected.json, which
`cargo xtask interop --full` compares with Transformers anew.
"""
import json
import math
import shutil
import zlib
from pathlib import Path

import numpy as np

import dense
import forms
import hybrids
import latents
import parts
from parts import (
    BIASES, FOUR, GROUPS, HEAD, HEADS, HEAD_NORMS, HIDDEN, TWO, attention, gemma, layers_of, mlp, norms, plain,
)

PROMPT = [int(n) for n in np.random.RandomState(1).randint(300, parts.VOCAB, 40)]


def llama():
    config = plain(
        "LlamaForCausalLM", "llama", inner=512, tie_word_embeddings=False, rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )
    return config, layers_of(config, lambda _: TWO + attention() + mlp(512))


def mistral():
    config = plain(
        "MistralForCausalLM", "mistral", head_dim=32, sliding_window=None, tie_word_embeddings=False
    )
    return config, layers_of(config, lambda _: TWO + attention(32) + mlp(256))


def qwen2():
    config = plain("Qwen2ForCausalLM", "qwen2")
    return config, layers_of(config, lambda _: TWO + attention() + BIASES + mlp(256))


def qwen3():
    config = plain("Qwen3ForCausalLM", "qwen3", head_dim=HEAD)
    return config, layers_of(config, lambda _: TWO + attention() + HEAD_NORMS + mlp(256))


def qwen3moe():
    config = plain(
        "Qwen3MoeForCausalLM", "qwen3_moe", head_dim=HEAD, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=256, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        tie_word_embeddings=False,
    )
    experts = [tensor for i in range(4) for tensor in mlp(256, f"mlp.experts.{i}.")]
    block = TWO + attention() + HEAD_NORMS + [("mlp.gate.weight", [4, HIDDEN])] + experts
    return config, layers_of(config, lambda _: block)


def smollm3():
    config = plain(
        "SmolLM3ForCausalLM", "smollm3", 4, no_rope_layers=[1, 1, 1, 0], no_rope_layer_interval=4,
        pad_token_id=0, use_sliding_window=False, sliding_window=None,
    )
    return config, layers_of(config, lambda _: TWO + attention() + mlp(256))


def phi3():
    config = plain(
        "Phi3ForCausalLM", "phi3", tie_word_embeddings=False, sliding_window=None, pad_token_id=0,
        original_max_position_embeddings=1024,
        rope_scaling={
            "type": "longrope", "short_factor": [1.0 + i / 32 for i in range(HEAD // 2)],
            "long_factor": [2.0 + i / 4 for i in range(HEAD // 2)],
        },
    )
    block = TWO + [
        ("self_attn.qkv_proj.weight", [(HEADS + 2 * GROUPS) * HEAD, HIDDEN]),
        ("self_attn.o_proj.weight", [HIDDEN, HEADS * HEAD]),
        ("mlp.gate_up_proj.weight", [512, HIDDEN]),
        ("mlp.down_proj.weight", [HIDDEN, 256]),
    ]
    return config, layers_of(config, lambda _: block)


def gemma2():
    config = gemma(
        "Gemma2ForCausalLM", "gemma2", 2, attn_logit_softcapping=50.0, final_logit_softcapping=30.0
    )
    return config, layers_of(config, lambda _: FOUR + attention() + mlp(256))


def gemma3():
    """With one head of keys and values, as the smallest has."""
    config = gemma(
        "Gemma3ForCausalLM", "gemma3_text", 6, rope_theta=1000000.0, rope_local_base_freq=10000.0,
        sliding_window_pattern=6, num_key_value_heads=1,
    )
    block = FOUR + attention(groups=1) + HEAD_NORMS + mlp(256)
    return config, layers_of(config, lambda _: block)


def gemma3n():
    """llama.cpp fixes the rank of laurel (64), the inputs of a layer (256) and which layers are sparse."""
    layers, inputs, streams, prefix = 5, 256, 4, "model.language_model."
    text = gemma(
        "Gemma3nForCausalLM", "gemma3n_text", layers, rope_theta=1000000.0,
        rope_local_base_freq=10000.0, vocab_size_per_layer_input=parts.VOCAB,
        hidden_size_per_layer_input=inputs, altup_num_inputs=streams, altup_active_idx=0,
        altup_coef_clip=120.0, altup_correct_scale=True, num_kv_shared_layers=0, laurel_rank=64,
        final_logit_softcapping=30.0, activation_sparsity_pattern=[0.95] * layers,
        layer_types=["sliding_attention"] * 4 + ["full_attention"],
    )
    text["intermediate_size"] = [256] * layers
    block = FOUR + attention() + HEAD_NORMS + mlp(256) + [
        ("altup.correct_output_scale", [HIDDEN]),
        ("altup.correction_coefs.weight", [streams, streams]),
        ("altup.modality_router.weight", [streams, HIDDEN]),
        ("altup.prediction_coefs.weight", [streams * streams, streams]),
        ("altup.router_norm.weight", [HIDDEN]),
        ("laurel.linear_left.weight", [64, HIDDEN]),
        ("laurel.linear_right.weight", [HIDDEN, 64]),
        ("laurel.post_laurel_norm.weight", [HIDDEN]),
        ("per_layer_input_gate.weight", [inputs, HIDDEN]),
        ("per_layer_projection.weight", [HIDDEN, inputs]),
        ("post_per_layer_input_norm.weight", [HIDDEN]),
    ]
    tensors = layers_of(text, lambda _: block, prefix)
    for name in ("altup_projections", "altup_unembed_projections"):
        tensors += [(f"{prefix}{name}.{i}.weight", [HIDDEN, HIDDEN]) for i in range(streams - 1)]
    tensors += [
        (f"{prefix}embed_tokens_per_layer.weight", [parts.VOCAB, inputs * layers]),
        (f"{prefix}per_layer_model_projection.weight", [inputs * layers, HIDDEN]),
        (f"{prefix}per_layer_projection_norm.weight", [inputs]),
    ]
    config = {
        "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
        "torch_dtype": "bfloat16", "eos_token_id": 2, "text_config": text,
    }
    return config, tensors


def lfm2():
    types = ["conv", "conv", "full_attention", "conv"]
    config = plain(
        "Lfm2ForCausalLM", "lfm2", 4, norm_eps=1e-5, conv_L_cache=3, conv_bias=False,
        layer_types=types, block_auto_adjust_ff_dim=False, rope_theta=1000000.0, pad_token_id=0,
        block_ff_dim=256, block_multiple_of=256, block_ffn_dim_multiplier=1.0,
    )
    del config["rms_norm_eps"]

    def block(i):
        feed = [
            ("feed_forward.w1.weight", [256, HIDDEN]),
            ("feed_forward.w3.weight", [256, HIDDEN]),
            ("feed_forward.w2.weight", [HIDDEN, 256]),
        ]
        if types[i] == "conv":
            mixer = [
                ("conv.conv.weight", [HIDDEN, 1, 3]),
                ("conv.in_proj.weight", [3 * HIDDEN, HIDDEN]),
                ("conv.out_proj.weight", [HIDDEN, HIDDEN]),
            ]
        else:
            mixer = attention(out="out_proj") + [
                ("self_attn.q_layernorm.weight", [HEAD]),
                ("self_attn.k_layernorm.weight", [HEAD]),
            ]
        return norms("operator_norm", "ffn_norm") + mixer + feed

    tensors = layers_of(config, block)
    return config, [(name.replace("model.norm.", "model.embedding_norm."), s) for name, s in tensors]


def _qwen3_5(name, kind, feed, **more):
    prefix, keys, values, size = "model.language_model.", 2, 4, 64
    types = ["linear_attention"] * 3 + ["full_attention"]
    text = plain(
        f"{name}ForCausalLM", f"{kind}_text", 4, head_dim=HEAD, layer_types=types,
        full_attention_interval=4, linear_conv_kernel_dim=4, linear_key_head_dim=size,
        linear_value_head_dim=size, linear_num_key_heads=keys, linear_num_value_heads=values,
        rope_parameters={
            "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2], "mrope_interleaved": True,
        },
        **more,
    )
    del text["rope_theta"]
    mixed = 2 * keys * size + values * size

    def block(i):
        if types[i] == "linear_attention":
            mixer = [
                ("linear_attn.in_proj_qkv.weight", [mixed, HIDDEN]),
                ("linear_attn.in_proj_z.weight", [values * size, HIDDEN]),
                ("linear_attn.in_proj_b.weight", [values, HIDDEN]),
                ("linear_attn.in_proj_a.weight", [values, HIDDEN]),
                ("linear_attn.conv1d.weight", [mixed, 1, 4]),
                ("linear_attn.dt_bias", [values]),
                ("linear_attn.A_log", [values]),
                ("linear_attn.norm.weight", [size]),
                ("linear_attn.out_proj.weight", [HIDDEN, values * size]),
            ]
        else:
            mixer = attention() + HEAD_NORMS
            mixer[0] = ("self_attn.q_proj.weight", [2 * HEADS * HEAD, HIDDEN])
        return TWO + mixer + feed

    config = {
        "architectures": [f"{name}ForConditionalGeneration"], "model_type": kind,
        "torch_dtype": "bfloat16", "tie_word_embeddings": True, "text_config": text,
    }
    return config, layers_of(text, block, prefix)


def qwen3_5():
    return _qwen3_5("Qwen3_5", "qwen3_5", mlp(256))


def qwen35moe():
    experts, inner = 4, 256
    routed = [
        ("mlp.gate.weight", [experts, HIDDEN]),
        ("mlp.experts.gate_up_proj", [experts, 2 * inner, HIDDEN]),
        ("mlp.experts.down_proj", [experts, HIDDEN, inner]),
    ]
    shared = mlp(256, "mlp.shared_expert.") + [("mlp.shared_expert_gate.weight", [1, HIDDEN])]
    return _qwen3_5(
        "Qwen3_5Moe", "qwen3_5_moe", routed + shared, num_experts=experts, num_experts_per_tok=2,
        moe_intermediate_size=inner, shared_expert_intermediate_size=256,
    )


def starcoder2():
    """With a bias beside every weight but the embedding."""
    config = plain(
        "Starcoder2ForCausalLM", "starcoder2", inner=512, hidden_act="gelu_pytorch_tanh",
        norm_epsilon=1e-5, use_bias=True, sliding_window=None,
    )
    del config["rms_norm_eps"]
    weights = TWO + attention() + [
        ("mlp.c_fc.weight", [512, HIDDEN]), ("mlp.c_proj.weight", [HIDDEN, 512]),
    ]
    biases = [(name.replace(".weight", ".bias"), shape[:1]) for name, shape in weights]
    return config, layers_of(config, lambda _: weights + biases) + [("model.norm.bias", [HIDDEN])]


FAMILIES = {
    make.__name__: make
    for make in (
        llama, mistral, qwen2, qwen3, qwen3moe, smollm3, phi3, gemma2, gemma3, gemma3n, lfm2, qwen3_5,
        qwen35moe, starcoder2, *dense.ALL, *hybrids.ALL, *latents.ALL, *forms.ALL,
    )
}

# Small files beside the weights, which say what the model is.
FILES = {"moondream": {"moondream.py": "Tokenizer.from_pretrained('vikhyatk/moondream2')"}}

# Norms that multiply by one more than their weight.
_ADD_ONE = ("gemma", "gemma2", "gemma3", "qwen3_5", "qwen35moe", "qwen3next", "nemotron")
# Norms that multiply by that much more than their weight.
_ADD = {
    "plamo2": {
        "pre_mixer_norm.weight": 1.0, "post_mixer_norm.weight": 0.2, "pre_mlp_norm.weight": 1.0,
        "post_mlp_norm.weight": 5**-1.5, "model.norm.weight": 1.0,
    },
}


def _values(family, name, shape):
    """Normal numbers of RandomState, whose stream NumPy keeps for ever, seeded by the name.

    What a block adds outweighs what came in, or a tied head would repeat the token it is given.
    """
    noise = np.random.RandomState(zlib.crc32(f"{family} {name}".encode())).standard_normal(shape)
    # Gemma multiplies embeddings by the root of their width; here the last norm makes that good.
    scale = math.sqrt(HIDDEN) if family.startswith("gemma") else 1.0
    is_norm = any(part in name for part in ("norm", ".ln_", ".ln.", "post_ln", "attn_ln"))
    if is_norm and name.endswith("weight") or name.endswith((".q_weight", ".k_weight")):
        centre = scale if name.endswith((".norm.weight", "embedding_norm.weight")) and ".layers." not in name else 1.0
        if family.startswith("gemma4") and name.endswith(("q_norm.weight", "k_norm.weight")):
            # Its scores have no factor: these norms keep them as small as others'.
            centre = 0.35
        if name.endswith(("b_layernorm.weight", "c_layernorm.weight", "B_norm_weight", "C_norm_weight")):
            centre = 0.4
        if name.endswith("post_feedforward_layernorm_2.weight"):
            # A router that decides otherwise should move little.
            centre = 0.5
        less = 1.0 if family in _ADD_ONE and "linear_attn" not in name else 0.0
        less += sum(part for end, part in _ADD.get(family, {}).items() if name.endswith(end))
        return centre * (1.0 + 0.1 * noise) - less
    if name.endswith(("correct_output_scale", "layer_scalar", "router.scale", "per_expert_scale")):
        return 1.0 + 0.1 * noise
    if name.endswith(("act_fn.beta", "act_fn.eps")):
        return np.array(0.5 if name.endswith("beta") else -1e-6)
    if family == "rwkv7" and ".x_" in name:
        return 0.5 + 0.2 * noise
    if len(shape) == 1:
        return 0.3 * noise
    is_embedding = name.split(".")[-2] in ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out") or name.endswith(".wte")
    if is_embedding or family == "rwkv7" and ".embeddings." in name:
        return 0.15 * noise / scale
    back = ("o_proj", "down_proj", "out_proj", "w2", "c_proj", "dense", "fc2", "output_linear")
    gain = 3.0 if any(part in name for part in back) else 1.0
    if family in ("qwen35moe", "qwen3next", "kimi_linear", "qwen3vlmoe") and ".experts." in name:
        # Delta nets and caches of eight bits carry differences on: a router that decides otherwise moves little here.
        gain = 0.3
    if family in ("falcon_mamba", "jamba"):
        # Normed time steps, B and C carry every rounding of eight bits on, and a router that decides otherwise moves little.
        gain = 0.2 if "dt_proj" in name or ".experts." in name and "down_proj" in name else 1.0
        if family == "jamba" and any(part in name for part in back):
            gain *= 0.5
    if family == "kimi_linear" and gain > 1.0:
        # Its nets carry roundings further than others'.
        gain = 1.5
    if family == "rwkv7":
        # Norms of heads and squares carry every rounding of eight bits on.
        gain = 0.5 if name.endswith(("o_proj.weight", "ffn.value.weight")) else 1.0
    inputs = shape[-1] if "_linear" in name or ".experts." in name else math.prod(shape[1:])
    return gain * noise / math.sqrt(inputs)


def _bytes(family, name, shape):
    """Codes of four-bit floats, or the exponents of their scales; None for other tensors."""
    random = np.random.RandomState(zlib.crc32(f"{family} {name}".encode()))
    if name.endswith("_blocks"):
        return random.randint(0, 256, shape).astype(np.uint8)
    if name.endswith("_scales"):
        low = 122 if "down_proj" in name else 121
        return random.randint(low, low + 3, shape).astype(np.uint8)
    return None


def stored(family, name, shape):
    """The bits of a tensor: bytes where it is of codes, else BF16."""
    codes = _bytes(family, name, shape)
    return bf16(_values(family, name, shape)) if codes is None else codes


def bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def save(path, tensors):
    """A safetensors file of `(name, shape, bits)`: BF16, or bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, bits in tensors:
        end = offset + bits.nbytes
        kind = "U8" if bits.dtype == np.uint8 else "BF16"
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for _, _, bits in tensors:
            file.write(bits.tobytes())


def make(family, directory):
    config, tensors = FAMILIES[family]()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    for name, text in FILES.get(family, {}).items():
        (directory / name).write_text(text)
    filled = [(name, shape, stored(family, name, shape)) for name, shape in tensors]
    save(directory / "model.safetensors", filled)


def around(family, tokenizer, directory):
    """A checkpoint of zeros around the tokenizer in the directory `tokenizer`."""
    tokenizer, directory = Path(tokenizer), Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    ids = list(vocabulary["model"]["vocab"].values())
    size = 1 + max(ids + [token["id"] for token in vocabulary["added_tokens"]])
    kept, parts.VOCAB = parts.VOCAB, size
    try:
        config, tensors = FAMILIES[family]()
    finally:
        parts.VOCAB = kept
    for file in tokenizer.iterdir():
        shutil.copy(file, directory)
    (directory / "config.json").write_text(json.dumps(config))
    blank = [(name, shape, np.zeros(math.prod(shape), np.uint16)) for name, shape in tensors]
    save(directory / "model.safetensors", blank)
    return {"vocabulary": size}


def other(family, like, directory, rows=0, head=False):
    """The checkpoint of `family` with the tokenizer files of `like`: with `rows` more of the embedding than
    there are tokens, or with a head that differs from the embedding that it is tied to."""
    directory = Path(directory)
    kept, parts.VOCAB = parts.VOCAB, parts.VOCAB + rows
    try:
        config, tensors = FAMILIES[family]()
    finally:
        parts.VOCAB = kept
    if head:
        assert config["tie_word_embeddings"]
        tensors = [*tensors, ("lm_head.weight", dict(tensors)["model.embed_tokens.weight"])]
    directory.mkdir(parents=True, exist_ok=True)
    for file in Path(like).glob("token*"):
        shutil.copy(file, directory)
    (directory / "config.json").write_text(json.dumps(config))
    filled = [(name, shape, stored(family, name, shape)) for name, shape in tensors]
    save(directory / "model.safetensors", filled)
    return {}
