#!/usr/bin/env python3
"""Compares what grammars cost in two libllama, interleaved.

    grammar.py --ours target/release/libpowerinfer.so --peer /folder/with/libllama.so.0 VOCAB.gguf...

One binary (grammar.c, llama.h only) runs alternately on either library, as in compare.py. A ratio
is the peer's time divided by ours, the median over the rounds. Fails when the two do not allow
the same tokens.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import compare
from compare import library_folder

KINDS = ["json", "schema", "list"]
TIMES = {
    "init_us": "make the sampler",
    "first_us": "first token",
    "token_us": "each other token",
    "again_us": "each token of the same text again",
}


def measure(binary, library, model, kind):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    return json.loads(compare.run(binary, model, kind, env=environment, capture_output=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--ours", required=True, help="libpowerinfer.so, or a folder as for --peer")
    parser.add_argument("--peer", required=True, help="a folder that holds libllama.so.0")
    parser.add_argument("--include", default=compare.ROOT / "include", help="where llama.h is")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    print(f"load average {os.getloadavg()[0]:.1f} before, {options.rounds} interleaved rounds, "
          f"microseconds, {compare.machine()['cpu']}\n")
    print("| vocabulary | tokens | grammar | what | ours | peer | peer/ours |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        libraries = {"ours": library_folder(options.ours, folder / "ours"),
                     "peer": library_folder(options.peer, folder / "peer")}
        binary = compare.build(folder, options.include, "grammar.c")
        for model in options.models:
            for kind in KINDS:
                runs = {"ours": [], "peer": []}
                for number in range(options.rounds):
                    for side in list(runs)[:: 1 if number % 2 == 0 else -1]:
                        runs[side].append(measure(binary, libraries[side], model, kind))
                if len({(r["allowed"], r["hash"]) for side in runs.values() for r in side}) != 1:
                    sys.exit(f"{model.name}, {kind}: the libraries do not allow the same tokens")
                for key, what in TIMES.items():
                    ours, peer = ([r[key] for r in runs[side]] for side in ("ours", "peer"))
                    ratio = statistics.median(p / max(o, 0.1) for o, p in zip(ours, peer))
                    print(f"| {model.name} | {runs['ours'][0]['vocab']} | {kind} | {what} "
                          f"| {statistics.median(ours):.1f} | {statistics.median(peer):.1f} | {ratio:.1f} |",
                          flush=True)


if __name__ == "__main__":
    main()
