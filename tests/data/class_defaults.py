"""Writes class_defaults.json: what Transformers' own configuration classes make of a configuration that lacks a key.

For each model type a small configuration, every value unlike its default, as the class writes it; and for each of its
keys, what the class has there when the key is dropped. Types of Transformers 4 under it, newer ones under 5:
    python4 tests/data/class_defaults.py | python5 tests/data/class_defaults.py - > tests/data/class_defaults.json
"""
import json, os, sys
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

TYPES = """deepseek_v2 deepseek_v3 falcon_h1 gemma gemma2 gemma3_text gemma3n_text gemma4_text gemma4_unified_text glm4
gpt_oss granite granitemoe granitemoehybrid granitemoeshared lfm2 lfm2_moe llama ministral3 mistral mixtral nemotron_h
olmo2 olmo3 phi3 qwen2 qwen2_5_vl_text qwen2_moe qwen2_vl_text qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next
qwen3_vl_moe_text qwen3_vl_text smollm3 starcoder2""".split()
SMALL = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    vocab_size=300, max_position_embeddings=512, sliding_window=48, num_experts=6, num_local_experts=6,
    n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=80, shared_expert_intermediate_size=40,
    shared_intermediate_size=56, n_shared_experts=3, first_k_dense_replace=2, num_dense_layers=3, kv_lora_rank=24,
    q_lora_rank=40, qk_nope_head_dim=24, qk_rope_head_dim=16, v_head_dim=20, rms_norm_eps=3e-4, norm_eps=3e-4,
    layer_norm_epsilon=3e-4, norm_epsilon=3e-4, rope_theta=77_000.0, rope_local_base_freq=7_000.0, final_logit_softcapping=25.0,
    attn_logit_softcapping=35.0, query_pre_attn_scalar=200, linear_conv_kernel_dim=3, linear_key_head_dim=24,
    linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, conv_L_cache=4, block_multiple_of=32,
    block_ffn_dim_multiplier=1.5, hidden_size_per_layer_input=16, vocab_size_per_layer_input=280, altup_num_inputs=3,
    laurel_rank=8, num_kv_shared_layers=2, mamba_n_heads=4, mamba_d_head=32, mamba_n_groups=2, mamba_d_state=12,
    mamba_d_conv=3, mamba_d_ssm=128, mamba_num_heads=4, mamba_head_dim=24, n_groups=2, ssm_state_size=12, conv_kernel=3,
    moe_shared_expert_intermediate_size=40, partial_rotary_factor=0.75, original_max_position_embeddings=256,
)
FLAGS = ("tie_word_embeddings attention_bias mlp_bias mamba_conv_bias mamba_rms_norm use_bias use_conv_bias "
         "block_auto_adjust_ff_dim attention_k_eq_v").split()
KEPT = ("layer_types", "layers_block_type", "rope_parameters", "rope_scaling", "activation_sparsity_pattern",
        "mlp_only_layers", "decoder_sparse_step", "full_attn_idxs", "max_window_layers", "use_sliding_window")


def case(kind):
    cls = type(CONFIG_MAPPING[kind]())
    usual = cls().to_dict()
    stated = {key: value for key, value in SMALL.items() if key in usual}
    stated |= {key: not usual[key] for key in FLAGS if isinstance(usual.get(key), bool)}
    if kind == "nemotron_h":
        stated["layers_block_type"] = ["linear_attention", "moe", "full_attention", "mlp"]
        stated.pop("num_hidden_layers", None)
    if kind == "granitemoehybrid":
        stated["layer_types"] = ["mamba", "attention"] * 4
    if kind == "lfm2_moe":
        stated["layer_types"] = ["conv", "full_attention"] * 4
    read = lambda config: {k: v for k, v in config.items() if k in stated or k in KEPT}
    whole = read(cls(**stated).to_dict())
    without = {}
    for key in whole:
        try:
            left = cls(**{k: v for k, v in whole.items() if k != key}).to_dict()
            without[key] = left.get(key)
        except Exception:
            pass  # the class refuses what is left
    return {"config": whole | {"model_type": kind}, "without": without}


known = json.load(sys.stdin) if sys.argv[1:] == ["-"] else {"source": []}
known["source"].append(f"Transformers {transformers.__version__}")
for kind in TYPES:
    if kind not in known and kind in CONFIG_MAPPING:
        known[kind] = case(kind)
json.dump(known, sys.stdout, separators=(",", ":"))
print()
