#!/usr/bin/env python3
"""Makes tests/data/sampler/goldens.json: what llama.cpp's samplers do on made-up logits.

Needs llama-cpp-python 0.3.36 with its own libllama (x86-64 Linux, libstdc++) and numpy:

    python tests/tools/sampler_goldens.py > tests/data/sampler/goldens.json

Logits come from `logits` below, which tests/sampler_golden.rs repeats bit for bit, so only the
results are stored: the tokens of every step, and the candidate list after the last one.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp
import numpy as np

LIB = llama_cpp.llama_cpp._lib
ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
HEAD = 8  # rows of a list that are stored in full; the ids of the others go into a hash

I32, U32, F32, SIZE, PTR = (
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_float,
    ctypes.c_size_t,
    ctypes.c_void_p,
)
INIT = {
    "greedy": [],
    "dist": [U32],
    "top_k": [I32],
    "top_p": [F32, SIZE],
    "min_p": [F32, SIZE],
    "typical": [F32, SIZE],
    "temp": [F32],
    "temp_ext": [F32, F32, F32],
    "xtc": [F32, F32, SIZE, U32],
    "top_n_sigma": [F32],
    "mirostat": [I32, U32, F32, F32, I32],
    "mirostat_v2": [U32, F32, F32],
    "penalties": [I32, I32, F32, F32, F32],
    "adaptive_p": [F32, F32, U32],
}


class Bias(ctypes.Structure):
    _fields_ = [("token", I32), ("bias", F32)]


class List(ctypes.Structure):
    _fields_ = [
        ("data", PTR),
        ("size", SIZE),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


def function(name, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)((name, LIB))


apply = function("llama_sampler_apply", None, PTR, PTR)
accept = function("llama_sampler_accept", None, PTR, I32)
free = function("llama_sampler_free", None, PTR)
chain_add = function("llama_sampler_chain_add", None, PTR, PTR)
chain_init = function("llama_sampler_chain_init", PTR, llama_cpp.llama_sampler_chain_params)


def init(name, *arguments):
    if name == "logit_bias":
        n_vocab, biases = arguments
        array = (Bias * len(biases))(*[Bias(t, b) for t, b in biases])
        make = function("llama_sampler_init_logit_bias", PTR, I32, I32, PTR)
        return make(n_vocab, len(biases), ctypes.cast(array, PTR))
    if name == "dry":
        *numbers, texts = arguments
        texts = (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])
        make = function("llama_sampler_init_dry", PTR, PTR, F32, F32, I32, I32, PTR, SIZE)
        return make(VOCAB, *numbers, ctypes.cast(texts, PTR), len(texts))
    if name == "infill":
        return function("llama_sampler_init_infill", PTR, PTR)(VOCAB)
    if name.startswith("grammar"):
        text, *triggers = arguments
        types, values = [PTR, ctypes.c_char_p, ctypes.c_char_p], [VOCAB, text.encode(), b"root"]
        if triggers:
            words, tokens = triggers
            words = (ctypes.c_char_p * len(words))(*[word.encode() for word in words])
            types += [PTR, SIZE, PTR, SIZE]
            values += [ctypes.cast(words, PTR), len(words)]
            values += [ctypes.cast((I32 * len(tokens))(*tokens), PTR), len(tokens)]
        return function("llama_sampler_init_" + name, PTR, *types)(*values)
    return function("llama_sampler_init_" + name, PTR, *INIT[name])(*arguments)


def load_vocab():
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    file = pathlib.Path(__file__).parent.parent / "data/vocabs/ggml-vocab-gpt-2.gguf"
    model = llama_cpp.llama_load_model_from_file(str(file).encode(), params)
    return llama_cpp.llama_model_get_vocab(model)


VOCAB = load_vocab()  # of GPT-2; the samplers keep pointing to it


def uniform(seed, n):
    """splitmix64 of seed, seed + 1, ... as fractions of 24 bits."""
    with np.errstate(over="ignore"):
        z = (np.arange(n, dtype=np.uint64) + np.uint64(seed) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def logits(kind, n, seed):
    """Bell-shaped logits, and what can go wrong with them."""
    parts = [uniform(seed * 4_000_037 + part * 1_000_003, n) for part in range(4)]
    bell = parts[0] + parts[1] + parts[2] + parts[3] - 2.0  # deviation 0.577
    if kind == "normal":
        x = bell * 6.0
    elif kind == "ties":
        x = np.floor(bell * 6.0)
    elif kind == "wide":  # most of it outside the +-10 that the bucket sort knows
        x = bell * 60.0
    elif kind == "peaked":
        x = bell
        x[seed % n] += 12.0
    elif kind == "ending":  # the last token, which ends a text in GPT-2's vocabulary, is likely
        x = bell * 6.0
        x[n - 1] = 10.0 + seed * 0.25
    elif kind == "flat":
        x = bell * 0.0
    elif kind == "huge":  # differences overflow
        x = bell * 1.5e38
    elif kind == "silent":
        x = bell * 0.0 - np.inf
    elif kind == "masked":
        x = bell * 6.0
        x[::3] = -np.inf
    return x.astype(np.float32)


def bits(floats):
    return [f"{x:08x}" for x in np.ascontiguousarray(floats).view("<u4")]


def run(kind, n, chain, steps):
    smpl = chain_init(llama_cpp.llama_sampler_chain_default_params())
    for stage in chain:
        chain_add(smpl, init(*stage))
    tokens = []
    for step in range(steps):
        rows = np.zeros(n, dtype=ROW)
        rows["id"] = np.arange(n)
        rows["logit"] = logits(kind, n, step)
        cur = List(rows.ctypes.data, n, -1, False)
        apply(smpl, ctypes.byref(cur))
        start = (cur.data - rows.ctypes.data) // ROW.itemsize
        left = rows[start : start + cur.size]
        if cur.selected >= 0:
            tokens.append(int(left["id"][cur.selected]))
            accept(smpl, tokens[-1])
    free(smpl)
    hashed = 0xCBF29CE484222325
    for token in left["id"]:
        hashed = ((hashed ^ int(token)) * 0x100000001B3) % 2**64
    head = left[:HEAD]
    return {
        "logits": kind,
        "n": n,
        "chain": chain,
        "steps": steps,
        "tokens": tokens,
        "size": int(cur.size),
        "sorted": bool(cur.sorted),
        "hash": f"{hashed:016x}",
        "ids": [int(x) for x in head["id"]],
        "logit_bits": bits(head["logit"]),
        "p_bits": bits(head["p"]),
    }


def cases():
    kinds = ["normal", "ties", "wide", "peaked", "flat", "masked"]
    single = [
        ["greedy"],
        ["dist", 42],
        ["top_k", 1],
        ["top_k", 40],
        ["top_k", 128],
        ["top_k", 129],
        ["top_k", 700],
        ["top_k", 1_000_000],
        ["top_p", 0.5, 1],
        ["top_p", 0.95, 1],
        ["top_p", 0.999, 1],
        ["top_p", 0.0, 300],
        ["top_p", 0.3, 0],
        ["min_p", 0.05, 1],
        ["min_p", 0.5, 20],
        ["min_p", 1.0, 0],
        ["typical", 0.5, 1],
        ["typical", 0.95, 10],
        ["temp", 0.7],
        ["temp", 0.0],
        ["temp", -1.0],
        ["temp_ext", 0.8, 0.5, 1.0],
        ["temp_ext", 0.3, 0.5, 2.0],
        ["temp_ext", 0.8, 0.0, 1.0],
        ["xtc", 1.0, 0.01, 1, 3],
        ["xtc", 1.0, 0.001, 5, 3],
        ["top_n_sigma", 1.0],
        ["top_n_sigma", 2.5],
        ["mirostat_v2", 7, 5.0, 0.1],
        ["mirostat_v2", 7, 2.0, 0.5],
        ["adaptive_p", 0.1, 0.9, 9],
        ["adaptive_p", -1.0, 0.9, 9],
        ["adaptive_p", 0.7, 2.0, 9],
        ["penalties", 2000, 64, 1.1, 0.0, 0.0],
    ]
    for kind in kinds:
        for n in [1, 2, 100, 2000]:
            for stage in single:
                yield kind, n, [stage], 1
            yield kind, n, [["mirostat", n, 7, 5.0, 0.1, 100]], 1
            yield kind, n, [["logit_bias", n, [[0, 3.0], [1, -2.0], [1, 0.5]]]], 1
    # Lists as long as a real vocabulary.
    for kind in ["normal", "ties", "wide", "flat"]:
        for stage in [["top_k", 40], ["top_k", 500], ["top_p", 0.9, 1], ["dist", 1], ["typical", 0.9, 1]]:
            yield kind, 49152, [stage], 1
    # Selection over many steps: state, random numbers, and one sampler after another.
    usual = [["top_k", 40], ["top_p", 0.95, 1], ["min_p", 0.05, 1], ["temp", 0.8]]
    for seed in [0, 1, 42, 1234567890, 4294967294]:
        for kind in ["normal", "ties", "peaked"]:
            yield kind, 500, [["dist", seed]], 50
            yield kind, 500, usual + [["dist", seed]], 50
        yield "normal", 500, [["mirostat", 500, seed, 5.0, 0.1, 100]], 50
        yield "normal", 500, [["mirostat", 500, seed, 3.0, 0.3, 0]], 50
        yield "normal", 500, [["mirostat_v2", seed, 5.0, 0.1]], 50
        yield "ties", 500, [["temp", 0.8], ["mirostat_v2", seed, 3.0, 0.3]], 50
        yield "normal", 500, [["min_p", 0.02, 1], ["adaptive_p", 0.2, 0.9, seed]], 50
        yield "ties", 500, [["top_k", 200], ["adaptive_p", 0.05, 0.5, seed]], 50
        yield "normal", 500, [["xtc", 0.5, 0.02, 1, seed], ["dist", seed]], 50
        yield "normal", 500, [["typical", 0.8, 1], ["dist", seed]], 50
        yield "normal", 500, [["top_n_sigma", 1.5], ["dist", seed]], 50
        yield "normal", 500, [["temp_ext", 0.8, 0.4, 1.0], ["dist", seed]], 50
        yield "ties", 60, [["penalties", 60, 8, 1.3, 0.1, 0.2]] + usual + [["dist", seed]], 50
        yield "normal", 60, [["penalties", 60, 16, 1.0, 2.0, 1.0], ["greedy"]], 50
        yield "normal", 60, [["logit_bias", 60, [[5, 2.5], [59, 4.0]]], ["top_k", 30], ["dist", seed]], 50
        yield "normal", 500, [["min_p", 0.7, 1], ["dist", seed]], 50  # often a single candidate
    # Few tokens, so that they repeat: 0 to 9 are ! " # $ % & ' ( ) * in GPT-2's vocabulary.
    for breakers in [[], ["&"], ["#$%&'", "x" * 50], ["(%", "!!", ")*", "\"%"]]:
        for kind in ["peaked", "normal", "ties"]:
            for dry in [[0.8, 1.75, 2, 64], [5.0, 1.1, 0, 16], [1.0, 3.0, -1, 9], [1.0, 1e-9 + 1, 1, 30]]:
                yield kind, 10, [["dry", *dry, breakers], ["top_k", 6], ["dist", 5]], 60
    yield "peaked", 10, [["dry", 1e30, 1e20, 1, 1000, ["*"]], ["dist", 5]], 60
    for off in [[0.0, 1.75, 2, 64], [1.0, 0.5, 2, 64], [1.0, 1.75, 2, 0], [1.0, 1.75, 2, -1]]:
        yield "peaked", 10, [["dry", *off, []], ["dist", 5]], 60
    for kind in ["normal", "ending", "flat"]:
        for k in [1, 5, 20]:
            yield kind, 50257, [["top_k", k], ["infill"]], 1
            yield kind, 50257, [["top_k", k], ["top_p", 0.9, 1], ["infill"], ["dist", k]], 6
    for h in [[6, 8, 7, 9], [9, 8, 7, 6], [8, 9, 8, 9], [7, 7.5, 9.5, 9.6]]:
        hello = [[258, h[0]], [2978, h[1]], [12758, h[2]], [31373, h[3]]]  # he hel hell hello
        for eog in [0, 5.5]:
            bias = ["logit_bias", 50257, hello + [[50256, eog]]]
            yield "flat", 50257, [bias, ["top_k", 6], ["infill"]], 1
            yield "flat", 50257, [bias, ["top_k", 6], ["temp", 1.7], ["infill"], ["dist", 1]], 5
    for n in [3, 40, 700]:  # words of these numbers begin each other
        yield "normal", n, [["infill"]], 1
        yield "normal", n, [["top_k", 8], ["temp", 3.0], ["infill"], ["greedy"]], 30
    yield "normal", 2000, [["top_k", 0], ["temp", 1.0], ["top_p", 1.0, 1], ["min_p", 0.0, 1], ["greedy"]], 50


def main():
    lines = [json.dumps(run(*case), separators=(",", ":")) for case in cases()]
    origin = f"llama-cpp-python {llama_cpp.__version__}, tests/tools/sampler_goldens.py"
    sys.stdout.write('{"origin":%s,"cases":[\n' % json.dumps(origin))
    sys.stdout.write(",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
