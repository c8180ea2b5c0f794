"""What compressed-tensors and Transformers make of a directory in a compressed-tensors format.

In: the directory, a path. Out: the values of all weights as floats at that path, one behind the
other; on standard output a line of JSON with their names and counts.
"""
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

_PARTS = ("weight_packed", "weight_scale", "weight_shape", "weight")


def weights(directory):
    """Name and values; scales are widened first, so that products are not rounded to 16 bits."""
    stored = {}
    for file in sorted(directory.glob("*.safetensors")):
        stored.update(load_file(file))
    config = json.loads((directory / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(config)
    (scheme,) = config.config_groups.values()
    compressor = BaseCompressor.get_value_from_registry(config.format)
    for name in sorted(stored):
        module, _, part = name.rpartition(".")
        if part.startswith("weight_"):
            continue
        if f"{module}.weight_scale" not in stored:
            yield name, stored[name]
    for module in sorted({n.rpartition(".")[0] for n in stored if n.endswith(".weight_scale")}):
        local = {p: stored[f"{module}.{p}"] for p in _PARTS if f"{module}.{p}" in stored}
        local["weight_scale"] = local["weight_scale"].float()
        yield f"{module}.weight", compressor.decompress(local, scheme)["weight"]


def main(directory, output):
    directory = Path(directory)
    rows = []
    with open(output, "wb") as out:
        for name, values in weights(directory):
            out.write(values.float().contiguous().numpy().astype("<f4").tobytes())
            rows.append({"name": name, "count": values.numel()})
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    prompt = torch.arange(10, 30)[None]
    with torch.no_grad():
        ids = model.generate(prompt, max_new_tokens=4, do_sample=False)[0, prompt.shape[1]:]
    print(json.dumps({"weights": rows, "ids": ids.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
