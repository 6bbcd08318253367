"""Who may call, how many may wait, how long, and what happens at the end of the context.

    limits.py URL KEY ORIGIN        the server has 1 slot of 256 tokens, a queue of 2, 4 s per request
"""

import sys
import threading
import time

from client import Client, run_all

KEY, ORIGIN = sys.argv[2:4]
ENDLESS = {"prompt": "One two three four", "temperature": 0, "ignore_eos": True}


def keyed(client):
    return Client("//" + client.address, headers={"Authorization": "Bearer " + KEY})


def idle(client, within):
    """Waits until no slot works; how long that took."""
    start = time.monotonic()
    while any(slot["is_processing"] for slot in client.ok("/slots")):
        assert time.monotonic() - start < within, "a slot is still busy"
        time.sleep(0.02)
    return time.monotonic() - start


def test_keys(c):
    assert c.ok("/health") == {"status": "ok"}
    assert c.call("/")[0] == 200
    for path, body in [("/v1/models", None), ("/completion", {"prompt": "a"}), ("/metrics", None), ("/slots", None)]:
        c.refused(path, body, 401, "key")
        for wrong in ("", "Bearer", "Bearer " + KEY[:-1], "Bearer " + KEY + "x", "Basic " + KEY, KEY):
            c.refused(path, body, 401, headers={"Authorization": wrong})
    assert keyed(c).ok("/v1/models")["object"] == "list"
    assert c.call("/v1/models", headers={"X-Api-Key": KEY})[0] == 200


def test_origins(c):
    c = keyed(c)
    status, headers, _ = c.call("/v1/models", headers={"Origin": ORIGIN})
    assert status == 200 and headers["Access-Control-Allow-Origin"] == ORIGIN and headers["Vary"] == "Origin"
    status, headers, _ = c.call("/v1/models")
    assert status == 200 and "Access-Control-Allow-Origin" not in headers
    c.refused("/v1/models", None, 403, headers={"Origin": "https://evil.example"})
    status, headers, _ = c.call("/v1/models", method="OPTIONS", headers={"Origin": ORIGIN})
    assert status == 204 and "POST" in headers["Access-Control-Allow-Methods"] and "Authorization" in headers["Access-Control-Allow-Headers"]
    status, headers, _ = c.call("/v1/models", method="OPTIONS", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in headers


def test_the_page_is_guarded(c):
    _, headers, _ = c.call("/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_context_shifts(c):
    c = keyed(c)
    answer = c.ok("/completion", {**ENDLESS, "prompt": "word " * 240, "n_predict": 30, "n_keep": 4})
    assert answer["tokens_predicted"] == 30 and answer["truncated"]
    assert "powerinfer:context_shifts_total 0" not in c.call("/metrics")[2].decode()


def test_a_client_that_leaves_frees_its_slot(c):
    c = keyed(c)
    stream = c.stream("/completion", ENDLESS)
    next(stream)
    assert any(slot["is_processing"] for slot in c.ok("/slots"))
    stream.close()
    assert idle(c, 2) < 1
    # One that reads nothing as well, and one that waits for the whole answer.
    hasty = Client("//" + c.address, timeout=0.3, headers=c.headers)
    try:
        hasty.call("/completion", ENDLESS)
        raise AssertionError("answered")
    except TimeoutError:
        pass
    assert idle(c, 2) < 1


def test_the_time_of_a_request(c):
    c = keyed(c)
    start = time.monotonic()
    c.refused("/completion", ENDLESS, 408, "time limit")
    assert 3.5 < time.monotonic() - start < 8
    chunks = list(c.stream("/completion", ENDLESS))
    assert chunks[-1]["error"]["code"] == 408 and chunks[0]["content"] is not None
    assert c.ok("/completion", {"prompt": "a", "n_predict": 1})["stop"]


def test_the_queue(c):
    c = keyed(c)
    first = c.stream("/completion", ENDLESS)
    next(first)
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(c.call("/completion", {"prompt": "a", "n_predict": 1}))) for _ in range(2)]
    for one in waiting:
        one.start()
    deadline = time.monotonic() + 3
    while c.ok("/stats")["queue"] < 2:
        assert time.monotonic() < deadline
    c.refused("/completion", {"prompt": "a"}, 503, "queue")
    c.refused("/v1/completions", {"prompt": "a", "n": 3}, 503, "queue")
    assert c.call("/slots?fail_on_no_slot=1")[0] == 503
    first.close()
    for one in waiting:
        one.join()
    assert [status for status, _, _ in answers] == [200, 200]


def test_slots_cannot_be_saved_without_a_folder(c):
    keyed(c).refused("/slots/0?action=save", {"filename": "a"}, 501, "slot-save-path")


run_all(globals())
