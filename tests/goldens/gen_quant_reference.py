#!/usr/bin/env python3
"""Makes quant_reference.json, and src/quant/iq/grids.bin if asked: blocks by other implementations.

Usage: pip install gguf && python gen_quant_reference.py LIBGGML_BASE [--grids]
(made with gguf 0.19.0 and libggml-base.so of llama-cpp-python 0.3.36, plain x86-64)

Per type:
- `decoded`: FNV-1a hashes over the bits of the numbers (f32 words, any NaN as 7fc00000) of each
  64 of 1024 blocks: 16 painted with a cycle of 251, the others of random bytes. Not stored, the
  test makes the same: see `painted` and `words`. Of blocks 16 to 64 the scale is an ordinary one,
  the others take theirs as it comes.
- `first`: the bits of the numbers of block 16, to see what is wrong when something is.
- `rounded`, `weighted`: hashes of the bytes that `ggml_quantize_chunk` makes of each 4 super-blocks
  of the numbers that `inputs` gives, without and with importance weights.

Numbers come from the gguf package, and from libggml for the types that it does not know (Q8_K,
Q1_0, Q2_0). No implementation decodes Q8_1, which only holds activations: here it is done by its
definition. Where the gguf package can round, both have to give the same numbers (bytes may differ: in the
sign of a zero).
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


# Name: id, numbers in a block, bytes in a block, where an ordinary scale has which byte.
TYPES = {
    "Q4_0": (2, 32, 18, {1: 0x2C}),
    "Q4_1": (3, 32, 20, {1: 0x2C, 3: 0x2C}),
    "Q5_0": (6, 32, 22, {1: 0x2C}),
    "Q5_1": (7, 32, 24, {1: 0x2C, 3: 0x2C}),
    "Q8_0": (8, 32, 34, {1: 0x2C}),
    "Q8_1": (9, 32, 36, {1: 0x2C}),
    "Q2_K": (10, 256, 84, {81: 0x2C, 83: 0x2C}),
    "Q3_K": (11, 256, 110, {109: 0x2C}),
    "Q4_K": (12, 256, 144, {1: 0x2C, 3: 0x2C}),
    "Q5_K": (13, 256, 176, {1: 0x2C, 3: 0x2C}),
    "Q6_K": (14, 256, 210, {209: 0x2C}),
    "Q8_K": (15, 256, 292, {3: 0x3C}),
    "IQ2_XXS": (16, 256, 66, {1: 0x2C}),
    "IQ2_XS": (17, 256, 74, {1: 0x2C}),
    "IQ3_XXS": (18, 256, 98, {1: 0x2C}),
    "IQ1_S": (19, 256, 50, {1: 0x2C}),
    "IQ4_NL": (20, 32, 18, {1: 0x2C}),
    "IQ3_S": (21, 256, 110, {1: 0x2C}),
    "IQ2_S": (22, 256, 82, {1: 0x2C}),
    "IQ4_XS": (23, 256, 136, {1: 0x2C}),
    # The half 0x2c55: its nibbles lie at the tops of four words.
    "IQ1_M": (29, 256, 56, {49: 0x50, 51: 0x50, 53: 0xC0, 55: 0x20}),
    "TQ1_0": (34, 256, 54, {53: 0x2C}),
    "TQ2_0": (35, 256, 66, {65: 0x2C}),
    "MXFP4": (39, 32, 17, {0: 0x7A}),
    "NVFP4": (40, 64, 36, {}),
    "Q1_0": (41, 128, 18, {1: 0x2C}),
    "Q2_0": (42, 64, 18, {1: 0x2C}),
}
# The reference aborts without importance weights.
WEIGHTED_ONLY = {"IQ2_XXS", "IQ2_XS", "IQ1_S"}


def blocks_of(ty, size, scale):
    n = 1024
    painted = (np.arange(16 * size) % 251).astype(np.uint8)
    random = (words((n - 16) * size, ty) >> 24).astype(np.uint8)
    b = np.concatenate([painted, random]).reshape(n, size)
    for at, byte in scale.items():
        b[16:64, at] = byte
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
        if i % 8 == 1:
            bell[i] = np.abs(bell[i])
        if i % 8 == 2:
            bell[i] = -np.abs(bell[i]) - np.float32(2.0 ** (i % 24 - 20))
        if i % 8 == 3:
            bell[i, 32:96:2] = 0
            bell[i, 33:96:2] = -0.0
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


def ptr(a):
    return a.ctypes.data_as(ctypes.c_void_p)


def decoded(lib, name, b):
    ty, block_len, size, _ = TYPES[name]
    if name == "Q8_1":
        return b[:, :2].copy().view(np.float16).astype(np.float32) * b[:, 4:].view(np.int8)
    if name in ("Q8_K", "Q1_0", "Q2_0"):
        y = np.empty((len(b), block_len), np.float32)
        getattr(lib, "dequantize_row_" + c_name(name))(ptr(b), ptr(y), ctypes.c_int64(y.size))
        return y
    return gguf.dequantize(b, T[name]).reshape(len(b), block_len)


def c_name(name):
    return name.lower().replace("_k", "_K")


def rounded(lib, name, x, weights):
    ty, block_len, size, _ = TYPES[name]
    rows = x.reshape(-1, 1024)
    hashes = []
    for row in rows:
        y = np.zeros(1024 // block_len * size, np.uint8)
        w = ptr(weights) if weights is not None else None
        if name in ("Q8_1", "Q8_K"):
            ref = getattr(lib, f"quantize_row_{c_name(name)}_ref")
            ref(ptr(row), ptr(y), ctypes.c_int64(1024))
        else:
            assert lib.ggml_quantize_chunk(ty, ptr(row), ptr(y), 0, 1, 1024, w) == len(y)
        if weights is None and name in GGUF_ROUNDS:
            other = gguf.quantize(row, T[name])
            same = np.array_equal(gguf.dequantize(other, T[name]), gguf.dequantize(y, T[name]))
            assert same or (other == y).all(), name
        hashes.append(fnv(y))
    return hashes


GGUF_ROUNDS = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"}


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
    for name, (ty, block_len, size, scale) in TYPES.items():
        b = blocks_of(ty, size, scale)
        y = bits(decoded(lib, name, b))
        golden = {
            "decoded": [fnv(y[i : i + 64].reshape(-1)) for i in range(0, len(y), 64)],
            "first": y[16, :32].astype("<u4").tobytes().hex(),
        }
        x = inputs(96)
        if name not in WEIGHTED_ONLY:
            golden["rounded"] = rounded(lib, name, x, None)
        if name not in ("Q8_1", "Q8_K"):
            golden["weighted"] = rounded(lib, name, x, importance(1024))
        types[c_name(name)] = golden
    made_by = "tests/goldens/gen_quant_reference.py with gguf 0.19.0, libggml-base of llama-cpp-python 0.3.36"
    (HERE / "quant_reference.json").write_text(json.dumps({"made_by": made_by, "types": types}, indent=0) + "\n")


main()
