"""Many streaming clients at once, of which some leave: every stream is whole and the same as alone.

    load.py URL PID SECONDS [CLIENTS]

Checks: no error but a 503 with Retry-After; no stream stands still for longer than two chunks of a
prompt take; what is written is what one client alone gets; the server's memory stays flat after its
warm-up; who leaves in the middle changes nothing for the others, and frees the slot.
"""

import asyncio
import json
import random
import statistics
import sys
import time
import urllib.parse

from client import Client

URL, PID, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
CLIENTS = int(sys.argv[4]) if len(sys.argv) > 4 else 64
LEAVERS = 0.2
TOKENS = 24
STARTS = ["Once upon a time", "The history of the city begins", "To make good bread you",
          "The engine of the ship", "In the year 1850 a", "My grandmother always said that",
          "A list of planets:", "Dear Sir or Madam,"]
# Short and long prompts: the long ones are read in pieces while others write.
PROMPTS = STARTS + [(start + " and so on, ") * 30 for start in STARTS]
ADDRESS = urllib.parse.urlparse(URL)


def body(prompt):
    return {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}


def rss_kib():
    with open(f"/proc/{PID}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class Seen:
    def __init__(self):
        self.done = self.left = self.refused = 0
        self.gaps = []  # seconds between two pieces of a stream that writes
        self.latencies = []


async def one_stream(prompt, expected, leave_after, seen):
    """One request; what is wrong raises."""
    reader, writer = await asyncio.open_connection(ADDRESS.hostname, ADDRESS.port)
    try:
        data = json.dumps(body(prompt)).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        start = time.monotonic()
        status = int((await reader.readline()).split()[1])
        headers = {}
        while (line := (await reader.readline()).strip()):
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if status == 503:
            assert int(headers[b"retry-after"]) >= 1
            seen.refused += 1
            return False
        assert status == 200, (status, await reader.read())
        text, last, whole = "", None, False
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                whole = True
                break
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            now = time.monotonic()
            if last is not None:
                seen.gaps.append(now - last)
            else:
                seen.latencies.append(now - start)
            last = now
            text += chunk["choices"][0]["text"]
            if leave_after is not None and len(text) >= leave_after:
                seen.left += 1
                return True
        assert whole, "the stream broke off"
        assert text == expected, f"{text!r} instead of {expected!r}"
        seen.done += 1
        return True
    finally:
        writer.close()


async def one_client(number, expected, until, seen):
    dice = random.Random(number)
    while time.monotonic() < until:
        prompt = dice.choice(PROMPTS)
        leave = dice.randrange(1, 40) if dice.random() < LEAVERS else None
        if not await one_stream(prompt, expected[prompt], leave, seen):
            await asyncio.sleep(1 + dice.random())


async def crowd(n, expected, seconds, seen):
    until = time.monotonic() + seconds
    await asyncio.gather(*(one_client(i, expected, until, seen) for i in range(n)))


def main():
    client = Client(URL)
    alone = {}
    for prompt in PROMPTS:
        answer = client.ok("/v1/completions", {**body(prompt), "stream": False})
        alone[prompt] = answer["choices"][0]["text"]
    # How long one chunk of a prompt takes while nothing else runs.
    start = time.monotonic()
    read = client.ok("/completion", {"prompt": "some words in a row " * 60, "n_predict": 0, "cache_prompt": False})
    per_token = (time.monotonic() - start) / read["tokens_evaluated"]

    seen = Seen()
    asyncio.run(crowd(CLIENTS, alone, SECONDS / 4, Seen()))  # warm-up
    before = rss_kib()
    start = time.monotonic()
    asyncio.run(crowd(CLIENTS, alone, SECONDS * 3 / 4, seen))
    took = time.monotonic() - start
    after = rss_kib()

    # Those who left hold nothing.
    deadline = time.monotonic() + 10
    while any(slot["is_processing"] for slot in client.ok("/slots")):
        assert time.monotonic() < deadline, "slots are still busy"
        time.sleep(0.1)

    assert seen.done > 8, f"{seen.done} streams only"
    worst, typical = max(seen.gaps), statistics.median(seen.gaps)
    # A stream gets a token in every step; the longest step reads a whole chunk of a prompt.
    two_chunks = 2 * (client.ok("/props")["prompt_chunk"] * per_token + typical)
    print(f"{seen.done} streams whole, {seen.left} left, {seen.refused} refused in {took:.1f} s; "
          f"gap median {typical * 1000:.0f} ms, worst {worst * 1000:.0f} ms, two chunks {two_chunks * 1000:.0f} ms; "
          f"first text median {statistics.median(seen.latencies):.2f} s; "
          f"memory {before / 1024:.0f} MiB, then {after / 1024:.0f} MiB")
    # The chunk was timed with nothing else running: room for this script's share and a busy machine.
    assert worst <= two_chunks * 4 + 2, (worst, two_chunks)
    # A short warm-up on a busy machine sees few mixtures of prompts, and buffers grow with new ones:
    # flat is what a long run is. (What nothing points to is found by the sanitizer at the end.)
    room = 8 << 10 if SECONDS >= 300 else 64 << 10
    assert after <= before * 1.02 + room, f"memory grew from {before} to {after} KiB"


main()
