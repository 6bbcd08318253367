#!/usr/bin/env python3
"""Makes tests/data/embeddings.json: llama.cpp's embeddings of tests/common/tiny_archs.rs.

Needs llama-cpp-python 0.3.36 with its own libllama and numpy:

    mkdir models-tiny
    TINY_MODELS=$PWD/models-tiny cargo test --test embedders write_models -- --ignored
    python tests/tools/embedding_goldens.py models-tiny > tests/data/embeddings.json

Each model's twin (the same numbers in F32) runs without flash attention in one thread: sequences of
1, 2, 17, 40 and 100 tokens in one batch, taking turns, with every way of pooling. Of each embedding
the first 16 elements are kept, without pooling those of tokens 0, 33 and 159. `llama_cpp_nmse` is
how far llama.cpp itself is from that, without pooling, on the model with its quantised weights.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp
import numpy as np
from tiny_goldens import fingerprint, tokens

LENGTHS, COMPARED, WIDTH = (1, 2, 17, 40, 100), (0, 33, 159), 16
POOLINGS = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}


def run(path, pooling, cache_type):
    """What a pooling gives, or None for scores of a model without classifier."""
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    assert model, path
    if pooling == 4 and b"cls" not in path.read_bytes():
        return None
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    # llama.cpp's mean wants a number that divides n_ubatch.
    params.n_seq_max, params.kv_unified = 8, True
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = cache_type
    params.flash_attn_type = 0
    params.embeddings, params.pooling_type = True, pooling
    ctx = llama_cpp.llama_init_from_model(model, params)
    places = [(s, p) for p in range(max(LENGTHS)) for s, n in enumerate(LENGTHS) if p < n]
    ids = tokens(len(places), 96)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, (token, (seq, pos)) in enumerate(zip(ids, places)):
        batch.token[i], batch.pos[i] = token, pos
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, seq, 1
    assert llama_cpp.llama_decode(ctx, batch) == 0
    if pooling == 0:
        rows, width = [llama_cpp.llama_get_embeddings_ith(ctx, i) for i in COMPARED], WIDTH
    else:
        rows = [llama_cpp.llama_get_embeddings_seq(ctx, s) for s in range(len(LENGTHS))]
        width = WIDTH
    if pooling == 4:
        width = llama_cpp.llama_model_n_cls_out(model)
    rows = np.stack([np.ctypeslib.as_array(row, shape=(width,)).copy() for row in rows])
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(ctx)
    llama_cpp.llama_model_free(model)
    return rows.astype(np.float64)


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
        truth = {name: run(twin, id, 0) for name, id in POOLINGS.items()}
        own = run(path, 0, 1)
        error = ((own - truth["none"]) ** 2).sum() / (truth["none"] ** 2).sum()
        print(f"{path.stem}: nmse {error:.3g}", file=sys.stderr)
        models[path.stem] = {
            "model": fingerprint(path.read_bytes()),
            "twin": fingerprint(twin.read_bytes()),
            "llama_cpp_nmse": float(f"{error:.3g}"),
            "embeddings": {
                name: [[float(f"{x:.8g}") for x in row] for row in rows]
                for name, rows in truth.items()
                if rows is not None
            },
        }
    # One embedding per line.
    text = json.dumps({"origin": "llama.cpp of llama-cpp-python 0.3.36", "models": models})
    print(text.replace("], [", "],\n[").replace("}, ", "},\n"))


if __name__ == "__main__":
    main()
