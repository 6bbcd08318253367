#!/usr/bin/env python3
"""Makes quant_iq.json, and src/quant/iq/grids.bin if asked: the IQ types by other implementations.

Usage: pip install gguf && python gen_quant_iq.py LIBGGML_BASE [--grids]
(made with gguf 0.19.0 and libggml-base.so of llama-cpp-python 0.3.36, plain x86-64)

Per type:
- `decoded`: FNV-1a hashes over the bits of the numbers (f32 words, any NaN as 7fc00000) of each
  64 of 1024 blocks: 16 painted with a cycle of 251, the others of random bytes. Not stored, the
  test makes the same: see `painted` and `words`. Of blocks 16 to 64 the scale is an ordinary one,
  the others take theirs as it comes.
- `first`: the bits of the numbers of block 16, to see what is wrong when something is.
- `rounded`, `weighted` (IQ4 types): hashes of the bytes that `ggml_quantize_chunk` makes of each 4
  super-blocks of the numbers that `inputs` gives, without and with importance weights.
"""

import ctypes
import json
import pathlib
import sys

import gguf
import gguf.quants
import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as T

HERE = pathlib.Path(__file__).parent
np.seterr(all="ignore")


def fnv(words):
    h = 0xCBF29CE484222325
    for w in words.tolist():
        h = ((h ^ w) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def words(n, state):
    """A linear congruential generator's high 32 bits."""
    out = np.empty(n, dtype=np.uint32)
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out[i] = state >> 32
    return out


def blocks_of(ty):
    size = GGML_QUANT_SIZES[ty][1]
    n = 1024
    painted = (np.arange(16 * size) % 251).astype(np.uint8)
    random = (words((n - 16) * size, int(ty)) >> 24).astype(np.uint8)
    b = np.concatenate([painted, random]).reshape(n, size)
    for block in b[16:64]:
        if ty == T.IQ1_M:  # the half 0x2c5x: its nibbles lie at the tops of four words
            for at, nibble in ((51, 0x5), (53, 0xC), (55, 0x2)):
                block[at] = block[at] & 15 | nibble << 4
        else:
            block[1] = 0x2C
    return b


def bits(x):
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32))


def inputs(n):
    """Super-blocks: about normal at many magnitudes, then ones with many equal or zero numbers."""
    w = words(2 * n * 256, 77)
    quarters = w.view(np.uint8).astype(np.int32).reshape(-1, 8)
    bell = (quarters.sum(axis=1) - 1020).astype(np.float32).reshape(n, 256)
    for i in range(n):
        bell[i] *= np.float32(2.0 ** (i % 24 - 20))
        if i % 8 == 3:
            bell[i, 32:96] = 0
        if i % 8 == 5:
            bell[i] = np.sign(bell[i]) * np.float32(0.75)
        if i % 8 == 6:
            bell[i, 64:128] *= np.float32(2.0**-60)
        if i % 8 == 7:
            bell[i, ::5] *= 16
    bell[n - 1] = 0
    return bell.reshape(-1)


def importance(n):
    return (words(n, 99) >> 24).astype(np.float32) + np.float32(0.25)


def rounded(lib, ty, x, weights):
    rows = x.reshape(-1, 1024)
    out = np.zeros((len(rows), 1024 // GGML_QUANT_SIZES[ty][0] * GGML_QUANT_SIZES[ty][1]), np.uint8)
    ptr = lambda a: a.ctypes.data_as(ctypes.c_void_p)
    hashes = []
    for row, y in zip(rows, out):
        w = ptr(weights) if weights is not None else None
        size = lib.ggml_quantize_chunk(int(ty), ptr(row), ptr(y), 0, 1, 1024, w)
        assert size == len(y)
        hashes.append(fnv(y))
    return hashes


def write_grids():
    out = b""
    for name in ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"):
        codec = getattr(gguf.quants, name)
        codec.init_grid()
        points = codec.grid.reshape(codec.grid_shape)
        level = np.searchsorted(np.array(codec.grid_map), points).astype(np.uint16)
        width = 16 // codec.grid_shape[1]
        shifts = np.arange(codec.grid_shape[1], dtype=np.uint16) * width
        out += (level << shifts).sum(axis=1).astype("<u2").tobytes()
    (HERE / "../../src/quant/iq/grids.bin").write_bytes(out)


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    if "--grids" in sys.argv:
        write_grids()
    types = {}
    for name in "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS".split():
        ty = T[name]
        b = blocks_of(ty)
        y = bits(gguf.dequantize(b, ty)).reshape(len(b), -1)
        golden = {
            "decoded": [fnv(y[i : i + 64].reshape(-1)) for i in range(0, len(y), 64)],
            "first": y[16, :32].astype("<u4").tobytes().hex(),
        }
        if name.startswith("IQ4"):
            x = inputs(192)
            golden["rounded"] = rounded(lib, ty, x, None)
            golden["weighted"] = rounded(lib, ty, x, importance(1024))
        types[name.lower()] = golden
    made_by = "tests/goldens/gen_quant_iq.py with gguf 0.19.0, libggml-base of llama-cpp-python 0.3.36"
    (HERE / "quant_iq.json").write_text(json.dumps({"made_by": made_by, "types": types}, indent=0) + "\n")


main()
