"""RWKV 7 in double precision, after the formulas of its paper and of `modeling_rwkv7.py` of flash-linear-attention.

In: the configuration and the tensors of a checkpoint. Out: logits, token after token.
"""
import types

import torch
from torch.nn.functional import layer_norm, normalize


class Model:
    def __init__(self, config, tensors):
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.blocks, self.head, self.epsilon = config["num_hidden_layers"], config["head_dim"], config["norm_eps"]

    def _norm(self, name, x):
        weight, bias = (self.tensors[f"{name}.{part}"] for part in ("weight", "bias"))
        return layer_norm(x, weight.shape, weight, bias, self.epsilon)

    def _low_rank(self, name, x, between=lambda x: x):
        narrow = between(x @ self.tensors[f"{name}.lora.0.weight"].T)
        return narrow @ self.tensors[f"{name}.lora.2.weight"].T + self.tensors.get(f"{name}.lora.2.bias", 0.0)

    def _time_mix(self, at, x, first):
        """All tokens, `[tokens, width]`, and the values of the first block."""
        t = {name[len(at):]: tensor for name, tensor in self.tensors.items() if name.startswith(at)}
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]]) - x
        inputs = {part: x + before * t[f"x_{part}"].reshape(-1) for part in "rwkvag"}
        heads = (len(x), -1, self.head)
        r, k, v = (inputs[part] @ t[f"{part}_proj.weight"].T for part in "rkv")
        decay = torch.exp(-torch.exp(torch.tensor(-0.5)) * torch.sigmoid(self._low_rank(f"{at}w_lora", inputs["w"], torch.tanh)))
        rate = torch.sigmoid(self._low_rank(f"{at}a_lora", inputs["a"]))
        gate = self._low_rank(f"{at}g_lora", inputs["g"], torch.sigmoid)
        if first is None:
            first = v
        else:
            v = torch.lerp(v, first, torch.sigmoid(self._low_rank(f"{at}v_lora", inputs["v"])))
        removed = normalize((k * t["k_k"]).view(heads), dim=-1)
        k = k * (1 + (rate - 1) * t["k_a"])
        r, k, v, decay, rate = (rows.view(heads) for rows in (r, k, v, decay, rate))
        state = torch.zeros(r.shape[1], self.head, self.head, dtype=x.dtype)
        out = torch.empty_like(r)
        for i in range(len(x)):
            seen = torch.einsum("hvk,hk->hv", state, removed[i])
            state = state * decay[i][:, None] - torch.einsum("hv,hk->hvk", seen, removed[i] * rate[i])
            state = state + torch.einsum("hv,hk->hvk", v[i], k[i])
            out[i] = torch.einsum("hvk,hk->hv", state, r[i])
        out = layer_norm(out, (self.head,), eps=self.head * self.epsilon).reshape(len(x), -1)
        out = out * t["g_norm.weight"] + t["g_norm.bias"]
        out = out + ((r * k * t["r_k"]).sum(-1, keepdim=True) * v).reshape(len(x), -1)
        return (out * gate) @ t["o_proj.weight"].T, first

    def _channel_mix(self, at, x):
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]]) - x
        k = (x + before * self.tensors[f"{at}x_k"].reshape(-1)) @ self.tensors[f"{at}key.weight"].T
        return torch.relu(k).square() @ self.tensors[f"{at}value.weight"].T

    def __call__(self, ids, **_):
        x, first = self.tensors["model.embeddings.weight"][ids[0]], None
        x = self._norm("model.layers.0.pre_norm", x)
        for i in range(self.blocks):
            at = f"model.layers.{i}."
            mixed, first = self._time_mix(f"{at}attn.", self._norm(f"{at}attn_norm", x), first)
            x = x + mixed
            x = x + self._channel_mix(f"{at}ffn.", self._norm(f"{at}ffn_norm", x))
        logits = self._norm("model.norm", x) @ self.tensors["lm_head.weight"].T
        return types.SimpleNamespace(logits=logits[None].float())
