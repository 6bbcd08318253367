#!/usr/bin/env python3
"""Builds programs of a llama.cpp source tree against an installed libpowerinfer, runs each on a model
and checks what it says. One line a program and a total; exit code 1 when one failed.

Called by `make compat SRC=tree`. The tree is not changed, and nothing of it is kept here.
What a right answer is was learned with SmolLM2-135M-Instruct, the model that make fetches."""

import argparse
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROMPT = "The capital of France is"
REPEATED = "One two three four five six. One two three four five six. One two three four"
N_LAYER, N_EMBD = 30, 576
# Seconds that a program may take.
TIMEOUT = 300


class Failed(Exception):
    """A check did not hold; its text says which."""


def check(holds, text):
    if not holds:
        raise Failed(text)


class Programs:
    """Runs built programs with a library."""

    def __init__(self, args):
        self.bin = args.build / "bin"
        self.model = args.model
        self.work = args.build / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.threads = str(args.threads)
        self.libraries = args.prefix / "lib/powerinfer/compat"
        if args.peer:
            # Programs ask for libpowerinfer.so.0; what answers is the other library.
            self.libraries = self.work / "peer"
            self.libraries.mkdir()
            for file in args.peer.iterdir():
                (self.libraries / file.name).symlink_to(file.resolve())
            (self.libraries / "libpowerinfer.so.0").symlink_to((args.peer / "libllama.so.0").resolve())
        self.text = self.work / "text.txt"
        shutil.copy(HERE.parent / "data/golden/text.txt", self.text)

    def run(self, name, *arguments, model=None, stdin="", threads=True):
        """What the program wrote to stdout and stderr."""
        command = [self.bin / name, "-m", model or self.model]
        command += ["-t", self.threads] if threads else []
        done = self.plain([*command, *arguments], stdin)
        return done.stdout, done.stderr

    def environment(self):
        path = f"{self.libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
        return {**os.environ, "LD_LIBRARY_PATH": path}

    def converse(self, name, *arguments, stdin, answer):
        """What a program that never ends by itself wrote, up to the answer."""
        command = [str(part) for part in (self.bin / name, "-m", self.model, "-t", self.threads, *arguments)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, errors="replace", cwd=self.work, env=self.environment())
        alarm = threading.Timer(TIMEOUT, child.kill)
        alarm.start()
        try:
            child.stdin.write(stdin)
            child.stdin.flush()
            said = ""
            for line in child.stdout:
                said += line
                if re.search(answer, said):
                    return said
            raise Failed("ended: " + " | ".join(said.splitlines()[-8:]))
        finally:
            alarm.cancel()
            child.kill()
            child.wait()

    def plain(self, command, stdin=""):
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            cwd=self.work,
            env=self.environment(),
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
            raise Failed(f"exit code {done.returncode}: " + " | ".join(said))
        return done

    def greedy(self, prompt, n):
        """The likeliest continuation, by the smallest program."""
        out, _ = self.run("llama-simple", "-n", str(n), prompt, threads=False)
        check(prompt in out, f"the prompt is not in {out!r}")
        return out.split(prompt, 1)[1].strip()


def simple(p):
    text = p.greedy(PROMPT, 16)
    check("Paris" in text, f"{PROMPT} {text!r}")
    return f"says: {first_line(text)}"


def simple_chat(p):
    out, _ = p.run("llama-simple-chat", "-c", "512", stdin="What is the capital of France?\n\n", threads=False)
    check("Paris" in out, f"{out!r}")
    return "the answer names Paris"


def completion(p):
    greedy = p.greedy(PROMPT, 24)
    out, _ = p.run("llama-completion", "-no-cnv", "--temp", "0", "-n", "24", "-p", PROMPT)
    check(PROMPT in out, f"{out!r}")
    text = out.split(PROMPT, 1)[1].replace("[end of text]", "").strip()
    check(text and greedy.startswith(text[:40]), f"{text!r}, the smallest program says {greedy!r}")
    return "the text of simple, at temperature 0"


def batched(p):
    out, err = p.run("llama-batched", "-p", "Hello my name is", "-n", "24", "-np", "4", "--seed", "1", "-kvu")
    sequences = re.findall(r"sequence (\d+):\s+(.*)", out + err)
    check(len(sequences) == 4, f"{len(sequences)} sequences of 4")
    check(all(text.startswith("Hello my name is") and len(text) > 20 for _, text in sequences), f"{sequences}")
    return "4 sequences from one prompt"


def parallel(p):
    out, err = p.run("llama-parallel", "-np", "3", "-ns", "6", "-n", "16", "-c", "2048", "--seed", "1")
    said = out + err
    answers = re.findall(r"Response:\s*(?:\x1b\[0m)?\s*(\S)", said)
    total = re.search(r"Total gen tokens:\s+(\d+)", said)
    misses = re.search(r"Cache misses:\s+(\d+)", said)
    check(len(answers) == 6, f"{len(answers)} answers of 6")
    check(total and int(total[1]) > 6, "no tokens were counted")
    check(misses and int(misses[1]) == 0, "the cache was too small")
    return f"6 requests of 3 clients, {total[1]} tokens"


def embedding(p):
    texts = ["The cat sits on the mat.", "A cat is sitting on a mat.", "Stock prices fell sharply."]
    out, _ = p.run("llama-embedding", "--pooling", "mean", "--embd-output-format", "array",
                   "--embd-separator", "<#sep#>", "-p", "<#sep#>".join(texts))
    rows = json.loads(out[out.index("["):])
    check(len(rows) == 3 and all(len(row) == N_EMBD for row in rows), "not 3 rows of n_embd numbers")
    check(all(abs(math.hypot(*row) - 1) < 1e-3 for row in rows), "the rows have not length 1")
    near, far = (sum(a * b for a, b in zip(rows[0], rows[i])) for i in (1, 2))
    check(near > far, f"like texts are {near:.3f} alike, unlike ones {far:.3f}")
    return f"3 rows of {N_EMBD}; like texts {near:.2f}, unlike ones {far:.2f}"


def retrieval(p):
    passages = ["Whales are the largest animals that live in the sea.",
                "The violin has four strings and is played with a bow.",
                "Bread is baked from flour, water, salt and yeast."]
    file = p.work / "passages.txt"
    # The program reads whole blocks of 1024 bytes.
    file.write_text(("\n".join(passages) + "\n").ljust(1024))
    # Asked often enough that what the program holds back is more than its buffer.
    said = p.converse("llama-retrieval", "--context-file", file, "--chunk-size", "10", "--chunk-separator", "\n",
                      "--pooling", "mean", "--top-k", "3", stdin=(passages[1] + "\n") * 64, answer=r"(?s)(similarity: .*?\n){3}")
    found = re.findall(r"textdata:\s*\n(.*)", said)
    scores = [float(x) for x in re.findall(r"similarity: (-?[\d.]+)", said)]
    check(len(scores) == 3 and scores == sorted(scores, reverse=True), f"scores {scores}")
    check(found and found[0].strip() == passages[1], f"found {found}")
    return f"finds the passage asked for ({scores[0]:.2f}, then {scores[1]:.2f})"


def passkey(p):
    out, err = p.run("llama-passkey", "--junk", "20", "-c", "2048", "--seed", "1")
    key = re.search(r"passkey = (\d+)", out + err)
    check(key and key[1] in out, f"the key {key and key[1]} is not in {out!r}")
    return f"finds the key {key[1]}"


def lookup(p):
    greedy = p.greedy(REPEATED, 24)
    out, err = p.run("llama-lookup", "-p", REPEATED, "-n", "24", "--temp", "0", "--spec-draft-n-max", "4", "--color", "off")
    accepted = re.search(r"n_accept\s+= (\d+)", out + err)
    check(accepted and int(accepted[1]) > 0, "no draft was accepted")
    check_same_text(out, greedy)
    return f"{accepted[1]} drafted tokens accepted, the text is that without drafts"


def check_same_text(out, greedy):
    """Drafts change nothing. The programs end a little sooner or later."""
    text = re.sub(r"\x1b\[[\d;]*m", "", out).split(REPEATED, 1)[1].strip()
    text = text.removesuffix("<|im_end|>").strip()
    same = text.startswith(greedy) or greedy.startswith(text)
    check(len(text) > 20 and same, f"{text!r}, without drafts {greedy!r}")


def speculative_simple(p):
    greedy = p.greedy(REPEATED, 24)
    out, err = p.run("llama-speculative-simple", "-md", p.model, "--spec-type", "draft-simple", "-p", REPEATED, "-n", "24", "--temp", "0",
                     "--spec-draft-n-max", "4", "--color", "off")
    rate = re.search(r"accept\s+= ([\d.]+)%", out + err)
    check(rate and float(rate[1]) > 60, f"of the drafts of the same model {rate and rate[1]} % were accepted")
    check_same_text(out, greedy)
    return f"{rate[1]} % of a draft model's tokens accepted, the text is that without drafts"


def eval_callback(p):
    out, err = p.run("llama-eval-callback", "-p", "Once upon a time there was a", "--seed", "1")
    nodes = re.findall(r"common_debug_cb_eval:\s+(.+?) = \((\w+)\)\s+(\w+)\((.*?)\{.*?\}, .*?\) = \{(.*?)\}", out + err)
    products = [weight for _, _, op, weight, _ in nodes if op == "MUL_MAT"]
    expected = [f"blk.{il}.{part}.weight" for il in range(N_LAYER)
                for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")]
    missing = set(expected) - set(products)
    check(not missing, f"{len(missing)} products were not seen, among them {sorted(missing)[:3]}")
    names = {name.strip() for name, *_ in nodes}
    for name in ("embd", "attn_norm-0", "Qcur-0", "kqv_out-0", "attn_out-0", "ffn_inp-0", "ffn_norm-0", "ffn_swiglu-0",
                 "ffn_out-0", "l_out-0", "result_norm", "result_output"):
        check(name in names, f"no node {name}")
    sums = re.findall(r"sum = (\S+)", out + err)
    check(len(sums) == len(nodes) and all(math.isfinite(float(s)) for s in sums), "sums are not finite")
    return f"{len(nodes)} nodes, all {len(expected) + 1} products among them"


def llama_bench(p):
    out, _ = p.run("llama-bench", "-p", "32", "-n", "8", "-r", "1", "-o", "json")
    rows = json.loads(out)
    check(len(rows) == 2 and all(row["avg_ts"] > 0 for row in rows), "no speeds")
    table, _ = p.run("llama-bench", "-p", "16", "-n", "0", "-r", "1")
    check("t/s" in table and "pp16" in table, f"no table: {table!r}")
    return f"pp32 {rows[0]['avg_ts']:.0f} t/s, tg8 {rows[1]['avg_ts']:.0f} t/s"


def perplexity(p):
    out, err = p.run("llama-perplexity", "-f", p.text, "-c", "256", "--chunks", "4")
    found = re.search(r"Final estimate: PPL = ([\d.]+)", out + err)
    check(found, "no estimate")
    ours, known = float(found[1]), KNOWN_PERPLEXITY
    check(abs(ours / known - 1) < 0.02, f"{ours}, llama.cpp says {known}")
    return f"{ours} (llama.cpp: {known})"


def tokenize(p):
    out, _ = p.run("llama-tokenize", "--ids", "--log-disable", "-p", "Hello world, 12 times!", threads=False)
    ids = json.loads(out)
    check(ids == KNOWN_IDS, f"{ids}, not {KNOWN_IDS}")
    return f"{len(ids)} ids as known"


def quantize(p):
    small = p.work / "q8_0.gguf"
    p.plain([p.bin / "llama-quantize", "--allow-requantize", p.model, small, "Q8_0", p.threads])
    out, _ = p.run("llama-simple", "-n", "12", PROMPT, model=small, threads=False)
    check("Paris" in out, f"{out!r}")
    return f"Q8_0 of {small.stat().st_size >> 20} MiB, which simple loads"


def imatrix(p):
    file = p.work / "imatrix.gguf"
    p.run("llama-imatrix", "-f", p.text, "-c", "128", "--chunks", "3", "-o", file)
    entries = imatrix_entries(file)
    check(len(entries) == 7 * N_LAYER, f"{len(entries)} entries of {7 * N_LAYER}")
    for name, (counts, sums) in entries.items():
        check(all(math.isfinite(x) and x >= 0 for x in sums) and sum(sums) > 0, f"sums of {name}")
        check(counts == [3 * 128], f"{name} was counted {counts}")
    means = {name: sum(sums) / len(sums) / counts[0] for name, (counts, sums) in entries.items()}
    for name, known in KNOWN_MEANS.items():
        check(abs(means[name] / known - 1) < 0.03, f"{name}: mean square {means[name]:.5g}, llama.cpp's {known}")
    small = p.work / "with-imatrix.gguf"
    p.plain([p.bin / "llama-quantize", "--allow-requantize", "--imatrix", file, p.model, small, "Q4_0", p.threads])
    return f"{len(entries)} entries of {3 * 128} tokens, means as llama.cpp's; quantize takes it"


def batched_bench(p):
    out, err = p.run("llama-batched-bench", "-c", "512", "-npp", "16", "-ntg", "8", "-npl", "1,2")
    rows = re.findall(r"^\|\s+16 \|\s+8 \|\s+(\d) \|.*\|\s+([\d.]+) \|$", out + err, re.M)
    check([row[0] for row in rows] == ["1", "2"] and all(float(row[1]) > 0 for row in rows), f"rows {rows}")
    return f"1 and 2 sequences: {rows[0][1]} and {rows[1][1]} t/s"


# What llama.cpp 0c1e57098 says itself (`--peer`).
KNOWN_PERPLEXITY = 4.8138
KNOWN_IDS = [19556, 905, 28, 216, 33, 34, 1711, 17]
KNOWN_MEANS = {
    "blk.0.attn_q.weight": 0.0021785,
    "blk.0.ffn_down.weight": 0.027539,
    "blk.5.attn_output.weight": 0.024646,
    "blk.14.ffn_gate.weight": 0.018763,
    "blk.20.ffn_down.weight": 0.15656,
    "blk.29.attn_output.weight": 0.57581,
    "blk.29.ffn_up.weight": 0.17026,
    "blk.29.ffn_down.weight": 12.827,
}

PROGRAMS = {
    "simple": simple,
    "simple-chat": simple_chat,
    "batched": batched,
    "parallel": parallel,
    "embedding": embedding,
    "retrieval": retrieval,
    "passkey": passkey,
    "lookup": lookup,
    "speculative-simple": speculative_simple,
    "eval-callback": eval_callback,
    "llama-bench": llama_bench,
    "perplexity": perplexity,
    "tokenize": tokenize,
    "quantize": quantize,
    "imatrix": imatrix,
    "completion": completion,
    "batched-bench": batched_bench,
}


def target(name):
    return name if name.startswith("llama-") else f"llama-{name}"


def first_line(text):
    return text.splitlines()[0][:60] if text else ""


def imatrix_entries(path):
    """Counts and sums of squares by weight, of an importance matrix in GGUF."""
    data, at = path.read_bytes(), 0

    def read(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def text():
        nonlocal at
        n = read("Q")
        at += n
        return data[at - n:at].decode()

    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner = read("I")
            return [value(inner) for _ in range(read("Q"))]
        return read(sizes[kind])

    check(read("4s") == b"GGUF" and read("I") == 3, "no GGUF file of version 3")
    n_tensors, n_keys = read("Q"), read("Q")
    keys = {}
    for _ in range(n_keys):
        name = text()
        keys[name] = value(read("I"))
    tensors = {}
    for _ in range(n_tensors):
        name = text()
        dims = [read("Q") for _ in range(read("I"))]
        kind, offset = read("I"), read("Q")
        check(kind == 0, f"{name} is not F32")
        tensors[name] = (math.prod(dims), offset)
    align = keys.get("general.alignment", 32)
    start = -(-at // align) * align
    numbers = {name: list(struct.unpack_from(f"<{n}f", data, start + offset)) for name, (n, offset) in tensors.items()}
    suffix = ".in_sum2"
    weights = [name.removesuffix(suffix) for name in numbers if name.endswith(suffix)]
    return {name: (numbers[name + ".counts"], numbers[name + suffix]) for name in weights}


def build(args, names):
    """Builds the programs; those that could be built, and the output for the others."""
    configure = ["cmake", "-S", HERE, "-B", args.build, "-G", "Ninja", f"-DSRC={args.src}",
                 f"-DCMAKE_PREFIX_PATH={args.prefix / 'lib/powerinfer/compat'}",
                 f"-DCOMMON={args.common or ''}", f"-DPROGRAMS={';'.join(PROGRAMS)}"]
    subprocess.run([str(part) for part in configure], check=True, stdout=subprocess.DEVNULL)
    targets = [target(name) for name in names]
    ninja = ["ninja", "-C", str(args.build)]
    built = subprocess.run([*ninja, f"-j{args.jobs}", "-k", "0", *targets], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        print(built.stdout)
    done = lambda name: "no work to do" in subprocess.run([*ninja, "-n", target(name)], capture_output=True, text=True).stdout
    return [name for name in names if done(name)]


def tree_headers_read(args):
    """Public headers of the tree that a compiler read in place of ours: there must be none."""
    deps = subprocess.run(["ninja", "-C", str(args.build), "-t", "deps"], capture_output=True, text=True).stdout
    read = {Path(os.path.normpath(args.build / line.strip())) for line in deps.splitlines() if line.startswith("    ")}
    ours = args.prefix / "include/powerinfer"
    check(any(ours in file.parents for file in read), f"no header of {ours} was read")
    theirs = [args.src / "include", args.src / "ggml/include"]
    return sorted(str(file) for file in read if any(folder in file.parents for folder in theirs))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--src", type=Path, required=True, help="llama.cpp source tree")
    parser.add_argument("--prefix", type=Path, required=True, help="where libpowerinfer is installed")
    parser.add_argument("--build", type=Path, required=True, help="folder to build in")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--common", type=Path, help="folder with a finished libllama-common, to build less")
    parser.add_argument("--peer", type=Path, help="run on the libllama.so.0 of this folder instead")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="PROGRAM")
    args = parser.parse_args()
    for name in ("src", "prefix", "build", "model", "common", "peer"):
        if getattr(args, name):
            setattr(args, name, getattr(args, name).resolve())
    if args.common:
        os.environ["LD_LIBRARY_PATH"] = f"{args.common}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")

    built = build(args, args.only)
    failures = len(args.only) - len(built)
    theirs = tree_headers_read(args)
    if theirs:
        failures += 1
        print(f"FAILED  the tree's own headers were read: {', '.join(theirs)}")
    programs = Programs(args)
    n_passed = 0
    for name in args.only:
        if name not in built:
            print(f"FAILED  {target(name):24} not built")
            continue
        try:
            print(f"ok      {target(name):24} built, ran: {PROGRAMS[name](programs)}", flush=True)
            n_passed += 1
        except (Failed, subprocess.TimeoutExpired, ValueError, LookupError) as error:
            failures += 1
            print(f"FAILED  {target(name):24} built, ran: {error}", flush=True)
    print(f"{n_passed} of {len(args.only)} programs of {args.src} work")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
