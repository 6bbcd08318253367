"""A small client for the tests of the server: the standard library only."""

import http.client
import json
import sys
import time
import urllib.parse


class Client:
    def __init__(self, url, timeout=120, headers=None):
        self.address = urllib.parse.urlparse(url).netloc
        self.timeout = timeout
        self.headers = headers or {}

    def call(self, path, body=None, method=None, headers=None):
        """The status, the headers and the body (JSON where it is JSON) of one request."""
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        kind = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method or ("GET" if data is None else "POST"), path, data,
                           {**kind, **self.headers, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.headers.get_content_type() == "application/json":
            text = json.loads(text)
        return answer.status, answer.headers, text

    def ok(self, path, body=None):
        status, _, answer = self.call(path, body)
        assert status == 200, (path, body, status, answer)
        return answer

    def refused(self, path, body, status, words="", **more):
        """The request is refused with this status, OpenAI's error shape and these words."""
        got, headers, answer = self.call(path, body, **more)
        assert got == status, (path, body, got, answer)
        error = answer["error"]
        assert error["code"] == status and error["type"] and words in error["message"], answer
        if status == 503:
            assert int(headers["Retry-After"]) >= 1
        return error

    def stream(self, path, body):
        """The objects of a stream as they come; the end mark is None."""
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        connection.request("POST", path, json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json", **self.headers})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers.get_content_type() == "text/event-stream"
        try:
            for line in answer:
                line = line.decode().rstrip("\n")
                if not line or line.startswith(":"):
                    continue
                assert line.startswith("data: "), line
                yield None if line == "data: [DONE]" else json.loads(line[6:])
        finally:
            connection.close()

    def all_free(self, seconds=5):
        """Waits until no slot is at work."""
        end = time.monotonic() + seconds
        while any(one["is_processing"] for one in self.ok("/slots")):
            assert time.monotonic() < end, self.ok("/slots")
            time.sleep(0.01)


def run(names, *arguments):
    """Runs every function of the caller's names that begins with test_."""
    for name, test in list(names.items()):
        if name.startswith("test_"):
            test(*arguments)
            print("ok", name)


def run_all(names):
    """The same on the server at argv[1]."""
    run(names, Client(sys.argv[1]))
