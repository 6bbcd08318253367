"""How much more a server writes with several slots than with one.

    throughput.py --server PROGRAM --model FILE [--slots 1,4,16] [--rounds 3] [--tokens 128]

Each round starts the server with each number of slots in turn, has as many clients write at once,
and counts the tokens of all of them per second, from the first request to the last answer. Prints a
table of medians, their ranges and the ratios to one slot.
"""

import argparse
import json
import re
import statistics
import subprocess
import threading
import time
import urllib.request


def ask(url, number, tokens):
    body = {"prompt": f"Client {number} writes about the sea:", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] == tokens


def measure(options, slots):
    command = [options.server, "-m", options.model, "--port", "0", "-np", str(slots), "-c", str(512 * slots)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = None
        for line in server.stderr:
            if found := re.search(r"listening on (\S+)", line):
                url = found[1]
            if " ready: " in line:
                break
        threading.Thread(target=server.stderr.read, daemon=True).start()
        ask(url, 0, 8)
        clients = [threading.Thread(target=ask, args=(url, i, options.tokens)) for i in range(slots)]
        start = time.monotonic()
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        return slots * options.tokens / (time.monotonic() - start)
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--slots", default="1,4,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    numbers = [int(one) for one in options.slots.split(",")]
    speeds = {slots: [] for slots in numbers}
    for _ in range(options.rounds):
        for slots in numbers:
            speeds[slots].append(measure(options, slots))
    one = statistics.median(speeds[numbers[0]])
    print("| slots | tokens/s, median | range | ratio |\n|---|---|---|---|")
    for slots, found in speeds.items():
        print(f"| {slots} | {statistics.median(found):.1f} | {min(found):.1f} to {max(found):.1f} | {statistics.median(found) / one:.2f}x |")


main()
