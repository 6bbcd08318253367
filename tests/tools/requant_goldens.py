#!/usr/bin/env python3
"""Makes tests/data/golden/requant-smollm2.json: SmolLM2 in other types, by llama.cpp.

Usage: pip install llama-cpp-python gguf &&
       python requant_goldens.py smollm2-135m-instruct-Q4_1.gguf [TYPE...]
(made with llama-cpp-python 0.3.36; with types, only their records are made again)

Each of FTYPES is made with `llama_model_quantize` from the Q4_1 file (through F32, without
importance weights). The types of OVERRIDES have no file type, or one for experts only: these
tensors of another file type get them. Recorded per type:
- `types`: how many tensors have which type, those of F32 left out;
- `data`: hash of the hashes (`fnv`) of these tensors' data, in the order of their names;
- `nll`: mean negative log-likelihoods of the second halves of N_CHUNKS chunks of 512 tokens of
  data/golden/text.txt.
"""

import ctypes
import json
import pathlib
import sys
import tempfile

import numpy as np
from llama_cpp import llama_cpp as L

N_CHUNKS = 8
FTYPES = {
    "Q8_0": 7, "Q6_K": 18, "Q5_1": 9, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_0": 8, "Q4_1": 3,
    "Q4_K_M": 15, "Q4_K_S": 14, "IQ4_NL": 25, "Q4_0": 2, "IQ4_XS": 30, "Q3_K_L": 13,
    "Q3_K_M": 12, "Q3_K_S": 11, "Q2_K": 10, "MXFP4": 7, "NVFP4": 7, "TQ2_0": 37,
    "TQ1_0": 36, "F16": 1, "BF16": 32,
}  # fmt: skip
OVERRIDES = {
    "MXFP4": ("blk.", 39),
    "NVFP4": ("blk.", 40),
}
HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / "../data/golden"
FILE = GOLDEN / "requant-smollm2.json"


def fnv(data):
    """FNV-1a in 1024 lanes of 64-bit little-endian words, then over the lanes."""
    words = np.frombuffer(data, dtype="<u8")
    lanes = np.full(1024, 0xCBF29CE484222325, dtype=np.uint64)
    pad = -len(words) % 1024
    for row in np.concatenate([words, np.zeros(pad, np.uint64)]).reshape(-1, 1024):
        lanes = (lanes ^ row) * np.uint64(0x100000001B3)
    h = 0xCBF29CE484222325
    for lane in lanes.tolist():
        h = ((h ^ lane) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def tensors(path):
    from gguf import GGUFReader

    out = []
    for t in GGUFReader(path).tensors:
        name = t.tensor_type.name.lower()
        if name != "f32":
            out.append([t.name, name, fnv(t.data.tobytes())])
    return sorted(out)


def nll(path):
    params = L.llama_model_default_params()
    model = L.llama_model_load_from_file(str(path).encode(), params)
    vocab = L.llama_model_get_vocab(model)
    text = (GOLDEN / "text.txt").read_bytes()
    tokens = (ctypes.c_int32 * len(text))()
    n = L.llama_tokenize(vocab, text, len(text), tokens, len(text), False, True)
    ctx_params = L.llama_context_default_params()
    ctx_params.n_ctx = ctx_params.n_batch = 1024
    ctx_params.n_threads = ctx_params.n_threads_batch = 2
    ctx = L.llama_init_from_model(model, ctx_params)
    n_vocab = L.llama_vocab_n_tokens(vocab)
    out = []
    batch = L.llama_batch_init(512, 0, 1)
    for c in range(N_CHUNKS):
        ids = tokens[512 * c : 512 * c + 512]
        assert n >= 512 * c + 512
        L.llama_memory_clear(L.llama_get_memory(ctx), True)
        batch.n_tokens = 512
        for i, id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = id, i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 256 <= i < 511
        assert L.llama_decode(ctx, batch) == 0
        total = 0.0
        for i in range(256, 511):
            x = np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), (n_vocab,)).astype(np.float64)
            total += np.log(np.exp(x - x.max()).sum()) + x.max() - x[ids[i + 1]]
        out.append(round(total / 255, 6))
    L.llama_batch_free(batch)
    L.llama_free(ctx)
    L.llama_model_free(model)
    return out


def quantize(source, target, name):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = FTYPES[name], True, 2
    if name in OVERRIDES:
        pattern, ty = OVERRIDES[name]
        overrides = (L.llama_model_tensor_override * 2)()
        overrides[0].pattern, overrides[0].type = pattern.encode(), ty
        params.tt_overrides = overrides
    result = L.llama_model_quantize(source.encode(), str(target).encode(), ctypes.byref(params))
    assert result == 0, name


def write(types):
    made_by = "tests/tools/requant_goldens.py with llama-cpp-python 0.3.36"
    rows = ",\n".join(f"{json.dumps(k)}: {json.dumps(types[k])}" for k in FTYPES if k in types)
    text = f'{{"made_by": {json.dumps(made_by)}, "types": {{\n{rows}\n}}}}\n'
    FILE.write_text(text)


def main():
    source, names = sys.argv[1], sys.argv[2:]
    types = json.loads(FILE.read_text())["types"] if names else {}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        for name in names or FTYPES:
            quantize(source, file, name)
            all_tensors = tensors(file)
            by_type = {}
            for _, ty, _ in all_tensors:
                by_type[ty] = by_type.get(ty, 0) + 1
            types[name] = {
                "ftype": FTYPES[name],
                "data": fnv(b"".join(bytes.fromhex(h) for _, _, h in all_tensors)),
                "types": by_type,
                "nll": nll(file),
            }
            write(types)


main()
