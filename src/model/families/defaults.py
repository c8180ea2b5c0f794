"""Writes defaults.json: what Transformers' configuration classes fill in, by model type.

Only keys that orinplan reads, and only plain defaults: what a class computes from other values (LlamaConfig's
`num_key_value_heads`) is None there and left out here. Run it under each version; a type is taken from the first
that has it, so that files of Transformers 4 mean what they meant:
    python4 src/model/families/defaults.py | python5 src/model/families/defaults.py - > src/model/families/defaults.json
"""
import dataclasses, inspect, json, os, re, sys
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

TYPES = """apertus arcee bamba bert bitnet cohere cohere2 deepseek_v2 deepseek_v3 ernie4_5 ernie4_5_moe exaone4 falcon_h1 falcon_mamba gemma gemma2
gemma3_text gemma3n_text gemma4_text gemma4_unified_text glm glm4 glm4_moe_lite glm4v_text gpt_neox gpt_oss granite granitemoe granitemoehybrid
granitemoeshared hunyuan_v1_dense hunyuan_v1_moe jamba kimi_linear lfm2 lfm2_moe llama llama4_text mamba mamba2 ministral3 mistral mixtral
 mllama_text_model nemotron nemotron_h olmo olmo2 olmo3 olmoe phi phi3 phimoe qwen2 qwen2_5_omni_text qwen2_5_vl_text qwen2_moe
qwen2_vl_text qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text roberta seed_oss
smollm3 stablelm starcoder2 xlm-roberta zamba2""".split()
FACTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "hparams.rs")
KEYS = open(FACTS).read().split("Key of u64")[1].split("Number of f64")[0]
READ = set(re.findall(r'"([^"]+)"', " ".join(re.findall(r"^  \| \w+ +\[([^\]]*)\]", KEYS, re.M)))) | set("""
attention_bias attention_k_eq_v attn_logit_softcapping block_auto_adjust_ff_dim block_ffn_dim_multiplier
block_multiple_of decoder_sparse_step final_logit_softcapping layer_norm_epsilon mamba_conv_bias mamba_rms_norm mlp_bias
norm_eps norm_epsilon norm_topk_prob original_max_position_embeddings partial_rotary_factor query_pre_attn_scalar rms_norm_eps rope_local_base_freq
rope_parameters rope_theta tie_word_embeddings use_bias use_conv_bias""".split())
# Their classes stand beside published weights; all of them inherit this from `PretrainedConfig`.
REMOTE = {kind: {"tie_word_embeddings": True} for kind in ["exaone", "minicpm", "minicpm3", "nomic_bert", "plamo2"]}
REMOTE["baichuan"] = {"tie_word_embeddings": False}  # its own class says so
REMOTE["DeepseekOCR"] = {"rms_norm_eps": 1e-06, "tie_word_embeddings": False}
REMOTE["internlm2"] = {"hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 2048, "num_attention_heads": 32,
                       "num_hidden_layers": 32, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "tie_word_embeddings": False,
                       "vocab_size": 103168}
REMOTE["rwkv7"] = {"tie_word_embeddings": False}
REMOTE["moondream1"] = {"dim": 2048, "ff_dim": 8192, "layer_norm_eps": 1e-05, "max_context": 2048, "n_heads": 32, "n_layers": 24,
                        "partial_rotary_factor": 0.5, "rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 51200}
REMOTE["phi4mm"] = {"hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096,
                    "original_max_position_embeddings": 4096, "partial_rotary_factor": 1.0, "rms_norm_eps": 1e-05,
                    "rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 200064}
# Read nowhere for these types: their windows are off unless `use_sliding_window` is on, or off in llama.cpp.
INERT = {(kind, "sliding_window") for kind in TYPES if kind.startswith(("mistral", "ministral3", "qwen", "smollm3"))}

# Its positions are a table, not rotary.
INERT |= {(kind, "rope_theta") for kind in ("bert", "roberta", "xlm-roberta")}
# Stated in an object of its own.
INERT |= {("kimi_linear", "linear_conv_kernel_dim")}
# Of files that are older than the class, and dense: what is theirs is no less there for lacking experts.
INERT |= {("nemotron_h", key) for key in """moe_intermediate_size moe_shared_expert_intermediate_size n_routed_experts
n_shared_experts num_experts_per_tok""".split()}


def defaults(kind):
    cls = type(CONFIG_MAPPING[kind]())
    if dataclasses.is_dataclass(cls):
        fields = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
        if kind.startswith(("gemma4", "ministral3")):  # a whole set of rotary parameters
            fields["rope_parameters"] = CONFIG_MAPPING[kind]().to_dict()["rope_parameters"]
        else:
            fields.setdefault("rope_theta", getattr(cls, "default_theta", 10_000.0))
        if kind.startswith("gemma4"):
            fields["global_head_dim"] = 512  # `kwargs.pop` in its `__post_init__`
    else:
        parameters = inspect.signature(cls.__init__).parameters.values()
        fields = {p.name: p.default for p in parameters if p.default is not p.empty}
        fields.setdefault("tie_word_embeddings", True)  # PretrainedConfig's own
    if kind == "gpt_oss":  # the default of its `rope_scaling`, in either version
        fields["rope_parameters"] = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                     "truncate": False, "original_max_position_embeddings": 4096}
    if kind == "apertus":
        fields["rope_parameters"] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                     "original_max_position_embeddings": 8192}
    plain = {k: v for k, v in fields.items() if k in READ and isinstance(v, (int, float, dict)) and (kind, k) not in INERT}
    return dict(sorted(plain.items()))


known = json.load(sys.stdin) if sys.argv[1:] == ["-"] else {"source": []}
known["source"].append(f"configuration classes of Transformers {transformers.__version__}")
known |= REMOTE
for kind in TYPES:
    if kind not in known and kind in CONFIG_MAPPING:
        known[kind] = defaults(kind)
json.dump(dict(sorted(known.items())), sys.stdout, indent=1)
print()
