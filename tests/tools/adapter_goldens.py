#!/usr/bin/env python3
"""Makes tests/data/adapters.json: llama.cpp's logits of tiny models with adapters.

Needs llama-cpp-python 0.3.36 with its own libllama and numpy:

    mkdir models-adapters
    TINY_MODELS=$PWD/models-adapters cargo test --test adapters write_adapters -- --ignored
    python tests/tools/adapter_goldens.py models-adapters > tests/data/adapters.json

Each model's twin in F32 runs with F32 KV cache, without flash attention, in one thread: 24 tokens at
once, of which the last one's logits are kept, then 4 single tokens, of which the last one's are. The
runs are those of RUNS in tests/adapters.rs.
"""

import ctypes
import json
import pathlib
import sys

import llama_cpp
import numpy as np

from tiny_goldens import fingerprint, tokens

BATCH, SINGLE = 24, 4
RUNS = {
    "plain": ([], None),
    "one": ([(0, 1.0)], None),
    "two": ([(0, 0.75), (1, -0.5)], None),
    "control": ([(1, 0.5)], (1, 2)),
}


def decode(ctx, ids, first, n_vocab):
    """Logits of the last token."""
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i] = token, first + i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.logits[i] = int(i + 1 == len(ids))
    assert llama_cpp.llama_decode(ctx, batch) == 0
    row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(ctx, -1), shape=(n_vocab,)).copy()
    llama_cpp.llama_batch_free(batch)
    return row


def logits(ctx, n_vocab):
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), False)
    ids = tokens(BATCH + SINGLE, n_vocab)
    rows = [decode(ctx, ids[:BATCH], 0, n_vocab)]
    for i in range(BATCH, BATCH + SINGLE):
        last = decode(ctx, ids[i : i + 1], i, n_vocab)
    return np.stack([*rows, last])


def run(twin):
    stem = twin.name.removesuffix(".twin.gguf")
    model = llama_cpp.llama_model_load_from_file(
        str(twin).encode(), llama_cpp.llama_model_default_params()
    )
    assert model, twin
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    n_embd = llama_cpp.llama_model_n_embd(model)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 64, 64, 64
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = 0
    params.flash_attn_type = 0
    ctx = llama_cpp.llama_init_from_model(model, params)
    paths = [twin.with_name(f"{stem}.lora-{i}.gguf") for i in (0, 1)]
    loras = [llama_cpp.llama_adapter_lora_init(model, str(path).encode()) for path in paths]
    assert all(loras), stem
    control = np.fromfile(twin.with_name(f"{stem}.control.f32"), np.float32)
    golden = {"twin": fingerprint(twin.read_bytes())}
    for i, path in enumerate(paths):
        golden[f"lora-{i}"] = fingerprint(path.read_bytes())

    def set_up(added):
        wanted, layers = added
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * len(wanted))(
            *(loras[i] for i, _ in wanted)
        )
        scales = (ctypes.c_float * len(wanted))(*(scale for _, scale in wanted))
        assert llama_cpp.llama_set_adapters_lora(ctx, handles, len(wanted), scales) == 0
        data = control.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) if layers else None
        start, end = layers or (0, 0)
        size = control.size if layers else 0
        assert llama_cpp.llama_set_adapter_cvec(ctx, data, size, n_embd, start, end) == 0

    for name, added in RUNS.items():
        set_up(added)
        golden[name] = logits(ctx, n_vocab)
    set_up(RUNS["plain"])
    assert (logits(ctx, n_vocab) == golden["plain"]).all()
    changes = [abs(golden[name] - golden["plain"]).max() for name in RUNS]
    print(stem, *(f"{change:.3g}" for change in changes), file=sys.stderr)
    del golden["plain"]  # tiny_goldens.py has such runs
    for name in list(RUNS)[1:]:
        golden[name] = [[float(f"{x:.6g}") for x in row] for row in golden[name]]
    llama_cpp.llama_free(ctx)
    llama_cpp.llama_model_free(model)
    return stem, golden


def main():
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
        lambda level, text, data: None
    )
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    twins = sorted(pathlib.Path(sys.argv[1]).glob("*.twin.gguf"))
    models = dict(map(run, twins))
    # One row of logits per line.
    text = json.dumps({"origin": "llama.cpp of llama-cpp-python 0.3.36", "models": models})
    print(text.replace("], [", "],\n[").replace("}, ", "},\n"))


if __name__ == "__main__":
    main()
