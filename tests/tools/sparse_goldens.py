#!/usr/bin/env python3
"""Makes tests/data/sparse.json: logits of the models of tests/common/tiny_sparse.rs by a forward
pass in numpy (float64), with the neurons that the predictors ask for and with all of them.

Needs numpy and gguf (0.17):

    mkdir models-tiny
    TINY_MODELS=$PWD/models-tiny cargo test --test sparse_golden write_models -- --ignored
    python tests/tools/sparse_goldens.py models-tiny > tests/data/sparse.json

What a sparse model of PowerInfer is (SJTU-IPADS/PowerInfer d3ebd7c): the predictor looks at the
residual stream, not normed, that the feed-forward network is about to be added to (falcon: at the
layer's input); neuron i is computed where `fc2 relu(fc1 x)` is not below the threshold; the others
add nothing, bias or not. `guessed` and `fired` are the numbers of neurons that were asked for and
that had a positive activation among those, per layer, over all tokens.
"""

import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np

N_TOKENS, COMPARED = 24, (7, 23)
# What two ways of rounding F32 must not turn.
MARGIN = 5e-6
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
    for word in np.frombuffer(data, "<u8"):
        h = ((h ^ int(word)) * 0x100000001B3) & MASK
    return f"{h:016x}"


class File:
    """Keys and tensors; matrices as [n_out, n_in] in float64."""

    def __init__(self, data):
        assert data[:4] in (b"GGUF", b"PWRI")
        with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
            f.write(b"GGUF" + data[4:])
            f.flush()
            reader = gguf.GGUFReader(f.name)
            self.keys = {k: v.contents() for k, v in reader.fields.items()}
            self.tensors = {
                t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
                for t in reader.tensors
            }
        self.arch = self.keys["general.architecture"]

    def key(self, name, default=None):
        return self.keys.get(f"{self.arch}.{name}", default)

    def linear(self, name, x):
        bias = self.tensors.get(f"{name}.bias", 0.0)
        return x @ self.tensors[f"{name}.weight"].T + bias

    def norm(self, name, x):
        if self.arch in ("falcon", "opt"):
            x = x - x.mean(-1, keepdims=True)
            eps = self.key("attention.layer_norm_epsilon")
        else:
            eps = self.key("attention.layer_norm_rms_epsilon")
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return x * self.tensors[f"{name}.weight"] + self.tensors.get(f"{name}.bias", 0.0)


def rotated(x, neox):
    """x: [token, head, dim]"""
    dim = x.shape[-1]
    angle = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    first = np.s_[..., : dim // 2] if neox else np.s_[..., 0::2]
    second = np.s_[..., dim // 2 :] if neox else np.s_[..., 1::2]
    out = np.empty_like(x)
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[first] * sin + x[second] * cos
    return out


def attention(f, il, x):
    n, n_embd = x.shape
    n_head, n_kv = f.key("attention.head_count"), f.key("attention.head_count_kv")
    dim = n_embd // n_head
    if f.arch == "falcon":
        qkv = f.linear(f"blk.{il}.attn_qkv", x)
        q, k, v = np.split(qkv, [n_embd, n_embd + n_kv * dim], axis=1)
    else:
        q, k, v = (f.linear(f"blk.{il}.attn_{part}", x) for part in "qkv")
    q, k, v = q.reshape(n, n_head, dim), k.reshape(n, n_kv, dim), v.reshape(n, n_kv, dim)
    if f.arch != "opt":
        q, k = rotated(q, f.arch == "falcon"), rotated(k, f.arch == "falcon")
    k, v = (np.repeat(a, n_head // n_kv, axis=1) for a in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(dim)
    scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", shares, v).reshape(n, n_embd)
    return f.linear(f"blk.{il}.attn_output", mixed)


class Network:
    """Feed-forward networks, and what they saw."""

    def __init__(self, f, predicted):
        self.f, self.predicted = f, predicted
        self.threshold = f.keys.get("powerinfer.sparse_threshold", 0.0)
        self.guessed, self.fired, self.share, self.margin = [], [], [], np.inf

    def __call__(self, il, x, seen):
        f, name = self.f, f"blk.{il}.ffn_"
        up = f.linear(name + "up", x)
        first = f.linear(name + "gate", x) if f.arch in ("llama", "bamboo") else up
        wanted = np.ones(first.shape, bool)
        if self.predicted:
            hidden = np.maximum(f.linear(f"blk.{il}.fc1", seen), 0)
            scores = f.linear(f"blk.{il}.fc2", hidden)
            wanted = scores >= self.threshold
            distance = abs(scores - self.threshold)
            # Where all of a small hidden layer is silent the score is 0, however one rounds.
            distance = distance[hidden.any(-1)]
            self.margin = min(self.margin, distance.min())
        fires = wanted & (first > 0)
        self.margin = min(self.margin, abs(first).min())
        self.guessed.append(int(wanted.sum()))
        self.fired.append(int(fires.sum()))
        self.share.append((first > 0).mean())
        h = np.where(fires, first, 0.0)
        if f.arch == "llama":
            h = h * up
        if f.arch == "bamboo":
            h = h * np.maximum(up, 0)
        if f"{name}down_t.weight" in f.tensors:
            return h @ f.tensors[f"{name}down_t.weight"] + f.tensors.get(f"{name}down_t.bias", 0.0)
        return f.linear(name + "down", h)


def logits(f, predicted):
    ids = tokens(N_TOKENS, len(f.keys["tokenizer.ggml.tokens"]))
    network = Network(f, predicted)
    x = f.tensors["token_embd.weight"][ids]
    if f.arch == "opt":
        x = x + f.tensors["position_embd.weight"][2 : 2 + len(ids)]
    for il in range(f.key("block_count")):
        if f.arch == "falcon":
            normed = f.norm(f"blk.{il}.attn_norm", x)
            own = f"blk.{il}.attn_norm_2"
            attn_in = f.norm(own, x) if f"{own}.weight" in f.tensors else normed
            x = x + attention(f, il, attn_in) + network(il, normed, x)
        else:
            x = x + attention(f, il, f.norm(f"blk.{il}.attn_norm", x))
            x = x + network(il, f.norm(f"blk.{il}.ffn_norm", x), x)
    output = f.tensors.get("output.weight", f.tensors["token_embd.weight"])
    rows = f.norm("output_norm", x) @ output.T
    return rows[list(COMPARED)], network


def numbers(rows):
    return [[float(f"{x:.6g}") for x in row] for row in rows]


def main():
    models = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.sparse.gguf")):
        data = path.read_bytes()
        name = path.name.removesuffix(".sparse.gguf")
        twin = path.with_name(f"{name}.twin.gguf").read_bytes()
        f = File(data)
        every, saw = logits(f, False)
        same, _ = logits(File(twin), False)
        assert ((every - same) ** 2).sum() < 1e-12 * (every**2).sum(), f"{name}: another twin"
        masked, saw_masked = logits(f, True)
        margin = min(saw.margin, saw_masked.margin)
        apart = ((every - masked) ** 2).sum() / (every**2).sum()
        n = N_TOKENS * f.key("feed_forward_length")
        print(
            f"{name}: largest {abs(every).max():.3g}, fire {np.round(saw.share, 2)}, asked for "
            f"{np.round(np.array(saw_masked.guessed) / n, 2)}, margin {margin:.1e}, "
            f"masked and all apart {apart:.2g}",
            file=sys.stderr,
        )
        assert margin > MARGIN and apart > 1e-3, f"{name}: another seed"
        models[name] = {
            "model": fingerprint(data),
            "twin": fingerprint(twin),
            "all": {"fired": saw.fired, "logits": numbers(every)},
            "predicted": {
                "guessed": saw_masked.guessed,
                "fired": saw_masked.fired,
                "logits": numbers(masked),
            },
        }
    # One row of logits per line.
    text = json.dumps({"origin": "numpy, tests/tools/sparse_goldens.py", "models": models})
    print(text.replace("], [", "],\n[").replace("}, ", "},\n"))


if __name__ == "__main__":
    main()
