"""What compressed-tensors and Transformers make of a directory in a compressed-tensors format.

In: the directory, the one that it was made from, a path. Out: the values of all weights as floats
at that path, one behind the other; on standard output a line of JSON with their names and counts,
and with the weights whose codes compressed-tensors packs into the same bytes.
"""
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight")


def tensors(directory):
    stored = {}
    for file in sorted(directory.glob("*.safetensors")):
        stored.update(load_file(file))
    return stored


# Names of the matrices of an expert, with that of the stack and which half of it they are.
_STACKS = {
    "gate_proj": ("gate_up_proj", 0), "up_proj": ("gate_up_proj", 1), "down_proj": ("down_proj", None),
    "w1": ("input_linear.weight", 0), "w3": ("input_linear.weight", 1), "w2": ("output_linear.weight", None),
}


def original(stored, module):
    """The weight of a module, which may be one of a stack of experts."""
    if f"{module}.weight" in stored:
        return stored[f"{module}.weight"]
    above, number, projection = module.rsplit(".", 2)
    stack, half = _STACKS[projection]
    if f"{above}.{stack}" not in stored:
        above = above.removesuffix(".experts")
    own = stored[f"{above}.{stack}"][int(number)]
    return own if half is None else own.chunk(2)[half]


def packed_alike(compressor, scheme, local, weight):
    """Whether the codes of a weight, with these scales and zero points, are packed into the same
    bytes."""
    given = {"weight": weight.float(), "weight_scale": local["weight_scale"].float()}
    if "weight_zero_point" in local:
        shape = (weight.shape[0], local["weight_scale"].shape[-1])
        zero = unpack_from_int32(local["weight_zero_point"], 4, shape, packed_dim=0)
        given["weight_zero_point"] = zero
    made = compressor.compress(given, scheme)
    codes = [part for part in ("weight_packed", "weight_zero_point", "weight") if part in local]
    return all(torch.equal(made[part].view(torch.uint8), local[part].view(torch.uint8)) for part in codes)


def weights(directory, source):
    """Name and values; scales are widened first, so that products are not rounded to 16 bits. And
    whether its codes are packed alike."""
    stored = tensors(directory)
    before = tensors(source)
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(config)
    (scheme,) = config.config_groups.values()
    compressor = BaseCompressor.get_value_from_registry(config.format)
    for name in sorted(stored):
        module, _, part = name.rpartition(".")
        if part.startswith("weight_"):
            continue
        if f"{module}.weight_scale" not in stored:
            yield name, stored[name], None
    for module in sorted({n.rpartition(".")[0] for n in stored if n.endswith(".weight_scale")}):
        local = {p: stored[f"{module}.{p}"] for p in _PARTS if f"{module}.{p}" in stored}
        alike = packed_alike(compressor, scheme, local, original(before, module))
        local["weight_scale"] = local["weight_scale"].float()
        yield f"{module}.weight", compressor.decompress(local, scheme)["weight"], alike


def decodable(directory, values):
    """The model as Transformers loads it. compressed-tensors 0.20.0 expects zero points unpacked
    when it makes the empty model, and packs them when it saves one (`PackedQuantizationCompressor`):
    with them, the model is made of the values."""
    config = AutoConfig.from_pretrained(directory)
    groups = config.quantization_config["config_groups"].values()
    if all(group["weights"]["symmetric"] for group in groups):
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    missing, surplus = model.load_state_dict(values, strict=False)
    if surplus or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"missing {missing}, surplus {surplus}")
    return model


def main(directory, source, output):
    directory = Path(directory)
    rows, values_by_name = [], {}
    with open(output, "wb") as out:
        for name, values, alike in weights(directory, Path(source)):
            out.write(values.float().contiguous().numpy().astype("<f4").tobytes())
            rows.append({"name": name, "count": values.numel(), "alike": alike})
            values_by_name[name] = values
    if any(".experts." in name for name in values_by_name):
        # Transformers stacks experts and does not load quantized single ones; vLLM does.
        print(json.dumps({"weights": rows, "ids": []}))
        return
    model = decodable(directory, values_by_name)
    prompt = torch.arange(10, 30)[None]
    with torch.no_grad():
        ids = model.generate(prompt, max_new_tokens=4, do_sample=False)[0, prompt.shape[1]:]
    print(json.dumps({"weights": rows, "ids": ids.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
