#!/usr/bin/env python3
"""Makes quant.json: blocks and their numbers, both ways, by the `gguf` package.

Usage: pip install gguf && python gen_quant.py    (made with gguf 0.19.0)

For each type: `blocks` (hex) and the bits of the numbers that they stand for (`numbers`, hex of
little-endian f32), then the bits of other numbers (`input`) and what they are rounded to
(`output`). Numbers that are NaN match any NaN.
"""

import json
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as T
from gguf import dequantize, quantize

rng = np.random.default_rng(251)
np.seterr(all="ignore")


def painted(n):
    """A cycle whose length divides no block size: a mixed-up offset changes every value."""
    return (np.arange(n) % 251).astype(np.uint8)


def random_blocks(ty, n):
    """Random bytes, with scales that are ordinary, zero, subnormal, huge or no numbers."""
    size = GGML_QUANT_SIZES[ty][1]
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    if ty in (T.Q4_0, T.Q4_1, T.Q8_0):
        special = [0.0, -0.0, 6e-8, 65504.0, np.inf, -np.inf, np.nan]
        scales = np.concatenate([rng.standard_normal(n), special])[-n:].astype(np.float16)
        b[:, :2] = scales.view(np.uint8).reshape(n, 2)
        if ty == T.Q4_1:
            b[:, 2:4] = rng.permutation(scales[: n - 3].repeat(2))[:n].view(np.uint8).reshape(n, 2)
    return b.reshape(-1)


def inputs():
    rows = [
        ((np.arange(64) * 7 % 251).astype(np.float32) - 125) * np.float32(0.37),
        np.zeros(32),
        np.full(32, -3.25),
        np.full(32, 0.1),
        np.linspace(-8, 7.5, 32),  # ties in all formats
        np.arange(32) - 15.5,
        np.where(np.arange(32) == 17, 1000.0, 0.001),
        rng.standard_normal(32) * 1e-7,
        rng.standard_normal(32) * 1e-36,  # smaller ones overflow 1/d: undefined in the reference
        rng.standard_normal(32) * 3e6,  # scales beyond f16
        rng.standard_normal(32) * 0.02,
        rng.standard_normal(64),
        np.tile([127.0, -127.0, 0.5, -0.5], 8),
        np.where(np.arange(32) % 2, -1.0, 1.0),  # equal magnitudes: the first one counts
    ]
    return np.concatenate([np.asarray(r, dtype=np.float32).reshape(-1) for r in rows])


out = {"made_by": "tests/goldens/gen_quant.py with gguf 0.19.0", "types": {}}
for ty in (T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q8_0):
    size = GGML_QUANT_SIZES[ty][1]
    n = 12 if size > 4 else 64
    blocks = np.concatenate([painted(4 * size if size > 4 else 252), random_blocks(ty, n)])
    x = inputs()
    out["types"][ty.name.lower()] = {
        "blocks": blocks.tobytes().hex(),
        "numbers": dequantize(blocks, ty).astype("<f4").tobytes().hex(),
        "input": x.astype("<f4").tobytes().hex(),
        "output": quantize(x, ty).tobytes().hex(),
    }
path = pathlib.Path(__file__).parent / "quant.json"
path.write_text(json.dumps(out, indent=0) + "\n")
