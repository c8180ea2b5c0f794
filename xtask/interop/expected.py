"""What Transformers computes for the checkpoints of checkpoints.py: prints expected.json.

In: checkpoints (`DIRECTORY/FAMILY`). Out: for each family the likeliest next token at every place
of the prompt and of what follows it greedily, with the logarithm of its probability.
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import checkpoints

COUNT = 16


def _text_only(source, target):
    """The text model of a checkpoint whose configuration nests it, as one of its own."""
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config["text_config"]))
    _, tensors = checkpoints.FAMILIES[source.name]()
    filled = [
        (name.replace("language_model.", ""), shape,
         checkpoints.bf16(checkpoints._values(source.name, name, shape)))
        for name, shape in tensors
    ]
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


def expected(directory):
    with tempfile.TemporaryDirectory() as scratch:
        config = json.loads((directory / "config.json").read_text())
        source = directory
        if "text_config" in config:
            source = _text_only(directory, Path(scratch))
        elif config["model_type"] == "minicpm":
            source = _as_granite(directory, Path(scratch))
        model, info = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    wrong = {key: sorted(names) for key, names in info.items() if names}
    assert not wrong, f"{directory.name}: {wrong}"
    ids = list(checkpoints.PROMPT)
    with torch.no_grad():
        for _ in range(COUNT):
            row = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(row.argmax()))
        logits = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0].double(), -1)
    top = logits.topk(2, -1)
    return {
        "greedy": ids[-COUNT:],
        "likeliest": top.indices[:, 0].tolist(),
        "logarithms": [round(x, 4) for x in top.values[:, 0].tolist()],
        "margins": [round(x, 4) for x in (top.values[:, 0] - top.values[:, 1]).tolist()],
    }


def main(directory):
    torch.set_num_threads(2)
    rows = {family: expected(Path(directory) / family) for family in checkpoints.FAMILIES}
    lines = [f" {json.dumps(family)}: {json.dumps(row)}" for family, row in rows.items()]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1])
