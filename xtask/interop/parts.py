"""What small checkpoints are made of: sizes, configurations, and lists of tensors with their shapes."""

HIDDEN, HEADS, GROUPS, HEAD, VOCAB = 256, 4, 2, 64, 512


def plain(architecture, model_type, layers=2, inner=256, **more):
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_size": HIDDEN,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS, "vocab_size": VOCAB, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 1,
        "eos_token_id": 2, **more,
    }


def gemma(architecture, model_type, layers, **more):
    return plain(
        architecture, model_type, layers, head_dim=HEAD, hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=HEAD, sliding_window=16, pad_token_id=0, **more,
    )


def layers_of(config, block, prefix="model."):
    """Embedding, blocks, final norm, and the head if it is not tied."""
    tensors = [(f"{prefix}embed_tokens.weight", [VOCAB, HIDDEN])]
    for i in range(config["num_hidden_layers"]):
        tensors += [(f"{prefix}layers.{i}.{name}", shape) for name, shape in block(i)]
    tensors.append((f"{prefix}norm.weight", [HIDDEN]))
    if not config["tie_word_embeddings"]:
        tensors.append(("lm_head.weight", [VOCAB, HIDDEN]))
    return tensors


def attention(head=HEAD, out="o_proj", groups=GROUPS):
    return [
        ("self_attn.q_proj.weight", [HEADS * head, HIDDEN]),
        ("self_attn.k_proj.weight", [groups * head, HIDDEN]),
        ("self_attn.v_proj.weight", [groups * head, HIDDEN]),
        (f"self_attn.{out}.weight", [HIDDEN, HEADS * head]),
    ]


BIASES = [
    ("self_attn.q_proj.bias", [HEADS * HEAD]),
    ("self_attn.k_proj.bias", [GROUPS * HEAD]),
    ("self_attn.v_proj.bias", [GROUPS * HEAD]),
]
HEAD_NORMS = [("self_attn.q_norm.weight", [HEAD]), ("self_attn.k_norm.weight", [HEAD])]


def mlp(inner, at="mlp."):
    return [
        (f"{at}gate_proj.weight", [inner, HIDDEN]),
        (f"{at}up_proj.weight", [inner, HIDDEN]),
        (f"{at}down_proj.weight", [HIDDEN, inner]),
    ]


def norms(*names):
    return [(f"{name}.weight", [HIDDEN]) for name in names]


TWO = norms("input_layernorm", "post_attention_layernorm")
FOUR = TWO + norms("pre_feedforward_layernorm", "post_feedforward_layernorm")
