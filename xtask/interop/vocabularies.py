"""Trains a small tokenizer for every family, and says what the libraries that made it make of texts.

In: a text to train on, a directory of checkpoints. Out: tokenizer files beside each checkpoint, and
the ids of TEXTS. Must not: know GGUF.
"""
import collections
import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SIZE = 512
TEXTS = [
    "Hello, world!", "  two  spaces   and three", "tabs\tand\nlines\n\n\nthree", " leading", "trailing ",
    "I'll, you've, he's, we'RE", "1234567890 3.14159 1,000", "naïve café Ärger", "你好，世界", "こんにちは",
    "🚀 emoji 👩‍👩‍👧", "مرحبا", "a_b::c(d)[e]{f} != g;", "ALL CAPS and CamelCase", "\u00a0nbsp\u200bzero", "",
    "the Licensor hereby grants to You a perpetual, worldwide license", "....!!!???", "\r\n\r\nx", "\ufeffbom",
]

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?%s|\p{N}%s| ?[^\s%s\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(*parts):
    return [
        pre_tokenizers.Split(Regex(_WORDS % parts), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


LLAMA3 = _words(r"\p{L}+", "{1,3}", r"\p{L}")
QWEN2 = _words(r"\p{L}+", "", r"\p{L}")
QWEN35 = _words(r"[\p{L}\p{M}]+", "", r"\p{L}\p{M}")
_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER, _LOWER, _BEFORE = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[^\r\n\p{L}\p{N}]?"
GPT4O = [
    pre_tokenizers.Split(Regex("|".join([
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_CASES}", f"{_BEFORE}{_UPPER}+{_LOWER}*{_CASES}", r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
    ])), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
]
STARCODER = [
    pre_tokenizers.Digits(individual_digits=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
]
GPT2 = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
_SPECIAL = ["<unk>", "<s>", "</s>"]


def _byte_level(corpus, steps, starts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=_SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    if starts:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return tokenizer


def _pieces(corpus, prefix, *controls):
    """A SentencePiece BPE model, its spaces kept, with a prefix space as Llama's or without as Gemma's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.splitlines()), model_writer=model, model_type="bpe",
        vocab_size=SIZE, byte_fallback=True, add_dummy_prefix=prefix, remove_extra_whitespaces=False,
        normalization_rule_name="identity", allow_whitespace_only_pieces=True, split_digits=True,
        num_threads=1, minloglevel=2,
        control_symbols=list(controls),
    )
    return model.getvalue()


def _converted(model, prefix=True):
    """The same as `tokenizer.json` alone, as Transformers stores Llama 2's and Mistral's, and without a prefix space
    Gemma 4's."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = {processor.id_to_piece(i): i for i in range(SIZE)}
    merges = []
    for whole in sorted(pieces, key=pieces.get):
        splits = [(whole[:i], whole[i:]) for i in range(1, len(whole))]
        known = [s for s in splits if s[0] in pieces and s[1] in pieces]
        merges += sorted(known, key=lambda s: (pieces[s[0]], pieces[s[1]]))
    tokenizer = Tokenizer(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    back = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *back
    ])
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in _SPECIAL])
    return tokenizer


def _world(corpus):
    """RWKV's list of byte strings: every byte, two line breaks at their usual place, and frequent words."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"  ", b"\t\t", b"\r\n", b"    ", b"\n\n"]
    words = collections.Counter(word for line in corpus.splitlines() for word in line.replace(" ", "\0 ").split("\0"))
    ordered = sorted(words, key=lambda word: (-words[word], word))
    tokens += [word.encode() for word in ordered + ["é", "你", "🚀"] if len(word.encode()) > 1]
    return list(dict.fromkeys(tokens))[: SIZE - 1]


def _shown(token):
    """A token as the list has it: a string where it is one, else a byte string."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def _longest(tokens, text):
    ids, known, rest = [], {token: 1 + i for i, token in enumerate(tokens)}, text.encode()
    while rest:
        length = max(n for n in range(1, len(rest) + 1) if rest[:n] in known)
        ids.append(known[rest[:length]])
        rest = rest[length:]
    return ids


_PLAMO = ["<|plamo:unk|>", "<|plamo:bos|>", "<|plamo:eos|>", "<|plamo:pad|>", "<|plamo:op|>"]


def _scored(corpus):
    """Tokens with scores and kinds, as PLaMo stores them: special ones, bytes, and SentencePiece's unigram pieces."""
    tokens = [[_PLAMO[0], 0.0, "UNKNOWN"]] + [[word, 0.0, "CONTROL"] for word in _PLAMO[1:]]
    tokens += [[f"<0x{byte:02X}>", 0.0, "BYTE"] for byte in range(256)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.splitlines()), model_writer=model, model_type="unigram",
        vocab_size=SIZE - len(tokens) + len(_SPECIAL), add_dummy_prefix=False, remove_extra_whitespaces=False,
        normalization_rule_name="identity", num_threads=1, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = range(len(_SPECIAL), processor.vocab_size())
    return tokens + [[processor.id_to_piece(i).replace("▁", " "), round(processor.get_score(i), 4), "NORMAL"] for i in pieces]


def _largest_sum(tokens, text):
    """The ids of `text` with the largest sum of scores; of equal ones the longest first token."""
    text = text.removeprefix("\ufeff")
    known = {token: (i, score) for i, (token, score, kind) in enumerate(tokens) if kind != "BYTE"}
    byte = {token: i for i, (token, _, kind) in enumerate(tokens) if kind == "BYTE"}
    best = {len(text): (0.0, [])}
    for at in reversed(range(len(text))):
        ways = [
            (best[end][0] + known[text[at:end]][1], -end, [known[text[at:end]][0], *best[end][1]])
            for end in range(at + 1, len(text) + 1) if text[at:end] in known
        ]
        spelled = [byte[f"<0x{b:02X}>"] for b in text[at].encode()]
        ways.append((best[at + 1][0] - 1000.0, 0, spelled + best[at + 1][1]))
        score, _, ids = max(ways, key=lambda way: (round(way[0], 4), -way[1]))
        best[at] = (score, ids)
    return best[0][1]


# How each family's tokenizer is stored, and what it is made with.
KINDS = {
    "llama": (_byte_level, LLAMA3, True), "mistral": (_converted,),
    "qwen2": (_byte_level, QWEN2, False), "qwen3": (_byte_level, QWEN2, False),
    "qwen3moe": (_byte_level, QWEN2, False), "smollm3": (_byte_level, LLAMA3, False),
    "phi3": (_pieces, True, "<|endoftext|>"), "gemma2": (_pieces, False), "gemma3": (_pieces, False),
    "gemma3n": (_pieces, False), "lfm2": (_byte_level, LLAMA3, True),
    "qwen3_5": (_byte_level, QWEN35, False), "qwen35moe": (_byte_level, QWEN35, False),
    "starcoder2": (_byte_level, STARCODER, False),
    "seed_oss": (_byte_level, QWEN2, False), "ernie4_5": (_pieces, True), "ernie4_5_moe": (_pieces, True),
    "exaone4": (_byte_level, QWEN2, False), "exaone": (_byte_level, STARCODER, False),
    "falcon_h1": (_byte_level, LLAMA3, True), "granitehybrid": (_byte_level, STARCODER, False), "nemotron_h": (_byte_level, QWEN2, False),
    "nemotron_h_moe": (_byte_level, QWEN2, False), "mamba2": (_byte_level, GPT2, False), "lfm2moe": (_byte_level, LLAMA3, True),
    "deepseek2": (_byte_level, QWEN2, False), "deepseek3": (_byte_level, QWEN2, False), "deepseek_ocr": (_byte_level, QWEN2, False), "minicpm3": (_pieces, True),
    "gemma": (_pieces, False), "cohere": (_byte_level, STARCODER, False), "ministral3": (_byte_level, LLAMA3, True),
    "glm": (_byte_level, LLAMA3, False), "gptneox": (_byte_level, GPT2, False), "hunyuan_dense": (_byte_level, QWEN2, False),
    "minicpm": (_pieces, True), "stablelm": (_byte_level, QWEN2, False), "arcee": (_byte_level, LLAMA3, True),
    "nemotron": (_pieces, True), "olmo": (_byte_level, GPT2, False), "olmo3": (_byte_level, LLAMA3, False),
    "olmoe": (_byte_level, GPT2, False), "qwen2moe": (_byte_level, QWEN2, False),
    "granite": (_byte_level, STARCODER, False), "granitemoe": (_byte_level, STARCODER, False),
    "glm4": (_byte_level, LLAMA3, False), "glm4v": (_byte_level, LLAMA3, False), "phi2": (_byte_level, GPT2, False),
    "moondream": (_byte_level, GPT2, False), "phi4mm": (_byte_level, GPT4O, False),
    "cohere2": (_byte_level, STARCODER, False), "gpt_oss": (_byte_level, GPT4O, False),
    "apertus": (_byte_level, LLAMA3, True), "phimoe": (_pieces, True, "<|endoftext|>"), "hunyuan_moe": (_byte_level, QWEN2, False),
    "qwen2vl": (_byte_level, QWEN2, False), "qwen3vl": (_byte_level, QWEN2, False),
    "qwen2_5_omni": (_byte_level, QWEN2, False), "qwen3vlmoe": (_byte_level, QWEN2, False),
    "llama4": (_byte_level, GPT4O, True), "mobilellm": (_byte_level, LLAMA3, True),
    "baichuan": (_pieces, True), "baichuan_13b": (_pieces, True), "bitnet": (_pieces, True),
    "internlm2": (_pieces, False),
    "mamba": (_byte_level, GPT2, False), "falcon_mamba": (_byte_level, GPT2, False), "jamba": (_pieces, True),
    "bamba": (_byte_level, LLAMA3, True), "qwen3next": (_byte_level, QWEN2, False),
    "kimi_linear": (_byte_level, QWEN2, False), "rwkv7": (_world,), "plamo2": (_scored,),
    "gemma4": (_converted, False), "gemma4_dense": (_converted, False), "gemma4_moe": (_converted, False),
}


def make(family, directory, corpus):
    """Writes the tokenizer of `family` to `directory`; the ids of TEXTS without begin of text."""
    directory = Path(directory)
    kind, *arguments = KINDS[family]
    if kind is _world:
        tokens = _world(corpus)
        lines = [f"{1 + i} {_shown(token)} {len(token)}\n" for i, token in enumerate(tokens)]
        (directory / "rwkv_vocab_v20230424.txt").write_text("".join(lines), encoding="utf-8")
        return [_longest(tokens, text) for text in TEXTS]
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind is _scored:
        tokens = _scored(corpus)
        lines = [json.dumps(token, ensure_ascii=False) for token in tokens]
        (directory / "tokenizer.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        config |= {"bos_token": _PLAMO[1], "eos_token": _PLAMO[2], "unk_token": _PLAMO[0], "pad_token": _PLAMO[3]}
        config |= {"tokenizer_class": "Plamo2Tokenizer", "add_bos_token": True, "add_eos_token": False}
        ids = [_largest_sum(tokens, text) for text in TEXTS]
    elif kind is _pieces:
        model = _pieces(corpus, *arguments)
        (directory / "tokenizer.model").write_bytes(model)
        config["tokenizer_class"] = "GemmaTokenizer" if family.startswith("gemma") else "LlamaTokenizer"
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = [processor.encode(text) for text in TEXTS]
    else:
        if kind is _converted:
            prefix = not arguments
            tokenizer = _converted(_pieces(corpus, prefix), prefix)
            config["tokenizer_class"] = "LlamaTokenizer" if prefix else "GemmaTokenizer"
        else:
            tokenizer = kind(corpus, *arguments)
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        tokenizer.save(str(directory / "tokenizer.json"))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    config["added_tokens_decoder"] = {
        str(i): {"content": word, "special": True} for i, word in enumerate(_SPECIAL)
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return ids
