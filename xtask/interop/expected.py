"""What Transformers computes for the checkpoints of checkpoints.py: prints expected.json.

In: checkpoints (`DIRECTORY/FAMILY`), of some families or of all. Out: for each family the likeliest next token at every place
of the prompt and of what follows it greedily, with the logarithm of its probability.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import checkpoints
import dense
import own
import rwkv7

COUNT = 16


def _text_only(source, target):
    """The text model of a checkpoint whose configuration nests it, as one of its own."""
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config["text_config"]))
    _, tensors = checkpoints.FAMILIES[source.name]()
    filled = [
        (name.replace("language_model.", ""), shape,
         checkpoints.stored(source.name, name, shape))
        for name, shape in tensors
    ]
    checkpoints.save(target / "model.safetensors", filled)
    return target


_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def _dequantized(source, target):
    """The same with experts in BF16, which holds four-bit floats exactly; they are stored transposed."""
    config = json.loads((source / "config.json").read_text())
    del config["quantization_config"]
    (target / "config.json").write_text(json.dumps(config))
    bits = {
        name: checkpoints.stored(source.name, name, shape) for name, shape in checkpoints.FAMILIES[source.name]()[1]
    }
    filled = []
    for name, own in bits.items():
        if name.endswith("_blocks"):
            name = name.removesuffix("_blocks")
            codes = np.stack([own & 15, own >> 4], -1).reshape(*own.shape[:-1], 32)
            values = np.concatenate([_E2M1, -_E2M1])[codes] * np.exp2(bits[f"{name}_scales"].astype(np.float32) - 127)[..., None]
            own = checkpoints.bf16(values.reshape(*own.shape[:2], -1).swapaxes(1, 2))
        elif name.endswith("_scales"):
            continue
        filled.append((name, list(own.shape), own))
    checkpoints.save(target / "model.safetensors", filled)
    return target


_PLAIN_QWEN = {
    "qwen2_vl": ("qwen2", "Qwen2"), "qwen2_5_omni_text": ("qwen2", "Qwen2"), "qwen3_vl_text": ("qwen3", "Qwen3"),
    "qwen3_vl_moe_text": ("qwen3_moe", "Qwen3Moe"),
}


def _as_plain_qwen(source, target):
    """The text part of Qwen-VL, whose three positions are one in a text, as the model without them."""
    config = json.loads((source / "config.json").read_text())
    thinks = config.get("thinker_config", config)
    text = thinks.get("text_config", thinks)
    kind, name = _PLAIN_QWEN[text["model_type"]]
    text |= {"architectures": [f"{name}ForCausalLM"], "model_type": kind, "rope_scaling": None}
    text.pop("vision_config", None)
    (target / "config.json").write_text(json.dumps(text))
    _, tensors = checkpoints.FAMILIES[source.name]()
    filled = []
    for name, shape in tensors:
        bits = checkpoints.stored(source.name, name, shape)
        if "thinker_config" in config and not name.startswith(("thinker.model.", "thinker.lm_head.")):
            continue
        if ".experts." in name:
            bits = np.ascontiguousarray(bits.swapaxes(1, 2))
        name = name.replace("language_model.", "").removeprefix("thinker.")
        filled.append((name, list(bits.shape), bits))
    checkpoints.save(target / "model.safetensors", filled)
    return target


def _as_granite(source, target):
    """MiniCPM, whose code is not in Transformers, as the Granite that computes the same."""
    config = json.loads((source / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    config |= {
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "rope_scaling": None,
        "embedding_multiplier": config["scale_emb"], "attention_multiplier": head**-0.5,
        "residual_multiplier": config["scale_depth"] / config["num_hidden_layers"] ** 0.5,
        "logits_scaling": config["hidden_size"] / config["dim_model_base"],
    }
    (target / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "model.safetensors", target)
    return target


def _renamed(source, names):
    """The stored tensors of `source`, each old name of `names` in theirs replaced by its new one."""
    _, tensors = checkpoints.FAMILIES[source.name]()
    for name, shape in tensors:
        bits = checkpoints.stored(source.name, name, shape)
        for old, new in names:
            name = name.replace(old, new)
        yield name, shape, bits


def _as_llama(source, target):
    """EXAONE 3.5, whose code is not in Transformers, as the Llama that computes the same."""
    config = json.loads((source / "config.json").read_text())
    config |= {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "num_hidden_layers": config["num_layers"], "rms_norm_eps": config["layer_norm_epsilon"],
    }
    (target / "config.json").write_text(json.dumps(config))
    names = [(own, usual) for usual, own in dense.EXAONE_NAMES]
    checkpoints.save(target / "model.safetensors", list(_renamed(source, names)))
    return target


def _as_phi(source, target):
    """moondream2, whose code is not in Transformers, as the Phi that computes the same."""
    text = json.loads((source / "config.json").read_text())["config"]["text"]
    config = {
        "architectures": ["PhiForCausalLM"], "model_type": "phi", "hidden_size": text["dim"],
        "intermediate_size": text["ff_dim"], "num_hidden_layers": text["n_layers"], "vocab_size": text["vocab_size"],
        "max_position_embeddings": text["max_context"], "num_attention_heads": text["n_heads"], "layer_norm_eps": 1e-5,
        "num_key_value_heads": text["n_kv_heads"], "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
        "hidden_act": "gelu_new", "qk_layernorm": False, "tie_word_embeddings": False,
    }
    (target / "config.json").write_text(json.dumps(config))
    filled = []
    for name, shape, bits in _renamed(source, dense.MOONDREAM_NAMES):
        if "qkv_proj" in name:
            for part, third in zip("qkv", np.split(bits, 3)):
                filled.append((name.replace("qkv_proj", f"{part}_proj"), list(third.shape), np.ascontiguousarray(third)))
        else:
            filled.append((name, shape, bits))
    checkpoints.save(target / "model.safetensors", filled)
    return target


def _as_phi3(source, target):
    """The text of Phi-4-multimodal, which no adapter changes, as the Phi-3 that it is."""
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    for key in ("vision_lora", "speech_lora", "audio_processor"):
        del config[key]
    (target / "config.json").write_text(json.dumps(config))
    _, tensors = checkpoints.FAMILIES[source.name]()
    text = [(name, shape) for name, shape in tensors if "lora_" not in name and "_extend." not in name]
    filled = [
        (name.replace(".base_layer.", "."), shape, checkpoints.stored(source.name, name, shape)) for name, shape in text
    ]
    checkpoints.save(target / "model.safetensors", filled)
    return target


def _as_llama_without_names(source, target):
    """Baichuan, whose code is not in Transformers, as the Llama that computes the same; [`_sloped`] does the rest."""
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0}
    (target / "config.json").write_text(json.dumps(config))
    _, tensors = checkpoints.FAMILIES[source.name]()
    filled = []
    for name, shape in tensors:
        bits = checkpoints.stored(source.name, name, shape)
        if "W_pack" in name:
            for part, third in zip("qkv", np.split(bits, 3)):
                filled.append((name.replace("W_pack", f"{part}_proj"), list(third.shape), np.ascontiguousarray(third)))
        else:
            filled.append((name, shape, bits))
    checkpoints.save(target / "model.safetensors", filled)
    return target


def _as_bitnet(source, target):
    """One of the first BitNets, as what Transformers' class computes with the weights that the model rounds as it runs. Inputs
    of matrices stay as they are: llama.cpp does not round them either."""
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet"}
    (target / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        tensor = tensor.float()
        for own, usual in dense.BITNET_NAMES:
            name = name.replace(own, usual)
        if name.endswith("_proj.weight"):
            magnitude = tensor.abs().mean().clamp(min=1e-5)
            tensor = (tensor / magnitude).round().clamp(-1, 1) * magnitude
        tensors[name] = tensor
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


_INTERNLM2_NAMES = [
    ("tok_embeddings", "embed_tokens"), ("attention_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
    ("attention.wo", "self_attn.o_proj"), ("feed_forward.w1", "mlp.gate_proj"), ("feed_forward.w3", "mlp.up_proj"),
    ("feed_forward.w2", "mlp.down_proj"), ("output.weight", "lm_head.weight"),
]


def _as_llama_of_groups(source, target):
    """InternLM 2, whose code is not in Transformers, as the Llama that computes the same."""
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": None}
    (target / "config.json").write_text(json.dumps(config))
    groups = config["num_key_value_heads"]
    shared, width = config["num_attention_heads"] // groups, config["hidden_size"]
    filled = []
    for name, shape, bits in _renamed(source, _INTERNLM2_NAMES):
        if "wqkv" not in name:
            filled.append((name, shape, bits))
            continue
        heads = bits.reshape(groups, shared + 2, -1, width)
        for part, own in (("q", heads[:, :shared]), ("k", heads[:, shared]), ("v", heads[:, shared + 1])):
            own = np.ascontiguousarray(own.reshape(-1, width))
            filled.append((name.replace("attention.wqkv", f"self_attn.{part}_proj"), list(own.shape), own))
    checkpoints.save(target / "model.safetensors", filled)
    return target


def _sloped(model):
    """The Llama with scores that fall with distance in place of rotary positions."""
    heads = model.config.num_attention_heads
    slopes = torch.tensor([2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)])
    plain = model.model.rotary_emb.forward

    def unturned(x, position_ids):
        cos, sin = plain(x, position_ids)
        return torch.ones_like(cos), torch.zeros_like(sin)

    def with_mask(ids, **more):
        at = torch.arange(ids.shape[1])
        lost = slopes[:, None, None] * (at[:, None] - at[None, :])
        mask = torch.where(at[:, None] >= at[None, :], -lost, torch.finfo(torch.float32).min)
        return whole(ids, attention_mask=mask[None], **more)

    model.model.rotary_emb.forward, whole = unturned, model.forward
    model.forward = with_mask


class _BiasedRms(torch.nn.Module):
    """An RMS norm with a bias."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.norm.eps) * self.norm.weight + self.norm.bias


def _as_llama_cpp_has_it(model):
    """Phi-3.5-MoE with the norms and shares of llama.cpp, which differ from the published code's."""
    model.model.norm = _BiasedRms(model.model.norm)
    for layer in model.model.layers:
        layer.input_layernorm = _BiasedRms(layer.input_layernorm)
        layer.post_attention_layernorm = _BiasedRms(layer.post_attention_layernorm)
        router = layer.mlp.router

        def route(x, router=router):
            logits = torch.nn.functional.linear(x, router.weight)
            shares, chosen = logits.softmax(-1).topk(router.top_k, -1)
            return logits, shares / shares.sum(-1, keepdim=True), chosen

        router.forward = route


def _as_deepseek(source, target):
    """MiniCPM 3, whose code is not in Transformers, as a dense DeepSeek 3; [`_scaled`] does the rest."""
    config = json.loads((source / "config.json").read_text())
    config |= {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "rope_scaling": None,
        "first_k_dense_replace": config["num_hidden_layers"], "rope_interleave": False, "attention_bias": False,
        "v_head_dim": config["hidden_size"] // config["num_attention_heads"],
    }
    (target / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "model.safetensors", target)
    return target


def _as_glm(source, target):
    """GLM-4.1V's text model as a GLM-4: a text has one position in all three sections."""
    target = _text_only(source, target)
    config = json.loads((target / "config.json").read_text())
    config |= {"architectures": ["Glm4ForCausalLM"], "model_type": "glm4"}
    del config["rope_parameters"]
    (target / "config.json").write_text(json.dumps(config))
    return target


def _as_qwen(source, target):
    """DeepSeek-OCR's text model as a Qwen2 MoE without biases, the gate of whose shared expert is always half open."""
    config = json.loads((source / "config.json").read_text())
    config |= {
        "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": config["n_routed_experts"],
        "shared_expert_intermediate_size": config["n_shared_experts"] * config["moe_intermediate_size"], "qkv_bias": False,
        "norm_topk_prob": False, "mlp_only_layers": list(range(config["first_k_dense_replace"])), "decoder_sparse_step": 1,
    }
    (target / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        name = name.replace("shared_experts", "shared_expert")
        tensors[name] = tensor * 2 if name.endswith("shared_expert.down_proj.weight") else tensor
        if name.endswith("mlp.gate.weight"):
            tensors[name.replace("mlp.gate.", "mlp.shared_expert_gate.")] = torch.zeros_like(tensor[:1])
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


def _scaled(model, config):
    """The weights of MiniCPM 3 with its scales in them."""
    depth = config["scale_depth"] / config["num_hidden_layers"] ** 0.5
    with torch.no_grad():
        model.model.embed_tokens.weight *= config["scale_emb"]
        model.lm_head.weight *= config["dim_model_base"] / config["hidden_size"]
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= depth
            layer.mlp.down_proj.weight *= depth


def _computed(directory):
    """The logits that follow token ids, as a function of these."""
    with tempfile.TemporaryDirectory() as scratch:
        config = json.loads((directory / "config.json").read_text())
        source = directory
        if config["model_type"] == "plamo2":
            return own.plamo2(directory, config)
        if config["model_type"] in ("qwen2_vl", "qwen2_5_omni", "qwen3_vl", "qwen3_vl_moe"):
            source = _as_plain_qwen(directory, Path(scratch))
        elif config["model_type"] == "glm4v":
            source = _as_glm(directory, Path(scratch))
        elif "text_config" in config:
            source = _text_only(directory, Path(scratch))
        elif "quantization_config" in config:
            source = _dequantized(directory, Path(scratch))
        elif config["model_type"] == "minicpm":
            source = _as_granite(directory, Path(scratch))
        elif config["model_type"] == "minicpm3":
            source = _as_deepseek(directory, Path(scratch))
        elif config["model_type"] == "deepseek_vl_v2":
            source = _as_qwen(directory, Path(scratch))
        elif config["model_type"] == "moondream1":
            source = _as_phi(directory, Path(scratch))
        elif config["model_type"] == "phi4mm":
            source = _as_phi3(directory, Path(scratch))
        elif config["model_type"] == "baichuan":
            source = _as_llama_without_names(directory, Path(scratch))
        elif directory.name == "bitnet":
            source = _as_bitnet(directory, Path(scratch))
        elif config["model_type"] == "internlm2":
            source = _as_llama_of_groups(directory, Path(scratch))
        elif config["model_type"] == "exaone":
            source = _as_llama(directory, Path(scratch))
        if config["model_type"] == "rwkv7":
            model, info = rwkv7.Model(config, load_file(source / "model.safetensors")), {}
        else:
            model, info = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
            )
    wrong = {key: sorted(names) for key, names in info.items() if names}
    assert not wrong, f"{directory.name}: {wrong}"
    if config["model_type"] == "minicpm3":
        _scaled(model, config)
    elif config["model_type"] == "phimoe":
        _as_llama_cpp_has_it(model)
    elif directory.name == "baichuan_13b":
        _sloped(model)
    return lambda ids: model(torch.tensor([ids]), use_cache=False).logits[0]


def expected(directory):
    computed, ids = _computed(directory), list(checkpoints.PROMPT)
    with torch.no_grad():
        for _ in range(COUNT):
            ids.append(int(computed(ids)[-1].argmax()))
        logits = torch.log_softmax(computed(ids).double(), -1)
    top = logits.topk(2, -1)
    return {
        "greedy": ids[-COUNT:],
        "likeliest": top.indices[:, 0].tolist(),
        "logarithms": [round(x, 4) for x in top.values[:, 0].tolist()],
        "margins": [round(x, 4) for x in (top.values[:, 0] - top.values[:, 1]).tolist()],
    }


def main(directory, *families):
    torch.set_num_threads(2)
    rows = {family: expected(Path(directory) / family) for family in families or checkpoints.FAMILIES}
    lines = [f" {json.dumps(family)}: {json.dumps(row)}" for family, row in rows.items()]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main(*sys.argv[1:])
