"""All slots write at the same time what `main` writes alone.

    busy.py URL MAIN MODEL
"""

import concurrent.futures
import subprocess
import sys

from client import Client

URL, MAIN, MODEL = sys.argv[1:4]
PROMPTS = ["Once upon a time", "The capital of France is", "To bake bread", "One two three", "In the year 1850",
           "My grandmother said that", "A list of planets:", "The engine"]
TOKENS = 32


def by_main(prompt):
    said = subprocess.run([MAIN, "-m", MODEL, "-p", prompt, "-n", str(TOKENS), "--temp", "0", "--no-display-prompt"],
                          capture_output=True, text=True, check=True)
    return said.stdout.rstrip("\n")


def by_server(prompt):
    chunks = Client(URL).stream("/v1/completions", {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0})
    return "".join(one["choices"][0]["text"] for one in chunks if one)


expected = [by_main(prompt) for prompt in PROMPTS]
with concurrent.futures.ThreadPoolExecutor(len(PROMPTS)) as pool:
    written = list(pool.map(by_server, PROMPTS))
for prompt, ours, theirs in zip(PROMPTS, written, expected):
    assert ours.rstrip("\n") == theirs, (prompt, ours, theirs)
steps = {line.split()[0]: float(line.split()[1]) for line in Client(URL).call("/metrics")[2].decode().splitlines() if line[:1] != "#"}
assert steps["llamacpp:n_busy_slots_per_decode"] > 4, "they did not write at the same time"
print(f"{len(PROMPTS)} answers as main writes them, {steps['llamacpp:n_busy_slots_per_decode']:.1f} slots busy in a step")
