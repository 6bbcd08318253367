#!/usr/bin/env python3
"""Makes tests/data/tiny_flax.json: logits of PowerInfer's own architectures and activations,
which llama.cpp does not have, on the tiny models of tests/common/tiny_archs.rs.

Needs gguf, transformers 4.48.3, flax 0.10.2 and jax 0.4.38:

    mkdir models-tiny
    TINY_MODELS=$PWD/models-tiny cargo test --test tiny_models write_models -- --ignored
    python tests/tools/tiny_goldens_flax.py models-tiny > tests/data/tiny_flax.json

`opt` is FlaxOPTForCausalLM, `llama-relu` FlaxMistralForCausalLM with ReLU, `bamboo` the same with
ReLU on up too, `bitnet-b1.58` with squared ReLU and norms before the ways out. They get the numbers
of each model's twin, in F32, and all tokens at once; the logits of the tokens that tiny_goldens.py
keeps are kept.
"""

import json
import pathlib
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from gguf import GGUFReader
from transformers import MistralConfig, OPTConfig
from transformers.models.mistral import modeling_flax_mistral as mistral
from transformers.models.opt import modeling_flax_opt as opt

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
    for word in np.frombuffer(data, "<u8"):
        h = ((h ^ int(word)) * 0x100000001B3) & MASK
    return f"{h:016x}"


class DoubleReluMLP(mistral.FlaxMistralMLP):
    def __call__(self, hidden_states):
        gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        return self.down_proj(jnp.maximum(gate, 0) * jnp.maximum(up, 0))


class SubNorm(nn.Module):
    eps: float

    @nn.compact
    def __call__(self, x):
        weight = self.param("weight", nn.initializers.ones, (x.shape[-1],))
        return weight * x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + self.eps)


class BitNetAttention(mistral.FlaxMistralAttention):
    def setup(self):
        super().setup()
        self.sub_norm = SubNorm(self.config.rms_norm_eps)

    def _merge_heads(self, hidden_states):
        return self.sub_norm(super()._merge_heads(hidden_states))


class BitNetMLP(mistral.FlaxMistralMLP):
    def setup(self):
        super().setup()
        self.sub_norm = SubNorm(self.config.rms_norm_eps)

    def __call__(self, hidden_states):
        gate, up = self.gate_proj(hidden_states), self.up_proj(hidden_states)
        return self.down_proj(self.sub_norm(jnp.maximum(gate, 0) ** 2 * up))


class File:
    """Keys and tensors of a GGUF file in the names and layouts of Flax."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.tensors = {t.name: np.array(t.data).reshape(t.shape[::-1]) for t in reader.tensors}
        self.key = lambda name: reader.fields[name].contents()
        self.arch = self.key("general.architecture")

    def __getitem__(self, name):
        return int(self.key(f"{self.arch}.{name}"))

    def vector(self, name):
        return self.tensors[name]

    def linear(self, name):
        """The kernel `[n_in, n_out]` and the bias, if there is one."""
        scale = self.tensors.get(f"{name}.scale", np.float32(1))
        params = {"kernel": self.tensors[f"{name}.weight"].T * scale}
        bias = self.tensors.get(f"{name}.bias")
        return params if bias is None else {**params, "bias": bias}

    def rotated(self, name, n_head):
        """Heads with neighbours as pairs become heads with halves as pairs."""
        weight = self.tensors[f"{name}.weight"]
        n_out, n_in = weight.shape
        heads = weight.reshape(n_head, n_out // n_head // 2, 2, n_in).swapaxes(1, 2)
        return {"kernel": heads.reshape(n_out, n_in).T}

    def layer_norm(self, name):
        return {"scale": self.tensors[f"{name}.weight"], "bias": self.tensors[f"{name}.bias"]}


def opt_logits(f, ids):
    config = OPTConfig(
        vocab_size=f.tensors["token_embd.weight"].shape[0],
        hidden_size=f["embedding_length"],
        num_hidden_layers=f["block_count"],
        ffn_dim=f["feed_forward_length"],
        max_position_embeddings=f["context_length"] - 2,
        num_attention_heads=f["attention.head_count"],
        word_embed_proj_dim=f["embedding_length"],
        activation_function="relu",
    )
    layers = {}
    for i in range(f["block_count"]):
        blk = f"blk.{i}."
        layers[str(i)] = {
            "self_attn_layer_norm": f.layer_norm(blk + "attn_norm"),
            "self_attn": {
                "q_proj": f.linear(blk + "attn_q"),
                "k_proj": f.linear(blk + "attn_k"),
                "v_proj": f.linear(blk + "attn_v"),
                "out_proj": f.linear(blk + "attn_output"),
            },
            "final_layer_norm": f.layer_norm(blk + "ffn_norm"),
            "fc1": f.linear(blk + "ffn_up"),
            "fc2": f.linear(blk + "ffn_down"),
        }
    decoder = {
        "embed_tokens": {"embedding": f.vector("token_embd.weight")},
        "embed_positions": {"embedding": f.vector("position_embd.weight")},
        "final_layer_norm": f.layer_norm("output_norm"),
        "layers": layers,
    }
    model = opt.FlaxOPTForCausalLM(config, _do_init=False)
    return model(ids, params={"model": {"decoder": decoder}}).logits


PLAIN = mistral.FlaxMistralAttention, mistral.FlaxMistralMLP


def mistral_logits(f, ids, attention, mlp, neighbours=True, sub_norms=False):
    mistral.FlaxMistralAttention, mistral.FlaxMistralMLP = attention, mlp
    n_head, n_head_kv = f["attention.head_count"], f["attention.head_count_kv"]
    config = MistralConfig(
        vocab_size=f.tensors["token_embd.weight"].shape[0],
        hidden_size=f["embedding_length"],
        num_hidden_layers=f["block_count"],
        intermediate_size=f["feed_forward_length"],
        max_position_embeddings=f["context_length"],
        num_attention_heads=n_head,
        num_key_value_heads=n_head_kv,
        rms_norm_eps=1e-5,
        sliding_window=f["context_length"],
        hidden_act="relu",
    )

    def rotated(name, n_head):
        return f.rotated(name, n_head) if neighbours else f.linear(name)

    def sub_norm(name):
        return {"sub_norm": {"weight": f.vector(f"{name}.weight")}} if sub_norms else {}

    layers = {}
    for i in range(f["block_count"]):
        blk = f"blk.{i}."
        layers[str(i)] = {
            "input_layernorm": {"weight": f.vector(blk + "attn_norm.weight")},
            "self_attn": {
                "q_proj": rotated(blk + "attn_q", n_head),
                "k_proj": rotated(blk + "attn_k", n_head_kv),
                "v_proj": f.linear(blk + "attn_v"),
                "o_proj": f.linear(blk + "attn_output"),
                **sub_norm(blk + "attn_sub_norm"),
            },
            "post_attention_layernorm": {"weight": f.vector(blk + "ffn_norm.weight")},
            "mlp": {
                "gate_proj": f.linear(blk + "ffn_gate"),
                "up_proj": f.linear(blk + "ffn_up"),
                "down_proj": f.linear(blk + "ffn_down"),
                **sub_norm(blk + "ffn_sub_norm"),
            },
        }
    params = {
        "model": {
            "embed_tokens": {"embedding": f.vector("token_embd.weight")},
            "layers": layers,
            "norm": {"weight": f.vector("output_norm.weight")},
        },
        "lm_head": f.linear("output" if "output.weight" in f.tensors else "token_embd"),
    }
    model = mistral.FlaxMistralForCausalLM(config, _do_init=False)
    return model(ids, params=params).logits


MODELS = {
    "bamboo": lambda f, ids: mistral_logits(f, ids, PLAIN[0], DoubleReluMLP),
    "bitnet-b1.58": lambda f, ids: mistral_logits(
        f, ids, BitNetAttention, BitNetMLP, neighbours=False, sub_norms=True
    ),
    "llama-relu": lambda f, ids: mistral_logits(f, ids, *PLAIN),
    "opt": opt_logits,
}


def main():
    models = {}
    for name, logits_of in MODELS.items():
        path = pathlib.Path(sys.argv[1]) / f"{name}.gguf"
        twin = path.with_suffix(".twin.gguf")
        f = File(twin)
        ids = tokens(BATCH + SINGLE, f.tensors["token_embd.weight"].shape[0])
        logits = np.array(logits_of(f, np.array([ids])))[0]
        rows = [logits[i] for i in (*COMPARED, BATCH + SINGLE - 1)]
        print(f"{name}: largest {abs(logits).max():.3g}", file=sys.stderr)
        models[name] = {
            "model": fingerprint(path.read_bytes()),
            "twin": fingerprint(twin.read_bytes()),
            "llama_cpp_nmse": None,
            "logits": [[float(f"{x:.6g}") for x in row] for row in rows],
        }
    # One row of logits per line.
    text = json.dumps({"origin": "transformers 4.48.3, Flax 0.10.2, F32", "models": models})
    print(text.replace("], [", "],\n[").replace("}, ", "},\n"))


main()
