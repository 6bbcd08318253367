#!/usr/bin/env python3
"""Tokenizer goldens: what llama.cpp says about generated texts, ids and pieces.

    vocab_golden.py NAME VOCAB.gguf > tests/data/vocabs/NAME.json   [--texts N] [--seed S]
    vocab_golden.py --synthetic tests/data/vocabs                   writes synthetic-*.gguf and .json
    vocab_golden.py --pre tests/data/vocabs                         writes pre.json

Needs llama-cpp-python 0.3.36 (llama.cpp 0c1e57098). tests/vocab_golden.rs reads the files; with
VOCAB_GOLDEN=FILE it also checks a longer one (say --texts 2000) that is not in the repository.
"""
import argparse
import ctypes
import itertools
import json
import os
import random
import struct

import llama_cpp as L

quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)

# ---- questions to the reference ------------------------------------------------------------


def load(path):
    params = L.llama_model_default_params()
    params.vocab_only = True
    model = L.llama_model_load_from_file(path.encode(), params)
    assert model, path
    return L.llama_model_get_vocab(model)


def tokenize(vocab, text, add_special, parse_special):
    n = -L.llama_tokenize(vocab, text, len(text), None, 0, add_special, parse_special)
    ids = (L.llama_token * max(n, 1))()
    assert L.llama_tokenize(vocab, text, len(text), ids, n, add_special, parse_special) == n
    return list(ids[:n])


def piece(vocab, token, lstrip, special):
    buf = ctypes.create_string_buffer(1 << 12)
    n = L.llama_token_to_piece(vocab, token, buf, len(buf), lstrip, special)
    assert n >= 0
    return buf.raw[:n].hex()


def detokenize(vocab, ids, remove_special, unparse_special):
    arr = (L.llama_token * max(len(ids), 1))(*ids)
    buf = ctypes.create_string_buffer(1 << 16)
    n = L.llama_detokenize(vocab, arr, len(ids), buf, len(buf), remove_special, unparse_special)
    assert n >= 0
    needed = -L.llama_detokenize(vocab, arr, len(ids), None, 0, remove_special, unparse_special)
    return [buf.raw[:n].hex(), needed]


ROLES = "bos eos eot sep nl pad mask fim_pre fim_suf fim_mid fim_pad fim_rep fim_sep".split()
FLAGS = [(False, False), (False, True), (True, False), (True, True)]


def facts(vocab):
    n = L.llama_vocab_n_tokens(vocab)
    attr = {i: L.llama_vocab_get_attr(vocab, i) for i in range(n)}
    odd = [[i, a] for i, a in attr.items() if a != 4][:400]
    return {
        "n_tokens": n,
        "type": L.llama_vocab_type(vocab),
        "roles": {r: getattr(L, "llama_vocab_" + r)(vocab) for r in ROLES},
        "add": [bool(getattr(L, "llama_vocab_get_add_" + k)(vocab)) for k in ("bos", "eos", "sep")],
        "eog": [i for i in range(n) if L.llama_vocab_is_eog(vocab, i)],
        "attr_not_normal": odd,
    }


# ---- texts ---------------------------------------------------------------------------------

SCRIPTS = [
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x17F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x531, 0x587), (0x5D0, 0x5EA), (0x620, 0x64A), (0x710, 0x72F), (0x904, 0x939), (0x985, 0x9B9),
    (0xA85, 0xAB9), (0xB85, 0xBB9), (0xD05, 0xD39), (0xE01, 0xE3A), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x13A0, 0x13F5), (0x16A0, 0x16EA), (0x1780, 0x17B3), (0x1820, 0x1878),
    (0x3041, 0x3096), (0x30A1, 0x30FA), (0x3105, 0x312F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFF21, 0xFF5A), (0x10330, 0x1034A),
    (0x12000, 0x12399), (0x1D400, 0x1D7CB), (0x20000, 0x2A6DF),
]
NUMBERS = [(0x30, 0x39), (0xB2, 0xB3), (0xBC, 0xBE), (0x660, 0x669), (0x966, 0x96F), (0x2150, 0x2182),
           (0x2460, 0x249B), (0x3007, 0x3007), (0x3021, 0x3029), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF)]
MARKS = [(0x300, 0x36F), (0x591, 0x5BD), (0x64B, 0x65F), (0x93A, 0x94D), (0xE31, 0xE3A), (0x20D0, 0x20F0), (0xFE00, 0xFE0F)]
SYMBOLS = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027),
           (0x2030, 0x205E), (0x20A0, 0x20C0), (0x2190, 0x23FF), (0x2500, 0x27BF), (0x3001, 0x3020)]
ODD = [(0x0, 0x8), (0xE, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x200B, 0x200F), (0x2060, 0x206F), (0xE000, 0xF8FF),
       (0x378, 0x379), (0x1F7DA, 0x1F7DF), (0xFFF9, 0xFFFF), (0xE0001, 0xE007F), (0x10FFF0, 0x10FFFF)]
WHITE = [0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x20, 0x20, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x2003, 0x200A, 0x2028,
         0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF]
WORDS = ("the of and Hello world don't I'm we'll you've they're it's o'clock rock'n'roll 'S 'RE 'Ll naïve "
         "3.14 1,000,000 12345678901 x86_64 foo_bar() https://example.org/a?b=c&d=1 e=mc² $5.00 C++ "
         "<b>bold</b> ``` #include λx.x → ≤ 你好世界 これはテスト 안녕하세요 Привет мир مرحبا नमस्ते שלום สวัสดี").split()
EMOJI = ["🦙", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "1️⃣", "😶‍🌫️", "❤️", "🫠"]
BROKEN = [b"\xff", b"\xc0\x80", b"\xe4\xbd", b"\x80", b"\xed\xa0\x80", b"\xf0\x9f\xa6", b"\xfe\xff", b"\xc3(", b"\xf8\x88\x80\x80\x80"]


def one(rng, pool):
    low, high = rng.choice(pool)
    return chr(rng.randint(low, high)).encode("utf-8", "surrogatepass")


def chunk(rng, specials):
    kind = rng.randrange(14)
    run = rng.choice([1, 1, 2, 3, 5, 9])
    if kind < 3:
        return (rng.choice(["", " ", " ", "\n"]) + rng.choice(WORDS)).encode()
    if kind < 5:
        pool = [rng.choice(SCRIPTS)]
        return b"".join(one(rng, pool) for _ in range(run))
    if kind == 5:
        pool = [rng.choice(NUMBERS)] if rng.random() < 0.7 else NUMBERS
        return b"".join(one(rng, pool) for _ in range(run))
    if kind < 8:
        cp = rng.choice(WHITE)
        if rng.random() < 0.5:
            return (chr(cp) * run).encode()
        return b"".join(chr(rng.choice(WHITE)).encode() for _ in range(run))
    if kind == 8:
        return b"".join(one(rng, SYMBOLS) for _ in range(run))
    if kind == 9:
        return one(rng, SCRIPTS) + b"".join(one(rng, MARKS) for _ in range(run))
    if kind == 10:
        return rng.choice(EMOJI).encode()
    if kind == 11:
        return one(rng, ODD)
    if kind == 12 and specials:
        text = rng.choice(specials)
        return text if rng.random() < 0.8 else text[: rng.randrange(len(text) + 1)]
    return b"'" + rng.choice([b"s", b"T", b"re", b"VE", b"ll", b"d", b"lL", b"x", b"'s", b""])


def text(rng, specials):
    parts = [chunk(rng, specials) for _ in range(rng.randint(1, 14))]
    if rng.random() < 0.15:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(BROKEN))
    if rng.random() < 0.03:
        parts.append(bytes(rng.randrange(0xF0) for _ in range(12)))
    return b"".join(parts)


FIXED = [b"", b" ", b"\n", b"  \n\n \n", b"Hello world", b" Hello  world  ", b"\x00", b"a" * 300, b"  " * 40,
         b"don't 'tis I'LL you're'll", b"1 12 123 1234 12345 1234567", "½ ² ٣٤ 五 Ⅷ".encode(),
         "a\u0300\u0301 e\u0301".encode(), "👩‍👩‍👧‍👦👩‍👩‍👧".encode(), b"x \t\r\n y\r\n\r\n  z", b"\xc3", b"\xe2\x82", b"ok\xff\xfeok"]


def of_tokens(vocab, n, n_texts, seed):
    """Texts made of the vocabulary's own tokens, for vocabularies that know little else."""
    rng = random.Random(seed + 1)
    tokens = [L.llama_vocab_get_text(vocab, rng.randrange(n)).replace("▁".encode(), b" ") for _ in range(60)]
    glue = [b"", b"", b"", b" ", b"  ", "é".encode(), b"\n"]
    return [b"".join(rng.choice(tokens) + rng.choice(glue) for _ in range(rng.randint(1, 12))) for _ in range(n_texts)]


def every_code_point(vocab):
    """A digest of the ids of `x`, the code point and `y`, for all of Unicode: normalisers differ in single ones."""
    digest = 0
    for cp in [*range(0xD800), *range(0xE000, 0x110000)]:
        for i in tokenize(vocab, b"x" + chr(cp).encode() + b"y", False, False):
            digest = (digest * 31 + i + 1) % (1 << 64)
    return str(digest)


def golden(path, n_texts, seed):
    vocab = load(path)
    out = {"facts": facts(vocab)}
    if out["facts"]["type"] == 3 and out["facts"]["n_tokens"] > 1000:
        out["facts"]["every_code_point"] = every_code_point(vocab)
    rng = random.Random(seed)
    n = out["facts"]["n_tokens"]
    specials = [L.llama_vocab_get_text(vocab, i) for i, a in out["facts"]["attr_not_normal"]]
    texts = FIXED + [b" ".join(specials[:6]), b"".join(specials[:3])]
    texts += [text(rng, specials) for _ in range(n_texts)]
    if out["facts"]["type"] not in (2, 7):
        texts += of_tokens(vocab, n, n_texts, seed)
    # [text, ids for each pair of FLAGS (add_special, parse_special)]
    out["tokenize"] = [[t.hex(), [tokenize(vocab, t, *f) for f in FLAGS]] for t in texts]
    some = sorted({0, 1, 2, n - 1, *rng.sample(range(n), min(n, 60)), *[i for i, _ in out["facts"]["attr_not_normal"][:20]]})
    # [token, lstrip, special, piece]
    out["pieces"] = [[i, l, s, piece(vocab, i, l, s)] for i in some for l in (0, 1, 3) for s in (False, True)]
    lists = [tokenize(vocab, t, True, True) for t in rng.sample(texts, min(len(texts), 30))]
    lists += [[rng.randrange(n) for _ in range(rng.randint(1, 20))] for _ in range(15)]
    lists += [tokenize(vocab, t, True, True) for t in (
        b"Hello , world ! How 's it ? I 'm fine . don 't we 'll they 're we 've a ' b ' c 'd  '  .",
        b" ? ' ' . 's", b" ", b" '", b"' ", b"a '", b" .. !", b"x ' s 'r 're 'v", b"")]
    for role in ("bos", "eos"):
        token = out["facts"]["roles"][role]
        if token >= 0:
            lists += [[token, 5, 6, token], [token], [token, token, 7, token, token]]
    # [ids, [text, length needed without cleaning] for each pair of FLAGS (remove, unparse)]
    out["detokenize"] = [[ids, [detokenize(vocab, ids, *f) for f in FLAGS]] for ids in lists]
    return out


# ---- synthetic vocabularies ----------------------------------------------------------------


def gguf(path, kv):
    def s(x):
        b = x if isinstance(x, bytes) else x.encode()
        return struct.pack("<Q", len(b)) + b

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<I?", 7, v)
        if isinstance(v, int):
            return struct.pack("<II", 4, v)
        if isinstance(v, bytearray):
            return struct.pack("<IIQ", 9, 0, len(v)) + bytes(v)
        if isinstance(v, (str, bytes)):
            return struct.pack("<I", 8) + s(v)
        if v and isinstance(v[0], int):
            return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)
        if v and isinstance(v[0], float):
            return struct.pack("<IIQ", 9, 6, len(v)) + struct.pack(f"<{len(v)}f", *v)
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(s, v))

    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(kv)))
        for k, v in kv.items():
            f.write(s(k) + value(v))
        f.write(b"\0" * (-f.tell() % 32))


def byte_alphabet():
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(moved)}


ALPHABET = byte_alphabet()


def vocabulary(pre, specials, merges, missing_bytes=(), missing=(), name=None, arch="gpt2", **extra):
    """specials: {text: token type}; merges: pairs of text; missing: results that get no token."""
    word = lambda w: "".join(ALPHABET[b] for b in w.encode())
    tokens = [ALPHABET[b] for b in range(256) if b not in missing_bytes]
    pairs = [(word(a), word(b)) for a, b in merges]
    for a, b in pairs:
        if a + b not in tokens and a + b not in map(word, missing):
            tokens.append(a + b)
    types = [1] * len(tokens)
    for t, k in specials.items():
        tokens.append(t)
        types.append(k)
    kv = {"general.architecture": arch}
    if name:
        kv["general.name"] = name
    kv |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
           "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs]}
    at = {t: i for i, t in enumerate(tokens)}
    for k, v in extra.items():
        kv["tokenizer.ggml." + k] = at[v] if isinstance(v, str) else v
    return kv


NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), (" ", "w"), ("o", "r"), (" w", "or"), ("hell", "o"), ("a", "a"), ("aa", "aa"),
          ("a", "b"), ("b", "a"), ("aa", "a"), ("1", "2"), ("12", "3"), ("n", "t"), ("'", "s"), ("é", "e"), (" ", " "), ("  ", "  "),
          ("\n", "\n"), ("h", "e"), ("world", "x")]


def synthetic():
    yield "overlap", vocabulary(
        "gpt-2",
        {"<a>": CONTROL, "<a><b>": CONTROL, "<b>": CONTROL, "b><a": USER, "abc": USER, "cab": USER, "<unk>": UNKNOWN,
         "<|fim_prefix|>": NORMAL, "<PRE>": CONTROL, "<|fim_suffix|>": CONTROL, "<MID>": CONTROL, "[PAD]": CONTROL, "<REPO>": CONTROL,
         "<|file_sep|>": NORMAL, "<unused7>": CONTROL, "<|end|>": CONTROL, "<|call|>": CONTROL, "<|return|>": CONTROL,
         "<|channel|>": CONTROL, "   ": USER, "<0x41>": BYTE, "zab": UNUSED, "x y": NORMAL},
        MERGES[:-3], bos_token_id="<a>", eos_token_id="<b>", unknown_token_id="<unk>", add_bos_token=True, add_eos_token=True)
    yield "missing", vocabulary(
        "smollm", {"<|endoftext|>": CONTROL, "</s>": CONTROL, "<|tool_response>": CONTROL}, MERGES,
        missing_bytes=(0x7A, 0xF0, 0x0A, 0x31), missing=("he", "aa", " w"), add_space_prefix=True)
    yield "mask", vocabulary(
        "jina-v2-code", {"<mask>": CONTROL, "<s>": CONTROL, "</s>": CONTROL, "<pad>": CONTROL}, MERGES, bos_token_id="<s>",
        eos_token_id="</s>", seperator_token_id="</s>", mask_token_id="<mask>", add_bos_token=True, add_eos_token=True, padding_token_id="<pad>")
    yield "rstrip", vocabulary(
        "llama-bpe", {"<s>": CONTROL, "</s>": CONTROL, "<unk>": UNKNOWN, "<|endoftext|>": CONTROL, "<|user|>": CONTROL, "<|end|>": USER},
        MERGES, name="My Phi-3 mini", bos_token_id="<s>", eos_token_id="</s>", unknown_token_id="<unk>",
        suppress_tokens=[3, 100000, 7])
    yield "test", {"general.architecture": "llama", "tokenizer.ggml.model": "test",
                   "tokenizer.ggml.tokens": [f"tok_{i}" for i in range(98)] + ["<|im_end|>", "user"],
                   "tokenizer.ggml.token_type": [1] * 98 + [CONTROL, USER]}


# ---- every pre-tokenizer -------------------------------------------------------------------

# Every name that llama.cpp 0c1e57098 takes, families together. tests/vocab_pre.rs gives each of them
# to the GPT-2 vocabulary of the repository.
PRE = """default minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano
deepseek-llm deepseek-coder deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es jina-de
gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jais-2 gemma4 granite-embed-multi-311m sarvam-moe
jina-v1-en jina-v2-code roberta-bpe whitespace refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 qwen35
stablelm2 olmo dbrx smaug-bpe poro-chat chatglm-bpe glm4 glm5 viking jais tekken smollm codeshell bloom
gpt3-finnish exaone exaone4 exaone-moe chameleon minerva-7b megrez gpt-4o llama4 kanana2 talkie
granite-embed-multi-97m tiny_aya cohere2moe superbpe trillion granite-docling bailingmoe bailingmoe2
llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm kimi-k2 ufakzeka grok-2 afmoe laguna minimax-m2
solar-open mellum2""".split()

PRE_FIXED = [" " * n + "x" for n in (2, 3, 5, 9, 17, 40, 600)] + [
    "1234567 12345 ٣٤٥٦ 12٣٤5", "a1b22c333d4444", "ABCdefGHI JSONParser ÀÉÎ xÀy iOS HTTPServer's",
    "!/\n/ path/to\n", "x\n\n\n y\r\n \r\nz", "你好世界abcカタカナ한국어ไทย", "a\u0301b\u0301 \u0301c \u200b\u200b!",
    "$1 + ~x^2 = |y| `code`", "<sentinel:12><sentinel:> IMGIMGABCDZIMGIMGABCDEZ", "、。・「」ー ！a：b",
    "İstanbul'un 'll 'S don'T", "trailing  ", "tabs\t\tand  \u3000 wide\u00a0\u2003 spaces", "0٣0 1½2"]


def fnv(ids):
    """FNV-1a over the ids as 32-bit little-endian numbers, cut to 32 bits."""
    h = 0xCBF29CE484222325
    for byte in b"".join(struct.pack("<i", i) for i in ids):
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h & 0xFFFFFFFF


def load_as(path, pre):
    params = L.llama_model_default_params()
    params.vocab_only = True
    overrides = (L.llama_model_kv_override * 2)()
    overrides[0].tag = L.LLAMA_KV_OVERRIDE_TYPE_STR
    overrides[0].key = b"tokenizer.ggml.pre"
    overrides[0].value.val_str = pre.encode()
    params.kv_overrides = overrides
    model = L.llama_model_load_from_file(path.encode(), params)
    return model and L.llama_model_get_vocab(model)


def pre_golden(folder, n_texts, seed):
    rng = random.Random(seed)
    texts = [t if isinstance(t, bytes) else t.encode() for t in FIXED[1:] + PRE_FIXED]
    texts += [text(rng, []) for _ in range(n_texts)]
    path = os.path.join(folder, "ggml-vocab-gpt-2.gguf")
    assert not load_as(path, "no such")
    names, hashes = {}, []
    for pre in PRE:
        vocab = load_as(path, pre)
        assert vocab, pre
        # With white space in a word, this one ends in an assertion.
        given = [t.replace(b" ", b"").replace(b"\n", b"") for t in texts] if pre == "whitespace" else texts
        of_name = [fnv(tokenize(vocab, t, False, False)) for t in given]
        if of_name not in hashes:
            hashes.append(of_name)
        names[pre] = {
            "ids": hashes.index(of_name),
            "add": [bool(getattr(L, "llama_vocab_get_add_" + k)(vocab)) for k in ("bos", "eos", "sep")],
            "bos": L.llama_vocab_bos(vocab), "nl": L.llama_vocab_nl(vocab),
            "cleaned": detokenize(vocab, [995, 764, 705, 82, 5145], False, False)[0],
        }
    one_a_line = lambda items: ",\n".join(items)
    with open(os.path.join(folder, "pre.json"), "w") as f:
        f.write('{"names": {\n' + one_a_line(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in names.items()) + "},\n")
        f.write('"texts": [\n' + one_a_line(json.dumps(t.hex()) for t in texts) + "],\n")
        f.write('"ids": [\n' + one_a_line(json.dumps(h, separators=(",", ":")) for h in hashes) + "]}\n")


# Vocabularies of the other kinds: {text: (token type, score)}; ids by text as above.


def listed(model, tokens, arch="llama", name=None, **extra):
    kv = {"general.architecture": arch}
    if name:
        kv["general.name"] = name
    kv |= {"tokenizer.ggml.model": model, "tokenizer.ggml.tokens": list(tokens),
           "tokenizer.ggml.token_type": [k for k, _ in tokens.values()], "tokenizer.ggml.scores": [float(s) for _, s in tokens.values()]}
    at = {t: i for i, t in enumerate(tokens)}
    for k, v in extra.items():
        kv["tokenizer.ggml." + k] = at[v] if isinstance(v, str) else v
    return kv


BYTES = {f"<0x{b:02X}>": (BYTE, 0) for b in range(256)}
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFHIWXTS0123456789.,!?'-éñüßжиаβ你好世界のはですนม"
PIECES = ("he ll ell hell hello wor ld orld world ing tion the aa aaaa aaaaaaaa aab ba 12 123 '' ab abc bc cab on one ne e\u0301 "
          "你好 世界 good ood go жи").split()


def scored(words, first=-2.0, step=-0.25, kind=NORMAL):
    return {w: (kind, first + step * (i // 2)) for i, w in enumerate(words)}  # pairs of equal scores


def charsmap(rules):
    """A precompiled_charsmap of SentencePiece for {from: to}: a double array in the layout of Darts-clone."""
    texts, keys, blob = {}, {}, b""
    for to in rules.values():
        if to not in texts:
            texts[to] = len(blob)
            blob += to.encode() + b"\0"
    trie = {}
    for key, to in rules.items():
        node = trie
        for b in key.encode():
            node = node.setdefault(b, {})
        node[None] = texts[to]
    units, used = {}, {0}

    def place(index, label, node):
        labels = [c for c in node if c is not None]
        base = next(b for b in itertools.count(1) if not {b ^ c for c in labels} & used and (None not in node or b not in used))
        used.update(b for b in [base ^ c for c in labels] + [base] * (None in node))
        offset = index ^ base
        way = offset >> 8 << 10 | 1 << 9 if offset & 0xFF == 0 else offset << 10
        units[index] = way | label | (1 << 8 if None in node else 0)
        if None in node:
            units[base] = 1 << 31 | node[None]
        for c in labels:
            place(base ^ c, c, node[c])

    place(0, 0, trie)
    size = (max(units) | 0xFF) + 1
    array = [units.get(i, 0) for i in range(size)]
    return bytearray(struct.pack(f"<I{size}I", size * 4, *array) + blob)


RULES = {"\t": " ", "\n": " ", "\r\n": " ", "\u3000": " ", "\xa0": " ", "ﬁ": "fi", "①": "1", "½": "1⁄2", "e\u0301": "é", "E\u0301": "É",
         "\u200b": "", "Ａ": "A", "Ｂ": "B", "ｶ\uff9e": "ガ", "ｶ": "カ", "™": "TM", "ﷺ": "صلى الله عليه وسلم", "...": "…", "aaaaaaaaaa": "a" * 9}


def other_kinds():
    specials = {"<unk>": (UNKNOWN, 0), "<s>": (CONTROL, 0), "</s>": (CONTROL, 0)}
    words = [*PIECES, *("▁" + w for w in PIECES[::2]), "▁▁", "▁▁▁▁", "▁", "\n\n"]
    spm = {**specials, **BYTES, **scored(words), **scored(LETTERS, -20), "<tag>": (USER, 0), "▁<PRE>": (NORMAL, -50), "<end_of_turn>": (NORMAL, -60),
           "  ": (USER, 0), "weird": (UNUSED, -1), "nothing": (7, -1), "[unused3]": (CONTROL, 0), "<|endoftext|>": (CONTROL, 0)}
    del spm["<0x41>"]  # "A" stands in
    yield "spm", listed("llama", spm, add_eos_token=True)
    yield "spm-phi3", listed("llama", spm, name="Phi3 of ours", add_space_prefix=False, add_bos_token=False, bos_token_id="<s>",
                             eos_token_id="</s>", padding_token_id="<tag>")

    frame = {t: (CONTROL, 0) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    letters = LETTERS + "éÉñÑİıſẞßÅåΣσς①ﬁ가각" + "".join(map(chr, range(0x1100, 0x1108))) + "$+<>=^`|~€"
    wpm = {t: (NORMAL, -1) for t in [*PIECES, *("▁" + w for w in PIECES), *letters, *("▁" + c for c in letters)]}
    ids = dict(bos_token_id="[CLS]", seperator_token_id="[SEP]", unknown_token_id="[UNK]", padding_token_id="[PAD]", mask_token_id="[MASK]",
               cls_token_id="[CLS]")
    for name, options in {"cased": {"normalizer.lowercase": False}, "accents": {"normalizer.strip_accents": False},
                          "plain": {"normalizer.lowercase": False, "normalizer.strip_accents": True}}.items():
        yield "wpm-" + name, listed("bert", {**frame, **wpm}, arch="bert", **ids, **options)

    ends = {"<pad>": (CONTROL, 0), "</s>": (CONTROL, 0), "<unk>": (UNKNOWN, 0)}
    ugm = {**ends, **scored(words), **scored(LETTERS.replace("z", ""), -12), "<extra_id_0>": (CONTROL, 0), "ab cd": (USER, 0), "...x": (USER, -3),
           "▁[X]": (USER, 0), "gone": (UNUSED, -1), "nothing": (7, 1), "<0x7A>": (BYTE, 0), "世界good": (NORMAL, 3)}
    yield "ugm", listed("t5", ugm, arch="t5", add_space_prefix=True, remove_extra_whitespaces=True, precompiled_charsmap=charsmap(RULES))
    yield "ugm-keep", listed("t5", ugm, arch="t5", add_space_prefix=True, precompiled_charsmap=charsmap(RULES), add_bos_token=True, bos_token_id="<pad>")
    yield "ugm-plain", listed("t5", ugm, arch="t5", add_eos_token=False)
    yield "ugm-merge", listed("t5", ugm, arch="t5", remove_extra_whitespaces=True)

    escape = {9: "\\t", 10: "\\n", 13: "\\r", 39: "\\'", 92: "\\\\"}
    rwkv = {"<s>": (CONTROL, 0)}
    rwkv |= {escape.get(b, chr(b) if 32 <= b < 127 else f"\\x{b:02x}"): (NORMAL, 0) for b in range(256)}
    rwkv |= {t: (NORMAL, 0) for t in [*PIECES[:-2], "\\n\\n", "  ", " the", "\\xe4\\xbd", "\\xf0\\x9f", "don\\'t", "hello world of words", "  \\t\\t"]}
    rwkv |= {"<|im_end|>": (CONTROL, 0), "<u>": (USER, 0)}
    yield "rwkv", listed("rwkv", rwkv, arch="rwkv6")
    yield "rwkv-ids", listed("rwkv", rwkv, arch="rwkv6", bos_token_id="<s>", eos_token_id="<s>", add_bos_token=True)

    marks = {f"<|plamo:{t}|>": (CONTROL, 0) for t in ("unk", "bos", "eos", "pad")}
    plamo = {**marks, **BYTES, **scored([w.replace("▁", " ") for w in words], -3), **scored(LETTERS[3:], -9), "</s>": (NORMAL, -5),
             "[PAD1]": (UNUSED, -1000), "[PAD12]": (UNUSED, -1000), "never": (NORMAL, -2000), "barely": (NORMAL, -1999), "ever": (NORMAL, -4),
             "inf": (NORMAL, float("-inf")), "<u>": (USER, 0), "hello w": (NORMAL, 1)}
    yield "plamo2", listed("plamo2", plamo, arch="plamo2")
    yield "plamo2-ids", listed("plamo2", plamo, arch="plamo2", bos_token_id="<|plamo:bos|>", eos_token_id="</s>", add_bos_token=True,
                               add_space_prefix=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("name_or_dir")
    p.add_argument("vocab", nargs="?")
    p.add_argument("--synthetic", action="store_true")
    p.add_argument("--pre", action="store_true")
    p.add_argument("--texts", type=int, default=40)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    if a.pre:
        pre_golden(a.name_or_dir, a.texts, a.seed)
    elif a.synthetic:
        for name, kv in itertools.chain(synthetic(), other_kinds()):
            path = os.path.join(a.name_or_dir, f"synthetic-{name}.gguf")
            gguf(path, kv)
            with open(path[:-5] + ".json", "w") as f:
                # The tokens of the other kinds are all alike.
                write(f, golden(path, a.texts if "gpt2" in kv.values() or name == "test" else a.texts // 3, a.seed))
    else:
        import sys
        write(sys.stdout, golden(a.vocab, a.texts, a.seed))


def write(f, g):
    """One entry a line, so that diffs are readable."""
    f.write('{"facts": ' + json.dumps(g["facts"]))
    for key in ("tokenize", "pieces", "detokenize"):
        f.write(f',\n"{key}": [\n' + ",\n".join(json.dumps(x, separators=(",", ":")) for x in g[key]) + "]")
    f.write("}\n")


main()
