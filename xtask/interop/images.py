"""Pairs of a text model and a projector, put before llama.cpp's multimodal library.

In: records of small checkpoints (tests/data/projectors), files in GGUF. Out: checkpoints; what the library reserves, how
many tokens it makes of an image, and what the pair answers about one. Must not: judge them.
"""
import ctypes as c
import json
import re
from pathlib import Path

import numpy as np

import checkpoints
import llama
import parts
import vocabularies

# The kind of each record's tokenizer, by a family that has it.
TOKENIZERS = {
    "gemma3": "gemma3", "gemma4": "gemma4", "idefics3": "llama", "smolvlm": "llama", "internvl_internlm2": "internlm2",
    "internvl": "qwen2", "qwen": "qwen2", "lfm2": "lfm2", "llava": "llama", "minicpmv": "qwen2", "mistral3": "ministral3",
    "glm4v": "glm4v", "kimi_vl": "deepseek3", "llama4": "llama4",
}

# Words that the library looks for in a vocabulary, by the beginning of a record's name.
WORDS = {
    "minicpmv": ["<image>", "</image>", "<slice>", "</slice>"],
    "idefics3": ["\n\n", "<fake_token_around_image>", "<global-img>"],
    "smolvlm": ["\n\n", "<fake_token_around_image>", "<global-img>"],
    "mistral3": ["[IMG_BREAK]", "[IMG_END]"],
    "lfm2": ["<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"],
}

_MARKER = b"<__media__>"
_MESSAGES = []


class _Parameters(c.Structure):
    """mtmd_context_params."""
    _fields_ = [
        ("use_gpu", c.c_bool), ("device", c.c_void_p), ("print_timings", c.c_bool), ("threads", c.c_int),
        ("image_marker", c.c_char_p), ("media_marker", c.c_char_p), ("flash", c.c_int), ("warmup", c.c_bool),
        ("least", c.c_int), ("most", c.c_int), ("callback", c.c_void_p), ("callback_data", c.c_void_p),
        ("batch", c.c_int32), ("progress", c.c_void_p), ("progress_data", c.c_void_p),
    ]


class _Text(c.Structure):
    """mtmd_input_text."""
    _fields_ = [("text", c.c_char_p), ("length", c.c_size_t), ("special", c.c_bool), ("parse", c.c_bool)]


@c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
def _keep(_, text, __):
    _MESSAGES.append(text.decode(errors="replace").strip())


def _declare(lib):
    pointer = c.c_void_p
    for name, result, arguments in [
        ("mtmd_context_params_default", _Parameters, []),
        ("mtmd_init_from_file", pointer, [c.c_char_p, pointer, _Parameters]),
        ("mtmd_free", None, [pointer]),
        ("mtmd_log_set", None, [pointer, pointer]),
        ("mtmd_bitmap_init", pointer, [c.c_uint32, c.c_uint32, c.c_char_p]),
        ("mtmd_bitmap_init_from_audio", pointer, [c.c_size_t, c.POINTER(c.c_float)]),
        ("mtmd_bitmap_free", None, [pointer]),
        ("mtmd_input_chunks_init", pointer, []),
        ("mtmd_input_chunks_size", c.c_size_t, [pointer]),
        ("mtmd_input_chunks_get", pointer, [pointer, c.c_size_t]),
        ("mtmd_input_chunks_free", None, [pointer]),
        ("mtmd_input_chunk_get_type", c.c_int, [pointer]),
        ("mtmd_input_chunk_get_n_tokens", c.c_size_t, [pointer]),
        ("mtmd_tokenize", c.c_int32, [pointer, pointer, c.POINTER(_Text), c.POINTER(pointer), c.c_size_t]),
        ("mtmd_support_audio", c.c_bool, [pointer]),
        ("mtmd_helper_log_set", None, [pointer, pointer]),
        ("mtmd_helper_eval_chunks", c.c_int32, [pointer, pointer, pointer, c.c_int32, c.c_int32, c.c_int32, c.c_bool,
                                                c.POINTER(c.c_int32)]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


_LIB = _declare(llama.library())
_LIB.mtmd_helper_log_set(_keep, None)


def pair(record, directory, corpus):
    """The checkpoint of `record` with random weights and a tokenizer, and the folder of its text model: the same, or one of
    the same width where the record has no block of text."""
    record, directory = Path(record), Path(directory)
    described = json.loads(record.read_text())
    _write(record, directory, described, corpus)
    if not any(".layers.0." in name and "vpm." not in name for name, _ in described["tensors"]):
        text = directory / "text"
        _write(record, text, _llama(described["config"]["hidden_size"]), corpus)
        return {"text": str(text)}
    return {"text": str(directory)}


def _llama(width):
    """A Llama of one block."""
    config = parts.plain("LlamaForCausalLM", "llama", inner=width, tie_word_embeddings=True) | {
        "hidden_size": width, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1,
        "head_dim": width // 2,
    }
    block = [
        *((f"self_attn.{name}_proj.weight", [width, width]) for name in "qkvo"),
        *((f"mlp.{name}_proj.weight", [width, width]) for name in ("gate", "up", "down")),
        ("input_layernorm.weight", [width]), ("post_attention_layernorm.weight", [width]),
    ]
    tensors = [(f"model.layers.0.{name}", shape) for name, shape in block]
    tensors += [("model.embed_tokens.weight", [parts.VOCAB, width]), ("model.norm.weight", [width])]
    return {"config": config, "processor": {}, "tensors": tensors}


def _write(record, directory, described, corpus):
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "config.json": described["config"], "preprocessor_config.json": described["processor"],
        **described.get("files", {}),
    }.items():
        (directory / name).write_text(json.dumps(content))
    tensors = [
        (name, shape, checkpoints.stored(record.stem, name, shape) if shape else _bound(name))
        for name, shape in described["tensors"]
    ]
    checkpoints.save(directory / "model.safetensors", tensors)
    if "tokenizer.json" not in described.get("files", {}):
        kind = next(family for name, family in TOKENIZERS.items() if record.stem.startswith(name))
        vocabularies.make(kind, directory, Path(corpus).read_text(encoding="utf-8"))
        words = next((words for name, words in WORDS.items() if record.stem.startswith(name)), [])
        _add_words(directory / "tokenizer.json", words)


def _add_words(path, words):
    """Puts `words` in the place of a vocabulary's last tokens, and leaves out the merges that make those."""
    if not words:
        return
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    last = sorted(vocabulary, key=vocabulary.get)[-len(words):]
    parts = lambda merge: merge.split(" ") if isinstance(merge, str) else merge
    tokenizer["model"]["merges"] = [
        merge for merge in tokenizer["model"]["merges"] if not {*parts(merge), "".join(parts(merge))} & set(last)
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    for old, word in zip(last, words):
        tokenizer["added_tokens"].append({"id": vocabulary.pop(old), "content": word, **flags})
    path.write_text(json.dumps(tokenizer))


def _bound(name):
    """A scalar: bounds of what goes into a matrix or comes out."""
    return checkpoints.bf16(np.array(-9.0 if name.endswith("min") else 9.0))


def look(text, projector, sizes, flash=True):
    """For images of each of `sizes`: their tokens, those of the text around them, and the most likely next ones; beside
    them, the MiB that the encoders reserve at the start."""
    with llama.opened(text, context=4096) as model:
        # A server that was started in this process may have set another.
        _LIB.mtmd_log_set(_keep, None)
        _MESSAGES.clear()
        parameters = _LIB.mtmd_context_params_default()
        parameters.use_gpu, parameters.threads, parameters.flash = False, 1, int(flash)
        eyes = _LIB.mtmd_init_from_file(str(projector).encode(), model.model, parameters)
        if not eyes:
            raise llama.LlamaError("the projector does not load: " + " | ".join(_MESSAGES[-4:]))
        reserved = [
            float(found[1]) for line in _MESSAGES if (found := re.search(r"compute buffer size = +([0-9.]+) MiB", line))
        ]
        images = [_answer(model, eyes, _image(*size)) for size in sizes]
        answer = {"reserved": reserved, "images": images, "sound": None}
        if _LIB.mtmd_support_audio(eyes):
            answer["sound"] = _answer(model, eyes, _sound())
        _LIB.mtmd_free(eyes)
        return answer


def _image(width, height):
    """A picture with colours that change along both sides."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns % 256, rows % 256, (rows + columns) % 256], -1).astype(np.uint8)
    return _LIB.mtmd_bitmap_init(width, height, pixels.tobytes())


def _sound():
    """A second of a tone."""
    samples = np.sin(np.arange(16000) * 0.17).astype(np.float32)
    return _LIB.mtmd_bitmap_init_from_audio(len(samples), samples.ctypes.data_as(c.POINTER(c.c_float)))


def _answer(model, eyes, bitmap):
    prompt = b"what is " + _MARKER + b" here"
    text = _Text(prompt, len(prompt), True, True)
    chunks, bitmaps = _LIB.mtmd_input_chunks_init(), (c.c_void_p * 1)(bitmap)
    status = _LIB.mtmd_tokenize(eyes, chunks, c.byref(text), bitmaps, 1)
    if status:
        raise llama.LlamaError(f"mtmd_tokenize returned {status}: " + " | ".join(_MESSAGES[-4:]))
    counts = {0: 0, 1: 0, 2: 0}
    for i in range(_LIB.mtmd_input_chunks_size(chunks)):
        chunk = _LIB.mtmd_input_chunks_get(chunks, i)
        counts[_LIB.mtmd_input_chunk_get_type(chunk)] += _LIB.mtmd_input_chunk_get_n_tokens(chunk)
    model.clear()
    end = c.c_int32()
    status = _LIB.mtmd_helper_eval_chunks(eyes, model.context, chunks, 0, 0, 4096, True, c.byref(end))
    if status:
        raise llama.LlamaError(f"the image is not evaluated ({status}): " + " | ".join(_MESSAGES[-4:]))
    ids = model.more(end.value, 4)
    _LIB.mtmd_input_chunks_free(chunks)
    _LIB.mtmd_bitmap_free(bitmap)
    return {"tokens": counts[1] + counts[2], "text": counts[0], "ids": ids}
