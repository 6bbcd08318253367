#!/usr/bin/env python3
"""Makes gguf-all-types.gguf: every value type and some tensors, by the `gguf` package.

Usage: pip install gguf && python gen_gguf.py    (made with gguf 0.19.0)
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from gguf import GGUFWriter, quantize

here = pathlib.Path(__file__).parent
w = GGUFWriter(here / "gguf-all-types.gguf", "test")
w.add_description("made by tests/goldens/gen_gguf.py")
w.add_custom_alignment(64)
w.add_uint8("v.u8", 200)
w.add_int8("v.i8", -100)
w.add_uint16("v.u16", 60000)
w.add_int16("v.i16", -30000)
w.add_uint32("v.u32", 4000000000)
w.add_int32("v.i32", -2000000000)
w.add_float32("v.f32", 0.1)
w.add_bool("v.true", True)
w.add_bool("v.false", False)
w.add_string("v.str", "grüße 🦀")
w.add_uint64("v.u64", 2**64 - 1)
w.add_int64("v.i64", -(2**63))
w.add_float64("v.f64", 0.1)
for name, ty, items in [
    ("u8", V.UINT8, [0, 255]),
    ("i8", V.INT8, [-128, 127]),
    ("u16", V.UINT16, [65535]),
    ("i16", V.INT16, [-32768]),
    ("u32", V.UINT32, [1, 2, 3]),
    ("i32", V.INT32, [-1, 0, 1]),
    ("f32", V.FLOAT32, [1.5, -0.0]),
    ("bool", V.BOOL, [True, False, True]),
    ("str", V.STRING, ["a", "", "ß"]),
    ("u64", V.UINT64, [2**63]),
    ("i64", V.INT64, [-(2**62)]),
    ("f64", V.FLOAT64, [1e300]),
]:
    w.add_key_value(f"a.{name}", items, V.ARRAY, sub_type=ty)

rng = np.random.default_rng(7)
x = rng.standard_normal((3, 64)).astype(np.float32)
w.add_tensor("f32", x[0, :5])
w.add_tensor("f16", x[:, :2].astype(np.float16))
for ty in (T.BF16, T.Q4_0, T.Q4_1, T.Q8_0):
    w.add_tensor(ty.name.lower(), quantize(x, ty), raw_dtype=ty)
w.add_tensor("cube", np.arange(24, dtype=np.int32).reshape(1, 2, 3, 4))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
