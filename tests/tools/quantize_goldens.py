#!/usr/bin/env python3
"""Makes tests/data/quantize.json: what llama.cpp's `llama_model_quantize` does.

Usage: pip install llama-cpp-python numpy && python quantize_goldens.py
(made with llama-cpp-python 0.3.36)

- `models`: models without data, and for each part of a tensor's name the types that it gets, by file
  type: a code for each layer with a count, or `base` for the file type's own. `123` is file type 123,
  `123i` that with an importance matrix, `123n` without. Parts that keep F32 are left out. `fails` are
  the file types that are refused. From dry runs.
- `cases`: the same for other parameters.
- `files`: fingerprints of whole files that are made of the models of `sources`, whose numbers and
  importances are in `numbers` and `importances` below and in tests/quantize.rs.
"""

import ctypes
import json
import pathlib
import re
import struct
import tempfile

import numpy as np
from llama_cpp import llama_cpp as L

FTYPES = [0, 1, 2, 3, 7, 8, 9, *range(10, 33), 36, 37, 38, 40, 41]
TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10,
    "q3_K": 11, "q4_K": 12, "q5_K": 13, "q6_K": 14, "iq2_xxs": 16, "iq2_xs": 17, "iq3_xxs": 18,
    "iq1_s": 19, "iq4_nl": 20, "iq3_s": 21, "iq2_s": 22, "iq4_xs": 23, "iq1_m": 29, "bf16": 30,
    "tq1_0": 34, "tq2_0": 35, "mxfp4": 39, "nvfp4": 40, "q1_0": 41, "q2_0": 42,
}  # fmt: skip
NAMES = {v: k for k, v in TYPES.items()}
NO_TYPE = L.llama_model_quantize_default_params().output_tensor_type
OUT = pathlib.Path(__file__).parent / "../data/quantize.json"
MASK = 2**64 - 1


def model(arch, n_layer, tensors, layer, **keys):
    """Tensors beside the layers and of each layer: name without `.weight` and extents."""
    keys = {"block_count": n_layer, "context_length": 64, "embedding_length": 256, **keys}
    keys = {k.replace("__", "."): v for k, v in keys.items()}
    return {"arch": arch, "n_layer": n_layer, "keys": keys, "tensors": tensors, "layer": layer}


def llama(n=256, ff=512, kv=128, tied=False):
    out = [] if tied else [["output", [n, 64]]]
    return (
        [["token_embd", [n, 64]], ["output_norm", [n]], *out],
        [
            ["attn_norm", [n]], ["attn_q", [n, n]], ["attn_k", [n, kv]], ["attn_v", [n, kv]],
            ["attn_output", [n, n]], ["ffn_norm", [n]], ["ffn_gate", [n, ff]], ["ffn_up", [n, ff]],
            ["ffn_down", [ff, n]],
        ],
    )  # fmt: skip


def moe(n_expert, shared=False):
    top, layer = llama()
    layer = [t for t in layer if not t[0].startswith("ffn_") or t[0] == "ffn_norm"]
    layer += [
        ["ffn_gate_inp", [256, n_expert]], ["ffn_gate_exps", [256, 512, n_expert]],
        ["ffn_up_exps", [256, 512, n_expert]], ["ffn_down_exps", [512, 256, n_expert]],
    ]  # fmt: skip
    if shared:
        layer += [["ffn_gate_shexp", [256, 512]], ["ffn_down_shexp", [512, 256]]]
    return top, layer


RMS = {"attention__layer_norm_rms_epsilon": 1e-5}
LN = {"attention__layer_norm_epsilon": 1e-5}


def heads(n, kv):
    return {"attention__head_count": n, "attention__head_count_kv": kv, "feed_forward_length": 512}


FUSED = [
    ["attn_norm", [256]], ["attn_qkv", [256, 768]], ["attn_output", [256, 256]],
    ["ffn_up", [256, 512]], ["ffn_down", [512, 256]],
]  # fmt: skip
MODELS = {
    "llama": model("llama", 17, *llama(), **heads(4, 2), **RMS),
    "gqa-tied": model("llama", 12, *llama(tied=True), **heads(8, 2), **RMS),
    "rows-of-288": model("llama", 9, *llama(n=288, ff=768, tied=True), **heads(9, 3), **RMS),
    "rows-of-80": model("llama", 4, *llama(n=80, ff=176), **heads(5, 5), **RMS),
    "70b": model("llama", 80, *llama(), **heads(64, 8), **RMS),
    "qwen2-70b": model("qwen2", 80, *llama(), **heads(8, 8), **RMS),
    "eight-experts": model(
        "llama", 16, *moe(8), **heads(4, 4), expert_count=8, expert_used_count=2, **RMS
    ),
    "four-experts": model(
        "qwen2moe", 10, *moe(4, True), **heads(4, 4), expert_count=4, expert_used_count=2, **RMS
    ),
    "falcon": model(
        "falcon", 34, [["token_embd", [256, 64]], ["output", [256, 64]]], FUSED, **heads(4, 1), **LN
    ),
    "phi3": model(
        "phi3", 9, [["token_embd", [256, 64]], ["output", [256, 64]]], FUSED, **heads(4, 4), **RMS
    ),
    "gpt2": model(
        "gpt2", 6, [["token_embd", [256, 64]], ["position_embd", [256, 64]]], FUSED,
        **heads(4, 4), **LN
    ),
    "bert": model(
        "bert", 6,
        [["token_embd", [256, 64]], ["position_embd", [256, 64]], ["token_types", [256, 2]]],
        [*llama()[1][:5], ["attn_output_norm", [256]], *llama()[1][7:]],
        **heads(4, 4), attention__causal=False, **LN
    ),
    "mamba": model(
        "mamba", 8, [["token_embd", [256, 64]]],
        [["ssm_in", [256, 1024]], ["ssm_conv1d", [4, 512]], ["ssm_out", [512, 256]],
         ["ssm_x", [512, 48]], ["ssm_dt", [16, 512]]],
        ssm__conv_kernel=4, ssm__inner_size=512, ssm__state_size=16, ssm__time_step_rank=16, **RMS
    ),
    "gemma3n": model(
        "gemma3n", 10,
        [["token_embd", [256, 64]], ["per_layer_token_embd", [2560, 64]],
         ["per_layer_model_proj", [256, 2560]], ["altup_proj", [256, 256, 3]]],
        [*llama()[1], ["altup_router", [256, 4]], ["laurel_l", [256, 64]], ["inp_gate", [256, 256]]],
        **heads(4, 2), attention__sliding_window=16, **RMS
    ),
    "t5": model(
        "t5", 2,
        [["token_embd", [256, 64]], ["enc.blk.0.attn_v", [256, 256]], ["enc.blk.0.attn_rel_b", [4, 32]],
         ["enc.blk.1.attn_v", [256, 256]], ["enc.blk.0.ffn_down", [512, 256]],
         ["dec.blk.0.attn_v", [256, 256]], ["dec.blk.0.cross_attn_v", [256, 256]],
         ["dec.blk.1.ffn_down", [512, 256]], ["dec.blk.1.ffn_up", [256, 512]]], [],
        **heads(4, 4), attention__relative_buckets_count=32, **RMS
    ),
    "rwkv6": model(
        "rwkv6", 8, [["token_embd", [256, 64]], ["output", [256, 64]]],
        [["time_mix_w1", [256, 160]], ["time_mix_key", [256, 256]], ["time_mix_output", [256, 256]],
         ["time_mix_decay_w1", [256, 64]], ["channel_mix_key", [256, 512]],
         ["channel_mix_value", [512, 256]]],
        wkv__head_size=64, time_mix_extra_dim=32, time_decay_extra_dim=64, **LN
    ),
    "glm5-next": model(
        "glm5-next", 9, *(t + more for t, more in zip(moe(16), (
            [], [["attn_q_a", [256, 64]], ["attn_q_b", [64, 512]], ["nextn.eh_proj", [512, 256]],
                 ["attn_kv_a_mqa", [256, 64]], ["attn_k_b", [64, 64, 4]], ["hc_attn_fn", [1024, 24]],
                 ["indexer.proj", [256, 8]], ["ssm_beta", [256, 4]]]))),
        **heads(4, 1), expert_count=16, expert_used_count=2, attention__key_length_mla=64,
        attention__value_length_mla=64, attention__q_lora_rank=64, attention__kv_lora_rank=64,
        ssm__conv_kernel=4, kda__head_dim=64, expert_feed_forward_length=512, expert_shared_count=1,
        attention__indexer__head_count=2, attention__indexer__key_length=64,
        attention__indexer__top_k=8, attention__indexer__kpool=2, hyper_connection__count=4,
        hyper_connection__sinkhorn_iterations=2, hyper_connection__epsilon=1e-6, **RMS
    ),
    "bailingmoe3": model(
        "bailingmoe3", 9, *(t + more for t, more in zip(moe(16), (
            [], [["attn_k_b", [64, 64, 4]], ["attn_v_b", [64, 64, 4]]]))),
        **heads(4, 1), expert_count=16, expert_used_count=2, attention__key_length_mla=64,
        attention__value_length_mla=64, attention__kv_lora_rank=64, ssm__conv_kernel=4,
        kda__head_dim=64, kda__gate_lower_bound=-5.0, expert_feed_forward_length=512,
        expert_shared_count=1, leading_dense_block_count=1, expert_gating_func=2, **RMS
    ),
}  # fmt: skip
CASES = [
    {"model": "gemma3n", "ftype": 15, "embd": 8},
    {"model": "gemma3n", "ftype": 15, "embd": 8, "overrides": [["per_layer_token", 20]]},
    {"model": "gemma3n", "ftype": 1, "embd": 8, "overrides": [["per_layer_token", 20]]},
    {"model": "t5", "ftype": 15, "prune": [0]},
    {"model": "llama", "ftype": 15, "pure": True},
    {"model": "llama", "ftype": 15, "output": 8, "embd": 13},
    {"model": "gqa-tied", "ftype": 15, "output": 8},
    {"model": "gqa-tied", "ftype": 15, "embd": 2},
    {"model": "llama", "ftype": 15, "leave_output": True},
    {"model": "llama", "ftype": 15, "only_copy": True},
    {"model": "llama", "ftype": 15, "overrides": [["ffn_down", 8], ["blk\\.[0-3]\\.attn_", 1]]},
    {"model": "llama", "ftype": 1, "overrides": [["ffn_down", 8]]},
    {"model": "llama", "ftype": 12, "overrides": [["attn_v|token_embd", 20]], "embd": 14},
    {"model": "llama", "ftype": 15, "prune": [0, 3, 16]},
    {"model": "eight-experts", "ftype": 27, "prune": [1, 2]},
    {"model": "rows-of-288", "ftype": 7, "overrides": [["attn_q", 12], ["ffn_up", 40]], "fails": True},
    {"model": "rows-of-288", "ftype": 15, "overrides": [["attn_q", 18], ["ffn_up", 39]]},
]


def value(v):
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<IQ", 8, len(v)) + v.encode()
    return struct.pack("<IIQ", 9, 4, len(v)) + b"".join(struct.pack("<I", x) for x in v)


def write(path, keys, tensors, data):
    """A GGUF file; `tensors` are name, extents, type (F32 or F16); data is None for zeros."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for k, v in keys.items():
        out += struct.pack("<Q", len(k)) + k.encode() + (v if isinstance(v, bytes) else value(v))
    offset = 0
    offsets = []
    for name, dims, ty in tensors:
        out += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(dims))
        out += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", ty, offset)
        offsets.append(offset)
        offset += -(-int(np.prod(dims)) * (4 if ty == 0 else 2) // 32) * 32
    out += b"\0" * (-len(out) % 32)
    with open(path, "wb") as f:
        f.write(out)
        for at, bytes_ in zip(offsets, data or []):
            f.seek(len(out) + at)
            f.write(bytes_)
        f.truncate(len(out) + offset)


def all_tensors(m):
    """The model's tensors, the layers' in their order."""
    layers = [[f"blk.{i}.{n}", d] for i in range(m["n_layer"]) for n, d in m["layer"]]
    return [[f"{n}.weight", d, m.get("type", 0)] for n, d in m["tensors"] + layers]


def keys_of(m):
    own = {f"{m['arch']}.{k}": v for k, v in m["keys"].items()}
    return {"general.architecture": m["arch"], "general.file_type": 0, **own}


LOG = []


@L.llama_log_callback
def log(_level, text, _user):
    LOG.append(text.decode(errors="replace"))


L.llama_log_set(log, None)
KEEP = []


def quantize(source, target, ftype, imatrix=None, **o):
    p = L.llama_model_quantize_default_params()
    p.ftype, p.nthread = ftype, 2
    p.output_tensor_type, p.token_embedding_type = o.get("output", NO_TYPE), o.get("embd", NO_TYPE)
    p.pure, p.only_copy = o.get("pure", False), o.get("only_copy", False)
    p.quantize_output_tensor = not o.get("leave_output", False)
    p.dry_run, p.keep_split = o.get("dry_run", False), o.get("keep_split", False)
    p.allow_requantize = o.get("requantize", False)
    if imatrix is not None:
        entries = (L.llama_model_imatrix_data * (len(imatrix) + 1))()
        for e, (name, values) in zip(entries, imatrix.items()):
            data = (ctypes.c_float * len(values))(*values)
            e.name, e.data, e.size = name.encode(), data, len(values)
            KEEP.append(data)
        p.imatrix = entries
    if "overrides" in o:
        entries = (L.llama_model_tensor_override * (len(o["overrides"]) + 1))()
        for e, (pattern, ty) in zip(entries, o["overrides"]):
            e.pattern, e.type = pattern.encode(), ty
        p.tt_overrides = entries
    if "prune" in o:
        p.prune_layers = (ctypes.c_int32 * (len(o["prune"]) + 1))(*o["prune"], -1)
    if "kv" in o:
        entries = (L.llama_model_kv_override * (len(o["kv"]) + 1))()
        for e, (key, v) in zip(entries, o["kv"].items()):
            e.key = key.encode()
            if isinstance(v, bool):
                e.tag, e.value.val_bool = 2, v
            elif isinstance(v, int):
                e.tag, e.value.val_i64 = 0, v
            elif isinstance(v, float):
                e.tag, e.value.val_f64 = 1, v
            else:
                e.tag, e.value.val_str = 3, v.encode()
        p.kv_overrides = entries
    LOG.clear()
    return L.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(p))


LINE = re.compile(
    r"\[\s*\d+/\s*\d+\]\s+(\S+)\s+-\s+\[[^\]]*\], type =\s*(\w+), "
    r"size =\s+[\d.]+ MiB(?: ->\s+[\d.]+ MiB \((\w+)\))?"
)


def dry_run(source, ftype, **o):
    assert quantize(source, "none", ftype, dry_run=True, **o) == 0, "".join(LOG)[-2000:]
    return [[n, TYPES[new or old]] for n, old, new in LINE.findall("".join(LOG))]


BASE = dict(zip(FTYPES, [0, 1, 2, 3, 8, 6, 7, 10, 11, 11, 11, 12, 12, 13, 13, 14, 16, 17, 10, 21,
    18, 19, 20, 21, 21, 17, 22, 23, 29, 30, 34, 35, 39, 41, 42]))  # fmt: skip


def runs(types, base=None):
    if all(t == base for t in types):
        return "base"
    out = []
    for t in types:
        if out and out[-1][0] == t:
            out[-1][1] += 1
        else:
            out.append([t, 1])
    return " ".join(str(t) if n == 1 else f"{t}*{n}" for t, n in out)


def by_part(tensors):
    parts = {}
    for name, ty in tensors:
        parts.setdefault(re.sub(r"^blk\.\d+\.", "", name), []).append(ty)
    return parts


def table(source):
    """Types by part and file types, and file types that are refused."""
    results = {}
    for ftype in FTYPES:
        for suffix, imatrix in [("n", None), ("i", {"x": [1.0]})]:
            try:
                found = by_part(dry_run(source, ftype, imatrix=imatrix))
                found = {part: runs(types, BASE[ftype]) for part, types in found.items()}
            except AssertionError as e:
                assert "no tensor type fallback is defined" in str(e), e
                found = None
            results[ftype, suffix] = found
    parts, fails = {}, []
    for ftype in FTYPES:
        n, i = results[ftype, "n"], results[ftype, "i"]
        if n is None:
            assert i is None
            fails.append(str(ftype))
            continue
        for part in n:
            both = n[part] == i[part]
            named = {str(ftype): n[part]} if both else {f"{ftype}n": n[part], f"{ftype}i": i[part]}
            for key, types in named.items():
                parts.setdefault(part, {}).setdefault(types, []).append(key)
    kept = {p: {k: " ".join(v) for k, v in t.items()} for p, t in parts.items()}
    return {p: t for p, t in kept.items() if not re.fullmatch(r"0(\*\d+)?", max(t, key=lambda k: len(t[k])))}, " ".join(fails)


def numbers(seed, n, n_cols):
    """Sums of four 16-bit numbers of SplitMix64, wider in some rows: exact in F32."""
    i = np.arange(1, n + 1, dtype=np.uint64)
    z = np.uint64(seed) + i * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    parts = [(z >> np.uint64(s) & np.uint64(0xFFFF)).astype(np.int64) for s in (0, 16, 32, 48)]
    wide = 1 + (np.arange(n) // n_cols) % 7
    return ((sum(parts) - 131070) * wide).astype(np.float32) / np.float32(2**20)


def importances(seed, n):
    return np.abs(numbers(seed + 1000, n, n)) + np.float32(2**-10)


def fingerprint(path):
    """FNV-1a over eight bytes at a time, as tiny::fingerprint."""
    h, data = 0xCBF29CE484222325, pathlib.Path(path).read_bytes()
    data += b"\0" * (-len(data) % 8)
    for (word,) in struct.iter_unpack("<Q", data):
        h = ((h ^ word) * 0x100000001B3) & MASK
    return f"{h:016x}"


def small(n_expert):
    top, layer = moe(n_expert) if n_expert else llama()
    shrink = lambda ts: [[n, [d[0], *[min(x, 12) for x in d[1:2]], *d[2:]]] for n, d in ts]
    extra = {"expert_count": n_expert, "expert_used_count": 2} if n_expert else {}
    return model("llama", 2, shrink(top), shrink(layer), **heads(4, 2), **RMS, **extra)


SOURCES = {
    "f32": {**small(0), "type": 0},
    "f16-moe": {**small(3), "type": 1},
}
FILES = [
    *({"source": s, "ftype": f} for s in SOURCES for f in (0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 14, 15,
      17, 18, 25, 26, 27, 30, 32, 36, 37, 38, 40, 41)),
    *({"source": s, "ftype": f, "imatrix": True} for s in SOURCES for f in (2, 3, 8, 9, 10, 11, 12,
      15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31)),
    *({"source": "f32", "ftype": 2, "embd": ty, "output": ty} for ty in (22, 29)),
    {"source": "f32", "ftype": 7, "only_copy": True},
    {"source": "f32", "ftype": 15, "prune": [0]},
    {"source": "f32", "ftype": 15, "prune": [1], "imatrix": True},
    {"source": "f32", "ftype": 7, "overrides": [["ffn_", 40]]},
    {"source": "f32", "ftype": 3, "kv": {"a.b": -7, "a.c": 0.1, "a.d": True, "general.name": "x"}},
    {"source": "f32", "ftype": 2, "splits": 3, "keep_split": True},
    {"source": "f32", "ftype": 2, "splits": 3},
    {"source": "f32", "ftype": 2, "keep_split": True},
    {"source": "f32", "ftype": 2, "requantize": True, "through": 7},
    {"source": "f32", "ftype": 15, "requantize": True, "through": 18},
]  # fmt: skip


def write_source(folder, m, splits=1):
    tensors = all_tensors(m)
    data = []
    for i, (_, dims, ty) in enumerate(tensors):
        x = numbers(i, int(np.prod(dims)), dims[0])
        data.append(x.astype(np.float16 if ty == 1 else np.float32).tobytes())
    if splits == 1:
        write(folder / "in.gguf", keys_of(m), tensors, data)
        return folder / "in.gguf"
    paths = [folder / f"in-{i + 1:05}-of-{splits:05}.gguf" for i in range(splits)]
    for i, path in enumerate(paths):
        # Every third tensor, so that the order of the files is another one than that of names.
        of = slice(i, None, splits)
        keys = keys_of(m) if i == 0 else {}
        keys |= {
            "split.no": struct.pack("<IH", 2, i), "split.count": struct.pack("<IH", 2, splits),
            "split.tensors.count": struct.pack("<Ii", 5, len(tensors)),
        }  # fmt: skip
        write(path, keys, tensors[of], data[of])
    return paths[0]


def made(case):
    m = SOURCES[case["source"]]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source = write_source(folder, m, case.get("splits", 1))
        if "through" in case:
            assert quantize(source, folder / "between.gguf", case["through"]) == 0
            source = folder / "between.gguf"
        o = dict(case)
        if o.pop("imatrix", False):
            o["imatrix"] = {
                n: importances(i, d[0] * (d[2] if len(d) > 2 else 1)).tolist()
                for i, (n, d, _) in enumerate(all_tensors(m))
            }
        ftype, _ = o.pop("ftype"), o.pop("source")
        assert quantize(source, folder / "out", ftype, **o) == 0, (case, "".join(LOG)[-2000:])
        return [fingerprint(p) for p in sorted(folder.glob("out*"))]


def main():
    np.seterr(over="ignore")
    models, cases = {}, []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        for name, m in MODELS.items():
            write(path, keys_of(m), all_tensors(m), None)
            types, fails = table(path)
            models[name] = {**m, "types": types, "fails": fails}
            for case in CASES:
                if case["model"] != name:
                    continue
                o = {k: v for k, v in case.items() if k not in ("model", "ftype", "fails")}
                if case.get("fails"):
                    assert quantize(path, "none", case["ftype"], dry_run=True, **o) == 1
                    cases.append(case)
                else:
                    types = by_part(dry_run(path, case["ftype"], **o))
                    cases.append({**case, "types": {p: runs(t) for p, t in types.items()}})
    files = [{**case, "files": made(case)} for case in FILES]
    rows = lambda items: ",\n".join(json.dumps(x, separators=(",", ":")) for x in items)
    named = lambda d: ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in d.items())
    OUT.write_text(
        '{"made_by": "tests/tools/quantize_goldens.py with llama-cpp-python 0.3.36",\n'
        f'"models": {{\n{named(models)}\n}},\n"cases": [\n{rows(cases)}\n],\n'
        f'"sources": {{\n{named(SOURCES)}\n}},\n"files": [\n{rows(files)}\n]}}\n'
    )


main()
