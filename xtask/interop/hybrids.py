"""Small checkpoints of families with recurrent blocks and with experts of their own kinds: see checkpoints.py."""
import parts
from parts import GROUPS, HEAD, HEADS, HEAD_NORMS, HIDDEN, TWO, attention, layers_of, mlp, norms, plain

STATE, WIDTH, KERNEL = 64, 64, 4
INNER = 2 * HIDDEN
SSM_HEADS = INNER // WIDTH


def _mamba(at, groups=1):
    """A Mamba 2 mixer."""
    channels = INNER + 2 * groups * STATE
    return [
        (f"{at}in_proj.weight", [INNER + channels + SSM_HEADS, HIDDEN]),
        (f"{at}conv1d.weight", [channels, 1, KERNEL]), (f"{at}conv1d.bias", [channels]),
        (f"{at}dt_bias", [SSM_HEADS]), (f"{at}A_log", [SSM_HEADS]), (f"{at}D", [SSM_HEADS]),
        (f"{at}norm.weight", [INNER]), (f"{at}out_proj.weight", [HIDDEN, INNER]),
    ]


def granitehybrid():
    """Attention without positions; granitemoe has the experts of this family."""
    types = ["mamba", "attention", "mamba"]
    config = plain(
        "GraniteMoeHybridForCausalLM", "granitemoehybrid", 3, embedding_multiplier=6.0, residual_multiplier=0.6,
        attention_multiplier=0.15, logits_scaling=3.0, num_local_experts=0, num_experts_per_tok=0,
        shared_intermediate_size=256, layer_types=types, position_embedding_type="nope", attention_bias=False,
        mamba_n_heads=SSM_HEADS, mamba_d_head=WIDTH, mamba_d_state=STATE, mamba_n_groups=1, mamba_d_conv=KERNEL,
        mamba_expand=2, mamba_chunk_size=256, mamba_conv_bias=True, mamba_proj_bias=False, pad_token_id=0,
    )
    feed = [("shared_mlp.input_linear.weight", [512, HIDDEN]), ("shared_mlp.output_linear.weight", [HIDDEN, 256])]
    return config, layers_of(
        config, lambda i: TWO + (attention() if types[i] == "attention" else _mamba("mamba.")) + feed
    )


def _backbone(config, block):
    tensors = [("backbone.embeddings.weight", [parts.VOCAB, HIDDEN]), ("backbone.norm_f.weight", [HIDDEN])]
    for i in range(config["num_hidden_layers"]):
        tensors += [(f"backbone.layers.{i}.{name}", shape) for name, shape in norms("norm") + block(i)]
    if not config["tie_word_embeddings"]:
        tensors.append(("lm_head.weight", [parts.VOCAB, HIDDEN]))
    return tensors


def _nemotron(pattern, **more):
    config = plain(
        "NemotronHForCausalLM", "nemotron_h", len(pattern), inner=512, hybrid_override_pattern=pattern, head_dim=HEAD,
        layer_norm_epsilon=1e-5, mamba_num_heads=SSM_HEADS, mamba_head_dim=WIDTH, ssm_state_size=STATE, n_groups=2,
        conv_kernel=KERNEL, expand=2, use_conv_bias=True, use_bias=False, mamba_proj_bias=False, mlp_bias=False,
        attention_bias=False, mlp_hidden_act="relu2", mamba_hidden_act="silu", chunk_size=128,
        tie_word_embeddings=False, pad_token_id=0, **more,
    )
    del config["rms_norm_eps"], config["hidden_act"]
    attends = [(name.replace("self_attn", "mixer"), shape) for name, shape in attention()]
    block = {
        "M": _mamba("mixer.", 2), "*": attends,
        "-": [("mixer.up_proj.weight", [512, HIDDEN]), ("mixer.down_proj.weight", [HIDDEN, 512])],
        "E": [
            ("mixer.gate.weight", [4, HIDDEN]), ("mixer.gate.e_score_correction_bias", [4]),
            ("mixer.shared_experts.up_proj.weight", [512, HIDDEN]),
            ("mixer.shared_experts.down_proj.weight", [HIDDEN, 512]),
        ] + [
            tensor for i in range(4) for tensor in [
                (f"mixer.experts.{i}.up_proj.weight", [256, HIDDEN]), (f"mixer.experts.{i}.down_proj.weight", [HIDDEN, 256]),
            ]
        ],
    }
    return config, _backbone(config, lambda i: block[pattern[i]])


def nemotron_h():
    return _nemotron("M-*-")


def nemotron_h_moe():
    return _nemotron(
        "ME*E", n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, n_shared_experts=1,
        moe_shared_expert_intermediate_size=512, norm_topk_prob=True, routed_scaling_factor=2.5, n_group=1, topk_group=1,
    )


def mamba2():
    config = plain(
        "Mamba2ForCausalLM", "mamba2", num_heads=SSM_HEADS, head_dim=WIDTH, state_size=STATE, n_groups=1,
        conv_kernel=KERNEL, expand=2, use_conv_bias=True, use_bias=False, rms_norm=True, layer_norm_epsilon=1e-5,
        chunk_size=256, tie_word_embeddings=True, pad_token_id=0,
    )
    for key in ("rms_norm_eps", "rope_theta", "intermediate_size", "num_attention_heads", "num_key_value_heads",
                "max_position_embeddings"):
        del config[key]
    return config, _backbone(config, lambda _: _mamba("mixer."))


def _scan(at, rank, normed=False):
    """A Mamba 1 mixer."""
    tensors = [
        (f"{at}in_proj.weight", [2 * INNER, HIDDEN]), (f"{at}conv1d.weight", [INNER, 1, KERNEL]),
        (f"{at}conv1d.bias", [INNER]), (f"{at}x_proj.weight", [rank + 32, INNER]),
        (f"{at}dt_proj.weight", [INNER, rank]), (f"{at}dt_proj.bias", [INNER]), (f"{at}A_log", [INNER, 16]),
        (f"{at}D", [INNER]), (f"{at}out_proj.weight", [HIDDEN, INNER]),
    ]
    if normed:
        tensors += [(f"{at}{part}_layernorm.weight", [n]) for part, n in (("dt", rank), ("b", 16), ("c", 16))]
    return tensors


def mamba(architecture="MambaForCausalLM", model_type="mamba", tied=True, **more):
    config = plain(
        architecture, model_type, inner=INNER, state_size=16, conv_kernel=KERNEL, expand=2, time_step_rank=16,
        use_conv_bias=True, use_bias=False, layer_norm_epsilon=1e-5, pad_token_id=0, **more,
    )
    config["tie_word_embeddings"] = tied
    for key in ("rms_norm_eps", "rope_theta", "num_attention_heads", "num_key_value_heads", "max_position_embeddings"):
        del config[key]
    return config, _backbone(config, lambda _: _scan("mixer.", 16))


def falcon_mamba():
    """Time steps, B and C are normed; in a GGUF with the epsilon of the other norms."""
    return mamba("FalconMambaForCausalLM", "falcon_mamba", tied=False, mixer_rms_eps=1e-5)


def jamba():
    """One block of three attends, every second has experts."""
    config = plain(
        "JambaForCausalLM", "jamba", 3, num_experts=4, num_experts_per_tok=2, attn_layer_period=3, attn_layer_offset=2,
        expert_layer_period=2, expert_layer_offset=1, mamba_d_state=16, mamba_d_conv=KERNEL, mamba_expand=2,
        mamba_dt_rank=16, mamba_conv_bias=True, mamba_proj_bias=False, pad_token_id=0,
    )
    config["tie_word_embeddings"] = False
    del config["rope_theta"]

    def block(i):
        mixer = attention() if i % 3 == 2 else _scan("mamba.", 16, normed=True)
        feed = mlp(256, "feed_forward.")
        if i % 2:
            feed = [("feed_forward.router.weight", [4, HIDDEN])]
            feed += [tensor for e in range(4) for tensor in mlp(256, f"feed_forward.experts.{e}.")]
        return norms("input_layernorm", "pre_ff_layernorm") + mixer + feed

    tensors = layers_of(config, block)
    return config, [(name.replace("model.norm.", "model.final_layernorm."), s) for name, s in tensors]


def bamba():
    """Half of a head's elements turn."""
    config = plain(
        "BambaForCausalLM", "bamba", 3, attn_layer_indices=[1], attn_rotary_emb=HEAD // 2, mamba_n_heads=SSM_HEADS,
        mamba_d_head=WIDTH, mamba_d_state=STATE, mamba_n_groups=1, mamba_d_conv=KERNEL, mamba_expand=2,
        mamba_chunk_size=256, mamba_conv_bias=True, mamba_proj_bias=False, attention_bias=False, mlp_bias=False,
        pad_token_id=0,
    )
    config["tie_word_embeddings"] = False

    def block(i):
        mixer = attention() if i == 1 else _mamba("mamba.")
        return norms("input_layernorm", "pre_ff_layernorm") + mixer + mlp(256, "feed_forward.")

    tensors = layers_of(config, block)
    return config, [(name.replace("model.norm.", "model.final_layernorm."), s) for name, s in tensors]


def plamo2():
    """Every second block attends; the feed-forward stores gate and up together. Norms lie around every mixer and
    feed-forward."""
    heads, rank = INNER // HEAD, 64
    config = plain(
        "Plamo2ForCausalLM", "plamo2", 3, hidden_size_per_head=HEAD, mamba_d_state=STATE, mamba_d_conv=KERNEL,
        mamba_num_heads=heads, mamba_step=2, mamba_chunk_size=256, mamba_enabled=True, attention_window_size=2048,
        full_attention_idx=None, pad_token_id=0,
    )
    del config["hidden_act"]
    attends = [
        ("mixer.qkv_proj.weight", [(HEADS + 2 * GROUPS) * HEAD, HIDDEN]), ("mixer.q_weight", [HEADS, HEAD]),
        ("mixer.k_weight", [GROUPS, HEAD]), ("mixer.o_proj.weight", [HIDDEN, HEADS * HEAD]),
    ]
    scans = [
        ("mixer.in_proj.weight", [2 * INNER, HIDDEN]), ("mixer.conv1d.weight", [INNER, 1, KERNEL]),
        ("mixer.bcdt_proj.weight", [2 * STATE + rank, INNER]), ("mixer.dt_proj.weight", [heads, rank]),
        ("mixer.dt_bias", [heads]), ("mixer.A_log", [heads]), ("mixer.D", [heads]),
        ("mixer.B_norm_weight", [STATE]), ("mixer.C_norm_weight", [STATE]), ("mixer.dt_norm_weight", [rank]),
        ("mixer.out_proj.weight", [HIDDEN, INNER]),
    ]
    feed = [("mlp.gate_up_proj.weight", [512, HIDDEN]), ("mlp.down_proj.weight", [HIDDEN, 256])]
    around = norms("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm")
    tensors = layers_of(config, lambda i: around + (attends if i % 2 else scans) + feed)
    return config, [(name.replace("model.layers.", "model.layers.layers."), shape) for name, shape in tensors]


def lfm2moe():
    """The first block is dense; a correction decides with the scores which experts are taken."""
    types = ["conv", "full_attention", "conv"]
    config = plain(
        "Lfm2MoeForCausalLM", "lfm2_moe", 3, inner=512, norm_eps=1e-5, conv_L_cache=3, conv_bias=False, layer_types=types,
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, num_dense_layers=1, norm_topk_prob=True,
        use_expert_bias=True, routed_scaling_factor=1.0, rope_theta=1000000.0, pad_token_id=0,
    )
    del config["rms_norm_eps"]

    def feed(at, inner):
        return [(f"{at}w1.weight", [inner, HIDDEN]), (f"{at}w3.weight", [inner, HIDDEN]), (f"{at}w2.weight", [HIDDEN, inner])]

    routed = [("feed_forward.gate.weight", [4, HIDDEN]), ("feed_forward.expert_bias", [4])]
    routed += [tensor for i in range(4) for tensor in feed(f"feed_forward.experts.{i}.", 256)]

    def block(i):
        if types[i] == "conv":
            mixer = [
                ("conv.conv.weight", [HIDDEN, 1, 3]), ("conv.in_proj.weight", [3 * HIDDEN, HIDDEN]),
                ("conv.out_proj.weight", [HIDDEN, HIDDEN]),
            ]
        else:
            mixer = attention(out="out_proj") + [
                ("self_attn.q_layernorm.weight", [HEAD]), ("self_attn.k_layernorm.weight", [HEAD]),
            ]
        return norms("operator_norm", "ffn_norm") + mixer + (routed if i else feed("feed_forward.", 512))

    tensors = layers_of(config, block)
    return config, [(name.replace("model.norm.", "model.embedding_norm."), s) for name, s in tensors]


def falcon_h1():
    """Attention and Mamba 2 side by side, each with factors of its own."""
    config = plain(
        "FalconH1ForCausalLM", "falcon_h1", head_dim=HEAD, mamba_d_ssm=INNER, mamba_n_heads=SSM_HEADS, mamba_d_head=WIDTH,
        mamba_d_state=STATE, mamba_n_groups=1, mamba_d_conv=KERNEL, mamba_expand=2, mamba_chunk_size=256,
        mamba_conv_bias=True, mamba_proj_bias=False, mamba_rms_norm=False, mamba_norm_before_gate=True,
        projectors_bias=False, attention_bias=False, mlp_bias=False, tie_word_embeddings=False, pad_token_id=0,
        embedding_multiplier=5.5, lm_head_multiplier=0.7, key_multiplier=0.9, attention_in_multiplier=1.1,
        attention_out_multiplier=0.8, ssm_in_multiplier=1.2, ssm_out_multiplier=0.6, mlp_multipliers=[0.9, 0.7],
        ssm_multipliers=[0.8, 0.9, 1.1, 1.2, 0.7],
    )
    mixer = [tensor for tensor in _mamba("mamba.") if tensor[0] != "mamba.norm.weight"]
    block = norms("input_layernorm", "pre_ff_layernorm") + attention() + mixer + mlp(256, "feed_forward.")
    tensors = layers_of(config, lambda _: block)
    return config, [(name.replace("model.norm.", "model.final_layernorm."), s) for name, s in tensors]


def qwen3next():
    """Gated delta nets whose projections are stored key head by key head, each with its value heads."""
    keys, values, size = 2, 4, 64
    config = plain(
        "Qwen3NextForCausalLM", "qwen3_next", 4, head_dim=HEAD, full_attention_interval=4, linear_conv_kernel_dim=KERNEL,
        linear_key_head_dim=size, linear_value_head_dim=size, linear_num_key_heads=keys, linear_num_value_heads=values,
        partial_rotary_factor=0.25, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256,
        shared_expert_intermediate_size=256, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        attention_bias=False,
    )
    config["tie_word_embeddings"] = False
    mixed = 2 * keys * size + values * size
    feed = [("mlp.gate.weight", [4, HIDDEN])] + [tensor for i in range(4) for tensor in mlp(256, f"mlp.experts.{i}.")]
    feed += mlp(256, "mlp.shared_expert.") + [("mlp.shared_expert_gate.weight", [1, HIDDEN])]

    def block(i):
        if i == 3:
            mixer = attention() + HEAD_NORMS
            mixer[0] = ("self_attn.q_proj.weight", [2 * HEADS * HEAD, HIDDEN])
        else:
            mixer = [
                ("linear_attn.in_proj_qkvz.weight", [mixed + values * size, HIDDEN]),
                ("linear_attn.in_proj_ba.weight", [2 * values, HIDDEN]), ("linear_attn.conv1d.weight", [mixed, 1, KERNEL]),
                ("linear_attn.dt_bias", [values]), ("linear_attn.A_log", [values]), ("linear_attn.norm.weight", [size]),
                ("linear_attn.out_proj.weight", [HIDDEN, values * size]),
            ]
        return TWO + mixer + feed

    return config, layers_of(config, block)


def kimi_linear():
    """The first block is dense, the third attends, to latents without positions."""
    latent, rest, values = 64, 32, 48
    config = plain(
        "KimiLinearForCausalLM", "kimi_linear", 4, 512, head_dim=HEAD + rest, kv_lora_rank=latent, q_lora_rank=None,
        qk_nope_head_dim=HEAD, qk_rope_head_dim=rest, v_head_dim=values, mla_use_nope=True, num_experts=4,
        num_experts_per_token=2, num_shared_experts=1, moe_intermediate_size=256, first_k_dense_replace=1, moe_layer_freq=1,
        moe_renormalize=True, moe_router_activation_func="sigmoid", num_expert_group=1, topk_group=1, use_grouped_topk=True,
        routed_scaling_factor=1.5, model_max_length=2048, rope_scaling=None, pad_token_id=0, linear_attn_config={
            "full_attn_layers": [3], "kda_layers": [1, 2, 4], "head_dim": HEAD, "num_heads": HEADS,
            "short_conv_kernel_size": KERNEL,
        },
    )
    config |= {"tie_word_embeddings": False, "num_key_value_heads": HEADS}
    del config["max_position_embeddings"]
    width, at = HEADS * HEAD, "self_attn."
    net = [(f"{at}{part}_proj.weight", [width, HIDDEN]) for part in "qkv"]
    net += [(f"{at}{part}_conv1d.weight", [width, 1, KERNEL]) for part in "qkv"]
    net += [tensor for part in "fg" for tensor in [
        (f"{at}{part}_a_proj.weight", [HEAD, HIDDEN]), (f"{at}{part}_b_proj.weight", [width, HEAD]),
    ]]
    net += [
        (f"{at}b_proj.weight", [HEADS, HIDDEN]), (f"{at}A_log", [1, 1, HEADS, 1]), (f"{at}dt_bias", [width]),
        (f"{at}o_norm.weight", [HEAD]), (f"{at}o_proj.weight", [HIDDEN, width]),
    ]
    attends = [
        (f"{at}q_proj.weight", [HEADS * (HEAD + rest), HIDDEN]), (f"{at}kv_a_proj_with_mqa.weight", [latent + rest, HIDDEN]),
        (f"{at}kv_a_layernorm.weight", [latent]), (f"{at}kv_b_proj.weight", [HEADS * (HEAD + values), latent]),
        (f"{at}o_proj.weight", [HIDDEN, HEADS * values]),
    ]
    moe = "block_sparse_moe."
    routed = [(f"{moe}gate.weight", [4, HIDDEN]), (f"{moe}gate.e_score_correction_bias", [4])]
    routed += mlp(256, f"{moe}shared_experts.") + [
        (f"{moe}experts.{i}.{part}.weight", [HIDDEN, 256] if part == "w2" else [256, HIDDEN])
        for i in range(4) for part in ("w1", "w2", "w3")
    ]
    return config, layers_of(config, lambda i: TWO + (attends if i == 2 else net) + (routed if i else mlp(512)))


def rwkv7():
    """Its code is not in Transformers; rwkv7.py computes what is expected."""
    ranks = {"w": 32, "a": 32, "v": 16, "g": 48}
    config = {
        "architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7", "hidden_size": HIDDEN, "intermediate_size": 512,
        "num_hidden_layers": 3, "head_dim": HEAD, "num_heads": None, "attn": None, "attn_mode": "chunk",
        "decay_low_rank_dim": ranks["w"], "a_low_rank_dim": ranks["a"], "v_low_rank_dim": ranks["v"],
        "gate_low_rank_dim": ranks["g"], "hidden_act": "sqrelu", "hidden_ratio": 2.0, "norm_bias": True, "norm_eps": 1e-5,
        "norm_first": True, "max_position_embeddings": 2048, "tie_word_embeddings": False, "vocab_size": parts.VOCAB,
        "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16",
    }

    def norm(name):
        return [(f"{name}.weight", [HIDDEN]), (f"{name}.bias", [HIDDEN])]

    def low_rank(part):
        tensors = [
            (f"attn.{part}_lora.lora.0.weight", [ranks[part], HIDDEN]),
            (f"attn.{part}_lora.lora.2.weight", [HIDDEN, ranks[part]]),
        ]
        return tensors + ([] if part == "g" else [(f"attn.{part}_lora.lora.2.bias", [HIDDEN])])

    def block(i):
        tensors = (norm("pre_norm") if i == 0 else low_rank("v")) + norm("attn_norm") + norm("ffn_norm") + norm("attn.g_norm")
        tensors += low_rank("w") + low_rank("a") + low_rank("g")
        tensors += [(f"attn.x_{part}", [1, 1, HIDDEN]) for part in "rwkvag"]
        tensors += [("attn.k_k", [HIDDEN]), ("attn.k_a", [HIDDEN]), ("attn.r_k", [HIDDEN // HEAD, HEAD]), ("ffn.x_k", [HIDDEN])]
        tensors += [(f"attn.{part}_proj.weight", [HIDDEN, HIDDEN]) for part in "rkvo"]
        return tensors + [("ffn.key.weight", [512, HIDDEN]), ("ffn.value.weight", [HIDDEN, 512])]

    tensors = layers_of(config, block) + [("model.norm.bias", [HIDDEN])]
    return config, [(name.replace("embed_tokens", "embeddings"), shape) for name, shape in tensors]


ALL = (
    falcon_h1, granitehybrid, nemotron_h, nemotron_h_moe, mamba2, lfm2moe, mamba, falcon_mamba, jamba, bamba, qwen3next,
    kimi_linear, rwkv7, plamo2,
)
