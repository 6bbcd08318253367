#!/usr/bin/env python3
"""Compares two libllama on the same model files, interleaved.

    compare.py --ours target/release/libpowerinfer.so --peer /folder/with/libllama.so.0 MODEL...

One binary (bench.c, llama.h only) is built once and run alternately on either library, which
LD_LIBRARY_PATH chooses by the name libllama.so.0. A round runs every test on both, in turns: ours
first in even rounds, the peer first in odd ones, so that a machine that slows down or speeds up
does so for both. The ratio is the median of the rounds' own ratios. Absolute numbers belong to the
machine and the hour; the ratios are the result.

OURS.gguf=PEER.gguf compares a sparse model with its dense twin, which the peer runs;
--ours-env POWERINFER_SPARSE=exact and --peer-env set a variable for one side alone, so a library can
also be compared with itself.

Writes OUT.md and OUT.json (with CPU, flags, commit) and prints the table. Only the standard library
is needed, a C compiler and nm.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, text=True, **options)


def build(folder, include, source="bench.c"):
    """Builds the benchmark so that it asks for `libllama.so.0`, whoever provides it.

    A library that we linked for real would leave its own SONAME in the binary. So we link an empty
    stand-in of that name that has just the symbols the benchmark uses.
    """
    cc = os.environ.get("CC", "cc")
    compiled, binary = folder / "bench.o", folder / "bench"
    run(cc, "-std=c11", "-O2", "-Wall", "-Wextra", f"-I{include}", "-c", HERE / source,
        "-o", compiled)
    undefined = run("nm", "--undefined-only", "--format=posix", compiled, capture_output=True)
    names = [line.split()[0] for line in undefined.stdout.splitlines()]
    stand_in = folder / "stand_in.c"
    stand_in.write_text("".join(f"void {n}(void) {{}}\n" for n in names if n.startswith("llama_")))
    run(cc, "-w", "-shared", "-fPIC", "-Wl,-soname,libllama.so.0", stand_in,
        "-o", folder / "libllama.so")
    run(cc, compiled, "-o", binary, f"-L{folder}", "-lllama", "-lm")
    return binary


def library_folder(path, folder):
    """A folder that holds libllama.so.0: the given one, or a new one with a link to the file."""
    path = pathlib.Path(path).resolve()
    if path.is_dir():
        if not (path / "libllama.so.0").exists():
            sys.exit(f"{path} holds no libllama.so.0")
        return path
    if not path.exists():
        sys.exit(f"{path} does not exist")
    folder.mkdir()
    for name in ("libllama.so.0", "libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0"):
        (folder / name).symlink_to(path)
    return folder


def measure(binary, library, extra, model, threads, repetitions, test):
    environment = {**os.environ, **extra, "LD_LIBRARY_PATH": str(library)}
    done = run(binary, model, threads, repetitions, test, env=environment, capture_output=True)
    return json.loads(done.stdout)


def value(test, result):
    """What a table shows for a run: milliseconds for the time to first token, else tokens/s."""
    seconds = statistics.median(result["seconds"])
    return seconds * 1e3 if test.startswith("ttft") else result["tokens"] / seconds


def compare(options, binary, libraries, models):
    """All tests of one model, given for both sides: rows of (name, unit, ours, peer, ratio)."""
    model = models["ours"]
    runs = {test: {"ours": [], "peer": []} for test in options.tests}
    for number in range(options.rounds):
        order = ("ours", "peer") if number % 2 == 0 else ("peer", "ours")
        for test in options.tests:
            for side in order:
                result = measure(binary, libraries[side], dict(options.env[side]), models[side],
                                 options.threads, options.repetitions, test)
                runs[test][side].append(result)
                print(f"round {number + 1}/{options.rounds} {model.name} {test:7} {side}: "
                      f"{value(test, result):.1f}", file=sys.stderr, flush=True)
    rows = []
    for test, sides in runs.items():
        ours, peer = ([value(test, r) for r in sides[side]] for side in ("ours", "peer"))
        unit = "ms, less is better" if test.startswith("ttft") else "tokens/s"
        rows.append(row(test, unit, ours, peer))
    # Memory by the first test: a prompt, by default.
    first = runs[options.tests[0]]
    ours, peer = ([r["peak_rss_mib"] for r in first[side]] for side in ("ours", "peer"))
    rows.append(row(f"peak RSS of {options.tests[0]}", "MiB, less is better", ours, peer))
    return {"model": model.name, "peer_model": models["peer"].name, "file_mib": model.stat().st_size / 2**20,
            "kv_mib": first["ours"][0]["kv_mib"], "rows": rows, "runs": runs}


def row(name, unit, ours, peer):
    ratios = [a / b for a, b in zip(ours, peer)]
    return {"test": name, "unit": unit, "ours": statistics.median(ours),
            "peer": statistics.median(peer), "ratio": statistics.median(ratios),
            "ratio_min": min(ratios), "ratio_max": max(ratios)}


def machine():
    info = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, text = line.partition(":")
        info.setdefault(key.strip(), text.strip())
    flags = info.get("flags", info.get("Features", "")).split()
    kept = [f for f in flags if f.startswith(("avx", "fma", "f16c", "sse4", "asimd", "sve", "amx"))]
    return {"cpu": info.get("model name", platform.processor()), "cores": os.cpu_count(),
            "flags": kept}


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", ROOT, *arguments], text=True, capture_output=True,
                              check=False).stdout.strip()
    name = git("rev-parse", "--short", "HEAD") or "unknown"
    return name + (" with changes" if git("status", "--porcelain") else "")


def markdown(report):
    where = report["machine"]
    lines = [f"{report['date']}, commit {report['commit']}, {report['threads']} threads, "
             f"{report['rounds']} interleaved rounds, load average {report['load_average']:.1f} before",
             f"{where['cpu']}, {where['cores']} CPUs ({' '.join(where['flags'])})", ""]
    for side, env in report["env"].items():
        lines += [f"{side}: {' '.join('='.join(pair) for pair in env)}", ""] if env else []
    for model in report["models"]:
        twin = "" if model["peer_model"] == model["model"] else f"peer: {model['peer_model']}; "
        lines += [f"**{model['model']}** ({twin}{model['file_mib']:.1f} MiB; KV cache of the first test "
                  f"{model['kv_mib']:.1f} MiB)", "",
                  "| test | ours | peer | unit | ours/peer | range |", "|---|---|---|---|---|---|"]
        lines += [f"| {r['test']} | {r['ours']:.1f} | {r['peer']:.1f} | {r['unit']} "
                  f"| {r['ratio']:.2f} | {r['ratio_min']:.2f}–{r['ratio_max']:.2f} |"
                  for r in model["rows"]]
        lines.append("")
    return "\n".join(lines)


def sides(text):
    """The model of both sides from MODEL or OURS=PEER."""
    ours, _, peer = text.partition("=")
    models = {"ours": pathlib.Path(ours), "peer": pathlib.Path(peer or ours)}
    for model in models.values():
        if not model.exists():
            raise argparse.ArgumentTypeError(f"{model} does not exist")
    return models


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=sides, metavar="MODEL[=PEER_MODEL]")
    parser.add_argument("--ours", required=True, help="libpowerinfer.so, or a folder as for --peer")
    parser.add_argument("--peer", required=True, help="a folder that holds libllama.so.0")
    parser.add_argument("--include", default=ROOT / "include", help="where llama.h is")
    parser.add_argument("--tests", nargs="+", default=["pp512", "tg128", "b8x32", "ttft16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=2, help="of a test in one process")
    for side in ("ours", "peer"):
        parser.add_argument(f"--{side}-env", action="append", default=[], metavar="NAME=VALUE",
                            type=lambda text: tuple(text.split("=", 1)))
    parser.add_argument("--out", type=pathlib.Path, help="writes OUT.md and OUT.json")
    options = parser.parse_args()
    options.env = {"ours": options.ours_env, "peer": options.peer_env}

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        libraries = {"ours": library_folder(options.ours, folder / "ours"),
                     "peer": library_folder(options.peer, folder / "peer")}
        binary = build(folder, options.include)
        report = {"load_average": os.getloadavg()[0], "date": datetime.date.today().isoformat(), "commit": commit(),
                  "env": options.env, "machine": machine(), "threads": options.threads, "rounds": options.rounds,
                  "models": [compare(options, binary, libraries, m) for m in options.models]}

    table = markdown(report)
    print(table)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_name(options.out.name + ".md").write_text(table)
        options.out.with_name(options.out.name + ".json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
