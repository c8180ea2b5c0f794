"""Models whose code is not in Transformers, after the code beside their weights.

In: a checkpoint of checkpoints.py. Out: its logits, in double precision.
"""
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear, silu, softplus


def plamo2(directory, config):
    """PLaMo 2 (`modeling_plamo.py` of plamo-2-1b) of so few tokens that no window counts."""
    weights = {name: tensor.double() for name, tensor in load_file(directory / "model.safetensors").items()}
    epsilon, width = config["rms_norm_eps"], config["hidden_size_per_head"]
    state, step = config["mamba_d_state"], config["mamba_step"]

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight

    def attend(at, x):
        tokens, heads, groups = x.shape[0], config["num_attention_heads"], config["num_key_value_heads"]
        query, key, value = linear(x, weights[at + "qkv_proj.weight"]).split([heads * width, groups * width, groups * width], -1)
        query, key, value = (part.view(tokens, -1, width) for part in (query, key, value))
        angles = torch.arange(tokens)[:, None] * config["rope_theta"] ** -(torch.arange(0, width, 2).double() / width)
        angles = torch.cat([angles, angles], -1)[:, None]

        def turned(heads):
            first, second = heads.chunk(2, -1)
            return heads * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

        query, key = turned(norm(query, weights[at + "q_weight"])), turned(norm(key, weights[at + "k_weight"]))
        key, value = (part.repeat_interleave(heads // groups, 1) for part in (key, value))
        scores = torch.einsum("thd,shd->hts", query, key) / width**0.5
        hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        shares = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        return linear(torch.einsum("hts,shd->thd", shares, value).reshape(tokens, -1), weights[at + "o_proj.weight"])

    def scan(at, x):
        tokens, heads = x.shape[0], config["mamba_num_heads"]
        gate, inner = linear(x, weights[at + "in_proj.weight"]).view(tokens, heads, 2 * width).chunk(2, -1)
        kernel = weights[at + "conv1d.weight"][:, 0]
        before = torch.zeros(kernel.shape[1] - 1, heads * width).double()
        columns = torch.cat([before, inner.reshape(tokens, -1)])
        inner = silu(torch.einsum("tck,ck->tc", columns.unfold(0, kernel.shape[1], 1), kernel))
        given, read, steps = linear(inner, weights[at + "bcdt_proj.weight"]).split(
            [state, state, weights[at + "dt_norm_weight"].shape[0]], -1
        )
        given, read = norm(given, weights[at + "B_norm_weight"]), norm(read, weights[at + "C_norm_weight"])
        steps = linear(norm(steps, weights[at + "dt_norm_weight"]), weights[at + "dt_proj.weight"])
        steps = softplus(steps + weights[at + "dt_bias"])
        decays = (steps * -weights[at + "A_log"].exp()).exp()
        inner = inner.view(tokens, heads, width)
        matrix, out = torch.zeros(heads, width, state).double(), []
        for token in range(tokens):
            new = (steps[token][:, None] * inner[token])[:, :, None] * given[token]
            matrix = matrix * decays[token][:, None, None] + new
            out.append(matrix @ read[token] + weights[at + "D"][:, None] * inner[token])
        return linear((torch.stack(out) * silu(gate)).reshape(tokens, -1), weights[at + "out_proj.weight"])

    def logits(ids):
        x = weights["model.embed_tokens.weight"][ids]
        for block in range(config["num_hidden_layers"]):
            at = f"model.layers.layers.{block}."
            mix = attend if block % step == step // 2 else scan
            mixed = mix(at + "mixer.", norm(x, weights[at + "pre_mixer_norm.weight"] + 1))
            x = x + norm(mixed, weights[at + "post_mixer_norm.weight"] + 1 / 5)
            normed = norm(x, weights[at + "pre_mlp_norm.weight"] + 1)
            gate, up = linear(normed, weights[at + "mlp.gate_up_proj.weight"]).chunk(2, -1)
            fed = linear(silu(gate) * up, weights[at + "mlp.down_proj.weight"])
            x = x + norm(fed, weights[at + "post_mlp_norm.weight"] + 1 / 5**1.5)
        return linear(norm(x, weights["model.norm.weight"] + 1), weights["model.embed_tokens.weight"])

    return logits
