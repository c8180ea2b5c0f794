"""How fast llama.cpp evaluates a file: speed.py FILE PROMPT_TOKENS TOKENS UBATCH THREADS

Prints `prefill SECONDS`, `decode SECONDS` and `resident BYTES` (the peak). Only the last token of a
pass gets logits, and the likeliest one follows, as in any program that writes text.
"""
import sys
import time

import numpy as np

import llama


def evaluate(model, ids, start):
    lib = llama._LIB
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, i + 1 == len(ids)
    status = lib.llama_decode(model.context, batch)
    lib.llama_batch_free(batch)
    assert status == 0, status
    logits = lib.llama_get_logits_ith(model.context, len(ids) - 1)
    return int(np.ctypeslib.as_array(logits, (model.vocab_size,)).argmax())


def main():
    path, prompt, tokens, ubatch, threads = sys.argv[1], *map(int, sys.argv[2:6])
    model = llama.Model(path, -(-(prompt + tokens) // 256) * 256)
    llama._LIB.llama_set_n_threads(model.context, threads, threads)
    evaluate(model, [1], 0)
    llama._LIB.llama_memory_clear(llama._LIB.llama_get_memory(model.context), True)
    ids = [i * 7 % 1000 for i in range(prompt)]
    start = time.perf_counter()
    for first in range(0, prompt, ubatch):
        token = evaluate(model, ids[first : first + ubatch], first)
    prefilled = time.perf_counter()
    for i in range(tokens):
        token = evaluate(model, [token], prompt + i)
    end = time.perf_counter()
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(f"prefill {prefilled - start}\ndecode {end - prefilled}\nresident {peak}")


main()
