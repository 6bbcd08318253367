#!/usr/bin/env python3
"""Makes tests/data/tiny.json: llama.cpp's logits of the tiny models of tests/common/tiny.rs.

Needs llama-cpp-python 0.3.36 with its own libllama and numpy:

    mkdir models-tiny
    TINY_MODELS=$PWD/models-tiny cargo test --test tiny_models write_models -- --ignored
    python tests/tools/tiny_goldens.py models-tiny > tests/data/tiny.json

Each model's twin (the same numbers in F32) runs with F32 KV cache, without flash attention, in one
thread: 100 tokens at once, of which the logits of 5, 50 and 99 are kept, then 8 single tokens, of
which the last one's are. `llama_cpp_nmse` is how far llama.cpp itself is from that on the model
with its quantised weights and an F16 cache; null where llama.cpp cannot load it.
"""

import ctypes
import json
import pathlib
import struct
import sys

import llama_cpp
import numpy as np

BATCH, SINGLE, COMPARED = 100, 8, (5, 50, 99)
MASK = 2**64 - 1


def tokens(n, n_vocab):
    """SplitMix64 from 42, as tiny::tokens."""
    state, out = 42, []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        out.append((z ^ z >> 31) % n_vocab)
    return out


def fingerprint(data):
    """FNV-1a over eight bytes at a time, as tiny::fingerprint."""
    h = 0xCBF29CE484222325
    data += b"\0" * (-len(data) % 8)
    for (word,) in struct.iter_unpack("<Q", data):
        h = ((h ^ word) * 0x100000001B3) & MASK
    return f"{h:016x}"


def run(path, cache_type):
    """Logits of the compared tokens, or None when the model does not load."""
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        return None
    vocab = llama_cpp.llama_model_get_vocab(model)
    n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 256, 128, 128
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = cache_type
    params.flash_attn_type = 0
    ctx = llama_cpp.llama_init_from_model(model, params)
    ids = tokens(BATCH + SINGLE, n_vocab)
    rows = []

    def decode(ids, first, wanted):
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, first + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
        assert llama_cpp.llama_decode(ctx, batch) == 0
        for i in wanted:
            row = llama_cpp.llama_get_logits_ith(ctx, i)
            rows.append(np.ctypeslib.as_array(row, shape=(n_vocab,)).copy())
        llama_cpp.llama_batch_free(batch)

    decode(ids[:BATCH], 0, COMPARED)
    for i in range(BATCH, BATCH + SINGLE):
        decode(ids[i : i + 1], i, [0] if i + 1 == BATCH + SINGLE else [])
    llama_cpp.llama_free(ctx)
    llama_cpp.llama_model_free(model)
    return np.stack(rows).astype(np.float64)


def main():
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
        lambda level, text, data: None
    )
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    models = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.gguf")):
        if path.name.endswith(".twin.gguf"):
            continue
        twin = path.with_suffix(".twin.gguf")
        if path.stem in ("bamboo", "bitnet-b1.58", "llama-relu", "opt"):
            continue  # tiny_goldens_flax.py
        truth = run(twin, 0)
        assert truth is not None, twin
        own = run(path, 1)
        error = None
        if own is not None:
            error = float(f"{((own - truth) ** 2).sum() / (truth**2).sum():.3g}")
        print(f"{path.stem}: largest {abs(truth).max():.3g}, nmse {error}", file=sys.stderr)
        models[path.stem] = {
            "model": fingerprint(path.read_bytes()),
            "twin": fingerprint(twin.read_bytes()),
            "llama_cpp_nmse": error,
            "logits": [[float(f"{x:.6g}") for x in row] for row in truth],
        }
    # One row of logits per line.
    text = json.dumps({"origin": "llama.cpp of llama-cpp-python 0.3.36", "models": models})
    print(text.replace("], [", "],\n[").replace("}, ", "},\n"))


if __name__ == "__main__":
    main()
