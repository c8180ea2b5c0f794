"""Answers requests about files: a line of JSON in, a line of JSON out, `{"error": ..}` for what fails.

llama.cpp may end this process; then the request that was asked last is the one to blame.
"""
import json
import sys
import traceback
from pathlib import Path

import numpy as np
import xllamacpp

import checkpoints
import files
import images
import llama
import vocabularies


def _logarithms(logits):
    """Logarithms of probabilities."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def make(directory, corpus):
    """The checkpoints of all families: their names, the texts and the ids that they are tokenized to."""
    text = Path(corpus).read_text(encoding="utf-8")
    ids = {}
    for family in checkpoints.FAMILIES:
        checkpoints.make(family, Path(directory) / family)
        ids[family] = vocabularies.make(family, Path(directory) / family, text)
    return {"texts": vocabularies.TEXTS, "ids": ids, "prompt": checkpoints.PROMPT}


def complete(file, ids, count):
    """Greedy decode, token by token."""
    with llama.opened(file) as model:
        out = model.greedy(ids, count)
        return {"ids": out, "text": model.text(out)}


def score(file, ids, tokens):
    """The likeliest token at each place of `ids`, and the logarithm of the probability of `tokens`."""
    with llama.opened(file) as model:
        rows = _logarithms(model.logits(ids))
    places = range(len(ids))
    return {
        "likeliest": rows.argmax(-1).tolist(),
        "logarithms": [float(rows[i, tokens[i]]) for i in places],
    }


def logits(file, ids, output, flash=True, types=(1, 1)):
    """The logits behind each of `ids`, as little-endian `f32` in the file `output`."""
    with llama.opened(file, flash=flash, types=types) as model:
        model.logits(ids).astype("<f4").tofile(output)
    return {}


def embedding(file, ids, output):
    """The vector of a text of these tokens, as little-endian `f32` in the file `output`."""
    with llama.opened(file) as model:
        model.embedding(ids).astype("<f4").tofile(output)
    return {}


_SERVERS = []


def serve(file):
    """llama.cpp's own server on a free port of the loopback, until `stop`."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel = 512, 1
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup, parameters.verbosity = False, 0
    _SERVERS.append(xllamacpp.Server(parameters))
    return {"url": _SERVERS[-1].listening_address}


def stop():
    _SERVERS.clear()
    return {}


def divergence(reference, file, parts, places=(0, None)):
    """The mean Kullback-Leibler divergence of `file` from `reference` over those places of each of `parts`: all."""
    rows = []
    for path in (reference, file):
        with llama.opened(path) as model:
            rows.append([_logarithms(model.logits(part)[slice(*places)]) for part in parts])
    each = [(np.exp(p) * (p - q)).sum(-1) for p, q in zip(*rows)]
    return {"mean": float(np.concatenate(each).mean())}


def tokenize(file, texts, special=False):
    with llama.opened(file) as model:
        return {"ids": [model.tokenize(text, special) for text in texts]}


OPERATIONS = {
    function.__name__: function
    for function in (
        make, complete, score, logits, embedding, serve, stop, divergence, tokenize, checkpoints.around,
        checkpoints.other, images.pair, images.look, llama.loads, files.reencode, files.dequantize, files.importance,
        files.importance_apart,
    )
}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = OPERATIONS[request.pop("operation")](**request)
        except llama.LlamaError as error:
            answer = {"error": str(error)}
        except Exception:
            answer = {"error": " | ".join(traceback.format_exc(limit=-3).split("\n"))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
