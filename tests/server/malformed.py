"""Requests that nobody should send: each is answered with an error or its connection is closed, and a
client that behaves is served all the while as if it were alone.

    malformed.py URL COUNT [SEED]
"""

import json
import random
import socket
import sys
import threading
import time
import urllib.parse

from client import Client

URL, COUNT = sys.argv[1], int(sys.argv[2])
DICE = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
ADDRESS = urllib.parse.urlparse(URL)
PATHS = ["/v1/chat/completions", "/v1/completions", "/completion", "/v1/embeddings", "/tokenize",
         "/detokenize", "/apply-template", "/infill", "/slots/0?action=save", "/slots/0?action=erase"]
# Each is right, and asks for next to nothing.
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}],
                             "max_tokens": 1, "temperature": 0.5, "logprobs": True, "top_logprobs": 2, "n": 1, "stream": True,
                             "stream_options": {"include_usage": True}, "response_format": {"type": "text"}, "logit_bias": {"5": 1},
                             "tools": [], "tool_choice": "none", "chat_template_kwargs": {"a": 1}},
    "/v1/completions": {"prompt": ["a", [1, 2]], "max_tokens": 1, "stop": ["x"], "logprobs": 1, "n": 1, "seed": 3},
    "/completion": {"prompt": [1, "a"], "n_predict": 1, "n_probs": 1, "grammar": 'root ::= "a"', "logit_bias": [[5, 1.0], ["a", False]],
                    "samplers": ["top_k", "temperature"], "dry_sequence_breakers": ["\n"], "id_slot": -1, "t_max_predict_ms": 5,
                    "mirostat": 1, "n_keep": 1, "cache_prompt": False, "xtc_probability": 0.5, "top_n_sigma": 1},
    "/v1/embeddings": {"input": ["a"], "encoding_format": "float"},
    "/tokenize": {"content": "a", "with_pieces": True, "add_special": True},
    "/detokenize": {"tokens": [1, 2]},
    "/apply-template": {"messages": [{"role": "user", "content": "a"}]},
    "/infill": {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "c", "text": "d"}], "n_predict": 1},
    "/slots/0?action=save": {"filename": "a.bin"},
    "/slots/0?action=erase": {},
}
VALUES = [None, True, False, 0, -1, 1, 2**31, -2**31, 2**63, -2**63, 2**64, 10**30, 1e308, -1e308, 0.5, "", "a", "\0",
          "x" * 5000, "\u202e", "\ud800", [], {}, [[]], [None], [[[[]]]], {"a": {"a": {}}}, ["a", 1, None], "../../etc/passwd",
          [-1], [2**40], [1.5], {"role": "user"}, [{"role": "user", "content": "a"}], 'root ::= root', 'root ::= "a"{1000000}', "{{ 7 * 7 }}"]


def send(data, pieces=1, pause=0.0, half_close=False, wait=20.0):
    """Sends bytes as they are; what comes back until the connection is closed or nothing comes."""
    with socket.create_connection((ADDRESS.hostname, ADDRESS.port), timeout=wait) as link:
        got = b""
        try:
            size = max(1, len(data) // pieces)
            for at in range(0, len(data), size):
                link.sendall(data[at:at + size])
                if pause:
                    time.sleep(pause)
            if half_close:
                link.shutdown(socket.SHUT_WR)
            while True:
                more = link.recv(65536)
                if not more:
                    break
                got += more
                if whole(got):
                    break
        except (ConnectionError, TimeoutError):
            pass
        return got


def whole(got):
    """Whether a response is all there."""
    head, mark, rest = got.partition(b"\r\n\r\n")
    if not mark:
        return False
    lines = head.lower().split(b"\r\n")
    for line in lines:
        if line.startswith(b"content-length:"):
            return len(rest) >= int(line.split(b":")[1])
    return b"transfer-encoding: chunked" in lines and rest.endswith(b"0\r\n\r\n")


def request(path, body, headers=b"", method=b"POST"):
    return (method + b" " + path.encode() + b" HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n" + headers +
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


# ---- what is sent ----

def mutated_value():
    """A right body with one value that is something else."""
    path = DICE.choice(PATHS)
    body = json.loads(json.dumps(BODIES[path]))
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = DICE.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and DICE.random() < 0.5:
            place = place[key]
            continue
        what = DICE.random()
        if what < 0.8:
            place[key] = DICE.choice(VALUES)
        elif isinstance(place, dict):
            del place[key]
        break
    return request(path, json.dumps(body).encode("utf-8", "surrogatepass"))


def mutated_bytes():
    """A right body with some bytes turned, cut or doubled."""
    path = DICE.choice(PATHS)
    body = bytearray(json.dumps(BODIES[path]).encode())
    for _ in range(DICE.randrange(1, 6)):
        at = DICE.randrange(len(body) + 1)
        what = DICE.randrange(4)
        if what == 0 and at < len(body):
            body[at] = DICE.randrange(256)
        elif what == 1:
            del body[at:at + DICE.randrange(20)]
        elif what == 2:
            body[at:at] = body[at:at + DICE.randrange(50)]
        else:
            body[at:at] = bytes(DICE.randrange(256) for _ in range(DICE.randrange(8)))
    return request(path, bytes(body))


def deep():
    n = DICE.choice([60, 70, 1000, 100_000])
    opening, closing = DICE.choice([("[", "]"), ('{"a":', "}"), ('{"messages":[', "]}")])
    inside = opening * n + ("1" if opening[-1] == ":" else "") + (closing * n if DICE.random() < 0.7 else "")
    return request(DICE.choice(PATHS), inside.encode())


def large_numbers():
    number = DICE.choice([b"1e999", b"-1e999", b"9" * 5000, b"0." + b"0" * 5000 + b"1", b"1E+00000000000000000400", b"NaN", b"Infinity"])
    return request("/completion", b'{"prompt":"a","n_predict":1,"temperature":' + number + b"}")


def bad_utf8():
    junk = DICE.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"])
    return request(DICE.choice(["/completion", "/tokenize"]), b'{"prompt":"a' + junk + b'","content":"' + junk + b'","n_predict":1}')


def bad_lengths():
    length = DICE.choice([b"-1", b"99999999999999999999", b"0", b"abc", b"", b"18446744073709551615", b"1, 2", b"+5", b"0x10"])
    return b"POST /completion HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b'\r\n\r\n{"prompt":"a","n_predict":1}'


def bad_chunks():
    size = DICE.choice([b"zz", b"ffffffffffffffff", b"-5", b"", b"5;ext", b"1" * 40])
    return b"POST /completion HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n"


def bad_head():
    return DICE.choice([
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
        b"GET /%zz%00%ff HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /completion HTTP/1.1\r\nNo colon here\r\n\r\n", b"GET /slots/99999999999 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /completion HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--x--",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % i for i in range(500)) + b"\r\n",
        b"GET /health HTTP/1.1\r\nRange: bytes=5-1,9999999999999999999-\r\n\r\n",
        b"POST /completion HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        b"OPTIONS * HTTP/1.1\r\nOrigin: null\r\n\r\n",
    ])


def noise():
    return bytes(DICE.randrange(256) for _ in range(DICE.randrange(1, 400))) + DICE.choice([b"", b"\r\n\r\n"])


# After these the server waits for more, until this side is closed.
UNFINISHED = [bad_lengths, bad_chunks, bad_head, noise]
MAKERS = [mutated_value] * 6 + [mutated_bytes] * 4 + [deep, large_numbers, bad_utf8, bad_head] + UNFINISHED


# ---- others at the same time ----

class Behaving(threading.Thread):
    """A client that does nothing wrong; its text must always be the same."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.ending, self.n, self.fault = client, False, 0, None
        self.body = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
        self.expected = client.ok("/v1/completions", self.body)["choices"][0]["text"]

    def run(self):
        try:
            while not self.ending:
                status, _, answer = self.client.call("/v1/completions", self.body)
                assert status == 200 and answer["choices"][0]["text"] == self.expected, (status, answer)
                self.n += 1
        except Exception as fault:  # noqa: BLE001 - told at the end
            self.fault = fault


def dribble(n):
    """Senders that are so slow that they never get done."""
    links = []
    for _ in range(n):
        link = socket.create_connection((ADDRESS.hostname, ADDRESS.port))
        link.sendall(b"POST /completion HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        links.append(link)
    return links


def check(data, got, half_closed=False):
    if not got:
        return "closed"
    if half_closed and not whole(got):
        return "cut"  # the server saw this side close while it answered
    status = int(got.split(b" ", 2)[1])
    head, _, body = got.partition(b"\r\n\r\n")
    if status >= 400:
        # What follows may be the answer to what the server took for a second request.
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        error = json.loads(body[:length])["error"]
        assert error["message"] and error["type"] and error["code"] == status, (data[:300], got)
    assert status != 500 or b"chosen" in body, (data[:2000], got)
    return status


def main():
    client = Client(URL)
    behaving = Behaving(client)
    behaving.start()
    slow = dribble(16)
    seen = {}
    for i in range(COUNT):
        maker = DICE.choice(MAKERS)
        data = maker()
        what = DICE.random()
        if what < 0.03:  # goes away before the answer
            with socket.create_connection((ADDRESS.hostname, ADDRESS.port)) as link:
                link.sendall(data[:DICE.randrange(len(data)) + 1])
            result = "left"
        elif what < 0.06:
            result = check(data, send(data, pieces=5, pause=0.01))
        else:
            unfinished = maker in UNFINISHED
            result = check(data, send(data, half_close=unfinished), unfinished)
        seen[result] = seen.get(result, 0) + 1
        if i % 100 == 0:
            assert client.call("/health")[0] == 200
            for link in slow:
                try:
                    link.send(b" ")
                except OSError:
                    pass
    for link in slow:
        link.close()
    behaving.ending = True
    behaving.join(60)
    assert behaving.fault is None, behaving.fault
    assert behaving.n > 0 and client.ok("/health") == {"status": "ok"}
    print(f"{COUNT} requests: {dict(sorted(seen.items(), key=str))}; meanwhile {behaving.n} good ones")
    assert any(key in seen for key in (400, 413)), seen


main()
