#!/usr/bin/env python3
"""Makes tests/data/sampler/draws.json: the tokens that llama.cpp's samplers draw.

Needs what sampler_goldens.py needs:

    python tests/tools/sampler_draws.py > tests/data/sampler/draws.json

Every sampler, and chains as programs build them, with ten seeds of 1,000 draws each. Then a clone
is made, 100 more tokens come from it and 100 from the original, and 100 from the original after a
reset. Stored are a hash of each of these four runs, and the first tokens of the first seed.
"""

import ctypes
import json
import sys

import llama_cpp
import numpy as np
from sampler_goldens import I32, LIB, PTR, ROW, List, apply, accept, free, function, init
from sampler_goldens import chain_add, chain_init, logits

SEEDS = [0, 1, 2, 7, 42, 1337, 123456789, 2147483647, 2147483648, 4294967294]
DRAWS, MORE, BANK, SHOWN = 1000, 100, 16, 20  # BANK: how many arrays of logits take turns
SEED = "seed"  # in a chain: the seed of the run

clone = function("llama_sampler_clone", PTR, PTR)
reset = function("llama_sampler_reset", None, PTR)
get_seed = function("llama_sampler_get_seed", ctypes.c_uint32, PTR)

# Grammars tell the log of every token.
quiet = ctypes.CFUNCTYPE(None, I32, ctypes.c_char_p, PTR)(lambda *_: None)
function("llama_log_set", None, PTR, PTR)(ctypes.cast(quiet, PTR), None)


class Run:
    """Draws from made-up logits that take turns."""

    def __init__(self, kind, n):
        self.bank = np.zeros((BANK, n), dtype=ROW)
        for i in range(BANK):
            self.bank[i]["id"] = np.arange(n)
            self.bank[i]["logit"] = logits(kind, n, i)
        self.rows = np.zeros(n, dtype=ROW)

    def draw(self, smpl, steps):
        hashed, tokens = 0xCBF29CE484222325, []
        for step in steps:
            self.rows[:] = self.bank[step % BANK]
            cur = List(self.rows.ctypes.data, len(self.rows), -1, False)
            apply(smpl, ctypes.byref(cur))
            assert 0 <= cur.selected < cur.size
            token = I32.from_address(cur.data + cur.selected * ROW.itemsize).value
            accept(smpl, token)
            tokens.append(token)
            hashed = ((hashed ^ token) * 0x100000001B3) % 2**64
        return tokens, f"{hashed:016x}"


def run(kind, n, stages):
    bank, hashes, first, seeds = Run(kind, n), [], [], []
    for seed in SEEDS:
        smpl = chain_init(llama_cpp.llama_sampler_chain_default_params())
        for stage in stages:
            chain_add(smpl, init(*[seed if part == SEED else part for part in stage]))
        tokens, hashed = bank.draw(smpl, range(DRAWS))
        first = first or tokens[:SHOWN]
        seeds.append(get_seed(smpl))
        twin, later = clone(smpl), range(DRAWS, DRAWS + MORE)
        of_twin, of_original = bank.draw(twin, later)[1], bank.draw(smpl, later)[1]
        reset(smpl)
        again = bank.draw(smpl, range(MORE))[1]
        # The short runs are told apart by half a hash.
        hashes.append(" ".join([hashed, of_twin[:8], of_original[:8], again[:8]]))
        free(twin)
        free(smpl)
    case = {"logits": kind, "n": n, "chain": stages, "first": first, "hashes": hashes}
    if seeds != SEEDS:
        assert set(seeds) == {0xFFFFFFFF}
        case["seedless"] = True
    return case


def cases():
    dist = ["dist", SEED]
    for kind, n in [("normal", 32), ("ties", 300), ("masked", 1100), ("wide", 1100), ("huge", 64),
                    ("flat", 100), ("silent", 40), ("peaked", 1)]:
        yield kind, n, [dist]
    for kind, n in [("normal", 300), ("ties", 300), ("silent", 40)]:
        yield kind, n, [["greedy"]]
    # Every sampler that does not select, before one that does.
    for kind, n, stage in [
        ("ties", 300, ["top_k", 5]),
        ("ties", 300, ["top_k", 128]),
        ("ties", 1100, ["top_k", 129]),
        ("wide", 4096, ["top_k", 40]),
        ("huge", 64, ["top_k", 10]),
        ("silent", 40, ["top_k", 10]),
        ("normal", 300, ["top_p", 0.9, 1]),
        ("ties", 1100, ["top_p", 0.95, 1]),
        ("flat", 1100, ["top_p", 0.5, 1]),
        ("masked", 300, ["top_p", 0.3, 20]),
        ("normal", 300, ["min_p", 0.05, 1]),
        ("ties", 300, ["min_p", 0.3, 40]),
        ("masked", 300, ["min_p", 0.01, 0]),
        ("normal", 300, ["typical", 0.8, 1]),
        ("ties", 100, ["typical", 0.5, 10]),
        ("normal", 300, ["temp", 0.7]),
        ("ties", 300, ["temp", 1.9]),
        ("ties", 300, ["temp", 0.0]),
        ("huge", 64, ["temp", 0.1]),
        ("normal", 300, ["temp_ext", 0.8, 0.5, 1.0]),
        ("ties", 300, ["temp_ext", 1.2, 1.1, 2.0]),
        ("normal", 300, ["temp_ext", 0.6, 0.0, 1.0]),
        ("normal", 300, ["xtc", 0.5, 0.02, 1, SEED]),
        ("ties", 60, ["xtc", 0.3, 0.05, 3, SEED]),
        ("normal", 300, ["top_n_sigma", 1.0]),
        ("ties", 300, ["top_n_sigma", 2.0]),
        ("masked", 300, ["top_n_sigma", 1.5]),
        ("huge", 64, ["top_n_sigma", 1.0]),
        ("normal", 40, ["penalties", 40, 16, 1.3, 0.2, 0.1]),
        ("ties", 40, ["penalties", 40, 64, 1.0, 0.0, 1.5]),
        ("peaked", 40, ["penalties", 40, 1, 3.0, -0.5, 0.0]),
        ("peaked", 10, ["dry", 0.8, 1.75, 2, 64, []]),
        ("normal", 10, ["dry", 2.0, 1.5, 1, 40, ["&", "(%"]]),
        ("ties", 10, ["dry", 5.0, 1.1, 0, 1000, ["#$%"]]),
        ("normal", 60, ["logit_bias", 60, [[5, 2.5], [59, 4.0], [5, 1.0], [70, 9.0], [-1, 3.0]]]),
        ("ties", 60, ["logit_bias", 60, [[3, -3e38], [4, 5.0]]]),
        ("normal", 40, ["infill"]),
        ("ties", 40, ["infill"]),
        ("normal", 512, ["grammar", 'root ::= ([a-z]+ " ")+']),
        ("ties", 512, ["grammar", 'root ::= "[" item+\nitem ::= ("-"? [0-9]{1,3} | "a"+) ","']),
        ("normal", 300, ["grammar", ""]),
        ("normal", 512, ["grammar_lazy", 'root ::= "he" [a-z ]+', ["he"], []]),
        ("ties", 300, ["grammar_lazy_patterns", 'root ::= [A-Z] ([0-9A-Z] | ".")+', [], [33, 34]]),
        ("normal", 300,
         ["grammar_lazy_patterns", 'root ::= [ea] [^A-Z0-9!-/]*', ["[\\s\\S]*?([ea])[\\s\\S]*"], []]),
    ]:
        yield kind, n, [stage, dist]
    # The others that select.
    yield "normal", 300, [["mirostat", 300, SEED, 5.0, 0.1, 100]]
    yield "ties", 300, [["mirostat", 300, SEED, 2.0, 0.4, 10]]
    yield "wide", 300, [["mirostat", 300, SEED, 3.0, 0.2, 0]]
    yield "normal", 300, [["mirostat_v2", SEED, 5.0, 0.1]]
    yield "ties", 300, [["mirostat_v2", SEED, 2.0, 0.4]]
    yield "normal", 300, [["adaptive_p", 0.3, 0.9, SEED]]
    yield "ties", 300, [["adaptive_p", 0.05, 0.5, SEED]]
    yield "masked", 300, [["adaptive_p", -1.0, 0.9, SEED]]

    # Chains. The usual one of the common library, with everything in it turned on:
    usual = [["top_n_sigma", 2.0], ["top_k", 40], ["typical", 0.95, 1], ["top_p", 0.95, 1],
             ["min_p", 0.05, 1], ["xtc", 0.3, 0.1, 1, SEED], ["temp_ext", 0.8, 0.2, 1.0]]
    for kind in ["normal", "ties"]:
        bias, dry = ["logit_bias", 60, [[7, -2.0]]], ["dry", 0.8, 1.75, 2, 60, ["&", ":"]]
        penalties = ["penalties", 60, 64, 1.1, 0.1, 0.05]
        yield kind, 60, [bias, penalties, dry, *usual, dist]
        # With its defaults, where most are turned off:
        off = [["top_n_sigma", -1.0], ["top_k", 40], ["typical", 1.0, 0], ["top_p", 0.95, 0],
               ["min_p", 0.05, 0], ["xtc", 0.0, 0.1, 0, SEED], ["temp_ext", 0.8, 0.0, 1.0]]
        neutral = [["penalties", 300, 64, 1.0, 0.0, 0.0], ["dry", 0.0, 1.75, 2, 300, []]]
        yield kind, 300, [*neutral, *off, dist]
        # llama-cpp-python's:
        python = [["top_k", 40], ["typical", 1.0, 1], ["top_p", 0.95, 1], ["min_p", 0.05, 1],
                  ["temp", 0.8], dist]
        yield kind, 300, [["penalties", 300, 64, 1.1, 0.0, 0.0], *python]
        yield kind, 300, [["penalties", 300, 64, 1.0, 0.0, 0.0],
                          ["mirostat_v2", SEED, 5.0, 0.1]]
        # Ollama's:
        yield kind, 300, [["penalties", 300, 64, 1.1, 0.0, 0.0], ["top_k", 40],
                          ["typical", 1.0, 0], ["top_p", 0.9, 0], ["min_p", 0.0, 0],
                          ["temp", 0.8], dist]
        # Ends of other kinds, after a temperature:
        yield kind, 300, [["temp", 0.8], ["mirostat", 300, SEED, 5.0, 0.1, 100]]
        yield kind, 300, [["top_k", 100], ["temp", 1.5], ["mirostat_v2", SEED, 3.0, 0.2]]
        yield kind, 300, [["top_k", 100], ["min_p", 0.02, 1], ["adaptive_p", 0.2, 0.9, SEED]]
        # Orders that nobody expects: cut twice, biased when already in order, drawn twice.
        yield kind, 300, [["top_k", 100], ["temp", 0.9], ["top_k", 20], dist]
        yield kind, 300, [["top_k", 50], ["logit_bias", 300, [[9, 30.0], [200, 8.0], [31, -5.0]]],
                          ["top_k", 8], dist]
        yield kind, 300, [["top_k", 50], ["logit_bias", 300, [[9, 6.0], [17, 8.0]]],
                          ["top_p", 0.9, 1], ["min_p", 0.1, 1], dist]
        yield kind, 60, [["top_k", 40], ["penalties", 60, 16, 1.4, 0.0, 0.3], ["top_p", 0.8, 1],
                         dist]
        yield kind, 300, [["top_k", 60], ["adaptive_p", 0.1, 0.8, 3], ["top_k", 5], dist]
        yield kind, 300, [["temp", 0.0], ["top_p", 0.9, 1], ["typical", 0.9, 2], dist]
        yield kind, 300, [dist, ["top_k", 3], ["greedy"]]
        yield kind, 512, [["grammar", 'root ::= ([a-z]+ " ")+'], *usual, dist]
        yield kind, 512, [*usual[1:4], ["grammar", 'root ::= [^\\x00]*'], dist]
    yield "ties", 1100, [["penalties", 1100, 64, 1.1, 0.0, 0.0], ["top_k", 0], ["top_p", 0.9, 1],
                         dist]
    yield "normal", 1100, [["typical", 0.9, 1], ["top_k", 200], ["temp", 1.3], dist]


def main():
    lines = [json.dumps(run(*case), separators=(",", ":")) for case in cases()]
    origin = f"llama-cpp-python {llama_cpp.__version__}, tests/tools/sampler_draws.py"
    head = {"origin": origin, "seeds": SEEDS, "draws": DRAWS, "more": MORE, "bank": BANK}
    sys.stdout.write(json.dumps(head)[:-1] + ',"cases":[\n')
    sys.stdout.write(",\n".join(lines) + "\n]}\n")


main()
