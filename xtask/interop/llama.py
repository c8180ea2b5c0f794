"""llama.cpp through its C interface, which the extension module of the xllamacpp wheel exports.

In: a GGUF file, text, token ids. Out: token ids, logits, encoded blocks. Must not: judge them.

Structures that llama.cpp passes by value are opaque here, and longer than its own: only their first
fields are set, which xllamacpp's pinned version fixes.
"""
import contextlib
import ctypes as c
import os
import signal

import numpy as np
import xllamacpp

_MESSAGES = []


class _Opaque(c.Structure):
    _fields_ = [("words", c.c_uint32 * 256)]


class _Batch(c.Structure):
    _fields_ = [
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embd", c.c_void_p),
        ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)),
        ("seq_id", c.POINTER(c.POINTER(c.c_int32))),
        ("logits", c.POINTER(c.c_int8)),
    ]


def _declare(lib):
    for name, result, arguments in [
        ("llama_backend_init", None, []),
        ("llama_model_default_params", _Opaque, []),
        ("llama_context_default_params", _Opaque, []),
        ("llama_model_load_from_file", c.c_void_p, [c.c_char_p, _Opaque]),
        ("llama_init_from_model", c.c_void_p, [c.c_void_p, _Opaque]),
        ("llama_model_free", None, [c.c_void_p]),
        ("llama_free", None, [c.c_void_p]),
        ("llama_n_ctx", c.c_uint32, [c.c_void_p]),
        ("llama_set_n_threads", None, [c.c_void_p, c.c_int32, c.c_int32]),
        ("llama_model_get_vocab", c.c_void_p, [c.c_void_p]),
        ("llama_vocab_n_tokens", c.c_int32, [c.c_void_p]),
        ("llama_tokenize", c.c_int32, [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32),
                                       c.c_int32, c.c_bool, c.c_bool]),
        ("llama_token_to_piece", c.c_int32, [c.c_void_p, c.c_int32, c.c_char_p, c.c_int32,
                                             c.c_int32, c.c_bool]),
        ("llama_batch_init", _Batch, [c.c_int32, c.c_int32, c.c_int32]),
        ("llama_batch_free", None, [_Batch]),
        ("llama_decode", c.c_int32, [c.c_void_p, _Batch]),
        ("llama_get_logits_ith", c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
        ("llama_set_embeddings", None, [c.c_void_p, c.c_bool]),
        ("llama_get_embeddings_seq", c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
        ("llama_model_n_embd", c.c_int32, [c.c_void_p]),
        ("llama_model_n_cls_out", c.c_uint32, [c.c_void_p]),
        ("llama_pooling_type", c.c_int32, [c.c_void_p]),
        ("llama_get_memory", c.c_void_p, [c.c_void_p]),
        ("llama_memory_clear", None, [c.c_void_p, c.c_bool]),
        ("llama_log_set", None, [c.c_void_p, c.c_void_p]),
        ("ggml_row_size", c.c_size_t, [c.c_int, c.c_int64]),
        ("ggml_quantize_chunk", c.c_size_t, [c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64,
                                             c.c_int64, c.c_void_p]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


@c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
def _keep(level, text, _):
    """Levels 3 and 4 are warnings and errors; they become part of the exception's text."""
    if level in (3, 4):
        _MESSAGES.append(text.decode(errors="replace").strip())


_LIB = _declare(c.CDLL(xllamacpp.xllamacpp.__file__))
_LIB.llama_log_set(_keep, None)
_LIB.llama_backend_init()


def library():
    """The extension module, for other parts of its C interface."""
    return _LIB


class LlamaError(Exception):
    """llama.cpp refused; the text is what it wrote about that."""


def _refused(what):
    text = " | ".join(_MESSAGES[-6:])
    return LlamaError(f"{what}: {text or 'llama.cpp says nothing about it'}")


class Model:
    """A loaded file with a context of `context` tokens; attention is fused unless `flash` is false, and `types` are
    the formats of cached keys and values, as numbers of `ggml_type`: F16."""

    def __init__(self, path, context=512, flash=True, types=(1, 1)):
        _MESSAGES.clear()
        self.model = _LIB.llama_model_load_from_file(
            str(path).encode(), _LIB.llama_model_default_params()
        )
        if not self.model:
            raise _refused("does not load")
        parameters = _LIB.llama_context_default_params()
        # n_ctx, n_batch, n_ubatch, n_seq_max
        parameters.words[0], parameters.words[1], parameters.words[2] = context, context, context
        # rope_scaling_type, pooling_type, attention_type, flash_attn_type: all -1, unspecified
        unspecified = [i for i in range(20) if parameters.words[i] == 0xFFFFFFFF]
        assert len(unspecified) == 4, "llama_context_params has another layout"
        parameters.words[unspecified[3]] = int(flash)
        # type_k, type_v: behind eight numbers, and two pointers at a multiple of eight bytes
        caches = slice(unspecified[3] + 13, unspecified[3] + 15)
        assert list(parameters.words[caches]) == [1, 1], "llama_context_params has another layout"
        parameters.words[caches] = types
        self.context = _LIB.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise _refused("gets no context")
        assert _LIB.llama_n_ctx(self.context) >= context, "llama_context_params has another layout"
        # More threads would wait for each other longer than these models take.
        _LIB.llama_set_n_threads(self.context, 1, 1)
        self.vocab = _LIB.llama_model_get_vocab(self.model)
        self.vocab_size = _LIB.llama_vocab_n_tokens(self.vocab)

    def close(self):
        _LIB.llama_free(self.context)
        _LIB.llama_model_free(self.model)

    def tokenize(self, text, special=False):
        """The ids of `text`; `special` puts the begin of text before it and parses special tokens."""
        data = text.encode()
        room = len(data) + 16
        ids = (c.c_int32 * room)()
        count = _LIB.llama_tokenize(self.vocab, data, len(data), ids, room, special, special)
        if count < 0:
            raise _refused(f"cannot tokenize {text!r}")
        return list(ids[:count])

    def text(self, ids):
        """The bytes of `ids`, with what is no UTF-8 replaced."""
        out = b""
        for token in ids:
            piece = c.create_string_buffer(256)
            count = _LIB.llama_token_to_piece(self.vocab, token, piece, 256, 0, True)
            out += piece.raw[: max(0, count)]
        return out.decode(errors="replace")

    def embedding(self, ids):
        """The vector of a text of these tokens, by the pooling that the file states; of a reranker its scores."""
        _LIB.llama_set_embeddings(self.context, True)
        self._run(ids, 0)
        row = _LIB.llama_get_embeddings_seq(self.context, 0)
        if not row:
            raise _refused("no vector of the text")
        ranks = _LIB.llama_pooling_type(self.context) == 4
        width = _LIB.llama_model_n_cls_out(self.model) if ranks else _LIB.llama_model_n_embd(self.model)
        return np.array(np.ctypeslib.as_array(row, (width,)))

    def _run(self, ids, start):
        batch = _LIB.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        status = _LIB.llama_decode(self.context, batch)
        _LIB.llama_batch_free(batch)
        if status:
            raise _refused(f"llama_decode returned {status}")

    def _decode(self, ids, start):
        self._run(ids, start)
        rows = [
            np.ctypeslib.as_array(_LIB.llama_get_logits_ith(self.context, i), (self.vocab_size,))
            for i in range(len(ids))
        ]
        return np.array(rows, dtype=np.float64)

    def logits(self, ids):
        """One row of logits for every token of `ids`, from an empty cache."""
        self.clear()
        return self._decode(ids, 0)

    def clear(self):
        """Empties the cache."""
        _LIB.llama_memory_clear(_LIB.llama_get_memory(self.context), True)

    def more(self, start, count):
        """The `count` most likely tokens after what was decoded last, the first at the place `start`."""
        row = np.ctypeslib.as_array(_LIB.llama_get_logits_ith(self.context, -1), (self.vocab_size,))
        if not np.isfinite(row).all():
            raise _refused("logits are not finite")
        out = []
        for i in range(count):
            out.append(int(row.argmax()))
            row = self._decode(out[-1:], start + i)[-1]
        return out

    def greedy(self, ids, count):
        """The `count` most likely tokens after `ids`, one by one."""
        row, out = self.logits(ids)[-1], []
        for i in range(count):
            out.append(int(row.argmax()))
            row = self._decode(out[-1:], len(ids) + i)[-1]
        return out


@contextlib.contextmanager
def opened(path, **more):
    """A model that is closed behind the block."""
    model = Model(path, **more)
    try:
        yield model
    finally:
        model.close()


def loads(path):
    """Whether `path` loads and decodes a token, tried in a process of its own: an assertion of ggml's ends it, or the
    alarm where a loop of its never does."""
    out, inside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        said = "loads"
        signal.alarm(10)
        try:
            with opened(path) as model:
                model.greedy([1, 2, 3], 1)
        except LlamaError as error:
            said = str(error)
        os.write(inside, said.encode()[:4096])
        os._exit(0)
    os.close(inside)
    with open(out, "rb") as words:
        said = words.read().decode(errors="replace")
    os.waitpid(child, 0)
    if said != "loads":
        raise LlamaError(said or "ended by an assertion")
    return {}


def quantize(values, ggml_type, importance=None):
    """Rows of floats as ggml encodes them in the format `ggml_type` (a number of `ggml_type`)."""
    rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, values.shape[-1])
    out = np.zeros(rows.shape[0] * _LIB.ggml_row_size(ggml_type, rows.shape[1]), np.uint8)
    weights = None
    if importance is not None:
        weights = np.ascontiguousarray(importance, dtype=np.float32)
    _LIB.ggml_quantize_chunk(
        ggml_type, rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1],
        weights.ctypes.data if weights is not None else None,
    )
    return out
