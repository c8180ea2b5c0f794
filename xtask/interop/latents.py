"""Small checkpoints of families with latent attention: see checkpoints.py."""
from parts import HEAD, HEADS, HIDDEN, TWO, attention, layers_of, mlp, plain

QUERY, LATENT, ROTARY = 256, 64, 32


def _attention(values=HEAD):
    return [
        ("self_attn.q_a_proj.weight", [QUERY, HIDDEN]), ("self_attn.q_a_layernorm.weight", [QUERY]),
        ("self_attn.q_b_proj.weight", [HEADS * (HEAD + ROTARY), QUERY]),
        ("self_attn.kv_a_proj_with_mqa.weight", [LATENT + ROTARY, HIDDEN]), ("self_attn.kv_a_layernorm.weight", [LATENT]),
        ("self_attn.kv_b_proj.weight", [HEADS * (HEAD + values), LATENT]),
        ("self_attn.o_proj.weight", [HIDDEN, HEADS * values]),
    ]


def _sizes(**more):
    return {
        "num_key_value_heads": HEADS, "q_lora_rank": QUERY, "kv_lora_rank": LATENT, "qk_nope_head_dim": HEAD,
        "qk_rope_head_dim": ROTARY, **more,
    }


def _routed(correction):
    experts = [("mlp.gate.weight", [4, HIDDEN])] + mlp(256, "mlp.shared_experts.")
    if correction:
        experts.append(("mlp.gate.e_score_correction_bias", [4]))
    return experts + [tensor for i in range(4) for tensor in mlp(256, f"mlp.experts.{i}.")]


def _deepseek(architecture, model_type, correction, **more):
    """The first block is dense. Values are narrower than keys without positions."""
    config = plain(
        architecture, model_type, 2, 512, **_sizes(v_head_dim=48), n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, moe_intermediate_size=256, first_k_dense_replace=1, moe_layer_freq=1, n_group=1, topk_group=1,
        attention_bias=False, tie_word_embeddings=False, **more,
    )
    return config, layers_of(config, lambda i: TWO + _attention(48) + (_routed(correction) if i else mlp(512)))


def deepseek2():
    """With YaRN, whose factor is in the scores."""
    return _deepseek(
        "DeepseekV2ForCausalLM", "deepseek_v2", False, norm_topk_prob=False, routed_scaling_factor=1.0,
        topk_method="greedy", scoring_func="softmax", rope_scaling={
            "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "beta_fast": 32, "beta_slow": 1,
            "mscale": 0.707, "mscale_all_dim": 0.707,
        },
    )


def deepseek3():
    """As Moonlight."""
    return _deepseek(
        "DeepseekV3ForCausalLM", "deepseek_v3", True, norm_topk_prob=True, routed_scaling_factor=1.5,
        topk_method="noaux_tc", scoring_func="sigmoid", rope_theta=50000.0,
    )


def minicpm3():
    """Its code is not in Transformers; a dense DeepSeek 3 whose weights have the scales computes the same (expected.py)."""
    config = plain(
        "MiniCPM3ForCausalLM", "minicpm3", **_sizes(), scale_emb=12, scale_depth=1.4, dim_model_base=256,
        tie_word_embeddings=False, rope_scaling={
            "rope_type": "longrope", "original_max_position_embeddings": 2048,
            "short_factor": [1.0] * (ROTARY // 2), "long_factor": [2.0 + i / 4 for i in range(ROTARY // 2)],
        },
    )
    return config, layers_of(config, lambda _: TWO + _attention() + mlp(256))


def deepseek_ocr():
    """The text model of DeepSeek-OCR, which has no latents; its code is not in Transformers (expected.py)."""
    none = {"q_lora_rank": None, "kv_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0}
    config = plain(
        "DeepseekOCRForCausalLM", "deepseek_vl_v2", 2, 512, **none, use_mla=False, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=2, moe_intermediate_size=256, first_k_dense_replace=1, n_group=1, topk_group=1,
        topk_method="greedy",
    ) | {"num_key_value_heads": HEADS, "tie_word_embeddings": False}
    routed = [("mlp.gate.weight", [4, HIDDEN])] + mlp(512, "mlp.shared_experts.")
    routed += [tensor for i in range(4) for tensor in mlp(256, f"mlp.experts.{i}.")]
    return config, layers_of(config, lambda i: TWO + attention(groups=HEADS) + (routed if i else mlp(512)))


ALL = (deepseek2, deepseek3, deepseek_ocr, minicpm3)
