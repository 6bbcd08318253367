"""The official `openai` package for Python, as it is, against a server with an API key, one slot and
room for one more.

    openai_refusals.py URL KEY
"""

import sys
import threading
import time

import openai
from client import Client, run
from openai import OpenAI

URL, KEY = sys.argv[1:3]
LONG = dict(model="any", prompt="Once upon a time", max_tokens=900, extra_body={"ignore_eos": True})
SHORT = dict(model="any", prompt="The capital of France is", max_tokens=4, temperature=0)

plain = Client(URL, headers={"Authorization": "Bearer " + KEY})


def client(key=KEY, retries=0):
    return OpenAI(base_url=URL + "/v1", api_key=key, max_retries=retries, timeout=60)


def test_keys():
    for key in ("wrong", KEY + "x", KEY[:-1], KEY * 2):
        try:
            client(key).models.list()
            raise AssertionError(key)
        except openai.AuthenticationError as error:
            assert error.status_code == 401 and error.type == "authentication_error", error
    assert len(client().models.list().data) == 1
    # Whether the server is there, anybody may ask.
    assert Client(URL).ok("/health") == {"status": "ok"}


def until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue():
    c = client()
    running = c.completions.create(**LONG, stream=True)
    next(iter(running))
    waiting = threading.Thread(target=lambda: c.completions.create(**SHORT))
    waiting.start()
    metrics = lambda: plain.call("/metrics")[2].decode()
    until(lambda: "\nllamacpp:requests_deferred 1" in metrics())
    try:
        c.completions.create(**SHORT)
        raise AssertionError("no room, and none is refused")
    except openai.InternalServerError as error:
        assert error.status_code == 503 and int(error.response.headers["retry-after"]) >= 1, error
        assert error.type == "unavailable_error", error

    # The package waits as long as it is told, and asks again: by then there is room.
    threading.Timer(0.3, running.close).start()
    start = time.monotonic()
    assert client(retries=2).completions.create(**SHORT).choices[0].text
    assert time.monotonic() - start >= 0.9
    waiting.join()
    plain.all_free()


run(globals())
