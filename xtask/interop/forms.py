"""Small checkpoints of families whose experts, caches or embeddings have a form of their own: see checkpoints.py."""
import parts
from parts import (
    BIASES, FOUR, GROUPS, HEAD, HEAD_NORMS, HEADS, HIDDEN, TWO, attention, gemma, layers_of, mlp, norms, plain,
)

_BLOCK = 32


def gpt_oss():
    """Experts in MXFP4. Positions are scaled by a ramp of whole pairs, as llama.cpp knows it alone."""
    experts, inner = 4, 256
    config = plain(
        "GptOssForCausalLM", "gpt_oss", 4, head_dim=HEAD, num_local_experts=experts, num_experts_per_tok=2,
        attention_bias=True, tie_word_embeddings=False, sliding_window=16, swiglu_limit=7.0, rope_theta=150000.0,
        layer_types=["sliding_attention", "full_attention"] * 2, pad_token_id=0, rms_norm_eps=1e-5,
        rope_scaling={
            "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": True,
        },
        quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
        ]},
    )

    def four_bits(name, rows, columns):
        shape = [experts, rows, columns // _BLOCK]
        return [(f"{name}_blocks", [*shape, _BLOCK // 2]), (f"{name}_scales", shape), (f"{name}_bias", shape[:2])]

    block = TWO + attention() + BIASES + [
        ("self_attn.o_proj.bias", [HIDDEN]), ("self_attn.sinks", [HEADS]),
        ("mlp.router.weight", [experts, HIDDEN]), ("mlp.router.bias", [experts]),
        *four_bits("mlp.experts.gate_up_proj", 2 * inner, HIDDEN), *four_bits("mlp.experts.down_proj", HIDDEN, inner),
    ]
    return config, layers_of(config, lambda _: block)


_PREFIX = "model.language_model."
_WHOLE = 2 * HEAD


def _gemma4(layers, **more):
    """Each third block has full attention, with heads twice as wide, a quarter of whose pairs turn."""
    types = ["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(layers)]
    text = gemma(
        "Gemma4ForCausalLM", "gemma4_text", layers, global_head_dim=_WHOLE, layer_types=types, attention_bias=False,
        final_logit_softcapping=30.0, num_kv_shared_layers=0, hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=parts.VOCAB, attention_k_eq_v=False, num_global_key_value_heads=None,
        enable_moe_block=False, use_double_wide_mlp=False, num_experts=None, top_k_experts=None,
        moe_intermediate_size=None, use_bidirectional_attention=None,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
                "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0,
            },
        },
    ) | more
    del text["rope_theta"], text["hidden_act"], text["query_pre_attn_scalar"]
    config = {
        "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "torch_dtype": "bfloat16",
        "tie_word_embeddings": True, "eos_token_id": 2, "text_config": text,
    }
    return config, text


def _mixer(text, i):
    full = text["layer_types"][i] == "full_attention"
    head = _WHOLE if full else HEAD
    same = full and text["attention_k_eq_v"]
    groups = text["num_global_key_value_heads"] if same else text["num_key_value_heads"]
    own = attention(head, groups=groups) + [(f"self_attn.{name}_norm.weight", [head]) for name in "qk"]
    return FOUR + [tensor for tensor in own if not (same and "v_proj" in tensor[0])] + [("layer_scalar", [1])]


def gemma4():
    """The small ones: inputs of each layer, and caches that the last blocks share."""
    inputs, layers = 64, 6
    config, text = _gemma4(
        layers, hidden_size_per_layer_input=inputs, num_kv_shared_layers=3, use_double_wide_mlp=True,
        num_key_value_heads=1,
    )
    of_layer = [
        ("per_layer_input_gate.weight", [inputs, HIDDEN]), ("per_layer_projection.weight", [HIDDEN, inputs]),
        ("post_per_layer_input_norm.weight", [HIDDEN]),
    ]
    tensors = layers_of(text, lambda i: _mixer(text, i) + mlp(256 if i < 3 else 512) + of_layer, _PREFIX)
    return config, tensors + [
        (f"{_PREFIX}embed_tokens_per_layer.weight", [parts.VOCAB, inputs * layers]),
        (f"{_PREFIX}per_layer_model_projection.weight", [inputs * layers, HIDDEN]),
        (f"{_PREFIX}per_layer_projection_norm.weight", [inputs]),
    ]


def gemma4_dense():
    """The middle ones: keys of blocks with full attention are their values."""
    config, text = _gemma4(3, attention_k_eq_v=True, num_global_key_value_heads=1)
    return config, layers_of(text, lambda i: _mixer(text, i) + mlp(256), _PREFIX)


def gemma4_moe():
    """Experts beside the dense feed-forward."""
    experts, inner = 4, 256
    config, text = _gemma4(
        3, attention_k_eq_v=True, num_global_key_value_heads=1, enable_moe_block=True, num_experts=experts,
        top_k_experts=2, moe_intermediate_size=inner,
    )
    routed = [
        ("router.proj.weight", [experts, HIDDEN]), ("router.scale", [HIDDEN]), ("router.per_expert_scale", [experts]),
        ("experts.gate_up_proj", [experts, 2 * inner, HIDDEN]), ("experts.down_proj", [experts, HIDDEN, inner]),
    ] + norms("post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2")
    return config, layers_of(text, lambda i: _mixer(text, i) + mlp(256) + routed, _PREFIX)


ALL = (gpt_oss, gemma4, gemma4_dense, gemma4_moe)
